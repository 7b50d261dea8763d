"""What learns: networks and their optimisers, before the first step; and the learning rate of each step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from iper_toolkit.assets import MissingAsset
from lwgan.checkpoints import Checkpoint, Generator
from lwgan.discriminators import Discriminator, build_discriminator
from lwgan.generators import build_generator
from lwgan.loss_networks import load_feature_network
from lwgan.training_config import TrainingConfig

_LOWEST_RATE = 0.02
_NETWORKS = {"perceptual": "vgg19", "identity": "sphereface", "features": "perceptual-small"}

Tell = Callable[[str], object]


@dataclass(eq=False)
class Learners:
    """Everything that a step changes, and the frozen networks that it looks through."""

    generator: Generator
    discriminator: Discriminator | None
    generator_optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer | None
    networks: Mapping[str, nn.Module]  # keys of `loss_networks`, as far as they are weighed


def load_networks(
    config: TrainingConfig, device: str, tell: Tell
) -> tuple[TrainingConfig, dict[str, nn.Module]]:
    """The networks that the losses look through; a term whose network is not here is left out, aloud."""
    networks: dict[str, nn.Module] = {}
    losses = config.losses
    for term, name in _NETWORKS.items():
        if not getattr(losses, term):
            continue
        try:
            networks[name] = load_feature_network(name, device)  # type: ignore[arg-type]
        except MissingAsset as error:
            tell(f"WARNING: the {term} loss is left out: {error}")
            losses = replace(losses, **{term: 0.0})
    return replace(config, losses=losses), networks


def begin(
    config: TrainingConfig,
    device: str,
    networks: Mapping[str, nn.Module],
    start: Checkpoint | None = None,
) -> Learners:
    """Networks and optimisers before the first step; the generator fresh, of the seed in `config.samples`, or `start`'s.

    Raises:
        ValueError: `start` is another generator than the one to be trained.
    """
    if start is not None and start.config != config.generator:
        raise ValueError(
            f"{start.name} is {start.config}, and {config.generator} is to be trained; they must be one kind."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.samples.seed)
        generator = build_generator(config.generator)
        judge = build_discriminator(config.discriminator) if config.losses.adversarial else None
    if start is not None:
        generator.load_state_dict(start.generator.state_dict())
    generator.checkpointing = config.checkpointing
    generator = generator.to(device).to(memory_format=torch.channels_last)
    betas = (config.beta1, 0.999)
    judges_optimiser = None
    if judge is not None:
        judge = judge.to(device).to(memory_format=torch.channels_last)
        rate = config.discriminator_learning_rate
        judges_optimiser = torch.optim.Adam(judge.parameters(), rate, betas)
    optimiser = torch.optim.Adam(generator.parameters(), config.learning_rate, betas)
    return Learners(generator, judge, optimiser, judges_optimiser, networks)


def set_learning_rates(learners: Learners, config: TrainingConfig, step: int) -> float:
    """Those of a step; returns the generator's."""
    share = learning_rate_share(step, config)
    for optimiser, base in (
        (learners.generator_optimiser, config.learning_rate),
        (learners.discriminator_optimiser, config.discriminator_learning_rate),
    ):
        for group in optimiser.param_groups if optimiser is not None else ():
            group["lr"] = base * share
    return config.learning_rate * share


def learning_rate_share(step: int, config: TrainingConfig) -> float:
    """What the learning rate of a step is multiplied by: a rise, a plain, and a cosine down to a fiftieth."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    start = config.decay_from * config.steps
    if step < start or config.steps <= start:
        return 1.0
    done = (step - start) / (config.steps - start)
    return _LOWEST_RATE + (1 - _LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2
