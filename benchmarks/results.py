"""The one row schema of the benchmark: a row is one method's score on one frame by one metric.

This is the only file that knows the columns. A table is an Arrow table with `SCHEMA`, on disk Parquet.
Rows hold only what is the same however a run was cut up, killed or shared out: no times, no machine,
no order of arrival. So the table of two shards equals the table of one process, byte for byte.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from iper_toolkit.atomic import write_atomically

SCHEMA_VERSION = "3"

_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("method", pa.string(), "name of the method"),
    ("method_version", pa.string(), "what the method says of its own version"),
    ("weights", pa.string(), "sha256 of the method's weights; empty if it has none"),
    ("task", pa.string(), "imitation, transfer or view"),
    ("kind", pa.string(), "what of the task is drawn: a key of tasks.KINDS"),
    ("case", pa.string(), "key of the case in the protocol"),
    ("clip", pa.string(), "clip of the person"),
    ("driver", pa.string(), "clip of the motion"),
    ("subject", pa.string(), "the person; intervals are over these"),
    (
        "frame",
        pa.int32(),
        "number of the driver's frame, 0-based; of kind instant the angle in degrees",
    ),
    ("metric", pa.string(), "name of the metric's card"),
    ("metric_version", pa.string(), "version of the metric's card"),
    ("region", pa.string(), "what of the picture is looked at: frame, person, face, body"),
    (
        "mask_source",
        pa.string(),
        "where the mask, or what says where to look, came from; empty if the metric uses none",
    ),
    (
        "judge",
        pa.string(),
        "sha256 of the weights of the network that judged; random-SEED if they have learned nothing; empty: none did",
    ),
    ("value", pa.float64(), "the score; null if undefined or failed"),
    (
        "status",
        pa.string(),
        "ok; undefined: no finite score exists; failed: the method gave no frame",
    ),
    ("protocol", pa.string(), "id of the protocol"),
    ("protocol_version", pa.int32(), "its version"),
    ("protocol_digest", pa.string(), "its sha256"),
    ("targets", pa.string(), "unseen: source frames are not scored; official: they are"),
    ("num_sources", pa.int32(), "source frames that the protocol allows"),
    ("max_frames", pa.int32(), "frames a case was thinned to; 0 if it was not"),
    ("size", pa.int32(), "side in pixels of the square in which pictures are compared"),
    ("resize", pa.string(), "id of the resize that made the truth"),
    ("dataset", pa.string(), "name of the dataset"),
    (
        "dataset_digest",
        pa.string(),
        "sha256 of its prepared tables; of true pictures too where these are the truth",
    ),
    ("synthetic", pa.bool_(), "whether the people are drawn, not filmed"),
    ("code_version", pa.string(), "version of this package"),
    ("decoder", pa.string(), "what decoded the videos, with its versions; empty: not known"),
)
SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=name == "value", metadata={"meaning": meaning})
        for name, kind, meaning in _COLUMNS
    ],
    metadata={"rows": "iper-toolkit benchmark rows", "schema_version": SCHEMA_VERSION},
)

# What makes two scores comparable: rows that differ in one of these never share a score table.
COMPARABLE = (
    "task",
    "kind",
    "protocol",
    "protocol_version",
    "protocol_digest",
    "targets",
    "num_sources",
    "max_frames",
    "size",
    "resize",
    "dataset",
    "dataset_digest",
    "synthetic",
)
# What names one case of one method: a block of rows that is written, moved and merged as a whole.
BLOCK = ("method", "method_version", "weights", *COMPARABLE, "case")
MEASURE = ("metric", "metric_version", "region", "mask_source", "judge")  # what was measured
_WITHIN_BLOCK = (*MEASURE, "frame")


@dataclass(frozen=True)
class CaseFacts:
    """The columns that are the same in all rows of one method on one case; meanings as in `SCHEMA`."""

    method: str
    method_version: str
    weights: str
    task: str
    kind: str
    case: str
    clip: str
    driver: str
    subject: str
    protocol: str
    protocol_version: int
    protocol_digest: str
    targets: str
    num_sources: int
    max_frames: int
    size: int
    resize: str
    dataset: str
    dataset_digest: str
    synthetic: bool
    code_version: str
    decoder: str = ""


@dataclass(frozen=True)
class Scores:
    """One metric on the frames of one case.

    `values`: (N,) float64, one a frame; NaN or infinite where the metric has no finite score. None if the
    method failed on the case. `has_score`: (N,) bool, frames that have a row; None: all (a metric of motion has
    none on frames without the frame before).
    """

    metric: str
    metric_version: str
    region: str
    mask_source: str
    values: np.ndarray | None
    judge: str = ""
    has_score: np.ndarray | None = None


def case_table(facts: CaseFacts, frames: Sequence[int], scores: Iterable[Scores]) -> pa.Table:
    """The rows of one case, sorted: one a frame and metric."""
    columns: dict[str, list[object]] = {name: [] for name in (*_WITHIN_BLOCK, "value", "status")}
    for one in sorted(
        scores, key=lambda s: (s.metric, s.metric_version, s.region, s.mask_source, s.judge)
    ):
        if one.values is not None and one.values.shape != (len(frames),):
            raise ValueError(
                f"{one.metric}: {one.values.shape} values for {len(frames)} frames of {facts.case}."
            )
        for k, frame in enumerate(frames):
            if one.has_score is not None and not one.has_score[k]:
                continue
            value = None if one.values is None else float(one.values[k])
            finite = value is not None and math.isfinite(value)
            columns["metric"].append(one.metric)
            columns["metric_version"].append(one.metric_version)
            columns["region"].append(one.region)
            columns["mask_source"].append(one.mask_source)
            columns["judge"].append(one.judge)
            columns["frame"].append(frame)
            columns["value"].append(value if finite else None)
            columns["status"].append(
                "failed" if value is None else ("ok" if finite else "undefined")
            )
    length = len(columns["frame"])
    constant = {name: [value] * length for name, value in asdict(facts).items()}
    return pa.table(columns | constant, schema=SCHEMA) if length else SCHEMA.empty_table()


def write_rows(path: Path, blocks: Iterable[pa.Table]) -> None:
    """Write tables one after the other, each a row group, as one file that is whole or not there."""

    def write(part: Path) -> None:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            for block in blocks:
                writer.write_table(block.cast(SCHEMA), row_group_size=max(1, len(block)))

    write_atomically(path, write)


def read_rows(path: Path) -> pa.Table:
    """The table of a Parquet file.

    Raises:
        ValueError: the file is not a table of this schema version.
    """
    table = read_table(path, "a table of scores")
    metadata = table.schema.metadata or {}
    version = metadata.get(b"schema_version", b"").decode("utf-8", "replace")
    if version != SCHEMA_VERSION or table.schema.names != SCHEMA.names:
        raise ValueError(
            f"{path} is not a table of scores of schema version {SCHEMA_VERSION} "
            f"(it says {version!r} and has the columns {', '.join(table.schema.names[:6])}, ...). "
            "Run the benchmark again with this version."
        )
    return as_schema(path, table, SCHEMA)


def read_table(path: Path, what: str) -> pa.Table:
    """A Parquet file; ValueError that names it and `what` it should be where it cannot be read."""
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as {what}: {said}.") from error


def as_schema(path: Path, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's types and meanings.

    Raises:
        ValueError: a column is of another type, or has gaps where it must not; the message names file and column.
    """
    for field in schema:
        if table.schema.field(field.name).type != field.type:
            raise ValueError(
                f"{path}: column {field.name} is of type {table.schema.field(field.name).type}; it takes {field.type}."
            )
        if not field.nullable and table[field.name].null_count:
            raise ValueError(
                f"{path}: column {field.name} is empty in {table[field.name].null_count} rows; it must not be."
            )
    return pa.Table.from_arrays(table.columns, schema=schema)


