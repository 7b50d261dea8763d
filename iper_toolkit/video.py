"""Videos: what they hold, their frames in order, and writing them.

Decoding is sequential: wanted frames are sorted into one pass that skips ahead, never a seek a
frame. decord is the default where it has a wheel, PyAV everywhere else and for the few videos that decord
misreads; both give the same bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av.container
    import av.stream
    import av.video.stream

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")

DECODERS = ("auto", "decord", "pyav")


class BrokenVideo(ValueError):
    """A video cannot be read to its end; the message names it and says where it stopped."""


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its first video stream; nothing has been decoded."""

    width: int
    """Pixels, as the video is shown (a rotated phone video counts as turned upright)."""
    height: int
    fps: float
    num_frames: int
    """Frames the container promises. Whether they are all there, only decoding shows."""
    comment: str
    """The file's own comment, where synthetic clips say that they are synthetic."""
    turned: bool
    """The stream carries a rotation or mirroring that is applied on reading."""


def probe(path: Path) -> VideoInfo:
    """Read a video's header; where that keeps silent on the number of frames, count packets."""
    import av

    with _named_errors(path), av.open(str(path)) as container:
        stream = _video_stream(container, path)
        rate = stream.average_rate or stream.guessed_rate
        first = next(container.decode(stream), None)
        if rate is None or first is None:
            raise BrokenVideo(f"{path} has no frame that can be decoded; copy it again.")
        upright = _upright(first.to_ndarray(format="gray"), first)
        num_frames = stream.frames
        comment = _comment(container)
        turned = first.rotation % 360 != 0
    if num_frames <= 0:
        num_frames = _count_packets(path)
    height, width = upright.shape
    return VideoInfo(
        width=width,
        height=height,
        fps=float(rate),
        num_frames=num_frames,
        comment=comment,
        turned=turned,
    )


def read_comment_tag(path: Path) -> str:
    """The file's own comment; opens the container and decodes nothing."""
    import av

    with _named_errors(path), av.open(str(path)) as container:
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
    """Which decoder "auto" means on this machine."""
    if decoder not in DECODERS:
        raise ValueError(f"Unknown decoder {decoder!r}. Choose one of: {', '.join(DECODERS)}.")
    if decoder != "auto":
        return decoder
    return "decord" if importlib.util.find_spec("decord") else "pyav"


# ------------------------------------------------------------------------------------ the two engines


def _decode(path: Path, decoder: str) -> Iterator[NDArray[np.uint8]]:
    frames, _ = _open_decoder(path, decoder)
    yield from frames


def _open_decoder(
    path: Path, decoder: str
) -> tuple[Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    """Frames from the first one on, and a function that skips some without converting them."""
    # decord ignores the rotation that phones write; PyAV tells it, so such a video goes there.
    if decoder_name(decoder) == "pyav" or (decoder == "auto" and probe(path).turned):
        return _open_pyav(path)
    channels, frames, skip = _open_decord(path)
    if channels == 3:
        return frames, skip
    # It takes the bytes of a row over the width for the channels. Rows are padded, so where the width
    # divides them (16, 24, 48 and 72 pixels) it gives 4 or 6, in a picture out of joint; else it is right.
    if decoder == "decord":
        raise ValueError(
            f"decord reads {path} as {channels} channels, as it does with some small widths. Read it "
            "with the decoder 'auto' or 'pyav'."
        )
    return _open_pyav(path)


def _open_decord(
    path: Path,
) -> tuple[int, Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    """The number of channels that it finds in the first frame; then as `_open_decoder`."""
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
    except (RuntimeError, decord.DECORDError) as error:
        raise BrokenVideo(f"{path} cannot be opened as a video; copy it again.") from error
    position = 0

    def read() -> NDArray[np.uint8]:
        try:
            return np.asarray(reader.next().asnumpy(), np.uint8)
        except (RuntimeError, StopIteration, decord.DECORDError) as error:
            raise _broken_at(path, position) from error

    first = read()

    def skip(count: int) -> None:
        nonlocal position
        if position + count < len(reader):
            try:
                reader.seek_accurate(position + count)
            except (RuntimeError, decord.DECORDError) as error:
                raise _broken_at(path, position) from error
        position += count

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal position
        while position < len(reader):
            frame = read() if position > 0 else first
            position += 1
            yield frame

    return first.shape[2], frames(), skip


def _open_pyav(path: Path) -> tuple[Iterator[NDArray[np.uint8]], Callable[[int], None]]:
    to_skip = 0

    def skip(count: int) -> None:
        nonlocal to_skip
        to_skip += count

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal to_skip
        import av

        position = 0
        with _named_errors(path), av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.codec_context.thread_count = 1
            decoded = container.decode(stream)
            while True:
                try:
                    frame = next(decoded, None)
                except av.error.FFmpegError as error:
                    raise _broken_at(path, position) from error
                if frame is None:
                    return
                position += 1
                if to_skip:
                    to_skip -= 1
                    continue
                yield _upright(frame.to_ndarray(format="rgb24"), frame)

    return frames(), skip


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


def _count_packets(path: Path) -> int:
    import av

    with _named_errors(path), av.open(str(path)) as container:
        stream = _video_stream(container, path)
        return sum(1 for packet in container.demux(stream) if packet.size)


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
