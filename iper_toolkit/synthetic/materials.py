"""What a point of a person looks like: skin and face, hair, cloth patterns and folds, shoes.

All of it is a function of the interpolated rest position, so nothing is stored in textures and no
pattern swims. The compiled functions take one row of the materials table and one point.
"""

from dataclasses import dataclass
from math import atan2, cos, exp, floor, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.compiled import njit
from iper_toolkit.synthetic.clothes import Bottom, Piece, Shoes, Top
from iper_toolkit.synthetic.fabrics import PATTERNS, Colour
from iper_toolkit.synthetic.hair import Hair

Array = NDArray[np.float32]
Materials = NDArray[np.float32]
"""(M, MATERIAL_WIDTH): one row a material; the columns are the constants below."""

SKIN, HAIR, CLOTH, SHOE = 0, 1, 2, 3
TOP, LEGS, SKIRT = 0, 1, 2

# Columns every material has: colours are linear light.
KIND, PATTERN, FIRST, SECOND, THIRD, SCALE, FOLDS, SHEEN, SEED = 0, 1, 2, 5, 8, 11, 12, 13, 14
# Columns of cloth.
CUT, CLOSURE, HEM, BELT = 15, 16, 17, 18
# Columns of skin; FIRST is the skin, SECOND the lips, THIRD the iris.
BROW, ARCH, EYE, FRECKLES, STUBBLE, BLUSH, LASHES, HAIR_COLOUR = 15, 16, 17, 18, 19, 20, 21, 22
# Columns of hair and of shoes.
CURL, LACES = 15, 15
MATERIAL_WIDTH = 26


@dataclass(frozen=True)
class Face:
    """What is painted on a face; lengths in metres on the mean shape, the rest 0..1."""

    iris: Colour
    lips: Colour
    brow_thickness: float = 0.0042
    brow_arch: float = 0.003
    eye_size: float = 1.0
    freckles: float = 0.0
    stubble: float = 0.0
    blush: float = 0.5
    lashes: float = 0.6


