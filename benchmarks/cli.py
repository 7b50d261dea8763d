"""The `lwgan-bench` command. Each command parses, calls one library function and prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.run_commands import run, score
from benchmarks.tasks import GROUPS, KINDS, TASKS
from iper_toolkit import __version__
from iper_toolkit.console import (
    EXISTING,
    EXISTING_FOLDER,
    FILE,
    FOLDER,
    JSON,
    Commands,
    FileOrWord,
    plain_errors,
    print_json,
    print_problems,
)
from iper_toolkit.plain_text import visible

if TYPE_CHECKING:
    from iper_toolkit.cases import Case


@click.group(
    "lwgan-bench",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nStart here:\n  lwgan-bench run --task imitation --root data/",
)
@click.version_option(__version__, prog_name="lwgan-bench")
def main() -> None:
    """Score any method that draws people, and keep the leaderboard.

    \b
    lwgan-bench run --task imitation --root data/     draw and score with the built-in methods
    lwgan-bench score --pictures DIR --root data/     score pictures that another program made
    lwgan-bench leaderboard runs/imitation-iPER       the table, with intervals over people
    lwgan-bench report runs/imitation-iPER            one page with table and pictures
    lwgan-bench selftest                              whether every metric gives what it should here
    """


main.add_command(run)
main.add_command(score)


@main.command()
@click.argument("out", type=FILE)
@click.argument("runs", nargs=-1, required=True, type=EXISTING)
@JSON
def merge(out: Path, runs: tuple[Path, ...], as_json: bool) -> None:
    """Join the rows of several runs in one table, OUT.

    OUT is a new file; what is there already is never replaced. The same rows twice count once; different rows for one
    case of one method are an error. Scores of whole sets
    (FID, FReID) of runs that did different cases are scored again as one set; they are written beside, as
    OUT.sets.parquet.

    \b
    lwgan-bench merge all.parquet runs/ours runs/theirs
    lwgan-bench leaderboard all.parquet
    """
    with plain_errors():
        from benchmarks.results import merge_tables, read_rows, rows_file, write_rows
        from benchmarks.set_members import merged_sets
        from benchmarks.sets import check_merged_path, sets_file, write_sets

        check_merged_path(out, runs)
        tables = {str(path): read_rows(rows_file(path)) for path in runs}
        blocks = merge_tables(tables)
        sets, left_out = merged_sets(runs)
        write_rows(out, blocks)
        write_sets(sets_file(out), sets)
    count = sum(len(block) for block in blocks)
    if as_json:
        print_json(out=str(out), rows=count, cases=len(blocks), sets=len(sets), left_out=left_out)
    else:
        click.echo("".join(f"{one}\n" for one in left_out), err=True, nl=False)
        click.echo(f"{out}: {count} rows, {len(blocks)} cases.")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=EXISTING)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
)
@click.option(
    "--published",
    type=click.Choice(["dataset", "all", "none"]),
    default="dataset",
    show_default=True,
    help="Numbers that others printed, shown apart: of the same dataset, all, none.",
)
@click.option(
    "--metrics",
    default="all",
    show_default=True,
    metavar="WORDS",
    help="Only these columns, with commas: metrics, groups of them, default, all.",
)
@click.option(
    "--against",
    metavar="METHOD",
    default=None,
    help="Only the differences from this method; default: of every two.",
)
@click.option(
    "--average",
    type=click.Choice(["people", "official"]),
    default="people",
    show_default=True,
    help="official: no intervals and ranks, but the official package's mean of the means of 16 frames, to be set beside "
    "old tables.",
)
@click.option(
    "--out",
    type=FILE,
    default=None,
    help="Also into this file.",
)
def leaderboard(
    runs: tuple[Path, ...],
    form: str,
    published: str,
    metrics: str,
    against: str | None,
    average: str,
    out: Path | None,
) -> None:
    """Means over people, with 95 % intervals, paired differences and ranks.

    RUNS are folders of runs or tables of rows. What is not comparable stands in separate tables.

    \b
    lwgan-bench leaderboard runs/imitation-iPER
    lwgan-bench leaderboard runs/ours runs/theirs --format markdown --out table.md
    lwgan-bench leaderboard runs/many --against ours
    """
    if against is not None and average == "official":
        raise click.UsageError("--average official has no differences; leave out --against.")
    with plain_errors():
        from benchmarks import leaderboard as boards
        from benchmarks import leaderboard_text as texts
        from benchmarks.results import concatenated, merge_tables, read_rows, rows_file
        from benchmarks.set_members import merged_sets

        texts.check_text_path(out, runs)
        table = concatenated(merge_tables({str(path): read_rows(rows_file(path)) for path in runs}))
        sets, left_out = merged_sets(runs)
        click.echo("".join(f"{one}\n" for one in left_out), err=True, nl=False)
        table, sets = boards.only_metrics(table, sets, metrics)
        if average == "official":
            from benchmarks.official_means import as_lines, official_means

            text = as_lines(official_means(table), form)
            if out is not None:
                texts.write_text(out, text)
            click.echo(text, nl=False)
            return
        found = boards.build_boards(table, sets)
        if against is not None:
            found = boards.only_against(found, against)
        datasets = {board.facts["dataset"] for board in found}
        numbers = [
            number
            for number in boards.read_published()
            if published == "all" or (published == "dataset" and number.dataset in datasets)
        ]
        writers = {"text": texts.as_text, "markdown": texts.as_markdown, "json": texts.as_json}
        text = writers[form](found, numbers)
        if out is not None:
            texts.write_text(out, text)
    click.echo(text, nl=not text.endswith("\n"))


@main.command()
@click.argument("run_folder", metavar="RUN", type=EXISTING_FOLDER)
def report(run_folder: Path) -> None:
    """Write one self-contained page: table, pictures side by side, provenance.

    \b
    lwgan-bench report runs/imitation-iPER
    """
    with plain_errors():
        from benchmarks.report import write_report

        page = write_report(run_folder)
    click.echo(str(page))


@main.command()
@JSON
def selftest(as_json: bool) -> None:
    """Compute every metric on a few golden pictures and compare with what it should be.

    Judges whose weights belong to others are checked with random weights: their code is proven, your file is not.
    Exits 1 if a value is off.

    \b
    lwgan-bench selftest
    """
    with plain_errors():
        from benchmarks.selftest import Check, check_installation

        checks: list[Check] = []
        unchecked: dict[str, str] = {}
        for one in check_installation():
            if isinstance(one, tuple):
                unchecked[one[0]] = one[1]
                continue
            checks.append(one)
            if not as_json:
                judge = f"  ({one.judge})" if one.judge else ""
                verdict = "ok   " if one.is_right else "WRONG"
                click.echo(
                    f"{verdict}  {one.metric:24}  expected {one.expected:<14.8g} found {one.found:<14.8g}{judge}"
                )
    wrong = [one.metric for one in checks if not one.is_right]
    if as_json:
        found = {one.metric: {"expected": one.expected, "found": one.found} for one in checks}
        print_json(ok=not wrong, wrong=wrong, metrics=found, unchecked=unchecked)
    else:
        print_problems("not checked", unchecked)
        click.echo(
            f"{len(checks) - len(wrong)} of {len(checks)} metrics are right."
            if wrong
            else f"All {len(checks)} metrics are right."
        )
    sys.exit(1 if wrong else 0)


@main.command()
@click.option("--task", type=click.Choice([*TASKS, "all"]), default="imitation", show_default=True)
@click.option(
    "--root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="A dataset that `iper prepare` has been through.",
)
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="A new or empty folder.",
)
@click.option("--protocol", default="", help="Id or folder; default: the dataset's.")
@click.option("--kind", type=click.Choice([*KINDS, *GROUPS]), default=None, help="As for `run`.")
@click.option(
    "--size", type=click.IntRange(16, 4096), default=256, show_default=True, help="Pixels a side."
)
@click.option("--num-sources", type=click.IntRange(1), default=1, show_default=True)
@click.option("--max-frames", type=click.IntRange(0), default=0, help="0: all. As for `run`.")
@click.option("--subjects", default="", help="Only these people, as 001,004.")
@click.option("--body", default="open", show_default=True, help="The body of the fits.")
@JSON
def export(
    task: str,
    root: Path,
    out: Path,
    protocol: str,
    kind: str | None,
    size: int,
    num_sources: int,
    max_frames: int,
    subjects: str,
    body: str,
    as_json: bool,
) -> None:
    """Write what a method may see of each case as files, for methods that are no Python class.

    Source pictures, driving frames, masks, keypoints, fits, and tables that say which picture is of which frame.
    A method writes OUT/CASE/00000.png ..., and `score` reads them.

    \b
    lwgan-bench export --task imitation --root data/ --out cases/
    lwgan-bench score --pictures cases/ --name ours --task imitation --root data/
    """
    with plain_errors():
        from benchmarks.exporting import export_cases
        from benchmarks.planning import Settings
        from benchmarks.tasks import default_kind
        from iper_toolkit.body import load_body
        from iper_toolkit.clip import Dataset
        from iper_toolkit.protocols import load_protocol, protocol_of
        from iper_toolkit.true_pictures import TruthTables

        dataset = Dataset.open(root)
        settings = Settings(
            kind=kind if kind is not None else default_kind(task)[0],
            size=size,
            num_sources=num_sources,
            max_frames=max_frames,
            subjects=tuple(filter(None, (name.strip() for name in subjects.split(",")))),
            task=task,  # type: ignore[arg-type]
        )
        count, left = export_cases(
            dataset,
            load_protocol(protocol) if protocol else protocol_of(root, dataset.name),
            settings,
            out,
            body=load_body(body),
            truths=TruthTables(root),
        )
    if as_json:
        print_json(out=str(out), cases=count, left_out=left)
    else:
        print_problems("left out", left)
        click.echo(f"{out}: {count} cases. Next, when the pictures are there:")
        click.echo(f"  lwgan-bench score --pictures {out} --name NAME --root {root} --task {task}")
    sys.exit(1 if left else 0)


@main.command("list")
@click.argument(
    "what", type=click.Choice(["all", "methods", "metrics", "protocols", "cases"]), default="all"
)
@click.option(
    "--root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="For cases: the dataset.",
)
@click.option(
    "--protocol",
    type=FileOrWord(),
    default="",
    help="For cases: the protocol; default: the dataset's.",
)
@JSON
def list_command(what: str, root: Path, protocol: str, as_json: bool) -> None:
    """Say what there is: methods, metrics, protocols; the cases of a protocol (with --json in plain values).

    \b
    lwgan-bench list
    lwgan-bench list metrics --json
    lwgan-bench list cases --protocol iper-v1
    """
    found: dict[str, dict[str, str]] = {}
    plain: dict[str, Any] = {}
    with plain_errors():
        if what in ("all", "methods"):
            from benchmarks.methods import BUILT_IN, SPECS, describe

            found["methods"] = {name: describe(name) for name in BUILT_IN} | SPECS
        if what in ("all", "metrics"):
            from benchmarks.metrics import METRICS

            found["metrics"] = {
                name: f"[{card.group}{'' if card.is_default else ', not by default'}] {card.better} is better, "
                f"{card.unit}. {card.definition}{f' Judge: {card.judge}.' if card.judge else ''}"
                for name, card in METRICS.items()
            }
        if what in ("all", "protocols"):
            from iper_toolkit.protocols import load_protocol, shipped_protocols

            found["protocols"] = {
                name: f"{load_protocol(name).title} ({load_protocol(name).digest[:12]})"
                for name in shipped_protocols()
            }
        if what == "cases":
            from benchmarks.exporting import plain_case

            cases = _cases(root, protocol)
            found["cases"] = {case.key: _case_in_words(case) for case in cases}
            plain["cases"] = {case.key: plain_case(case) for case in cases}
    if as_json:
        print_json(**(found | plain))
        return
    for title, entries in found.items():
        click.echo(f"{title}:")
        for name, text in entries.items():
            click.echo(visible(f"  {name:24}  {text}"))


def _cases(root: Path, protocol: str) -> list[Case]:
    from benchmarks.planning import check_keys, list_cases
    from iper_toolkit.protocols import load_protocol, protocol_of
    from iper_toolkit.true_pictures import TruthTables

    if protocol:
        tables = load_protocol(protocol)
    else:
        from iper_toolkit.clip import Dataset

        tables = protocol_of(root, Dataset.open(root).name)
    cases = list_cases(tables, TruthTables(root), tuple(KINDS))
    check_keys(cases)
    return cases


def _case_in_words(case: Case) -> str:
    from benchmarks.words import listed

    first, last = min(case.frames), max(case.frames)
    drawn = f"frames {first} to {last} of {case.driver}"
    if case.kind == "instant":
        drawn = f"one instant of {case.driver}, turned by {first} to {last} degrees"
    shown = listed(
        [
            f"source frames {', '.join(map(str, one.frames))} of {one.clip}"
            + (f" ({listed(one.parts)})" if len(case.people) > 1 else "")
            for one in case.people
        ]
    )
    return f"{len(case.frames)} pictures: {drawn}, from {shown}"
