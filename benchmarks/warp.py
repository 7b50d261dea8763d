"""A baseline that learns nothing: source pixels carried by the body's surface over the background plate.

Each pixel of the target body knows which point of the surface it shows, and where the source pictures
show that point: ``T(p) = sum_k w_k * x_k``, the barycentric mean of the face's projected source vertices
(Liu et al. 2019, eq. 5). Four things make pictures out of that:

- *Clothes have volume.* The mask of the source shows at the silhouette how far a person reaches beyond the
  naked body. These measurements are spread smoothly over the mesh, and the body is inflated by them.
- *What a source does not see.* A surface point counts as seen where its face is in the source's face map
  and is not viewed much more obliquely than in the target. Among several sources the best view wins.
- *What no source sees* takes the colour of its mirrored point (left for right), else of the point on the other
  side of the same limb (front for back; not on the head), else what diffuses there over the surface. The
  scalp takes the colour of the hair that is seen.
- *Hair and loose clothes* outside the inflated body come along from beyond the source's silhouette,
  where the source's mask says person.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from benchmarks.methods import Dressed, Motion, Person, Setup
from benchmarks.painting import nearest_covered, paint
from iper_toolkit.body import PARTS, Body, BodyParams
from iper_toolkit.body.parts import part_ids
from iper_toolkit.body.thickness import edges_of, look_up, measure_thickness, spread
from iper_toolkit.camera import ndc_to_pixels, project
from iper_toolkit.raster.cpu import rasterize_array
from iper_toolkit.raster.shading import vertex_normals_array

Floats = NDArray[np.float32]

# How strongly neighbours share their thickness, relative to one measurement.
_THICKNESS_SMOOTHNESS = 4.0
# Loose hair and clothes are looked for this far outside the inflated body, in shares of the picture's side.
_BAND = 0.05
# Structures beyond the body that are narrower than this are dropped.
_GRAIN = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
# The two ears among a body's landmark vertices.
_EARS = slice(3, 5)
# A body is posed this many frames at a time.
_BATCH = 16


@dataclass(frozen=True)
class _Mesh:
    """What is known of the body's surface before anybody is seen."""

    faces: NDArray[np.int32]  # (F, 3)
    neighbours: sparse.csr_matrix  # (V, V) 1 where an edge joins two vertices
    mirrored: NDArray[np.int64]  # (V,) the vertex at (-x, y, z) in the rest pose
    opposite: NDArray[np.int64]  # (V, 8) vertices on the other side of the same limb, nearest first
    head: NDArray[np.bool_]  # (V,)
    scalp: NDArray[np.bool_]  # (V,) the head above the ears, without the face
    crown: NDArray[np.bool_]  # (V,) the upper half of the scalp, where hair is seen from the front
    facial: NDArray[np.bool_]  # (V,) the face proper: its colours stay there


@dataclass(frozen=True)
class _View:
    """One source, as the inflated body sees it."""

    picture: NDArray[np.uint8]  # (S, S, 3)
    mask: NDArray[np.uint8]  # (S, S)
    covered: NDArray[np.bool_]  # (S, S) where the inflated body is
    xy: Floats  # (V, 2) pixels
    normals: Floats  # (V, 3) posed, unit length; z < 0 faces the viewer
    seen: Floats  # (V,) 1 where the vertex is visible


@dataclass(frozen=True)
class _Look:
    """What the sources say of one person."""

    views: list[_View]
    scales: Floats  # (n,) of the views' cameras
    thickness: Floats  # (V,) metres that clothes reach beyond the body
    measured: Floats  # (V,) metres, sum of the measurements that it was spread from
    weight: Floats  # (V,) how many there were


