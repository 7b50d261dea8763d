"""Fits to keypoints: against the truth of drawn motion, and on a real clip."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit.body import BodyParams, load_body
from iper_toolkit.body.facing import find_facing
from iper_toolkit.body.fitting import BodyFit, FitConfig, Stage, fit_clip
from iper_toolkit.body.pose_prior import pose_prior
from iper_toolkit.crop import SquareCrop, crop_around
from iper_toolkit.keypoints import BODY_25, BODY_45, Keypoints, read_keypoints
from iper_toolkit.rotations import (
    angle_between,
    axis_angle_to_matrix,
    axis_rotation,
    matrix_to_axis_angle,
)
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import Skeleton, turn_motion, varied_motion
from iper_toolkit.synthetic.render import Camera

SIZE = 256
CROP = SquareCrop(0, 0, SIZE)


# A fit of a short clip to which a few steps are enough.
QUICK = FitConfig(
    stages=tuple(
        dataclasses.replace(stage, iterations=min(stage.iterations, 40))
        for stage in FitConfig().stages
    )
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads only get in each other's way on tensors as small as a fit's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def true_clip(kind: str, seed: int, frames: int = 60, seconds: float = 2.0) -> BodyParams:
    """A drawn person's motion, as the synthetic set makes it; about 200 of 256 pixels high."""
    body = load_body()
    random = np.random.default_rng(seed)
    shape = random.normal(0, 1, 10).astype(np.float32)
    joints = body.joint_template + body.joint_directions @ torch.from_numpy(shape)
    skeleton = Skeleton(joints.numpy().astype(np.float64), sole=0.09)
    if kind == "turn":
        motion = turn_motion(skeleton, frames, seconds)
    else:
        motion = varied_motion(skeleton, frames, seconds, random)
    return fit_of(motion, shape, Camera(scale=0.85, pitch=0.06, shift=(0.0, 0.9))).params


def body_points(params: BodyParams) -> torch.Tensor:
    body = load_body()
    vertices, joints = body.subset(body.landmark_vertices).skin(params.pose, params.shape)
    return torch.cat([joints, vertices], dim=1)


def keypoints_of(params: BodyParams, noise_pixels: float, seed: int = 0) -> Keypoints:
    """BODY_25 as a perfect detector with noise would give it."""
    points = body_points(params)
    ndc = params.camera[:, None, :1] * (points[..., :2] + params.camera[:, None, 1:])
    pixels = CROP.ndc_to_source(ndc.numpy())
    table = np.ones((len(params), 25, 3), dtype=np.float32)
    for column, name in enumerate(BODY_25):
        places = ("left_shoulder", "right_shoulder") if name == "neck" else (name,)
        index = [BODY_45.index("pelvis" if place == "mid_hip" else place) for place in places]
        table[:, column, :2] = pixels[:, index].mean(1)
    table[..., :2] += np.random.default_rng(seed).normal(0, noise_pixels, table[..., :2].shape)
    return Keypoints(table)


def aligned_error(fitted: BodyParams, truth: BodyParams) -> np.ndarray:
    """(T,) PA-MPJPE: mean distance of 24 joints in millimetres after the best similarity."""
    first, second = (body_points(p)[:, :24].double().numpy() for p in (fitted, truth))
    first, second = (x - x.mean(1, keepdims=True) for x in (first, second))
    u, s, vt = np.linalg.svd(np.einsum("tji,tjk->tik", first, second))
    signs = np.ones((len(s), 3))
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = np.einsum("tij,tj,tjk->tik", u, signs, vt)
    scale = (s * signs).sum(1) / np.square(first).sum((1, 2))
    moved = scale[:, None, None] * first @ rotation
    return 1000 * np.linalg.norm(moved - second, axis=-1).mean(1)


def root_error(fitted: BodyParams, truth: BodyParams) -> np.ndarray:
    """(T,) degrees between the roots."""
    roots = [axis_angle_to_matrix(params.pose[:, :3].double()) for params in (fitted, truth)]
    return np.rad2deg(angle_between(roots[0], roots[1]).numpy())


@pytest.fixture(scope="module")
def turning() -> tuple[BodyParams, BodyFit]:
    truth = true_clip("turn", seed=0)
    return truth, fit_clip(load_body(), keypoints_of(truth, noise_pixels=3.0), CROP, config=QUICK)


def test_a_full_turn_is_followed(turning: tuple[BodyParams, BodyFit]) -> None:
    truth, fit = turning
    assert fit.params.body_id == truth.body_id
    assert len(fit.params) == len(truth)
    assert root_error(fit.params, truth).max() < 40
    assert aligned_error(fit.params, truth).mean() < 60
    assert fit.valid.all()
    # The error is a keypoint's noise: 3 px in x and y make 3.8 px of distance.
    assert 2 < np.nanmean(fit.error_pixels) < 4.5
    torch.testing.assert_close(fit.params.shape, fit.params.shape[:1].expand(60, -1))


