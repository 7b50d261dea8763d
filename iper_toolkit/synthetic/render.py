"""Drawing one dressed person into a scene: visibility, ambient occlusion, shadows, light.

Everything is drawn at twice the wanted size and averaged, so masks and edges are exact coverages.
World frame as in `motion`; the camera looks along -z, pitched down a little, without perspective.
"""

from dataclasses import dataclass
from math import sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.compiled import njit
from iper_toolkit.raster.cpu import EYE_DISTANCE, FAR, rasterize_array
from iper_toolkit.raster.normals import vertex_normals_array
from iper_toolkit.synthetic.materials import (
    CLOTH,
    CUT,
    FIRST,
    FOLDS,
    HAIR,
    KIND,
    SEED,
    SHEEN,
    SKIN,
    cloth_colour,
    fold_height,
    hair_strands,
    shoe_colour,
    skin_colour,
)
from iper_toolkit.synthetic.people import DressedPerson
from iper_toolkit.synthetic.reproducible import turned_points

Array = NDArray[np.floating]

_SUPERSAMPLING = 2
_SHADOW_SIZE = 320  # pixels of the map seen from the light
_SHADOW_REACH = 1.45  # metres it covers to each side of the person's middle
_OCCLUSION_SIZE = 88
_FOLD_METRES = 0.0052  # height of a full fold


@dataclass(frozen=True)
class Camera:
    """A still weak-perspective camera.

    scale: NDC per metre. pitch: radians it looks down. shift: (x, y) metres added after turning into
    the camera's frame, y down.
    """

    scale: float
    pitch: float
    shift: tuple[float, float]

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) world to camera frame: x right, y down, z away."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]])


@dataclass(frozen=True)
class Light:
    """direction: (3,) unit, from the person to the key light; the rest linear RGB."""

    direction: tuple[float, float, float]
    key: tuple[float, float, float]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]
    softness: float = 1.0  # of the cast shadow on the floor, 1 sunny, 4 overcast


@dataclass(frozen=True)
class Layer:
    """A drawn person without the scene.

    colour: (S, S, 3) float32 linear light times coverage; coverage: (S, S) float32 0..1;
    shade: (S, S) float32, share of light that the person takes from the floor.
    """

    colour: Array
    coverage: Array
    shade: Array


def _sphere(count: int) -> NDArray[np.float64]:
    """Directions spread over the sphere (Fibonacci), the lower ones few."""
    index = np.arange(count) + 0.5
    height = 1 - 1.65 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - height**2)
    return np.stack([np.cos(angle) * flat, height, np.sin(angle) * flat], 1)


