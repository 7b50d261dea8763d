"""What `lwgan-bench` says of a run while it runs, and of what is missing from it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iper_toolkit.console import tell
from iper_toolkit.plain_text import visible

if TYPE_CHECKING:
    from benchmarks.runner import Outcome


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int, int, list[Outcome]], None]]:
    """A line a person on standard error; on a terminal, which has a bar, only what went wrong."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def line(count: int, total: int, outcomes: list[Outcome]) -> None:
        if not quiet and (not on_terminal or any(one.error for one in outcomes)):
            tell(f"[{count}/{total}] {_in_words(outcomes)}")

    yield line


def _in_words(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return "done before"
    bad = [
        f"{one.method or 'clip'} {one.status.upper()}: {one.error}" for one in outcomes if one.error
    ]
    cases = ", ".join(dict.fromkeys(one.case for one in outcomes))
    return visible("; ".join([cases, *bad]))
