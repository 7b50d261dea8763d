"""Weights at rest: one .safetensors file that says what it is, where it comes from, whom it can draw.

The header's metadata has one entry, "lwgan", whose JSON holds the format, the generator's config,
the surface that its condition maps were painted on, its origin, and a checksum of its numbers.
Nothing in the file is run.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from iper_toolkit.atomic import write_atomically
from lwgan.generators import (
    PRESETS,
    GeneratorConfig,
    LiquidWarpingGenerator,
    PictureGenerator,
    build_generator,
)
from lwgan.surface_tables import Convention, SurfaceId, SurfaceTables

Generator = LiquidWarpingGenerator | PictureGenerator
How = Literal["imported", "trained", "random"]

FORMAT = "lwgan-generator-1"
SUFFIX = ".safetensors"
WEIGHTS_FILE = "weights.safetensors"  # what a finished run leaves in its folder
DTYPES = {"float32": torch.float32, "float16": torch.float16}  # weights are stored in

_SHIPPED = Path(__file__).resolve().parent / "weights"
_NO_GENERATORS = ("perceptual-small",)

# One entry only: the order of several is not the same in every run, and equal weights should be
# equal files.
_ENTRY = "lwgan"
_PYTORCH_BEGINS = (b"PK\x03\x04", b"\x80")  # a zip archive, or a bare pickle


class CheckpointError(ValueError):
    """A file of weights cannot be used; the message says why and what to do."""


class SurfaceMismatch(CheckpointError):
    """Weights see other condition maps than the body to be drawn would give."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from."""

    how: How
    file: str | None = None  # imported: name of the original file
    sha256: str | None = None  # imported: of the original file
    seed: int | None = None  # random
    trained_on: tuple[str, ...] = ()  # data sets or clips, if known
    synthetic: bool = False  # trained on drawn people alone
    size: int | None = None  # pixels a side of the pictures that were learned last, if known

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ValueError(
                f"Weights are {', '.join(get_args(How))}; an origin of {self.how!r} is unknown."
            )
        object.__setattr__(self, "trained_on", tuple(self.trained_on))  # JSON knows lists only

    @property
    def notes(self) -> tuple[str, ...]:
        """What a viewer of the pictures should know, a sentence each."""
        notes = []
        if self.how == "random":
            notes.append(f"random weights (seed {self.seed}): nothing was learned")
        if self.how == "imported":
            notes.append(f"imported from {self.file} (sha256 {self.sha256})")
        if self.trained_on:
            notes.append(f"trained on {', '.join(self.trained_on)}")
        if self.synthetic:
            notes.append("trained on synthetic people only")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A generator that is ready to draw, and what is known about it."""

    generator: Generator  # in evaluation mode, float32, on the CPU
    surface: SurfaceId  # of the condition maps it understands
    origin: Origin
    sha256: str  # of its file; of random weights, of their names and numbers
    path: Path | None  # None: not from a file

    @property
    def config(self) -> GeneratorConfig:
        return self.generator.config

    @property
    def random(self) -> bool:
        """Whether nothing was learned."""
        return self.origin.how == "random"

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.path else f"random:{self.origin.seed}"

    @property
    def notes(self) -> tuple[str, ...]:
        return self.origin.notes


def save_checkpoint(
    path: str | Path,
    generator: Generator,
    *,
    surface: SurfaceId,
    origin: Origin,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a generator's weights, whole or not at all.

    Args:
        path: a .safetensors file; its folder is made, a file that is there is replaced.
        surface: of the condition maps that it was trained on.
        dtype: one of DTYPES to store in; None: as they are. float16 halves the file and keeps
            three decimal digits, which pictures of 8 bits do not show.

    Raises:
        ValueError: what is given does not make a checkpoint that could be loaded again.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"Weights are written to a {SUFFIX} file, not to {path}.")
    if dtype not in (None, *DTYPES.values()):
        raise ValueError(f"Weights are stored as {' or '.join(DTYPES)}, not as {dtype}.")
    _check_convention(surface)
    weights = generator.state_dict()
    if problem := misfit(blueprint(generator.config), weights):
        raise ValueError(f"Only a generator as build_generator makes it can be saved: {problem}.")
    stored = {key: tensor.to("cpu", dtype).contiguous() for key, tensor in weights.items()}
    _check_finite(weights, stored)
    description = {
        "format": FORMAT,
        "config": json.loads(generator.config.to_json()),
        "surface": surface._asdict(),
        "origin": dataclasses.asdict(origin),
        "checksum": _checksum(stored),
    }
    # Not save_file, whose files nobody but their owner may read.
    data = serialize(stored, {_ENTRY: json.dumps(description)})
    write_atomically(path, lambda part: part.write_bytes(data))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a generator's weights.

    Args:
        path: a file; or the folder of a training run: its weights.safetensors, or while that is not
            there yet, the last of its numbered .safetensors files, or the only one; or the name of
            weights that ship (`shipped_weights`).

    Raises:
        FileNotFoundError: there is none. ValueError: there are several, of no run.
        CheckpointError: it is cut off, not ours, of another format, or its weights are not those of
            its config.
    """
    path = find_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            description = _description(path, file.metadata())
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(_not_safetensors(path, error)) from error
    try:
        config = GeneratorConfig.from_json(json.dumps(dict(description["config"])))
        surface = SurfaceId(**description["surface"])
        origin = Origin(**description["origin"])
        checksum = description["checksum"]
        _check_convention(surface)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not describe its weights as {FORMAT} should ({error}). Get it again."
        ) from error
    if problem := misfit(blueprint(config), weights):
        raise CheckpointError(
            f"{path} says that it is {variant_of(config)}, but its weights are not: {problem}. "
            "Get it again."
        )
    if _checksum(weights) != checksum:
        raise CheckpointError(
            f"{path} is damaged: its numbers are not those that were saved. Get it again."
        )
    if bad := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            f"{path} holds numbers that are not finite: {shorten(bad)}. Get it again, or take one that was saved "
            "earlier."
        )
    with torch.device("meta"):  # without drawing random numbers that would be thrown away
        generator = build_generator(config)
    # A copy, because the file's own memory would change with the file.
    generator.load_state_dict(
        {key: tensor.to(torch.float32, copy=True) for key, tensor in weights.items()}, assign=True
    )
    with path.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    return Checkpoint(generator.eval(), surface, origin, digest, path)


