"""LPIPS from the layers of any network (Zhang et al. 2018), on the whole picture or on the person."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.metrics.arrays import Masks, Scores
from benchmarks.metrics.pixel import PERSON_THRESHOLD

# What lpips adds to a length before it divides by it.
EPSILON = 1e-10


def unit_length(layer: Tensor) -> Tensor:
    """(N, C, h, w) features with each position's divided by their length over the channels."""
    return layer / (layer.square().sum(1, keepdim=True).sqrt() + EPSILON)


def lpips_from_layers(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    heads: Sequence[Tensor],
    mask: Masks | None = None,
) -> Scores:
    """`lpips_of_regions`, of the person where there is a mask, else of the whole picture: (N,)."""
    frame, person = lpips_of_regions(first, second, heads, mask)
    return frame if person is None else person


def lpips_of_regions(
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    heads: Sequence[Tensor],
    mask: Masks | None = None,
) -> tuple[Scores, Scores | None]:
    """The LPIPS distance: squared differences, weighted by channel, averaged over places, summed over layers.

    Args:
        first, second: a (N, C, h, w) float layer for each level, of unit length over the channels (`unit_length`).
        heads: the (C,) weights of each level.
        mask: (N, H, W) uint8 of the person. With it, a level's average weighs each place by how much of it the mask
            covers: of a mask that covers everything it is the plain average.

    Returns:
        (N,) float64 of the whole picture, and of the person (None without a mask; NaN where it shows nobody).

    Raises:
        ValueError: levels, or their shapes, do not belong together.
    """
    if not len(first) == len(second) == len(heads):
        raise ValueError(
            f"There are {len(first)} and {len(second)} layers and {len(heads)} heads; each layer takes one head."
        )
    totals: list[Tensor] = []
    for one, two, head in zip(first, second, heads, strict=True):
        if one.shape != two.shape or head.shape != one.shape[1:2]:
            raise ValueError(
                f"Layers are {tuple(one.shape)} and {tuple(two.shape)}, their head is {tuple(head.shape)}; both layers "
                "take one shape (N, C, h, w), and the head (C,)."
            )
        apart = (one - two).square_().mul_(head.to(one.dtype)[:, None, None])
        places = apart.sum(1).double()
        averages = [places.mean((1, 2))]
        if mask is not None:
            covered = _covered(mask, one.shape[2:], one.device)
            averages.append((places * covered).sum((1, 2)) / covered.sum((1, 2)))
        totals.append(torch.stack(averages))
    frame, *person = torch.stack(totals).sum(0).cpu().numpy()
    return frame, person[0] if person else None


def _covered(mask: Masks, size: Sequence[int], device: torch.device) -> Tensor:
    """(N, h, w) float64: how much of each place of a layer lies on the person."""
    person = torch.from_numpy(mask >= PERSON_THRESHOLD).to(device).double()
    return functional.adaptive_avg_pool2d(person[:, None], (size[0], size[1]))[:, 0]
