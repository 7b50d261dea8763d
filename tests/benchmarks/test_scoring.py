"""Runs with judges: what is shared and kept, sets of shards, cross-imitation, poses that were estimated, odd pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from benchmarks.leaderboard import build_boards
from benchmarks.leaderboard_text import as_text
from benchmarks.methods import Copy
from benchmarks.planning import Settings
from benchmarks.record import read_run
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from benchmarks.set_members import merged_sets
from benchmarks.sets import read_sets
from iper_toolkit.body import Body
from iper_toolkit.protocols import Protocol

METRICS = ("l1_person", "pcb_cs_mini", "pcb_freid_mini", "flicker", "warping_error")


@pytest.fixture
def run(dataset: Any, protocol: Protocol, body: Body, tmp_path: Path) -> Any:
    def make(name: str, **settings: Any) -> Run:
        chosen = Settings(**({"size": 64, "metrics": METRICS} | settings))
        return Run(
            dataset,
            protocol,
            [Copy()],
            chosen,
            tmp_path / name,
            body=body,
            features=tmp_path / "kept",
        )

    return make


def test_shards_add_up_to_the_whole(run: Any, tmp_path: Path) -> None:
    run_all(run("whole"))
    for index in (0, 1):
        run_all(run("shards"), shard=(index, 2))
    for name in ("rows.parquet", "sets.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "shards" / name).read_bytes()


def test_runs_of_some_people_merge_to_the_whole(run: Any, tmp_path: Path) -> None:
    run_all(run("whole"))
    for name, subjects in (("one", ("001",)), ("others", ("002", "003"))):
        run_all(run(name, subjects=subjects))
    merged, left_out = merged_sets([tmp_path / "one", tmp_path / "others"])
    assert not left_out
    assert merged.equals(read_sets(tmp_path / "whole" / "sets.parquet"))


def test_true_pictures_are_embedded_once_and_kept(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.networks.judge import LoadedJudge

    counts: list[int] = []
    embed = LoadedJudge.embed

    def counting(self: LoadedJudge, crops: Any, **more: Any) -> Any:
        counts.append(len(crops))
        return embed(self, crops, **more)

    monkeypatch.setattr(LoadedJudge, "embed", counting)
    run_all(run("first"))
    first = sum(counts)
    counts.clear()
    run_all(run("second"))
    assert sum(counts) == first / 2  # the true half was kept
    assert read_rows(tmp_path / "first/rows.parquet").equals(
        read_rows(tmp_path / "second/rows.parquet")
    )
    for path in (tmp_path / "kept").glob("*.npy"):
        path.write_bytes(b"damaged")
    counts.clear()
    run_all(run("third"))
    assert sum(counts) == first


def test_frames_without_the_frame_before_have_no_row_of_motion(run: Any, tmp_path: Path) -> None:
    run_all(run("run"))
    rows = read_rows(tmp_path / "run/rows.parquet").to_pandas()
    rows = rows[rows["case"] == "self/001_1_1"]  # frames 0 .. 8, of which 2 is a source
    assert sorted(rows[rows["metric"] == "l1_person"]["frame"]) == [0, 1, 3, 4, 5, 6, 7, 8]
    assert sorted(rows[rows["metric"] == "flicker"]["frame"]) == [1, 4, 5, 6, 7, 8]
    assert set(rows["status"]) == {"ok"}


def test_a_thinned_case_has_no_motion(run: Any, tmp_path: Path) -> None:
    run_all(run("run", max_frames=2))
    metrics = read_rows(tmp_path / "run/rows.parquet")["metric"].unique().to_pylist()
    assert "flicker" not in metrics
    assert "pcb_cs_mini" in metrics


def test_a_person_driven_by_another_is_judged_by_identity_alone(run: Any, tmp_path: Path) -> None:
    run_all(run("run", kind="all"))
    rows = read_rows(tmp_path / "run/rows.parquet")
    cross = rows.filter(pc.equal(rows["kind"], "cross"))
    assert set(cross["metric"].unique().to_pylist()) == {"pcb_cs_mini"}
    assert len(cross) == 5
    boards = build_boards(rows, read_sets(tmp_path / "run/sets.parquet"))
    (board,) = [one for one in boards if one.facts["kind"] == "cross"]
    assert {column.metric for column in board.columns} == {"pcb_cs_mini", "pcb_freid_mini"}
    assert "PCB-FReID-mini" in as_text([board])


def test_random_judges_are_told(run: Any, tmp_path: Path) -> None:
    run_all(run("run", metrics=("pcb_cs_mini", "l1"), random_judges=3))
    rows = read_rows(tmp_path / "run/rows.parquet")
    assert set(rows["judge"].unique().to_pylist()) == {"", "random-3"}
    assert "RANDOM weights" in as_text(build_boards(rows))


def test_a_failed_method_has_no_number_of_a_set(run: Any, tmp_path: Path) -> None:
    class Broken(Copy):
        name = "broken"

        def draw(self, motion: Any) -> Any:
            if motion.case.endswith("003_1_2"):
                raise RuntimeError("no")
            return super().draw(motion)

    broken = run("run")
    broken.methods = (Broken(),)
    run_all(broken)
    (row,) = read_sets(tmp_path / "run/sets.parquet").to_pylist()
    assert (row["status"], row["value"]) == ("failed", None)
    assert len(read_run(tmp_path / "run")["failures"]) == 1


def test_features_are_finite_and_as_many_as_scored_frames(run: Any, tmp_path: Path) -> None:
    run_all(run("run"))
    for name in ("copy", "target"):
        with np.load(tmp_path / f"run/features/{name}/self/001_1_1.npz") as archive:
            assert archive["pcb-mini:correct"].shape == (8, 384)
            assert np.isfinite(archive["pcb-mini:correct"]).all()
