"""Which pictures a report shows: numbers of pictures and of frames kept together, choices spread evenly."""

from pathlib import Path

import pytest

from benchmarks.gallery import Case, driven_galleries
from benchmarks.planning import spread_evenly


def case(num_drawn: int, kept: list[int], sources: list[int], status: str = "ok") -> Case:
    record = {"num_drawn": num_drawn, "status": status, **pictures(kept, sources)}
    return Case("self/1", {"warp": record})


def pictures(kept: list[int], sources: list[int]) -> dict[str, object]:
    shown = [{"clip": "1", "frames": sources, "folder": ""}]
    return {"kind": "self", "kept": {str(k): k + 5 for k in kept}, "sources": shown}


def test_a_method_that_stopped_half_way_does_not_say_how_long_a_case_is() -> None:
    short = {"num_drawn": 3, "status": "failed", "error": "x", **pictures([0, 2], [3])}
    whole = {"num_drawn": 10, "status": "ok", "error": "", **pictures([0, 9], [3])}
    both = Case("self/1", {"a": short, "b": whole})
    assert both.kept == {0: 5, 9: 14}
    assert both.is_drawn
    assert both.error_of("a") == "x"
    assert not Case("self/1", {"a": short}).is_drawn


def test_many_cases_are_thinned_evenly_and_counted(tmp_path: Path) -> None:
    cases = [Case(f"cross/{k:03d}", case(5, [0, 4], [0]).records) for k in range(100)]
    galleries, total = driven_galleries(tmp_path, cases, ["warp"])
    assert total == 100
    assert 10 <= len(galleries) <= 30
    assert galleries[0].caption == "cross/000"
    assert galleries[-1].caption == "cross/099"


@pytest.mark.parametrize(
    ("available", "most", "chosen"),
    [
        (3, 5, [0, 1, 2]),
        (10, 4, [0, 3, 6, 9]),
        (10, 1, [0]),
        (10, 0, []),
        (8, 7, [0, 1, 2, 4, 5, 6, 7]),
        (0, 3, []),
    ],
)
def test_spreading_goes_from_the_first_to_the_last(
    available: int, most: int, chosen: list[int]
) -> None:
    assert spread_evenly(range(available), most) == chosen


def test_pictures_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    (gallery,), _ = driven_galleries(tmp_path, [case(5, [0], [0])], ["warp"])
    assert [picture.alt for picture in gallery.rows[0].pictures] == ["not kept"] * 3
