"""The rasterizer on the GPU: does it draw what the CPU draws, how fast, and could it be faster?"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import click
import torch
from gpu.measuring import Report, Setting, captured, milliseconds, random_poses

from iper_toolkit.body import load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize

GOAL_RASTER_MS = {512: 0.3}
GOAL_AGREEMENT = 0.9995


def compare_rasters(setting: Setting, report: Report) -> list[dict[str, Any]]:
    """The GPU's rasterizer against the CPU's; without a GPU, that against itself."""
    body = load_body("open")
    params = random_poses(body, setting.num_poses, seed=3)
    vertices = project(body.pose(params).vertices, params.camera)
    there, faces = vertices.to(setting.device), body.faces.to(setting.device)
    rows = []
    for size in setting.sizes:
        expected = rasterize(vertices, body.faces, size, engine="cpu")
        found = rasterize(there, faces, size)
        again = rasterize(there, faces, size)
        same = found.face.cpu() == expected.face
        difference = (found.barycentric.cpu() - expected.barycentric)[same].abs().max()
        row = {
            "size": size,
            "poses": setting.num_poses,
            "agreement": float(same.float().mean()),
            "worst_pose": float(same.float().mean((1, 2)).min()),
            "pixels_that_differ": int((~same).sum()),
            "barycentric_difference": float(difference),
            "same_in_every_run": torch.equal(found.face, again.face)
            and torch.equal(found.barycentric, again.barycentric),
        }
        rows.append(row)
        if setting.on_gpu:
            name = f"raster agreement at {size}"
            report.goal(name, row["agreement"], GOAL_AGREEMENT, at_least=True)
        click.echo(
            f"  {size:5d} px  {row['agreement']:.6%} of pixels agree, worst pose "
            f"{row['worst_pose']:.6%}; {row['pixels_that_differ']} differ; weights by "
            f"{row['barycentric_difference']:.1e}; same twice: {row['same_in_every_run']}"
        )
    return rows


def time_rasters(setting: Setting, report: Report) -> list[dict[str, Any]]:
    """Milliseconds a frame, with and without the host's part."""
    body = load_body("open")
    faces = body.faces.to(setting.device)
    rows = []
    for size in setting.sizes:
        for batch in setting.raster_batches:
            params = random_poses(body, batch, seed=3)
            vertices = project(body.pose(params).vertices, params.camera).to(setting.device)
            run = partial(rasterize, vertices, faces, size)
            called = milliseconds(setting, run) / batch
            replay, _ = captured(setting, run)
            replayed = milliseconds(setting, replay) / batch
            rows.append({"size": size, "batch": batch, "called": called, "captured": replayed})
            click.echo(
                f"  {size:5d} px, batch {batch:3d}  {called:.4f} ms a frame; captured {replayed:.4f}"
            )
            if size in GOAL_RASTER_MS and batch == setting.batch:
                name = f"raster ms a frame at {size}, batch {batch}"
                report.goal(name, called, GOAL_RASTER_MS[size], at_least=False)
    return rows


def tune_raster(setting: Setting, report: Report) -> list[dict[str, Any]]:
    """Other ways to cut the work into programs: the first row is the one in use."""
    if not setting.on_gpu:
        click.echo("  left out: on a CPU there are no blocks")
        return []
    from iper_toolkit.raster.gpu import USUAL_BLOCKS, rasterize_batch

    body = load_body("open")
    faces = body.faces.to(setting.device)
    params = random_poses(body, setting.batch, seed=3)
    vertices = project(body.pose(params).vertices, params.camera).to(setting.device)
    others: Sequence[dict[str, int]] = (
        {"faces": 8},
        {"faces": 32},
        {"faces": 32, "warps": 8},
        {"tile": 2},
        {"tile": 2, "faces": 32},
        {"tile": 8, "faces": 8},
        {"warps": 2},
        {"pixels": 512},
        {"pixels": 1024},
    )
    rows = []
    for blocks in (USUAL_BLOCKS, *(USUAL_BLOCKS._replace(**change) for change in others)):
        row: dict[str, Any] = {"blocks": blocks._asdict()}
        for size in (512, 1024):
            run = partial(rasterize_batch, vertices, faces, size, blocks=blocks)
            replay, _ = captured(setting, run)
            row[f"ms_{size}"] = milliseconds(setting, replay) / setting.batch
        rows.append(row)
        click.echo(f"  {row['ms_512']:.4f} at 512, {row['ms_1024']:.4f} at 1024  {tuple(blocks)}")
    return rows
