"""Tables and cache that were edited or damaged: refused by name, found by `check`, made again by `prepare`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iper_toolkit import manifest
from iper_toolkit.check import check_root
from iper_toolkit.clip import Dataset
from iper_toolkit.prepare import STAGES, prepare
from iper_toolkit.stages import stage_folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, mini: type) -> Path:
    root = tmp_path_factory.mktemp("integrity") / "data"
    mini.video(root, "001/1/1", seed=1)
    mini.video(root, "002/1/1", seed=2)
    assert prepare(root).ok
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def with_poses(table: pa.Table, change: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    values = change(manifest.vectors(table, "pose").copy()).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 72)
    place = table.schema.get_field_index("pose")
    return table.set_column(place, table.schema.field("pose"), column)


EDITS = {
    "zeros": lambda table: with_poses(table, np.zeros_like),
    "shuffled": lambda table: with_poses(table, lambda poses: poses[::-1]),
    "nan": lambda table: with_poses(table, lambda poses: poses * np.nan),
    "short": lambda table: table.slice(0, table.num_rows - 1),
    "twice": lambda table: pa.concat_tables([table, table]),
    "out of order": lambda table: table.take(np.arange(table.num_rows)[::-1]),
}


def forge(root: Path, **changed: object) -> None:
    """Make dataset.json agree with edited tables, as one who knows its format could."""
    path = root / "manifests/dataset.json"
    about = json.loads(path.read_text()) | changed
    for name in about["files"]:
        about["files"][name] = manifest.file_sha256(root / "manifests" / name)
    frames = pq.read_table(root / "manifests/frames.parquet", partitioning=None)
    about["counts"]["frames"] = frames.num_rows
    about["digests"]["frames"] = manifest.table_digest(frames)
    about["record_sha256"] = manifest._record_sha256(about)
    path.write_text(json.dumps(about))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_table_is_refused_and_made_again(root: Path, prepared: Path, edit: str) -> None:
    path = root / "manifests/frames.parquet"
    manifest.write_table(path, EDITS[edit](manifest.read_frames_table(root)))
    with pytest.raises(manifest.BadManifest, match=r"frames\.parquet.*Run: iper prepare --root"):
        Dataset.open(root)
    assert [finding.file for finding in check_root(root)] == ["manifests/frames.parquet"]
    assert prepare(root).ok
    assert Dataset.open(root).digest == Dataset.open(prepared).digest
    assert check_root(root) == []


@pytest.mark.parametrize("edit", EDITS)
def test_check_compares_tables_with_the_cache(root: Path, edit: str) -> None:
    path = root / "manifests/frames.parquet"
    manifest.write_table(path, EDITS[edit](manifest.read_frames_table(root)))
    forge(root)
    assert {finding.file for finding in check_root(root)} == {"manifests/frames.parquet"}
    if edit in ("nan", "short", "twice", "out of order"):
        with pytest.raises(manifest.BadManifest, match=r"frames\.parquet"):
            [Dataset.open(root).clip(name).params() for name in ("001/1/1", "002/1/1")]
    prepare(root)
    assert check_root(root) == []


@pytest.mark.parametrize(
    ("field", "value"), [("synthetic", True), ("name", "other"), ("licence", "mine"), ("files", {})]
)
def test_an_edited_record_is_refused_and_made_again(root: Path, field: str, value: object) -> None:
    path = root / "manifests/dataset.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {field: value}))
    with pytest.raises(
        manifest.BadManifest, match=r"dataset\.json is not as iper prepare wrote it"
    ):
        Dataset.open(root)
    assert [finding.file for finding in check_root(root)] == ["manifests/dataset.json"]
    prepare(root)
    assert path.read_text() == whole


def test_check_compares_the_mark_with_the_clips(root: Path) -> None:
    forge(root, synthetic=True)
    assert "synthetic" in check_root(root)[0].problem


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"key": 1}', "[" * 100_000])
def test_a_damaged_record_of_the_cache_is_made_again(
    root: Path, prepared: Path, content: str
) -> None:
    for stage in STAGES:
        for path in stage_folder(root, stage.name, "001/1/1").glob("*.json"):
            path.write_text(content)
    summary = prepare(root)
    assert (summary.prepared, summary.unchanged) == (("001/1/1",), ("002/1/1",))
    assert Dataset.open(root).digest == Dataset.open(prepared).digest


def test_damage_that_keeps_the_size_is_made_again(root: Path, prepared: Path) -> None:
    for stage, name in (("rows", "clip.json"), ("rows", "frames.parquet"), ("fit", "fit.npz")):
        path = stage_folder(root, stage, "001/1/1") / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        assert [finding.clip_id for finding in check_root(root)][:1] == ["001/1/1"]
        assert prepare(root).prepared == ("001/1/1",)
        assert Dataset.open(root).digest == Dataset.open(prepared).digest


def test_masks_and_background_are_those_of_the_tables(root: Path) -> None:
    clip = Dataset.open(root).clip("001/1/1")
    other = stage_folder(root, "mask", "002/1/1") / "masks.npz"
    shutil.copyfile(other, stage_folder(root, "mask", "001/1/1") / "masks.npz")
    with pytest.raises(manifest.BadManifest, match=r"masks\.npz is damaged"):
        clip.masks([0], 32)
    (stage_folder(root, "proxy", "001/1/1") / "background.png").unlink()
    with pytest.raises(manifest.BadManifest, match=r"background\.png is missing"):
        clip.background(32)


def test_one_clip_reads_its_row_groups_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [
        manifest.frames_table(
            f"{number:03d}",
            camera=np.full((1000, 3), number),
            pose=np.zeros((1000, 72)),
            shape=np.zeros((1000, 10)),
            keypoints=None,
            fit_error_pixels=None,
            front_score=np.zeros(1000),
            mask_area=np.zeros(1000),
            valid=np.ones(1000, bool),
        )
        for number in range(12)
    ]
    rows = [{"clip_id": f"{number:03d}", "status": "done"} for number in range(12)]
    manifest.write_manifests(tmp_path, rows, frames, {"name": "t", "synthetic": False})
    chosen = []
    read = pq.ParquetFile.read_row_groups

    def count(file: pq.ParquetFile, groups: list[int]) -> pa.Table:
        chosen.append(groups)
        return read(file, groups)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", count)
    for number in (0, 4, 11):
        table = manifest.read_frames_table(tmp_path, f"{number:03d}")
        assert (manifest.vectors(table, "camera") == number).all()
        assert table.num_rows == 1000
    assert chosen == [[0], [1, 2], [5]]
    assert {name: len(t) for name, t in manifest.by_clip(manifest.read_frames_table(tmp_path)).items()} == {
        f"{number:03d}": 1000 for number in range(12)
    }  # fmt: skip
    assert manifest.read_frames_table(tmp_path, "none").num_rows == 0
