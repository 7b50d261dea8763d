"""LPIPS from layers: the lpips package's numbers, and its form on the person."""

import numpy as np
import pytest
import torch

from benchmarks.judging import Judges
from benchmarks.metrics.averages import mean_of_batch_means
from benchmarks.metrics.perceptual import lpips_from_layers, lpips_of_regions, unit_length
from benchmarks.networks.perceptual import build_lpips


@pytest.mark.parametrize("net", ["alex", "squeeze"])
@pytest.mark.parametrize("version", ["0.1", "0.0"])
def test_it_is_the_packages(net: str, version: str) -> None:
    torch.manual_seed(0)
    whole = build_lpips(net, version).eval().requires_grad_(False)
    pictures = [torch.rand(3, 3, 72, 64) * 2 - 1 for _ in range(2)]
    expected = whole(*pictures).reshape(-1).double().numpy()
    sides = [
        [
            unit_length(layer)
            for layer in whole.net.forward(whole.scaling_layer(one) if version == "0.1" else one)
        ]
        for one in pictures
    ]
    heads = [head.model[-1].weight.reshape(-1) for head in whole.lins]
    np.testing.assert_allclose(lpips_from_layers(*sides, heads), expected, atol=1e-6)


def layers() -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 16, 16), (2, 6, 8, 8)]
    sides = [[unit_length(torch.randn(s, generator=generator)) for s in shapes] for _ in range(2)]
    return (
        sides[0],
        sides[1],
        [torch.rand(4, generator=generator), torch.rand(6, generator=generator)],
    )


def test_the_person_is_weighed_by_how_much_of_a_place_is_theirs() -> None:
    first, second, heads = layers()
    everywhere = np.full((2, 32, 32), 255, np.uint8)
    frame, person = lpips_of_regions(first, second, heads, everywhere)
    np.testing.assert_allclose(person, frame, rtol=1e-12)
    half = everywhere.copy()
    half[:, 16:] = 0
    second[0][:, :, 8:], second[1][:, :, 4:] = first[0][:, :, 8:], first[1][:, :, 4:]
    frame, person = lpips_of_regions(first, second, heads, half)
    np.testing.assert_allclose(person, 2 * frame, rtol=1e-6)  # the other half is the same


def test_nobody_is_undefined() -> None:
    first, second, heads = layers()
    mask = np.zeros((2, 32, 32), np.uint8)
    mask[0, 3:9, 3:9] = 255
    found = lpips_from_layers(first, second, heads, mask)
    assert np.isnan(found).tolist() == [False, True]


def test_levels_that_do_not_belong_together() -> None:
    first, second, heads = layers()
    with pytest.raises(ValueError, match="each layer takes one head"):
        lpips_from_layers(first, second, heads[:1])
    with pytest.raises(ValueError, match="take one shape"):
        lpips_from_layers(first, second[::-1], heads)


def test_a_small_network_knows_identical_pictures() -> None:
    judges = Judges()
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    seen = judges.layers("lpips-mini", picture)
    assert lpips_from_layers(seen, seen, judges.heads("lpips-mini"))[0] == 0
    assert all(float(head.min()) >= 0 for head in judges.heads("lpips-mini"))


def test_batches_of_the_official_average() -> None:
    values = np.arange(20.0)
    assert mean_of_batch_means(values) == (np.arange(16).mean() + np.arange(16, 20).mean()) / 2
    assert mean_of_batch_means(values[:16]) == values[:16].mean()
