"""How fast the generator draws a frame, against the same network written plainly.

    python scripts/bench_generator.py                    one CPU thread, 256 pixels, 2 sources
    python scripts/bench_generator.py --threads 2
    python scripts/bench_generator.py --preset addlwb --size 512 --num-sources 4

The plain form is the network as it is trained: ordinary layers, float32, nothing folded. Forms take
turns within one run, and times are CPU time of the process, so that a busy machine spoils neither
much. With more than one thread it does: threads that wait for each other spend CPU time, too.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from lwgan.generators import PRESETS, LiquidWarpingGenerator, PictureGenerator, build_generator
from lwgan.precision import fastest_precision

Generator = LiquidWarpingGenerator | PictureGenerator


@dataclass(frozen=True)
class Form:
    """One way to run a network, and what it took."""

    name: str
    milliseconds: tuple[float, ...]  # of CPU, one a repetition
    difference: float  # largest, of an image in [-1, 1] from the plain form's
    goal: float | None  # times as fast as the plain form

    @property
    def best(self) -> float:
        return min(self.milliseconds)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


def forms_of(generator: Generator) -> Iterator[tuple[str, Generator, float | None]]:
    """(name, network, goal), the plain one first."""
    yield "plain, float32", generator, None
    yield "channels_last, float32", generator.for_inference(folded=False), None
    yield "folded, float32", generator.for_inference(), 1.05
    if fastest_precision() == "bfloat16":  # others emulate it, slowly
        yield "channels_last, bfloat16", generator.for_inference(folded=False).bfloat16(), None
        yield "folded, bfloat16", generator.for_inference().bfloat16(), 1.5


def measure_frame(
    preset: str = "attlwb-spade",
    size: int = 256,
    num_sources: int = 2,
    batch: int = 1,
    repeat: int = 10,
) -> list[Form]:
    """CPU time of one step with kept sources, at default widths and random weights, form by form.

    Args:
        preset: name of a generator.
        size: pixels of a side, a multiple of 8.
        num_sources, batch: sources that are kept, and frames of a step.
        repeat: repetitions after one that is left out.
    """
    torch.manual_seed(0)
    generator = build_generator(preset).eval().requires_grad_(False)
    source = torch.rand(1, num_sources, 6, size, size) * 2 - 1
    target = torch.rand(1, batch, 6, size, size) * 2 - 1
    flow = smooth_flow(batch, num_sources, size)
    forms = list(forms_of(generator))
    spans: list[list[float]] = [[] for _ in forms]
    images: list[Tensor] = []
    with torch.inference_mode():
        kept = [network.encode_sources(source) for _, network, _ in forms]
        for repetition in range(repeat + 1):
            for (_, network, _), features, span in zip(forms, kept, spans, strict=True):
                start = time.process_time()
                image, _ = network.draw_target(target, features, flow)
                if repetition:
                    span.append((time.process_time() - start) * 1000 / batch)
                else:
                    images.append(image)
    return [
        Form(name, tuple(span), (image - images[0]).abs().max().item(), goal)
        for (name, _, goal), span, image in zip(forms, spans, images, strict=True)
    ]


def smooth_flow(num_frames: int, num_sources: int, size: int) -> Tensor:
    """(1, T, S, size, size, 2): smooth over a body in the middle half of the width, else -2."""
    coarse = torch.rand(num_frames * num_sources, 2, 9, 9) * 1.8 - 0.9
    fine = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    flow = fine.movedim(1, -1).contiguous()
    flow[:, :, : size // 4] = flow[:, :, -size // 4 :] = -2
    return flow.unflatten(0, (1, num_frames, num_sources))


def table(forms: list[Form]) -> str:
    """One line a form: CPU milliseconds a frame, and how many times as fast as the plain form."""
    plain = forms[0]
    lines = [f"{'form':26} {'best ms':>8} {'median':>8} {'times as fast':>15}  goal   difference"]
    for form in forms:
        ratios = f"{plain.best / form.best:.2f} ({plain.median / form.median:.2f})"
        goal = "" if form.goal is None else f"{form.goal:.2f}"
        lines.append(
            f"{form.name:26} {form.best:8.1f} {form.median:8.1f} {ratios:>15}  {goal:5}  "
            f"{form.difference:.1e}"
        )
    return "\n".join(lines)


@click.command(help="\b\n" + (__doc__ or ""), context_settings={"show_default": True})
@click.option("--preset", type=click.Choice(list(PRESETS)), default="attlwb-spade")
@click.option("--size", default=256, help="Pixels of a side.")
@click.option("--num-sources", default=2)
@click.option("--batch", default=1, help="Frames of a step.")
@click.option("--threads", default=1)
@click.option("--repeat", default=10)
def main(preset: str, size: int, num_sources: int, batch: int, threads: int, repeat: int) -> None:
    torch.set_num_threads(threads)
    click.echo(
        f"{preset}, {size}x{size}, {num_sources} sources, {batch} frame(s) a step, {threads} "
        f"thread(s), {repeat} repetitions; ratios of the best (of the medians)"
    )
    click.echo(table(measure_frame(preset, size, num_sources, batch, repeat)))


if __name__ == "__main__":
    main()
