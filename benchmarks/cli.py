"""The `lwgan-bench` command. Each command parses, calls one library function and prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.tasks import GROUPS, KINDS, TASKS
from iper_toolkit import __version__

if TYPE_CHECKING:
    from benchmarks.runner import Outcome
    from iper_toolkit.cases import Case

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")


def _shared_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `run` and `score` have in common."""
    options = [
        click.option(
            "--task",
            type=click.Choice([*TASKS, "all"]),
            default="imitation",
            show_default=True,
            help="What is drawn; all: the three in one folder, with one report.",
        ),
        click.option(
            "--root",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("data"),
            show_default=True,
            help="A dataset that `iper prepare` has been through.",
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            default=None,
            help="Folder of the run; default: runs/TASK-DATASET. The same command goes on in it.",
        ),
        click.option(
            "--protocol",
            default="",
            help="Id of a shipped protocol, or a folder. Default: ROOT/protocol, else the dataset's.",
        ),
        click.option(
            "--kind",
            type=click.Choice([*KINDS, *GROUPS]),
            default=None,
            help="Imitation: self (in one's own motion), cross (in another's). Transfer: own (another outfit of one's "
            "own), other (somebody else's). View: turn (frames of a turn), instant (one moment from all sides). "
            "other and instant need true pictures, which synthetic sets have. scored: whatever has a truth. Default: "
            "self for imitation, else scored.",
        ),
        click.option(
            "--size",
            type=click.IntRange(16, 4096),
            default=256,
            show_default=True,
            help="Pixels a side.",
        ),
        click.option(
            "--num-sources",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Source frames a method is given of a clip; the protocol lists which.",
        ),
        click.option(
            "--targets",
            type=click.Choice(["unseen", "official"]),
            default="unseen",
            show_default=True,
            help="unseen: source frames are not scored. official: they are, as the official package does.",
        ),
        click.option(
            "--max-frames",
            type=click.IntRange(0),
            default=0,
            help="For a quick look: at most so many frames a case, spread evenly. 0: all.",
        ),
        click.option(
            "--metrics",
            default="default",
            show_default=True,
            metavar="WORDS",
            help="What is scored, with commas: metrics (`lwgan-bench list metrics`), groups of them (pixel, perceptual, "
            "identity, distribution, temporal, body, official), default, all. What has no weights here is named "
            "with the remedy.",
        ),
        click.option(
            "--flip",
            is_flag=True,
            help="Judges of people and faces see mirror images, too, and average.",
        ),
        click.option(
            "--person-box",
            type=click.Choice(["mask", "fit", "detector"]),
            default="mask",
            show_default=True,
            help="What says where the true person is whom judges of identity look at: the mask, the fitted body, or "
            "torchvision's Faster R-CNN (`iper assets person-detector`).",
        ),
        click.option(
            "--face-box",
            type=click.Choice(["fit", "detector"]),
            default="fit",
            show_default=True,
            help="The same of the face: the fitted head, or OpenCV's YuNet (`iper assets face-detector`).",
        ),
        click.option("--random-judges", type=int, default=None, hidden=True),
        click.option("--subjects", default="", help="Only these people, as 001,004."),
        click.option(
            "--keep",
            type=click.Choice(["some", "all", "none"]),
            default="some",
            show_default=True,
            help="Pictures that are kept: 8 a case, every one, none.",
        ),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes."
        ),
        click.option(
            "--shard",
            metavar="I/N",
            default=None,
            help="Do part I of N (0-based). Default: RANK/WORLD_SIZE or SLURM_PROCID/SLURM_NTASKS, else all.",
        ),
        click.option(
            "--body",
            default="open",
            show_default=True,
            help='The body of the fits: "open", or the path of an SMPL file.',
        ),
        click.option("--retry-failed", is_flag=True, help="Try failed cases again."),
        _JSON,
    ]
    for option in reversed(options):
        command = option(command)
    return command


_ARGUMENTS = "benchmarks.cli.arguments"


