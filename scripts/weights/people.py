"""People to train generators on: thousands of subjects, each in an outfit of their own, as packed clips.

A clip is short and full of variety: a person in an A pose from the front and from behind, and in moving poses, most of
them turned to some side. Only training seeds are taken: a generator must never have seen a demo's or a test's people.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.rotations import axis_angle_to_matrix
from iper_toolkit.synthetic.dataset import FIRST_TRAINING_SEED
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import Motion, turn_motion, turned, varied_motion
from iper_toolkit.synthetic.people import (
    DressedPerson,
    Person,
    dress_person,
    pose_person,
    sample_person,
)
from iper_toolkit.synthetic.render import Camera, Layer, compose, draw_person
from iper_toolkit.synthetic.reproducible import turned_points
from iper_toolkit.synthetic.scenes import draw_plate, sample_scene
from iper_toolkit.threads import use_one_thread
from lwgan.packs import write_pack, write_packs_file

# Skirts and long hair leave the naked body, and are learned last: every third person is chosen to have one.
_CHOSEN = 1 / 3
_TURNED = 0.7  # of the moving frames are turned to a side that the motion would not have shown
_FRONTAL = 0.8  # cosine between where a body faces and the camera, at least, of a source


@dataclass(frozen=True)
class Plan:
    """What is drawn."""

    seed: int
    clips: int
    frames: int = 12
    pixels: int = 256

    def __post_init__(self) -> None:
        if self.seed < FIRST_TRAINING_SEED:
            raise ValueError(
                f"seed is {self.seed}; training takes {FIRST_TRAINING_SEED} or more, since smaller ones make the people "
                "of demos and tests."
            )


def draw_people(
    plan: Plan, folder: Path, workers: int, tell: Callable[[str], object] = print
) -> None:
    """Draw what is missing, and say what the folder holds when all is there."""
    todo = [number for number in range(plan.clips) if not _path(folder, number).is_file()]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=use_one_thread) as pool:
        for done, _ in enumerate(
            pool.map(_draw, [(plan, folder, n) for n in todo], chunksize=4), 1
        ):
            if done % 50 == 0:
                tell(f"{done} of {len(todo)} people are drawn")
    write_packs_file(
        folder,
        name=f"people-{plan.seed}",
        body_id=load_body("open").id,
        size=plan.pixels,
        synthetic=True,
        clips={f"{number:05d}": f"{plan.seed}-{number:05d}" for number in range(plan.clips)},
    )


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def _draw(job: tuple[Plan, Path, int]) -> None:
    plan, folder, number = job
    random = np.random.default_rng((plan.seed, 5, number))
    person = _sample(random)
    dressed = dress_person(person.identity, person.outfits[0])
    motion = _motion(dressed, plan.frames, random)
    vertices = pose_person(dressed, motion)
    scene = sample_scene(random)
    camera = _camera(vertices, scene.pitch, random)
    plate = draw_plate(scene, plan.pixels)
    strength = random.uniform(0.6, 2.2)
    bend = np.linalg.norm(motion.pose[:, 1:], axis=-1)
    pictures, masks = [], []
    for frame in range(plan.frames):
        layer = draw_person(dressed, vertices[frame], bend[frame], camera, scene.light, plan.pixels)
        pictures.append(compose(layer, plate, _grain(plate.shape, strength, random)))
        masks.append(np.round(layer.coverage * 255).astype(np.uint8))
    nobody = _empty(plate)
    fit = fit_of(motion, dressed.shape, camera)
    facing = _facing(fit.pose)
    order = np.argsort(-facing, kind="stable")
    write_pack(
        _path(folder, number),
        clip_id=f"{number:05d}",
        subject=f"{plan.seed}-{number:05d}",
        pictures=pictures,
        masks=masks,
        plate=nobody,
        params=fit.params,
        front_frames=[int(frame) for frame in order if facing[frame] > _FRONTAL],
        back_frames=[int(frame) for frame in order[::-1] if facing[frame] < -_FRONTAL],
    )


def _sample(random: np.random.Generator) -> Person:
    chosen = random.random() < _CHOSEN
    while True:
        person = sample_person(random, 1)
        if not chosen or person.outfits[0].bottom.skirt or person.identity.hair.fall is not None:
            return person


def _motion(dressed: DressedPerson, count: int, random: np.random.Generator) -> Motion:
    """Two frames in an A pose, front and back; the others moving."""
    still = turn_motion(dressed.skeleton, 36, 9.0)
    parts = []
    for around in (0, 18):
        frame = int(around + random.integers(-2, 3)) % 36
        parts.append(turned(still, frame, np.zeros(1)))
    moving = varied_motion(dressed.skeleton, 4 * count, 10.0, random)
    for frame in random.permutation(4 * count)[: count - 2]:
        angle = random.uniform(-np.pi, np.pi) if random.random() < _TURNED else 0.0
        parts.append(turned(moving, int(frame), np.array([angle])))
    return Motion(
        np.concatenate([part.pose for part in parts]),
        np.concatenate([part.pelvis for part in parts]),
        np.concatenate([part.standing for part in parts]),
    )


def _camera(vertices: NDArray[np.float32], pitch: float, random: np.random.Generator) -> Camera:
    """One camera that sees the person whole in every frame, more or less large."""
    seen = turned_points(vertices.reshape(-1, 3), Camera(1, pitch, (0, 0)).rotation)
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    extent = high - low
    scale = float(min(2 * random.uniform(0.68, 0.95) / extent[1], 1.92 / extent[0]))
    room = np.maximum(0, 0.98 - scale * extent / 2) * random.uniform(-0.8, 0.8, 2)
    shift = -(low + high) / 2 + room / scale
    return Camera(round(scale, 6), pitch, (round(float(shift[0]), 6), round(float(shift[1]), 6)))


def _grain(
    shape: tuple[int, ...], strength: float, random: np.random.Generator
) -> NDArray[np.float32]:
    grain = random.normal(0, 1, shape).astype(np.float32)
    grain = cv2.GaussianBlur(0.8 * grain + 0.2 * grain.mean(-1, keepdims=True), (0, 0), 0.45)
    return grain * np.float32(strength / grain.std())


def _empty(plate: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The place without anybody and without grain."""
    size = plate.shape[0]
    nothing = Layer(
        np.zeros_like(plate), np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    )
    return compose(nothing, plate, np.zeros_like(plate))


def _facing(pose: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T,) cosine between where the body faces and the camera."""
    root = axis_angle_to_matrix(torch.from_numpy(pose[:, :3]).double())
    return -root[:, 2, 2].numpy()
