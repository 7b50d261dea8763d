"""Reduce a closed mesh to a given number of vertices, left-right symmetric, keeping vertices where they are.

Half-edge collapses ordered by quadric error (Garland and Heckbert 1997). Vertices are dropped, never moved, so morphs,
weights and texture coordinates of the smaller mesh are plain indexing. A closed mesh without handles and with V vertices
has 2 V - 4 triangles: 6890 vertices give 13776, whatever the order.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from open_body.makehuman import Array, Indices

_COS_FLIP = 0.2  # a face may turn by no more than the angle with this cosine
_SLIVER = 0.06  # twice the area over the longest edge squared


@dataclass(frozen=True)
class SmallMesh:
    kept: Indices  # (V,) indices into the large mesh, rising
    faces: Indices  # (F, 3) into kept
    texture_faces: Indices  # (F, 3) into the large mesh's texture vertices
    mirror: Indices  # (V,) the vertex on the other side


def triangulate(
    quads: Indices, texture_quads: Indices, vertices: Array, mirror: Indices
) -> tuple[Indices, Indices]:
    """Split quads along their shorter diagonal, mirror images alike. Returns (2Q, 3) twice."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    along_first = first <= second + 1e-9
    index = {frozenset(quad): i for i, quad in enumerate(quads.tolist())}
    for i, quad in enumerate(quads):
        j = index.get(frozenset(mirror[quad].tolist()), -1)
        if j > i:
            ends = quad[[0, 2]] if along_first[i] else quad[[1, 3]]
            along_first[j] = set(mirror[ends].tolist()) == set(quads[j, [0, 2]].tolist())
    corners = np.where(along_first[:, None], [[0, 1, 2, 0, 2, 3]], [[0, 1, 3, 1, 2, 3]])
    return tuple(  # type: ignore[return-value]
        np.take_along_axis(array, corners, 1).reshape(-1, 3) for array in (quads, texture_quads)
    )


def decimate(
    vertices: Array,
    texture_vertices: Array,
    faces: Indices,
    texture_faces: Indices,
    mirror: Indices,
    importance: Array,
    free: NDArray[np.bool_],
    num_vertices: int,
) -> SmallMesh:
    """Collapse edges until `num_vertices` are left.

    Args:
        vertices: (N, 3) symmetric under `mirror`. texture_vertices: (M, 2).
        faces, texture_faces: (F, 3) of one closed surface.
        mirror: (N,) the vertex on the other side. importance: (N,) factor on the cost of dropping a vertex.
        free: (N,) vertices in cavities that nobody sees: their faces may fold.
    """
    if num_vertices < 4:
        raise ValueError(f"A closed mesh has at least 4 vertices; {num_vertices} were asked for.")
    mesh = _Collapser(vertices, texture_vertices, faces, texture_faces, mirror, importance, free)
    mesh.run(num_vertices)
    kept = np.flatnonzero(mesh.alive)
    new = np.full(len(vertices), -1)
    new[kept] = np.arange(len(kept))
    live = [t for t in range(len(faces)) if mesh.face_alive[t]]
    return SmallMesh(
        kept=kept,
        faces=new[np.array([mesh.faces[t] for t in live])],
        texture_faces=np.array([mesh.texture_faces[t] for t in live]),
        mirror=new[mirror[kept]],
    )


@dataclass(frozen=True)
class _Collapse:
    """Dropping `gone` into `stays`: the two faces that vanish and where the texture corners go."""

    gone: int
    stays: int
    vanishing: tuple[int, int]
    texture: dict[int, int] = field(repr=False)


