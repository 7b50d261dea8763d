"""Options of the three tasks, from the command line to the pictures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from iper_toolkit.body import load_body
from iper_toolkit.body.model import smpl_arrays
from iper_toolkit.clip import Dataset
from iper_toolkit.images import read_image, write_image
from lwgan import synthesis
from lwgan.cli import main
from lwgan.people import open_frames, read_scene
from lwgan.provenance import read_provenance

SIZE = 64
Call = Callable[..., Result]


@pytest.fixture
def call(prepared_root: Path, tiny_weights: Path) -> Call:
    def invoke(command: str, *arguments: object, weights: object = tiny_weights) -> Result:
        given = ["--root", prepared_root, "--weights", weights, "--size", SIZE, "--device", "cpu"]
        texts = [command, *map(str, arguments), *map(str, given)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return CliRunner().invoke(main, texts, catch_exceptions=False)
        finally:
            torch.set_num_threads(threads)

    return invoke


@pytest.fixture(scope="module")
def hands_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 52 joints as SMPL-H's files are, made of the open body, with fingers that hang."""
    arrays = smpl_arrays(load_body("open"))
    count = len(arrays["v_template"])
    weights, regressor = np.zeros((count, 52), np.float32), np.zeros((52, count), np.float32)
    weights[:, :22], regressor[:22] = arrays["weights"][:, :22], arrays["J_regressor"][:22]
    for side, first in enumerate((22, 37)):
        weights[:, first] = arrays["weights"][:, 22 + side]
        regressor[first : first + 15] = arrays["J_regressor"][22 + side]
    directions = np.zeros((count, 3, 459), np.float32)
    directions[..., :189] = arrays["posedirs"][..., :189]
    tree = np.zeros((2, 52), np.int64)
    tree[0] = [2**32 - 1, *arrays["kintree_table"][0, 1:22], *[20] * 15, *[21] * 15]
    tree[1] = range(52)
    bent = np.zeros(45, np.float32)
    bent[2] = 1.5
    path = tmp_path_factory.mktemp("hands") / "hands.npz"
    arrays |= {"weights": weights, "J_regressor": regressor, "posedirs": directions}
    np.savez(path, **arrays | {"kintree_table": tree, "hands_meanl": -bent, "hands_meanr": bent})
    return path


def test_fingers_are_drawn_and_named(call: Call, hands_file: Path, tmp_path: Path) -> None:
    for name, options in (("flat", []), ("hands", ["--hands", hands_file])):
        result = call(
            *("view", "--source", "001/1/1@0", "--angle", 0, "--t-pose", *options),
            *("--out", tmp_path / f"{name}.png", "--inputs-out", tmp_path / f"{name}_inputs.png"),
        )
        assert result.exit_code == 0, result.output
    flat, hanging = (read_image(tmp_path / f"{n}_inputs.png") for n in ("flat", "hands"))
    columns = np.flatnonzero((flat != hanging).any((0, 2)))
    assert len(columns) > 0
    covered = np.flatnonzero((np.abs(flat.astype(int) - 128) > 2).any((0, 2)))
    middle, reach = (covered[0] + covered[-1]) / 2, (covered[-1] - covered[0]) / 2
    assert (np.abs(columns - middle) > 0.6 * reach).all(), "hands alone, at the ends of the arms"
    settings = read_provenance(tmp_path / "hands.png")["settings"]
    assert settings["hands"] == "hands.npz"
    assert "fingers of smpl-" in settings["drawn_body"]
    assert "hands" not in read_provenance(tmp_path / "flat.png")["settings"]


def test_hands_that_are_none(call: Call, tmp_path: Path) -> None:
    for hands, message in (("open", "'open-body-1' has 24"), ("none.npz", "no body 'none.npz'")):
        given = ("view", "--source", "001/1/1@0", "--angle", 0, "--out", tmp_path / "x.png")
        result = call(*given, "--hands", hands)
        assert result.exit_code == 1
        assert message in result.stderr


