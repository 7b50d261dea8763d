"""Progress of long work: library code names its tasks as it would log, and a command shows them.

::

    with progress.task("fitting", total=len(clips), unit="clip") as advance:
        for count, clip in enumerate(clips):
            advance(count, clip.id)
            ...

Tasks may be nested, and run in worker processes (`processes.Pool` forwards them). A task costs two assignments
per `advance`: `show` reads the tasks from a thread of its own, so it also reports work that does not advance.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")

FIRST_LINE_SECONDS = 5.0
"""A terminal has its bar at once; other streams get their first line after so long."""
LINE_SECONDS = 8.0
"""Between two lines; less than 10 s, so that a busy machine keeps to that too."""
_BAR_SECONDS = 0.5


@dataclass
class Task:
    """One piece of work, as far as it is known now."""

    name: str
    total: int | None = None
    """How many units there are; None if that is not known."""
    unit: str = ""
    done: int = 0
    detail: str = ""
    """What is worked on at present, such as a clip's name."""

    @property
    def fraction(self) -> float:
        """Of this task alone, in [0, 1]; 0 without a total."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 0.0


Stack = Sequence[Task]
"""Nested tasks, the outermost first."""

_own: list[Task] = []
_of_workers: dict[int, list[Task]] = {}


@contextmanager
def task(name: str, total: int | None = None, unit: str = "") -> Iterator[Callable[..., None]]:
    """Name what the block does. Yields ``advance(done, detail="")``: units done so far, and the present one's name.

    Args:
        name: what is done, as "personalizing".
        total: units in all; None if that is not known.
        unit: one unit, in the singular, as "step".
    """
    own = Task(name, total, unit)

    def advance(done: int, detail: str = "") -> None:
        own.done, own.detail = done, detail

    _own.append(own)
    try:
        yield advance
    finally:
        # By identity: threads may nest their tasks in any order.
        _own[:] = [one for one in _own if one is not own]


def counted(items: Iterable[Item], name: str, total: int, unit: str = "") -> Iterator[Item]:
    """The items; a `task` of as many units runs while they are taken."""
    with task(name, total, unit) as advance:
        for count, item in enumerate(items):
            advance(count)
            yield item
        advance(total)


def running() -> list[Task]:
    """The tasks of this process, the outermost first."""
    return list(_own)


def replace(before: Sequence[Task], now: Sequence[Task]) -> None:
    """Take tasks of another process, which does this one's work, for this one's own, in place of earlier ones."""
    _own[:] = [one for one in _own if all(one is not old for old in before)] + list(now)


def as_fields(tasks: Sequence[Task]) -> list[tuple[Any, ...]]:
    """Tasks as plain values that go through a pipe: the arguments of `Task`."""
    return [(one.name, one.total, one.unit, one.done, one.detail) for one in tasks]


def set_worker(number: int, tasks: Sequence[Task] | None) -> None:
    """What a worker process does at present; None when it has ended its job."""
    if tasks:
        _of_workers[number] = list(tasks)
    else:
        _of_workers.pop(number, None)


def fraction(stack: Stack, workers: Sequence[Stack] = ()) -> float:
    """How much of the outermost task is done, in [0, 1]: inner tasks count as parts of the unit that is worked on."""
    if not stack:
        return max((fraction(one) for one in workers), default=0.0)
    outer, inner = stack[0], stack[1:]
    if not outer.total:
        return fraction(inner, workers)
    in_work = fraction(inner) if inner else 0.0
    if workers:
        in_work = sum(fraction(one) for one in workers)
    return min(1.0, outer.fraction + in_work / outer.total)


def in_words(stack: Stack, workers: Sequence[Stack] = ()) -> str:
    """ "scoring: case 3 of 18 (001/1/1), personalizing: step 12 of 40"."""
    parts = [_one_in_words(one, many=len(workers) > 1) for one in stack]
    if workers:
        parts += [_one_in_words(one) for one in workers[0]]
        if len(workers) > 1:
            parts.append(f"{len(workers)} processes")
    return ", ".join(parts)


def _one_in_words(one: Task, *, many: bool = False) -> str:
    unit = one.unit or "part"
    detail = f" ({one.detail})" if one.detail else ""
    if one.total is None:
        count = f": {one.done} {unit}s done" if one.done else ""
    elif many or one.done >= one.total:
        count = f": {one.done} of {one.total} {unit}s done"
    else:
        count = f": {unit} {one.done + 1} of {one.total}"
    return f"{one.name}{count}{detail}"


class Remaining:
    """Estimates the time that is left from the rate of the second half of the time so far.

    What was done before (a resumed run counts it within a second) and slow starts are forgotten by and by.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    def seconds(self, now: float, done: float) -> float | None:
        """What is left at the time `now` when the fraction `done` is done; None while that cannot be told."""
        if self._samples and done < self._samples[-1][1] - 0.5:  # another task has begun
            self._samples = []
        self._samples.append((now, done))
        begun, first = self._samples[0]
        middle = begun + (now - begun) / 2
        then, before = next(one for one in reversed(self._samples) if one[0] <= middle)
        if done <= before:  # nothing in the second half: longer units than that
            then, before = begun, first
        # Samples before the middle but one are never read again, as the middle only moves on.
        keep = max((i for i, one in enumerate(self._samples) if one[0] <= middle), default=0)
        self._samples = [self._samples[0], *self._samples[max(1, keep) :]]
        if done <= before or now <= then:
            return None
        return (now - then) * (1 - done) / (done - before)