class _Collapser:
    def __init__(
        self,
        vertices: Array,
        texture_vertices: Array,
        faces: Indices,
        texture_faces: Indices,
        mirror: Indices,
        importance: Array,
        free: NDArray[np.bool_],
    ) -> None:
        self.vertices, self.texture_vertices = vertices, texture_vertices
        self.mirror, self.importance, self.free = mirror, importance, free
        self.homogeneous = np.c_[vertices, np.ones(len(vertices))]
        self.quadrics = _quadrics(vertices, faces, texture_faces)
        self.faces: list[list[int]] = faces.tolist()
        self.texture_faces: list[list[int]] = texture_faces.tolist()
        self.alive = np.ones(len(vertices), bool)
        self.face_alive = np.ones(len(faces), bool)
        self.faces_of: list[set[int]] = [set() for _ in range(len(vertices))]
        for t, corners in enumerate(self.faces):
            for corner in corners:
                self.faces_of[corner].add(t)
        self.version = np.zeros(len(vertices), int)
        self.heap: list[tuple[float, int, int, int]] = []

    def run(self, num_vertices: int) -> None:
        count = len(self.vertices)
        for vertex in range(count):
            self._push(vertex)
        while count > num_vertices:
            if not self.heap:
                raise ValueError(f"No collapse is possible below {count} vertices.")
            _, gone, stays, version = heapq.heappop(self.heap)
            if not (self.alive[gone] and self.alive[stays] and self.version[gone] == version):
                continue
            collapses = self._symmetric_collapses(gone, stays)
            if not collapses or count - len(collapses) < num_vertices:
                continue
            touched = set().union(*(self._neighbours(c.gone) for c in collapses))
            for collapse in collapses:
                self._apply(collapse)
            touched -= {c.gone for c in collapses}
            for vertex in sorted(touched):
                self._push(vertex)
            count -= len(collapses)

    def _symmetric_collapses(self, gone: int, stays: int) -> list[_Collapse]:
        """The collapse and its mirror image, or nothing unless both can be done, one after the other."""
        gone_too, stays_too = int(self.mirror[gone]), int(self.mirror[stays])
        collapse = self._check(gone, stays)
        if collapse is None:
            return []
        if gone_too == gone:
            return [collapse]
        if gone_too == stays or gone in self._neighbours(gone_too):
            return []
        collapse_too = self._check(gone_too, stays_too)
        if collapse_too is None:
            return []
        # After the first collapse `stays` also has the neighbours of `gone`. If both end in the same
        # vertex of the midline, the second must still share exactly two neighbours with it.
        if stays_too == stays:
            later = (self._neighbours(stays) | self._neighbours(gone)) - {gone, stays}
            if len(self._neighbours(gone_too) & later) != 2:
                return []
        elif gone in self._neighbours(stays_too) or gone_too in self._neighbours(stays):
            return []
        return [collapse, collapse_too]

    def _check(self, gone: int, stays: int) -> _Collapse | None:
        """None if the collapse would break the surface, tear its texture map or fold a face."""
        common = [t for t in self.faces_of[gone] if stays in self.faces[t]]
        if len(common) != 2:
            return None
        if len(self._neighbours(gone) & self._neighbours(stays)) != 2:
            return None
        texture: dict[int, int] = {}
        for t in common:
            source = self.texture_faces[t][self.faces[t].index(gone)]
            target = self.texture_faces[t][self.faces[t].index(stays)]
            if texture.setdefault(source, target) != target:
                return None
        for t in self.faces_of[gone]:
            if t in common:
                continue
            corners, texture_corners = self.faces[t], self.texture_faces[t]
            moved_texture = texture_corners[corners.index(gone)]
            if moved_texture not in texture:
                return None
            new_texture = [texture[k] if k == moved_texture else k for k in texture_corners]
            if self._texture_area(texture_corners) * self._texture_area(new_texture) <= 0:
                return None
            if not self.free[gone] and self._folds(
                corners, [stays if k == gone else k for k in corners]
            ):
                return None
        return _Collapse(gone, stays, (common[0], common[1]), texture)

    def _folds(self, before: list[int], after: list[int]) -> bool:
        """Whether a face turns too far or becomes a sliver (unless it was one)."""
        old, old_shape = self._normal(before)
        new, new_shape = self._normal(after)
        old_length, new_length = np.linalg.norm(old), np.linalg.norm(new)
        if new_length < 1e-12 or old @ new < _COS_FLIP * old_length * new_length:
            return True
        return bool(new_shape < _SLIVER and new_shape < 0.5 * old_shape)

    def _normal(self, corners: list[int]) -> tuple[Array, float]:
        a, b, c = (self.vertices[k] for k in corners)
        normal = np.cross(b - a, c - a)
        longest = max(((p - q) @ (p - q)) for p, q in ((a, b), (b, c), (c, a)))
        return normal, float(np.linalg.norm(normal) / longest)

    def _texture_area(self, corners: list[int]) -> float:
        (ax, ay), (bx, by), (cx, cy) = (self.texture_vertices[k] for k in corners)
        return float((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))

    def _apply(self, collapse: _Collapse) -> None:
        gone, stays = collapse.gone, collapse.stays
        for t in collapse.vanishing:
            self.face_alive[t] = False
            for corner in self.faces[t]:
                self.faces_of[corner].discard(t)
        for t in self.faces_of[gone]:
            place = self.faces[t].index(gone)
            self.faces[t][place] = stays
            self.texture_faces[t][place] = collapse.texture[self.texture_faces[t][place]]
            self.faces_of[stays].add(t)
        self.faces_of[gone] = set()
        self.alive[gone] = False
        self.quadrics[stays] += self.quadrics[gone]

    def _neighbours(self, vertex: int) -> set[int]:
        return {k for t in self.faces_of[vertex] for k in self.faces[t]} - {vertex}

    def _push(self, vertex: int) -> None:
        self.version[vertex] += 1
        on_midline = self.mirror[vertex] == vertex
        for other in sorted(self._neighbours(vertex)):
            if on_midline and self.mirror[other] != other:
                continue  # the midline stays on the midline
            cost = self._cost(vertex, other)
            heapq.heappush(self.heap, (cost, vertex, other, int(self.version[vertex])))

    def _cost(self, gone: int, stays: int) -> float:
        point = self.homogeneous[stays]
        error = point @ (self.quadrics[gone] + self.quadrics[stays]) @ point
        length = np.linalg.norm(self.vertices[gone] - self.vertices[stays])
        weight = self.importance[gone]
        mean_weight = (weight + self.importance[stays]) / 2
        return float((error + 1e-6 * length**2) * weight * mean_weight + 1e-9 * length * weight)


