"""The people that our weights are trained on: from training seeds alone, and as packs that training reads."""

import sys
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.body import load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from lwgan.packs import Packs

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from weights import people, proofs

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
