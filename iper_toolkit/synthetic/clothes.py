"""Clothes: which cuts there are, what outfits they make, and how a cut becomes a mesh.

A cut is a field over the rest position (metres, positive inside the garment). The same field trims
the garment layer exactly and says which faces of the body nobody can see under it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.raster.normals import vertex_normals_array
from iper_toolkit.synthetic.fabrics import (
    BOTTOM_PALETTES,
    SHOE_COLOURS,
    TOP_PALETTES,
    Colour,
    Fabric,
    jittered,
    sample_fabric,
)
from iper_toolkit.synthetic.mesh import (
    SkinnedMesh,
    attached,
    clip,
    grid_faces,
    moved,
    smoothed,
    wave_noise,
    with_trait,
)

Array = NDArray[np.floating]

# Landmarks of the mean shape, metres in the body frame.
_WAIST = -0.13
_ARMPIT = 0.10
_ARM_START = 0.20  # |x|
_WRIST = 0.635  # |x|
SOLE_THICKNESS = 0.014  # every shoe has the same sole, so that one motion fits all outfits


@dataclass(frozen=True)
class Top:
    """A garment of the upper body. Lengths in metres on the mean shape.

    sleeve: |x| where it ends (0.16 none, 0.63 the wrist). hem: height where it ends. neck: "crew",
    "v", "scoop", "high". looseness: 0 skin-tight, 1 a loose T-shirt, 1.5 a hoodie. opening: half the
    gap of an open front, 0 closed. closure: "none", "buttons", "zip".
    """

    fabric: Fabric
    sleeve: float
    hem: float
    neck: str = "crew"
    looseness: float = 0.8
    opening: float = 0.0
    collar: bool = False
    hood: bool = False
    closure: str = "none"


@dataclass(frozen=True)
class Bottom:
    """Trousers or a skirt, from `waist` down to `hem` (heights); `flare` widens it downwards."""

    fabric: Fabric
    skirt: bool
    hem: float
    looseness: float = 0.6
    flare: float = 0.3
    belt: bool = False
    waist: float = _WAIST + 0.01


@dataclass(frozen=True)
class Shoes:
    """`top`: height where they end; `sole` is its colour."""

    colour: Colour
    sole: Colour
    top: float = -1.06
    laces: bool = True


@dataclass(frozen=True)
class Outfit:
    """What a person wears; tops from the inside out."""

    style: str
    tops: tuple[Top, ...]
    bottom: Bottom
    shoes: Shoes
    leggings: Bottom | None = None  # under a skirt


@dataclass(frozen=True)
class Piece:
    """A finished garment: its mesh, and what it is made of."""

    mesh: SkinnedMesh
    kind: str  # "top", "bottom", "skirt", "shoe", "trim"
    fabric: Fabric
    garment: Top | Bottom | Shoes


# ------------------------------------------------------------------------------ outfits


_SHIRT_PATTERNS = ("solid", "check", "gingham", "pinstripes", "floral", "heather")
_TEE_PATTERNS = ("solid", "stripes", "thin-stripes", "logo", "dots", "blocks", "number", "camo")
_KNIT_PATTERNS = ("solid", "stripes", "chevron", "blocks", "heather", "logo")
_DRESS_PATTERNS = ("solid", "floral", "dots", "stripes", "check", "chevron")


def _tee(random: np.random.Generator) -> Top:
    neck = str(random.choice(["crew", "crew", "v", "scoop"]))
    return Top(
        sample_fabric(random, TOP_PALETTES, _TEE_PATTERNS),
        sleeve=random.uniform(0.30, 0.40),
        hem=random.uniform(-0.30, -0.20),
        neck=neck,
        looseness=random.uniform(0.4, 1.1),
    )


def _knit(random: np.random.Generator) -> Top:
    neck = str(random.choice(["crew", "v", "high"]))
    return Top(
        sample_fabric(random, TOP_PALETTES, _KNIT_PATTERNS, folds=0.9),
        sleeve=random.uniform(0.60, _WRIST),
        hem=random.uniform(-0.28, -0.21),
        neck=neck,
        looseness=random.uniform(0.4, 1.1),
    )


def _shirt(random: np.random.Generator) -> Top:
    return Top(
        sample_fabric(random, TOP_PALETTES, _SHIRT_PATTERNS, folds=1.2),
        sleeve=float(random.choice([0.37, 0.45, 0.62])),
        hem=random.uniform(-0.29, -0.22),
        looseness=random.uniform(0.5, 0.9),
        collar=True,
        closure="buttons",
    )


def _hoodie(random: np.random.Generator) -> Top:
    return Top(
        sample_fabric(random, TOP_PALETTES, ("solid", "logo", "blocks", "heather", "number")),
        sleeve=0.63,
        hem=random.uniform(-0.28, -0.22),
        looseness=random.uniform(0.9, 1.3),
        hood=True,
        closure=str(random.choice(["none", "zip"])),
    )


def _tank(random: np.random.Generator) -> Top:
    return Top(
        sample_fabric(random, TOP_PALETTES, ("solid", "stripes", "logo", "number")),
        sleeve=0.155,
        hem=random.uniform(-0.26, -0.16),
        neck="scoop",
        looseness=random.uniform(0.2, 0.6),
    )


def _jacket(random: np.random.Generator) -> Top:
    return Top(
        sample_fabric(random, TOP_PALETTES, ("solid", "check", "heather", "denim"), folds=0.7),
        sleeve=0.63,
        hem=random.uniform(-0.32, -0.22),
        looseness=random.uniform(1.1, 1.4),
        opening=random.uniform(0.035, 0.06),
        collar=bool(random.random() < 0.6),
    )


def _plain_inner(random: np.random.Generator) -> Top:
    fabric = sample_fabric(random, TOP_PALETTES, ("solid", "stripes", "heather"))
    return Top(fabric, sleeve=0.34, hem=-0.20, neck="crew", looseness=0.15)


def _trousers(random: np.random.Generator) -> Bottom:
    denim = random.random() < 0.45
    patterns = ("denim",) if denim else ("solid", "solid", "heather", "check")
    flare = float(random.choice([0.05, 0.3, 0.75]))
    return Bottom(
        sample_fabric(random, BOTTOM_PALETTES[:2] if denim else BOTTOM_PALETTES, patterns),
        skirt=False,
        hem=-1.075,
        looseness=random.uniform(0.3, 1.0),
        flare=flare,
        belt=bool(random.random() < 0.5),
    )


def _joggers(random: np.random.Generator) -> Bottom:
    fabric = sample_fabric(random, BOTTOM_PALETTES, ("solid", "side-stripe", "heather"))
    return Bottom(fabric, skirt=False, hem=-1.05, looseness=1.0, flare=0.25)


def _leggings(random: np.random.Generator) -> Bottom:
    fabric = sample_fabric(random, BOTTOM_PALETTES, ("solid", "side-stripe"), folds=0.35)
    hem = float(random.choice([-1.05, -0.92]))
    # They end under the skirt, where a bending waist cannot push them through it.
    return Bottom(fabric, skirt=False, hem=hem, looseness=0.0, flare=0.0, waist=-0.22)


def _shorts(random: np.random.Generator) -> Bottom:
    fabric = sample_fabric(random, BOTTOM_PALETTES, ("solid", "denim", "check", "side-stripe"))
    hem = random.uniform(-0.66, -0.50)
    return Bottom(fabric, skirt=False, hem=hem, looseness=random.uniform(0.7, 1.2), flare=0.9)


def _skirt(random: np.random.Generator) -> Bottom:
    fabric = sample_fabric(random, TOP_PALETTES + BOTTOM_PALETTES, _DRESS_PATTERNS)
    hem = float(random.choice([random.uniform(-0.62, -0.5), random.uniform(-0.95, -0.75)]))
    return Bottom(fabric, skirt=True, hem=hem, flare=random.uniform(0.35, 1.0), belt=True)


def _shoes(random: np.random.Generator) -> Shoes:
    colour = jittered(SHOE_COLOURS[int(random.integers(len(SHOE_COLOURS)))], random)
    light = bool(random.random() < 0.6)
    sole = (0.88, 0.88, 0.86) if light else (0.13, 0.12, 0.12)
    return Shoes(colour, sole, laces=bool(random.random() < 0.7))


def _boots(random: np.random.Generator) -> Shoes:
    colour = jittered(SHOE_COLOURS[int(random.choice([1, 2, 5]))], random)
    top = float(random.choice([-0.98, -0.82]))
    return Shoes(colour, (0.12, 0.11, 0.11), top=top, laces=bool(random.random() < 0.4))


def _casual(random: np.random.Generator) -> Outfit:
    return Outfit("casual", (_tee(random),), _trousers(random), _shoes(random))


def _summer(random: np.random.Generator) -> Outfit:
    top = _tank(random) if random.random() < 0.45 else _tee(random)
    return Outfit("summer", (top,), _shorts(random), _shoes(random))


def _smart(random: np.random.Generator) -> Outfit:
    return Outfit("smart", (_shirt(random),), _trousers(random), _shoes(random))


def _sporty(random: np.random.Generator) -> Outfit:
    return Outfit("sporty", (_hoodie(random),), _joggers(random), _shoes(random))


def _layered(random: np.random.Generator) -> Outfit:
    tops = (_plain_inner(random), _jacket(random))
    return Outfit("layered", tops, _trousers(random), _shoes(random))


def _knitted(random: np.random.Generator) -> Outfit:
    return Outfit("knitted", (_knit(random),), _trousers(random), _shoes(random))


def _dress(random: np.random.Generator) -> Outfit:
    skirt = _skirt(random)
    top = Top(
        skirt.fabric,
        sleeve=float(random.choice([0.155, 0.26, 0.40, 0.62])),
        hem=_WAIST - 0.03,
        neck=str(random.choice(["crew", "v", "scoop"])),
        looseness=random.uniform(0.05, 0.3),
    )
    boots = random.random() < 0.35
    return Outfit("dress", (top,), skirt, _boots(random) if boots else _shoes(random))


def _skirted(random: np.random.Generator) -> Outfit:
    make = (_tee, _knit, _shirt, _tank)[int(random.integers(4))]
    top = replace(make(random), hem=_WAIST - 0.045, looseness=0.25)
    boots = random.random() < 0.5
    return Outfit("skirted", (top,), _skirt(random), _boots(random) if boots else _shoes(random))


def _tunic(random: np.random.Generator) -> Outfit:
    top = replace(_knit(random), hem=_WAIST - 0.05, looseness=0.4)
    skirt = Bottom(top.fabric, skirt=True, hem=random.uniform(-0.50, -0.40), flare=0.2)
    return Outfit("tunic", (top,), skirt, _boots(random), _leggings(random))


STYLES: dict[str, Callable[[np.random.Generator], Outfit]] = {
    "casual": _casual,
    "summer": _summer,
    "smart": _smart,
    "sporty": _sporty,
    "layered": _layered,
    "knitted": _knitted,
    "dress": _dress,
    "skirted": _skirted,
    "tunic": _tunic,
}
_SKIRTS = ("dress", "skirted", "tunic")


def sample_outfits(random: np.random.Generator, count: int, *, skirts: bool) -> tuple[Outfit, ...]:
    """`count` outfits of one person, each of another style as long as there are styles left."""
    names = [name for name in STYLES if skirts or name not in _SKIRTS]
    order: list[str] = []
    while len(order) < count:
        order += random.permutation(names).tolist()
    return tuple(STYLES[name](random) for name in order[:count])


# -------------------------------------------------------------------------- the fields


def _is_arm(rest: Array) -> NDArray[np.bool_]:
    return (np.abs(rest[:, 0]) > _ARM_START) & (rest[:, 1] > 0)


def top_field(top: Top, rest: Array) -> Array:
    """(V, 3) rest positions -> (V,) metres inside the garment."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    # Armholes and sleeves; the lats below the armpit are wider than a sleeveless armhole.
    sleeve = top.sleeve - x + np.maximum(0, _ARMPIT - y) * (1.5 if top.sleeve < _ARM_START else 8)
    front = z > 0.035
    ring = np.hypot(rest[:, 0] / 0.073, (z - 0.035) / np.where(front, 0.090, 0.054))
    depth = {"crew": 0.0, "v": 0.115, "scoop": 0.06, "high": 0.0}[top.neck]
    depth = max(depth, 0.03) if top.collar else depth
    width = {"v": 0.075, "scoop": 0.10}.get(top.neck, 0.07)
    share = (
        np.clip(1 - rest[:, 0] ** 2 / width**2, 0, 1)
        if top.neck == "scoop"
        else np.clip(1 - x / width, 0, 1)
    )
    line = 0.175 - np.where(front, depth * share, 0)
    if top.neck == "scoop":
        ring = ring / 1.16
    neck = np.minimum(np.maximum((ring - 1) * 0.08, line - y), 0.262 - y)
    if top.neck == "high":
        neck = 0.292 - 0.25 * np.clip(z - 0.06, 0, 0.1) - y
    hem = y - top.hem - 0.004 * np.sin(rest[:, 0] * 11 + top.fabric.seed)
    field = np.minimum(np.minimum(sleeve, neck), hem)
    if top.opening > 0:
        gap = top.opening * (0.75 + 0.8 * np.clip((y + 0.1) / 0.3, 0, 1)) - x
        field = np.minimum(field, np.where(z > 0.05, -gap, 1))
    return field.astype(np.float32)


