"""Who is drawn and how they move: source pictures of a person, a motion, and which parts somebody wears."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.body import BodyParams
from iper_toolkit.body.parts import part_ids


@dataclass(frozen=True, eq=False)
class Person:
    """Source pictures of one person; the first one is the primary: its shape, camera and scene are drawn."""

    name: str
    pictures: NDArray[np.uint8]  # (S, size, size, 3) RGB
    masks: NDArray[np.uint8]  # (S, size, size), 255 = person
    params: BodyParams  # (S) fits, cameras in NDC of the square pictures
    plate: NDArray[np.uint8] | None = None  # (size, size, 3) RGB, the scene without the person
    origin: tuple[str, ...] = ()  # files and frames that the pictures are, for provenance

    def __post_init__(self) -> None:
        if self.pictures.ndim != 4 or self.pictures.shape[-1] != 3 or len(self.pictures) == 0:
            raise ValueError(
                f"pictures of {self.name} are {self.pictures.shape}; they must be (S, size, size, 3) "
                "with at least one source."
            )
        count, size = self.pictures.shape[:2]
        arrays = {"pictures": self.pictures, "masks": self.masks}
        wanted = {"pictures": (count, size, size, 3), "masks": (count, size, size)}
        if self.plate is not None:
            arrays["plate"], wanted["plate"] = self.plate, (size, size, 3)
        for name, array in arrays.items():
            if array.dtype != np.uint8 or array.shape != wanted[name]:
                raise ValueError(
                    f"{name} of {self.name} is {array.dtype} {array.shape}; with {count} pictures of "
                    f"size {size} it must be uint8 {wanted[name]}."
                )
        if len(self.params) != count:
            raise ValueError(
                f"{self.name} has {count} pictures and {len(self.params)} fits; each picture takes one."
            )
        if unfit := frames_without_fit(self.params):
            raise ValueError(
                f"Source {_ranges(unfit)} of {self.name} (counted from 0) has no valid fit (NaN), so "
                "nobody can be learned from it; choose other source frames, or mend the fit."
            )

    @property
    def num_sources(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> int:
        """Pixels of a side."""
        return int(self.pictures.shape[1])

    def sources(self, chosen: Sequence[int]) -> "Person":
        """The same person known from some of the sources, in this order."""
        index = list(chosen)
        origin = tuple(self.origin[i] for i in index) if self._one_origin_each else self.origin
        return Person(
            self.name,
            self.pictures[index],
            self.masks[index],
            self.params[index],
            self.plate,
            origin,
        )

    @property
    def _one_origin_each(self) -> bool:
        return len(self.origin) == self.num_sources


@dataclass(frozen=True, eq=False)
class Motion:
    """Fits of somebody who moves, one a frame, and which of them are imitated.

    The fits are neighbours in time, because they are smoothed and stood on the ground as such; what is imitated may
    be any of them, in any order.
    """

    params: BodyParams  # (T), NaN where a frame has no fit; those of `frames` have one
    fps: float
    name: str = ""
    origin: tuple[str, ...] = ()  # file and frames, for provenance
    frames: tuple[int, ...] | None = None  # which of the T are imitated; None: all

    def __post_init__(self) -> None:
        named = f"motion {self.name}".strip()
        if len(self) == 0:
            raise ValueError(f"The {named} has no frames; nothing can be imitated.")
        if not (self.fps > 0 and math.isfinite(self.fps)):
            raise ValueError(
                f"fps of the {named} is {self.fps}; it must be more than 0, and finite."
            )
        count = len(self.params)
        if outside := sorted({frame for frame in self.chosen if not 0 <= frame < count}):
            raise ValueError(
                f"Frames {_ranges(outside)} are to be imitated of the {named}, which has 0 to {count - 1}."
            )
        if unfit := sorted(set(self.chosen).intersection(frames_without_fit(self.params))):
            raise ValueError(
                f"Frames {_ranges(unfit)} of the {named} (counted from 0) have no valid fit (NaN). "
                "Choose a stretch without them, or mend the fit."
            )

    def __len__(self) -> int:
        """Number of frames that are imitated."""
        return len(self.chosen)

    @property
    def chosen(self) -> tuple[int, ...]:
        return tuple(range(len(self.params))) if self.frames is None else self.frames

    def stretches(self) -> list[slice]:
        """The longest runs of neighbouring frames that have a fit, in order."""
        lost = set(frames_without_fit(self.params))
        fit = [frame for frame in range(len(self.params)) if frame not in lost]
        return [slice(first, last + 1) for first, last in _runs(fit)]


@dataclass(frozen=True, eq=False)
class Dressed:
    """A person, and the parts of the drawn body that take this person's appearance."""

    person: Person
    parts: tuple[str, ...] = ()  # words of `iper_toolkit.body.parts.PART_IDS`, anatomical sides

    def __post_init__(self) -> None:
        part_ids(self.parts)  # raises for a word that is none


def frames_without_fit(params: BodyParams) -> list[int]:
    """Frames whose camera, pose or shape is not finite, rising."""

    def broken(values: Tensor) -> Tensor:
        return ~values.isfinite().all(-1)

    lost = broken(params.camera) | broken(params.pose) | broken(params.shape)
    return [int(frame) for frame in lost.nonzero()[:, 0]]


def _ranges(frames: Sequence[int]) -> str:
    """[1, 2, 3, 7] -> "1-3, 7": long lists stay readable."""
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in _runs(frames))


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """[1, 2, 3, 7] -> [(1, 3), (7, 7)]: first and last of each run."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], frame)
        else:
            runs.append((frame, frame))
    return runs
