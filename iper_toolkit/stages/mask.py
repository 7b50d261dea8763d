"""Stage `mask`: where the person is, from the dataset, from a file beside the clip, or from the body."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import read_image, resize, write_image
from iper_toolkit.keypoints import Keypoints
from iper_toolkit.masks import PackedMasks, read_masks, read_npz_header
from iper_toolkit.stages import ClipWork, SourceFacts, stage_folder, write_json
from iper_toolkit.stages.fit import FittedClip
from iper_toolkit.stages.front import SIZE, read_silhouettes, unpack
from iper_toolkit.stages.plausible import (
    check_error,
    check_keypoints,
    check_overlap,
    check_silhouettes,
)
from iper_toolkit.video import read_frames

_OVERLAY_SIDE = 512

# The body lacks hair and clothes: about 3.5 % of the crop around it belongs to the person, too.
_DILATION = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


def run(work: ClipWork) -> None:
    """Makes ``masks.npz`` (see `PackedMasks`), ``area.npy``, (T,) float32 shares of the crop, ``overlay.jpg``, a frame
    with its mask, and ``warnings.json``, a list of sentences about fit and masks."""
    facts, crop = work.source_facts(), work.crop()
    silhouettes = read_silhouettes(work.made("front", "front.npz"))
    warnings = _check_fit(work, silhouettes)
    if work.clip.masks is None:
        masks = _from_body(silhouettes)
    else:
        _check_file(work.clip.masks, facts, synthetic=work.info.synthetic)
        masks = _from_file(work.clip.masks, facts, crop)
    areas: list[float] = []
    against: list[tuple[float, float, float]] = []
    shown: dict[int, NDArray[np.uint8]] = {}

    def measured(masks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for index, mask in enumerate(masks):
            areas.append(cv2.mean(mask)[0] / 255)
            if index < len(silhouettes):
                overlap = _overlap(mask, unpack(silhouettes[index]))
                if work.clip.masks is not None and overlap is not None and areas[-1] > 0:
                    against.append((*overlap, areas[-1]))
                if not shown and areas[-1] > 0:
                    shown[index] = resize(mask, (_OVERLAY_SIDE, _OVERLAY_SIDE))
            yield mask

    PackedMasks.write(work.folder / "masks.npz", measured(masks), crop)
    if len(areas) != facts.num_frames:
        raise ValueError(
            f"{work.clip.masks} has {len(areas)} masks; the clip has {facts.num_frames} frames. "
            "Make one mask a frame, or remove the file to use the body's silhouette."
        )
    np.save(work.folder / "area.npy", np.array(areas, np.float32))
    if work.clip.masks is None:
        warnings.insert(0, _no_masks(work))
    else:
        overlaps, inverted, shares = zip(*against, strict=True) if against else ((), (), ())
        warnings += check_overlap(overlaps, inverted, shares, work.clip.masks)
    _write_overlay(work, crop, shown)
    prefix = f"{work.root}{os.sep}"
    write_json(work.folder / "warnings.json", [text.replace(prefix, "") for text in warnings])


def _check_fit(work: ClipWork, silhouettes: NDArray[np.uint8]) -> list[str]:
    clip, facts = work.clip, work.source_facts()
    fitted = FittedClip.read(work.made("fit", "fit.npz"))
    path = clip.fit or clip.keypoints or clip.source
    warnings = []
    if fitted.keypoints is not None and clip.fit is None:
        keypoints = Keypoints(fitted.keypoints)
        warnings += check_keypoints(fitted.keypoints, (facts.height, facts.width), path)
        warnings += check_error(fitted.error_pixels, keypoints.boxes(), path)
    heights = [_longest(unpack(silhouette)) for silhouette in silhouettes]
    return warnings + check_silhouettes(heights, work.crop(), SIZE, path)


def _longest(silhouette: NDArray[np.uint8]) -> int:
    """The longer side of the box around what is not black, pixels; 0 if all is."""
    _, _, width, height = cv2.boundingRect(silhouette)
    return max(width, height)


def _overlap(mask: NDArray[np.uint8], body: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Intersection over union of the mask, and of the mask turned inside out, with the body; None without a body."""
    height, width = body.shape
    person, inside = resize(mask, (height, width)) > 127, body > 0
    if not inside.any():
        return None
    turned = ~person
    return (
        float((person & inside).sum() / (person | inside).sum()),
        float((turned & inside).sum() / (turned | inside).sum()),
    )


