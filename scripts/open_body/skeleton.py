"""SMPL's 24 joints out of MakeHuman's 163 bones: their places, their weights, and a T pose."""

from collections.abc import Iterable

import numpy as np
import scipy.sparse
from open_body.makehuman import Array, Indices, MakeHuman

from iper_toolkit.body.skinning import JOINTS, PARENTS

INDEX = {name: index for index, name in enumerate(JOINTS)}
MIRROR_JOINTS = np.array(
    [INDEX[n.replace("left", "?").replace("right", "left").replace("?", "right")] for n in JOINTS]
)
PELVIS = np.array([0.0, -0.2233, 0.0282])  # metres; where SMPL's template has it
_TINY_WEIGHT = 0.01
_JOINTS_PER_VERTEX = 4

# bone -> share of its weights that each joint takes; "side_" stands for left_ or right_. Bones that straddle
# two of SMPL's joints are split. The longest matching beginning decides; what matches nothing is the head's.
BONE_SHARES: dict[str, dict[str, float]] = {
    "root": {"pelvis": 1},
    "pelvis": {"pelvis": 1},
    "spine05": {"pelvis": 1},
    "spine04": {"pelvis": 0.45, "spine1": 0.55},
    "spine03": {"spine1": 1},
    "spine02": {"spine1": 0.35, "spine2": 0.65},
    "spine01": {"spine3": 0.8, "spine2": 0.2},
    "breast": {"spine3": 0.6, "spine2": 0.4},
    "neck01": {"neck": 1},
    "neck02": {"neck": 1},
    "neck03": {"neck": 0.5, "head": 0.5},
    "clavicle": {"side_collar": 1},
    "shoulder01": {"side_collar": 0.65, "side_shoulder": 0.35},
    "upperarm": {"side_shoulder": 1},
    "lowerarm01": {"side_elbow": 1},
    "lowerarm02": {"side_elbow": 0.85, "side_wrist": 0.15},
    "wrist": {"side_wrist": 1},
    "metacarpal": {"side_wrist": 1},
    "finger": {"side_hand": 1},
    "finger1-1": {"side_wrist": 0.6, "side_hand": 0.4},
    "upperleg": {"side_hip": 1},
    "lowerleg": {"side_knee": 1},
    "foot": {"side_ankle": 1},
    "toe": {"side_foot": 1},
    "": {"head": 1},
}


def place_joints(source: MakeHuman, vertices: Array) -> Array:
    """(24, 3) joints of a shape, in the shape's units."""

    def head(bone: str) -> Array:
        return source.bone_head(vertices, bone)

    joints = np.zeros((24, 3))
    joints[INDEX["pelvis"]] = (head("spine05") + head("spine04")) / 2
    joints[INDEX["spine1"]] = head("spine03")
    joints[INDEX["spine2"]] = (head("spine02") + head("spine01")) / 2
    joints[INDEX["spine3"]] = head("spine01")
    joints[INDEX["neck"]] = head("neck01")
    joints[INDEX["head"]] = head("neck03")
    for side, letter in (("left", "L"), ("right", "R")):
        joints[INDEX[f"{side}_hip"]] = head(f"upperleg01.{letter}")
        joints[INDEX[f"{side}_knee"]] = head(f"lowerleg01.{letter}")
        joints[INDEX[f"{side}_ankle"]] = head(f"foot.{letter}")
        joints[INDEX[f"{side}_foot"]] = np.mean([head(f"toe{i}-1.{letter}") for i in (1, 2, 3)], 0)
        joints[INDEX[f"{side}_collar"]] = 0.4 * head(f"clavicle.{letter}") + 0.6 * head(
            f"shoulder01.{letter}"
        )
        joints[INDEX[f"{side}_shoulder"]] = head(f"upperarm01.{letter}")
        joints[INDEX[f"{side}_elbow"]] = head(f"lowerarm01.{letter}")
        joints[INDEX[f"{side}_wrist"]] = head(f"wrist.{letter}")
        joints[INDEX[f"{side}_hand"]] = np.mean(
            [head(f"finger{i}-1.{letter}") for i in (2, 3, 4)], 0
        )
    return joints


