"""The tables of a prepared dataset: ``<root>/manifests/clips.parquet``, ``frames.parquet``, ``dataset.json``.

They hold what follows from the data alone - no dates, no timings, no absolute paths - so that any
number of processes, killed and restarted at will, write equal tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iper_toolkit.atomic import write_atomically

SCHEMA_VERSION = 1
ROW_GROUP_SIZE = 2048
NUM_KEYPOINTS = 25

FOLDER = "manifests"
CLIPS_FILE = "clips.parquet"
FRAMES_FILE = "frames.parquet"
DATASET_FILE = "dataset.json"


class NotPrepared(FileNotFoundError):
    """The root has no tables yet; the message says how to make them."""


class BadManifest(ValueError):
    """The tables are not what this version writes; the message says what differs."""


def _floats(length: int) -> pa.DataType:
    return pa.list_(pa.float32(), length)


_CROP = pa.struct([("cx", pa.float64()), ("cy", pa.float64()), ("side", pa.float64())])

_CLIP_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("clip_id", pa.string(), "subject/outfit/action for iPER, else the video's name"),
    ("subject", pa.string(), "the person; intervals are over these"),
    ("outfit", pa.string(), "what the person wears, within the subject"),
    ("action", pa.string(), "iPER: 1 turning in A-pose, 2 random motion"),
    ("split", pa.string(), "train, val or empty"),
    ("source", pa.string(), "video or folder of frames, relative to the root"),
    ("kind", pa.string(), "video or frames"),
    ("num_frames", pa.int32(), "frames that were decoded"),
    ("fps", pa.float64(), "frames a second (frame folders: 30)"),
    ("width", pa.int32(), "of the source, pixels"),
    ("height", pa.int32(), "of the source, pixels"),
    (
        "source_sha256",
        pa.string(),
        "of the video; of frames: of the list of their names and sha256",
    ),
    ("crop", _CROP, "the clip's square, source pixels: centre x, centre y, side"),
    ("body_id", pa.string(), "mesh and shape space the fits belong to"),
    ("fit_source", pa.string(), "official, keypoints, regressor or synthetic"),
    ("fit_error_pixels", pa.float32(), "median over frames, source pixels; null for given fits"),
    ("mask_source", pa.string(), "set (ships with the dataset), file (beside the clip) or body"),
    ("front_frames", pa.list_(pa.int32()), "up to 25 most frontal frames, best first"),
    ("back_frames", pa.list_(pa.int32()), "up to 25 least frontal frames, least first"),
    ("masks_sha256", pa.string(), "of the packed masks that a method and a metric are given"),
    ("background_sha256", pa.string(), "of the picture of the background"),
    ("status", pa.string(), "done or failed"),
    ("error", pa.string(), "why it failed, empty if it did not"),
    ("licence", pa.string(), "as dataset.toml says, else empty"),
    ("consent", pa.string(), "as dataset.toml says, else empty"),
)

_FRAME_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("clip_id", pa.dictionary(pa.int32(), pa.string()), "as in clips"),
    ("frame", pa.int32(), "0-based position in the sorted frame list"),
    ("camera", _floats(3), "(s, tx, ty), xy = s * (XY + t), NDC of the clip's crop"),
    ("pose", _floats(72), "24 axis-angle rotations, root first, radians, body y down"),
    ("shape", _floats(10), "shape coefficients of the body"),
    ("keypoints", _floats(NUM_KEYPOINTS * 3), "BODY_25 x, y (source pixels), confidence; or null"),
    ("fit_error_pixels", pa.float32(), "mean over used keypoints, source pixels; or null"),
    ("front_score", pa.int32(), "visible front faces of body and head at 256 x 256"),
    ("mask_area", pa.float32(), "person's share of the crop, 0 .. 1"),
    ("valid", pa.bool_(), "the frame shows the person and has a finite fit"),
)

_CATEGORICAL = {
    "clips.parquet": ["subject", "outfit", "action", "split", "kind", "body_id", "fit_source",
                      "mask_source", "status", "licence", "consent"],
    "frames.parquet": ["clip_id"],
}  # fmt: skip
_SPLIT_FLOATS = [
    *(f"{name}.list.element" for name in ("camera", "pose", "shape", "keypoints")),
    "fit_error_pixels",
    "mask_area",
]


def _schema(columns: Sequence[tuple[str, pa.DataType, str]], title: str) -> pa.Schema:
    about = {"table": title, "schema_version": SCHEMA_VERSION}
    meanings = {name: meaning for name, _, meaning in columns}
    return pa.schema(
        [(name, kind) for name, kind, _ in columns],
        metadata={"iper": json.dumps(about), "columns": json.dumps(meanings)},
    )


CLIPS_SCHEMA = _schema(_CLIP_COLUMNS, "clips")
FRAMES_SCHEMA = _schema(_FRAME_COLUMNS, "frames")


# ------------------------------------------------------------------------------------------- writing


def clips_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as dicts -> table, sorted by clip id. A row may leave out what is unknown (null)."""
    ordered = sorted(rows, key=lambda row: str(row["clip_id"]))
    unknown = {name for row in ordered for name in row} - set(CLIPS_SCHEMA.names)
    if unknown:
        raise ValueError(f"clips has no columns {sorted(unknown)}.")
    columns = {name: [row.get(name) for row in ordered] for name in CLIPS_SCHEMA.names}
    return pa.table(columns, schema=CLIPS_SCHEMA)


