"""The `lwgan` command. Each command parses, calls the library and prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from iper_toolkit import __version__
from iper_toolkit.console import (
    JSON,
    Commands,
    FileOrWord,
    FilePath,
    plain_errors,
    print_facts,
)
from lwgan.drawing_commands import imitate, transfer, view
from lwgan.learning_commands import personalize, train
from lwgan.options import PRESET_NAMES


@click.group(
    "lwgan",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nStart here:\n"
    "  iper synth --root data/ --size tiny --seed 1\n"
    "  iper prepare --root data/\n"
    "  lwgan imitate --root data/ --source 001/1/1 --motion 001/1/2 --size 96 \\\n"
    "      --out out.mp4 --inputs-out inputs.mp4",
)
@click.version_option(__version__, prog_name="lwgan")
def main() -> None:
    """Draw people in other poses, other clothes, from other sides.

    \b
    lwgan imitate           a person does what somebody else did
    lwgan transfer          a person wears parts of others
    lwgan view              a person is turned on the spot
    lwgan train             learn people in general
    lwgan personalize       learn one person
    lwgan import-weights    convert a checkpoint of the reference program, once
    lwgan info              say what a checkpoint or a drawn file is
    """


for command in (imitate, transfer, view, train, personalize):
    main.add_command(command)


@main.command("import-weights")
@click.argument("file", type=FilePath(dir_okay=False))
@click.option(
    "--out",
    type=FilePath(dir_okay=False),
    required=True,
    help="The .safetensors file to write.",
)
@click.option(
    "--body",
    type=FileOrWord(),
    required=True,
    metavar="FILE|open",
    help="The body that the weights were trained with: the path of an SMPL file for released ones. Weights know its "
    "surface, and no other; open is for a network that was trained with the open body.",
)
@click.option(
    "--variant",
    type=click.Choice(PRESET_NAMES),
    default=None,
    help="Which network it is, where its keys do not tell.",
)
@click.option("--temporal", is_flag=True, help="It was trained to attend to the frame before, too.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Stored as; float16 halves the file.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
@JSON
def import_weights_command(
    file: Path,
    out: Path,
    body: str,
    variant: str | None,
    temporal: bool,
    dtype: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert a checkpoint of the reference program to ours, once.

    Its network is recognised by its keys; a file with a key that is not known is refused. --body names the
    body whose condition maps it was trained on: SMPL for the released ones.

    \b
    lwgan import-weights attlwb_spade.pth --out attlwb-spade.safetensors --body SMPL_NEUTRAL.pkl
    lwgan info attlwb-spade.safetensors
    """
    with plain_errors():
        from iper_toolkit.body import load_body
        from lwgan.foreign import import_weights
        from lwgan.surface_tables import surface_tables

        if out.suffix != ".safetensors":
            raise ValueError(f"{out} must end in .safetensors, our format.")
        if out.exists() and not overwrite:
            raise FileExistsError(f"{out} exists. Name another, or pass --overwrite.")
        if body == "open":
            click.secho(
                "WARNING: --body open says that these weights were trained with the open body. Released ones were "
                "trained with SMPL: drawn on the open body they would give plausible nonsense.",
                err=True,
                bold=True,
            )
        import_weights(
            file,
            out,
            tables=surface_tables(load_body(body), "reference"),
            variant=variant,
            temporal=temporal,
            dtype=dtype,
        )
        facts = _checkpoint_facts(out)
    print_facts(facts, as_json)


@main.command()
@click.argument("file", type=FilePath(), required=False)
@JSON
def info(file: Path | None, as_json: bool) -> None:
    """Say what a checkpoint is, or how a drawn file was made; without a file, which weights ship.

    \b
    lwgan info
    lwgan info attlwb-small
    lwgan info attlwb-spade.safetensors
    lwgan info out.mp4 --json
    """
    with plain_errors():
        from lwgan.checkpoints import load_checkpoint, shipped_weights

        shipped = shipped_weights()
        if file is None:
            notes = {name: "; ".join(load_checkpoint(name).notes) for name in shipped}
            print_facts(notes, as_json)
            return
        if not file.exists() and str(file) in shipped:
            file = shipped[str(file)]
        if not file.exists():
            raise FileNotFoundError(f"There is no {file}.")
        drawn, weights = (".mp4", ".mkv", ".png", ".json"), (".safetensors", ".pth", ".pt")
        if not file.is_dir() and file.suffix.lower() not in (*drawn, *weights):
            raise ValueError(
                f"{file} is neither weights (.safetensors, or the folder of a run) nor something that lwgan drew "
                f"({', '.join(drawn[:3])}, a folder of pictures, or their .json)."
            )
        is_drawn = file.suffix.lower() in drawn or (file.is_dir() and any(file.glob("*.png")))
        if is_drawn:
            from lwgan.provenance import read_provenance

            facts = read_provenance(file)
        else:
            facts = _checkpoint_facts(file)
    print_facts(facts, as_json)


def _checkpoint_facts(file: Path) -> dict[str, Any]:
    from lwgan.checkpoints import describe, load_checkpoint

    return describe(load_checkpoint(file))