def rows_file(run_or_file: Path) -> Path:
    """The table of a run's folder, or the file itself."""
    if run_or_file.is_dir():
        path = run_or_file / "rows.parquet"
        if not path.is_file():
            raise FileNotFoundError(
                f"{run_or_file} holds no rows.parquet: the run is not finished. "
                "Give the same `lwgan-bench run` command again; it goes on where it stopped."
            )
        return path
    if not run_or_file.is_file():
        raise FileNotFoundError(f"{run_or_file} is neither a run's folder nor a table of scores.")
    return run_or_file


def merge_tables(tables: Mapping[str, pa.Table]) -> list[pa.Table]:
    """The blocks of several tables, sorted, each once; scores of one case by other metrics are joined. `tables`: name for the error -> table.

    Raises:
        ValueError: two tables hold different rows for the same case of the same method.
    """
    blocks: dict[tuple[object, ...], tuple[str, pa.Table]] = {}
    for name, table in tables.items():
        for block in _blocks_of(table):
            key = tuple(block.column(column)[0].as_py() for column in BLOCK)
            known = blocks.get(key)
            joined = block if known is None else _joined(known[1], block)
            if known is not None and joined is None:
                raise ValueError(
                    f"{known[0]} and {name} hold different scores of {key[0]} on {key[-1]} under the "
                    "same protocol and settings. Leave one out, or rename the method of one (NAME=SPEC)."
                )
            blocks[key] = (name if known is None else known[0], joined)
    return [blocks[key][1] for key in sorted(blocks, key=lambda key: tuple(map(str, key)))]


