"""A board of the leaderboard as the tables, charts and sentences of the report.

The numbers are the leaderboard's; this file rounds them, marks the best and says in words what the
intervals show.
"""

import math
from collections.abc import Sequence

from benchmarks.charts import Estimate, interval_chart
from benchmarks.intervals import FEWEST_SUBJECTS, Mean
from benchmarks.leaderboard import Board, Column, Entry, Pair
from benchmarks.leaderboard import Cell as LeaderboardCell
from benchmarks.leaderboard_text import grouped
from benchmarks.page import Cell, Comparison, Group, MethodRow, MetricHead
from benchmarks.words import MINUS, NONE, count, listed, number

# Lines of a group that a reader will look through; beyond, those of one metric stand open.
_MOST_COMPARISONS = 24


def score_groups(board: Board, colors: dict[str, int]) -> tuple[Group, ...]:
    """A table for each group of metrics; those in the official package's form come last and apart."""
    return tuple(
        _group(title, board, picked, colors, separate=board.columns[picked[0]].is_official)
        for title, picked in grouped(board.columns)
    )


def outcome(board: Board) -> str:
    """The main finding in a few sentences."""
    k, leader = board.decisive, board.entries[0]
    decisive = board.columns[k]
    if len(board.entries) == 1:
        return f"{decisive.title} of {leader.method}: {_mean_text(decisive, leader, k)}."
    found = (
        f"{leader.method} has the best mean {decisive.title}: {_mean_text(decisive, leader, k)}."
    )
    told = [
        _verdict(pair, pair.differences[k], decisive)
        for pair in board.pairs
        if pair.first == leader.method
    ]
    if told:
        found += f" Paired by person: {'; '.join(told)}."
    return found


def _mean_text(column: Column, entry: Entry, k: int) -> str:
    mean = entry.cells[k].mean
    text = column.format(mean.mean)
    return text if mean.low is None else f"{text}, 95% interval {_interval(column, mean)}"


def _group(
    title: str,
    board: Board,
    picked: Sequence[int],
    colors: dict[str, int],
    *,
    separate: bool,
) -> Group:
    columns = [board.columns[k] for k in picked]
    several = {c.metric for c in columns if sum(o.metric == c.metric for o in board.columns) > 1}
    heads = tuple(_head(column, column.metric in several) for column in columns)
    rows = tuple(
        MethodRow(entry.method, colors[entry.method], tuple(_cell(board, entry, k) for k in picked))
        for entry in board.entries
    )
    charts = [
        interval_chart(
            head.title,
            head.direction,
            head.unit,
            _digits(column),
            [
                Estimate(entry.method, colors[entry.method], mean.mean, mean.low, mean.high)
                for entry in board.entries
                for mean in [entry.cells[k].mean]
                if not math.isnan(mean.mean)
            ],
        )
        for k, column, head in zip(picked, columns, heads, strict=True)
        if not column.is_set and any(not math.isnan(e.cells[k].mean.mean) for e in board.entries)
    ]
    comparisons = [
        _comparison(pair, pair.differences[k], board.columns[k], head)
        for k, head in zip(picked, heads, strict=True)
        for pair in board.pairs
    ]
    num_shown = len(board.pairs) if len(comparisons) > _MOST_COMPARISONS else len(comparisons)
    shown, more = comparisons[:num_shown], comparisons[num_shown:]
    enough = board.num_subjects >= FEWEST_SUBJECTS
    caption = (
        "Metrics of the person look at their mask, the others at the whole frame. Mean over people"
        + (", with its 95% interval below. " if enough else ". ")
    )
    if enough:
        caption += "Shaded: the best mean; whether others can be told apart from it is said below."
    if any(column.is_set for column in columns):
        caption += (
            " A number of a whole set has neither interval nor rank; below it stand how many generated and true pictures "
            "it is of and the dimensions of their features. Compare such numbers at equal counts only."
        )
    if any(column.is_synthetic for column in columns):
        caption += " The judges called mini are our own, synthetic-trained: not comparable with published numbers."
    if any(column.is_random for column in columns):
        caption += " RANDOM weights: that judge has learned nothing."
    if separate:
        caption = (
            "The forms in which the official evaluation package computes its scores: SSIM and PSNR on pictures mapped to "
            f"[-1, 1], people by boxes that are off, and sets by ImageNet features. They are other numbers than those "
            f"above; never compare across. {caption}"
        )
    return Group(
        title=title,
        caption=caption,
        detail_caption="Ranks, and what the means rest on. Methods that the data do not tell apart share a rank.",
        comparison_caption="Differences of every two methods, paired by person"
        + (f", by {heads[0].title}." if more else "."),
        more_caption=(
            f"The same by {listed([head.title for head in heads[1:]])}: {count(len(more), 'difference')}"
            if more
            else ""
        ),
        separate=separate,
        metrics=heads,
        rows=rows,
        charts=() if separate else tuple(charts),
        comparisons=tuple(shown),
        more_comparisons=tuple(more),
    )


