"""The generator on the GPU: frames a second, where the time goes, and how exact bfloat16 is."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from gpu.measuring import Report, Setting, captured, milliseconds, no_time_left, random_poses
from torch import Tensor

from benchmarks.machine import peak_device_memory_bytes
from iper_toolkit.body import load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import Fragments, rasterize
from lwgan.checkpoints import random_checkpoint
from lwgan.composition import compose_targets
from lwgan.correspondence import condition_map, flow_to
from lwgan.person import Person
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import Scene, draw_batch, pose_batch, set_scene
from lwgan.tasks import Dressed, Plan
from lwgan.texture import dress

GOAL_FRAMES_A_SECOND = {512: 300.0, 1024: 75.0}
# Convolutions of a frame of the default network with 2 cached sources at 512, as published code does
# them; what our network does is counted beside it.
GFLOP_AT_512 = 286.0
NUM_SOURCES = 2


def random_scene(setting: Setting, size: int, dtype: torch.dtype) -> Scene:
    """A person of noise, known from two pictures, encoded by a network of random weights."""
    body = load_body("open")
    params = random_poses(body, NUM_SOURCES, seed=1)
    covered = rasterize(
        project(body.pose(params).vertices, params.camera), body.faces, size
    ).covered
    noise = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    person = Person(
        "noise", noise[:2], covered.numpy().astype(np.uint8) * 255, params, plate=noise[2]
    )
    plan = Plan("imitate", (Dressed(person),), random_poses(body, setting.batch, seed=2), fps=25)
    checkpoint = random_checkpoint(setting.config, 0, surface_tables(body, "reference"))
    return set_scene(plan, checkpoint, body, device=setting.device, dtype=dtype)


def bodies_for(setting: Setting, scene: Scene, num_frames: int) -> Tensor:
    """(T, V, 3) on the device."""
    return pose_batch(scene.body, random_poses(scene.body, num_frames, seed=2))


def time_composition(setting: Setting, report: Report) -> list[dict[str, Any]]:
    """Milliseconds a frame of what stands between the body and the network."""
    rows = []
    for size in setting.sizes:
        scene = random_scene(setting, size, torch.float32)
        vertices = bodies_for(setting, scene, setting.batch)
        targets = compose_targets(scene.sources, vertices[None], scene.tables)
        fragments, tables = targets.fragments, scene.tables
        each_source = Fragments(fragments.face[:, :, None], fragments.barycentric[:, :, None])
        points = scene.sources.face_points[:, None]
        poses = random_poses(scene.body, setting.batch, seed=2)
        parts: dict[str, Callable[[], object]] = {
            "pose": partial(pose_batch, scene.body, poses),
            "all of compose_targets": partial(
                compose_targets, scene.sources, vertices[None], tables
            ),
            "rasterize": partial(rasterize, vertices, tables.faces, size),
            "flow": partial(flow_to, each_source, points),
            "condition map": partial(condition_map, fragments, tables.code),
            "dress": partial(dress, scene.sources.texture, fragments, tables.uv_corners),
        }
        row = {"size": size, "batch": setting.batch} | {
            name: milliseconds(setting, run) / setting.batch for name, run in parts.items()
        }
        rows.append(row)
        figures = ", ".join(f"{name} {row[name]:.3f}" for name in parts)
        click.echo(f"  {size:5d} px  {figures}")
    return rows


@dataclass(frozen=True)
class Variant:
    """One way to run the same step."""

    name: str
    dtype: torch.dtype = torch.bfloat16
    compiled: bool = False
    graph: bool = False


VARIANTS = (
    Variant("f32", torch.float32),
    Variant("bf16"),
    Variant("bf16, captured", graph=True),
    Variant("bf16, compiled", compiled=True),
    Variant("bf16, compiled and captured", compiled=True, graph=True),
)


def draw_sizes(setting: Setting, report: Report) -> list[dict[str, Any]]:
    """Frames a second of the whole step, each variant for itself."""
    rows: list[dict[str, Any]] = []
    for size in setting.sizes:
        torch.compiler.reset()
        if setting.on_gpu:
            torch.cuda.empty_cache()
        scenes = {
            dtype: random_scene(setting, size, dtype) for dtype in {v.dtype for v in VARIANTS}
        }
        vertices = bodies_for(setting, scenes[torch.float32], setting.batch)
        exact = draw_batch(scenes[torch.float32], vertices).picture.int()
        counted = count_gflop(scenes[torch.float32], vertices)
        compiled = torch.compile(draw_batch)  # as `synthesize` does; two variants share it
        best = 0.0
        for variant in VARIANTS:
            if time.monotonic() > setting.deadline:
                report.attempt(f"{variant.name} at {size}", no_time_left)
                continue
            step = compiled if variant.compiled else draw_batch
            run = partial(step, scenes[variant.dtype], vertices)
            row = report.attempt(
                f"{variant.name} at {size}",
                partial(draw_variant, setting, size, variant, run, exact),
            )
            if row is None:
                continue
            row |= speeds(setting, row["ms_a_batch"], size, counted)
            rows.append(row)
            best = max(best, row["frames_a_second"])
            published = row.get("tflop_s_of_286")
            click.echo(
                f"  {size:5d} px  {variant.name:27s} {row['frames_a_second']:8.1f} frames/s "
                f"{row['ms_a_frame']:8.3f} ms  {row['tflop_s']:6.1f} TFLOP/s done"
                + ("" if published is None else f" ({published:.1f} of 286 GFLOP at 512)")
                + f"  grey levels off: {row['grey_levels_max']} at most, "
                f"{row['grey_levels_mean']:.3f} on average"
            )
        if size in GOAL_FRAMES_A_SECOND and setting.full:
            name = f"frames a second at {size}, batch {setting.batch}, bf16"
            report.goal(name, best, GOAL_FRAMES_A_SECOND[size], at_least=True)
    return rows


def draw_variant(
    setting: Setting, size: int, variant: Variant, run: Callable[[], Any], exact: Tensor
) -> dict[str, Any]:
    """How long a batch takes, and how far its pictures are from those in float32."""
    begin = time.perf_counter()
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    frames = run()
    peak = peak_device_memory_bytes(str(setting.device))
    if variant.graph:
        run, frames = captured(setting, run)
        run()
    difference = (frames.picture.int() - exact).abs()
    return {
        "size": size,
        "variant": variant.name,
        "batch": setting.batch,
        "ms_a_batch": milliseconds(setting, run),
        "peak_gib": peak / 2**30,
        "grey_levels_max": int(difference.max()),
        "grey_levels_mean": float(difference.float().mean()),
        "seconds_until_measured": time.perf_counter() - begin,
    }


def speeds(setting: Setting, spent: float, size: int, counted: float) -> dict[str, float]:
    """Rates of a batch that took `spent` ms and did `counted` GFLOP."""
    rates = {
        "ms_a_frame": spent / setting.batch,
        "frames_a_second": 1000 * setting.batch / spent,
        "tflop_s": counted / spent,
    }
    if setting.full:
        rates["tflop_s_of_286"] = GFLOP_AT_512 * (size / 512) ** 2 * setting.batch / spent
    return rates


def count_gflop(scene: Scene, vertices: Tensor) -> float:
    """Convolutions and products of a batch as our network does them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        draw_batch(scene, vertices)
    return counter.get_total_flops() / 1e9


