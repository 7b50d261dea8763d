"""Where the marks of a chart lie: plain numbers in, coordinates of an SVG out.

Two kinds of chart: a dot with its interval for each method, and a score along the frames of a clip.
They hold coordinates and finished text only; `report.html` draws them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NUM_COLORS = 8  # classes m0 .. m7 of the page
NUM_DASHES = 4  # classes d0 .. d3
_LONGEST_LABEL = 18  # characters beside an interval; the page names the method in full elsewhere
_NOT_FINITE = "no value"
_Place = Callable[[float], float]


@dataclass(frozen=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class IntervalRow:
    """A method's line of an `IntervalChart`: the dot `x`, the whisker `low` to `high`, None where there is none."""

    label: str
    color: int
    y: float
    x: float | None
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class IntervalChart:
    """A dot and a whisker for each method on one axis."""

    title: str
    direction: str
    unit: str
    description: str
    width: int
    height: int
    left: float
    ticks: tuple[Tick, ...]
    rows: tuple[IntervalRow, ...]


@dataclass(frozen=True)
class Estimate:
    """What one method got: `low` and `high` bound the interval, None if there is none."""

    label: str
    color: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Series:
    """One method's score on each frame; `values` has NaN where there is none."""

    label: str
    color: int
    frames: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class CurveLine:
    """One drawn series: an SVG path, broken where a value is missing."""

    label: str
    color: int
    dash: int
    path: str


@dataclass(frozen=True)
class Curve:
    """Scores along the frames of one case."""

    title: str
    subtitle: str
    description: str
    width: int
    height: int
    left: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[CurveLine, ...]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that cover [low, high]; the first is at most `low`, the last at least `high`."""
    if not high > low:
        spread = abs(low) * 0.05 or 0.5
        low, high = low - spread, high + spread
    rough = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def interval_chart(
    title: str, direction: str, unit: str, digits: int, estimates: Sequence[Estimate]
) -> IntervalChart:
    """Lay out a chart; `digits` are the decimals in which the values are written."""
    width, row_height, right = 340, 26, 16.0
    longest = max((len(one.label) for one in estimates), default=0)
    left = 26.0 + 6.8 * min(longest, _LONGEST_LABEL)
    bounds = [
        value
        for one in estimates
        for value in (one.mean, one.low, one.high)
        if value is not None and math.isfinite(value)
    ]
    values = round_ticks(min(bounds), max(bounds), 4) if bounds else [0.0, 1.0]

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        share = (value - values[0]) / (values[-1] - values[0])
        return round(left + share * (width - left - right), 1)

    rows = tuple(
        IntervalRow(
            label=shortened(one.label, _LONGEST_LABEL),
            color=one.color % NUM_COLORS,
            y=16.0 + row_height * k,
            x=place(one.mean),
            low=place(one.low),
            high=place(one.high) if one.low is not None else None,
            text=_estimate_text(one, digits),
        )
        for k, one in enumerate(estimates)
    )
    spoken = "; ".join(f"{one.label} {_estimate_text(one, digits)}" for one in estimates)
    return IntervalChart(
        title=title,
        direction=direction,
        unit=unit,
        description=f"{title}, {direction}: {spoken}",
        width=width,
        height=round(row_height * len(rows) + 34),
        left=left,
        ticks=tuple(_ticks(values, left, width - right)),
        rows=rows,
    )


def curve(title: str, subtitle: str, series: Sequence[Series]) -> Curve:
    """Lay out scores along frames."""
    width, height, left, right, top, bottom = 760, 230, 48.0, 8.0, 18.0, 204.0
    finite = [value for one in series for value in one.values if math.isfinite(value)]
    frames = [frame for one in series for frame in one.frames]
    y_values = round_ticks(min(finite), max(finite), 5) if finite else [0.0, 1.0]
    first, last = (min(frames), max(frames)) if frames else (0, 1)
    span = max(1, last - first)

    def x_of(frame: float) -> float:
        return round(left + (frame - first) / span * (width - left - right), 1)

    def y_of(value: float) -> float:
        share = (value - y_values[0]) / (y_values[-1] - y_values[0])
        return round(bottom - share * (bottom - top), 1)

    decimals = _decimals(y_values)
    round_frames = sorted({round(value) for value in round_ticks(first, last, 7)})
    x_values = [value for value in round_frames if first <= value <= last]
    lines = tuple(
        CurveLine(one.label, one.color % NUM_COLORS, k % NUM_DASHES, _path(one, x_of, y_of))
        for k, one in enumerate(series)
    )
    named = ", ".join(one.label for one in series)
    return Curve(
        title=title,
        subtitle=subtitle,
        description=f"{title}: score along frames {first} to {last} for {named}",
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        x_ticks=tuple(Tick(x_of(value), str(value)) for value in x_values),
        y_ticks=tuple(Tick(y_of(value), f"{value:.{decimals}f}") for value in y_values),
        lines=lines,
    )


def shortened(text: str, length: int) -> str:
    """`text`, or its beginning and an ellipsis if it is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _path(series: Series, x_of: _Place, y_of: _Place) -> str:
    """The SVG path of a series. A lone value becomes a short dash, so that it is seen."""
    runs: list[list[str]] = [[]]
    for frame, value in zip(series.frames, series.values, strict=True):
        if math.isfinite(value):
            runs[-1].append(f"{x_of(frame)} {y_of(value)}")
        elif runs[-1]:
            runs.append([])
    return "".join(
        f"M{run[0]}" + ("L" + "L".join(run[1:]) if run[1:] else "h2") for run in runs if run
    )


def _ticks(values: Sequence[float], left: float, right: float) -> list[Tick]:
    decimals, span = _decimals(values), values[-1] - values[0]
    return [
        Tick(round(left + (value - values[0]) / span * (right - left), 1), f"{value:.{decimals}f}")
        for value in values
    ]


def _decimals(values: Sequence[float]) -> int:
    """How many decimals tell round numbers apart."""
    step = values[1] - values[0]
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _estimate_text(one: Estimate, digits: int) -> str:
    if not math.isfinite(one.mean):
        return _NOT_FINITE
    text = f"{one.mean:.{digits}f}"
    if one.low is not None and one.high is not None:
        text += f" (95% interval {one.low:.{digits}f} to {one.high:.{digits}f})"
    return text
