"""Places that synthetic people stand in: a background plate, a light, and the camera's pitch.

Plates are drawn flat and then treated like a photograph: a little out of focus behind the person,
vignetted, with large soft variations of light. No picture file is read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.synthetic.render import Light

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """kind: a key of SCENES; horizon: where floor and wall meet, 0 top to 1 bottom of the frame."""

    kind: str
    seed: int
    horizon: float
    pitch: float
    light: Light


def sample_scene(random: np.random.Generator) -> Scene:
    """A place with light that suits it."""
    kind = str(random.choice(list(SCENES)))
    outdoor = kind in _OUTDOOR
    azimuth = float(random.uniform(-1.1, 1.1))
    elevation = float(random.uniform(0.6, 1.15))
    direction = (
        float(np.sin(azimuth) * np.cos(elevation)),
        float(np.sin(elevation)),
        float(np.cos(azimuth) * np.cos(elevation)),
    )
    overcast = outdoor and random.random() < 0.3
    warmth = float(random.uniform(-0.06, 0.08))
    strength = float(random.uniform(0.35, 0.5) if overcast else random.uniform(0.72, 0.98))
    fill = float(random.uniform(0.75, 0.9) if overcast else random.uniform(0.46, 0.62))
    blue = 0.06 if outdoor else -0.01
    light = Light(
        direction=direction,
        key=(strength * (1 + warmth), strength, strength * (1 - 1.4 * warmth)),
        sky=(fill * (1 - blue), fill, fill * (1 + 1.3 * blue)),
        ground=(0.26 * fill + 0.04, 0.24 * fill + 0.035, 0.22 * fill + 0.03),
        softness=4.0
        if overcast
        else float(random.uniform(1.0, 1.8) if outdoor else random.uniform(1.6, 3.0)),
    )
    return Scene(
        kind=kind,
        seed=int(random.integers(1 << 31)),
        horizon=float(random.uniform(0.66, 0.76)),
        pitch=float(random.uniform(np.deg2rad(4), np.deg2rad(9))),
        light=light,
    )


def draw_plate(scene: Scene, size: int) -> Array:
    """(S, S, 3) float32 linear light: the scene without the person."""
    fine = size * 2
    random = np.random.default_rng(scene.seed)
    canvas = _Canvas(fine, scene.horizon, random)
    SCENES[scene.kind](canvas)
    picture = np.clip(canvas.picture, 0, 1)
    floor = canvas.y >= scene.horizon
    sharp = picture.copy()
    soft = cv2.GaussianBlur(picture, (0, 0), fine / 260)
    picture = np.where(floor[..., None], 0.5 * sharp + 0.5 * soft, soft)
    # Uneven light: brighter towards the key, darker in the corners and along the wall's foot.
    side = scene.light.direction[0]
    fall = (
        1
        + 0.10 * side * (canvas.x - 0.5) * 2
        - 0.16 * ((canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2) * 2
    )
    fall = fall * (1 + 0.05 * _clouds(fine, fine, random, 2, 3))
    if scene.kind not in _OUTDOOR:
        fall = fall * (1 - 0.16 * np.exp(-np.abs(canvas.y - scene.horizon) / 0.035))
    linear = picture.astype(np.float32) ** 2 * fall[..., None].astype(np.float32) ** 1.5
    key = np.array(scene.light.key, np.float32)
    tint = key / key.mean()
    return cv2.resize(
        linear * (0.8 + 0.2 * tint), (size, size), interpolation=cv2.INTER_AREA
    ).astype(np.float32)


class _Canvas:
    """A picture being painted, sRGB 0..1, with the coordinates every painter needs."""

    def __init__(self, size: int, horizon: float, random: np.random.Generator) -> None:
        self.size, self.horizon, self.random = size, horizon, random
        self.picture = np.zeros((size, size, 3))
        self.y, self.x = np.mgrid[0:size, 0:size] / size + 0.5 / size
        below = np.clip((self.y - horizon) / (1 - horizon), 1e-3, 1)
        depth = 1 / (below + 0.16)
        self.floor_x, self.floor_z = (self.x - 0.5) * depth * 2.2, depth * 2.6
        self.below = below

    def colour(self, low: float, high: float, chroma: float) -> NDArray[np.float64]:
        """A muted colour of brightness low..high."""
        base = self.random.uniform(low, high)
        # Warm and cool more often than pink and green: two axes, the first one longer.
        warm, green = chroma * self.random.uniform(-0.7, 1.0), chroma * self.random.normal(0, 0.15)
        shift = np.array([warm - green, 0.25 * warm + green, -warm - green])
        return np.clip(base + shift, 0.02, 0.98)

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Slices of a rectangle given in shares of the frame."""
        edges = np.clip(np.array([top, bottom, left, right]) * self.size, 0, self.size).astype(int)
        return slice(edges[0], edges[1]), slice(edges[2], edges[3])

    def fill(self, where: tuple[slice, slice], colour: NDArray[np.float64] | float) -> None:
        self.picture[where] = colour


