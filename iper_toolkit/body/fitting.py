"""Fit a body to the 2-D keypoints of a clip: SMPLify's idea (Bogo 2016) on all frames at once.

One shape for the clip; a weak-perspective camera and a pose for each frame; a robust distance to the
keypoints that starts wide and narrows; a hand-made pose prior; steadiness in time. Only the skeleton
and the landmark vertices are posed, so a frame costs some hundredths of a second on one core.
Deterministic: no draw is made anywhere, and last bits, in which processes may differ (matrix products
round by where their numbers lie in memory), are those of float64 and do not reach the result.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from iper_toolkit.body.facing import find_facing
from iper_toolkit.body.model import Body, BodyParams, BodySubset
from iper_toolkit.body.pose_prior import PosePrior, pose_prior
from iper_toolkit.crop import SquareCrop
from iper_toolkit.keypoints import BODY_45, MEDIAPIPE_33, Keypoints
from iper_toolkit.rotations import (
    axis_angle_to_matrix,
    axis_rotation,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
)

# How much a keypoint counts. Detectors put hips and ears elsewhere than bodies have them: the hip
# joint lies deeper, the ear's landmark on our bodies is the tip.
KEYPOINT_WEIGHTS: dict[str, float] = {
    "pelvis": 0.2, "left_hip": 0.5, "right_hip": 0.5, "left_shoulder": 0.8, "right_shoulder": 0.8,
    "left_knee": 1, "right_knee": 1, "left_ankle": 1, "right_ankle": 1, "left_elbow": 1,
    "right_elbow": 1, "left_wrist": 1, "right_wrist": 1, "nose": 0.7, "left_eye": 0.5,
    "right_eye": 0.5, "left_ear": 0.2, "right_ear": 0.2, "left_big_toe": 0.7, "right_big_toe": 0.7,
    "left_small_toe": 0.5, "right_small_toe": 0.5, "left_heel": 0.7, "right_heel": 0.7,
}  # fmt: skip

# Bones whose length in the picture bounds the scale from below: the limbs, and the torso's sides.
_BONES = tuple(
    (f"{side}_{first}", f"{side}_{second}")
    for side in ("left", "right")
    for first, second in (
        ("hip", "knee"),
        ("knee", "ankle"),
        ("shoulder", "elbow"),
        ("elbow", "wrist"),
        ("shoulder", "hip"),
    )
)
_LIMBS = tuple(bone for bone in _BONES if bone[1].rpartition("_")[2] != "hip")
# MediaPipe's difference of z, in metres at the body's scale, that is believed in full.
_SURE_SLANT = 0.4
# Where a body's mass sits, roughly (Winter 2009, Biomechanics, table 4.1).
_MASSES = {
    "pelvis": 0.14, "spine1": 0.14, "spine3": 0.14, "neck": 0.08, "head": 0.08,
    "left_shoulder": 0.02, "right_shoulder": 0.02, "left_elbow": 0.02, "right_elbow": 0.02,
    "left_wrist": 0.01, "right_wrist": 0.01, "left_hip": 0.06, "right_hip": 0.06,
    "left_knee": 0.07, "right_knee": 0.07, "left_ankle": 0.03, "right_ankle": 0.03,
}  # fmt: skip
_LIFTED = 0.05  # metres between the feet that make the lower one the standing one
_FALLEN = 0.5  # metres beyond which a body is not taken for standing
# Where in the order of a frame's bones, by length seen over true length, the scale is read.
_SCALE_QUANTILE = 0.8
_SCALE_WINDOW = 61  # frames, at `USUAL_FPS`

USUAL_FPS = 30.0
"""Frames a second that the weights in time are made for."""


@dataclass(frozen=True)
class Stage:
    """One run of the optimiser."""

    iterations: int
    reach: float  # metres: keypoints much farther off than this are outliers (Geman-McClure)
    prior: float  # weight of the pose prior
    tolerance: float  # metres off a keypoint that cost one unit, at least; noisy clips get more
    everything: bool = True  # else camera and root only


@dataclass(frozen=True)
class FitConfig:
    """Weights of the fit. Lengths are metres on the body, angles radians, so no weight depends on
    the picture's resolution."""

    stages: tuple[Stage, ...] = (
        # Keypoints that bind hard leave the optimiser no room to move in depth: first gently ...
        Stage(40, reach=10.0, prior=8.0, tolerance=0.04, everything=False),
        Stage(80, reach=0.75, prior=6.0, tolerance=0.12),
        Stage(160, reach=0.75, prior=6.0, tolerance=0.04),
        # ... then firmly.
        Stage(200, reach=0.19, prior=5.0, tolerance=0.012),
        Stage(200, reach=0.19, prior=5.0, tolerance=0.005),
    )
    noise_factor: float = (
        1.4  # least tolerance over the standard deviation of the keypoints' jitter
    )
    depth_order: float = 2.0  # on limbs that slant against MediaPipe's z by 0.1 metres
    balance: float = 2.0  # on a centre of mass 0.1 metres before or behind the feet
    shape: float = 0.8  # on one frame's evidence
    alike_frames: float = 10.0
    scale: float = 20.0  # on the logarithm of the scale, against the first estimate
    # Steadiness, between neighbouring frames of a clip of 30 frames a second.
    steady_motion: float = 250.0  # 1 / metres^2, on the acceleration of joints about the pelvis
    steady_pose: float = 4.0  # 1 / rad^2
    steady_root: float = 4.0  # on the entries of the matrix
    steady_place: float = 60.0  # 1 / metres^2
    steady_scale: float = 200.0
    chunk: int = 512  # frames fitted at once, which bounds memory
    overlap: int = 32  # frames by which chunks overlap and are blended
    shape_frames: int = 256  # of a clip longer than a chunk, the frames that decide the shape

    def at(self, fps: float) -> "FitConfig":
        """The same steadiness for a clip of fewer frames a second.

        A motion's energy is an integral over time: of squared velocities the sum of squared steps over
        the interval, of squared accelerations that of squared second differences over its cube. Above 30
        frames a second nothing changes: stiffer weights fitted drawn motion of 60 worse, not better.
        """
        pace = _pace(fps)
        return dataclasses.replace(
            self,
            alike_frames=self.alike_frames * pace,
            steady_motion=self.steady_motion * pace**3,
            steady_pose=self.steady_pose * pace,
            steady_root=self.steady_root * pace,
            steady_place=self.steady_place * pace,
            steady_scale=self.steady_scale * pace,
        )


