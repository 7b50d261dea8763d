"""What `quick` personalization takes, and a convolution in both precisions.

    python scripts/bench_personalization.py

CPU time of one thread, so that a busy machine does not matter much. The person is a shaded body in two poses: what
is shown changes nothing about how long it takes.
"""

import time
from typing import Any, get_args

import click
import cv2
import numpy as np
import torch

from iper_toolkit.body import BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from iper_toolkit.raster.shading import draw_overlay, part_colours, shade
from lwgan.checkpoints import load_checkpoint
from lwgan.person import Person
from lwgan.personalization import STEPS, personalize
from lwgan.precision import Precision, fastest_precision, measure_convolution

GOAL_SECONDS = 60  # of CPU, of a person at 256 px with 2 sources


def measure_precisions() -> dict[str, Any]:
    """Milliseconds of one convolution, forward and backward, in each precision, and what `auto` takes."""
    milliseconds = {name: 1000 * measure_convolution(name) for name in get_args(Precision)}
    return {
        "ms": milliseconds,
        "bfloat16_times_as_long": milliseconds["bfloat16"] / milliseconds["float32"],
        "auto": fastest_precision(),
    }


def measure_person(size: int = 256, steps: int | None = None) -> dict[str, Any]:
    """CPU seconds of personalizing the shipped weights to one person of two pictures, in the precision of `auto`.

    Args:
        size: pixels a side.
        steps: other than the preset's.
    """
    checkpoint, body = load_checkpoint("attlwb-small"), load_body("open")
    person = drawn_person(size)
    begun = time.process_time()
    personalize([person], checkpoint, body, preset="quick", steps=steps)
    spent = time.process_time() - begun
    taken = steps or STEPS["quick"]
    return {
        "size": size,
        "num_sources": person.num_sources,
        "steps": taken,
        "cpu_s": spent,
        "cpu_s_a_step": spent / taken,
        "goal_s": GOAL_SECONDS,
    }


def drawn_person(size: int) -> Person:
    """The open body from the front and from behind, before a plain wall."""
    body = load_body("open")
    pose = torch.zeros(2, 24, 3)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0, 1.0  # hanging arms
    pose[:, 0] = torch.tensor([[torch.pi, 0.0, 0.0], [0.0, 0.0, torch.pi]])
    camera = torch.tensor([1.12, 0.0, 0.13]).expand(2, 3).contiguous()
    params = BodyParams(body.id, camera, pose.reshape(2, 72), torch.zeros(2, 10))
    vertices = body.pose(params).vertices
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    wall = cv2.GaussianBlur(noise, (0, 0), 8).astype(np.uint8)
    colours = None if body.surface is None else part_colours(body.surface.part)
    pictures, masks = [], []
    for i in range(2):
        fragments = rasterize(project(vertices[i], params.camera[i]), body.faces, size)
        shaded = shade(fragments, vertices[i], body.faces, face_colours=colours)
        pictures.append(draw_overlay(wall, fragments, shaded, opacity=1))
        masks.append(np.where(fragments.face.numpy() >= 0, 255, 0).astype(np.uint8))
    return Person("drawn", np.stack(pictures).astype(np.uint8), np.stack(masks), params, plate=wall)


def bench_precision() -> dict[str, Any]:
    found = measure_precisions()
    click.echo(
        f"  a convolution forward and backward: float32 {found['ms']['float32']:.1f} ms, bfloat16 "
        f"{found['ms']['bfloat16']:.1f} ms, {found['bfloat16_times_as_long']:.2f} times as long; auto takes "
        f"{found['auto']}"
    )
    return found


def bench_personalization() -> dict[str, Any]:
    found = measure_person()
    click.echo(
        f"  quick, {found['size']} px, {found['num_sources']} sources: {found['cpu_s']:.1f} CPU s a person (goal "
        f"{GOAL_SECONDS}), {found['cpu_s_a_step']:.2f} a step of {found['steps']}"
    )
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    bench_precision()
    bench_personalization()
