"""Methods in processes of their own: whatever one does, it counts as its failure, and nobody else's.

A method may run out of memory, crash the interpreter, call ``os._exit``, print, change the working folder, or never
answer. So it lives in a child process that answers one request at a time. A child that dies or takes longer than its
limit is ended; the case fails, and the next one gets a new child, set up and shown its person as the first one was.
Random numbers are the same as within one process: their state goes along with each request that may draw any.
"""

import contextlib
import hashlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawing import random_state, set_random_state
from benchmarks.machine import peak_memory_bytes
from benchmarks.methods import (
    BUILT_IN,
    Dressed,
    Failure,
    FoundPoses,
    Method,
    Motion,
    Person,
    RemoteFailure,
    Setup,
    is_built_in,
    load_method,
    spec_without_name,
)
from iper_toolkit import progress

TIME_LIMIT = 1800.0
"""Seconds that a method may take for one answer: to be set up, to learn a person, to draw a picture."""

_LOAD_LIMIT = 600.0
_LARGEST_PICTURE = 1 << 30  # bytes; what is larger is described instead of sent
_PROGRESS_SECONDS = 1.0  # between two messages about what the method does
_PARENT_SECONDS = 1.0  # between two looks at whether the parent lives


def load_for_run(spec: str, *, time_limit: float = TIME_LIMIT, threads: int = 1) -> Method:
    """A method as `methods.load_method` takes it: the built-in baselines here, all others in a child process.

    Args:
        spec: what the command line names.
        time_limit: seconds for one answer.
        threads: of torch in the child.

    Raises:
        ValueError, FileNotFoundError: as `load_method`.
        RuntimeError: the method raised something else, or its process died.
    """
    named = spec_without_name(spec)
    if named in BUILT_IN or named.startswith("folder:"):
        return load_method(spec)
    child = _Child(time_limit)
    try:
        facts = child.load(spec, threads)
    except RemoteFailure as error:
        if error.kind == "FileNotFoundError":
            raise FileNotFoundError(str(error)) from None
        if error.is_plain:
            raise ValueError(str(error)) from None
        raise RuntimeError(f"Method {spec} cannot be loaded: {error.failure.reason}.") from error
    kind = IsolatedDresser if facts["dresses"] else IsolatedMethod
    return kind(spec, facts, child, time_limit, threads)


class IsolatedMethod:
    """A method in a child process; a `Method` like any other to its user."""

    def __init__(
        self, spec: str, facts: dict[str, Any], child: "_Child", time_limit: float, threads: int
    ) -> None:
        self._spec, self._time_limit, self._threads = spec, time_limit, threads
        self._child: _Child | None = child
        self._setup: Setup | None = None
        self._taught: tuple[Any, ...] | None = None  # the last lesson, for a new child
        self._take_over(facts)
        self.is_built_in: bool = facts["built_in"]
        if facts["estimates"]:
            self.estimates = self._estimates
            self.estimated: tuple[str, ...] = facts["estimated"]

    def setup(self, setup: Setup) -> None:
        """Raises `RemoteFailure`: the method raised, died or did not answer."""
        self._setup, self._taught = setup, None
        self._living()

    def personalize(self, person: Person) -> None:
        self._teach("personalize", person)

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        child = self._living()
        child.ask(("draw", motion, _random_numbers()))
        while True:
            found = child.ask(("next",))
            if found is None:
                return
            yield found

    def peak_memory_bytes(self) -> int:
        """The most memory that the child has held; this process's own if it is gone."""
        if self._child is None or not self._child.is_alive:
            return peak_memory_bytes()
        return int(self._child.ask(("memory",)))

    def close(self) -> None:
        """End the child; the next request starts another one."""
        if self._child is not None:
            self._child.end()
        self._child = None

    def _teach(self, word: str, lesson: object) -> None:
        self._taught = (word, lesson, _random_numbers())
        self._living(teach=False).ask(self._taught)

    def _estimates(self, motion: Motion) -> FoundPoses:
        found: FoundPoses = self._living().ask(("estimates", motion))
        return found

    def _living(self, teach: bool = True) -> "_Child":
        """The child, ready to be asked: a new one is set up, and shown the last lesson."""
        if self._child is not None and self._child.is_alive and self._child.is_set_up:
            return self._child
        if self._child is None or not self._child.is_alive:
            self._child = _Child(self._time_limit)
            self._child.load(self._spec, self._threads)
        if self._setup is not None:
            self._take_over(self._child.ask(("setup", self._setup)))
            self._child.is_set_up = True
        if teach and self._taught is not None:
            self._child.ask(self._taught)
        return self._child

    def _take_over(self, facts: dict[str, Any]) -> None:
        self.name: str = facts["name"]
        self.version: str = facts["version"]
        self.weights: str = facts["weights"]
        self.random_weights: bool = facts["random_weights"]
        self.inputs: tuple[str, ...] = facts["inputs"]


