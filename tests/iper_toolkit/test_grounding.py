"""Feet on the ground: closed forms and the reference's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit import grounding
from iper_toolkit.grounding import Jump


def test_standing_feet_stay_on_the_first_frame_s_line() -> None:
    feet = torch.tensor([1.0, 0.9, 0.95, 1.1])
    camera = torch.tensor([[0.8, 0.3, 0.05]]).repeat(4, 1)
    stable = grounding.stabilise_cameras(camera, feet)
    torch.testing.assert_close(stable[:, 2] + feet, torch.full((4,), 1.05))
    torch.testing.assert_close(stable[:, :2], torch.tensor([[1.0, 0.0]]).repeat(4, 1))


def test_a_jump_is_found_and_kept() -> None:
    time = torch.arange(40)
    lift = torch.where((time >= 10) & (time <= 20), torch.sin((time - 10) / 10 * np.pi), 0.0) * 0.5
    feet = torch.ones(40)
    camera = torch.stack([torch.ones(40), torch.zeros(40), -lift], dim=1)
    (jump,) = grounding.find_jumps((feet + camera[:, 2]).numpy())
    assert 9 <= jump.start <= 11
    assert 19 <= jump.end <= 39
    stable = grounding.stabilise_cameras(camera, feet)
    torch.testing.assert_close(stable[:, 2], -lift)


@pytest.mark.parametrize(("height", "end"), [(0.18, 5), (0.12, 3)])
def test_a_jump_ends_less_than_a_tenth_above_its_start(height: float, end: int) -> None:
    """It starts where the feet have left the ground, 0.05 up; 0.13 above that is still in the air, 0.07 is not."""
    lift = np.array([0.0, 0.05, 0.5, height, height + 0.1, 0.0])
    assert grounding.find_jumps(1 - lift)[0] == Jump(1, end)


def test_a_jump_that_never_lands_ends_with_the_clip() -> None:
    assert grounding.find_jumps(np.array([1.0, 1.0, 0.9, 0.5, 0.4])) == [Jump(2, 4)]
    assert grounding.find_jumps(np.array([1.0])) == []
    assert grounding.find_jumps(np.array([1.0, 0.95, 1.0])) == []


def test_empty_and_mismatched_motion() -> None:
    assert grounding.stabilise_cameras(torch.zeros(0, 3), torch.zeros(0)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"feet are \(4,\).*\(3, 3\)"):
        grounding.stabilise_cameras(torch.zeros(3, 3), torch.zeros(4))


def test_foot_height_is_the_largest_y() -> None:
    vertices = torch.tensor([[[0.0, 1.0, 0.0], [0.0, -3.0, 9.0]], [[0, 0.2, 0], [0, 0.4, 0]]])
    torch.testing.assert_close(grounding.foot_height(vertices), torch.tensor([1.0, 0.4]))


@pytest.mark.parity
def test_reference_stabilisation(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "pipeline" / "stabilize.npz") as file:
        data = {name: file[name] for name in file.files}
    heights = data["foot_y"] + data["smpls"][:, 2]
    np.testing.assert_array_equal(grounding.turning_points(heights), data["checkpoints"])
    jumps = grounding.find_jumps(heights)
    assert [[jump.start, jump.end] for jump in jumps] == data["jump_info"].tolist()
    mask = np.zeros(len(heights))
    for jump in jumps:
        mask[jump.start : jump.end + 1] = 1
    np.testing.assert_array_equal(mask, data["jump_mask"])
    stable = grounding.stabilise_motion(
        torch.from_numpy(data["smpls"]), torch.from_numpy(data["foot_y"])
    )
    np.testing.assert_allclose(stable, data["stable_smpls"], atol=1e-6)
