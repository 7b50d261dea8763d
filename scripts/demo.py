"""What `make demo` and `make demo-full` do: people are drawn, prepared, re-made by several methods, and reported.

    python scripts/demo.py                 6 people: copy, warp, the network, and the network after it learned each person
    python scripts/demo.py --full          24 people, and four ablations; says first how long it will take
    python scripts/demo.py --estimate      only says how long --full will take

Nothing is done twice: after an interruption the same command goes on. It ends with the report's file and the CPU time.
"""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

NETWORK = "attlwb-small"
# All that needs no file of others, but for motion, which would double the time.
METRICS = "pixel,perceptual,identity,distribution"
ABLATIONS = ("texture-warping", "addlwb", "avglwb", "input-concat")
MAX_FRAMES, MAX_FRAMES_OF_FULL = 5, 8
PEOPLE_OF_FULL = 24

# Measured where `measure_probe` takes _PROBE (AMD EPYC with AVX2 and no more, docs/log.md), in CPU seconds.
_PROBE = 0.0160
_DATA_A_PERSON = 12.4  # drawing and preparing
_START = 27.0  # of a process that draws and judges
_LEARN = 45.0  # a person, `quick`
_DRAW = 0.21  # and judge a picture, mean of the demo's four methods


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    name: str
    command: tuple[str, ...]


def steps(folder: Path, *, full: bool, workers: int) -> list[Step]:
    """The commands, in order; each goes on where it was stopped."""
    data, run = str(folder / "data"), str(folder / "run")
    size, seed = ("many", "12") if full else ("few", "1")
    methods = ["copy", "warp", f"{NETWORK}=lwgan:{NETWORK}"]
    # Transfers are learned in the full demo only: there learning pays little (docs/results.md) and costs as much.
    methods.append(f"personalized=lwgan:{NETWORK}+quick{'' if full else '-alone'}")
    methods += [f"{name}=lwgan:{name}-small" for name in ABLATIONS if full]
    frames = MAX_FRAMES_OF_FULL if full else MAX_FRAMES
    settings = (
        f"--task all --size 256 --num-sources 2 --max-frames {frames} --metrics {METRICS}".split()
    )
    settings += ["--workers", str(workers)]
    python = sys.executable
    toolkit, benchmark = (python, "-m", "iper_toolkit"), (python, "-m", "benchmarks")
    chosen = [word for method in methods for word in ("--method", method)]
    return [
        Step("synth", (*toolkit, "synth", "--root", data, "--size", size, "--seed", seed)),
        Step("prepare", (*toolkit, "prepare", "--root", data, "--workers", str(workers))),
        Step("run", (*benchmark, "run", "--root", data, "--out", run, *settings, *chosen)),
        Step("report", (*benchmark, "report", run)),
    ]


def cpu_seconds_of_children() -> float:
    """User and system time of all processes that this one started and that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_probe() -> float:
    """CPU seconds of a convolution as the networks have it, forward and backward, in float32: this machine's speed."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    weight = torch.randn(64, 64, 3, 3).requires_grad_()
    x = torch.randn(1, 64, 64, 64).to(memory_format=torch.channels_last).requires_grad_()
    spent = []
    for _ in range(12):  # the first one builds kernels
        start = time.process_time()
        F.conv2d(x, weight, padding=1).sum().backward()
        spent.append(time.process_time() - start)
    return min(spent)


def estimate_full(probe: float) -> float:
    """CPU seconds of the full demo on a machine where `measure_probe` gives `probe`.

    Each person has two outfits that are re-made and turned, and one transfer; eight methods draw and are judged.
    """
    groups, cases, methods = 3 * PEOPLE_OF_FULL, 5 * PEOPLE_OF_FULL, 4 + len(ABLATIONS)
    pictures = cases * MAX_FRAMES_OF_FULL * methods
    spent = PEOPLE_OF_FULL * _DATA_A_PERSON + 3 * _START + groups * _LEARN + pictures * _DRAW
    return spent * probe / _PROBE


def in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


@click.command(help="\b\n" + (__doc__ or ""))
@click.option("--full", is_flag=True, help="24 people and four ablations.")
@click.option("--estimate", is_flag=True, help="Only say how long --full will take.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None)
def main(full: bool, estimate: bool, out: Path | None) -> None:
    workers = min(2, os.cpu_count() or 1)
    folder = out or Path("demo-full" if full else "demo")
    if full or estimate:
        spent = estimate_full(measure_probe())
        click.echo(
            f"demo-full takes about {in_words(spent)} of CPU, {in_words(spent / workers)} by the clock if {workers} "
            "cores are idle. It can be stopped and goes on with the same command.",
            err=True,
        )
        if estimate:
            return
    told = []
    begun, cpu_begun = time.monotonic(), cpu_seconds_of_children()
    plan = steps(folder, full=full, workers=workers)
    for number, step in enumerate(plan, 1):
        click.echo(f"[{number}/{len(plan)}] {step.name}", err=True)
        before = cpu_seconds_of_children()
        code = subprocess.run(step.command).returncode
        if code:
            click.echo(
                f"{step.name} ended with exit code {code}. Give the same command again to go on.",
                err=True,
            )
            sys.exit(code if code > 0 else 128 - code)
        told.append(f"{step.name} {in_words(cpu_seconds_of_children() - before)}")
    spent = cpu_seconds_of_children() - cpu_begun
    page = folder / "run" / "report" / "index.html"
    click.echo(
        f"Report: {page}\n{in_words(spent)} of CPU ({', '.join(told)}), "
        f"{in_words(time.monotonic() - begun)} by the clock."
    )


if __name__ == "__main__":
    main()