def to_linear(colour: Colour | NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB 0..1 to linear light, by the square that `render` undoes with a root."""
    return np.asarray(colour, np.float64) ** 2


def _row(kind: int, first: Colour, second: Colour, third: Colour) -> Array:
    row = np.zeros(MATERIAL_WIDTH, np.float32)
    row[KIND], row[SCALE] = kind, 1
    for column, colour in ((FIRST, first), (SECOND, second), (THIRD, third)):
        row[column : column + 3] = to_linear(colour)
    return row


def material_of_skin(skin: Colour, face: Face, hair: Colour) -> Array:
    """(MATERIAL_WIDTH,) row."""
    row = _row(SKIN, skin, face.lips, face.iris)
    row[SHEEN] = 0.16
    row[BROW], row[ARCH], row[EYE] = face.brow_thickness, face.brow_arch, face.eye_size
    row[FRECKLES], row[STUBBLE], row[BLUSH] = face.freckles, face.stubble, face.blush
    row[LASHES] = face.lashes
    row[HAIR_COLOUR : HAIR_COLOUR + 3] = to_linear(hair)
    return row


def material_of_hair(hair: Hair) -> Array:
    """(MATERIAL_WIDTH,) row."""
    row = _row(HAIR, hair.colour, hair.colour, hair.colour)
    row[SHEEN], row[CURL], row[SEED] = 0.35, hair.curl, hair.seed
    return row


def material_of_piece(piece: Piece) -> Array:
    """(MATERIAL_WIDTH,) row of one sewn garment."""
    fabric = piece.fabric
    row = _row(SHOE if piece.kind == "shoe" else CLOTH, *fabric.colours)
    row[PATTERN] = PATTERNS.index(fabric.pattern)
    row[SCALE], row[FOLDS], row[SHEEN] = fabric.scale, fabric.folds, fabric.sheen
    row[SEED] = fabric.seed % 997
    row[CUT] = {"top": TOP, "bottom": LEGS, "skirt": SKIRT, "shoe": 0}[piece.kind]
    garment = piece.garment
    if isinstance(garment, Top):
        row[CLOSURE] = {"none": 0, "buttons": 1, "zip": 2}[garment.closure]
        row[HEM] = garment.hem
    elif isinstance(garment, Bottom):
        row[BELT], row[HEM] = float(garment.belt), garment.hem
    elif isinstance(garment, Shoes):
        row[LACES] = float(garment.laces)
    return row


# --------------------------------------------------------------------------- noise


@njit(inline="always")
def _hash(i: int, j: int, k: int) -> float:  # pragma: no cover - compiled
    h = (i * 73856093) ^ (j * 19349663) ^ (k * 83492791)
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) * (2.0 / 65535.0) - 1.0


@njit()
def noise(x: float, y: float, z: float) -> float:  # pragma: no cover - compiled
    """Smooth noise in [-1, 1] with features about one unit wide."""
    fx, fy, fz = floor(x), floor(y), floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a = _hash(i, j, k) * (1 - u) + _hash(i + 1, j, k) * u
    b = _hash(i, j + 1, k) * (1 - u) + _hash(i + 1, j + 1, k) * u
    c = _hash(i, j, k + 1) * (1 - u) + _hash(i + 1, j, k + 1) * u
    d = _hash(i, j + 1, k + 1) * (1 - u) + _hash(i + 1, j + 1, k + 1) * u
    return (a * (1 - v) + b * v) * (1 - w) + (c * (1 - v) + d * v) * w


@njit(inline="always")
def _step(low: float, high: float, value: float) -> float:  # pragma: no cover - compiled
    """0 below `low`, 1 above `high`, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(inline="always")
def _wrap(value: float, period: float) -> float:  # pragma: no cover - compiled
    return value - period * floor(value / period)


# --------------------------------------------------------------------------- cloth


@njit()
def _cloth_coordinates(
    x: float, y: float, z: float, cut: int
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Metres around and along the torso, arm, leg or skirt."""
    side = 1.0 if x >= 0 else -1.0
    if cut == SKIRT:
        # Around a cone: stripes keep their number down to the hem.
        return atan2(x, z - 0.03) * 0.17, y
    if cut == TOP and abs(x) > 0.185 and y > 0.02:
        return atan2(y - 0.19, z - 0.05) * 0.055 * side, 0.40 - abs(x)
    if cut == LEGS and y < -0.33:
        centre = 0.11 + 0.01 * (-y - 0.33)
        return (atan2((abs(x) - centre), z - 0.03) * 0.085 + 0.3) * side, y
    # A torso is flatter than a circle; measured so, its patterns keep their width at the spine.
    u = atan2(x / 0.155, (z - 0.055) / 0.105) * 0.135
    if y > 0.11:
        # Over the shoulders it runs straight to a seam on the ridge.
        t = _step(0.11, 0.17, y)
        u = u * (1 - t) + (x if z > 0.055 else side * 0.424 - x) * t
    return u, y


@njit()
def _from_side_seam(x: float, y: float, z: float) -> float:  # pragma: no cover - compiled
    """Metres along the cloth from the outer side of a trouser leg."""
    down = min(max((-0.2 - y) / 0.88, 0.0), 1.0)
    width = 0.105 - 0.060 * down
    return abs(atan2(z - 0.034 + 0.034 * down, abs(x) - 0.085 - 0.035 * down)) * width


@njit()
def _pattern_mix(
    pattern: int, x: float, y: float, z: float, cut: int, scale: float, seed: float
) -> tuple[float, float]:  # pragma: no cover - compiled
    """How much of the second and of the third colour is at a rest position, 0..1 each."""
    u, v = _cloth_coordinates(x, y, z, cut)
    second, third = 0.0, 0.0
    soft = 0.0012
    if pattern == 1:  # stripes
        w = 0.062 * scale
        second = _step(-soft, soft, abs(_wrap(v, w) - 0.5 * w) - 0.25 * w)
    elif pattern == 2:  # thin stripes
        w = 0.034 * scale
        second = _step(-soft, soft, 0.16 * w - abs(_wrap(v, w) - 0.5 * w))
    elif pattern == 3:  # pinstripes
        w = 0.030 * scale
        second = 0.75 * _step(-soft, soft, 0.0022 - abs(_wrap(u, w) - 0.5 * w))
    elif pattern == 4 or pattern == 5:  # check, gingham
        w = (0.062 if pattern == 4 else 0.032) * scale
        a = _step(-soft, soft, abs(_wrap(u, w) - 0.5 * w) - 0.25 * w)
        b = _step(-soft, soft, abs(_wrap(v, w) - 0.5 * w) - 0.25 * w)
        second = 0.5 * (a + b)
        if pattern == 4:
            line = min(abs(_wrap(u, w) - 0.5 * w), abs(_wrap(v, w) - 0.5 * w))
            third = 0.8 * _step(-soft, soft, 0.0028 - line)
    elif pattern == 6:  # dots
        w = 0.046 * scale
        row = floor(v / w)
        du = _wrap(u + 0.5 * w * (row - 2 * floor(row / 2)), w) - 0.5 * w
        dv = _wrap(v, w) - 0.5 * w
        second = _step(-soft, soft, 0.24 * w - sqrt(du * du + dv * dv))
    elif pattern == 7:  # logo on the chest, a bar on the back
        if cut == TOP and y < 0.16 and abs(x) < 0.12:
            dy = y - 0.055
            r = sqrt(x * x + dy * dy)
            if z > 0.03:
                kind = int(seed) % 3
                if kind == 0:
                    second = _step(-soft, soft, 0.008 - abs(r - 0.06))
                    third = _step(-soft, soft, min(0.045 - abs(x), 0.012 - abs(dy)))
                elif kind == 1:
                    second = _step(-soft, soft, min(0.055 - abs(x), 0.055 - abs(dy)))
                    third = _step(-soft, soft, 0.035 - r)
                else:
                    second = _step(-soft, soft, 0.06 - abs(x) - 0.8 * abs(dy))
                    third = _step(-soft, soft, 0.028 - abs(x) - 0.8 * abs(dy))
            elif int(seed) % 2 == 0:
                second = _step(-soft, soft, min(0.075 - abs(x), 0.016 - abs(y - 0.10)))
    elif pattern == 8:  # floral: one flower a cell
        w = 0.052 * scale
        i, j = floor(u / w), floor(v / w)
        for di in range(-1, 2):
            for dj in range(-1, 2):
                ci, cj = int(i) + di, int(j) + dj
                cu = (ci + 0.5 + 0.32 * _hash(ci, cj, int(seed))) * w
                cv = (cj + 0.5 + 0.32 * _hash(ci, cj, int(seed) + 7)) * w
                du, dv = u - cu, v - cv
                r = sqrt(du * du + dv * dv)
                turn = 3.1 * _hash(ci, cj, int(seed) + 3)
                size = w * (0.30 + 0.08 * _hash(ci, cj, int(seed) + 5))
                petal = size * (0.72 + 0.28 * cos(5 * atan2(dv, du) + turn))
                second = max(second, _step(-soft, soft, petal - r))
                third = max(third, _step(-soft, soft, 0.28 * size - r))
    elif pattern == 9:  # camo
        k = 24.0 / scale
        second = _step(
            0.05,
            0.09,
            noise(x * k + seed, y * k, z * k) + 0.4 * noise(x * 2 * k, y * 2 * k, z * 2 * k),
        )
        third = _step(
            0.32,
            0.36,
            noise(x * k, y * k + seed, z * k + 9)
            + 0.4 * noise(x * 2 * k, y * 2 * k + 4, z * 2 * k),
        )
    elif pattern == 10:  # colour blocks
        edge = 0.06 if cut == TOP else -0.45
        second = _step(-soft, soft, y - edge)
        third = _step(-soft, soft, 0.012 - abs(y - edge))
        if cut == TOP and abs(x) > 0.185 and y > 0.02:
            second = 1.0
            third = _step(-soft, soft, 0.012 - abs(abs(x) - 0.32))
    elif pattern == 11:  # denim: twill and wear
        second = 0.35 + 0.25 * noise(x * 420, y * 130, z * 420)
        if cut == LEGS and z > 0.02:
            worn = exp(-(((abs(x) - 0.115) / 0.045) ** 2) - ((y + 0.50) / 0.16) ** 2)
            second -= 0.55 * worn
        if cut == LEGS and y < -0.18:
            third = 0.75 * _step(-soft, soft, 0.0018 - abs(_from_side_seam(x, y, z) - 0.005))
    elif pattern == 12:  # a stripe down the side
        if cut == LEGS:
            second = _step(-soft, soft, 0.014 - _from_side_seam(x, y, z))
    elif pattern == 13:  # heather
        second = 0.28 + 0.28 * noise(x * 350, y * 120, z * 350)
    elif pattern == 14:  # chevron
        w = 0.055 * scale
        zigzag = abs(_wrap(u, 0.05 * scale) - 0.025 * scale)
        second = _step(-soft, soft, abs(_wrap(v + zigzag, w) - 0.5 * w) - 0.25 * w)
    elif (
        pattern == 15 and cut == TOP and abs(x) < 0.11 and y < 0.16
    ):  # two digits, as on a team shirt
        size = 0.055 if z > 0.03 else 0.085
        middle = 0.045 if z > 0.03 else 0.05
        sideways = x if z > 0.03 else -x
        for digit in range(2):
            cx = (digit - 0.5) * size * 1.15
            second = max(
                second,
                _digit(
                    int(seed * (digit + 1) * 7) % 10, (sideways - cx) / size, (y - middle) / size
                ),
            )
    return min(max(second, 0.0), 1.0), min(max(third, 0.0), 1.0)


# Segments a, b, c, d, e, f, g of a seven-segment figure, as bits.
_DIGITS = np.array([0x3F, 0x06, 0x5B, 0x4F, 0x66, 0x6D, 0x7D, 0x07, 0x7F, 0x6F])


@njit()
def _digit(number: int, u: float, v: float) -> float:  # pragma: no cover - compiled
    """1 inside a seven-segment figure one unit wide-and-two-high scaled to |u| < .4, |v| < .8."""
    bits = _DIGITS[number]
    best = -1.0
    for segment in range(7):
        if not (bits >> segment) & 1:
            continue
        if segment == 0:
            d = max(abs(u) - 0.34, abs(v - 0.72) - 0.11)
        elif segment == 1:
            d = max(abs(u - 0.30) - 0.11, abs(v - 0.38) - 0.40)
        elif segment == 2:
            d = max(abs(u - 0.30) - 0.11, abs(v + 0.38) - 0.40)
        elif segment == 3:
            d = max(abs(u) - 0.34, abs(v + 0.72) - 0.11)
        elif segment == 4:
            d = max(abs(u + 0.30) - 0.11, abs(v + 0.38) - 0.40)
        elif segment == 5:
            d = max(abs(u + 0.30) - 0.11, abs(v - 0.38) - 0.40)
        else:
            d = max(abs(u) - 0.34, abs(v) - 0.11)
        best = max(best, -d)
    return _step(-0.02, 0.02, best)


@njit()
def fold_height(
    x: float, y: float, z: float, cut: int, seed: float
) -> float:  # pragma: no cover - compiled
    """Height of creased cloth over a rest position, in units of its own amplitude.

    Ridges run across the limb, bent and broken by noise: a crease is long, sharp and alone.
    """
    warp = noise(x * 8 + seed, y * 8, z * 8) + 0.5 * noise(x * 19, y * 19 + seed, z * 19)
    patch = noise(x * 9 + 3, y * 9 + seed, z * 9)
    strength = min(max(0.25 + 1.1 * patch, 0.0), 1.0)
    if cut == SKIRT:
        angle = atan2(x, z - 0.03)
        wave = sin(angle * 13 + 2.5 * warp + seed)
        return (0.35 + 0.65 * strength) * wave + 0.25 * warp
    if cut == TOP and abs(x) > 0.185 and y > 0.02:
        phase = abs(x) * 88 + 34 * (y - 0.19) * sin(seed) + 16 * (z - 0.05) + 5.0 * warp + seed
    elif cut == LEGS and y < -0.33:
        side = 1.0 if x > 0 else -1.0
        phase = y * 62 + 22 * side * x * cos(seed) + 22 * (z - 0.03) + 5.4 * warp + seed
    else:
        phase = y * 44 + x * 34 * sin(seed * 3) + 14 * abs(x) + 6.0 * warp + seed
    wave = sin(phase)
    ridge = wave * abs(wave)
    return strength * ridge + 0.45 * warp


@njit()
def cloth_colour(
    material: Array, x: float, y: float, z: float, margin: float
) -> tuple[float, float, float]:  # pragma: no cover - compiled
    """Linear colour of a garment at a rest position `margin` metres from its edge."""
    cut, closure = int(material[CUT]), int(material[CLOSURE])
    second, third = _pattern_mix(
        int(material[PATTERN]), x, y, z, cut, material[SCALE], material[SEED]
    )
    shade = 1.0 + 0.05 * noise(x * 520, y * 520, z * 520)
    red, green, blue = 0.0, 0.0, 0.0
    for channel in range(3):
        value = material[FIRST + channel] * (1 - second) + material[SECOND + channel] * second
        value = value * (1 - third) + material[THIRD + channel] * third
        if channel == 0:
            red = value
        elif channel == 1:
            green = value
        else:
            blue = value
    # Hems are turned over and stitched.
    if margin < 0.016:
        shade *= 0.93
        shade *= 1 - 0.25 * _step(-0.0008, 0.0008, 0.0012 - abs(margin - 0.013))
    front = z > 0.03
    if closure == 1 and cut == TOP and front and abs(x) < 0.03 and y < 0.2:
        shade *= 1 - 0.18 * _step(-0.001, 0.001, 0.0012 - abs(x - 0.016))
        dy = _wrap(y, 0.085) - 0.0425
        button = _step(-0.001, 0.001, 0.0062 - sqrt(x * x + dy * dy))
        light = 0.75 if red + green + blue < 1.0 else 0.08
        red, green, blue = (
            red * (1 - button) + light * button,
            green * (1 - button) + light * button,
            blue * (1 - button) + light * button,
        )
    if closure == 2 and cut == TOP and front and abs(x) < 0.02:
        zip_ = _step(-0.001, 0.001, 0.0035 - abs(x))
        grey = 0.32 + 0.25 * _step(-0.3, 0.3, sin(y * 900))
        red = red * (1 - zip_) + grey * zip_
        green = green * (1 - zip_) + grey * zip_
        blue = blue * (1 - zip_) + grey * zip_
        shade *= 1 - 0.2 * _step(-0.001, 0.001, 0.0015 - abs(abs(x) - 0.012))
    if material[BELT] > 0 and margin < 0.034 and y > -0.2:
        inside = _step(-0.001, 0.001, 0.034 - margin)
        buckle = 0.0
        if front and abs(x) < 0.02:
            buckle = _step(-0.001, 0.001, 0.019 - abs(x)) * (
                1 - _step(-0.001, 0.001, 0.012 - abs(x))
            )
        red = red * (1 - inside) + (0.045 * (1 - buckle) + 0.5 * buckle) * inside
        green = green * (1 - inside) + (0.028 * (1 - buckle) + 0.42 * buckle) * inside
        blue = blue * (1 - inside) + (0.018 * (1 - buckle) + 0.22 * buckle) * inside
    elif cut == LEGS and front and y > -0.33 and abs(x) < 0.012:
        shade *= 1 - 0.25 * _step(-0.0008, 0.0008, 0.0012 - abs(x - 0.008))  # fly
    if cut == LEGS and z < 0.0 and -0.33 < y < -0.21:  # back pockets
        dx, dy = abs(abs(x) - 0.075), abs(y + 0.265)
        edge = max(dx - 0.038, dy - 0.042)
        shade *= 1 - 0.22 * _step(-0.001, 0.001, 0.0016 - abs(edge))
    return red * shade, green * shade, blue * shade


# ----------------------------------------------------------------------- skin and face


@njit()
def skin_colour(
    material: Array,
    x: float,
    y: float,
    z: float,
    hairline: float,
    lips: float,
    nails: float,
    mouth: float,
) -> tuple[float, float, float, float]:  # pragma: no cover - compiled
    """Linear colour of skin at a rest position, and how wet it shines (eyes, lips).

    x, y, z: metres on the mean shape; hairline: metres inside the hair; lips, nails, mouth: 0..1.
    """
    mottle = 0.045 * noise(x * 55, y * 55, z * 55) + 0.03 * noise(x * 170, y * 170, z * 170)
    red = material[FIRST] * (1 + 0.6 * mottle)
    green = material[FIRST + 1] * (1 + mottle)
    blue = material[FIRST + 2] * (1 + mottle)
    wet = 0.0
    if nails > 0.3:
        k = 0.5 * _step(0.3, 0.6, nails)
        red, green, blue = red * (1 + 0.3 * k), green * (1 + 0.15 * k), blue * (1 + 0.25 * k)
    if y < 0.285:
        if abs(x) > 0.70:  # knuckles and fingertips
            k = 0.16 * _step(0.72, 0.80, abs(x))
            green, blue = green * (1 - 0.7 * k), blue * (1 - 0.7 * k)
        return red, green, blue, wet

    ax = abs(x)
    blush = material[BLUSH]
    ear = _step(0.070, 0.078, ax)
    cheek = exp(-(((ax - 0.044) / 0.021) ** 2) - ((y - 0.370) / 0.019) ** 2)
    nose = exp(-((x / 0.013) ** 2) - ((y - 0.372) / 0.012) ** 2)
    warm = 0.0
    if z > 0.09:
        warm = min(blush * (0.9 * cheek + 0.7 * nose), 1.0)
    warm = max(warm, 0.35 * ear)
    green, blue = green * (1 - 0.26 * warm), blue * (1 - 0.22 * warm)
    if z > 0.09:
        freckles = material[FRECKLES]
        if freckles > 0:
            spot = noise(x * 330, y * 330, z * 330)
            zone = max(cheek, nose) + 0.25
            k = 0.45 * freckles * min(zone, 1.0) * _step(0.45, 0.7, spot)
            red, green, blue = red * (1 - 0.5 * k), green * (1 - 0.8 * k), blue * (1 - k)
        stubble = material[STUBBLE]
        if stubble > 0:
            # Cheeks to jaw, moustache and chin; free around the lips and under the eyes.
            edge = 0.345 + 0.35 * max(ax - 0.03, 0.0) + 0.004 * noise(x * 160, y * 160, z * 160)
            beard = _step(-0.006, 0.006, edge - y) * _step(
                0.292, 0.305, y + 0.1 * max(0.0, 0.16 - z)
            )
            moustache = (
                _step(-0.004, 0.003, 0.0235 - ax)
                * _step(0.3515, 0.3535, y)
                * (1 - _step(0.3625, 0.366, y))
            )
            beard = max(beard, moustache)
            speckle = 0.72 + 0.28 * noise(x * 900, y * 500, z * 900)
            k = stubble * beard * speckle * _step(0.088, 0.112, z) * (1 - _step(0.25, 0.5, lips))
            red = red * (1 - k) + material[HAIR_COLOUR] * k
            green = green * (1 - k) + material[HAIR_COLOUR + 1] * k
            blue = blue * (1 - k) + material[HAIR_COLOUR + 2] * k
        k = _step(0.35, 0.65, lips)
        if k > 0:
            line = _step(0.0, 0.0012, abs(y - 0.3435 - 0.0014 * cos(x * 220)))
            tone = 0.55 + 0.45 * line
            red = red * (1 - k) + material[SECOND] * tone * k
            green = green * (1 - k) + material[SECOND + 1] * tone * k
            blue = blue * (1 - k) + material[SECOND + 2] * tone * k
            wet = 0.5 * k
        k = _step(0.6, 0.9, mouth)
        red, green, blue = red * (1 - 0.75 * k), green * (1 - 0.85 * k), blue * (1 - 0.85 * k)

        # Nostrils.
        nx, ny = ax - 0.0082, y - 0.3655
        k = 0.75 * exp(-((nx / 0.0034) ** 2) - (ny / 0.0022) ** 2)
        red, green, blue = red * (1 - 0.8 * k), green * (1 - k), blue * (1 - k)

        # Eyes, seen as almonds on the closed lids.
        size = material[EYE]
        dx, dy = (ax - 0.0295) / size, (y - 0.4085) / size
        if abs(dx) < 0.03 and abs(dy) < 0.045:
            along = dx / 0.0162
            inner = -1.0 if along < 0 else 1.0
            upper = (
                0.0078 * max(1 - abs(along) ** (2.0 if inner < 0 else 2.6), 0.0) + 0.0012 * along
            )
            lower = -0.0052 * max(1 - along * along, 0.0) + 0.0010 * along
            shadow = exp(-((dx / 0.021) ** 2) - ((dy - 0.004) / 0.012) ** 2)
            red, green, blue = (
                red * (1 - 0.20 * shadow),
                green * (1 - 0.27 * shadow),
                blue * (1 - 0.25 * shadow),
            )
            if abs(along) < 1.0:
                opening = _step(-0.0005, 0.0005, min(upper - dy, dy - lower))
                if opening > 0:
                    look = sqrt(dx * dx + (dy - 0.0012) * (dy - 0.0012))
                    white = (
                        0.62
                        - 0.35 * _step(0.55, 1.0, abs(along))
                        - 0.25 * _step(0.004, 0.0, upper - dy)
                    )
                    r, g, b = white, white * 0.95, white * 0.92
                    iris = _step(0.0064, 0.0056, look)
                    ring = 0.55 + 0.45 * _step(0.0062, 0.0046, look)
                    r = r * (1 - iris) + 1.3 * material[THIRD] * ring * iris
                    g = g * (1 - iris) + 1.3 * material[THIRD + 1] * ring * iris
                    b = b * (1 - iris) + 1.3 * material[THIRD + 2] * ring * iris
                    pupil = 1 - _step(0.0024, 0.0030, look)
                    r, g, b = r * (1 - 0.97 * pupil), g * (1 - 0.97 * pupil), b * (1 - 0.97 * pupil)
                    gx, gy = (
                        (ax * (1 if x > 0 else -1) - 0.0295 * (1 if x > 0 else -1)) - 0.002,
                        dy - 0.0032,
                    )
                    glint = _step(0.0017, 0.0010, sqrt(gx * gx + gy * gy))
                    r, g, b = r + 0.6 * glint, g + 0.6 * glint, b + 0.6 * glint
                    red = red * (1 - opening) + r * opening
                    green = green * (1 - opening) + g * opening
                    blue = blue * (1 - opening) + b * opening
                    wet = max(wet, opening)
            lash = material[LASHES]
            if abs(along) < 1.08:
                k = (0.55 + 0.4 * lash) * _step(
                    0.0011, 0.0003, abs(dy - upper - 0.0004) - 0.0006 * lash
                )
                k = max(k, 0.35 * lash * _step(0.0009, 0.0002, abs(dy - lower + 0.0003)))
                k = max(
                    k,
                    0.28
                    * _step(0.0009, 0.0002, abs(dy - upper - 0.0042))
                    * _step(1.0, 0.6, abs(along)),
                )
                red, green, blue = red * (1 - k), green * (1 - k), blue * (1 - 0.97 * k)
        # Brows: thick inside, thin outside.
        bx = ax - 0.0315
        if abs(bx) < 0.024 and 0.41 < y < 0.46:
            t = bx / 0.0225
            middle = (
                0.4305
                + material[ARCH] * (1 - (t - 0.25) * (t - 0.25) * 1.6)
                - 0.0022 * _step(0.4, 1.0, t)
            )
            half = (
                0.5
                * material[BROW]
                * (1.15 - 0.75 * _step(-0.2, 1.0, t))
                * _step(1.0, 0.75, abs(t))
            )
            hairs = 0.0009 * noise(x * 700 + 60 * y, y * 240, 3.0)
            k = (
                0.88
                * _step(-0.0012, 0.0010, half + hairs - abs(y - middle))
                * (1.0 if half > 0.0003 else 0.0)
            )
            red = red * (1 - k) + 0.6 * material[HAIR_COLOUR] * k
            green = green * (1 - k) + 0.6 * material[HAIR_COLOUR + 1] * k
            blue = blue * (1 - k) + 0.6 * material[HAIR_COLOUR + 2] * k
    # Single hairs reach beyond the hairline, so that it has no edge.
    if hairline > -0.02:
        strands = 0.006 * noise(x * 420, y * 90, z * 300)
        k = 0.92 * _step(-0.010, 0.005, hairline + strands)
        red = red * (1 - k) + material[HAIR_COLOUR] * k
        green = green * (1 - k) + material[HAIR_COLOUR + 1] * k
        blue = blue * (1 - k) + material[HAIR_COLOUR + 2] * k
    return red, green, blue, wet


@njit()
def hair_strands(
    material: Array, x: float, y: float, z: float, strand: float
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Brightness of hair at a rest position, and how far strands tilt the normal, -1..1."""
    curl = material[CURL]
    if curl > 0.3:
        n = noise(x * 150, y * 150, z * 150) + 0.6 * noise(x * 320, y * 320, z * 320)
        return 1.0 + 0.35 * n, 0.7 * n
    angle = atan2(x, 0.07 - z) if strand > 0 else atan2(x, y - 0.40)
    seed = material[SEED] * 0.01
    along = strand if strand > 0 else z
    coarse = noise(angle * 16 + seed, along * 9, seed)
    fine = noise(angle * 60 + 2 * coarse, along * 14, 5.0 + seed)
    return 1.0 + 0.30 * coarse + 0.28 * fine, 0.5 * coarse + 0.5 * fine


@njit()
def shoe_colour(
    material: Array, x: float, y: float, z: float, height: float
) -> tuple[float, float, float]:  # pragma: no cover - compiled
    """Linear colour of a shoe; `height` is metres over its own sole."""
    k = 1 - _step(0.020, 0.023, height + 0.05 * max(0.0, z - 0.10) * -1)
    side = 1.0 if x > 0 else -1.0
    middle = abs(x - side * 0.117)
    if material[LACES] > 0 and height > 0.05 and middle < 0.016 and 0.055 < z < 0.125:
        k = max(k, _step(-0.001, 0.001, abs(_wrap(z, 0.015) - 0.0075) - 0.0035))
    shade = 1 - 0.3 * _step(-0.001, 0.001, 0.0015 - abs(height - 0.023))
    red = material[FIRST] * (1 - k) + material[SECOND] * k
    green = material[FIRST + 1] * (1 - k) + material[SECOND + 1] * k
    blue = material[FIRST + 2] * (1 - k) + material[SECOND + 2] * k
    return red * shade, green * shade, blue * shade
