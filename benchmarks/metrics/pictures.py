"""Some consecutive pictures, and everything that is seen in them: each thing is computed once, whoever asks.

A `Pair` is what metrics take: generated pictures, the true ones, and what is known of these. Several methods
are judged against the same true `Pictures`, which so are embedded once for all of them.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metrics import pixel
from benchmarks.metrics.arrays import Frames, Masks, Scores

if TYPE_CHECKING:
    from benchmarks.judging import Judges

# A function of arrays that gives several metrics at once: names, generated, truth, mask -> (N,) by name.
Together = Callable[[Sequence[str], Frames, Frames, Masks | None], dict[str, Scores]]
_T = TypeVar("_T")

# Feature maps of the true pictures that are kept for the next method, bytes.
_KEPT_LAYERS = 256 << 20


@dataclass
class Pictures:
    """Pictures of one size, what judges have seen in them, and where to look.

    Args:
        frames: (N, H, W, 3) uint8 RGB.
        judges: the networks; without them only pixels can be compared.
        boxes: (N, 4) float64, the person's x0, y0, x1, y1 in pixels; rows of NaN where there is none.
        faces: the same of the face.
        before: (H, W, 3) uint8, the picture before the first one, if it was of the frame before.
        is_shared: whether features are worth keeping on disk, because others will ask for the same pictures.
    """

    frames: Frames
    judges: "Judges | None" = None
    boxes: NDArray[np.float64] | None = None
    faces: NDArray[np.float64] | None = None
    before: Frames | None = None
    is_shared: bool = False
    _memory: dict[object, object] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    def once(self, key: object, compute: Callable[[], _T]) -> _T:
        """What `compute` gave when it was first asked for under this key."""
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]  # type: ignore[return-value]

    @property
    def networks(self) -> "Judges":
        """The judges; the usual ones where nobody chose."""
        from benchmarks.judging import Judges

        if self.judges is None:
            self.judges = Judges()
        return self.judges

    @cached_property
    def content(self) -> str:
        """sha256 of the pictures."""
        shape = repr(self.frames.shape).encode()
        return hashlib.sha256(shape + np.ascontiguousarray(self.frames).data).hexdigest()

    def preceded(self) -> Frames:
        """(N, H, W, 3): the picture before each; the first one's own where there is none."""
        first = self.frames[:1] if self.before is None else self.before[None]
        return np.concatenate([first, self.frames[:-1]])

    def features(
        self, judge: str, boxes: Literal["correct", "official"] = "correct"
    ) -> NDArray[np.float32]:
        """(N, d) what a judge makes of each picture; rows of NaN where there is nobody to look at."""
        return self.once(
            ("features", judge, boxes), lambda: self.networks.embed(self, judge, boxes)
        )

    def layers(self, network: str, index: int) -> tuple[torch.Tensor, ...]:
        """Feature maps of one picture, -1 is the one before the first; kept as long as there is room."""
        kept: dict[tuple[str, int], tuple[torch.Tensor, ...]] = self.once("layers", dict)
        if (network, index) in kept:
            return kept[network, index]
        picture = self.before if index < 0 else self.frames[index]
        assert picture is not None  # only asked for where there is one
        found = self.networks.layers(network, picture)
        size = sum(layer.nbytes for layer in found)
        if size * (len(kept) + 1) < _KEPT_LAYERS:
            kept[network, index] = found
        return found


@dataclass
class Pair:
    """Generated and true pictures, and what is known of the true ones; all have the same N.

    Args:
        mask: (N, H, W) uint8 of the true person.
        follows: (N,) bool, whether the picture before was of the frame before. Without it: none was.
        estimates: poses that somebody found in the generated pictures.
        threads: that compare pixels side by side.
    """

    generated: Pictures
    truth: Pictures
    mask: Masks | None = None
    follows: NDArray[np.bool_] | None = None
    estimates: "Estimates | None" = None
    threads: int = 1

    def pixels(self, name: str) -> Scores:
        """(N,) of one of `pixel.PIXEL_METRICS`; SSIM's forms are computed together, and so are the errors'."""
        kin = [
            one for one in pixel.PIXEL_METRICS if one.startswith("ssim") == name.startswith("ssim")
        ]
        device = self.generated.judges.device if self.generated.judges else "cpu"
        return self.of_arrays(pixel.scores if device == "cpu" else _pixels_on(device), kin, name)

    def of_arrays(self, score: Together, names: Sequence[str], wanted: str) -> Scores:
        """(N,) of one of `names`, which are computed together and once; those of the person with a mask only."""
        there = [one for one in names if self.mask is not None or not one.endswith("_person")]
        if wanted not in there:
            raise ValueError(f"{wanted} needs a mask of the person, and mask is None.")

        def of(part: NDArray[np.int64]) -> dict[str, Scores]:
            mask = None if self.mask is None else self.mask[part]
            return score(there, self.generated.frames[part], self.truth.frames[part], mask)

        return self.generated.once(tuple(names), lambda: self._in_threads(of, there))[wanted]

    def _in_threads(
        self, score: Callable[[NDArray[np.int64]], dict[str, Scores]], names: Sequence[str]
    ) -> dict[str, Scores]:
        """`score` of the pictures' indices, in parts side by side; for code that gives up the lock."""
        if len(self.truth) <= 1 or self.threads == 1:
            return score(np.arange(len(self.truth)))
        parts = np.array_split(np.arange(len(self.truth)), min(self.threads, len(self.truth)))
        with ThreadPoolExecutor(self.threads) as pool:
            found = list(pool.map(score, parts))
        return {name: np.concatenate([one[name] for one in found]) for name in names}

    @property
    def steps(self) -> NDArray[np.bool_]:
        """(N,) which pictures have a predecessor to be compared with."""
        if self.follows is None:
            return np.zeros(len(self.truth), bool)
        steps = self.follows.copy()
        if len(steps) and (self.generated.before is None or self.truth.before is None):
            steps[0] = False
        return steps


def _pixels_on(device: str) -> Together:
    """The metrics of pixels, computed on a device."""
    from benchmarks.metrics.pixel_torch import scores as scores_on_device

    def move(array: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    def score(
        names: Sequence[str], generated: Frames, truth: Frames, mask: Masks | None
    ) -> dict[str, Scores]:
        person = None if mask is None else move(mask)
        return scores_on_device(names, move(generated), move(truth), person)

    return score


@dataclass(frozen=True)
class Estimates:
    """Poses that somebody estimated in the generated pictures, beside those of the true ones.

    keypoints: (N, K, 3) x, y in pixels and confidence, twice; params: (N, 85) camera, pose, shape, twice;
    joints: (N, J, 3) metres, twice. None where nobody estimated them.
    """

    keypoints: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    params: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    joints: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
