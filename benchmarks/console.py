"""What all commands of `lwgan-bench` say in the same way: errors, progress, problems, JSON, and what was typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from iper_toolkit.plain_text import json_text, visible

if TYPE_CHECKING:
    from benchmarks.runner import Outcome

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
_ARGUMENTS = "benchmarks.console.arguments"


class Recorded(click.Group):
    """A group that remembers its arguments, whether a terminal, a test or a program gave them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def typed(ctx: click.Context) -> str:
    """The command line of a group that is `Recorded`."""
    return shlex.join(["lwgan-bench", *ctx.meta[_ARGUMENTS]])


@contextmanager
def plain_errors() -> Iterator[None]:
    """What users can mend is said in a sentence, without a traceback."""
    try:
        try:
            yield
        except KeyError as error:
            raise click.ClickException(str(error.args[0]) if error.args else str(error)) from error
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            raise click.ClickException(str(error)) from error
    except click.ClickException as error:
        if click.get_current_context().params.get("as_json"):
            print_json(error=error.message)
        raise


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int, int, list[Outcome]], None]]:
    """A bar on a terminal, a line a person elsewhere; always on standard error."""
    if quiet or not sys.stderr.isatty():

        def line(count: int, total: int, outcomes: list[Outcome]) -> None:
            if not quiet:
                click.echo(f"[{count}/{total}] {_in_words(outcomes)}", err=True)

        yield line
        return
    from tqdm import tqdm

    with tqdm(unit="person", dynamic_ncols=True) as bar:

        def advance(count: int, total: int, outcomes: list[Outcome]) -> None:
            bar.total = total
            bar.update(count - bar.n)
            bar.set_postfix_str(_in_words(outcomes))

        yield advance


def _in_words(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return "done before"
    bad = [
        f"{one.method or 'clip'} {one.status.upper()}: {one.error}" for one in outcomes if one.error
    ]
    cases = ", ".join(dict.fromkeys(one.case for one in outcomes))
    return visible("; ".join([cases, *bad]))


def by_reason(missing: dict[str, str]) -> dict[str, str]:
    """Reasons are long and shared: "fid, kid" -> why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    return {", ".join(names): reason for reason, names in by_reason.items()}


def print_problems(title: str, problems: dict[str, str]) -> None:
    if problems:
        click.echo(f"{len(problems)} {title}:", err=True)
    for name, reason in problems.items():
        click.echo(visible(f"  {name}: {reason}"), err=True)


def print_json(**content: Any) -> None:
    click.echo(json_text(content))
