"""Skinned meshes that people are sewn from: cut along a field, pushed outward, joined.

Everything a vertex carries travels with it through every operation, so cut edges are exact: a hem,
a neckline or a hairline is where a smooth field of the rest position is zero, not a row of faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import hypot

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.skinning import SkinnedPoints
from iper_toolkit.synthetic.reproducible import settled

Array = NDArray[np.floating]


@dataclass(frozen=True)
class SkinnedMesh:
    """A mesh of one person's shape in the rest pose, and what it needs to be posed and coloured."""

    vertices: Array  # (V, 3) metres, the person's own shape
    rest: Array  # (V, 3) metres on the mean shape: where colours and patterns are looked up
    weights: Array  # (V, 24) skinning
    pose_directions: Array  # (V, 3, 207)
    traits: Array  # (V, NUM_TRAITS) see TRAITS
    faces: NDArray[np.int32]  # (F, 3) counter-clockwise from outside

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "faces" and len(value) != len(self.vertices):
                raise ValueError(
                    f"{item.name} has {len(value)} rows; the mesh has {len(self.vertices)} vertices."
                )

    @classmethod
    def of(
        cls, points: SkinnedPoints, faces: torch.Tensor, shape: NDArray[np.float32]
    ) -> "SkinnedMesh":
        """The body or a garment layer in one person's shape; `shape` is (10,) coefficients."""
        template = points.template.numpy()
        directions = points.shape_directions.numpy().astype(np.float64)
        return cls(
            vertices=settled(template + directions @ shape.astype(np.float64)),
            rest=template.copy(),
            weights=points.weights.numpy(),
            pose_directions=points.pose_directions.numpy(),
            traits=np.tile(_PLAIN, (len(template), 1)),
            faces=faces.numpy().astype(np.int32),
        )


TRAITS = ("margin", "hairline", "lips", "nails", "mouth", "strand")
"""What a vertex carries besides its place.

margin: metres to the garment's edge, 1 far from any. hairline: metres inside the hair, negative
outside. lips, nails, mouth: 0..1. strand: metres along a strand of long hair, 0 elsewhere.
"""
_PLAIN = np.array([1, -1, 0, 0, 0, 0], np.float32)


def trait(mesh: SkinnedMesh, name: str) -> Array:
    """(V,) one trait, writable in place only on a mesh you made."""
    return mesh.traits[:, TRAITS.index(name)]


def with_trait(mesh: SkinnedMesh, name: str, values: Array) -> SkinnedMesh:
    traits = mesh.traits.copy()
    traits[:, TRAITS.index(name)] = values
    return replace(mesh, traits=traits)


def keep_faces(mesh: SkinnedMesh, keep: NDArray[np.bool_]) -> SkinnedMesh:
    """Some of the faces, and only the vertices they use."""
    return _with_faces(mesh, mesh.faces[keep])


def clip(mesh: SkinnedMesh, field: Array) -> SkinnedMesh:
    """Keep where `field` (V,) is positive; triangles that the zero line crosses are cut along it.

    The field becomes the trait "margin".
    """
    mesh = with_trait(mesh, "margin", np.minimum(field, 1))
    inside = field > 0
    count = inside[mesh.faces].sum(1)
    whole = mesh.faces[count == 3]
    # Rotate each crossed triangle so that its odd vertex comes first.
    crossed = mesh.faces[(count == 1) | (count == 2)]
    odd_is_inside = inside[crossed].sum(1) == 1
    is_odd = inside[crossed] == odd_is_inside[:, None]
    first = is_odd.argmax(1)
    rows = np.arange(len(crossed))
    a, b, c = (crossed[rows, (first + k) % 3] for k in range(3))
    if not len(crossed):
        return _with_faces(mesh, whole)
    edges = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), 1)
    unique, back = np.unique(edges, axis=0, return_inverse=True)
    back = back.reshape(-1) + len(mesh.vertices)
    ab, ac = back[: len(crossed)], back[len(crossed) :]
    start, end = unique[:, 0], unique[:, 1]
    share = (field[start] / (field[start] - field[end])).astype(np.float32)

    def extended(values: Array) -> Array:
        weight = share.reshape(-1, *[1] * (values.ndim - 1))
        new = values[start] * (1 - weight) + values[end] * weight
        return np.concatenate([values, new.astype(np.float32)])

    tip = odd_is_inside
    faces = np.concatenate(
        [
            whole,
            np.stack([a, ab, ac], 1)[tip],
            np.stack([b, c, ab], 1)[~tip],
            np.stack([c, ac, ab], 1)[~tip],
        ]
    ).astype(np.int32)
    longer = replace(
        mesh, **{name: extended(getattr(mesh, name)) for name in _VERTEX_FIELDS}, faces=faces
    )
    return _with_faces(longer, faces)


