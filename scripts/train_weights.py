"""Trains the generators that ship, and the small perceptual network that their training looks through, on drawn people.

\b
    python scripts/train_weights.py people                draw the people (about 11 minutes on 2 cores, 0.6 GB)
    python scripts/train_weights.py perceptual            6 minutes on one core
    python scripts/train_weights.py train attlwb-small    four stages, one core; also addlwb-small, avglwb-small, ...
    python scripts/train_weights.py prove attlwb-small    figures on people that were not trained on
    python scripts/train_weights.py export attlwb-small   to lwgan/weights/, in half precision, if it beats what lies there
    python scripts/train_weights.py curves                docs/curves.csv and docs/pictures/curves.svg, of all that was trained
    python scripts/train_weights.py all                   one after the other

All that is made lies in --folder, and what is there is gone on with. Every generator has the same widths, the same
people in the same order, and the same number of steps, so that they differ in their fusion, and attlwb-small in the
rate of its first stage, which is lower. A longer run takes --steps 2, which doubles the steps of every stage; --device
cuda takes a GPU.
"""

import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import click
import torch
from weights import curves, people, perceptual, proofs

from iper_toolkit.body import load_body
from lwgan.checkpoints import WEIGHTS_FILE, load_checkpoint, save_checkpoint, shipped_weights
from lwgan.packs import PACKS_FILE, Packs
from lwgan.training import train
from lwgan.training_config import TrainingConfig, load_config, with_variant

REPOSITORY = Path(__file__).resolve().parent.parent
WEIGHTS, DOCS = REPOSITORY / "lwgan" / "weights", REPOSITORY / "docs"
PEOPLE = people.Plan(seed=1000, clips=2000)
HELD_OUT = people.Plan(seed=1001, clips=48)
VARIANTS = {
    "attlwb-small": "attlwb-spade",
    "addlwb-small": "addlwb",
    "avglwb-small": "avglwb",
    "texture-warping-small": "texture-warping",
    "input-concat-small": "input-concat",
}
_MOST_BYTES = {"attlwb-small": 8_000_000}


@dataclass(frozen=True)
class Stage:
    """One run; the next one begins with its weights."""

    name: str
    steps: int
    changes: tuple[str, ...]


# Small pictures first: half the cost a picture, and skirts and hair are nearer in pixels. Then the size that is drawn.
# Then how much fine detail there is, as losses of pixels alone leave half of it, and more of the same. (A discriminator had not
# learned to tell soft pictures from real ones after hundreds of steps, at any rate and norm that was tried; docs/log.md.)
_LARGE = (
    "samples.size=256",
    "samples.batch=2",
    "learning_rate=5e-4",
    "warmup=50",
    "losses.structure=1.0",
    "losses.features=0.4",
)
STAGES = (
    Stage("128", 4000, ("losses.features=0", "decay_from=1.0")),
    Stage("256", 1500, (*_LARGE, "samples.seed=1", "decay_from=0.63")),
    Stage(
        "sharp",
        600,
        (
            *_LARGE,
            "samples.seed=3",
            "losses.features=0.6",
            "losses.detail=1.5",
            "decay_from=0.3",
        ),
    ),
    Stage(
        "longer",
        2000,
        (
            *_LARGE,
            "samples.seed=4",
            "losses.features=0.8",
            "losses.detail=1.5",
            "decay_from=0.3",
        ),
    ),
)


# Changes of one network in one stage. Attention with SPADE blew up at the others' rate of 8e-4 after 2,000 steps:
# nothing holds the size of what guides it (docs/log.md).
_OWN_CHANGES = {("attlwb-small", "128"): ("learning_rate=5e-4", "clip=1.0")}


def draw_people(folder: Path, workers: int) -> None:
    for plan in (HELD_OUT, PEOPLE):
        people.draw_people(plan, folder / f"people-{plan.seed}", workers, click.echo)


def opened(folder: Path, plan: people.Plan) -> Packs:
    path = folder / f"people-{plan.seed}"
    if not (path / PACKS_FILE).is_file():
        raise click.ClickException(f"{path} is not drawn yet; begin with the step `people`.")
    return Packs.open(path)


def train_perceptual(folder: Path, minutes: float) -> None:
    from safetensors.torch import save_file

    path = WEIGHTS / "perceptual-small.safetensors"
    if path.is_file():
        click.echo(f"{path} is there; remove it to train it again.")
        return
    network = perceptual.train_perceptual(
        opened(folder, PEOPLE), minutes, click.echo, folder / "composed"
    )
    halved = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    note = {"synthetic": "true", "note": "trained on drawn people", "name": path.stem}
    save_file(halved, path, note)


