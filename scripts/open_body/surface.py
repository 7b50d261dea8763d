"""What is where on the body: masks read at vertices, cavities, smoothed skin, landmarks, parts of faces."""

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from open_body.makehuman import BODY_VERTICES, Array, Indices, MakeHuman
from open_body.skeleton import INDEX

from iper_toolkit.body.parts import DETAILS

Flags = NDArray[np.bool_]


def read_mask(source: MakeHuman, name: str, uv: Array, margin: float = 0) -> Flags:
    """(P,) whether a mask is set at texture coordinates (P, 2), v up, at least `margin` pixels from its border."""
    mask = (source.mask(name) > 127).astype(np.uint8)
    inward = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    height, width = mask.shape
    row = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    column = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    return inward[row, column] > margin


def vertex_uv(source: MakeHuman) -> Array:
    """(BODY_VERTICES, 2) one of the texture coordinates of each body vertex."""
    uv = np.zeros((BODY_VERTICES, 2))
    uv[source.quads["body"].ravel()] = source.texture_vertices[source.texture_quads["body"].ravel()]
    return uv


def skin_smoother(source: MakeHuman, uv: Array) -> tuple[Indices, scipy.sparse.csr_matrix]:
    """Flattens the nipples: (P,) vertices, and the (P, BODY_VERTICES) map that gives their smooth places.

    The smooth places have no curvature of curvature (Laplacian of Laplacian zero) with everything else fixed, which is
    linear in the positions, so it can be applied to every shape alike.
    """
    quads = source.quads["body"]
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    shape = (BODY_VERTICES, BODY_VERTICES)
    adjacency = scipy.sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape)
    adjacency = ((adjacency + adjacency.T) > 0).astype(float).tocsr()
    degree = np.asarray(adjacency.sum(1)).ravel()
    region = read_mask(source, "aureolae", uv).astype(float)
    region = adjacency @ region + region > 0
    region |= region[source.mirror[:BODY_VERTICES]]
    inside, outside = np.flatnonzero(region), np.flatnonzero(~region)
    laplacian = scipy.sparse.identity(BODY_VERTICES) - scipy.sparse.diags(1 / degree) @ adjacency
    twice = (laplacian @ laplacian).tocsr()[inside]
    solved = -scipy.sparse.linalg.spsolve(twice[:, inside].tocsc(), twice[:, outside].tocsc())
    smoother = scipy.sparse.lil_matrix((len(inside), BODY_VERTICES))
    smoother[:, outside] = solved
    return inside, smoother.tocsr()


def find_cavities(source: MakeHuman, vertices: Array, uv: Array) -> tuple[Flags, Flags]:
    """(BODY_VERTICES,) flags of the inside of the mouth and of the eye sockets. `vertices` (N, 3)."""
    mouth = read_mask(source, "inside-mouth", uv)
    body = vertices[:BODY_VERTICES]
    sockets = np.zeros(BODY_VERTICES, bool)
    for group in ("helper-l-eye", "helper-r-eye"):
        eyeball = vertices[np.unique(source.quads[group])]
        centre = (eyeball.max(0) + eyeball.min(0)) / 2
        radius = np.linalg.norm(eyeball - centre, axis=1).max()
        behind_lids = body[:, 2] < centre[2] + 0.5 * radius
        sockets |= (np.linalg.norm(body - centre, axis=1) < 1.15 * radius) & behind_lids
    mirror = source.mirror[:BODY_VERTICES]
    return mouth | mouth[mirror], sockets & sockets[mirror]


def importance(weights: Array, mouth: Flags, sockets: Flags) -> Array:
    """(BODY_VERTICES,) how much a vertex matters in the reduction: faces more, toes and cavities hardly."""

    def follows(threshold: float, *joints: str) -> Flags:
        share = weights[:BODY_VERTICES, [INDEX[name] for name in joints]].sum(1)
        return share > threshold

    factor = np.ones(BODY_VERTICES)
    factor[follows(0.5, "left_wrist", "right_wrist", "left_hand", "right_hand")] = 0.6
    factor[follows(0.5, "left_ankle", "right_ankle")] = 0.35
    factor[follows(0.6, "left_foot", "right_foot")] = 0.15
    factor[follows(0.5, "head")] = 2.0
    factor[sockets] = 1e-3
    factor[mouth] = 1e-4
    return factor


def find_landmarks(
    source: MakeHuman,
    kept: Indices,
    mirror: Indices,
    template: Array,
    weights: Array,
    uv: Array,
    eyes: tuple[Array, Array],
) -> dict[str, int]:
    """The vertices that smplx adds to the joints, and the top of the head.

    Args:
        kept: (V,) vertices of the base mesh. mirror: (V,). template: (V, 3). weights: (V, 24). uv: (V, 2).
        eyes: centres of the left and the right eyeball.
    """
    left_eye, _ = eyes
    head = np.flatnonzero(weights[:, INDEX["head"]] > 0.5)
    midline = head[mirror[head] == head]
    ears = np.flatnonzero(read_mask(source, "ears", uv) & (template[:, 0] > 0))

    def nearest(point: Array) -> int:
        return int(np.argmin(np.linalg.norm(template - point, axis=1)))

    def farthest(candidates: Indices, direction: tuple[float, float, float]) -> int:
        return int(candidates[np.argmax(template[candidates] @ np.array(direction))])

    def follows(bone: str) -> Indices:
        vertices = [vertex for vertex, weight in source.bone_weights[bone] if weight > 0.5]
        return np.flatnonzero(np.isin(kept, vertices))

    ankle = np.flatnonzero(weights[:, INDEX["left_ankle"]] > 0.5)
    left = {
        "leye": nearest(left_eye + [0, 0, 0.012]),
        "lear": nearest(template[ears].mean(0)),
        "LBigToe": farthest(follows("toe1-2.L"), (0, 0, 1)),
        "LSmallToe": farthest(follows("toe5-3.L"), (0, 0, 1)),
        "LHeel": farthest(ankle, (0, -0.5, -1)),
        "lthumb": farthest(follows("finger1-3.L"), (1, 0, 0.7)),
        "lindex": farthest(follows("finger2-3.L"), (1, 0, 0)),
        "lmiddle": farthest(follows("finger3-3.L"), (1, 0, 0)),
        "lring": farthest(follows("finger4-3.L"), (1, 0, 0)),
        "lpinky": farthest(follows("finger5-3.L"), (1, 0, 0)),
    }
    right = {
        name.replace("l", "r", 1) if name[0] == "l" else "R" + name[1:]: int(mirror[v])
        for name, v in left.items()
    }
    return {
        "nose": farthest(midline[template[midline, 1] < left_eye[1]], (0, 0, 1)),
        "head_top": farthest(midline, (0, 1, 0)),
        **left,
        **right,
    }


def label_details(source: MakeHuman, face_uv: Array) -> NDArray[np.uint8]:
    """(F,) index into DETAILS by the masks at the middle of each face's texture triangle."""
    detail = np.zeros(len(face_uv), np.uint8)
    for name, mask in (
        ("face", "face"),
        ("ears", "ears"),
        ("lips", "lips"),
        ("eyelids", "eyelids"),
        ("fingernails", "fingernails"),
        ("toenails", "toenails"),
        ("mouth", "inside-mouth"),
    ):
        detail[read_mask(source, mask, face_uv)] = DETAILS.index(name)
    return detail
