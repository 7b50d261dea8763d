"""The tables: schema, encodings, digests, and what reading refuses."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iper_toolkit import manifest


def some_frames(clip_id: str, count: int, seed: int = 0, keypoints: bool = True) -> pa.Table:
    draw = np.random.default_rng(seed).normal
    return manifest.frames_table(
        clip_id,
        camera=draw(size=(count, 3)),
        pose=draw(size=(count, 72)),
        shape=draw(size=(count, 10)),
        keypoints=draw(size=(count, 25, 3)) if keypoints else None,
        fit_error_pixels=draw(size=count) if keypoints else None,
        front_score=np.arange(count),
        mask_area=np.linspace(0, 1, count),
        valid=np.arange(count) % 2 == 0,
    )


ROWS = [
    {"clip_id": "b", "status": "done", "error": "", "crop": {"cx": 48.0, "cy": 48.0, "side": 96.0},
     "front_frames": [3, 1], "source": "b.mp4", "fps": 25.0},
    {"clip_id": "a/1/2", "status": "done", "error": ""},
    {"clip_id": "c", "status": "failed", "error": "c.mp4 is cut short"},
]  # fmt: skip
ABOUT = {"name": "test", "synthetic": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "key=value folder"
    frames = [some_frames("b", 3000, keypoints=False), some_frames("a/1/2", 40, 1)]
    manifest.write_manifests(root, ROWS, frames, ABOUT)
    return root


def test_tables_come_back_sorted(root: Path) -> None:
    clips = manifest.read_clips(root).to_pylist()
    assert [row["clip_id"] for row in clips] == ["a/1/2", "b", "c"]
    assert clips[1]["crop"] == {"cx": 48.0, "cy": 48.0, "side": 96.0}
    assert clips[1]["front_frames"] == [3, 1]
    frames = manifest.read_frames_table(root)
    assert frames.num_rows == 3040
    assert frames["clip_id"].to_pylist() == ["a/1/2"] * 40 + ["b"] * 3000
    one = manifest.read_frames_table(root, "a/1/2")
    assert one["frame"].to_pylist() == list(range(40))
    expected = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    assert np.array_equal(manifest.vectors(one, "camera"), expected)
    assert manifest.vectors(one, "keypoints").shape == (40, 75)
    assert np.isnan(manifest.vectors(manifest.read_frames_table(root, "b"), "keypoints")).all()


def test_the_file_is_written_as_the_schema_says(root: Path) -> None:
    path = root / "manifests" / "frames.parquet"
    schema = pq.read_schema(path)
    assert schema.field("pose").type == pa.list_(pa.float32(), 72)
    assert json.loads(schema.metadata[b"iper"]) == {"table": "frames", "schema_version": 1}
    assert set(json.loads(schema.metadata[b"columns"])) == set(schema.names)
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [2048, 992]
    columns = {
        groups.row_group(0).column(i).path_in_schema: groups.row_group(0).column(i)
        for i in range(groups.num_columns)
    }
    assert "BYTE_STREAM_SPLIT" in columns["pose.list.element"].encodings
    assert "RLE_DICTIONARY" in columns["clip_id"].encodings
    assert all(column.compression == "ZSTD" for column in columns.values())
    dictionaries = [name for name, c in columns.items() if "RLE_DICTIONARY" in c.encodings]
    assert dictionaries == ["clip_id"]


def test_dataset_json_counts_and_digests(root: Path) -> None:
    about = manifest.read_about(root)
    assert about["counts"] == {"clips": 3, "done": 2, "failed": 1, "frames": 3040}
    assert about["failures"] == {"c": "c.mp4 is cut short"}
    assert about["digests"]["clips"] == manifest.table_digest(manifest.read_clips(root))
    assert about["digests"]["frames"] == manifest.table_digest(manifest.read_frames_table(root))
    for name, sha256 in about["files"].items():
        assert manifest.file_sha256(root / "manifests" / name) == sha256


def test_a_digest_sees_every_value_and_no_layout(root: Path, tmp_path: Path) -> None:
    table = manifest.read_frames_table(root)
    pq.write_table(table, tmp_path / "other.parquet", compression="none", row_group_size=17)
    assert manifest.table_digest(pq.read_table(tmp_path / "other.parquet")) == (
        manifest.table_digest(table)
    )
    changed = manifest.vectors(table, "pose").copy()
    changed[-1, -1] += 1e-6
    flat = pa.FixedSizeListArray.from_arrays(pa.array(changed.ravel()), 72)
    place = table.schema.get_field_index("pose")
    other = table.set_column(place, table.schema.field("pose"), flat)
    assert manifest.table_digest(other) != manifest.table_digest(table)
    assert manifest.table_digest(table.slice(0, 3039)) != manifest.table_digest(table)


def test_the_same_content_is_not_written_again(root: Path) -> None:
    before = (root / "manifests" / "frames.parquet").stat().st_mtime_ns
    frames = [some_frames("a/1/2", 40, 1), some_frames("b", 3000, keypoints=False)]
    manifest.write_manifests(root, ROWS[::-1], frames, ABOUT)
    assert (root / "manifests" / "frames.parquet").stat().st_mtime_ns == before


def test_no_clip_at_all_is_a_table_too(tmp_path: Path) -> None:
    manifest.write_manifests(tmp_path, [ROWS[2]], [], ABOUT)
    assert manifest.read_frames_table(tmp_path).num_rows == 0


def test_what_is_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    for read in (manifest.read_about, manifest.read_clips, manifest.read_frames_table):
        with pytest.raises(manifest.NotPrepared, match=r"Run: iper prepare --root"):
            read(tmp_path)


def test_damage_is_refused_by_name(root: Path) -> None:
    folder = root / "manifests"
    data = (folder / "clips.parquet").read_bytes()
    (folder / "clips.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(manifest.BadManifest, match=r"clips\.parquet is not a whole Parquet file"):
        manifest.read_clips(root)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(manifest.BadManifest, match=r"dataset\.json is damaged"):
        manifest.read_about(root)


def test_other_schemas_and_versions_are_refused(root: Path) -> None:
    path = root / "manifests" / "frames.parquet"
    table = manifest.read_frames_table(root)
    pq.write_table(table.drop_columns(["pose"]), path)
    with pytest.raises(manifest.BadManifest, match="column pose is missing"):
        manifest.read_frames_table(root)
    newer = {b"iper": json.dumps({"schema_version": 99}).encode()}
    pq.write_table(table.replace_schema_metadata(newer), path)
    with pytest.raises(manifest.BadManifest, match="schema version 99; this program reads 1"):
        manifest.read_frames_table(root)
    about = manifest.read_about(root) | {"schema_version": 99}
    (root / "manifests" / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(manifest.BadManifest, match="schema version 99"):
        manifest.read_about(root)


def test_rows_take_known_columns_and_lengths() -> None:
    with pytest.raises(ValueError, match=r"no columns \['colour'\]"):
        manifest.clips_table([{"clip_id": "a", "colour": 1}])
    with pytest.raises(ValueError, match=r"pose of a is \(2, 70\); it takes 72"):
        manifest.frames_table(
            "a",
            camera=np.zeros((2, 3)),
            pose=np.zeros((2, 70)),
            shape=np.zeros((2, 10)),
            keypoints=None,
            fit_error_pixels=None,
            front_score=np.zeros(2),
            mask_area=np.zeros(2),
            valid=np.ones(2, bool),
        )


def test_a_flipped_bit_is_never_read_as_another_number(root: Path) -> None:
    path = root / "manifests/frames.parquet"
    whole, table = path.read_bytes(), manifest.read_frames_table(root)
    silent = 0
    for place in range(4, len(whole) // 2, len(whole) // 80):
        data = bytearray(whole)
        data[place] ^= 16
        path.write_bytes(bytes(data))
        with contextlib.suppress(manifest.BadManifest):
            silent += not manifest.read_frames_table(root).equals(table)
    assert silent == 0