def moved(mesh: SkinnedMesh, offset: Array) -> SkinnedMesh:
    """(V, 3) metres added to the person's own shape; patterns stay where they were."""
    return replace(mesh, vertices=(mesh.vertices + offset).astype(np.float32))


def joined(meshes: Sequence[SkinnedMesh]) -> SkinnedMesh:
    """All meshes as one; faces in the order given."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return SkinnedMesh(
        **{
            name: np.ascontiguousarray(np.concatenate([getattr(mesh, name) for mesh in meshes]))
            for name in _VERTEX_FIELDS
        },
        faces=np.ascontiguousarray(np.concatenate(faces).astype(np.int32)),
    )


def smoothed(values: Array, faces: NDArray[np.int32], rounds: int) -> Array:
    """(V, ...) values averaged with their neighbours on the mesh, `rounds` times."""
    from scipy.sparse import coo_matrix

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    count = len(values)
    graph = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (count, count)).tocsr()
    graph.data[:] = 1
    degree = np.maximum(np.asarray(graph.sum(1)).ravel(), 1)
    flat = values.reshape(count, -1).astype(np.float64)
    for _ in range(rounds):
        flat = 0.5 * flat + 0.5 * (graph @ flat) / degree[:, None]
    return flat.reshape(values.shape).astype(np.float32)


def wave_noise(points: Array, seed: int, wavelength: float) -> NDArray[np.float32]:
    """(V,) smooth seeded noise in about [-1, 1] at (V, 3) points: nine waves in random directions.

    Args:
        wavelength: metres from crest to crest, about.
    """
    random = np.random.default_rng(seed)
    x, y, z = np.asarray(points, np.float64).T
    total = np.zeros(len(points))
    for _ in range(9):
        u, v, w = random.normal(size=3).tolist()
        rate = 2 * np.pi / (wavelength * random.uniform(0.6, 1.6) * hypot(u, v, w))
        total += np.sin(rate * (u * x + v * y + w * z) + random.uniform(0, 2 * np.pi))
    return (total / 4).astype(np.float32)


_VERTEX_FIELDS = ("vertices", "rest", "weights", "pose_directions", "traits")


def _with_faces(mesh: SkinnedMesh, faces: NDArray[np.int32]) -> SkinnedMesh:
    used, back = np.unique(faces, return_inverse=True)
    return SkinnedMesh(
        **{name: getattr(mesh, name)[used] for name in _VERTEX_FIELDS},
        faces=back.reshape(-1, 3).astype(np.int32),
    )


def attached(
    points: Array, faces: NDArray[np.int32], host: SkinnedMesh, neighbours: int = 8
) -> SkinnedMesh:
    """Procedural points (V, 3) on the mean shape that follow `host`'s shape and pose near them."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(host.rest).query(points, k=neighbours)
    share = 1 / (distance + 0.01) ** 2
    share = (share / share.sum(1, keepdims=True)).astype(np.float32)

    def blended(values: Array) -> Array:
        total = np.zeros((len(points), *values.shape[1:]), np.float32)
        for near in range(neighbours):
            weight = share[:, near].reshape(-1, *[1] * (values.ndim - 1))
            total += weight * values[index[:, near]]
        return total

    return SkinnedMesh(
        vertices=points.astype(np.float32) + blended(host.vertices - host.rest),
        rest=points.astype(np.float32),
        weights=blended(host.weights),
        pose_directions=blended(host.pose_directions),
        traits=np.tile(_PLAIN, (len(points), 1)),
        faces=faces.astype(np.int32),
    )


def grid_faces(rows: int, columns: int, *, closed: bool = False) -> NDArray[np.int32]:
    """Triangles of a (rows, columns) grid of points; `closed` joins the last column to the first."""
    next_column = np.roll(np.arange(columns), -1) if closed else np.arange(1, columns)
    column = np.arange(columns if closed else columns - 1)
    top = np.arange(rows - 1)[:, None] * columns
    a, b = top + column, top + next_column[: len(column)]
    c, d = a + columns, b + columns
    return np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    ).astype(np.int32)
