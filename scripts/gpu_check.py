"""Everything about a GPU that can be measured, in one command of less than 8 minutes.

    python scripts/gpu_check.py --out measured              on a CUDA device
    python scripts/gpu_check.py --out measured raster draw  some sections
    python scripts/gpu_check.py --out measured --device cpu --quick
                                                            prove that this script runs, without one

Not installed, from the repository's root: `PYTHONPATH=. python3 scripts/gpu_check.py ...`. Prints a
table and writes gpu_check.json, section by section. A section that fails is written down with its
traceback and the others go on; the exit code is 1 then. Goals that are missed do not change it.

Times on a GPU are medians of CUDA events around single runs; "captured" runs are replays of a CUDA
graph, without the host's part. Frames per second are those of `lwgan.synthesis.draw_batch`:
rasterise, compose, network, composite, of bodies that are posed already, until the pictures are
uint8 on the device. Weights are random and pictures are noise: neither changes the work.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from gpu.generator import compare_networks, draw_sizes, split_step, time_composition
from gpu.judging import compare_judges
from gpu.measuring import QUICK, Report, Setting, milliseconds, no_time_left
from gpu.raster import compare_rasters, time_rasters, tune_raster
from gpu.training import time_training

from benchmarks.machine import machine, versions


def measure_ceilings(setting: Setting, report: Report) -> dict[str, float]:
    """What this device can at most: a large copy and a large matrix product."""
    side = 8192 if setting.on_gpu else 512
    rates = {}
    source = torch.randn(side * side * 8, device=setting.device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    rates["copy_gb_s"] = moved / milliseconds(setting, lambda: target.copy_(source)) / 1e6
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        left = torch.randn(side, side, device=setting.device).to(dtype)
        spent = milliseconds(setting, partial(torch.matmul, left, left), repeat=5)
        rates[f"matmul_{name}_tflop_s"] = 2 * side**3 / spent / 1e9
    for name, rate in rates.items():
        click.echo(f"  {name:22s} {rate:10.1f}")
    return rates


SECTIONS: dict[str, Callable[[Setting, Report], Any]] = {
    "ceilings": measure_ceilings,
    "agreement": compare_rasters,
    "raster": time_rasters,
    "composition": time_composition,
    "accuracy": compare_networks,
    "split": split_step,
    "draw": draw_sizes,
    "judging": compare_judges,
    "training": time_training,
    "tuning": tune_raster,
}


# ------------------------------------------------------------------------------------------ command


def about(device: torch.device) -> dict[str, Any]:
    """The machine and the software; the GPU by name, as the driver gives it."""
    found: dict[str, Any] = {"device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    found["machine"] = machine()
    found["versions"] = versions()
    try:
        import triton
    except ImportError:
        found["versions"]["triton"] = "not installed"
    else:
        found["versions"]["triton"] = triton.__version__
    return found


@click.command(help=__doc__)
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the JSON.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--quick", is_flag=True, help="Small pictures, a narrow network, few repetitions.")
@click.option("--minutes", default=7.0, show_default=True, help="Start nothing new after these.")
def main(sections: tuple[str, ...], out: Path, device: str, quick: bool, minutes: float) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.ClickException(
            "There is no CUDA device here. To prove that this script runs: --device cpu --quick."
        )
    chosen: dict[str, Any] = dict(QUICK) if quick else {}
    deadline = time.monotonic() + 60 * minutes
    setting = Setting(torch.device(device), deadline=deadline, **chosen)
    # float32 is float32, and convolutions are chosen by trying.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    report = Report(out)
    report.content["about"] = about(setting.device) | {"quick": quick}
    click.echo(json.dumps(report.content["about"], indent=1))
    with torch.cuda.device(setting.device) if setting.on_gpu else nullcontext():
        for name in sections or SECTIONS:
            begin = time.monotonic()
            click.echo(name)
            late = begin > setting.deadline
            with torch.inference_mode():
                result = report.attempt(
                    name, no_time_left if late else partial(SECTIONS[name], setting, report)
                )
            seconds = time.monotonic() - begin
            report.content["sections"][name] = {"seconds": round(seconds, 1), "result": result}
            report.write()
    click.echo("goals")
    for goal in report.content["goals"]:
        verdict = "met" if goal["met"] else "NOT MET"
        click.echo(f"  {goal['name']:44s} {goal['measured']:12.4f}  of {goal['wanted']}  {verdict}")
    failures = report.content["failures"]
    click.echo(f"{len(failures)} failed; {report.file}")
    for failure in failures:
        click.echo(f"\n{failure['name']}\n{failure['traceback']}", err=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
