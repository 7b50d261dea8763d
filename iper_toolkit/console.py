"""What all commands of `iper`, `lwgan` and `lwgan-bench` have in common: paths, errors, JSON, progress, tidy ends.

A command is a `click` command below a `Commands` group, and needs nothing else: errors become sentences (JSON with
``--json``), progress is shown, Ctrl-C and SIGTERM end it within seconds, and no stream's encoding stops it.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from iper_toolkit import progress
from iper_toolkit.folders import expanded
from iper_toolkit.plain_text import json_text, visible

DEBUG = "IPER_DEBUG"
"""Set in the environment, errors come with their traceback."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")

_CHILDREN_SECONDS = 1.5  # after a signal; what still lives is killed
_COMMAND_SECONDS = 6.0  # after a signal, for a command that sits in compiled code


# ---------------------------------------------------------------------------------------------- paths


class FilePath(click.Path):
    """A path, with ~ for the home folder, which no shell opens behind a ``=`` nor in a variable."""

    def __init__(
        self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True
    ) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_expanded(value, param, ctx), param, ctx)


class FileOrWord(click.ParamType):
    """A word, or a path as `FilePath` takes it, still as text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return _expanded(value, param, ctx)


class Spec(click.ParamType):
    """A word that may hold a path behind ``=`` or ``:``, as ``ours=folder:~/x``; still as text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        begin, tilde, rest = value.partition("~")
        if not tilde or not (begin == "" or begin.endswith(("=", ":"))):
            return value
        return str(begin) + _expanded(tilde + rest, param, ctx)


PATH, FILE, FOLDER = FilePath(), FilePath(dir_okay=False), FilePath(file_okay=False)
EXISTING, EXISTING_FOLDER = FilePath(exists=True), FilePath(exists=True, file_okay=False)


def _expanded(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
    try:
        return expanded(value)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), ctx, param) from error


# ---------------------------------------------------------------------------------------------- group


class Ended(BaseException):
    """A signal asked the command to end. Not an Exception, as no handler of errors may hold it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Commands(click.Group):
    """A group whose commands behave alike; see the module. Its name is what is typed to start it."""

    arguments: tuple[str, ...] = ()
    """As they were typed, or given by a test."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        self.arguments = tuple(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        write_what_streams_can_carry()
        code = 0
        try:
            with _signals_end_it():
                try:
                    found = super().main(
                        args, prog_name, complete_var, standalone_mode=False, **extra
                    )
                    code = found if isinstance(found, int) else 0
                finally:
                    _end_children()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except Ended as error:
            code = self._tell_end(error.number)
        except click.Abort:  # Ctrl-C as click saw it, or no answer to a question
            code = self._tell_end(signal.SIGINT)
        except Exception as error:
            code = self._tell_error(error)
        _flush()
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        with progress.show(self.typed):
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # as a program that SIGPIPE has ended
                raise click.exceptions.Exit(128 + 13) from None
            except EOFError as error:  # a file that is cut short; click takes it for Ctrl-D
                raise click.ClickException(in_words(error)) from error

    @property
    def typed(self) -> str:
        """The command line, to be typed again."""
        return shlex.join([self.name or "", *self.arguments])

    def _tell_error(self, error: Exception) -> int:
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        code = error.exit_code if isinstance(error, click.ClickException) else 1
        text = (
            error.format_message() if isinstance(error, click.ClickException) else in_words(error)
        )
        with suppress(BrokenPipeError):
            if "--json" in self.arguments:
                print_json(error=text)
            if isinstance(error, click.ClickException):
                error.show()
            else:
                click.echo(f"Error: {text}", err=True)
        return code

    def _tell_end(self, number: int) -> int:
        name = "Ctrl-C (SIGINT)" if number == signal.SIGINT else signal.Signals(number).name
        text = f"Ended by {name}; nothing half-written stays. To go on, run again: {self.typed}"
        with suppress(BrokenPipeError):
            if "--json" in self.arguments:
                print_json(error=text)
            click.echo(text, err=True)
        return 128 + number


def typed(ctx: click.Context) -> str:
    """The command line of a command below `Commands`, to be typed again."""
    group = ctx.find_root().command
    assert isinstance(group, Commands)
    return group.typed


# --------------------------------------------------------------------------------------------- errors


