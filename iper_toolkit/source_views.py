"""Which frames of a clip show a person well: seen whole, upright, with a free face, from the front and from behind.

`rank_frames` counts visible front faces alone, as the reference does. That takes a frame with a ball before the
face for the most frontal one, and a crouch for a view from behind. Here each frame is given a cost:

- how far the chest, and for a front view the head, turn away from the wanted side;
- how far torso and legs are from upright, so that a person who sits or bows is taken last;
- how much of the person's mask lies outside the fitted body, and of the body outside the mask, beyond what the clip
  shows most of the time: something that is held, worn for a moment, or stands in front. At the head it counts most;
- of the best ones, what their pictures show: colours on the body that it has in no other frame, as of a thing held in
  front, and what is beside the head and neither person nor background;
- how unsure the keypoints of face, hands and feet are;
- whether the person is cut by the picture's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.clip import Clip
from iper_toolkit.rotations import axis_angle_to_matrix

Floats = NDArray[np.float64]

MOST_FRAMES = 240
"""Frames of a long clip that are looked at, evenly spread: neighbours show the same."""

_CANDIDATES = 24  # of each side, whose pictures are looked at
_PICTURE_SIDE = 128  # pixels at which they are
_BINS = 12  # of each of two colour axes
_DIFFERENT = 40  # grey levels of any channel between a picture and the background
_ALIKE_DEGREES, _LEAST_ALIKE = 30, 5  # views that are compared, and how many it takes
_SIDE = 256  # pixels of the masks and silhouettes that are compared
_SPINE, _NECK_AND_HEAD = (3, 6, 9), (12, 15)
_LEGS = ((1, 4), (2, 5))  # hip, knee
_FACE, _LIMBS = (0, 15, 16), (4, 7, 11, 14)  # BODY_25: nose and eyes; wrists and ankles
# Shares of the person's height: of the head, and how far something beside it still hides it.
_HEAD, _BESIDE_HEAD = 0.16, 0.06
# Of each cost; 1 of turning is a quarter turn away from the wanted side.
_TURNED, _HEAD_TURNED, _BENT, _FOREIGN, _AT_HEAD, _UNSURE, _CUT = 2.0, 1.0, 4.0, 1.5, 1.5, 1.0, 1.0
_HIDDEN = 10.0
# Frames this close in time show the same; another source should show something else.
_APART_SHARE = 1 / 20


@dataclass(frozen=True, eq=False)
class SourceViews:
    """What is known of N frames of a clip as sources; costs are 0 at best."""

    frames: NDArray[np.int64]  # (N,) rising
    facing: Floats  # (N,) cosine between the chest's direction and the way to the camera: 1 front, -1 back
    head_facing: Floats  # (N,) the same of the head
    cost: Floats  # (N,) of everything but the direction

    def ranked(self, side: int) -> tuple[list[int], list[float]]:
        """Frames and their costs, best first, as views from the front (1) or from behind (-1)."""
        turned = (1 - side * self.facing) * _TURNED
        if side > 0:  # a head that looks over the shoulder is no worse a back
            turned = turned + (1 - self.head_facing) * _HEAD_TURNED
        total = turned + self.cost
        order = np.argsort(total, kind="stable")
        return self.frames[order].tolist(), total[order].tolist()


def source_views(clip: Clip) -> SourceViews:
    """Look at a clip's valid frames, at most `MOST_FRAMES` of them.

    Raises:
        ValueError: no frame has a valid fit.
    """
    valid = np.flatnonzero(clip.valid)
    if len(valid) == 0:
        raise ValueError(f"Clip {clip.id} has no frame with a valid fit, so it has no sources.")
    count = min(len(valid), MOST_FRAMES)
    frames = valid[np.linspace(0, len(valid) - 1, count).round().astype(int)]
    pose = clip.params(frames.tolist()).pose.double().reshape(count, 24, 3)
    chest, head, upright = _posture(axis_angle_to_matrix(pose))
    keypoints = clip.keypoints[frames, :, 2].astype(np.float64)
    masks = clip.masks(frames.tolist(), _SIDE)
    cost = _BENT * (1 - upright) + _UNSURE * _unsure(keypoints) + _CUT * _cut(masks)
    if clip.mask_source != "body":  # a mask made of the body agrees with it whatever is there
        body = clip.silhouettes(frames.tolist(), _SIDE) > 127
        foreign, at_head = _foreign(masks, body)
        cost = cost + _FOREIGN * foreign + _AT_HEAD * at_head
    return SourceViews(frames, chest, head, cost)


def choose_sources(clip: Clip, num_sources: int) -> list[int]:
    """Source frames of a person: half from the front, half from behind or the nearest to it; the first is the primary.

    An odd number takes one more from the front. Frames of one side are apart in time where the clip has enough.

    Raises:
        ValueError: the clip has fewer valid frames than `num_sources`.
    """
    if num_sources < 1:
        raise ValueError(f"num_sources is {num_sources}; at least one is needed.")
    views = source_views(clip)
    if num_sources > len(views.frames):
        raise ValueError(
            f"{num_sources} sources are wanted of clip {clip.id}, which has {len(views.frames)} frames to choose from."
        )
    apart = int(len(views.frames) * _APART_SHARE)
    from_back = num_sources // 2
    front = _spread(_unhidden(clip, views, 1), num_sources - from_back, apart, ())
    if not from_back:
        return front
    return [*front, *_spread(_unhidden(clip, views, -1), from_back, apart, front)]


def _unhidden(clip: Clip, views: SourceViews, side: int) -> list[int]:
    """Frames of one side, best first; what their pictures show counts, too, for the best of them."""
    ranked, costs = views.ranked(side)
    best = sorted(ranked[:_CANDIDATES])
    hidden = dict(
        zip(
            best,
            _HIDDEN * _hidden(clip, best, views.facing[np.isin(views.frames, best)]),
            strict=True,
        )
    )
    cost = dict(zip(ranked, costs, strict=True))
    return [*sorted(best, key=lambda frame: cost[frame] + hidden[frame]), *ranked[_CANDIDATES:]]


def _hidden(clip: Clip, frames: Sequence[int], facing: Floats) -> Floats:
    """(N,) for rising `frames`: share of the body in unusual colours, and of the head's area that is foreign beside it."""
    side = _PICTURE_SIDE
    pictures = clip.frames(frames, side)
    body = clip.silhouettes(frames, side) > 127
    person = (clip.masks(frames, side) > 127) | body
    plate = clip.background(side).astype(np.int16)
    colours, beside = np.zeros((len(frames), _BINS * _BINS)), np.zeros(len(frames))
    for index, (picture, shape, mask) in enumerate(zip(pictures, body, person, strict=True)):
        if not shape.any():
            continue
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[..., 1:].astype(np.int64)
        bins = ((lab - 64).clip(0, 127) * _BINS // 128) @ np.array([_BINS, 1])
        colours[index] = np.bincount(bins[shape], minlength=_BINS * _BINS) / shape.sum()
        differs = np.abs(picture - plate).max(-1) > _DIFFERENT
        covered = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
        zone = _head_zone(shape)
        beside[index] = (differs & ~covered)[zone].sum() / max(1, shape[zone].sum())
    unusual = np.zeros(len(frames))
    angle = np.degrees(np.arccos(facing.clip(-1, 1)))
    for index in range(len(frames)):
        # A back has other colours than a front: only views like this one tell what is usual.
        alike = colours[np.abs(angle - angle[index]) < _ALIKE_DEGREES]
        if len(alike) >= _LEAST_ALIKE:
            usual = 1.5 * np.median(alike, axis=0) + 0.005
            unusual[index] = (colours[index] - usual).clip(0).sum()
    return unusual + np.maximum(beside - np.median(beside), 0) / 2


def _head_zone(body: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the head of a silhouette that is not empty, and a little beside it."""
    rows = np.flatnonzero(body.any(1))
    height = rows[-1] - rows[0] + 1
    head, beside = max(1, round(height * _HEAD)), round(height * _BESIDE_HEAD)
    columns = np.flatnonzero(body[rows[0] : rows[0] + head].any(0))
    return (
        slice(max(0, rows[0] - beside), rows[0] + head),
        slice(max(0, columns[0] - beside), columns[-1] + 1 + beside),
    )


def _spread(ranked: Sequence[int], count: int, apart: int, taken: Sequence[int]) -> list[int]:
    """The first `count` that are no neighbours; neighbours, too, where there are no others."""
    chosen: list[int] = []
    for least in (max(1, apart), 1):
        for frame in ranked:
            others = [*taken, *chosen]
            if len(chosen) < count and all(abs(frame - other) >= least for other in others):
                chosen.append(frame)
    return chosen


def _posture(rotations: torch.Tensor) -> tuple[Floats, Floats, Floats]:
    """(N, 24, 3, 3) -> (N,) facing of the chest and of the head, and how upright torso and legs are, 1 at most.

    The fit's frame has y down and z away from the camera, the body's own y up and z to its front.
    """
    root = rotations[:, 0]
    chest = root
    for joint in _SPINE:
        chest = chest @ rotations[:, joint]
    head = chest
    for joint in _NECK_AND_HEAD:
        head = head @ rotations[:, joint]
    bones = [-chest[:, 1, 1]]
    for hip, knee in _LEGS:
        thigh = root @ rotations[:, hip]
        bones += [-thigh[:, 1, 1], -(thigh @ rotations[:, knee])[:, 1, 1]]
    upright = torch.stack(bones).mean(0)
    facing, looking = (_level(-one[:, :, 2]) for one in (chest, head))
    return facing.numpy(), looking.numpy(), upright.numpy()


def _level(direction: torch.Tensor) -> torch.Tensor:
    """(N, 3) towards the body's front -> (N,) cosine to the camera, seen from above: a nod is no turn."""
    return direction[:, 2] / direction[:, [0, 2]].norm(dim=1).clamp_min(1e-6)


def _unsure(confidence: Floats) -> Floats:
    """(N, 25) -> (N,) in 0 .. 1. Fits that came without keypoints are equally sure."""
    known = np.nan_to_num(confidence, nan=1.0).clip(0, 1)
    return np.asarray(1 - known[:, [*_FACE, *_LIMBS]].mean(1), np.float64)


def _cut(masks: NDArray[np.uint8]) -> Floats:
    """(N,) 1 where the person reaches the square's edge."""
    person = masks > 127
    rows = person[:, 0].any(1) | person[:, -1].any(1)
    edges = rows | person[:, :, 0].any(1) | person[:, :, -1].any(1)
    return np.asarray(edges, np.float64)


def _foreign(masks: NDArray[np.uint8], body: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(N,) disagreement of mask and body over the body's area, whole and at the head, beyond the clip's usual one.

    Soft masks count as they are: segmentation is in doubt about what is held, and marks it half.
    """
    whole, at_head = np.zeros(len(masks)), np.zeros(len(masks))
    for index, (mask, shape) in enumerate(zip(masks, body, strict=True)):
        rows = np.flatnonzero(shape.any(1))
        if len(rows) == 0:
            continue
        height = rows[-1] - rows[0] + 1
        margin = max(1, round(height / 60))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
        grown = cv2.dilate(shape.view(np.uint8), kernel) > 0
        shrunk = cv2.erode(shape.view(np.uint8), kernel) > 0
        share = mask / np.float32(255)
        wrong = np.where(grown, np.where(shrunk, 1 - share, 0), share)
        whole[index] = wrong.sum() / shape.sum()
        zone = _head_zone(shape)
        at_head[index] = wrong[zone].sum() / max(1, shape[zone].sum())
    return np.maximum(whole - np.median(whole), 0), np.maximum(at_head - np.median(at_head), 0)
