"""Front and back candidates, and the sources chosen from them."""

import json
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.sources import rank_frames, select_sources


def test_ranking_by_front_score() -> None:
    front, back = rank_frames(np.array([3.0, np.nan, 9.0, 0.0, 9.0]), limit=3)
    assert front == [2, 4, 0]
    assert back == [3, 0, 4]


def test_sources_come_half_from_the_front_and_half_from_the_back() -> None:
    front, back = [5, 6, 7, 8], [1, 2, 3, 4]
    assert select_sources(front, back, 1) == [5]
    assert select_sources(front, back, 2) == [5, 1]
    assert select_sources(front, back, 3) == [5, 6, 1]
    padded = select_sources([5], [1], 6, seed=3)
    assert padded[:2] == [5, 1]
    assert len(padded) == 6
    assert set(padded) == {5, 1}
    assert padded == select_sources([5], [1], 6, seed=3)


def test_impossible_requests() -> None:
    with pytest.raises(ValueError, match="num_sources is 0"):
        select_sources([1], [2], 0)
    with pytest.raises(ValueError, match="no front candidates"):
        select_sources([], [], 2)


@pytest.mark.parity
def test_reference_selection(fixtures_folder: Path) -> None:
    data = json.loads((fixtures_folder / "pipeline" / "parsers.json").read_text())["src_select"]
    for num_sources, expected in data["src_ids"].items():
        assert select_sources(data["ft_ids"], data["bk_ids"], int(num_sources)) == expected
    # The candidates themselves are a ranking: back is front reversed where a clip is short.
    scores = np.zeros(len(data["ft_ids"]))
    scores[data["ft_ids"]] = np.arange(len(scores), 0, -1)
    assert rank_frames(scores) == (data["ft_ids"], data["bk_ids"])