def _pace(fps: float) -> float:
    """Frames a second over `USUAL_FPS`, at most 1."""
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps}; it takes a positive number of frames a second.")
    return min(1.0, fps / USUAL_FPS)


@dataclass(frozen=True, eq=False)
class BodyFit:
    """A fitted clip."""

    params: BodyParams  # camera in NDC of the clip's crop
    joint_error_pixels: np.ndarray  # (T, 45) source pixels, NaN where there is no keypoint
    valid: np.ndarray  # (T,) bool: False where no keypoints were and the pose is interpolated

    @property
    def error_pixels(self) -> np.ndarray:
        """(T,) mean over the keypoints of a frame, source pixels; NaN where it has none."""
        counts = np.isfinite(self.joint_error_pixels).sum(1)
        total = np.nansum(self.joint_error_pixels, axis=1)
        return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def fit_clip(
    body: Body,
    keypoints: Keypoints,
    crop: SquareCrop,
    *,
    fps: float = USUAL_FPS,
    config: FitConfig | None = None,
    minimum_confidence: float = 0.1,
) -> BodyFit:
    """Fit one person to a clip.

    Args:
        body: one with landmark vertices, such as `load_body()` gives.
        keypoints: of every frame of the clip, source pixels. Frames without a person are bridged.
        crop: the clip's square; the cameras of the fit are in its NDC.
        fps: frames a second; the fewer, the less alike neighbouring frames need be.
        config: weights and effort, for a clip of 30 frames a second.
        minimum_confidence: keypoints below it are not used, nor counted in the error.

    Returns:
        The fit, in iPER's convention (the root turns the body upside down, y down).
    """
    if len(body.landmark_vertices) != 21 or body.num_joints != 24:
        raise ValueError(
            f"Body {body.id} has {body.num_joints} joints and {len(body.landmark_vertices)} landmark "
            "vertices; fitting needs 24 and 21. Use the open body or a 24-joint SMPL file."
        )
    config = (config or FitConfig()).at(fps)
    targets = keypoints.body_targets()
    targets[targets[..., 2] < minimum_confidence] = 0
    valid = (targets[..., 2] > 0).sum(1) >= 4
    if not valid.any():
        raise ValueError(
            f"None of the {len(keypoints)} frames has four keypoints with a confidence of at least "
            f"{minimum_confidence}. Check that the keypoints belong to this clip, or run the "
            "detector again; without keypoints no body can be fitted."
        )
    targets[~valid] = 0
    model = body.to(dtype=torch.float64).subset(body.landmark_vertices)
    observation = _observe(model, keypoints, targets, crop, _pace(fps))
    start = _start(model, observation)
    frames = len(targets)
    if frames <= config.chunk:
        state = _optimise(model, observation, start, config, fit_shape=True)
    else:
        state = _optimise_in_chunks(model, observation, start, config)
    params = BodyParams(
        body.id,
        camera=torch.cat([state.log_scale.exp()[:, None], state.shift], dim=1).float(),
        pose=torch.cat([matrix_to_axis_angle(state.root), state.pose.flatten(1)], dim=1).float(),
        shape=state.shape.expand(frames, -1).float().contiguous(),
    )
    projected = params.camera[:, None, :1] * (
        _points(model, state)[..., :2] + params.camera[:, None, 1:]
    )
    error = np.linalg.norm(crop.ndc_to_source(projected.numpy()) - targets[..., :2], axis=-1)
    error[targets[..., 2] == 0] = np.nan
    return BodyFit(params, error, valid)


