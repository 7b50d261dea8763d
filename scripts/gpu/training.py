"""Steps of training on the device: whether losses are the CPU's, how long a step takes, and how much memory."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import click
import torch
from gpu.measuring import Report, Setting, milliseconds

from lwgan.batch import Batch
from lwgan.discriminators import DiscriminatorConfig
from lwgan.generators.records import GeneratorInputs
from lwgan.learners import begin
from lwgan.training_config import CONFIGS, TrainingConfig
from lwgan.training_step import training_step


def time_training(setting: Setting, report: Report) -> dict[str, Any]:
    """Losses of one step against the CPU's, then milliseconds and memory of a step by precision and batch."""
    with torch.inference_mode(False):
        found: dict[str, Any] = {"difference": _difference(setting)}
        click.echo(f"  losses {found['difference']:.1e} off (relative, float32)")
        size = 256 if setting.full else 64
        for precision in ("float32", "bfloat16"):
            for count in (4, 16) if setting.full else (1,):
                config = _config(setting, size, count, precision)
                name = f"{precision}, {count} people at {size}"
                found[name] = report.attempt(name, lambda c=config: _timed(setting, c))  # type: ignore[misc]
                click.echo(f"  {name}: {found[name]}")
    return found


def _config(setting: Setting, size: int, count: int, precision: str) -> TrainingConfig:
    modern = CONFIGS["modern"]
    generator = (
        modern.generator if setting.full else replace(setting.config, background_network=False)
    )
    return replace(
        modern,
        generator=generator,
        discriminator=modern.discriminator if setting.full else DiscriminatorConfig(width=4, halvings=2),
        losses=replace(modern.losses, features=0),
        samples=replace(modern.samples, size=size, batch=count, num_sources=(2,)),
        precision=precision,  # type: ignore[arg-type]
        adversarial_from=0.0,
        sources_every=1,
    )  # fmt: skip


def _timed(setting: Setting, config: TrainingConfig) -> dict[str, float]:
    learners = begin(config, str(setting.device), {})
    batch = _batch(config).to(setting.device)
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    spent = milliseconds(setting, lambda: training_step(learners, batch, config, 0), repeat=5)
    told = {"ms_a_step": spent, "ms_a_person": spent / config.samples.batch}
    if setting.on_gpu:
        told["peak_gib"] = torch.cuda.max_memory_allocated(setting.device) / 2**30
    return told


def _difference(setting: Setting) -> float:
    config = _config(setting, 64, 2, "float32")
    told = []
    for device in ("cpu", str(setting.device)):
        learners = begin(config, device, {})
        told.append(training_step(learners, deepcopy(_batch(config)).to(device), config, 0))
    return max(
        abs(told[0][name] - told[1][name]) / max(abs(told[0][name]), 1e-3) for name in told[0]
    )


def _batch(config: TrainingConfig) -> Batch:
    """Noise of the right shapes: the numbers do not change the work."""
    random = torch.Generator().manual_seed(0)
    people, size = config.samples.batch, config.samples.size

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random) * 2 - 1

    mask = torch.ones(people, 1, 1, size, size)
    mask[..., size // 8 : -size // 8, size // 4 : -size // 4] = 0
    boxes = torch.tensor([[size // 4, 3 * size // 4, size // 8, 7 * size // 8]] * people)
    return Batch(
        inputs=GeneratorInputs(
            None,
            noise(people, 2, 6, size, size),
            noise(people, 1, 6, size, size),
            noise(people, 1, 2, size, size, 2),
        ),
        source=noise(people, 2, 3, size, size),
        target=noise(people, 1, 3, size, size),
        source_mask=mask.expand(-1, 2, -1, -1, -1),
        target_mask=mask,
        source_scene=noise(people, 2, 3, size, size),
        target_scene=noise(people, 1, 3, size, size),
        real_background=noise(people, 3, size, size),
        head_boxes=boxes,
        body_boxes=boxes,
    )