def random_checkpoint(
    config: GeneratorConfig | str, seed: int, tables: SurfaceTables
) -> Checkpoint:
    """A generator that has learned nothing, to try the way from pictures to video; marked as such.

    Weights are torch's default initialisation. They depend on config and seed alone, and torch's
    global random numbers go on as if nothing had been drawn.

    Args:
        config: or a name of PRESETS.
        seed: of the weights.
        tables: of the body to be drawn.
    """
    if isinstance(config, str):
        config = _preset(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPU's as well
        generator = build_generator(config)
    checksum = _checksum(generator.state_dict())
    return Checkpoint(generator.eval(), tables.id, Origin("random", seed=seed), checksum, None)


def check_surface(checkpoint: Checkpoint, tables: SurfaceTables) -> None:
    """Refuse to draw a body whose condition maps mean something else to the weights.

    The digest of the tables decides: bodies may differ in name and share a surface, as the SMPL
    models of women and men do.

    Raises:
        SurfaceMismatch: another surface, or the same one in another convention.
    """
    learned, drawn = checkpoint.surface, tables.id
    if learned.digest == drawn.digest:
        return
    if learned.convention != drawn.convention:
        raise SurfaceMismatch(
            f"{checkpoint.name} understands condition maps of the {learned.convention!r} "
            f"convention, but these tables follow the {drawn.convention!r} one. Make them with "
            f"surface_tables(body, {learned.convention!r})."
        )
    raise SurfaceMismatch(
        f"{checkpoint.name} was made for the surface of body {learned.body_id!r} "
        f"({learned.digest[:12]}), but {drawn.body_id!r} ({drawn.digest[:12]}) is to be drawn. "
        "Its condition maps would mean other places of the body to the network, and the pictures "
        f"would be plausible nonsense. Draw with {learned.body_id!r}, or take weights that were "
        f"made for {drawn.body_id!r}."
    )


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is known about weights, as plain values for a table or JSON."""
    return {
        "weights": checkpoint.name,
        "variant": variant_of(checkpoint.config),
        "parameters": sum(tensor.numel() for tensor in checkpoint.generator.parameters()),
        "body": checkpoint.surface.body_id,
        "surface": checkpoint.surface.digest,
        "convention": checkpoint.surface.convention,
        "temporal": checkpoint.config.temporal,
        "origin": checkpoint.origin.how,
        "notes": list(checkpoint.notes),
        "sha256": checkpoint.sha256,
        "config": json.loads(checkpoint.config.to_json()),
    }


def variant_of(config: GeneratorConfig) -> str:
    """The name in PRESETS of a generator of this kind, whatever its widths."""
    kind = (config.fusion, config.background_network)
    named = {(preset.fusion, preset.background_network): name for name, preset in PRESETS.items()}
    return named.get(kind, f"{config.fusion} without background")


def _check_convention(surface: SurfaceId) -> None:
    known = get_args(Convention)
    if surface.convention not in known:
        raise ValueError(
            f"a surface's convention is {' or '.join(known)}; {surface.convention!r} is unknown"
        )


def _preset(name: str) -> GeneratorConfig:
    if name not in PRESETS:
        raise ValueError(f"Unknown generator {name!r}. Choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]


def shipped_weights() -> dict[str, Path]:
    """The generators that come with this package, by name."""
    return {
        path.stem: path
        for path in sorted(_SHIPPED.glob(f"*{SUFFIX}"))
        if path.stem not in _NO_GENERATORS
    }


def find_weights(path: str | Path) -> Path:
    """The file that a file, a run's folder or the name of shipped weights means; raises as `load_checkpoint`."""
    shipped = shipped_weights()
    name, path = str(path), Path(path)
    if not path.exists() and name in shipped:
        return shipped[name]
    if not path.is_dir():
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"There are no weights {path}: no file, no folder of a run, and none of those that ship "
            f"({', '.join(shipped) or 'there are none'}). Released ones are converted once with "
            "`lwgan import-weights`; --weights random builds a network that has learned nothing."
        )
    candidates = sorted(path.glob(f"[!.]*{SUFFIX}"))
    if not candidates:
        raise FileNotFoundError(
            f"The folder {path} has no {SUFFIX} file. Name the folder of a training run that has "
            "saved weights, or a file."
        )
    finished = path / WEIGHTS_FILE
    if finished in candidates:
        return finished
    if len(candidates) > 1 and not all(one.stem.isdecimal() for one in candidates):
        raise ValueError(
            f"The folder {path} has several {SUFFIX} files and no {WEIGHTS_FILE} among them: "
            f"{shorten([candidate.name for candidate in candidates])}. Name one of them."
        )
    return candidates[-1]


