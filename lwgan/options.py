"""Options of the three tasks' commands: what they are called, and what they mean to the library.

Heavy modules are imported inside the methods, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iper_toolkit.console import JSON, FileOrWord, FilePath, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iper_toolkit.body import Body
    from lwgan.checkpoints import Checkpoint
    from lwgan.outputs import Files
    from lwgan.people import NamedFrames
    from lwgan.person import Person

FPS_RANGE = (1, 240)
"""Frames a second that players show."""

_MOST_SEED = 2**63 - 1  # what torch takes


BODY = click.option(
    "--body",
    type=FileOrWord(),
    default="open",
    show_default=True,
    help='The body of the fits: "open", or the path of an SMPL file.',
)
SOURCES = click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="PICTURE|CLIP[@FRAMES]",
    help="The person: a picture or video with keypoints beside it, or a prepared clip. May be repeated; the "
    "first counts most.",
)
BACKGROUNDS = ("auto", "plate", "network")
DEFAULT_WEIGHTS = "attlwb-small"
_USUAL_SIZE = 512
PRESET_NAMES = (
    "attlwb-spade attlwb-front-spade attlwb-adain addlwb avglwb softgate-addlwb softgate-avglwb "
    "input-concat texture-warping"
).split()


def drawing_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the three tasks have in common."""
    options = [
        click.option(
            "--weights",
            type=FileOrWord(),
            default=DEFAULT_WEIGHTS,
            show_default=True,
            metavar="NAME|FILE|RUN|random[:SEED]",
            help="Weights that ship (`lwgan info` lists them), a checkpoint, or the folder of a run. random: an "
            "untrained network, whose pictures are noise, and marked as such.",
        ),
        click.option(
            "--personalize",
            type=click.Choice(["quick", "thorough", "official"]),
            default=None,
            help="First learn this person from the sources; what was learned is kept for the next time.",
        ),
        click.option(
            "--out",
            type=FilePath(),
            required=True,
            help="x.mp4, x.png for a single frame, or a folder for 00000.png ...",
        ),
        click.option(
            "--preset",
            type=click.Choice(PRESET_NAMES),
            default=None,
            help="Which network `--weights random` builds.  [default: attlwb-spade]",
        ),
        click.option(
            "--root",
            type=FilePath(file_okay=False),
            default=None,
            help="A dataset that `iper prepare` has been through, for clips named as 001/1/1.  [default: data]",
        ),
        click.option(
            "--num-sources",
            type=click.IntRange(1),
            default=2,
            show_default=True,
            help="Frames of a source clip that names none: half from the front, half from behind.",
        ),
        click.option(
            "--size",
            type=int,
            default=None,
            help="Pixels a side, a multiple of 8: 256, 512, 1024.  [default: what the weights learned last, else 512]",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1),
            default=8,
            show_default=True,
            help="Frames at a time; fewer need less memory.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="auto: a GPU if there is one.",
        ),
        click.option(
            "--precision",
            "--dtype",
            "precision",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Of the network. auto: the faster one on this machine, measured once.",
        ),
        click.option(
            "--background",
            type=FileOrWord(),
            default="auto",
            show_default=True,
            metavar="auto|plate|network|FILE",
            help="plate: the first source's scene, with what was never seen filled in; network: what the weights make "
            "of it, as the reference's program has it; FILE: a picture, cut like the source if it is of that size, "
            "else its middle. auto: plate, the better one until a background network is well trained.",
        ),
        click.option(
            "--temporal",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Previous frames that attention looks at; frames are then drawn one by one.",
        ),
        click.option(
            "--compile",
            is_flag=True,
            help="Through torch.compile: a slow first batch, faster ones after it.",
        ),
        click.option(
            "--no-folding",
            is_flag=True,
            help="Run the network as it was trained, without the savings that change no more than rounding.",
        ),
        BODY,
        click.option(
            "--hands",
            default=None,
            metavar="FILE",
            help='SMPL-H, "smplh-hands" or a path: draws the fits of SMPL with its mean fingers, as the reference\'s '
            "program does.",
        ),
        click.option(
            "--cache",
            type=FilePath(file_okay=False),
            default=None,
            help="Where prepared raw files are kept.  [default: IPER_CACHE or ~/.cache/iper/prepared]",
        ),
        click.option(
            "--inputs-out",
            type=FilePath(),
            default=None,
            help="Also write what the network is shown: the sources' texture on the drawn body.",
        ),
        click.option(
            "--compare",
            type=FilePath(),
            default=None,
            help="Also write [sources | motion | result] side by side.",
        ),
        click.option(
            "--fps",
            type=float,
            default=None,
            help="Of a video, 1 to 240.  [default: the motion's; 25 of a turn]",
        ),
        click.option(
            "--no-sidecar",
            is_flag=True,
            help="No JSON beside the output. The file itself still says that it is synthetic.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace outputs that are there."),
        JSON,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def motion_options(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What tasks that follow a motion have in common."""
    options = [
        click.option(
            "--motion",
            required=required,
            metavar="CLIP[@FRAMES]",
            help="Who to imitate: a clip, or a video with keypoints beside it; @10-80 takes a piece of it.",
        ),
        click.option(
            "--camera",
            type=click.Choice(["smooth", "source", "copy", "ref_txty"]),
            default="smooth",
            show_default=True,
            help="smooth: where the source stands, feet on the ground. source: the source's. copy: the motion's. "
            "ref_txty: the source's scale at the motion's place.",
        ),
        click.option("--no-smoothing", is_flag=True, help="Take the motion as it was fitted."),
        click.option(
            "--max-frames",
            type=click.IntRange(0),
            default=0,
            help="For a quick look: at most so many frames of the motion. 0: all.",
        ),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def torch_device(device: str) -> str:
    """What "auto", "cpu" or "cuda" means here. Raises ValueError where a GPU is wanted and there is none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no GPU that torch can use; pass --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


@dataclass(frozen=True)
class DrawingOptions:
    """What `drawing_options` parses."""

    weights: str
    personalize: str | None
    out: Path
    preset: str | None
    root: Path | None
    num_sources: int
    size: int
    batch: int
    device: str
    precision: str
    background: str
    temporal: int
    compile: bool
    no_folding: bool
    body: str
    hands: str | None
    cache: Path | None
    inputs_out: Path | None
    compare: Path | None
    fps: float | None
    no_sidecar: bool
    overwrite: bool
    as_json: bool

    def __post_init__(self) -> None:
        if self.size is None:  # nobody said
            learned = None if self.seed is not None else self.checkpoint.origin.size
            object.__setattr__(self, "size", learned or _USUAL_SIZE)

    def check_before_reading(self, names: Sequence[str] = ()) -> None:
        """Refuse what can be refused before anything is read or prepared, which may take long.

        Args:
            names: of the plans, where there are several.
        """

        from lwgan.checkpoints import check_surface
        from lwgan.memory import check_memory
        from lwgan.outputs import check_outputs
        from lwgan.people import check_size
        from lwgan.surface_tables import surface_tables
        from lwgan.synthesis import check_drawing

        check_size(self.size)
        least, most = FPS_RANGE
        if self.fps is not None and not least <= self.fps <= most:  # NaN neither
            raise ValueError(f"--fps {self.fps:g}: a video has {least} to {most} frames a second.")
        self.torch_device()
        if self.compile and self.temporal:
            raise ValueError("--compile and --temporal exclude each other: leave out one of them.")
        if self.hands is not None:
            self.load_body()
        if self.preset is not None and self.seed is None:
            raise ValueError("--preset is for --weights random; a checkpoint knows what it is.")
        if self.seed is None:
            from lwgan.checkpoints import find_weights

            find_weights(self.weights)
        if self.background not in BACKGROUNDS and not Path(self.background).is_file():
            raise FileNotFoundError(
                f"There is no background {self.background}: name a picture, or auto, plate or network."
            )
        outputs = [path for files in self.files(names) for path in files.paths()]
        check_outputs(outputs, overwrite=self.overwrite)
        if self.background not in BACKGROUNDS:
            from iper_toolkit.images import read_image

            read_image(Path(self.background))
        config, surface = self.checkpoint.config, self.checkpoint.surface
        check_drawing(config, self.batch, self.compile, self.temporal)
        if self.background == "network" and not config.background_network:
            raise ValueError(
                f"The weights {self.checkpoint.name} have no background network; pass --background plate, or a picture."
            )
        check_surface(self.checkpoint, surface_tables(self.load_body(), surface.convention))
        # One source and one frame at least: more is known when the people are.
        check_memory(config, self.size, 1, 1, self.torch_dtype(), self.torch_device())

    def torch_dtype(self) -> Any:
        """The torch.dtype that the network computes in."""
        import torch

        from lwgan.precision import drawing_precision

        return getattr(torch, drawing_precision(self.precision, self.torch_device()))

    def files(self, names: Sequence[str] = ()) -> list[Files]:
        """The files of each plan; several plans are told apart by their names."""
        from lwgan.outputs import Files

        given = Files(self.out, self.inputs_out, self.compare)
        return [given] if len(names) < 2 else [given.of(name) for name in names]

    @property
    def seed(self) -> int | None:
        """Of random weights; None where they are not random."""
        kind, colon, number = self.weights.partition(":")
        if kind != "random" or Path(self.weights).exists():
            return None
        if colon and not (number.isascii() and number.isdecimal() and int(number) <= _MOST_SEED):
            raise ValueError(
                f"--weights {self.weights}: the seed is a whole number from 0 to {_MOST_SEED}, as random:7."
            )
        return int(number or 0)

    def torch_device(self) -> str:
        return torch_device(self.device)

    def load_body(self) -> Body:
        """The body that is drawn, which takes the fits of --body."""
        from iper_toolkit.body import load_body
        from iper_toolkit.body.fingers import with_fingers

        body = load_body(self.body)
        return body if self.hands is None else with_fingers(body, load_body(self.hands))

    def open(self, text: str) -> NamedFrames:
        from lwgan.people import open_frames

        return open_frames(text, root=self.root, body=self.body, cache=self.cache, tell=self.tell)

    def read_person(self, sources: Sequence[str]) -> Person:
        from lwgan.people import read_person

        return read_person(
            sources,
            size=self.size,
            num_sources=self.num_sources,
            root=self.root,
            body=self.body,
            cache=self.cache,
            tell=self.tell,
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Read once; random weights are said to be random."""
        from lwgan.checkpoints import load_checkpoint, random_checkpoint
        from lwgan.surface_tables import surface_tables
        from lwgan.synthesis import UNTRAINED_CONVENTION

        if self.seed is None:
            checkpoint = load_checkpoint(self.weights)
        else:
            tables = surface_tables(self.load_body(), UNTRAINED_CONVENTION)
            checkpoint = random_checkpoint(self.preset or "attlwb-spade", self.seed, tables)
        if checkpoint.path is not None:
            self.tell(f"Weights: {checkpoint.path} (sha256 {checkpoint.sha256})")
        if checkpoint.origin.how == "random":  # a file may hold random weights, too
            click.secho(
                f"RANDOM WEIGHTS ({checkpoint.name}): this network was never trained, and what it draws is "
                "noise. --inputs-out shows what it is given.",
                err=True,
                bold=True,
            )
        return checkpoint

    def read_background(self, source: str) -> str | NDArray[np.uint8]:
        """A word, or (size, size, 3) of a picture for the scene of the first source."""
        if self.background in BACKGROUNDS:
            return self.background
        from lwgan.people import read_scene

        return read_scene(Path(self.background), self.open(source), self.size)

    def describe_background(self, person: Person) -> str | dict[str, str]:
        """For provenance: what was really behind the people."""
        if self.background in BACKGROUNDS:
            from lwgan.synthesis import background_kind

            return background_kind(person, self.background)  # type: ignore[arg-type]
        from iper_toolkit.manifest import file_sha256

        picture = Path(self.background)
        return {"file": picture.name, "sha256": file_sha256(picture)}

    def tell(self, text: str) -> None:
        if not self.as_json:
            tell(text)
