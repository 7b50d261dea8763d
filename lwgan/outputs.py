"""Drawn pictures to disk: a video, one PNG, or a folder of PNGs; whole or not there, and marked as synthetic.

Several files are written in one pass over the drawn frames (`fan_out`), each in a thread of its own: while the
network draws the next batch, the last one is encoded.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.atomic import PART_PREFIX, move_into_place, part_folder, remove_dead_parts
from iper_toolkit.images import encode_image, resize
from iper_toolkit.video import write_video
from lwgan.provenance import (
    FOLDER_SIDECAR,
    Content,
    Provenance,
    png_with_texts,
    sidecar_of,
    write_record,
)

if TYPE_CHECKING:
    from lwgan.synthesis import Drawn

Pictures = NDArray[np.uint8]
Row = TypeVar("Row")
Made = TypeVar("Made")

VIDEO_SUFFIXES = (".mp4", ".mkv")
"""Containers that hold H.264 and keep the tags."""

_FRAME_NAME = re.compile(r"\d{5,}\.png")
_WAITING_ROWS = 8  # frames that may wait for their encoder: enough to even out, small in memory
_SEPARATOR_PIXELS = 10
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Files:
    """Where the pictures of one plan go."""

    result: Path
    inputs: Path | None = None
    """What the network was shown: the sources' texture on the body that is drawn."""
    comparison: Path | None = None
    """Sources, motion and result side by side."""

    def paths(self) -> list[Path]:
        return [path for path in (self.result, self.inputs, self.comparison) if path is not None]

    def of(self, name: str) -> Files:
        """The files of one of several plans: ``x.mp4`` -> ``x_view90.mp4`` of the plan "view 90"."""
        ending = "_" + name.replace(" ", "").replace(".", "_")  # a dot would begin a suffix

        def named(path: Path | None) -> Path | None:
            return path and path.with_name(f"{path.stem}{ending}{path.suffix}")

        return Files(
            self.result.with_name(f"{self.result.stem}{ending}{self.result.suffix}"),
            named(self.inputs),
            named(self.comparison),
        )


@dataclass(frozen=True)
class Written:
    """One finished output."""

    path: Path
    num_frames: int
    sidecar: Path | None


def output_kind(out: Path) -> Literal["video", "picture", "folder"]:
    """By the name alone: ``x.mp4``, ``x.png``, ``x/`` or ``x``."""
    suffix = out.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix == ".png":
        return "picture"
    if suffix and not out.is_dir():
        raise ValueError(
            f"{out}: {suffix} is not written. Name a video ({', '.join(VIDEO_SUFFIXES)}), a .png for a "
            "single picture, or a folder of .png pictures."
        )
    return "folder"


def check_outputs(outs: Sequence[Path], *, overwrite: bool) -> None:
    """`check_output` of all outputs of a command, which must not be in each other's way either.

    Raises:
        ValueError: two have the same name, or one lies in the other, which is a folder of frames.
    """
    for out in outs:
        check_output(out, None, overwrite=overwrite)
    for first, second in itertools.permutations(outs, 2):
        folder, other = first.resolve(), second.resolve()
        if folder == other:
            raise ValueError(f"Two outputs are called {first}; give each a name of its own.")
        if output_kind(first) == "folder" and folder in other.parents:
            raise ValueError(
                f"{second} lies in {first}, a folder of frames, which holds nothing else. Name it elsewhere."
            )


def check_output(out: Path, num_frames: int | None, *, overwrite: bool) -> None:
    """Refuse before drawing what could not be written afterwards.

    Args:
        num_frames: None while it is not known.

    Raises:
        FileExistsError: something is there, and `overwrite` is off, or it is not ours to replace.
        ValueError: the name fits no output of so many frames. OSError: nothing can be written there.
    """
    kind = output_kind(out)
    for folder in {out, out.parent}:
        if folder.is_dir():
            remove_dead_parts(folder)  # of a run that was killed
    if kind == "picture" and num_frames not in (None, 1):
        raise ValueError(
            f"{out} holds one picture, but {num_frames} are drawn. Name a video such as "
            f"{out.with_suffix('.mp4').name}, or a folder such as {out.stem}/"
        )
    if kind != "folder":
        if out.is_dir():
            raise FileExistsError(f"{out} is a folder; name a file that is none.")
        if (out.exists() or sidecar_of(out).exists()) and not overwrite:
            there = out if out.exists() else sidecar_of(out)
            raise FileExistsError(f"{there} exists. Name another, or pass --overwrite.")
        _check_writable(out.parent, out)
        return
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; name a folder, or a file with a suffix.")
    _check_writable(out, out)
    if not out.is_dir():
        return
    content = [path.name for path in out.iterdir()]
    strangers = [n for n in content if not _FRAME_NAME.fullmatch(n) and n != FOLDER_SIDECAR]
    if strangers:
        raise FileExistsError(
            f"{out} holds other files ({', '.join(sorted(strangers)[:3])}), which are not replaced. Name "
            "an empty or a new folder."
        )
    if content and not overwrite:
        raise FileExistsError(f"{out} is not empty. Name another folder, or pass --overwrite.")


