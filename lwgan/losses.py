"""What a generator is trained to make small: pure functions of pictures, masks and verdicts.

Pictures are in [-1, 1], masks in [0, 1] with 1 = background. Two families: the terms of Liquid Warping GAN with
Attention (Liu et al. 2021, section 3.4) in the reference's exact forms, and plain ones of pixels that look where the
person is, for small budgets.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lwgan.discriminators import crop_boxes
from lwgan.loss_networks import FeatureNetwork

# Weights of five levels of features, shallow to deep; the same for perceptual and identity loss.
LEVEL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
VGG_SIDE = 224  # pixels at which the perceptual loss looks
FACE_SIZE = (112, 96)  # height and width of an identity network's face
_SSIM_C1, _SSIM_C2 = 0.02**2, 0.06**2  # (0.01 L)^2, (0.03 L)^2 with a range L of 2
_SSIM_WINDOW = 7


# ------------------------------------------------------------------------------------ adversarial


def least_squares(verdicts: Iterable[Tensor], wanted: float) -> Tensor:
    """Mean over the judges of the mean of ``(verdict - wanted)^2`` (Mao et al. 2017, without their factor 1/2).

    Args:
        verdicts: (N, 1, h, w) of each judge; every judge counts the same, whatever its size.
        wanted: for the discriminator 1 on real and -1 on drawn pictures, for the generator 0.

    Raises:
        ValueError: no judge gave a verdict.
    """
    terms = [(verdict - wanted).square().mean() for verdict in verdicts]
    if not terms:
        raise ValueError("No judge gave a verdict, so there is no adversarial loss.")
    return torch.stack(terms).mean()


# ------------------------------------------------------------------------------------- perceptual


def feature_distance(
    network: FeatureNetwork,
    drawn: Tensor,
    real: Tensor,
    weights: Sequence[float] = LEVEL_WEIGHTS,
) -> Tensor:
    """Weighted sum over levels of the mean absolute difference of features; no gradient into `real`."""
    with torch.no_grad():
        wanted = network(real)
    found = network(drawn)
    terms = [
        weight * (one - other).abs().mean()
        for weight, one, other in zip(weights, found, wanted, strict=True)
    ]
    return torch.stack(terms).sum()


def perceptual_loss(network: FeatureNetwork, drawn: Tensor, real: Tensor) -> Tensor:
    """The reference's perceptual term: whole pictures at 224 pixels, without ImageNet's mean and deviation.

    Args:
        network: VGG-19, relu1_1 to relu5_1.
        drawn, real: (N, 3, H, W) in [-1, 1].
    """
    return feature_distance(network, _resize(drawn, VGG_SIDE), _resize(real, VGG_SIDE))


def identity_loss(network: FeatureNetwork, drawn: Tensor, real: Tensor, boxes: Tensor) -> Tensor:
    """The reference's face term: features of a face recogniser on the head's box.

    Args:
        network: SphereFace-20a.
        drawn, real: (N, 3, H, W) in [-1, 1].
        boxes: (N, 4) int64 min_x, max_x, min_y, max_y; empty ones are left out.

    Returns:
        A scalar; 0 where no box holds anything.
    """
    found, wanted = (crop_boxes(pictures, boxes, FACE_SIZE) for pictures in (drawn, real))
    if found is None or wanted is None:
        return drawn.new_zeros(())
    return feature_distance(network, found, wanted)


def _resize(pictures: Tensor, side: int) -> Tensor:
    return F.interpolate(pictures, (side, side), mode="bilinear", align_corners=True)


# ------------------------------------------------------------------------------------------ masks


def mask_loss(drawn: Tensor, real: Tensor) -> Tensor:
    """Binary cross entropy of masks in [0, 1], mean over everything; logarithms end at -100 (as torch's BCELoss).

    In float32 whatever autocast says.
    """
    with torch.autocast(drawn.device.type, enabled=False):
        return F.binary_cross_entropy(drawn.float(), real.float())


def total_variation(masks: Tensor) -> Tensor:
    """Mean absolute difference of neighbours across, plus the same downwards."""
    across = (masks[..., :, 1:] - masks[..., :, :-1]).abs().mean()
    down = (masks[..., 1:, :] - masks[..., :-1, :]).abs().mean()
    return across + down


# ----------------------------------------------------------------------------------------- pixels


def mean_absolute(drawn: Tensor, real: Tensor) -> Tensor:
    """L1: the mean absolute difference."""
    return (drawn - real).abs().mean()


def person_weights(background_masks: Tensor, factor: float) -> Tensor:
    """How much each pixel counts: 1, and `factor` on the person; (N, 1, H, W), mean 1 in each picture.

    Without it nine tenths of the loss are the background, which the plate shows anyway.
    """
    weights = 1 + (factor - 1) * (1 - background_masks)
    return weights / weights.mean((-3, -2, -1), keepdim=True)


def weighted_absolute(drawn: Tensor, real: Tensor, weights: Tensor) -> Tensor:
    """L1 with `person_weights`."""
    return ((drawn - real).abs() * weights).mean()


def pooled_absolute(drawn: Tensor, real: Tensor, weights: Tensor, kernel: int = 4) -> Tensor:
    """L1 of means over squares: colours must be right where edges may be off by a pixel."""
    difference = F.avg_pool2d(drawn - real, kernel)
    return (difference.abs() * F.avg_pool2d(weights, kernel)).mean()


def gradient_difference(drawn: Tensor, real: Tensor, weights: Tensor) -> Tensor:
    """L1 of differences between neighbours: edges must be where they are, and as steep."""
    difference = drawn - real
    across = (difference[..., :, 1:] - difference[..., :, :-1]).abs() * weights[..., :, 1:]
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weights[..., 1:, :]
    return across.mean() + down.mean()


def detail_difference(drawn: Tensor, real: Tensor, weights: Tensor, window: int = 8) -> Tensor:
    """L1 of how much fine detail a neighbourhood has, wherever in it: the root mean square of the Laplacian.

    Losses of pixels prefer a soft picture where detail may be a pixel off; this one asks for the right amount of it.
    A term of our own, of no paper; computed in float32.

    Args:
        drawn, real: (N, C, H, W) in [-1, 1].
        weights: (N, 1, H, W), `person_weights`.
        window: side of a neighbourhood, pixels; the next one is half of it away. H and W are at least window + 2.
    """
    shown, wanted = (_detail(pictures.float(), window) for pictures in (drawn, real))
    within = weights[..., 1:-1, 1:-1]
    return ((shown - wanted).abs() * F.avg_pool2d(within, window, window // 2)).mean()


def _detail(pictures: Tensor, window: int) -> Tensor:
    across = pictures[..., 1:-1, 2:] + pictures[..., 1:-1, :-2]
    down = pictures[..., 2:, 1:-1] + pictures[..., :-2, 1:-1]
    laplacian = across + down - 4 * pictures[..., 1:-1, 1:-1]
    # Far below a grey level; without it the root's gradient is infinite where a picture is flat.
    return (F.avg_pool2d(laplacian.square(), window, window // 2) + 1e-6).sqrt()


def dissimilarity(drawn: Tensor, real: Tensor, weights: Tensor) -> Tensor:
    """1 - SSIM with a box window of 7 pixels (Wang et al. 2004), weighted; in float32."""
    drawn, real = drawn.float(), real.float()
    channels = drawn.shape[1]
    everything = torch.cat((drawn, real, drawn.square(), real.square(), drawn * real), dim=1)
    means = F.avg_pool2d(everything, _SSIM_WINDOW, stride=1)
    mean_a, mean_b, square_a, square_b, product = means.split(channels, dim=1)
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a.square() + square_b - mean_b.square()
    similarity = (2 * mean_a * mean_b + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    similarity = similarity / (
        (mean_a.square() + mean_b.square() + _SSIM_C1) * (variances + _SSIM_C2)
    )
    rim = _SSIM_WINDOW // 2
    return ((1 - similarity) * weights[..., rim:-rim, rim:-rim]).mean()
