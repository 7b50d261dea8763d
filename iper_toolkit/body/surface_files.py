"""The files in which iPERCore describes SMPL's surface, read and checked against the body they are for.

Six files belong together; a body's model file says nothing of what is in them:

- ``mapper_uv.txt``: OBJ text; where each face's corners lie in the texture, in the body's own face order;
- ``mapper_fim_enc.txt``: the same faces, re-wound where the chart is mirrored, so that each turns one way in the texture;
- ``smpl_part_info.json``: ten parts that cover the surface, and two facial ones within the head;
- ``front_body.json``, ``front_facial.json``, ``head.json``: lists of faces.

Parts are named there by the side of the picture on which a person who faces the camera shows them; a `Surface` has the
person's own sides. Every list is checked before it is believed: one face too many would paint a body in wrong colours,
and nobody would see an error.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.assets import Asset, MissingAsset, find_asset
from iper_toolkit.body.model import Body
from iper_toolkit.body.parts import FACIAL_PARTS, PARTS, Surface, swap_sides
from iper_toolkit.folders import expanded

ASSETS = (
    "smpl-mapper-uv",
    "smpl-mapper-faces",
    "smpl-part-info",
    "smpl-front-body",
    "smpl-front-facial",
    "smpl-head",
)
PART_NAMES = tuple(f"{index:02d}_{name}" for index, name in enumerate((*PARTS, *FACIAL_PARTS)))
_UV_TOLERANCE = 1e-5  # the two mappers print the same coordinates with their own rounding


class OtherMesh(ValueError):
    """The files describe a mesh, but not this one."""


def read_surface_files(faces: Tensor, folder: str | Path | None = None) -> Surface:
    """What the six files say about a body with these faces.

    Args:
        faces: (F, 3) integer, the body's.
        folder: where the files lie side by side; None: in the asset folder.

    Raises:
        MissingAsset: files are missing; the message says which, how to get them and where to put them.
        OtherMesh: they describe a mesh with other faces. ValueError: a file is damaged, or two contradict each other.
    """
    mapper_uv, mapper_faces, *lists = _require(folder)
    triangles = faces.cpu().numpy().astype(np.int64)
    chart = _read_mapper(mapper_uv)
    _check_same_mesh(chart, triangles, mapper_uv)
    order = _drawing_order(chart, _read_mapper(mapper_faces), mapper_faces)
    parts = _read_parts(lists[0], len(triangles))
    front_body, front_facial, head = (_read_list(path, len(triangles)) for path in lists[1:])
    large = parts[PART_NAMES[len(PARTS)]]
    if not np.array_equal(large, front_facial):
        raise ValueError(
            f"{lists[2]} lists {len(front_facial)} faces, and {PART_NAMES[len(PARTS)]} of {lists[0]} others "
            f"({len(large)}). They are one list: take both files from one release."
        )
    if not np.isin(parts[PART_NAMES[0]], head).all():
        raise ValueError(
            f"{lists[3]} lacks faces of {PART_NAMES[0]} of {lists[0]}: take both from one release."
        )
    part = np.empty(len(triangles), np.int64)
    for index, name in enumerate(PART_NAMES[: len(PARTS)]):
        part[parts[name]] = swap_sides(index)
    return Surface(
        part=torch.from_numpy(part),
        facial_large=torch.from_numpy(large),
        facial_small=torch.from_numpy(parts[PART_NAMES[-1]]),
        front_body=torch.from_numpy(front_body),
        uv=torch.from_numpy(chart.uv.astype(np.float32)),
        uv_faces=torch.from_numpy(chart.uv_faces),
        head=torch.from_numpy(head),
        texture_order=torch.from_numpy(order),
    )


def with_surface_files(body: Body) -> Body:
    """A user's body with what the asset folder says of its surface.

    A body of which the folder knows nothing stays as it is: preparing clips takes no texture map, and who needs one calls
    `read_surface_files` and is told what is missing.
    """
    if not all(find_asset(name).path.is_file() for name in ASSETS):
        return body
    try:
        return replace(body, surface=read_surface_files(body.faces))
    except OtherMesh:  # files of SMPL beside a model of something else
        return body


def surface_files_stamp() -> tuple[tuple[int, int], ...]:
    """Times and sizes of the files that are there: changes when one is added, replaced or taken away."""
    paths = [find_asset(name).path for name in ASSETS]
    states = [path.stat() if path.is_file() else None for path in paths]
    return tuple((-1, -1) if s is None else (s.st_mtime_ns, s.st_size) for s in states)


def corner_order(faces: NDArray[np.int64], rewound: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which corner of each face stands first, second and third in another list of the same faces.

    Args:
        faces, rewound: (F, 3), each face with the same three vertices in both.

    Returns:
        (F, 3) so that ``faces[i, order[i]] == rewound[i]``.

    Raises:
        ValueError: a face has other vertices; the message names the first one.
    """
    same = faces[:, None, :] == rewound[:, :, None]
    wrong = np.flatnonzero(((same.sum(1) != 1) | (same.sum(2) != 1)).any(1))
    if len(wrong):
        face = wrong[0]
        raise ValueError(
            f"face {face} has vertices {rewound[face].tolist()}, not {faces[face].tolist()}"
        )
    return same.argmax(2)