# ------------------------------------------------------------------------------- what is fitted to


@dataclass(frozen=True, eq=False)
class _Observation:
    """Keypoints in NDC of the crop, and a first estimate of the scale."""

    xy: Tensor  # (T, 45, 2) NDC
    weight: Tensor  # (T, 45)
    scale: Tensor  # (T,) NDC per metre
    jitter: float  # metres, standard deviation of the keypoints; at low rates some of it is motion
    least_jitter: float  # what of it is left if it is motion, which grows with the interval squared
    depth: Tensor  # (T, 45) metres relative to the hips; MediaPipe's, larger is farther
    depth_weight: Tensor  # (T, 45) zero where there is none

    def __getitem__(self, frames: slice | Tensor) -> "_Observation":
        return _Observation(
            self.xy[frames],
            self.weight[frames],
            self.scale[frames],
            self.jitter,
            self.least_jitter,
            self.depth[frames],
            self.depth_weight[frames],
        )


@dataclass(frozen=True, eq=False)
class _State:
    """What is fitted."""

    root: Tensor  # (T, 3, 3)
    pose: Tensor  # (T, 23, 3) axis-angle
    log_scale: Tensor  # (T,)
    shift: Tensor  # (T, 2) metres
    shape: Tensor  # (1, 10)

    def __getitem__(self, frames: slice | Tensor) -> "_State":
        return _State(
            self.root[frames],
            self.pose[frames],
            self.log_scale[frames],
            self.shift[frames],
            self.shape,
        )


