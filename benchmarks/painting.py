"""The warp's inner loops: which source pixels a pixel of the target shows, and what lies beyond the silhouette."""

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.compiled import njit

Floats = NDArray[np.float32]

# Shares of the source's resolution on the surface, relative to the target's, between which a pixel turns from
# the fallback colour to the source's texture.
_BLURRED, _SHARP = 0.15, 0.45
# Share of person in a source pixel, from which on its colour counts, the more the nearer to one.
_EDGE = 0.8


def nearest_covered(face: NDArray[np.int32], band: int) -> NDArray[np.int32]:
    """(S, S) flat index of the nearest covered pixel for pixels at most `band` away, else -1."""
    uncovered = (face < 0).astype(np.uint8)
    if uncovered.all():
        return np.full(face.shape, -1, np.int32)
    distance, label = cv2.distanceTransformWithLabels(
        uncovered, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    flat = np.flatnonzero(uncovered == 0)
    index_of = np.zeros(label.max() + 1, np.int32)
    index_of[label.ravel()[flat]] = flat
    nearest = index_of[label]
    nearest[distance > band] = -1
    return nearest


@njit(nogil=True)
def _bilinear(picture: NDArray[np.uint8], x: float, y: float, out: Floats) -> None:
    """(S, S, 3) at pixel indices (x, y), clamped to the edge, into out (3,)."""
    size = picture.shape[0]
    x, y = min(max(x, 0.0), size - 1.0), min(max(y, 0.0), size - 1.0)
    left, top = min(int(x), size - 2), min(int(y), size - 2)
    fx, fy = x - left, y - top
    for k in range(3):
        upper = picture[top, left, k] * (1 - fx) + picture[top, left + 1, k] * fx
        lower = picture[top + 1, left, k] * (1 - fx) + picture[top + 1, left + 1, k] * fx
        out[k] = upper * (1 - fy) + lower * fy


@njit(nogil=True)
def _bilinear_mask(mask: NDArray[np.uint8], x: float, y: float) -> float:
    """(S, S) at pixel indices as a share of 255, zero outside."""
    size = mask.shape[0]
    if not (0 <= x <= size - 1 and 0 <= y <= size - 1):
        return 0.0
    left, top = min(int(x), size - 2), min(int(y), size - 2)
    fx, fy = x - left, y - top
    upper = mask[top, left] * (1 - fx) + mask[top, left + 1] * fx
    lower = mask[top + 1, left] * (1 - fx) + mask[top + 1, left + 1] * fx
    return (upper * (1 - fy) + lower * fy) / 255


@njit(nogil=True)
def paint(
    face: NDArray[np.int32],
    barycentric: Floats,
    nearest: NDArray[np.int32],
    faces: NDArray[np.int32],
    normals: Floats,
    colours: Floats,
    scale: float,
    pictures: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    covered: NDArray[np.bool_],
    xy: Floats,
    source_normals: Floats,
    seen: Floats,
    scales: Floats,
) -> tuple[Floats, Floats]:
    """(S, S, 3) colours on and around the body, and (S, S) how much of a pixel outside it is person."""
    size = face.shape[0]
    picture = np.zeros((size, size, 3), np.float32)
    beyond = np.zeros((size, size), np.float32)
    sample = np.zeros(3, np.float32)
    for row in range(size):
        for column in range(size):
            index = face[row, column]
            if index < 0:
                continue
            facing = 0.0
            for k in range(3):
                facing -= barycentric[row, column, k] * normals[faces[index, k], 2]
            facing = max(facing, 0.05)
            red = green = blue = total = best = 0.0
            for source in range(pictures.shape[0]):
                x = y = source_facing = visible = 0.0
                for k in range(3):
                    w, vertex = barycentric[row, column, k], faces[index, k]
                    x += w * xy[source, vertex, 0]
                    y += w * xy[source, vertex, 1]
                    source_facing -= w * source_normals[source, vertex, 2]
                    visible += w * seen[source, vertex]
                # Pixels of the source per pixel of the target on this piece of surface, at most 1.
                sharpness = visible * min(max(source_facing, 0.0) / facing, 1.0)
                if sharpness <= 0:
                    continue
                # A pixel on the edge of the mask is half scene: its colour is not the person's.
                sharpness *= max((_bilinear_mask(masks[source], x, y) - _EDGE) / (1 - _EDGE), 0.0)
                if sharpness <= 0:
                    continue
                _bilinear(pictures[source], x, y, sample)
                weight = sharpness**4
                red += weight * sample[0]
                green += weight * sample[1]
                blue += weight * sample[2]
                total += weight
                best = max(best, sharpness)
            trust = min(max((best - _BLURRED) / (_SHARP - _BLURRED), 0.0), 1.0)
            if total <= 0:
                trust, total = 0.0, 1.0
            for k in range(3):
                w = 1 - trust
                picture[row, column, k] = w * (
                    barycentric[row, column, 0] * colours[faces[index, 0], k]
                    + barycentric[row, column, 1] * colours[faces[index, 1], k]
                    + barycentric[row, column, 2] * colours[faces[index, 2], k]
                )
            picture[row, column, 0] += trust * red / total
            picture[row, column, 1] += trust * green / total
            picture[row, column, 2] += trust * blue / total
    # Outside: beyond the same point of the source's silhouette, as far as here beyond the target's.
    for row in range(size):
        for column in range(size):
            near = nearest[row, column]
            if face[row, column] >= 0 or near < 0:
                continue
            near_row, near_column = near // size, near % size
            picture[row, column] = picture[near_row, near_column]
            index = face[near_row, near_column]
            distance = np.sqrt((row - near_row) ** 2 + (column - near_column) ** 2)
            best = 0.5
            for source in range(pictures.shape[0]):
                x = y = nx = ny = visible = 0.0
                for k in range(3):
                    w, vertex = barycentric[near_row, near_column, k], faces[index, k]
                    x += w * xy[source, vertex, 0]
                    y += w * xy[source, vertex, 1]
                    nx += w * source_normals[source, vertex, 0]
                    ny += w * source_normals[source, vertex, 1]
                    visible += w * seen[source, vertex]
                flat = np.sqrt(nx * nx + ny * ny)
                if flat < 0.7 or visible < 0.5:
                    continue  # this point is not on the source's silhouette
                reach = distance * scales[source] / scale
                step_x, step_y = nx / flat * reach, ny / flat * reach
                # The whole way must be person and not body, or it leads to another limb.
                there = 1.0
                for part in range(1, 5):
                    at_x, at_y = x + step_x * part / 4, y + step_y * part / 4
                    there = min(there, _bilinear_mask(masks[source], at_x, at_y))
                    # The first pixel may still be the silhouette's own.
                    on_body = there > 0 and covered[source, int(at_y + 0.5), int(at_x + 0.5)]
                    if on_body and reach * part / 4 > 1.5:
                        there = 0.0
                if there <= best:
                    continue
                # The colour comes from a pixel further in, which is all person.
                inward = max(reach - 1.0, 0.0) / reach
                x, y = x + step_x * inward, y + step_y * inward
                best = there
                _bilinear(pictures[source], x, y, sample)
                picture[row, column] = sample
                beyond[row, column] = there
    return picture, beyond
