"""Worker processes: one pool for all commands, what the death of a worker means, and the part a launcher assigns.

The pool is our own because `ProcessPoolExecutor` neither says which job a dead worker held nor how it died, and its
workers outlive a killed parent. Jobs and results go through a pipe a worker: no shared memory, no shared locks.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

from iper_toolkit import progress
from iper_toolkit.threads import use_one_thread

Job = TypeVar("Job")
Result = TypeVar("Result")

END_SECONDS = 1.0
"""Workers that are told to end have so long before they are killed."""
_FORWARD_SECONDS = 1.0  # between two messages about a worker's progress
_NO_GUARD = 87  # exit code of a worker that met the pool again while it read the main script

NO_GUARD_SENTENCE = (
    'the script lacks `if __name__ == "__main__":`. Worker processes import the script, and so start its work again: '
    'put the calls below a line `if __name__ == "__main__":`, or use one worker.'
)


class WorkerDied(RuntimeError):
    """A worker process ended before its job did; the message says how, and what to do."""


class NoMainGuard(RuntimeError):
    """A script starts worker processes outside of ``if __name__ == "__main__":``."""


class _RemoteTraceback(Exception):
    """The traceback of a worker, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Ended(Generic[Job, Result]):
    """A job and how it ended: with a value, or with an error (of the function, or `WorkerDied`)."""

    job: Job
    value: Result | None = None
    error: Exception | None = None

    def result(self) -> Result:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Pool:
    """Spawned processes that call a function on many jobs. A context manager: its processes end with the block.

    ::

        with Pool(4) as pool:
            for ended in pool.run(prepare_clip, clips):
                print(ended.job, ended.result())

    Workers ignore Ctrl-C (their parent ends them), end when their parent dies, and are replaced when they die.

    Args:
        workers: processes. They start when there are jobs for them.
        start: called in each process before its first job; default: one thread a process.
        start_arguments: of `start`.
        forward: whether workers report the progress of their own tasks.

    Raises:
        NoMainGuard, WorkerDied: a worker could not start; what `start` raised.
    """

    def __init__(
        self,
        workers: int,
        *,
        start: Callable[..., object] = use_one_thread,
        start_arguments: tuple[Any, ...] = (),
        forward: bool = True,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; it takes at least 1.")
        self._size, self._start, self._arguments = workers, start, start_arguments
        self._forward = forward
        # Forked copies of a process that has used torch's threads may hang: processes are spawned.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        refuse_in_workers()
        _open_pools.add(self)
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.end(at_once=kind is not None)

    def run(
        self, function: Callable[[Job], Result], jobs: Iterable[Job]
    ) -> Iterator[Ended[Job, Result]]:
        """Yield the jobs as they end, in any order. `function` is a module's own; jobs are taken as needed."""
        for _, ended in self._run(function, jobs, sys.maxsize):
            yield ended

    def run_in_order(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], *, ahead: int
    ) -> Iterator[Ended[Job, Result]]:
        """Yield the jobs as they end, in their order; at most `ahead` of them are kept finished or in work."""
        early: dict[int, Ended[Job, Result]] = {}
        next_number = 0
        for number, ended in self._run(function, jobs, ahead):
            early[number] = ended
            while next_number in early:
                yield early.pop(next_number)
                next_number += 1
                self._yielded = next_number

    def _run(
        self, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
    ) -> Iterator[tuple[int, Ended[Job, Result]]]:
        size = min(self._size, len(jobs)) if isinstance(jobs, Sized) else self._size
        numbered = enumerate(jobs)
        self._yielded = 0
        upcoming = next(numbered, None)
        while True:
            # Give work to who waits; start processes only as long as there is work for them.
            for worker in [one for one in self._workers if one.is_ready and one.job is None]:
                if upcoming is not None and upcoming[0] - self._yielded < ahead:
                    worker.take(function, upcoming)
                    upcoming = next(numbered, None)
            starting = [one for one in self._workers if not one.is_ready]
            if upcoming is None:
                for worker in starting:  # there is nothing left for them to do
                    self._workers.remove(worker)
                    worker.end(at_once=True)
                starting = []
            busy = [one for one in self._workers if one.job is not None]
            if upcoming is not None and len(self._workers) < size:
                self._workers.append(_Worker(self._context, self._forward))
                continue
            if not busy and not starting:
                return
            ready = wait([one.connection for one in [*busy, *starting]])
            for worker in [one for one in self._workers if one.connection in ready]:
                yield from self._hear(worker)

    def _hear(self, worker: _Worker) -> Iterator[tuple[int, Ended[Any, Any]]]:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            error = worker.death()
            if worker.job is None:  # it never came to work: the others would not either
                raise error from None
            number, job = worker.job
            yield number, Ended(job, error=error)
            return
        if kind == "alive":
            worker.connection.send((self._start, self._arguments))
        elif kind == "ready":
            worker.is_ready = True
        elif kind == "progress":
            progress.set_worker(worker.number, [progress.Task(*fields) for fields in content])
        elif kind == "unready":
            raise content
        else:
            assert worker.job is not None
            (number, job), worker.job = worker.job, None
            progress.set_worker(worker.number, None)
            failed = kind == "failed"
            yield (
                number,
                Ended(job, value=None if failed else content, error=content if failed else None),
            )

    def end(self, *, at_once: bool = True) -> None:
        """End all processes: at once, or when they see that no job comes any more."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.tell_to_end(at_once=at_once)
        deadline = time.monotonic() + END_SECONDS
        for worker in workers:
            worker.join(deadline)
        _open_pools.discard(self)


def refuse_in_workers() -> None:
    """End this process if it is a worker that still reads the main script; its parent says what is wrong, once."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        if sys.stdout is not None:
            sys.stdout.flush()
        os._exit(_NO_GUARD)


