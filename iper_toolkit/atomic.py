"""Whole or not there: a reader sees a finished file, whatever happens half-way.

Everything is written beside its place and moved into it. A process may be killed at any moment:
what it leaves are parts (``.part-HOST-PID-...``) that no reader looks at and the next run removes.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_log = logging.getLogger(__name__)

PART_PREFIX = ".part-"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: copy or link the data into a folder you may write to",
    errno.EACCES: "permission denied: make the folder writable, or copy or link the data elsewhere",
    errno.EPERM: "permission denied: make the folder writable, or copy or link the data elsewhere",
}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a part beside `path`, then move it into place.

    The part keeps the suffix of `path`, because many writers choose their format by it.
    """
    part = path.with_name(f"{_part_name()}{path.name}")
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            _flush(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def part_folder(folder: Path) -> Iterator[Path]:
    """A private folder inside `folder` to write into; it is gone afterwards, come what may."""
    remove_dead_parts(folder)
    part = folder / f"{_part_name()}folder"
    with _named_errors(folder):
        part.mkdir(parents=True, exist_ok=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def move_into_place(part: Path, path: Path, *, replace: bool = True) -> None:
    """Move one finished file out of a `part_folder`.

    Args:
        replace: off: raise FileExistsError if `path` is there by now, whoever made it in the meantime.
    """
    with _named_errors(path):
        _flush(part)
        if not replace:
            try:
                os.link(part, path)  # unlike a rename, this never replaces
            except FileExistsError:
                raise
            except OSError as error:  # a file system without links
                if path.exists():
                    raise FileExistsError(
                        errno.EEXIST, os.strerror(errno.EEXIST), str(path)
                    ) from error
            else:
                part.unlink()
                return
        os.replace(part, path)


def remove_dead_parts(folder: Path) -> None:
    """Remove what killed processes of this machine left in `folder`; living ones keep theirs."""
    for part in folder.glob(f"{PART_PREFIX}*"):
        host, _, rest = part.name.removeprefix(PART_PREFIX).partition("~")
        pid = rest.partition("~")[0]
        if host != _host() or (pid.isdigit() and _is_alive(int(pid))):
            continue
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the operating system frees it when its holder dies.

    Some network file systems have no locks (NFS without lockd, Lustre without flock). There the block runs unlocked
    and a warning says so: every file is whole all the same, but two processes may do the same work twice.
    """
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        if sys.platform == "win32":  # pragma: no cover
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                _warn_of_no_locks(path)
        yield


@functools.cache
def _warn_of_no_locks(path: Path) -> None:
    _log.warning(
        "%s: this file system has no locks, so nothing keeps two processes from the same work. Run one command at a "
        "time here, or mount the file system with locks.",
        path,
    )


def remedy(error: OSError) -> str | None:
    """What to do about an error of the operating system; None if the error says it all itself."""
    return _REMEDIES.get(error.errno or 0)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors of writing say which file it was and what to do; libraries tend to keep both."""
    try:
        yield
    except OSError as error:
        advice = remedy(error)
        if advice is None or isinstance(error, WriteError):
            raise
        raise WriteError(error.errno, f"Cannot write {path}: {advice}") from error


class WriteError(OSError):
    """A file could not be written; the message names it and the remedy."""

    def __str__(self) -> str:
        return str(self.strerror)


def _part_name() -> str:
    return f"{PART_PREFIX}{_host()}~{os.getpid()}~"


def _host() -> str:
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname())


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover
        return True  # a signal 0 would end the process there; its parts stay until removed by hand
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _flush(path: Path) -> None:
    """Bring the content to the disk before the name: a power cut must not leave an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
