"""Textures: what goes into the map comes out of it, and everybody gives what is theirs."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iper_toolkit.body import load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import Fragments, rasterize
from lwgan.correspondence import face_points
from lwgan.surface_tables import SurfaceTables, surface_tables
from lwgan.texture import (
    coverage,
    dress,
    grow_charts,
    merge_people_textures,
    merge_sources,
    unwrap,
    visibility,
)

SIZE = 160


@pytest.fixture(scope="module")
def tables() -> SurfaceTables:
    return surface_tables(load_body("open"), "corrected")


@pytest.fixture(scope="module")
def charts(tables: SurfaceTables) -> Fragments:
    return tables.texture_fragments(SIZE)


@pytest.fixture(scope="module")
def vertices() -> Tensor:
    """(1, 2, V, 3) projected: somebody from the front and from the side."""
    pose = torch.zeros(2, 72)
    pose[0, 0] = torch.pi
    pose[1, 0] = pose[1, 2] = torch.pi / 2**0.5
    posed = load_body("open").skin(pose, torch.zeros(2, 10)).vertices
    return project(posed, torch.tensor([0.8, 0.0, 0.25]))[None]


def one_colour(*rgb: float) -> Tensor:
    return torch.tensor(rgb, dtype=torch.float32)[:, None, None].expand(3, SIZE, SIZE)


def test_a_picture_comes_back_from_the_texture(
    vertices: Tensor, tables: SurfaceTables, charts: Fragments
) -> None:
    """Unwrapped and put on in the same pose, a smooth picture shows through the whole body."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pictures = interpolate(coarse, SIZE, mode="bicubic", align_corners=False)[None]
    texture = unwrap(pictures, face_points(vertices, tables.texture_faces), charts)
    assert texture.shape == (1, 2, 3, SIZE, SIZE)
    fragments = rasterize(vertices, tables.faces, SIZE)
    for source in range(2):
        worn = dress(
            grow_charts(texture[:, source], charts),
            Fragments(fragments.face[:, [source]], fragments.barycentric[:, [source]]),
            tables.uv_corners,
        )
        covered = fragments.covered[0, source]
        assert not worn[0, 0][:, ~covered].any()
        error = (worn[0, 0] - pictures[0, source])[:, covered].abs()
        assert error.mean() < 0.01  # of a picture in [-1, 1]
        # Fingers and ears are smaller in the texture than a texel.
        assert error.amax(0).quantile(0.99) < 0.1


def test_frames_wear_the_texture_alike(
    vertices: Tensor, tables: SurfaceTables, charts: Fragments
) -> None:
    textures = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    fragments = rasterize(vertices.expand(2, -1, -1, -1), tables.faces, SIZE)
    together = dress(textures, fragments, tables.uv_corners)
    assert together.shape == (2, 2, 3, SIZE, SIZE)
    for person in range(2):
        for frame in range(2):
            one = (slice(person, person + 1), slice(frame, frame + 1))
            alone = dress(
                textures[one[0]],
                Fragments(fragments.face[one], fragments.barycentric[one]),
                tables.uv_corners,
            )
            assert torch.equal(together[one], alone)


