"""Stage `mask`: where the person is, from the dataset, from a file beside the clip, or from the body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.crop import SquareCrop
from iper_toolkit.masks import PackedMasks, read_masks, read_npz_header
from iper_toolkit.stages import ClipWork, SourceFacts
from iper_toolkit.stages.front import read_silhouettes, unpack

# The body lacks hair and clothes: about 3.5 % of the crop around it belongs to the person, too.
_DILATION = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


def run(work: ClipWork) -> None:
    """Makes ``masks.npz`` (see `PackedMasks`) and ``area.npy``, (T,) float32 shares of the crop."""
    facts, crop = work.source_facts(), work.crop()
    if work.clip.masks is None:
        masks = _from_body(work.made("front", "front.npz"))
    else:
        _check_file(work.clip.masks, facts, synthetic=work.info.synthetic)
        masks = _from_file(work.clip.masks, facts, crop)
    areas: list[float] = []

    def measured(masks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for mask in masks:
            areas.append(cv2.mean(mask)[0] / 255)
            yield mask

    PackedMasks.write(work.folder / "masks.npz", measured(masks), crop)
    if len(areas) != facts.num_frames:
        raise ValueError(
            f"{work.clip.masks} has {len(areas)} masks; the clip has {facts.num_frames} frames. "
            "Make one mask a frame, or remove the file to use the body's silhouette."
        )
    np.save(work.folder / "area.npy", np.array(areas, np.float32))


def _from_body(front: Path) -> Iterator[NDArray[np.uint8]]:
    for silhouette in read_silhouettes(front):
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
    for mask in read_masks(path):
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
