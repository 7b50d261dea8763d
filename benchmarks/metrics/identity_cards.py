"""Cards of identity: whether the person, and the face, are recognised as the same."""

from functools import partial

import numpy as np

from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Metric
from benchmarks.metrics.pictures import Pair

# The official package's guard against features of length 0.
_EPSILON = 1e-6


def cosine(first: np.ndarray, second: np.ndarray) -> Scores:
    """Cosine of the angle between features: (N, d) twice -> (N,) float64; NaN rows stay NaN."""
    lengths = [np.linalg.norm(one.astype(np.float64), axis=1) for one in (first, second)]
    dots = (first.astype(np.float64) * second).sum(1)
    return dots / ((lengths[0] + _EPSILON) * (lengths[1] + _EPSILON))


def _similarity(pair: Pair, *, judge: str) -> Scores:
    return cosine(pair.generated.features(judge), pair.truth.features(judge))


def _reid(name: str, title: str, judge: str, paper: str, *, is_default: bool = True) -> Metric:
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=f"Cosine similarity of what {judge} makes of the person in both pictures, cut out by the true person's box.",
        better="higher",
        unit="1",
        region="person",
        paper=paper,
        group="identity",
        failure_value=-1.0,
        per_frame=partial(_similarity, judge=judge),
        needs=("mask",),
        judge=judge,
        is_default=is_default,
        is_unpaired=True,
    )


_OSNET = "Zhou et al. 2019 (OSNet); Liu et al. 2021 (CS-reid)"
_PCB = "Sun et al. 2018 (PCB); Liu et al. 2021 (CS-reid)"

IDENTITY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _reid("os_cs", "OS-CS", "osnet-msmt17", _OSNET),
        _reid("os_ain_cs", "OS-AIN-CS", "osnet-ain-msmt17", "Zhou et al. 2021 (OSNet-AIN)"),
        _reid("pcb_cs", "PCB-CS", "pcb-market1501", _PCB),
        _reid("os_cs_mini", "OS-CS-mini", "osnet-mini", f"{_OSNET}; weights of our own"),
        _reid("pcb_cs_mini", "PCB-CS-mini", "pcb-mini", f"{_PCB}; weights of our own"),
        Metric(
            name="face_cs",
            version=1,
            title="face-CS",
            definition="Cosine similarity of facenet-vggface2's embeddings of the face, cut out of both pictures where the true face is; "
            "undefined where the true head does not look towards the camera or is under 20 pixels.",
            better="higher",
            unit="1",
            region="face",
            paper="Schroff et al. 2015 (FaceNet); Liu et al. 2021",
            group="identity",
            failure_value=-1.0,
            per_frame=partial(_similarity, judge="facenet-vggface2"),
            needs=("fit",),
            judge="facenet-vggface2",
            is_unpaired=True,
        ),
    )
}
