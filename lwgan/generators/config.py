"""What a generator is made of: its fusion rule and its widths. Saved inside every checkpoint."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

Fusion = Literal[
    "attention-spade",
    "attention-adain",
    "add",
    "mean",
    "soft-gate-add",
    "soft-gate-mean",
    "input-concat",
    "texture-warping",
]
ATTENTION: tuple[Fusion, ...] = ("attention-spade", "attention-adain")
_MOST = {
    "background_channels": 8192,
    "background_blocks": 256,
    "channels": 8192,
    "residual_blocks": 256,
    "spade_hidden": 8192,
    "num_sources": 256,
}
BASELINES: tuple[Fusion, ...] = ("input-concat", "texture-warping")


@dataclass(frozen=True)
class GeneratorConfig:
    """Layers of a generator. Defaults: AttLWB-SPADE (Liu et al. 2021), the released one.

    Raises:
        ValueError: on an unknown fusion, or widths that cannot be built.
    """

    fusion: Fusion = "attention-spade"
    background_network: bool = True  # False: AttLWB-Front-SPADE, the person alone
    background_channels: tuple[int, ...] = (64, 128, 128, 256)  # at H, H/2, H/4, H/8
    background_blocks: int = 6
    channels: tuple[int, ...] = (64, 128, 256)  # at H/2, H/4, H/8; of sources and targets alike
    residual_blocks: int = 6
    spade_hidden: int = 128  # attention-spade only
    num_sources: int = 4  # input-concat only; every other fusion takes any number
    temporal: bool = False  # a frame also attends to the frame before it; adds no weights

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            raise ValueError(
                f"Unknown fusion {self.fusion!r}. Choose one of: {', '.join(get_args(Fusion))}."
            )
        for name, count, scales in (
            ("background_channels", 4, "H, H/2, H/4 and H/8"),
            ("channels", 3, "H/2, H/4 and H/8"),
        ):
            widths = tuple(getattr(self, name))
            if len(widths) != count or not all(_is_count(width) for width in widths):
                raise ValueError(
                    f"{name} is {widths}; it takes {count} whole numbers of 1 or more, the widths "
                    f"at {scales}."
                )
            object.__setattr__(self, name, widths)  # JSON knows lists only
        for name in ("background_blocks", "residual_blocks", "spade_hidden", "num_sources"):
            if not _is_count(getattr(self, name)):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it takes a whole number of 1 or more."
                )
        # Far beyond any network that is in use: a damaged file must not ask for one that takes hours to build.
        for name, most in _MOST.items():
            value = getattr(self, name)
            largest = max(value) if isinstance(value, tuple) else value
            if largest > most:
                raise ValueError(f"{name} is {value}; it takes at most {most}.")
        if self.temporal and self.fusion not in ATTENTION:
            raise ValueError(
                f"temporal is on, but {self.fusion!r} cannot attend to an earlier frame. Switch it "
                f"off or choose one of: {', '.join(ATTENTION)}."
            )

    @property
    def attends(self) -> bool:
        """Whether sources are weighed against each other, so that earlier frames may join them."""
        return self.fusion in ATTENTION

    def to_json(self) -> str:
        """All fields, as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "GeneratorConfig":
        """The inverse of `to_json`; fields left out take their defaults, unknown ones raise."""
        fields: dict[str, Any] = json.loads(text)
        unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(
                f"Unknown generator settings {', '.join(sorted(unknown))}; this version knows "
                f"{', '.join(field.name for field in dataclasses.fields(cls))}."
            )
        return cls(**fields)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


PRESETS: dict[str, GeneratorConfig] = {
    "attlwb-spade": GeneratorConfig(),
    "attlwb-front-spade": GeneratorConfig(background_network=False),
    "attlwb-adain": GeneratorConfig(fusion="attention-adain"),
    "addlwb": GeneratorConfig(fusion="add"),
    "avglwb": GeneratorConfig(fusion="mean"),
    "softgate-addlwb": GeneratorConfig(fusion="soft-gate-add"),
    "softgate-avglwb": GeneratorConfig(fusion="soft-gate-mean"),
    "input-concat": GeneratorConfig(fusion="input-concat"),
    "texture-warping": GeneratorConfig(fusion="texture-warping"),
}

# The reference program's names of its generators -> names of PRESETS.
REFERENCE_NAMES: dict[str, str] = {
    "AttLWB-SPADE": "attlwb-spade",
    "AttLWB-Front-SPADE": "attlwb-front-spade",
    "AttLWB-AdaIN": "attlwb-adain",
    "AddLWB": "addlwb",
    "AvgLWB": "avglwb",
    "SoftGateAddLWB": "softgate-addlwb",
    "SoftGateAvgLWB": "softgate-avglwb",
    "InputConcat": "input-concat",
    "TextureWarping": "texture-warping",
}
