"""What is planned: cameras, feet on the ground, views, bullet time, and whose parts are worn."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iper_toolkit.body import Body, BodyMismatch, BodyParams, load_body
from iper_toolkit.grounding import foot_height
from iper_toolkit.rotations import axis_angle_to_matrix, axis_rotation, matrix_to_axis_angle
from iper_toolkit.smoothing import smooth_motion
from lwgan.person import Dressed, Motion, Person
from lwgan.tasks import Plan, imitate, owned_faces, share_parts, transfer, view

SIZE = 16


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


def fits(count: int, seed: int = 0) -> Tensor:
    """(count, 85) people who stand about upright and face the camera."""
    draw = torch.Generator().manual_seed(seed)
    array = torch.randn(count, 85, generator=draw) * 0.1
    array[:, 0] += 0.8
    array[:, 3:6] = torch.tensor([math.pi, 0, 0])
    return array


def person(name: str = "ann", seed: int = 0, body_id: str = "open-body-1") -> Person:
    return Person(
        name=name,
        pictures=np.zeros((2, SIZE, SIZE, 3), np.uint8),
        masks=np.zeros((2, SIZE, SIZE), np.uint8),
        params=BodyParams.from_array(body_id, fits(2, seed)),
    )


def motion(count: int = 6, seed: int = 9, body_id: str = "open-body-1") -> Motion:
    return Motion(BodyParams.from_array(body_id, fits(count, seed)), fps=30, name="dance")


def feet_in_picture(body: Body, params: BodyParams) -> Tensor:
    return params.camera[:, 0] * (foot_height(body.pose(params).vertices) + params.camera[:, 2])


def test_imitation_takes_the_pose_of_the_motion_and_the_shape_of_source_0(body: Body) -> None:
    ann, dance = person(), motion()
    (plan,) = imitate(ann, dance, body, smooth=False)
    torch.testing.assert_close(plan.params.pose, dance.params.pose)
    torch.testing.assert_close(plan.params.shape, ann.params.shape[:1].expand(6, -1))
    assert (plan.task, plan.fps, plan.motion_frames) == ("imitate", 30, (0, 1, 2, 3, 4, 5))


def test_camera_strategies(body: Body) -> None:
    ann, dance = person(), motion()
    source, driver = ann.params.camera[0], dance.params.camera

    def cameras(strategy: str) -> Tensor:
        return imitate(ann, dance, body, camera=strategy, smooth=False)[0].params.camera  # type: ignore[arg-type]

    torch.testing.assert_close(cameras("source"), source.expand(6, -1))
    torch.testing.assert_close(cameras("copy"), driver)
    torch.testing.assert_close(cameras("ref_txty")[:, 0], source[0].expand(6))
    torch.testing.assert_close(cameras("ref_txty")[:, 1:], driver[:, 1:])
    smooth = cameras("smooth")
    torch.testing.assert_close(smooth[0], source)
    torch.testing.assert_close(smooth[:, :2], source[:2].expand(6, -1))
    with pytest.raises(ValueError, match=r"'walk'\. Choose one of: smooth, source, copy, ref_txty"):
        cameras("walk")


def test_smooth_keeps_the_drivers_feet_on_one_line_and_lets_jumps_be_jumps(body: Body) -> None:
    ann = person()
    dance = motion(30)
    lift = torch.zeros(30)
    lift[10:20] = -0.5 * torch.sin(torch.arange(10) * math.pi / 9)  # half a metre up and down
    array = fits(1, 9).repeat(30, 1)
    array[:, 2] += lift
    array[:, 1] += torch.linspace(0, 1, 30)
    dance = Motion(BodyParams.from_array("open-body-1", array), fps=30)
    (plan,) = imitate(ann, dance, body, smooth=False)
    torch.testing.assert_close(plan.params.camera[:, 1], ann.params.camera[:1, 1].expand(30))
    rise = plan.params.camera[:, 2] - ann.params.camera[0, 2]
    np.testing.assert_allclose(rise, lift, atol=1e-5)


def test_the_motion_is_low_passed_first_unless_told_not_to(body: Body) -> None:
    ann, dance = person(), motion(20)
    cut = {"pose_cutoff": 200.0, "camera_cutoff": 80.0}
    (plan,) = imitate(ann, dance, body, camera="copy", **cut)
    expected = smooth_motion(dance.params.to_array(), 200, 80)
    torch.testing.assert_close(plan.params.camera, expected[:, :3])
    torch.testing.assert_close(plan.params.pose, expected[:, 3:-10])
    assert not torch.equal(plan.params.pose, dance.params.pose)
    assert plan.settings["pose_cutoff"] == 200


def test_views_do_not_add_up_and_negative_angles_turn_back(body: Body) -> None:
    ann, dance = person(), motion()
    plans = imitate(ann, dance, body, smooth=False, views=[45, 90, -90, 360])
    assert [plan.name for plan in plans] == ["view 45", "view 90", "view -90", "view 360"]
    root = axis_angle_to_matrix(dance.params.pose[:, :3].double())
    for plan, degrees in zip(plans, [45, 90, -90, 360], strict=True):
        turned = axis_rotation("y", torch.tensor(math.radians(degrees)).double()) @ root
        actual = axis_angle_to_matrix(plan.params.pose[:, :3].double())
        np.testing.assert_allclose(actual, turned, atol=1e-5)
        torch.testing.assert_close(plan.params.camera, plans[0].params.camera)
        torch.testing.assert_close(plan.params.pose[:, 3:], dance.params.pose[:, 3:])
    with pytest.raises(ValueError, match="finite"):
        imitate(ann, dance, body, views=[math.nan])


def test_bullet_time_is_as_long_as_it_says_and_names_the_frame_it_stops_at(body: Body) -> None:
    ann, dance = person(), motion()
    (plan,) = imitate(ann, dance, body, smooth=False, bullet_time=[(2, 5)])
    assert len(plan) == 6 + 5
    assert plan.motion_frames == (0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5)
    still = plan.params[slice(2, 8)]
    torch.testing.assert_close(still.pose[:, 3:], dance.params.pose[2, 3:].expand(6, -1))
    torch.testing.assert_close(still.camera, plan.params.camera[7].expand(6, -1))
    roots = axis_angle_to_matrix(still.pose[:, :3].double())
    for begin_and_end in (0, 4):
        np.testing.assert_allclose(roots[begin_and_end], roots[5], atol=1e-5)
    for stop in [(6, 7), (99, 7), (-1, 7), (2, 0)]:
        with pytest.raises(ValueError, match=r"6 frames are imitated.*frame from 0 to 5"):
            imitate(ann, dance, body, bullet_time=[stop])


def test_the_time_stops_in_the_view_that_it_is_seen_from(body: Body) -> None:
    straight, aside = imitate(person(), motion(), body, views=[0, 90], bullet_time=[(2, 5)])
    quarter = axis_rotation("y", torch.tensor(math.pi / 2).double())
    roots, turned = (axis_angle_to_matrix(p.params.pose[:, :3].double()) for p in (straight, aside))
    np.testing.assert_allclose(turned, quarter @ roots, atol=1e-5)
    torch.testing.assert_close(aside.params.camera, straight.params.camera)


@pytest.mark.parametrize("camera", ["smooth", "source", "copy", "ref_txty"])
def test_a_piece_of_a_motion_moves_as_it_does_in_the_whole(body: Body, camera: Any) -> None:
    """Chosen frames are no neighbours: to smooth them as such would mix moments far apart."""
    ann, whole = person(), motion(30)
    (full,) = imitate(ann, whole, body, camera=camera)
    for frames in [(0, 14, 29), tuple(range(5, 20)), (20, 3, 3)]:
        piece = dataclasses.replace(whole, frames=frames)
        (plan,) = imitate(ann, piece, body, camera=camera)
        torch.testing.assert_close(plan.params.to_array(), full.params.to_array()[list(frames)])
        assert plan.motion_frames == tuple(range(len(frames)))
        worn = transfer([Dressed(ann)], piece, body, camera=camera)
        torch.testing.assert_close(worn.params.to_array(), plan.params.to_array())


def test_frames_without_a_fit_part_a_motion(body: Body) -> None:
    """The stretches on both sides are smoothed on their own, and stand on one ground."""
    ann, array = person(), motion(30).params.to_array()
    array[14] = torch.nan
    chosen = (*range(14), *range(15, 30))
    parted = Motion(BodyParams.from_array("open-body-1", array), fps=30, frames=chosen)
    (plan,) = imitate(ann, parted, body)
    for stretch, drawn in ((slice(0, 14), slice(0, 14)), (slice(15, 30), slice(14, 29))):
        expected = smooth_motion(array[stretch])[:, 3:-10]
        torch.testing.assert_close(plan.params.pose[drawn], expected)
    still = array.clone()
    still[:, 3:] = array[0, 3:]
    still[14], still[15:, 2] = torch.nan, still[15:, 2] + 1  # it lies lower in the picture
    stood = Motion(BodyParams.from_array("open-body-1", still), fps=30, frames=chosen)
    (plan,) = imitate(ann, stood, body)
    picture = feet_in_picture(body, plan.params)
    np.testing.assert_allclose(picture, picture[0].expand(29), atol=1e-4)


def leaning(count: int, degrees: float) -> Motion:
    """Somebody who stands still and leans to the side, of the shape of `person`."""
    array = fits(2)[:1].repeat(count, 1)
    lean = axis_rotation("z", torch.tensor(math.radians(degrees)).double())
    root = matrix_to_axis_angle(lean @ torch.diag(torch.tensor([1.0, -1, -1]).double()))
    array[:, 3:6] = root
    return Motion(BodyParams.from_array("open-body-1", array), fps=30)


def test_feet_stay_on_the_ground_while_time_stands_still(body: Body) -> None:
    ann, lean = person(), leaning(4, 35)
    (plain,) = imitate(ann, lean, body, smooth=False)
    ground = feet_in_picture(body, plain.params)
    np.testing.assert_allclose(ground, ground[0].expand(4), atol=1e-5)
    for plan in imitate(ann, lean, body, smooth=False, bullet_time=[(2, 6)], views=[0, 90]):
        picture = feet_in_picture(body, plan.params)
        np.testing.assert_allclose(picture, ground[0].expand(10), atol=1e-5)


def test_other_cameras_stand_still_with_the_time(body: Body) -> None:
    ann, dance = person(), motion()
    source, driver = ann.params.camera[0], dance.params.camera
    frames = [0, 1, 2, 2, 2, 3, 4, 5]
    expected = {
        "source": source.expand(8, -1),
        "copy": driver[frames],
        "ref_txty": torch.cat([source[:1].expand(8, 1), driver[frames, 1:]], dim=1),
    }
    for camera, cameras in expected.items():
        (plan,) = imitate(ann, dance, body, camera=camera, smooth=False, bullet_time=[(2, 2)])  # type: ignore[arg-type]
        torch.testing.assert_close(plan.params.camera, cameras)
        worn = transfer([Dressed(ann)], dance, body, camera=camera, smooth=False)  # type: ignore[arg-type]
        torch.testing.assert_close(worn.params.camera, cameras[[0, 1, 2, 5, 6, 7]])


def test_who_bends_the_knees_does_not_leave_the_ground(body: Body) -> None:
    array = fits(2)[:1].repeat(8, 1)
    bend = torch.linspace(0, 0.7, 8)  # less than what counts as a jump
    array[:, 6 + 3 * 0] = array[:, 6 + 3 * 1] = -bend  # hips,
    array[:, 6 + 3 * 3] = array[:, 6 + 3 * 4] = (
        2 * bend
    )  # and knees: the feet come up to the pelvis
    squat = Motion(BodyParams.from_array("open-body-1", array), fps=30)
    (plan,) = imitate(person(), squat, body, smooth=False)
    feet = foot_height(body.pose(plan.params).vertices)
    assert feet[0] - feet[-1] > 0.1
    picture = feet_in_picture(body, plan.params)
    np.testing.assert_allclose(picture, picture[0].expand(8), atol=1e-5)


def test_a_positive_angle_turns_the_near_side_to_the_left_of_the_picture(body: Body) -> None:
    """Ry(90) takes what was nearest, the face (z < 0), to x < 0: the nose of who faced us points left."""
    ann, dance = person(), leaning(1, 0)
    before, after = (
        body.pose(imitate(ann, dance, body, smooth=False, views=[angle])[0].params).landmarks[0]
        for angle in (0, 90)
    )
    nose, head = 24, 15
    assert (before[nose] - before[head])[2] < -0.05
    assert (after[nose] - after[head])[0] < -0.05
    (seen,) = view(ann, body, angles=[90]).params.pose[:, :3]
    pose = BodyParams(
        "open-body-1", ann.params.camera[:1], seen[None].repeat(1, 24), torch.zeros(1, 10)
    )
    pose.pose[:, 3:] = 0
    spun = body.pose(pose).landmarks[0]
    assert (spun[nose] - spun[head])[0] < -0.05


def test_a_view_at_0_degrees_faces_the_camera(body: Body) -> None:
    ann = person()
    plan = view(ann, body, angles=[0, 90, -90, 360])
    roots = axis_angle_to_matrix(plan.params.pose[:, :3].double())
    facing = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    np.testing.assert_allclose(roots[0], facing, atol=1e-6)
    np.testing.assert_allclose(roots[3], facing, atol=1e-6)
    quarter = axis_rotation("y", torch.tensor(math.pi / 2).double())
    np.testing.assert_allclose(roots[1], quarter @ facing, atol=1e-6)
    np.testing.assert_allclose(roots[2], quarter.T @ facing, atol=1e-6)
    torch.testing.assert_close(plan.params.pose[:, 3:], ann.params.pose[:1, 3:].expand(4, -1))
    assert plan.fps == 25


@pytest.mark.parametrize("rest_pose", [False, True])
def test_a_view_keeps_the_feet_where_the_source_has_them(body: Body, rest_pose: bool) -> None:
    array = fits(2)
    array[:, 3 + 3 * 1] = array[:, 3 + 3 * 2] = -1.2  # hips bent: the feet come up
    ann = Person(**{**vars(person()), "params": BodyParams.from_array("open-body-1", array)})
    plan = view(ann, body, num_views=5, rest_pose=rest_pose)
    assert len(plan) == 5
    feet = feet_in_picture(body, plan.params)
    np.testing.assert_allclose(feet, feet_in_picture(body, ann.params)[0].expand(5), atol=1e-5)
    assert bool((plan.params.pose[:, 3:] == 0).all()) is rest_pose


def test_views_need_an_angle(body: Body) -> None:
    with pytest.raises(ValueError, match="No angle"):
        view(person(), body, angles=[])
    with pytest.raises(ValueError, match="num_views is 0"):
        view(person(), body, num_views=0)
    with pytest.raises(ValueError, match="not finite"):
        view(person(), body, angles=[math.inf])


def test_everything_the_primary_wears_is_imitation(body: Body) -> None:
    ann, dance = person(), motion()
    (alone,) = imitate(ann, dance, body)
    both = transfer([Dressed(ann, ("all",)), Dressed(person("bob", 1))], dance, body)
    for name in ("camera", "pose", "shape"):
        torch.testing.assert_close(getattr(both.params, name), getattr(alone.params, name))
    assert body.surface is not None
    owned = owned_faces(both.people, body.surface)
    assert owned[0].all()
    assert not owned[1].any()


def test_without_a_motion_the_primary_stands_as_in_the_source(body: Body) -> None:
    ann = person()
    plan = transfer([Dressed(ann), Dressed(person("bob", 1), ("upper",))], None, body)
    assert len(plan) == 1
    torch.testing.assert_close(plan.params.to_array(), ann.params[[0]].to_array())


def test_every_face_has_one_owner_and_leftovers_are_the_primarys(body: Body) -> None:
    assert body.surface is not None
    people = [
        Dressed(person("ann"), ("head",)),
        Dressed(person("bob", 1), ("upper",)),
        Dressed(person("cid", 2), ("facial", "left_foot")),
    ]
    assert share_parts(people) == ((0, 2, 3, 7), (1, 4, 5, 8, 9), (6, 10))
    owned = owned_faces(people, body.surface)
    assert (owned.sum(0) == 1).all()
    assert owned[2, body.surface.facial_large].all(), "the face goes before the head"
    centre = body.template[body.faces].mean(1)
    foot = owned[2].clone()
    foot[body.surface.facial_large] = False
    assert (centre[foot, 0] > 0).all(), "anatomical: the person's own left"
    assert (centre[foot, 1] < -1).all()


@pytest.mark.parametrize("word", ["arms", "legs", "feet", "hands"])
def test_pairs_of_limbs(body: Body, word: str) -> None:
    assert body.surface is not None
    owned = owned_faces([Dressed(person()), Dressed(person("bob", 1), (word,))], body.surface)
    x = body.template[body.faces].mean(1)[owned[1], 0]
    assert (x > 0).any()
    assert (x < 0).any()


def test_a_part_that_two_people_claim(body: Body) -> None:
    people = [Dressed(person(), ("upper",)), Dressed(person("bob", 1), ("left_hand", "lower"))]
    with pytest.raises(
        ValueError, match=r"ann \(person 1\) and bob \(person 2\) both claim left_hand"
    ):
        transfer(people, motion(), body)
    faces = [Dressed(person()), *[Dressed(person(n, 1), ("facial",)) for n in ("bob", "cid")]]
    with pytest.raises(ValueError, match="both claim facial"):
        transfer(faces, motion(), body)
    with pytest.raises(ValueError, match="at least one person"):
        transfer([], motion(), body)


def test_fits_of_another_body_are_refused(body: Body) -> None:
    with pytest.raises(BodyMismatch, match="ann was fitted with body 'smpl-1'"):
        imitate(person(body_id="smpl-1"), motion(), body)
    with pytest.raises(BodyMismatch, match="motion dance was fitted with body 'smpl-1'"):
        imitate(person(), motion(body_id="smpl-1"), body)
    with pytest.raises(BodyMismatch, match="bob was fitted"):
        transfer([Dressed(person()), Dressed(person("bob", body_id="x"))], motion(), body)


def test_a_plan_checks_itself(body: Body) -> None:
    (plan,) = imitate(person(), motion(), body)
    with pytest.raises(ValueError, match="no frames to draw"):
        Plan(**{**vars(plan), "params": plan.params[slice(0, 0)]})
    with pytest.raises(ValueError, match="at least one person"):
        Plan(**{**vars(plan), "people": ()})
    with pytest.raises(ValueError, match="choose one of: texture, flow"):
        Plan(**{**vars(plan), "select": "both"})
    large = Person(
        "bob",
        np.zeros((2, 24, 24, 3), np.uint8),
        np.zeros((2, 24, 24), np.uint8),
        person().params,
    )
    with pytest.raises(ValueError, match=r"differ in size \(ann 16, bob 24\)"):
        transfer([Dressed(person()), Dressed(large)], motion(), body)
