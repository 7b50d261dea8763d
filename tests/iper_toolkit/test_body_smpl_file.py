"""A user's SMPL file comes through in every form it exists in, and a wrong one says what is wrong."""

import os
import pickle
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from iper_toolkit.assets import MissingAsset
from iper_toolkit.body import load_body
from iper_toolkit.body.model import smpl_arrays
from iper_toolkit.body.skinning import PARENTS
from iper_toolkit.unpickle import UnsafePickle

Content = dict[str, NDArray]


@pytest.fixture
def content() -> Content:
    """A random model of 60 vertices in SMPL's format."""
    random = np.random.default_rng(0)
    weights = random.random((60, 24))
    regressor = random.random((24, 60))
    tree = np.array([PARENTS, range(24)])
    tree[0, 0] = 2**32 - 1
    return {
        "v_template": random.normal(size=(60, 3)),
        "shapedirs": random.normal(size=(60, 3, 10)),
        "posedirs": random.normal(size=(60, 3, 207)),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": tree,
        "f": random.integers(0, 60, (100, 3)).astype(np.uint32),
    }


def write(folder: Path, content: Content) -> Path:
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(content, 2))
    return path


def test_the_whole_open_body_as_a_users_file(tmp_path: Path) -> None:
    body = load_body()
    arrays: dict[str, object] = dict(smpl_arrays(body))
    arrays["J_regressor"] = sparse.csc_matrix(arrays["J_regressor"])
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(arrays, 2))
    read = load_body(path)
    assert re.fullmatch("smpl-[0-9a-f]{12}", read.id)
    assert read.parents == body.parents
    assert read.landmark_vertices == body.landmark_vertices
    assert read.head_top is not None
    assert read.template[read.head_top, 1] == body.template[:, 1].max()
    for name in ("template", "shape_directions", "pose_directions", "weights", "faces"):
        assert torch.equal(getattr(read, name), getattr(body, name))
    assert torch.allclose(read.joint_regressor, body.joint_regressor)
    assert read.surface is not None
    assert body.surface is not None
    assert read.surface.uv is None
    assert torch.equal(read.surface.part, body.surface.part)
    assert torch.equal(read.surface.front_body, body.surface.front_body)
    # the face found by normals alone is for the most part the face of the mask
    derived, masked = (
        set(read.surface.facial_large.tolist()),
        set(body.surface.facial_large.tolist()),
    )
    assert len(derived & masked) > 0.6 * len(masked)
    assert set(read.surface.facial_small.tolist()) < derived


@pytest.mark.parametrize("root", [-1, 2**32 - 1])
def test_npz_and_pkl_give_the_same_body(tmp_path: Path, content: Content, root: int) -> None:
    content["kintree_table"][0, 0] = root
    content["cocoplus_regressor"] = np.full((19, 60), 1 / 60)
    pickled = load_body(write(tmp_path, content))
    np.savez(tmp_path / "model.npz", **content)
    zipped = load_body(tmp_path / "model.npz")
    assert pickled.id == zipped.id
    np.savez(tmp_path / "other.npz", **{**content, "v_template": content["v_template"] + 1})
    assert load_body(tmp_path / "other.npz").id != zipped.id
    assert pickled.parents[0] == zipped.parents[0] == -1
    assert torch.equal(pickled.template, zipped.template)
    assert zipped.landmark_vertices == ()
    posed = zipped.skin(torch.zeros(2, 72), torch.zeros(2, 10))
    assert zipped.keypoints19(posed).shape == (2, 19, 3)


def test_more_than_ten_shapes_are_cut_to_ten(tmp_path: Path, content: Content) -> None:
    first = content["shapedirs"]
    content["shapedirs"] = np.concatenate([first, np.ones((60, 3, 290))], axis=2)
    read = load_body(write(tmp_path, content))
    np.testing.assert_array_equal(read.shape_directions, first.astype(np.float32))


