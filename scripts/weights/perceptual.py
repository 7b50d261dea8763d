"""The small perceptual network that training looks through where VGG-19 is not at hand.

It learns to say of each pixel which place of the body it shows (the condition map) and whether it shows the person at
all: features that find limbs, edges of clothes and faces, whatever the colours. Judges of scores learned something
else, on other people, in other layers.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iper_toolkit.body import load_body
from lwgan.batch import Batch
from lwgan.loss_networks import PerceptualSmall
from lwgan.packs import Packs
from lwgan.samples import Batches, SampleRules
from lwgan.surface_tables import surface_tables

_SEED = 4001
_RATE = 2e-3


class _Reader(nn.Module):
    """Body map (3) and mask (1) out of all five levels; thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PerceptualSmall()
        widths = PerceptualSmall.WIDTHS
        self.lateral = nn.ModuleList(nn.Conv2d(width, 32, 1) for width in widths)
        self.head = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        found = [
            one(level) for one, level in zip(self.lateral, self.network(pictures), strict=True)
        ]
        x = found[-1]
        for level in found[-2::-1]:
            x = F.silu(F.interpolate(x, level.shape[-2:], mode="bilinear") + level)
        drawn: Tensor = self.head(x)
        return drawn


def train_perceptual(
    packs: Packs, minutes: float, tell: Callable[[str], object], cache: Path | None = None
) -> PerceptualSmall:
    """Train for so many minutes on one core; about 8 are enough."""
    torch.manual_seed(_SEED)
    body = load_body("open")
    tables = surface_tables(body, "corrected")
    rules = SampleRules(size=128, batch=6, num_sources=(1,), num_targets=1, seed=_SEED)
    batches = Batches([packs], rules, body, tables, cache=cache)
    reader = _Reader().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(reader.parameters(), _RATE)
    begun, number, shown = time.monotonic(), 0, 0.0
    while (spent := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, number / 50 + 0.02) * (1 - spent) ** 0.5
        pictures, body_map, mask = _task(batches[number])
        with torch.autocast("cpu", torch.bfloat16):
            drawn = reader(pictures).float()
        loss = F.binary_cross_entropy_with_logits(drawn[:, 3:], mask)
        loss = loss + ((drawn[:, :3] - body_map).abs() * (1 + 4 * mask)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        number += 1
        if spent - shown > 0.1:
            shown = spent
            tell(f"perceptual-small: {spent:.0%}, step {number}, loss {loss.item():.4f}")
    return reader.network


def _task(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, what place of the body each pixel shows, and where the person is."""
    pictures = torch.cat([batch.source, batch.target], 1).flatten(0, 1)
    maps = torch.cat([batch.inputs.source[:, :, 3:], batch.inputs.target[:, :, 3:]], 1)
    masks = 1 - torch.cat([batch.source_mask, batch.target_mask], 1)
    pictures = pictures.to(memory_format=torch.channels_last)
    return pictures, maps.flatten(0, 1), masks.flatten(0, 1)
