"""The whole path on synthetic people: draw them, prepare them, run two methods, read the leaderboard."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.leaderboard import build_boards
from benchmarks.planning import Settings
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.workers import RunDescription, run_described
from iper_toolkit.clip import Dataset
from iper_toolkit.own_protocol import PROTOCOL_ID, write_own_protocol
from iper_toolkit.prepare import prepare
from iper_toolkit.synthetic.dataset import SIZES, Size, write_dataset

ONE_PERSON = Settings(size=64, subjects=("001",))
# The command scores more by default than a bare `Settings`.
ONE_PERSON_METRICS = ",".join(ONE_PERSON.metrics)
ONE_PERSON_OPTIONS = ["--size", "64", "--subjects", "001", "--metrics", ONE_PERSON_METRICS]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    write_dataset(folder, size="tiny", seed=1, workers=1)
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(command(root, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def command(root: Path, out: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "benchmarks", "run", "--task", "imitation"]
    start += ["--method", "copy", "--method", "warp"]
    return [*start, "--root", str(root), "--out", str(out), *ONE_PERSON_OPTIONS, *more]


def described(root: Path, out: Path, settings: Settings = ONE_PERSON) -> RunDescription:
    return RunDescription(root, out, ("copy", "warp"), settings)


def test_warp_beats_copy_on_the_person(undisturbed: Path) -> None:
    (board,) = build_boards(read_rows(undisturbed / "rows.parquet"))
    assert board.facts["synthetic"]
    assert [entry.method for entry in board.entries] == ["warp", "copy"]
    warp, copy = board.entries
    assert warp.num_failed == copy.num_failed == 0
    for k, column in enumerate(board.columns):
        if column.metric in ("ssim_person", "l1_person", "ssim", "l1"):
            better = warp.cells[k].mean.mean - copy.cells[k].mean.mean
            assert (better > 0) == (column.better == "higher"), column.metric


def test_two_shards_make_the_table_of_one_process(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for index in (1, 0):
        _, _, complete = run_described(described(root, out), shard=(index, 2))
        assert complete == (index == 0)
    assert (out / "rows.parquet").read_bytes() == (undisturbed / "rows.parquet").read_bytes()


def test_cross_imitation_is_drawn(root: Path, tmp_path: Path) -> None:
    settings = Settings(kind="cross", size=64, max_frames=4)
    run, outcomes, complete = run_described(described(root, tmp_path / "run", settings))
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    folders = list((tmp_path / "run" / "pictures" / "warp" / "cross").iterdir())
    assert len(folders) == len(run.plan().cases) >= 1
    assert {len(list(folder.glob("*.png"))) for folder in folders} == {4}


def test_every_task_runs_into_one_folder_and_page(root: Path, tmp_path: Path) -> None:
    settings = Settings(
        kind="scored", size=64, max_frames=2, metrics=("l1_person",), task="all", subjects=("001",)
    )
    _, outcomes, complete = run_described(described(root, tmp_path / "run", settings))
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    boards = build_boards(read_rows(tmp_path / "run" / "rows.parquet"))
    kinds = ["self", "own", "other", "turn", "instant"]
    assert [board.facts["kind"] for board in boards] == kinds
    for board in boards:
        assert [entry.method for entry in board.entries] == ["warp", "copy"], board.title
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert [page.count(f'id="board-{k}"') for k in range(1, 7)] == [1, 1, 1, 1, 1, 0]


@pytest.mark.slow
def test_two_workers_make_the_table_of_one_process(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    done = subprocess.run(command(root, tmp_path / "run", "--workers", "2"), capture_output=True)
    assert done.returncode == 0, done.stderr
    one, two = (folder / "rows.parquet" for folder in (undisturbed, tmp_path / "run"))
    assert one.read_bytes() == two.read_bytes()


def num_finished(out: Path) -> int:
    """Cases of methods that a run has through."""
    return len(list((out / "cases").glob("*/*/*.parquet")))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    all_cases = num_finished(undisturbed)
    in_the_middle = 0
    for k in range(10):
        before = num_finished(out)
        process = subprocess.Popen(
            command(root, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and num_finished(out) == before:
            time.sleep(0.005)
        # At the first sign of progress or a little later, so that different work is cut off each time.
        time.sleep(0.03 * (k % 4))
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        in_the_middle += killed and num_finished(out) < all_cases
        if not killed:
            break
    assert in_the_middle >= 3
    done = subprocess.run(command(root, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "rows.parquet").read_bytes() == (undisturbed / "rows.parquet").read_bytes()
    assert not list(out.rglob(".part-*"))


@pytest.mark.slow
def test_warp_beats_copy_beyond_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eight = Size(
        8, (1,), frames=12, seconds=4.0, pixels=96, instants=1, other_person_every=12
    )  # people with one outfit each
    monkeypatch.setitem(SIZES, "tiny", eight)
    write_dataset(tmp_path / "data", size="tiny", seed=3, workers=1)
    prepare(tmp_path / "data")
    settings = Settings(size=96, metrics=("ssim_person", "l1_person"))
    out = tmp_path / "run"
    _, outcomes, complete = run_described(described(tmp_path / "data", out, settings))
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    (board,) = build_boards(read_rows(out / "rows.parquet"))
    assert board.num_subjects == 8
    (pair,) = board.pairs
    assert (pair.first, pair.second) == ("warp", "copy")
    similarity, error = pair.differences
    assert [column.metric for column in board.columns] == ["ssim_person", "l1_person"]
    assert similarity.low is not None
    assert similarity.low > 0
    assert error.high is not None
    assert error.high < 0


@pytest.mark.slow
def test_a_real_clip_goes_the_whole_way(real_clip_folder: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    for name, as_name in (
        ("clip.mp4", "clip.mp4"),
        ("body25.json", "clip.json"),
        ("masks_half.npz", "masks_half.npz"),
    ):
        shutil.copy(real_clip_folder / name, data / as_name)
    assert prepare(data).ok
    dataset = Dataset.open(data)
    write_own_protocol(dataset)
    settings = Settings(size=256, max_frames=12)
    run, outcomes, complete = run_described(described(data, out, settings))
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    assert run.protocol.id == PROTOCOL_ID
    (board,) = build_boards(read_rows(out / "rows.parquet"))
    assert not board.facts["synthetic"]
    assert {column.mask_source for column in board.columns} == {"", "file"}
    assert [entry.method for entry in board.entries] == ["warp", "copy"]
    assert {entry.num_frames for entry in board.entries} == {12}
    for entry in board.entries:
        assert all(np.isfinite(cell.mean.mean) for cell in entry.cells)
    assert write_report(out).is_file()
