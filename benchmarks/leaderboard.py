"""Rows to a ranked table: frame -> case -> clip -> person -> mean, with intervals over people.

Rows that are not comparable (another protocol, size, dataset ...: `results.COMPARABLE`) make separate
boards, and masks of another source separate columns. A failed frame counts as the card's failure
value; a frame without a finite score is left out, and counted beside the mean. Two methods are compared
on the cases that both have drawn.
"""

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.intervals import FEWEST_SUBJECTS, Mean, mean_interval, paired_difference, ranks
from benchmarks.metrics import METRICS
from benchmarks.results import COMPARABLE, to_frame
from benchmarks.tasks import KINDS
from benchmarks.words import count
from iper_toolkit.assets import manifests_folder


@dataclass(frozen=True)
class Column:
    """One metric as it was scored."""

    metric: str
    version: str
    region: str
    mask_source: str  # empty if the metric uses no mask
    title: str
    better: str
    unit: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.metric, self.version, self.mask_source)

    @property
    def is_official(self) -> bool:
        """Whether it is in the official package's form, which stands apart from the standard one."""
        return self.metric.endswith("_official")

    @property
    def heading(self) -> str:
        masks = f" [masks: {self.mask_source}]" if self.mask_source else ""
        return f"{self.title}{masks} {'↑' if self.better == 'higher' else '↓'}"

    def format(self, value: float | None) -> str:
        if value is None or math.isnan(value):
            return "-"
        return f"{value:.2f}" if self.unit == "dB" else f"{value:.4f}"


@dataclass(frozen=True)
class Cell:
    """One method by one metric."""

    mean: Mean
    rank: int | None
    num_undefined: int  # frames without a finite score, left out


@dataclass(frozen=True)
class Entry:
    """One method's line."""

    method: str
    method_version: str
    weights: str
    num_cases: int
    num_failed: int
    num_frames: int
    cells: tuple[Cell, ...]  # one a column of the board


@dataclass(frozen=True)
class Pair:
    """The mean of `first - second` over the cases that both have drawn, paired by person."""

    first: str
    second: str
    differences: tuple[Mean, ...]  # one a column of the board


@dataclass(frozen=True)
class Board:
    """One table of comparable scores."""

    facts: dict[str, Any]  # the columns of COMPARABLE
    columns: tuple[Column, ...]
    decisive: int  # the column that the board is sorted and summed up by
    entries: tuple[
        Entry, ...
    ]  # best first by the decisive column; those not through with every case last
    pairs: tuple[Pair, ...]  # of every two methods, in the order of the entries
    num_subjects: int
    num_cases: int

    @property
    def title(self) -> str:
        facts = self.facts
        people = " (synthetic people)" if facts["synthetic"] else ""
        frames = f"{facts['max_frames']} frames a case" if facts["max_frames"] else "all frames"
        sources = "1 source" if facts["num_sources"] == 1 else f"{facts['num_sources']} sources"
        return (
            f"{facts['task']}, {facts['kind']}, on {facts['dataset']}{people}: protocol {facts['protocol']} "
            f"v{facts['protocol_version']} {facts['protocol_digest'][:8]}, {facts['size']} px, {sources}, "
            f"{facts['targets']} targets, {frames}"
        )


@dataclass(frozen=True)
class Published:
    """A number that somebody else printed; never computed here, never ranked."""

    dataset: str
    method: str
    metric: str
    value: str
    comparable: str  # why it is not comparable with ours, in words
    seen: str


def build_boards(table: pa.Table) -> list[Board]:
    """All boards of a table of rows: imitation, transfer, view, and each sorted by what it is about.

    Raises:
        ValueError: the table is empty, or names a metric that this version does not know.
    """
    rows = to_frame(table)
    if rows.empty:
        raise ValueError("The table holds no scores. Cross-imitation has none by paired metrics.")
    unknown = sorted(set(rows["metric"].unique()) - set(METRICS))
    if unknown:
        raise ValueError(f"This version knows no metric {', '.join(unknown)}; update it.")
    rows["method"] = _labels(rows)
    boards = [
        _board(dict(zip(COMPARABLE, facts, strict=True)), part)
        for facts, part in rows.groupby(list(COMPARABLE), observed=True, sort=True)
    ]
    return sorted(boards, key=lambda board: list(KINDS).index(board.facts["kind"]))


def _labels(rows: pd.DataFrame) -> pd.Series:
    """What each row's method is called: its name, and where one name has several versions or weights, those too."""
    told = ["method", "method_version", "weights"]
    identities = list(rows[told].drop_duplicates().astype(str).itertuples(index=False, name=None))
    names = [name for name, _, _ in identities]
    labels = rows["method"].astype(str)
    for name, version, weights in identities:
        if names.count(name) > 1:
            own = (rows[told] == [name, version, weights]).all(axis=1)
            ours = f"weights {weights[:8]}" if weights else "no weights"
            labels[own] = f"{name} (version {version}, {ours})"
    return labels.astype("category")


