"""Stage `front`: the body drawn in every frame - how frontal it is, and its silhouette."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.model import Body, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster.cpu import rasterize_array, vertex_indices
from iper_toolkit.stages import ClipWork
from iper_toolkit.stages.fit import FittedClip

SIZE = 256
"""Pixels of a side; the reference ranks frames at this size."""

_BATCH = 32  # frames skinned at a time: enough for the matrix products, small in memory


def run(work: ClipWork) -> None:
    """Makes ``front.npz``: score (T,) int32 and silhouette (T, 256, 32) uint8, a bit a pixel."""
    fitted = FittedClip.read(work.made("fit", "fit.npz"))
    score, silhouette = draw(load_body(work.options.body), fitted)
    np.savez_compressed(work.folder / "front.npz", score=score, silhouette=silhouette)


def read_silhouettes(path: Path) -> NDArray[np.uint8]:
    """(T, 256, 32) uint8 packed bits; `unpack` makes a mask of one."""
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive["silhouette"], np.uint8)


def unpack(silhouette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(256, 32) packed bits -> (256, 256) uint8, 255 where the body is."""
    return np.unpackbits(silhouette, axis=-1) * np.uint8(255)


def draw(body: Body, fitted: FittedClip) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Skin and rasterize every frame.

    Returns:
        (T,) int32, the number of visible front faces of body and head (Liu et al. 2021's ranking of
        source frames), and (T, 256, 32) uint8, the silhouettes with a bit a pixel.
    """
    if body.surface is None:
        raise ValueError(f"Body {body.id} has no part lists, so its front cannot be told.")
    # Matrix products of float32 end in other last bits when their numbers lie elsewhere in memory, and
    # a face counts or not by one bit. Rounded from float64, every process draws the same body.
    exact = body.to(dtype=torch.float64)
    num_frames = len(fitted.params)
    faces = vertex_indices(body.faces.numpy())
    front_faces = torch.cat([body.surface.front_body, body.surface.front_face]).unique().numpy()
    score = np.zeros(num_frames, np.int32)
    silhouette = np.zeros((num_frames, SIZE, SIZE // 8), np.uint8)
    face = np.empty((SIZE, SIZE), np.int32)
    barycentric = np.empty((SIZE, SIZE, 3), np.float32)
    depth = np.empty((SIZE, SIZE), np.float32)
    seen = np.zeros(len(faces) + 1, bool)  # the last one stands for "no face", index -1
    with torch.no_grad():
        for first in range(0, num_frames, _BATCH):
            params = fitted.params[first : first + _BATCH].to(dtype=torch.float64)
            points = project(exact.pose(params).vertices, params.camera).float().numpy()
            for offset, vertices in enumerate(points):
                rasterize_array(vertices, faces, SIZE, face, barycentric, depth)
                seen[:] = False
                seen[face] = True
                score[first + offset] = np.count_nonzero(seen[front_faces])
                silhouette[first + offset] = np.packbits(face >= 0, axis=-1)
    return score, silhouette