class Warp:
    """Source pixels carried by the body's surface into the target pose, over the background plate."""

    name = "warp"
    version = "1"
    weights = ""

    def setup(self, setup: Setup) -> None:
        """Raises ValueError if appearance is to be transferred on a body that does not tell its parts."""
        if "transfer" in setup.tasks and setup.body.surface is None:
            raise _no_parts(setup.body)
        self._size = setup.size
        # Matrix products in float32 differ in the last bit from run to run (with threads and memory alignment),
        # and a pixel in a hundred thousand with them. Rounded from float64, the same frame is the same picture.
        self._body = setup.body.to(dtype=torch.float64)
        self._mesh = _describe_mesh(setup.body)
        self._surface = setup.body.surface
        self._band = max(1, round(_BAND * setup.size))
        # Compiles the loops on a fresh machine, so that the first person's seconds are like the others'.
        self.personalize(_nobody(setup))
        self._draw_one(self._pose(_at_rest(setup.body))[0], np.array([1, 0, 0], np.float32))

    def personalize(self, person: Person) -> None:
        everywhere = np.ones(len(self._mesh.head), bool)
        self._wear([self._look_at(person)], [everywhere], person.background)

    def dress(self, wearers: Sequence[Dressed]) -> None:
        """Each point of the body is painted from the pictures of whoever gives its part."""
        given = [self._vertices_of(wearer.parts) for wearer in wearers]
        # What several claim is the last one's, and what nobody does is the first one's.
        owner = np.zeros(len(self._mesh.head), np.int64)
        for k, vertices in enumerate(given):
            owner[vertices] = k
        looks = [self._look_at(wearer.person) for wearer in wearers]
        self._wear(looks, [owner == k for k in range(len(looks))], wearers[0].person.background)

    def _vertices_of(self, parts: Sequence[str]) -> NDArray[np.bool_]:
        """(V,) the vertices of parts by their words."""
        if self._surface is None:
            raise _no_parts(self._body)
        chosen = np.zeros(len(self._mesh.head), bool)
        chosen[self._mesh.faces[self._surface.faces_of(part_ids(parts)).numpy()]] = True
        return chosen

    def _look_at(self, person: Person) -> "_Look":
        """What the sources say of one person."""
        mesh = self._mesh
        vertices = self._pose(person.params)
        cameras = person.params.camera.numpy()
        measured = np.zeros(len(mesh.head), np.float32)
        weight = np.zeros(len(mesh.head), np.float32)
        for posed, camera, mask in zip(vertices, cameras, person.masks, strict=True):
            thickness, found = measure_thickness(posed, mesh.faces, camera, mask)
            measured += np.where(found, thickness, 0)
            weight += found
        thickness = spread(measured, weight, mesh.neighbours, _THICKNESS_SMOOTHNESS)
        views = [
            self._see(posed, thickness, camera, picture, mask)
            for posed, camera, picture, mask in zip(
                vertices, cameras, person.pictures, person.masks, strict=True
            )
        ]
        scales = cameras[:, 0].astype(np.float32)
        return _Look(views, scales, thickness, measured, weight)

    def _wear(
        self,
        looks: Sequence["_Look"],
        owned: Sequence[NDArray[np.bool_]],
        background: NDArray[np.uint8],
    ) -> None:
        """Make one appearance of several: each vertex as the one look that owns it has it."""
        mesh = self._mesh
        measured = np.zeros(len(mesh.head), np.float32)
        weight, self._colours = np.zeros_like(measured), np.zeros((len(measured), 3), np.float32)
        views = []
        for look, mine in zip(looks, owned, strict=True):
            measured[mine], weight[mine] = look.measured[mine], look.weight[mine]
            self._colours[mine] = paint_vertices(look.views, mesh)[mine]
            views += [replace(view, seen=view.seen * mine) for view in look.views]
        # Spread anew, so that nothing steps from one person's clothes to the other's head.
        self._thickness = (
            looks[0].thickness
            if len(looks) == 1
            else spread(measured, weight, mesh.neighbours, _THICKNESS_SMOOTHNESS)
        )
        self._background = background
        self._stacked = _Stack(
            np.stack([view.picture for view in views]),
            np.stack([view.mask for view in views]),
            np.stack([view.covered for view in views]),
            np.stack([view.xy for view in views]),
            np.stack([view.normals for view in views]),
            np.stack([view.seen for view in views]),
            np.concatenate([look.scales for look in looks]),
        )

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        for first in range(0, len(motion), _BATCH):
            params = motion.params[slice(first, first + _BATCH)]
            for posed, camera in zip(self._pose(params), params.camera.numpy(), strict=True):
                yield self._draw_one(posed, camera)

    def _draw_one(self, posed: Floats, camera: Floats) -> NDArray[np.uint8]:
        normals, points = self._inflated(posed, self._thickness, camera)
        face, barycentric, _ = rasterize_array(points, self._mesh.faces, self._size)
        fine, _, _ = rasterize_array(points, self._mesh.faces, 2 * self._size)
        coverage = cv2.resize(
            (fine >= 0).astype(np.float32), (self._size, self._size), interpolation=cv2.INTER_AREA
        )
        nearest = nearest_covered(face, self._band)
        picture, beyond = paint(
            face,
            barycentric,
            nearest,
            self._mesh.faces,
            normals,
            self._colours,
            float(camera[0]),
            *self._stacked.arrays,
        )
        # What clings to the edge in single pixels, or floats freely, is noise of mask and fit, not hair.
        person = ((face >= 0) | (beyond > 0)).astype(np.uint8)
        _, piece = cv2.connectedComponents(cv2.morphologyEx(person, cv2.MORPH_OPEN, _GRAIN))
        beyond[~np.isin(piece, np.unique(piece[(face >= 0) & (piece > 0)]))] = 0
        alpha = np.maximum(coverage, beyond)[..., None]
        blended = picture * alpha + self._background * (1 - alpha)
        return np.rint(blended).astype(np.uint8)

    def _pose(self, params: BodyParams) -> Floats:
        exact = BodyParams(
            params.body_id, params.camera.double(), params.pose.double(), params.shape.double()
        )
        with torch.inference_mode():
            return self._body.pose(exact).vertices.float().numpy()

    def _inflated(self, posed: Floats, thickness: Floats, camera: Floats) -> tuple[Floats, Floats]:
        """Normals of the posed body and its inflated vertices in NDC, (V, 3) both."""
        normals = vertex_normals_array(posed, self._mesh.faces)
        inflated = torch.from_numpy(posed + normals * thickness[:, None])
        return normals, project(inflated, torch.from_numpy(camera)).numpy()

    def _see(
        self,
        posed: Floats,
        thickness: Floats,
        camera: Floats,
        picture: NDArray[np.uint8],
        mask: NDArray[np.uint8],
    ) -> _View:
        normals, points = self._inflated(posed, thickness, camera)
        face, _, _ = rasterize_array(points, self._mesh.faces, self._size)
        seen = np.zeros(len(points), np.float32)
        seen[self._mesh.faces[np.unique(face[face >= 0])]] = 1
        return _View(picture, mask, face >= 0, _to_pixels(points, self._size), normals, seen)


