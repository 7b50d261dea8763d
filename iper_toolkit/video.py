"""Videos: what they show, their frames by number, and writing them.

Frame number k is the k-th frame that a player shows, always: frames are decoded in order and counted, never sought,
because time stamps, edit lists, open GOPs and B-frames make a seek miss. What a decoder reports as damaged is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.decoders import (
    DECODERS,
    BrokenVideo,
    decoder_id,
    decoder_name,
    is_turned,
    open_decoder,
    open_video,
    shown_frames,
    turn_upright,
)

if TYPE_CHECKING:
    import av.container

__all__ = [
    "DECODERS",
    "VIDEO_SUFFIXES",
    "BrokenVideo",
    "FrameCursor",
    "VideoInfo",
    "decoder_id",
    "decoder_name",
    "probe",
    "read_comment_tag",
    "read_frames",
    "write_video",
]

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv",
)  # fmt: skip


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
    with open_video(path) as (container, stream):
        first, stamps = None, _Stamps()
        for frame in shown_frames(container, stream, path):
            first = first or frame
            stamps.add(frame)
        if first is None:
            raise BrokenVideo(f"{path} has no frame that can be decoded; copy it again.")
        height, width = turn_upright(first.to_ndarray(format="gray"), first).shape
        return VideoInfo(
            width=width,
            height=height,
            fps=stamps.frames_a_second(stream.average_rate or stream.guessed_rate),
            num_frames=stamps.num_frames,
            comment=_comment(container),
            turned=is_turned(first),
        )


class _Stamps:
    """The time stamps of frames, and the rate that they mean."""

    _USUAL_FPS = 30.0
    _FASTEST_USUAL = (
        250  # a header that says more and has no stamps to prove it means a clock, not a rate
    )

    def __init__(self) -> None:
        self.num_frames = 0
        self._times: list[float] = []
        self._numbers: list[int] = []
        self._unit = 0.0

    def add(self, frame: av.VideoFrame) -> None:
        if frame.time is not None:
            self._times.append(frame.time)
            self._numbers.append(self.num_frames)
            self._unit = float(frame.time_base or 0)
        self.num_frames += 1

    def frames_a_second(self, promised: Fraction | None) -> float:
        """The container's rate if it agrees with the stamps to half a frame over the video, else theirs.

        Containers write rates that are rounded, meant for a clock (1000 for milliseconds) or wrong.
        """
        rate = float(promised) if promised else 0.0
        steps = self._numbers[-1] - self._numbers[0] if self._numbers else 0
        span = max(self._times) - min(self._times) if self._times else 0.0
        if span <= 0 or steps < 1:  # one frame, or no stamps: there is nothing to compare with
            return rate if 1 <= rate <= self._FASTEST_USUAL else self._USUAL_FPS
        tolerance = min(0.5, 0.05 * steps) + self._unit * rate  # stamps are rounded to their unit
        measured = steps / span
        return rate if abs(span * rate - steps) <= tolerance and rate / measured < 2 else measured


def read_comment_tag(path: Path) -> str:
    """The file's own comment; opens the container and decodes nothing."""
    with open_video(path) as (container, _):
        return _comment(container)


def _comment(container: av.container.InputContainer) -> str:
    tags = {key.lower(): value for key, value in container.metadata.items()}
    return tags.get("comment", "")


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
        yield from open_decoder(path, decoder)[0]
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
            self._frames, self._skip = open_decoder(self.path, self._decoder)
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
