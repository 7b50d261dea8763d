"""The two steps of liquid warping, and both engines of the second."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lwgan.generators.warp import GridSampling, RowSampling, read_corners, resize_flow, sample, warp

EMPTY = -2.0  # both coordinates, where there is no body


def still_flow(height: int, width: int) -> Tensor:
    """(1, height, width, 2): each pixel's own centre in NDC."""
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def wild_flow(*shape: int, seed: int = 0) -> Tensor:
    """Coordinates in and around the picture, some on its very edge, some empty."""
    flow = torch.empty(*shape, 2).uniform_(-1.3, 1.3, generator=torch.manual_seed(seed))
    flow[..., 0, :, :] = EMPTY
    flow[..., 1, :, 0] = 1.0
    flow[..., 2, :, 1] = -1.0
    return flow


@pytest.mark.parity
def test_both_steps_are_the_references(fixtures_folder: Path) -> None:
    with np.load(fixtures_folder / "lwgan" / "units.npz") as arrays:
        units = {name: torch.from_numpy(arrays[name]) for name in arrays.files if "lwb" in name}
    features, flow = units["lwb/X"], units["lwb/T"]
    resized = resize_flow(flow, *features.shape[-2:])
    torch.testing.assert_close(resized, units["lwb/T_resized"], atol=2e-6, rtol=0)
    torch.testing.assert_close(warp(features, flow), units["lwb/out"], atol=2e-6, rtol=0)
    at_size = warp(features, units["lwb_same/T"])
    torch.testing.assert_close(at_size, units["lwb_same/out"], atol=2e-6, rtol=0)


def test_a_flow_is_resized_from_corner_to_corner() -> None:
    """Row i of the small flow reads row i (H - 1) / (h - 1) of the large one."""
    rows = torch.arange(9.0)
    flow = torch.stack(torch.broadcast_tensors(rows[None, :], rows[:, None]), dim=-1)
    wanted = torch.tensor([0.0, 8 / 3, 16 / 3, 8.0])
    resized = resize_flow(flow[None, None], 4, 4)[0, 0]
    torch.testing.assert_close(resized[..., 1], wanted[:, None].expand(4, 4))
    torch.testing.assert_close(resized[..., 0], wanted[None].expand(4, 4))


def test_resizing_mixes_empty_pixels_with_the_body() -> None:
    """The ring around the body that released weights were trained on."""
    flow = torch.zeros(1, 8, 8, 2)
    flow[:, :, 4:] = EMPTY
    resized = resize_flow(flow, 4, 5)[0, :, :, 0]
    assert ((resized > EMPTY) & (resized < 0)).any(dim=1).all()


def test_a_still_flow_changes_nothing() -> None:
    features = torch.rand(1, 3, 6, 8)
    torch.testing.assert_close(sample(features, still_flow(6, 8)), features)


def test_a_shift_by_a_pixel_shifts_and_brings_in_zeros() -> None:
    features = torch.rand(1, 3, 6, 8)
    flow = still_flow(6, 8) + torch.tensor([2 / 8, 0.0])
    moved = sample(features, flow)
    torch.testing.assert_close(moved[..., :-1], features[..., 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., -1], torch.zeros(1, 3, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", [GridSampling, RowSampling])
def test_empty_pixels_are_exactly_zero(engine: type[GridSampling] | type[RowSampling]) -> None:
    flow = torch.full((1, 1, 1, 6, 8, 2), EMPTY)
    assert not engine(flow)(torch.rand(1, 1, 3, 6, 8) + 1).any()


@pytest.mark.parametrize("engine", [GridSampling, RowSampling])
def test_all_pairs_at_once_are_one_pair_at_a_time(
    engine: type[GridSampling] | type[RowSampling],
) -> None:
    batch, num_frames, num_sources, height, width = 2, 3, 2, 6, 8
    flow = wild_flow(batch, num_frames, num_sources, height, width)
    features = torch.rand(batch, num_sources, 5, height, width)
    warped = engine(flow)(features).unflatten(0, (batch, num_frames))
    for b in range(batch):
        for t in range(num_frames):
            for s in range(num_sources):
                alone = sample(features[b, s][None], flow[b, t, s][None])[0]
                torch.testing.assert_close(warped[b, t, s], alone, atol=1e-6, rtol=0)


def test_corners_read_one_by_one_are_those_read_at_once() -> None:
    """What other devices do instead of the CPU's single pass."""
    flow, features = wild_flow(1, 2, 2, 6, 8), torch.rand(1, 2, 5, 6, 8)
    take = RowSampling(flow)
    one_by_one = read_corners(features.movedim(2, -1).flatten(0, 3), take.row, take.share)
    torch.testing.assert_close(one_by_one, take(features).movedim(2, -1).flatten(0, 3))


def test_coordinates_are_not_rounded_with_the_features() -> None:
    """In bfloat16 a coordinate near 1 has steps of 1/256: a pixel and more at 1024."""
    features = torch.rand(1, 1, 2, 4, 1024)
    flow = still_flow(4, 1024)[None, None]
    for engine in (GridSampling, RowSampling):
        warped = engine(flow)(features.bfloat16())
        assert warped.dtype == torch.bfloat16
        torch.testing.assert_close(warped.float(), features[0][None], atol=2**-8, rtol=0)


def test_gradients_reach_features() -> None:
    flow = wild_flow(1, 2, 2, 4, 4).double()
    features = torch.rand(1, 2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(GridSampling(flow), (features,))