def test_a_body_with_hands(tmp_path: Path, content: Content) -> None:
    random = np.random.default_rng(1)
    weights, regressor = random.random((60, 52)), random.random((52, 60))
    content |= {
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "posedirs": random.normal(size=(60, 3, 459)),
        "kintree_table": np.array([[2**32 - 1, *range(51)], range(52)]),
    }
    with pytest.raises(ValueError, match="hands_meanl, hands_meanr is missing"):
        load_body(write(tmp_path, content))
    content |= {"hands_meanl": np.zeros(45), "hands_meanr": np.ones((1, 45))}
    body = load_body(write(tmp_path, content))
    assert body.skin(torch.zeros(1, 72), torch.zeros(1, 10)).joints.shape == (1, 52, 3)


def test_a_replaced_file_is_read_again(tmp_path: Path, content: Content) -> None:
    path = write(tmp_path, content)
    first = load_body(path)
    assert load_body(str(path)) is first
    content["v_template"] = content["v_template"] + 1
    write(tmp_path, content)
    os.utime(path, ns=(1, 1))
    assert load_body(path).id != first.id


def _set(key: str, index: tuple, value: float) -> dict[str, tuple]:
    return {key: (index, value)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("v_template", (3, 1), np.nan), "v_template has 1 values that are not finite"),
        (_set("posedirs", (0, 0, 5), np.inf), "posedirs has 1 values"),
        (_set("weights", (7, 0), 3.0), "weights of vertex 7 sums to"),
        (_set("J_regressor", (2, 0), 9.0), "J_regressor of joint 2 sums to"),
        (_set("kintree_table", (0, 5), 9), "joint 5 the parent 9; parents come before"),
        (_set("kintree_table", (0, 0), 0), "the root the parent 0"),
        (_set("f", (0, 0), 60), "f names vertices 0 to 60; there are 60"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_named(
    tmp_path: Path, content: Content, change: dict[str, tuple], message: str
) -> None:
    for key, (index, value) in change.items():
        content[key][index] = value
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_body(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("v_template", (60, 2), r"v_template is \(60, 2\); it must be \(60, 3\)"),
        ("shapedirs", (60, 3, 9), r"shapedirs is \(60, 3, 9\); it must be \(60, 3, 10 or more\)"),
        ("posedirs", (60, 3, 0), r"posedirs is \(60, 3, 0\); it must be \(60, 3, 207\)"),
        ("weights", (60, 23), r"weights is \(60, 23\); bodies of 24"),
        ("weights", (59, 24), r"weights is \(59, 24\); it must be \(60, 24\)"),
        ("J_regressor", (24, 61), r"J_regressor is \(24, 61\)"),
        ("kintree_table", (2, 23), r"kintree_table is \(2, 23\)"),
        ("f", (100, 4), r"f is \(100, 4\)"),
    ],
)
def test_a_wrong_size_is_named(
    tmp_path: Path, content: Content, key: str, shape: tuple[int, ...], message: str
) -> None:
    content[key] = np.ones(shape, content[key].dtype)
    with pytest.raises(ValueError, match=message):
        load_body(write(tmp_path, content))


def test_a_negative_weight_is_refused(tmp_path: Path, content: Content) -> None:
    content["weights"][0, 0] -= 1
    content["weights"][0, 1] += 1
    with pytest.raises(ValueError, match="no weight is negative"):
        load_body(write(tmp_path, content))


def test_a_missing_key_is_named(tmp_path: Path, content: Content) -> None:
    del content["posedirs"]
    with pytest.raises(
        ValueError, match=r"lacks posedirs and holds J_regressor, .*smpl\.is\.tue\.mpg\.de"
    ):
        load_body(write(tmp_path, content))