class IsolatedDresser(IsolatedMethod):
    """One that also transfers appearance."""

    def dress(self, wearers: Sequence[Dressed]) -> None:
        self._teach("dress", list(wearers))


# ------------------------------------------------------------------------------------ the parent's side


class _Child:
    """A child process and the pipe to it."""

    def __init__(self, time_limit: float) -> None:
        self.time_limit = time_limit
        self.is_set_up = False
        # The main script is not imported again, so it needs no `if __name__ == "__main__":`.
        start = f"import sys; sys.path[:] = {sys.path!r}; from benchmarks.isolation import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's, which ends it
        )
        self._answers: queue.Queue[Any] = queue.Queue()
        assert self._process.stdout is not None  # a pipe
        self._shown = _Shown()
        threading.Thread(
            target=_listen, args=(self._process.stdout, self._answers, self._shown), daemon=True
        ).start()
        self._finalize = weakref.finalize(self, _end, self._process)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def load(self, spec: str, threads: int) -> dict[str, Any]:
        """Import and make the method; what imports take is not the method's time."""
        facts: dict[str, Any] = self.ask(("load", spec, threads), max(self.time_limit, _LOAD_LIMIT))
        return facts

    def ask(self, request: tuple[Any, ...], time_limit: float | None = None) -> Any:
        """Send a request and wait for the answer.

        Raises:
            RemoteFailure: the method raised, its process died, or it took too long; then it is ended.
        """
        begun = time.monotonic()
        assert self._process.stdin is not None  # a pipe
        try:
            _write(self._process.stdin, request)
            answer = self._answers.get(timeout=time_limit or self.time_limit)
            self._shown.show([])
        except OSError:
            answer = _GONE
        except queue.Empty:
            self.end()
            raise RemoteFailure(
                f"it gave no answer for {time.monotonic() - begun:.0f} s and was ended; --time-limit sets how long "
                "it may take for a person or a picture"
            ) from None
        if answer is _GONE:
            raise RemoteFailure(self._how_it_ended())
        kind, value = answer
        if kind == "failed":
            raise value
        return value

    def end(self) -> None:
        self._shown.show([])
        self._finalize()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.end()
            return "it closed its pipe to the benchmark"
        self.end()
        if code >= 0:
            return f"its process ended by itself, with exit code {code}, before it answered"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ": most often there was too little memory" if name == "SIGKILL" else ""
        return f"its process was ended by the signal {name}{hint}"


_GONE = object()


class _Shown:
    """What a child does at present, shown as done by this process."""

    def __init__(self) -> None:
        self._tasks: list[progress.Task] = []

    def show(self, tasks: list[progress.Task]) -> None:
        progress.replace(self._tasks, tasks)
        self._tasks = tasks


def _listen(pipe: IO[bytes], answers: "queue.Queue[Any]", shown: _Shown) -> None:
    """Read answers until the pipe is closed; in a thread, because pipes have no time limit everywhere.

    It knows nothing of the `_Child`, which can so be collected, and ends its process then.
    """
    try:
        while True:
            kind, content = _read(pipe)
            if kind == "progress":
                shown.show([progress.Task(*fields) for fields in content])
            else:
                answers.put((kind, content))
    except (OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError):
        answers.put(_GONE)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a child and whatever it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, ValueError):
            if pipe is not None:
                pipe.close()