def _clouds(
    height: int, width: int, random: np.random.Generator, base: int, octaves: int = 4
) -> NDArray[np.float64]:
    """(height, width) smooth noise, about one in deviation."""
    total, amplitude, norm = np.zeros((height, width)), 1.0, 0.0
    for octave in range(octaves):
        cells = base * 2**octave
        grid = random.normal(size=(cells + 3, cells + 3)).astype(np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        norm += amplitude
        amplitude *= 0.5
    return total / norm


def _tiles(
    canvas: _Canvas, across: float, along: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A tone 0..1 for each floor tile and how near a joint each pixel is (0..1)."""
    u, v = canvas.floor_x * across, canvas.floor_z * along
    i, j = np.floor(u), np.floor(v)
    tone = np.sin(i * 12.9898 + j * 78.233) * 43758.5453
    du, dv = np.abs(u - i - 0.5), np.abs(v - j - 0.5)
    joint = np.clip((np.maximum(du, dv) - 0.47) / 0.02, 0, 1)
    return tone - np.floor(tone), joint


def _floor(canvas: _Canvas, kind: str) -> None:
    random, mask = canvas.random, canvas.y >= canvas.horizon
    size = canvas.size
    if kind == "wood":
        wood = np.array([random.uniform(0.42, 0.68), 0, 0])
        wood[1] = wood[0] * random.uniform(0.68, 0.78)
        wood[2] = wood[1] * random.uniform(0.62, 0.78)
        u = canvas.floor_x * 3.2
        plank = np.floor(u)
        shift = np.modf(np.sin(plank * 12.9) * 43758.5)[0]
        v = canvas.floor_z * 0.9 + shift * 3
        tone = np.abs(np.modf(np.sin(plank * 91.7 + np.floor(v) * 47.1) * 43758.5)[0])
        grain = np.sin(canvas.floor_z * 22 + 6 * np.sin(canvas.floor_x * 14 + tone * 9))
        joint = np.clip((np.abs(u - plank - 0.5) - 0.475) / 0.025, 0, 1)
        joint = np.maximum(joint, np.clip((np.abs(v - np.floor(v) - 0.5) - 0.49) / 0.01, 0, 1))
        floor = (
            wood * (0.86 + 0.22 * tone + 0.025 * grain)[..., None] * (1 - 0.3 * joint)[..., None]
        )
    elif kind == "tiles":
        tone, joint = _tiles(canvas, 1.1, 1.1)
        base = canvas.colour(0.5, 0.8, 0.04)
        floor = base * (0.95 + 0.08 * tone)[..., None] * (1 - 0.22 * joint)[..., None]
    elif kind == "paving":
        tone, joint = _tiles(canvas, 1.5, 1.2)
        base = canvas.colour(0.5, 0.66, 0.03)
        floor = base * (0.88 + 0.18 * tone)[..., None] * (1 - 0.28 * joint)[..., None]
    elif kind == "grass":
        base = np.array(
            [random.uniform(0.28, 0.42), random.uniform(0.42, 0.52), random.uniform(0.16, 0.26)]
        )
        blades = _clouds(size, size, random, 70, 2)
        floor = base * (1 + 0.12 * blades + 0.10 * _clouds(size, size, random, 5))[..., None]
        floor = floor * (0.9 + 0.2 * canvas.below)[..., None]
    elif kind == "carpet":
        base = canvas.colour(0.35, 0.65, 0.10)
        floor = base * (1 + 0.06 * _clouds(size, size, random, 90, 2))[..., None]
    else:  # concrete, asphalt
        base = canvas.colour(0.36, 0.62, 0.025)
        floor = (
            base
            * (
                1
                + 0.05 * _clouds(size, size, random, 60, 3)
                + 0.05 * _clouds(size, size, random, 3)
            )[..., None]
        )
    canvas.picture[mask] = floor[mask]


def _room(canvas: _Canvas) -> None:
    """An interior wall with some of: pattern, panels, pictures, a window, a door, a shelf, a plant."""
    random, size, horizon = canvas.random, canvas.size, canvas.horizon
    wall = canvas.colour(0.62, 0.88, 0.07)
    canvas.picture[:] = wall
    style = random.choice(["plain", "plain", "stripes", "panels", "brick", "two-tone"])
    if style == "stripes":
        width = random.uniform(0.03, 0.07)
        canvas.picture *= (1 - 0.05 * (np.mod(canvas.x, width) < width / 2))[..., None]
    elif style == "panels":
        width = random.uniform(0.12, 0.2)
        edge = np.abs(np.mod(canvas.x, width) - width / 2) > width / 2 - 0.004
        canvas.picture *= (1 - 0.14 * (edge & (canvas.y > horizon - 0.32)))[..., None]
        canvas.picture *= (1 - 0.14 * (np.abs(canvas.y - horizon + 0.32) < 0.004))[..., None]
    elif style == "brick":
        row = np.floor(canvas.y / 0.028)
        u = canvas.x / 0.075 + 0.5 * np.mod(row, 2)
        tone = np.modf(np.abs(np.sin(row * 12.9 + np.floor(u) * 78.2) * 43758.5))[0]
        joint = (np.abs(np.mod(canvas.y, 0.028) - 0.014) > 0.0122) | (
            np.abs(u - np.floor(u) - 0.5) > 0.475
        )
        brick = np.array(
            [random.uniform(0.5, 0.72), random.uniform(0.36, 0.55), random.uniform(0.32, 0.5)]
        )
        canvas.picture[:] = np.where(
            joint[..., None], brick.mean() * 1.15, brick * (0.85 + 0.25 * tone)[..., None]
        )
    elif style == "two-tone":
        canvas.picture[canvas.y > horizon - 0.25] = canvas.colour(0.35, 0.7, 0.08)
    canvas.picture *= (1 + 0.012 * _clouds(size, size, random, 24, 3))[..., None]
    left_taken = random.random() < 0.5
    for left in (0.03, 0.62) if left_taken else (0.62, 0.03):
        thing = random.choice(["nothing", "picture", "window", "door", "shelf", "plant", "picture"])
        if thing == "picture":
            width, height = random.uniform(0.12, 0.24), random.uniform(0.12, 0.22)
            x, y = left + random.uniform(0, 0.08), random.uniform(0.08, 0.24)
            canvas.fill(
                canvas.box(x - 0.006, y - 0.006, x + width + 0.006, y + height + 0.006),
                random.uniform(0.08, 0.9),
            )
            inner = canvas.box(x, y, x + width, y + height)
            rows, columns = canvas.picture[inner].shape[:2]
            if rows > 8 and columns > 8:
                field = _clouds(rows, columns, random, 2)[..., None]
                first, second = canvas.colour(0.3, 0.8, 0.2), canvas.colour(0.2, 0.7, 0.2)
                mix = np.clip(0.5 + 0.8 * field, 0, 1)
                canvas.fill(inner, first * mix + second * (1 - mix))
        elif thing == "window":
            x, y, width, height = (
                left + 0.02,
                0.07,
                random.uniform(0.22, 0.3),
                random.uniform(0.28, 0.36),
            )
            canvas.fill(
                canvas.box(x - 0.012, y - 0.012, x + width + 0.012, y + height + 0.018), 0.93
            )
            canvas.fill(canvas.box(x, y, x + width, y + height), np.array([0.86, 0.93, 0.98]))
            canvas.fill(
                canvas.box(x, y + height * 0.66, x + width, y + height),
                canvas.colour(0.5, 0.7, 0.08),
            )
            canvas.fill(
                canvas.box(x + width / 2 - 0.005, y, x + width / 2 + 0.005, y + height), 0.93
            )
        elif thing == "door":
            colour = canvas.colour(0.35, 0.9, 0.06)
            x = left + 0.04
            canvas.fill(canvas.box(x - 0.014, 0.055, x + 0.234, horizon), colour * 0.82)
            canvas.fill(canvas.box(x, 0.07, x + 0.22, horizon), colour)
            for top in (0.11, 0.42):
                canvas.fill(
                    canvas.box(x + 0.035, top, x + 0.185, min(top + 0.24, horizon - 0.05)),
                    colour * 0.93,
                )
            canvas.fill(canvas.box(x + 0.02, 0.40, x + 0.036, 0.415), 0.75)
        elif thing == "shelf":
            frame = canvas.colour(0.25, 0.6, 0.06)
            x, width = left, random.uniform(0.24, 0.32)
            canvas.fill(canvas.box(x, 0.16, x + width, horizon), frame * 0.55)
            for shelf in np.arange(0.16, horizon, 0.12):
                at = x + 0.01
                while at < x + width - 0.03:
                    thick, tall = random.uniform(0.010, 0.024), random.uniform(0.06, 0.1)
                    canvas.fill(
                        canvas.box(at, shelf + 0.115 - tall, at + thick, shelf + 0.115),
                        canvas.colour(0.25, 0.7, 0.2),
                    )
                    at += thick + (0.03 if random.random() < 0.12 else 0.001)
                canvas.fill(canvas.box(x, shelf + 0.112, x + width, shelf + 0.124), frame)
        elif thing == "plant":
            x = left + 0.15
            pot = canvas.colour(0.4, 0.8, 0.12)
            canvas.fill(canvas.box(x - 0.04, horizon - 0.08, x + 0.04, horizon + 0.008), pot)
            green = np.array(
                [random.uniform(0.16, 0.3), random.uniform(0.34, 0.48), random.uniform(0.14, 0.25)]
            )
            for _ in range(26):
                angle, length = random.uniform(-1.2, 1.2), random.uniform(0.08, 0.26)
                tip = (x + np.sin(angle) * length, horizon - 0.08 - np.cos(angle) * length)
                start = (int(x * size), int((horizon - 0.08) * size))
                end = (int(tip[0] * size), int(tip[1] * size))
                tone = green * random.uniform(0.7, 1.35)
                cv2.line(
                    canvas.picture, start, end, tone.tolist(), max(2, size // 110), cv2.LINE_AA
                )
    board = np.clip(wall + 0.1, 0, 0.95)
    canvas.fill(canvas.box(0, horizon - random.uniform(0.014, 0.026), 1, horizon), board)
    _floor(canvas, str(random.choice(["wood", "wood", "tiles", "carpet", "concrete"])))


def _studio(canvas: _Canvas) -> None:
    """A seamless backdrop: wall and floor are one colour that shades into itself."""
    colour = canvas.colour(0.55, 0.88, 0.07)
    canvas.picture[:] = colour
    bend = np.exp(-(((canvas.y - canvas.horizon) / 0.10) ** 2))
    glow = np.exp(-((canvas.x - 0.5) ** 2 + (canvas.y - 0.4) ** 2) / 0.22)
    canvas.picture *= (0.86 + 0.16 * glow - 0.05 * bend)[..., None]


def _sky(canvas: _Canvas) -> None:
    random, size = canvas.random, canvas.size
    high = np.array([0.38, 0.56, 0.82]) + random.uniform(-0.06, 0.06)
    low = np.array([0.80, 0.86, 0.92])
    share = np.clip(canvas.y / canvas.horizon, 0, 1)[..., None]
    sky = high * (1 - share) + low * share
    cloud = np.clip(_clouds(size, size, random, 3, 5) * 1.5 + random.uniform(-0.5, 0.3), 0, 1)[
        ..., None
    ]
    canvas.picture[:] = sky * (1 - cloud) + 0.95 * cloud


def _trees(canvas: _Canvas, line: float, height: float) -> None:
    random, size = canvas.random, canvas.size
    profile = _clouds(1 + 4, size, random, 7, 5)[2] * height * 0.5 + line - height
    leaves = (canvas.y > profile[None]) & (canvas.y < canvas.horizon)
    green = np.array(
        [random.uniform(0.20, 0.34), random.uniform(0.32, 0.44), random.uniform(0.16, 0.24)]
    )
    shade = 1 + 0.28 * _clouds(size, size, random, 26, 4)
    shade *= 1.1 - 0.45 * np.clip((canvas.y - line + height) / (height + 0.02), 0, 1)
    canvas.picture[leaves] = (green * shade[..., None])[leaves]


def _street(canvas: _Canvas) -> None:
    """Houses with windows along a pavement."""
    random, horizon = canvas.random, canvas.horizon
    _sky(canvas)
    x = -random.uniform(0, 0.1)
    while x < 1:
        width, height = random.uniform(0.22, 0.42), random.uniform(0.38, 0.72)
        colour = canvas.colour(0.42, 0.78, 0.08)
        top = horizon - height
        canvas.fill(canvas.box(x, top, x + width, horizon), colour)
        canvas.fill(canvas.box(x, top - 0.012, x + width, top + 0.008), colour * 0.8)
        step_x, step_y = random.uniform(0.06, 0.09), random.uniform(0.085, 0.12)
        glass = np.array([0.30, 0.36, 0.42]) * random.uniform(0.8, 1.3)
        for row in np.arange(top + 0.04, horizon - 0.10, step_y):
            for column in np.arange(x + 0.025, x + width - step_x * 0.6, step_x):
                canvas.fill(
                    canvas.box(
                        column - 0.004,
                        row - 0.004,
                        column + step_x * 0.5 + 0.004,
                        row + step_y * 0.56,
                    ),
                    colour * 1.12,
                )
                canvas.fill(
                    canvas.box(column, row, column + step_x * 0.5, row + step_y * 0.52),
                    glass * random.uniform(0.85, 1.15),
                )
        door = x + random.uniform(0.3, 0.6) * width
        canvas.fill(
            canvas.box(door, horizon - 0.10, door + 0.05, horizon), canvas.colour(0.2, 0.5, 0.12)
        )
        x += width
    if random.random() < 0.5:
        _trees(canvas, horizon, random.uniform(0.05, 0.12))
    _floor(canvas, str(random.choice(["paving", "concrete"])))
    edge = horizon + 0.012
    canvas.fill(canvas.box(0, horizon, 1, edge), canvas.colour(0.55, 0.7, 0.02))


def _park(canvas: _Canvas) -> None:
    """Trees behind a lawn or a path."""
    random, horizon = canvas.random, canvas.horizon
    _sky(canvas)
    _trees(canvas, horizon - 0.05, random.uniform(0.28, 0.45))
    if random.random() < 0.8:
        _trees(canvas, horizon, random.uniform(0.06, 0.16))
    _floor(canvas, str(random.choice(["grass", "grass", "paving", "concrete"])))


def _yard(canvas: _Canvas) -> None:
    """A close outdoor wall: concrete, garage doors or brick."""
    random, size = canvas.random, canvas.size
    canvas.picture[:] = canvas.colour(0.5, 0.75, 0.06)
    stains = 0.05 * _clouds(size, size, random, 4) + 0.03 * _clouds(size, size, random, 50, 2)
    canvas.picture *= (1 + stains)[..., None]
    kind = random.choice(["slabs", "shutter", "fence"])
    if kind == "slabs":
        u, v = np.mod(canvas.x + 0.07, 0.34), np.mod(canvas.y + 0.05, 0.27)
        joint = (np.abs(u - 0.17) > 0.167) | (np.abs(v - 0.135) > 0.132)
        canvas.picture *= (1 - 0.2 * joint)[..., None]
    elif kind == "shutter":
        left = random.uniform(0.0, 0.4)
        inside = (canvas.x > left) & (canvas.x < left + 0.55) & (canvas.y > 0.12)
        ribs = 0.9 + 0.1 * np.sin(canvas.y * 150)
        colour = canvas.colour(0.4, 0.75, 0.1)
        canvas.picture[inside] = (colour * ribs[..., None])[inside]
    else:
        _sky(canvas)
        boards = canvas.y > 0.26
        width = 0.055
        tone = np.modf(np.abs(np.sin(np.floor(canvas.x / width) * 12.9) * 43758.5))[0]
        gap = np.abs(np.mod(canvas.x, width) - width / 2) > width / 2 - 0.0025
        wood = np.array([0.52, 0.40, 0.29]) * random.uniform(0.7, 1.25)
        paint = wood * (0.85 + 0.25 * tone)[..., None] * (1 - 0.5 * gap)[..., None]
        canvas.picture[boards] = paint[boards]
    _floor(canvas, str(random.choice(["concrete", "paving", "grass"])))


SCENES: dict[str, Callable[[_Canvas], None]] = {
    "room": _room,
    "studio": _studio,
    "street": _street,
    "park": _park,
    "yard": _yard,
}
_OUTDOOR = ("street", "park", "yard")
