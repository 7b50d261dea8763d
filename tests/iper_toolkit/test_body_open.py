"""The embedded body: a closed, symmetric mesh whose joints, landmarks, parts and layers are where they should be."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.assets import find_asset
from iper_toolkit.body import (
    PARTS,
    Body,
    BodyMismatch,
    BodyParams,
    load_body,
    load_layers,
)
from iper_toolkit.body.model import LANDMARKS, read_open_body_file
from iper_toolkit.body.parts import DETAILS, face_normals, parse_parts, part_ids, swap_sides
from iper_toolkit.body.skinning import JOINTS, deform

FLIP = np.array([-1.0, 1, 1], np.float32)
MIRROR_JOINTS = [
    JOINTS.index(n.replace("left", "?").replace("right", "left").replace("?", "right"))
    for n in JOINTS
]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def mirror() -> NDArray[np.int64]:
    return read_open_body_file()["mirror"].astype(np.int64)


def volume(vertices: NDArray, faces: NDArray) -> float:
    """Of a closed mesh, positive if its faces are wound outward; cubic metres."""
    a, b, c = np.moveaxis(vertices[faces].astype(np.float64), 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def test_counts_are_those_of_smpl(body: Body) -> None:
    assert body.id == "open-body-1"
    assert body.template.shape == (6890, 3)
    assert body.faces.shape == (13776, 3)
    assert body.shape_directions.shape == (6890, 3, 10)
    assert body.pose_directions.shape == (6890, 3, 207)
    assert body.weights.shape == (6890, 24)
    assert body.licence == "CC0-1.0"
    assert "MakeHuman" in body.source


def test_the_shipped_file_is_small_and_the_recorded_one() -> None:
    asset = find_asset("open-body")
    asset.check()
    assert asset.path.stat().st_size <= 1.5e6


def test_the_mesh_is_one_closed_surface_wound_outward(body: Body) -> None:
    faces = body.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = set(map(tuple, edges.tolist()))
    assert len(directed) == len(edges), "an edge is used twice in one direction"
    assert directed == {(b, a) for a, b in directed}, "an edge has no face on its other side"
    assert body.num_vertices - len(edges) // 2 + len(faces) == 2, "not one piece without handles"
    assert len(np.unique(faces)) == body.num_vertices
    assert 0.04 < volume(body.template.numpy(), faces) < 0.08  # a person weighs 40 to 80 kg


def test_left_and_right_are_mirror_images(body: Body, mirror: NDArray) -> None:
    template, directions = body.template.numpy(), body.shape_directions.numpy()
    assert np.array_equal(mirror[mirror], np.arange(6890))
    assert np.array_equal(template[mirror] * FLIP, template)
    assert np.array_equal(directions[mirror] * FLIP[:, None], directions)
    faces = body.faces.numpy()
    assert set(map(frozenset, mirror[faces].tolist())) == set(map(frozenset, faces.tolist()))
    assert np.allclose(body.weights.numpy()[mirror][:, MIRROR_JOINTS], body.weights, atol=3e-5)
    regressor = body.joint_regressor.numpy()
    assert np.allclose(regressor[MIRROR_JOINTS][:, mirror], regressor, atol=1e-6)


def test_a_mirrored_pose_gives_a_mirrored_body(body: Body, mirror: NDArray) -> None:
    """All of it at once: shape, joints, weights and pose blend shapes."""
    random = torch.Generator().manual_seed(0)
    pose = 0.5 * torch.randn(3, 24, 3, generator=random)
    shape = torch.randn(3, 10, generator=random)
    mirrored = pose[:, MIRROR_JOINTS] * torch.tensor([1.0, -1.0, -1.0])
    vertices = body.skin(pose.flatten(1), shape).vertices.numpy()
    other = body.skin(mirrored.flatten(1), shape).vertices.numpy()
    # 0.2 mm: weights and blend shapes are stored in steps, and 24 rotations are chained in float32
    assert np.abs(other[:, mirror] * FLIP - vertices).max() < 2e-4


def test_joints_stand_where_smpl_has_them(body: Body) -> None:
    joint = dict(zip(JOINTS, body.joint_template.numpy(), strict=True))
    heights = [joint[n][1] for n in ("left_foot", "left_ankle", "left_knee", "left_hip", "pelvis")]
    heights += [joint[n][1] for n in ("spine1", "spine2", "spine3", "neck", "head")]
    assert heights == sorted(heights)
    arm = [joint[f"left_{n}"] for n in ("collar", "shoulder", "elbow", "wrist", "hand")]
    assert [p[0] for p in arm] == sorted(p[0] for p in arm)
    assert np.ptp([p[1] for p in arm[1:]]) < 0.02, "the arms are level: a T pose"
    assert np.allclose(joint["pelvis"], [0, -0.2233, 0.0282], atol=2e-3)
    for name in JOINTS:
        if name.startswith("left"):
            assert joint[name][0] > 0.05
        elif not name.startswith("right"):
            assert abs(joint[name][0]) < 1e-5


def test_landmarks_are_what_they_are_called(body: Body) -> None:
    point = dict(zip(LANDMARKS, body.template[list(body.landmark_vertices)].numpy(), strict=True))
    joint = dict(zip(JOINTS, body.joint_template.numpy(), strict=True))
    template = body.template.numpy()
    head = template[body.weights.numpy()[:, JOINTS.index("head")] > 0.9]
    assert point["nose"][2] == head[:, 2].max()
    assert point["nose"][0] == 0
    assert body.head_top is not None
    assert template[body.head_top, 1] > template[:, 1].max() - 1e-3
    for eye, ear in (("leye", "lear"), ("reye", "rear")):
        assert point["nose"][1] < point[eye][1]
        assert point["nose"][2] > point[eye][2] > point[ear][2]
        assert abs(point[ear][0]) > 0.06
    ends = [point[f"l{n}"] for n in ("index", "middle", "ring", "pinky")]
    assert [p[2] for p in ends] == sorted((p[2] for p in ends), reverse=True), "index is foremost"
    assert point["lmiddle"][0] == template[:, 0].max()
    assert point["lthumb"][2] > point["lindex"][2]
    assert point["LBigToe"][2] > joint["left_foot"][2]
    assert point["LSmallToe"][0] > point["LBigToe"][0]
    assert point["LHeel"][2] < joint["left_ankle"][2]
    for name in ("LBigToe", "LSmallToe", "LHeel"):
        assert point[name][1] < joint["left_ankle"][1] - 0.03
    for left in ("leye", "lear", "lthumb", "lpinky", "LBigToe", "LHeel"):
        right = left.replace("L", "R") if left[0] == "L" else "r" + left[1:]
        assert np.array_equal(point[right], point[left] * FLIP)


def test_random_shapes_are_adults(body: Body) -> None:
    shapes = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    people = body.template + torch.einsum("vcs,ts->tvc", body.shape_directions, shapes)
    height = (people[..., 1].amax(1) - people[..., 1].amin(1)).numpy()
    assert 1.6 < height.mean() < 1.75
    assert 0.06 < height.std() < 0.13
    assert height.min() > 1.3
    assert height.max() < 2.1
    # ordered as principal components are, by how much they move the body
    energy = body.shape_directions.square().sum((0, 1))
    assert energy[0] > 3 * energy[1]


def test_pose_blend_shapes_keep_bent_limbs_full(body: Body) -> None:
    """Without them linear blending loses more of the body's volume at every bent joint."""
    bare = Body(**{**vars_of(body), "pose_directions": torch.zeros_like(body.pose_directions)})
    rest = volume(body.template.numpy(), body.faces.numpy())
    for name, turn in (
        ("left_knee", (1.9, 0, 0)),
        ("left_hip", (-1.5, 0, 0)),
        ("left_elbow", (0, -1.8, 0)),
        ("left_wrist", (1.5, 0, 0)),
    ):
        pose = torch.zeros(1, 24, 3)
        pose[0, JOINTS.index(name)] = torch.tensor(turn)
        lost = [
            rest
            - volume(
                b.skin(pose.flatten(1), torch.zeros(1, 10)).vertices[0].numpy(), body.faces.numpy()
            )
            for b in (bare, body)
        ]
        assert abs(lost[1]) < 0.75 * abs(lost[0]), (name, lost)


