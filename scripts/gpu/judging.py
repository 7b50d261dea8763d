"""Judges and metrics of pixels on the device against the CPU, and how fast they are there."""

from typing import Any

import click
import numpy as np
import torch
from gpu.measuring import Report, Setting, milliseconds

from benchmarks.judging import Judges
from benchmarks.metrics import pixel
from benchmarks.metrics.pictures import Pictures
from benchmarks.metrics.pixel_torch import scores

_SHIPPED = ("osnet-mini", "pcb-mini")
_OF_OTHERS = ("osnet-msmt17", "pcb-market1501", "facenet-vggface2", "inception-imagenet")


def compare_judges(setting: Setting, report: Report) -> dict[str, Any]:
    """Largest differences from the CPU, and milliseconds a picture. Judges of others have random weights."""
    count, side = (32, 256) if setting.full else (3, 64)
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    boxes = np.tile([side / 4, 2.0, side * 3 / 4, side - 2.0], (count, 1))
    found: dict[str, Any] = {}
    names = (*_SHIPPED, *(_OF_OTHERS if setting.full else ()))
    for name in names:
        seed = None if name in _SHIPPED else 1
        judges = [Judges(str(device), random_seed=seed) for device in ("cpu", setting.device)]
        cpu, device = (Pictures(frames, one, boxes, boxes).features(name) for one in judges)
        spent = milliseconds(
            setting,
            lambda one=judges[1], name=name: Pictures(frames, one, boxes, boxes).features(name),  # type: ignore[misc]
            repeat=3,
        )
        apart = float(np.abs(cpu - device).max() / np.abs(cpu).max())
        found[name] = {"relative_difference": apart, "ms_a_picture": spent / count}
        click.echo(f"  {name:22s} {apart:.1e} off, {spent / count:.2f} ms a picture")
    moved = np.clip(frames.astype(int) + random.integers(-9, 10, frames.shape), 0, 255)
    generated = moved.astype(np.uint8)
    mask = np.full(frames.shape[:3], 255, np.uint8)
    wanted = pixel.scores(pixel.PIXEL_METRICS, generated, frames, mask)
    tensors = [torch.from_numpy(one).to(setting.device) for one in (generated, frames, mask)]
    ours = scores(pixel.PIXEL_METRICS, *tensors)
    found["pixel_difference"] = max(
        float(np.abs(ours[name] - wanted[name]).max()) for name in wanted
    )
    spent = milliseconds(setting, lambda: scores(pixel.PIXEL_METRICS, *tensors), repeat=3)
    found["pixel_ms_a_picture"] = spent / count
    click.echo(f"  pixels {found['pixel_difference']:.1e} off, {spent / count:.2f} ms a picture")
    return found
