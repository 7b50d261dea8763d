"""Smoothing along time: Butterworth low-pass on rotations and cameras, and keypoint filters.

The first axis is time in every function; the input is never changed.
"""

import numpy as np
import torch
from scipy import ndimage, signal
from torch import Tensor

from iper_toolkit import rotations

# iPERCore's filter design: order 5, cutoffs in the unit in which the sampling rate is 2208.
SAMPLING_RATE = 2208.0
ORDER = 5
POSE_CUTOFF = 300.0
CAMERA_CUTOFF = 100.0


def low_pass(values: np.ndarray, cutoff: float) -> np.ndarray:
    """Butterworth filter, run forward and backward so that nothing is delayed.

    Deviation: clips of fewer than 19 frames are filtered too, where the reference stops with an error
    at 11 to 18 frames and leaves shorter ones as they are. One frame stays as it is.

    Args:
        values: (T, ...) float.
        cutoff: 0 < cutoff < `SAMPLING_RATE` / 2, in the same unit.

    Returns:
        (T, ...) float64.
    """
    if not 0 < cutoff < SAMPLING_RATE / 2:
        raise ValueError(f"cutoff is {cutoff}; it must lie between 0 and {SAMPLING_RATE / 2:g}.")
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Values to smooth hold NaN or infinity; fill or drop those frames first.")
    if len(values) < 2:
        return values.copy()
    numerator, denominator = signal.butter(ORDER, cutoff / (SAMPLING_RATE / 2))
    padding = 3 * max(len(numerator), len(denominator))
    # SciPy's own padding, the clip turned about its end points, needs a clip that is longer than it;
    # numpy turns a short one over and over, and gives the same numbers for a long one.
    margins = ((padding, padding), *((0, 0),) * (values.ndim - 1))
    padded = np.pad(values, margins, mode="reflect", reflect_type="odd")
    smooth = signal.filtfilt(numerator, denominator, padded, axis=0, padlen=0)
    return smooth[padding:-padding].copy()


def smooth_poses(pose: Tensor, cutoff: float = POSE_CUTOFF) -> Tensor:
    """Low-pass of rotations in their 6-D form, where neither pi nor 2 pi is a jump.

    Args:
        pose: (T, 3 * K) axis-angle, radians.
        cutoff: see `low_pass`.

    Returns:
        (T, 3 * K), dtype and device of the input.
    """
    matrix = rotations.axis_angle_to_matrix(pose.double().unflatten(-1, (-1, 3)))
    filtered = low_pass(rotations.matrix_to_rotation_6d(matrix).cpu().numpy(), cutoff)
    smooth = rotations.rotation_6d_to_matrix(torch.from_numpy(filtered))
    return rotations.matrix_to_axis_angle(smooth).flatten(-2).to(pose)


def smooth_cameras(camera: Tensor, cutoff: float = CAMERA_CUTOFF) -> Tensor:
    """(T, 3) cameras -> the same, low-passed."""
    return torch.from_numpy(low_pass(camera.cpu().numpy(), cutoff)).to(camera)


def smooth_motion(
    params: Tensor, pose_cutoff: float = POSE_CUTOFF, camera_cutoff: float = CAMERA_CUTOFF
) -> Tensor:
    """Smooth cameras and poses of (T, 85) fits: camera 3, pose 72, shape 10. Shape passes."""
    return torch.cat(
        [
            smooth_cameras(params[:, :3], camera_cutoff),
            smooth_poses(params[:, 3:-10], pose_cutoff),
            params[:, -10:],
        ],
        dim=1,
    )


def revert_far_poses(refined: Tensor, initial: Tensor, threshold: float = 10.0) -> Tensor:
    """Take back a refinement that ran away.

    Args:
        refined, initial: (T, 3 * K) axis-angle.
        threshold: on the sum of absolute differences of all 6-D numbers of a frame.

    Returns:
        (T, 3 * K): `initial` where the threshold is exceeded, else `refined`.
    """
    six = [
        rotations.matrix_to_rotation_6d(
            rotations.axis_angle_to_matrix(pose.unflatten(-1, (-1, 3)))
        ).flatten(1)
        for pose in (refined, initial)
    ]
    far = (six[0] - six[1]).abs().sum(1) > threshold
    return torch.where(far[:, None], initial, refined)


