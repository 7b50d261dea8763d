"""Whether this installation computes every metric as it should: a few pictures, and what each metric makes of them.

The folder ``golden`` holds consecutive true pictures, what a method might have made of them, masks, and
``expected.json``: where to look, estimated poses, and the value of every metric. Metrics whose judges come from
others are held to what they give with random weights, so that everything but the file itself is proven; with the
right file there is nothing to compare with, because nobody may ship what it gives.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.judging import Judges
from benchmarks.metrics import METRICS, Estimates, Metric, Pair, Pictures
from iper_toolkit.images import read_image
from iper_toolkit.progress import counted

RANDOM_SEED = 20
FOLDER = "golden"
# Of the value: what other processors and versions of libraries may change. Pixels are exact but for the order of sums.
PIXEL_TOLERANCE, NETWORK_TOLERANCE, RANDOM_TOLERANCE = 1e-9, 2e-4, 2e-3


@dataclass(frozen=True)
class Check:
    """One metric on the golden pictures."""

    metric: str
    expected: float
    found: float
    tolerance: float  # relative
    judge: str  # "", the judge's name, or "random weights"

    @property
    def is_right(self) -> bool:
        """Whether the values agree, a millionth apart at least."""
        allowed = max(self.tolerance * abs(self.expected), 1e-6 if self.judge else 1e-12)
        return abs(self.found - self.expected) <= allowed


@dataclass(frozen=True)
class Golden:
    """The golden pictures, and what is known of them."""

    generated: np.ndarray  # (N, S, S, 3) uint8
    truth: np.ndarray
    masks: np.ndarray  # (N, S, S) uint8
    known: dict[str, Any]  # expected.json

    @classmethod
    def read(cls, folder: Path | None = None) -> "Golden":
        """The committed ones, or those of a folder.

        Raises:
            FileNotFoundError: they are not there.
        """
        folder = folder or Path(str(resources.files("benchmarks"))) / FOLDER
        if not (folder / "expected.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no golden pictures: this installation is incomplete. Install iper-toolkit again."
            )
        known = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        names = range(known["num_pictures"])
        read = {
            kind: np.stack([read_image(folder / f"{kind}_{k}.png") for k in names])
            for kind in ("generated", "truth", "mask")
        }
        return cls(read["generated"], read["truth"], read["mask"][..., 0], known)

    def pair(self, judges: Judges) -> Pair:
        """The pictures as metrics take them. What judges see in them is computed once for all metrics."""
        boxes, faces = (np.array(self.known[name], np.float64) for name in ("boxes", "faces"))
        # The first picture has none before it; Pictures would take it for its own predecessor.
        generated, truth = (
            Pictures(frames, judges, boxes, faces, before=frames[0])
            for frames in (self.generated, self.truth)
        )
        follows = np.arange(len(self.truth)) > 0
        return Pair(generated, truth, self.masks, follows, self._estimates())

    @staticmethod
    def score(metric: Metric, pair: Pair) -> float:
        """The mean of a metric's defined scores, or the number of the set."""
        if metric.window:
            raise ValueError(f"{metric.name} takes videos; there are {len(pair.truth)} pictures.")
        if metric.of_set is not None:
            assert metric.features is not None  # the card says so
            features = (metric.features(pair.generated), metric.features(pair.truth))
            return metric.of_set([features[0]], [features[1]]).value
        assert metric.per_frame is not None
        return float(np.nanmean(metric.per_frame(pair)))

    def _estimates(self) -> Estimates:
        found = {
            name: (np.array(self.known[name][0]), np.array(self.known[name][1]))
            for name in ("keypoints", "params", "joints")
        }
        return Estimates(**found)


def takes_random_weights(metric: Metric) -> bool:
    """Whether a metric's judge belongs to others, so that the metric is held to what random weights give."""
    return bool(metric.judge) and not metric.is_synthetic


def golden_pairs(golden: Golden) -> dict[bool, Pair]:
    """The pictures, judged without and with random weights: `takes_random_weights` is the key."""
    return {
        False: golden.pair(Judges()),
        True: golden.pair(Judges(random_seed=RANDOM_SEED)),
    }


def tolerance_of(metric: Metric) -> float:
    """How far a value may be off on another machine, as a share of it."""
    if metric.is_synthetic:
        return NETWORK_TOLERANCE
    if metric.judge:
        return RANDOM_TOLERANCE
    return PIXEL_TOLERANCE if metric.group in ("pixel", "official") else NETWORK_TOLERANCE


def check_installation(folder: Path | None = None) -> Iterator[Check | tuple[str, str]]:
    """Each metric in turn: a `Check`, or its name and why it cannot be checked here.

    Raises:
        FileNotFoundError: the golden pictures are not there.
    """
    golden = Golden.read(folder)
    pairs = golden_pairs(golden)
    for metric in counted(METRICS.values(), "checking", len(METRICS), "metric"):
        if metric.name not in golden.known["expected"]:
            yield metric.name, "there are no golden values: it takes a network of the user's"
            continue
        is_random = takes_random_weights(metric)
        try:
            found = golden.score(metric, pairs[is_random])
        except ImportError as error:
            yield metric.name, str(error)
            continue
        expected = float(golden.known["expected"][metric.name])
        judge = "random weights" if is_random else metric.judge
        yield Check(metric.name, expected, found, tolerance_of(metric), judge)
