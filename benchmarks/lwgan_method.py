"""The liquid-warping generator as a method of the benchmark: the only file here that knows lwgan.

``lwgan:FILE`` draws with the weights of a file or of a training run's folder, ``lwgan:random:SEED`` with weights
that have learned nothing, to try the way. The bodies to draw come ready from the runner, so a plan is made of them
as they are; the background is the plate, as for every method.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import methods
from iper_toolkit.body import BodyParams, load_body
from lwgan.checkpoints import (
    Checkpoint,
    check_surface,
    load_checkpoint,
    random_checkpoint,
    shipped_weights,
)
from lwgan.generators import GeneratorConfig
from lwgan.generators.records import SIZE_MULTIPLE
from lwgan.person import Dressed, Person
from lwgan.personalization import PRESETS, Preset, personalize
from lwgan.precision import Precision, drawing_precision, resolve_precision
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import UNTRAINED_CONVENTION, draw_frames, set_scene
from lwgan.tasks import Plan

RANDOM = "random"
USUAL_WEIGHTS = "attlwb-small"
_RANDOM_CONFIG: GeneratorConfig | str = "attlwb-spade"
# Frames drawn at once; the pictures do not depend on it.
_BATCH = {"cpu": 4, "cuda": 16}
_ALONE = "-alone"  # behind a preset
_FPS = 25.0  # a plan has one; no picture depends on it


class LwganMethod:
    """The liquid-warping generator with the weights of one file.

    Random weights are called so, in name and version, because tables show no more of a method than these; so are
    weights that learn each person first. `setup` adds to the version what is not computed in float32, because
    pictures differ a little: a run that is continued on a machine with another precision is refused.

    Args:
        weights: a file, a training run's folder, the name of weights that ship, or ``random[:SEED]``; behind a +
            a preset of personalization: ``attlwb-small+quick``. ``attlwb-small+quick-alone`` learns people who are
            drawn alone, in imitation and view, and draws transfers with the weights as they are.

    Raises:
        FileNotFoundError, ValueError: there are no such weights, or they cannot be read.
    """

    name = "lwgan"
    version = "1"
    _precision: Precision = "float32"  # of drawing
    _learning: Precision = "float32"  # of personalization

    def __init__(self, weights: str) -> None:
        weights, self._preset, self._only_alone = _split(weights)
        self._checkpoint = _load(weights)
        self.weights = self._checkpoint.sha256
        self.random_weights = self._checkpoint.random
        if weights in shipped_weights() and not Path(weights).exists():
            self.name = weights
        if self.random_weights:
            self.name, self.version = f"{self.name}-{RANDOM}", f"{self.version}-{RANDOM}"
        if self._preset:
            word = f"{self._preset}{_ALONE if self._only_alone else ''}"
            self.name, self.version = f"{self.name}-{word}", f"{self.version}-{word}"
        self._version = self.version

    def setup(self, setup: methods.Setup) -> None:
        """Raises `SurfaceMismatch` if the weights were made for another body, ValueError of a wrong size or precision."""
        if setup.size % SIZE_MULTIPLE:
            raise ValueError(
                f"the networks halve pictures three times, so --size must be a multiple of {SIZE_MULTIPLE}; "
                f"it is {setup.size}."
            )
        tables = surface_tables(setup.body, self._checkpoint.surface.convention)
        if self._checkpoint.random:  # what has learned nothing draws any body
            self._checkpoint = replace(self._checkpoint, surface=tables.id)
        check_surface(self._checkpoint, tables)
        self._body, self._device = setup.body, torch.device(setup.device)
        self._learning = resolve_precision(setup.precision, self._device.type)
        self._precision = drawing_precision(setup.precision, self._device.type)
        version = self._version
        if self._preset in ("quick", "thorough") and self._learning != "float32":
            version = f"{version}-learned-{self._learning}"
        if self._precision != "float32":
            version = f"{version}-{self._precision}"
        self.version = version

    def personalize(self, person: methods.Person) -> None:
        self._enter((Dressed(_as_person(person)),), person.params[[0]])

    def dress(self, wearers: Sequence[methods.Dressed]) -> None:
        dressed = tuple(Dressed(_as_person(one.person), one.parts) for one in wearers)
        self._enter(dressed, wearers[0].person.params[[0]])

    def draw(self, motion: methods.Motion) -> Iterator[NDArray[np.uint8]]:
        batch = _BATCH.get(self._device.type, 1)
        frames = draw_frames(self._scene, motion.params, batch=batch)
        return (frame.picture for frame in frames)

    def _enter(self, people: tuple[Dressed, ...], params: BodyParams) -> None:
        """Compose and encode them once, whatever they do afterwards."""
        checkpoint = self._checkpoint
        if self._preset and not (self._only_alone and len(people) > 1):
            checkpoint = personalize(
                [dressed.person for dressed in people],
                checkpoint,
                self._body,
                preset=self._preset,
                device=str(self._device),
                precision=self._learning,
            )
        plan = Plan("transfer" if len(people) > 1 else "imitate", people, params, _FPS)
        self._scene = set_scene(
            plan,
            checkpoint,
            self._body,
            device=self._device,
            dtype=getattr(torch, self._precision),
            background="plate",
        )


def _split(weights: str) -> tuple[str, Preset | None, bool]:
    """``attlwb-small+quick-alone`` -> (``attlwb-small``, ``quick``, True); a file whose own name has a + stays whole."""
    name, plus, word = weights.rpartition("+")
    if not plus or Path(weights).exists():
        return weights, None, False
    for preset in PRESETS:
        if word.removesuffix(_ALONE) == preset:
            return name, preset, word.endswith(_ALONE)
    raise ValueError(
        f"lwgan:{weights}: behind the + stands how each person is learned first: {', '.join(PRESETS)}; with {_ALONE} "
        "only where a person is drawn alone, not in transfer."
    )


def _load(weights: str) -> Checkpoint:
    kind, _, seed = weights.partition(":")
    if kind != RANDOM:
        return load_checkpoint(weights)
    if seed and not seed.isdecimal():
        raise ValueError(f"lwgan:{weights}: the seed of random weights is a whole number.")
    # Which body's tables stand here decides nothing: `setup` puts those of the run in their place.
    tables = surface_tables(load_body("open"), UNTRAINED_CONVENTION)
    return random_checkpoint(_RANDOM_CONFIG, int(seed or 0), tables)


def _as_person(person: methods.Person) -> Person:
    return Person(
        name=person.clip,
        pictures=person.pictures,
        masks=person.masks,
        params=person.params,
        plate=person.background,
        origin=tuple(f"{person.clip}, frame {frame}" for frame in person.frames),
    )
