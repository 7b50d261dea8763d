"""Skinning against the reference's numbers, smplx, and itself in other batchings."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit.body.model import Body, PosedBody, from_smplx, load_body, smpl_arrays, to_smplx
from iper_toolkit.body.skinning import (
    SkinnedPoints,
    apply_links,
    deform,
    linear_blend_skinning,
    pose_skeleton,
    pose_to_rotations,
)
from iper_toolkit.camera import project_weak_perspective
from iper_toolkit.rotations import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    matrix_to_rotation_6d,
)

Arrays = dict[str, torch.Tensor]
Small = tuple[SkinnedPoints, torch.Tensor, tuple[int, ...]]


@pytest.fixture(scope="module")
def toy(fixtures_folder: Path) -> Arrays:
    with np.load(fixtures_folder / "pipeline" / "smpl_toy.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture(scope="module")
def toy_body(toy: Arrays) -> Body:
    return Body(
        id="toy",
        template=toy["model_v_template"],
        shape_directions=toy["model_shapedirs"],
        pose_directions=toy["model_posedirs"],
        joint_regressor=toy["model_J"],
        weights=toy["model_weights"],
        parents=tuple(toy["parents"].tolist()),
        faces=torch.tensor([[0, 1, 2]]),
        keypoint_regressor=toy["model_coco"],
    )


@pytest.fixture(scope="module")
def toy_body_with_hands(toy: Arrays) -> Body:
    return Body(
        id="toy-with-hands",
        template=toy["model_v_template"],
        shape_directions=toy["model_shapedirs"],
        pose_directions=toy["smplh_posedirs"],
        joint_regressor=toy["smplh_J"],
        weights=toy["smplh_weights"],
        parents=tuple(toy["smplh_parents"].tolist()),
        faces=torch.tensor([[0, 1, 2]]),
        hand_pose=torch.cat([toy["smplh_hands_meanl"], toy["smplh_hands_meanr"]]),
    )


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """1e-4 of the largest value: float32 sums in another order."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def skin(body: Body, theta: torch.Tensor, **options: object) -> PosedBody:
    return body.skin(theta[:, 3:-10], theta[:, -10:], **options)  # type: ignore[arg-type]


@pytest.mark.parity
def test_vertices_keypoints_and_projection(toy: Arrays, toy_body: Body) -> None:
    posed = skin(toy_body, toy["theta85"])
    assert_near(posed.vertices, toy["verts"])
    keypoints = toy_body.keypoints19(posed)
    assert_near(keypoints, toy["j3d"])
    assert_near(project_weak_perspective(keypoints, toy["theta85"][:, :3]), toy["j2d"])


@pytest.mark.parity
@pytest.mark.parametrize(
    ("pose", "expected"), [("pose144", "verts_pose144"), ("pose96_xyzw", "verts_pose96")]
)
def test_other_spellings_of_a_pose(toy: Arrays, toy_body: Body, pose: str, expected: str) -> None:
    posed = toy_body.skin(toy[pose], toy["theta85"][:, -10:])
    assert_near(posed.vertices, toy[expected])


@pytest.mark.parity
def test_offsets_come_before_the_joints(toy: Arrays, toy_body: Body) -> None:
    posed = skin(toy_body, toy["theta85"], offsets=toy["offsets"])
    assert_near(posed.vertices, toy["verts_offsets"])


@pytest.mark.parity
def test_links_replace_posed_vertices(toy: Arrays, toy_body: Body) -> None:
    links = toy["links"]
    flagged = skin(toy_body, toy["theta85"], links=links)
    assert_near(flagged.vertices, toy["verts_links3"])
    assert_near(toy_body.keypoints19(flagged), toy["j3d_links3"])
    used = links[0][links[0][:, 2] == 1]
    assert_near(skin(toy_body, toy["theta85"], links=used[:, :2]).vertices, toy["verts_links2"])
    padded = skin(toy_body, toy["theta85"], links=links[0])
    assert_near(padded.vertices, toy["verts_links_2d_nv3"])


@pytest.mark.parity
def test_turned_base(toy: Arrays, toy_body: Body) -> None:
    assert_near(skin(toy_body, toy["theta85"], turn_base=True).vertices, toy["verts_rotate_base"])


@pytest.mark.parity
def test_body_with_hands(toy: Arrays, toy_body_with_hands: Body) -> None:
    posed = skin(toy_body_with_hands, toy["theta85"])
    assert_near(posed.vertices, toy["smplh_verts_from72"])
    assert_near(posed.joints, toy["smplh_joints52"])
    projected = project_weak_perspective(posed.joints, toy["theta85"][:, :3])
    assert_near(projected, toy["smplh_j2d"])
    full = skin(toy_body_with_hands, toy["theta169"])
    assert_near(full.vertices, toy["smplh_verts_169"])


