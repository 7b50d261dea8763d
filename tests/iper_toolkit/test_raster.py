"""The rasterizer against a slow oracle, and what it does with input that is not a tidy mesh."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.raster import EYE_DISTANCE, FAR, NEAR, Fragments, interpolate, rasterize
from iper_toolkit.raster.cpu import rasterize_array

Mesh = tuple[NDArray[np.float32], NDArray[np.int32]]


def slow_rasterize(
    vertices: NDArray, faces: NDArray, size: int, dtype: type
) -> tuple[NDArray[np.int32], NDArray, NDArray]:
    """The rules as the reference states them: y up, every face against every pixel, flipped last."""
    y_up: NDArray = vertices.astype(dtype) * np.array([1, -1, 1], dtype)
    y_up[:, 2] += dtype(EYE_DISTANCE)
    centres: NDArray = ((2 * np.arange(size) + 1 - size) / size).astype(dtype)
    x, y = np.meshgrid(centres, centres)
    best: NDArray = np.full((size, size), FAR, dtype)
    face_map = np.full((size, size), -1, np.int32)
    weight_map: NDArray = np.zeros((size, size, 3), dtype)
    for index, corners in enumerate(faces):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = y_up[corners]
        if (y2 - y0) * (x1 - x0) <= (y1 - y0) * (x2 - x0):
            continue
        edges = np.stack(
            [
                (y - y1) * (x2 - x1) - (x - x1) * (y2 - y1),
                (y - y2) * (x0 - x2) - (x - x2) * (y0 - y2),
                (y - y0) * (x1 - x0) - (x - x0) * (y1 - y0),
            ],
            axis=-1,
        )
        weights = edges / ((y2 - y0) * (x1 - x0) - (y1 - y0) * (x2 - x0))
        weights = np.clip(weights, 0, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights /= weights[..., 0:1] + weights[..., 1:2] + weights[..., 2:3]
            depth = 1 / (weights[..., 0] / z0 + weights[..., 1] / z1 + weights[..., 2] / z2)
        seen = (edges >= 0).all(-1) & (depth > dtype(NEAR)) & (depth < best)
        best[seen], face_map[seen], weight_map[seen] = depth[seen], index, weights[seen]
    return face_map[::-1], weight_map[::-1], best[::-1]


def triangle_soup(seed: int, num_faces: int = 200) -> Mesh:
    """Triangles of all sizes and windings, some of them partly or wholly off the screen."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-1.3, 1.3, (num_faces, 1, 3))
    spread = rng.normal(size=(num_faces, 3, 3)) * rng.choice([0.02, 0.1, 0.6], (num_faces, 1, 1))
    vertices = (middle + spread).reshape(-1, 3).astype(np.float32)
    return vertices, np.arange(3 * num_faces, dtype=np.int32).reshape(-1, 3)


