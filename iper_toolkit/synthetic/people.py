"""Who the synthetic people are, and dressing one of them into a single mesh.

An identity (shape, skin, face, hair) stays with a subject; outfits change over it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.body.layers import Layer, load_layers
from iper_toolkit.body.model import Body
from iper_toolkit.body.parts import DETAILS
from iper_toolkit.body.skinning import Skeleton as PosedSkeleton
from iper_toolkit.synthetic.clothes import (
    SOLE_THICKNESS,
    Outfit,
    Piece,
    dress,
    hidden_body,
    sample_outfits,
)
from iper_toolkit.synthetic.fabrics import Colour
from iper_toolkit.synthetic.hair import Hair, grow_hair, hairline_field, sample_hair
from iper_toolkit.synthetic.materials import (
    Face,
    Materials,
    material_of_hair,
    material_of_piece,
    material_of_skin,
)
from iper_toolkit.synthetic.mesh import SkinnedMesh, joined, keep_faces, with_trait
from iper_toolkit.synthetic.motion import Motion, Skeleton
from iper_toolkit.synthetic.reproducible import settled, skinned

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Identity:
    """A person without clothes; equal in every outfit."""

    shape: tuple[float, ...]  # 10 coefficients of the open body
    skin: Colour
    face: Face
    hair: Hair


@dataclass(frozen=True)
class Person:
    """A subject: who it is and the outfits it owns."""

    identity: Identity
    outfits: tuple[Outfit, ...]


@dataclass(frozen=True)
class DressedPerson:
    """One mesh of one person in one outfit, ready to be posed and drawn."""

    mesh: SkinnedMesh  # in the person's own shape
    face_material: NDArray[np.int32]  # (F,) row of `materials`; see also `inside`
    inside: NDArray[np.bool_]  # (F,) the garment's lining, wound inward
    materials: Materials
    skeleton: Skeleton
    shape: Array  # (10,)
    skirt: NDArray[np.int64]  # vertices of a skirt's front, which lies over raised thighs
    bending: Array  # (V, 23) how much the bend of joints 1..23 creases the cloth at a vertex


_THIGH_RADIUS = 0.112  # metres, cloth included

SKIN_TONES: tuple[Colour, ...] = (
    (0.93, 0.78, 0.69),
    (0.89, 0.71, 0.60),
    (0.84, 0.65, 0.51),
    (0.74, 0.54, 0.41),
    (0.60, 0.42, 0.31),
    (0.46, 0.31, 0.23),
    (0.35, 0.235, 0.18),
)
_IRISES: tuple[Colour, ...] = (
    (0.20, 0.12, 0.07),
    (0.28, 0.18, 0.09),
    (0.30, 0.36, 0.22),
    (0.30, 0.43, 0.55),
    (0.40, 0.45, 0.47),
)


def sample_person(random: np.random.Generator, num_outfits: int = 2) -> Person:
    """A person with `num_outfits` outfits; every choice is drawn from `random`."""
    feminine = bool(random.random() < 0.5)
    shape = np.clip(random.normal(0, 0.8, 10), -1.8, 1.8)
    # The first coefficient of the open body is size, from small women to tall men.
    shape[0] = np.clip(random.normal(-0.75 if feminine else 0.75, 0.45), -1.6, 1.6)
    tone = float(random.uniform(0, len(SKIN_TONES) - 1))
    low = int(tone)
    share = tone - low
    skin = np.array(SKIN_TONES[low]) * (1 - share)
    skin += np.array(SKIN_TONES[min(low + 1, len(SKIN_TONES) - 1)]) * share
    skin = np.clip(skin + random.normal(0, 0.008, 3), 0.1, 0.97)
    dark = tone > 2.4
    hair = sample_hair(random, long=feminine, dark=dark)
    red = np.array([1.0, 0.42, 0.42]) if feminine else np.array([0.95, 0.62, 0.58])
    painted = random.uniform(0.35, 0.75) if feminine else random.uniform(0.5, 0.7)
    lips = skin * (1 - painted) + skin * red * painted
    if feminine and random.random() < 0.35:
        lips = lips * 0.45 + np.array([0.70, 0.16, 0.20]) * 0.55
    iris = _IRISES[int(random.integers(2 if dark else len(_IRISES)))]
    face = Face(
        iris=iris,
        lips=_colour(lips),
        brow_thickness=float(
            random.uniform(0.0026, 0.0042) if feminine else random.uniform(0.004, 0.0058)
        ),
        brow_arch=float(
            random.uniform(0.003, 0.006) if feminine else random.uniform(0.0005, 0.003)
        ),
        eye_size=float(random.uniform(1.0, 1.15) if feminine else random.uniform(0.9, 1.05)),
        freckles=float(random.uniform(0.3, 1.0)) if tone < 1.5 and random.random() < 0.3 else 0.0,
        stubble=0.0 if feminine or random.random() < 0.45 else float(random.uniform(0.25, 0.95)),
        blush=float(random.uniform(0.4, 0.9) if feminine else random.uniform(0.2, 0.5)),
        lashes=1.0 if feminine else 0.45,
    )
    identity = Identity(tuple(float(value) for value in shape), _colour(skin), face, hair)
    return Person(identity, sample_outfits(random, num_outfits, skirts=feminine))


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = values.tolist()
    return red, green, blue


@lru_cache(maxsize=1)
def exact_body() -> Body:
    """The open body in float64, whose products differ too little between processes to matter."""
    return load_body("open").to(dtype=torch.float64)


@lru_cache(maxsize=1)
def _sources() -> tuple[Body, dict[str, Layer], Array]:
    """The open body, its layers, and (V, 4) how far a vertex is lip, nail, ear or mouth."""
    body = load_body("open")
    if body.surface is None or body.surface.detail is None:
        raise ValueError("The open body has no table of details; its file is not the shipped one.")
    detail, faces = body.surface.detail.numpy(), body.faces.numpy()
    marks = np.zeros((body.num_vertices, len(DETAILS)), np.float32)
    for corner in range(3):
        np.add.at(marks, (faces[:, corner], detail), 1)
    marks /= marks.sum(1, keepdims=True)
    column = [DETAILS.index(name) for name in ("lips", "fingernails", "ears", "mouth")]
    return body, load_layers(), marks[:, column]


def dress_person(identity: Identity, outfit: Outfit) -> DressedPerson:
    """Grow the hair, cut the clothes, drop the skin nobody sees, and join everything."""
    body, layers, marks = _sources()
    shape = np.array(identity.shape, np.float32)
    skin = SkinnedMesh.of(body.points, body.faces, shape)
    head = skin.weights[:, 15] + skin.weights[:, 12]
    for name, values in (
        ("lips", marks[:, 0]),
        ("nails", marks[:, 1]),
        ("mouth", marks[:, 3]),
        ("hairline", hairline_field(identity.hair, skin.rest, head)),
    ):
        skin = with_trait(skin, name, values)
    tights = SkinnedMesh.of(layers["tights"], layers["tights"].faces, shape)
    skirt = SkinnedMesh.of(layers["skirt"], layers["skirt"].faces, shape)
    pieces = dress(outfit, tights, skirt)
    visible_skin = keep_faces(skin, ~hidden_body(outfit, skin.rest, skin.faces))
    style = identity.hair
    if style.fall is not None and any(top.hood for top in outfit.tops):
        style = replace(style, fall=max(style.fall, 0.25))  # long hair is tucked into the hood
    hair = grow_hair(style, skin)

    meshes: list[SkinnedMesh] = []
    rows: list[NDArray[np.int32]] = []
    lining: list[NDArray[np.bool_]] = []
    materials: list[Array] = []

    def add(mesh: SkinnedMesh, material: Array, *, lined: bool) -> None:
        meshes.append(mesh)
        rows.append(np.full(len(mesh.faces), len(materials), np.int32))
        lining.append(np.zeros(len(mesh.faces), bool))
        if lined:
            meshes.append(replace(mesh, faces=np.ascontiguousarray(mesh.faces[:, ::-1])))
            rows.append(rows[-1])
            lining.append(~lining[-1])
        materials.append(material)

    add(
        visible_skin,
        material_of_skin(identity.skin, identity.face, identity.hair.colour),
        lined=False,
    )
    add(hair, material_of_hair(identity.hair), lined=True)
    for piece in pieces:
        add(piece.mesh, material_of_piece(piece), lined=piece.kind != "shoe")
    mesh = _joined_with_linings(meshes)
    exact = exact_body()
    coefficients = torch.from_numpy(shape).double()
    joints = settled((exact.joint_template + exact.joint_directions @ coefficients).numpy())
    floor = float(tights.vertices[:, 1].min()) - SOLE_THICKNESS
    sole = float(joints[[7, 8], 1].mean()) - floor
    return DressedPerson(
        mesh=mesh,
        face_material=np.concatenate(rows),
        inside=np.concatenate(lining),
        materials=np.stack(materials),
        skeleton=Skeleton(joints.astype(np.float64), sole),
        shape=shape,
        skirt=_skirt_front(mesh, np.concatenate(rows), pieces),
        bending=_bending(mesh, settled(exact.joint_template.numpy())),
    )


def _joined_with_linings(meshes: list[SkinnedMesh]) -> SkinnedMesh:
    """Join, but let a lining share the vertices of the mesh before it."""
    unique: list[SkinnedMesh] = []
    starts: list[int] = []
    total = 0
    for mesh in meshes:
        if unique and mesh.vertices is unique[-1].vertices:
            starts.append(total - len(mesh.vertices))
            continue
        starts.append(total)
        unique.append(mesh)
        total += len(mesh.vertices)
    whole = joined(unique)
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return replace(whole, faces=np.ascontiguousarray(np.concatenate(faces).astype(np.int32)))


def _bending(mesh: SkinnedMesh, joints: Array) -> Array:
    """Cloth creases near the joints that bend: elbows, shoulders, hips, knees, waist."""
    reach = {
        1: 0.13,
        2: 0.13,
        3: 0.10,
        4: 0.11,
        5: 0.11,
        6: 0.10,
        16: 0.10,
        17: 0.10,
        18: 0.10,
        19: 0.10,
    }
    out = np.zeros((len(mesh.rest), 23), np.float32)
    for joint, radius in reach.items():
        distance = np.linalg.norm(mesh.rest - joints[joint], axis=1)
        out[:, joint - 1] = np.exp(-((distance / radius) ** 2))
    return out


def pose_person(person: DressedPerson, motion: Motion) -> Array:
    """(T, V, 3) float32 world positions, metres, y up, floor at 0."""
    frames = len(motion)
    pose = torch.from_numpy(motion.pose.reshape(frames, -1)).double()
    shape = torch.from_numpy(person.shape).double()[None].expand(frames, -1)
    skeleton = exact_body().skeleton(pose, shape)
    mesh = person.mesh
    feature = (skeleton.rotations[:, 1:] - torch.eye(3, dtype=torch.float64)).flatten(1)
    posed = skinned(
        mesh.vertices,
        mesh.pose_directions,
        mesh.weights,
        settled(feature.numpy()),
        settled(skeleton.transforms.numpy()),
    )
    if len(person.skirt):
        _lay_over_thighs(posed, person, skeleton)
    posed += (motion.pelvis - settled(skeleton.joints[:, 0].numpy()))[:, None]
    return posed


def _skirt_front(
    mesh: SkinnedMesh, rows: NDArray[np.int32], pieces: list[Piece]
) -> NDArray[np.int64]:
    """Vertices of the front half of the skirt, if one is worn."""
    skirts = [2 + number for number, piece in enumerate(pieces) if piece.kind == "skirt"]
    used = np.unique(mesh.faces[np.isin(rows, skirts)])
    return used[mesh.rest[used, 2] > -0.01].astype(np.int64)


def _lay_over_thighs(posed: Array, person: DressedPerson, skeleton: PosedSkeleton) -> None:
    """Push the skirt's front in `posed` (T, V, 3) up onto thighs that came through it, in place."""
    cloth = posed[:, person.skirt]
    joints = settled(skeleton.joints.numpy())
    turns = settled(skeleton.transforms[..., :3].numpy())
    for hip, knee in ((1, 4), (2, 5)):
        start = joints[:, hip]
        bone = joints[:, knee] - start
        length = np.sqrt((bone**2).sum(-1, keepdims=True))
        along = bone / length
        front = turns[:, hip, :, 2]
        front = front - (front * along).sum(-1, keepdims=True) * along
        front = front / np.sqrt((front**2).sum(-1, keepdims=True))
        side = np.cross(along, front)
        place = cloth - start[:, None]
        down = (place * along[:, None]).sum(-1) / length
        across = (place * side[:, None]).sum(-1)
        height = (place * front[:, None]).sum(-1)
        radius = _THIGH_RADIUS - 0.022 * down.clip(0, 1)
        needed = radius * (1 - (across / (1.35 * radius)) ** 2)
        # Where the thigh begins and past the knee the cloth is free.
        ends = ((down + 0.12) / 0.15).clip(0, 1) * ((1.2 - down) / 0.15).clip(0, 1)
        lift = (needed - height).clip(min=0) * ends * (needed > 0)
        cloth = cloth + lift[..., None] * front[:, None]
    posed[:, person.skirt] = cloth