def _blocks_of(table: pa.Table) -> list[pa.Table]:
    """The blocks of a table, each sorted within; in order of their first rows."""
    if not len(table):
        return []
    # A file has a chunk a case. Taking rows out of many chunks costs as much as all of them, for each block.
    table = table.combine_chunks()
    block = _codes(table, BLOCK)
    within = [_ranks_of_values(table[name]) for name in _WITHIN_BLOCK]
    table = table.take(pa.array(np.lexsort((*reversed(within), block))))
    ends = np.cumsum(np.bincount(block))
    return [table.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]


def _codes(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """(rows,) one number for each combination of values in some columns, 0, 1 ... in order of appearance."""
    codes = np.zeros(len(table), np.int64)
    for name in names:
        column = _ranks_of_values(table[name])
        codes = pd.factorize(codes * (int(column.max()) + 1) + column)[0].astype(np.int64)
    return codes


def _ranks_of_values(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(rows,) the place of each value among those of the column, the least first."""
    encoded = column.combine_chunks().dictionary_encode()
    places = np.empty(len(encoded.dictionary), np.int64)
    places[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(places))
    return places[encoded.indices.to_numpy()]


def _joined(one: pa.Table, other: pa.Table) -> pa.Table | None:
    """The rows of two blocks by all metrics of both; None if they differ by a metric that both have."""
    metrics = one["metric"].unique()
    is_shared = pc.is_in(other["metric"], value_set=metrics)
    shared, new = other.filter(is_shared), other.filter(pc.invert(is_shared))
    if not one.filter(pc.is_in(one["metric"], value_set=shared["metric"].unique())).equals(shared):
        return None
    return pa.concat_tables([one, new]).sort_by([(key, "ascending") for key in _WITHIN_BLOCK])


def concatenated(blocks: Sequence[pa.Table]) -> pa.Table:
    """Blocks as one table; an empty one without any."""
    return pa.concat_tables(blocks).combine_chunks() if blocks else SCHEMA.empty_table()


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a data frame; text columns are categories, so that millions of rows stay small."""
    kinds = {field.name: "category" for field in SCHEMA if pa.types.is_string(field.type)}
    return table.to_pandas().astype(kinds)
