"""Videos: what they show, their frames by number, and writing them.

Frame number k is the k-th frame that a player shows, always: frames are decoded in order and counted, never sought,
because time stamps, edit lists, open GOPs and B-frames make a seek miss. What a decoder reports as damaged is an error.
PyAV (FFmpeg) is the decoder; decord can be named instead, for videos that it reads correctly: it knows no rotation, edit list
or AV1, and reads 10-bit, interlaced and odd-width video differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.images import check_pixels

if TYPE_CHECKING:
    import av.container
    import av.stream
    import av.video.stream

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv",
)  # fmt: skip

DECODERS = ("auto", "decord", "pyav")


class BrokenVideo(ValueError):
    """A video cannot be read to its end; the message names it and says where it stopped."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video shows; every frame has been decoded."""

    width: int
    """Pixels, as the video is shown (a rotated phone video counts as turned upright)."""
    height: int
    fps: float
    """Frames a second: the container's rate if the frames' time stamps agree with it, else theirs."""
    num_frames: int
    """Frames that are shown; samples that an edit list hides do not count."""
    comment: str
    """The file's own comment, where synthetic clips say that they are synthetic."""
    turned: bool
    """The stream carries a rotation or mirroring that is applied on reading."""


def probe(path: Path) -> VideoInfo:
    """Decode a video once, from its first frame to its last.

    Raises:
        BrokenVideo: it cannot be opened, is damaged, or ends before its header says.
    """
    import av

    with _named_errors(path), av.open(str(path), metadata_errors="replace") as container:
        stream = _video_stream(container, path)
        comment = _comment(container)
        first, stamps, num_frames = None, _Stamps(), 0
        for frame in _shown_frames(container, stream, path):
            first = first or frame
            stamps.add(frame)
            num_frames += 1
        if first is None:
            raise BrokenVideo(f"{path} has no frame that can be decoded; copy it again.")
        height, width = _upright(first.to_ndarray(format="gray"), first).shape
        return VideoInfo(
            width=width,
            height=height,
            fps=stamps.frames_a_second(stream.average_rate or stream.guessed_rate),
            num_frames=num_frames,
            comment=comment,
            turned=first.rotation % 360 != 0,
        )


class _Stamps:
    """The time stamps of frames, and the rate that they mean."""

    _USUAL_FPS = 30.0
    _TOLERANCE = 0.02  # a container's rate that is no farther off is taken as exact

    def __init__(self) -> None:
        self._times: list[float] = []

    def add(self, frame: av.VideoFrame) -> None:
        if frame.time is not None:
            self._times.append(frame.time)

    def frames_a_second(self, promised: Fraction | None) -> float:
        """The container's rate, unless it disagrees with the frames over the span of their stamps."""
        rate = float(promised) if promised else 0.0
        steps = len(set(self._times)) - 1
        if steps < 1:  # one frame, or no stamps: there is nothing to compare with
            return rate if 1 <= rate <= _MOST_FPS / 4 else self._USUAL_FPS
        measured = steps / (max(self._times) - min(self._times))
        return rate if abs(rate / measured - 1) <= self._TOLERANCE else measured


def read_comment_tag(path: Path) -> str:
    """The file's own comment; opens the container and decodes nothing."""
    import av

    with _named_errors(path), av.open(str(path), metadata_errors="replace") as container:
        return _comment(container)


def read_frames(
    path: Path, indices: Sequence[int] | None = None, *, decoder: str = "auto"
) -> Iterator[NDArray[np.uint8]]:
    """Decode frames of a video in one pass, one at a time, so that memory stays small.

    Args:
        path: the video.
        indices: 0-based frame numbers, ascending (repeats allowed); None means every frame there
            is. A frame that is not there raises `BrokenVideo`.
        decoder: "auto", "decord" or "pyav".

    Yields:
        (H, W, 3) RGB uint8, in the order of `indices`.
    """
    if indices is None:
        yield from _decode(path, decoder)
        return
    wanted = [int(index) for index in indices]
    if wanted != sorted(wanted) or (wanted and wanted[0] < 0):
        raise ValueError(f"indices must be ascending and not negative; got {wanted[:8]} ...")
    with FrameCursor(path, decoder=decoder) as cursor:
        for index in wanted:
            yield cursor.read(index)