def _observe(
    model: BodySubset,
    keypoints: Keypoints,
    targets: np.ndarray,
    crop: SquareCrop,
    pace: float,
) -> _Observation:
    weights = np.array([KEYPOINT_WEIGHTS.get(name, 0.0) for name in BODY_45], dtype=np.float32)
    weight = weights * np.clip(targets[..., 2], 0, 1) ** 2
    xy = crop.source_to_ndc(targets[..., :2])
    xy[targets[..., 2] == 0] = 0
    scale = _estimate_scale(model, xy, targets[..., 2], round(_SCALE_WINDOW // 2 * pace))
    jitter = _estimate_jitter(xy / scale[:, None, None], targets[..., 2])
    depth = np.zeros(weight.shape, dtype=np.float32)
    depth_weight = np.zeros(weight.shape, dtype=np.float32)
    if keypoints.landmarks33 is not None:
        pixels_per_metre = scale * crop.side / 2
        for place, name in enumerate(BODY_45):
            if name in MEDIAPIPE_33:
                landmark = keypoints.landmarks33[:, MEDIAPIPE_33.index(name)]
                depth[:, place] = landmark[:, 2] / pixels_per_metre
                depth_weight[:, place] = np.where(
                    targets[:, place, 2] > 0, np.clip(landmark[:, 3], 0, 1), 0
                )
    return _Observation(
        torch.from_numpy(xy).double(),
        torch.from_numpy(weight).double(),
        torch.from_numpy(scale).double(),
        jitter,
        jitter * pace**2,
        torch.from_numpy(depth).double(),
        torch.from_numpy(depth_weight).double(),
    )


def _estimate_scale(
    model: BodySubset, xy: np.ndarray, confidence: np.ndarray, half: int
) -> np.ndarray:
    """(T,) NDC per metre: foreshortening only ever shortens bones, so long ones tell the scale.

    `half` frames before and behind each one are looked at as well.
    """
    rest = model.joint_template.numpy()
    first, second = ([BODY_45.index(bone[end]) for bone in _BONES] for end in (0, 1))
    true = np.linalg.norm(rest[first] - rest[second], axis=-1)
    seen = np.linalg.norm(xy[:, first] - xy[:, second], axis=-1)
    ratio = np.where(
        np.minimum(confidence[:, first], confidence[:, second]) > 0, seen / true, np.nan
    )
    enough = np.isfinite(ratio).sum(1) >= 2
    if not enough.any():
        # Single points only, such as a face: the box must do.
        found = confidence > 0
        spread = max(
            float(np.ptp(xy[frame][found[frame]], axis=0).max())
            for frame in np.flatnonzero(found.any(1))
        )
        return np.full(len(xy), max(spread, 1e-3) / 1.6, dtype=np.float32)
    frames = np.flatnonzero(enough)
    scale = np.nanquantile(ratio[frames], _SCALE_QUANTILE, axis=1)
    # The upper end within a window: in some frame near by, some bone lies flat in the picture.
    upper = np.array([np.quantile(scale[np.abs(frames - frame) <= half], 0.75) for frame in frames])
    return np.interp(np.arange(len(xy)), frames, upper).astype(np.float32)


def _estimate_jitter(points: np.ndarray, confidence: np.ndarray) -> float:
    """Standard deviation in metres of keypoints about their own smooth motion; 0 if not known.

    From second differences in time, which motion hardly has and noise has in full (6 variances).

    Args:
        points: (T, 45, 2) metres. confidence: (T, 45).
    """
    if len(points) < 3:
        return 0.0
    found = np.minimum(np.minimum(confidence[:-2], confidence[1:-1]), confidence[2:]) > 0
    second = np.abs(np.diff(points, n=2, axis=0))[found]
    if second.size == 0:
        return 0.0
    return float(np.median(second)) * 1.4826 / 6**0.5  # a normal's deviation from its median


def _start(model: BodySubset, observation: _Observation) -> _State:
    """Resting pose, facing where the keypoints say, where they are."""
    frames = len(observation.xy)
    scale = observation.scale
    metres = (observation.xy / scale[:, None, None]).numpy()
    zeros = scale.new_zeros
    rest_points = _points(
        model,
        _State(
            torch.eye(3, dtype=scale.dtype).expand(1, 3, 3), zeros(1, 23, 3), zeros(1),
            zeros(1, 2), zeros(1, 10),
        ),
    )[0].numpy()  # fmt: skip
    yaw, roll = find_facing(metres, observation.weight.numpy(), rest_points)
    root = (
        axis_rotation("z", torch.from_numpy(roll))
        @ axis_rotation("y", torch.from_numpy(yaw))
        @ axis_rotation("x", torch.tensor(np.pi, dtype=torch.float64))
    )
    state = _State(
        root,
        pose_prior(scale.dtype).rest.expand(frames, 23, 3).clone(),
        scale.log(),
        zeros(frames, 2),
        zeros(1, 10),
    )
    points = _points(model, state)[..., :2]
    weight = observation.weight[..., None]
    total = weight.sum(1)
    shift = ((observation.xy / scale[:, None, None] - points) * weight).sum(1)
    seen = np.flatnonzero(total[:, 0].numpy() > 0)
    known = (shift[seen] / total[seen]).numpy()
    places = [np.interp(np.arange(frames), seen, known[:, axis]) for axis in (0, 1)]
    return _State(
        state.root,
        state.pose,
        state.log_scale,
        torch.from_numpy(np.stack(places, axis=1)),
        state.shape,
    )


# ------------------------------------------------------------------------------------ the optimiser


def _points(model: BodySubset, state: _State) -> Tensor:
    """(T, 45, 3) joints and landmarks, metres, y down."""
    frames = len(state.pose)
    body = axis_angle_to_matrix(state.pose)
    rotations = torch.cat([state.root[:, None], body], dim=1)
    vertices, joints = model.skin(rotations, state.shape.expand(frames, -1))
    return torch.cat([joints, vertices], dim=1)


def _optimise(
    model: BodySubset,
    observation: _Observation,
    start: _State,
    config: FitConfig,
    *,
    fit_shape: bool,
    steady: bool = True,
) -> _State:
    """Run the stages on all frames of `observation` together."""
    # The root moves as a small turn in the camera's frame from where it starts, so that a person
    # who goes around never meets the seam of axis-angle.
    turn = start.shift.new_zeros(len(start.root), 3)
    pose, log_scale, shift, shape = (
        value.clone() for value in (start.pose, start.log_scale, start.shift, start.shape)
    )
    prior = pose_prior(pose.dtype)

    def state() -> _State:
        return _State(axis_angle_to_matrix(turn) @ start.root, pose, log_scale, shift, shape)

    def stage_loss(stage: Stage, jitter: float) -> Tensor:
        return _loss(model, observation, state(), prior, stage, config, steady, jitter)

    jitter, reach = observation.jitter, math.inf
    for stage in config.stages:
        if observation.least_jitter < jitter and stage.reach < reach < math.inf:
            # What a body that is bound gently can follow is motion. Measured later, it would be less and
            # less: bound firmly, a body follows jitter, too.
            left = _distance_left(model, observation, state())
            jitter = min(jitter, max(left, observation.least_jitter))
        reach = stage.reach
        variables = [turn, log_scale, shift]
        if stage.everything:
            variables += [pose, *([shape] if fit_shape else [])]
        _minimise(
            variables,
            partial(stage_loss, stage, jitter),
            stage.iterations,
        )
    with torch.no_grad():
        return state()


def _minimise(variables: list[Tensor], loss: Callable[[], Tensor], iterations: int) -> None:
    """L-BFGS, in place."""
    for variable in variables:
        variable.requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        variables,
        max_iter=iterations,
        history_size=30,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=1e-7,
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    for variable in variables:
        variable.requires_grad_(False)


@torch.no_grad()
def _distance_left(model: BodySubset, observation: _Observation, state: _State) -> float:
    """Standard deviation in metres of keypoints about the body, from the median, along one axis."""
    projected = _points(model, state)[..., :2] + state.shift[:, None]
    scale = (state.log_scale.exp() / observation.scale)[:, None, None]
    left = scale * projected - observation.xy / observation.scale[:, None, None]
    return float(left[observation.weight > 0].abs().median()) * 1.4826


def _loss(
    model: BodySubset,
    observation: _Observation,
    state: _State,
    prior: PosePrior,
    stage: Stage,
    config: FitConfig,
    steady: bool,
    jitter: float,
) -> Tensor:
    """Mean over frames."""
    points = _points(model, state)
    scale = state.log_scale.exp()
    projected = scale[:, None, None] * (points[..., :2] + state.shift[:, None])
    # Metres at the first estimate of the scale, so that shrinking the body cannot shrink the error.
    squared = (projected - observation.xy).square().sum(-1) / observation.scale[:, None].square()
    reach = stage.reach**2
    robust = reach * squared / (reach + squared)
    tolerance = max(stage.tolerance, config.noise_factor * jitter)
    data = (observation.weight * robust).sum(1) / tolerance**2
    pose = stage.prior * prior.energy(state.pose) + prior.limit_energy(state.pose)
    drift = config.scale * (state.log_scale - observation.scale.log()).square()
    frames = len(points)
    total = (data + pose + drift).sum() / frames
    # Neighbouring frames err alike, so a clip's evidence on the shape grows slower than its length.
    independent = max(1.0, frames / config.alike_frames)
    total = total + config.shape / independent * state.shape.square().sum()
    total = total + config.depth_order * _depth_order(points, observation).sum() / frames
    total = total + config.balance * _imbalance(points).sum() / frames
    if steady and frames > 1:
        change = (
            config.steady_pose * state.pose.diff(dim=0).square().sum()
            + config.steady_root * state.root.diff(dim=0).square().sum()
            + config.steady_place * state.shift.diff(dim=0).square().sum()
            + config.steady_scale * state.log_scale.diff(dim=0).square().sum()
        )
        if frames > 2:
            about_pelvis = points - points[:, :1]
            change = change + config.steady_motion * about_pelvis.diff(n=2, dim=0).square().sum()
        total = total + change / frames
    return total


def _depth_order(points: Tensor, observation: _Observation) -> Tensor:
    """(T,) squared slant of limbs against the order that MediaPipe's z tells, in 0.1 metres.

    Only the order is used: that z is two or three times too large, and differs from clip to clip.
    """
    first, second = ([BODY_45.index(bone[end]) for bone in _LIMBS] for end in (0, 1))
    weight = torch.minimum(observation.depth_weight[:, first], observation.depth_weight[:, second])
    told = observation.depth[:, first] - observation.depth[:, second]
    sure = (told / _SURE_SLANT).clamp(-1, 1)
    slant = points[:, first, 2] - points[:, second, 2]
    against = (-slant * sure).clamp_min(0) / 0.1
    return (weight * against.square()).sum(1)


def _imbalance(points: Tensor) -> Tensor:
    """(T,) squared distance in depth from the centre of mass to the standing foot, in 0.1 metres.

    Without it a squat is best explained by a body that falls towards the camera: the picture cannot
    tell, and bent knees cost more. It levels off, so that someone may lie down.
    """
    names = list(_MASSES)
    masses = points.new_tensor(list(_MASSES.values()))
    centre = (points[:, [BODY_45.index(name) for name in names], 2] * masses).sum(1) / masses.sum()
    feet = points[:, [7, 10, 8, 11]].unflatten(1, (2, 2)).mean(2)
    standing = (feet[..., 1] / _LIFTED).softmax(dim=1)  # y down: the lower foot
    offset = centre - (feet[..., 2] * standing).sum(1)
    squared = (offset / 0.1).square()
    most = (_FALLEN / 0.1) ** 2
    return most * squared / (most + squared)


def _optimise_in_chunks(
    model: BodySubset, observation: _Observation, start: _State, config: FitConfig
) -> _State:
    """Long clips: the shape from frames all over the clip, then overlapping chunks with that shape."""
    frames = len(observation.xy)
    seen = torch.nonzero(observation.weight.sum(1) > 0).flatten()
    every = max(1, len(seen) // config.shape_frames)
    sample = seen[::every]
    shape = _optimise(
        model, observation[sample], start[sample], config, fit_shape=True, steady=False
    ).shape
    start = _State(start.root, start.pose, start.log_scale, start.shift, shape)
    step = config.chunk - config.overlap
    zeros = start.shift.new_zeros
    root, pose, log_scale, shift = (zeros(frames, *size) for size in ((3, 3), (23, 3), (), (2,)))
    for begin in range(0, max(1, frames - config.overlap), step):
        part = slice(begin, min(begin + config.chunk, frames))
        fitted = _optimise(model, observation[part], start[part], config, fit_shape=False)
        # Across the overlap the earlier chunk fades into the later one.
        fade = start.shift.new_ones(len(fitted.pose))
        if begin > 0:
            ramp = (torch.arange(config.overlap) + 1) / (config.overlap + 1)
            fade[: config.overlap] = ramp[: len(fade)]
        root[part] = _blend_rotations(root[part], fitted.root, fade)
        pose[part] = matrix_to_axis_angle(
            _blend_rotations(
                axis_angle_to_matrix(pose[part]), axis_angle_to_matrix(fitted.pose), fade[:, None]
            )
        )
        log_scale[part] = torch.lerp(log_scale[part], fitted.log_scale, fade)
        shift[part] = torch.lerp(shift[part], fitted.shift, fade[:, None])
    return _State(root, pose, log_scale, shift, shape)


def _blend_rotations(first: Tensor, second: Tensor, fade: Tensor) -> Tensor:
    """(..., 3, 3) from `first` (fade 0) to `second` (fade 1) by way of the 6-D form."""
    six = torch.lerp(matrix_to_rotation_6d(first), matrix_to_rotation_6d(second), fade[..., None])
    return rotation_6d_to_matrix(six)