def test_equals_smplx() -> None:
    """The 45 joints and all vertices, to 1e-5 m, through smplx's own class."""
    body = load_body()
    random = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(5, 72, generator=random)
    shape = torch.randn(5, 10, generator=random)
    ours = body.skin(pose, shape)
    theirs = to_smplx(body, batch_size=5)(
        betas=shape, global_orient=pose[:, :3], body_pose=pose[:, 3:]
    )
    assert (ours.vertices - theirs.vertices).abs().max() < 1e-5
    assert theirs.joints.shape == (5, 45, 3)
    assert (ours.landmarks - theirs.joints).abs().max() < 1e-5


def test_a_body_comes_back_from_smplx_unchanged() -> None:
    body = load_body()
    back = from_smplx(to_smplx(body), body.id)
    for name in ("template", "shape_directions", "pose_directions", "weights", "faces"):
        assert torch.equal(getattr(back, name), getattr(body, name)), name
    assert (back.id, back.parents, back.num_joints) == (body.id, body.parents, 24)
    assert back.landmark_vertices == body.landmark_vertices


def test_smplx_loads_the_pickled_arrays_unchanged(tmp_path: Path) -> None:
    import smplx

    body = load_body()
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(smpl_arrays(body), protocol=2))
    output = smplx.SMPL(str(path))()
    assert (output.vertices[0] - body.template).abs().max() < 1e-6
    assert output.joints.shape == (1, 45, 3)


@pytest.fixture(scope="module")
def small() -> Small:
    """30 random points on a skeleton of 4 joints, float64."""
    random = torch.Generator().manual_seed(1)
    weights = torch.rand(30, 4, generator=random, dtype=torch.float64)
    points = SkinnedPoints(
        template=torch.randn(30, 3, generator=random, dtype=torch.float64),
        shape_directions=torch.randn(30, 3, 2, generator=random, dtype=torch.float64),
        pose_directions=0.1 * torch.randn(30, 3, 27, generator=random, dtype=torch.float64),
        weights=weights / weights.sum(1, keepdim=True),
    )
    regressor = torch.rand(4, 30, generator=random, dtype=torch.float64)
    return points, regressor / regressor.sum(1, keepdim=True), (-1, 0, 1, 0)


def test_matches_the_formula_vertex_by_vertex(small: Small) -> None:
    points, regressor, parents = small
    random = torch.Generator().manual_seed(2)
    rotations = axis_angle_to_matrix(torch.randn(3, 4, 3, generator=random, dtype=torch.float64))
    shape = torch.randn(3, 2, generator=random, dtype=torch.float64)
    vertices, joints = linear_blend_skinning(points, regressor, parents, rotations, shape)
    for t in range(3):
        shaped = points.template + points.shape_directions @ shape[t]
        rest = regressor @ shaped
        feature = (rotations[t, 1:] - torch.eye(3, dtype=torch.float64)).flatten()
        corrected = shaped + points.pose_directions @ feature
        world: list[torch.Tensor] = []
        for joint, parent in enumerate(parents):
            local = torch.eye(4, dtype=torch.float64)
            local[:3, :3] = rotations[t, joint]
            local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
            world.append(world[parent] @ local if joint else local)
        for joint in range(4):
            assert torch.allclose(joints[t, joint], world[joint][:3, 3])
        for v in range(30):
            blend = torch.zeros(4, 4, dtype=torch.float64)
            for joint in range(4):
                back = torch.eye(4, dtype=torch.float64)
                back[:3, 3] = -rest[joint]
                blend += points.weights[v, joint] * (world[joint] @ back)
            expected = blend[:3, :3] @ corrected[v] + blend[:3, 3]
            assert torch.allclose(vertices[t, v], expected)


def test_a_batch_is_its_frames_one_by_one() -> None:
    body = load_body()
    random = torch.Generator().manual_seed(3)
    pose, shape = torch.randn(4, 72, generator=random), torch.randn(4, 10, generator=random)
    together = body.skin(pose, shape).vertices
    alone = torch.cat([body.skin(pose[[t]], shape[[t]]).vertices for t in range(4)])
    assert (together - alone).abs().max() < 1e-5


