"""Cards of motion: how a picture goes on from the one before. Frames without the frame before have no row."""

from functools import partial

import numpy as np

from benchmarks.metrics import temporal
from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Features, Metric, SetScore
from benchmarks.metrics.distribution_cards import seen
from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.perceptual import lpips_from_layers
from benchmarks.metrics.pictures import Pair, Pictures

WINDOW = 16  # frames of a video that the video network looks at


def _lpips_steps(pictures: Pictures, network: str, steps: np.ndarray) -> Scores:
    """LPIPS between each picture and the one before; NaN where there is none."""

    def compute() -> Scores:
        heads = pictures.networks.heads(network)
        found = np.full(len(pictures), np.nan)
        for index in np.flatnonzero(steps).tolist():
            first, second = (pictures.layers(network, k) for k in (index - 1, index))
            found[index] = float(lpips_from_layers(first, second, heads)[0])
        return found

    return pictures.once(("steps", network, steps.tobytes()), compute)


def _tlpips(pair: Pair, *, network: str) -> Scores:
    steps = pair.steps
    return temporal.tlpips(
        _lpips_steps(pair.generated, network, steps), _lpips_steps(pair.truth, network, steps)
    )


def _warping(pair: Pair, *, of_person: bool) -> Scores:
    flow, visible = pair.truth.once(
        "flow", lambda: temporal.reference_flow(pair.truth.preceded(), pair.truth.frames)
    )
    mask = pair.mask if of_person else None
    found = temporal.warping_error(
        pair.generated.frames, pair.generated.preceded(), flow, visible, mask
    )
    return np.where(pair.steps, found, np.nan)


def _flicker(pair: Pair) -> Scores:
    found = temporal.flicker(
        pair.generated.frames,
        pair.generated.preceded(),
        pair.truth.frames,
        pair.truth.preceded(),
    )
    return np.where(pair.steps, found, np.nan)


def _frechet(generated: Features, truth: Features) -> SetScore:
    found = frechet_distance(seen(generated)[0], seen(truth)[0])
    return SetScore(found.value, found.n, found.m, found.d, found.warning or "")


def _tlpips_card(name: str, title: str, network: str, paper: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=f"How far the LPIPS ({network}) from the frame before is from that of the true frames: its absolute difference.",
        better="lower",
        unit="1",
        region="frame",
        paper=paper,
        group="temporal",
        failure_value=1.0,
        per_frame=partial(_tlpips, network=network),
        needs=("previous",),
        judge=network,
        smallest_side=32,
    )


TEMPORAL: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _tlpips_card("tlpips", "tLPIPS-alex", "lpips-alex", "Chu et al. 2020 (TecoGAN)"),
        _tlpips_card(
            "tlpips_mini",
            "tLPIPS-mini",
            "lpips-mini",
            "Chu et al. 2020 (TecoGAN); weights of our own",
        ),
        Metric(
            name="warping_error",
            version=1,
            title="Warping error",
            definition="Mean squared difference between a picture and the one before, carried along by the true frames' optical flow (DIS), "
            "where a forward-backward check sees no occlusion; range 0 to 1.",
            better="lower",
            unit="share of the range, squared",
            region="frame",
            paper="Lai et al. 2018; flow of Kroeger et al. 2016",
            group="temporal",
            failure_value=1.0,
            per_frame=partial(_warping, of_person=False),
            needs=("previous",),
            smallest_side=32,
        ),
        Metric(
            name="warping_error_person",
            version=1,
            title="Warping error (person)",
            definition="warping_error over the visible pixels of the true person's mask.",
            better="lower",
            unit="share of the range, squared",
            region="person",
            paper="Lai et al. 2018; flow of Kroeger et al. 2016",
            group="temporal",
            failure_value=1.0,
            per_frame=partial(_warping, of_person=True),
            needs=("previous", "mask"),
            smallest_side=32,
        ),
        Metric(
            name="flicker",
            version=1,
            title="Flicker",
            definition="Mean absolute difference between what changes from frame to frame in the pictures and in the true ones, as a share of the range.",
            better="lower",
            unit="share of the range",
            region="frame",
            paper="after Huang et al. 2024 (VBench), against the truth",
            group="temporal",
            failure_value=2.0,
            per_frame=_flicker,
            needs=("previous",),
        ),
        Metric(
            name="fvd",
            version=1,
            title="FVD",
            definition=f"Fréchet distance of the user's I3D network's features of clips of {WINDOW} consecutive scored frames that do not overlap, "
            "from each case's first; bilinear resize to 224.",
            better="lower",
            unit="squared distance",
            region="frame",
            paper="Unterthiner et al. 2018; network of Skorokhodov et al. 2022",
            group="temporal",
            of_set=_frechet,
            window=WINDOW,
            judge="i3d",
            is_unpaired=True,
        ),
    )
}