@dataclass(frozen=True)
class _Chart:
    """A mesh and its texture map."""

    num_vertices: int
    uv: NDArray[np.float64]  # (U, 2) in [0, 1], v up
    faces: NDArray[np.int64]  # (F, 3)
    uv_faces: NDArray[np.int64]  # (F, 3)


def _require(folder: str | Path | None) -> list[Path]:
    table = [find_asset(name) for name in ASSETS]
    paths = [_place(asset, folder) for asset in table]
    missing = [asset for asset, path in zip(table, paths, strict=True) if not path.is_file()]
    if not missing:
        return paths
    where = "" if folder is not None else ", or name another folder in IPER_ASSETS"
    raise MissingAsset(
        "This body brings no texture map, and iPERCore's files for SMPL are not complete: "
        f"{', '.join(Path(asset.file).name for asset in missing)} not in {paths[0].parent}. "
        f"{' '.join(asset.how for asset in missing)} Put them there{where}; the open body needs "
        f"none of them. (licence: {missing[0].licence})"
    )


def _place(asset: Asset, folder: str | Path | None) -> Path:
    return asset.path if folder is None else Path(expanded(folder)) / Path(asset.file).name


def _read_mapper(path: Path) -> _Chart:
    """OBJ text: ``v x y z``, ``vt u v``, and triangles ``f vertex/uv[/normal]`` that count from 1."""
    num_vertices, uv, faces = 0, [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                num_vertices += 1
            elif kind == "vt":
                uv.append((float(words[0]), float(words[1])))
            elif kind == "f":
                a, b, c = (word.split("/") for word in words)
                faces.append([int(word[i]) for i in (0, 1) for word in (a, b, c)])
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {number}: {line!r} is no line of a triangle mesh with a texture map. "
                "Get the file again."
            ) from error
    corners = np.array(faces, np.int64).reshape(-1, 2, 3) - 1
    chart = _Chart(num_vertices, np.array(uv).reshape(-1, 2), corners[:, 0], corners[:, 1])
    for name, index, count in (
        ("vertex", chart.faces, num_vertices),
        ("texture point", chart.uv_faces, len(uv)),
    ):
        if not index.size or index.min() < 0 or index.max() >= count:
            raise ValueError(
                f"{path} has {len(faces)} faces and {count} lines for a {name}, and its faces do not name those. "
                "The file is cut off or damaged; get it again."
            )
    if not np.isfinite(chart.uv).all() or chart.uv.min() < 0 or chart.uv.max() > 1:
        raise ValueError(f"{path} has texture coordinates outside of [0, 1]. Get the file again.")
    return chart


