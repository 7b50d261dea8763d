"""The dressed body: the naked one, inflated by what its person wears, as masks show it.

(Liu et al. 2021 let a body carry offsets of its vertices; here they come from silhouettes.) What a target shows
of the surface then has the person's outline, clothes and hair included as far as they cling, and flows from it reach
what they wear.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from iper_toolkit.body import Body, BodyParams
from iper_toolkit.body.thickness import SMOOTHNESS, edges_of, measure_thickness, spread
from iper_toolkit.camera import project
from iper_toolkit.raster.normals import vertex_normals


def thickness_of(body: Body, params: BodyParams, masks: NDArray[np.uint8]) -> Tensor:
    """What people wear, in each of some pictures.

    Args:
        body: of the fits.
        params: (N).
        masks: (N, S, S) uint8, 255 = person.

    Returns:
        (N, V) float32 metres along the vertices' normals; a little below 0 where the fit is too wide.
    """
    faces = body.faces.cpu().numpy().astype(np.int32)
    neighbours = _edges(faces.tobytes(), body.num_vertices)
    posed = body.pose(params.to(body.template.device, body.template.dtype)).vertices.float().cpu()
    found = []
    for vertices, camera, mask in zip(
        posed.numpy(), params.camera.float().cpu().numpy(), masks, strict=True
    ):
        measured, known = measure_thickness(vertices, faces, camera, mask)
        total = np.where(known, measured, 0).astype(np.float32)
        found.append(spread(total, known.astype(np.float32), neighbours, SMOOTHNESS))
    return torch.from_numpy(np.stack(found))


def dressed(body: Body, params: BodyParams, thickness: Tensor | None) -> Tensor:
    """Posed and projected vertices of the inflated body.

    Args:
        body: in the precision to pose in. params: (N), on its device.
        thickness: (V,) or (N, V) metres; None: the naked body.

    Returns:
        (N, V, 3) float32 NDC and depth, rounded from the body's precision.
    """
    exact = params.to(body.template.device, body.template.dtype)
    vertices = body.pose(exact).vertices
    if thickness is not None:
        normals = vertex_normals(vertices, body.faces)
        reach = thickness.to(vertices.device)[..., None]
        vertices = vertices + (normals * reach).to(vertices.dtype)
    return project(vertices, exact.camera).float()


def worn_by_owners(thickness: Sequence[Tensor], owned: Tensor, faces: Tensor) -> Tensor:
    """One thickness of several people's, each where the surface is theirs.

    Args:
        thickness: (V,) of each. owned: (P, F) bool, the faces taken from each. faces: (F, 3).

    Returns:
        (V,); of a vertex between faces of two people, the later one's; of one that nobody gives, the first one's.
    """
    worn = thickness[0].clone()
    for own, theirs in zip(owned, thickness, strict=True):
        vertices = faces[own].unique()
        worn[vertices] = theirs[vertices]
    return worn


@lru_cache(maxsize=4)
def _edges(faces: bytes, count: int) -> sparse.csr_matrix:
    return edges_of(np.frombuffer(faces, np.int32).reshape(-1, 3), count)
