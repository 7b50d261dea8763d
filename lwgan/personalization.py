"""Personalization: a trained generator learns one person from the few pictures there are of them.

(Liu et al. 2021, section 3.5: few-shot adversarial fine-tuning.) ``official`` is the reference's: all weights of the
generator, a fresh discriminator of whole pictures, 100 steps. ``quick`` takes the losses of pixels and no
discriminator. Both use the training step as it is.

A picture drawn from itself teaches little more than copying. So where there are several pictures, one is drawn from
the others, and each is shown to the network moved and resized as well: under a weak-perspective camera that is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit import progress
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.folders import cache_folder
from lwgan.checkpoints import (
    SUFFIX,
    Checkpoint,
    check_surface,
    load_checkpoint,
    save_checkpoint,
)
from lwgan.learners import Tell, begin, load_networks, set_learning_rates
from lwgan.person import Person
from lwgan.precision import Precision, PrecisionChoice, resolve_precision
from lwgan.samples import Batches
from lwgan.surface_tables import surface_tables
from lwgan.training_config import CONFIGS, LossWeights, TrainingConfig
from lwgan.training_step import training_step

Pixels = NDArray[np.uint8]
Preset = Literal["quick", "thorough", "official"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
STEPS: dict[Preset, int] = {"quick": 40, "thorough": 150, "official": 100}
_RATES: dict[Preset, float] = {"quick": 3e-4, "thorough": 3e-4, "official": 1e-4}
# How much larger or smaller, and how far away (of the side), a picture is shown again.
_ZOOM, _SHIFT = (0.85, 1.2), 0.08
_COPIES = 6  # of each picture
# Where fits of several pictures do not agree, pixels alone would learn to be soft: features and detail hold against it.
_QUICK = LossWeights(
    person=1,
    pooled=0.5,
    structure=1.0,
    edges=0.5,
    detail=1.5,
    features=0.6,
    sources=0.25,
    mask=0.3,
)
_VERSION = 3  # raised when the same people would be learned otherwise


@dataclass(frozen=True, eq=False)
class PersonClip:
    """The pictures of a person, and moved and resized copies of them, as clips are read for training."""

    person: Person
    copies: int = _COPIES
    seed: int = 0

    @property
    def id(self) -> str:
        return self.person.name

    @property
    def body_id(self) -> str:
        return self.person.params.body_id

    @property
    def num_frames(self) -> int:
        return self.person.num_sources * (1 + self.copies)

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.ones(self.num_frames, bool)

    @property
    def front_frames(self) -> tuple[int, ...]:
        return tuple(range(self.person.num_sources))

    @property
    def back_frames(self) -> tuple[int, ...]:
        return tuple(range(self.person.num_sources - 1, 0, -1))

    def frames(self, indices: Sequence[int], size: int) -> Pixels:
        self._check(size)
        pictures = [
            self._moved(self.person.pictures[index % self.person.num_sources], index)
            for index in indices
        ]
        return np.stack(pictures)

    def masks(self, indices: Sequence[int], size: int) -> Pixels:
        self._check(size)
        return np.stack(
            [self._moved(self.person.masks[i % self.person.num_sources], i) for i in indices]
        )

    def background(self, size: int) -> Pixels:
        """The plate; without one the first picture, which is only looked at outside of the person."""
        self._check(size)
        return self.person.pictures[0] if self.person.plate is None else self.person.plate

    def params(self, indices: Sequence[int] | None = None) -> BodyParams:
        chosen = list(range(self.num_frames)) if indices is None else list(indices)
        params = self.person.params[[index % self.person.num_sources for index in chosen]]
        camera = params.camera.clone()
        for row, index in zip(camera, chosen, strict=True):
            zoom, shift = self._motion(index)
            # p = s (x + t) becomes zoom p + shift.
            row[1:] += torch.tensor(shift, dtype=row.dtype) / (row[0] * zoom)
            row[0] *= zoom
        return replace(params, camera=camera)

    def _motion(self, index: int) -> tuple[float, tuple[float, float]]:
        """Zoom, and shift in NDC, of a copy; the first ones are the pictures themselves."""
        if index < self.person.num_sources:
            return 1.0, (0.0, 0.0)
        random = np.random.default_rng((self.seed, index))
        x, y = random.uniform(-_SHIFT, _SHIFT, 2) * 2
        return float(random.uniform(*_ZOOM)), (float(x), float(y))

    def _moved(self, picture: Pixels, index: int) -> Pixels:
        zoom, shift = self._motion(index)
        if zoom == 1.0 and shift == (0.0, 0.0):
            return picture
        size = picture.shape[0]
        # Pixel i lies at NDC (2 i + 1) / size - 1.
        offset = [(shift[k] + 1 - zoom) * size / 2 + (zoom - 1) / 2 for k in (0, 1)]
        matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
        moved = cv2.warpAffine(
            picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(moved, np.uint8)

    def _check(self, size: int) -> None:
        if size != self.person.size:
            raise ValueError(f"{self.id} is known at {self.person.size} pixels, not at {size}.")


@dataclass(frozen=True)
class _People:
    """People as a folder of clips."""

    people: tuple[PersonClip, ...]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.people))))

    def clip(self, clip_id: str) -> PersonClip:
        return self.people[int(clip_id)]


def personal_config(
    checkpoint: Checkpoint,
    people: Sequence[Person],
    preset: Preset,
    steps: int | None = None,
    precision: Precision = "float32",
) -> TrainingConfig:
    """The run that personalizes a checkpoint to people.

    `official` takes its steps for each of several people, as the reference does. The others take as many for all of
    them together: what is learned longer of two people fits neither of them dressed as the other (docs/log.md).

    Raises:
        ValueError: there is no such preset, or no person.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset!r}. Choose one of: {', '.join(PRESETS)}.")
    if not people:
        raise ValueError("Personalization takes at least one person; got none.")
    base = CONFIGS["official-personal"]
    fewest = min(person.num_sources for person in people)
    is_official = preset == "official"
    samples = replace(
        base.samples,
        size=people[0].size,
        num_sources=(min(2, fewest),) if is_official or fewest == 1 else (1, 2),
        hide_sources=not is_official,
        sources="front" if is_official else "all-sides",
        # A background network sees whole pictures.
        window=1.0 if is_official or checkpoint.config.background_network else 0.625,
    )
    return replace(
        base,
        generator=checkpoint.config,
        losses=base.losses if is_official else _QUICK,
        samples=samples,
        steps=(steps or STEPS[preset]) * (len(people) if is_official else 1),
        learning_rate=_RATES[preset],
        decay_from=1.0 if is_official else 0.5,
        clip=0.0 if is_official else 5.0,
        sources_every=1 if is_official else 3,
        precision="float32" if is_official else precision,
    )