def exponential_average(values: np.ndarray, memory: float = 0.7) -> np.ndarray:
    """First-order low-pass ``y_t = memory * y_{t-1} + (1 - memory) * x_t``, ``y_0 = x_0``."""
    smooth = np.array(values, dtype=np.float64)
    for frame in range(1, len(smooth)):
        smooth[frame] = memory * smooth[frame - 1] + (1 - memory) * smooth[frame]
    return smooth


def running_median(values: np.ndarray, window: int = 5) -> np.ndarray:
    """Median over `window` frames; the first and last frame are repeated at the ends."""
    values = np.asarray(values)
    return ndimage.median_filter(values, size=(window, *(1,) * (values.ndim - 1)), mode="nearest")


def repair_swapped_joints(keypoints: np.ndarray, window: int = 5) -> np.ndarray:
    """Undo joints that a detector exchanged for a few frames.

    Of each raw joint the nearest running median is found, and the raw joint of that median's name is put in its place.

    Args:
        keypoints: (T, J, 3) x, y, confidence.
        window: frames of the median.

    Returns:
        (T, J, 3).
    """
    expected = running_median(keypoints, window)[..., :2]
    distance = np.linalg.norm(keypoints[:, :, None, :2] - expected[:, None], axis=-1)
    nearest = distance.argmin(-1)  # (T, J): of each raw joint, the filtered one
    return np.take_along_axis(keypoints, nearest[..., None], axis=1)


def fill_unseen_joints(keypoints: np.ndarray) -> np.ndarray:
    """Draw a straight line in time through joints of zero confidence.

    The two nearest seen frames define the line, before the first and after the last one too. A joint
    that is seen once stays there; one that is never seen stays as it is.

    Args:
        keypoints: (T, J, 3) x, y, confidence. All three are filled.

    Returns:
        (T, J, 3) float64.
    """
    filled = np.array(keypoints, dtype=np.float64)
    for joint in range(filled.shape[1]):
        track = filled[:, joint]
        seen = np.flatnonzero(keypoints[:, joint, 2] > 0)
        if len(seen) == 0:
            continue
        if len(seen) == 1:
            track[:] = track[seen[0]]
            continue
        for frame in np.flatnonzero(keypoints[:, joint, 2] <= 0):
            after = int(np.clip(np.searchsorted(seen, frame), 1, len(seen) - 1))
            first, second = seen[after - 1], seen[after]
            step = (frame - first) / (second - first)
            track[frame] = track[first] + step * (track[second] - track[first])
    return filled


def one_euro(
    values: np.ndarray,
    frequency: float = 15.0,
    minimum_cutoff: float = 1.0,
    speed_weight: float = 0.05,
    derivative_cutoff: float = 1.0,
) -> np.ndarray:
    """One-euro filter (Casiez 2012): slow motion is smoothed more than fast motion.

    Args:
        values: (T, ...) float.
        frequency: frames per second.
        minimum_cutoff, derivative_cutoff: Hz.
        speed_weight: how much the cutoff grows with the speed.

    Returns:
        (T, ...) float64.
    """

    def memory(cutoff: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + frequency / (2 * np.pi * cutoff))

    raw = np.asarray(values, dtype=np.float64)
    smooth = raw.copy()
    speed = np.zeros_like(raw[:1]).reshape(raw.shape[1:])
    for frame in range(1, len(raw)):
        # As the reference has it, the speed comes from the raw sample before.
        newest = (raw[frame] - raw[frame - 1]) * frequency
        weight = memory(derivative_cutoff)
        speed = weight * newest + (1 - weight) * speed
        weight = memory(minimum_cutoff + speed_weight * np.abs(speed))
        smooth[frame] = weight * raw[frame] + (1 - weight) * smooth[frame - 1]
    return smooth
