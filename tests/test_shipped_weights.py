"""What the weights that ship can do, on people and a clip that they were not trained on (slow)."""

import shutil
from pathlib import Path

import pytest

from benchmarks.leaderboard import Board, build_boards
from benchmarks.planning import Settings
from benchmarks.results import read_rows
from benchmarks.workers import RunDescription, run_described
from iper_toolkit.clip import Dataset
from iper_toolkit.own_protocol import write_own_protocol
from iper_toolkit.prepare import prepare
from iper_toolkit.synthetic.dataset import write_dataset

METRICS = ("ssim_person", "l1_person", "lpips_mini_person", "os_cs_mini")


def board_of(root: Path, out: Path, settings: Settings, *methods: str, workers: int = 1) -> Board:
    description = RunDescription(root, out, methods, settings, keep="none")
    _, _, complete = run_described(description, workers=workers)
    assert complete
    (board,) = build_boards(read_rows(out / "rows.parquet"))
    return board


def mean(board: Board, method: str, metric: str) -> float:
    column = [column.metric for column in board.columns].index(metric)
    (entry,) = (entry for entry in board.entries if entry.method == method)
    return entry.cells[column].mean.mean


@pytest.mark.slow
def test_a_network_that_learned_a_real_person_beats_warp(
    real_clip_folder: Path, tmp_path: Path
) -> None:
    """Four of his frames, the rest of his own clip; one person, so no interval."""
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(real_clip_folder / "clip.mp4", root / "akun.mp4")
    shutil.copy(real_clip_folder / "body25.json", root / "akun.json")
    shutil.copy(real_clip_folder / "masks_half.npz", root)
    prepare(root)
    write_own_protocol(Dataset.open(root))
    settings = Settings(size=256, num_sources=4, max_frames=40, metrics=METRICS)
    methods = ("warp", "network=lwgan:attlwb-small", "personal=lwgan:attlwb-small+quick")
    board = board_of(root, tmp_path / "run", settings, *methods)
    assert not board.facts["synthetic"]
    assert mean(board, "personal", "ssim_person") > mean(board, "warp", "ssim_person") + 0.04
    assert mean(board, "personal", "l1_person") < mean(board, "warp", "l1_person")
    assert mean(board, "personal", "lpips_mini_person") < mean(board, "warp", "lpips_mini_person")
    assert mean(board, "personal", "ssim_person") > mean(board, "network", "ssim_person")


@pytest.mark.slow
def test_the_network_beats_warp_on_people_it_has_never_seen(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_dataset(root, size="many", seed=13)
    prepare(root, workers=2)
    settings = Settings(size=256, num_sources=2, max_frames=4, metrics=METRICS)
    methods = ("warp", "network=lwgan:attlwb-small")
    board = board_of(root, tmp_path / "run", settings, *methods, workers=2)
    assert board.num_subjects == 24
    (pair,) = board.pairs
    sign = 1 if pair.first == "network" else -1
    for metric, better in (("ssim_person", 1), ("lpips_mini_person", -1)):
        column = [column.metric for column in board.columns].index(metric)
        difference = pair.differences[column]
        assert difference.half_width is not None
        assert sign * better * difference.mean > difference.half_width, metric