class WarpClothes(Warp):
    """As warp, but of transfer it shows whoever gives the clothes, head and all: nothing is transferred.

    What a method of transfer must beat. Where the rest of the picture is from the truth's own clip it scores as well
    as `warp`: such scores hardly see whose head it is.
    """

    name = "warp-clothes"

    def dress(self, wearers: Sequence[Dressed]) -> None:
        self.personalize(replace(wearers[-1].person, background=wearers[0].person.background))


@dataclass(frozen=True)
class _Stack:
    """All views as arrays with the source first, for the compiled loop."""

    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    covered: NDArray[np.bool_]
    xy: Floats
    normals: Floats
    seen: Floats
    scales: Floats

    @property
    def arrays(self) -> tuple[NDArray, ...]:
        return (
            self.pictures,
            self.masks,
            self.covered,
            self.xy,
            self.normals,
            self.seen,
            self.scales,
        )


def _no_parts(body: Body) -> ValueError:
    return ValueError(
        f"The body {body.id} does not say which part a face belongs to, so nobody's clothes can be told from their "
        "head. Use the open body, put the part files of your SMPL beside it, or leave transfer out with --task."
    )


def _at_rest(body: Body) -> BodyParams:
    return BodyParams(
        body.id,
        torch.tensor([[1.0, 0, 0]]),
        torch.zeros(1, 3 * body.num_joints),
        torch.zeros(1, 10),
    )