def _write(pipe: IO[bytes], content: object) -> None:
    data = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(data).to_bytes(8, "little"))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    length = int.from_bytes(head, "little")
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return ForkingPickler.loads(data)  # from our own child process alone


# ------------------------------------------------------------------------------------- the child's side


@dataclass(frozen=True)
class _RandomNumbers:
    state: tuple[Any, ...]
    seed: int  # for devices of torch that have drawn nothing yet


def _random_numbers() -> _RandomNumbers:
    import torch

    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
    return _RandomNumbers(random_state(), int.from_bytes(digest[:4], "big"))


def _continue_with(numbers: _RandomNumbers) -> None:
    import torch

    torch.manual_seed(numbers.seed)
    set_random_state(numbers.state)


class _Served:
    """The method in its child, and what it is drawing."""

    def __init__(self) -> None:
        self.method: Any = None
        self.pictures: Iterator[object] = iter(())

    def answer(self, word: str, *content: Any) -> Any:
        if word == "load":
            import torch

            spec, threads = content
            torch.set_num_threads(threads)
            self.method = load_method(spec)
            return self._facts()
        if word == "setup":
            self.method.setup(content[0])
            return self._facts()
        if word in ("personalize", "dress"):
            _continue_with(content[1])
            getattr(self.method, word)(content[0])
        elif word == "draw":
            _continue_with(content[1])
            self.pictures = iter(self.method.draw(content[0]))
        elif word == "next":
            return self._next()
        elif word == "estimates":
            return self.method.estimates(content[0])
        elif word == "memory":
            return peak_memory_bytes()
        return None

    def _next(self) -> object:
        nothing = object()
        picture = next(self.pictures, nothing)
        if picture is nothing:
            return None
        if isinstance(picture, np.ndarray) and picture.nbytes <= _LARGEST_PICTURE:
            return np.ascontiguousarray(picture) if picture.dtype != object else "an object array"
        what = f"{picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise TypeError(f"it gave {what} as a picture; it takes a numpy array, uint8 (S, S, 3) RGB")

    def _facts(self) -> dict[str, Any]:
        method = self.method
        return {
            "name": method.name,
            "version": method.version,
            "weights": method.weights,
            "random_weights": bool(getattr(method, "random_weights", False)),
            "inputs": getattr(method, "inputs", ()),
            "dresses": callable(getattr(method, "dress", None)),
            "estimates": callable(getattr(method, "estimates", None)),
            "estimated": tuple(getattr(method, "estimated", ())),
            "built_in": is_built_in(method),
        }


def serve() -> None:
    """The child's main loop: answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the method prints goes to standard error, and never into the answers
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    _follow_parent()
    writing = threading.Lock()

    def send(kind: str, content: object) -> None:
        data = pickle.dumps((kind, content))
        with writing:
            answers.write(len(data).to_bytes(8, "little") + data)
            answers.flush()

    threading.Thread(target=_forward_progress, args=(send,), daemon=True).start()
    served = _Served()
    while True:
        try:
            request = _read(requests)
        except EOFError:
            os._exit(0)  # whatever threads the method has left
        try:
            send("done", served.answer(*request))
        except BaseException as error:  # KeyboardInterrupt too: it is the method's own
            failure = Failure.of(error)
            is_plain = isinstance(error, (ValueError, OSError))
            send(
                "failed",
                RemoteFailure(str(error), failure, type(error).__name__, is_plain=is_plain),
            )


def _forward_progress(send: Callable[[str, object], None]) -> None:
    """Tell the parent what the method does at present, as far as it says so."""
    before: list[tuple[Any, ...]] = []
    while True:
        time.sleep(_PROGRESS_SECONDS)
        now = progress.as_fields(progress.running())
        if now != before:
            send("progress", now)
            before = now


def _follow_parent() -> None:
    """End when the parent is gone, also in the middle of a request."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
