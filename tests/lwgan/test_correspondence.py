"""Flows lead where the surface is: identities, shifts, brute force, and what the reference composed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from iper_toolkit.body import Body, BodyParams, load_body
from iper_toolkit.body.parts import PARTS, swap_sides
from iper_toolkit.camera import project
from iper_toolkit.raster import Fragments, interpolate, rasterize
from lwgan.correspondence import (
    condition_map,
    face_points,
    faces_in_view,
    flow_to,
    keep_faces,
    visible_faces,
    with_neighbours,
)
from lwgan.person import Dressed, Person
from lwgan.surface_tables import SurfaceTables, code_table, surface_tables
from lwgan.tasks import owned_faces

SIZE = 128
ROUNDING = 1e-6  # of float32 in [-1, 1]
FLOW_TOLERANCE = 1e-3  # that of the reference's weights

Arrays = dict[str, NDArray]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def tables(body: Body) -> SurfaceTables:
    return surface_tables(body, "reference")


@pytest.fixture(scope="module")
def vertices(body: Body) -> Tensor:
    """(3, V, 3) projected: somebody who faces the camera, steps aside, and turns."""
    pose = torch.zeros(3, 72)
    pose[:, 0] = torch.pi  # y down
    pose[1, 3 : 3 + 12] = 0.3
    pose[2, 2] = 0.8
    return project(body.skin(pose, torch.zeros(3, 10)).vertices, torch.tensor([0.8, 0.02, 0.25]))


@pytest.fixture(scope="module")
def fragments(vertices: Tensor, body: Body) -> Fragments:
    return rasterize(vertices, body.faces, SIZE)


def painted(fragments: Fragments, tables: SurfaceTables) -> Tensor:
    """(..., 3, H, W): the body in smooth colours on grey."""
    place = interpolate(fragments, tables.uv_corners)
    colours = torch.cat([place, torch.sin(9 * place[..., :1])], -1)
    return torch.where(fragments.covered[..., None], colours, 0.2).movedim(-1, -3)


def frame(fragments: Fragments, *index: int | slice | None) -> Fragments:
    return Fragments(fragments.face[index], fragments.barycentric[index])


# Oracles ------------------------------------------------------------------------------------------


def test_the_flow_to_oneself_stands_still(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    flow = flow_to(fragments, face_points(vertices, tables.faces))
    place = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    itself = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).expand_as(flow)
    assert fragments.covered.sum() > 1000
    assert (flow - itself)[fragments.covered].abs().max() < 1e-5
    assert bool((flow[~fragments.covered] == -2).all())
    source = painted(fragments, tables)
    warped = grid_sample(source, flow, align_corners=False)
    seen = fragments.covered[:, None].expand_as(source)
    assert (warped - source)[seen].abs().max() < 1e-4
    assert bool((warped[~seen] == 0).all())


def test_a_shifted_camera_shifts_the_flow(
    body: Body, fragments: Fragments, tables: SurfaceTables
) -> None:
    pose = torch.zeros(1, 72)
    pose[:, 0] = torch.pi
    posed = body.skin(pose, torch.zeros(1, 10)).vertices
    pixels = torch.tensor([6.0, -4.0])
    shift = 2 * pixels / SIZE
    camera = torch.tensor([0.8, 0.02, 0.25])
    moved_camera = camera + torch.cat([torch.zeros(1), shift / camera[0]])
    still = flow_to(frame(fragments, slice(1)), face_points(project(posed, camera), tables.faces))
    moved = flow_to(
        frame(fragments, slice(1)), face_points(project(posed, moved_camera), tables.faces)
    )
    covered = fragments.covered[:1]
    assert (moved - still - shift)[covered].abs().max() < 1e-6
    # a source that was shifted by whole pixels is brought back
    source = painted(frame(fragments, slice(1)), tables)
    shifted = source.roll((int(pixels[1]), int(pixels[0])), (-2, -1))
    back = grid_sample(shifted, moved, align_corners=False)
    assert (back - source).movedim(-3, -1)[covered].abs().max() < 1e-3


def test_another_pose_gets_its_own_colours(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    """Each point of the surface has one colour, so warping where the source sees must give the target's picture."""
    picture = painted(fragments, tables)
    kept = keep_faces(
        face_points(vertices[:1], tables.faces), faces_in_view(vertices[:1], tables.faces)
    )
    flow = flow_to(frame(fragments, slice(1, 3)), kept)
    warped = grid_sample(picture[:1].expand(2, -1, -1, -1), flow, align_corners=False)
    seen = (flow > -1).all(-1)
    error = (warped - picture[1:]).abs().amax(1)[seen]
    assert seen.sum() > 1000
    assert error.quantile(0.5) < 0.01  # bilinear sampling of a curved surface
    assert error.quantile(0.75) < 0.05  # the rest mixes with the background or across charts


