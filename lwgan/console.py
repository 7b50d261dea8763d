"""Counting the frames that are drawn."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from iper_toolkit.progress import task

Item = TypeVar("Item")


@contextmanager
def progress(
    items: Iterable[Item], total: int, name: str, *, quiet: bool = False
) -> Iterator[Iterable[Item]]:
    """The items, whose progress is shown while they are taken."""
    with task(f"drawing {name}".strip(), total, "frame") as advance:

        def counted() -> Iterator[Item]:
            for count, item in enumerate(items):
                advance(count)
                yield item
            advance(total)

        yield counted()
