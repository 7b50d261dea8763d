"""Narrow batches: the columns around each person, where most of what is to be learned is."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lwgan.batch import Batch
from lwgan.generators.records import SIZE_MULTIPLE

_WINDOW_STEP = 2 * SIZE_MULTIPLE


def windowed(batch: Batch, share: float, random: np.random.Generator) -> Batch:
    """The columns around each person alone, of sources and of targets, without background inputs.

    Flows go on pointing where they did: into the sources' windows.

    Args:
        batch: of whole pictures.
        share: of the width that is left, 0 to 1, rounded to what the networks can halve.
        random: says where in its window each person stands.
    """
    width = batch.target.shape[-1]
    wide = max(_WINDOW_STEP, round(width * share / _WINDOW_STEP) * _WINDOW_STEP)
    if wide >= width:
        return batch
    source, target = (
        _window_starts(mask, wide, random) for mask in (batch.source_mask, batch.target_mask)
    )
    flow = _cut_columns(
        batch.inputs.flow.movedim(-1, -3),
        target[:, :, None].expand(batch.inputs.flow.shape[:3]),
        wide,
    )
    flow = flow.movedim(-3, -1)
    x = (flow[..., 0] + 1) / 2 * width - source[:, None, :, None, None]
    moved = torch.stack([x / wide * 2 - 1, flow[..., 1]], dim=-1)
    nowhere = (flow == -2).all(-1, keepdim=True)
    inputs = replace(
        batch.inputs,
        background=None,
        source=_cut_columns(batch.inputs.source, source, wide),
        target=_cut_columns(batch.inputs.target, target, wide),
        flow=torch.where(nowhere, flow, moved),
    )

    def boxes(before: Tensor) -> Tensor:
        """Boxes in the window; what lies outside of it is cut off."""
        start = target.flatten()[:, None]
        columns = (before[:, :2] - start).clamp(0, wide)
        return torch.cat([columns, before[:, 2:]], dim=1)

    return Batch(
        inputs=inputs,
        source=_cut_columns(batch.source, source, wide),
        target=_cut_columns(batch.target, target, wide),
        source_mask=_cut_columns(batch.source_mask, source, wide),
        target_mask=_cut_columns(batch.target_mask, target, wide),
        source_scene=_cut_columns(batch.source_scene, source, wide),
        target_scene=_cut_columns(batch.target_scene, target, wide),
        real_background=batch.real_background,
        head_boxes=boxes(batch.head_boxes),
        body_boxes=boxes(batch.body_boxes),
    )


def _window_starts(masks: Tensor, wide: int, random: np.random.Generator) -> Tensor:
    """(B, N) int64: the first column of a window that holds as much of the person as it can."""
    width = masks.shape[-1]
    starts = torch.empty(masks.shape[:2], dtype=torch.int64)
    for index in np.ndindex(*starts.shape):
        columns = (masks[index][0] < 0.5).any(0).nonzero()[:, 0]
        low, high = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, width)
        slack = wide - (high - low)
        start = low - int(random.integers(slack + 1)) if slack >= 0 else low - slack // 2
        starts[index] = min(max(start, 0), width - wide)
    return starts


def _cut_columns(pictures: Tensor, starts: Tensor, wide: int) -> Tensor:
    """(..., C, H, W) with a start for each leading index -> (..., C, H, wide)."""
    flat = pictures.flatten(0, starts.dim() - 1)
    cut = [
        picture[..., start : start + wide]
        for picture, start in zip(flat, starts.flatten().tolist(), strict=True)
    ]
    return torch.stack(cut).unflatten(0, starts.shape)
