"""Normals and light of previews, and the overlay's arithmetic."""

import numpy as np
import pytest
import torch
from torch import Tensor

from iper_toolkit.raster import Fragments, rasterize
from iper_toolkit.raster.shading import (
    PART_COLOURS,
    draw_overlay,
    part_colours,
    shade,
    vertex_normals,
    vertex_normals_array,
)


@pytest.fixture(scope="module")
def sphere() -> tuple[Tensor, Tensor]:
    """A ball of radius 0.7 about the origin, 20 x 30 facets, wound outward; no vertex twice."""
    rings, sectors = 20, 30
    polar = torch.linspace(0, torch.pi, rings + 1)[1:-1, None]
    around = torch.arange(sectors) * 2 * torch.pi / sectors
    belt = torch.stack(
        torch.broadcast_tensors(
            polar.sin() * around.sin(), polar.cos(), polar.sin() * around.cos()
        ),
        dim=-1,
    ).reshape(-1, 3)
    vertices = 0.7 * torch.cat([belt, torch.tensor([[0.0, 1, 0], [0.0, -1, 0]])])
    faces = []
    top, bottom = len(belt), len(belt) + 1
    for j in range(sectors):
        after = (j + 1) % sectors
        faces.append((top, j, after))
        faces.append((bottom, len(belt) - sectors + after, len(belt) - sectors + j))
        for ring in range(rings - 2):
            a, b = ring * sectors + j, ring * sectors + after
            faces += [(a, a + sectors, b), (b, a + sectors, b + sectors)]
    return vertices, torch.tensor(faces)


def test_normals_of_a_ball_are_its_radii(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = sphere
    normals = vertex_normals(vertices, faces)
    # Facets are 0.2 radians wide and lean to one side next to the poles.
    assert torch.allclose(normals, vertices / 0.7, atol=0.05)
    assert torch.allclose(normals.norm(dim=-1), torch.ones(len(vertices)), atol=1e-6)


def test_normals_are_weighted_by_area() -> None:
    # At the shared edge along x lie a face of area 1 facing +z and one of area 3 facing +y.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 0, -6]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])
    expected = torch.tensor([0, 3, 1]) / 10**0.5
    normals = vertex_normals(vertices, faces)
    assert torch.allclose(normals[:2], expected.expand(2, -1), atol=1e-6)
    assert torch.allclose(normals[2], torch.tensor([0.0, 0, 1]))


def test_normals_of_a_batch_and_of_vertices_without_a_face(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = sphere
    batch = torch.stack([vertices, vertices * torch.tensor([1.0, 0.5, 1]), vertices + 3])[:, None]
    lonely = torch.cat([batch, torch.zeros(3, 1, 1, 3)], dim=2)
    normals = vertex_normals(lonely, faces)
    assert normals.shape == lonely.shape
    for i in range(3):
        assert torch.equal(normals[i, 0, :-1], vertex_normals(batch[i, 0], faces))
    assert (normals[:, 0, -1] == 0).all()


def test_normals_of_arrays_go_into_a_buffer(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = (values.numpy() for values in sphere)
    out = np.full_like(vertices, np.nan)
    assert vertex_normals_array(vertices, faces, out) is out
    np.testing.assert_array_equal(out, vertex_normals(*sphere).numpy())
    with pytest.raises(ValueError, match="indices run from 0 to 571"):
        vertex_normals_array(vertices, faces + 1)
    with pytest.raises(ValueError, match=r"it must be \(V, 3\)"):
        vertex_normals_array(vertices[None], faces)
    with pytest.raises(ValueError, match="skip is"):
        vertex_normals_array(vertices, faces, skip=np.zeros(2, bool))


def test_light_falls_from_the_upper_left(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = sphere
    shaded = shade(rasterize(vertices, faces, 64), vertices, faces)
    assert shaded.shape == (64, 64, 3)
    assert (shaded[0, 0] == 0).all()
    brightness = shaded.mean(-1)
    assert brightness[22, 24] > brightness[32, 32] > brightness[44, 42] > 0.1
    assert brightness.max() <= 1


def test_each_face_has_its_colour(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = sphere
    fragments = rasterize(vertices.expand(2, -1, -1), faces, 32)
    part = torch.arange(len(faces)) % 2
    grey = shade(fragments, vertices.expand(2, -1, -1), faces, colour=(1, 1, 1))
    coloured = shade(
        fragments, vertices.expand(2, -1, -1), faces, face_colours=part_colours(part) * 0.5
    )
    palette = torch.tensor(PART_COLOURS[:2]) * 0.5
    seen = fragments.covered & (grey < 1).all(-1)
    expected = grey[seen] * palette[part[fragments.face[seen].long()]]
    assert seen.sum() > 100
    assert torch.allclose(coloured[seen], expected, atol=1e-5)


def test_parts_are_told_apart() -> None:
    colours = part_colours(torch.arange(len(PART_COLOURS)))
    distance = torch.cdist(colours, colours) + torch.eye(len(colours))
    assert distance.min() > 0.1


def test_an_overlay_mixes_by_opacity_and_cover() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    face = torch.full((4, 4), -1, dtype=torch.int32)
    face[:2, :2] = 0  # the first pixel whole
    face[0, 2] = 0  # a quarter of the second
    fragments = Fragments(face, torch.zeros(4, 4, 3))
    shaded = fragments.covered[..., None].float().expand(-1, -1, 3) * torch.tensor([1.0, 0.5, 0.0])
    overlay = draw_overlay(image, fragments, shaded, opacity=0.5)
    np.testing.assert_array_equal(overlay[0, 0], [178, 114, 50])
    np.testing.assert_array_equal(overlay[0, 1], [119, 103, 88])
    np.testing.assert_array_equal(overlay[1], np.full((2, 3), 100))
    assert (image == 100).all()
    np.testing.assert_array_equal(draw_overlay(image, fragments, shaded, opacity=0), image)


def test_overlays_of_several_frames(sphere: tuple[Tensor, Tensor]) -> None:
    vertices, faces = sphere
    batch = torch.stack([vertices, vertices * 0.5])
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    for factor in (1, 2):
        fragments = rasterize(batch, faces, 16 * factor)
        shaded = shade(fragments, batch, faces)
        overlays = draw_overlay(images, fragments, shaded)
        for i in range(2):
            one = Fragments(fragments.face[i], fragments.barycentric[i])
            np.testing.assert_array_equal(overlays[i], draw_overlay(images[i], one, shaded[i]))


def test_an_overlay_names_what_does_not_fit() -> None:
    fragments = Fragments(torch.zeros(6, 6, dtype=torch.int32), torch.zeros(6, 6, 3))
    shaded = torch.zeros(6, 6, 3)
    for side in (4, 7):
        with pytest.raises(ValueError, match="whole multiple"):
            draw_overlay(np.zeros((side, side, 3), np.uint8), fragments, shaded)
    with pytest.raises(ValueError, match="opacity is 2"):
        draw_overlay(np.zeros((6, 6, 3), np.uint8), fragments, shaded, opacity=2)
    with pytest.raises(ValueError, match="uint8"):
        draw_overlay(np.zeros((6, 6), np.uint8), fragments, shaded)


def test_skipped_faces_do_not_count() -> None:
    """A lining is the cloth's own triangles wound the other way: alone it would cancel them."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 1]], np.int32)
    assert not vertex_normals_array(vertices, faces).any()
    normals = vertex_normals_array(vertices, faces, skip=np.array([False, True]))
    np.testing.assert_array_equal(normals, [[0, 0, 1]] * 3)