def test_all_views_are_drawn_in_one_scene(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes: list[dict[str, Any]] = []
    enter = synthesis.set_scene

    def counting(*arguments: Any, **options: Any) -> synthesis.Scene:
        scenes.append(options)
        return enter(*arguments, **options)

    monkeypatch.setattr(synthesis, "set_scene", counting)
    given = ("imitate", "--source", "001/1/1", "--motion", "001/1/1@0")
    result = call(*given, "--view", 0, "--view", 90, "--no-folding", "--out", tmp_path / "x")
    assert result.exit_code == 0, result.output
    assert [scene["folded"] for scene in scenes] == [False]
    pictures = [read_image(tmp_path / name / "00000.png") for name in ("x_view0", "x_view90")]
    assert (pictures[0] != pictures[1]).any()
    result = call(*given, "--view", 90, "--out", tmp_path / "alone.png")
    assert scenes[1]["folded"] is True
    alone = read_image(tmp_path / "alone.png").astype(int)
    assert np.abs(alone - pictures[1]).max() <= 1


def test_compiled_frames(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda step: compiled.append(step) or step)
    given = ("view", "--source", "001/1/1@0", "--angle", 0)
    assert call(*given, "--out", tmp_path / "plain.png").exit_code == 0
    assert compiled == []
    assert call(*given, "--compile", "--batch", 1, "--out", tmp_path / "x.png").exit_code == 0
    assert compiled == [synthesis.draw_batch]
    result = call(*given, "--compile", "--temporal", 1, "--out", tmp_path / "y.png")
    assert result.exit_code == 1
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("camera", ["smooth", "source", "copy", "ref_txty"])
def test_the_camera_that_was_asked_for(call: Call, tmp_path: Path, camera: str) -> None:
    """The motion's person is larger than the source's, and stays so in the motion's own camera alone."""
    given = ("--motion", "003/1/1@0", "--no-smoothing", "--camera", camera)
    result = call(
        *("imitate", "--source", "001/1/1@0", *given),
        *("--out", tmp_path / "x.png", "--inputs-out", tmp_path / "inputs.png"),
    )
    assert result.exit_code == 0, result.output
    shown = (np.abs(read_image(tmp_path / "inputs.png").astype(int) - 128) > 2).any(-1)
    height = np.ptp(np.flatnonzero(shown.any(1))) + 1
    expected = 0.9 / 0.8 if camera == "copy" else 1
    source = tmp_path / "source.png"
    call(
        "view",
        "--source",
        "001/1/1@0",
        "--angle",
        0,
        "--out",
        tmp_path / "y.png",
        "--inputs-out",
        source,
    )
    alone = (np.abs(read_image(source).astype(int) - 128) > 2).any(-1)
    ratio = height / (np.ptp(np.flatnonzero(alone.any(1))) + 1)
    assert abs(ratio - expected) < 0.06
    assert read_provenance(tmp_path / "x.png")["settings"]["camera"] == camera


def gradient(width: int, height: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def test_a_background_of_the_sources_size_is_cut_like_the_source(
    prepared_root: Path, tmp_path: Path
) -> None:
    named = open_frames("001/1/1", root=prepared_root)
    row = dict(named.clip.row)
    scene = gradient(row["width"] + 40, row["height"])
    write_image(tmp_path / "scene.png", scene)
    # A source of those frames, cut left of the middle.
    side = row["height"] // 2
    row |= {"width": scene.shape[1], "crop": {"cx": 4 + side / 2, "cy": 6 + side / 2, "side": side}}
    wide = dataclasses.replace(named, clip=dataclasses.replace(named.clip, row=row))
    cut = read_scene(tmp_path / "scene.png", wide, side)
    np.testing.assert_array_equal(cut, scene[6 : 6 + side, 4 : 4 + side])
    middle = read_scene(tmp_path / "scene.png", named, scene.shape[0])
    np.testing.assert_array_equal(middle, scene[:, 20 : 20 + scene.shape[0]])


def test_a_frame_of_the_clip_as_its_background(prepared_root: Path, tmp_path: Path) -> None:
    clip = Dataset.open(prepared_root).clip("001/1/1")
    write_image(tmp_path / "frame.png", clip.source_frame(0))
    named = open_frames("001/1/1", root=prepared_root)
    cut = read_scene(tmp_path / "frame.png", named, SIZE)
    np.testing.assert_array_equal(cut, clip.frames([0], SIZE)[0])


def test_random_weights_follow_the_convention_of_untrained_ones(call: Call, tmp_path: Path) -> None:
    result = call(
        *("view", "--source", "001/1/1@0", "--angle", 0, "--preset", "texture-warping"),
        *("--out", tmp_path / "x.png"),
        weights="random:3",
    )
    assert result.exit_code == 0, result.output
    record = read_provenance(tmp_path / "x.png")
    assert record["body"]["convention"] == synthesis.UNTRAINED_CONVENTION
