"""Decoding: the frames that a video shows, in order, and what the decoder reports as damage.

PyAV (FFmpeg) is the decoder. VP9 of 8 bits goes through libvpx where PyAV has it: the pixels are the same, and it notices
damage that FFmpeg's own VP9 decoder does not. decord can be named instead, for videos that it reads as PyAV does; others it
refuses here: it knows no rotation, edit list or AV1, and reads 10-bit, interlaced and odd-width video differently.

Not all damage can be found: in a picture without checksums some changed bits give another valid picture.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iper_toolkit import images

if TYPE_CHECKING:
    import av.container
    import av.packet
    import av.video.codeccontext
    import av.video.stream

DECODERS = ("auto", "decord", "pyav")

Frames = Iterator[NDArray[np.uint8]]


class BrokenVideo(ValueError):
    """A video cannot be read to its end; the message names it and says where it stopped."""


def decoder_name(decoder: str = "auto") -> str:
    """Which decoder "auto" means: PyAV."""
    if decoder not in DECODERS:
        raise ValueError(f"Unknown decoder {decoder!r}. Choose one of: {', '.join(DECODERS)}.")
    return "pyav" if decoder == "auto" else decoder


def decoder_id() -> str:
    """The decoder with its versions, as tables record it: other versions may decode other pixels."""
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"pyav {av.__version__}, libavcodec {codec}"


def open_decoder(path: Path, decoder: str) -> tuple[Frames, Callable[[int], None]]:
    """Frames from the first one on, (H, W, 3) RGB uint8, and a function that skips some without converting them."""
    return _open_decord(path) if decoder_name(decoder) == "decord" else _open_pyav(path)


@contextmanager
def open_video(
    path: Path,
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """A file's container and its first video stream; PyAV's errors become `BrokenVideo`."""
    import av

    try:
        # Tags are in any encoding; they must not keep a video from being read.
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise BrokenVideo(f"{path} holds no video stream.")
            yield container, container.streams.video[0]
    except av.error.FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not there.") from error
    except av.error.FFmpegError as error:
        raise BrokenVideo(
            f"{path} cannot be opened as a video ({error.strerror}): it is cut short or no video "
            "at all; copy or download it again."
        ) from error


# ---------------------------------------------------------------------------------------------- PyAV


def shown_frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path
) -> Iterator[av.VideoFrame]:
    """The frames that a player shows, in that order.

    A recording may begin within a group of pictures: what cannot be decoded before its first keyframe is not shown.

    Raises:
        BrokenVideo: the decoder reports damage, a frame changes its size, or the file ends before its header says.
        images.TooLarge: the header claims more pixels than `images.MAX_PIXELS`.
    """
    import av

    images.check_pixels(stream.width or 0, stream.height or 0, path)
    if container.format.name == "mpegts" and all(
        os.path.getsize(path) % n for n in (188, 192, 204)
    ):
        raise BrokenVideo(
            f"{path} ends within a packet: it is cut short; copy or download it again."
        )
    decoder = _decoder_of(stream)
    bitstream = _Bitstream.of(stream)
    names = {container.format.name, decoder.name}
    packets = container.demux(stream)
    beginning = _Beginning(bitstream)
    position, num_packets, end = 0, 0, 0
    first_size: tuple[int, int] | None = None
    while True:
        damage: str | None = ""
        frames: list[av.VideoFrame] = []
        with _reported_errors(names) as errors:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                raise _damaged(path, position, error.strerror) from error
            if packet is None:
                break
            if beginning.add(packet, position):
                decoder.options = {
                    "err_detect": "crccheck+explode" if beginning.is_clean else "crccheck",
                    "max_pixels": str(images.MAX_PIXELS),
                }
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError as error:
                damage = error.strerror
        num_packets += packet.size > 0
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
        if not beginning.is_incomplete:
            damage = damage or next(iter(errors), "")
            if packet.is_corrupt:
                damage = damage or "the container says so"
            elif packet.size and bitstream.is_broken(packet):
                damage = damage or "a start code lies within a picture"
            if damage:
                raise _damaged(path, position, damage)
        for frame in frames:
            if frame.is_corrupt and not beginning.is_incomplete:
                raise _damaged(path, position, "parts of it were made up")
            first_size = first_size or (frame.width, frame.height)
            if (frame.width, frame.height) != first_size:
                raise BrokenVideo(
                    f"{path} changes from {first_size[0]} x {first_size[1]} to {frame.width} x {frame.height} "
                    f"pixels at frame {position}; cut it there, or encode it at one size."
                )
            position += 1
            yield frame
    rate, unit = stream.average_rate, stream.time_base
    if position and num_packets < stream.frames and stream.duration and rate and unit:
        frame_length = 1 / (rate * unit)
        if (stream.start_time or 0) + stream.duration - end > 1.5 * frame_length:
            raise _broken_at(path, position)


def turn_upright(image: NDArray[Any], frame: av.VideoFrame) -> NDArray[Any]:
    """Turn and mirror a frame as its display matrix says, by quarter turns."""
    matrix = _display_matrix(frame)
    if matrix == _IDENTITY:
        return image
    (a, b), (c, d) = matrix
    # Stored pixel (x, y) is shown at (a x + c y, b x + d y): see FFmpeg's libavutil/display.h.
    if abs(b) > abs(a):  # the axes change places
        image = image.swapaxes(0, 1)
        across, down = c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1])


def is_turned(frame: av.VideoFrame) -> bool:
    """Whether a frame is shown turned or mirrored."""
    return _display_matrix(frame) != _IDENTITY


_IDENTITY = ((1, 0), (0, 1))


def _display_matrix(frame: av.VideoFrame) -> tuple[tuple[int, int], tuple[int, int]]:
    """The signs of the nearest matrix of quarter turns and mirrorings; nine int32 in 16.16 form are stored."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return _IDENTITY
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return ((0, int(np.sign(b)) or 1), (int(np.sign(c)) or 1, 0))
    return ((int(np.sign(a)) or 1, 0), (0, int(np.sign(d)) or 1))