def merge_weights(source: MakeHuman, smooth_groups: Iterable[str]) -> Array:
    """(N, 24) skinning weights: bones merged, smoothed along the meshes, symmetric, four a vertex."""
    weights = np.zeros((len(source.vertices), 24))
    for bone, pairs in source.bone_weights.items():
        if not pairs:
            continue
        vertices = np.array([vertex for vertex, _ in pairs])
        values = np.array([value for _, value in pairs])
        for joint, share in _shares(bone).items():
            weights[vertices, joint] += share * values
    weights /= weights.sum(1, keepdims=True)
    quads = np.concatenate([source.quads[name] for name in smooth_groups])
    weights = _smooth(weights, quads)
    weights = (weights + weights[source.mirror][:, MIRROR_JOINTS]) / 2
    # Only what exceeds the fifth stays: where a left and a right joint tie for the last place, both go.
    fifth = np.sort(weights, axis=1)[:, -_JOINTS_PER_VERTEX - 1, None]
    weights = np.where((weights > fifth) & (weights > _TINY_WEIGHT), weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _shares(bone: str) -> dict[int, float]:
    name, _, letter = bone.partition(".")
    side = {"L": "left_", "R": "right_", "": ""}[letter]
    key = max((key for key in BONE_SHARES if name.startswith(key)), key=len)
    return {INDEX[joint.replace("side_", side)]: share for joint, share in BONE_SHARES[key].items()}


def _smooth(weights: Array, quads: Indices, steps: int = 2, strength: float = 0.5) -> Array:
    """Laplacian steps over the edges of the meshes: merged bones leave creases at their borders."""
    num = len(weights)
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    ones = np.ones(len(edges))
    adjacency = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(num, num))
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    degree = np.asarray(adjacency.sum(1))
    for _ in range(steps):
        mean = (adjacency @ weights) / np.maximum(degree, 1)
        weights = np.where(degree > 0, (1 - strength) * weights + strength * mean, weights)
    return weights / weights.sum(1, keepdims=True)


def to_t_pose(
    source: MakeHuman, vertices: Array, joints: Array, weights: Array
) -> tuple[Array, Array]:
    """Re-pose one shape from MakeHuman's A pose to SMPL's T pose with its own joints, pelvis at PELVIS.

    Args:
        vertices: (N, 3) metres. joints: (24, 3) metres. weights: (N, 24).

    Returns:
        (N, 3) vertices and (24, 3) joints.
    """
    turns = _t_pose_rotations(source, vertices, joints)
    posed = joints.copy()
    for joint in range(1, 24):
        parent = PARENTS[joint]
        posed[joint] = posed[parent] + turns[parent] @ (joints[joint] - joints[parent])
    shifts = posed - np.einsum("jab,jb->ja", turns, joints)
    blended = (weights @ turns.reshape(24, 9)).reshape(-1, 3, 3)
    moved = np.einsum("vab,vb->va", blended, vertices) + weights @ shifts
    return moved - posed[0] + PELVIS, posed - posed[0] + PELVIS


def _t_pose_rotations(source: MakeHuman, vertices: Array, joints: Array) -> Array:
    """(24, 3, 3) absolute rotations: limbs straight, palms down, twist shared along the arm."""
    turns = np.tile(np.eye(3), (24, 1, 1))
    x_axis = np.array([1.0, 0, 0])
    for side, letter, sign in (("left", "L", 1.0), ("right", "R", -1.0)):
        hip, knee, ankle, shoulder, elbow, wrist, hand, collar = (
            INDEX[f"{side}_{name}"]
            for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist", "hand", "collar")
        )
        outward = np.array([sign, 0, 0])
        turns[hip] = _between(joints[knee] - joints[hip], np.array([sign * 0.05, -1, -0.01]))
        turns[knee] = _between(joints[ankle] - joints[knee], np.array([sign * -0.01, -1, -0.07]))
        turns[collar] = _about(np.array([0, 0, 1.0]), sign * np.deg2rad(8))
        upper = _between(joints[elbow] - joints[shoulder], np.array([sign, -0.02, -0.03]))
        lower = _between(joints[wrist] - joints[elbow], outward)
        palm = _between(joints[hand] - joints[wrist], outward)
        # the line of the knuckles shall lie level, index finger forward
        knuckles = palm @ (
            source.bone_head(vertices, f"finger2-1.{letter}")
            - source.bone_head(vertices, f"finger5-1.{letter}")
        )
        palm = _about(x_axis, np.arctan2(knuckles[1], knuckles[2])) @ palm
        lower = _about(x_axis, 0.5 * _twist(palm @ lower.T)) @ lower
        upper = _about(x_axis, 0.4 * _twist(lower @ upper.T)) @ upper
        turns[shoulder], turns[elbow] = upper, lower
        turns[wrist] = turns[hand] = palm
    return turns


def _twist(rotation: Array) -> float:
    """Angle of a rotation about the x axis, radians."""
    return float(np.arctan2(rotation[2, 1] - rotation[1, 2], rotation[1, 1] + rotation[2, 2]))


def _about(axis: Array, angle: float) -> Array:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _between(start: Array, end: Array) -> Array:
    """The smallest rotation that turns one direction into another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return _about(axis / sine, float(np.arctan2(sine, start @ end)))
