"""The `iper` command: what users see, exit codes, JSON."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iper_toolkit import atomic
from iper_toolkit.cli import main
from iper_toolkit.console import chosen_shard
from iper_toolkit.prepare import shard_of
from iper_toolkit.protocols import load_protocol
from iper_toolkit.stages import VERSIONS
from iper_toolkit.video import probe


def iper(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, mini: type) -> Path:
    root = tmp_path_factory.mktemp("cli") / "data"
    mini.frames(root, "001/1/1", seed=1)
    mini.video(root, "002/1/2", seed=2)
    result = iper("prepare", "--root", root, "--size", 64)
    assert result.exit_code == 0, result.output
    return root


def test_prepare_speaks_line_by_line(tmp_path: Path, mini: type) -> None:
    mini.frames(tmp_path, "001/1/1", seed=1)
    mini.frames(tmp_path, "002/1/1", seed=2)
    (tmp_path / "images_HD/002/1/1/0001.jpg").write_bytes(b"")
    result = iper("prepare", "--root", tmp_path)
    assert result.exit_code == 1
    assert "[1/2] 001/1/1: done" in result.stderr
    assert "[2/2] 002/1/1: FAILED: images_HD/002/1/1/0001.jpg is empty" in result.stderr
    assert "2 clips; 1 prepared, 0 unchanged, 1 failed" in result.stdout
    again = iper("prepare", "--root", tmp_path, "--json")
    assert again.exit_code == 1
    content = json.loads(again.stdout)
    assert content["unchanged"] == ["001/1/1"]
    assert list(content["failures"]) == ["002/1/1"]
    assert content["tables_written"] is True


def test_an_unfinished_shard_says_so(tmp_path: Path, mini: type) -> None:
    mini.frames(tmp_path, "001/1/1", seed=1)
    own = shard_of("001/1/1", 2)
    early = iper("prepare", "--root", tmp_path, "--shard", f"{1 - own}/2")
    assert "Other shards are still at work" in early.stdout
    assert early.exit_code == 0
    late = iper("prepare", "--root", tmp_path, "--shard", f"{own}/2")
    assert "Other shards" not in late.stdout
    assert (tmp_path / "manifests/dataset.json").exists()


def test_a_failure_that_cannot_be_recorded_leaves_the_tables_unwritten(
    tmp_path: Path, mini: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.frames(tmp_path, "001/1/1", seed=1)
    replace = os.replace

    def full(part: Path, path: Path) -> None:
        if "001" in Path(path).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(part, path)

    monkeypatch.setattr(atomic.os, "replace", full)
    result = iper("prepare", "--root", tmp_path)
    assert result.exit_code == 1
    assert "the disk is full: free some space" in result.stderr
    assert "tables are not written yet: mend the above" in result.stdout
    monkeypatch.undo()
    assert iper("prepare", "--root", tmp_path).exit_code == 0


def test_synth_speaks_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from iper_toolkit.synthetic import dataset

    def write(root: Path, **arguments: object) -> SimpleNamespace:
        assert (root, arguments["size"], arguments["seed"]) == (tmp_path, "tiny", 3)
        return SimpleNamespace(clips=6, frames=240)

    monkeypatch.setattr(dataset, "write_dataset", write)
    result = iper("synth", "--root", tmp_path, "--size", "tiny", "--seed", 3, "--json")
    assert json.loads(result.stdout) == {"root": str(tmp_path), "clips": 6, "frames": 240}
    assert result.stderr == ""


def test_an_empty_root_says_what_to_do(tmp_path: Path) -> None:
    result = iper("prepare", "--root", tmp_path)
    assert result.exit_code == 1
    assert f"iper synth --root {tmp_path}" in result.stderr
    assert "NAME.json" in result.stderr
    assert "Traceback" not in result.output
    for command in ("check", "info", "protocol"):
        result = iper(command, "--root", tmp_path)
        assert result.exit_code == 1
        assert f"Run: iper prepare --root {tmp_path}" in result.stderr


def test_info(prepared: Path) -> None:
    content = json.loads(iper("info", "--root", prepared, "--json").stdout)
    assert (content["clips"], content["subjects"], content["frames"]) == (2, 2, 16)
    assert content["masks"] == {"body": 1, "set": 1}
    assert content["fits"] == {"official": 2}
    text = iper("info", "--root", prepared).stdout
    assert "001/1/1: 8 frames, crop 96 px, fit official, masks set" in text


def test_protocol(prepared: Path) -> None:
    content = json.loads(iper("protocol", "--root", prepared, "--json").stdout)
    protocol = load_protocol(prepared / "protocol")
    assert content["digest"] == protocol.digest
    cases = protocol.imitation_cases("self", num_sources=1)
    assert [case.clip for case in cases] == ["001/1/1", "002/1/2"]
    assert [(row.first_frame, row.last_frame) for row in protocol.self_imitation] == [(0, 7)] * 2
    assert len(protocol.imitation_cases("self", num_sources=4)) == 2
    assert iper("protocol", "--root", prepared).exit_code == 0  # its own may be written again
    other = prepared / "protocol/protocol.toml"
    other.write_text(other.read_text().replace("own-self-imitation", "shipped"))
    refused = iper("protocol", "--root", prepared)
    assert refused.exit_code == 1
    assert "Pass --overwrite" in refused.stderr
    assert iper("protocol", "--root", prepared, "--overwrite").exit_code == 0


def test_preview(prepared: Path, tmp_path: Path) -> None:
    result = iper("preview", "002/1/2", "--root", prepared, "--out", tmp_path, "--size", 96)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(tmp_path / "contact_sheet.jpg"),
        str(tmp_path / "overlay.mp4"),
    ]
    assert probe(tmp_path / "overlay.mp4").num_frames == 8
    missing = iper("preview", "nobody", "--root", prepared)
    assert missing.exit_code == 1
    assert "no clip 'nobody'; it has 001/1/1" in missing.stderr


def findings(root: Path) -> list[tuple[str, str]]:
    result = iper("check", "--root", root, "--json")
    content = json.loads(result.stdout)
    assert content["ok"] == (not content["findings"]) == (result.exit_code == 0)
    return [(f["file"], f["problem"]) for f in content["findings"]]


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "data")
    return tmp_path / "data"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_check_finds_nothing_where_nothing_is(copy: Path) -> None:
    assert findings(copy) == []
    assert "all as recorded" in iper("check", "--root", copy).stdout


@pytest.mark.parametrize(
    "file",
    [
        "images_HD/001/1/1/0002.jpg",
        "002_1_2.mp4",
        "smpls/001/1/1/pose_shape.pkl",
        "masks/001/1/1.npz",
        "cache/mask-v2/001/1/1/masks.npz",
        f"cache/proxy-v{VERSIONS['proxy']}/002/1/2/proxy.mp4",
        "manifests/frames.parquet",
        "manifests/clips.parquet",
    ],
)
def test_check_finds_a_flipped_byte(copy: Path, file: str) -> None:
    flip(copy / file)
    ((found, problem),) = findings(copy)
    assert found == file
    assert "prepare" in problem


def test_check_finds_missing_and_added_frames(copy: Path) -> None:
    folder = copy / "images_HD/001/1/1"
    (folder / "0003.jpg").rename(folder / "0009.jpg")
    assert [name for name, _ in findings(copy)] == [
        "images_HD/001/1/1/0003.jpg",
        "images_HD/001/1/1/0009.jpg",
    ]


def test_check_finds_a_fit_of_the_wrong_length(copy: Path, mini: type) -> None:
    path = copy / "smpls/001/1/1/pose_shape.pkl"
    mini.fit(path, mini.clip(1, 8)[2][:5], body_id="open-body-1")
    ((_, problem),) = findings(copy)
    assert "fits 5 frames, the clip has 8" in problem


def test_check_finds_clips_that_came_and_went(copy: Path, mini: type) -> None:
    shutil.rmtree(copy / "images_HD")
    mini.video(copy, "009/1/1")
    assert [problem for _, problem in findings(copy)] == [
        "is not prepared yet; run iper prepare",
        "is gone; put it back",
    ]


def test_check_reports_failed_clips(copy: Path) -> None:
    (copy / "images_HD/001/1/1/0001.jpg").write_bytes(b"")
    assert iper("prepare", "--root", copy, "--size", 64).exit_code == 1
    ((_, problem),) = findings(copy)
    assert problem.startswith("could not be prepared: images_HD/001/1/1/0001.jpg is empty")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "8"}, (2, 8)),
        # an allocation without srun: one process, which does everything
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, (0, 1)),
        # the shell of an allocation is a step of one task
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "8",
                "SLURM_STEP_ID": "4294967290",
                "SLURM_STEP_NUM_TASKS": "1",
            },
            (0, 1),
        ),
        ({"SLURM_PROCID": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"RANK": "1"}, (0, 1)),
    ],
)
def test_a_part_is_taken_from_a_launcher_and_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    expected: tuple[int, int],
) -> None:
    launcher = "RANK WORLD_SIZE SLURM_PROCID SLURM_NTASKS SLURM_STEP_ID SLURM_STEP_NUM_TASKS"
    for name in launcher.split():
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert chosen_shard(None) == expected
    said = capsys.readouterr().err
    assert (f"part {expected[0]} of {expected[1]} (" in said) == (expected[1] > 1)
    assert chosen_shard("3/16") == (3, 16)


@pytest.mark.parametrize(("rank", "size"), [("8", "8"), ("-1", "4"), ("", "4"), ("0", "four")])
def test_what_a_launcher_cannot_mean_is_an_error(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match="--shard 0/1 for all"):
        chosen_shard(None)


@pytest.mark.parametrize("text", ["3", "4/4", "a/b", "-1/2", "/"])
def test_bad_shards_are_refused(tmp_path: Path, text: str) -> None:
    result = iper("prepare", "--root", tmp_path, "--shard", text)
    assert result.exit_code == 1
    assert "write I/N with I from 0 to N - 1" in result.stderr


def test_errors_speak_json_too(tmp_path: Path) -> None:
    result = iper("info", "--root", tmp_path, "--json")
    assert result.exit_code == 1
    assert "is not prepared" in json.loads(result.stdout)["error"]
    assert "is not prepared" in result.stderr


def test_a_body_that_is_not_there_is_one_error(tmp_path: Path, mini: type) -> None:
    for clip_id in ("001/1/1", "001/1/2"):
        mini.frames(tmp_path, clip_id)
    result = iper("prepare", "--root", tmp_path, "--body", "nope.pkl")
    assert result.exit_code == 1
    assert result.stderr.count("There is no body 'nope.pkl'") == 1


def test_what_is_no_file_is_named_with_the_remedy(tmp_path: Path, mini: type) -> None:
    mini.frames(tmp_path, "001/1/1")
    mini.frames(tmp_path, "001/1/2")
    for clip_id in ("001/1/1", "001/1/2"):
        (tmp_path / f"images_HD/{clip_id}/0003.jpg").unlink()
    (tmp_path / "images_HD/001/1/1/0003.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "images_HD/001/1/2/0003.jpg").mkdir()
    failures = json.loads(iper("prepare", "--root", tmp_path, "--json").stdout)["failures"]
    assert "0003.jpg: it is not there, or a link that leads nowhere" in failures["001/1/1"]
    assert "0003.jpg: it is a folder" in failures["001/1/2"]


def test_splits_that_are_no_text_are_named(tmp_path: Path, mini: type) -> None:
    mini.frames(tmp_path, "001/1/1")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe001")
    result = iper("prepare", "--root", tmp_path)
    assert "train.txt is not UTF-8 text" in result.stderr


def test_keypoints_of_nobody_are_named(tmp_path: Path, mini: type) -> None:
    mini.video(tmp_path, "001/1/1")
    (tmp_path / "smpls/001/1/1/pose_shape.pkl").unlink()
    people = [{"people": []}] * 8
    (tmp_path / "001_1_1.json").write_text(json.dumps({"frames": people}))
    failures = json.loads(iper("prepare", "--root", tmp_path, "--json").stdout)["failures"]
    assert failures["001/1/1"].startswith("001_1_1.json: No person box lies in the frame")
    assert "SquareCrop" not in failures["001/1/1"]


def test_a_protocol_in_a_read_only_root_says_what_to_do(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    result = iper("protocol", "--root", prepared, "--overwrite", "--json")
    assert result.exit_code == 1
    assert "protocol.toml: the file system is read-only" in json.loads(result.stdout)["error"]