def _view(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rows: right, down, and away from a viewer in `direction`; right-handed."""
    away = -direction / np.linalg.norm(direction)
    up = np.array([0.0, 1, 0]) if abs(away[1]) < 0.95 else np.array([0.0, 0, 1])
    right = np.cross(away, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(away, right), away])


_OCCLUSION_VIEWS = [_view(direction).astype(np.float32) for direction in _sphere(14)]


def draw_person(
    person: DressedPerson, vertices: Array, bend: Array, camera: Camera, light: Light, size: int
) -> Layer:
    """Draw one frame.

    Args:
        person: the mesh and its materials.
        vertices: (V, 3) float32 world positions of the person's mesh, metres.
        bend: (23,) radians that joints 1..23 are bent by: cloth creases there.
        camera: where the frame's square lies.
        light: the key light casts shadows; sky and ground are dimmed by what stands before them.
        size: S of the picture.
    """
    mesh = person.mesh
    faces = mesh.faces
    fine = size * _SUPERSAMPLING
    seen = turned_points(vertices, camera.rotation)
    seen[:, :2] = camera.scale * (seen[:, :2] + np.array(camera.shift, np.float32))
    face, barycentric, _ = rasterize_array(seen, faces, fine)

    normal = vertex_normals_array(vertices, faces, skip=person.inside)
    middle = (vertices.min(0) + vertices.max(0)) / 2
    openness = _ambient_openness(vertices, normal, faces, middle)
    to_light = np.array(light.direction)
    light_view = _view(to_light).astype(np.float32)
    lit = turned_points(vertices - middle, light_view)
    lit[:, :2] /= _SHADOW_REACH
    _, _, shadow = rasterize_array(lit, faces, _SHADOW_SIZE)
    creases = (person.bending * np.minimum(bend, 1.6).astype(np.float32)).sum(1)
    crease = np.minimum(0.34 + 0.85 * creases, 1.6).astype(np.float32)

    colour = np.zeros((size, size, 3), np.float32)
    coverage = np.zeros((size, size), np.float32)
    _shade_pixels(
        face, barycentric, faces, person.face_material, person.inside, vertices, normal,
        mesh.rest, mesh.vertices, mesh.traits, openness, crease, person.materials,
        to_light.astype(np.float32), np.array([light.key, light.sky, light.ground], np.float32),
        (-camera.rotation[2]).astype(np.float32), shadow, light_view, middle.astype(np.float32),
        _head_up(vertices, person), colour, coverage,
    )  # fmt: skip
    shade = _floor_shade(vertices, faces, camera, light, shadow, light_view, middle, size)
    return Layer(colour, coverage, shade)


def _head_up(vertices: Array, person: DressedPerson) -> Array:
    """(3,) the direction of the crown in this frame: along which hair falls back."""
    rest = person.mesh.rest
    head = person.mesh.weights[:, 15] > 0.9
    high, low = head & (rest[:, 1] > 0.44), head & (rest[:, 1] < 0.38)
    up = vertices[high].mean(0) - vertices[low].mean(0)
    return (up / np.linalg.norm(up)).astype(np.float32)


def _ambient_openness(
    vertices: Array, normal: Array, faces: NDArray[np.int32], middle: Array
) -> Array:
    """(V, 2) share of the sky and of the ground that each vertex sees past the person itself."""
    total = np.zeros((len(vertices), 2), np.float32)
    weight = np.zeros((len(vertices), 2), np.float32)
    reach = 1.25
    centred = (vertices - middle).astype(np.float32)
    face = np.empty((_OCCLUSION_SIZE, _OCCLUSION_SIZE), np.int32)
    barycentric = np.empty((_OCCLUSION_SIZE, _OCCLUSION_SIZE, 3), np.float32)
    depth = np.empty((_OCCLUSION_SIZE, _OCCLUSION_SIZE), np.float32)
    for view in _OCCLUSION_VIEWS:
        direction = -view[2]
        lit = turned_points(centred, view)
        lit[:, :2] /= reach
        rasterize_array(lit, faces, _OCCLUSION_SIZE, face, barycentric, depth)
        _gather_openness(
            lit, normal, direction, depth, total, weight,
            0 if direction[1] > -0.1 else 1,
        )  # fmt: skip
    return total / np.maximum(weight, 1e-3)


@njit(nogil=True)
def _gather_openness(
    lit: Array,
    normal: Array,
    direction: Array,
    depth: Array,
    total: Array,
    weight: Array,
    column: int,
) -> None:  # pragma: no cover - compiled
    size = depth.shape[0]
    for k in range(len(lit)):
        facing = (
            normal[k, 0] * direction[0] + normal[k, 1] * direction[1] + normal[k, 2] * direction[2]
        )
        if facing <= 0.02:
            continue
        weight[k, column] += facing
        x = min(max(int((lit[k, 0] + 1) * 0.5 * size), 0), size - 1)
        y = min(max(int((lit[k, 1] + 1) * 0.5 * size), 0), size - 1)
        # One texel is 3 cm: what lies closer than that is the surface itself.
        gap = lit[k, 2] + EYE_DISTANCE - depth[y, x] - 0.022
        # Far occluders still dim: they are part of the person and do not shine.
        blocked = min(max(gap / 0.03, 0.0), 1.0)
        total[k, column] += facing * (1 - blocked)


@njit(nogil=True)
def _light_share(
    x: float, y: float, z: float, shadow: Array, view: Array, bias: float
) -> float:  # pragma: no cover - compiled
    """Share of the key light that reaches a point (relative to the person's middle)."""
    size = shadow.shape[0]
    u = ((view[0, 0] * x + view[0, 1] * y + view[0, 2] * z) / _SHADOW_REACH + 1) * 0.5 * size - 0.5
    v = ((view[1, 0] * x + view[1, 1] * y + view[1, 2] * z) / _SHADOW_REACH + 1) * 0.5 * size - 0.5
    depth = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + EYE_DISTANCE - bias
    i, j = int(u), int(v)  # both are positive where they are used
    if i < 1 or j < 1 or i >= size - 2 or j >= size - 2:
        return 1.0
    fu, fv = u - i, v - j
    # A 3 x 3 box with soft edges: rows and columns i - 1 .. i + 2.
    total = 0.0
    for row in range(4):
        wy = 1 - fv if row == 0 else (fv if row == 3 else 1.0)
        for column in range(4):
            wx = 1 - fu if column == 0 else (fu if column == 3 else 1.0)
            if shadow[j - 1 + row, i - 1 + column] >= depth:
                total += wx * wy
    return total / 9.0


@njit(nogil=True)
def _shade_pixels(
    face: NDArray[np.int32],
    barycentric: Array,
    faces: NDArray[np.int32],
    face_material: NDArray[np.int32],
    inside: NDArray[np.bool_],
    vertices: Array,
    normals: Array,
    rest: Array,
    own: Array,
    traits: Array,
    openness: Array,
    crease: Array,
    materials: Array,
    to_light: Array,
    lights: Array,
    to_eye: Array,
    shadow: Array,
    light_view: Array,
    middle: Array,
    head_up: Array,
    colour: Array,
    coverage: Array,
) -> None:  # pragma: no cover - compiled
    """Colour every covered sample and average 2 x 2 of them into `colour` and `coverage`."""
    fine = face.shape[0]
    share = np.float32(1.0 / (_SUPERSAMPLING * _SUPERSAMPLING))
    hx, hy, hz = to_light[0] + to_eye[0], to_light[1] + to_eye[1], to_light[2] + to_eye[2]
    length = sqrt(hx * hx + hy * hy + hz * hz)
    hx, hy, hz = hx / length, hy / length, hz / length
    for row in range(fine):
        for column in range(fine):
            f = face[row, column]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb, wc = (
                barycentric[row, column, 0],
                barycentric[row, column, 1],
                barycentric[row, column, 2],
            )
            x = wa * rest[a, 0] + wb * rest[b, 0] + wc * rest[c, 0]
            y = wa * rest[a, 1] + wb * rest[b, 1] + wc * rest[c, 1]
            z = wa * rest[a, 2] + wb * rest[b, 2] + wc * rest[c, 2]
            px = wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0]
            py = wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1]
            pz = wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            length = sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            gx, gy, gz = nx, ny, nz  # without creases: for shadows
            sky = wa * openness[a, 0] + wb * openness[b, 0] + wc * openness[c, 0]
            ground = wa * openness[a, 1] + wb * openness[b, 1] + wc * openness[c, 1]
            material = materials[face_material[f]]
            kind = int(material[KIND])
            lined = inside[f]
            red, green, blue, gloss, wrap = 0.0, 0.0, 0.0, float(material[SHEEN]), 0.10
            power = 16.0
            if kind == SKIN:
                hairline = wa * traits[a, 1] + wb * traits[b, 1] + wc * traits[c, 1]
                lips = wa * traits[a, 2] + wb * traits[b, 2] + wc * traits[c, 2]
                nails = wa * traits[a, 3] + wb * traits[b, 3] + wc * traits[c, 3]
                mouth = wa * traits[a, 4] + wb * traits[b, 4] + wc * traits[c, 4]
                red, green, blue, wet = skin_colour(material, x, y, z, hairline, lips, nails, mouth)
                gloss += 0.10 * wet
                power = 12.0 + 30.0 * wet
                wrap = 0.30
            elif kind == HAIR:
                strand = wa * traits[a, 5] + wb * traits[b, 5] + wc * traits[c, 5]
                bright, tilt = hair_strands(material, x, y, z, strand)
                red = (material[FIRST] + 0.007) * bright
                green = (material[FIRST + 1] + 0.006) * bright
                blue = (material[FIRST + 2] + 0.006) * bright
                # Strands tilt the normal sideways, across the way they fall.
                sx, sy, sz = (
                    ny * head_up[2] - nz * head_up[1],
                    nz * head_up[0] - nx * head_up[2],
                    nx * head_up[1] - ny * head_up[0],
                )
                nx, ny, nz = nx + 0.45 * tilt * sx, ny + 0.45 * tilt * sy, nz + 0.45 * tilt * sz
            elif kind == CLOTH:
                margin = wa * traits[a, 0] + wb * traits[b, 0] + wc * traits[c, 0]
                red, green, blue = cloth_colour(material, x, y, z, margin)
            else:
                height = wa * traits[a, 5] + wb * traits[b, 5] + wc * traits[c, 5]
                red, green, blue = shoe_colour(material, x, y, z, height)
                power = 24.0
            if kind == CLOTH and material[FOLDS] > 0:
                # Slope of the folds along two edges of the face, carried to the posed face.
                strength = wa * crease[a] + wb * crease[b] + wc * crease[c]
                amplitude = _FOLD_METRES * material[FOLDS] * strength
                seed, cut = material[SEED], int(material[CUT])
                here = fold_height(x, y, z, cut, seed)
                reach = 0.004
                e1x, e1y, e1z = (
                    rest[b, 0] - rest[a, 0],
                    rest[b, 1] - rest[a, 1],
                    rest[b, 2] - rest[a, 2],
                )
                e2x, e2y, e2z = (
                    rest[c, 0] - rest[a, 0],
                    rest[c, 1] - rest[a, 1],
                    rest[c, 2] - rest[a, 2],
                )
                l1 = sqrt(e1x * e1x + e1y * e1y + e1z * e1z) + 1e-9
                l2 = sqrt(e2x * e2x + e2y * e2y + e2z * e2z) + 1e-9
                k = reach / l1
                h1 = (fold_height(x + k * e1x, y + k * e1y, z + k * e1z, cut, seed) - here) / k
                k = reach / l2
                h2 = (fold_height(x + k * e2x, y + k * e2y, z + k * e2z, cut, seed) - here) / k
                e1x, e1y, e1z = (
                    vertices[b, 0] - vertices[a, 0],
                    vertices[b, 1] - vertices[a, 1],
                    vertices[b, 2] - vertices[a, 2],
                )
                e2x, e2y, e2z = (
                    vertices[c, 0] - vertices[a, 0],
                    vertices[c, 1] - vertices[a, 1],
                    vertices[c, 2] - vertices[a, 2],
                )
                d11 = e1x * e1x + e1y * e1y + e1z * e1z
                d12 = e1x * e2x + e1y * e2y + e1z * e2z
                d22 = e2x * e2x + e2y * e2y + e2z * e2z
                determinant = d11 * d22 - d12 * d12
                if determinant > 1e-14:
                    k1 = amplitude * (h1 * d22 - h2 * d12) / determinant
                    k2 = amplitude * (h2 * d11 - h1 * d12) / determinant
                    slope_x, slope_y, slope_z = (
                        k1 * e1x + k2 * e2x,
                        k1 * e1y + k2 * e2y,
                        k1 * e1z + k2 * e2z,
                    )
                    steep = sqrt(slope_x * slope_x + slope_y * slope_y + slope_z * slope_z)
                    limit = 1.0 / (1.0 + steep)
                    nx, ny, nz = nx - slope_x * limit, ny - slope_y * limit, nz - slope_z * limit
                    # Valleys of folds see less of the sky.
                    sky *= 1 + 0.16 * min(strength, 1.0) * material[FOLDS] * min(
                        max(here, -1.0), 1.0
                    )
            length = sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            if lined:
                nx, ny, nz = -nx, -ny, -nz
                gx, gy, gz = -gx, -gy, -gz
                sky, ground, gloss = 0.45 * sky + 0.10, 0.45 * ground + 0.10, 0.0
            facing = nx * to_light[0] + ny * to_light[1] + nz * to_light[2]
            flat = gx * to_light[0] + gy * to_light[1] + gz * to_light[2]
            reached = 0.0
            if flat > -0.25:
                out = 0.012
                reached = _light_share(
                    px + out * gx - middle[0], py + out * gy - middle[1], pz + out * gz - middle[2],
                    shadow, light_view, 0.012,
                )  # fmt: skip
                reached *= min(max((flat + 0.25) * 4.0, 0.0), 1.0)
            diffuse = max((facing + wrap) / (1 + wrap), 0.0) * reached
            up = 0.5 + 0.5 * ny
            # Occlusion of skin is lighter and warmer: light goes through it.
            if kind == SKIN:
                sky = 0.18 + 0.82 * sky
            light_r = (
                lights[0, 0] * diffuse + lights[1, 0] * up * sky + lights[2, 0] * (1 - up) * ground
            )
            light_g = (
                lights[0, 1] * diffuse + lights[1, 1] * up * sky + lights[2, 1] * (1 - up) * ground
            )
            light_b = (
                lights[0, 2] * diffuse + lights[1, 2] * up * sky + lights[2, 2] * (1 - up) * ground
            )
            if kind == SKIN:
                edge = max(0.0, 1 - abs(facing) * 3.0) * reached
                light_r += 0.10 * edge * lights[0, 0]
            shine = 0.0
            eye = max(nx * to_eye[0] + ny * to_eye[1] + nz * to_eye[2], 0.0)
            if kind == HAIR:
                # Light glides along strands (Kajiya and Kay 1989); they fall from the crown.
                along = head_up[0] * nx + head_up[1] * ny + head_up[2] * nz
                tx, ty, tz = (
                    head_up[0] - along * nx,
                    head_up[1] - along * ny,
                    head_up[2] - along * nz,
                )
                length = sqrt(tx * tx + ty * ty + tz * tz) + 1e-6
                across = (tx * hx + ty * hy + tz * hz) / length
                shine = (
                    gloss
                    * max(1 - across * across, 0.0) ** 18
                    * reached
                    * max(facing + 0.2, 0.0)
                    * 0.35
                )
                shine *= 0.25 + 2.2 * sqrt(max(red, 0.0))
            else:
                half = max(nx * hx + ny * hy + nz * hz, 0.0)
                shine = gloss * (half**power) * reached * 0.7
                rim = (1 - eye) ** 4
                shine += 0.06 * rim * sky * (0.4 + gloss)
            colour[row // 2, column // 2, 0] += share * (red * light_r + shine * lights[0, 0])
            colour[row // 2, column // 2, 1] += share * (green * light_g + shine * lights[0, 1])
            colour[row // 2, column // 2, 2] += share * (blue * light_b + shine * lights[0, 2])
            coverage[row // 2, column // 2] += share


def _floor_shade(
    vertices: Array,
    faces: NDArray[np.int32],
    camera: Camera,
    light: Light,
    shadow: Array,
    light_view: Array,
    middle: Array,
    size: int,
) -> Array:
    """(S, S) share of light the person takes from the floor: cast shadow and contact."""
    below = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)  # seen from under the floor
    contact = turned_points(vertices - np.array([middle[0], 0, middle[2]]), below)
    contact[:, :2] /= _SHADOW_REACH
    resolution = 128
    _, _, height = rasterize_array(contact, faces, resolution)
    near = np.where(height < FAR, np.exp(-(height - EYE_DISTANCE) / 0.09), 0).astype(np.float32)
    texel = 2 * _SHADOW_REACH / resolution
    near = 0.6 * cv2.GaussianBlur(near, (0, 0), 0.02 / texel) + 0.9 * cv2.GaussianBlur(
        near, (0, 0), 0.07 / texel
    )
    shade = np.zeros((size, size), np.float32)
    _shade_floor(
        shade, camera.scale, camera.shift[0], camera.shift[1],
        camera.pitch, shadow, light_view, middle.astype(np.float32), near,
    )  # fmt: skip
    spread = light.softness * camera.scale * size / 2
    blurred = cv2.GaussianBlur(
        shade, (0, 0), max(0.012 * spread, 0.6), sigmaY=max(0.006 * spread, 0.5)
    )
    return np.clip(blurred, 0, 1)


@njit(nogil=True)
def _shade_floor(
    shade: Array,
    scale: float,
    shift_x: float,
    shift_y: float,
    pitch: float,
    shadow: Array,
    light_view: Array,
    middle: Array,
    near: Array,
) -> None:  # pragma: no cover - compiled
    size = shade.shape[0]
    sine = np.sin(pitch)
    resolution = near.shape[0]
    for row in range(size):
        # y_camera = -cos(p) Y + sin(p) Z = sin(p) Z on the floor.
        z = (((2 * row + 1) / size - 1) / scale - shift_y) / sine
        if z < middle[2] - 3.0 or z > middle[2] + 3.0:
            continue
        for column in range(size):
            x = ((2 * column + 1) / size - 1) / scale - shift_x
            dark = 0.62 * (
                1 - _light_share(x - middle[0], -middle[1], z - middle[2], shadow, light_view, 0.02)
            )
            i = int(((x - middle[0]) / _SHADOW_REACH + 1) * 0.5 * resolution)
            j = int((-(z - middle[2]) / _SHADOW_REACH + 1) * 0.5 * resolution)
            if 0 <= i < resolution and 0 <= j < resolution:
                dark = 1 - (1 - dark) * (1 - 0.75 * min(near[j, i], 1.0))
            shade[row, column] = dark


def compose(layer: Layer, plate: Array, noise: Array | None) -> NDArray[np.uint8]:
    """Lay a drawn person over the scene and read the sensor out.

    Args:
        plate: (S, S, 3) float32 linear light without the person.
        noise: (S, S, 3) float32 in grey levels, or None for a perfect sensor.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    out = np.empty(plate.shape, np.uint8)
    _compose(
        layer.colour, layer.coverage, layer.shade, plate,
        np.zeros((1, 1, 3), np.float32) if noise is None else noise, out,
    )  # fmt: skip
    return out


@njit(nogil=True)
def _compose(
    colour: Array, coverage: Array, shade: Array, plate: Array, noise: Array, out: NDArray[np.uint8]
) -> None:  # pragma: no cover - compiled
    noisy = noise.shape[0] > 1
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            rest = 1 - coverage[row, column]
            floor_light = rest * (1 - shade[row, column])
            for k in range(3):
                value = colour[row, column, k] + floor_light * plate[row, column, k]
                # A shoulder instead of clipped highlights.
                if value > 0.75:
                    value = 0.75 + 0.25 * (1 - np.exp(-(value - 0.75) / 0.25))
                level = 255.0 * sqrt(max(value, 0.0))
                if noisy:
                    level += noise[row, column, k]
                out[row, column, k] = np.uint8(min(max(level + 0.5, 0.0), 255.0))
