"""Training of lpips-mini: a backbone that knows patches again, then weights of its channels that order distortions.

The backbone learns by contrast: two looks at one patch (moved by up to 8 pixels, in other light, softer, noisier) are the
same, all other patches are not. The weights learn from pairs whose order is known: more of one distortion is farther than
less, and a shift by 1 or 2 pixels is nearer than a blur of equal squared error.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from judges.identities import Pixels
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics.perceptual import unit_length
from benchmarks.networks.mini import LPIPSMini

Picture = NDArray[np.float32]  # (H, W, 3) in [0, 1]
SEED = 2003
PATCH, MOVED = 64, 8  # pixels
_SHIFTS = [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (2, 2)]
_BORDER = 4  # pixels that a shift wraps around and that are cut off
_KINDS = 6  # of distortions


@dataclass(frozen=True)
class Recipe:
    """Minutes of the backbone and of drawing pairs; patches of a batch; steps of the weights."""

    backbone_minutes: float = 5.5
    pair_minutes: float = 3.0
    patches: int = 48
    weight_steps: int = 1500
    rate: float = 1e-3


def train(frames: Pixels, recipe: Recipe, tell: Callable[[str], None]) -> LPIPSMini:
    """Train on (N, S, S, 3) whole pictures."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    network = LPIPSMini().to(memory_format=torch.channels_last)
    _train_backbone(network, frames, recipe, random, tell)
    network.requires_grad_(False)
    _fit_weights(network, frames, recipe, random, tell)
    return network.eval()


# ------------------------------------------------------------------------------------------- backbone


def _train_backbone(
    network: LPIPSMini,
    frames: Pixels,
    recipe: Recipe,
    random: np.random.Generator,
    tell: Callable[[str], None],
) -> None:
    generator = torch.Generator().manual_seed(3)
    head = nn.Linear(LPIPSMini.CHANNELS[-1], 128)
    optimiser = torch.optim.AdamW(
        [*network.levels.parameters(), *head.parameters()], lr=recipe.rate, weight_decay=1e-4
    )
    start, budget, step = time.monotonic(), 60 * recipe.backbone_minutes, 0
    while (spent := time.monotonic() - start) < budget:
        patches = _patches(frames, recipe.patches, random)
        looks = torch.cat([_look(patches, generator, random) for _ in range(2)])
        with torch.autocast("cpu", torch.bfloat16):
            layers = network.layers(looks)
        loss = _contrast(functional.normalize(head(layers[-1].float().mean((2, 3)))))
        for layer in layers[1:-1]:
            means = torch.cat([layer.float().mean((2, 3)), layer.float().std((2, 3))], 1)
            loss = loss + 0.25 * _contrast(functional.normalize(means - means.mean(0)))
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * (0.5 * (1 + math.cos(math.pi * spent / budget)) + 0.01)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            tell(f"lpips-mini backbone, step {step}, {spent:.0f} s: loss {loss.item():.3f}")
        step += 1


def _contrast(unit: Tensor) -> Tensor:
    """Of (2 n, d): row k and row n + k are the same thing (van den Oord et al. 2018)."""
    half = len(unit) // 2
    nearness = unit[:half] @ unit[half:].T / 0.1
    itself = torch.arange(half)
    ways = (functional.cross_entropy(one, itself) for one in (nearness, nearness.T))
    return sum(ways, torch.zeros(())) / 2