def test_files_that_are_no_models(tmp_path: Path, content: Content) -> None:
    path = write(tmp_path, content)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut off or no pickle"):
        load_body(path)
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UnsafePickle, match="system"):
        load_body(path)
    zipped = tmp_path / "model.npz"
    np.savez(zipped, **{**content, "f": np.array([None], object)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"model\.npz: f holds pickled objects"):
        load_body(zipped)
    zipped.write_bytes(zipped.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.npz is no whole \.npz file"):
        load_body(zipped)


def _flat(content: Content) -> None:
    content["v_template"][:, 2] = 0


def _cancelling(content: Content) -> None:
    content["J_regressor"][4, :2] += (1e6, -1e6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_flat, "v_template is flat"),
        (lambda c: c["v_template"].__imul__(1000), "bodies are in metres, 0.3 to 10"),
        (lambda c: c["v_template"].__imul__(1e-3), "bodies are in metres, 0.3 to 10"),
        (lambda c: c["posedirs"].__imul__(1e30), "posedirs moves a vertex by"),
        (lambda c: c["shapedirs"].__imul__(1e3), "shapedirs moves a vertex by"),
        (_cancelling, "J_regressor puts joint 4 outside of the body"),
        (lambda c: c.update(f=c["f"].astype(np.float64)), "f is of type float64; faces are whole"),
        (lambda c: c["f"].__setitem__(slice(None), c["f"][0]), "of which 1 differ"),
        (lambda c: c["f"].__setitem__((slice(None), 1), c["f"][:, 0]), "100 name a vertex twice"),
        (lambda c: c.update(weights=c["weights"] > 0.5), "weights is of type bool"),
        (lambda c: c.update(posedirs=[[1.0], [1.0, 2.0]]), "posedirs is no table"),
    ],
)
def test_values_that_no_body_has_are_refused(
    tmp_path: Path, content: Content, change: Callable[[Content], object], message: str
) -> None:
    change(content)
    with pytest.raises(ValueError, match=rf"model\.pkl: .*{message}"):
        load_body(write(tmp_path, content))


@pytest.mark.parametrize(
    ("num_joints", "message"),
    [
        (55, r"is SMPL-X.*Get SMPL \(basicmodel_neutral"),
        (16, "is MANO, a hand"),
        (5, "is FLAME, a head"),
        (52, "is SMPL-H without its hands.*AMASS.*mano.is.tue.mpg.de"),
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "pkl"])
def test_other_models_of_the_family_are_named(
    tmp_path: Path, content: Content, num_joints: int, message: str, suffix: str
) -> None:
    content |= {
        "weights": np.full((60, num_joints), 1 / num_joints),
        "posedirs": np.zeros((60, 3, 9 * (num_joints - 1))),
        "J_regressor": np.full((num_joints, 60), 1 / 60),
        "kintree_table": np.zeros((2, num_joints), int),
    }
    path = write(tmp_path, content)
    if suffix == "npz":
        path = tmp_path / "model.npz"
        np.savez(path, **content, notes=np.array([None], object))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"model\.{suffix} {message}"):
        load_body(path)


def test_motions_and_star_are_named(tmp_path: Path, content: Content) -> None:
    path = tmp_path / "walk.npz"
    np.savez(path, poses=np.zeros((9, 156)), trans=np.zeros((9, 3)), betas=np.zeros(16))
    with pytest.raises(ValueError, match=r"walk\.npz is a motion, as AMASS stores them.*Get SMPL"):
        load_body(path)
    content["posedirs"] = np.zeros((60, 3, 93))
    with pytest.raises(ValueError, match="is STAR"):
        load_body(write(tmp_path, content))


@pytest.mark.parametrize(
    "shapes",
    [{"v_template": (2_000_000, 3)}, {"shapedirs": (60, 3, 500_000)}, {"f": (9_000_000, 3)}],
)
def test_small_files_do_not_unfold_to_gigabytes(
    tmp_path: Path, content: Content, shapes: dict[str, tuple[int, ...]]
) -> None:
    for key, shape in shapes.items():
        content[key] = np.zeros(shape, np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", **content)  # type: ignore[arg-type]
    content.clear()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"bomb\.npz: {next(iter(shapes))} is uint8"):
            load_body(tmp_path / "bomb.npz")
        assert tracemalloc.get_traced_memory()[1] < 1e7
    finally:
        tracemalloc.stop()


def test_a_body_that_is_not_there_says_what_can_be_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    with pytest.raises(MissingAsset, match=r"no body '.*none\.pkl'.*'open'"):
        load_body(tmp_path / "none.pkl")
    with pytest.raises(MissingAsset, match=r"SMPL_NEUTRAL\.pkl.*Register"):
        load_body("smpl-neutral")
