"""Scores of whole sets of pictures: one number of all that a method drew of a kind.

What the judges saw of each picture lies beside the rows, a file a case (``features/<method>/<case>.npz``), so sets
add up: shards, machines and merged runs give the number that one process gives, whatever the order of arrival,
because cases are taken in the order of their keys.
"""

import hashlib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.metrics import METRICS, Metric
from benchmarks.results import COMPARABLE, MEASURE, SCHEMA, as_schema, read_table
from benchmarks.scoring import feature_key
from iper_toolkit.array_files import read_npz
from iper_toolkit.atomic import write_atomically

SET_SCHEMA_VERSION = "1"
_OWN: tuple[tuple[str, pa.DataType, str], ...] = (
    ("value", pa.float64(), "the score; null if the method failed on a case, or it cannot be computed"),
    ("status", pa.string(), "ok; undefined: see warning; failed: the method gave not every picture"),
    ("n", pa.int64(), "generated pictures, or windows of video"),
    ("m", pa.int64(), "true ones; 0 if the metric looks at none"),
    ("dimensions", pa.int64(), "of the features"),
    ("warning", pa.string(), "why not to trust it; empty if nothing speaks against it"),
    ("num_cases", pa.int64(), "cases that the set is of"),
    ("num_subjects", pa.int64(), "people that the set is of"),
    ("cases_digest", pa.string(), "sha256 of their keys: sets of other cases are other sets"),
)  # fmt: skip
METHOD = ("method", "method_version", "weights")
SET_SCHEMA = pa.schema(
    [
        *(SCHEMA.field(name) for name in (*METHOD, *COMPARABLE, *MEASURE, "code_version")),
        *(
            pa.field(name, kind, nullable=name == "value", metadata={"meaning": meaning})
            for name, kind, meaning in _OWN
        ),
    ],
    metadata={"rows": "iper-toolkit set scores", "schema_version": SET_SCHEMA_VERSION},
)


@dataclass(frozen=True)
class Member:
    """One case of one method, as sets see it."""

    facts: Mapping[str, object]  # the columns of `results.CaseFacts`
    features: Path  # of the generated pictures
    truth: Path
    judges: Mapping[str, str]  # metric -> digest of its judge's weights
    looked: Mapping[str, str]  # metric -> what says where to look; as in rows
    has_failed: bool

    @property
    def key(self) -> str:
        return str(self.facts["case"])


def features_path(run: Path, name: str, case_key: str) -> Path:
    """Where what the judges saw in a method's pictures of a case lies; `name` may be "target"."""
    stem = run / "features" / name / case_key
    return stem.with_name(f"{stem.name}.npz")


def write_features(path: Path, features: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep features by name; the file is whole or not there."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(sorted(features.items())))

    write_atomically(path, write)


def score_sets(
    members: Iterable[Member], metrics: Sequence[Metric], known: pa.Table | None = None
) -> pa.Table:
    """The set scores of some cases: one a method, board and metric; sorted.

    Args:
        members: cases of methods, in any order; those of one method and board are one set.
        metrics: cards of kind "set"; others are passed over.
        known: scores that were computed before: those of the same sets are taken over.

    Raises:
        ValueError: a file of features cannot be read, or has not the judge's features.
    """
    sets: dict[tuple[object, ...], list[Member]] = {}
    for member in members:
        key = tuple(member.facts[name] for name in (*METHOD, *COMPARABLE))
        sets.setdefault(key, []).append(member)
    old = {_identity(row): row for row in (known.to_pylist() if known is not None else [])}
    rows = []
    for key in sorted(sets, key=lambda one: tuple(map(str, one))):
        of_set = sorted(sets[key], key=lambda member: member.key)
        for metric in metrics:
            if metric.kind != "set" or metric.name not in of_set[0].judges:
                continue
            row = _row(metric, of_set)
            rows.append(old.get(_identity(row)) or row | _scored(metric, of_set))
    return pa.Table.from_pylist(rows, schema=SET_SCHEMA)


def _identity(row: Mapping[str, object]) -> tuple[object, ...]:
    names = (*METHOD, *COMPARABLE, *MEASURE, "code_version", "cases_digest")
    return tuple(row[name] for name in names)


def _row(metric: Metric, members: Sequence[Member]) -> dict[str, object]:
    facts = members[0].facts
    keys = "\n".join(member.key for member in members)
    looked = sorted({member.looked[metric.name] for member in members})
    judges = sorted({member.judges[metric.name] for member in members})
    return {
        **{name: facts[name] for name in (*METHOD, *COMPARABLE, "code_version")},
        "metric": metric.name,
        "metric_version": str(metric.version),
        "region": metric.region,
        "mask_source": "+".join(looked),
        "judge": "+".join(judges),
        "num_cases": len(members),
        "num_subjects": len({member.facts["subject"] for member in members}),
        "cases_digest": hashlib.sha256(keys.encode()).hexdigest(),
    }


def _scored(metric: Metric, members: Sequence[Member]) -> dict[str, object]:
    nothing = {"value": None, "n": 0, "m": 0, "dimensions": 0}
    if any(member.has_failed for member in members):
        return {**nothing, "status": "failed", "warning": "the method failed on a case"}
    key = feature_key(metric)
    generated, truth = (
        [_read(path, key) for path in paths]
        for paths in ([m.features for m in members], [m.truth for m in members])
    )
    of_set = metric.of_set
    assert of_set is not None  # the caller took cards of sets only
    try:
        found = of_set(_present(generated), _present(truth))
    except ValueError as error:  # too few pictures: that is no fault of the method's
        return {**nothing, "status": "undefined", "warning": str(error)}
    is_number = bool(np.isfinite(found.value))
    return {
        **asdict(found),
        "value": found.value if is_number else None,
        "status": "ok" if is_number else "undefined",
    }


def _present(arrays: Sequence[NDArray[np.float32] | None]) -> list[NDArray[np.float32]]:
    return [array for array in arrays if array is not None]


def _read(path: Path, key: str) -> NDArray[np.float32] | None:
    """The features of one case; None where a case was too short to have any (windows of video)."""
    try:
        found = read_npz(path, [key]).get(key)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as features of pictures: {error} {_AGAIN}"
        ) from error
    if found is None:
        return None
    if found.ndim != 2 or found.dtype.kind != "f":
        raise ValueError(
            f"{path}: {key} is {found.dtype} {found.shape}; features are float (pictures, dimensions). {_AGAIN}"
        )
    return np.asarray(found, np.float32)