def ellipsoid(rings: int = 24, sectors: int = 32) -> Mesh:
    """A closed surface, wound outward in y-up, then turned by pi about x as fitted bodies are."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1), indexing="ij"
    )
    points = np.stack(
        [
            0.5 * np.sin(polar) * np.sin(around),
            0.8 * np.cos(polar),
            0.4 * np.sin(polar) * np.cos(around),
        ],
        axis=-1,
    ).reshape(-1, 3)
    corner = (np.arange(rings)[:, None] * (sectors + 1) + np.arange(sectors)).reshape(-1)
    below = corner + sectors + 1
    faces = np.concatenate(
        [
            np.stack([corner, below, corner + 1], -1),
            np.stack([corner + 1, below, below + 1], -1),
        ]
    )
    return (points * [1, -1, -1]).astype(np.float32), faces.astype(np.int32)


def one_triangle(*corners: tuple[float, float, float]) -> Mesh:
    return np.array(corners, np.float32), np.array([[0, 1, 2]], np.int32)


# Covers the whole picture at depth z + EYE_DISTANCE = about 2.7; counter-clockwise with y up.
COVERING = ((-1.0, 1.0, 0.0), (3.0, 1.0, 0.0), (-1.0, -3.0, 0.0))


@pytest.mark.parametrize("size", [1, 2, 17, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_slow_rules_bit_by_bit(seed: int, size: int) -> None:
    vertices, faces = triangle_soup(seed)
    face, barycentric, depth = rasterize_array(vertices, faces, size)
    slow_face, slow_barycentric, slow_depth = slow_rasterize(vertices, faces, size, np.float32)
    assert (slow_face >= 0).any()
    np.testing.assert_array_equal(face, slow_face)
    np.testing.assert_array_equal(barycentric, slow_barycentric)
    np.testing.assert_array_equal(depth, slow_depth)


def test_rounding_stays_small_against_double_precision() -> None:
    for vertices, faces in (triangle_soup(3), ellipsoid()):
        face, barycentric, depth = rasterize_array(vertices, faces, 64)
        exact_face, exact_barycentric, exact_depth = slow_rasterize(vertices, faces, 64, np.float64)
        same = face == exact_face
        assert same.mean() > 0.999  # a centre within rounding of an edge may change sides
        assert np.abs(barycentric - exact_barycentric)[same].max() < 1e-4
        assert np.abs(depth - exact_depth)[same].max() < 1e-4


def test_weights_find_the_pixel_again() -> None:
    vertices, faces = ellipsoid()
    face, barycentric, _ = rasterize_array(vertices, faces, 48)
    rows, columns = np.nonzero(face >= 0)
    corners = vertices[faces[face[rows, columns]]]
    xy = (corners[..., :2] * barycentric[rows, columns][..., None]).sum(1)
    np.testing.assert_allclose(barycentric[rows, columns].sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(
        xy, np.stack([2 * columns + 1, 2 * rows + 1], -1) / 48 - 1, atol=1e-6
    )


def test_a_turned_body_shows_its_front_and_a_mirrored_one_its_inside() -> None:
    turned, faces = ellipsoid()
    _, _, depth = rasterize_array(turned, faces, 33)
    assert depth[16, 16] == pytest.approx(EYE_DISTANCE - 0.4, abs=0.01)
    mirrored = turned * np.array([1, 1, -1], np.float32)
    _, _, inside = rasterize_array(mirrored, faces, 33)
    assert inside[16, 16] == pytest.approx(EYE_DISTANCE + 0.4, abs=0.01)


def test_ties_go_to_the_lower_face() -> None:
    vertices = np.array(COVERING, np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 2]], np.int32)
    face, _, _ = rasterize_array(vertices, faces, 8)
    assert (face == 0).all()


def test_an_edge_belongs_to_both_sides() -> None:
    # The diagonal of a square runs through pixel centres: no hole, and the lower face has it.
    vertices = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], np.float32)
    faces = np.array([[0, 3, 2], [0, 2, 1]], np.int32)
    face, _, _ = rasterize_array(vertices, faces, 16)
    np.testing.assert_array_equal(face, np.triu(np.ones((16, 16), np.int32), 1))


def test_near_and_far_are_strict() -> None:
    vertices, faces = one_triangle(*COVERING)
    for near, far, drawn in ((0.1, 100.0, True), (2.0, 100.0, False), (0.1, 2.0, False)):
        face, _, _ = rasterize_array(vertices, faces, 4, eye_distance=2.0, near=near, far=far)
        assert bool((face == 0).all()) is drawn
        assert bool((face == -1).all()) is not drawn


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("coordinate", [0, 1, 2])
def test_a_face_with_a_vertex_that_is_not_finite_is_left_out(coordinate: int, value: float) -> None:
    near_corners = tuple((x, y, -1.0) for x, y, _ in COVERING)
    vertices = np.array([*near_corners, *COVERING], np.float32)
    for vertex in range(3):
        broken = vertices.copy()
        broken[vertex, coordinate] = value
        face, barycentric, _ = rasterize_array(broken, np.array([[0, 1, 2], [3, 4, 5]]), 8)
        assert (face == 1).all()
        assert np.isfinite(barycentric).all()


@pytest.mark.parametrize(
    "corners",
    [
        ((0.1, 0.1, 0.0),) * 3,  # a point
        ((-0.5, -0.5, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 0.0)),  # a line through pixel centres
        ((5.0, 5.0, 0.0), (6.0, 5.0, 0.0), (5.0, 4.0, 0.0)),  # off the screen
        ((-1.0, 1.0, -5.0), (3.0, 1.0, -5.0), (-1.0, -3.0, -5.0)),  # behind the eye
        ((-3e38, 3e38, 0.0), (3e38, 3e38, 0.0), (-3e38, -3e38, 0.0)),  # overflows float32
    ],
    ids=["point", "line", "off-screen", "behind", "overflow"],
)
def test_faces_that_cover_nothing(corners: tuple[tuple[float, float, float], ...]) -> None:
    face, barycentric, depth = rasterize_array(*one_triangle(*corners), 8)
    assert (face == -1).all()
    assert (barycentric == 0).all()
    assert (depth == np.float32(FAR)).all()


def test_a_face_partly_off_the_screen_is_drawn_to_the_border() -> None:
    face, _, _ = rasterize_array(
        *one_triangle((-1e6, 1e6, 0.0), (1e6, 1e6, 0.0), (0.0, -1e6, 0.0)), 8
    )
    assert (face == 0).all()


def test_no_faces_and_no_vertices_give_an_empty_picture() -> None:
    no_faces = np.empty((0, 3), np.int32)
    for num_vertices in (0, 5):
        face, _, _ = rasterize_array(np.zeros((num_vertices, 3), np.float32), no_faces, 4)
        assert (face == -1).all()


def test_buffers_are_reused_and_cleared() -> None:
    vertices, faces = ellipsoid()
    fresh = rasterize_array(vertices, faces, 32)
    buffers = rasterize_array(*one_triangle(*COVERING), 32)
    again = rasterize_array(vertices, faces, 32, *buffers)
    for buffer, result, expected in zip(buffers, again, fresh, strict=True):
        assert result is buffer
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, f: rasterize_array(v, f, 0), "size is 0"),
        (lambda v, f: rasterize_array(v[:, :2], f, 4), r"vertices is \(825, 2\)"),
        (lambda v, f: rasterize_array(v[None], f, 4), r"it must be \(V, 3\)"),
        (lambda v, f: rasterize_array(v, f[:, :2], 4), r"faces is \(1536, 2\)"),
        (lambda v, f: rasterize_array(v, f + 1, 4), "indices run from 0 to 824"),
        (lambda v, f: rasterize_array(v, f - 1, 4), "Face 0 has vertices"),
        (lambda v, f: rasterize_array(v, f.astype(np.int64) + 2**32, 4), "fewer than 2"),
        (lambda v, f: rasterize_array(v, f, 4, np.empty((4, 4), np.int64)), "face_out is"),
        (lambda v, f: rasterize_array(v, f, 4, np.empty((4, 8), np.int32)[:, ::2]), "C-contiguous"),
        (lambda v, f: rasterize(torch.from_numpy(v), torch.from_numpy(f), 0), "size is 0"),
        (lambda v, f: rasterize(torch.from_numpy(v), torch.from_numpy(f) + 1, 4), "Face 1535"),
        (lambda v, f: rasterize(torch.zeros(3), torch.from_numpy(f), 4), "must be"),
        (lambda v, f: rasterize(torch.from_numpy(v), torch.from_numpy(f)[None], 4), "faces is"),
    ],
)
def test_wrong_input_is_named(call: Callable[[NDArray, NDArray], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*ellipsoid())


def test_faces_are_integers() -> None:
    vertices, faces = ellipsoid()
    with pytest.raises(TypeError, match="float32"):
        rasterize_array(vertices, faces.astype(np.float32), 4)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_batch_is_its_frames(num_threads: int) -> None:
    vertices, faces = ellipsoid()
    rng = np.random.default_rng(5)
    batch = torch.from_numpy(vertices + rng.normal(0, 0.05, (2, 3, 1, 3)).astype(np.float32))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        fragments = rasterize(batch, torch.from_numpy(faces), 24)
    finally:
        torch.set_num_threads(before)
    assert fragments.face.shape == (2, 3, 24, 24)
    assert fragments.face.dtype == torch.int32
    for i in range(2):
        for j in range(3):
            face, barycentric, _ = rasterize_array(batch[i, j].numpy(), faces, 24)
            np.testing.assert_array_equal(fragments.face[i, j].numpy(), face)
            np.testing.assert_array_equal(fragments.barycentric[i, j].numpy(), barycentric)


def test_an_empty_batch_is_empty() -> None:
    vertices, faces = ellipsoid()
    empty = torch.from_numpy(vertices).expand(0, -1, -1)
    assert rasterize(empty, torch.from_numpy(faces), 8).face.shape == (0, 8, 8)


def test_double_vertices_and_vertices_with_gradient_are_drawn() -> None:
    vertices, faces = (torch.from_numpy(array) for array in ellipsoid())
    plain = rasterize(vertices, faces, 16)
    double = rasterize(vertices.double().requires_grad_(), faces.long(), 16)
    assert torch.equal(plain.face, double.face)
    assert torch.equal(plain.barycentric, double.barycentric)


def test_fragments_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"it must be \(4, 4, 3\)"):
        Fragments(torch.zeros(4, 4, dtype=torch.int32), torch.zeros(4, 5, 3))


def test_interpolate_carries_values_of_vertices_and_of_corners() -> None:
    vertices, faces = (torch.from_numpy(array) for array in ellipsoid())
    fragments = rasterize(vertices, faces, 32)
    carried = interpolate(fragments, vertices, faces)
    centres = (2 * torch.arange(32) + 1) / 32 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)
    assert torch.allclose(carried[fragments.covered][:, :2], grid[fragments.covered], atol=1e-6)
    assert (carried[~fragments.covered] == 0).all()
    assert torch.equal(carried, interpolate(fragments, vertices[faces.long()]))


def test_interpolate_takes_values_of_each_frame() -> None:
    vertices, faces = (torch.from_numpy(array) for array in ellipsoid())
    batch = torch.stack([vertices, vertices * 0.5, vertices + 0.2])[None]  # (1, 3, V, 3)
    fragments = rasterize(batch, faces, 16)
    colours = torch.rand(1, 3, len(vertices), 4, generator=torch.Generator().manual_seed(0))
    carried = interpolate(fragments, colours, faces)
    assert carried.shape == (1, 3, 16, 16, 4)
    for i in range(3):
        one = Fragments(fragments.face[0, i], fragments.barycentric[0, i])
        assert torch.equal(carried[0, i], interpolate(one, colours[0, i], faces))
    assert torch.equal(carried, interpolate(fragments, colours[..., faces.long(), :]))


def test_interpolate_passes_gradients_to_the_values() -> None:
    vertices, faces = (torch.from_numpy(array) for array in ellipsoid(6, 8))
    fragments = rasterize(vertices, faces, 6)
    colours = torch.rand(len(vertices), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: interpolate(fragments, values, faces), colours)


def test_interpolate_names_what_it_wants() -> None:
    vertices, faces = (torch.from_numpy(array) for array in ellipsoid())
    fragments = rasterize(vertices, faces, 8)
    with pytest.raises(ValueError, match="values of corners"):
        interpolate(fragments, vertices)
    with pytest.raises(ValueError, match="values of vertices"):
        interpolate(fragments, vertices.expand(2, -1, -1), faces)


def test_arguments_that_are_no_tensors_are_named() -> None:
    vertices, faces = torch.zeros(3, 3), torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(TypeError, match="vertices is a ndarray; it takes a torch tensor"):
        rasterize(vertices.numpy(), faces, 8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="faces is a ndarray"):
        rasterize(vertices, faces.numpy(), 8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"size is \(8, 8\); it takes one whole number"):
        rasterize(vertices, faces, (8, 8))  # type: ignore[arg-type]