def frames_table(
    clip_id: str,
    *,
    camera: np.ndarray,
    pose: np.ndarray,
    shape: np.ndarray,
    keypoints: np.ndarray | None,
    fit_error_pixels: np.ndarray | None,
    front_score: np.ndarray,
    mask_area: np.ndarray,
    valid: np.ndarray,
) -> pa.Table:
    """The rows of one clip of T frames; the arguments are its columns.

    Args:
        clip_id: the clip.
        camera: (T, 3) float.
        pose: (T, 72) float, radians.
        shape: (T, 10) float.
        keypoints: (T, 25, 3) or (T, 75) float, or None.
        fit_error_pixels: (T,) float or None.
        front_score: (T,) int.
        mask_area: (T,) float.
        valid: (T,) bool.
    """
    count = len(camera)
    arrays: dict[str, pa.Array] = {
        "clip_id": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [clip_id]),
        "frame": pa.array(np.arange(count, dtype=np.int32)),
        "front_score": pa.array(np.asarray(front_score, np.int32)),
        "mask_area": pa.array(np.asarray(mask_area, np.float32)),
        "valid": pa.array(np.asarray(valid, bool)),
        "fit_error_pixels": (
            pa.nulls(count, pa.float32())
            if fit_error_pixels is None
            else pa.array(np.asarray(fit_error_pixels, np.float32))
        ),
    }
    vectors = {"camera": camera, "pose": pose, "shape": shape, "keypoints": keypoints}
    for name, values in vectors.items():
        length = FRAMES_SCHEMA.field(name).type.list_size
        if values is None:
            arrays[name] = pa.nulls(count, _floats(length))
            continue
        flat = np.ascontiguousarray(values, np.float32).reshape(count, -1)
        if flat.shape[1] != length:
            raise ValueError(
                f"{name} of {clip_id} is {np.shape(values)}; it takes {length} a frame."
            )
        arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), length)
    return pa.table([arrays[name] for name in FRAMES_SCHEMA.names], schema=FRAMES_SCHEMA)


def write_table(path: Path, table: pa.Table) -> None:
    """Write one of the two tables: zstd, byte-stream split for floats, whole or not at all."""
    is_frames = table.schema.names == FRAMES_SCHEMA.names
    name = FRAMES_FILE if is_frames else CLIPS_FILE

    def write(part: Path) -> None:
        pq.write_table(
            table,
            part,
            compression="zstd",
            use_dictionary=_CATEGORICAL[name],
            use_byte_stream_split=_SPLIT_FLOATS if is_frames else False,
            row_group_size=ROW_GROUP_SIZE,
            write_page_checksum=True,
        )

    write_atomically(path, write)


