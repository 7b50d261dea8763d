"""Silhouettes: scipy and brute force as oracles, and every number that the reference's filters gave."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from lwgan import silhouettes
from lwgan.silhouettes import (
    GAUSSIAN,
    SLOPE,
    canny_edges,
    dilate,
    erode,
    extend_edges,
    gradient,
    inner_edges,
    nearest_points,
    neighbour_weights,
    soft_dilate,
)

KERNELS = (1, 3, 9, 11, 13)


@pytest.fixture
def blobs() -> Tensor:
    """(2, 1, 70, 90) bool: two silhouettes with holes, one touching the border."""
    noise = torch.randn(2, 1, 70, 90, generator=torch.Generator().manual_seed(3))
    smooth = torch.from_numpy(ndimage.gaussian_filter(noise.numpy(), (0, 0, 5, 5)))
    return smooth > 0.02


# Morphology ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_morphology_by_scipy(blobs: Tensor, kernel: int) -> None:
    box = np.ones((1, 1, kernel, kernel))
    grown = ndimage.binary_dilation(blobs.numpy(), box)
    shrunk = ndimage.binary_erosion(blobs.numpy(), box, border_value=1)
    np.testing.assert_array_equal(dilate(blobs, kernel).numpy(), grown)
    np.testing.assert_array_equal(dilate(blobs.float(), kernel).numpy(), grown)
    np.testing.assert_array_equal(erode(blobs.float(), kernel).numpy(), shrunk)
    sums = ndimage.convolve(blobs.double().numpy(), box, mode="constant")
    np.testing.assert_array_equal(soft_dilate(blobs, kernel).numpy(), sums >= kernel**2 / 2)


def test_soft_pixels_clear_boxes_unless_they_are_certain_enough() -> None:
    mask = torch.ones(7, 7)
    mask[3, 3] = 0.99
    assert erode(mask, 3).sum() == 49 - 9
    assert erode(mask, 3, certain=0.9).all()
    faint = torch.zeros(7, 7)
    faint[3, 2:5] = 0.4  # together 1.2
    assert dilate(faint, 3).nonzero().tolist() == [[row, 3] for row in (2, 3, 4)]


def test_planes_are_filtered_alone(blobs: Tensor) -> None:
    for operation in (lambda m: erode(m, 5), lambda m: dilate(m.float(), 5), canny_edges):
        together = operation(blobs)
        assert torch.equal(together, torch.stack([operation(plane) for plane in blobs]))


@pytest.mark.parametrize("kernel", [0, 4, -3])
def test_even_kernels_are_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match="odd number"):
        erode(torch.ones(8, 8), kernel)


# Edges --------------------------------------------------------------------------------------------


def test_edges_lie_on_the_outline(blobs: Tensor) -> None:
    edges = canny_edges(blobs)
    outline = dilate(blobs, 5) & ~erode(blobs, 5)
    outline[..., [0, 1, -2, -1], :] = outline[..., [0, 1, -2, -1]] = True  # zeros lie outside
    assert edges.any()
    assert not (edges & ~outline).any()
    assert not canny_edges(torch.zeros(1, 20, 20)).any()


def canny_by_the_book(mask: np.ndarray) -> np.ndarray:
    """The filter in float64, pixel by pixel: (H, W) in [0, 1] -> bool."""
    height, width = mask.shape

    def at(plane: np.ndarray, row: int, column: int) -> float:
        return float(plane[row, column]) if 0 <= row < height and 0 <= column < width else 0.0

    def filtered(plane: np.ndarray, taps: list[list[float]]) -> np.ndarray:
        sums = np.zeros_like(plane)
        for row, column in np.ndindex(plane.shape):
            for down, right in itertools.product((0, 1, 2), repeat=2):
                sums[row, column] += taps[down][right] * at(
                    plane, row + down - 1, column + right - 1
                )
        return sums

    corner, edge, centre = 0.07511361, 0.12384140, 0.20417996
    bell = [[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]]
    blurred = filtered(mask, bell)
    x = filtered(blurred, [[-0.5, 0, 0.5], [-1, 0, 1], [-0.5, 0, 0.5]])
    y = filtered(blurred, [[-0.5, -1, -0.5], [0, 0, 0], [0.5, 1, 0.5]])
    magnitude = np.sqrt(x**2 + y**2)
    thin = magnitude.copy()
    around = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for row, column in np.ndindex(mask.shape):
        if not magnitude[row, column]:
            continue
        # Steps of 22.5 degrees of the slope, counted as if they were 45.
        slope = np.degrees(np.arctan(y[row, column] / x[row, column]))
        line = round(slope / 22.5) % 4
        for down, right in (around[line], around[line + 4]):
            if magnitude[row, column] <= at(magnitude, row + down, column + right):
                thin[row, column] = 0
    strength = 0.5 * (thin > 0.1) + 0.5 * (thin > 0.9)
    crowd = filtered(strength, [[1.25] * 3] * 3)
    return (strength == 1) | ((strength == 0.5) & (crowd > 1))


def test_edges_are_those_of_the_book() -> None:
    """On soft blobs, where no slope equals its neighbour's but by chance of rounding."""
    noise = np.random.default_rng(2).standard_normal((48, 64))
    soft = 1 / (1 + np.exp(-40 * ndimage.gaussian_filter(noise, 3)))
    found = canny_edges(torch.from_numpy(soft)).numpy()
    expected = canny_by_the_book(soft)
    assert 200 < expected.sum() < 1500
    assert (found != expected).sum() <= 2


