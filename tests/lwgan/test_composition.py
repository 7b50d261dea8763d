"""What the generator is given: identities, loops, people of one colour, and what the reference gave."""

import json
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iper_toolkit.body import Body, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import Fragments, rasterize
from lwgan.composition import (
    USUAL_SETTINGS,
    ComposedSources,
    CompositionSettings,
    background_inputs,
    compose_sources,
    compose_targets,
    generator_inputs,
    head_and_body_boxes,
    merge_people,
    previous_flows,
)
from lwgan.correspondence import (
    face_points,
    flow_to,
    keep_faces,
    visible_faces,
    with_neighbours,
)
from lwgan.silhouettes import canny_edges, dilate, erode, extend_edges, inner_edges
from lwgan.surface_tables import Convention, SurfaceTables, build_tables, surface_tables
from lwgan.texture import grow_charts, merge_sources, unwrap, visibility

SIZE = 128
TURNED = (0.0, 2.6)  # radians of the two sources about the vertical axis

Arrays = dict[str, Tensor]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module", params=["corrected", "reference"])
def tables(request: pytest.FixtureRequest, body: Body) -> SurfaceTables:
    return surface_tables(body, request.param)


def seen_from(body: Body, *radians: float) -> Tensor:
    """(1, N, V, 3) projected: somebody with spread arms, turned about the vertical axis."""
    half = torch.tensor(radians) / 2
    pose = torch.zeros(len(radians), 72)
    pose[:, 0], pose[:, 2] = torch.pi * half.cos(), -torch.pi * half.sin()
    posed = body.skin(pose, torch.zeros(len(radians), 10)).vertices
    return project(posed, torch.tensor([0.8, 0.0, 0.25]))[None]


