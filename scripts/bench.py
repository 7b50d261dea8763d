"""How fast this machine rasterizes, scores, prepares, fits bodies, draws people and personalizes, in which precision.

    python scripts/bench.py                       everything
    python scripts/bench.py raster metrics        some sections
    python scripts/bench.py --json bench.json     also as a file

Times are CPU time of this process and its children, so that a busy machine does not matter much;
the best of several runs is the figure, the median tells how steady it was.
"""

import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import machine, versions
from benchmarks.metrics import METRICS, score_frames
from benchmarks.planning import PIXEL_NAMES
from iper_toolkit.body.model import BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from iper_toolkit.raster.cpu import rasterize_array
from iper_toolkit.raster.shading import draw_overlay, part_colours, shade
from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle

# Of pixels: about what a person covers in iPER's frames.
CAMERA = (1.12, 0.0, 0.13)


def cpu_seconds() -> float:
    """CPU seconds of this process, its threads and its finished children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def spans(run: Callable[[], object], repeat: int) -> list[float]:
    """CPU milliseconds of each run; the first run, which may compile, is left out."""
    run()
    found = []
    for _ in range(repeat):
        start = time.process_time()
        run()
        found.append((time.process_time() - start) * 1000)
    return found


def turning_body(num_frames: int) -> BodyParams:
    """The open body with hanging arms, once around."""
    pose = torch.zeros(num_frames, 24, 3)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0, 1.0
    angles = torch.arange(num_frames) * 2 * torch.pi / num_frames
    upside_down = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0]))
    turns = axis_angle_to_matrix(angles[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    pose[:, 0] = matrix_to_axis_angle(upside_down @ turns)
    return BodyParams(
        "open-body-1",
        torch.tensor(CAMERA).expand(num_frames, 3).contiguous(),
        pose.reshape(num_frames, 72),
        torch.zeros(num_frames, 10),
    )


# ------------------------------------------------------------------------------------- rasterizer


def bench_raster() -> list[dict[str, Any]]:
    body = load_body("open")
    params = turning_body(8)
    vertices = project(body.pose(params).vertices, params.camera).numpy()
    faces = body.faces.int().numpy()
    rows = []
    for size, goal in ((256, 0.7), (512, 1.4), (1024, 4.0)):
        buffers = rasterize_array(vertices[0], faces, size)

        def draw(size: int = size, buffers: tuple[NDArray, ...] = buffers) -> None:
            for frame in vertices:
                rasterize_array(frame, faces, size, *buffers)

        found = [span / len(vertices) for span in spans(draw, 30)]
        covered = np.mean([(rasterize_array(v, faces, size)[0] >= 0).mean() for v in vertices])
        row = {
            "size": size,
            "faces": len(faces),
            "covered": round(float(covered), 3),
            "ms_min": min(found),
            "ms_median": statistics.median(found),
            "goal_ms": goal,
        }
        rows.append(row)
        click.echo(
            f"  {size:4d} px  {row['ms_min']:.2f} ms a frame (median {row['ms_median']:.2f}; goal "
            f"{goal}); {len(faces)} faces, {covered:.0%} covered"
        )
    return rows


# ---------------------------------------------------------------------------------------- metrics


def bench_metrics() -> list[dict[str, Any]]:
    rows = []
    for size in (256, 512, 1024):
        row = bench_metrics_at(size)
        rows.append(row)
        figures = ", ".join(f"{name} {ms:.2f}" for name, ms in row["ms"].items())
        click.echo(
            f"  {size:4d} px  ms a pair: {figures}; SSIM of scikit-image "
            f"{row['ssim_scikit_image_ms']:.1f}: ours is {row['ssim_times_as_fast']:.0f} times as "
            "fast (goal 8)"
        )
    return rows


def bench_metrics_at(size: int) -> dict[str, Any]:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    generated = np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((1, size, size), np.uint8)
    mask[:, size // 8 : -size // 8, size // 3 : -size // 3] = 255
    best = {
        name: min(spans(partial(score_frames, [METRICS[name]], generated, truth, mask), 10))
        for name in ("ssim", "psnr", "l1")
    }
    everything = [METRICS[name] for name in PIXEL_NAMES]
    best["all together"] = min(spans(lambda: score_frames(everything, generated, truth, mask), 10))
    theirs = min(spans(lambda: structural_similarity(truth[0], generated[0], channel_axis=-1), 4))
    return {
        "size": size,
        "ms": best,
        "ssim_scikit_image_ms": theirs,
        "ssim_times_as_fast": theirs / best["ssim"],
    }


def bench_judging() -> list[dict[str, Any]]:
    """All that looks at people, against the official package's way, on one thread."""
    from bench_metrics import bench_judging as measure

    return measure()


# ---------------------------------------------------------------------------------------- prepare

SOURCE_SIDE, PROXY_SIDE, FRAMES_A_SECOND = 1024, 512, 25
NUM_DRAWN = 30  # different frames; the clip repeats them


