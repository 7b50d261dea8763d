"""`lwgan-bench run` and `lwgan-bench score`: draw the cases of a protocol, or read them, and score the pictures."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.console import progress
from benchmarks.tasks import GROUPS, KINDS, TASKS
from iper_toolkit.console import (
    EXISTING_FOLDER,
    FOLDER,
    JSON,
    FileOrWord,
    Spec,
    chosen_shard,
    plain_errors,
    print_json,
    print_problems,
    typed,
)

if TYPE_CHECKING:
    from benchmarks.planning import Plan, Settings


def _shared_options(command: Callable[..., None]) -> Callable[..., None]:
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
            type=FOLDER,
            default=Path("data"),
            show_default=True,
            help="A dataset that `iper prepare` has been through.",
        ),
        click.option(
            "--out",
            type=FOLDER,
            default=None,
            help="Folder of the run; default: runs/TASK-DATASET. The same command goes on in it.",
        ),
        click.option(
            "--protocol",
            type=FileOrWord(),
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
            help="Do part I of N (0-based). Default: the part that srun or torchrun gave to this process, else all.",
        ),
        click.option(
            "--body",
            type=FileOrWord(),
            default="open",
            show_default=True,
            help='The body of the fits: "open", or the path of an SMPL file.',
        ),
        click.option("--retry-failed", is_flag=True, help="Try failed cases again."),
        JSON,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.option(
    "--method",
    "methods",
    type=Spec(),
    multiple=True,
    metavar="[NAME=]SPEC",
    help="copy, warp, warp-clothes, lwgan, lwgan:FILE, folder:DIR, module:Class or file.py:Class; may be repeated. "
    "Default: copy, warp and lwgan with the weights that ship, and warp-clothes for --task transfer.",
)
@click.option(
    "--weights",
    type=FileOrWord(),
    default="",
    metavar="FILE",
    help="Of --method lwgan: a file of weights, the folder of a training run, or random[:SEED].",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where a method computes: cpu, cuda, cuda:1; auto: the GPU if there is one.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of networks. auto: the faster one on this machine, measured once. A method's version names bfloat16.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=1800.0,  # isolation.TIME_LIMIT, whose import would slow --help
    show_default=True,
    help="Seconds that a method may take to be set up, for a person, or for a picture; then it is ended and the case "
    "counts as failed.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@_shared_options
def run(
    methods: tuple[str, ...],
    weights: str,
    device: str,
    precision: str,
    time_limit: float,
    seed: int,
    **shared: Any,
) -> None:
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
    with plain_errors():
        if weights:
            from benchmarks.methods import with_weights

            methods = with_weights(methods or _default_methods(weights, shared), weights)
        names = methods or _default_methods(weights, shared)
        _run(names, device, seed, precision=precision, time_limit=time_limit, **shared)


@click.command()
@click.option(
    "--pictures",
    type=EXISTING_FOLDER,
    required=True,
    help="Folder with CASE/00000.png ...; `lwgan-bench list cases` names the cases.",
)
@click.option("--name", default=None, help="What the method is called; default: the folder's name.")
@_shared_options
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
    with plain_errors():
        from benchmarks.methods import check_name

        name = name if name is not None else pictures.resolve().name
        check_name(name)
        _run((f"{name}=folder:{pictures}",), "cpu", 0, **shared)


def _default_methods(weights: str, shared: Mapping[str, Any]) -> tuple[str, ...]:
    from benchmarks.methods import default_methods

    names, why = default_methods(
        shared["task"], size=shared["size"], body=shared["body"], weights=weights
    )
    if why:
        click.echo(f"lwgan is not run: {why}.", err=True)
    return names


def _run(
    methods: tuple[str, ...],
    device: str,
    seed: int,
    *,
    precision: str = "auto",
    time_limit: float = 1800.0,
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
    from benchmarks.choosing import choose_metrics
    from benchmarks.detecting import FACE_DETECTOR, PERSON_DETECTOR
    from benchmarks.judging import Judges
    from benchmarks.leaderboard import build_boards
    from benchmarks.leaderboard_text import as_text
    from benchmarks.machine import resolve_device
    from benchmarks.methods import check_size, estimated_poses
    from benchmarks.planning import Settings
    from benchmarks.record import read_run
    from benchmarks.results import read_rows
    from benchmarks.sets import read_sets, sets_file
    from benchmarks.tasks import default_kind
    from benchmarks.workers import RunDescription, run_described

    check_size(methods, size)
    device = resolve_device(device)
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
        methods=methods,
        settings=settings,
        protocol=protocol,
        body=body,
        device=device,
        precision=precision,
        keep=keep,  # type: ignore[arg-type]
        threads=os.cpu_count() or 1,
        time_limit=time_limit,
        retry_failed=retry_failed,
        missing_metrics=chosen.missing,
        command=typed(click.get_current_context()),
    )
    part = chosen_shard(shard)
    with progress(quiet=as_json) as tell:
        done, _, complete = run_described(description, shard=part, workers=workers, tell=tell)
    plan, summary, rows = done.plan(), read_run(done.out), done.out / "rows.parquet"
    sets = read_sets(sets_file(rows))
    has_table = rows.is_file() and len(read_rows(rows)) + len(sets) > 0
    nothing_scored = (
        complete and not has_table and any(KINDS[case.kind].is_scored for case in plan.cases)
    )
    failed, unreadable = summary["failures"], summary["unreadable_cases"]
    if as_json:
        print_json(
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
            click.echo(as_text(build_boards(read_rows(rows), sets)), nl=False)
        _tell_problems(plan, settings, summary, chosen.missing)
        click.echo(f"{done.out}: {_state_in_words(plan, complete, len(unreadable))}")
        if has_table:
            click.echo(
                f"Pictures and tables on one page: lwgan-bench report {shlex.quote(str(done.out))}"
            )
        if nothing_scored:
            click.echo("There is no table: not one frame could be scored.", err=True)
    sys.exit(1 if failed or plan.missing or unreadable or nothing_scored else 0)


def _tell_problems(
    plan: Plan, settings: Settings, summary: Mapping[str, Any], missing_metrics: dict[str, str]
) -> None:
    """What is not in the table, and why; on standard error."""
    from benchmarks.words import count

    failures = summary["failures"]
    print_problems(
        "failed", {f"{one['method']} on {one['case']}": one["error"] for one in failures}
    )
    if absent := [kind for kind in settings.kinds if kind not in {c.kind for c in plan.cases}]:
        of_whom = " of these --subjects" if settings.subjects else ""
        click.echo(
            f"No case of kind {', '.join(absent)}{of_whom} in this dataset and protocol.", err=True
        )
    if plan.left_out:
        click.echo(
            f"No case is made of {count(len(plan.left_out), 'true motion or instant', 'true motions and instants')}, "
            f"whose clips the protocol does not have: {', '.join(plan.left_out[:5])}"
            + (" ..." if len(plan.left_out) > 5 else ""),
            err=True,
        )
    if missing_metrics:
        some = list(missing_metrics)[:3]
        more = ", ..." if len(missing_metrics) > len(some) else ""
        click.echo(
            f"{count(len(missing_metrics), 'metric')} not scored ({', '.join(some)}{more}): files of others are not here, "
            "or the pictures are too small. What is missing, and how to get it: `iper assets --missing`; the reason of "
            "each metric: run.json.",
            err=True,
        )
    print_problems("without a frame to score, so not in the table", summary["unscored_cases"])
    print_problems("not in the dataset", plan.missing)
    print_problems("unreadable", summary["unreadable_cases"])


def _state_in_words(plan: Plan, complete: bool, num_unreadable: int) -> str:
    from benchmarks.words import count

    cases = count(len(plan.cases), "case")
    if complete:
        return f"{cases}, complete."
    if num_unreadable:
        return (
            f"{cases}, not complete: {count(num_unreadable, 'case')} could not be read; give the same command again "
            "to retry."
        )
    return f"{cases}, not complete: other shards are at work."
