"""Synthetic identities for judges: who they are, their look-alikes, and pictures of them.

An identity is a subject in an outfit. A family is a subject in one outfit and its look-alikes, in
whom one garment has another colour or another pattern: another identity that only clothes tell
apart. Every picture has its own pose, side, place and light.

Only training seeds are taken: judges must never have seen a demo's or a test's people.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.synthetic.clothes import Outfit
from iper_toolkit.synthetic.dataset import FIRST_TRAINING_SEED
from iper_toolkit.synthetic.fabrics import BOTTOM_PALETTES, TOP_PALETTES, Fabric, jittered
from iper_toolkit.synthetic.motion import Motion, turned, varied_motion
from iper_toolkit.synthetic.people import (
    DressedPerson,
    Identity,
    dress_person,
    pose_person,
    sample_person,
)
from iper_toolkit.synthetic.render import Camera, compose, draw_person
from iper_toolkit.synthetic.reproducible import turned_points
from iper_toolkit.synthetic.scenes import Scene, draw_plate, sample_scene

Pixels = NDArray[np.uint8]

CROP_HEIGHT, CROP_WIDTH = 160, 80
CROP_MARGIN = 1.25
"""Stored crops show this many times the person's box; training cuts jittered boxes out of them."""
NUM_SCENES = 128
_LOOK_ALIKES = (0, 1, 2)
_LOOK_ALIKE_CHANCES = (0.45, 0.35, 0.20)  # about 43 % of all identities are look-alikes
_FAR_COLOUR = 0.28  # root mean square over sRGB channels: clearly another colour in any light here
# Patterns that can be told from each other at 100 pixels a person and from every side.
_PLAIN = (
    "solid",
    "heather",
    "denim",
    "pinstripes",
    "thin-stripes",
    "logo",
    "number",
    "side-stripe",
)
_BOLD = ("stripes", "check", "dots", "floral", "chevron", "blocks")


@dataclass(frozen=True)
class Family:
    """One subject in outfits that differ in one garment; `changes[k]` says in what."""

    identity: Identity
    outfits: tuple[Outfit, ...]
    changes: tuple[str, ...]  # "" for the first


@dataclass(frozen=True)
class Picture:
    """One drawn picture of an identity.

    frame: (S, S, 3) RGB. box: the mask's box (left, top, right, bottom), pixels, exclusive ends.
    """

    frame: Pixels
    box: tuple[int, int, int, int]
    degrees: float  # how far the person is turned from its motion's own heading


def sample_family(seed: int, number: int) -> Family:
    """Family `number` of a seed from the training range.

    Raises:
        ValueError: `seed` is below `FIRST_TRAINING_SEED`.
    """
    random = _random(seed, 1, number)
    person = sample_person(random, 1)
    outfits, changes = [person.outfits[0]], [""]
    count = int(random.choice(_LOOK_ALIKES, p=_LOOK_ALIKE_CHANCES))
    for _ in range(count):
        outfit, change = _changed(outfits, random)
        outfits.append(outfit)
        changes.append(change)
    return Family(person.identity, tuple(outfits), tuple(changes))


