"""Cards of the body: whether the person stands as they should, from poses that somebody found in the pictures.

No pose estimator comes with the package: run yours on the pictures, put what it found beside them
(`lwgan-bench score --pictures`), and these are scored.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.metrics import body
from benchmarks.metrics.arrays import Scores
from benchmarks.metrics.card import Metric
from benchmarks.metrics.pictures import Estimates, Pair

_Scorer = Callable[[Estimates], Scores]


def _of_estimates(score: _Scorer) -> Callable[[Pair], Scores]:
    def of_pair(pair: Pair) -> Scores:
        if pair.estimates is None:
            raise ValueError("Nobody estimated poses in these pictures: give Pair its estimates.")
        return score(pair.estimates)

    return of_pair


def _joints(metric: Callable[[np.ndarray, np.ndarray], Scores]) -> _Scorer:
    def score(estimates: Estimates) -> Scores:
        assert estimates.joints is not None  # made of fits, which the card needs
        return metric(*estimates.joints)

    return score


def _angles(estimates: Estimates) -> Scores:
    assert estimates.params is not None
    found, wanted = estimates.params
    return body.joint_angle_error(found[:, 3:75], wanted[:, 3:75])


def _distance(estimates: Estimates) -> Scores:
    assert estimates.keypoints is not None
    return body.average_keypoint_distance(*estimates.keypoints)


def _missing(estimates: Estimates) -> Scores:
    assert estimates.keypoints is not None
    return body.missing_keypoint_rate(*estimates.keypoints)


def _card(
    name: str,
    title: str,
    definition: str,
    unit: str,
    paper: str,
    need: str,
    failure_value: float,
    score: _Scorer,
) -> Metric:
    return Metric(
        name=name,
        version=1,
        title=title,
        definition=definition,
        better="lower",
        unit=unit,
        region="body",
        paper=paper,
        group="body",
        failure_value=failure_value,
        per_frame=_of_estimates(score),
        needs=(need,),
    )


BODY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _card(
            "mpjpe",
            "MPJPE",
            "Mean distance of the 24 joints of the fit to the picture from those of the true fit, roots laid on each other.",
            "mm",
            "Ionescu et al. 2014",
            "estimated_fit",
            1000.0,
            _joints(body.mpjpe),
        ),
        _card(
            "pa_mpjpe",
            "PA-MPJPE",
            "mpjpe after the best similarity transform (Procrustes).",
            "mm",
            "Kanazawa et al. 2018",
            "estimated_fit",
            1000.0,
            _joints(body.pa_mpjpe),
        ),
        _card(
            "joint_angle",
            "Joint angle",
            "Mean angle between the rotations of the 23 joints below the root, in both fits.",
            "degrees",
            "-",
            "estimated_fit",
            180.0,
            _angles,
        ),
        _card(
            "akd",
            "AKD",
            "Mean distance of keypoints that are found in both pictures.",
            "px",
            "Siarohin et al. 2019",
            "keypoints",
            1000.0,
            _distance,
        ),
        _card(
            "mkr",
            "MKR",
            "Share of the keypoints found in the true picture that are missing in the generated one.",
            "share",
            "Siarohin et al. 2021",
            "keypoints",
            1.0,
            _missing,
        ),
    )
}
