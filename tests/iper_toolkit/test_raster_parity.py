"""The rasterizer against what the reference renderer drew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit import camera
from iper_toolkit.raster import rasterize

# The reference computes its weights by an inverse with cancellation; 1e-3 is its own error and more.
WEIGHT_TOLERANCE = 1e-3

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def reference(fixtures_folder: Path) -> dict[str, NDArray]:
    with np.load(fixtures_folder / "pipeline" / "raster.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def projected(reference: dict[str, NDArray]) -> Tensor:
    return camera.project(torch.from_numpy(reference["verts"]), torch.from_numpy(reference["cam"]))


def texture_corners(reference: dict[str, NDArray], faces: str) -> NDArray:
    """(F, 3, 2) NDC of the texture, y down, of each face's corners."""
    u, v = reference["vt"].T
    return np.stack([2 * u - 1, 2 * (1 - v) - 1], -1)[reference[faces]]


@pytest.mark.parametrize(
    ("faces", "face_map", "weights"),
    [("faces_smpl", "fim", "wim"), ("faces_obj", "obj_fim", "obj_wim")],
)
def test_bodies(
    reference: dict[str, NDArray], projected: Tensor, faces: str, face_map: str, weights: str
) -> None:
    fragments = rasterize(projected, torch.from_numpy(reference[faces]), 64)
    np.testing.assert_array_equal(fragments.face.numpy(), reference[face_map])
    np.testing.assert_allclose(
        fragments.barycentric.numpy(), reference[weights], atol=WEIGHT_TOLERANCE
    )


def test_the_texture_as_a_picture(reference: dict[str, NDArray]) -> None:
    corners = texture_corners(reference, "faces_vt_enc")
    flat = torch.from_numpy(np.concatenate([corners, np.ones((len(corners), 3, 1))], -1))
    faces = torch.arange(3 * len(corners)).reshape(-1, 3)
    np.testing.assert_allclose(flat.numpy(), reference["f_img2uvs"], atol=1e-6)
    fragments = rasterize(flat.reshape(1, -1, 3), faces, 64)
    np.testing.assert_array_equal(fragments.face.numpy(), reference["uv_fim"])
    np.testing.assert_allclose(
        fragments.barycentric.numpy(), reference["uv_wim"], atol=WEIGHT_TOLERANCE
    )


def test_corners_of_faces_in_the_picture_and_in_the_texture(
    reference: dict[str, NDArray], projected: Tensor
) -> None:
    corners = projected[:, torch.from_numpy(reference["faces_smpl"]), :2]
    np.testing.assert_allclose(corners.numpy(), reference["f2pts"], atol=1e-6)
    np.testing.assert_allclose(
        texture_corners(reference, "faces_vt_uv"), reference["f_uvs2img"], atol=1e-6
    )


def test_silhouette_is_the_mean_of_four_samples(
    reference: dict[str, NDArray], projected: Tensor
) -> None:
    fragments = rasterize(projected, torch.from_numpy(reference["faces_smpl"]), 128)
    samples = fragments.covered.float().reshape(-1, 64, 2, 64, 2)
    np.testing.assert_array_equal(samples.mean((2, 4)).numpy(), reference["sil_aa"])


def test_head(reference: dict[str, NDArray], projected: Tensor) -> None:
    fragments = rasterize(projected, torch.from_numpy(reference["faces_smpl"]), 64)
    first, end = reference["part_face_start"][0], reference["part_face_end"][0]
    head = (fragments.face >= first) & (fragments.face < end)
    np.testing.assert_array_equal(head[:, None].float().numpy(), reference["head_map"])
