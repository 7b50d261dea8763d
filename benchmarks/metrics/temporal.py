"""How pictures go on from one to the next: warping error, flicker, tLPIPS, and the features of FVD."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.metrics.arrays import Frames, Masks, Scores
from benchmarks.metrics.pixel import PERSON_THRESHOLD

Flow = NDArray[np.float32]  # (N, H, W, 2) x, y in pixels
# Sundaram et al. 2010, equation 5, as Lai et al. 2018 take it.
_RELATIVE, _ABSOLUTE = 0.01, 0.5
VIDEO_SIDE = 224  # pixels that I3D takes


def tlpips(generated: Scores, truth: Scores) -> Scores:
    """``|d(p_t, p_t-1) - d(g_t, g_t-1)|`` of LPIPS distances (Chu et al. 2020): (N,) twice -> (N,)."""
    return np.abs(np.asarray(generated, np.float64) - np.asarray(truth, np.float64))


def flicker(
    generated: Frames, generated_before: Frames, truth: Frames, truth_before: Frames
) -> Scores:
    """Mean absolute difference of the changes from frame to frame, as a share of the range.

    Args:
        generated, generated_before, truth, truth_before: (N, H, W, 3) uint8.

    Returns:
        (N,) float64 in [0, 2]; 0 where the pictures change just as the truth does.
    """
    found = [
        np.abs((one.astype(np.int16) - before) - (two.astype(np.int16) - two_before)).mean()
        for one, before, two, two_before in zip(
            generated, generated_before, truth, truth_before, strict=True
        )
    ]
    return np.array(found, np.float64) / 255


def reference_flow(before: Frames, frames: Frames) -> tuple[Flow, NDArray[np.bool_]]:
    """Where each pixel of the true frames was in the frames before, and where that can be told.

    Dense inverse search (Kroeger et al. 2016, OpenCV's preset MEDIUM) both ways; a pixel is hidden where the ways do
    not lead back (``|wf + wb|^2 > .01 (|wf|^2 + |wb|^2) + .5``; Sundaram et al. 2010), or from outside the picture.

    Args:
        before, frames: (N, H, W, 3) uint8.

    Returns:
        (N, H, W, 2) float32 flow from each frame to the one before, and (N, H, W) bool, visible.
    """
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = np.empty((*frames.shape[:3], 2), np.float32)
    visible = np.empty(frames.shape[:3], bool)
    for k in range(len(frames)):
        old, new = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (before[k], frames[k]))
        back = search.calc(new, old, None)
        forth = search.calc(old, new, None)
        places = _places(back)
        there = cv2.remap(forth, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
        apart = ((back + there) ** 2).sum(-1)
        allowed = _RELATIVE * ((back**2).sum(-1) + (there**2).sum(-1)) + _ABSOLUTE
        flows[k], visible[k] = back, (apart <= allowed) & _inside(places)
    return flows, visible


def warping_error(
    generated: Frames,
    before: Frames,
    flow: Flow,
    visible: NDArray[np.bool_],
    mask: Masks | None = None,
) -> Scores:
    """Mean squared difference between pictures and those before, carried along by the truth's flow (Lai et al. 2018).

    Args:
        generated, before: (N, H, W, 3) uint8.
        flow, visible: of the true frames, see `reference_flow`.
        mask: (N, H, W) uint8 of the true person: only pixels on it count.

    Returns:
        (N,) float64 in [0, 1]; NaN where no pixel counts.
    """
    found = np.full(len(generated), np.nan)
    for k in range(len(generated)):
        counts = visible[k] if mask is None else visible[k] & (mask[k] >= PERSON_THRESHOLD)
        if not counts.any():
            continue
        places = _places(flow[k])
        carried = cv2.remap(
            before[k].astype(np.float32), places[..., 0], places[..., 1], cv2.INTER_LINEAR
        )
        apart = (generated[k].astype(np.float64) - carried)[counts] / 255
        found[k] = (apart**2).mean()
    return found


def _places(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 2) where each pixel's flow leads."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return flow + np.stack([columns, rows], axis=-1)


def _inside(places: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = places.shape[:2]
    inside = (places >= 0) & (places <= [width - 1, height - 1])
    return np.asarray(inside.all(-1), bool)


def video_features(network: nn.Module, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of short videos by the user's I3D network, for the FVD (Unterthiner et al. 2018).

    The network is a TorchScript file as StyleGAN-V shares it: called with ``rescale=False, resize=False,
    return_features=True`` on (N, 3, T, 224, 224) in [-1, 1]. Frames are resized bilinearly, without antialiasing.

    Args:
        windows: (N, T, H, W, 3) uint8.

    Returns:
        (N, d) float32.
    """
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    found = []
    with torch.no_grad():
        for window in windows:
            frames = torch.from_numpy(window).to(device).permute(0, 3, 1, 2).float()
            size = (VIDEO_SIDE, VIDEO_SIDE)
            resized = functional.interpolate(frames, size, mode="bilinear", align_corners=False)
            video = (resized / 127.5 - 1).transpose(0, 1)[None]
            found.append(network(video, rescale=False, resize=False, return_features=True))
    return torch.cat(found).float().cpu().numpy()