def test_orientations_are_doubled_and_weak_edges_need_company() -> None:
    flat = torch.zeros(6)
    x = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    y = torch.tensor([0.0, 2**0.5 - 1, 1.0, -1.0, 2.0, 0.0])  # 0, 22.5, 45, -45, 90 degrees, none
    degrees = silhouettes.Gradient(flat, x, y).orientation
    assert degrees[:5].tolist() == [180, 225, 270, 90, 360]
    assert degrees[5].isnan()
    strengths = [[0.91, 0.0, 0.0, 0.0], [0.2, 0.0, 0.0, 0.89], [0.0, 0.0, 0.0, 0.0]]
    magnitude = torch.tensor(strengths)[None, None]
    assert silhouettes._hysteresis(magnitude)[0, 0].nonzero().tolist() == [[0, 0], [1, 0]]
    magnitude[..., 2, 3] = 0.11  # two weak ones hold each other
    assert silhouettes._hysteresis(magnitude).sum() == 4
    magnitude[..., 2, 3] = 0.09
    assert silhouettes._hysteresis(magnitude).sum() == 2


def test_inner_edges_are_the_outermost_pixels_of_the_mask() -> None:
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:7, 2:7] = True
    expected = mask.clone()
    expected[3:6, 3:6] = False
    assert torch.equal(inner_edges(mask), expected)


def test_nearest_points_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several tiles, near and far, and with rows of pairs split to save memory."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(0, 300, (2000, 2), generator=generator)
    points = torch.randint(100, 220, (400, 2), generator=generator)
    expected = (queries[:, None] - points).square().sum(-1).sort(-1).values[:, :3].float()
    squared, index = nearest_points(queries, points, 3)
    assert torch.equal(squared, expected)
    assert torch.equal((queries[:, None] - points[index]).square().sum(-1).float(), expected)
    assert all(len(set(row)) == 3 for row in index.tolist())
    settled = (queries[:, None] - points).square().sum(-1).sort(stable=True, dim=-1).indices[:, :3]
    squared, index = nearest_points(queries, points, 3, stable=True)
    assert torch.equal(squared, expected)
    assert torch.equal(index, settled)
    monkeypatch.setattr(silhouettes, "_MOST_PAIRS", 1000)
    again, _ = nearest_points(queries, points, 3)
    assert torch.equal(again, squared)
    assert torch.equal(nearest_points(queries, points, 3, stable=True)[1], settled)
    with torch.autocast("cpu", torch.bfloat16):  # too coarse for distances of pixels
        assert torch.equal(nearest_points(queries, points, 3)[0], expected)
    assert nearest_points(queries, points[:2], 3)[0].shape == (2000, 2)


def test_weights() -> None:
    squared = torch.tensor([[1.0, 4.0, 5.0], [0.0, 1.0, 1.0]])
    growing = neighbour_weights(squared, "growing")
    torch.testing.assert_close(growing, torch.tensor([[0.1, 0.4, 0.5], [0.0, 0.5, 0.5]]))
    falling = neighbour_weights(squared, "falling")
    torch.testing.assert_close(falling[0], torch.tensor([20.0, 5.0, 4.0]) / 29)
    torch.testing.assert_close(falling[1], torch.tensor([1.0, 0, 0]), atol=1e-5, rtol=0)
    assert neighbour_weights(torch.zeros(1, 1), "growing").item() == 1


def test_a_person_of_one_colour_is_extended_in_it(blobs: Tensor) -> None:
    confident, band = erode(blobs.float(), 3), dilate(blobs, 9)
    person = torch.where(confident, torch.tensor([0.7, -0.2, 0.4])[:, None, None], -1.0)
    extended = extend_edges(person, confident, band, inner_edges(confident), "falling")
    wanted = torch.where(
        confident | band, torch.tensor([0.7, -0.2, 0.4])[:, None, None], torch.zeros(())
    )
    torch.testing.assert_close(extended, wanted, atol=1e-6, rtol=0)


def test_near_colours_weigh_more_only_where_they_should() -> None:
    """A band beside a black and a white edge pixel: the pixel next to the white one."""
    picture = torch.zeros(1, 1, 1, 5)
    picture[..., 4] = 1.0
    edges = picture[..., :1, :] > 0
    edges[..., 0] = True
    band = torch.ones(1, 1, 1, 5, dtype=torch.bool)
    shades = {
        weighting: extend_edges(picture, edges, band, edges, weighting)[0, 0, 0, 3].item()
        for weighting in ("growing", "falling")
    }
    assert shades["growing"] == pytest.approx(1 / 10)
    assert shades["falling"] == pytest.approx(9 / 10)