class _Recorded(click.Group):
    """A group that remembers its arguments, whether a terminal, a test or a program gave them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


@click.group(
    cls=_Recorded,
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


@main.command()
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="[NAME=]SPEC",
    help="copy, warp, warp-clothes, lwgan, lwgan:FILE, folder:DIR, module:Class or file.py:Class; may be repeated. "
    "Default: copy and warp, and warp-clothes for --task transfer.",
)
@click.option(
    "--weights",
    default="",
    metavar="FILE",
    help="Of --method lwgan: a file of weights, the folder of a training run, or random[:SEED].",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where a method computes: cpu, cuda."
)
@click.option("--seed", type=int, default=0, show_default=True)
@_shared_run_options
def run(methods: tuple[str, ...], weights: str, device: str, seed: int, **shared: Any) -> None:
    """Draw the cases of a protocol with each method and score the pictures.

    May be killed at any moment and started again: finished cases are not done twice.

    \b
    lwgan-bench run --task imitation --root data/
    lwgan-bench run --task all --root data/ --workers 4
    lwgan-bench run --root data/ --method warp --method ours=my_method.py:Ours --workers 4
    lwgan-bench run --task all --root data/ --method warp --method lwgan --weights weights.safetensors
    lwgan-bench run --root data/ --method first=lwgan:one.safetensors --method second=lwgan:two.safetensors
    lwgan-bench run --root data/ --max-frames 20 --subjects 001,004 --out runs/quick
    lwgan-bench run --root /shared/iPER --protocol iper-v1 --size 512 --shard 3/16
    """
    with _plain_errors():
        if weights:
            from benchmarks.methods import default_methods, with_weights

            methods = with_weights(methods or default_methods(shared["task"]), weights)
        _run(methods, device, seed, **shared)


@main.command()
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder with CASE/00000.png ...; `lwgan-bench list cases` names the cases.",
)
@click.option("--name", default=None, help="What the method is called; default: the folder's name.")
@_shared_run_options
def score(pictures: Path, name: str | None, **shared: Any) -> None:
    """Score pictures that any program has written.

    They lie in DIR/CASE/00000.png, 00001.png ..., one for every picture of the case in its order, SIZE x SIZE, RGB: a
    frame of a range, a frame of a turn, an angle of an instant. A case with missing, surplus or odd-sized pictures has
    failed, and counts.

    \b
    lwgan-bench score --pictures my_results/ --task imitation --root data/
    lwgan-bench score --pictures my_results/ --name ours --root data/ --size 512 --out runs/ours
    lwgan-bench list cases --root data/
    """
    with _plain_errors():
        from benchmarks.methods import check_name

        name = name if name is not None else pictures.resolve().name
        check_name(name)
        _run((f"{name}=folder:{pictures}",), "cpu", 0, **shared)


def _run(
    methods: tuple[str, ...],
    device: str,
    seed: int,
    *,
    task: str,
    root: Path,
    out: Path | None,
    protocol: str,
    kind: str | None,
    size: int,
    num_sources: int,
    targets: str,
    max_frames: int,
    metrics: str,
    flip: bool,
    person_box: str,
    face_box: str,
    random_judges: int | None,
    subjects: str,
    keep: str,
    workers: int,
    shard: str | None,
    body: str,
    retry_failed: bool,
    as_json: bool,
) -> None:
    from benchmarks import leaderboard as boards
    from benchmarks.choosing import choose_metrics
    from benchmarks.detecting import FACE_DETECTOR, PERSON_DETECTOR
    from benchmarks.judging import Judges
    from benchmarks.methods import default_methods, estimated_poses
    from benchmarks.planning import Settings
    from benchmarks.record import read_run
    from benchmarks.results import read_rows
    from benchmarks.sets import read_sets, sets_file
    from benchmarks.tasks import default_kind
    from benchmarks.words import count
    from benchmarks.workers import RunDescription, run_described
    from iper_toolkit.cli import parse_shard

    words = tuple(filter(None, (word.strip() for word in metrics.split(","))))
    chosen = choose_metrics(
        words,
        Judges(random_seed=random_judges),
        size=size,
        estimates=estimated_poses(methods),
        detectors={
            region: asset
            for region, box, asset in (
                ("person", person_box, PERSON_DETECTOR),
                ("face", face_box, FACE_DETECTOR),
            )
            if box == "detector"
        },
    )
    settings = Settings(
        kind=kind or "all",
        size=size,
        num_sources=num_sources,
        targets=targets,  # type: ignore[arg-type]
        max_frames=max_frames,
        metrics=chosen.names,
        subjects=tuple(filter(None, (name.strip() for name in subjects.split(",")))),
        seed=seed,
        task=task,  # type: ignore[arg-type]
        flip=flip,
        random_judges=random_judges,
        person_box=person_box,  # type: ignore[arg-type]
        face_box=face_box,  # type: ignore[arg-type]
    )
    if kind is None:
        chosen_kind, why = default_kind(task)
        settings = replace(settings, kind=chosen_kind)
        click.echo(why, err=True)
    description = RunDescription(
        root=root,
        out=out,
        methods=methods or default_methods(task),
        settings=settings,
        protocol=protocol,
        body=body,
        device=device,
        keep=keep,  # type: ignore[arg-type]
        threads=os.cpu_count() or 1,
        retry_failed=retry_failed,
        missing_metrics=chosen.missing,
        command=_typed(click.get_current_context()),
    )
    part = parse_shard(shard)
    with _progress(quiet=as_json) as tell:
        done, _, complete = run_described(description, shard=part, workers=workers, tell=tell)
    plan = done.plan()
    summary = read_run(done.out)
    unreadable = summary["unreadable_cases"]
    failed = summary["failures"]
    rows = done.out / "rows.parquet"
    sets = read_sets(sets_file(rows))
    has_table = rows.is_file() and len(read_rows(rows)) + len(sets) > 0
    nothing_scored = (
        complete and not has_table and any(KINDS[case.kind].is_scored for case in plan.cases)
    )
    if as_json:
        _print_json(
            out=str(done.out),
            complete=complete,
            cases=len(plan.cases),
            failed=failed,
            missing=plan.missing,
            left_out=plan.left_out,
            unreadable=unreadable,
            missing_metrics=chosen.missing,
        )
    else:
        if has_table:
            click.echo(boards.as_text(boards.build_boards(read_rows(rows), sets)), nl=False)
        _print_problems(
            "failed", {f"{one['method']} on {one['case']}": one["error"] for one in failed}
        )
        if absent := [kind for kind in settings.kinds if kind not in {c.kind for c in plan.cases}]:
            of_whom = " of these --subjects" if settings.subjects else ""
            click.echo(
                f"No case of kind {', '.join(absent)}{of_whom} in this dataset and protocol.",
                err=True,
            )
        if plan.left_out:
            click.echo(
                f"No case is made of {count(len(plan.left_out), 'true motion or instant', 'true motions and instants')}, "
                f"whose clips the protocol does not have: {', '.join(plan.left_out[:5])}"
                + (" ..." if len(plan.left_out) > 5 else ""),
                err=True,
            )
        if chosen.missing:
            click.echo(f"{count(len(chosen.missing), 'metric')} not scored:", err=True)
        for names, reason in _by_reason(chosen.missing).items():
            click.echo(f"  {names}: {reason}", err=True)
        _print_problems("without a frame to score, so not in the table", summary["unscored_cases"])
        _print_problems("not in the dataset", plan.missing)
        _print_problems("unreadable", unreadable)
        click.echo(
            f"{done.out}: {count(len(plan.cases), 'case')}, "
            + (
                "complete."
                if complete
                else "not complete: "
                + (
                    f"{count(len(unreadable), 'case')} could not be read; give the same command again to retry."
                    if unreadable
                    else "other shards are at work."
                )
            )
        )
        if nothing_scored:
            click.echo("There is no table: not one frame could be scored.", err=True)
    sys.exit(1 if failed or plan.missing or unreadable or nothing_scored else 0)


@main.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_JSON
def merge(out: Path, runs: tuple[Path, ...], as_json: bool) -> None:
    """Join the rows of several runs in one table, OUT.

    The same rows twice count once; different rows for one case of one method are an error. Scores of whole sets
    (FID, FReID) of runs that did different cases are scored again as one set; they are written beside, as
    OUT.sets.parquet.

    \b
    lwgan-bench merge all.parquet runs/ours runs/theirs
    lwgan-bench leaderboard all.parquet
    """
    with _plain_errors():
        from benchmarks.results import merge_tables, read_rows, rows_file, write_rows
        from benchmarks.run_folder import merged_sets
        from benchmarks.sets import sets_file, write_sets

        tables = {str(path): read_rows(rows_file(path)) for path in runs}
        blocks = merge_tables(tables)
        sets, left_out = merged_sets(runs)
        write_rows(out, blocks)
        write_sets(sets_file(out), sets)
    count = sum(len(block) for block in blocks)
    if as_json:
        _print_json(out=str(out), rows=count, cases=len(blocks), sets=len(sets), left_out=left_out)
    else:
        click.echo("".join(f"{one}\n" for one in left_out), err=True, nl=False)
        click.echo(f"{out}: {count} rows, {len(blocks)} cases.")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
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
    "--average",
    type=click.Choice(["people", "official"]),
    default="people",
    show_default=True,
    help="official: no intervals and ranks, but the official package's mean of the means of 16 frames, to be set beside "
    "old tables.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Also into this file.",
)
def leaderboard(
    runs: tuple[Path, ...], form: str, published: str, metrics: str, average: str, out: Path | None
) -> None:
    """Means over people, with 95 % intervals, paired differences and ranks.

    RUNS are folders of runs or tables of rows. What is not comparable stands in separate tables.

    \b
    lwgan-bench leaderboard runs/imitation-iPER
    lwgan-bench leaderboard runs/ours runs/theirs --format markdown --out table.md
    """
    with _plain_errors():
        from benchmarks import leaderboard as boards
        from benchmarks.results import concatenated, merge_tables, read_rows, rows_file
        from benchmarks.run_folder import merged_sets

        table = concatenated(merge_tables({str(path): read_rows(rows_file(path)) for path in runs}))
        sets, left_out = merged_sets(runs)
        click.echo("".join(f"{one}\n" for one in left_out), err=True, nl=False)
        table, sets = boards.only_metrics(table, sets, metrics)
        if average == "official":
            from benchmarks.official_means import as_lines, official_means

            text = as_lines(official_means(table), form)
            if out is not None:
                boards.write_text(out, text)
            click.echo(text, nl=False)
            return
        found = boards.build_boards(table, sets)
        datasets = {board.facts["dataset"] for board in found}
        numbers = [
            number
            for number in boards.read_published()
            if published == "all" or (published == "dataset" and number.dataset in datasets)
        ]
        writers = {"text": boards.as_text, "markdown": boards.as_markdown, "json": boards.as_json}
        text = writers[form](found, numbers)
        if out is not None:
            boards.write_text(out, text)
    click.echo(text, nl=not text.endswith("\n"))


@main.command()
@click.argument(
    "run_folder", metavar="RUN", type=click.Path(path_type=Path, file_okay=False, exists=True)
)
def report(run_folder: Path) -> None:
    """Write one self-contained page: table, pictures side by side, provenance.

    \b
    lwgan-bench report runs/imitation-iPER
    """
    with _plain_errors():
        from benchmarks.report import write_report

        page = write_report(run_folder)
    click.echo(str(page))


@main.command()
@_JSON
def selftest(as_json: bool) -> None:
    """Compute every metric on a few golden pictures and compare with what it should be.

    Judges whose weights belong to others are checked with random weights: their code is proven, your file is not.
    Exits 1 if a value is off.

    \b
    lwgan-bench selftest
    """
    with _plain_errors():
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
        _print_json(ok=not wrong, wrong=wrong, metrics=found, unchecked=unchecked)
    else:
        _print_problems("not checked", unchecked)
        click.echo(
            f"{len(checks) - len(wrong)} of {len(checks)} metrics are right."
            if wrong
            else f"All {len(checks)} metrics are right."
        )
    sys.exit(1 if wrong else 0)


@main.command("list")
@click.argument(
    "what", type=click.Choice(["all", "methods", "metrics", "protocols", "cases"]), default="all"
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="For cases: the dataset.",
)
@click.option("--protocol", default="", help="For cases: the protocol; default: the dataset's.")
@_JSON
def list_command(what: str, root: Path, protocol: str, as_json: bool) -> None:
    """Say what there is: methods, metrics, protocols; the cases of a protocol.

    \b
    lwgan-bench list
    lwgan-bench list metrics --json
    lwgan-bench list cases --protocol iper-v1
    """
    found: dict[str, dict[str, str]] = {}
    with _plain_errors():
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
            found["cases"] = _cases(root, protocol)
    if as_json:
        _print_json(**found)
        return
    for title, entries in found.items():
        click.echo(f"{title}:")
        for name, text in entries.items():
            click.echo(f"  {name:24}  {text}")


def _cases(root: Path, protocol: str) -> dict[str, str]:
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
    return {case.key: _case_in_words(case) for case in cases}


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


# ------------------------------------------------------------------------------------------- helping


def _typed(ctx: click.Context) -> str:
    return shlex.join(["lwgan-bench", *ctx.meta[_ARGUMENTS]])


@contextmanager
def _plain_errors() -> Iterator[None]:
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
            _print_json(error=error.message)
        raise


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int, list[Outcome]], None]]:
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
    return "; ".join([cases, *bad])


def _by_reason(missing: dict[str, str]) -> dict[str, str]:
    """Reasons are long and shared: "fid, kid" -> why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    return {", ".join(names): reason for reason, names in by_reason.items()}


def _print_problems(title: str, problems: dict[str, str]) -> None:
    if problems:
        click.echo(f"{len(problems)} {title}:", err=True)
    for name, reason in problems.items():
        click.echo(f"  {name}: {reason}", err=True)


def _print_json(**content: Any) -> None:
    click.echo(json.dumps(content, ensure_ascii=False))