def vars_of(body: Body) -> dict[str, object]:
    return {name: getattr(body, name) for name in Body.__dataclass_fields__}


def test_parts_cover_the_body_and_know_left_from_right(body: Body) -> None:
    surface = body.surface
    assert surface is not None
    centres = body.template.numpy()[body.faces.numpy()].mean(1)
    assert sorted(set(surface.part.tolist())) == list(range(10))
    assert sum(len(surface.faces_of([part])) for part in range(10)) == 13776
    for part, name in enumerate(PARTS):
        side = centres[surface.faces_of([part]).numpy(), 0]
        if name.startswith("left"):
            assert side.min() > -0.02
        elif name.startswith("right"):
            assert side.max() < 0.02
        else:
            assert abs(side.mean()) < 1e-3
        assert len(side) > 300
    head = set(surface.faces_of([0]).tolist())
    large, small = set(surface.facial_large.tolist()), set(surface.facial_small.tolist())
    assert small < large < head
    assert surface.front_face.tolist() == surface.facial_large.tolist()


def test_front_lists_look_ahead(body: Body) -> None:
    surface = body.surface
    assert surface is not None
    normals = face_normals(body.template.numpy(), body.faces.numpy())
    assert (normals[surface.front_body.numpy(), 2] > 0.5).all()
    assert normals[surface.front_face.numpy(), 2].mean() > 0.5
    assert not set(surface.front_body.tolist()) & set(surface.front_face.tolist())


