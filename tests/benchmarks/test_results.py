"""The row schema: what is written comes back, whole, sorted, and once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.results import (
    SCHEMA,
    CaseFacts,
    Scores,
    case_table,
    concatenated,
    merge_tables,
    read_rows,
    rows_file,
    to_frame,
    write_rows,
)

FACTS = CaseFacts(
    method="ours",
    method_version="1",
    weights="",
    task="imitation",
    kind="self",
    case="self/a",
    clip="a",
    driver="a",
    subject="001",
    protocol="p",
    protocol_version=1,
    protocol_digest="d",
    targets="unseen",
    num_sources=1,
    max_frames=0,
    size=256,
    resize="r",
    dataset="fake",
    dataset_digest="e",
    synthetic=True,
    code_version="0",
)


def table(value: float = 1.0, **changes: object) -> pa.Table:
    scores = [
        Scores("ssim", "1", "frame", "", np.array([0.1, np.nan, np.inf]) * value),
        Scores("l1", "1", "frame", "", np.array([0.3, 0.2, 1e-17]) * value),
    ]
    return case_table(replace(FACTS, **changes), [4, 5, 9], scores)  # type: ignore[arg-type]


def test_a_row_a_frame_and_metric() -> None:
    rows = table().to_pylist()
    assert [(r["metric"], r["frame"], r["value"], r["status"]) for r in rows] == [
        ("l1", 4, 0.3, "ok"),
        ("l1", 5, 0.2, "ok"),
        ("l1", 9, 1e-17, "ok"),
        ("ssim", 4, 0.1, "ok"),
        ("ssim", 5, None, "undefined"),
        ("ssim", 9, None, "undefined"),
    ]
    assert {r["subject"] for r in rows} == {"001"}


def test_a_failed_case_has_its_rows() -> None:
    rows = case_table(FACTS, [4, 5], [Scores("l1", "1", "frame", "", None)]).to_pylist()
    assert [(r["frame"], r["value"], r["status"]) for r in rows] == [
        (4, None, "failed"),
        (5, None, "failed"),
    ]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"l1: \(3,\) values for 2 frames of self/a"):
        case_table(FACTS, [1, 2], [Scores("l1", "1", "frame", "", np.zeros(3))])


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [table(), table(case="self/b")])
    assert read_rows(path).equals(pa.concat_tables([table(), table(case="self/b")]))
    assert rows_file(tmp_path) == path
    write_rows(path, [case_table(FACTS, [], [])])
    assert len(read_rows(path)) == 0
    assert len(to_frame(read_rows(path))) == 0


def test_every_column_says_what_it_means() -> None:
    assert all((field.metadata or {}).get(b"meaning") for field in SCHEMA)


def test_foreign_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="is not a table of scores"):
        read_rows(path)
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(ValueError, match="cannot be read"):
        read_rows(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        rows_file(tmp_path)


def test_merging_sorts_and_keeps_each_case_once() -> None:
    a, b = table(method="a"), table(method="b")
    ab, ba = (
        concatenated(merge_tables({"one": pa.concat_tables(first), "two": second}))
        for first, second in (([b, a], b), ([a, b], a))
    )
    assert ab.equals(ba)
    assert ab.equals(pa.concat_tables([a, b]))
    assert len(concatenated(merge_tables({}))) == 0


def test_two_answers_to_one_question_are_an_error() -> None:
    with pytest.raises(ValueError, match="here and there hold different scores of ours on self/a"):
        merge_tables({"here": table(), "there": table(0.5)})


def test_scores_by_other_metrics_are_joined() -> None:
    both = table()
    ssim, l1 = (
        both.filter([m == name for m in both["metric"].to_pylist()]) for name in ("ssim", "l1")
    )
    (joined,) = merge_tables({"here": ssim, "there": l1, "again": both})
    assert joined.equals(both)


@pytest.mark.parametrize("change", [{"method_version": "2"}, {"weights": "f" * 64}])
def test_another_version_is_another_method(change: dict[str, str]) -> None:
    blocks = merge_tables({"here": table(), "there": table(0.5, **change)})
    assert len(blocks) == 2


def test_other_settings_are_another_question() -> None:
    blocks = merge_tables({"here": table(), "there": table(0.5, size=512)})
    assert len(blocks) == 2


def test_text_becomes_categories() -> None:
    frame = to_frame(table())
    assert str(frame["method"].dtype) == "category"
    assert frame["value"].isna().sum() == 2


def test_a_table_of_very_many_chunks_is_merged_in_time_that_grows_with_its_rows() -> None:
    """Two thousand cases, each a chunk: taking each case's rows out of all chunks would take minutes."""
    import time

    def many(count: int) -> pa.Table:
        return pa.concat_tables([table(case=f"self/{k}") for k in range(count)])

    seconds = []
    for count in (250, 2000):
        whole = many(count)
        start = time.process_time()
        blocks = merge_tables({"whole": whole})
        seconds.append(time.process_time() - start)
        assert len(blocks) == count
    assert seconds[1] < 8 * 4 * max(seconds[0], 0.05)
    assert concatenated(blocks).num_rows == whole.num_rows
    assert concatenated(blocks)["value"].num_chunks == 1


def test_columns_of_other_types_or_with_gaps_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "rows.parquet", table()
    metadata = whole.schema.metadata
    place = whole.schema.names.index("size")
    text = whole.set_column(place, "size", pa.array(["256"] * len(whole)))
    pq.write_table(text.replace_schema_metadata(metadata), path)
    with pytest.raises(ValueError, match=r"rows\.parquet: column size is of type string"):
        read_rows(path)
    gaps = whole.set_column(place, "size", pa.array([None] * len(whole), pa.int32()))
    pq.write_table(gaps.replace_schema_metadata(metadata), path)
    with pytest.raises(ValueError, match=f"column size is empty in {len(whole)} rows"):
        read_rows(path)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"schema_version": b"\xff"}), path)
    with pytest.raises(ValueError, match="not a table of scores"):
        read_rows(path)
