"""Colours, patterns and fabrics that clothes are made of."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
"""sRGB, 0..1."""

PATTERNS = (
    "solid",
    "stripes",
    "thin-stripes",
    "pinstripes",
    "check",
    "gingham",
    "dots",
    "logo",
    "floral",
    "camo",
    "blocks",
    "denim",
    "side-stripe",
    "heather",
    "chevron",
    "number",
)
"""Their position here is their number in `materials`."""


@dataclass(frozen=True)
class Fabric:
    """What a garment is made of."""

    pattern: str
    colours: tuple[Colour, Colour, Colour]
    scale: float = 1.0  # of the pattern; 1 as drawn
    folds: float = 1.0  # how readily it creases: 0.4 leather and felt, 1.4 linen
    sheen: float = 0.05  # strength of the highlight
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(
                f"Unknown pattern {self.pattern!r}. Choose one of: {', '.join(PATTERNS)}."
            )


def _hex(*codes: str) -> tuple[Colour, ...]:
    return tuple(
        (int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255)
        for code in codes
    )


# Main colour, then two that go with it. Worn clothes are mostly muted; a few are loud.
TOP_PALETTES = (
    _hex("e9e6df", "24344f", "b23a3a"),
    _hex("24344f", "e8e4da", "c9a24a"),
    _hex("2b2b2f", "d8d5cf", "b33c44"),
    _hex("b5343c", "f0ece4", "2a2a30"),
    _hex("3f6b52", "efe9dc", "1f2d27"),
    _hex("d9b44a", "2a2a2e", "f3efe6"),
    _hex("5b7fa6", "f2efe9", "22324a"),
    _hex("8a8f94", "2c2f34", "e6e4df"),
    _hex("c98b6b", "f1e7da", "5a3527"),
    _hex("6b3f5e", "e9d9e0", "2a1c28"),
    _hex("e3b7b5", "8c3f4d", "fbf4ee"),
    _hex("7b8a52", "e9e4cf", "3a4128"),
    _hex("2f7f86", "f0eee6", "123a40"),
    _hex("d7662f", "2b2c33", "f4eadb"),
    _hex("a9c3d6", "3a5878", "ffffff"),
    _hex("4a3a2f", "d9c8ae", "a8683d"),
)
BOTTOM_PALETTES = (
    _hex("2f4468", "1d2a44", "c98f4a"),
    _hex("4f6f97", "314a6e", "c9985a"),
    _hex("26272c", "121316", "8a8a8a"),
    _hex("b7a37c", "8d7a57", "5b4a33"),
    _hex("6f7276", "46494d", "d6d4cf"),
    _hex("4d5138", "34371f", "9a9268"),
    _hex("3b2e28", "241b17", "8c6d4f"),
    _hex("d8d3c6", "a9a393", "6a655a"),
    _hex("1f2b45", "121a2c", "e8e6e0"),
    _hex("7c3b3b", "4d2224", "d9c7b8"),
)
SHOE_COLOURS = _hex("ececea", "232326", "6b4a33", "8e2f35", "31435f", "c9b28a", "4a4d50", "e0b53f")
CAMO = _hex("6f7350", "454a32", "9a9069")


def jittered(colour: Colour, random: np.random.Generator, amount: float = 0.03) -> Colour:
    """A dye lot of the same colour."""
    shift = random.normal(0, amount) + random.normal(0, amount / 2, 3)
    red, green, blue = np.clip(np.array(colour) + shift, 0.02, 0.98).tolist()
    return red, green, blue


def sample_fabric(
    random: np.random.Generator,
    palettes: tuple[tuple[Colour, ...], ...],
    patterns: tuple[str, ...],
    folds: float = 1.0,
) -> Fabric:
    """A pattern out of `patterns` in colours that go together."""
    pattern = str(random.choice(patterns))
    palette = CAMO if pattern == "camo" else palettes[int(random.integers(len(palettes)))]
    first, second, third = (jittered(colour, random) for colour in palette)
    return Fabric(
        pattern=pattern,
        colours=(first, second, third),
        scale=float(random.uniform(0.8, 1.35)),
        folds=folds * float(random.uniform(0.8, 1.2)),
        sheen=float(random.uniform(0.02, 0.08)),
        seed=int(random.integers(1 << 16)),
    )