def test_equally_near_edges_are_taken_in_reading_order_unless_a_checkpoint_saw_otherwise() -> None:
    """Twelve edge pixels five away from the middle one, each brighter than those before."""
    steps = torch.arange(11) - 5
    edges = (steps[:, None].square() + steps.square() == 25)[None, None]
    picture = torch.where(edges, edges.flatten().cumsum(0).reshape(edges.shape), 0).float()
    band = torch.zeros_like(edges)
    band[..., 5, 5] = True
    falling, growing = (
        extend_edges(picture, edges, band, edges, weighting)[0, 0, 5, 5].item()
        for weighting in ("falling", "growing")
    )
    assert falling == pytest.approx((1 + 2 + 3) / 3)
    squared = torch.full((1, 12), 25.0)
    taken = squared.topk(3, largest=False).indices[0] + 1.0
    assert growing == pytest.approx(taken.mean().item())


def test_a_mask_that_shows_nobody_is_refused() -> None:
    empty = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"Picture 0 has no edge .* shows nobody"):
        extend_edges(torch.rand(1, 3, 8, 8), empty, ~empty, empty, "growing")
    nothing_to_do = extend_edges(torch.rand(1, 3, 8, 8), empty, empty, empty, "growing")
    assert not nothing_to_do.any()


# What the reference's filters gave ----------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(fixtures_folder: Path) -> dict[str, Tensor]:
    with np.load(fixtures_folder / "pipeline" / "morph.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parity
def test_morphology_of_the_reference(reference: dict[str, Tensor]) -> None:
    mask, soft = reference["mask"], reference["soft_mask"]
    for kernel in KERNELS:
        assert torch.equal(erode(mask, kernel), reference[f"erode{kernel}"])
        assert torch.equal(dilate(mask, kernel), reference[f"dilate{kernel}"])
        assert torch.equal(dilate(mask > 0, kernel), reference[f"dilate{kernel}"])
        assert torch.equal(soft_dilate(mask, kernel), reference[f"softdil{kernel}"])
    assert torch.equal(erode(soft, 3), reference["soft_erode3"])
    assert torch.equal(dilate(soft, 9), reference["soft_dilate9"])


@pytest.mark.parity
def test_kernels_of_the_reference(reference: dict[str, Tensor]) -> None:
    def kernel(name: str) -> np.ndarray:
        return reference[name].squeeze().numpy()

    np.testing.assert_array_equal(GAUSSIAN.astype(np.float32), kernel("k_gauss"))
    np.testing.assert_array_equal(SLOPE.astype(np.float32), kernel("k_sobel_x"))
    np.testing.assert_array_equal(kernel("k_hyst"), 1.25)
    for direction, (down, right) in enumerate(silhouettes.DIRECTIONS):
        expected = np.zeros((3, 3))
        expected[1, 1], expected[1 + down, 1 + right] = 1, -1
        np.testing.assert_array_equal(kernel("k_dir")[direction], expected)


@pytest.mark.parity
def test_canny_of_the_reference(reference: dict[str, Tensor]) -> None:
    """To the last bit, because bits decide on which side of an edge its pixels lie."""
    slope = gradient(reference["mask"])
    assert torch.equal(slope.blurred, reference["canny_blur"])
    assert torch.equal(slope.x, reference["canny_gx"])
    assert torch.equal(slope.y, reference["canny_gy"])
    torch.testing.assert_close(slope.magnitude, reference["canny_mag"])
    assert torch.equal(slope.orientation.nan_to_num(-1), reference["canny_orient"].nan_to_num(-1))
    edges = canny_edges(reference["mask"])
    assert torch.equal(edges, reference["canny_thin"].bool())
    assert torch.equal(edges[0, 0].nonzero(), reference["boundary_pts"])


@pytest.mark.parity
def test_edge_extension_of_the_reference(reference: dict[str, Tensor]) -> None:
    confident = reference["mask"][:1] > 0
    band, edges = dilate(confident, 9), canny_edges(confident)
    uncertain = (band & ~confident)[0, 0].nonzero()
    assert torch.equal(uncertain, reference["uncertain_pts"])
    squared, _ = nearest_points(uncertain, edges[0, 0].nonzero(), 3)
    assert torch.equal(squared.long(), reference["topk_sqdist_sorted"])
    weights = neighbour_weights(squared, "growing").sort(-1).values
    torch.testing.assert_close(weights, reference["topk_weights_sorted"])
    extended = extend_edges(reference["img"][None], confident, band, edges, "growing")[0]
    sure = torch.ones(64, 64, dtype=torch.bool)
    sure[tuple(uncertain[~reference["tie_free"]].T)] = False
    assert sure.sum() < 64 * 64
    torch.testing.assert_close(extended[:, sure], reference["morph_img"][:, sure])
