"""The people that our weights are trained on, and what is said of weights: when they are better, how they learned."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.body import load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from lwgan.packs import Packs

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from weights import curves, people, proofs

PLAN = people.Plan(seed=1234, clips=2, frames=6, pixels=96)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    people.draw_people(PLAN, folder, workers=1, tell=lambda text: None)
    return folder


def test_demo_and_test_people_are_never_trained_on() -> None:
    with pytest.raises(ValueError, match="seed is 999; training takes 1000"):
        people.Plan(seed=999, clips=1)


def test_clips_show_the_person_that_was_fitted(drawn: Path) -> None:
    packs = Packs.open(drawn)
    assert packs.clip_ids == ("00000", "00001")
    assert len(set(packs.subjects)) == 2
    assert packs.synthetic
    body = load_body("open")
    for name in packs.clip_ids:
        clip = packs.clip(name)
        assert clip.front_frames
        assert clip.back_frames
        assert clip.valid.all()
        params = clip.params()
        points = project(body.pose(params).vertices, params.camera).float()
        naked = rasterize(points, body.faces, PLAN.pixels).covered.numpy()
        masks = clip.masks(range(PLAN.frames), PLAN.pixels) > 127
        assert (naked & masks).sum() / naked.sum() > 0.95  # clothes cover the body


def test_the_same_seed_draws_the_same_people(drawn: Path, tmp_path: Path) -> None:
    people._draw((PLAN, tmp_path, 1))
    assert (tmp_path / "00001.npz").read_bytes() == (drawn / "00001.npz").read_bytes()


def test_sharpness_tells_a_blur() -> None:
    import cv2

    random = np.random.default_rng(0)
    sharp = random.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 1.0) for one in sharp])
    mask = np.full((2, 32, 32), 255, np.uint8)
    found = proofs.measured(blurred, sharp, mask)
    assert found.sharpness < 0.3
    assert proofs.measured(sharp, sharp, mask).sharpness == 1


def test_better_weights_look_nearer_and_lose_little() -> None:
    old = proofs.Figures(ssim=0.65, l1=0.07, lpips_mini=0.18, sharpness=0.5, frames=96)
    assert replace(old, lpips_mini=0.17).is_better_than(old)
    assert replace(old, lpips_mini=0.17, ssim=0.645).is_better_than(old)
    assert not replace(old, lpips_mini=0.17, ssim=0.63).is_better_than(old)
    assert not replace(old, ssim=0.7).is_better_than(old)
    assert not old.is_better_than(old)


def test_curves_are_means_of_a_hundred_steps(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [
        {"step": step, "kind": "train", "person": 2.0 * step, "structure": 0.5}
        for step in range(20, 201, 20)
    ]
    lines.insert(5, {"step": 100, "kind": "validate", "person": 1e6, "structure": 1e6})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    points = curves.read_points(
        {("one", "128"): folder, ("absent", "128"): tmp_path / "nowhere"},
        {"128": {"person": 2.0, "structure": 0.5}},
    )
    assert [(one.network, one.step) for one in points] == [("one", 100), ("one", 200)]
    assert [one.values["person"] for one in points] == pytest.approx([60.0, 160.0])
    assert [one.values["structure"] for one in points] == pytest.approx([1.0, 1.0])
    curves.write_table(points, tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "network,stage,step,person,structure",
        "one,128,100,60.0000,1.0000",
        "one,128,200,160.0000,1.0000",
    ]
    curves.write_chart(points, tmp_path / "curves.svg")
    chart = (tmp_path / "curves.svg").read_text()
    assert chart.count("<polyline") == 2  # a line a network, in a panel a term
    assert "150.0,150.0 300.0,0.0" in chart