def _nobody(setup: Setup) -> Person:
    """A person of one black picture, whose body fills their mask."""
    size = setup.size
    return Person(
        clip="",
        frames=(0,),
        pictures=np.zeros((1, size, size, 3), np.uint8),
        masks=np.full((1, size, size), 255, np.uint8),
        params=_at_rest(setup.body),
        background=np.zeros((size, size, 3), np.uint8),
    )


def _describe_mesh(body: Body) -> _Mesh:
    faces = body.faces.numpy().astype(np.int32)
    template = body.template.numpy()
    count = len(template)
    neighbours = edges_of(faces, count)
    _, mirrored = cKDTree(template).query(template * np.array([-1, 1, 1], np.float32))
    _, opposite = cKDTree(template[:, :2]).query(template[:, :2], k=24)
    head, facial = np.zeros(count, bool), np.zeros(count, bool)
    if body.surface is not None:
        head[faces[(body.surface.part == PARTS.index("head")).numpy()]] = True
        facial[faces[body.surface.front_face.numpy()]] = True
    height = template[:, 1]
    ears = height[list(body.landmark_vertices[_EARS])].max(initial=-np.inf)
    scalp = head & ~facial & (height > ears)
    crown = scalp & (height > (ears + height[scalp].max(initial=ears)) / 2)
    return _Mesh(faces, neighbours, mirrored, opposite, head, scalp, crown, facial)


def _to_pixels(points: Floats, size: int) -> Floats:
    """(V, >=2) NDC -> (V, 2) pixel indices, fractions kept."""
    return ndc_to_pixels(torch.from_numpy(points[:, :2]), size).numpy()


def paint_vertices(views: list[_View], mesh: _Mesh) -> Floats:
    """(V, 3) a colour for every vertex, 0 .. 255: seen, else mirrored, else opposite, else diffused."""
    colours = np.zeros((len(mesh.head), 3), np.float32)
    known = np.zeros(len(mesh.head), bool)
    # Well inside the mask first; fingers have nothing there, and take what is nearer to its edge.
    for margin in (5, 3, 1):
        total, weight = np.zeros_like(colours), np.zeros(len(known), np.float32)
        for view in views:
            inner = cv2.erode(view.mask, np.ones((margin, margin), np.uint8)).astype(np.float32)
            facing = -view.normals[:, 2]
            inside = (look_up(inner, view.xy[None])[0] > 200) & (facing > 0.1)
            own = np.where(inside, view.seen * facing**2, 0)
            blurred = cv2.blur(view.picture, (3, 3) if margin > 1 else (1, 1)).astype(np.float32)
            planes = [np.ascontiguousarray(blurred[..., k]) for k in range(3)]
            total += own[:, None] * np.stack([look_up(p, view.xy[None])[0] for p in planes], -1)
            weight += own
        new = ~known & (weight > 0.01)
        colours[new] = total[new] / weight[new, None]
        known |= new
    filled, has = colours.copy(), known.copy()
    from_twin = ~known & known[mesh.mirrored]
    filled[from_twin], has[from_twin] = colours[mesh.mirrored[from_twin]], True
    for k in range(mesh.opposite.shape[1] - 1, -1, -1):  # the nearest comes last and stays
        other = mesh.opposite[:, k]
        usable = ~known & ~from_twin & ~mesh.head & ~mesh.head[other] & known[other]
        filled[usable], has[usable] = colours[other[usable]], True
    # Hair: what is seen of it at the front covers the scalp. Where none is seen, skin does.
    unseen_scalp = mesh.scalp & ~known & ~from_twin
    seen_scalp = mesh.crown & known
    if seen_scalp.any():
        filled[unseen_scalp], has[unseen_scalp] = np.median(colours[seen_scalp], axis=0), True
    # The face proper must not diffuse around the head.
    anchors = has & ~(mesh.facial & ~known)
    hair = np.where(mesh.facial, 0, anchors).astype(np.float32)
    diffused = spread(filled * hair[:, None] * 1e3, hair * 1e3, mesh.neighbours, 1.0)
    return np.where(anchors[:, None], filled, diffused).astype(np.float32)