_AGAIN = "Give the same `lwgan-bench run` command again: it draws the case again."


def merge_sets(
    tables: Mapping[str, pa.Table], members: Mapping[str, Sequence[Member]]
) -> tuple[pa.Table, list[str]]:
    """The set scores of several runs as one table; what was scored in parts is scored again as a whole.

    Args:
        tables: name of a run, or of a file of merged scores -> its set scores.
        members: name of a run's folder -> the cases it holds; files of merged scores have none.

    Returns:
        The table, and what had to be left out, in sentences.
    """
    found: dict[tuple[object, ...], list[tuple[str, dict[str, object]]]] = {}
    for name, table in tables.items():
        for row in table.to_pylist():
            key = tuple(row[column] for column in (*METHOD, *COMPARABLE, *MEASURE))
            found.setdefault(key, []).append((name, row))
    rows: list[dict[str, object]] = []
    again: dict[str, list[Member]] = {}  # metric -> the cases of sets that lie in parts
    notes = []
    for key, parts in sorted(found.items(), key=lambda item: tuple(map(str, item[0]))):
        if len({row["cases_digest"] for _, row in parts}) == 1:
            rows.append(parts[0][1])
            continue
        first = parts[0][1]
        without = [name for name, _ in parts if name not in members]
        if without:
            notes.append(
                f"{first['metric']} of {first['method']} is left out: {without[0]} holds it for other cases, and only "
                "folders of runs hold what is needed to add up sets. Merge the folders."
            )
            continue
        method = key[: len(METHOD) + len(COMPARABLE)]
        whole = {
            member.key: member
            for name, _ in parts
            for member in members[name]
            if tuple(member.facts[column] for column in (*METHOD, *COMPARABLE)) == method
        }
        again.setdefault(str(first["metric"]), []).extend(whole.values())
    for name, of_metric in again.items():
        rows += score_sets(of_metric, [METRICS[name]]).to_pylist()
    return pa.Table.from_pylist(rows, schema=SET_SCHEMA), notes


def write_sets(path: Path, table: pa.Table) -> None:
    """Set scores as a file that is whole or not there."""
    write_atomically(path, lambda part: pq.write_table(table, part, compression="zstd"))


def read_sets(path: Path) -> pa.Table:
    """The set scores of a file; none if it is not there.

    Raises:
        ValueError: the file is not a table of this schema version.
    """
    if not path.is_file():
        return SET_SCHEMA.empty_table()
    table = read_table(path, "a table of set scores")
    if table.schema.names != SET_SCHEMA.names:
        raise ValueError(
            f"{path} is not a table of set scores of schema version {SET_SCHEMA_VERSION}. Run the benchmark again "
            "with this version."
        )
    return as_schema(path, table, SET_SCHEMA)


def sets_file(rows: Path) -> Path:
    """Where the set scores that belong to a table of rows lie: ``sets.parquet`` of a run, else ``NAME.sets.parquet``."""
    if rows.name == "rows.parquet":
        return rows.with_name("sets.parquet")
    return rows.with_suffix(".sets.parquet")


def check_merged_path(out: Path, runs: Sequence[Path]) -> None:
    """Raise ValueError unless merged rows can be written to `out`, and their sets beside it, without replacing a file.

    Args:
        out: the new file.
        runs: folders of runs, or tables of rows, that are merged.
    """
    for path in (out, sets_file(out)):
        if os.path.lexists(path):
            inputs = shlex.join(map(str, dict.fromkeys([out, *runs])))
            raise ValueError(
                f"{path} is there already, and OUT, the first argument, is a new file: nothing is replaced. To merge "
                f"{out} too, give: lwgan-bench merge NEW.parquet {inputs}"
            )