@pytest.fixture(scope="module")
def sources(body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with smooth colours everywhere, background masks and vertices of two sources."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pictures = interpolate(coarse, SIZE, mode="bicubic", align_corners=False)[None]
    vertices = seen_from(body, *TURNED)
    return pictures, background_of(vertices, body), vertices


def background_of(vertices: Tensor, body: Body) -> Tensor:
    return (~rasterize(vertices, body.faces, SIZE).covered).float()[:, :, None]


def in_colours(body: Body, tables: SurfaceTables, *colours: tuple[float, ...]) -> ComposedSources:
    """A person from the front and from the back in one colour each, before a grey wall."""
    vertices = seen_from(body, *(torch.pi * index for index in range(len(colours))))
    masks = background_of(vertices, body)
    dyes = torch.tensor(colours, dtype=torch.float32)[None, :, :, None, None]
    return compose_sources(torch.where(masks > 0, 0.0, dyes), masks, vertices, tables)


RED, BLUE = (1.0, -1.0, -1.0), (-1.0, -1.0, 1.0)


def leads_somewhere(flow: Tensor) -> Tensor:
    """(..., H, W, 2) -> (..., H, W) bool. Of a face that is nowhere, weights sum to -2 but for rounding."""
    return (flow > -1.5).all(-1)


def tensors_of(record: object) -> dict[str, Tensor]:
    """Every tensor of a record, fragments' too, by name."""
    found: dict[str, Tensor] = {}
    for item in fields(record):  # type: ignore[arg-type]
        value = getattr(record, item.name)
        if isinstance(value, Fragments):
            found[f"{item.name}.face"] = value.face
            found[f"{item.name}.barycentric"] = value.barycentric
        else:
            found[item.name] = value
    return found


# Oracles ------------------------------------------------------------------------------------------


def test_a_source_in_its_own_pose_is_what_the_network_starts_from(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    pictures, _, vertices = sources
    composed = compose_sources(*sources, tables)
    targets = compose_targets(composed, vertices[:, :1], tables)
    covered = targets.fragments.covered[0, 0]
    error = (targets.inputs[0, 0, :3] - pictures[0, 0])[:, covered].abs()
    assert error.mean() < (0.02 if tables.convention == "corrected" else 0.06)
    assert not targets.inputs[0, 0, :3][:, ~covered].any()
    assert torch.equal(targets.inputs[0, 0, 3:], composed.source_inputs[0, 0, 3:])
    assert torch.equal(targets.inputs[0, 0, -1] == 1, ~covered)


def test_what_one_source_hides_another_fills(body: Body, tables: SurfaceTables) -> None:
    """Red from the front, blue from the back: each side keeps its colour in a new picture."""
    composed = in_colours(body, tables, RED, BLUE)
    targets = compose_targets(composed, seen_from(body, 0.0, torch.pi), tables)
    front, back = targets.inputs[0, :, :3]
    front, back = (
        picture[:, covered]
        for picture, covered in zip((front, back), targets.fragments.covered[0], strict=True)
    )
    assert (front[0] > front[2]).float().mean() > 0.97
    assert (back[2] > back[0]).float().mean() > 0.85  # its outline is seen from the front, too
    alone = compose_targets(in_colours(body, tables, RED), seen_from(body, torch.pi), tables)
    body_pixels = alone.inputs[0, 0, :3][:, alone.fragments.covered[0, 0]]
    assert (body_pixels[0] > body_pixels[2]).float().mean() > 0.97


def test_two_equal_sources_are_one(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    pictures, masks, vertices = (value[:, [0, 0]] for value in sources)
    twice = compose_sources(pictures, masks, vertices, tables)
    pictures, masks, vertices = (value[:, :1] for value in sources)
    once = compose_sources(pictures, masks, vertices, tables)
    assert torch.equal(twice.texture, once.texture)
    assert torch.equal(twice.background_inputs, once.background_inputs)
    assert twice.num_sources == 2


def test_batches_are_loops(
    sources: tuple[Tensor, Tensor, Tensor],
    body: Body,
    tables: SurfaceTables,
) -> None:
    """Two people with their sources in another order, and three frames of each."""
    pictures, masks, vertices = (value.flip(1) for value in sources)
    mirrored = (pictures, masks, vertices)
    pictures, masks, vertices = (torch.cat(pair) for pair in zip(sources, mirrored, strict=True))
    poses = torch.cat([seen_from(body, 0.5, 1.0, 1.5), seen_from(body, -0.5, 3.0, 2.0)])
    composed = compose_sources(pictures, masks, vertices, tables)
    targets = compose_targets(composed, poses, tables)
    for person, own in enumerate((sources, mirrored)):
        alone = compose_sources(*own, tables)
        for name, value in tensors_of(alone).items():
            torch.testing.assert_close(tensors_of(composed)[name][person], value[0], msg=name)
        for frame in range(3):
            one = compose_targets(alone, poses[person, frame][None, None], tables)
            for name, value in tensors_of(one).items():
                torch.testing.assert_close(
                    tensors_of(targets)[name][person, frame], value[0, 0], msg=name
                )


def test_flows_lead_into_the_sources_and_only_visible_ones_where_they_show_it(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    vertices = sources[2]
    composed = compose_sources(*sources, tables)
    targets = compose_targets(composed, vertices, tables)
    covered = targets.fragments.covered
    assert targets.flow.shape == (1, 2, 2, SIZE, SIZE, 2)
    place = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    here = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1)
    for index in range(2):
        stands = torch.where(covered[0, index][..., None], here, -2.0)
        torch.testing.assert_close(targets.flow[0, index, index], stands, atol=1e-4, rtol=0)
    seen = compose_targets(composed, vertices, tables, only_visible=True)
    gone = ~leads_somewhere(seen.flow) & covered[:, :, None]
    own = torch.stack([gone[0, 0, 0], gone[0, 1, 1]])
    other = torch.stack([gone[0, 0, 1], gone[0, 1, 0]])
    assert not own.any()
    assert other.float().mean() > 0.5 * covered.float().mean()  # the front is not seen from behind
    assert torch.equal(seen.inputs, targets.inputs)


def test_frames_lie_in_the_frames_before(
    sources: tuple[Tensor, Tensor, Tensor],
    body: Body,
    tables: SurfaceTables,
) -> None:
    composed = compose_sources(*sources, tables)
    targets = compose_targets(composed, seen_from(body, 0.2, 0.2, 0.9), tables)
    flows = previous_flows(targets)
    assert flows.shape == (1, 2, SIZE, SIZE, 2)
    again = compose_targets(composed, seen_from(body, 0.2), tables)
    still = flow_to(again.fragments, again.face_points)
    assert torch.equal(flows[0, 0], still[0, 0])
    last = Fragments(targets.fragments.face[0, 2], targets.fragments.barycentric[0, 2])
    assert torch.equal(flows[0, 1], flow_to(last, targets.face_points[0, 1]))
    inputs = generator_inputs(composed, targets, temporal=True)
    assert inputs.previous_flow is not None
    assert torch.equal(inputs.previous_flow, flows)
    assert generator_inputs(composed, targets).previous_flow is None


# Every step, one after the other ------------------------------------------------------------------


def mirrored(tables: SurfaceTables, body: Body) -> SurfaceTables:
    """The same body, whose texture map is seen in a mirror: every chart is wound the other way."""
    surface = body.surface
    assert surface is not None
    assert surface.uv is not None
    turned = replace(surface, uv=surface.uv * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0]))
    return build_tables("mirrored", body.faces, turned, tables.convention)


@pytest.mark.parametrize("wound", ["as they are", "mirrored"])
def test_sources_are_composed_step_by_step(
    sources: tuple[Tensor, Tensor, Tensor], body: Body, tables: SurfaceTables, wound: str
) -> None:
    """Kernels at 128 pixels: 3 for the person, 13 for the band, 3 for background and texture."""
    pictures, masks, vertices = sources
    masks = masks.clone()
    masks[:, :, :, 20:100:7] = masks[:, :, :, 20:100:7].clamp(0.005, 0.995)  # a matting's noise
    if wound == "mirrored":
        tables = mirrored(tables, body)
    composed = compose_sources(pictures, masks, vertices, tables)

    reference = tables.convention == "reference"
    fragments = rasterize(vertices, body.faces, SIZE)
    certain, background_kernel = 1.0 if reference else 0.9, 3
    confident = erode(1 - masks, 3, certain=certain)
    perhaps = (1 - masks > (0.0 if reference else 0.1)) | fragments.covered[:, :, None]
    band = dilate(perhaps, 13)
    if reference:
        extended = extend_edges(pictures, confident, band, canny_edges(confident), "growing")
    else:
        extended = extend_edges(pictures, confident, band, inner_edges(confident), "falling")
    assert torch.equal(composed.source_inputs[:, :, :3], extended)
    assert torch.equal(
        composed.source_inputs[:, :, 3:], tables.code[fragments.face.long()].movedim(-1, 2)
    )
    known = erode(masks[:, :1], background_kernel, certain=certain).float()
    assert torch.equal(composed.background_inputs, torch.cat([pictures[:, :1] * known, known], 2))

    def seen(faces: Tensor) -> Tensor:
        """Close by, but for the picture itself."""
        fine = rasterize(vertices, faces, 384 if reference else 1024)
        return visible_faces(fine, tables.num_faces)

    visible = seen(body.faces) | visible_faces(fragments, tables.num_faces)
    shown = visible
    if reference and wound == "mirrored":
        assert torch.equal(tables.texture_faces, body.faces.flip(1))
        shown = seen(tables.texture_faces)  # from inside
    visible, shown = (with_neighbours(faces, tables.nearest) for faces in (visible, shown))
    assert torch.equal(composed.visible_faces, visible)
    charts = tables.texture_fragments(SIZE)
    points = face_points(vertices, tables.texture_faces)
    assert torch.equal(composed.texture_points, points)
    in_texture = visibility(points, shown, charts, (SIZE, SIZE), 3)
    assert torch.equal(composed.texture_visibility, in_texture)
    texture = merge_sources(unwrap(extended, points, charts), in_texture)
    assert torch.equal(composed.texture, texture if reference else grow_charts(texture, charts))
    assert bool(composed.texture[..., ~charts.covered].any()) is not reference


def test_mirrored_charts_dress_bodies_alike(
    sources: tuple[Tensor, Tensor, Tensor], body: Body, tables: SurfaceTables
) -> None:
    count = 1 if tables.convention == "reference" else 2  # others fill what is seen from inside
    given = [value[:, :count] for value in sources]
    poses = seen_from(body, 0.0, 0.7, 2.6)
    found = []
    for own in (tables, mirrored(tables, body)):
        composed = compose_sources(given[0], given[1], given[2], own)
        found.append(compose_targets(composed, poses, own))
    plain, turned = found
    error = (plain.inputs[:, :, :3] - turned.inputs[:, :, :3]).abs().amax(2)
    error = error[plain.fragments.covered]
    assert (
        error.quantile(0.95) < 1e-3
    )  # but where the edge of a chart falls upon the middle of a texel
    assert error.mean() < 5e-3
    assert torch.equal(plain.flow, turned.flow)


def test_the_reference_looks_at_the_picture_itself_once_it_is_large_enough(
    sources: tuple[Tensor, Tensor, Tensor], body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rasterization of the sources then serves pictures and texture."""
    sizes: list[int] = []

    def counted(vertices: Tensor, faces: Tensor, size: int) -> Fragments:
        sizes.append(size)
        return rasterize(vertices, faces, size)

    monkeypatch.setattr("lwgan.composition.rasterize", counted)
    monkeypatch.setattr("lwgan.correspondence.rasterize", counted)
    vertices = sources[2][:, :1]
    expected: tuple[tuple[Convention, int, list[int]], ...] = (
        ("reference", 384, [384]),
        ("reference", 256, [256, 384]),
        ("corrected", 384, [384, 1024]),
    )
    for convention, size, wanted in expected:
        pictures, masks = (interpolate(value[0, :1], size)[None] for value in sources[:2])
        compose_sources(pictures, masks, vertices, surface_tables(body, convention))
        assert sizes == wanted
        sizes.clear()


# People who share ---------------------------------------------------------------------------------


def test_a_primary_person_who_keeps_everything_is_alone(body: Body, tables: SurfaceTables) -> None:
    red = in_colours(body, tables, RED, RED)
    blue = in_colours(body, tables, BLUE)
    everything = torch.ones(tables.num_faces, dtype=torch.bool)
    merged = merge_people([red, blue], [everything, ~everything], tables, restrict_flow=True)
    assert merged.num_sources == 3
    assert torch.equal(merged.background_inputs, red.background_inputs)
    poses = seen_from(body, 0.0, 1.5)
    together, alone = (compose_targets(people, poses, tables) for people in (merged, red))
    # Bilinear reading at a seam meets a texel that nobody has a share in; reference only.
    tolerance = 1e-5 if tables.convention == "corrected" else 0.15
    assert (together.inputs - alone.inputs).abs().mean() < 1e-2
    assert (together.inputs - alone.inputs).abs().quantile(0.99) < tolerance
    assert torch.equal(together.flow[:, :, :2], alone.flow)
    assert not leads_somewhere(together.flow[:, :, 2]).any()
    freely = merge_people([red, blue], [everything, ~everything], tables, restrict_flow=False)
    assert leads_somewhere(compose_targets(freely, poses, tables).flow[:, :, 2]).any()


def test_clothes_are_taken_from_whom_they_are_asked_of(body: Body, tables: SurfaceTables) -> None:
    """The upper body of one, the lower of another, by the height of faces in the rest pose."""
    red = in_colours(body, tables, RED)
    blue = in_colours(body, tables, BLUE)
    upper = body.template[body.faces].mean(1)[:, 1] > body.template[:, 1].mean()
    merged = merge_people([red, blue], torch.stack([upper, ~upper]), tables, restrict_flow=True)
    targets = compose_targets(merged, seen_from(body, 0.0), tables)
    face = targets.fragments.face[0, 0]
    picture, covered = targets.inputs[0, 0, :3], face >= 0
    is_red = picture[0] > picture[2]
    from_upper = upper[face.clamp_min(0).long()]
    assert (is_red == from_upper)[covered].float().mean() > 0.97
    flow = targets.flow[0, 0]
    assert torch.equal(leads_somewhere(flow[0]), covered & from_upper)
    assert torch.equal(leads_somewhere(flow[1]), covered & ~from_upper)


def test_the_first_source_says_which_texels_are_a_persons(
    body: Body, tables: SurfaceTables
) -> None:
    """Even where the last one shows nothing of them."""
    red, blue = in_colours(body, tables, RED, RED), in_colours(body, tables, BLUE)
    lower = body.template[body.faces].mean(1)[:, 1] < body.template[:, 1].mean()
    first = red.texture_points[:, :1]
    outside = replace(red, texture_points=torch.cat([first, first + 5], dim=1))
    wanted, found = (
        merge_people([blue, person], [~lower, lower], tables, restrict_flow=False).texture
        for person in (red, outside)
    )
    assert torch.equal(found, wanted)
    assert (found[:, 0] > 0.5).any()
    swapped = replace(red, texture_points=outside.texture_points.flip(1))
    other = merge_people([blue, swapped], [~lower, lower], tables, restrict_flow=False).texture
    assert not (other[:, 0] > 0.5).any()
    charts = tables.texture_fragments(SIZE)
    owned = charts.covered & lower[charts.face.clamp_min(0).long()]
    bare = (other[0][:, owned] == 0).all(0).float().mean()  # grey; else the primary person's
    assert bare > 0.95 if tables.convention == "reference" else bare < 0.2


def test_a_merged_texture_has_its_rim_anew(body: Body, tables: SurfaceTables) -> None:
    red, blue = in_colours(body, tables, RED), in_colours(body, tables, BLUE)
    nobody = torch.zeros(tables.num_faces, dtype=torch.bool)
    texture = merge_people([blue, red], [nobody, ~nobody], tables, restrict_flow=False).texture
    charts = tables.texture_fragments(SIZE)
    beside = texture[:, :, ~charts.covered]
    if tables.convention == "reference":
        assert not beside.any()
    else:
        assert torch.equal(texture, grow_charts(texture, charts))
        assert not (beside[:, 2] > 0.5).any()  # nothing of blue, who gives no face
        assert (beside[:, 0] > 0.5).any()


def test_people_who_do_not_fit_together_are_refused(body: Body, tables: SurfaceTables) -> None:
    person = in_colours(body, tables, RED)
    faces = torch.ones(tables.num_faces, dtype=torch.bool)
    with pytest.raises(ValueError, match="1 people and 2 selections"):
        merge_people([person], [faces, faces], tables, restrict_flow=False)
    smaller = replace(person, texture=person.texture[..., ::2, ::2])
    with pytest.raises(ValueError, match="different shapes"):
        merge_people([person, smaller], [faces, faces], tables, restrict_flow=False)


# Settings, masks and arguments --------------------------------------------------------------------


def kernels(size: int) -> tuple[int, ...]:
    settings = USUAL_SETTINGS
    plain = (
        settings.confidence_kernel,
        settings.extension_kernel,
        settings.background_kernel,
        settings.texture_kernel,
    )
    return tuple(settings.scaled(kernel, size) for kernel in plain)


def test_kernels_are_the_papers_at_512_and_odd_elsewhere() -> None:
    assert kernels(512) == (3, 51, 11, 13)
    assert kernels(256) == (3, 25, 5, 7)
    assert kernels(1024) == (5, 101, 21, 25)
    for size in range(64, 1100, 24):
        for kernel, plain in zip(kernels(size), kernels(512), strict=True):
            assert kernel % 2 == 1
            assert kernel == 3 or abs(kernel - plain * size / 512) <= 1
    assert USUAL_SETTINGS.scaled(1, 256) == 1
    assert CompositionSettings(kernel_size=64).scaled(51, 64) == 51


def test_matting_noise_opens_holes_only_under_reference() -> None:
    mask = torch.ones(1, 1, 1, SIZE, SIZE)
    mask[..., 40, 40] = 0.98
    picture = torch.rand(1, 1, 3, SIZE, SIZE)
    plain = CompositionSettings(kernel_size=SIZE)
    corrected = background_inputs(picture, mask, "corrected", plain)
    reference = background_inputs(picture, mask, "reference", plain)
    assert (reference[0, 0, 3] == 0).sum() == 11 * 11
    assert corrected[0, 0, 3].all()
    assert torch.equal(corrected[:, :, :3], picture)
    assert torch.equal(reference[:, :, :3], picture * reference[:, :, 3:])


def test_the_background_keeps_clear_of_the_first_source(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    composed = compose_sources(*sources, tables)
    known = composed.background_inputs[0, 0, 3]
    assert composed.background_inputs.shape == (1, 1, 4, SIZE, SIZE)
    assert not (known.bool() & (sources[1][0, 0, 0] == 0)).any()
    assert torch.equal(composed.background_inputs[0, 0, :3], sources[0][0, 0] * known)


def test_extended_pictures_keep_the_person_and_drop_the_rest(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    pictures, masks, _ = sources
    extended = compose_sources(*sources, tables).source_inputs[:, :, :3]
    distance = USUAL_SETTINGS.scaled(USUAL_SETTINGS.extension_kernel, SIZE) // 2 + 1
    inside = -torch.nn.functional.max_pool2d(masks[0], 3, 1, 1) + 1 > 0
    far = -torch.nn.functional.max_pool2d(-masks[0], 2 * distance + 1, 1, distance) > 0
    assert inside.any()
    assert far.any()
    inside, far = (where[None].expand_as(pictures) for where in (inside, far))
    assert torch.equal(extended[inside], pictures[inside])
    assert not extended[far].any()


def test_wrong_arguments_are_named(
    sources: tuple[Tensor, Tensor, Tensor], tables: SurfaceTables
) -> None:
    pictures, masks, vertices = sources
    compose = partial(compose_sources, tables=tables)
    with pytest.raises(ValueError, match=r"pictures is .* square"):
        compose(pictures[..., :-8], masks, vertices)
    with pytest.raises(TypeError, match="floats in"):
        compose(pictures.to(torch.uint8), masks, vertices)
    with pytest.raises(ValueError, match=r"background_masks is .* must be \(1, 2, 1, 128, 128\)"):
        compose(pictures, masks[:, :1], vertices)
    with pytest.raises(ValueError, match=r"vertices is .* must be \(1, 2, V, 3\)"):
        compose(pictures, masks, vertices[..., :2])
    with pytest.raises(ValueError, match="shows nobody"):
        compose(pictures, torch.ones_like(masks), vertices)


def test_boxes_of_head_and_body() -> None:
    keypoints = torch.zeros(1, 2, 19, 2)
    keypoints[..., 0, :] = -0.5  # an ankle
    keypoints[..., 12:, :] = torch.tensor([0.0, 0.5])
    head, body = head_and_body_boxes(keypoints, 100)
    assert head.shape == body.shape == (1, 2, 4)
    assert head[0, 0].tolist() == [45, 55, 70, 75]
    # x from 25 to 50 pixels and y from 25 to 75, a fifth larger about their middles, truncated.
    assert (body[0, 0] - torch.tensor([22.5, 52.5, 20, 80])).abs().max() <= 1


# What the reference composed ----------------------------------------------------------------------

REFERENCE = CompositionSettings(extension_kernel=9, kernel_size=64, visibility_size=64)
TOLERANCE = 1e-3  # of the reference's weights, as of the flows


@pytest.fixture(scope="module")
def reference_tables(
    toy_tables: SurfaceTables, raster_arrays: dict[str, np.ndarray]
) -> SurfaceTables:
    """With the reference's own neighbours: of equal distances it took either."""
    return replace(toy_tables, nearest=torch.from_numpy(raster_arrays["face_k_nearest"]))


def arrays_of(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parity
def test_composition_of_the_reference(
    fixtures_folder: Path, reference_tables: SurfaceTables
) -> None:
    arrays = arrays_of(fixtures_folder / "pipeline" / "flow.npz")
    pictures, masks = arrays["src_img"], arrays["src_masks_bg1"][None]
    vertices = project(arrays["src_verts"], arrays["src_cam"])[None]
    sources = compose_sources(pictures, masks, vertices, reference_tables, REFERENCE)
    assert torch.equal(sources.fragments.face[0], arrays["src_fim"])
    assert_near(sources.source_inputs[0, :, :3], arrays["morph_img"], 1e-6)
    assert_near(sources.source_inputs, arrays["input_G_src"], 1e-6)
    assert_near(sources.background_inputs, arrays["input_G_bg"], 1e-6)
    assert_near(sources.texture, arrays["uv_img"])
    charts = reference_tables.texture_fragments(64)
    assert torch.equal(charts.face.expand(2, -1, -1), arrays["uv_fim"])
    raw = unwrap(pictures, sources.texture_points, charts)
    assert_near(merge_sources(raw, sources.texture_visibility), arrays["uv_img_from_raw"])

    poses = project(arrays["ref_verts"], arrays["ref_cam"])[None]
    targets = compose_targets(sources, poses, reference_tables)
    assert_near(targets.inputs[0, :, None], arrays["input_G_tsf"])
    assert_near(targets.flow[:, 0], arrays["Tst_ref0"])
    assert_near(targets.flow[:, 2], arrays["Tst_ref2"])
    assert_near(previous_flows(targets)[:, 1], arrays["Ttt_ref2"][:, 1])
    seen = compose_targets(sources, poses[:, :1], reference_tables, only_visible=True)
    assert_near(seen.flow[:, 0], arrays["Tst_ref0_only_vis"])


@pytest.mark.parity
def test_silhouettes_of_the_reference(fixtures_folder: Path) -> None:
    arrays = arrays_of(fixtures_folder / "pipeline" / "flow.npz")
    person = 1 - arrays["src_masks_bg1"]
    confident = erode(person, REFERENCE.confidence_kernel)
    assert torch.equal(confident.float(), arrays["confidant_sil"])
    perhaps = (person > 0) | (arrays["src_fim"] >= 0)[:, None]
    assert torch.equal(dilate(perhaps, REFERENCE.extension_kernel).float(), arrays["outpad_sil"])


@pytest.mark.parity
def test_pictures_are_read_with_the_half_pixel_corners(fixtures_folder: Path) -> None:
    from lwgan.generators.warp import sample

    arrays = arrays_of(fixtures_folder / "pipeline" / "flow.npz")
    read = sample(arrays["src_img"][0], arrays["Tst_ref0"][0])
    assert_near(read, arrays["warp_src_by_Tst_ref0"], 1e-5)
    assert (read - arrays["warp_src_align_corners_true"]).abs().max() > 0.01


@pytest.mark.parity
def test_people_of_the_reference(fixtures_folder: Path, reference_tables: SurfaceTables) -> None:
    folder = fixtures_folder / "pipeline"
    arrays = arrays_of(folder / "swap.npz")
    shares = json.loads((folder / "swap_parts.json").read_text())["case_head_body"]["faces"]
    charts = reference_tables.texture_fragments(64)
    people, faces = [], []
    for index, share in enumerate(shares):
        pictures = arrays[f"p{index}_img"]
        vertices = project(arrays[f"p{index}_verts"], arrays[f"p{index}_cam"])[None]
        shown = rasterize(vertices, reference_tables.faces, 64).covered
        person = compose_sources(
            pictures, (~shown).float()[:, :, None], vertices, reference_tables, REFERENCE
        )
        raw = unwrap(pictures, person.texture_points, charts)
        texture = merge_sources(raw, person.texture_visibility)
        assert_near(texture, arrays[f"p{index}_uv_img"])
        own = torch.zeros(reference_tables.num_faces, dtype=torch.bool)
        own[share] = True
        kept = keep_faces(person.texture_points[0, 0], own)
        assert_near(kept, arrays[f"p{index}_selected_obj_f2pts0"], 1e-6)
        people.append(replace(person, texture=texture))
        faces.append(own)
    freely, restricted = (
        merge_people(people, faces, reference_tables, restrict_flow=restrict)
        for restrict in (False, True)
    )
    assert_near(freely.texture, arrays["merge_uv"])
    seen = Fragments(arrays["ref_fim"][:, None], arrays["ref_wim"][:, None])
    assert_near(flow_to(seen, freely.face_points), arrays["Tst_default"], 1e-5)
    assert_near(flow_to(seen, restricted.face_points), arrays["Tst_selected"], 1e-5)
    selected = torch.cat([arrays["p0_selected_f2pts"], arrays["p1_selected_f2pts"]])
    assert_near(restricted.face_points[0], selected, 1e-6)
