"""Rows to a ranked table: frame -> case -> clip -> person -> mean, with intervals over people.

Rows that are not comparable (another protocol, size, dataset ...: `results.COMPARABLE`) make separate
boards, and masks of another source or judges with other weights separate columns. A failed frame counts as the
card's failure value; a frame without a finite score is left out, and counted beside the mean. Two methods are
compared on the cases that both have drawn. Scores of whole sets are one number a method: without interval and rank.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.choosing import wanted_metrics
from benchmarks.intervals import Mean, mean_interval, paired_difference, ranks
from benchmarks.metrics import METRICS
from benchmarks.results import COMPARABLE, MEASURE, to_frame
from benchmarks.sets import METHOD, SET_SCHEMA
from benchmarks.tasks import KINDS
from iper_toolkit.assets import manifests_folder
from iper_toolkit.plain_text import read_cell
from iper_toolkit.progress import counted


@dataclass(frozen=True)
class Column:
    """One metric as it was scored."""

    metric: str
    version: str
    region: str
    mask_source: str  # empty if the metric uses no mask
    judge: str  # digest of the judge's weights; empty if there is none
    title: str
    better: str
    unit: str
    group: str  # key of metrics.GROUPS
    is_set: bool = False  # one number of all pictures
    cases_digest: str = ""  # of a set: which cases it is of

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        return (self.metric, self.version, self.mask_source, self.judge, self.cases_digest)

    @property
    def is_official(self) -> bool:
        """Whether it is in the official package's form, which stands apart from the standard one."""
        return self.group == "official"

    @property
    def is_random(self) -> bool:
        """Whether the judge's weights have learned nothing."""
        return self.judge.startswith("random")

    @property
    def is_synthetic(self) -> bool:
        """Whether the judge has seen drawn people only."""
        return METRICS[self.metric].is_synthetic

    @property
    def arrow(self) -> str:
        return "↑" if self.better == "higher" else "↓"

    @property
    def heading(self) -> str:
        random = " [RANDOM weights]" if self.is_random else ""
        return f"{self.title}{random} {self.arrow}"

    @property
    def digits(self) -> int:
        """Decimals that are shown: as many as the unit's usual size leaves readable."""
        if self.unit in ("dB", "mm", "degrees", "px") or self.group == "distribution":
            return 2
        return 5 if self.metric.startswith("warping_error") else 4

    def format(self, value: float | None) -> str:
        return "-" if value is None or math.isnan(value) else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class SetFacts:
    """What the number of a set rests on; `warning` is empty where nothing speaks against it."""

    n: int
    m: int
    dimensions: int
    status: str
    warning: str


@dataclass(frozen=True)
class Cell:
    """One method by one metric."""

    mean: Mean
    rank: int | None
    num_undefined: int  # frames without a finite score, left out
    of_set: SetFacts | None = None  # what a set's number rests on


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
    # Of every two methods (`only_against`: of one with every other), in the order of the entries.
    pairs: tuple[Pair, ...]
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


def only_against(boards: Sequence[Board], method: str) -> list[Board]:
    """The same boards, whose pairs are those of one method with every other: of seven methods 6 of 21 lines.

    Raises:
        ValueError: no board has this method.
    """
    methods = sorted({entry.method for board in boards for entry in board.entries})
    if method not in methods:
        raise ValueError(f"No method {method!r} in these runs. There are: {', '.join(methods)}.")
    return [
        replace(board, pairs=tuple(p for p in board.pairs if method in (p.first, p.second)))
        for board in boards
    ]


def build_boards(table: pa.Table, sets: pa.Table | None = None) -> list[Board]:
    """All boards of a table of rows: imitation, transfer, view, and each sorted by what it is about.

    Args:
        table: rows of frames.
        sets: rows of whole sets (`benchmarks.sets`); None: there are none.

    Raises:
        ValueError: the tables are empty, or name a metric that this version does not know.
    """
    rows = to_frame(table)
    of_sets = (sets if sets is not None else SET_SCHEMA.empty_table()).to_pandas()
    if rows.empty and of_sets.empty:
        raise ValueError("The table holds no scores. Cross-imitation has none by paired metrics.")
    named = {*rows["metric"].unique(), *of_sets["metric"].unique()}
    if unknown := sorted(named - set(METRICS)):
        raise ValueError(f"This version knows no metric {', '.join(unknown)}; update it.")
    labels = _labels(rows, of_sets)
    for frame in (rows, of_sets):
        frame["method"] = _labelled(frame, labels)
    facts = pd.concat([rows[list(COMPARABLE)], of_sets[list(COMPARABLE)]]).drop_duplicates()
    boards = [
        _board(
            dict(zip(COMPARABLE, values, strict=True)),
            _matching(rows, values),
            _matching(of_sets, values),
        )
        for values in counted(
            sorted(facts.itertuples(index=False, name=None), key=str),
            "comparing methods",
            len(facts),
            "table",
        )
    ]
    return sorted(boards, key=lambda board: list(KINDS).index(board.facts["kind"]))


