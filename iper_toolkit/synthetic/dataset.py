"""A synthetic iPER on disk: iPER's own layout and file formats, and truths that no camera can give.

::

    dataset.toml                          name, synthetic = true, seed, size, ...
    images_HD/<s>/<o>/<a>/0000.jpg        or <s>_<o>_<a>.mp4
    smpls/<s>/<o>/<a>/pose_shape.pkl      true fits of the open body; kps.pkl: 19 keypoints in NDC
    masks/<s>/<o>/<a>.npz                 "masks" (T, H, W) uint8, exact coverages
    train.txt, val.txt, protocol/         as the official ones
    truth/transfer/<s>/<o>/<a>/wearing_<s2>_<o2>/     the same motion and place in another outfit
    truth/views/<s>/<o>/<a>/at_<frame>/<angle>.jpg    the same instant, turned by an angle
    truth/transfer.csv, truth/views.csv   what there is

Seeds below 1000 are for demos and tests: all their clips are validation. Training takes seeds from
1000 on: there the last people are validation and the others are for training.
"""

import csv
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.atomic import part_folder, remove_dead_parts, write_atomically
from iper_toolkit.body import load_body
from iper_toolkit.processes import Pool
from iper_toolkit.progress import task
from iper_toolkit.protocols import write_protocol
from iper_toolkit.synthetic.clothes import Outfit
from iper_toolkit.synthetic.files import (
    MARK,
    move,
    write_fit,
    write_frames,
    write_jpeg,
    write_masks,
    write_mp4,
)
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import Motion, turn_motion, turned, varied_motion
from iper_toolkit.synthetic.people import (
    DressedPerson,
    Person,
    dress_person,
    pose_person,
    sample_person,
)
from iper_toolkit.synthetic.render import Camera, compose, draw_person
from iper_toolkit.synthetic.reproducible import turned_points
from iper_toolkit.synthetic.scenes import Scene, draw_plate, sample_scene
from iper_toolkit.threads import one_thread

Array = NDArray[np.float32]
FrameFormat = Literal["frames", "mp4"]
Progress = Callable[[int, int, str], None]
"""Called with (clips done, clips in all, the outfit just finished)."""

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other bytes."""
FIRST_TRAINING_SEED = 1000
VIEW_ANGLES = tuple(range(0, 360, 45))
_NUM_SOURCES = (1, 2, 4, 8)
_ACTIONS = (1, 2)


@dataclass(frozen=True)
class Size:
    """How much is drawn. `outfits` names each person's number of outfits, repeated cyclically."""

    people: int
    outfits: tuple[int, ...]
    frames: int
    seconds: float
    pixels: int
    instants: int  # of each action 2 clip that are also drawn from 8 angles
    other_person_every: int  # frames between true pictures in another person's outfit

    @property
    def fps(self) -> float:
        return self.frames / self.seconds

    def num_outfits(self, person: int) -> int:
        return self.outfits[person % len(self.outfits)]

    def dressed(self) -> list[tuple[int, int]]:
        """(person, outfit) pairs, 0-based."""
        return [(p, o) for p in range(self.people) for o in range(self.num_outfits(p))]


SIZES = {
    "tiny": Size(3, (2, 2, 1), frames=16, seconds=4.0, pixels=96, instants=1, other_person_every=8),
    "small": Size(8, (2,), frames=60, seconds=5.0, pixels=256, instants=1, other_person_every=4),
    "medium": Size(32, (2,), frames=100, seconds=8.0, pixels=256, instants=2, other_person_every=5),
    # One outfit each: what a quick look takes, and as many people as narrow intervals take.
    "few": Size(6, (1,), frames=40, seconds=5.0, pixels=256, instants=1, other_person_every=10),
    "many": Size(24, (1,), frames=40, seconds=5.0, pixels=256, instants=1, other_person_every=10),
}


@dataclass(frozen=True)
class Written:
    """What `write_dataset` did."""

    clips: int
    frames: int
    outfits_drawn: int
    outfits_found: int


@dataclass(frozen=True)
class _Job:
    """One outfit of one person: its clips and its truths."""

    root: Path
    seed: int
    size: str
    format: FrameFormat
    person: int
    outfit: int

    @property
    def name(self) -> str:
        return f"{self.person + 1:03d}/{self.outfit + 1}"