def write_files(
    files: Files,
    drawn: Iterable[Drawn],
    fps: float,
    provenance: Provenance,
    *,
    sources: Pictures,
    motion: Iterable[Pictures] | None = None,
    sidecar: bool = True,
    overwrite: bool = False,
) -> list[Written]:
    """Write what is drawn to all files of a plan, in one pass: all of them or none.

    Args:
        files: `check_outputs` has been asked of them.
        drawn: from `synthesize`.
        fps, provenance, sidecar, overwrite: see `write_output`.
        sources: (S, size, size, 3) uint8, for the comparison.
        motion: a picture (size, size, 3) for each drawn frame, for the comparison; none where there is no motion.
    """
    size = sources.shape[1]
    shown = mosaic(list(sources), size)
    compares = files.comparison is not None

    def rows() -> Iterator[list[Pictures]]:
        pairs: Iterable[tuple[Drawn, Pictures | None]]
        if motion is not None and compares:
            pairs = zip(drawn, motion, strict=True)
        else:
            pairs = ((frame, None) for frame in drawn)
        for frame, driver in pairs:
            row = [frame.picture]
            if files.inputs is not None:
                row.append(frame.texture)
            if compares:
                middle = [] if driver is None else [driver]
                row.append(side_by_side(shown, *middle, frame.picture))
            yield row

    contents: list[tuple[Path, Content]] = [(files.result, "result")]
    if files.inputs is not None:
        contents.append((files.inputs, "texture-warped inputs"))
    if files.comparison is not None:
        contents.append((files.comparison, "comparison"))

    with ExitStack() as stack:
        parts = [
            stack.enter_context(_Part.of(path, fps, provenance.of(content), sidecar))
            for path, content in contents
        ]
        fan_out(rows(), [part.fill for part in parts])
        return _place(parts, overwrite=overwrite)


def write_output(
    out: Path,
    frames: Iterable[Pictures],
    fps: float,
    provenance: Provenance,
    *,
    sidecar: bool = True,
    overwrite: bool = False,
) -> Written:
    """Write all frames; `check_output` has been asked.

    Args:
        out: see `output_kind`. Frames of a folder are called 00000.png, 00001.png, ...
        frames: (H, W, 3) uint8 RGB of one size, even sides for a video.
        fps: of a video.
        provenance: stored in the file, and beside it unless `sidecar` is off.
        overwrite: replace what is there.

    Raises:
        FileExistsError: something is there, and `overwrite` is off: another process was faster.
    """
    with _Part.of(out, fps, provenance, sidecar) as part:
        part.fill(frames)
        (written,) = _place([part], overwrite=overwrite)
    return written


def fan_out(
    rows: Iterable[Sequence[Row]], consumers: Sequence[Callable[[Iterator[Row]], Made]]
) -> list[Made]:
    """Hand column i of the rows to consumer i; all run at once, each in a thread of its own.

    If `rows` or a consumer fails, every other consumer's iterator raises, so that it leaves nothing half-written,
    and the first error is raised here.

    Returns:
        What the consumers returned, in order.
    """
    queues: list[Queue[Any]] = [Queue(_WAITING_ROWS) for _ in consumers]
    failed = threading.Event()

    def run(consumer: Callable[[Iterator[Row]], Made], queue: Queue[Any]) -> Made:
        column = _until_end(queue)
        try:
            return consumer(column)
        except BaseException:
            failed.set()
            raise
        finally:
            with suppress(_Abandoned):
                for _ in column:  # whoever stopped early must not keep the others waiting
                    pass

    with ThreadPoolExecutor(max(1, len(consumers))) as pool:
        running = [pool.submit(run, *pair) for pair in zip(consumers, queues, strict=True)]
        last: object = _CUT
        try:
            for row in rows:
                if failed.is_set():
                    break
                for queue, item in zip(queues, row, strict=True):
                    queue.put(item)
            else:
                last = _END if not failed.is_set() else _CUT
        finally:
            for queue in queues:
                queue.put(last)
        errors = [error for future in running if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, _Abandoned)):
        raise error
    return [future.result() for future in running]


def side_by_side(*pictures: Pictures) -> Pictures:
    """(H, W_i, 3) each -> (H, sum of W_i and black separators, 3)."""
    gap = np.zeros((pictures[0].shape[0], _SEPARATOR_PIXELS, 3), np.uint8)
    pieces = itertools.chain.from_iterable((gap, picture) for picture in pictures)
    return np.concatenate(list(pieces)[1:], axis=1)


