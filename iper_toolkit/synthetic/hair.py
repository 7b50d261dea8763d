"""Hair: a hairline field over the head, a cap grown from the scalp, and what hangs from it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from iper_toolkit.raster.normals import vertex_normals_array
from iper_toolkit.synthetic.fabrics import Colour
from iper_toolkit.synthetic.mesh import (
    SkinnedMesh,
    attached,
    clip,
    grid_faces,
    joined,
    moved,
    smoothed,
    wave_noise,
    with_trait,
)

Array = NDArray[np.floating]

_SPINE3, _NECK, _HEAD = 9, 12, 15
_SKULL = np.array([0.0, 0.405, 0.070])  # centre of the skull on the mean shape, metres
_CROWN = 0.112  # from there up to the crown


@dataclass(frozen=True)
class Hair:
    """One hair style.

    thickness: metres over the scalp. front: how much fuller it is over the forehead. curl: 0 straight,
    1 afro. fall: height where hanging hair ends, None for short hair. tail: "none", "pony", "bun".
    hairline: metres by which it recedes (negative: low forehead).
    """

    colour: Colour
    thickness: float
    front: float = 0.0
    curl: float = 0.0
    fall: float | None = None
    tail: str = "none"
    hairline: float = 0.0
    nape: float = 0.03
    seed: int = 0


HAIR_COLOURS: tuple[Colour, ...] = (
    (0.055, 0.045, 0.042),
    (0.075, 0.055, 0.045),
    (0.13, 0.085, 0.06),
    (0.21, 0.135, 0.085),
    (0.33, 0.21, 0.12),
    (0.50, 0.35, 0.19),
    (0.66, 0.51, 0.31),
    (0.42, 0.17, 0.09),
    (0.42, 0.41, 0.40),
)

_Range = tuple[float, float]
_SHORT: dict[str, dict[str, _Range | str]] = {
    "buzz": {"thickness": (0.003, 0.005)},
    "crop": {"thickness": (0.010, 0.015)},
    "quiff": {"thickness": (0.011, 0.015), "front": (0.9, 1.6)},
    "curls": {"thickness": (0.020, 0.030), "curl": (0.5, 0.7)},
}
_LONG: dict[str, dict[str, _Range | str]] = {
    "bob": {"thickness": (0.013, 0.018), "fall": (0.275, 0.325)},
    "long": {"thickness": (0.013, 0.017), "fall": (-0.03, 0.20)},
    "pony": {"thickness": (0.008, 0.011), "tail": "pony"},
    "bun": {"thickness": (0.008, 0.011), "tail": "bun"},
    "afro": {"thickness": (0.045, 0.060), "curl": (0.9, 1.0)},
}


def sample_hair(random: np.random.Generator, *, long: bool, dark: bool) -> Hair:
    """A style; `long` prefers long ones, `dark` keeps to dark colours."""
    styles = _LONG if random.random() < (0.85 if long else 0.12) else _SHORT
    chosen = styles[str(random.choice(list(styles)))]
    drawn: dict[str, Any] = {
        name: value if isinstance(value, str) else float(random.uniform(*value))
        for name, value in chosen.items()
    }
    return Hair(
        colour=HAIR_COLOURS[int(random.integers(3 if dark else len(HAIR_COLOURS)))],
        hairline=float(random.uniform(-0.006, 0.008 if long else 0.016)),
        nape=float(random.uniform(0.02, 0.05)),
        seed=int(random.integers(1 << 16)),
        **drawn,
    )


def hairline_field(hair: Hair, rest: Array, head_weight: Array) -> Array:
    """(V,) metres inside the hair on the scalp: forehead, temples, around the ears, nape.

    Args:
        rest: (V, 3) rest positions of the body.
        head_weight: (V,) skinning weight of head and neck.
    """
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    front = np.clip((z - 0.06) / 0.09, 0, 1)
    forehead = 0.473 + hair.hairline + 0.35 * hair.hairline * np.cos(x * 60)
    behind = 0.395 - 0.065 * np.clip((0.09 - z) / 0.09, 0, 1)
    behind -= hair.nape * np.clip((0.04 - z) / 0.05, 0, 1)
    line = forehead * front + (1 - front) * behind
    sideburn = np.clip(1 - np.abs(x - 0.066) / 0.012, 0, 1) * (z > 0.08) * (z < 0.122)
    field = y - (line - 0.012 * sideburn)
    field = np.where(_is_ear(rest), -0.02, field)
    return np.where(head_weight > 0.6, field, -1).astype(np.float32)


def _is_ear(rest: Array) -> NDArray[np.bool_]:
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    return (x > 0.0695) & (y < 0.416) & (y > 0.355) & (z > 0.058) & (z < 0.108)


def grow_hair(hair: Hair, body: SkinnedMesh) -> SkinnedMesh:
    """The hair's mesh on a body that carries the trait "hairline"."""
    cap = _cap(hair, body)
    parts = [cap]
    if hair.fall is not None:
        parts.append(_curtain(hair, hair.fall, body))
    if hair.tail == "pony":
        parts.append(_tube(hair, body, _pony_path()))
    if hair.tail == "bun":
        parts.append(_tube(hair, body, _bun_path()))
    return joined(parts)