def test_reference_parts_have_the_references_names_and_sides(body: Body) -> None:
    surface = body.surface
    assert surface is not None
    parts = surface.reference_parts()
    assert list(parts)[:3] == ["00_head", "01_torso", "02_left_leg"]
    assert list(parts)[9:] == ["09_right_hand", "10_facial_large", "11_facial_small"]
    centres = body.template.numpy()[body.faces.numpy()].mean(1)
    assert centres[parts["08_left_hand"].numpy(), 0].max() < 0, "an image side: the body's right"
    assert torch.equal(parts["02_left_leg"], surface.faces_of(part_ids(["right_leg"])))
    assert [swap_sides(part) for part in range(12)] == [0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 10, 11]


def test_part_words() -> None:
    assert part_ids(["upper"]) == (1, 4, 5, 8, 9)
    for pair, limb in (("legs", "leg"), ("arms", "arm"), ("feet", "foot"), ("hands", "hand")):
        assert part_ids([pair]) == part_ids([f"left_{limb}", f"right_{limb}"])
        assert part_ids([pair]) == part_ids([pair], sides="image"), "a pair has no side"
    assert part_ids(["left_arm", "head"]) == (0, 4)
    assert part_ids(["left_arm"], sides="image") == (5,)
    assert parse_parts("head-left_foot") == ["head", "left_foot"]
    assert parse_parts("head-left_root", strict=False) == ["head"]
    with pytest.raises(ValueError, match=r"'left_root'.*head, torso"):
        parse_parts("head-left_root")
    with pytest.raises(ValueError, match="Unknown part 'hat'"):
        part_ids(["hat"])


def test_texture_map_is_inside_and_nowhere_folded(body: Body) -> None:
    surface = body.surface
    assert surface is not None
    assert surface.uv is not None
    assert surface.uv_faces is not None
    assert surface.detail is not None
    uv = surface.uv.double().numpy()
    assert uv.min() >= 0
    assert uv.max() <= 1
    a, b, c = np.moveaxis(uv[surface.uv_faces.numpy()], 1, 0)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (area > 0).all()
    assert 0.3 < area.sum() < 1
    # one texture vertex belongs to one vertex of the body
    owner = np.full(len(uv), -1)
    owner[surface.uv_faces.numpy().ravel()] = body.faces.numpy().ravel()
    assert np.array_equal(owner[surface.uv_faces.numpy()], body.faces.numpy())
    assert set(surface.detail.tolist()) == set(range(len(DETAILS)))


def test_layers_lie_on_the_body_in_rest_and_in_motion(body: Body) -> None:
    layers = load_layers()
    assert set(layers) == {"tights", "skirt", "hair", "left_eye", "right_eye"}
    tights = layers["tights"]
    for layer in layers.values():
        assert torch.allclose(layer.weights.sum(1), torch.ones(len(layer.weights)), atol=1e-5)
        assert layer.uv_faces.shape == layer.faces.shape
        assert int(layer.faces.max()) == len(layer.template) - 1
        assert int(layer.uv_faces.max()) == len(layer.uv) - 1
    random = torch.Generator().manual_seed(1)
    pose, shape = 0.4 * torch.randn(1, 72, generator=random), torch.randn(1, 10, generator=random)
    for p, s in ((torch.zeros(1, 72), torch.zeros(1, 10)), (pose, shape)):
        vertices = body.skin(p, s).vertices[0]
        cloth = deform(tights, s, body.skeleton(p, s))[0]
        nearest = torch.cdist(cloth, vertices).amin(1)
        assert nearest.quantile(0.9) < 0.03
        assert nearest.max() < 0.1


def test_a_skirt_between_two_bent_legs_stays_whole(body: Body) -> None:
    """Sitting: linear blending needs no correction where both legs turn alike."""
    pose = torch.zeros(1, 24, 3)
    pose[0, [JOINTS.index("left_hip"), JOINTS.index("right_hip")]] = torch.tensor([-1.5, 0.0, 0.0])
    skirt = load_layers()["skirt"]
    shape = torch.zeros(1, 10)
    sitting = deform(skirt, shape, body.skeleton(pose.flatten(1), shape))[0]
    edges = torch.cat([skirt.faces[:, [0, 1]], skirt.faces[:, [1, 2]], skirt.faces[:, [2, 0]]])
    length = (sitting[edges[:, 0]] - sitting[edges[:, 1]]).norm(dim=1)
    rest = (skirt.template[edges[:, 0]] - skirt.template[edges[:, 1]]).norm(dim=1)
    assert (length / rest).quantile(0.98) < 2.5