def mosaic(pictures: Sequence[Pictures], size: int) -> Pictures:
    """All sources in one block of height `size`: one alone, two stacked, else a grid, by rows.

    Deviation: the reference shows at most four of many.

    Returns:
        (size, W, 3) uint8, W even.
    """
    num_rows = math.ceil(math.sqrt(len(pictures)))
    num_columns = math.ceil(len(pictures) / num_rows)
    cell = size // num_rows // 2 * 2
    block = np.zeros((size, cell * num_columns, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // num_columns * cell, index % num_columns * cell
        block[top : top + cell, left : left + cell] = resize(picture, (cell, cell))
    return block


# ------------------------------------------------------------------------------------------- writing


@dataclass
class _Part:
    """One output while it is written, in a private folder beside its place."""

    out: Path
    folder: Path
    fps: float
    provenance: Provenance
    sidecar: bool
    names: list[str] = field(default_factory=list)
    """Of what was written: one file, or the frames."""
    num_frames: int = 0

    @classmethod
    @contextmanager
    def of(cls, out: Path, fps: float, provenance: Provenance, sidecar: bool) -> Iterator[_Part]:
        """Whatever is still in the private folder at the end is gone, and folders that were made for it, too."""
        inside = out if output_kind(out) == "folder" else out.parent
        made = [folder for folder in (inside, *inside.parents) if not folder.exists()]
        try:
            with ExitStack() as stack:
                with _errors_of(out):
                    folder = stack.enter_context(part_folder(inside))
                yield cls(out, folder, fps, provenance, sidecar)
        except BaseException:
            for new in made:
                with suppress(OSError):  # not empty, or gone: then there is nothing to tidy up
                    new.rmdir()
            raise

    def fill(self, frames: Iterable[Pictures]) -> None:
        """Write all frames, and the record of them."""
        tags, kind = self.provenance.tags(), output_kind(self.out)
        with _errors_of(self.out):
            if kind == "video":
                self.names = [self.out.name]
                part = self.folder / self.out.name
                self.num_frames = write_video(part, frames, self.fps, metadata=tags)
            else:
                for picture in frames:
                    number = len(self.names)
                    self.names.append(self.out.name if kind == "picture" else f"{number:05d}.png")
                    data = png_with_texts(encode_image(picture, ".png"), tags)
                    (self.folder / self.names[-1]).write_bytes(data)
                self.num_frames = len(self.names)
            if self.sidecar:
                write_record(self.folder / sidecar_of(self.out).name, self.provenance)

    def place(self, *, overwrite: bool) -> Written:
        """Move what was written into its place; what was there goes first."""
        sidecar, is_folder = sidecar_of(self.out), output_kind(self.out) == "folder"
        with _errors_of(self.out):
            if overwrite:
                sidecar.unlink(missing_ok=True)  # that of an earlier output would speak of this one
                for old in self.out.glob("*.png") if is_folder else ():
                    if _FRAME_NAME.fullmatch(old.name):
                        old.unlink()
            inside = self.out if is_folder else self.out.parent
            for name in self.names:
                move_into_place(self.folder / name, inside / name, replace=overwrite)
            if self.sidecar:
                move_into_place(self.folder / sidecar.name, sidecar, replace=overwrite)
        return Written(self.out, self.num_frames, sidecar if self.sidecar else None)


def _place(parts: Sequence[_Part], *, overwrite: bool) -> list[Written]:
    """All into their places together, unless something appeared there while they were drawn."""
    for part in parts:
        is_folder = output_kind(part.out) == "folder"
        is_there = any(part.out.glob("*.png")) if is_folder else part.out.exists()
        if not overwrite and (is_there or sidecar_of(part.out).exists()):
            raise FileExistsError(
                f"{part.out} appeared while it was drawn: another process writes there, too. Nothing was "
                "replaced; name another output, or pass --overwrite."
            )
    return [part.place(overwrite=overwrite) for part in parts]


def _check_writable(folder: Path, out: Path) -> None:
    """Try it: rights are more than bits."""
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{out} cannot be written: {nearest} is a file. Name it elsewhere."
        )
    with _errors_of(out), tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=nearest):
        pass


@contextmanager
def _errors_of(out: Path) -> Iterator[None]:
    """What the system forbids is said of the output, not of a part of it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        raise PermissionError(
            f"{out} cannot be written ({os.strerror(error.errno)}). Name an output elsewhere, or make the "
            "folder writable."
        ) from error


# ------------------------------------------------------------------------------------------- columns


class _Abandoned(RuntimeError):
    """What a consumer's iterator raises when the frames ended too early."""


_END, _CUT = object(), object()


def _until_end(queue: Queue[Any]) -> Iterator[Any]:
    while (item := queue.get()) is not _END:
        if item is _CUT:
            raise _Abandoned("the drawing stopped before its end")
        yield item