class FrameCursor:
    """A video that stays open and is read forward; going back starts over from the beginning.

    Reading a clip in consecutive pieces costs one pass over it in all.
    """

    def __init__(self, path: Path, *, decoder: str = "auto") -> None:
        self.path = path
        self._decoder = decoder
        self._frames: Iterator[NDArray[np.uint8]] | None = None
        self._skip: Callable[[int], None] = lambda count: None
        self._next = 0
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def __enter__(self) -> FrameCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the decoder; the next read opens it again."""
        self._frames, self._last, self._next = None, None, 0

    def read(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, (H, W, 3) RGB uint8."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        if self._frames is None or index < self._next:
            self._frames, self._skip = _open_decoder(self.path, self._decoder)
            self._next = 0
        if index > self._next:
            self._skip(index - self._next)
        frame = next(self._frames, None)
        if frame is None:
            self.close()
            raise BrokenVideo(
                f"{self.path} has no frame {index}: it ends before. If it should have one, the "
                "file is cut short; copy or download it again."
            )
        self._next = index + 1
        self._last = (index, frame)
        return frame


_MOST_FPS = 1000  # beyond this, containers have no time stamps for neighbouring frames


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    keyframe_every: int = 10,
    crf: int = 12,
    preset: str = "veryfast",
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Encode H.264 (yuv420p). The same frames give the same bytes on any number of cores.

    This writes straight to `path`; wrap it in `write_atomically` or write into a part folder.

    Args:
        path: ``.mp4`` (or another container that PyAV knows by suffix).
        frames: (H, W, 3) RGB uint8 each, all of one size, even height and width.
        fps: frames a second.
        keyframe_every: distance of keyframes; 10 makes a random frame cost 4-11 ms to read.
        crf: constant rate factor; 12 is visually clean, 0 lossless in yuv420p.
        preset: of x264.
        metadata: container tags, such as ``{"comment": "synthetic"}``.

    Returns:
        The number of frames written.
    """
    import av

    if not 1 / _MOST_FPS <= fps <= _MOST_FPS:  # NaN neither
        raise ValueError(f"{path}: fps is {fps}; a video has 1/{_MOST_FPS} to {_MOST_FPS}.")
    written = 0
    # Macroblock-tree rate control reads memory beyond small pictures, so bytes would differ from run to run.
    options = {"crf": str(crf), "preset": preset, "threads": "1", "x264-params": "mbtree=0"}
    with av.open(str(path), "w") as container:
        container.metadata.update(dict(metadata or {}))
        stream: Any = None
        for image in frames:
            if stream is None:
                height, width = image.shape[:2]
                if height % 2 or width % 2:
                    raise ValueError(f"{path}: {width} x {height} is odd; H.264 takes even sizes.")
                stream = container.add_stream("libx264", Fraction(fps).limit_denominator(65535))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.gop_size = keyframe_every
                stream.codec_context.thread_count = 1  # more threads cut the picture otherwise
                stream.options = {**options, "sc_threshold": "0"}
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = written
            container.mux(stream.encode(frame))
            written += 1
        if stream is None:
            raise ValueError(f"{path}: there is no frame to write.")
        container.mux(stream.encode())
    return written


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


# ------------------------------------------------------------------------------------ the two engines


def _decode(path: Path, decoder: str) -> Iterator[NDArray[np.uint8]]:
    frames, _ = _open_decoder(path, decoder)
    yield from frames


