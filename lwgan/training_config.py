"""What a training run is: network, losses, data and budget, by name or as a TOML file.

``official`` trains as the reference program's settings say (Liu et al. 2021), ``official-personal`` as it personalizes;
``modern`` looks where the person is and needs no file of others. Single settings change behind a preset:
``--set losses.adversarial=0``.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lwgan.discriminators import DiscriminatorConfig
from lwgan.generators.config import BASELINES, PRESETS, GeneratorConfig
from lwgan.precision import PRECISIONS, PrecisionChoice
from lwgan.samples import SampleRules


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves it out. `lwgan.losses` has the formulas."""

    # Those of the paper, in the reference's forms.
    adversarial: float = 0.0
    perceptual: float = 0.0  # VGG-19
    identity: float = 0.0  # SphereFace on the head's box
    reconstruction: float = 0.0  # half of: L1 of the sources drawn again, plus L1 of the background
    mask: float = 0.0
    mask_smoothness: float = 0.0
    # Those of pixels, which count the person `person_factor` times.
    person: float = 0.0
    pooled: float = 0.0
    structure: float = 0.0  # 1 - SSIM
    edges: float = 0.0
    detail: float = 0.0  # how much of it, not where
    sources: float = 0.0  # the sources drawn again
    features: float = 0.0  # our small perceptual network
    person_factor: float = 5.0

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            if getattr(self, one.name) < 0:
                raise ValueError(
                    f"losses.{one.name} is {getattr(self, one.name)}; weights are 0 or more."
                )

    @property
    def draws_sources(self) -> bool:
        """Whether a term looks at the sources drawn again."""
        return self.sources > 0 or self.reconstruction > 0


@dataclass(frozen=True)
class TrainingConfig:
    """One run. A step is one update of the generator, and one of the discriminator."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    samples: SampleRules = field(default_factory=SampleRules)
    steps: int = 100_000
    learning_rate: float = 1e-4
    discriminator_learning_rate: float = 1e-4
    beta1: float = 0.9
    warmup: int = 0  # steps in which the rate rises from 0
    decay_from: float = (
        1.0  # share of the steps after which the rate falls, on a cosine, to a fiftieth
    )
    clip: float = 0.0  # longest gradient; 0: as long as it is
    ema: float = 0.0  # of the weights that are kept; 0: the last ones
    adversarial_from: float = 0.0  # share of the steps after which the discriminator comes in
    sources_every: int = 1  # steps from one in which sources are drawn again to the next
    precision: PrecisionChoice = (
        "float32"  # auto: what is faster here; a run keeps what it began with
    )
    checkpointing: bool = False  # residual blocks are computed twice, and not remembered
    save_every: int = 1000
    sheet_every: int = 1000
    validate_every: int = 1000
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it takes {', '.join(PRECISIONS)}.")
        for name in (
            "steps",
            "sources_every",
            "save_every",
            "sheet_every",
            "validate_every",
            "log_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it takes at least 1.")
        if self.learning_rate <= 0 or self.discriminator_learning_rate <= 0:
            raise ValueError("A learning rate is more than 0.")
        for name in ("ema", "decay_from", "adversarial_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies in 0 .. 1.")
        if self.generator.background_network and self.samples.window < 1:
            raise ValueError(
                "A background network sees whole pictures: set samples.window=1, or generator.background_network=false."
            )
        if self.samples.extra_background and not self.generator.background_network:
            raise ValueError(
                "samples.extra_background is for a generator with a background network."
            )
        if self.checkpointing and self.generator.fusion in BASELINES:
            raise ValueError("checkpointing is for generators that warp features; leave it out.")
        if self.generator.temporal != self.samples.temporal:
            raise ValueError("generator.temporal and samples.temporal go together.")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Nested values over the defaults. Raises ValueError for a setting that there is not."""
        return _changed(cls(), values, "")


def _changed(config: Any, values: Mapping[str, Any], path: str) -> Any:
    known = {one.name for one in dataclasses.fields(config)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"Unknown setting {', '.join(path + name for name in unknown)}; there are "
            f"{', '.join(path + name for name in sorted(known))}."
        )
    changes = {}
    for name, value in values.items():
        old = getattr(config, name)
        if dataclasses.is_dataclass(old):
            changes[name] = _changed(old, value, f"{path}{name}.")
        else:
            changes[name] = tuple(value) if isinstance(value, list) else value
    return replace(config, **changes)