def only_metrics(table: pa.Table, sets: pa.Table, words: str) -> tuple[pa.Table, pa.Table]:
    """The rows of some metrics alone; `words` as `choosing.wanted_metrics` takes them, with commas."""
    names = wanted_metrics(tuple(filter(None, (word.strip() for word in words.split(",")))))
    values = pa.array(names)
    kept = [one.filter(pc.is_in(one["metric"], value_set=values)) for one in (table, sets)]
    return kept[0], kept[1]


def _matching(frame: pd.DataFrame, values: Sequence[Any]) -> pd.DataFrame:
    own = pd.Series(True, index=frame.index)
    for name, value in zip(COMPARABLE, values, strict=True):
        own &= frame[name] == value
    return frame[own]


def _labels(*frames: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """What each method is called: its name, and where one name has several versions or weights, those too."""
    identities = {
        tuple(map(str, one))
        for frame in frames
        for one in frame[list(METHOD)].drop_duplicates().itertuples(index=False, name=None)
    }
    names = [name for name, _, _ in identities]
    labels = {}
    for name, version, weights in identities:
        ours = f"weights {weights[:8]}" if weights else "no weights"
        told = f"{name} (version {version}, {ours})" if names.count(name) > 1 else name
        labels[name, version, weights] = told
    return labels


def _labelled(frame: pd.DataFrame, labels: Mapping[tuple[str, str, str], str]) -> pd.Series:
    """The label of each row's method, as a category; (rows,)."""
    number = frame.groupby(list(METHOD), observed=True, sort=False).ngroup()
    firsts = frame.loc[~number.duplicated(), list(METHOD)]
    found = [labels[tuple(map(str, one))] for one in firsts.itertuples(index=False, name=None)]  # type: ignore[index]
    order = sorted(set(found))
    places = np.array([order.index(label) for label in found], np.int64)
    return pd.Series(pd.Categorical.from_codes(places[number], pd.Index(order)), index=frame.index)


def _columns(rows: pd.DataFrame, of_sets: pd.DataFrame) -> tuple[Column, ...]:
    """One of each measure that was taken, in METRICS' order."""
    measured = [(key, "", False) for key in _measures(rows, MEASURE)]
    measured += [
        (key[:-1], key[-1], True) for key in _measures(of_sets, (*MEASURE, "cases_digest"))
    ]
    order = list(METRICS)
    columns = [
        Column(
            metric=metric,
            version=version,
            region=region,
            mask_source=mask_source,
            judge=judge,
            title=METRICS[metric].title,
            better=METRICS[metric].better,
            unit=METRICS[metric].unit,
            group=METRICS[metric].group,
            is_set=is_set,
            cases_digest=cases,
        )
        for (metric, version, region, mask_source, judge), cases, is_set in measured
    ]
    return tuple(sorted(columns, key=lambda column: (order.index(column.metric), column.key)))


def _measures(frame: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    found = frame[list(names)].drop_duplicates()
    return [tuple(map(str, one)) for one in found.itertuples(index=False, name=None)]


def _of_column(frame: pd.DataFrame, column: Column) -> pd.DataFrame:
    """The rows of one measure."""
    own = (
        (frame["metric"] == column.metric)
        & (frame["metric_version"] == column.version)
        & (frame["mask_source"] == column.mask_source)
        & (frame["judge"] == column.judge)
    )
    if column.is_set:
        own &= frame["cases_digest"] == column.cases_digest
    return frame[own]


def _set_cell(of_sets: pd.DataFrame, column: Column, method: str) -> Cell:
    own = _of_column(of_sets, column)
    found = own[own["method"] == method].to_dict("records")
    if not found:
        return Cell(mean_interval(np.empty(0)), None, 0)
    row = found[0]
    value = float(row["value"]) if row["value"] is not None else math.nan
    facts = SetFacts(
        int(row["n"]), int(row["m"]), int(row["dimensions"]), row["status"], row["warning"]
    )
    return Cell(Mean(value, int(row["num_subjects"]), None, None), None, 0, facts)


def _board(facts: dict[str, Any], rows: pd.DataFrame, of_sets: pd.DataFrame) -> Board:
    columns = _columns(rows, of_sets)
    methods = sorted({*rows["method"].unique(), *of_sets["method"].unique()})
    of_frames = [column for column in columns if not column.is_set]
    by_case = {column.key: _case_means(rows, column) for column in of_frames}
    means = {key: _subject_means(found) for key, found in by_case.items()}
    cases = rows[["method", "case", "subject"]].drop_duplicates()
    num_cases = int(cases["case"].nunique())
    cases_of = cases.groupby("method", observed=True)["case"].nunique()
    lines_of = cases["method"].value_counts()
    failed = rows.loc[rows["status"] == "failed", ["method", "case"]].drop_duplicates()
    failed_of = failed["method"].value_counts()
    frames_of = rows[["method", "case", "frame"]].drop_duplicates()["method"].value_counts()
    undefined = rows[rows["status"] == "undefined"]
    undefined_of = {
        column.key: _of_column(undefined, column)["method"].value_counts() for column in of_frames
    }
    named = rows[list(METHOD)].drop_duplicates()
    places = {}
    whole = [name for name in methods if lines_of.get(name, 0) == num_cases]
    for column in of_frames:
        of_column = means[column.key]
        comparable = {name: of_column[name].to_numpy() for name in whole if name in of_column}
        places[column.key] = ranks(comparable, METRICS[column.metric].better)
    entries = []
    for name in methods:
        own = named[named["method"] == name]
        cells = []
        for column in columns:
            if column.is_set:
                cells.append(_set_cell(of_sets, column, name))
                continue
            of_column = means[column.key]
            values = of_column[name].to_numpy() if name in of_column else np.empty(0)
            cells.append(
                Cell(
                    mean_interval(values),
                    places[column.key].get(name),
                    int(undefined_of[column.key].get(name, 0)),
                )
            )
        entries.append(
            Entry(
                method=name,
                method_version=", ".join(sorted(map(str, own["method_version"].unique()))),
                weights=", ".join(sorted(map(str, own["weights"].unique()))),
                num_cases=int(cases_of.get(name, 0)),
                num_failed=int(failed_of.get(name, 0)),
                num_frames=int(frames_of.get(name, 0)),
                cells=tuple(cells),
            )
        )
    decisive = _decisive(columns, [means.get(column.key, pd.DataFrame()) for column in columns])
    ordered = tuple(_sorted(entries, decisive, columns[decisive].better, num_cases))
    couples = list(combinations([entry.method for entry in ordered], 2))
    differences = {key: _differences(found, couples) for key, found in by_case.items()}
    return Board(
        facts={name: _plain(value) for name, value in facts.items()},
        columns=columns,
        decisive=decisive,
        entries=ordered,
        pairs=tuple(
            Pair(
                first.method,
                second.method,
                tuple(
                    _set_difference(first.cells[k], second.cells[k])
                    if column.is_set
                    else differences[column.key][first.method, second.method]
                    for k, column in enumerate(columns)
                ),
            )
            for first, second in combinations(ordered, 2)
        ),
        num_subjects=int(cases["subject"].nunique()),
        num_cases=num_cases,
    )


def _case_means(rows: pd.DataFrame, column: Column) -> pd.DataFrame:
    """Mean over the frames of each case: (subject, clip, case) x methods, NaN where there is no score."""
    own = _of_column(rows, column)
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


def _differences(
    of_cases: pd.DataFrame, couples: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Mean]:
    """Of every two methods by one metric, each on the cases in which both have a score.

    Most methods have drawn the same cases, so those of many couples are averaged at once. What stands beside a
    column must have no gaps: with them pandas sums in another order, and the last digit changes.
    """
    has = {str(name): of_cases[name].notna().to_numpy() for name in of_cases}
    both = {pair: has[pair[0]] & has[pair[1]] for pair in couples if set(pair) <= set(has)}
    wanted: dict[bytes, dict[str, None]] = {}  # choice of cases -> the methods to average on it
    for pair, chosen in both.items():
        wanted.setdefault(chosen.tobytes(), {}).update(dict.fromkeys(pair))
    means = {}
    for cases, names in wanted.items():
        table = of_cases.loc[np.frombuffer(cases, np.bool_), list(names)]
        found = _subject_means(table)
        means[cases] = {name: found[name].to_numpy() for name in names}
    differences = dict.fromkeys(couples, mean_interval(np.empty(0)))
    for (first, second), chosen in both.items():
        of_methods = means[chosen.tobytes()]
        differences[first, second] = paired_difference(of_methods[first], of_methods[second])
    return differences


def _set_difference(first: Cell, second: Cell) -> Mean:
    """Of two methods by one number each: without an interval."""
    difference = first.mean.mean - second.mean.mean
    return Mean(difference, min(first.mean.n, second.mean.n), None, None)


def _decisive(columns: Sequence[Column], means: Sequence[pd.DataFrame]) -> int:
    """The person counts more than the still scene, the standard form more than the official package's.

    Of one metric on masks of several sources, the one that covers most people decides.
    """

    def place(k: int) -> tuple[bool, bool, bool, bool, int, int]:
        column = columns[k]
        order = list(METRICS).index(column.metric)
        trusted = not (column.is_set or column.is_random)
        of_person = column.region == "person"
        return (
            not trusted,
            column.is_set,
            column.is_official,
            not of_person,
            order,
            -len(means[k]),
        )

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
    path = manifests_folder() / "published.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = [field.name for field in fields(Published)]
        if reader.fieldnames != columns:
            raise ValueError(
                f"{path} has the columns {', '.join(reader.fieldnames or [])}; it takes {', '.join(columns)}."
            )
        numbers = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {reader.line_num}: it takes {len(columns)} cells.")
            numbers.append(Published(**{name: read_cell(cell) for name, cell in row.items()}))
    return [one for one in numbers if dataset is None or one.dataset == dataset]