_open_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_numbers = iter(range(sys.maxsize))


def end_all() -> None:
    """End the processes of all pools at once, and other children that were started through multiprocessing."""
    for pool in list(_open_pools):
        pool.end()
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    deadline = time.monotonic() + END_SECONDS
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()


# multiprocessing waits for its children when Python ends; this comes first, as it is registered later.
@atexit.register
def _end_pools() -> None:
    for pool in list(_open_pools):
        pool.end()


class _Worker:
    """One process, as its parent knows it."""

    def __init__(self, context: Any, forward: bool) -> None:
        self.number = next(_numbers)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, forward), name=f"worker-{self.number}"
        )
        self.process.start()
        theirs.close()
        self.is_ready = False
        self.job: tuple[int, Any] | None = None

    def take(self, function: Callable[[Any], Any], job: tuple[int, Any]) -> None:
        self.job = job
        # If it is dead, the next look at its pipe says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send((function, job[1]))

    def death(self) -> Exception:
        """Why it is gone, after its pipe was closed."""
        progress.set_worker(self.number, None)
        self.process.join(END_SECONDS)
        code = self.process.exitcode
        self.end(at_once=True)
        if code == _NO_GUARD or (not self.is_ready and code == 1 and _main_lacks_guard()):
            return NoMainGuard(f"Worker processes cannot start: {NO_GUARD_SENTENCE}")
        doing = "" if self.is_ready else " while it started"
        return WorkerDied(f"A worker process{doing} {death_in_words(code)}")

    def end(self, *, at_once: bool) -> None:
        self.tell_to_end(at_once=at_once)
        self.join(time.monotonic() + END_SECONDS)

    def tell_to_end(self, *, at_once: bool) -> None:
        progress.set_worker(self.number, None)
        self.connection.close()
        if at_once:
            self.process.terminate()

    def join(self, deadline: float) -> None:
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


# ------------------------------------------------------------------------------------- in the worker


