"""Cards of perceptual metrics: LPIPS by several networks, of the frame and of the person."""

from functools import partial

import numpy as np

from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Metric
from benchmarks.metrics.perceptual import lpips_of_regions
from benchmarks.metrics.pictures import Pair


def distances(pair: Pair, network: str) -> dict[str, Scores]:
    """LPIPS of each pair of pictures, by one pass: {"frame": (N,), "person": (N,)}; person only with a mask."""
    return pair.generated.once(("lpips", network), lambda: _distances(pair, network))


def _distances(pair: Pair, network: str) -> dict[str, Scores]:
    heads = pair.generated.networks.heads(network)
    found: dict[str, list[float]] = {"frame": [], "person": []}
    for index in range(len(pair.truth)):
        first = pair.generated.layers(network, index)
        second = pair.truth.layers(network, index)
        mask = None if pair.mask is None else pair.mask[index : index + 1]
        frame, person = lpips_of_regions(first, second, heads, mask)
        found["frame"].append(float(frame[0]))
        if person is not None:
            found["person"].append(float(person[0]))
    return {region: np.array(values, np.float64) for region, values in found.items()}


def _lpips(pair: Pair, *, network: str, region: str) -> Scores:
    return distances(pair, network)[region]


_PAPER = "Zhang et al. 2018"


def _cards(
    name: str, title: str, network: str, told: str, *, paper: str = _PAPER, is_default: bool = False
) -> list[Metric]:
    def card(region: str, suffix: str, where: str) -> Metric:
        return Metric(
            name=f"{name}{suffix}",
            version=1,
            title=f"{title}{' (person)' if suffix else ''}",
            definition=f"LPIPS by {told}: squared distance of unit-length features, weighted by channel, {where}, summed over layers.",
            better="lower",
            unit="1",
            region="person" if suffix else "frame",
            paper=paper,
            group="perceptual",
            # Features of unit length differ by at most 2 in square per unit of weight; observed values stay below 1.
            failure_value=1.0,
            per_frame=partial(_lpips, network=network, region=region),
            needs=("mask",) if suffix else (),
            judge=network,
            is_default=is_default,
            smallest_side=32,
        )

    return [
        card("frame", "", "averaged over the picture"),
        card("person", "_person", "averaged over the person's mask, shrunk to each layer"),
    ]


PERCEPTUAL: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *_cards("lpips_alex", "LPIPS-alex", "lpips-alex", "AlexNet, v0.1", is_default=True),
        *_cards("lpips_vgg", "LPIPS-vgg", "lpips-vgg", "VGG-16, v0.1"),
        *_cards("lpips_squeeze", "LPIPS-squeeze", "lpips-squeeze", "SqueezeNet 1.1, v0.1"),
        *_cards("lpips_alex_v00", "LPIPS-alex v0.0", "lpips-alex-v0.0", "AlexNet, v0.0 without input scaling"),
        *_cards("lpips_vgg_v00", "LPIPS-vgg v0.0", "lpips-vgg-v0.0", "VGG-16, v0.0 without input scaling"),
        *_cards("lpips_squeeze_v00", "LPIPS-squeeze v0.0", "lpips-squeeze-v0.0", "SqueezeNet 1.1, v0.0 without input scaling"),
        *_cards(
            "lpips_mini",
            "LPIPS-mini",
            "lpips-mini",
            "a small network of our own",
            paper="Zhang et al. 2018, with weights of our own",
            is_default=True,
        ),
    )
}  # fmt: skip
