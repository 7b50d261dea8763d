"""Ten shape coefficients of unit variance, everything else as linear functions of them, and the joint regressor."""

from dataclasses import dataclass

import numpy as np
from open_body.makehuman import Array, Indices
from open_body.skeleton import MIRROR_JOINTS
from scipy.optimize import nnls

NUM_SHAPES = 10
_CANDIDATES = 500  # vertices near a joint that may carry it
_SUM_WEIGHT = 30.0  # how strongly a regressor row is asked to sum to one, in the units of metres
_RIDGE = 0.002


@dataclass(frozen=True)
class ShapeSpace:
    scores: Array  # (N, 10) coefficient of each sample; unit variance, uncorrelated
    explained: Array  # (10,) share of the variance

    def regress(self, samples: Array) -> tuple[Array, Array]:
        """Least squares of (N, P, 3) points on the coefficients: (P, 3) mean and (P, 3, 10) directions."""
        design = np.c_[np.ones(len(self.scores)), self.scores]
        solution = np.linalg.lstsq(design, samples.reshape(len(samples), -1), rcond=None)[0]
        return solution[0].reshape(-1, 3), np.moveaxis(
            solution[1:].reshape(NUM_SHAPES, -1, 3), 0, -1
        )


def principal_shapes(samples: Array, faces: Indices) -> ShapeSpace:
    """PCA of (N, V, 3) samples weighted by vertex area, so that dense faces and hands do not dominate."""
    mean = samples.mean(0)
    area = vertex_areas(mean, faces)
    weight = np.sqrt(area / area.mean())[:, None]
    centred = ((samples - mean) * weight).reshape(len(samples), -1)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :NUM_SHAPES] * np.sqrt(len(samples) - 1)
    height = samples[:, :, 1].max(1) - samples[:, :, 1].min(1)
    for k in range(NUM_SHAPES):  # the sign of a principal component is free: positive means taller
        if np.corrcoef(scores[:, k], height)[0, 1] < 0:
            scores[:, k] *= -1
    return ShapeSpace(scores, (singular[:NUM_SHAPES] ** 2) / (singular**2).sum())


def vertex_areas(vertices: Array, faces: Indices) -> Array:
    """(V,) a third of the area of the faces around each vertex."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.zeros(len(vertices))
    for corner in range(3):
        np.add.at(areas, faces[:, corner], np.linalg.norm(cross, axis=1) / 6)
    return areas


def joint_regressor(
    template: Array,
    directions: Array,
    joints: Array,
    joint_directions: Array,
    scores: Array,
    mirror: Indices,
) -> Array:
    """(24, V) non-negative rows that sum to one and give the joints of every shape, left-right symmetric.

    Args:
        template: (V, 3). directions: (V, 3, 10). joints: (24, 3). joint_directions: (24, 3, 10).
        scores: (N, 10) shapes on which the regressor is fitted. mirror: (V,).
    """
    shapes = template + np.einsum("vck,nk->nvc", directions, scores)
    targets = joints + np.einsum("jck,nk->njc", joint_directions, scores)
    regressor = np.zeros((24, len(template)))
    for joint in range(24):
        if MIRROR_JOINTS[joint] < joint:  # the right side is the left one's mirror image
            regressor[joint] = regressor[MIRROR_JOINTS[joint]][mirror]
            continue
        along_arm = abs(joints[joint, 0]) > 0.03 and joints[joint, 1] > -0.1
        stretch = np.array([2.5, 1, 1]) if along_arm else np.array([1, 2.5, 1])
        near = np.argsort(
            np.linalg.norm((template - joints[joint]) * stretch, axis=1), kind="stable"
        )
        near = near[:_CANDIDATES]
        rows = shapes[:, near].transpose(0, 2, 1).reshape(-1, len(near))
        system = np.r_[rows, np.full((1, len(near)), _SUM_WEIGHT), _RIDGE * np.eye(len(near))]
        wanted = np.r_[targets[:, joint].ravel(), _SUM_WEIGHT, np.zeros(len(near))]
        row, _ = nnls(system, wanted, maxiter=20000)
        row[row < 1e-3 * row.max()] = 0
        regressor[joint, near] = row
        if MIRROR_JOINTS[joint] == joint:
            regressor[joint] = regressor[joint] + regressor[joint][mirror]
    return regressor / regressor.sum(1, keepdims=True)