def write_dataset(
    root: Path,
    *,
    size: str = "small",
    seed: int = 0,
    frame_format: FrameFormat = "frames",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a synthetic iPER under `root`, or finish one that was interrupted.

    The same seed gives the same bytes in every run and with any number of workers, on machines of one
    processor type with the same versions of the libraries. Elsewhere sines and the JPEG and video
    encoders may differ in their last bits.

    Args:
        size: "tiny" (3 people, 96 px, seconds), "small" (8 people, 256 px, about 110 s of
            CPU time, a minute on 2 free cores) or "medium" (32 people, 256 px, seven times as much);
            "few" and "many" have 6 and 24 people in one outfit each, with few frames.
        seed: 0 or more; below 1000 for demos and tests, from 1000 on for training.
        frame_format: a folder of JPEGs a clip, or one mp4.
        workers: processes; default one a core (one for "tiny"). With more than one, a script that calls this needs
            the usual ``if __name__ == "__main__":``.

    Raises:
        ValueError: unknown size or format, a negative seed.
        FileExistsError: `root` holds real data, or a synthetic set with other settings.
    """
    root = Path(root)
    if size not in SIZES:
        raise ValueError(f"Unknown size {size!r}. Choose one of: {', '.join(SIZES)}.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more (from 1000 on for training sets).")
    if frame_format not in ("frames", "mp4"):
        raise ValueError(f"Unknown format {frame_format!r}. Choose one of: frames, mp4.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; at least one process has to draw.")
    settings = _settings(size, seed, frame_format)
    _claim(root, settings)
    remove_dead_parts(root)
    jobs = [_Job(root, seed, size, frame_format, p, o) for p, o in SIZES[size].dressed()]
    missing = [job for job in jobs if not _is_done(job)]
    _draw_all(missing, workers or _default_workers(size), len(jobs), progress)
    _write_tables(root, size, seed)
    _write_info(root, settings, complete=True)
    clips = len(jobs) * len(_ACTIONS)
    return Written(clips, clips * SIZES[size].frames, len(missing), len(jobs) - len(missing))


def _default_workers(size: str) -> int:
    """One process a core; a tiny set is drawn before another process would have started."""
    if size == "tiny":
        return 1
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


# ------------------------------------------------------------------------------- the root


def _settings(size: str, seed: int, frame_format: FrameFormat) -> dict[str, str | int]:
    return {
        "seed": seed,
        "size": size,
        "format": frame_format,
        "generator_version": GENERATOR_VERSION,
    }


def _claim(root: Path, settings: dict[str, str | int]) -> None:
    """Make `root` ours, or say why it cannot be."""
    info = root / "dataset.toml"
    if info.is_file():
        try:
            table = tomllib.loads(info.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise FileExistsError(
                f"{info} cannot be read ({error}). Choose another root."
            ) from error
        if table.get("synthetic") is not True:
            raise FileExistsError(
                f"{root} is a real dataset ({info} says synthetic = {table.get('synthetic', False)}). "
                "A root is either real or synthetic: choose another one."
            )
        other = [
            f"{key} = {table.get(key)!r} (wanted {value!r})"
            for key, value in settings.items()
            if table.get(key) != value
        ]
        if other:
            raise FileExistsError(
                f"{root} holds another synthetic set: {', '.join(other)}. Choose another root, or "
                "remove this one."
            )
        return
    if root.exists():
        names = ("images_HD", "images", "smpls", "masks", "videos", "primitives", "train.txt")
        found = [name for name in names if (root / name).exists()]
        found += sorted(path.name for path in root.glob("*.mp4"))
        if found:
            raise FileExistsError(
                f"{root} already holds data that is not synthetic ({', '.join(found[:4])}). A root is "
                "either real or synthetic: choose another one."
            )
    _write_info(root, settings, complete=False)


def _write_info(root: Path, settings: dict[str, str | int], *, complete: bool) -> None:
    quoted = {k: f'"{v}"' if isinstance(v, str) else str(v) for k, v in settings.items()}
    purpose = "training" if int(settings["seed"]) >= FIRST_TRAINING_SEED else "demo and test"
    lines = [
        'name = "synthetic-iper"',
        "synthetic = true",
        f"complete = {str(complete).lower()}",
        'licence = "CC0-1.0"',
        'consent = "not needed: no real person is shown"',
        f'body_id = "{load_body("open").id}"',
        f'purpose = "{purpose}"',
        f'note = "{MARK}"',
        *(f"{key} = {value}" for key, value in quoted.items()),
    ]
    text = "\n".join(lines) + "\n"
    write_atomically(root / "dataset.toml", partial(_write_text, text=text))


def _clip_files(job: _Job, action: int) -> dict[str, Path]:
    """Where a clip's parts lie, in the order in which they are moved into place."""
    name = f"{job.name}/{action}"
    frames = job.root / "images_HD" / name
    if job.format == "mp4":
        frames = job.root / f"{name.replace('/', '_')}.mp4"
    return {
        "masks": job.root / "masks" / f"{name}.npz",
        "fit": job.root / "smpls" / name,
        "frames": frames,
    }


def _truth_folders(job: _Job) -> list[Path]:
    transfer = job.root / "truth" / "transfer" / f"{job.name}/2"
    folders = [transfer / _wearing(p, o) for p, o, _ in _other_outfits(job)]
    if SIZES[job.size].instants:
        folders.append(job.root / "truth" / "views" / f"{job.name}/2")
    return folders


def _is_done(job: _Job) -> bool:
    clips = [path for action in _ACTIONS for path in _clip_files(job, action).values()]
    return all(path.exists() for path in clips + _truth_folders(job))


def _wearing(person: int, outfit: int) -> str:
    return f"wearing_{person + 1:03d}_{outfit + 1}"


def _other_outfits(job: _Job) -> list[tuple[int, int, int]]:
    """(person, outfit, every): whose outfit the person also wears, and in which frames."""
    size = SIZES[job.size]
    own = [(job.person, o, 1) for o in range(size.num_outfits(job.person)) if o != job.outfit]
    neighbour = (job.person + 1) % size.people
    borrowed = min(job.outfit, size.num_outfits(neighbour) - 1)
    return [*own, (neighbour, borrowed, size.other_person_every)]


# -------------------------------------------------------------------------------- drawing


def _draw_all(jobs: list[_Job], workers: int, total: int, progress: Progress | None) -> None:
    done = total - len(jobs)
    with task("drawing synthetic people", total, "outfit") as advance:
        advance(done)
        for job in _drawn(jobs, workers):
            done += 1
            advance(done)
            if progress is not None:
                progress(done * len(_ACTIONS), total * len(_ACTIONS), job.name)


def _drawn(jobs: list[_Job], workers: int) -> Iterator[_Job]:
    """Each job as soon as it is done."""
    if workers == 1 or len(jobs) < 2:
        with one_thread():
            for job in jobs:
                _draw(job)
                yield job
        return
    with Pool(workers) as pool:
        for ended in pool.run(_draw, jobs):
            ended.result()
            yield ended.job


def _random(seed: int, *path: int) -> np.random.Generator:
    """A generator of its own for every person, place and motion: none depends on another."""
    return np.random.default_rng([seed, *path])


@lru_cache(maxsize=4)
def _person(seed: int, size: str, person: int) -> Person:
    return sample_person(_random(seed, 1, person), SIZES[size].num_outfits(person))


@dataclass(frozen=True)
class _Stage:
    """Everything that is the same in all clips of one outfit."""

    scene: Scene
    camera: Camera
    plate: Array  # (S, S, 3) linear
    grain: Array  # larger than a frame, grey levels: each frame reads another window of it
    pixels: int


def _draw(job: _Job) -> None:
    """Draw what is missing of one outfit."""
    size = SIZES[job.size]
    person = _person(job.seed, job.size, job.person)
    dressed = dress_person(person.identity, person.outfits[job.outfit])
    motions = _motions(job, dressed)
    posed = [pose_person(dressed, motion) for motion in motions]
    stage = _set_stage(job, posed)
    with part_folder(job.root) as part:
        for action, motion, vertices in zip(_ACTIONS, motions, posed, strict=True):
            files = _clip_files(job, action)
            if all(path.exists() for path in files.values()):
                continue
            frames, masks = _film(
                stage, dressed, motion, vertices, (job.seed, 4, job.person, job.outfit, action)
            )
            write_masks(part / "masks.npz", masks)
            write_fit(
                part / "fit", fit_of(motion, dressed.shape, stage.camera), load_body("open").id
            )
            if job.format == "mp4":
                write_mp4(part / "frames.mp4", frames, size.fps)
            else:
                write_frames(part / "frames", frames)
            for name, path in files.items():
                move(part / f"{name}{path.suffix}", path)
        _draw_truths(job, part, stage, person, dressed, motions[1])


def _motions(job: _Job, dressed: DressedPerson) -> tuple[Motion, Motion]:
    size = SIZES[job.size]
    random = _random(job.seed, 3, job.person, job.outfit)
    return (
        turn_motion(dressed.skeleton, size.frames, size.seconds),
        varied_motion(dressed.skeleton, size.frames, size.seconds, random),
    )


def _set_stage(job: _Job, posed: list[Array]) -> _Stage:
    """A place, and a camera that keeps the person in the frame in both clips."""
    pixels = SIZES[job.size].pixels
    random = _random(job.seed, 2, job.person, job.outfit)
    scene = sample_scene(random)
    wanted, feet = random.uniform(0.74, 0.84), random.uniform(0.88, 0.92)
    strength = random.uniform(0.9, 2.2)
    grain = random.normal(0, 1, (pixels + 64, pixels + 64, 3)).astype(np.float32)
    grain = 0.8 * grain + 0.2 * grain.mean(-1, keepdims=True)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.45)
    grain *= np.float32(strength / grain.std())

    rotation = Camera(1, scene.pitch, (0, 0)).rotation
    seen = turned_points(np.concatenate([v.reshape(-1, 3) for v in posed]), rotation)
    low, high = seen[:, :2].min(0).tolist(), seen[:, :2].max(0).tolist()
    standing = seen[: len(posed[0][0]), 1]
    height = float(standing.max() - standing.min())
    ground = 2 * feet - 1  # NDC of the floor under the person
    # As large as wanted, but raised arms, long steps and kicks stay inside the frame.
    scale = min(
        2 * wanted / height,
        (ground + 0.97) / max(-low[1], 1e-6),
        (0.985 - ground) / max(high[1], 1e-6),
        1.94 / (high[0] - low[0]),
    )
    middle = -(low[0] + high[0]) / 2
    still = -float(np.median(posed[0][:, :, 0]))
    side = float(
        np.clip(
            still,
            middle - 0.97 / scale + (high[0] - low[0]) / 2,
            middle + 0.97 / scale - (high[0] - low[0]) / 2,
        )
    )
    camera = Camera(
        round(float(scale), 6), scene.pitch, (round(side, 6), round(float(ground / scale), 6))
    )
    return _Stage(scene, camera, draw_plate(scene, pixels), grain, pixels)


