"""iPERCore's six files about SMPL's surface, faked in their own format: read whole, or refused with the reason."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.assets import MissingAsset
from iper_toolkit.body import Body, load_body
from iper_toolkit.body.model import smpl_arrays
from iper_toolkit.body.parts import PARTS, swap_sides
from iper_toolkit.body.surface_files import (
    PART_NAMES,
    OtherMesh,
    corner_order,
    read_surface_files,
)

# The three ways in which a re-wound face may list its corners.
REVERSALS = np.array([[2, 1, 0], [1, 0, 2], [0, 2, 1]])


@dataclass
class FakeFiles:
    """A surface as the six files would have it; the methods write it down."""

    vertices: NDArray  # (V, 3)
    faces: NDArray  # (F, 3)
    uv: NDArray  # (U, 2)
    uv_faces: NDArray  # (F, 3)
    order: NDArray  # (F, 3) corners of each face in mapper_fim_enc.txt
    lists: dict[str, dict] = field(default_factory=dict)  # file name -> its JSON

    def texts(self) -> dict[str, str]:
        rewound = np.take_along_axis(self.faces, self.order, 1)
        rewound_uv = np.take_along_axis(self.uv_faces, self.order, 1)
        return {
            "mapper_uv.txt": self.mapper(self.faces, self.uv_faces),
            "mapper_fim_enc.txt": self.mapper(rewound, rewound_uv),
            **{name: json.dumps(content) for name, content in self.lists.items()},
        }

    def mapper(self, faces: NDArray, uv_faces: NDArray) -> str:
        """OBJ text; the third number of a corner, a normal's, repeats the vertex and means nothing."""
        lines = ["# a mesh", *("v {:.6f} {:.6f} {:.6f}".format(*row) for row in self.vertices)]
        lines += ["vt {:.8f} {:.8f}".format(*row) for row in self.uv]
        for face, corners in zip(faces + 1, uv_faces + 1, strict=True):
            words = (f"{v}/{t}/{v}" for v, t in zip(face, corners, strict=True))
            lines.append(" ".join(["f", *words]))
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.texts().items():
            (folder / name).write_text(text)
        return folder


def listed(faces: NDArray, of: NDArray) -> dict[str, list[int]]:
    return {"vertex": np.unique(of[faces]).tolist(), "face": faces.tolist()}


def part_lists(part: NDArray, facial: tuple[NDArray, NDArray], faces: NDArray) -> dict[str, dict]:
    """The JSON files, for parts with image sides."""
    parts = {name: np.flatnonzero(part == i) for i, name in enumerate(PART_NAMES[:10])}
    parts |= {PART_NAMES[10]: facial[0], PART_NAMES[11]: facial[1]}
    neck = np.flatnonzero(part == 1)[:2]
    return {
        "smpl_part_info.json": {name: listed(group, faces) for name, group in parts.items()},
        "front_body.json": listed(np.flatnonzero(part == 1), faces),
        "front_facial.json": listed(facial[0], faces),
        "head.json": listed(np.concatenate([parts["00_head"], neck]), faces),
    }


