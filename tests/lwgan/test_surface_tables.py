"""Codes, charts and neighbours of a body's surface: by hand, by brute force, and as the reference has them."""

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.assets import MissingAsset
from iper_toolkit.body import Body, Surface, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import Fragments, rasterize
from lwgan import surface_tables as module
from lwgan.correspondence import (
    condition_map,
    face_points,
    flow_to,
    keep_faces,
    visible_faces,
    with_neighbours,
)
from lwgan.surface_tables import (
    CODE_TABLES,
    Convention,
    SurfaceTables,
    build_tables,
    code_table,
    drawing_order,
    nearest_faces,
    surface_tables,
)

WEIGHT_TOLERANCE = 1e-3  # the reference computes its weights by an inverse with cancellation
ROUNDING = 1e-6  # of float32 in [-1, 1]
# Changing one of these makes every checkpoint trained on the open body refuse it.
OPEN_BODY_DIGESTS: dict[Convention, str] = {
    "reference": "3ed59d603068f00f89de14caaa42fd4d7f7344421703432bee9aa8ed2e852c59",
    "corrected": "19363af6af86eb0699734dbd5d1962038ff288ac9a9c2064ce75e55d8a2dc819",
}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module", params=["reference", "corrected"])
def tables(request: pytest.FixtureRequest, body: Body) -> SurfaceTables:
    return surface_tables(body, request.param)


@pytest.fixture
def two_faces() -> Surface:
    """A square of two triangles, head and torso; the second one's chart is mirrored."""
    return Surface(
        part=torch.tensor([0, 1]),
        facial_large=torch.tensor([0]),
        facial_small=torch.tensor([], dtype=torch.int64),
        front_body=torch.tensor([1]),
        uv=torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [1.0, 0.5], [0.5, 1.0]]),
        uv_faces=torch.tensor([[0, 1, 2], [3, 1, 4]]),
    )


FACES = torch.tensor([[0, 1, 2], [1, 2, 3]])


def test_every_number_of_two_faces(two_faces: Surface) -> None:
    reference = build_tables("square", FACES, two_faces, "reference")
    assert reference.uv_corners.tolist() == [
        [[-1, 1], [0, 1], [-1, 0]],
        [[1, 0], [0, 1], [0, -1]],
    ]
    assert reference.texture_faces.tolist() == [[0, 1, 2], [3, 2, 1]]
    assert reference.texture_corners[1].tolist() == [[0, -1], [0, 1], [1, 0]]
    assert reference.code.tolist() == [[-0.5, 1, 0], [0, 0, 0], [0, 0, 1]]  # middles of first edges
    assert reference.nearest.tolist() == [[0, 0, 0], [1, 1, 1]]  # alone in their parts
    corrected = build_tables("square", FACES, two_faces, "corrected")
    expected = torch.tensor([[-2 / 3, 2 / 3, 0], [1 / 3, 0, 0], [0, 0, 1]])
    assert torch.equal(corrected.code, expected)
    assert torch.equal(corrected.texture_faces, reference.texture_faces)
    # the first edge is that of the face as it is drawn in the texture
    rewound = replace(two_faces, texture_order=torch.tensor([[0, 1, 2], [0, 2, 1]]))
    other = build_tables("square", FACES, rewound, "reference")
    assert other.code[1].tolist() == [0.5, -0.5, 0]


def test_the_digest_is_of_the_bytes_whatever_the_machine(two_faces: Surface) -> None:
    tables = build_tables("square", FACES, two_faces, "reference")
    content = b"reference;(2, 3);(3, 3);" + struct.pack(
        "<6q9f", *(0, 1, 2, 1, 2, 3), *(-0.5, 1, 0, 0, 0, 0, 0, 0, 1)
    )
    assert tables.digest == hashlib.sha256(content).hexdigest()
    assert tables.id == ("square", tables.digest, "reference")
    same = build_tables("another name", FACES.int(), two_faces, "reference")
    assert same.digest == tables.digest
    turned = build_tables("square", FACES.roll(1, 1), two_faces, "reference")
    assert two_faces.uv is not None
    moved = replace(two_faces, uv=two_faces.uv + 1e-7)
    assert turned.digest != tables.digest
    assert build_tables("square", FACES, moved, "reference").digest != tables.digest


def test_the_open_bodys_digests_stand(tables: SurfaceTables) -> None:
    assert tables.id == ("open-body-1", OPEN_BODY_DIGESTS[tables.convention], tables.convention)
    assert len(set(OPEN_BODY_DIGESTS.values())) == 2