def test_coverage_is_of_the_kept_faces_inside_of_the_picture(
    vertices: Tensor, tables: SurfaceTables, charts: Fragments
) -> None:
    points = face_points(vertices, tables.texture_faces)
    everything = torch.ones(1, 2, tables.num_faces, dtype=torch.bool)
    full = coverage(points, everything, charts, (SIZE, SIZE))
    assert full.shape == (1, 2, 1, SIZE, SIZE)
    assert torch.equal(full[0, 0, 0] > 0.999, charts.covered)
    assert not coverage(points, ~everything, charts, (SIZE, SIZE)).any()
    assert not coverage(points + 3, everything, charts, (SIZE, SIZE)).any()
    half = everything.clone()
    half[..., tables.num_faces // 2 :] = False
    kept = charts.covered & (charts.face < tables.num_faces // 2)
    assert torch.equal(coverage(points, half, charts, (SIZE, SIZE))[0, 0, 0] > 0.999, kept)
    grown = visibility(points, half, charts, (SIZE, SIZE), 5)
    assert grown.unique().tolist() == [0, 1]
    assert (grown[0, 0, 0] >= kept.float()).all()
    assert grown[0, 0].sum() > kept.sum()


def test_other_sources_fill_what_the_first_does_not_show() -> None:
    """Four columns: seen by the first alone, by all, by the two others, by nobody."""
    red, green, blue = one_colour(1, 0, 0), one_colour(0, 1, 0), one_colour(0, 0, 1)
    visible = torch.zeros(3, 1, SIZE, SIZE)
    quarter = SIZE // 4
    visible[0, :, :, : 2 * quarter] = 1
    visible[1:, :, :, quarter : 3 * quarter] = 1
    merged = merge_sources(torch.stack([red, green, blue])[None], visible[None])[0]
    torch.testing.assert_close(merged[..., : 2 * quarter], red[..., : 2 * quarter])
    mean = ((green + blue) / 2)[..., 2 * quarter : 3 * quarter]
    torch.testing.assert_close(merged[..., 2 * quarter : 3 * quarter], mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(merged[..., 3 * quarter :], red[..., 3 * quarter :])


def test_two_equal_sources_are_one() -> None:
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 1, 3, 32, 32, generator=generator)
    visible = (torch.rand(1, 1, 1, 32, 32, generator=generator) > 0.5).float()
    merged = merge_sources(texture.expand(1, 2, -1, -1, -1), visible.expand(1, 2, -1, -1, -1))
    assert torch.equal(merged, merge_sources(texture, visible))
    assert torch.equal(merged, texture[:, 0])


def test_people_share_a_texture_by_their_shares() -> None:
    red, blue = one_colour(1, 0, 0)[None], one_colour(0, 0, 1)[None]
    share = torch.zeros(1, 1, SIZE, SIZE)
    share[..., :60] = 1
    apart = merge_people_textures([red, blue], [share, 1 - share])
    torch.testing.assert_close(apart, red * share + blue * (1 - share))
    mixed = merge_people_textures([red, blue], [share, 3 * share])
    torch.testing.assert_close(mixed, (red + 3 * blue) / 4 * share)


def test_grey_bleeds_in_at_seams_unless_the_charts_are_grown(
    vertices: Tensor, tables: SurfaceTables, charts: Fragments
) -> None:
    """A white texture must be worn white; read at a chart's edge it mixes with what lies beside."""
    white = charts.covered.float().expand(1, 3, SIZE, SIZE)
    fragments = rasterize(vertices, tables.faces, SIZE)
    body = fragments.covered[:, :, None].expand(-1, -1, 3, -1, -1)
    assert dress(white, fragments, tables.uv_corners)[body].min() < 0.9
    grown = grow_charts(white, charts)
    assert dress(grown, fragments, tables.uv_corners)[body].min() > 0.999
    assert torch.equal(grown[..., charts.covered], white[..., charts.covered])
    assert (grown == 0).any()  # a rim, not the whole map


def test_a_rim_has_the_mean_of_the_painted_neighbours() -> None:
    face = torch.full((5, 5), -1, dtype=torch.int32)
    face[2, 1], face[2, 3] = 0, 1
    charts = Fragments(face, torch.zeros(5, 5, 3))
    texture = torch.full((1, 1, 5, 5), 9.0)  # what lies between charts is no colour
    texture[..., 2, 1], texture[..., 2, 3] = 1.0, 3.0
    once = grow_charts(texture, charts, rounds=1)[0, 0]
    expected = torch.zeros(5, 5)
    expected[1:4, :2], expected[1:4, 2], expected[1:4, 3:] = 1.0, 2.0, 3.0
    torch.testing.assert_close(once, expected)
    assert (grow_charts(texture, charts, rounds=2) > 0).all()