@pytest.fixture
def small() -> FakeFiles:
    """40 triangles that do not touch, four a part; those of the left leg mirrored in the texture."""
    faces, part = np.arange(120).reshape(-1, 3), np.arange(40) // 4
    corners = np.array([[0, 0], [0.05, 0], [0, 0.05]])
    uv = np.stack([corners + [0.1 * (i % 8), 0.1 * (i // 8)] for i in range(40)])
    mirrored = part == 2
    uv[mirrored] = uv[mirrored][:, [0, 2, 1]]
    order = np.where(mirrored[:, None], REVERSALS[np.arange(40) % 3], [0, 1, 2])
    lists = part_lists(part, (np.array([1, 2]), np.array([2])), faces)
    vertices = np.random.default_rng(0).normal(size=(120, 3))
    return FakeFiles(vertices, faces, uv.reshape(-1, 2), faces, order, lists)


@pytest.fixture(scope="module")
def open_body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def large(open_body: Body) -> FakeFiles:
    """The open body as if it were SMPL, with the charts of its right leg and foot mirrored."""
    surface = open_body.surface
    assert surface is not None
    assert surface.uv is not None
    assert surface.uv_faces is not None
    faces, part = open_body.faces.numpy(), surface.part.numpy()
    uv, uv_faces = surface.uv.numpy().astype(float), surface.uv_faces.numpy()
    mirrored = np.isin(part, [PARTS.index("right_leg"), PARTS.index("right_foot")])
    # the mirrored faces get texture points of their own
    own = uv[uv_faces[mirrored]].reshape(-1, 2) * [-1, 1] + [1, 0]
    uv_faces = uv_faces.copy()
    uv_faces[mirrored] = len(uv) + np.arange(len(own)).reshape(-1, 3)
    image_part = np.array([swap_sides(i) for i in range(10)])[part]
    return FakeFiles(
        vertices=open_body.template.numpy(),
        faces=faces,
        uv=np.concatenate([uv, own]),
        uv_faces=uv_faces,
        order=np.where(mirrored[:, None], REVERSALS[np.arange(len(faces)) % 3], [0, 1, 2]),
        lists=part_lists(
            image_part, (surface.facial_large.numpy(), surface.facial_small.numpy()), faces
        ),
    )


def test_a_users_body_gets_the_surface_of_the_files(
    large: FakeFiles, open_body: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(smpl_arrays(open_body), 2))
    bare = load_body(path)
    assert bare.surface is not None
    assert bare.surface.uv is None
    large.write(tmp_path / "smpl")
    body = load_body(path)  # the same process, after the files came
    assert body.id == bare.id
    surface, own = body.surface, open_body.surface
    assert surface is not None
    assert own is not None
    assert torch.equal(surface.part, own.part)  # the person's own sides again
    assert torch.equal(surface.facial_large, own.facial_large)
    assert torch.equal(surface.facial_small, own.facial_small)
    assert torch.equal(surface.front_body, (own.part == PARTS.index("torso")).nonzero()[:, 0])
    assert len(surface.head_faces) == (own.part == 0).sum() + 2
    assert surface.uv is not None
    assert surface.uv_faces is not None
    assert surface.texture_order is not None
    corners = torch.from_numpy(large.uv[large.uv_faces]).float()
    assert torch.allclose(surface.uv[surface.uv_faces], corners, atol=1e-7)
    np.testing.assert_array_equal(surface.texture_order, large.order)
    (tmp_path / "smpl" / "head.json").unlink()
    again = load_body(path)
    assert again.surface is not None
    assert again.surface.uv is None


def test_parts_of_the_files_are_sides_of_the_picture(small: FakeFiles, tmp_path: Path) -> None:
    surface = read_surface_files(torch.from_numpy(small.faces), small.write(tmp_path))
    image_left_leg = small.lists["smpl_part_info.json"]["02_left_leg"]["face"]
    assert surface.part[image_left_leg].tolist() == [PARTS.index("right_leg")] * 4
    assert surface.part[:8].tolist() == [0] * 4 + [1] * 4
    assert surface.reference_parts()["02_left_leg"].tolist() == image_left_leg
    assert surface.head_faces.tolist() == [0, 1, 2, 3, 4, 5]


def test_missing_files_are_named_with_their_place_and_origin(
    small: FakeFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = torch.from_numpy(small.faces)
    folder = small.write(tmp_path / "smpl")
    (folder / "head.json").unlink()
    (folder / "mapper_fim_enc.txt").unlink()
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    for place in (None, folder):
        with pytest.raises(MissingAsset) as caught:
            read_surface_files(faces, place)
        message = str(caught.value)
        assert f"mapper_fim_enc.txt, head.json not in {folder}" in message
        assert "Take assets/configs/pose3d/head.json of https://github.com/" in message
        assert "mapper_uv.txt" not in message
        assert ("IPER_ASSETS" in message) is (place is None)
    with pytest.raises(MissingAsset, match=r"mapper_uv.txt, .*head.json"):
        read_surface_files(faces, tmp_path / "nowhere")


def test_files_of_another_mesh_leave_a_users_body_as_it_is(
    small: FakeFiles, open_body: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    small.write(tmp_path / "smpl")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(smpl_arrays(open_body), 2))
    body = load_body(path)
    assert body.surface is not None
    assert body.surface.uv is None
    with pytest.raises(OtherMesh, match="describes 40 faces; the body has 13776"):
        read_surface_files(body.faces)
    other = torch.from_numpy(small.faces).roll(1, 1)
    with pytest.raises(OtherMesh, match=r"face 0 the vertices \[0, 1, 2\]; the body's are \[2, 0"):
        read_surface_files(other)


def test_files_that_are_there_but_damaged_are_no_reason_to_go_on_without(
    large: FakeFiles, open_body: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    (large.write(tmp_path / "smpl") / "front_body.json").write_text("[1, 2")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(smpl_arrays(open_body), 2))
    with pytest.raises(ValueError, match=r"front_body.json is no JSON"):
        load_body(path)


Damage = Callable[[FakeFiles], dict[str, str]]


def edit(name: str, change: Callable[[dict], object]) -> Damage:
    """The files after `change` has worked on the content of one JSON file."""

    def texts(files: FakeFiles) -> dict[str, str]:
        change(files.lists[name])
        return files.texts()

    return texts


def substitute(name: str, old: str, new: str) -> Damage:
    def texts(files: FakeFiles) -> dict[str, str]:
        texts = files.texts()
        assert old in texts[name]
        return texts | {name: texts[name].replace(old, new, 1)}

    return texts


def keep_mirrored(files: FakeFiles) -> dict[str, str]:
    return files.texts() | {"mapper_fim_enc.txt": files.texts()["mapper_uv.txt"]}


def cut_off(files: FakeFiles) -> dict[str, str]:
    text = files.texts()["mapper_fim_enc.txt"]
    return files.texts() | {"mapper_fim_enc.txt": text[: text.rindex("f ")]}


PARTS_FILE = "smpl_part_info.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (substitute("mapper_uv.txt", "f 1/1/1", "f 1"), r"mapper_uv.txt, line 242: 'f 1 .*line of"),
        (substitute("mapper_uv.txt", "f 1/1/1", "f 4/4/4 1/1/1"), "line 242.*triangle mesh"),
        (substitute("mapper_uv.txt", "vt 0.0", "vt x"), r"mapper_uv.txt, line 122: 'vt x"),
        (substitute("mapper_uv.txt", "f 1/1/1", "f 0/1/1"), "40 faces and 120 lines for a vertex"),
        (substitute("mapper_uv.txt", "f 1/1/1", "f 1/121/1"), "120 lines for a texture point"),
        (substitute("mapper_uv.txt", "vt 0.0", "vt 3.0"), r"outside of \[0, 1\]"),
        (substitute("mapper_uv.txt", "vt 0.00000000", "vt nan"), "outside of"),
        (
            substitute("mapper_fim_enc.txt", "f 1/1/1", "f 5/1/1"),
            r"face 0 has vertices \[4, 1, 2\]",
        ),
        (substitute("mapper_fim_enc.txt", "f 1/1/1", "f 1/7/1"), "face 0 elsewhere in the texture"),
        (keep_mirrored, "4 faces mirrored in the texture, face 8 first"),
        (cut_off, "mapper_fim_enc.txt has 39 faces; the other mapper has 40"),
        (edit(PARTS_FILE, lambda c: c.pop("11_facial_small")), "it must have 00_head, .*11_facial"),
        (edit(PARTS_FILE, lambda c: c.update(tail=[])), "has parts .*tail"),
        (edit(PARTS_FILE, lambda c: c["03_right_leg"]["face"].pop()), "face 15 is in 0 of the ten"),
        (edit(PARTS_FILE, lambda c: c["01_torso"]["face"].append(0)), "face 0 is in 2 of the ten"),
        (edit(PARTS_FILE, lambda c: c["01_torso"]["face"].append(40)), "torso names faces 4 to 40"),
        (edit(PARTS_FILE, lambda c: c["01_torso"].update(face=[0.5])), "no list 'face' of whole"),
        (edit(PARTS_FILE, lambda c: c.update({"01_torso": [4]})), "01_torso has no list 'face'"),
        (
            edit(PARTS_FILE, lambda c: c["11_facial_small"]["face"].append(3)),
            "outside of 10_facial",
        ),
        (edit("front_facial.json", lambda c: c["face"].append(3)), "lists 3 faces, and 10_facial"),
        (edit("head.json", lambda c: c["face"].remove(3)), "head.json lacks faces of 00_head"),
        (edit("front_body.json", lambda c: c["face"].append(-1)), "front_body.json names faces -1"),
        (
            edit("front_body.json", lambda c: c["face"].clear()),
            "front_body.json has no list 'face'",
        ),
        (lambda f: f.texts() | {"head.json": "[3]"}, "head.json holds a list"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    damage: Damage, message: str, small: FakeFiles, tmp_path: Path
) -> None:
    for name, text in damage(small).items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_surface_files(torch.from_numpy(small.faces), tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_corner_order_finds_every_permutation() -> None:
    faces = np.array([[7, 8, 9]] * 6)
    order = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    np.testing.assert_array_equal(corner_order(faces, np.take_along_axis(faces, order, 1)), order)
    with pytest.raises(ValueError, match=r"face 1 has vertices \[7, 8, 8\], not \[7, 8, 9\]"):
        corner_order(faces[:2], np.array([[9, 8, 7], [7, 8, 8]]))