def _open_pyav(path: Path) -> tuple[Frames, Callable[[int], None]]:
    to_skip = 0

    def skip(count: int) -> None:
        nonlocal to_skip
        to_skip += count

    def frames() -> Frames:
        nonlocal to_skip
        with open_video(path) as (container, stream):
            for frame in shown_frames(container, stream, path):
                if to_skip:
                    to_skip -= 1
                    continue
                yield turn_upright(frame.to_ndarray(format="rgb24"), frame)

    return frames(), skip


def _decoder_of(
    stream: av.video.stream.VideoStream,
) -> av.video.codeccontext.VideoCodecContext:
    import av

    decoder = stream.codec_context
    # Of other formats libvpx may be built without the means to read them.
    if (
        decoder.name == "vp9"
        and decoder.pix_fmt == "yuv420p"
        and "libvpx-vp9" in av.codecs_available
    ):
        extradata = decoder.extradata
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        if extradata:
            decoder.extradata = extradata
    decoder.thread_count = 1
    return decoder


@dataclass
class _Beginning:
    """Whether a stream can be decoded whole from its first packet on, and how long it cannot."""

    bitstream: _Bitstream
    is_clean: bool = False
    """The first packet needs no earlier one."""
    is_incomplete: bool = True
    """The latest packet may need what lies before the recording; errors mean nothing then."""
    _num_packets: int = field(default=0, init=False)
    _num_keyframes: int = field(default=0, init=False)
    _first_stamp: int | None = field(default=None, init=False)

    def add(self, packet: av.packet.Packet, num_shown: int) -> bool:
        """Take note of the next packet; True if it is the first."""
        is_first = self._num_packets == 0
        self._num_packets += 1
        if is_first:
            self.is_clean = packet.is_keyframe and self.bitstream.begins_anew(packet)
        if packet.is_keyframe and packet.size:
            self._num_keyframes += 1
            if self._num_keyframes == 1:
                self._first_stamp = packet.pts
        is_leading = (  # shown before the first keyframe, though stored behind it: an open group of pictures
            num_shown == 0
            and packet.pts is not None
            and self._first_stamp is not None
            and packet.pts < self._first_stamp
        )
        # Until the second keyframe, references may reach before the first one.
        self.is_incomplete = is_leading or self._num_keyframes < (1 if self.is_clean else 2)
        return is_first


@dataclass(frozen=True)
class _Bitstream:
    """What can be seen in the packets of H.264 and HEVC without decoding them."""

    codec: str
    length_bytes: int
    """Of the length in front of a unit; 0: start codes part the units."""

    _START_CODE = re.compile(rb"\x00\x00\x01")
    # Encoders put a 3 behind two zeros, so that no picture holds a start code (ITU-T H.264, 7.4.1).
    _FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")

    @classmethod
    def of(cls, stream: av.video.stream.VideoStream) -> _Bitstream:
        codec, extradata = stream.codec_context.name, stream.codec_context.extradata or b""
        length_bytes = 0
        if extradata[:1] == b"\1" and codec == "h264" and len(extradata) > 6:
            length_bytes = (extradata[4] & 3) + 1
        elif (
            codec == "hevc" and len(extradata) > 22 and extradata[:3] not in (b"\0\0\0", b"\0\0\1")
        ):
            length_bytes = (extradata[21] & 3) + 1
        return cls(codec, length_bytes)

    def begins_anew(self, packet: av.packet.Packet) -> bool:
        """Whether a keyframe needs nothing from before. HEVC decoders drop what does; of H.264 only IDR pictures are sure."""
        return self.codec != "h264" or any(unit[0] & 31 == 5 for unit in self._units(packet))

    def is_broken(self, packet: av.packet.Packet) -> bool:
        """Whether a picture holds bytes that no encoder writes, as zeroed parts of a file do."""
        if self.codec not in ("h264", "hevc"):
            return False
        return any(
            self._FORBIDDEN.search(unit.rstrip(b"\0"))
            for unit in self._units(packet)
            if self._is_picture(unit[0])
        )

    def _is_picture(self, first_byte: int) -> bool:
        return 1 <= first_byte & 31 <= 5 if self.codec == "h264" else first_byte >> 1 & 63 < 32

    def _units(self, packet: av.packet.Packet) -> Iterator[bytes]:
        data = bytes(packet)
        if not self.length_bytes:
            yield from filter(None, self._START_CODE.split(data)[1:])
            return
        position = 0
        while position + self.length_bytes < len(data):
            start = position + self.length_bytes
            position = start + int.from_bytes(data[position:start], "big")
            if position > start:
                yield data[start:position]


