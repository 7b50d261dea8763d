"""Rows to tables: what is averaged in which order, what is ranked, what is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.intervals import paired_difference
from benchmarks.leaderboard import build_boards, only_against, read_published
from benchmarks.leaderboard_text import as_json, as_markdown, as_text
from benchmarks.metrics import METRICS
from benchmarks.results import CaseFacts, Scores, case_table, concatenated
from benchmarks.score_tables import outcome, score_groups

FACTS = {
    "method_version": "1",
    "weights": "",
    "task": "imitation",
    "kind": "self",
    "protocol": "p-v1",
    "protocol_version": 1,
    "protocol_digest": "0123456789",
    "targets": "unseen",
    "num_sources": 1,
    "max_frames": 0,
    "size": 256,
    "resize": "r",
    "dataset": "fake",
    "dataset_digest": "e",
    "synthetic": True,
    "code_version": "0",
}


def block(
    method: str,
    clip: str,
    metric: str = "psnr",
    values: Any = (1.0,),
    case: str | None = None,
    mask_source: str = "",
    **changes: Any,
) -> pa.Table:
    key = case or f"self/{clip}"
    facts = CaseFacts(
        **(FACTS | changes),
        method=method,
        case=key,
        clip=clip,
        driver=clip,
        subject=clip.split("/")[0],
    )
    array = None if values is None else np.asarray(values, float)
    frames = range(3 if array is None else len(array))
    region = METRICS[metric].region
    return case_table(facts, list(frames), [Scores(metric, "1", region, mask_source, array)])


def boards(*blocks: pa.Table) -> Any:
    return build_boards(concatenated(list(blocks)))


def test_frames_then_cases_then_clips_then_people() -> None:
    (board,) = boards(
        # Two cases of one clip (two sources), of unequal length: 2 and 4 -> 3.
        block("m", "1/a", values=[1, 3], case="self/1a-from-0"),
        block("m", "1/a", values=[4] * 10, case="self/1a-from-1"),
        block("m", "1/b", values=[9] * 100),  # person 1: (3 + 9) / 2
        block("m", "2/a", values=[0]),  # person 2
    )
    (entry,) = board.entries
    assert entry.cells[0].mean.mean == 3.0
    assert (entry.cells[0].mean.n, board.num_subjects, board.num_cases) == (2, 2, 4)
    assert (entry.num_frames, entry.num_failed) == (113, 0)


def test_failures_count_and_undefined_frames_are_left_out() -> None:
    (board,) = boards(
        block("m", "1/a", values=None),
        block("m", "1/b", values=[10.0, np.inf, np.nan]),
    )
    (entry,) = board.entries
    assert METRICS["psnr"].failure_value == 0
    assert entry.cells[0].mean.mean == 5.0
    assert (entry.num_failed, entry.num_cases, entry.cells[0].num_undefined) == (1, 2, 2)
    text = as_text([board])
    assert "1 of 2" in text
    assert "[2 undefined]" in text
    assert "worst score" in text


def people(method: str, shift: float, n: int = 8, **more: Any) -> list[pa.Table]:
    generator = np.random.default_rng(5)
    means = generator.normal(20, 3, n)
    own = 0.1 * (-1.0) ** np.arange(n) if method == "warp" else np.zeros(n)  # of mean zero
    return [block(method, f"{k}/a", values=[means[k] + shift + own[k]], **more) for k in range(n)]


def test_ranks_intervals_and_differences() -> None:
    (board,) = boards(*people("copy", 0), *people("warp", 2), *people("twin", 2))
    assert [entry.method for entry in board.entries][-1] == "copy"
    ranks = {entry.method: entry.cells[0].rank for entry in board.entries}
    assert ranks == {"warp": 1, "twin": 1, "copy": 3}
    assert len(board.pairs) == 3
    (pair,) = [one for one in board.pairs if {one.first, one.second} == {"warp", "copy"}]
    assert (pair.first, pair.second) == ("warp", "copy")
    (difference,) = pair.differences
    assert difference.low > 1.5
    assert difference.high < 2.5
    text = as_text([board])
    assert "paired by person" in text
    assert "+2.0" in text
    assert "(1)" in text
    assert "synthetic" in text


def test_few_people_get_no_interval_and_no_rank() -> None:
    (board,) = boards(*people("copy", 0, n=5), *people("warp", 9, n=5))
    for entry in board.entries:
        assert entry.cells[0].rank is None
        assert entry.cells[0].mean.low is None
    text = as_text([board])
    assert "±" not in text
    assert "5 people" in text
    assert "no interval and no rank" in text


def test_lower_is_better_for_errors() -> None:
    (board,) = boards(*people("a", 0.0, metric="l1"), *people("b", 5.0, metric="l1"))
    assert [(e.method, e.cells[0].rank) for e in board.entries] == [("a", 1), ("b", 2)]


def test_a_method_that_is_not_through_is_not_ranked() -> None:
    (board,) = boards(*people("copy", 0), *people("warp", 2)[:-1])
    ranks = {entry.method: entry.cells[0].rank for entry in board.entries}
    assert ranks == {"copy": 1, "warp": None}
    assert "Not through with every case, so last and not ranked: warp" in as_text([board])


def test_a_method_that_is_not_through_is_last_and_compared_on_what_both_have() -> None:
    """Half the clips, the easy ones: better by 5 in the mean, worse by 1 on what both have drawn."""
    whole = [
        block("whole", f"{k}/{clip}", values=[value + k])
        for k in range(8)
        for clip, value in (("easy", 30), ("hard", 18))
    ]
    half = [block("half", f"{k}/easy", values=[29 + k + 0.01 * (k % 2)]) for k in range(8)]
    (board,) = boards(*whole, *half)
    assert [entry.method for entry in board.entries] == ["whole", "half"]
    assert board.entries[1].cells[0].mean.mean > board.entries[0].cells[0].mean.mean
    (pair,) = board.pairs
    (difference,) = pair.differences
    assert (pair.first, pair.second) == ("whole", "half")
    assert difference.mean == pytest.approx(0.995)
    assert difference.low > 0.98
    assert difference.high < 1.01


def test_methods_without_a_common_case_have_no_difference() -> None:
    (board,) = boards(block("a", "1/a"), block("b", "1/b"))
    (pair,) = board.pairs
    assert np.isnan(pair.differences[0].mean)
    assert pair.differences[0].n == 0


def test_differences_from_one_method_alone() -> None:
    found = boards(*people("warp", 0), *people("mine", 1), *people("copy", -2))
    (board,) = only_against(found, "mine")
    assert [{pair.first, pair.second} for pair in board.pairs] == [
        {"mine", "warp"},
        {"mine", "copy"},
    ]
    assert len(found[0].pairs) == 3
    assert board.entries == found[0].entries
    with pytest.raises(ValueError, match=r"No method 'his'.*copy, mine, warp"):
        only_against(found, "his")


def test_two_versions_under_one_name_are_two_entries() -> None:
    (board,) = boards(
        block("ours", "1/a", values=[1.0]),
        block("ours", "1/a", values=[3.0], method_version="2"),
        block("ours", "1/a", values=[2.0], method_version="2", weights="0123456789abcdef"),
        block("copy", "1/a", values=[0.0]),
    )
    assert {entry.method: entry.cells[0].mean.mean for entry in board.entries} == {
        "ours (version 2, no weights)": 3.0,
        "ours (version 2, weights 01234567)": 2.0,
        "ours (version 1, no weights)": 1.0,
        "copy": 0.0,
    }


@pytest.mark.parametrize(
    ("scores", "leader"),
    [
        # By PSNR of the frame a leads, by L1 of the person b does.
        ({("psnr", ""): (30, 20), ("l1_person", "set"): (0.3, 0.1)}, "b"),
        ({("psnr_official", ""): (30, 20), ("l1", ""): (0.3, 0.1)}, "b"),
        ({("ssim", ""): (0.9, 0.1), ("ssim_person", "set"): (0.2, 0.8)}, "b"),
        ({("psnr", ""): (30, 20)}, "a"),
    ],
)
def test_the_summary_names_whom_the_board_puts_first(
    scores: dict[tuple[str, str], tuple[float, float]], leader: str
) -> None:
    (board,) = boards(
        *(
            block(method, "1/a", metric=metric, values=[pair[k]], mask_source=masks)
            for k, method in enumerate("ab")
            for (metric, masks), pair in scores.items()
        )
    )
    assert board.entries[0].method == leader
    column = board.columns[board.decisive]
    best = max if column.better == "higher" else min
    assert scores[column.metric, column.mask_source]["ab".index(leader)] == best(
        scores[column.metric, column.mask_source]
    )
    assert outcome(board).startswith(f"{leader} has the best mean {column.title}")


def test_of_two_mask_sources_the_one_with_most_people_decides() -> None:
    def both(method: str, on_body: float, on_set: float) -> list[pa.Table]:
        return [
            block(method, "1/a", metric="l1_person", mask_source="body", values=[on_body]),
            block(method, "2/a", metric="l1_person", mask_source="set", values=[on_set]),
            block(method, "3/a", metric="l1_person", mask_source="set", values=[on_set]),
        ]

    (board,) = boards(*both("a", 0.1, 0.4), *both("b", 0.3, 0.2))
    assert board.columns[board.decisive].mask_source == "set"
    assert board.entries[0].method == "b"
    assert outcome(board).startswith("b has the best mean L1 (person): 0.2000")


@pytest.mark.parametrize(
    "change",
    [
        {"size": 512},
        {"kind": "cross"},
        {"protocol_digest": "x"},
        {"targets": "official"},
        {"num_sources": 2},
        {"max_frames": 5},
        {"dataset_digest": "f"},
        {"resize": "other"},
    ],
)
def test_what_is_not_comparable_stands_apart(change: dict[str, Any]) -> None:
    found = boards(block("m", "1/a"), block("m", "1/a", **change))
    assert len(found) == 2
    assert all(board.num_cases == 1 for board in found)


def test_masks_of_different_sources_are_different_columns() -> None:
    (board,) = boards(
        block("m", "1/a", metric="l1_person", mask_source="set", values=[0.1]),
        block("m", "2/a", metric="l1_person", mask_source="body", values=[0.3]),
    )
    assert [column.mask_source for column in board.columns] == ["body", "set"]
    (entry,) = board.entries
    assert [cell.mean.mean for cell in entry.cells] == [0.3, 0.1]
    assert [cell.mean.n for cell in entry.cells] == [1, 1]


def test_nothing_to_show_is_said() -> None:
    with pytest.raises(ValueError, match="holds no scores"):
        boards()


@pytest.mark.parametrize("write", [as_text, as_markdown])
def test_published_numbers_stand_apart(write: Callable[..., str]) -> None:
    published = read_published("iPER")
    assert published
    text = write(boards(block("m", "1/a")), published)
    ours, _, others = text.partition("Published numbers")
    assert "74.53" in others
    assert "74.53" not in ours
    assert "never ranked" in others


def test_every_published_number_says_where_it_was_seen() -> None:
    for number in read_published():
        assert number.seen
        assert number.comparable
        assert float(number.value) > 0


def test_json_is_valid_and_exact(tmp_path: Path) -> None:
    (board,) = boards(block("m", "1/a", values=[1 / 3]), block("m", "2/a", values=[np.nan]))
    content = json.loads(as_json([board]))
    (entry,) = content["boards"][0]["entries"]
    assert entry["cells"][0]["mean"]["mean"] == 1 / 3
    (empty,) = boards(block("m", "2/a", values=[np.nan]))
    assert (
        json.loads(as_json([empty]))["boards"][0]["entries"][0]["cells"][0]["mean"]["mean"] is None
    )


def test_ranks_are_numbers_in_json() -> None:
    (board,) = boards(*people("warp", 0.2), *people("copy", 0.0))
    (told,) = json.loads(as_json([board]))["boards"]
    assert [entry["cells"][0]["rank"] for entry in told["entries"]] == [1, 2]


def test_markdown_is_a_table() -> None:
    lines = as_markdown(boards(*people("copy", 0), *people("warp", 1))).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("| method | PSNR ↑ | failed | frames |")
    assert len({line.count("|") for line in table[:4]}) == 1


def test_of_many_methods_all_pairs_are_there_and_one_metrics_stand_open() -> None:
    """Eight methods have 28 pairs; by every metric that is more than anybody reads."""
    blocks = [
        block(f"method-{m}", f"{person}/a", metric, [m + person / 10])
        for m in range(8)
        for person in range(6)
        for metric in ("psnr", "ssim", "l1")
    ]
    (board,) = boards(*blocks)
    (group,) = score_groups(board, dict.fromkeys((e.method for e in board.entries), 0))
    assert len(group.comparisons) == 28
    assert {one.metric for one in group.comparisons} == {group.metrics[0].title}
    assert len(group.more_comparisons) == 2 * 28
    assert {one.metric for one in group.more_comparisons} == {m.title for m in group.metrics[1:]}
    assert "56 differences" in group.more_caption


EVIL = "<img src=x>|\x1b[31m\u202e\n| a"


@pytest.mark.parametrize("write", [as_text, as_markdown, as_json])
def test_names_of_others_cannot_act_where_they_are_printed(write: Callable[..., str]) -> None:
    """A table of somebody else's may name anything: the method, the dataset, the protocol, the masks."""
    rows = [
        block(f"{EVIL}{k}", f"{person}/a", metric="l1_person", mask_source=EVIL, values=[0.1 + k],
              dataset=EVIL, protocol=EVIL, task=EVIL)
        for k in range(2)
        for person in range(2)
    ]  # fmt: skip
    text = write(boards(*rows))
    assert not any(sign in text for sign in "\x1b\u202e")
    if write is as_json:
        assert json.loads(text)["boards"][0]["facts"]["dataset"] == EVIL
        return
    assert ("<img" in text) == (write is as_text)
    assert not any(line.startswith("| a") for line in text.splitlines())
    if write is as_markdown:
        tables = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("| ")]
        assert {line.count("|") for line in tables[:4]} == {5}


def test_a_board_of_many_methods_is_the_same_by_one_choice_of_cases_or_by_many() -> None:
    """Means of couples are shared where cases are; the direct way, couple by couple, is the definition."""
    generator = np.random.default_rng(2)
    blocks = [
        block(f"m{m}", f"{person}/{clip}", values=generator.normal(20, 3, 3), case=f"self/{person}{clip}{k}")
        for m in range(5)
        for person in range(7)
        for clip in "ab"
        for k in range(2)
        if m < 2 or generator.random() > 0.2
    ]  # fmt: skip
    (board,) = boards(*blocks)
    table = concatenated(blocks).to_pandas()
    of_cases = table.groupby(["method", "subject", "clip", "case"])["value"].mean()
    of_cases = of_cases.unstack("method")
    for pair in board.pairs:
        both = of_cases[[pair.first, pair.second]].dropna()
        means = both.groupby(["subject", "clip"]).mean().groupby("subject").mean()
        expected = paired_difference(means[pair.first].to_numpy(), means[pair.second].to_numpy())
        assert pair.differences[0] == expected
