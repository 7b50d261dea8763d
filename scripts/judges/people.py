"""Training of the judges that know people, osnet-mini and pcb-mini: batches of families, and one contrastive loss.

Two pictures of one identity are to be nearer than any of another in the batch (supervised contrastive loss, Khosla et
al. 2020). Batches are made of whole families, so that a look-alike, of whom one garment differs, is always among the
others. Pictures vary in box, light, tint, sharpness and noise, and have patches cut out, as generated pictures will.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from judges.datasets import Pictures
from judges.identities import CROP_MARGIN
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.looking import ENLARGED
from benchmarks.networks.mini import OSNetMini, PCBMini

NETWORKS: dict[str, Callable[[], nn.Module]] = {"osnet-mini": OSNetMini, "pcb-mini": PCBMini}
SEEDS = {"osnet-mini": 2001, "pcb-mini": 2002}
_SECOND_CYCLE = 100  # added to the seed
_CHECK_EVERY = 400  # steps


@dataclass(frozen=True)
class Recipe:
    """How long and how fast. The schedule follows the clock, so that a budget is kept on any machine."""

    minutes: float = 22.0
    rate: float = 1.5e-3
    restart_minutes: float = (
        0.0  # a second, slower cycle from where the first one ended (Loshchilov and Hutter 2017)
    )
    restart_rate: float = 1e-3
    warm_up_steps: int = 100
    identities: int = 30  # of a batch, about
    pictures: int = 3  # of each
    temperature: float = 0.1
    classes: float = 0.2  # weight of telling all identities apart by a linear classifier


# Pooled features need longer than parts.
RECIPES = {"osnet-mini": Recipe(restart_minutes=13.0), "pcb-mini": Recipe()}


def train(
    name: str,
    pictures: Pictures,
    recipe: Recipe,
    tell: Callable[[str], None],
    check: Callable[[nn.Module], str] | None = None,
) -> nn.Module:
    """Train one of NETWORKS on the crops of a set; `check` is asked now and then, and what it says is told."""
    torch.manual_seed(SEEDS[name])
    network = NETWORKS[name]().to(memory_format=torch.channels_last)
    cycles = [(recipe.minutes, recipe.rate), (recipe.restart_minutes, recipe.restart_rate)]
    for number, (minutes, rate) in enumerate(cycles):
        if minutes:
            torch.manual_seed(SEEDS[name] + _SECOND_CYCLE * number)
            _train_cycle(name, network, pictures, recipe, minutes, rate, 7 + number, tell, check)
    return network.eval()


def _train_cycle(
    name: str,
    network: nn.Module,
    pictures: Pictures,
    recipe: Recipe,
    minutes: float,
    rate: float,
    seed: int,
    tell: Callable[[str], None],
    check: Callable[[nn.Module], str] | None,
) -> None:
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    crops = torch.from_numpy(pictures.crops).permute(0, 3, 1, 2)
    identity = torch.from_numpy(pictures.identity)
    num_features = {"osnet-mini": 512, "pcb-mini": PCBMini.FEATURES}[name]
    norm = nn.BatchNorm1d(num_features)
    classifier = nn.Linear(num_features, int(identity.max()) + 1)
    parameters = [*network.parameters(), *norm.parameters(), *classifier.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=5e-4)
    network.train()
    start, budget = time.monotonic(), 60 * minutes
    for step, chosen in enumerate(_batches(pictures, recipe, random)):
        spent = time.monotonic() - start
        if spent > budget:
            return
        share = 0.5 * (1 + math.cos(math.pi * spent / budget)) + 0.005
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / recipe.warm_up_steps) * share
        seen = augmented(crops[chosen], OSNetMini.SIZE, generator, random)
        wanted = identity[chosen]
        with torch.autocast("cpu", torch.bfloat16):
            features = network(seen)
        loss, right = _loss(features.float(), wanted, recipe, norm, classifier)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            tell(
                f"{name} step {step}, {spent:.0f} s: loss {loss.item():.3f}, nearest right {right:.3f}"
            )
        if check is not None and step and step % _CHECK_EVERY == 0:
            tell(f"{name} step {step}: {check(network.eval())}")
            network.train()


def _loss(
    features: Tensor, wanted: Tensor, recipe: Recipe, norm: nn.Module, classifier: nn.Module
) -> tuple[Tensor, float]:
    """The contrastive loss with a little classification; and how often the nearest other picture is the same identity."""
    unit = functional.normalize(features)
    itself = torch.eye(len(wanted), dtype=torch.bool)
    nearness = (unit @ unit.T / recipe.temperature).masked_fill(itself, -1e9)
    same = (wanted[:, None] == wanted[None]) & ~itself
    contrast = -(nearness.log_softmax(1) * same).sum(1) / same.sum(1)
    scaled = features * (6**0.5 if features.shape[1] == PCBMini.FEATURES else 1)
    classes = functional.cross_entropy(classifier(norm(scaled)), wanted, label_smoothing=0.1)
    right = (wanted[nearness.argmax(1)] == wanted).float().mean()
    return contrast.mean() + recipe.classes * classes, float(right)


def _batches(
    pictures: Pictures, recipe: Recipe, random: np.random.Generator
) -> Iterator[list[int]]:
    """Indices of a few pictures each of whole families, in an order that passes through all of them."""
    of_identity: dict[int, list[int]] = {}
    of_family: dict[int, set[int]] = {}
    for index, (one, family) in enumerate(
        zip(pictures.identity.tolist(), pictures.family.tolist(), strict=True)
    ):
        of_identity.setdefault(one, []).append(index)
        of_family.setdefault(family, set()).add(one)
    waiting: list[int] = []
    while True:
        if len(waiting) < recipe.identities:
            waiting += random.permutation(list(of_family)).tolist()
        chosen: list[int] = []
        while len(chosen) < recipe.identities:
            chosen += sorted(of_family[waiting.pop()])
        yield [
            int(index)
            for one in chosen[: recipe.identities + 2]
            for index in random.choice(of_identity[one], recipe.pictures, replace=False)
        ]


def augmented(
    crops: Tensor, size: tuple[int, int], generator: torch.Generator, random: np.random.Generator
) -> Tensor:
    """(N, 3, H, W) uint8 crops -> (N, 3, *size) float in [0, 1], each seen a little otherwise."""
    count = len(crops)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(count, *shape).uniform_(low, high, generator=generator)

    usual = ENLARGED / CROP_MARGIN
    turn = torch.zeros(count, 2, 3)
    mirrored = (torch.rand(count, generator=generator) < 0.5).float() * -2 + 1
    turn[:, 0, 0], turn[:, 1, 1] = (
        usual * uniform(0.92, 1.12) * mirrored,
        usual * uniform(0.92, 1.12),
    )
    turn[:, 0, 2], turn[:, 1, 2] = uniform(-0.06, 0.06), uniform(-0.06, 0.06)
    seen = _cut(crops.float() / 255, turn, size)
    seen = seen * uniform(0.85, 1.15, 1, 1, 1) * uniform(0.97, 1.03, 3, 1, 1)
    if random.random() < 0.3:
        share = float(random.choice([0.4, 0.5, 0.6, 0.75]))
        small = functional.interpolate(
            seen[::2], scale_factor=share, mode="bilinear", antialias=True
        )
        seen[::2] = functional.interpolate(small, size, mode="bilinear")
    noise = torch.randn(seen.shape, generator=generator)
    seen = (seen + 0.02 * noise * uniform(0, 1, 1, 1, 1)).clamp(0, 1)
    for picture in seen:
        if random.random() < 0.35:
            _cut_out(picture, random)
    return seen.contiguous(memory_format=torch.channels_last)


def _cut_out(picture: Tensor, random: np.random.Generator) -> None:
    """A patch of one colour over a (3, H, W) picture, in place (Zhong et al. 2020)."""
    height, width = picture.shape[1:]
    rows, columns = int(height * random.uniform(0.08, 0.3)), int(width * random.uniform(0.15, 0.5))
    top, left = int(random.integers(height - rows)), int(random.integers(width - columns))
    colour = torch.from_numpy(random.random((3, 1, 1))).float()
    picture[:, top : top + rows, left : left + columns] = colour


def _cut(pictures: Tensor, turn: Tensor, size: tuple[int, int]) -> Tensor:
    places = functional.affine_grid(turn, [len(pictures), 3, *size], align_corners=False)
    return functional.grid_sample(pictures, places, padding_mode="border", align_corners=False)


def as_judged(crops: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) uint8 stored crops -> the person's box alone, enlarged as judges see it."""
    usual = ENLARGED / CROP_MARGIN
    turn = torch.tensor([[[usual, 0.0, 0.0], [0.0, usual, 0.0]]]).expand(len(crops), 2, 3)
    return _cut(crops.float() / 255, turn, size)
