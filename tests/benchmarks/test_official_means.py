"""The official package's average of a table: batches of 16 frames in order, whoever they show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from benchmarks.cli import main
from benchmarks.official_means import as_lines, official_means
from benchmarks.results import CaseFacts, Scores, case_table, concatenated

FACTS: Any = {
    "method": "m", "method_version": "1", "weights": "", "task": "imitation", "kind": "self", "protocol": "p",
    "protocol_version": 1, "protocol_digest": "d", "targets": "unseen", "num_sources": 1, "max_frames": 0, "size": 64,
    "resize": "r", "dataset": "fake", "dataset_digest": "e", "synthetic": True, "code_version": "0",
}  # fmt: skip


def block(clip: str, values: Any) -> pa.Table:
    facts = CaseFacts(
        **FACTS, case=f"self/{clip}", clip=clip, driver=clip, subject=clip.split("/")[0]
    )
    array = None if values is None else np.asarray(values, float)
    frames = list(range(3 if array is None else len(array)))
    return case_table(facts, frames, [Scores("psnr", "1", "frame", "", array)])


ONE, TWO = np.arange(10.0), np.arange(10.0, 20)
TABLE = concatenated([block("2/a", TWO), block("1/a", ONE)])


def test_frames_are_batched_across_cases_in_order() -> None:
    (row,) = official_means(TABLE).to_dict("records")
    assert row["value"] == (np.arange(16).mean() + np.arange(16, 20).mean()) / 2
    assert (row["frames"], row["failed"], row["metric"]) == (20, 0, "psnr")


def test_frames_without_a_score_take_no_part_and_failed_ones_are_counted() -> None:
    table = concatenated([block("1/a", [1, np.nan, 4]), block("2/a", None)])
    (row,) = official_means(table).to_dict("records")
    assert (row["value"], row["frames"], row["failed"]) == (2.5, 2, 3)


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_every_form_holds_the_number(form: str) -> None:
    text = as_lines(official_means(TABLE), form)
    value = json.loads(text)["means"][0]["value"] if form == "json" else None
    assert value == 12.5 if value is not None else "12.5000" in text


def test_it_has_no_differences(tmp_path: Path) -> None:
    words = ["leaderboard", str(tmp_path), "--average", "official", "--against", "warp"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "leave out --against" in done.output