def bench_prepare(num_frames: int, repeat: int) -> dict[str, Any]:
    """`prepare` with one worker on an iPER clip, against the least that makes the same proxy."""
    from iper_toolkit.prepare import prepare

    with tempfile.TemporaryDirectory(prefix="iper-bench-") as name:
        folder = Path(name)
        source = write_clip(folder / "source", num_frames)

        def prepare_afresh(number: int) -> Path:
            root = folder / f"root{number}"
            for path in (folder / "source").rglob("*"):
                if path.is_file():
                    target = root / path.relative_to(folder / "source")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.hardlink_to(path)
            start = cpu_seconds(), time.perf_counter()
            summary = prepare(root, workers=1)
            prepared.append((cpu_seconds() - start[0], time.perf_counter() - start[1]))
            if not summary.ok:
                raise click.ClickException(f"prepare failed: {summary.failures}")
            return next(root.glob("cache/proxy-*/**/proxy.mp4"))

        prepared: list[tuple[float, float]] = []
        bare: list[tuple[float, float]] = []
        for number in range(repeat + 1):
            proxy = prepare_afresh(number)
            plain = folder / f"bare{number}.mp4"
            start = cpu_seconds(), time.perf_counter()
            decode_cut_encode(source, plain)
            bare.append((cpu_seconds() - start[0], time.perf_counter() - start[1]))
            if abs(plain.stat().st_size / proxy.stat().st_size - 1) > 0.02:
                raise click.ClickException(
                    f"The bare proxy has {plain.stat().st_size} bytes and prepare's has "
                    f"{proxy.stat().st_size}: they are no longer made with the same settings."
                )
    # The first round loads libraries and compiles.
    cpu = [min(seconds[0] for seconds in runs[1:]) / num_frames for runs in (prepared, bare)]
    wall = [min(seconds[1] for seconds in runs[1:]) / num_frames for runs in (prepared, bare)]
    result = {
        "source": f"{SOURCE_SIDE} px, {num_frames} frames",
        "proxy": f"{PROXY_SIDE} px",
        "prepare_cpu_ms": cpu[0] * 1000,
        "bare_cpu_ms": cpu[1] * 1000,
        "cpu_share_of_bare_speed": cpu[1] / cpu[0],
        "prepare_wall_ms": wall[0] * 1000,
        "bare_wall_ms": wall[1] * 1000,
        "wall_share_of_bare_speed": wall[1] / wall[0],
        "goal": 0.8,
    }
    for kind in ("cpu", "wall"):
        click.echo(
            f"  {kind:4s}  prepare {result[f'prepare_{kind}_ms']:.1f} ms a frame, bare decode + "
            f"resize + encode {result[f'bare_{kind}_ms']:.1f}: "
            f"{result[f'{kind}_share_of_bare_speed']:.0%} of its speed (goal 80%)"
        )
    return result


