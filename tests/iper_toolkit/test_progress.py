"""What long work says while it runs."""

import io
import re
import time

import pytest

from iper_toolkit import progress
from iper_toolkit.progress import Remaining, Task, fraction, in_words, show, task


def test_nested_tasks_in_words() -> None:
    with task("scoring", 18, "case") as outer, task("personalizing", 40, "step") as inner:
        outer(2, "001/1/1")
        inner(11)
        stack = progress.running()
    assert in_words(stack) == "scoring: case 3 of 18 (001/1/1), personalizing: step 12 of 40"
    assert fraction(stack) == pytest.approx((2 + 11 / 40) / 18)
    assert progress.running() == []


def test_what_workers_do_counts() -> None:
    outer, halves = [Task("preparing", 4, "clip", 1)], [[Task("a", 2, "stage", 1)]] * 2
    assert fraction(outer, halves) == pytest.approx(0.5)
    assert in_words(outer, halves) == "preparing: 1 of 4 clips done, a: stage 2 of 2, 2 processes"


def test_a_task_that_fails_is_over() -> None:
    with pytest.raises(ValueError, match="no"), task("failing"):
        raise ValueError("no")
    assert progress.running() == []


def test_time_left_forgets_what_was_done_before() -> None:
    """Half was done by an earlier run; each further percent takes ten seconds."""
    remaining = Remaining()
    assert remaining.seconds(0, 0.0) is None
    remaining.seconds(1, 0.5)
    for second in range(2, 300):
        left = remaining.seconds(second, 0.5 + second / 1000)
    assert left == pytest.approx((0.5 - 0.299) * 1000, rel=0.02)


def test_time_left_where_nothing_ends_for_long() -> None:
    remaining = Remaining()
    for second in range(200):
        left = remaining.seconds(second, 0.25 if second >= 50 else 0.0)
    assert left is None or left > 0


@pytest.mark.parametrize("advances", [True, False])
def test_lines_say_what_how_far_and_how_long(
    monkeypatch: pytest.MonkeyPatch, advances: bool
) -> None:
    """Also of work that does not advance."""
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.1)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.02)
    stream = io.StringIO()
    with show("iper prepare", stream), task("preparing", 100, "clip") as advance:
        for count in range(40):
            if advances:
                advance(count)
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 3
    assert all(re.match(r"\[00:00\] preparing: clip \d+ of 100, ", line) for line in lines)
    assert lines[-1].endswith("s left" if advances else "time left not known yet")


def test_a_first_line_within_ten_seconds() -> None:
    assert progress.FIRST_LINE_SECONDS < 10
    assert progress.LINE_SECONDS < 10


def test_no_task_still_says_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.02)
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.02)
    stream = io.StringIO()
    with show("iper check --root data", stream):
        time.sleep(0.1)
    assert stream.getvalue() == "[00:00] iper check --root data\n"


def test_a_reader_that_has_left_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.01)
    with show("iper", Closed()):
        time.sleep(0.05)
