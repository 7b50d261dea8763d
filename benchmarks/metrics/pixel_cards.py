"""Cards of the metrics of pixels: SSIM, MS-SSIM, PSNR and L1, of the frame and of the person."""

from functools import partial

from benchmarks.metrics import multiscale
from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Metric
from benchmarks.metrics.pictures import Pair


def _pixels(pair: Pair, *, name: str) -> Scores:
    return pair.pixels(name)


def _ms_ssim(pair: Pair, *, name: str) -> Scores:
    return pair.of_arrays(multiscale.scores, multiscale.MULTISCALE_METRICS, name)


PIXEL: dict[str, Metric] = {
    "ssim": Metric(
        name="ssim",
        version=1,
        title="SSIM",
        definition="7x7 uniform windows, sample covariance, K1 .01, K2 .03, range 255; mean over valid windows and channels.",
        better="higher",
        unit="1",
        region="frame",
        paper="Wang et al. 2004, as scikit-image computes it by default",
        group="pixel",
        failure_value=-1.0,
        per_frame=partial(_pixels, name="ssim"),
    ),
    "ssim_person": Metric(
        name="ssim_person",
        version=1,
        title="SSIM (person)",
        definition="The map of ssim, averaged over the valid windows whose centre lies on the true person's mask.",
        better="higher",
        unit="1",
        region="person",
        paper="Wang et al. 2004, on the mask",
        group="pixel",
        failure_value=-1.0,
        per_frame=partial(_pixels, name="ssim_person"),
        needs=("mask",),
    ),
    "ms_ssim": Metric(
        name="ms_ssim",
        version=1,
        title="MS-SSIM",
        definition="Five scales, Gaussian windows of 11 with sigma 1.5, 2x2 means between scales; a scale's contrast below 0 counts as 0.",
        better="higher",
        unit="1",
        region="frame",
        paper="Wang et al. 2003",
        group="pixel",
        failure_value=0.0,
        per_frame=partial(_ms_ssim, name="ms_ssim"),
        smallest_side=multiscale.SMALLEST_SIDE,
    ),
    "ms_ssim_person": Metric(
        name="ms_ssim_person",
        version=1,
        title="MS-SSIM (person)",
        definition="ms_ssim, each scale averaged over the windows whose centre lies on the person's mask, shrunk with it.",
        better="higher",
        unit="1",
        region="person",
        paper="Wang et al. 2003, on the mask",
        group="pixel",
        failure_value=0.0,
        per_frame=partial(_ms_ssim, name="ms_ssim_person"),
        needs=("mask",),
        smallest_side=multiscale.SMALLEST_SIDE,
    ),
    "psnr": Metric(
        name="psnr",
        version=2,
        title="PSNR",
        definition="10 log10(255^2 / MSE) over all pixels and channels, the MSE at least that of one grey level in one value.",
        better="higher",
        unit="dB",
        region="frame",
        paper="-",
        group="pixel",
        failure_value=0.0,
        per_frame=partial(_pixels, name="psnr"),
    ),
    "psnr_person": Metric(
        name="psnr_person",
        version=2,
        title="PSNR (person)",
        definition="10 log10(255^2 / MSE) over the pixels and channels of the true person's mask, the MSE at least that of one grey level in one value.",
        better="higher",
        unit="dB",
        region="person",
        paper="-",
        group="pixel",
        failure_value=0.0,
        per_frame=partial(_pixels, name="psnr_person"),
        needs=("mask",),
    ),
    "l1": Metric(
        name="l1",
        version=1,
        title="L1",
        definition="Mean absolute difference over all pixels and channels, as a share of the range.",
        better="lower",
        unit="share of the range",
        region="frame",
        paper="-",
        group="pixel",
        failure_value=1.0,
        per_frame=partial(_pixels, name="l1"),
    ),
    "l1_person": Metric(
        name="l1_person",
        version=1,
        title="L1 (person)",
        definition="Mean absolute difference over the pixels and channels of the true person's mask, as a share of the range.",
        better="lower",
        unit="share of the range",
        region="person",
        paper="-",
        group="pixel",
        failure_value=1.0,
        per_frame=partial(_pixels, name="l1_person"),
        needs=("mask",),
    ),
}