def decode_cut_encode(source: Path, target: Path) -> None:
    """The same proxy with nothing around it: written out plainly, on purpose without our modules."""
    from fractions import Fraction

    import av
    import cv2

    with av.open(str(target), "w") as container:
        stream: Any = container.add_stream("libx264", Fraction(FRAMES_A_SECOND))
        stream.width = stream.height = PROXY_SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 10
        stream.codec_context.thread_count = 1
        stream.options = {
            "crf": "12",
            "preset": "veryfast",
            "threads": "1",
            "sc_threshold": "0",
            "x264-params": "mbtree=0",
        }
        for index, image in enumerate(decode(source)):
            small = cv2.resize(image, (PROXY_SIDE, PROXY_SIDE), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.asarray(small, np.uint8), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode(source: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames by PyAV; one thread."""
    import av

    with av.open(str(source)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def write_clip(root: Path, num_frames: int) -> Path:
    """A root with one clip in iPER's layout: a shaded body that turns before a textured wall."""
    import cv2

    from iper_toolkit.video import write_video

    rng = np.random.default_rng(0)
    body = load_body("open")
    params = turning_body(NUM_DRAWN)
    vertices = body.pose(params).vertices
    noise = rng.integers(0, 256, (SOURCE_SIDE, SOURCE_SIDE, 3), dtype=np.uint8)
    wall = cv2.GaussianBlur(noise, (0, 0), 3) // 2 + cv2.GaussianBlur(noise, (0, 0), 40) // 2
    drawn = []
    for i in range(NUM_DRAWN):
        fragments = rasterize(project(vertices[i], params.camera[i]), body.faces, SOURCE_SIDE)
        colours = None if body.surface is None else part_colours(body.surface.part)
        shaded = shade(fragments, vertices[i], body.faces, face_colours=colours)
        picture = draw_overlay(wall.astype(np.uint8), fragments, shaded, opacity=1)
        grain = rng.normal(0, 2, picture.shape)
        drawn.append(np.clip(picture + grain, 0, 255).astype(np.uint8))
    source = root / "900_1_1.mp4"
    root.mkdir()
    write_video(
        source,
        (drawn[i % NUM_DRAWN] for i in range(num_frames)),
        FRAMES_A_SECOND,
        keyframe_every=250,
        crf=20,
        metadata={"comment": "synthetic"},
    )
    turn = np.arange(num_frames) % NUM_DRAWN
    fit = {
        "cams": params.camera.numpy()[turn],
        "pose": params.pose.numpy()[turn],
        "shape": params.shape.numpy()[turn],
        "body_id": params.body_id,
        "synthetic": True,
    }
    folder = root / "smpls/900/1/1"
    folder.mkdir(parents=True)
    (folder / "pose_shape.pkl").write_bytes(pickle.dumps(fit))
    (root / "dataset.toml").write_text('name = "bench"\nsynthetic = true\nlicence = "CC0-1.0"\n')
    return source


# -------------------------------------------------------------------------------- fit, synthetic set


def bench_fit(num_frames: int = 200) -> dict[str, Any]:
    """A turning body fitted to its own keypoints with noise of two pixels."""
    from iper_toolkit.body.fitting import fit_clip
    from iper_toolkit.camera import project_weak_perspective
    from iper_toolkit.crop import SquareCrop
    from iper_toolkit.keypoints import BODY_25, BODY_45, Keypoints

    body, params = load_body("open"), turning_body(num_frames)
    crop = SquareCrop(0, 0, SOURCE_SIDE)
    points = project_weak_perspective(body.pose(params).landmarks, params.camera).numpy()
    places = [BODY_45.index({"mid_hip": "pelvis"}.get(name, name)) for name in BODY_25]
    table = np.ones((num_frames, len(places), 3), np.float32)
    noise = np.random.default_rng(0).normal(0, 2, (num_frames, len(places), 2))
    table[..., :2] = crop.ndc_to_source(points[:, places]) + noise
    start = time.process_time()
    fit = fit_clip(body, Keypoints(table), crop)
    seconds = (time.process_time() - start) / num_frames
    error = float(np.median(fit.error_pixels))
    click.echo(
        f"  {seconds:.3f} CPU s a frame of {num_frames} (goal 0.8); median error {error:.1f} px "
        f"of {SOURCE_SIDE}"
    )
    return {"frames": num_frames, "cpu_s_a_frame": seconds, "goal": 0.8, "median_pixels": error}


def bench_synth() -> dict[str, Any]:
    """The set of size small, with one worker a core."""
    from iper_toolkit.synthetic.dataset import write_dataset

    with tempfile.TemporaryDirectory(prefix="iper-bench-") as name:
        start = cpu_seconds(), time.perf_counter()
        written = write_dataset(Path(name) / "root", size="small", seed=1, workers=os.cpu_count())
        cpu, wall = cpu_seconds() - start[0], time.perf_counter() - start[1]
    click.echo(
        f"  small: {wall:.0f} s with {os.cpu_count()} workers (goal 120), {cpu:.0f} CPU s; "
        f"{written.clips} clips, {written.frames} frames"
    )
    return {"size": "small", "wall_s": wall, "cpu_s": cpu, "goal_s": 120}


def bench_generator() -> list[dict[str, Any]]:
    """The default generator at 256 with 2 kept sources, against the same network written plainly."""
    from bench_generator import measure_frame, table

    forms = measure_frame()
    click.echo(table(forms))
    return [
        {
            "form": form.name,
            "cpu_ms_min": form.best,
            "cpu_ms_median": form.median,
            "times_as_fast": forms[0].best / form.best,
            "goal": form.goal,
            "largest_difference": form.difference,
        }
        for form in forms
    ]


def bench_precision() -> dict[str, Any]:
    """A convolution, forward and backward, in float32 and in bfloat16."""
    from bench_personalization import bench_precision as measure

    return measure()


def bench_personalization() -> dict[str, Any]:
    """`quick`, of one person at 256 pixels with 2 sources."""
    from bench_personalization import bench_personalization as measure

    return measure()


# ------------------------------------------------------------------------------------------- command

SECTIONS = (
    "raster",
    "metrics",
    "judging",
    "prepare",
    "fit",
    "synth",
    "generator",
    "precision",
    "personalization",
)


@click.command(help=__doc__)
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS))
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures."
)
@click.option(
    "--frames",
    default=1000,
    show_default=True,
    help="Length of the clip to prepare (iPER's: 1173).",
)
@click.option("--repeat", default=2, show_default=True, help="Rounds of prepare.")
def main(sections: tuple[str, ...], json_file: Path | None, frames: int, repeat: int) -> None:
    torch.set_num_threads(1)
    about = machine()
    figures: dict[str, Any] = {"machine": about, "versions": versions()}
    click.echo(f"{about['processor']}, {about['num_cores']} cores, {about['system']}")
    click.echo(", ".join(f"{name} {number}" for name, number in figures["versions"].items()))
    for section in sections or SECTIONS:
        click.echo(section)
        if section == "raster":
            figures[section] = bench_raster()
        elif section == "metrics":
            figures[section] = bench_metrics()
        elif section == "judging":
            figures[section] = bench_judging()
        elif section == "fit":
            figures[section] = bench_fit()
        elif section == "synth":
            figures[section] = bench_synth()
        elif section == "generator":
            figures[section] = bench_generator()
        elif section == "precision":
            figures[section] = bench_precision()
        elif section == "personalization":
            figures[section] = bench_personalization()
        else:
            figures[section] = bench_prepare(frames, repeat)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