def _patches(frames: Pixels, count: int, random: np.random.Generator) -> Tensor:
    """(count, 3, 72, 72) in [0, 1], from where people usually are."""
    side, found = frames.shape[1], []
    for _ in range(count):
        frame = frames[random.integers(len(frames))]
        top = random.integers(side // 6, side - PATCH - MOVED - side // 12)
        left = random.integers(side // 8, side - PATCH - MOVED - side // 8)
        found.append(frame[top : top + PATCH + MOVED, left : left + PATCH + MOVED])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


def _look(patches: Tensor, generator: torch.Generator, random: np.random.Generator) -> Tensor:
    count = len(patches)
    down, across = random.integers(0, MOVED + 1, 2)
    seen = patches[:, :, down : down + PATCH, across : across + PATCH]
    gain = torch.empty(count, 3, 1, 1).uniform_(0.8, 1.2, generator=generator)
    seen = seen * gain + torch.empty(count, 1, 1, 1).uniform_(-0.08, 0.08, generator=generator)
    if random.random() < 0.4:
        share = float(random.choice([0.5, 0.7]))
        small = functional.interpolate(seen, scale_factor=share, mode="bilinear", antialias=True)
        seen = functional.interpolate(small, (PATCH, PATCH), mode="bilinear")
    noise = torch.randn(seen.shape, generator=generator)
    seen = seen + 0.03 * random.random() * noise
    return seen.clamp(0, 1).contiguous(memory_format=torch.channels_last)


# -------------------------------------------------------------------------------------------- weights


def _fit_weights(
    network: LPIPSMini,
    frames: Pixels,
    recipe: Recipe,
    random: np.random.Generator,
    tell: Callable[[str], None],
) -> None:
    start, drawn = time.monotonic(), []
    while time.monotonic() - start < 60 * recipe.pair_minutes:
        drawn.append(compare_channels(network, frames, 16, random))
    near, far = (
        [torch.cat([pair[side][level] for pair in drawn]) for level in range(len(network.levels))]
        for side in (0, 1)
    )
    weights = [torch.full((c,), 0.1, requires_grad=True) for c in LPIPSMini.CHANNELS]
    optimiser = torch.optim.Adam(weights, lr=0.02)
    for step in range(recipe.weight_steps):
        nearer, farther = (
            _distance(side, [w.clamp(min=0) for w in weights]) for side in (near, far)
        )
        ratio = torch.log(nearer + 1e-6) - torch.log(farther + 1e-6)
        small = sum((w.clamp(min=0).square().mean() for w in weights), torch.zeros(()))
        loss = functional.softplus(6 * ratio + 0.5).mean() + 1e-3 * small
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 300 == 0:
            tell(
                f"lpips-mini weights, step {step}: {len(ratio)} pairs, {(ratio < 0).float().mean():.3f} in order"
            )
    # So that strong distortions are about .35, as they are by other LPIPS networks.
    scale = 0.35 / float(farther[1::2].detach().quantile(0.9))
    with torch.no_grad():
        for kept, found in zip(network.weights, weights, strict=True):
            kept.copy_(found.clamp(min=0) * scale)


def _distance(channels: list[Tensor], heads: list[Tensor]) -> Tensor:
    parts = ((level * head).sum(1) for level, head in zip(channels, heads, strict=True))
    return sum(parts, torch.zeros(()))


def compare_channels(
    network: LPIPSMini, frames: Pixels, count: int, random: np.random.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """`count` triplets of a picture, a nearer and a farther one: (count, C) squared differences of each level, twice.

    Every other triplet, from the first, is of a shift and a blur.
    """
    makers = (shift_and_blur, less_and_more)
    triplets = [makers[k % 2](frames, random) for k in range(count)]
    pictures, near, far = (
        torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2).float().clamp(0, 1)
        for side in zip(*triplets, strict=True)
    )
    with torch.no_grad():
        whole, *others = (network.layers(one) for one in (pictures, near, far))
        nearer, farther = (
            [
                (unit_length(one) - unit_length(two)).square().mean((2, 3))
                for one, two in zip(whole, other, strict=True)
            ]
            for other in others
        )
    return nearer, farther


def shift_and_blur(frames: Pixels, random: np.random.Generator) -> tuple[Picture, Picture, Picture]:
    """A picture, the same shifted by 1 or 2 pixels, and blurred to the same squared error: by L2 they are as near."""
    frame = _frame(frames, random)
    across, down = np.array(_SHIFTS[random.integers(len(_SHIFTS))]) * random.choice([-1, 1], 2)
    inner = slice(_BORDER, -_BORDER)
    shifted = np.roll(frame, (int(down), int(across)), (0, 1))[inner, inner]
    error = float(((shifted - frame[inner, inner]) ** 2).mean())
    low, high = 0.05, 12.0
    for _ in range(22):
        middle = (low + high) / 2
        apart = ((cv2.GaussianBlur(frame, (0, 0), middle) - frame)[inner, inner] ** 2).mean()
        low, high = (middle, high) if apart < error else (low, middle)
    blurred = cv2.GaussianBlur(frame, (0, 0), (low + high) / 2)[inner, inner]
    return frame[inner, inner], shifted, blurred.astype(np.float32)


def less_and_more(frames: Pixels, random: np.random.Generator) -> tuple[Picture, Picture, Picture]:
    """A picture, a little of one distortion, and clearly more of it."""
    frame = _frame(frames, random)[_BORDER:-_BORDER, _BORDER:-_BORDER]
    kind = int(random.integers(_KINDS))
    less, more = sorted(random.uniform(0.05, 1, 2).tolist())
    more = max(more, 1.3 * less)
    noise = random.normal(size=frame.shape).astype(np.float32)
    bend = cv2.GaussianBlur(
        random.normal(size=(*frame.shape[:2], 2)).astype(np.float32), (0, 0), 12
    )
    bend /= np.abs(bend).max()
    near, far = (_distorted(frame, kind, s, noise, bend).clip(0, 1) for s in (less, more))
    return frame, near.astype(np.float32), far.astype(np.float32)


def _distorted(
    frame: Picture, kind: int, strength: float, noise: Picture, bend: Picture
) -> Picture:
    if kind == 0:
        return frame + 0.12 * strength * noise
    if kind == 1:
        return cv2.GaussianBlur(frame, (0, 0), 0.3 + 2.5 * strength)
    if kind == 2:
        quality = max(int(90 - 80 * strength), 4)
        _, packed = cv2.imencode(
            ".jpg", (frame * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        return cv2.imdecode(packed, cv2.IMREAD_COLOR).astype(np.float32) / 255
    if kind == 3:
        return frame * (1 + 0.5 * strength * np.array([1, 0, -1], np.float32))
    height, width = frame.shape[:2]
    if kind == 4:
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        across, down = (5 * strength * bend[..., k] for k in (0, 1))
        return cv2.remap(
            frame, columns + across, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    covered, half = frame.copy(), int(height * (0.1 + 0.3 * strength)) // 2
    covered[
        height // 2 - half : height // 2 + half, width // 2 - half // 2 : width // 2 + half // 2
    ] = frame.mean((0, 1))
    return covered


def _frame(frames: Pixels, random: np.random.Generator) -> Picture:
    return frames[random.integers(len(frames))].astype(np.float32) / 255


@dataclass(frozen=True)
class Order:
    """Shares of triplets of unseen pictures that are in the right order."""

    shift_before_blur: float
    less_before_more: float
    triplets: int  # of each kind

    def __str__(self) -> str:
        return (
            f"a shift is nearer than a blur of equal L2 in {self.shift_before_blur:.1%}, less of a distortion nearer than "
            f"more in {self.less_before_more:.1%}, of {self.triplets} triplets each"
        )


def order(network: LPIPSMini, frames: Pixels, triplets: int, seed: int = 9) -> Order:
    """How well a network orders triplets of pictures that it has not seen."""
    random = np.random.default_rng(seed)
    hits: list[Tensor] = []
    while sum(map(len, hits)) < 2 * triplets:
        near, far = compare_channels(network, frames, 32, random)
        hits.append(_distance(near, network.heads) < _distance(far, network.heads))
    whole = torch.cat(hits)[: 2 * triplets]
    return Order(float(whole[::2].float().mean()), float(whole[1::2].float().mean()), triplets)