def bottom_field(bottom: Bottom, rest: Array) -> Array:
    """(V, 3) rest positions -> (V,) metres inside the garment."""
    y = rest[:, 1]
    field = np.minimum(bottom.waist - y, y - bottom.hem)
    return np.where(_is_arm(rest), -1, field).astype(np.float32)


def shoe_field(shoes: Shoes, rest: Array) -> Array:
    """(V, 3) rest positions -> (V,) metres inside the shoe."""
    tongue = 0.35 * np.clip(rest[:, 2] - 0.03, 0, 0.05) if shoes.top < -1.0 else 0
    return np.where(_is_arm(rest), -1, shoes.top + tongue - rest[:, 1]).astype(np.float32)


def hidden_body(outfit: Outfit, rest: Array, faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(F,) body faces that lie well under the clothes: nobody sees them and they cannot poke out."""
    fields = [top_field(top, rest) for top in outfit.tops if top.opening == 0]
    legs = bottom_field(outfit.bottom, rest)
    # Under a skirt's hem one sees some way up the legs.
    fields += [legs - 0.04 if outfit.bottom.skirt else legs, shoe_field(outfit.shoes, rest)]
    if outfit.leggings is not None:
        fields.append(bottom_field(outfit.leggings, rest))
    # Where two garments overlap, the body is deep inside although near an edge of each.
    depth = np.minimum(np.max(fields, axis=0), 0.30 - rest[:, 1])  # never the head
    torso = (~_is_arm(rest)) & (rest[:, 1] > -0.3) & (rest[:, 1] < -0.05)
    top_hem = min(top.hem for top in outfit.tops)
    if top_hem < _WAIST - 0.02:
        depth = np.where(torso & (rest[:, 1] > top_hem - 0.2), np.maximum(depth, 0.05), depth)
    # Necklines stand off the skin a little: more of it shows there.
    margin = 0.022 + 0.03 * np.clip((rest[:, 1] - 0.14) / 0.04, 0, 1) * ~_is_arm(rest)
    return (depth[faces] > margin[faces]).all(1)


# --------------------------------------------------------------------------- the meshes


def dress(outfit: Outfit, tights: SkinnedMesh, skirt: SkinnedMesh) -> list[Piece]:
    """Cut and sew an outfit for one person.

    Args:
        tights, skirt: the garment layers in the person's shape.
    """
    pieces: list[Piece] = [_sew_shoes(outfit.shoes, tights)]
    if outfit.bottom.skirt:
        pieces.append(_sew_skirt(outfit.bottom, skirt))
        if outfit.leggings is not None:
            pieces.append(_sew_trousers(outfit.leggings, tights, outfit.shoes))
    else:
        pieces.append(_sew_trousers(outfit.bottom, tights, outfit.shoes))
    for layer, top in enumerate(outfit.tops):
        pieces += _sew_top(top, tights, layer, tucked=top.hem > _WAIST - 0.06)
    return pieces


def _soft_normals(mesh: SkinnedMesh, rounds: int = 4) -> Array:
    """Normals that do not cross in armpits and crotch when something is pushed along them."""
    soft = smoothed(vertex_normals_array(mesh.vertices, mesh.faces), mesh.faces, rounds)
    return soft / np.maximum(np.linalg.norm(soft, axis=1, keepdims=True), 0.3)


def _torso_rings(mesh: SkinnedMesh) -> tuple[Array, Array]:
    """(72,) angles and the chest's radius at them, metres, in the person's own shape."""
    vertices, rest = mesh.vertices, mesh.rest
    ring = (np.abs(rest[:, 0]) < 0.2) & (rest[:, 1] > 0.02) & (rest[:, 1] < 0.12)
    angle = np.arctan2(vertices[ring, 0], vertices[ring, 2] - 0.03)
    radius = np.hypot(vertices[ring, 0], vertices[ring, 2] - 0.03)
    bins = np.linspace(-np.pi, np.pi, 72, endpoint=False)
    near = np.abs((angle[None] - bins[:, None] + np.pi) % (2 * np.pi) - np.pi) < 0.2
    widest = np.array([np.quantile(radius[row], 0.85) for row in near])
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    return bins, np.convolve(np.r_[widest[-2:], widest, widest[:2]], kernel, "valid")


def _sew_top(top: Top, tights: SkinnedMesh, layer: int, tucked: bool) -> list[Piece]:
    rest = tights.rest
    x, y = np.abs(rest[:, 0]), rest[:, 1]
    arm = np.clip((x - 0.17) / 0.06, 0, 1) * (y > 0)
    field = top_field(top, rest)
    noise = wave_noise(rest, top.fabric.seed, 0.11)
    loose = top.looseness
    base = 0.006 + 0.010 * layer
    body = base + 0.003 + loose * (0.012 * np.clip((0.20 - y) / 0.3, 0.15, 1) + 0.003 * noise)
    along_sleeve = np.clip((x - 0.2) / max(top.sleeve - 0.2, 0.05), 0, 1)
    sleeve = base + loose * (0.007 + 0.009 * along_sleeve + 0.002 * noise)
    if top.sleeve > 0.55:  # cuffs
        sleeve = np.where(x > top.sleeve - 0.03, base + 0.003, sleeve)
    offset = (1 - arm) * body + arm * sleeve
    if tucked:
        offset = offset * np.clip((y - top.hem) / 0.08, 0.35, 1)
    pushed = tights.vertices + _soft_normals(tights) * offset[:, None]

    # Below the chest, cloth hangs instead of following the body inward.
    angles, chest = _torso_rings(tights)
    centre = np.array([0, 0.03])
    plan = pushed[:, [0, 2]] - centre
    radius = np.linalg.norm(plan, axis=1)
    angle = np.arctan2(plan[:, 0], plan[:, 1])
    hang = np.interp(angle, np.r_[angles, np.pi], np.r_[chest, chest[0]])
    fall = np.clip((0.09 - y) / 0.22, 0, 1)
    # A tucked waist and an elastic hem pull the cloth back in.
    gather = np.clip((y - top.hem) / 0.07, 0, 1) if tucked or top.hood else np.ones_like(y)
    share = (1 - fall) * 0.6 + fall * (0.72 + 0.24 * min(loose, 1.2))
    target = hang * share * gather + offset * 0.7
    target *= 1 + 0.012 * loose * fall * np.sin(angle * 7 + 3 * noise)
    wider = np.maximum(radius, np.where((arm == 0) & (y < 0.1), target, 0))
    pushed[:, [0, 2]] = centre + plan * (wider / np.maximum(radius, 1e-6))[:, None]

    mesh = clip(moved(tights, pushed - tights.vertices), field)
    pieces = [Piece(mesh, "top", top.fabric, top)]
    if top.collar:
        pieces.append(_sew_collar(top, tights, base))
    if top.hood:
        pieces.append(_sew_hood(top, tights))
    return pieces


def _sew_collar(top: Top, tights: SkinnedMesh, base: float) -> Piece:
    """A band around the neck, open in front, leaning outward."""
    x, y, z = np.abs(tights.rest[:, 0]), tights.rest[:, 1], tights.rest[:, 2]
    ring = np.hypot(tights.rest[:, 0] / 0.083, (z - 0.035) / np.where(z > 0.035, 0.100, 0.056))
    upper = 0.272 - 0.55 * np.clip(z - 0.03, 0, 0.12) - y
    open_front = np.where(z > 0.06, x - 0.012 - 0.5 * np.clip(0.22 - y, 0, 0.1), 1)
    lower = np.minimum((1.20 - ring) * 0.08, y - 0.13)
    field = np.minimum(np.minimum(upper, lower), open_front).astype(np.float32)
    lean = base + 0.004 + 0.06 * np.clip(y - 0.225, 0, 0.05)
    mesh = moved(tights, _soft_normals(tights) * lean[:, None])
    return Piece(clip(mesh, field), "top", top.fabric, top)


def _sew_hood(top: Top, tights: SkinnedMesh) -> Piece:
    """A hood that lies on the shoulders: a bulging roll from collarbone to collarbone."""
    rows, columns = 14, 29
    around = np.linspace(-2.25, 2.25, columns)  # 0 is the back
    section = np.linspace(0, 2 * np.pi, rows)
    fullness = np.clip(np.cos(around / 2.25 * np.pi / 2), 0.0, 1) ** 0.6
    thick = 0.016 + 0.030 * fullness
    ring = 0.083 + 0.022 * fullness
    height = 0.225 + 0.010 * np.cos(around) - 0.02 * (1 - fullness)
    out = ring + np.cos(section)[:, None] * thick
    up = height + np.sin(section)[:, None] * thick * (0.75 + 0.25 * fullness)
    points = (
        np.stack(
            [
                np.sin(around) * out,
                up - 0.035 * fullness * (np.cos(section)[:, None] > 0.2),
                0.032 - np.cos(around) * out,
            ],
            -1,
        )
        .reshape(-1, 3)
        .astype(np.float32)
    )
    mesh = attached(points, grid_faces(rows, columns), tights, neighbours=24)
    # Outward must be outward whatever way the grid was walked.
    centre = mesh.vertices.reshape(rows, columns, 3).mean(0)
    outward = mesh.vertices - np.tile(centre, (rows, 1))
    if (vertex_normals_array(mesh.vertices, mesh.faces) * outward).sum() < 0:
        mesh = replace(mesh, faces=mesh.faces[:, ::-1].copy())
    return Piece(mesh, "top", top.fabric, top)


def _leg_axis(mesh: SkinnedMesh) -> tuple[Array, Array, Array]:
    """Heights of rings along the left leg and the ring centres' x and z, in the person's shape."""
    heights = np.linspace(-1.08, -0.40, 24)
    centres = []
    for height in heights:
        near = (np.abs(mesh.rest[:, 1] - height) < 0.03) & (mesh.rest[:, 0] > 0.01)
        near &= mesh.rest[:, 2] < 0.10  # not the toes
        low, high = mesh.vertices[near].min(0), mesh.vertices[near].max(0)
        centres.append((low + high) / 2)
    middle = np.array(centres)
    return heights, middle[:, 0], middle[:, 2]


def _sew_trousers(bottom: Bottom, tights: SkinnedMesh, shoes: Shoes) -> Piece:
    rest = tights.rest
    y = rest[:, 1]
    noise = wave_noise(rest, bottom.fabric.seed + 1, 0.12)
    over_boots = 0.010 if shoes.top > -1.0 and bottom.hem < shoes.top else 0.0
    offset = 0.005 + bottom.looseness * (0.004 + 0.002 * noise) + over_boots * (y < -0.75)
    pushed = tights.vertices + _soft_normals(tights) * offset[:, None]
    if bottom.looseness > 0:
        heights, centre_x, centre_z = _leg_axis(tights)
        side = np.sign(rest[:, 0])
        centre = np.stack(
            [side * np.interp(y, heights, centre_x), np.interp(y, heights, centre_z)], 1
        )
        plan = pushed[:, [0, 2]] - centre
        radius = np.maximum(np.linalg.norm(plan, axis=1), 1e-6)
        down = np.clip((-0.36 - y) / 0.3, 0, 1)
        knee_width = 0.060 + 0.014 * bottom.looseness
        hem_width = knee_width + bottom.flare * 0.03 * np.clip((-0.55 - y) / 0.5, 0, 1)
        if bottom.hem > -0.9:  # shorts hang from the thigh
            hem_width = 0.082 + 0.020 * bottom.flare
        target = np.where(y < -0.36, hem_width * down, 0)
        wider = np.maximum(radius, target)
        if bottom.hem > -1.06 and bottom.hem < -1.0:  # joggers' cuffs
            wider = np.where(y < bottom.hem + 0.035, np.minimum(wider, radius + 0.002), wider)
        free = (y < -0.36) & ~_is_arm(rest)
        new = centre + plan * (wider / radius)[:, None]
        # The legs must not grow through each other.
        new[:, 0] = np.where(side * new[:, 0] < 0.006, side * 0.006, new[:, 0])
        blend = np.clip((-0.36 - y) / 0.06, 0, 1)[:, None] * free[:, None]
        pushed[:, [0, 2]] = pushed[:, [0, 2]] * (1 - blend) + new * blend
    mesh = clip(moved(tights, pushed - tights.vertices), bottom_field(bottom, rest))
    return Piece(mesh, "bottom", bottom.fabric, bottom)


def _sew_skirt(bottom: Bottom, skirt: SkinnedMesh) -> Piece:
    rest = skirt.rest
    y = rest[:, 1]
    down = np.clip((-0.16 - y) / 0.8, 0, 1)
    plan = skirt.vertices[:, [0, 2]] - np.array([0, 0.03])
    angle = np.arctan2(plan[:, 0], plan[:, 1])
    pleats = 9 + bottom.fabric.seed % 6
    wave = np.sin(angle * pleats + 0.8 * np.sin(angle * 3 + bottom.fabric.seed))
    grow = 0.05 * np.clip(down / 0.12, 0, 1) + bottom.flare * down * 0.75
    grow += 0.055 * bottom.flare * np.clip(down * 2, 0, 1) * wave
    offset = np.zeros_like(skirt.vertices)
    offset[:, [0, 2]] = plan * grow[:, None]
    # The waistband lies over a tucked top.
    offset += vertex_normals_array(skirt.vertices, skirt.faces) * 0.011
    # Cloth between the legs moves with both of them.
    weights = smoothed(skirt.weights, skirt.faces, 10)
    weights /= weights.sum(1, keepdims=True)
    mesh = replace(moved(skirt, offset), weights=weights)
    mesh = clip(mesh, np.minimum(y - bottom.hem, _WAIST - 0.012 - y + 0.01).astype(np.float32))
    return Piece(mesh, "skirt", bottom.fabric, bottom)


def _sew_shoes(shoes: Shoes, tights: SkinnedMesh) -> Piece:
    rest = tights.rest
    y = rest[:, 1]
    foot = np.clip((-1.03 - y) / 0.04, 0, 1)
    offset = 0.004 + 0.006 * foot
    pushed = tights.vertices + _soft_normals(tights, 6) * offset[:, None]
    floor = tights.vertices[:, 1].min()
    height = pushed[:, 1] - floor
    # A sole: everything near the ground goes down to one plane, a little wider than the foot.
    near = height < 0.016
    pushed[near, 1] = floor - SOLE_THICKNESS
    field = shoe_field(shoes, rest)
    fabric = Fabric("solid", (shoes.colour, shoes.sole, shoes.sole), folds=0.25, sheen=0.25)
    mesh = clip(moved(tights, pushed - tights.vertices), field)
    height = mesh.vertices[:, 1] - mesh.vertices[:, 1].min()
    return Piece(with_trait(mesh, "strand", height), "shoe", fabric, shoes)


__all__ = ["SOLE_THICKNESS", "STYLES", "Bottom", "Outfit", "Piece", "Shoes", "Top"]
__all__ += ["bottom_field", "dress", "hidden_body", "sample_outfits", "shoe_field", "top_field"]
