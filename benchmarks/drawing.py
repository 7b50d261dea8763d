"""One method at work on one case: watched, timed, and held to what it promised."""

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.methods import METHOD_ERRORS, Failure, Method, Motion
from iper_toolkit import progress


class Drawing:
    """One method at work on one case: hands out pictures, keeps time, scores and what went wrong."""

    def __init__(
        self,
        method: Method,
        motion: Motion,
        size: int,
        failure: Failure | None,
        seconds_personalize: float,
    ) -> None:
        self.method = method
        self.seconds = 0.0
        self.seconds_personalize = seconds_personalize
        self.failure = failure
        self.count = 0
        self._motion, self._size = motion, size
        self._pictures: Iterator[NDArray[np.uint8]] | None = None
        self._scores: dict[str, list[NDArray[np.float64]]] = {}
        self._random: tuple[Any, ...] = random_state()

    def own_randomness(self) -> "_OwnRandomness":
        return _OwnRandomness(self)

    def take(self, count: int) -> NDArray[np.uint8] | None:
        """The next pictures, (count, S, S, 3); None once the method has failed."""
        if self.failure is not None:
            return None
        taken = []
        start = time.perf_counter()
        try:
            with (
                progress.task(f"{self.method.name} draws", count, "frame") as advance,
                self.own_randomness(),
            ):
                if self._pictures is None:
                    self._pictures = iter(self.method.draw(self._motion.seen_by(self.method)))
                for _ in range(count):
                    picture = next(self._pictures, None)
                    if picture is None:
                        raise ValueError(
                            f"{self.method.name} gave {self.count} pictures of {self._motion.case}; "
                            f"it takes {len(self._motion)}."
                        )
                    # A copy, because the method may draw the next picture into the same memory.
                    taken.append(self._checked(picture).copy())
                    self.count += 1
                    advance(len(taken))
        except METHOD_ERRORS as error:
            self.failure = Failure.of(error)
            return None
        finally:
            self.seconds += time.perf_counter() - start
        return np.stack(taken)

    def _checked(self, picture: object) -> NDArray[np.uint8]:
        wanted = (self._size, self._size, 3)
        if (
            not isinstance(picture, np.ndarray)
            or picture.shape != wanted
            or picture.dtype != np.uint8
        ):
            got = (
                f"{picture.dtype} {picture.shape}"
                if isinstance(picture, np.ndarray)
                else type(picture).__name__
            )
            raise ValueError(
                f"{self.method.name} gave {got} as picture {self.count} of {self._motion.case}; it takes a "
                f"numpy array, uint8 {wanted}, RGB."
            )
        return picture

    def finish(self) -> None:
        """A method that goes on after the last picture has drawn another motion."""
        if self.failure is not None or self._pictures is None:
            return
        try:
            if next(self._pictures, None) is not None:
                raise ValueError(
                    f"{self.method.name} gave more pictures of {self._motion.case} than the "
                    f"{len(self._motion)} it takes."
                )
        except METHOD_ERRORS as error:
            self.failure = Failure.of(error)

    def add_scores(self, scores: dict[str, NDArray[np.float64]]) -> None:
        for name, values in scores.items():
            self._scores.setdefault(name, []).append(values)

    def fail(self, error: BaseException) -> None:
        """Count the case as failed, for what was found beside its pictures."""
        self.failure = Failure.of(error)

    def values(self) -> dict[str, NDArray[np.float64]]:
        return {name: np.concatenate(parts) for name, parts in self._scores.items()}


class _OwnRandomness:
    """Gives a drawing its own stream of the global generators, whoever draws in between."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    def __enter__(self) -> None:
        self._outside = random_state()
        set_random_state(self._drawing._random)

    def __exit__(self, *_: object) -> None:
        self._drawing._random = random_state()
        set_random_state(self._outside)


def random_state() -> tuple[Any, ...]:
    """The state of the global random generators: Python's, NumPy's, torch's and those of its devices in use."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return (random.getstate(), np.random.get_state(), torch.get_rng_state(), devices)  # noqa: NPY002


def set_random_state(state: tuple[Any, ...]) -> None:
    """Go on with what `random_state` gave."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    if state[3]:
        torch.cuda.set_rng_state_all(state[3])