def duration(seconds: float) -> str:
    """ "40 s", "6 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def clock(seconds: float) -> str:
    """ "00:40" or "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


@contextmanager
def show(name: str = "working", stream: TextIO | None = None) -> Iterator[None]:
    """Show the tasks that run within the block: a bar on a terminal, a line every few seconds elsewhere.

    Args:
        name: said while no task runs.
        stream: default: standard error.
    """
    global _display
    if _display is not None:  # a command within a command: one display is enough
        yield
        return
    _display = _Display(name, stream if stream is not None else sys.stderr)
    _display.start()
    try:
        yield
    finally:
        _display.stop()
        _display = None


def write_line(text: str, stream: TextIO | None = None) -> None:
    """Write a line to standard error without tearing the bar."""
    target = stream if stream is not None else sys.stderr
    if target is None:
        return
    display = _display
    if display is None:
        target.write(text + "\n")
        target.flush()
    else:
        display.write_line(text, target)


class _Display(threading.Thread):
    def __init__(self, name: str, stream: TextIO | None) -> None:
        super().__init__(name="progress", daemon=True)
        self._idle, self._stream = name, stream
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._remaining = Remaining()
        self._bar: Any = None
        self._on_terminal = stream is not None and stream.isatty()

    def run(self) -> None:
        next_line = self._begun + FIRST_LINE_SECONDS
        while not self._ended.wait(_BAR_SECONDS):
            now = time.monotonic()
            stack, workers = running(), list(_of_workers.values())
            left = self._remaining.seconds(now, fraction(stack, workers))
            with self._writing:
                try:
                    if self._on_terminal:
                        self._draw_bar(stack, workers, left)
                    elif now >= next_line:
                        next_line = now + LINE_SECONDS
                        self._write(self._line(stack, workers, left))
                except (OSError, ValueError):  # nobody reads it any more, or it was closed
                    return

    def stop(self) -> None:
        self._ended.set()
        self.join(2)
        with self._writing:
            self._close_bar()

    def write_line(self, text: str, target: TextIO) -> None:
        with self._writing:
            if self._bar is not None:
                self._bar.clear()
            target.write(text + "\n")
            target.flush()

    def _line(self, stack: Stack, workers: Sequence[Stack], left: float | None) -> str:
        said = in_words(stack, workers) or self._idle
        if left is not None:
            time_left = f", about {duration(left)} left"
        else:
            time_left = ", time left not known yet" if stack or workers else ""
        return f"[{clock(time.monotonic() - self._begun)}] {said}{time_left}\n"

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

    def _draw_bar(self, stack: Stack, workers: Sequence[Stack], left: float | None) -> None:
        from tqdm import tqdm

        if not stack and not workers:
            self._close_bar()
            return
        if self._bar is None:
            self._bar = tqdm(
                total=1.0,
                file=self._stream,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}%|{bar:12}| {elapsed}{desc}",
            )
        self._bar.n = round(fraction(stack, workers), 4)
        about = "" if left is None else f", about {duration(left)} left"
        self._bar.set_description_str(f" {in_words(stack, workers)}{about}", refresh=False)
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


_display: _Display | None = None