def write_manifests(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    frames: Sequence[pa.Table],
    about: Mapping[str, Any],
) -> None:
    """Write the three files, unless they say the same already.

    dataset.json comes last and carries the digests of the other two, so a reader can tell tables
    that belong together from an old one beside a new one.

    Args:
        root: the dataset.
        rows: one a clip, for `clips_table`.
        frames: one table a clip, from `frames_table`.
        about: dataset.json without counts, digests and failures.
    """
    clips = clips_table(rows)
    by_clip = sorted(frames, key=lambda table: str(table["clip_id"][0].as_py()))
    every = pa.concat_tables(by_clip) if by_clip else FRAMES_SCHEMA.empty_table()
    every = every.unify_dictionaries().combine_chunks()
    digests = {"clips": table_digest(clips), "frames": table_digest(every)}
    failed = [row for row in clips.to_pylist() if row["status"] != "done"]
    described = {
        **about,
        "schema_version": SCHEMA_VERSION,
        "counts": {
            "clips": clips.num_rows,
            "done": clips.num_rows - len(failed),
            "failed": len(failed),
            "frames": every.num_rows,
        },
        "digests": {
            **digests,
            "dataset": hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
        },
        "failures": {row["clip_id"]: row["error"] for row in failed},
    }
    if _is_written(root, described):
        return
    folder = root / FOLDER
    write_table(folder / CLIPS_FILE, clips)
    write_table(folder / FRAMES_FILE, every)
    files = {name: file_sha256(folder / name) for name in (CLIPS_FILE, FRAMES_FILE)}
    content = {**described, "files": files}
    content["record_sha256"] = _record_sha256(content)
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(folder / DATASET_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def _is_written(root: Path, described: Mapping[str, Any]) -> bool:
    """Whether the files are there, whole, and say exactly this."""
    try:
        there = read_about(root)
        del there["record_sha256"]
        files = there.pop("files")
        return there == json.loads(json.dumps(described)) and all(
            file_sha256(root / FOLDER / name) == sha256 for name, sha256 in files.items()
        )
    except (NotPrepared, BadManifest, KeyError, OSError):
        return False


def table_digest(table: pa.Table) -> str:
    """sha256 of a table's content: the same for any compression, row grouping and library version."""
    digest = hashlib.sha256()
    for name in table.schema.names:
        column = table[name].combine_chunks()
        digest.update(f"{name}:{len(column)};".encode())
        kind = column.type
        if pa.types.is_fixed_size_list(kind):
            digest.update(np.asarray(column.is_valid()).tobytes())
            digest.update(_plain_bytes(column.flatten()))
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
            digest.update(np.asarray(column.is_valid()).tobytes())
            digest.update(_plain_bytes(column.drop_null()))
        else:
            digest.update(json.dumps(column.to_pylist(), ensure_ascii=False).encode())
    return digest.hexdigest()


def _plain_bytes(array: pa.Array) -> bytes:
    values = array.to_numpy(zero_copy_only=False)
    return bytes(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())


def _record_sha256(content: Mapping[str, Any]) -> str:
    """Digest of dataset.json without the digest itself, so that an edit of any field is found."""
    fields = {name: value for name, value in content.items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------- reading


def read_about(root: Path) -> dict[str, Any]:
    """dataset.json, as `write_manifests` wrote it.

    Raises:
        NotPrepared: there is none.
        BadManifest: it is damaged, was edited, or comes from another version.
    """
    path = root / FOLDER / DATASET_FILE
    if not path.is_file():
        raise NotPrepared(
            f"{root} is not prepared: {path} is missing. Run: iper prepare --root {root}"
        )
    try:
        about = dict(json.loads(path.read_text(encoding="utf-8")))
        version = about["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadManifest(f"{path} is damaged. Run: iper prepare --root {root}") from error
    if version != SCHEMA_VERSION:
        raise BadManifest(
            f"{path} has schema version {version}; this program reads {SCHEMA_VERSION}. "
            f"Run: iper prepare --root {root}"
        )
    if about.get("record_sha256") != _record_sha256(about):
        raise BadManifest(
            f"{path} is not as iper prepare wrote it: it was edited or damaged, or an earlier version wrote it. "
            f"Run: iper prepare --root {root}"
        )
    return about


def check_files(root: Path, about: Mapping[str, Any]) -> None:
    """Compare both tables' files with dataset.json: their bytes, and how many rows they have.

    Each file is read once a process; 240,000 frames take about a tenth of a second.

    Args:
        root: the dataset.
        about: from `read_about`.

    Raises:
        NotPrepared: a table is missing.
        BadManifest: a table was edited, damaged or belongs to another dataset.json; the message names it.
    """
    rows = {CLIPS_FILE: about["counts"]["clips"], FRAMES_FILE: about["counts"]["frames"]}
    for name, count in rows.items():
        path = root / FOLDER / name
        groups = _groups(root, name, CLIPS_SCHEMA if name == CLIPS_FILE else FRAMES_SCHEMA)
        if _sha256_of(path, *_state_of(path)) != about["files"][name]:
            raise BadManifest(
                f"{path} and {DATASET_FILE} do not belong together: the table was edited, damaged or copied from "
                f"elsewhere. Run: iper prepare --root {root}"
            )
        if sum(group.num_rows for group in groups) != count:
            raise BadManifest(
                f"{path} does not have the {count} rows that {DATASET_FILE} records. Run: iper prepare --root {root}"
            )


def _state_of(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written again: size, time and inode."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    return file_sha256(path)


def read_clips(root: Path) -> pa.Table:
    """clips.parquet, checked against its schema."""
    return _read(root, CLIPS_FILE, CLIPS_SCHEMA)


def read_frames_table(root: Path, clip_id: str | None = None) -> pa.Table:
    """frames.parquet, or the rows of one clip of it (only their row groups are read)."""
    if clip_id is None:
        return _read(root, FRAMES_FILE, FRAMES_SCHEMA)
    table = _read(root, FRAMES_FILE, FRAMES_SCHEMA, clip_id)
    return table.filter(pc.equal(table["clip_id"].cast(pa.string()), clip_id))


def by_clip(frames: pa.Table) -> dict[str, pa.Table]:
    """The frames table, read whole and cut at once: clip id -> its rows."""
    ids = frames["clip_id"].cast(pa.string()).combine_chunks()
    if not len(ids):
        return {}
    runs = pc.run_end_encode(ids)
    ends = runs.run_ends.to_numpy()
    starts = np.concatenate([[0], ends[:-1]])
    parts: dict[str, list[pa.Table]] = {}
    for clip_id, start, end in zip(runs.values.to_pylist(), starts, ends, strict=True):
        parts.setdefault(clip_id, []).append(frames.slice(start, end - start))
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def check_clip_frames(root: Path, row: Mapping[str, Any], table: pa.Table) -> None:
    """Refuse rows of one clip that cannot be its frames.

    Args:
        root: the dataset, for the message.
        row: the clip's row of the clips table.
        table: its rows of the frames table.

    Raises:
        BadManifest: another number of rows, frames out of order, or a valid frame without a finite fit.
    """
    clip_id, count = row["clip_id"], row["num_frames"]
    problem = ""
    if table.num_rows != count:
        problem = f"has {table.num_rows} rows of clip {clip_id}, which has {count} frames"
    elif not np.array_equal(table["frame"].to_numpy(), np.arange(count)):
        problem = f"has the frames of clip {clip_id} out of order"
    else:
        valid = np.asarray(table["valid"].combine_chunks())
        for name in ("camera", "pose", "shape"):
            if not np.isfinite(vectors(table, name)[valid.astype(bool)]).all():
                problem = f"has a {name} that is not finite in a valid frame of clip {clip_id}"
    if problem:
        raise BadManifest(
            f"{root / FOLDER / FRAMES_FILE} {problem}. Run: iper prepare --root {root}"
        )


@dataclass(frozen=True)
class _Group:
    """What the footer says of a row group."""

    num_rows: int
    first: str | None
    """Least clip id; None if the footer does not say."""
    last: str | None


def _groups(root: Path, name: str, schema: pa.Schema) -> tuple[_Group, ...]:
    """The row groups of a table whose columns are those of the schema."""
    path = root / FOLDER / name
    if not path.is_file():
        raise NotPrepared(
            f"{root} is not prepared: {path} is missing. Run: iper prepare --root {root}"
        )
    again = f"Run: iper prepare --root {root}"
    try:
        found, groups = _footer(path, *_state_of(path))
        about = dict(json.loads((found.metadata or {}).get(b"iper", b"{}")))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise BadManifest(f"{path} is not a whole Parquet file. {again}") from error
    if about.get("schema_version") != SCHEMA_VERSION:
        raise BadManifest(
            f"{path} has schema version {about.get('schema_version')}; this program reads "
            f"{SCHEMA_VERSION}. {again}"
        )
    for field in schema:
        if field.name not in found.names or found.field(field.name).type != field.type:
            there = found.field(field.name).type if field.name in found.names else "missing"
            raise BadManifest(f"{path}: column {field.name} is {there}, not {field.type}. {again}")
    return groups


@lru_cache(maxsize=64)
def _footer(
    path: Path, size: int, mtime_ns: int, inode: int
) -> tuple[pa.Schema, tuple[_Group, ...]]:
    with pq.ParquetFile(path) as file:
        groups = []
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            statistics = group.column(0).statistics if group.num_columns else None
            first = last = None
            if statistics is not None and statistics.has_min_max:
                first, last = str(statistics.min), str(statistics.max)
            groups.append(_Group(group.num_rows, first, last))
        return file.schema_arrow, tuple(groups)


def _read(root: Path, name: str, schema: pa.Schema, clip_id: str | None = None) -> pa.Table:
    """A table, or those row groups of it that may hold a clip."""
    path = root / FOLDER / name
    groups = _groups(root, name, schema)
    chosen = [
        number
        for number, group in enumerate(groups)
        if clip_id is None
        or group.first is None
        or group.last is None
        or group.first <= clip_id <= group.last
    ]
    try:
        # The plain reader: the file is one, and a dataset scan would take `key=value` folder
        # names in the path for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read() if clip_id is None else file.read_row_groups(chosen)
    except (pa.ArrowException, OSError) as error:
        raise BadManifest(f"{path} is damaged. Run: iper prepare --root {root}") from error


def vectors(table: pa.Table, name: str) -> np.ndarray:
    """A column of float vectors -> (T, n) float32; rows without a value are NaN."""
    column = table[name].combine_chunks()
    length = column.type.list_size
    values = np.full((len(column), length), np.nan, np.float32)
    there = np.asarray(column.is_valid())
    values[there] = np.asarray(column.flatten()).reshape(-1, length)
    return values
