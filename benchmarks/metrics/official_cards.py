"""Cards of the official package's forms, bit by bit as it computes them: for old tables, never to be mixed with others."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics import body, pixel
from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Features, Metric, SetScore
from benchmarks.metrics.distribution_cards import seen
from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.identity_cards import cosine
from benchmarks.metrics.inception_score import inception_score_official
from benchmarks.metrics.pictures import Pair, Pictures

_PACKAGE = "Liu et al. 2021, their evaluation package"
_BOXES = "the person's box, taken for one of a picture of 416 pixels as the official package takes it (so it is off by S/416)"


def _pixels(pair: Pair, *, name: str) -> Scores:
    return pair.pixels(name)


def _similarity(pair: Pair, *, judge: str) -> Scores:
    return cosine(*(one.features(judge, "official") for one in (pair.generated, pair.truth)))


def _features(pictures: Pictures, *, judge: str) -> NDArray[np.float32]:
    return pictures.features(judge, "official")


def _frechet(generated: Features, truth: Features) -> SetScore:
    found = frechet_distance(seen(generated)[0], seen(truth)[0])
    return SetScore(found.value, found.n, found.m, found.d, found.warning or "")


def _inception(generated: Features, truth: Features) -> SetScore:
    features = np.concatenate(list(generated))
    return SetScore(inception_score_official(features), len(features), 0, features.shape[1])


def _sspe(pair: Pair) -> Scores:
    if pair.estimates is None or pair.estimates.params is None:
        raise ValueError("Nobody fitted bodies to these pictures: give Pair its estimates.")
    return body.sspe_official(*pair.estimates.params)


def _similarity_card(name: str, title: str, judge: str) -> Metric:
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=f"Mean cosine of {judge}'s features of {_BOXES}, resized without antialiasing. The box is the mask's where the package has a detector's.",
        better="higher",
        unit="1",
        region="person",
        paper=_PACKAGE,
        group="official",
        failure_value=-1.0,
        per_frame=partial(_similarity, judge=judge),
        needs=("mask",),
        judge=judge,
        boxes="official",
        is_unpaired=True,
    )


def _set_card(name: str, title: str, judge: str, definition: str, **more: object) -> Metric:
    fields: dict[str, object] = {
        "better": "lower",
        "unit": "squared distance",
        "region": "frame",
        "of_set": _frechet,
        "features": partial(_features, judge=judge),
        "judge": judge,
        "boxes": "official",
        "is_unpaired": True,
        **more,
    }
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=definition,
        paper=_PACKAGE,
        group="official",
        **fields,  # type: ignore[arg-type]
    )


OFFICIAL: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="ssim_official",
            version=1,
            title="SSIM (official form)",
            definition="ssim of pictures mapped to [-1, 1] with range 2, the form of iPER's published numbers.",
            better="higher",
            unit="1",
            region="frame",
            paper=_PACKAGE,
            group="official",
            failure_value=-1.0,
            per_frame=partial(_pixels, name="ssim_official"),
        ),
        Metric(
            name="psnr_official",
            version=1,
            title="PSNR (official form)",
            definition="PSNR on [-1, 1] with range 2, but range 1 (6.02 dB less) where the truth has no value below 128; +inf for identical pictures.",
            better="higher",
            unit="dB",
            region="frame",
            paper=_PACKAGE,
            group="official",
            failure_value=pixel.OFFICIAL_PSNR_MINIMUM,
            per_frame=partial(_pixels, name="psnr_official"),
        ),
        _similarity_card("os_cs_official", "OS-CS-reid (official form)", "osnet-ibn-imagenet"),
        _similarity_card("pcb_cs_official", "PCB-CS-reid (official form)", "pcb-market1501"),
        _set_card(
            "os_freid_official",
            "OS-freid (official form)",
            "osnet-ibn-imagenet",
            f"Fréchet distance of OSNet-IBN's ImageNet features of {_BOXES}.",
            region="person",
            needs=("mask",),
        ),
        _set_card(
            "pcb_freid_official",
            "PCB-freid (official form)",
            "pcb-market1501",
            f"Fréchet distance of PCB's features of {_BOXES}.",
            region="person",
            needs=("mask",),
        ),
        _set_card(
            "fid_official",
            "fid (official form)",
            "inception-imagenet",
            "Fréchet distance of torchvision's ImageNet Inception features, resized to 299 without antialiasing. It is not the FID.",
            smallest_side=32,
        ),
        _set_card(
            "is_official",
            "is (official form)",
            "inception-imagenet",
            "The formula of the Inception score over a softmax of the 2048 pooled features, in one part. It is not the Inception score.",
            better="higher",
            unit="1",
            of_set=_inception,
            smallest_side=32,
        ),
        Metric(
            name="sspe_official",
            version=1,
            title="SSPE (official form)",
            definition="Sum of the mean differences of scale, shape and camera with axis-angle pose between two fits; scale counts twice. See mpjpe instead.",
            better="lower",
            unit="1",
            region="body",
            paper=_PACKAGE,
            group="official",
            failure_value=1000.0,
            per_frame=_sspe,
            needs=("estimated_fit",),
        ),
    )
}