def _open_decoder(
    path: Path, decoder: str
) -> tuple[Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    """Frames from the first one on, and a function that skips some without converting them."""
    return _open_decord(path) if decoder_name(decoder) == "decord" else _open_pyav(path)


def _open_decord(path: Path) -> tuple[Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
    except (RuntimeError, decord.DECORDError) as error:
        raise BrokenVideo(f"{path} cannot be opened as a video; copy it again.") from error
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
            raise ValueError(
                f"decord reads {path} as {frame.shape[2]} channels, as it does with some small widths. Read it "
                "with the decoder 'auto' or 'pyav'."
            )
        position += 1
        return frame

    def skip(count: int) -> None:
        for _ in range(min(count, len(reader) - position)):  # its own seeking misses frames
            read()

    def frames() -> Iterator[NDArray[np.uint8]]:
        while position < len(reader):
            yield read()

    return frames(), skip


def _open_pyav(path: Path) -> tuple[Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    to_skip = 0

    def skip(count: int) -> None:
        nonlocal to_skip
        to_skip += count

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal to_skip
        import av

        with _named_errors(path), av.open(str(path), metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            for frame in _shown_frames(container, stream, path):
                if to_skip:
                    to_skip -= 1
                    continue
                yield _upright(frame.to_ndarray(format="rgb24"), frame)

    return frames(), skip


def _shown_frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path
) -> Iterator[av.VideoFrame]:
    """The frames that a player shows, in that order.

    A recording may begin within a group of pictures: what cannot be decoded before its first keyframe is not shown.

    Raises:
        BrokenVideo: the decoder reports damage, a frame changes its size, or the file ends before its header says.
    """
    import av

    check_pixels(stream.width or 0, stream.height or 0, path)
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    position, num_packets = 0, 0
    first_size: tuple[int, int] | None = None
    has_begun, first_stamp = False, None  # whether a keyframe was there, and its stamp
    begins_within = False  # packets lie before the first keyframe, in the file or on the screen
    end = 0
    for packet in container.demux(stream):
        num_packets += packet.size > 0
        if packet.is_keyframe and not has_begun:
            has_begun, first_stamp = True, packet.pts
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
            if position == 0 and first_stamp is not None and packet.pts < first_stamp:
                begins_within = True
        if packet.size and not has_begun:
            begins_within = True
        damage = "the container says so" if packet.is_corrupt else ""
        with _decoder_errors() as errors:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as error:
                damage, frames = str(error.strerror), []
        damage = damage or (errors[0] if errors else "")
        if damage and not (begins_within and position == 0):
            raise _damaged(path, position, damage)
        for frame in frames:
            is_leading = begins_within and position == 0
            if frame.is_corrupt:
                if is_leading:
                    continue
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


@contextmanager
def _decoder_errors() -> Iterator[list[str]]:
    """What FFmpeg reports as errors within the block, of this thread alone."""
    import av.logging

    found: list[str] = []
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as logged:
            yield found
        found += [text.strip() for level, _, text in logged if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)


def _damaged(path: Path, position: int, damage: str) -> BrokenVideo:
    return BrokenVideo(
        f"{path} is damaged at frame {position} ({damage.strip().rstrip('.')}); copy or download it again."
    )


def _broken_at(path: Path, position: int) -> BrokenVideo:
    return BrokenVideo(
        f"{path} cannot be decoded past frame {position}: it is cut short or damaged; copy or "
        "download it again."
    )


def _video_stream(
    container: av.container.InputContainer, path: Path
) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise BrokenVideo(f"{path} holds no video stream.")
    return container.streams.video[0]


def _comment(container: av.container.InputContainer) -> str:
    tags = {key.lower(): value for key, value in container.metadata.items()}
    return tags.get("comment", "")


def _upright(image: NDArray[Any], frame: av.VideoFrame) -> NDArray[Any]:
    """Turn a frame as its display matrix says (counter-clockwise degrees, as PyAV gives them)."""
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """PyAV's errors become `BrokenVideo` with the file's name and what to do."""
    import av

    try:
        yield
    except av.error.FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not there.") from error
    except av.error.FFmpegError as error:
        raise BrokenVideo(
            f"{path} cannot be opened as a video ({error.strerror}): it is cut short or no video "
            "at all; copy or download it again."
        ) from error