def test_keypoints19_are_smpls_joints_and_landmarks(body: Body) -> None:
    posed = body.skin(torch.zeros(1, 72), torch.zeros(1, 10))
    keypoints = body.keypoints19(posed)[0]
    assert keypoints.shape == (19, 3)
    assert torch.equal(keypoints[0], posed.joints[0, JOINTS.index("right_ankle")])
    assert torch.equal(keypoints[9], posed.joints[0, JOINTS.index("left_shoulder")])
    assert torch.equal(keypoints[12], posed.joints[0, JOINTS.index("neck")])
    assert keypoints[13, 1] == keypoints[:, 1].max()
    assert torch.equal(keypoints[14], posed.landmarks[0, 24])
    assert keypoints[15, 0] > 0 > keypoints[16, 0]
    assert keypoints[17, 0] > keypoints[15, 0]


# --- fits -----------------------------------------------------------------------------------------


def test_params_round_trip_and_slices() -> None:
    array = torch.randn(6, 85, generator=torch.Generator().manual_seed(2))
    params = BodyParams.from_array("open-body-1", array)
    assert torch.equal(params.to_array(), array)
    assert len(params) == 6
    assert torch.equal(params[2].to_array(), array[2:3])
    assert torch.equal(params[-1].to_array(), array[5:])
    assert torch.equal(params[1:4].to_array(), array[1:4])
    assert torch.equal(params[[5, 0]].to_array(), array[[5, 0]])
    assert params[1:4].body_id == "open-body-1"
    assert BodyParams.from_array("x", array.double().numpy()).pose.dtype == torch.float32


def test_params_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(T, 85\).*\(4, 82\)"):
        BodyParams.from_array("open-body-1", torch.zeros(4, 82))
    with pytest.raises(ValueError, match=r"shape is \(3, 10\).*4 frames"):
        BodyParams("open-body-1", torch.zeros(4, 3), torch.zeros(4, 72), torch.zeros(3, 10))


def test_a_fit_of_another_body_is_refused(body: Body) -> None:
    params = BodyParams.from_array("smpl-0123456789ab", torch.zeros(2, 85))
    with pytest.raises(BodyMismatch, match=r"'smpl-0123456789ab' and cannot pose 'open-body-1'"):
        body.pose(params)


def test_a_fit_poses_its_body(body: Body) -> None:
    params = BodyParams.from_array("open-body-1", torch.zeros(2, 85))
    posed = body.pose(params)
    assert posed.vertices.shape == (2, 6890, 3)
    assert posed.joints.shape == (2, 24, 3)
    assert posed.landmarks.shape == (2, 45, 3)
    places = posed.vertices[:, list(body.landmark_vertices)]
    assert torch.equal(posed.landmarks[:, 24:], places)


def test_the_body_is_read_once_and_goes_to_a_device(body: Body) -> None:
    assert load_body("open") is load_body("open-body-1") is body
    moved = body.to("cpu", torch.float64)
    assert moved.template.dtype == torch.float64
    assert moved.surface is not None
    assert moved.surface.part.dtype == torch.int64
    assert moved.id == body.id


def test_a_fit_takes_float_tensors_of_one_kind() -> None:
    camera, pose, shape = torch.zeros(2, 3), torch.zeros(2, 72), torch.zeros(2, 10)
    with pytest.raises(TypeError, match="pose is ndarray; a fit takes float tensors"):
        BodyParams("open-body-1", camera, pose.numpy(), shape)
    with pytest.raises(TypeError, match=r"camera is torch\.int64"):
        BodyParams("open-body-1", camera.long(), pose, shape)
    with pytest.raises(TypeError, match=r"shape is torch\.float64, but pose is torch\.float32"):
        BodyParams("open-body-1", camera, pose, shape.double())


def test_posing_says_which_argument_does_not_fit() -> None:
    body = load_body()
    with pytest.raises(ValueError, match=r"shape is \(1, 10\); pose has 2 frames"):
        body.skin(torch.zeros(2, 72), torch.zeros(1, 10))
    with pytest.raises(TypeError, match=r"shape is torch\.float64, but body 'open-body-1' is"):
        body.skin(torch.zeros(2, 72).double(), torch.zeros(2, 10).double())
