"""Scores of whole sets: they add up however a run was cut, and say what they rest on."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.leaderboard import build_boards
from benchmarks.leaderboard_text import as_json, as_markdown, as_text
from benchmarks.metrics import METRICS
from benchmarks.results import SCHEMA, CaseFacts
from benchmarks.sets import (
    SET_SCHEMA,
    Member,
    features_path,
    merge_sets,
    read_sets,
    score_sets,
    sets_file,
    write_features,
    write_sets,
)

FREID = METRICS["os_freid_mini"]
DIMENSIONS = 24


def member(folder: Path, method: str, case: str, *, failed: bool = False, shift: float = 0.0, **changes: Any) -> Member:  # fmt: skip
    """A case with features of 5 pictures, which only the method and the case decide."""
    facts = {
        "method_version": "1", "weights": "", "task": "imitation", "kind": "self", "protocol": "p",
        "protocol_version": 1, "protocol_digest": "d", "targets": "unseen", "num_sources": 1, "max_frames": 0,
        "size": 64, "resize": "r", "dataset": "fake", "dataset_digest": "e", "synthetic": True, "code_version": "0",
    }  # fmt: skip
    whole = CaseFacts(
        **(facts | changes), method=method, case=case, clip=case, driver=case, subject=case[:3]
    )
    random = np.random.default_rng(list(case.encode()))
    truth = random.normal(0, 1, (5, DIMENSIONS)).astype(np.float32)
    generated = (truth + shift + random.normal(0, 0.2, truth.shape)).astype(np.float32)
    paths = [features_path(folder, name, case) for name in (method, "target")]
    for path, features in zip(paths, (generated, truth), strict=True):
        if not failed:
            write_features(path, {"osnet-mini:correct": features})
    return Member(asdict(whole), *paths, {FREID.name: "abc"}, {FREID.name: "set"}, failed)


CASES = ["001/a", "001/b", "002/a", "003/a"]


def test_order_of_arrival_changes_nothing(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case) for case in CASES]
    tables = [score_sets(order, [FREID]) for order in (members, members[::-1])]
    assert tables[0].equals(tables[1])
    (row,) = tables[0].to_pylist()
    assert row["status"] == "ok"
    assert (row["n"], row["m"], row["dimensions"]) == (20, 20, DIMENSIONS)
    assert (row["num_cases"], row["num_subjects"]) == (4, 3)
    assert row["warning"]  # fewer pictures than dimensions


def test_the_value_is_that_of_all_features_at_once(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case, shift=0.5) for case in CASES]
    (row,) = score_sets(members, [FREID]).to_pylist()
    whole = []
    for paths in ([m.features for m in members], [m.truth for m in members]):
        whole.append(np.concatenate([np.load(path)["osnet-mini:correct"] for path in paths]))
    assert FREID.of_set is not None
    expected = FREID.of_set([whole[0]], [whole[1]]).value
    assert row["value"] == pytest.approx(expected, rel=1e-9)


def test_runs_of_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case) for case in CASES]
    whole = score_sets(members, [FREID])
    parts = {"one": members[:1], "two": members[1:]}
    tables = {name: score_sets(part, [FREID]) for name, part in parts.items()}
    merged, left_out = merge_sets(tables, parts)
    assert merged.equals(whole)
    assert not left_out


def test_parts_without_their_features_are_left_out_aloud(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case) for case in CASES]
    tables = {
        "one": score_sets(members[:1], [FREID]),
        "two.parquet": score_sets(members[1:], [FREID]),
    }
    merged, left_out = merge_sets(tables, {"one": members[:1]})
    assert not len(merged)
    (told,) = left_out
    assert "two.parquet" in told
    assert "Merge the folders" in told


def test_the_same_set_twice_counts_once(tmp_path: Path) -> None:
    table = score_sets([member(tmp_path, "m", case) for case in CASES], [FREID])
    merged, left_out = merge_sets({"a": table, "b": table}, {})
    assert merged.equals(table)
    assert not left_out


def test_a_failed_case_takes_the_number_away(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case, failed=case == "002/a") for case in CASES]
    (row,) = score_sets(members, [FREID]).to_pylist()
    assert (row["status"], row["value"]) == ("failed", None)
    board = only_board(pa.Table.from_pylist([row], schema=SET_SCHEMA))
    assert board.entries[0].cells[0].of_set.status == "failed"
    assert "failed" in as_text([board])


def test_too_few_pictures_are_undefined_and_say_why(tmp_path: Path) -> None:
    one = member(tmp_path, "m", CASES[0])
    write_features(one.features, {"osnet-mini:correct": np.ones((1, DIMENSIONS), np.float32)})
    (row,) = score_sets([one], [FREID]).to_pylist()
    assert row["status"] == "undefined"
    assert row["warning"]


def test_what_was_scored_before_is_taken_over(tmp_path: Path) -> None:
    members = [member(tmp_path, "m", case) for case in CASES]
    table = score_sets(members, [FREID])
    for one in members:
        one.features.unlink()  # nothing could be computed again
    assert score_sets(members, [FREID], known=table).equals(table)
    with pytest.raises(ValueError, match="cannot be read as features"):
        score_sets(members, [FREID])


def test_a_table_comes_back_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    table = score_sets([member(tmp_path, "m", case) for case in CASES], [FREID])
    path = sets_file(tmp_path / "rows.parquet")
    assert not len(read_sets(path))
    write_sets(path, table)
    assert read_sets(path).equals(table)
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"sets\.parquet cannot be read"):
        read_sets(path)
    assert sets_file(tmp_path / "all.parquet").name == "all.sets.parquet"


def only_board(sets: pa.Table) -> Any:
    (board,) = build_boards(SCHEMA.empty_table(), sets)
    return board


def test_a_board_of_sets_has_neither_interval_nor_rank(tmp_path: Path) -> None:
    near = [member(tmp_path, "near", case) for case in CASES]
    far = [member(tmp_path, "far", case, shift=3.0) for case in CASES]
    board = only_board(score_sets(near + far, [FREID]))
    assert [entry.method for entry in board.entries] == ["near", "far"]  # the lower the better
    for entry in board.entries:
        (cell,) = entry.cells
        assert cell.rank is None
        assert cell.mean.low is None
        assert cell.of_set.n == 20
    (pair,) = board.pairs
    assert pair.differences[0].mean < 0
    text = as_text([board])
    assert "(n 20, d 24, !)" in text
    assert "synthetic-trained, not comparable with published numbers" in text
    assert "OS-FReID-mini" in as_markdown([board])
    assert "of_set" in as_json([board])


def test_sets_of_other_cases_stand_in_other_columns(tmp_path: Path) -> None:
    whole = score_sets([member(tmp_path, "a", case) for case in CASES], [FREID])
    less = score_sets([member(tmp_path, "b", case) for case in CASES[:2]], [FREID])
    board = only_board(pa.concat_tables([whole, less]))
    assert len(board.columns) == 2
    assert {cell.of_set is None for cell in board.entries[0].cells} == {True, False}
