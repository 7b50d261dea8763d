"""Single stages: the background plate, front scores, masks cut by a crop."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit.background import background_plate, grow
from iper_toolkit.body.model import BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.crop import SquareCrop
from iper_toolkit.masks import PackedMasks
from iper_toolkit.raster import rasterize
from iper_toolkit.stages import SourceFacts
from iper_toolkit.stages.fit import FittedClip
from iper_toolkit.stages.front import SIZE, draw, unpack
from iper_toolkit.stages.mask import _from_file


def test_the_median_of_what_was_free() -> None:
    draw_from = np.random.default_rng(0)
    images = draw_from.integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)
    people = draw_from.random((7, 20, 30)) < 0.4
    people[0] &= ~people[1:].all(0)  # every pixel is free at least once
    plate = background_plate(list(images), list(people))
    for row, column in [(0, 0), (3, 7), (19, 29), (11, 16)]:
        free = np.sort(images[~people[:, row, column], row, column], axis=0)
        assert np.array_equal(plate[row, column], free[(len(free) - 1) // 2])


def test_what_was_never_seen_is_guessed_from_around() -> None:
    wall = np.tile(np.linspace(40, 200, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    person = np.zeros((64, 64), bool)
    person[20:44, 26:38] = True
    covered = np.where(person[..., None], np.uint8(255), wall)
    plate = background_plate([covered] * 3, [person] * 3)
    assert np.array_equal(plate[~person], wall[~person])
    assert np.abs(plate[person].astype(int) - wall[person]).mean() < 12
    large = background_plate(
        [np.kron(covered, np.ones((10, 10, 1), np.uint8))],
        [np.kron(person, np.ones((10, 10), bool))],
    )
    assert np.abs(large[240:400:10, 300].astype(int) - wall[24:40, 30]).mean() < 12


def test_a_person_everywhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="covers the whole crop"):
        background_plate([np.zeros((8, 8, 3), np.uint8)], [np.ones((8, 8), bool)])
    with pytest.raises(ValueError, match="no image"):
        background_plate([], [])


def test_grow_adds_a_margin_to_soft_masks() -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[60, 60] = 90
    assert grow(mask).sum() == 17  # OpenCV's ellipse of radius 2, 1/60 of the height


def test_front_scores_are_those_of_the_rasterizer(mini: type) -> None:
    body = load_body("open")
    assert body.surface is not None
    params = BodyParams.from_array(body.id, torch.from_numpy(mini.clip(2, 8)[2]))
    fitted = FittedClip(params, "official", np.ones(8, bool), None, None)
    score, silhouette = draw(body, fitted)
    faces = rasterize(project(body.pose(params).vertices, params.camera), body.faces, SIZE).face
    front = {*body.surface.front_body.tolist(), *body.surface.front_face.tolist()}
    for frame in (0, 4, 6):
        assert score[frame] == len(set(faces[frame].unique().tolist()) & front)
        assert np.array_equal(unpack(silhouette[frame]) == 255, faces[frame].numpy() >= 0)
    assert score[0] > 10 * score[4]  # facing the camera, and turned away


def test_fits_survive_their_file(tmp_path: Path, mini: type) -> None:
    params = BodyParams.from_array("open-body-1", torch.from_numpy(mini.clip(1, 8)[2]))
    keypoints = np.random.default_rng(0).normal(size=(8, 25, 3)).astype(np.float32)
    fitted = FittedClip(
        params, "keypoints", np.arange(8) > 2, np.arange(8, dtype=np.float32), keypoints
    )
    fitted.write(tmp_path / "fit.npz")
    back = FittedClip.read(tmp_path / "fit.npz")
    assert torch.equal(back.params.to_array(), params.to_array())
    assert (back.params.body_id, back.source) == ("open-body-1", "keypoints")
    assert back.error_pixels is not None
    assert back.error_pixels.tolist() == list(range(8))
    assert np.array_equal(back.keypoints, keypoints)
    FittedClip(params, "official", back.valid, None, None).write(tmp_path / "given.npz")
    assert FittedClip.read(tmp_path / "given.npz").keypoints is None


@pytest.mark.parametrize("scale", [1, 0.5])
def test_masks_are_cut_by_the_crop_and_nobody_is_outside(tmp_path: Path, scale: float) -> None:
    rows, columns = np.mgrid[0:60, 0:80]
    full = (((columns > 50) & (rows > 20)) * 255).astype(np.uint8)
    stored = full if scale == 1 else full.reshape(30, 2, 40, 2).mean((1, 3)).astype(np.uint8)
    np.savez(tmp_path / "m.npz", masks=stored[None])
    crop = SquareCrop(left=40, top=10, side=60)  # overhangs right and below
    (mask,) = _from_file(tmp_path / "m.npz", SourceFacts(80, 60, 25, 1), crop)
    assert mask.shape == (round(60 * scale),) * 2
    expected = np.zeros((60, 60), np.uint8)
    expected[:50, :40] = full[10:60, 40:80]
    PackedMasks.write(tmp_path / "p.npz", [mask], crop)
    at_full_size = PackedMasks.read(tmp_path / "p.npz").at([0], 60)[0]
    wrong = (at_full_size > 127) != (expected > 127)
    assert wrong.mean() < (1e-9 if scale == 1 else 0.025)  # half-size masks: a pixel at the edges
    assert (at_full_size[:, 42:] == 0).all()
    assert (at_full_size[52:] == 0).all()
