"""Functions that numba compiles, and whose machine code is kept for the next start where there is a place for it.

Without one (an installation and a home that are read-only, a full disk, a folder that vanishes) they work all the
same: each start then compiles them again, which is said once.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger(__name__)
_is_said = False


def njit(**options: Any) -> Callable[[Any], Any]:
    """`numba.njit` with these options, whose compiled code is kept if it can be."""

    def decorate(function: Any) -> Any:
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        except RuntimeError as error:  # numba has found no folder that it may write to
            _say(str(error))
            return numba.njit(**options)(function)
        dispatcher._cache = _Cache(dispatcher._cache)
        return dispatcher

    return decorate


class _Cache:
    """numba's cache of a function; what goes wrong with its files is no error of the function."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception as error:  # unreadable, cut short, damaged: pickle raises many kinds
            _say(f"{type(error).__name__}: {error}")
            return None  # compile it

    def save_overload(self, *arguments: Any) -> None:
        try:
            self._cache.save_overload(*arguments)
        except Exception as error:  # as above; an old index may be damaged, too
            _say(f"{type(error).__name__}: {error}")


def _say(reason: str) -> None:
    global _is_said
    if _is_said or multiprocessing.parent_process() is not None:
        return
    _is_said = True
    _log.warning(
        "Compiled code cannot be kept, so each start compiles it again, which takes up to some minutes (%s). Set "
        "NUMBA_CACHE_DIR to a folder that you may write to.",
        reason,
    )
