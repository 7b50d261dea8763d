"""Generators: networks that draw a person in a new pose. `build_generator` makes one."""

from lwgan.generators.baselines import PictureGenerator
from lwgan.generators.config import PRESETS, REFERENCE_NAMES, GeneratorConfig
from lwgan.generators.liquid import LiquidWarpingGenerator
from lwgan.generators.records import GeneratorInputs, GeneratorOutputs, SourceFeatures

__all__ = [
    "GENERATORS",
    "PRESETS",
    "REFERENCE_NAMES",
    "GeneratorConfig",
    "GeneratorInputs",
    "GeneratorOutputs",
    "LiquidWarpingGenerator",
    "PictureGenerator",
    "SourceFeatures",
    "build_generator",
]

# Fusion -> class.
GENERATORS: dict[str, type[LiquidWarpingGenerator] | type[PictureGenerator]] = {
    "attention-spade": LiquidWarpingGenerator,
    "attention-adain": LiquidWarpingGenerator,
    "add": LiquidWarpingGenerator,
    "mean": LiquidWarpingGenerator,
    "soft-gate-add": LiquidWarpingGenerator,
    "soft-gate-mean": LiquidWarpingGenerator,
    "input-concat": PictureGenerator,
    "texture-warping": PictureGenerator,
}


def build_generator(
    config: GeneratorConfig | str = "attlwb-spade",
) -> LiquidWarpingGenerator | PictureGenerator:
    """A generator with torch's random initial weights, from a config or a name of PRESETS."""
    if isinstance(config, str):
        if config not in PRESETS:
            raise ValueError(f"Unknown generator {config!r}. Choose one of: {', '.join(PRESETS)}.")
        config = PRESETS[config]
    return GENERATORS[config.fusion](config)
