"""Inception Score: how sure and how varied a classifier finds a set of pictures.

It never looks at the truth, and its classes are those of ImageNet: it says little of pictures of people.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, log_softmax, softmax


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (ddof 0) over the splits."""

    mean: float  # from 1 to the number of classes; higher is taken for better
    std: float
    splits: int
    n: int  # pictures in all


def inception_score(logits: NDArray[np.floating], splits: int = 10) -> InceptionScore:
    """``exp(mean KL(p(y|x) || p(y)))`` of each split (Salimans et al. 2016).

    Splits are stretches of the given order, as even as can be. Pictures that come clip by clip put few people into
    each, which lowers the score: shuffle them with a seed of your own where it should compare with published ones.

    Args:
        logits: (N, K) float, N >= splits. Published scores take the 1008 of the 2015 network, without its bias.
        splits: how many; published scores take 10.

    Raises:
        TypeError, ValueError: a wrong dtype or shape, values that are not finite, fewer pictures than splits.
    """
    _check(logits, "logits", splits)
    values = logits.astype(np.float64)
    # sum p log p without a logarithm of 0: p may underflow, its logarithm does not.
    probabilities, logarithms = softmax(values, axis=1), log_softmax(values, axis=1)
    return _score(probabilities, -(probabilities * logarithms).sum(axis=1), splits)


def inception_score_of_probabilities(
    probabilities: NDArray[np.floating], splits: int = 10
) -> InceptionScore:
    """`inception_score` of (N, K) float probabilities, each row summing to 1; zeros are allowed."""
    _check(probabilities, "probabilities", splits)
    values = probabilities.astype(np.float64)
    if (values < 0).any() or not np.allclose(values.sum(axis=1), 1, atol=1e-4):
        raise ValueError(
            "probabilities must be at least 0 and sum to 1 in each row; give logits to inception_score."
        )
    return _score(values, entr(values).sum(axis=1), splits)


def inception_score_official(features: NDArray[np.floating]) -> float:
    """The "is" of the official evaluation package of iPER (Liu et al. 2021): no Inception Score.

    The same formula with the 2048 pooled features in place of the logits, all pictures in one split.

    Args:
        features: (N, 2048) float, of the official form of the network.
    """
    return inception_score(features, splits=1).mean


def _score(
    probabilities: NDArray[np.float64], entropies: NDArray[np.float64], splits: int
) -> InceptionScore:
    """KL to the marginal, averaged: the entropy of the marginal less the mean entropy."""
    n = len(probabilities)
    scores = []
    for i in range(splits):
        rows = slice(i * n // splits, (i + 1) * n // splits)
        marginal = probabilities[rows].mean(axis=0)
        scores.append(np.exp(entr(marginal).sum() - entropies[rows].mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits, n)


def _check(values: NDArray, title: str, splits: int) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise TypeError(f"{title} is {found}; it takes a numpy array of floats.")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"{title} is {values.shape}; it must be (N, K).")
    if splits < 1 or len(values) < splits:
        raise ValueError(
            f"{len(values)} pictures cannot make {splits} splits; give at least one picture a split."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{title} holds values that are not finite.")