def _check_same_mesh(chart: _Chart, triangles: NDArray[np.int64], path: Path) -> None:
    if chart.faces.shape != triangles.shape:
        raise OtherMesh(
            f"{path} describes {len(chart.faces)} faces; the body has {len(triangles)}. "
            "It is for SMPL's mesh."
        )
    differ = np.flatnonzero((chart.faces != triangles).any(1))
    if len(differ):
        face = differ[0]
        raise OtherMesh(
            f"{path} gives face {face} the vertices {chart.faces[face].tolist()}; the body's are "
            f"{triangles[face].tolist()}, and {len(differ)} faces differ. It is for SMPL's mesh."
        )


def _drawing_order(chart: _Chart, rewound: _Chart, path: Path) -> NDArray[np.int64]:
    """(F, 3) the corners of each face in the order of the re-wound mapper."""
    if rewound.faces.shape != chart.faces.shape:
        raise ValueError(
            f"{path} has {len(rewound.faces)} faces; the other mapper has {len(chart.faces)}. "
            "Take both from one release."
        )
    try:
        order = corner_order(chart.faces, rewound.faces)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} as in the other mapper. Take both from one release."
        ) from error
    expected = np.take_along_axis(chart.uv[chart.uv_faces], order[..., None], axis=1)
    corners = rewound.uv[rewound.uv_faces]
    moved = np.abs(corners - expected).max((1, 2))
    if moved.max() > _UV_TOLERANCE:
        raise ValueError(
            f"{path} puts face {moved.argmax()} elsewhere in the texture, {moved.max():.3g} away from the other "
            "mapper. Take both from one release."
        )
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    mirrored = np.flatnonzero(first[:, 0] * second[:, 1] < first[:, 1] * second[:, 0])
    if len(mirrored):
        raise ValueError(
            f"{path} leaves {len(mirrored)} faces mirrored in the texture, face {mirrored[0]} first. "
            "Is it a copy of mapper_uv.txt?"
        )
    return order


def _read_parts(path: Path, num_faces: int) -> dict[str, NDArray[np.int64]]:
    """The twelve parts: ten that are disjoint and cover the surface, and two facial ones inside the head."""
    content = _read_json(path)
    if sorted(content) != sorted(PART_NAMES):
        raise ValueError(
            f"{path} has parts {', '.join(sorted(content))}; it must have {', '.join(PART_NAMES)}."
        )
    parts = {name: _faces_in(content[name], f"{path}, {name}", num_faces) for name in PART_NAMES}
    owners = np.bincount(
        np.concatenate([parts[name] for name in PART_NAMES[: len(PARTS)]]), minlength=num_faces
    )
    if (owners != 1).any():
        face = int((owners != 1).argmax())
        raise ValueError(
            f"{path}: face {face} is in {owners[face]} of the ten parts, and {(owners != 1).sum()} faces are not in "
            f"exactly one. The parts cover all {num_faces} faces once. Get the file again."
        )
    for inner, outer in ((11, 10), (10, 0)):
        if not np.isin(parts[PART_NAMES[inner]], parts[PART_NAMES[outer]]).all():
            raise ValueError(
                f"{path}: {PART_NAMES[inner]} has faces outside of {PART_NAMES[outer]}. Get the file again."
            )
    return parts


def _read_list(path: Path, num_faces: int) -> NDArray[np.int64]:
    return _faces_in(_read_json(path), str(path), num_faces)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # of the text's encoding, too
        raise ValueError(f"{path} is no JSON ({error}). Get the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; it must be an object.")
    return content


def _faces_in(entry: object, place: str, num_faces: int) -> NDArray[np.int64]:
    """Sorted faces of an entry such as ``{"vertex": [...], "face": [...]}``."""
    listed = entry.get("face") if isinstance(entry, dict) else None
    if not isinstance(listed, list) or not all(type(face) is int for face in listed) or not listed:
        raise ValueError(f"{place} has no list 'face' of whole numbers. Get the file again.")
    faces = np.unique(np.array(listed, np.int64))
    if faces[0] < 0 or faces[-1] >= num_faces:
        raise ValueError(
            f"{place} names faces {faces[0]} to {faces[-1]}; the body has 0 to {num_faces - 1}."
        )
    return faces
