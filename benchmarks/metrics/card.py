"""What a metric is: a function of pictures and a card that says how to read its numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # (N, H, W, 3) RGB
Masks = NDArray[np.uint8]  # (N, H, W), 255 = person; 128 and more counts as person
Scores = NDArray[np.float64]  # (N,), one a frame

PerFrame = Callable[[Frames, Frames, Masks | None], Scores]
# The scores of several metrics by name, their shared work done once.
Together = Callable[[Sequence[str], Frames, Frames, Masks | None], dict[str, Scores]]


@dataclass(frozen=True)
class Metric:
    """One metric of generated frames against true ones.

    Scores that are not finite never enter a mean; they are counted beside it. NaN says that the
    metric is not defined on this frame (nobody on the mask), for whatever method. +inf is the PSNR of
    identical pictures in the official package's form alone: a mean that holds one is +inf and says nothing
    of the other frames. The standard PSNR is finite everywhere, so that no method loses its best frames.

    The card's version goes into every row of scores. It rises when the same pictures would get other
    numbers, so that old and new rows are never averaged.
    """

    name: str  # key in METRICS and in the rows
    version: int
    title: str  # heading of a column
    definition: str  # one sentence: what exactly is computed
    better: Literal["higher", "lower"]
    unit: str
    region: Literal["frame", "person"]
    paper: str  # where the metric or this form of it comes from
    failure_value: float  # what each frame of a failed case counts as: no picture scores worse
    per_frame: PerFrame  # (generated, truth, mask) -> (N,)
    needs: tuple[str, ...] = ()  # beyond the pictures: "mask"
    kind: Literal["paired"] = "paired"
    together: Together | None = None  # metrics with the same function here share work

    def __post_init__(self) -> None:
        for field in ("name", "title", "definition", "unit", "paper"):
            if not getattr(self, field):
                raise ValueError(f"The card of metric {self.name!r} has an empty {field}.")
        if self.version < 1:
            raise ValueError(f"Metric {self.name!r} has version {self.version}; they start at 1.")
        if not math.isfinite(self.failure_value):
            raise ValueError(
                f"Metric {self.name!r} counts a failure as {self.failure_value}; a mean needs a number."
            )
        if (self.region == "person") != ("mask" in self.needs):
            raise ValueError(
                f"Metric {self.name!r} looks at the {self.region} and needs {self.needs}; "
                "exactly the metrics of the person need a mask."
            )


def score_frames(
    metrics: Sequence[Metric], generated: Frames, truth: Frames, mask: Masks | None = None
) -> dict[str, Scores]:
    """Score frames with several metrics; those that can share work do.

    Args:
        metrics: cards, from METRICS.
        generated, truth: (N, H, W, 3) uint8 RGB.
        mask: (N, H, W) uint8, 128 and more is person; needed by the metrics of the person.

    Returns:
        (N,) float64 by metric name, in the order of `metrics`.
    """
    shared: dict[Together, list[str]] = {}
    for metric in metrics:
        if metric.together is not None:
            shared.setdefault(metric.together, []).append(metric.name)
    found: dict[str, Scores] = {}
    for together, names in shared.items():
        found |= together(names, generated, truth, mask)
    return {
        metric.name: found[metric.name]
        if metric.together is not None
        else metric.per_frame(generated, truth, mask)
        for metric in metrics
    }