def _cap(hair: Hair, body: SkinnedMesh) -> SkinnedMesh:
    rest = body.rest
    field = body.traits[:, 1]
    tufts = 0.0035 * wave_noise(rest * [1, 0.4, 0.8], hair.seed, 0.02)
    field = np.where(field > -0.5, field + tufts, field).astype(np.float32)
    # Close to the scalp at the hairline, full three fingers behind it.
    edge = np.clip(field / 0.058, 0.05, 1) ** 0.8
    thickness = hair.thickness * edge
    if hair.curl > 0:
        thickness = thickness * (1 + 0.10 * hair.curl * wave_noise(rest, hair.seed + 1, 0.05))
        # A round head of hair: fuller above and behind.
        thickness *= 1 + 0.25 * hair.curl * np.clip((rest[:, 1] - 0.40) / 0.1, -0.6, 1)
    else:
        thickness = thickness * (1 + 0.14 * wave_noise(rest * [1, 0.3, 0.5], hair.seed + 1, 0.022))
    over_forehead = np.clip((rest[:, 2] - 0.07) / 0.09, 0, 1) * np.clip(
        (rest[:, 1] - 0.44) / 0.04, 0, 1
    )
    thickness = thickness * (1 + hair.front * over_forehead)
    direction = smoothed(vertex_normals_array(body.vertices, body.faces), body.faces, 2)
    lift = np.array([0, 0.35 + 0.3 * hair.front, 0.1 * hair.front])
    offset = (direction + lift) * thickness[:, None]
    cap = clip(moved(body, offset), field)
    return with_trait(cap, "hairline", np.ones(len(cap.vertices), np.float32))


def _curtain(hair: Hair, end: float, body: SkinnedMesh) -> SkinnedMesh:
    """Hanging hair: a sheet from the crown around the back of the head down to `end`."""
    rows, columns = 34, 61
    height = np.linspace(0.492, end - 0.015, rows)
    # It frames the face and then falls behind the shoulders.
    half_angle = np.interp(
        height,
        [0.0, 0.20, 0.25, 0.30, 0.36, 0.44, 0.50],
        [0.75, 0.80, 1.05, 1.85, 2.02, 1.9, 1.5],
    )
    around = np.linspace(-1, 1, columns)[None] * half_angle[:, None]  # 0 is the back
    up = np.clip((height - _SKULL[1]) / _CROWN, 0, 0.98)
    round_top = np.sqrt(1 - up**2)
    volume = hair.thickness + 0.004 + 0.010 * np.clip((0.40 - height) / 0.1, 0, 1)
    wave = (
        0.006
        * np.sin(around * 9 + height[:, None] * 40 + hair.seed)
        * np.clip((0.42 - height[:, None]) / 0.1, 0, 1)
    )
    radius_x = (0.071 * round_top + volume)[:, None] + wave
    radius_z = (0.108 * round_top + volume)[:, None] + wave
    # Under the skull the hair closes in on the neck.
    inward = np.interp(height, [0.05, 0.25, 0.36], [0.95, 0.86, 1.0])[:, None]
    points = np.stack(
        [
            np.sin(around) * radius_x * inward,
            np.broadcast_to(height[:, None], around.shape),
            _SKULL[2] - np.cos(around) * radius_z * inward,
        ],
        -1,
    ).reshape(-1, 3)
    # Below the neck it lies on the clothes, not on the skin.
    points = _pushed_out(points, body, np.interp(points[:, 1], [0.22, 0.29], [0.034, 0.011]))
    mesh = attached(points.astype(np.float32), grid_faces(rows, columns), body, neighbours=12)
    mesh = _outward(mesh, _SKULL)
    head = np.clip((mesh.rest[:, 1] - 0.12) / 0.18, 0.25, 1)
    weights = np.zeros_like(mesh.weights)
    weights[:, _HEAD], weights[:, _SPINE3] = head, 1 - head
    tips = end + 0.012 * wave_noise(mesh.rest * [1, 0.2, 1], hair.seed + 3, 0.03)
    field = (mesh.rest[:, 1] - tips).astype(np.float32)
    mesh = replace(mesh, weights=weights, pose_directions=np.zeros_like(mesh.pose_directions))
    mesh = with_trait(mesh, "strand", (0.5 - mesh.rest[:, 1]).astype(np.float32))
    return with_trait(clip(mesh, field), "hairline", np.float32(1))  # type: ignore[arg-type]