def _head(column: Column, name_masks: bool) -> MetricHead:
    masks = f", masks: {column.mask_source}" if name_masks else ""
    # A wordy unit stands with the definitions.
    unit = column.unit if column.unit in ("dB", "mm", "px", "degrees") else ""
    random = " (RANDOM weights)" if column.is_random else ""
    return MetricHead(
        column.metric, f"{column.title}{masks}{random}", f"{column.better} is better", unit
    )


def _cell(board: Board, entry: Entry, k: int) -> Cell:
    cell, column = entry.cells[k], board.columns[k]
    if cell.of_set is not None:
        return _set_cell(cell, column, entry)
    ranked = [one.cells[k].mean.mean for one in board.entries if one.cells[k].rank is not None]
    best = max if column.better == "higher" else min
    return Cell(
        mean=_text(column, cell.mean.mean),
        interval=_interval(column, cell.mean),
        has_interval=cell.mean.low is not None,
        rank=NONE if cell.rank is None else str(cell.rank),
        people=number(cell.mean.n),
        frames=number(entry.num_frames),
        undefined=number(cell.num_undefined),
        failed=f"{entry.num_failed} of {entry.num_cases}" if entry.num_failed else "0",
        best=cell.rank is not None and cell.mean.mean == best(ranked),
    )


def _set_cell(cell: LeaderboardCell, column: Column, entry: Entry) -> Cell:
    facts = cell.of_set
    assert facts is not None  # the caller asked
    pictures = (
        number(facts.n) if facts.m in (0, facts.n) else f"{number(facts.n)} / {number(facts.m)}"
    )
    told = f"n {pictures}, d {number(facts.dimensions)}{', few' if facts.warning else ''}"
    return Cell(
        mean=_text(column, cell.mean.mean),
        interval=told if facts.status == "ok" else facts.status,
        has_interval=True,
        rank=NONE,
        people=number(cell.mean.n),
        frames=number(facts.n),
        undefined=NONE if facts.status == "ok" else facts.warning,
        failed=f"{entry.num_failed} of {entry.num_cases}" if entry.num_failed else "0",
        best=False,
    )


def _comparison(pair: Pair, difference: Mean, column: Column, head: MetricHead) -> Comparison:
    return Comparison(
        metric=head.title,
        first=pair.first,
        second=pair.second,
        difference=_signed(column, difference.mean),
        interval=_interval(column, difference, signed=True),
        people=number(difference.n),
        verdict=_verdict(pair, difference, column),
    )


def _verdict(pair: Pair, difference: Mean, column: Column) -> str:
    """What a paired difference says, in words."""
    first, second = pair.first, pair.second
    if math.isnan(difference.mean):
        return f"{first} and {second} have no case in common"
    if column.is_set:
        return "one number of all pictures: no interval"
    if difference.low is None or difference.high is None:
        return f"too few people to tell {first} and {second} apart"
    if difference.low <= 0 <= difference.high:
        return f"{first} and {second} are not told apart"
    rises = difference.low > 0
    ends = sorted((abs(difference.low), abs(difference.high)))
    word = "better" if rises == (column.better == "higher") else "worse"
    unit = " dB" if column.unit == "dB" else ""
    return (
        f"{first} is {word} than {second} by {column.format(ends[0])} to "
        f"{column.format(ends[1])}{unit}"
    )


def _text(column: Column, value: float) -> str:
    return NONE if math.isnan(value) else column.format(value)


def _signed(column: Column, value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    return f"{'+' if value >= 0 else MINUS}{column.format(abs(value))}"


def _interval(column: Column, mean: Mean, *, signed: bool = False) -> str:
    if mean.low is None or mean.high is None:
        return NONE
    if signed:
        return f"[{_signed(column, mean.low)}, {_signed(column, mean.high)}]"
    return f"[{_text(column, mean.low)}, {_text(column, mean.high)}]"


def _digits(column: Column) -> int:
    return column.digits
