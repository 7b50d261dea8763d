"""What a metric is: a function of pictures and a card that says how to read its numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.arrays import Frames, Masks, Scores
from benchmarks.metrics.pictures import Pair, Pictures

Better = Literal["higher", "lower"]
Region = Literal["frame", "person", "face", "body"]
# What beside two pictures a metric may need. previous: the frame before; the last two: estimates of
# the generated picture's pose that somebody made and put beside it.
NEEDS = ("mask", "fit", "previous", "keypoints", "estimated_fit")


@dataclass(frozen=True)
class SetScore:
    """One number of a whole set of pictures, and what it rests on.

    `n` and `m` count the generated and the true pictures, `dimensions` their features; `warning` says why
    the number should not be trusted, and is empty where nothing speaks against it.
    """

    value: float
    n: int
    m: int
    dimensions: int
    warning: str = ""


# Features of the generated and of the true pictures, an (n, d) array a case.
Features = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Metric:
    """One metric of generated pictures against true ones.

    Of kind "frame" it gives every pair of pictures a score (`per_frame`); of kind "set" it gives all
    pictures together one (`of_set`), from what its judge saw in each.

    Scores that are not finite never enter a mean; they are counted beside it. NaN says that the
    metric is not defined on this frame (nobody on the mask, no face), for whatever method. +inf is the PSNR
    of identical pictures in the official package's form alone: a mean that holds one is +inf and says nothing
    of the other frames. The standard PSNR is finite everywhere, so that no method loses its best frames.

    The card's version goes into every row of scores. It rises when the same pictures would get other
    numbers, so that old and new rows are never averaged.
    """

    name: str  # key in METRICS and in the rows
    version: int
    title: str  # heading of a column
    definition: str  # one sentence: what exactly is computed
    better: Better
    unit: str
    region: Region
    paper: str  # where the metric or this form of it comes from
    group: str  # key of GROUPS: the table it stands in
    failure_value: float | None = None  # what each frame of a failed case counts as; sets have none
    per_frame: Callable[[Pair], Scores] | None = None  # -> (N,)
    of_set: Callable[[Features, Features], SetScore] | None = None
    needs: tuple[str, ...] = ()  # of NEEDS
    judge: str = ""  # key of JUDGES or PERCEPTUAL: the network whose weights it takes
    boxes: Literal["correct", "official"] = "correct"  # by which rule its judge's person is cut out
    features: Callable[[Pictures], NDArray[np.float32]] | None = None  # of a set: (N, d)
    window: int = 0  # frames that a set's judge looks at together; 0: single pictures
    is_default: bool = True  # scored when nobody says which
    is_unpaired: bool = False  # meaningful without a true frame, too
    smallest_side: int = 7  # pixels

    def __post_init__(self) -> None:
        for field in ("name", "title", "definition", "unit", "paper", "group"):
            if not getattr(self, field):
                raise ValueError(f"The card of metric {self.name!r} has an empty {field}.")
        if self.version < 1:
            raise ValueError(f"Metric {self.name!r} has version {self.version}; they start at 1.")
        if (self.per_frame is None) == (self.of_set is None):
            raise ValueError(
                f"Metric {self.name!r} must score either frames or sets: give one of per_frame and of_set."
            )
        if self.of_set is not None and self.features is None and not self.window:
            raise ValueError(f"Metric {self.name!r} scores sets, so it takes features of pictures.")
        if self.per_frame is not None and not math.isfinite(
            math.nan if self.failure_value is None else self.failure_value
        ):
            raise ValueError(
                f"Metric {self.name!r} counts a failure as {self.failure_value}; a mean needs a number."
            )
        if unknown := set(self.needs) - set(NEEDS):
            raise ValueError(
                f"Metric {self.name!r} needs {sorted(unknown)}; cards know {', '.join(NEEDS)}."
            )
        if (self.region == "person") != ("mask" in self.needs):
            raise ValueError(
                f"Metric {self.name!r} looks at the {self.region} and needs {self.needs}; "
                "exactly the metrics of the person need a mask."
            )

    @property
    def kind(self) -> Literal["frame", "set"]:
        return "frame" if self.of_set is None else "set"

    @property
    def is_official(self) -> bool:
        """Whether it is in the official package's form, which stands apart from the standard one."""
        return self.group == "official"

    @property
    def is_synthetic(self) -> bool:
        """Whether its judge has seen drawn people only: no published number compares."""
        return self.judge.endswith("-mini")


def score_frames(
    metrics: Sequence[Metric], generated: Frames, truth: Frames, mask: Masks | None = None
) -> dict[str, Scores]:
    """Score frames with several metrics of kind "frame"; work that they share is done once.

    Args:
        metrics: cards, from METRICS.
        generated, truth: (N, H, W, 3) uint8 RGB.
        mask: (N, H, W) uint8, 128 and more is person; needed by the metrics of the person.

    Returns:
        (N,) float64 by metric name, in the order of `metrics`.

    Raises:
        MissingAsset: a metric's judge has no weights here.
        ValueError: a metric is of sets; sizes differ, or a mask is needed and not given.
    """
    return score_pair(metrics, Pair(Pictures(generated), Pictures(truth), mask))


def score_pair(metrics: Sequence[Metric], pair: Pair) -> dict[str, Scores]:
    """As `score_frames`, of pictures that know their judges."""
    found: dict[str, Scores] = {}
    for metric in metrics:
        if metric.per_frame is None:
            raise ValueError(f"{metric.name} is of a whole set of pictures; frames have no score.")
        if "mask" in metric.needs and pair.mask is None:
            raise ValueError(f"{metric.name} needs a mask of the person, and mask is None.")
        found[metric.name] = metric.per_frame(pair)
    return found