def _pony_path() -> tuple[Array, Array]:
    """Centres (N, 3) and radii (N,) of a pony tail on the mean shape."""
    path = np.array(
        [
            [0, 0.455, -0.035],
            [0, 0.462, -0.062],
            [0, 0.445, -0.088],
            [0, 0.40, -0.100],
            [0, 0.34, -0.102],
            [0, 0.27, -0.100],
            [0, 0.20, -0.098],
            [0, 0.155, -0.094],
        ]
    )
    radii = np.array([0.012, 0.017, 0.024, 0.028, 0.027, 0.024, 0.016, 0.002])
    return path, radii


def _bun_path() -> tuple[Array, Array]:
    turn = np.linspace(0, np.pi, 9)
    path = np.stack(
        [0 * turn, 0.470 + 0.018 * (1 - np.cos(turn)) / 2, -0.030 - 0.03 * (1 - np.cos(turn))], 1
    )
    return path, 0.004 + 0.030 * np.sin(turn)


def _tube(hair: Hair, body: SkinnedMesh, path_and_radii: tuple[Array, Array]) -> SkinnedMesh:
    """A lumpy tube along a path in the median plane, closed at both ends by its radii."""
    path, radii = path_and_radii
    fine = np.linspace(0, len(path) - 1, 30)
    centre = np.stack([np.interp(fine, np.arange(len(path)), path[:, k]) for k in range(3)], 1)
    radius = np.interp(fine, np.arange(len(path)), radii)
    along = np.gradient(centre, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.array([1.0, 0, 0])
    up = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    lumps = 1 + 0.10 * np.sin(5 * angle[None] + 9 * fine[:, None] / len(path))
    spoke = np.cos(angle)[None, :, None] * side + np.sin(angle)[None, :, None] * up[:, None]
    points = (centre[:, None] + spoke * (radius[:, None] * lumps)[..., None]).reshape(-1, 3)
    mesh = attached(points.astype(np.float32), grid_faces(30, 20, closed=True), body, neighbours=24)
    if (vertex_normals_array(mesh.vertices, mesh.faces) * spoke.reshape(-1, 3)).sum() < 0:
        mesh = replace(mesh, faces=mesh.faces[:, ::-1].copy())
    # The tail swings less than the head turns.
    head = np.clip((mesh.rest[:, 1] - 0.20) / 0.15, 0.45, 1)
    weights = np.zeros_like(mesh.weights)
    weights[:, _HEAD], weights[:, _SPINE3] = head, 1 - head
    mesh = replace(mesh, weights=weights, pose_directions=np.zeros_like(mesh.pose_directions))
    mesh = with_trait(mesh, "strand", np.repeat(fine * 0.03, 20).astype(np.float32))
    return with_trait(mesh, "hairline", np.ones(len(mesh.vertices), np.float32))


def _pushed_out(points: Array, body: SkinnedMesh, distance: Array) -> Array:
    """Points (V, 3) on the mean shape moved until they lie `distance` (V,) outside the body."""
    smooth = ~_is_ear(body.rest)  # hair hangs over the ears, it does not trace them
    outward = vertex_normals_array(body.rest, body.faces)[smooth]
    tree = cKDTree(body.rest[smooth])
    for _ in range(4):
        _, index = tree.query(points, k=24)
        height = ((points[:, None] - body.rest[smooth][index]) * outward[index]).sum(-1).mean(1)
        push = outward[index].mean(1)
        push /= np.maximum(np.linalg.norm(push, axis=1, keepdims=True), 0.3)
        points = points + push * np.maximum(distance - height, 0)[:, None]
    return points


def _outward(mesh: SkinnedMesh, centre: Array) -> SkinnedMesh:
    outward = mesh.vertices - np.where(mesh.vertices[:, 1:2] > centre[1], centre, [0, 0, 0.06])
    outward[:, 1] = 0
    if (vertex_normals_array(mesh.vertices, mesh.faces) * outward).sum() < 0:
        return replace(mesh, faces=mesh.faces[:, ::-1].copy())
    return mesh