def test_frames_and_sources_broadcast(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    points = face_points(vertices, tables.faces)
    flows = flow_to(frame(fragments, slice(None), None), points[None, :2])
    assert flows.shape == (3, 2, SIZE, SIZE, 2)
    for target in range(3):
        for source in range(2):
            one = flow_to(frame(fragments, target), points[source])
            assert torch.equal(flows[target, source], one)
    batch = Fragments(
        fragments.face.expand(2, 3, -1, -1), fragments.barycentric.expand(2, 3, -1, -1, -1)
    )
    assert torch.equal(condition_map(batch, tables.code)[1], condition_map(fragments, tables.code))
    visible = visible_faces(batch, tables.num_faces)
    assert torch.equal(visible[1], visible_faces(fragments, tables.num_faces))
    kept = with_neighbours(visible, tables.nearest)
    for index in range(3):
        assert torch.equal(kept[1, index], with_neighbours(visible[0, index], tables.nearest))


def test_a_flow_in_one_pixel_is_the_weighted_mean_of_the_corners() -> None:
    fragments = Fragments(
        torch.tensor([[1, -1]], dtype=torch.int32),
        torch.tensor([[[0.5, 0.25, 0.25], [0, 0, 0]]]),
    )
    points = torch.tensor([[[9.0, 9], [9, 9], [9, 9]], [[0, 1], [0.4, 0], [0, -0.4]]])
    flow = flow_to(fragments, points)
    assert torch.allclose(flow, torch.tensor([[[0.1, 0.4], [-2, -2]]]))
    assert condition_map(fragments, torch.tensor([[0.0], [5.0], [7.0]])).tolist() == [[[5, 7]]]


def test_gradients_reach_the_points(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    few = frame(fragments, 0, slice(60, 64), slice(60, 64))
    assert bool(few.covered.any())
    moving = vertices[:2, None].double().requires_grad_()
    flow = flow_to(frame(few, None, None), face_points(moving, tables.faces))
    flow.sum().backward()
    assert moving.grad is not None
    touched = moving.grad[0, 0].abs().sum(-1).nonzero()[:, 0]
    drawn = tables.faces[few.face[few.covered].long()].unique()
    assert set(touched.tolist()) <= set(drawn.tolist())
    assert torch.allclose(moving.grad[..., :2].sum((1, 2)), few.covered.sum().double())
    assert bool((moving.grad[..., 2] == 0).all())

    weights = few.barycentric.double()
    exact = Fragments(few.face.clamp(-1, 4), weights)
    points = torch.rand(2, 1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: flow_to(frame(exact, None), p), points)


def test_a_picture_without_background_loses_no_face() -> None:
    full = Fragments(torch.tensor([[0, 2], [2, 2]]), torch.full((2, 2, 3), 1 / 3))
    assert visible_faces(full, 4).tolist() == [True, False, True, False]


def test_neighbours_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    nearest = torch.randint(0, 50, (50, 3), generator=generator)
    visible = torch.rand(4, 50, generator=generator) < 0.1
    kept = with_neighbours(visible, nearest)
    for row, seen in zip(kept.tolist(), visible, strict=True):
        faces = seen.nonzero()[:, 0]
        expected = {*faces.tolist(), *nearest[faces].flatten().tolist()}
        assert {face for face in range(50) if row[face]} == expected


def test_what_is_not_kept_is_nowhere(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    head = tables.surface.part == 0
    points = face_points(vertices, tables.faces)
    flow = flow_to(fragments, keep_faces(points, head))
    on_head = condition_map(fragments, code_table(tables, "head"))[:, 0] == 1
    assert bool(on_head.any())
    assert torch.equal(flow[on_head], flow_to(fragments, points)[on_head])
    assert (flow[~on_head] + 2).abs().max() < 1e-6
    white = grid_sample(torch.ones(3, 1, SIZE, SIZE), flow, align_corners=False)[:, 0]
    assert torch.equal(white > 0, on_head)
    several = keep_faces(points, torch.stack([head, ~head, head]))
    assert bool((several[1][head] == -2).all())
    assert torch.equal(several[1][~head], points[1][~head])


def test_small_pictures_do_not_show_what_a_camera_sees(
    vertices: Tensor, tables: SurfaceTables
) -> None:
    fine = faces_in_view(vertices[:1], tables.faces, 3072)
    recall = {
        size: float((faces_in_view(vertices[:1], tables.faces, size) & fine).sum() / fine.sum())
        for size in (128, 384, 1024)
    }
    assert recall[128] < 0.3 < recall[384] < 0.75 < 0.85 < recall[1024]
    usual = faces_in_view(vertices[:1], tables.faces)
    assert torch.equal(usual, faces_in_view(vertices[:1], tables.faces, 1024))


def test_nothing_depends_on_the_data_but_the_values() -> None:
    """Tensors without values go through: no shape follows from what is in a picture, so graphs can be captured."""
    face = torch.zeros(2, 1, 8, 8, dtype=torch.int32, device="meta")
    fragments = Fragments(face, torch.zeros(2, 1, 8, 8, 3, device="meta"))
    faces = torch.zeros(20, 3, dtype=torch.int64, device="meta")
    points = face_points(torch.zeros(1, 4, 30, 3, device="meta"), faces)
    visible = with_neighbours(visible_faces(fragments, 20), faces)
    assert points.shape == (1, 4, 20, 3, 2)
    assert visible.shape == (2, 1, 20)
    assert keep_faces(points, visible).shape == (2, 4, 20, 3, 2)
    assert flow_to(fragments, points).shape == (2, 4, 8, 8, 2)
    assert condition_map(fragments, torch.zeros(21, 5, device="meta")).shape == (2, 1, 5, 8, 8)


@pytest.mark.slow
def test_all_of_it_compiles_into_one_graph(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    def step(face: Tensor, barycentric: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
        seen = Fragments(face, barycentric)
        kept = with_neighbours(visible_faces(seen, tables.num_faces), tables.nearest)
        points = keep_faces(face_points(vertices, tables.faces), kept)
        return flow_to(frame(seen, slice(None), None), points[None]), condition_map(
            seen, tables.code
        )

    arguments = (fragments.face, fragments.barycentric, vertices)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(*arguments)
    for ours, plain in zip(compiled, step(*arguments), strict=True):
        assert torch.equal(ours, plain)


def test_flows_stay_float32_where_networks_do_not(
    fragments: Fragments, vertices: Tensor, tables: SurfaceTables
) -> None:
    points = face_points(vertices, tables.faces)
    plain = flow_to(fragments, points)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = flow_to(fragments, points)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)


# What the reference has ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow_arrays(fixtures_folder: Path) -> Arrays:
    with np.load(fixtures_folder / "pipeline" / "flow.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def swap_arrays(fixtures_folder: Path) -> Arrays:
    with np.load(fixtures_folder / "pipeline" / "swap.npz") as arrays:
        return dict(arrays)


def drawn(arrays: Arrays, prefix: str, tables: SurfaceTables) -> tuple[Fragments, Tensor]:
    """What our rasterizer sees of the stored poses at 64 pixels, and their corners."""
    vertices, camera = (torch.from_numpy(arrays[f"{prefix}{key}"]) for key in ("verts", "cam"))
    projected = project(vertices, camera)
    return rasterize(projected, tables.faces, 64), face_points(projected, tables.faces)


@pytest.fixture(scope="module")
def stored_nearest(raster_arrays: Arrays) -> Tensor:
    """The reference's own neighbours, whose ties fell by rounding."""
    return torch.from_numpy(raster_arrays["face_k_nearest"])


@pytest.mark.parity
def test_condition_maps_and_visible_faces_of_the_reference(
    toy_tables: SurfaceTables, raster_arrays: Arrays, stored_nearest: Tensor
) -> None:
    fragments, points = drawn(raster_arrays, "", toy_tables)
    condition = condition_map(fragments, toy_tables.code)
    np.testing.assert_allclose(condition, raster_arrays["cond_uv_seg"], atol=ROUNDING)
    head = condition_map(fragments, code_table(toy_tables, "head"))
    np.testing.assert_array_equal(head, raster_arrays["head_map"])
    kept = with_neighbours(visible_faces(fragments, toy_tables.num_faces), stored_nearest)
    np.testing.assert_allclose(keep_faces(points, kept), raster_arrays["vis_f2pts"], atol=ROUNDING)


@pytest.mark.parity
def test_flows_of_the_reference(
    toy_tables: SurfaceTables, flow_arrays: Arrays, stored_nearest: Tensor
) -> None:
    expected = flow_arrays
    sources, source_points = drawn(expected, "src_", toy_tables)
    targets, target_points = drawn(expected, "ref_", toy_tables)
    for fragments, points, name in (
        (sources, source_points, "src_"),
        (targets, target_points, "ref_"),
    ):
        np.testing.assert_array_equal(fragments.face, expected[f"{name}fim"])
        np.testing.assert_allclose(points, expected[f"{name}f2pts"], atol=ROUNDING)
    condition = condition_map(sources, toy_tables.code)
    np.testing.assert_allclose(condition, expected["src_cond"], atol=ROUNDING)
    np.testing.assert_allclose(
        toy_tables.uv_corners.expand_as(source_points), expected["f2uvs"], atol=ROUNDING
    )

    flows = flow_to(frame(targets, slice(None), None), source_points)
    np.testing.assert_allclose(flows[:1], expected["Tst_ref0"], atol=FLOW_TOLERANCE)
    np.testing.assert_allclose(flows[2:], expected["Tst_ref2"], atol=FLOW_TOLERANCE)
    between = flow_to(frame(targets, slice(2, 3), None), target_points[:2])
    np.testing.assert_allclose(between, expected["Ttt_ref2"], atol=FLOW_TOLERANCE)
    warped = grid_sample(torch.from_numpy(expected["src_img"][0]), flows[0], align_corners=False)
    np.testing.assert_allclose(warped, expected["warp_src_by_Tst_ref0"], atol=FLOW_TOLERANCE)

    visible = with_neighbours(visible_faces(sources, toy_tables.num_faces), stored_nearest)
    seen_points = keep_faces(source_points, visible)
    np.testing.assert_allclose(seen_points, expected["src_only_vis_f2pts"], atol=ROUNDING)
    seen = flow_to(frame(targets, slice(1), None), seen_points)
    np.testing.assert_allclose(seen, expected["Tst_ref0_only_vis"], atol=FLOW_TOLERANCE)


def wearing(*part_ids: int) -> Dressed:
    """Somebody who gives the parts that the reference has under these numbers, sides of the picture."""
    nobody = Person(
        name=str(part_ids),
        pictures=np.zeros((1, 8, 8, 3), np.uint8),
        masks=np.zeros((1, 8, 8), np.uint8),
        params=BodyParams.from_array("toy", torch.zeros(1, 85)),
    )
    return Dressed(nobody, tuple(PARTS[swap_sides(part)] for part in part_ids))


@pytest.mark.parity
def test_parts_and_leftover_faces_of_the_reference(
    toy_tables: SurfaceTables, fixtures_folder: Path
) -> None:
    cases = json.loads((fixtures_folder / "pipeline" / "swap_parts.json").read_text())
    assert len(cases) == 2
    for case in cases.values():
        people = [wearing(*ids) for ids in case["parts"]]
        owned = owned_faces(people, toy_tables.surface)
        found = [own.nonzero()[:, 0].tolist() for own in owned]
        assert found == [sorted(faces) for faces in case["faces"]]


@pytest.mark.parity
def test_flows_of_appearance_transfer_of_the_reference(
    toy_tables: SurfaceTables, swap_arrays: Arrays
) -> None:
    expected = swap_arrays
    shares = owned_faces([wearing(0), wearing(*range(1, 10))], toy_tables.surface)
    points, selected = [], []
    for person, share in enumerate(shares):
        _, corners = drawn(expected, f"p{person}_", toy_tables)
        points.append(corners)
        selected.append(keep_faces(corners, share))
        stored = expected[f"p{person}_selected_f2pts"]
        np.testing.assert_allclose(selected[-1], stored, atol=ROUNDING)
        first = project(
            torch.from_numpy(expected[f"p{person}_verts"][0]),
            torch.from_numpy(expected[f"p{person}_cam"][0]),
        )
        in_texture_order = keep_faces(face_points(first, toy_tables.texture_faces), share)
        stored = expected[f"p{person}_selected_obj_f2pts0"]
        np.testing.assert_allclose(in_texture_order, stored, atol=ROUNDING)
    target = Fragments(
        *(torch.from_numpy(expected[key])[:, None] for key in ("ref_fim", "ref_wim"))
    )
    for people, name in ((points, "Tst_default"), (selected, "Tst_selected")):
        flow = flow_to(target, torch.cat(people))
        np.testing.assert_allclose(flow, expected[name], atol=FLOW_TOLERANCE)
    texture = toy_tables.texture_fragments(64)
    np.testing.assert_array_equal(texture.face[None], expected["uv_fim"])
    np.testing.assert_allclose(texture.barycentric[None], expected["uv_wim"], atol=FLOW_TOLERANCE)
