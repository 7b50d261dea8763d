"""What all commands of `lwgan` do in the same way: errors in a sentence, tidy ends, progress, JSON."""

import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Item = TypeVar("Item")

_ARGUMENTS = "lwgan.console.arguments"


class Commands(click.Group):
    """Commands whose errors programs can read, whatever raised them, and which tidy up however they are ended."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _ended_like_ctrl_c():
            try:
                return super().invoke(ctx)
            except click.exceptions.Exit:
                raise
            except (Exception, KeyboardInterrupt) as error:
                if "--json" in ctx.meta[_ARGUMENTS]:
                    print_json(error=_in_a_sentence(error))
                raise


def _in_a_sentence(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "Ended from outside before it was done; nothing half-written stays."
    return f"{type(error).__name__}: {error}"


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Whoever ends the command politely (SIGTERM) is heard as Ctrl-C is: no half file stays behind."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be heard
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What users can mend is said in a sentence, without a traceback."""
    try:
        yield
    except (KeyError, ValueError, OSError, ImportError, MemoryError, ArithmeticError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        if isinstance(error, OSError) and error.filename is not None:
            from iper_toolkit.atomic import remedy

            text = f"{error.filename}: {remedy(error) or error.strerror}"
        raise click.ClickException(text) from error


@contextmanager
def progress(
    items: Iterable[Item], total: int, name: str, *, quiet: bool
) -> Iterator[Iterable[Item]]:
    """The items, counted aloud: a bar on a terminal, some lines elsewhere; always on standard error."""
    if quiet:
        yield items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(items, total=total, desc=name or None, unit="frame", dynamic_ncols=True) as bar:
            yield bar
    else:
        yield _in_lines(items, total, name)


def _in_lines(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    tenths = {round(total * tenth / 10) for tenth in range(1, 11)}
    for count, item in enumerate(items, start=1):
        yield item
        if count in tenths:
            click.echo(f"[{count}/{total}] {name or 'frames'}", err=True)


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(**facts)
        return
    for name, value in facts.items():
        if value is None or value == {} or value == []:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name:20} {text}")


def print_json(**content: Any) -> None:
    click.echo(json.dumps(content, ensure_ascii=False))