_listening = threading.Lock()
_num_listeners = 0
_level_before: int | None = None


@contextmanager
def _reported_errors(names: set[str]) -> Iterator[list[str]]:
    """What FFmpeg reports as errors within the block, of this thread and of the parts `names`."""
    import av.logging

    global _num_listeners, _level_before
    found: list[str] = []
    with _listening:  # the level is one for all threads
        if _num_listeners == 0:
            _level_before = av.logging.get_level()
            av.logging.set_level(max(av.logging.ERROR, _level_before or 0))
            av.logging.set_skip_repeated(False)  # else the second of two equal errors is not heard
        _num_listeners += 1
    try:
        with av.logging.Capture(local=True) as logged:
            yield found
            found += [
                text.strip()
                for level, name, text in logged
                if level <= av.logging.ERROR and name in names
            ]
    finally:
        with _listening:
            _num_listeners -= 1
            if _num_listeners == 0:
                av.logging.set_level(_level_before)


def _damaged(path: Path, position: int, damage: str | None) -> BrokenVideo:
    said = (damage or "it cannot be decoded").strip().rstrip(".")
    return BrokenVideo(
        f"{path} is damaged at frame {position} ({said}); copy or download it again."
    )


def _broken_at(path: Path, position: int) -> BrokenVideo:
    return BrokenVideo(
        f"{path} cannot be decoded past frame {position}: it is cut short or damaged; copy or "
        "download it again."
    )


# -------------------------------------------------------------------------------------------- decord


def _open_decord(path: Path) -> tuple[Frames, Callable[[int], None]]:
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
    except (RuntimeError, decord.DECORDError) as error:
        raise BrokenVideo(
            f"decord cannot open {path}. Read it with the decoder 'auto' or 'pyav', which knows more formats."
        ) from error
    _check_that_decord_is_right(path, len(reader))
    position = 0

    def read() -> NDArray[np.uint8]:
        nonlocal position
        try:
            frame = np.asarray(reader.next().asnumpy(), np.uint8)
        except (RuntimeError, StopIteration, decord.DECORDError) as error:
            raise _broken_at(path, position) from error
        # It takes the bytes of a row over the width for the channels. Rows are padded, so where the width
        # divides them (16, 24, 48 and 72 pixels) it gives 4 or 6, in a picture out of joint; else it is right.
        if frame.shape[2] != 3:
            raise _not_by_decord(path, f"{frame.shape[2]} channels, as with some small widths")
        position += 1
        return frame

    def skip(count: int) -> None:
        for _ in range(min(count, len(reader) - position)):  # its own seeking misses frames
            read()

    def frames() -> Frames:
        while position < len(reader):
            yield read()

    return frames(), skip


_DECORD_IS_RIGHT_ON = ("h264", "hevc", "vp8", "vp9", "mpeg2video")


def _check_that_decord_is_right(path: Path, num_frames: int) -> None:
    """Raise ValueError for the videos that decord reads otherwise than PyAV; decodes the video once."""
    first, count = None, 0
    with open_video(path) as (container, stream):
        for frame in shown_frames(container, stream, path):
            first = first or frame
            if frame.interlaced_frame:
                raise _not_by_decord(path, "progressive, and it is interlaced")
            count += 1
        codec, form = stream.codec_context.name, container.format.name
    if codec not in _DECORD_IS_RIGHT_ON or form == "mpegts":
        raise _not_by_decord(path, f"{codec} in {form} with other pixels, or in another order")
    if first is None or count != num_frames:
        raise _not_by_decord(path, f"{num_frames} frames; it shows {count}")
    if is_turned(first):
        raise _not_by_decord(path, "upright, and it is turned")
    if first.format.name != "yuv420p" or first.width % 2 or first.height % 2:
        raise _not_by_decord(
            path,
            f"{first.format.name} of {first.width} x {first.height} ({codec}) with other colours",
        )


def _not_by_decord(path: Path, what: str) -> ValueError:
    return ValueError(f"decord reads {path} as {what}. Read it with the decoder 'auto' or 'pyav'.")