def test_every_face_is_drawn_once_and_the_right_way_in_the_texture(
    tables: SurfaceTables, body: Body
) -> None:
    fragments = tables.texture_fragments(1536)
    assert fragments is tables.texture_fragments(1536)
    assert visible_faces(fragments, tables.num_faces).float().mean() > 0.998  # some are subtexel
    # each texel's weights lead back to the texel itself
    texel = flow_to(fragments, tables.texture_corners)
    place = (2 * torch.arange(1536) + 1) / 1536 - 1
    wanted = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1)
    assert (texel - wanted)[fragments.covered].abs().max() < 1e-5
    assert torch.equal(
        tables.texture_faces.sort(1).values, body.faces.sort(1).values
    )  # the same vertices


def test_charts_can_be_trained_through_wherever_they_were_drawn_first(two_faces: Surface) -> None:
    tables = build_tables("square", FACES, two_faces, "corrected")
    with torch.inference_mode():
        charts = tables.texture_fragments(32)
    assert not charts.face.is_inference()
    assert not charts.barycentric.is_inference()
    points = torch.rand(2, 3, 2, requires_grad=True)
    flow_to(tables.texture_fragments(32), points).sum().backward()
    assert points.grad is not None


def test_mirrored_charts_are_drawn_like_the_others(body: Body) -> None:
    assert body.surface is not None
    assert body.surface.uv is not None
    assert body.surface.uv_faces is not None
    plain = build_tables("open", body.faces, body.surface, "corrected")
    uv = body.surface.uv[body.surface.uv_faces].flatten(0, 1)  # each face with corners of its own
    corners = torch.arange(len(uv)).reshape(-1, 3)
    mirrored = replace(body.surface, uv=uv * torch.tensor([-1, 1]) + torch.tensor([1, 0]))
    mirrored = replace(mirrored, uv_faces=corners)
    tables = build_tables("mirrored", body.faces, mirrored, "corrected")
    assert torch.equal(tables.texture_faces, body.faces.flip(1))
    assert torch.equal(tables.texture_corners, tables.uv_corners.flip(1))
    picture, image = tables.texture_fragments(256), plain.texture_fragments(256)
    assert (picture.face == image.face.flip(1)).float().mean() > 0.999  # edges fall both ways


def test_drawing_order_turns_only_what_is_mirrored() -> None:
    corners = torch.tensor([[[0.0, 0], [0, 1], [1, 0]], [[0.0, 0], [1, 0], [0, 1]]])
    assert drawing_order(corners).tolist() == [[0, 1, 2], [2, 1, 0]]


def test_nearest_faces_are_the_nearest_of_the_group() -> None:
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 12, (120, 2)).astype(float)  # on a grid: many equal distances
    groups = [torch.arange(0, 70), torch.arange(70, 118), torch.arange(20, 40)]
    found = nearest_faces(centres, [*groups, torch.arange(0)]).numpy()
    for face in range(120):
        group = next((g.numpy() for g in reversed(groups) if face in g), np.array([face]))
        distance = np.linalg.norm(centres[group] - centres[face], axis=1)
        expected = group[np.lexsort((group, distance))][:3]
        # where more faces are equally near than are looked at, any of them is right
        listed = np.linalg.norm(centres[found[face]] - centres[face], axis=1)
        np.testing.assert_array_equal(listed[: len(expected)], np.sort(distance)[:3])
        assert set(found[face]) <= set(group)
    assert found[118].tolist() == [118] * 3


def test_neighbours_stay_in_their_part_and_facial_faces_only_under_reference(
    tables: SurfaceTables,
) -> None:
    surface, nearest = tables.surface, tables.nearest
    itself = nearest == torch.arange(tables.num_faces)[:, None]
    assert bool(itself.any(1).all())  # not always first: two faces share the middle of an edge
    assert bool((surface.part[nearest] == surface.part[:, None]).all())
    facial = torch.zeros(tables.num_faces, dtype=torch.bool)
    facial[surface.facial_large] = True
    leave = (~facial[nearest[facial]]).any()
    assert bool(leave) is (tables.convention == "corrected")


def test_what_the_code_tables_say(tables: SurfaceTables) -> None:
    widths = {name: code_table(tables, name).shape for name in CODE_TABLES}
    rows = tables.num_faces + 1
    channels = {"uv_seg": 3, "uv": 2, "par": 13, "binary": 14}
    assert widths == {name: (rows, channels.get(name, 1)) for name in CODE_TABLES}
    assert torch.equal(code_table(tables, "uv")[:-1], tables.code[:-1, :2])
    assert code_table(tables, "uv")[-1].tolist() == [-1, -1]
    assert code_table(tables, "seg").flatten().tolist() == [1] * tables.num_faces + [0]
    parts = code_table(tables, "par")
    assert parts[-1].tolist() == [0] * 12 + [1]
    assert bool((parts[:, [*range(10), 12]].sum(1) == 1).all())
    left_leg = 3 if tables.convention == "reference" else 2
    assert torch.equal(parts[:-1, left_leg] == 1, tables.surface.part == 2)
    head, facial, back = (code_table(tables, name) for name in ("head", "facial", "back"))
    assert torch.equal(head, facial + back)
    assert bool((back >= 0).all())
    assert head.sum() == (tables.surface.part == 0).sum()
    assert code_table(tables, "front").sum() == len(tables.surface.front_body)
    ids = code_table(tables, "ids")
    assert torch.equal((ids[:-1, 0] * tables.num_faces).round(), torch.arange(rows - 1.0))
    digits = code_table(tables, "binary")
    assert "".join(str(int(bit)) for bit in digits[9999]) == f"{9999:014b}"
    for name in ("ids", "binary"):
        assert bool((code_table(tables, name)[-1] == -1).all())


