"""Trains the judges of our own, osnet-mini, pcb-mini and lpips-mini, on drawn people, and proves what they can do.

    python scripts/train_judges.py generate               draw the people (about 12 minutes on 2 cores, 3 GB)
    python scripts/train_judges.py train osnet-mini       35 minutes on one core; also pcb-mini (22), lpips-mini (9)
    python scripts/train_judges.py prove                  the figures on people that were not trained on
    python scripts/train_judges.py export                 to benchmarks/weights/*.safetensors, in half precision
    python scripts/train_judges.py all                    one after the other

All that is made lies in --folder, and what is there is not made again. Judges are exported only if they earn it: rank-1
of .9 in a gallery of 200 identities with look-alikes, and 90 % of shifts nearer than blurs.
"""

import sys
from pathlib import Path

import click
import torch
from judges import datasets, people, perception, proofs
from torch import nn

from benchmarks.networks.mini import LPIPSMini

WEIGHTS = Path(__file__).resolve().parent.parent / "benchmarks" / "weights"
NAMES = ("osnet-mini", "pcb-mini", "lpips-mini")
TRIPLETS = 1000


def generate(folder: Path) -> None:
    for name, plan in datasets.PLANS.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        datasets.draw_set(plan, target, datasets.available_cores(), click.echo)


def train(folder: Path, name: str, minutes: float | None) -> None:
    if (folder / f"{name}.pt").is_file():
        click.echo(f"{name} is trained already; remove {folder / f'{name}.pt'} to train it again.")
        return
    torch.set_num_threads(1)
    pictures = datasets.read_set(folder / "training")
    network: nn.Module
    if name == "lpips-mini":
        share = 1.0 if minutes is None else minutes / 8.5
        recipe = perception.Recipe(5.5 * share, 3.0 * share)
        network = perception.train(pictures.frames, recipe, click.echo)
    else:
        held_out = datasets.read_set(folder / "held-out")
        network = people.train(
            name,
            pictures,
            people.RECIPES[name] if minutes is None else people.Recipe(minutes=minutes),
            click.echo,
            lambda one: str(proofs.recognise(one, held_out)),
        )
    torch.save(network.state_dict(), folder / f"{name}.pt")


def trained(folder: Path, name: str) -> nn.Module:
    network = LPIPSMini() if name == "lpips-mini" else people.NETWORKS[name]()
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    # As they are shipped: what half precision costs is part of the proof.
    halved = {
        key: value.half().float() if value.is_floating_point() else value
        for key, value in state.items()
    }
    network.load_state_dict(halved)
    return network.eval()


def prove(folder: Path, name: str) -> bool:
    """Print the figures of one judge; whether it has earned its place."""
    network = trained(folder, name)
    earned = []
    for plan in ("held-out", "held-out-256", "held-out-96"):
        if not any((folder / plan).glob("shard-*.npz")):
            continue
        pictures = datasets.read_set(folder / plan)
        if isinstance(network, LPIPSMini):
            order = perception.order(network, pictures.frames, TRIPLETS)
            click.echo(f"{name} on {plan}: {order}")
            earned.append(order.shift_before_blur >= 0.9)
        else:
            found = proofs.recognise(network, pictures)
            click.echo(f"{name} on {plan}: {found}")
            earned.append(found.rank_1 >= 0.9 and found.gallery >= 200)
    return earned[0]


def export(folder: Path, name: str) -> None:
    from safetensors.torch import save_file

    halved = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in trained(folder, name).state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    save_file(halved, path, {"synthetic": "true", "note": "trained on drawn people", "name": name})
    click.echo(f"{path}: {path.stat().st_size} bytes. Enter its sha256 in manifests/assets.toml.")


@click.command(help=__doc__)
@click.argument("step", type=click.Choice(["generate", "train", "prove", "export", "all"]))
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("judges"), show_default=True
)
@click.option("--minutes", type=float, default=None, help="Another budget of each training.")
def main(step: str, names: tuple[str, ...], folder: Path, minutes: float | None) -> None:
    names = names or NAMES
    if step in ("generate", "all"):
        generate(folder)
    if step in ("train", "all"):
        for name in names:
            train(folder, name, minutes)
    if step in ("prove", "export", "all"):
        failed = [name for name in names if not prove(folder, name)]
        if failed:
            click.echo(f"Not good enough to be shipped: {', '.join(failed)}.", err=True)
            sys.exit(1)
    if step in ("export", "all"):
        for name in names:
            export(folder, name)


if __name__ == "__main__":
    main()