def _quadrics(vertices: Array, faces: Indices, texture_faces: Indices) -> Array:
    """(N, 4, 4) squared distances to the planes of the faces, and to walls along the texture's seams."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    normals = cross / (double_area[:, None] + 1e-15)
    planes = np.c_[normals, -(normals * corners[:, 0]).sum(1)]
    face_quadrics = np.einsum("fa,fb->fab", planes, planes) * (double_area / 2)[:, None, None]
    quadrics = np.zeros((len(vertices), 4, 4))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], face_quadrics)

    sides: dict[tuple[int, int], list[tuple[int, dict[int, int]]]] = {}
    for t, (face, texture) in enumerate(zip(faces.tolist(), texture_faces.tolist(), strict=True)):
        coordinates = dict(zip(face, texture, strict=True))
        for k in range(3):
            a, b = sorted((face[k], face[(k + 1) % 3]))
            sides.setdefault((a, b), []).append((t, coordinates))
    for (a, b), ((t, here), (s, there)) in sides.items():
        if here[a] == there[a] and here[b] == there[b]:
            continue
        edge = vertices[b] - vertices[a]
        wall = np.cross(edge, normals[t] + normals[s])
        wall /= np.linalg.norm(wall) + 1e-15
        plane = np.append(wall, -wall @ vertices[a])
        seam = np.outer(plane, plane) * (edge @ edge) / 2
        quadrics[a] += seam
        quadrics[b] += seam
    return quadrics