def _description(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """What the header says, if it is ours."""
    if not metadata or _ENTRY not in metadata:
        raise CheckpointError(
            f"{path} holds tensors, but does not say that they are lwgan's weights. Take a file "
            "that training or `lwgan import-weights` wrote."
        )
    try:
        description = json.loads(metadata[_ENTRY])
    except ValueError as error:
        raise CheckpointError(f"{path} has a damaged header ({error}). Get it again.") from error
    found = description.get("format") if isinstance(description, dict) else description
    if found != FORMAT:
        raise CheckpointError(
            f"{path} is of format {found!r}; this version of lwgan reads {FORMAT!r}. Use the "
            "version that wrote it, or import the original again."
        )
    return description


def _not_safetensors(path: Path, error: SafetensorError) -> str:
    with path.open("rb") as file:
        begin = file.read(4)
    if begin.startswith(_PYTORCH_BEGINS):
        return (
            f"{path} is a file of PyTorch, which is a program. Convert it once: "
            f"lwgan import-weights {path} --out {path.with_suffix(SUFFIX).name}"
        )
    return f"{path} is cut off or no {SUFFIX} file ({error}). Get it again."


def blueprint(config: GeneratorConfig) -> dict[str, Tensor]:
    """A generator's weights without their numbers (on torch's "meta" device), in its order."""
    with torch.device("meta"):
        return build_generator(config).state_dict()


def misfit(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What is wrong with weights, in words; nothing if they are what they should be.

    Args:
        wanted: a `blueprint`. weights: what is there.
    """
    shared = [key for key in wanted if key in weights]
    problems = {
        "missing": [key for key in wanted if key not in weights],
        "unknown": [key for key in weights if key not in wanted],
        "of another shape": [
            f"{key} {tuple(weights[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in shared
            if weights[key].shape != wanted[key].shape
        ],
        "of another type": [
            f"{key} {weights[key].dtype}"
            for key in shared
            if weights[key].is_floating_point() != wanted[key].is_floating_point()
        ],
    }
    return "; ".join(f"{what}: {shorten(keys)}" for what, keys in problems.items() if keys)


def shorten(names: list[str], limit: int = 6) -> str:
    """A list for a message: the first few and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _checksum(weights: Mapping[str, Tensor]) -> str:
    """sha256 of names and numbers, whatever their order."""
    digest = sha256()
    for key in sorted(weights):
        digest.update(f"{key};{weights[key].dtype};".encode())
        digest.update(weights[key].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_finite(weights: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    bad = [key for key, tensor in stored.items() if not tensor.isfinite().all()]
    if any(not weights[key].isfinite().all() for key in bad):
        raise ValueError(f"These weights are not finite: {shorten(bad)}. Save earlier ones.")
    if bad:
        raise ValueError(f"Too large for float16: {shorten(bad)}. Store the weights as float32.")
