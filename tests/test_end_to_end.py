"""The whole path on synthetic people: draw them, prepare them, run two methods, read the leaderboard."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.leaderboard import build_boards
from benchmarks.planning import Settings
from benchmarks.results import read_rows
from benchmarks.workers import RunDescription, run_described
from iper_toolkit.prepare import prepare
from iper_toolkit.synthetic.dataset import write_dataset

ONE_PERSON = Settings(size=64, subjects=("001",))
ONE_PERSON_OPTIONS = ["--size", "64", "--subjects", "001"]


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


@pytest.mark.slow
def test_two_workers_make_the_table_of_one_process(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    done = subprocess.run(command(root, tmp_path / "run", "--workers", "2"), capture_output=True)
    assert done.returncode == 0, done.stderr
    one, two = (folder / "rows.parquet" for folder in (undisturbed, tmp_path / "run"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(
    root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    started = time.monotonic()
    subprocess.run(command(root, tmp_path / "timed"), check=True, capture_output=True)
    whole = time.monotonic() - started
    for k in range(1, 11):
        process = subprocess.Popen(
            command(root, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Ten moments spread over the whole run; a restart begins later in the work, never earlier.
        time.sleep(whole * k / 11)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(root, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "rows.parquet").read_bytes() == (undisturbed / "rows.parquet").read_bytes()
    assert not list(out.rglob(".part-*"))