def draw_pictures(
    family: Family, member: int, path: tuple[int, ...], *, count: int, pixels: int
) -> Iterator[Picture]:
    """`count` pictures of one member, seen from sides spread over the circle.

    Args:
        path: seeds of everything that is not the identity; starts with a training seed.
        pixels: S of the square pictures.
    """
    random = _random(*path)
    dressed = dress_person(family.identity, family.outfits[member])
    motion, degrees = _instants(dressed, count, random)
    vertices = pose_person(dressed, motion)
    bend = np.linalg.norm(motion.pose[:, 1:], axis=-1)
    for index in range(count):
        scene, plate = _place(path[0], int(random.integers(NUM_SCENES)), pixels)
        camera = _camera(vertices[index], scene.pitch, random)
        layer = draw_person(dressed, vertices[index], bend[index], camera, scene.light, pixels)
        grain = random.normal(0, random.uniform(0.5, 2.5), plate.shape).astype(np.float32)
        # Another crop of the place, and mirrored or not: no two pictures share their background.
        shift = tuple(random.integers(-pixels // 8, pixels // 8, 2).tolist())
        behind = np.roll(plate, (shift[0] // 3, shift[1]), (0, 1))
        if random.random() < 0.5:
            behind = np.ascontiguousarray(behind[:, ::-1])
        frame = compose(layer, behind, grain)
        rows, columns = (np.flatnonzero((layer.coverage > 0.5).any(axis)) for axis in (1, 0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        yield Picture(frame, box, float(degrees[index]))


def cut(picture: Picture, margin: float = CROP_MARGIN) -> Pixels:
    """(160, 80, 3) the person's box enlarged by `margin` about its centre, stretched to fit."""
    left, top, right, bottom = picture.box
    x, y = (left + right) / 2, (top + bottom) / 2
    width, height = (right - left) * margin, (bottom - top) * margin
    # The centres of the first and the last pixel of the crop, in the frame; outside it is repeated.
    scale = np.array([width / CROP_WIDTH, height / CROP_HEIGHT])
    start = np.array([x - width / 2, y - height / 2]) + scale / 2 - 0.5
    matrix = np.array([[scale[0], 0, start[0]], [0, scale[1], start[1]]])
    crop = cv2.warpAffine(
        picture.frame,
        matrix,
        (CROP_WIDTH, CROP_HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return crop.astype(np.uint8)


# ------------------------------------------------------------------------------ look-alikes


def _changed(outfits: list[Outfit], random: np.random.Generator) -> tuple[Outfit, str]:
    """The first outfit with one garment changed, unlike every other of the family."""
    first = outfits[0]
    for _ in range(200):
        garment = str(random.choice(["top", "bottom"]))
        top, bottom = first.tops[-1], first.bottom
        what = "pattern" if random.random() < 0.3 else "colour"
        old = top.fabric if garment == "top" else bottom.fabric
        if what == "pattern" and garment == "bottom" and not bottom.skirt:
            continue  # patterned trousers are hardly told from plain ones at this size
        new = _other_fabric(
            old, what, TOP_PALETTES if garment == "top" else BOTTOM_PALETTES, random
        )
        one_piece = top.fabric == bottom.fabric  # a dress is one garment
        tops = first.tops
        if garment == "top" or one_piece:
            tops = (*first.tops[:-1], replace(top, fabric=new))
        if garment == "bottom" or one_piece:
            bottom = replace(bottom, fabric=new)
        outfit = replace(first, tops=tops, bottom=bottom)
        if all(_are_far(outfit, other) for other in outfits):
            return outfit, f"{'dress' if one_piece else garment} {what}"
    raise AssertionError("No look-alike found in 200 tries.")


def _other_fabric(
    old: Fabric,
    what: str,
    palettes: tuple[tuple[tuple[float, float, float], ...], ...],
    random: np.random.Generator,
) -> Fabric:
    if what == "pattern":
        pattern = str(random.choice(_PLAIN[:1] if old.pattern in _BOLD else _BOLD))
        return replace(old, pattern=pattern)
    palette = palettes[int(random.integers(len(palettes)))]
    first, second, third = (jittered(colour, random) for colour in palette)
    return replace(old, colours=(first, second, third))


def _are_far(one: Outfit, other: Outfit) -> bool:
    """Whether a person could tell the outfits apart: a bold pattern or a far colour differs."""
    pairs = (
        (one.tops[-1].fabric, other.tops[-1].fabric),
        (one.bottom.fabric, other.bottom.fabric),
    )
    for left, right in pairs:
        if (left.pattern in _BOLD) != (right.pattern in _BOLD):
            return True
        difference = np.array(left.colours[0]) - np.array(right.colours[0])
        if np.sqrt((difference**2).mean()) > _FAR_COLOUR:
            return True
    return False


# --------------------------------------------------------------------------------- pictures


def _random(*path: int) -> np.random.Generator:
    if path[0] < FIRST_TRAINING_SEED:
        raise ValueError(
            f"seed is {path[0]}; judges take training seeds, {FIRST_TRAINING_SEED} or more, since "
            "smaller ones make the people of demos and tests."
        )
    return np.random.default_rng(path)


def _instants(
    dressed: DressedPerson, count: int, random: np.random.Generator
) -> tuple[Motion, NDArray[np.float64]]:
    """`count` poses, each turned to a side of its own."""
    frames = 3 * count
    motion = varied_motion(dressed.skeleton, frames, 8.0, random)
    chosen = random.permutation(frames)[:count]
    degrees = (np.arange(count) + random.uniform(0, 1, count)) * 360 / count
    degrees = (degrees + random.uniform(0, 360)) % 360
    turns = [
        turned(motion, int(frame), np.deg2rad([angle]))
        for frame, angle in zip(chosen, degrees, strict=True)
    ]
    whole = Motion(
        np.concatenate([turn.pose for turn in turns]),
        np.concatenate([turn.pelvis for turn in turns]),
        np.concatenate([turn.standing for turn in turns]),
    )
    return whole, degrees


@lru_cache(maxsize=2 * NUM_SCENES)
def _place(seed: int, number: int, pixels: int) -> tuple[Scene, NDArray[np.float32]]:
    scene = sample_scene(_random(seed, 2, number))
    return scene, draw_plate(scene, pixels)


def _camera(vertices: NDArray[np.floating], pitch: float, random: np.random.Generator) -> Camera:
    """A camera that sees the whole person, more or less large and in the middle."""
    seen = turned_points(vertices, Camera(1, pitch, (0, 0)).rotation)
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    extent = high - low
    scale = min(2 * random.uniform(0.72, 0.92) / extent[1], 1.84 / extent[0])
    room = np.maximum(0, 0.96 - scale * extent / 2) * random.uniform(-0.8, 0.8, 2)
    shift = -(low + high) / 2 + room / scale
    return Camera(float(scale), pitch, (float(shift[0]), float(shift[1])))