def in_words(error: BaseException) -> str:
    """An error in a sentence, for whoever typed the command: what users can mend, or that it is a fault of ours."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    shared = None
    if isinstance(error, (OSError, RuntimeError)):
        from iper_toolkit.processes import shared_memory_error

        shared = shared_memory_error(error)
    if shared is not None:
        return shared
    if isinstance(error, OSError) and error.errno is not None:
        from iper_toolkit.atomic import remedy

        advice = remedy(error) or error.strerror
        if error.filename is not None:
            return f"{_printable(error.filename)}: {advice}"
        if text.startswith("[Errno"):
            return f"The operating system says: {advice}."
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return (
            f"The memory is not enough{f' ({text})' if text else ''}. Close other programs, or take a smaller --size or "
            "fewer --workers."
        )
    # A sentence has spaces; a bare key or number is a fault that nobody has foreseen.
    mendable = isinstance(error, (KeyError, ValueError, OSError, ImportError, ArithmeticError))
    mendable |= isinstance(error, RuntimeError) and not isinstance(
        error, (NotImplementedError, RecursionError)
    )
    if mendable and " " in text.strip():
        return text
    where = _place(error)
    return (
        f"This is a fault of the program, not of yours: {type(error).__name__}: {text}{where}. Please report it with the "
        f"traceback, which the same command prints after: export {DEBUG}=1"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """torch says RuntimeError for the memory of a processor."""
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _printable(name: Any) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors become a `click.ClickException` with a sentence; `Commands` does the same for all that is left."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        raise click.ClickException(in_words(error)) from error


# -------------------------------------------------------------------------------------------- signals


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Ended` in the main thread; children end within 2 s even while it cannot listen."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be heard
        yield
        return
    heard: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            _end_now(number)
        raise Ended(number)

    # The C level writes each signal into this pipe at once, also while the main thread sits in compiled code.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {n: signal.signal(n, end) for n in (signal.SIGINT, signal.SIGTERM)}
    fd_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    done = threading.Event()

    def watch() -> None:
        while number := next(iter(os.read(reading, 1)), 0):
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if done.wait(_CHILDREN_SECONDS):
                continue
            _end_children()
            if not done.wait(_COMMAND_SECONDS - _CHILDREN_SECONDS):
                _end_now(number)

    watching = threading.Thread(target=watch, name="signals", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)  # ends the thread
        watching.join(1)
        os.close(reading)


def _end_children() -> None:
    processes = sys.modules.get("iper_toolkit.processes")  # not loaded: there are none
    if processes is not None:
        processes.end_all()


def _end_now(number: int) -> NoReturn:
    _end_children()
    os._exit(128 + number)


# -------------------------------------------------------------------------------------------- streams

_IN_ASCII = {
    "↑": "^",
    "↓": "v",
    "→": "->",
    "←": "<-",
    "–": "-",  # noqa: RUF001
    "—": "-",
    "…": "...",
    "×": "x",  # noqa: RUF001
    "±": "+/-",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "•": "*",
    "“": '"',
    "”": '"',
    "‘": "'",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
}


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(one, "?") for one in text), error.end


codecs.register_error("iper.replaced", _replaced)


def write_what_streams_can_carry() -> None:
    """Characters that standard output and error cannot carry (cp1252, ASCII) are replaced instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(ValueError, OSError):
                stream.reconfigure(errors="iper.replaced")


def _flush() -> None:
    """What is buffered goes out now; a closed pipe is no error, also not when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except OSError as error:
            if error.errno != errno.EBADF:
                raise


# ----------------------------------------------------------------------------------------------- said


def tell(text: str) -> None:
    """A line on standard error, which leaves a progress bar whole."""
    progress.write_line(text)


show_progress = progress.show


def print_json(**content: Any) -> None:
    """One JSON object on standard output; in ASCII where the stream cannot carry its characters."""
    text = json_text(content)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(content)
    click.echo(text)


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """A line a fact; what is not known is left out."""
    if as_json:
        print_json(**facts)
        return
    for name, value in facts.items():
        if value is None or value == {} or value == []:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name:20} {text}")


def print_problems(title: str, problems: dict[str, str]) -> None:
    """ "2 failed:" and a line a problem, on standard error."""
    if problems:
        tell(f"{len(problems)} {title}:")
    for name, reason in problems.items():
        tell(visible(f"  {name}: {reason}"))


def chosen_shard(text: str | None) -> tuple[int, int]:
    """The part that --shard names, else the one a launcher gave, which is said at once, else all.

    Raises:
        ValueError: what was typed, or what the environment says, is no part of several.
    """
    from iper_toolkit.processes import parse_shard, shard_from_environment

    if text is not None:
        return parse_shard(text)
    given = shard_from_environment()
    if given is None:
        return 0, 1
    (index, count), said = given
    if count > 1:
        tell(f"This is part {index} of {count} ({said}); --shard 0/1 for all.")
    return index, count
