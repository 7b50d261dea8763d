"""The commands that learn: `lwgan train` and `lwgan personalize`.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iper_toolkit.console import JSON, FileOrWord, FilePath, plain_errors, print_json, tell
from lwgan.options import BODY, SOURCES, torch_device

if TYPE_CHECKING:
    from lwgan.packs import Packs

CONFIG_NAMES = ("small", "modern", "official", "official-personal")
PERSONAL_PRESETS = ("quick", "thorough", "official")

_DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a GPU if there is one.",
)


@click.command()
@click.option(
    "--data",
    "folders",
    type=FilePath(file_okay=False),
    multiple=True,
    required=True,
    help="A dataset that `iper prepare` has been through, or a folder of packed clips. May be repeated.",
)
@click.option(
    "--config",
    "config_name",
    type=FileOrWord(),
    default="small",
    show_default=True,
    metavar="|".join(CONFIG_NAMES) + "|FILE",
    help="A preset, or a TOML file whose key `preset` names what it changes.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value of one setting, as losses.adversarial=0 or samples.batch=8. May be repeated.",
)
@click.option(
    "--variant",
    default=None,
    metavar="NAME",
    help="Another generator at the same widths, such as addlwb or texture-warping: an ablation.",
)
@click.option(
    "--out",
    type=FilePath(file_okay=False),
    required=True,
    help="The run's folder. The same command goes on in it.",
)
@click.option(
    "--start",
    type=FileOrWord(),
    default=None,
    metavar="FILE|RUN|NAME",
    help="Weights to begin with.",
)
@click.option(
    "--held-out",
    "held_out",
    type=FilePath(file_okay=False),
    multiple=True,
    help="Clips on which losses are told and nothing is learned.  [default: the datasets' own validation clips]",
)
@click.option(
    "--scenes",
    type=FilePath(file_okay=False),
    default=None,
    help="Pictures of places (as Places2) for the background network; without it, other clips' scenes.",
)
@BODY
@_DEVICE
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Processes that load batches.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=None,
    help="Of the step on a CPU.  [default: all but the workers' cores]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Save and stop after so long; the same command goes on.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default=None,
    help="Of the networks. auto: the faster one on this machine; a run keeps what it began with.  [default: the configuration's]",
)
@JSON
def train(
    folders: tuple[Path, ...],
    config_name: str,
    changes: tuple[str, ...],
    variant: str | None,
    out: Path,
    start: str | None,
    held_out: tuple[Path, ...],
    scenes: Path | None,
    body: str,
    device: str,
    workers: int,
    threads: int | None,
    minutes: float | None,
    precision: str | None,
    as_json: bool,
) -> None:
    """Train a generator.

    May be killed at any moment: the same command goes on where it last saved, and ends with the same weights as if nothing
    had happened. Several GPUs or machines: start it with torchrun.

    \b
    iper synth --root people/ --size medium --seed 1000 && iper prepare --root people/
    lwgan train --data people/ --out runs/first
    lwgan train --data people/ --out runs/add --variant addlwb --set steps=4000
    torchrun --nproc-per-node 4 -m lwgan train --data iPER/ --config official --out runs/official --device cuda
    lwgan imitate --weights runs/first --source 001/1/1 --motion 002/1/2 --out out.mp4
    """
    with plain_errors():
        import torch

        from iper_toolkit.body import load_body
        from lwgan import training
        from lwgan.checkpoints import load_checkpoint
        from lwgan.training_config import load_config, with_variant

        if precision is not None:
            changes = (*changes, f"precision={precision}")
        config = load_config(config_name, changes)
        if variant is not None:
            config = with_variant(config, variant)
        chosen = torch_device(device)
        cores = os.cpu_count() or 1
        torch.set_num_threads(threads or max(1, cores - workers))
        told = (lambda text: None) if as_json else tell
        size = config.samples.size
        data = [_opened(folder, size, "train", told) for folder in folders]
        watched = [_opened(folder, size, "val", told) for folder in held_out]
        if not held_out:
            watched = [
                one for folder in folders if (one := _validation(folder, size, told)) is not None
            ]
        pictures = sorted(
            path
            for path in (scenes.rglob("*") if scenes is not None else ())
            if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        if scenes is not None and not pictures:
            raise ValueError(f"{scenes} holds no picture (.jpg, .png).")
        done = training.train(
            config,
            data,
            out,
            body=load_body(body),
            trained_on=[one.name for one in data],
            synthetic=all(one.synthetic for one in data),
            held_out=watched,
            scenes=pictures,
            start=None if start is None else load_checkpoint(start),
            device=chosen,
            workers=workers,
            cache=data[0].folder / "composed",
            stop_after=None if minutes is None else 60 * minutes,
            tell=told,
        )
    if as_json:
        print_json(
            out=str(done.out), weights=str(done.weights), steps=done.steps, losses=done.losses
        )
    else:
        click.echo(f"{done.weights}: after {done.steps} of {config.steps} steps")


@click.command()
@SOURCES
@click.option(
    "--weights",
    type=FileOrWord(),
    default="attlwb-small",
    show_default=True,
    metavar="FILE|RUN|NAME",
    help="What is known of people in general.",
)
@click.option(
    "--out", type=FilePath(dir_okay=False), required=True, help="The .safetensors file to write."
)
@click.option(
    "--preset",
    type=click.Choice(PERSONAL_PRESETS),
    default="quick",
    show_default=True,
    help="official: the reference's 100 steps against a fresh discriminator. quick: 40 steps on pixels; thorough: 150.",
)
@click.option("--steps", type=click.IntRange(1), default=None, help="Other than the preset's.")
@click.option(
    "--size",
    type=int,
    default=256,
    show_default=True,
    help="Pixels a side, of the pictures to come.",
)
@click.option(
    "--num-sources",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Frames of a source clip that names none.",
)
@click.option(
    "--root",
    type=FilePath(file_okay=False),
    default=None,
    help="A prepared dataset, for clips named as 001/1/1.",
)
@BODY
@_DEVICE
@click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of quick and thorough. auto: the faster one on this machine, measured once. official learns in float32.",
)
@JSON
def personalize(
    sources: tuple[str, ...],
    weights: str,
    out: Path,
    preset: Any,
    steps: int | None,
    size: int,
    num_sources: int,
    root: Path | None,
    body: str,
    device: str,
    overwrite: bool,
    precision: str,
    as_json: bool,
) -> None:
    """Learn one person, from the few pictures there are, before drawing them.

    The tasks do the same by themselves with --personalize, and keep what was learned.

    \b
    lwgan personalize --source front.png --source back.png --out me.safetensors
    lwgan imitate --weights me.safetensors --source front.png --source back.png --motion dance.mp4 --out out.mp4
    """
    with plain_errors():
        from iper_toolkit.body import load_body
        from lwgan.checkpoints import SUFFIX, load_checkpoint, save_checkpoint
        from lwgan.people import read_person
        from lwgan.personalization import personalize as learn

        if out.suffix != SUFFIX:
            raise ValueError(f"Weights are written to a {SUFFIX} file, not to {out}.")
        if out.exists() and not overwrite:
            raise FileExistsError(f"{out} is there already; pass --overwrite to replace it.")
        told = (lambda text: None) if as_json else tell
        person = read_person(
            sources, size=size, num_sources=num_sources, root=root, body=body, tell=told
        )
        known = load_checkpoint(weights)
        learned = learn(
            [person],
            known,
            load_body(body),
            preset=preset,
            steps=steps,
            device=torch_device(device),
            precision=precision,  # type: ignore[arg-type]
            tell=told,
        )
        save_checkpoint(out, learned.generator, surface=learned.surface, origin=learned.origin)
    if as_json:
        print_json(out=str(out), weights=known.name, person=person.name, notes=list(learned.notes))
    else:
        click.echo(f"{out}: {person.name}, from {person.num_sources} pictures")


def _opened(folder: Path, size: int, split: str, tell: Any) -> Packs:
    """A folder of packs, or the packed clips of a prepared dataset."""
    from iper_toolkit.clip import Dataset
    from lwgan.packs import PACKS_FILE, Packs, pack_dataset

    if (folder / PACKS_FILE).is_file():
        return Packs.open(folder)
    dataset = Dataset.open(folder)
    return pack_dataset(dataset, size, split=split, workers=os.cpu_count() or 1, tell=tell)


def _validation(folder: Path, size: int, tell: Any) -> Packs | None:
    """A dataset's own validation clips, if it has any."""
    from iper_toolkit.clip import Dataset
    from lwgan.packs import PACKS_FILE

    if (folder / PACKS_FILE).is_file():
        return None
    rows = Dataset.open(folder).rows.values()
    if not any(row["split"] == "val" and row["status"] == "done" for row in rows):
        return None
    return _opened(folder, size, "val", tell)