def personalize(
    people: Sequence[Person],
    checkpoint: Checkpoint,
    body: Body,
    *,
    preset: Preset = "quick",
    steps: int | None = None,
    device: str = "cpu",
    precision: PrecisionChoice = "auto",
    tell: Tell = lambda text: None,
) -> Checkpoint:
    """A checkpoint that knows some people better; the given one stays as it is.

    Args:
        people: who will be drawn, or lend their clothes; pictures of the size that will be drawn.
        checkpoint: trained weights.
        body: of the fits.
        preset: how.
        steps: other than the preset's; of `official` for each person.
        device: "cpu" or "cuda".
        precision: of `quick` and `thorough`; `official` learns in float32.

    Raises:
        ValueError: the checkpoint has learned nothing, or is of another surface.
        NotFinite: a loss became no number.
    """
    if checkpoint.random:
        raise ValueError("These weights have learned nothing, so there is nothing to personalize.")
    tables = surface_tables(body, checkpoint.surface.convention)
    check_surface(checkpoint, tables)
    asked = personal_config(checkpoint, people, preset, steps, resolve_precision(precision, device))
    config, networks = load_networks(asked, device, tell)
    copies = 0 if preset == "official" else _COPIES
    clips = _People(tuple(PersonClip(person, copies) for person in people))
    batches = Batches([clips], config.samples, body, tables, remember=True)
    learners = begin(config, device, networks, start=checkpoint)
    names = ", ".join(person.name for person in people)
    with progress.task(f"personalizing {names}", config.steps, "step") as advance:
        for number in range(config.steps):
            set_learning_rates(learners, config, number)
            losses = training_step(learners, batches[number].to(device), config, number)
            advance(number + 1)
            if (number + 1) % 20 == 0 or number + 1 == config.steps:
                tell(
                    f"Personalizing {names}: step {number + 1} of {config.steps}, loss {losses['total']:.4f}"
                )
    generator = learners.generator.to("cpu").to(memory_format=torch.contiguous_format)
    learned = (*checkpoint.origin.trained_on, f"{names} ({preset})")
    return replace(
        checkpoint,
        generator=generator.eval().requires_grad_(False),
        origin=replace(checkpoint.origin, trained_on=learned),
        path=None,
        sha256=personal_key(people, checkpoint, asked),
    )


def personal_key(people: Sequence[Person], checkpoint: Checkpoint, config: TrainingConfig) -> str:
    """sha256 of everything that a personalization depends on."""
    digest = sha256(f"{_VERSION} {checkpoint.sha256} {config.to_json()}".encode())
    for person in people:
        arrays = [person.pictures, person.masks, person.params.to_array().numpy()]
        if person.plate is not None:
            arrays.append(person.plate)
        for array in arrays:
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def personalized(
    people: Sequence[Person],
    checkpoint: Checkpoint,
    body: Body,
    *,
    preset: Preset = "quick",
    steps: int | None = None,
    device: str = "cpu",
    precision: PrecisionChoice = "auto",
    cache: Path | None = None,
    tell: Tell = lambda text: None,
) -> Checkpoint:
    """`personalize`, once for the same pictures, weights and settings: what was learned is kept.

    Args:
        cache: folder; default: `personal/` in the folder that IPER_CACHE names, else in ~/.cache/iper.
    """
    resolved = resolve_precision(precision, device)
    config = personal_config(checkpoint, people, preset, steps, resolved)
    folder = cache if cache is not None else _cache_folder()
    path = folder / f"{personal_key(people, checkpoint, config)}{SUFFIX}"
    if path.is_file():
        try:
            kept = load_checkpoint(path)
        except ValueError:
            tell(f"{path} is damaged, so it is learned again.")
        else:
            tell(f"Learned before: {path}")
            return kept
    learned = personalize(
        people,
        checkpoint,
        body,
        preset=preset,
        steps=steps,
        device=device,
        precision=resolved,
        tell=tell,
    )
    save_checkpoint(path, learned.generator, surface=learned.surface, origin=learned.origin)
    return load_checkpoint(path)


def _cache_folder() -> Path:
    return cache_folder("IPER_CACHE") / "personal"