def test_the_tables_move_as_one(tables: SurfaceTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Surface, "to", lambda surface, device: device)
    tables.texture_fragments(8)
    moved = tables.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 6
    assert all(value.is_meta for value in tensors)
    assert moved.surface == "meta"
    assert moved.id == tables.id
    assert not moved._fragments


def test_a_users_body_without_files_is_told_which_to_put_where(
    body: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert body.surface is not None
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    bare = replace(body, surface=replace(body.surface, uv=None, uv_faces=None))
    for without in (bare, replace(body, surface=None)):
        with pytest.raises(MissingAsset) as caught:
            surface_tables(without, "reference")
        for part in ("mapper_uv.txt", "head.json", str(tmp_path / "smpl"), "IPER_ASSETS"):
            assert part in str(caught.value)
    # files that came after the body was loaded are found
    monkeypatch.setattr(module, "read_surface_files", lambda faces: body.surface)
    assert surface_tables(bare, "reference").digest == OPEN_BODY_DIGESTS["reference"]


def test_wrong_arguments_are_named(two_faces: Surface, tables: SurfaceTables) -> None:
    with pytest.raises(ValueError, match=r"Unknown convention 'exact'.*reference, corrected"):
        build_tables("square", FACES, two_faces, "exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'square' has no texture map"):
        build_tables("square", FACES, replace(two_faces, uv=None, uv_faces=None), "reference")
    with pytest.raises(ValueError, match=r"uv_faces is \(2, 3\), but faces is \(1, 3\)"):
        build_tables("square", FACES[:1], two_faces, "reference")
    with pytest.raises(ValueError, match=r"Unknown code table 'depth'.*uv_seg"):
        code_table(tables, "depth")
    with pytest.raises(ValueError, match="2 permutations of 0, 1, 2"):
        replace(two_faces, texture_order=torch.tensor([[0, 1, 2], [0, 1, 1]]))


# What the reference has ---------------------------------------------------------------------------


@pytest.mark.parity
def test_tables_of_the_reference(
    toy_tables: SurfaceTables, raster_arrays: dict[str, NDArray]
) -> None:
    expected = raster_arrays
    np.testing.assert_allclose(toy_tables.code, expected["map_fn"], atol=ROUNDING)
    np.testing.assert_array_equal(code_table(toy_tables, "par"), expected["map_par"])
    np.testing.assert_allclose(toy_tables.uv_corners, expected["f_uvs2img"], atol=ROUNDING)
    np.testing.assert_array_equal(toy_tables.texture_faces, expected["faces_obj"])
    corners = expected["f_img2uvs"][..., :2]
    np.testing.assert_allclose(toy_tables.texture_corners, corners, atol=ROUNDING)


@pytest.mark.parity
def test_the_texture_as_the_reference_draws_it(
    toy_tables: SurfaceTables, raster_arrays: dict[str, NDArray]
) -> None:
    fragments = toy_tables.texture_fragments(64)
    np.testing.assert_array_equal(fragments.face[None], raster_arrays["uv_fim"])
    weights = fragments.barycentric[None]
    np.testing.assert_allclose(weights, raster_arrays["uv_wim"], atol=WEIGHT_TOLERANCE)
    # the rule that we compute where no file settles it finds the same charts mirrored
    ours = drawing_order(toy_tables.uv_corners)
    assert torch.equal(toy_tables.faces.gather(1, ours), toy_tables.texture_faces)


@pytest.mark.parity
def test_neighbours_of_the_reference(
    toy_tables: SurfaceTables, raster_arrays: dict[str, NDArray]
) -> None:
    expected = torch.from_numpy(raster_arrays["face_k_nearest"])
    rows = torch.arange(toy_tables.num_faces)
    assert_as_near(toy_tables, rows, expected)
    same = toy_tables.nearest.sort(1).values == expected.sort(1).values
    assert (
        same.all(1).float().mean() > 0.98
    )  # the reference's distances round, and ties fall anyhow


def assert_as_near(tables: SurfaceTables, rows: Tensor, listed: Tensor) -> None:
    """Each listed face is of the same part, and no farther than the third nearest there (ours)."""
    centres = tables.code[:, :2].double()

    def distance(neighbours: Tensor) -> Tensor:
        return (centres[neighbours] - centres[rows][:, None]).square().sum(-1)

    limit = distance(tables.nearest[rows]).amax(1, keepdim=True)
    assert bool((distance(listed) <= limit + 1e-6).all())
    parts = code_table(tables, "par")[:-1, :12]
    last = 11 - parts[rows].flip(1).argmax(1)  # of overlapping parts, the one that holds
    assert bool((parts[listed, last[:, None]] == 1).all())


@pytest.mark.parity
def test_the_mesh_of_smpl_itself(fixtures_folder: Path) -> None:
    from iper_toolkit.body import surface_files

    paths = [surface_files.find_asset(name).path for name in surface_files.ASSETS]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        pytest.skip(f"needs iPERCore's files for SMPL; not there: {', '.join(missing)}")
    with np.load(fixtures_folder / "pipeline" / "realmesh.npz") as arrays:
        expected = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    lines = [line.split() for line in paths[0].read_text().splitlines()]
    numbers = [[float(word) for word in line[1:4]] for line in lines if line and line[0] == "v"]
    corners = [[word.split("/")[0] for word in line[1:]] for line in lines if line[:1] == ["f"]]
    faces = torch.from_numpy(np.array(corners, np.int64) - 1)
    surface = surface_files.read_surface_files(faces)
    tables = build_tables("smpl", faces, surface, "reference")
    rows = expected["face_ids"].long()

    torch.testing.assert_close(tables.code[rows], expected["map_fn_rows"], atol=ROUNDING, rtol=0)
    assert torch.equal(tables.code[-1], expected["map_fn_bg"])
    assert torch.equal(code_table(tables, "head")[rows], expected["head_map_rows"])
    assert_as_near(tables, rows, expected["face_k_nearest_rows_k3"])
    for ours, theirs in (
        (tables.uv_corners[rows], expected["f_uvs2img_rows"]),
        (tables.texture_corners[rows], expected["f_img2uvs_rows"][..., :2]),
    ):
        torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0)
    assert_same_picture(
        tables.texture_fragments(128), expected["uv_fim_128"], expected["uv_wim_128"]
    )

    yaw = expected["yaw_deg"].deg2rad()
    cosine, sine, zero, one = yaw.cos(), yaw.sin(), 0 * yaw, 0 * yaw + 1
    turn = torch.stack([cosine, zero, sine, zero, one, zero, -sine, zero, cosine], 1).reshape(
        2, 3, 3
    )
    turned = torch.tensor(numbers, dtype=torch.float64) @ (
        turn @ torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    ).transpose(1, 2)
    projected = project(turned.float(), expected["cam"])
    seen = rasterize(projected, faces, 128)
    assert_same_picture(seen, expected["fim"], expected["wim"])
    seen_in_texture_order = rasterize(projected, tables.texture_faces, 128)
    assert (seen_in_texture_order.face == expected["obj_fim"]).float().mean() > 0.998
    points = face_points(projected, faces)
    torch.testing.assert_close(points[:, rows], expected["f2pts_rows"], atol=1e-5, rtol=0)

    # from here on with the reference's own face maps
    stored = Fragments(expected["fim"].int(), seen.barycentric)
    condition = condition_map(stored, tables.code)
    torch.testing.assert_close(condition, expected["cond"].float(), atol=1e-3, rtol=0)  # float16
    agree = seen.face[1] == expected["fim"][1]
    flow = flow_to(Fragments(seen.face[1], seen.barycentric[1]), points[0])
    torch.testing.assert_close(flow[agree], expected["T_0_to_1"][0][agree], atol=1e-3, rtol=0)
    visible = visible_faces(stored, tables.num_faces)
    kept = with_neighbours(visible, tables.nearest)
    assert (kept == expected["only_vis_kept"]).float().mean() > 0.99  # ties among neighbours
    assert bool((keep_faces(points, kept)[~kept] == -2).all())
    counts = [
        [visible[i, s].sum() for s in (surface.front_body, surface.front_face)] for i in (0, 1)
    ]
    assert torch.equal(torch.tensor(counts), expected["front_counts_body_face"].long())


def assert_same_picture(ours: Fragments, face: Tensor, weights: Tensor) -> None:
    same = ours.face == face
    assert same.float().mean() > 0.998
    worst = (ours.barycentric - weights.float())[same].abs().max()
    assert worst < 2 * WEIGHT_TOLERANCE  # they are stored as float16