_PIXELS = LossWeights(
    person=1.0, pooled=0.5, structure=0.5, edges=0.5, sources=0.25, mask=0.3, mask_smoothness=0.02
)
SMALL = GeneratorConfig(
    background_network=False, channels=(32, 64, 128), residual_blocks=3, spade_hidden=32
)
"""The networks that ship: 3.8 million weights at most, for two cores at 256 pixels."""

CONFIGS: dict[str, TrainingConfig] = {
    "official": TrainingConfig(
        discriminator=DiscriminatorConfig(layout="global-body-head", background_channels=4),
        losses=LossWeights(
            adversarial=1, perceptual=10, identity=5, reconstruction=10, mask=5, mask_smoothness=1
        ),
        samples=SampleRules(
            size=512,
            batch=1,
            num_sources=(4,),
            num_targets=2,
            sources="front",
            colours=False,
            hide_sources=False,
            extra_background=True,
        ),
    ),
    "official-personal": TrainingConfig(
        losses=LossWeights(
            adversarial=1, perceptual=10, identity=5, reconstruction=10, mask=5, mask_smoothness=1
        ),
        samples=SampleRules(
            size=512, batch=1, num_sources=(2,), sources="front", colours=False, hide_sources=False
        ),
        steps=100,
    ),
    "modern": TrainingConfig(
        generator=GeneratorConfig(background_network=False),
        discriminator=DiscriminatorConfig(halvings=3, max_widening=4),
        losses=replace(_PIXELS, features=0.2, adversarial=0.05),
        samples=SampleRules(size=256, batch=8, num_sources=(1, 2, 2, 4), window=0.625),
        learning_rate=3e-4,
        discriminator_learning_rate=1e-4,
        warmup=500,
        decay_from=0.6,
        clip=5.0,
        ema=0.999,
        adversarial_from=0.5,
        sources_every=3,
        precision="auto",
    ),
}
CONFIGS["small"] = replace(
    CONFIGS["modern"],
    generator=SMALL,
    discriminator=DiscriminatorConfig(width=32, halvings=3, max_widening=4),
    samples=SampleRules(size=128, batch=4, num_sources=(1, 2, 2), window=0.625),
    steps=10_000,
    learning_rate=8e-4,
    warmup=200,
    ema=0.998,
    adversarial_from=0.7,
)


def load_config(name: str, changes: Sequence[str] = ()) -> TrainingConfig:
    """A preset or a TOML file, with single settings changed.

    Args:
        name: key of CONFIGS, or a file; its key `preset` names what it changes.
        changes: ``losses.adversarial=0`` and the like; values as TOML writes them.

    Raises:
        ValueError: an unknown name or setting, or values that make no run.
    """
    if name in CONFIGS:
        config = CONFIGS[name]
    elif Path(name).is_file():
        try:
            values = tomllib.loads(Path(name).read_text(encoding="utf-8-sig"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{name} is no TOML file: {error}.") from error
        preset = values.pop("preset", None)
        if preset is not None and preset not in CONFIGS:
            raise ValueError(
                f"{name}: preset {preset!r} is unknown; there are {', '.join(CONFIGS)}."
            )
        config = _changed(CONFIGS[preset] if preset else TrainingConfig(), values, "")
    else:
        raise ValueError(
            f"There is no configuration {name!r}, nor such a file. Take {', '.join(CONFIGS)}, or a TOML file."
        )
    for change in changes:
        config = _changed(config, _parsed(change), "")
    return config


def _parsed(change: str) -> dict[str, Any]:
    """``a.b=1`` -> {"a": {"b": 1}}."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"{change!r} is no setting; write losses.adversarial=0.")
    try:
        content: dict[str, Any] = tomllib.loads(f"{key}={value}")
    except tomllib.TOMLDecodeError:
        try:  # a word without its quotes
            content = tomllib.loads(f"{key}={json.dumps(value.strip())}")
        except tomllib.TOMLDecodeError as error:
            raise ValueError(
                f"{change!r} is no setting ({error}); write losses.adversarial=0."
            ) from error
    return content


def with_variant(config: TrainingConfig, variant: str) -> TrainingConfig:
    """The same run of another generator, at the same widths: an ablation.

    Args:
        variant: a name of `generators.PRESETS`.
    """
    if variant not in PRESETS:
        raise ValueError(f"Unknown generator {variant!r}. Choose one of: {', '.join(PRESETS)}.")
    return replace(config, generator=replace(config.generator, fusion=PRESETS[variant].fusion))
