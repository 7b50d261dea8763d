"""What every section of the GPU's check shares: what is measured, a report that survives, a clock."""

import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from iper_toolkit.body import Body, BodyParams
from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from lwgan.generators import GeneratorConfig


@dataclass(frozen=True)
class Setting:
    """What is measured, and how often."""

    device: torch.device
    sizes: tuple[int, ...] = (512, 1024, 256)  # those with goals first, should time run out
    batch: int = 8
    raster_batches: tuple[int, ...] = (1, 8, 32)
    num_poses: int = 24
    repeat: int = 20
    config: GeneratorConfig = field(default_factory=GeneratorConfig)
    deadline: float = float("inf")  # of time.monotonic

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def full(self) -> bool:
        """Whether the network is the one that goals are meant for."""
        return self.config == GeneratorConfig()


QUICK = {
    "sizes": (64, 96),
    "batch": 2,
    "raster_batches": (1, 2),
    "num_poses": 3,
    "repeat": 2,
    "config": GeneratorConfig(
        background_channels=(8, 8, 8, 8),
        background_blocks=1,
        channels=(8, 16, 32),
        residual_blocks=1,
        spade_hidden=16,
    ),
}


class Report:
    """What was found so far, on the screen and in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "gpu_check.json"
        self.content: dict[str, Any] = {"sections": {}, "goals": [], "failures": []}

    def attempt(self, name: str, run: Callable[[], Any]) -> Any:
        """What `run` gives, or None and its traceback in the report."""
        try:
            return run()
        except Exception as error:
            self.content["failures"].append({"name": name, "traceback": traceback.format_exc()})
            click.echo(f"  FAILED {name}: {type(error).__name__}: {str(error)[:300]}")
            return None

    def goal(self, name: str, measured: float, wanted: float, *, at_least: bool) -> None:
        met = measured >= wanted if at_least else measured <= wanted
        self.content["goals"].append(
            {"name": name, "measured": measured, "wanted": wanted, "met": met}
        )

    def write(self) -> None:
        self.file.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")


def no_time_left() -> None:
    raise TimeoutError("left out: the minutes given were over (--minutes)")


def milliseconds(setting: Setting, run: Callable[[], object], repeat: int | None = None) -> float:
    """The median of some runs, after three that compile, fill caches and choose algorithms."""
    for _ in range(3):
        run()
    spans = []
    for _ in range(repeat or setting.repeat):
        if setting.on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            spans.append(start.elapsed_time(end))
        else:
            begin = time.perf_counter()
            run()
            spans.append((time.perf_counter() - begin) * 1000)
    return statistics.median(spans)


def captured(setting: Setting, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """A CUDA graph of a run, and where its replays leave the result; on a CPU the run itself."""
    if not setting.on_gpu:
        result = run()
        return lambda: (run(), None)[1], result
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result


def random_poses(body: Body, num_frames: int, seed: int) -> BodyParams:
    """People who stand upright, turned and bent at random, some of them partly outside."""
    draw = torch.Generator().manual_seed(seed)
    pose = 0.25 * torch.randn(num_frames, 24, 3, generator=draw)
    turn = torch.rand(num_frames, 1, generator=draw) * 2 * torch.pi * torch.tensor([0.0, 1.0, 0.0])
    upside_down = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0]))
    pose[:, 0] = matrix_to_axis_angle(upside_down @ axis_angle_to_matrix(turn))
    camera = torch.tensor([1.0, 0.0, 0.2]) + 0.15 * torch.randn(num_frames, 3, generator=draw)
    shape = torch.randn(num_frames, 10, generator=draw)
    return BodyParams(body.id, camera, pose.reshape(num_frames, 72), shape)
