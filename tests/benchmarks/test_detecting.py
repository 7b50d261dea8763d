"""Boxes that detectors find: their rules, and runs that look where they say."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from benchmarks import detecting
from benchmarks.choosing import choose_metrics
from benchmarks.detecting import FACE_DETECTOR, PERSON_DETECTOR, load_detector, people_by
from benchmarks.judging import Judges
from benchmarks.methods import Copy
from benchmarks.planning import Settings
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from benchmarks.sets import read_sets
from iper_toolkit.assets import MissingAsset, find_asset
from iper_toolkit.body import Body
from iper_toolkit.protocols import Protocol

FRAMES = np.zeros((2, 60, 80, 3), np.uint8)


class Finds(torch.nn.Module):
    """A detection network that has made up its mind."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        super().__init__()
        self.answers = list(answers)

    def forward(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert pictures[0].shape == (3, 60, 80)
        return [{key: torch.tensor(value) for key, value in self.answers.pop(0).items()}]


def test_the_largest_sure_person_is_taken_and_nobody_is_nan() -> None:
    network = Finds(
        {
            "boxes": [[0.0, 0, 70, 50], [10, 10, 20, 20], [10, 10, 30, 50], [0, 0, 79, 59]],
            "labels": [18, 1, 1, 1],  # a dog, two people, and somebody it is not sure of
            "scores": [0.9, 0.9, 0.8, 0.4],
        },
        {"boxes": [[0.0, 0, 1, 1]], "labels": [3], "scores": [0.9]},
    )
    boxes = people_by(network)(FRAMES)
    np.testing.assert_allclose(boxes[0], [9.5, 9, 30.5, 51])
    assert np.isnan(boxes[1]).all()


def test_weights_of_torchvisions_network_load_and_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    with pytest.raises(MissingAsset, match="Faster R-CNN"):
        load_detector(PERSON_DETECTOR)
    path = find_asset(PERSON_DETECTOR).path
    path.parent.mkdir(parents=True)
    state = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
    torch.save(state, path)
    detect, digest = load_detector(PERSON_DETECTOR)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert detect(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 4)
    del state["roi_heads.box_predictor.cls_score.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="cls_score"):
        load_detector(PERSON_DETECTOR)


def test_an_unknown_face_detector_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    path = find_asset(FACE_DETECTOR).path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0" * 232589)
    with pytest.raises(ValueError, match="sha256 differs"):
        load_detector(FACE_DETECTOR)


def test_the_largest_face_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.zeros((2, 15), np.float32)
    found[:, :4] = [[5, 6, 10, 10], [-4, 20, 24, 30]]

    class Sees:
        def detect(self, picture: np.ndarray) -> tuple[int, np.ndarray | None]:
            return 1, found if picture.any() else None

    monkeypatch.setattr(
        detecting.cv2.FaceDetectorYN, "create", lambda *a, **k: Sees(), raising=True
    )
    frames = FRAMES.copy()
    frames[0] = 9
    boxes = detecting._faces("x.onnx")(frames)
    np.testing.assert_allclose(boxes[0], [0, 20, 20, 50])
    assert np.isnan(boxes[1]).all()


@pytest.mark.skipif(
    not find_asset(FACE_DETECTOR).path.is_file(), reason="YuNet's file is not among the assets"
)
def test_no_face_is_in_a_grey_picture() -> None:
    detect, _ = load_detector(FACE_DETECTOR)
    assert np.isnan(detect(np.full((1, 128, 128, 3), 127, np.uint8))).all()


def test_what_detectors_need_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    chosen = choose_metrics(
        ["identity", "pixel"], Judges(), size=64, detectors={"person": PERSON_DETECTOR}
    )
    assert "Faster R-CNN" in chosen.missing["os_cs_mini"]
    assert "l1_person" in chosen.names


@pytest.mark.parametrize("box", ["fit", "detector"])
def test_rows_say_what_the_box_came_from(
    dataset: Any, protocol: Protocol, body: Body, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: Any
) -> None:  # fmt: skip
    seen: list[int] = []

    def detect(frames: np.ndarray) -> np.ndarray:
        seen.append(len(frames))
        return np.tile([4.0, 4, 40, 60], (len(frames), 1))

    monkeypatch.setattr("benchmarks.judging.load_detector", lambda *a: (detect, "ab" * 32))
    names = ("l1_person", "lpips_mini_person", "os_cs_mini", "os_freid_mini")
    run = Run(
        dataset,
        protocol,
        [Copy()],
        Settings(size=64, metrics=names, person_box=box),
        tmp_path / "run",
        body=body,
    )
    run_all(run)
    source = "fit" if box == "fit" else "detector abababababab"
    rows = read_rows(tmp_path / "run" / "rows.parquet").to_pylist()
    told = {row["metric"]: row["mask_source"] for row in rows}
    assert told == {"l1_person": "set", "lpips_mini_person": "set", "os_cs_mini": source}
    sets = read_sets(tmp_path / "run" / "sets.parquet")
    assert pc.unique(sets["mask_source"]).to_pylist() == [source]
    assert bool(seen) == (box == "detector")


def test_unknown_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="person_box 'yolo'"):
        Settings(person_box="yolo")  # type: ignore[arg-type]