def test_a_long_clip_is_skinned_in_blocks_alike(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, regressor, parents = small
    random = torch.Generator().manual_seed(8)
    rotations = axis_angle_to_matrix(torch.randn(7, 4, 3, generator=random, dtype=torch.float64))
    shape = torch.randn(7, 2, generator=random, dtype=torch.float64)
    offsets = torch.randn(7, 30, 3, generator=random, dtype=torch.float64)
    arguments = (points, regressor, parents, rotations, shape, offsets)
    whole = linear_blend_skinning(*arguments)[0]
    monkeypatch.setattr("iper_toolkit.body.skinning._POINTS_AT_ONCE", 2 * 30)
    assert torch.allclose(linear_blend_skinning(*arguments)[0], whole)


def test_no_frames_give_no_bodies() -> None:
    assert load_body().skin(torch.zeros(0, 72), torch.zeros(0, 10)).vertices.shape == (0, 6890, 3)


def test_a_subset_moves_as_on_the_whole_body() -> None:
    body = load_body()
    random = torch.Generator().manual_seed(4)
    pose, shape = torch.randn(4, 72, generator=random), torch.randn(4, 10, generator=random)
    whole = body.skin(pose, shape)
    points, joints = body.subset(body.landmark_vertices).skin(pose, shape)
    assert (points - whole.landmarks[:, 24:]).abs().max() < 1e-5
    assert (joints - whole.joints).abs().max() < 1e-5


def test_rest_pose_is_the_template_and_a_root_turn_is_rigid() -> None:
    body = load_body()
    still = body.skin(torch.zeros(1, 72), torch.zeros(1, 10))
    assert (still.vertices[0] - body.template).abs().max() < 1e-6
    turn = torch.zeros(1, 72)
    turn[0, :3] = torch.tensor([0.3, -1.0, 0.5])
    turned = body.skin(turn, torch.zeros(1, 10)).vertices[0]
    pelvis = body.joint_template[0]
    expected = (body.template - pelvis) @ axis_angle_to_matrix(turn[0, :3]).T + pelvis
    assert (turned - expected).abs().max() < 1e-5


def test_every_spelling_of_a_pose_gives_the_same_rotations() -> None:
    pose = torch.randn(2, 72, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    matrices = axis_angle_to_matrix(pose.view(2, 24, 3))
    quaternions = matrix_to_quaternion(matrices, order="xyzw").reshape(2, 96)
    sixes = matrix_to_rotation_6d(matrices).reshape(2, 144)
    for spelled in (pose, quaternions, sixes, matrices):
        assert torch.allclose(pose_to_rotations(spelled, 24), matrices, atol=1e-9)


def test_a_pose_of_the_wrong_length_says_what_is_taken() -> None:
    with pytest.raises(ValueError, match=r"70 numbers fits no body of 24 joints.*72"):
        pose_to_rotations(torch.zeros(1, 70), 24)
    with pytest.raises(ValueError, match="hand_pose"):
        pose_to_rotations(torch.zeros(1, 72), 52)


def test_points_of_unequal_sizes_are_refused(small: Small) -> None:
    points, _, _ = small
    with pytest.raises(ValueError, match=r"template is \(29, 3\).*\(30, 3\)"):
        SkinnedPoints(
            points.template[1:], points.shape_directions, points.pose_directions, points.weights
        )


def test_links_of_a_single_list_hold_for_all_frames() -> None:
    vertices = torch.arange(24.0).view(2, 4, 3)
    linked = apply_links(vertices, torch.tensor([[0, 3], [3, 0]]))
    assert torch.equal(linked[:, 0], vertices[:, 3])
    assert torch.equal(linked[:, 3], vertices[:, 0])
    assert torch.equal(linked[:, 1:3], vertices[:, 1:3])


def test_gradients_reach_pose_shape_and_offsets(small: Small) -> None:
    """Along a random direction, against central differences."""
    points, regressor, parents = small
    random = torch.Generator().manual_seed(6)
    sizes = ((1, 4, 3), (1, 2), (30, 3))
    start, way = (
        [torch.randn(*size, generator=random, dtype=torch.float64) for size in sizes]
        for _ in range(2)
    )
    towards = torch.randn(1, 30, 3, generator=random, dtype=torch.float64)

    def loss(pose: torch.Tensor, shape: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        rotations = axis_angle_to_matrix(pose)
        vertices, joints = linear_blend_skinning(
            points, regressor, parents, rotations, shape, offsets
        )
        return (vertices * towards).sum() + joints.square().sum()

    inputs = [value.clone().requires_grad_() for value in start]
    loss(*inputs).backward()
    for index in range(3):
        step = [1e-5 * w if k == index else torch.zeros_like(w) for k, w in enumerate(way)]
        ahead = loss(*(s + d for s, d in zip(start, step, strict=True)))
        behind = loss(*(s - d for s, d in zip(start, step, strict=True)))
        gradient = inputs[index].grad
        assert gradient is not None
        assert torch.isclose((gradient * way[index]).sum(), (ahead - behind) / 2e-5, rtol=1e-6)


def test_float64_stays_float64() -> None:
    body = load_body().to(dtype=torch.float64)
    posed = body.skin(
        torch.zeros(1, 72, dtype=torch.float64), torch.zeros(1, 10, dtype=torch.float64)
    )
    assert posed.vertices.dtype == torch.float64
    assert body.faces.dtype == torch.int64


def test_layers_follow_the_skeleton_of_the_body() -> None:
    """A garment that is the body itself is posed as the body is."""
    body = load_body()
    pose = 0.3 * torch.randn(2, 72, generator=torch.Generator().manual_seed(7))
    skeleton = body.skeleton(pose, torch.zeros(2, 10))
    again = deform(body.points, torch.zeros(2, 10), skeleton)
    assert torch.equal(again, body.skin(pose, torch.zeros(2, 10)).vertices)
    assert skeleton.transforms.shape == (2, 24, 3, 4)
    rest = body.joint_template.expand(2, -1, -1)
    chained = pose_skeleton(rest, skeleton.rotations, body.parents)
    assert torch.allclose(chained.joints, skeleton.joints)