def _board(facts: dict[str, Any], rows: pd.DataFrame) -> Board:
    order = list(METRICS)
    keys = rows[["metric", "metric_version", "region", "mask_source"]].drop_duplicates()
    columns = tuple(
        sorted(
            (
                Column(
                    metric=str(key.metric),
                    version=str(key.metric_version),
                    region=str(key.region),
                    mask_source=str(key.mask_source),
                    title=METRICS[str(key.metric)].title,
                    better=METRICS[str(key.metric)].better,
                    unit=METRICS[str(key.metric)].unit,
                )
                for key in keys.itertuples(index=False)
            ),
            key=lambda column: (order.index(column.metric), column.version, column.mask_source),
        )
    )
    methods = sorted(str(name) for name in rows["method"].unique())
    by_case = {column.key: _case_means(rows, column) for column in columns}
    means = {key: _subject_means(found) for key, found in by_case.items()}
    cases = rows[["method", "case", "subject"]].drop_duplicates()
    num_cases = int(cases["case"].nunique())
    places = {}
    whole = [name for name in methods if int((cases["method"] == name).sum()) == num_cases]
    for column in columns:
        of_column = means[column.key]
        comparable = {name: of_column[name].to_numpy() for name in whole if name in of_column}
        places[column.key] = ranks(comparable, METRICS[column.metric].better)
    entries = []
    for name in methods:
        own = rows[rows["method"] == name]
        cells = []
        for column in columns:
            of_column = means[column.key]
            values = of_column[name].to_numpy() if name in of_column else np.empty(0)
            undefined = own[
                (own["metric"] == column.metric)
                & (own["metric_version"] == column.version)
                & (own["mask_source"] == column.mask_source)
                & (own["status"] == "undefined")
            ]
            cells.append(
                Cell(
                    mean_interval(values),
                    places[column.key].get(name),
                    len(undefined),
                )
            )
        failed = own.loc[own["status"] == "failed", "case"]
        entries.append(
            Entry(
                method=name,
                method_version=", ".join(sorted(map(str, own["method_version"].unique()))),
                weights=", ".join(sorted(map(str, own["weights"].unique()))),
                num_cases=int(own["case"].nunique()),
                num_failed=int(failed.nunique()),
                num_frames=int(own[["case", "frame"]].drop_duplicates().shape[0]),
                cells=tuple(cells),
            )
        )
    decisive = _decisive(columns, [means[column.key] for column in columns])
    ordered = tuple(_sorted(entries, decisive, columns[decisive].better, num_cases))
    return Board(
        facts={name: _plain(value) for name, value in facts.items()},
        columns=columns,
        decisive=decisive,
        entries=ordered,
        pairs=tuple(
            Pair(
                first.method,
                second.method,
                tuple(_difference(by_case[c.key], first.method, second.method) for c in columns),
            )
            for first, second in combinations(ordered, 2)
        ),
        num_subjects=int(cases["subject"].nunique()),
        num_cases=num_cases,
    )


def _case_means(rows: pd.DataFrame, column: Column) -> pd.DataFrame:
    """Mean over the frames of each case: (subject, clip, case) x methods, NaN where there is no score."""
    own = rows[
        (rows["metric"] == column.metric)
        & (rows["metric_version"] == column.version)
        & (rows["mask_source"] == column.mask_source)
    ]
    failure = METRICS[column.metric].failure_value
    scores = own[["method", "subject", "clip", "case"]].copy()
    scores["value"] = own["value"].where(own["status"] != "failed", failure)
    keys = ["method", "subject", "clip", "case"]
    means = scores.groupby(keys, observed=True)["value"].mean().reset_index()
    return means.pivot(index=["subject", "clip", "case"], columns="method", values="value")


def _subject_means(of_cases: pd.DataFrame) -> pd.DataFrame:
    """Subjects x methods: cases are averaged to clips, clips to people."""
    of_clips = of_cases.groupby(level=["subject", "clip"], observed=True).mean()
    return of_clips.groupby(level="subject", observed=True).mean()


def _difference(of_cases: pd.DataFrame, first: str, second: str) -> Mean:
    """Of two methods by one metric, on the cases in which both have a score."""
    if not {first, second} <= set(of_cases):
        return mean_interval(np.empty(0))
    means = _subject_means(of_cases[[first, second]].dropna())
    return paired_difference(means[first].to_numpy(), means[second].to_numpy())


def _decisive(columns: Sequence[Column], means: Sequence[pd.DataFrame]) -> int:
    """The person counts more than the still scene, the standard form more than the official package's.

    Of one metric on masks of several sources, the one that covers most people decides.
    """

    def place(k: int) -> tuple[bool, bool, int, int]:
        column = columns[k]
        order = list(METRICS).index(column.metric)
        return (column.is_official, column.region != "person", order, -len(means[k]))

    return min(range(len(columns)), key=place)