def _film(
    stage: _Stage,
    person: DressedPerson,
    motion: Motion,
    vertices: Array,
    seed: tuple[int, ...],
    frames: range | None = None,
) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Frames and their masks (N, S, S)."""
    random = np.random.default_rng(list(seed))
    windows = random.integers(0, 64, (len(motion), 2))
    bend = np.linalg.norm(motion.pose[:, 1:], axis=-1)
    pictures, masks = [], []
    for frame in frames or range(len(motion)):
        layer = draw_person(
            person, vertices[frame], bend[frame], stage.camera, stage.scene.light, stage.pixels
        )
        top, left = windows[frame]
        grain = stage.grain[top : top + stage.pixels, left : left + stage.pixels]
        pictures.append(compose(layer, stage.plate, grain))
        masks.append(np.round(layer.coverage * 255).astype(np.uint8))
    return pictures, np.stack(masks)


def _draw_truths(
    job: _Job,
    part: Path,
    stage: _Stage,
    person: Person,
    dressed: DressedPerson,
    motion: Motion,
) -> None:
    """The same action 2 in other outfits, and some of its instants from eight angles."""
    seed = (job.seed, 4, job.person, job.outfit, 2)  # the grain of the clip itself
    folders = _truth_folders(job)
    for (other, outfit, every), folder in zip(_other_outfits(job), folders, strict=False):
        if folder.exists():
            continue
        worn: Outfit = _person(job.seed, job.size, other).outfits[outfit]
        redressed = dress_person(person.identity, worn)
        frames = range(0, len(motion), every)
        vertices = pose_person(redressed, motion)
        pictures, masks = _film(stage, redressed, motion, vertices, seed, frames)
        target = part / "transfer"
        target.mkdir()
        for frame, picture in zip(frames, pictures, strict=True):
            write_jpeg(target / f"{frame:04d}.jpg", picture)
        write_masks(target / "masks.npz", masks)
        move(target, folder)
    if not SIZES[job.size].instants or folders[-1].exists():
        return
    target = part / "views"
    for instant in _instants(SIZES[job.size]):
        around = turned(motion, instant, np.deg2rad(VIEW_ANGLES))
        vertices = pose_person(dressed, around)
        pictures, masks = _film(stage, dressed, around, vertices, seed)
        folder = target / f"at_{instant:04d}"
        write_fit(folder, fit_of(around, dressed.shape, stage.camera), load_body("open").id)
        for angle, picture in zip(VIEW_ANGLES, pictures, strict=True):
            write_jpeg(folder / f"{angle:03d}.jpg", picture)
        write_masks(folder / "masks.npz", masks)
    move(target, folders[-1])


def _instants(size: Size) -> list[int]:
    """Frames of an action 2 clip that are drawn from all angles."""
    return [round((k + 0.5) * size.frames / size.instants) for k in range(size.instants)]


# --------------------------------------------------------------------------------- tables


def _write_tables(root: Path, size_name: str, seed: int) -> None:
    size = SIZES[size_name]
    names = {(p, o): f"{p + 1:03d}/{o + 1}" for p, o in size.dressed()}
    if seed < FIRST_TRAINING_SEED:
        validation = set(range(size.people))
    else:
        validation = set(range(size.people - max(1, size.people // 5), size.people))
    split: dict[str, list[str]] = {"train": [], "val": []}
    for (person, _), name in names.items():
        clips = split["val" if person in validation else "train"]
        clips += [f"{name}/{action}" for action in _ACTIONS]
    for kind, clips in split.items():
        text = "".join(f"{clip}\n" for clip in clips)
        write_atomically(root / f"{kind}.txt", partial(_write_text, text=text))

    last = size.frames - 1
    sources, views, cross, transfer = [], [], [], []
    for (person, outfit), name in names.items():
        if person not in validation:
            continue
        for action in _ACTIONS:
            clip = f"{name}/{action}"
            frames = [round(k * size.frames / 8) % size.frames for k in range(8)]
            for count in _NUM_SOURCES:
                chosen = frames[:: 8 // count]
                sources += [(clip, count, position, frame) for position, frame in enumerate(chosen)]
            for position, frame in enumerate(frames):
                # Only a turn has nominal angles.
                angle = VIEW_ANGLES[position] if action == 1 else None
                views.append((clip, "candidate", position, frame, angle))
                if action == 1:
                    views.append((clip, "evaluated", position, frame, angle))
            driver = _driver(person, outfit, validation, size)
            if driver is not None:
                cross.append((clip, f"{names[driver]}/2", 0, last, 0, last))
        for other in range(size.num_outfits(person)):
            if other != outfit:
                transfer += [(f"{name}/1", f"{names[person, other]}/{a}") for a in _ACTIONS]
    write_protocol(
        root / "protocol",
        id=f"synthetic-iper-{size_name}-{seed}",
        dataset="synthetic-iper",
        title="Synthetic people: imitation, novel view and appearance transfer",
        sources=sources,
        self_imitation=[(clip, 0, last) for clip in split["val"]],
        cross_imitation=cross,
        views=views,
        appearance_transfer=transfer,
    )
    _write_truth_tables(root, size_name, seed)


def _driver(person: int, outfit: int, validation: set[int], size: Size) -> tuple[int, int] | None:
    """The next validation person, in the same outfit number if there is one."""
    people = sorted(validation)
    following = people[(people.index(person) + 1) % len(people)]
    if following == person:
        return None
    return following, min(outfit, size.num_outfits(following) - 1)


def _write_truth_tables(root: Path, size_name: str, seed: int) -> None:
    """Two csv files that list the true pictures; paths are relative to the root."""
    size = SIZES[size_name]
    transfer: list[tuple[object, ...]] = [("clip", "outfit_from", "frame", "picture")]
    views: list[tuple[object, ...]] = [("clip", "frame", "angle_degrees", "picture")]
    for person, outfit in size.dressed():
        job = _Job(Path(), seed, size_name, "frames", person, outfit)
        clip = f"{job.name}/2"
        folders = _truth_folders(job)
        for (other, worn, every), folder in zip(_other_outfits(job), folders, strict=False):
            for frame in range(0, size.frames, every):
                picture = (folder / f"{frame:04d}.jpg").as_posix()
                transfer.append((clip, f"{other + 1:03d}/{worn + 1}", frame, picture))
        for instant in _instants(size):
            folder = folders[-1] / f"at_{instant:04d}"
            for angle in VIEW_ANGLES:
                views.append((clip, instant, angle, (folder / f"{angle:03d}.jpg").as_posix()))
    for name, rows in (("transfer", transfer), ("views", views)):
        write_atomically(root / "truth" / f"{name}.csv", partial(_write_csv, rows=rows))


def _write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