def config_of(name: str, stage: Stage, share: float) -> TrainingConfig:
    changes = (
        "losses.adversarial=0",
        *stage.changes,
        *_OWN_CHANGES.get((name, stage.name), ()),
        f"steps={max(1, round(stage.steps * share))}",
    )
    return with_variant(load_config("small", changes), VARIANTS[name])


def train_generator(
    folder: Path, name: str, share: float, device: str, only: tuple[str, ...], shipped: bool
) -> None:
    start = load_checkpoint(name) if shipped else None
    for stage in STAGES:
        out = folder / f"{name}-{stage.name}"
        if only and stage.name not in only:
            if not shipped and (out / WEIGHTS_FILE).is_file():
                start = load_checkpoint(out)
            continue
        if start is None and stage is not STAGES[0]:
            raise click.ClickException(
                f"{out} begins with the weights of the stage before; there are none."
            )
        train(
            config_of(name, stage, share),
            [opened(folder, PEOPLE)],
            out,
            body=load_body("open"),
            trained_on=[f"people-{PEOPLE.seed}"],
            synthetic=True,
            held_out=[opened(folder, HELD_OUT)],
            start=start,
            device=device,
            cache=folder / "composed",
            tell=click.echo,
        )
        start = load_checkpoint(out)


def prove(folder: Path, name: str) -> proofs.Figures:
    path = folder / f"{name}-{STAGES[-1].name}"
    found = proofs.figures(load_checkpoint(path).generator, opened(folder, HELD_OUT))
    click.echo(f"{name}: {found}")
    return found


def export(folder: Path, name: str) -> None:
    """Ship a generator if it is better than the one that ships: history keeps every file."""
    found = prove(folder, name)
    if name in shipped_weights():
        shipped = proofs.figures(load_checkpoint(name).generator, opened(folder, HELD_OUT))
        click.echo(f"{name} as it ships: {shipped}")
        if not found.is_better_than(shipped):
            click.echo(f"{name} stays as it is: the new one is not better.")
            return
    made = load_checkpoint(folder / f"{name}-{STAGES[-1].name}")
    path = WEIGHTS / f"{name}.safetensors"
    save_checkpoint(
        path, made.generator, surface=made.surface, origin=made.origin, dtype=torch.float16
    )
    size, digest = path.stat().st_size, sha256(path.read_bytes()).hexdigest()
    if size > _MOST_BYTES.get(name, size):
        raise click.ClickException(f"{path} has {size} bytes; it may have {_MOST_BYTES[name]}.")
    click.echo(f'{path}: for manifests/assets.toml:\nsha256 = "{digest}"\nbytes = {size}')


def draw_curves(folder: Path) -> None:
    runs = {
        (name, stage.name): folder / f"{name}-{stage.name}" for stage in STAGES for name in VARIANTS
    }
    weights = {
        stage.name: {
            term: getattr(config_of("attlwb-small", stage, 1).losses, term) for term in curves.SHOWN
        }
        for stage in STAGES
    }
    points = curves.read_points(runs, weights)
    curves.write_table(points, DOCS / "curves.csv")
    curves.write_chart(points, DOCS / "pictures" / "curves.svg")


@click.command(help=__doc__)
@click.argument(
    "step", type=click.Choice(["people", "perceptual", "train", "prove", "export", "curves", "all"])
)
@click.argument("names", nargs=-1, type=click.Choice(list(VARIANTS)))
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("runs/weights"), show_default=True
)
@click.option(
    "--stage",
    "only",
    multiple=True,
    type=click.Choice([stage.name for stage in STAGES]),
    help="Only this one of `train`; may be repeated.",
)
@click.option("--from-shipped", is_flag=True, help="`train` begins with the weights that ship.")
@click.option("--steps", type=float, default=1.0, show_default=True, help="Times the usual number.")
@click.option(
    "--minutes", type=float, default=6.0, show_default=True, help="Of the perceptual network."
)
@click.option(
    "--workers", type=int, default=2, show_default=True, help="Processes that draw people."
)
@click.option("--threads", type=int, default=1, show_default=True, help="Of a training step.")
@click.option("--device", default="cpu", show_default=True)
def main(
    step: str,
    names: tuple[str, ...],
    folder: Path,
    only: tuple[str, ...],
    from_shipped: bool,
    steps: float,
    minutes: float,
    workers: int,
    threads: int,
    device: str,
) -> None:
    torch.set_num_threads(threads)
    names = names or tuple(VARIANTS)
    if step in ("people", "all"):
        draw_people(folder, workers)
    if step in ("perceptual", "all"):
        train_perceptual(folder, minutes)
    for name in names:
        if step in ("train", "all"):
            train_generator(folder, name, steps, device, only, from_shipped)
        if step == "prove":
            prove(folder, name)
        if step in ("export", "all"):
            export(folder, name)
    if step in ("curves", "all"):
        draw_curves(folder)


if __name__ == "__main__":
    sys.exit(main())