def test_the_fit_is_deterministic_and_moves_with_the_crop(
    turning: tuple[BodyParams, BodyFit],
) -> None:
    truth, _ = turning
    keypoints = keypoints_of(truth, noise_pixels=3.0)[:6]
    first, second = (fit_clip(load_body(), keypoints, CROP, config=QUICK) for _ in range(2))
    torch.testing.assert_close(first.params.to_array(), second.params.to_array(), rtol=0, atol=0)
    # Another square: other cameras, the same body on the same pixels.
    other = fit_clip(load_body(), keypoints, SquareCrop(-40, -40, 2 * SIZE), config=QUICK)
    ratio = other.params.camera[:, 0] / first.params.camera[:, 0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5), atol=0.02, rtol=0)
    np.testing.assert_allclose(other.error_pixels, first.error_pixels, atol=1.0)


@pytest.mark.slow
def test_depth_on_drawn_motion() -> None:
    """Arms, legs, turns and squats with 3 px of noise in 256: 60 mm after alignment, each clip."""
    errors = []
    for seed in range(5):
        truth = true_clip("varied", seed, frames=120, seconds=4.0)
        fit = fit_clip(load_body(), keypoints_of(truth, 3.0, seed), CROP)
        assert root_error(fit.params, truth).max() < 60
        errors.append(aligned_error(fit.params, truth).mean())
    assert max(errors) < 60, errors
    assert np.mean(errors) < 50, errors


def test_thirty_frames_a_second_is_the_measure() -> None:
    config = FitConfig()
    assert config.at(30) == config
    assert config.at(60) == config
    slow = config.at(15)
    assert slow.steady_motion == config.steady_motion / 8
    for name in ("steady_pose", "steady_root", "steady_place", "steady_scale", "alike_frames"):
        assert getattr(slow, name) == getattr(config, name) / 2
    assert slow.stages == config.stages
    for fps in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive number of frames"):
            config.at(fps)


def test_few_frames_a_second_do_not_hold_a_body_back() -> None:
    """A lively motion at 5 frames a second: 40 mm off; taken for one at 30, 61 mm."""
    truth = true_clip("varied", 0, frames=20, seconds=4.0)
    keypoints = keypoints_of(truth, noise_pixels=1.0)
    slow, taken_for_fast = (
        fit_clip(load_body(), keypoints, CROP, fps=fps, config=QUICK) for fps in (5, 30)
    )
    assert np.nanmean(slow.error_pixels) < 1.2 < np.nanmean(taken_for_fast.error_pixels)
    before, after = (aligned_error(fit.params, truth).mean() for fit in (taken_for_fast, slow))
    assert after < 50
    assert after < before


def test_frames_without_a_person_are_bridged(turning: tuple[BodyParams, BodyFit]) -> None:
    truth, _ = turning
    table = keypoints_of(truth, noise_pixels=1.0).body25[:24].copy()
    table[8:14] = 0
    table[22:] = 0
    fit = fit_clip(load_body(), Keypoints(table), CROP, config=QUICK)
    expected = np.ones(24, dtype=bool)
    expected[[*range(8, 14), 22, 23]] = False
    np.testing.assert_array_equal(fit.valid, expected)
    assert np.isnan(fit.error_pixels[~expected]).all()
    assert np.isfinite(fit.error_pixels[expected]).all()
    assert torch.isfinite(fit.params.to_array()).all()
    assert root_error(fit.params, truth[:24])[:20].max() < 45


def test_one_frame(turning: tuple[BodyParams, BodyFit]) -> None:
    truth, _ = turning
    fit = fit_clip(load_body(), keypoints_of(truth, noise_pixels=0.0)[:1], CROP, config=QUICK)
    assert len(fit.params) == 1
    assert fit.error_pixels[0] < 3
    assert root_error(fit.params, truth[:1])[0] < 45


def test_long_clips_are_fitted_in_chunks_that_join(turning: tuple[BodyParams, BodyFit]) -> None:
    truth, whole = turning
    config = dataclasses.replace(QUICK, chunk=34, overlap=8, shape_frames=20)
    fit = fit_clip(load_body(), keypoints_of(truth, noise_pixels=3.0), CROP, config=config)
    assert len(fit.params) == len(truth)
    assert aligned_error(fit.params, truth).mean() < 60
    assert root_error(fit.params, truth).max() < 45
    points = body_points(fit.params)
    pelvis = points - points[:, :1]
    smooth = body_points(whole.params)
    smooth = smooth - smooth[:, :1]
    # No jump where chunks meet: steps are no larger than those of the clip fitted whole.
    step, usual = (x.diff(dim=0).norm(dim=-1).amax(1) for x in (pelvis, smooth))
    assert step.max() < 1.5 * usual.max()
    torch.testing.assert_close(fit.params.shape, fit.params.shape[:1].expand(60, -1))