def _sorted(entries: Sequence[Entry], decisive: int, better: str, num_cases: int) -> list[Entry]:
    sign = -1 if better == "higher" else 1

    def place(entry: Entry) -> tuple[bool, bool, float, str]:
        mean = entry.cells[decisive].mean.mean
        return (entry.num_cases < num_cases, math.isnan(mean), sign * mean, entry.method)

    return sorted(entries, key=place)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def read_published(dataset: str | None = None) -> list[Published]:
    """Numbers of others, from manifests/published.csv; those of one dataset, or all."""
    with (manifests_folder() / "published.csv").open(encoding="utf-8", newline="") as file:
        numbers = [Published(**row) for row in csv.DictReader(file)]
    return [one for one in numbers if dataset is None or one.dataset == dataset]


# ------------------------------------------------------------------------------------------- output


def as_text(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards for a terminal."""
    return "\n".join(
        line for board in boards for line in _lines(board, _aligned)
    ) + _published_text(published, _aligned)


def as_markdown(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards as GitHub tables."""
    return "\n".join(line for board in boards for line in _lines(board, _piped)) + _published_text(
        published, _piped
    )


def as_json(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards with full precision; NaN becomes null."""
    content = {
        "boards": [asdict(board) | {"title": board.title} for board in boards],
        "published": [asdict(one) for one in published],
    }
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


Layout = Callable[[list[list[str]]], list[str]]


def _lines(board: Board, layout: Layout) -> list[str]:
    lines = [
        board.title,
        f"{count(board.num_subjects, 'person', 'people')}, {count(board.num_cases, 'case')}",
        "",
    ]
    head = ["method", *(column.heading for column in board.columns), "failed", "frames"]
    body = [
        [
            entry.method,
            *(_cell_text(c, k) for c, k in zip(entry.cells, board.columns, strict=True)),
            f"{entry.num_failed} of {entry.num_cases}",
            str(entry.num_frames),
        ]
        for entry in board.entries
    ]
    lines += layout([head, *body])
    if board.pairs:
        lines += ["", "Differences, paired by person:", ""]
        differences = [
            [
                f"{pair.first} - {pair.second}",
                *(map(_difference_text, pair.differences, board.columns)),
            ]
            for pair in board.pairs
        ]
        lines += layout([["methods", *(column.heading for column in board.columns)], *differences])
    lines += ["", *_remarks(board), ""]
    return lines


def _cell_text(cell: Cell, column: Column) -> str:
    half = cell.mean.half_width
    text = column.format(cell.mean.mean)
    if half is not None:
        text += f" ± {column.format(half)}"
    if cell.rank is not None:
        text += f" ({cell.rank})"
    if cell.num_undefined:
        text += f" [{cell.num_undefined} undefined]"
    return text


def _difference_text(difference: Mean, column: Column) -> str:
    if math.isnan(difference.mean):
        return "-"
    sign = "+" if difference.mean >= 0 else "-"
    text = f"{sign}{column.format(abs(difference.mean))}"
    half = difference.half_width
    return text if half is None else f"{text} ± {column.format(half)}"


def _remarks(board: Board) -> list[str]:
    remarks = []
    if board.num_subjects < FEWEST_SUBJECTS:
        remarks.append(
            f"Fewer than {FEWEST_SUBJECTS} people: no interval and no rank; these numbers say little about others."
        )
    else:
        remarks.append(
            "± is half of a 95 % Student-t interval over people; (1) is the rank, shared where the paired "
            "difference does not exclude zero."
        )
    incomplete = [e.method for e in board.entries if e.num_cases < board.num_cases]
    if incomplete:
        remarks.append(
            f"Not through with every case, so last and not ranked: {', '.join(incomplete)}. Differences are over "
            "the cases that both methods have."
        )
    if any(entry.num_failed for entry in board.entries):
        remarks.append("A failed case counts with the worst score on every frame.")
    if any(cell.num_undefined for entry in board.entries for cell in entry.cells):
        remarks.append("Frames without a finite score are left out of the mean.")
    if caveat := KINDS[board.facts["kind"]].caveat:
        remarks.append(caveat)
    if board.facts["synthetic"]:
        remarks.append("The people are synthetic: scores say nothing about photographs.")
    return remarks


def _published_text(published: Sequence[Published], layout: Layout) -> str:
    if not published:
        return ""
    rows = [["published by others", "dataset", "metric", "value", "comparable?", "seen in"]]
    rows += [[p.method, p.dataset, p.metric, p.value, p.comparable, p.seen] for p in published]
    lines = ["Published numbers, copied and not verified; never ranked with the above:", ""]
    return "\n".join(["", *lines, *layout(rows), ""])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _piped(rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def write_text(path: Path, text: str) -> None:
    """A board into a file, whole or not at all."""
    from iper_toolkit.atomic import write_atomically

    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