def _serve(connection: Connection, forward: bool) -> None:
    begin_as_worker()
    sending = threading.Lock()

    def send(kind: str, content: Any = None) -> None:
        message = pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL)
        with sending:
            connection.send_bytes(message)

    try:
        send("alive")
        start, arguments = connection.recv()
        try:
            start(*arguments)
        except Exception as error:
            send("unready", _portable(error))
            return
        send("ready")
        if forward:
            threading.Thread(target=_forward, args=(send,), daemon=True).start()
        while True:
            function, job = connection.recv()
            try:
                kind, content = "done", function(job)
            except (Exception, SystemExit) as error:
                kind, content = "failed", _portable(error)
            try:
                send(kind, content)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                send("failed", _portable(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # no more jobs


def _forward(send: Callable[[str, Any], None]) -> None:
    before: list[tuple[Any, ...]] = []
    while True:
        time.sleep(_FORWARD_SECONDS)
        now = progress.as_fields(progress.running())
        if now != before:
            try:
                send("progress", now)
            except OSError:
                return
            before = now


def _portable(error: BaseException) -> Any:
    """What pickles as the error, or as one that says the same, with the worker's traceback as its cause."""
    text = "".join(traceback.format_exception(error))
    sent = error if isinstance(error, Exception) else RuntimeError(f"the job called exit ({error})")
    try:
        same = ForkingPickler.loads(ForkingPickler.dumps(sent))
        if type(same) is not type(sent) or str(same) != str(sent):
            raise TypeError("it changes on the way")
    except Exception:  # whatever keeps it from being pickled
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    return _Carried(sent, text)


class _Carried:
    def __init__(self, error: Exception, text: str) -> None:
        self._parts = error, text

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_cause, self._parts


def _with_cause(error: Exception, text: str) -> Exception:
    error.__cause__ = _RemoteTraceback(text)  # plain pickling drops the cause
    return error


def begin_as_worker() -> None:
    """What every worker process does first, also one that a library started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    follow_parent()


def follow_parent() -> None:
    """In a child process: end when the parent has ended, however it did, instead of waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="follow-parent").start()


# ----------------------------------------------------------------------------------- deaths in words


def death_in_words(exit_code: int | None) -> str:
    """How a process ended that should not have, and what to do: "was killed (SIGKILL): ...".

    Args:
        exit_code: of `multiprocessing.Process` or `subprocess`: negative for a signal; None if it is not known.
    """
    if exit_code is None:
        return "closed its connection before its job was done."
    if exit_code >= 0:
        return f"ended with exit code {exit_code} before its job was done."
    number = -exit_code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    reasons = {
        "SIGKILL": "was killed (SIGKILL): most often the memory was not enough. Use fewer workers, or a smaller size.",
        "SIGBUS": f"died of a bus error (SIGBUS): most often shared memory is full ({_shared_memory()}). Make it larger "
        "(docker run --shm-size=4g), or use fewer workers.",
        "SIGSEGV": "crashed (SIGSEGV): most often a file that crashes its decoder, or a faulty library.",
        "SIGABRT": "was aborted (SIGABRT) by a library: most often a failed check, or memory that gave out.",
        "SIGILL": "met an instruction that this processor lacks (SIGILL): a library was built for another processor.",
        "SIGTERM": "was ended from outside (SIGTERM).",
        "SIGXCPU": "used up its CPU time (SIGXCPU): a limit of this shell or queue (ulimit -t).",
    }
    return reasons.get(name, f"died of {name}.")


def loader_death(error: RuntimeError) -> Exception | None:
    """What torch's DataLoader means that reports a dead worker, as `Pool` would say it; None for other errors."""
    text = str(error)
    if not text.startswith("DataLoader worker"):
        return None
    text += f" {error.__cause__ or ''} {error.__context__ or ''}"
    for said, number in _SIGNALS_IN_WORDS.items():
        if said in text:
            return WorkerDied(f"A process that loads batches {death_in_words(-number)}")
    if f"exit code {_NO_GUARD}" in text or _main_lacks_guard():
        return NoMainGuard(f"Processes that load batches cannot start: {NO_GUARD_SENTENCE}")
    return WorkerDied(f"A process that loads batches ended before its job was done ({error})")


# As strsignal says it, which is what DataLoader tells.
_SIGNALS_IN_WORDS = {
    text: number
    for number in (signal.valid_signals() if hasattr(signal, "strsignal") else ())
    if (text := f"by signal: {signal.strsignal(number)}")
}


def shared_memory_error(error: BaseException) -> str | None:
    """A sentence if an error means that shared memory is full, which is not the disk and not the memory; else None."""
    text = str(error).lower()
    full = "no space left" in text or getattr(error, "errno", None) == 28
    named = any(word in text for word in ("shared memory", "/dev/shm", "</torch_", "shm_open"))
    if "bus error" in text or (named and (full or "unable to" in text)):
        return (
            f"Shared memory is full ({_shared_memory()}): it is neither the disk nor the memory. Make it larger "
            "(docker run --shm-size=4g), or use fewer workers."
        )
    return None


def _shared_memory() -> str:
    import shutil

    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return "/dev/shm is not there"
    return f"/dev/shm: {usage.free // 2**20} of {usage.total // 2**20} MiB free"


def _main_lacks_guard() -> bool:
    """Whether the script that was started never asks for its `__name__`."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return path is not None and "__name__" not in Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------------------- shards


def parse_shard(text: str) -> tuple[int, int]:
    """ "3/16" -> (3, 16): part 3 of 16, counted from 0.

    Raises:
        ValueError: it is not of that form, or the part is not one of them.
    """
    index, _, count = text.partition("/")
    numbers = index.strip(), count.strip()
    if not all(one.isascii() and one.isdecimal() for one in numbers) or int(index) >= int(count):
        raise ValueError(f"shard is {text!r}; write I/N with I from 0 to N - 1, such as 0/4.")
    return int(index), int(count)


# (part, parts, what else must be there): who was launched as one of several tasks has all of them.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", ()),  # torchrun, and what starts processes as it does
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ("SLURM_STEP_ID",)),  # srun
)


def shard_from_environment(
    environment: Mapping[str, str] = os.environ,
) -> tuple[tuple[int, int], str] | None:
    """The part that a launcher gave to this process as (index, count), and how it said so; None without a launcher.

    srun alone sets SLURM_STEP_NUM_TASKS. SLURM_NTASKS is also set in an allocation (salloc, sbatch) in which a
    command runs once; it must then do everything.

    Raises:
        ValueError: a launcher's variables are there and make no sense.
    """
    for index, count, others in _LAUNCHERS:
        if all(name in environment for name in (index, count, *others)):
            said = f"{index}={environment[index]}, {count}={environment[count]}"
            try:
                return parse_shard(f"{environment[index]}/{environment[count]}"), said
            except ValueError as error:
                raise ValueError(
                    f"The environment says {said}, which is no part of several: {index} runs from 0 to {count} - 1. "
                    "Unset them, or pass --shard I/N (--shard 0/1 for all)."
                ) from error
    return None