def test_no_keypoints_and_unfit_bodies_are_refused() -> None:
    empty = Keypoints(np.zeros((5, 25, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"None of the 5 frames.*run the detector again"):
        fit_clip(load_body(), empty, CROP)
    body = dataclasses.replace(load_body(), landmark_vertices=())
    with pytest.raises(ValueError, match="0 landmark vertices; fitting needs 24 and 21"):
        fit_clip(body, empty, CROP)


def test_facing_outvotes_a_frame_with_exchanged_sides() -> None:
    rest = body_points(BodyParams("open-body-1", *(torch.zeros(1, n) for n in (3, 72, 10))))[0]
    yaw = torch.linspace(0, 2 * math.pi, 40, dtype=torch.float64)
    half_turn = axis_rotation("x", torch.tensor(math.pi, dtype=torch.float64))
    seen = (axis_rotation("y", yaw) @ half_turn)[:, None] @ rest.double()[..., None]
    points = seen[..., :2, 0].numpy()
    swapped = points.copy()
    for name in ("shoulder", "hip", "eye", "ear"):
        pair = [BODY_45.index(f"{side}_{name}") for side in ("left", "right")]
        swapped[20, pair] = points[20, pair[::-1]]
    found, roll = find_facing(swapped, np.ones((40, 45)), rest.numpy())
    difference = np.angle(np.exp(1j * (found - yaw.numpy())))
    assert np.abs(difference).max() < math.radians(25)
    np.testing.assert_allclose(roll, 0, atol=0.04)  # shoulders lie before the ankles


def test_a_hidden_face_tells_back_from_front() -> None:
    rest = body_points(BodyParams("open-body-1", *(torch.zeros(1, n) for n in (3, 72, 10))))[0]
    confidence = np.zeros((1, 45))
    confidence[:, [16, 17, 1, 2, 7, 8]] = 1
    points = (rest[None, :, :2] * torch.tensor([0.0, -1.0])).numpy()  # sideways: widths are zero
    yaw, _ = find_facing(points, confidence, rest.numpy())
    assert math.cos(yaw[0]) < 0.3


def test_the_prior_is_mirrored_and_closes_hinges() -> None:
    prior = pose_prior()
    pose = prior.rest[None].clone()
    assert prior.energy(pose).item() == 0
    assert prior.limit_energy(pose).item() == 0
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(4, 23, 3, generator=generator)
    swap = [BODY_45.index(_other_side(name)) - 1 for name in BODY_45[1:24]]
    mirrored = random[:, swap] * torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(prior.energy(mirrored), prior.energy(random))
    torch.testing.assert_close(prior.limit_energy(mirrored), prior.limit_energy(random))
    backward = pose.clone()
    backward[0, BODY_45.index("left_knee") - 1, 0] = -1.0
    assert prior.limit_energy(backward).item() == pytest.approx(20)


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    return "left_" + name.removeprefix("right_") if name.startswith("right_") else name


def test_stages_can_be_chosen(turning: tuple[BodyParams, BodyFit]) -> None:
    truth, full = turning
    stages = (Stage(30, reach=10.0, prior=8.0, tolerance=0.04, everything=False),)
    keypoints = keypoints_of(truth, noise_pixels=3.0)
    rigid = fit_clip(load_body(), keypoints, CROP, config=FitConfig(stages=stages))
    rest = pose_prior().rest.flatten().expand(60, -1)
    turn = axis_angle_to_matrix(rigid.params.pose[:, 3:].unflatten(1, (23, 3)))
    torch.testing.assert_close(matrix_to_axis_angle(turn).flatten(1), rest, atol=1e-4, rtol=0)
    assert np.nanmean(rigid.error_pixels) > np.nanmean(full.error_pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mediapipe33.json", "body25.json"])
def test_reprojection_on_a_real_clip(real_clip_folder: Path, name: str) -> None:
    keypoints = read_keypoints(real_clip_folder / name)
    crop = crop_around(keypoints.boxes(), frame_size=(1080, 1920))
    fit = fit_clip(load_body(), keypoints, crop)
    error = fit.joint_error_pixels.copy()
    error[keypoints.body_targets()[..., 2] <= 0.5] = np.nan
    # The pelvis and small toes are no landmarks of their own in either file.
    error[:, [BODY_45.index(n) for n in ("pelvis", "left_small_toe", "right_small_toe")]] = np.nan
    assert np.isfinite(error).sum() > 219 * 19
    assert np.nanmean(error) <= 5.5
    assert np.nanmedian(error) <= 3.2
    # He faces the camera throughout.
    root = axis_angle_to_matrix(fit.params.pose[:, :3])
    assert (root[:, 2, 2] < 0).all()


@pytest.mark.slow
def test_a_real_clip_of_five_frames_a_second_is_followed(real_clip_folder: Path) -> None:
    """Taken for 30 frames a second, it is 39 pixels off."""
    keypoints = read_keypoints(real_clip_folder / "body25.json")
    crop = crop_around(keypoints.boxes(), frame_size=(1080, 1920))
    fit = fit_clip(load_body(), Keypoints(keypoints.body25[::6]), crop, fps=5)
    assert np.nanmean(fit.error_pixels) < 10
    assert np.nanmax(fit.error_pixels) < 15
