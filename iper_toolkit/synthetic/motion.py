"""Motions of synthetic people: iPER's turn on the spot, and varied movement without sliding feet.

Feet come first: a plan says when each foot steps and where to; everything between two steps stands
still. The pelvis follows the feet, and each leg is solved in closed form so that its ankle is
exactly where the plan wants it. Arms, spine and head pass through seeded key poses.

World frame: y up, floor at y = 0, metres; the person faces +z at yaw 0 and +x is the person's left.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from iper_toolkit.synthetic.reproducible import settled

Array = NDArray[np.floating]

PELVIS, SPINE, NECK, HEAD = 0, (3, 6, 9), 12, 15
HIPS, KNEES, ANKLES = (1, 2), (4, 5), (7, 8)  # left, right
COLLARS, SHOULDERS, ELBOWS, WRISTS = (13, 14), (16, 17), (18, 19), (20, 21)
HANDS = (22, 23)  # SMPL's hand joints: the knuckles

_GRID_HERTZ = 120.0  # the pelvis is planned on this grid and then read at the frames' times
_REACH = 0.995  # of a stretched leg: a knee that never locks has no jerk
_TOE_OUT = np.deg2rad(9.0)
_HALF_TURN_RADIANS = 1e-7  # nearer to half a turn than this, rounding alone chooses the axis
_RELAXED_FINGERS = np.deg2rad(22.0)


@dataclass(frozen=True)
class Skeleton:
    """What a motion must know about one person.

    joints: (24, 3) float, rest joints in the body frame; sole: metres from the floor up to the
    ankle joints when standing flat in shoes.
    """

    joints: Array
    sole: float

    def __post_init__(self) -> None:
        if self.joints.shape != (24, 3):
            raise ValueError(f"joints is {self.joints.shape}; a skeleton has (24, 3).")
        if not 0.0 < self.sole < 0.4:
            raise ValueError(f"sole is {self.sole} m; an ankle lies 0 to 0.4 m above the floor.")


@dataclass(frozen=True)
class Motion:
    """One motion of one skeleton.

    pose: (T, 24, 3) float32 axis-angle, joint 0 being the root in the world frame.
    pelvis: (T, 3) float32, world position of the pelvis joint, metres.
    standing: (T, 2) bool, whether the left and the right foot rests on the floor.
    """

    pose: NDArray[np.float32]
    pelvis: NDArray[np.float32]
    standing: NDArray[np.bool_]

    def __post_init__(self) -> None:
        frames = len(self.pose)
        if self.pelvis.shape != (frames, 3) or self.standing.shape != (frames, 2):
            raise ValueError(
                f"pose has {frames} frames, pelvis is {self.pelvis.shape} and standing is "
                f"{self.standing.shape}; they must be ({frames}, 3) and ({frames}, 2)."
            )

    def __len__(self) -> int:
        return len(self.pose)


@dataclass(frozen=True)
class _Step:
    """One foot leaves the floor at `start` and lands at `end` (seconds) at x, z (metres), yaw."""

    foot: int
    start: float
    end: float
    x: float
    z: float
    yaw: float
    lift: float
    kick: float = 0.0


@dataclass(frozen=True)
class _Dip:
    """The pelvis goes down by `depth` metres and comes up again between two times."""

    start: float
    end: float
    depth: float


@dataclass(frozen=True)
class _Plan:
    feet: tuple[tuple[float, float, float], tuple[float, float, float]]  # x, z, yaw at time 0
    steps: tuple[_Step, ...]
    dips: tuple[_Dip, ...]


@dataclass(frozen=True)
class _Arm:
    """One arm pose, degrees: down from the T pose, forward swing, twist about the arm, elbow."""

    lower: float
    swing: float
    twist: float
    elbow: float


_ARMS = {
    "hang": _Arm(66, 4, 0, 12),
    "a-pose": _Arm(48, 0, 0, 4),
    "t-pose": _Arm(6, 2, 0, 6),
    "up": _Arm(-52, 8, 0, 18),
    "forward": _Arm(14, 72, 0, 10),
    "wave": _Arm(8, 12, -88, 78),
    "hip": _Arm(46, -24, 12, 100),
    "guard": _Arm(58, 34, -8, 112),
    "offer": _Arm(64, 12, 4, 78),
    "chest": _Arm(52, 38, 24, 104),
    "overhead": _Arm(-30, 20, -70, 70),
    "back": _Arm(56, -30, 0, 20),
}


def turn_motion(skeleton: Skeleton, num_frames: int, seconds: float) -> Motion:
    """iPER's action 1: arms in an A pose, one full circle to the person's left in small steps.

    Frame i shows the body turned by 360 i / num_frames degrees, so the back is seen in the middle
    and the last frame is one step short of the first.
    """
    times = _frame_times(num_frames, seconds)
    width = _stance(skeleton)
    steps_per_foot = 10
    period = seconds / steps_per_foot
    angle = 2 * np.pi / steps_per_foot

    def stand(foot: int, yaw: float) -> tuple[float, float, float]:
        side = 1.0 if foot == 0 else -1.0
        return side * width * np.cos(yaw), -side * width * np.sin(yaw), yaw + side * _TOE_OUT

    # Each foot is on average where the pelvis is: it lands half a step ahead of it.
    steps = []
    for number in range(steps_per_foot):
        for foot in (0, 1):
            start = (number + 0.5 * foot) * period
            yaw = (start + 0.45 * period) / seconds * 2 * np.pi + angle / 2
            x, z, foot_yaw = stand(foot, yaw)
            steps.append(_Step(foot, start, start + 0.45 * period, x, z, foot_yaw, lift=0.045))
    before = -angle * 0.05
    plan = _Plan((stand(0, before), stand(1, before)), tuple(steps), ())
    root_yaw = 2 * np.pi * times / seconds
    local = _rest_locals(num_frames)
    _set_arm(local, 0, np.tile(_as_row(_ARMS["a-pose"]), (num_frames, 1)))
    _set_arm(local, 1, np.tile(_as_row(_ARMS["a-pose"]), (num_frames, 1)))
    breath = 0.015 * np.sin(2 * np.pi * times / 3.0)
    local[:, SPINE[2]] = _rotation("x", breath)
    return _solve(skeleton, plan, times, seconds, local, yaw=root_yaw, lean=np.zeros(num_frames))


def varied_motion(
    skeleton: Skeleton, num_frames: int, seconds: float, random: np.random.Generator
) -> Motion:
    """iPER's action 2: arms, legs, turns, squats and walking on the spot, smoothly joined.

    Args:
        skeleton: the person's rest joints.
        num_frames: T.
        seconds: how long the T frames last.
        random: every choice is drawn from it.
    """
    times = _frame_times(num_frames, seconds)
    plan = _draw_plan(skeleton, seconds, random)
    local = _rest_locals(num_frames)
    _draw_arms(local, times, seconds, random)
    _draw_torso(local, times, random)
    dip = _dip_curve(plan, times)
    lean = 0.9 * dip  # radians a metre: who squats bends forward to stay in balance
    local[:, SPINE[0]] = _rotation("x", 0.5 * dip) @ local[:, SPINE[0]]
    local[:, NECK] = _rotation("x", -0.7 * dip) @ local[:, NECK]
    return _solve(skeleton, plan, times, seconds, local, yaw=None, lean=lean)


def turned(motion: Motion, frame: int, angles: Array) -> Motion:
    """One instant of a motion, turned about the vertical through the pelvis.

    Args:
        frame: which instant.
        angles: (N,) radians, to the person's left.
    """
    count = len(angles)
    root = torch.from_numpy(motion.pose[frame, 0].astype(np.float64))
    turn = torch.from_numpy(_rotation("y", np.asarray(angles, np.float64)))
    pose = np.repeat(motion.pose[frame : frame + 1], count, 0)
    pose[:, 0] = axis_angle(turn @ axis_angle_to_matrix(root))
    return Motion(
        pose,
        np.repeat(motion.pelvis[frame : frame + 1], count, 0),
        np.repeat(motion.standing[frame : frame + 1], count, 0),
    )


def axis_angle(rotations: torch.Tensor) -> NDArray[np.float32]:
    """(..., 3, 3) float64 rotations -> (..., 3), the same bits in every process.

    Of the two axes of half a turn the one whose last component that is not zero is positive.
    """
    vectors = matrix_to_axis_angle(rotations).numpy()
    half_turn = np.pi - np.linalg.norm(vectors, axis=-1, keepdims=True) < _HALF_TURN_RADIANS
    sign = np.zeros_like(vectors[..., :1])
    for component in (2, 1, 0):
        value = vectors[..., component : component + 1]
        sign = np.where((sign == 0) & (np.abs(value) > _HALF_TURN_RADIANS), np.sign(value), sign)
    return settled(np.where(half_turn & (sign < 0), -vectors, vectors))


def _frame_times(num_frames: int, seconds: float) -> Array:
    if num_frames < 2 or seconds <= 0:
        raise ValueError(
            f"A motion of {num_frames} frames in {seconds} s: it needs at least 2 frames and > 0 s."
        )
    return np.arange(num_frames) * (seconds / num_frames)


def _stance(skeleton: Skeleton) -> float:
    """Half the distance of the feet when standing, metres."""
    hip = abs(skeleton.joints[HIPS[0], 0] - skeleton.joints[HIPS[1], 0]) / 2
    return 1.12 * float(hip)


# ------------------------------------------------------------------------------ the plan


def _draw_plan(skeleton: Skeleton, seconds: float, random: np.random.Generator) -> _Plan:
    """A seeded sequence of squats, marches, turns, side steps and kicks that fills the time."""
    width = _stance(skeleton) * random.uniform(0.95, 1.35)
    leg = float(skeleton.joints[HIPS[0], 1] - skeleton.joints[ANKLES[0], 1])
    centre, yaw = 0.0, random.uniform(-0.35, 0.35)

    def stand(foot: int, centre: float, yaw: float) -> tuple[float, float, float]:
        side = 1.0 if foot == 0 else -1.0
        x, z = centre + side * width * np.cos(yaw), -side * width * np.sin(yaw)
        return float(x), float(z), yaw + side * _TOE_OUT

    start_feet = (stand(0, centre, yaw), stand(1, centre, yaw))
    kinds = ["squat", "march", "turn", "sidestep", "kick"]
    random.shuffle(kinds)
    steps: list[_Step] = []
    dips: list[_Dip] = []
    clock, number = random.uniform(0.1, 0.4), 0
    while clock < seconds:
        kind = kinds[number % len(kinds)]
        number += 1
        foot = int(random.integers(2))
        if kind == "squat":
            length = random.uniform(1.1, 1.7)
            dips.append(_Dip(clock, clock + length, leg * random.uniform(0.18, 0.46)))
            clock += length
        elif kind == "kick":
            length = random.uniform(0.9, 1.2)
            x, z, foot_yaw = stand(foot, centre, yaw)
            lift, kick = leg * random.uniform(0.25, 0.5), leg * random.uniform(0.2, 0.5)
            steps.append(_Step(foot, clock, clock + length, x, z, foot_yaw, lift, kick))
            clock += length
        else:
            count = (
                int(random.integers(4, 7)) if kind == "march" else 2 * int(random.integers(1, 3))
            )
            length = random.uniform(0.42, 0.55)
            turn = 0.0
            if kind == "turn":  # towards the camera when already turned away, else either way
                sign = -np.sign(yaw) if abs(yaw) > 0.6 else random.choice([-1.0, 1.0])
                turn = float(sign) * random.uniform(0.35, 0.7)
            if kind == "sidestep":
                centre = float(np.clip(-centre + random.choice([-1, 1]) * 0.09, -0.12, 0.12))
                foot = 0 if centre > 0 else 1
                count = 2
            for step in range(count):
                if step % 2 == 0:
                    yaw += turn
                x, z, foot_yaw = stand(foot, centre, yaw)
                lift = leg * (random.uniform(0.16, 0.3) if kind == "march" else 0.07)
                steps.append(_Step(foot, clock, clock + length, x, z, foot_yaw, lift))
                clock += length * 1.06
                foot = 1 - foot
        clock += random.uniform(0.08, 0.35)
    return _Plan(start_feet, tuple(steps), tuple(dips))


def _smoothstep(u: Array) -> Array:
    """Minimum-jerk course from 0 to 1: still at both ends."""
    u = np.clip(u, 0, 1)
    return u**3 * (10 - 15 * u + 6 * u * u)


def _dip_curve(plan: _Plan, times: Array) -> Array:
    """(T,) metres the pelvis is to go down at each time."""
    total = np.zeros(len(times))
    for dip in plan.dips:
        u = np.clip((times - dip.start) / (dip.end - dip.start), 0, 1)
        total += dip.depth * _smoothstep(1 - np.abs(2 * u - 1))
    return total


@dataclass(frozen=True)
class _Feet:
    """Where the plan puts the feet at each time; second axis: left, right."""

    floor: Array  # (T, 2, 2) x, z of the ankle, metres
    lift: Array  # (T, 2) metres above standing
    yaw: Array  # (T, 2) radians
    pitch: Array  # (T, 2) radians, toes down positive
    standing: NDArray[np.bool_]  # (T, 2)


def _feet(plan: _Plan, times: Array) -> _Feet:
    count = len(times)
    floor, yaw = np.zeros((count, 2, 2)), np.zeros((count, 2))
    lift, pitch = np.zeros((count, 2)), np.zeros((count, 2))
    standing = np.ones((count, 2), bool)
    for foot in (0, 1):
        x, z, angle = plan.feet[foot]
        floor[:, foot], yaw[:, foot] = (x, z), angle
        for step in plan.steps:
            if step.foot != foot:
                continue
            u = np.clip((times - step.start) / (step.end - step.start), 0, 1)
            moved, moving = times > step.start, (u > 0) & (u < 1)
            course, arc = _smoothstep(u), np.sin(np.pi * u) ** 2
            shift = np.array([step.x - x, step.z - z])
            ahead = np.array([np.sin(angle), np.cos(angle)])
            path = np.array([x, z]) + course[:, None] * shift + step.kick * arc[:, None] * ahead
            floor[moved, foot] = path[moved]
            yaw[moved, foot] = (angle + course * (step.yaw - angle))[moved]
            lift[moved, foot] = (step.lift * arc)[moved]
            # The toes hang while the foot is up; before and after it is flat.
            pitch[moved, foot] = (min(0.6, 2.2 * step.lift) * arc)[moved]
            standing[moving, foot] = False
            x, z, angle = step.x, step.z, step.yaw
    return _Feet(floor, lift, yaw, pitch, standing)


# ------------------------------------------------------------------------- upper body


def _rest_locals(num_frames: int) -> Array:
    return np.tile(np.eye(3), (num_frames, 24, 1, 1))


def _rotation(axis: str, angle: Array | float) -> Array:
    """(...,) radians about a body axis -> (..., 3, 3)."""
    angle = np.asarray(angle, np.float64)
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((*angle.shape, 3, 3))
    i, j, k = {"x": (0, 1, 2), "y": (1, 2, 0), "z": (2, 0, 1)}[axis]
    out[..., i, i] = 1
    out[..., j, j], out[..., j, k], out[..., k, j], out[..., k, k] = c, -s, s, c
    return out


def _as_row(arm: _Arm) -> Array:
    return np.array([arm.lower, arm.swing, arm.twist, arm.elbow], np.float64)


def _set_arm(local: Array, side: int, degrees: Array) -> None:
    """Write one arm's (T, 4) angles into the local rotations; side 0 is the left.

    A raised arm takes the collar along, as a shoulder blade does: without it the trapezius creases.
    """
    lower, swing, twist, elbow = np.deg2rad(degrees).T
    mirror = 1.0 if side == 0 else -1.0
    collar = np.clip(np.deg2rad(30) - lower, -0.3, 1.6) * 0.28
    rotation = (
        _rotation("y", -mirror * swing)
        @ _rotation("z", -mirror * (lower + collar))
        @ _rotation("x", twist)
    )
    local[:, COLLARS[side]] = _rotation("z", mirror * collar)
    local[:, SHOULDERS[side]] = rotation
    local[:, ELBOWS[side]] = _rotation("y", -mirror * elbow)
    local[:, HANDS[side]] = _rotation("z", -mirror * _RELAXED_FINGERS)


def _through_keys(times: Array, key_times: Array, keys: Array) -> Array:
    """(K, C) key values -> (T, C), resting shortly at each key."""
    index = np.clip(np.searchsorted(key_times, times, side="right") - 1, 0, len(keys) - 2)
    span = key_times[index + 1] - key_times[index]
    u = np.clip((times - key_times[index]) / (0.85 * span), 0, 1)
    return keys[index] + _smoothstep(u)[:, None] * (keys[index + 1] - keys[index])


def _draw_arms(local: Array, times: Array, seconds: float, random: np.random.Generator) -> None:
    names = list(_ARMS)
    key_times = [0.0]
    while key_times[-1] < seconds:
        key_times.append(key_times[-1] + random.uniform(0.7, 1.3))
    together = random.random(len(key_times)) < 0.4
    rows: tuple[list[Array], list[Array]] = ([], [])
    for both in together:
        left, right = random.choice(names, 2)
        for side, name in enumerate((left, left if both else right)):
            jitter = random.normal(0, (4, 5, 6, 6))
            row = _as_row(_ARMS[str(name)]) + jitter
            row[3] = np.clip(row[3], 2, 125)
            rows[side].append(row)
    for side in (0, 1):
        angles = _through_keys(times, np.array(key_times), np.array(rows[side]))
        drift = sum(
            random.uniform(1, 3.0) * np.sin(2 * np.pi * (times * rate + random.random()))
            for rate in (0.23, 0.41)
        )
        _set_arm(local, side, angles + np.asarray(drift)[:, None] * np.array([1, 0.8, 0.4, 0.8]))
        wrist = 0.2 * np.sin(2 * np.pi * (0.5 * times + random.random()))
        local[:, WRISTS[side]] = _rotation("z", wrist)


def _draw_torso(local: Array, times: Array, random: np.random.Generator) -> None:
    def drift(amplitude: float) -> Array:
        waves = [
            random.normal() * np.sin(2 * np.pi * (times * rate + random.random())) / (1 + order)
            for order, rate in enumerate((0.17, 0.31, 0.53))
        ]
        return amplitude * np.clip(np.sum(waves, 0), -1.5, 1.5)

    for joint in SPINE:
        bend, twist, side = drift(0.04), drift(0.10), drift(0.05)
        local[:, joint] = _rotation("y", twist) @ _rotation("x", bend) @ _rotation("z", side)
    for joint, amplitude in ((NECK, 0.22), (HEAD, 0.14)):
        look, nod, tilt = drift(amplitude), drift(0.08), drift(0.07)
        local[:, joint] = _rotation("y", look) @ _rotation("x", nod) @ _rotation("z", tilt)


# -------------------------------------------------------------------- pelvis and legs


def _solve(
    skeleton: Skeleton,
    plan: _Plan,
    times: Array,
    seconds: float,
    local: Array,
    yaw: Array | None,
    lean: Array,
) -> Motion:
    """Place the pelvis over the planned feet and solve both legs; fills `local` in place.

    Args:
        yaw: (T,) root yaw in radians, or None to face between the feet.
        lean: (T,) forward tilt of the pelvis, radians.
    """
    grid = np.arange(-1.0, seconds + 1.0, 1 / _GRID_HERTZ)
    planned = _feet(plan, grid)
    # Weight: all of it over the standing foot, half each when both stand.
    weight = np.where(planned.standing, 1.0, 0.25)
    weight /= weight.sum(1, keepdims=True)

    def smooth(curve: Array, width_seconds: float) -> Array:
        filtered = gaussian_filter1d(curve, width_seconds * _GRID_HERTZ, axis=0, mode="nearest")
        columns = filtered.reshape(len(grid), -1).T
        return np.stack([np.interp(times, grid, column) for column in columns], -1)

    # A lifted foot's own detour (a kick) must not pull the pelvis along: it follows the soles.
    over = smooth((weight[..., None] * planned.floor).sum(1), 0.13)
    facing = smooth(planned.yaw.mean(1), 0.16)[:, 0] if yaw is None else yaw

    feet = _feet(plan, times)
    root = _rotation("y", facing) @ _rotation("x", lean)
    joints = skeleton.joints
    hips = np.einsum("tij,kj->tki", root, joints[list(HIPS)] - joints[PELVIS])
    pelvis = np.zeros((len(times), 3))
    pelvis[:, [0, 2]] = over
    back = 0.16 * _dip_curve(plan, times)
    pelvis[:, 0] -= back * np.sin(facing)
    pelvis[:, 2] -= back * np.cos(facing)

    ankles = np.empty((len(times), 2, 3))
    ankles[:, :, [0, 2]] = feet.floor
    ankles[:, :, 1] = skeleton.sole + feet.lift
    pelvis[:, 1] = _pelvis_height(skeleton, plan, feet, hips, pelvis, times)

    for foot in (0, 1):
        foot_rotation = _rotation("y", feet.yaw[:, foot]) @ _rotation("x", feet.pitch[:, foot])
        chain = _solve_leg(
            joints[[HIPS[foot], KNEES[foot], ANKLES[foot]]],
            pelvis + hips[:, foot],
            ankles[:, foot],
            root,
            feet.yaw[:, foot],
            foot_rotation,
        )
        for joint, rotation in zip((HIPS[foot], KNEES[foot], ANKLES[foot]), chain, strict=True):
            local[:, joint] = rotation
    local[:, PELVIS] = root
    return Motion(axis_angle(torch.from_numpy(local)), settled(pelvis), feet.standing)


def _reach(skeleton: Skeleton, foot: int) -> float:
    """Longest hip-ankle distance a leg is used at, metres."""
    hip, knee, ankle = (skeleton.joints[joint[foot]] for joint in (HIPS, KNEES, ANKLES))
    return _REACH * float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))


def _pelvis_height(
    skeleton: Skeleton, plan: _Plan, feet: _Feet, hips: Array, pelvis: Array, times: Array
) -> Array:
    """(T,) height of the pelvis: as high as both legs allow, less the dips, without jumps.

    Both feet count whether they stand or not: steps here are short, so a lifted foot never needs the
    pelvis lower, and the curve has no corner when a foot lands. A kick's detour is left out, because
    that leg is in the air.
    """
    limits = []
    for foot in (0, 1):
        gap = feet.floor[:, foot] - (pelvis[:, [0, 2]] + hips[:, foot][:, [0, 2]])
        distance = np.minimum(np.linalg.norm(gap, axis=1), 0.35)
        reach = _reach(skeleton, foot)
        limits.append(skeleton.sole + np.sqrt(reach**2 - distance**2) - hips[:, foot, 1])
    left, right = limits
    # A smooth minimum, never above either.
    height = 0.5 * (left + right - np.sqrt((left - right) ** 2 + 0.004**2))
    return height - 0.012 - _dip_curve(plan, times)


def _solve_leg(
    rest: Array, hip: Array, ankle: Array, root: Array, toes_yaw: Array, foot_rotation: Array
) -> tuple[Array, Array, Array]:
    """Two bones to a target: local rotations of hip, knee and ankle.

    The knee turns about its own x axis by the angle that makes hip and ankle the wanted distance
    apart; the hip turns the bent leg onto the target with the knee over the toes.

    Args:
        rest: (3, 3) rest positions of hip, knee, ankle.
        hip, ankle: (T, 3) world positions; closer than the stretched leg or the ankle is missed.
        root: (T, 3, 3) world rotation of the pelvis.
        toes_yaw: (T,) direction of the foot, radians.
        foot_rotation: (T, 3, 3) world rotation the foot is to have.
    """
    thigh, shin = rest[1] - rest[0], rest[2] - rest[1]
    # |thigh + Rx(a) shin|^2 = |thigh|^2 + |shin|^2 + 2 (c0 + A cos a + B sin a)
    constant = thigh[0] * shin[0]
    cosine = thigh[1] * shin[1] + thigh[2] * shin[2]
    sine = thigh[2] * shin[1] - thigh[1] * shin[2]
    amplitude, phase = np.hypot(cosine, sine), np.arctan2(sine, cosine)
    wanted = ankle - hip
    squared = (wanted**2).sum(-1)
    value = ((squared - thigh @ thigh - shin @ shin) / 2 - constant) / amplitude
    bend = phase + np.arccos(np.clip(value, -1, 1))
    knee = _rotation("x", bend)
    leg = thigh + knee @ shin

    outward = np.stack([np.cos(toes_yaw), np.zeros_like(toes_yaw), -np.sin(toes_yaw)], -1)
    outward = 0.6 * outward + 0.4 * root[:, :, 0]
    hip_world = _frame(wanted, outward) @ np.swapaxes(
        _frame(leg, np.broadcast_to(np.array([1.0, 0, 0]), leg.shape)), -1, -2
    )
    hip_local = np.swapaxes(root, -1, -2) @ hip_world
    ankle_local = np.swapaxes(hip_world @ knee, -1, -2) @ foot_rotation
    return hip_local, knee, ankle_local


def _frame(along: Array, side: Array) -> Array:
    """(T, 3, 3) orthonormal columns: `along`, the part of `side` across it, and their product."""
    first = along / np.linalg.norm(along, axis=-1, keepdims=True)
    second = side - (side * first).sum(-1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], -1)
