"""Which metrics are scored: words on a command line to names, and what cannot be scored here, with the remedy."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.judging import Judges
from benchmarks.metrics import GROUPS, METRICS, Metric
from benchmarks.networks import looks_at
from iper_toolkit.assets import MissingAsset, find_asset

# Words for several metrics, beside the groups.
DEFAULT, ALL = "default", "all"


@dataclass(frozen=True)
class ChosenMetrics:
    """Names of what is scored, in METRICS' order, and why others that were asked for are not."""

    names: tuple[str, ...]
    missing: dict[str, str]


def choose_metrics(
    words: Sequence[str],
    judges: Judges,
    *,
    size: int,
    estimates: Collection[str] = (),
    detectors: Mapping[str, str] | None = None,
) -> ChosenMetrics:
    """The metrics that some words stand for, as far as they can be scored.

    Args:
        words: names of metrics, keys of GROUPS, "default" or "all"; none: "default".
        judges: the networks that are there.
        size: side of the pictures, pixels.
        estimates: "keypoints" and "estimated_fit", as far as poses were estimated in the generated pictures.
        detectors: what is cut out, "person" or "face" -> the asset of the detector that finds it; none: no detector does.

    Raises:
        ValueError: an unknown word; a metric that was named, not only a group of it, cannot be scored.
    """
    wanted = [METRICS[name] for name in wanted_metrics(words)]
    missing = {
        metric.name: reason
        for metric in wanted
        if (
            reason := why_not(
                metric, judges, size=size, estimates=estimates, detectors=detectors or {}
            )
        )
    }
    if named := [name for name in words if name in missing]:
        raise ValueError(
            "; ".join(f"{name} cannot be scored: {missing[name]}" for name in dict.fromkeys(named))
        )
    names = tuple(metric.name for metric in wanted if metric.name not in missing)
    if not names:
        raise ValueError(
            "Not one of these metrics can be scored here: "
            + "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        )
    return ChosenMetrics(names, missing)


def wanted_metrics(words: Sequence[str]) -> tuple[str, ...]:
    """The names that some words stand for, in METRICS' order.

    Raises:
        ValueError: an unknown word.
    """
    words = words or (DEFAULT,)
    known = (*METRICS, *GROUPS, DEFAULT, ALL)
    if unknown := [word for word in words if word not in known]:
        raise ValueError(
            f"Unknown metrics {', '.join(unknown)}. Choose of: {', '.join(METRICS)}; or of the words {DEFAULT}, "
            f"{ALL}, {', '.join(GROUPS)}."
        )
    return tuple(name for name, metric in METRICS.items() if _is_wanted(metric, words))


def _is_wanted(metric: Metric, words: Sequence[str]) -> bool:
    if ALL in words or metric.name in words:
        return True
    if metric.group in words:
        return metric.is_default
    return DEFAULT in words and metric.is_default


def why_not(
    metric: Metric,
    judges: Judges,
    *,
    size: int,
    estimates: Collection[str] = (),
    detectors: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Why a metric cannot be scored here, with the remedy; empty if it can."""
    if size < metric.smallest_side:
        return f"it takes pictures of at least {metric.smallest_side} pixels a side: --size {metric.smallest_side}"
    for need, what in (
        ("keypoints", "keypoints, as CASE/keypoints.json or CASE/keypoints/ in OpenPose's format"),
        ("estimated_fit", "fits, as CASE/pose_shape.pkl in iPER's format"),
    ):
        if need in metric.needs and need not in estimates:
            return f"nobody estimated poses in the pictures: run an estimator, and put its {what} beside them"
    if not metric.judge:
        return ""
    part = looks_at(metric.judge)
    if part in detectors and (reason := _missing(detectors[part])):
        return reason
    return judges.missing(metric.judge)


def _missing(asset: str) -> str:
    try:
        find_asset(asset).require()
    except MissingAsset as error:
        return str(error)
    return ""