def split_step(setting: Setting, report: Report) -> dict[str, Any]:
    """Where a captured step in bfloat16 spends its time, and the kernels that take most of it."""
    size = setting.sizes[0]
    scene = random_scene(setting, size, torch.bfloat16)
    vertices = bodies_for(setting, scene, setting.batch)
    targets = compose_targets(scene.sources, vertices[None], scene.tables)
    inputs = targets.inputs.to(scene.dtype)
    runs: dict[str, Callable[[], object]] = {
        "rasterize": partial(rasterize, vertices, scene.tables.faces, size),
        "compose": partial(compose_targets, scene.sources, vertices[None], scene.tables),
        "network": partial(scene.network.draw_target, inputs, scene.features, targets.flow),
        "all": partial(draw_batch, scene, vertices),
    }
    spent = {
        name: milliseconds(setting, captured(setting, run)[0]) / setting.batch
        for name, run in runs.items()
    }
    parts = {
        "rasterize": spent["rasterize"],
        "compose": spent["compose"] - spent["rasterize"],
        "network": spent["network"],
        "composite": spent["all"] - spent["compose"] - spent["network"],
    }
    for name, ms in parts.items():
        click.echo(f"  {name:10s} {ms:8.4f} ms a frame  {ms / spent['all']:6.1%}")
    kernels = busiest_kernels(setting, partial(draw_batch, scene, vertices))
    for kernel in kernels[:12]:
        click.echo(
            f"  {kernel['ms_a_batch']:8.3f} ms a batch {kernel['calls']:5d} x  {kernel['name'][:90]}"
        )
    return {"size": size, "ms_a_frame": parts, "kernels": kernels}


def busiest_kernels(setting: Setting, run: Callable[[], object]) -> list[dict[str, Any]]:
    """Kernels of one run, the longest first; on a CPU operators."""
    from torch.profiler import ProfilerActivity, profile

    activity = ProfilerActivity.CUDA if setting.on_gpu else ProfilerActivity.CPU
    for _ in range(2):
        run()
    with profile(activities=[activity]) as profiler:
        run()
        if setting.on_gpu:
            torch.cuda.synchronize()
    found = []
    for event in profiler.key_averages():
        spent = event.self_device_time_total if setting.on_gpu else event.self_cpu_time_total
        found.append({"name": event.key, "ms_a_batch": spent / 1000, "calls": event.count})
    return sorted(found, key=lambda kernel: -kernel["ms_a_batch"])[:40]


def compare_networks(setting: Setting, report: Report) -> dict[str, Any]:
    """The network's output, [-1, 1], against float32 on the CPU; at the smallest size, two frames."""
    size = min(setting.sizes)
    here = Setting(torch.device("cpu"), config=setting.config)
    scene = random_scene(here, size, torch.float32)
    vertices = bodies_for(here, scene, 2)
    targets = compose_targets(scene.sources, vertices[None], scene.tables)
    expected = scene.network.draw_target(targets.inputs, scene.features, targets.flow)
    differences = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        there = random_scene(setting, size, dtype)
        inputs, flow = targets.inputs.to(setting.device, dtype), targets.flow.to(setting.device)
        found = there.network.draw_target(inputs, there.features, flow)
        for part, mine, theirs in zip(("image", "mask"), found, expected, strict=True):
            difference = (mine.float().cpu() - theirs).abs()
            differences[f"{name} {part}"] = {
                "max": float(difference.max()),
                "mean": float(difference.mean()),
            }
    for name, values in differences.items():
        click.echo(f"  {name:10s}  max {values['max']:.2e}  mean {values['mean']:.2e}")
    return {"size": size, "differences": differences}
