"""Cards of metrics of whole sets: how the generated pictures are distributed against the true ones.

Each is one number of all pictures of a kind. How many there are decides much of it (a Fréchet distance of few
samples is mostly bias), so the number of pictures stands beside every value, and sets of unequal size never
share a column.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.card import Features, Metric, Region, SetScore
from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.inception_score import inception_score
from benchmarks.metrics.kernel_distance import kernel_distance
from benchmarks.metrics.pictures import Pictures

# What inception-fid gives: pooled features, then logits.
POOLED = 2048
SPLITS = 10


def seen(features: Features, columns: slice = slice(None)) -> tuple[list[NDArray[np.float32]], int]:
    """The rows in which there was somebody to look at, and how many there were not."""
    kept = [one[np.isfinite(one).all(1)] for one in features]
    lost = sum(len(one) for one in features) - sum(len(one) for one in kept)
    return [one[:, columns] for one in kept if len(one)], lost


def _frechet(generated: Features, truth: Features, *, columns: slice = slice(None)) -> SetScore:
    (first, lost), (second, lost_true) = seen(generated, columns), seen(truth, columns)
    found = frechet_distance(first, second)
    unseen = f"{lost + lost_true} pictures show nobody" if lost + lost_true else ""
    warning = "; ".join(filter(None, [found.warning or "", unseen]))
    return SetScore(found.value, found.n, found.m, found.d, warning)


def _kernel(generated: Features, truth: Features) -> SetScore:
    columns = slice(0, POOLED)
    found = kernel_distance(seen(generated, columns)[0], seen(truth, columns)[0])
    return SetScore(found.value, found.n, found.m, found.d)


def _inception(generated: Features, truth: Features) -> SetScore:
    logits = np.concatenate(seen(generated, slice(POOLED, None))[0])
    found = inception_score(logits, splits=min(SPLITS, len(logits)))
    few = f"only {len(logits)} pictures" if len(logits) < 5000 else ""
    return SetScore(found.mean, len(logits), 0, logits.shape[1], few)


def features_of(pictures: Pictures, *, judge: str) -> NDArray[np.float32]:
    """What a set keeps of each picture."""
    return pictures.features(judge)


def _freid(
    name: str,
    title: str,
    judge: str,
    paper: str,
    region: Region = "person",
) -> Metric:
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=f"Fréchet distance between Gaussians fitted to what {judge} makes of the {region} in all generated and all true "
        "pictures; exact, in float64.",
        better="lower",
        unit="squared distance",
        region=region,
        paper=paper,
        group="distribution",
        of_set=_frechet,
        features=partial(features_of, judge=judge),
        needs=("mask",) if region == "person" else ("fit",),
        judge=judge,
        is_unpaired=True,
    )


DISTRIBUTION: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            version=1,
            title="FID",
            definition="Fréchet distance of the 2048 pooled features of the FID Inception network, pictures resized to 299 with antialiased bicubic weights.",
            better="lower",
            unit="squared distance",
            region="frame",
            paper="Heusel et al. 2017; resize of Parmar et al. 2022",
            group="distribution",
            of_set=partial(_frechet, columns=slice(0, POOLED)),
            features=partial(features_of, judge="inception-fid"),
            judge="inception-fid",
            is_unpaired=True,
            smallest_side=32,
        ),
        Metric(
            name="kid",
            version=1,
            title="KID",
            definition="Unbiased squared maximum mean discrepancy of the same features, cubic kernel, over all pairs of pictures.",
            better="lower",
            unit="squared distance",
            region="frame",
            paper="Binkowski et al. 2018",
            group="distribution",
            of_set=_kernel,
            features=partial(features_of, judge="inception-fid"),
            judge="inception-fid",
            is_unpaired=True,
            smallest_side=32,
        ),
        Metric(
            name="inception_score",
            version=1,
            title="IS",
            definition=f"exp of the mean KL divergence between one picture's and all pictures' classes, mean of {SPLITS} parts in the order of cases. "
            "It says nothing about people; it is here because papers print it.",
            better="higher",
            unit="1",
            region="frame",
            paper="Salimans et al. 2016, with the FID Inception network's 1008 classes",
            group="distribution",
            of_set=_inception,
            features=partial(features_of, judge="inception-fid"),
            judge="inception-fid",
            is_default=False,
            is_unpaired=True,
            smallest_side=32,
        ),
        _freid("os_freid", "OS-FReID", "osnet-msmt17", "Liu et al. 2021 (FReID)"),
        _freid("os_ain_freid", "OS-AIN-FReID", "osnet-ain-msmt17", "Liu et al. 2021 (FReID)"),
        _freid("pcb_freid", "PCB-FReID", "pcb-market1501", "Liu et al. 2021 (FReID)"),
        _freid("os_freid_mini", "OS-FReID-mini", "osnet-mini", "Liu et al. 2021 (FReID); weights of our own"),
        _freid("pcb_freid_mini", "PCB-FReID-mini", "pcb-mini", "Liu et al. 2021 (FReID); weights of our own"),
        _freid("face_fd", "face-FD", "facenet-vggface2", "Liu et al. 2021", "face"),
    )
}  # fmt: skip