def _no_masks(work: ClipWork) -> str:
    clip = work.clip
    name = clip.source.name if clip.kind == "frames" else clip.source.stem
    overlay = stage_folder(work.root, "mask", clip.clip_id) / "overlay.jpg"
    return (
        f"{clip.source} has no masks, so the fitted body, made a little wider, is taken for the person: hair and wide "
        f"clothes are cut off, and background shows around thin limbs. Look at {overlay}. Real masks "
        f"give better pictures: put them beside it as {name}_masks.npz (masks, (frames, height, width) uint8, 255 on "
        f"the person) or {name}_mask.mp4 (a grey video) and run iper prepare again."
    )


def _write_overlay(work: ClipWork, crop: SquareCrop, shown: dict[int, NDArray[np.uint8]]) -> None:
    """The first frame with a mask; what is not masked is shown darker, and the mask's rim in green."""
    index, mask = next(iter(shown.items()), (0, np.zeros((_OVERLAY_SIDE, _OVERLAY_SIDE), np.uint8)))
    if work.clip.kind == "video":
        frame = next(islice(read_frames(work.clip.source), index, None), None)
    else:
        files = work.clip.source_files()
        frame = read_image(files[index]) if index < len(files) else None
    if frame is None:
        raise ValueError(f"{work.clip.source} has no frame {index}; copy or download it again.")
    picture = resize(crop.cut(frame), (_OVERLAY_SIDE, _OVERLAY_SIDE))
    weight = (0.35 + 0.65 * mask.astype(np.float32) / 255)[..., None]
    picture = (picture * weight).astype(np.uint8)
    contours, _ = cv2.findContours(
        (mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, contours, -1, (0, 255, 0), 1)
    comment = "synthetic; mask over a frame" if work.info.synthetic else None
    write_image(work.folder / "overlay.jpg", picture, comment=comment)


def _from_body(silhouettes: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for silhouette in silhouettes:
        yield np.asarray(cv2.dilate(unpack(silhouette), _DILATION), np.uint8)


def _check_file(path: Path, facts: SourceFacts, *, synthetic: bool) -> None:
    if path.suffix.lower() != ".npz":
        return
    shape, marked = read_npz_header(path)
    if len(shape) != 3 or shape[0] != facts.num_frames:
        raise ValueError(
            f"{path}: masks is {shape}; the clip has {facts.num_frames} frames, so it must be "
            f"({facts.num_frames}, height, width)."
        )
    if marked and not synthetic:
        raise ValueError(
            f"{path} is marked as synthetic, but dataset.toml does not say so of the root. Keep "
            "synthetic and real clips in different roots."
        )


def _from_file(path: Path, facts: SourceFacts, crop: SquareCrop) -> Iterator[NDArray[np.uint8]]:
    for mask in read_masks(path, frame_size=(facts.height, facts.width)):
        height, width = mask.shape
        scale = height / facts.height
        if abs(width - facts.width * scale) > 1:
            raise ValueError(
                f"{path}: masks are {width} x {height}, frames {facts.width} x {facts.height}: "
                "another shape. Masks show the whole frame, at any scale."
            )
        yield _cut(mask, crop) if scale == 1 else _cut_scaled(mask, crop, scale)


def _cut(mask: NDArray[np.uint8], crop: SquareCrop) -> NDArray[np.uint8]:
    """Cut (H, W) of the frame's size. Pictures repeat their edge outside; nobody is there, though."""
    height, width = mask.shape
    left, top = max(crop.left, 0), max(crop.top, 0)
    right, bottom = min(crop.left + crop.side, width), min(crop.top + crop.side, height)
    cut = np.zeros((crop.side, crop.side), np.uint8)
    inside = (slice(top - crop.top, bottom - crop.top), slice(left - crop.left, right - crop.left))
    cut[inside] = mask[top:bottom, left:right]
    return cut


def _cut_scaled(mask: NDArray[np.uint8], crop: SquareCrop, scale: float) -> NDArray[np.uint8]:
    """Cut a mask that has `scale` times the frame's size, at that scale; nobody is outside."""
    side = max(1, round(crop.side * scale))
    zoom = crop.side * scale / side  # a hair off 1, so that the corners meet exactly
    matrix = np.array(
        [
            [zoom, 0, crop.left * scale + zoom / 2 - 0.5],
            [0, zoom, crop.top * scale + zoom / 2 - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(mask, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT),
        np.uint8,
    )
