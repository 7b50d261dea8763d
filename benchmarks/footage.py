"""The film of whoever drives a motion: frames and keypoints, read when a method that asked for them wants them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.clip import Clip

INPUTS = ("frames", "keypoints")
"""What a method may ask for beside fits; `inputs` of the method names some."""


def inputs_of(method: object) -> tuple[str, ...]:
    """What of the driver's film a method asks for; raises ValueError where it asks for something else."""
    inputs = getattr(method, "inputs", ())
    if not isinstance(inputs, tuple | list) or not set(map(str, inputs)) <= set(INPUTS):
        raise ValueError(
            f"{type(method).__name__}.inputs is {inputs!r}; it takes a tuple of {', '.join(INPUTS)}."
        )
    return tuple(inputs)


class Film(Protocol):
    """What is read of a driver's clip; `iper_toolkit.clip.Clip` is one."""

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Footage:
    """A driver's film, read when asked for. Sent to another process it is opened there anew."""

    clip: Film
    numbers: tuple[int, ...]  # (N) of the clip's frames
    size: int  # side of the pictures, pixels
    inputs: tuple[str, ...] = ()  # what may be read

    def read(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return self.clip.frames([self.numbers[index] for index in indices], self.size)

    def keypoints(self) -> NDArray[np.float32]:
        found = keypoints_of(self.clip, self.numbers, self.size)
        if found is None:
            raise ValueError("The driver's clip has no keypoints; its fits came without any.")
        return found

    def __getstate__(self) -> dict[str, object]:
        state = dict(self.__dict__)
        if isinstance(self.clip, Clip):
            state["clip"] = replace(self.clip)  # an open video cannot be sent
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)


def keypoints_of(clip: Any, frames: Sequence[int], size: int) -> NDArray[np.float32] | None:
    """(N, 25, 3) BODY_25 of some frames in pixels of the clip's crop at `size`, confidence; None without any.

    Pixel i has its centre at i + 0.5, as in the source. NaN where a keypoint was not found.
    """
    whole = getattr(clip, "keypoints", None)
    if whole is None or not np.isfinite(whole).any():
        return None
    found = np.array(whole, np.float32)[list(frames)]
    corner = np.array([clip.crop.left, clip.crop.top], np.float32)
    found[..., :2] = (found[..., :2] - corner) * np.float32(size / clip.crop.side)
    return found
