"""Stage `proxy`: the one pass over the pixels - small video, background, and whether all frames are there."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.background import background_plate, grow
from iper_toolkit.clip import cut_and_resize
from iper_toolkit.images import read_image, write_image
from iper_toolkit.masks import PackedMasks
from iper_toolkit.stages import ClipWork, SourceFacts, write_json
from iper_toolkit.video import BrokenVideo, read_frames, write_video

NUM_SAMPLES = 24
"""Frames that the background is taken from, evenly spread."""

MAX_PLATE_SIDE = 1024
"""The background is stored at the crop's side, but not larger; pixels."""


_MARGIN_SIDE = 512  # at which masks are grown: a margin needs no finer


def run(work: ClipWork) -> None:
    """Makes ``proxy.mp4`` (H.264, keyframe every 10), ``background.png`` and ``proxy.json``."""
    facts, crop = work.source_facts(), work.crop()
    masks = PackedMasks.read(work.made("mask", "masks.npz"))
    size = max(2, min(work.options.size, crop.side) // 2 * 2)  # H.264 takes even sides
    plate_side = min(MAX_PLATE_SIDE, crop.side)
    count = min(NUM_SAMPLES, facts.num_frames)
    sampled = set(np.linspace(0, facts.num_frames - 1, count).round().astype(int).tolist())
    images: list[NDArray[np.uint8]] = []
    people: list[NDArray[np.bool_]] = []

    def shrunk() -> Iterator[NDArray[np.uint8]]:
        for index, frame in enumerate(_checked_frames(work, facts)):
            small = cut_and_resize(frame, crop, size)
            if index in sampled:
                images.append(
                    small if plate_side == size else cut_and_resize(frame, crop, plate_side)
                )
                mask = masks.at([index], min(plate_side, _MARGIN_SIDE))[0]
                # Beyond the frame the picture is mirrored, and a person at its edge with it.
                mask = crop.mirrored_outside(mask, (facts.height, facts.width))
                people.append(_enlarged(grow(mask), plate_side))
            yield small

    metadata = {"comment": "synthetic; working copy"} if work.info.synthetic else {}
    written = write_video(work.folder / "proxy.mp4", shrunk(), facts.fps, metadata=metadata)
    if written != facts.num_frames:
        raise BrokenVideo(
            f"{work.clip.source} gave {written} frames, but its container promises "
            f"{facts.num_frames}: it is cut short or damaged; copy or download it again."
        )
    try:
        plate = background_plate(images, people)
    except ValueError as error:
        raise ValueError(f"{work.clip.source}: {error}") from None
    write_image(work.folder / "background.png", plate)
    write_json(work.folder / "proxy.json", {"size": size, "num_frames": written})


def _enlarged(person: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    nearest = cv2.resize(person.view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    return nearest.astype(np.bool_)


def _checked_frames(work: ClipWork, facts: SourceFacts) -> Iterator[NDArray[np.uint8]]:
    """Every frame of the source; one of another size than the first is an error."""
    clip = work.clip
    if clip.kind == "video":
        frames = read_frames(clip.source)
    else:
        frames = (read_image(path) for path in clip.source_files())
    for index, frame in enumerate(frames):
        if frame.shape[:2] != (facts.height, facts.width):
            height, width = frame.shape[:2]
            raise ValueError(
                f"{clip.source}: frame {index} is {width} x {height}, the first is "
                f"{facts.width} x {facts.height}. All frames of a clip have one size."
            )
        yield frame
