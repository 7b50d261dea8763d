"""Pictures of a prepared clip for people: a contact sheet, and the fitted body over the video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.atomic import write_atomically
from iper_toolkit.body.model import SMPL_PREFIX, Body, load_body
from iper_toolkit.camera import project
from iper_toolkit.clip import Clip
from iper_toolkit.images import write_image
from iper_toolkit.raster import rasterize
from iper_toolkit.raster.shading import draw_overlay, part_colours, shade
from iper_toolkit.threads import one_thread
from iper_toolkit.video import write_video

NUM_SAMPLES = 6
_BATCH = 4  # the pictures of a batch and their normals should fit the caches


def write_preview(
    clip: Clip, folder: Path, size: int = 512, body: str | None = None
) -> tuple[Path, Path]:
    """Write ``contact_sheet.jpg`` and ``overlay.mp4`` of one clip.

    The sheet's rows: sampled frames; the body over them; the masked person; then the three most
    frontal frames, the two least frontal ones, and the background.

    Args:
        clip: a prepared clip.
        folder: where to write.
        size: pixels of a side, of the video; the sheet's tiles are half as large.
        body: path of the SMPL file, if the fits are SMPL's.
    """
    model = _body_of(clip, body)
    sheet, overlay = folder / "contact_sheet.jpg", folder / "overlay.mp4"
    even = size // 2 * 2

    def write(part: Path) -> None:
        frames = overlay_frames(clip, model, range(clip.num_frames), even)
        write_video(part, frames, clip.fps, crf=18)

    with one_thread():  # pictures this small cost more to share out than to draw
        write_image(sheet, contact_sheet(clip, model, size // 2), quality=90)
        write_atomically(overlay, write)
    return sheet, overlay


def contact_sheet(clip: Clip, body: Body, tile: int) -> NDArray[np.uint8]:
    """(4 tile, 6 tile, 3) uint8 RGB; see `write_preview`."""
    sampled = np.linspace(0, clip.num_frames - 1, NUM_SAMPLES).round().astype(int).tolist()
    frames = clip.frames(sampled, tile)
    masks = clip.masks(sampled, tile)[..., None].astype(np.float32) / 255
    people = (frames * masks + 96 * (1 - masks)).round().astype(np.uint8)
    overlays = list(overlay_frames(clip, body, sampled, tile))
    chosen = [*_fill(clip.front_frames, 3), *_fill(clip.back_frames, 2)]
    ranked = [*clip.frames(chosen, tile), clip.background(tile)]
    rows = (list(frames), overlays, list(people), ranked)
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def overlay_frames(
    clip: Clip, body: Body, indices: range | list[int], size: int
) -> Iterator[NDArray[np.uint8]]:
    """(size, size, 3) uint8 RGB frames with the fitted body, coloured by parts, laid over them."""
    colours = None if body.surface is None else part_colours(body.surface.part)
    ordered = list(indices)
    for first in range(0, len(ordered), _BATCH):
        batch = ordered[first : first + _BATCH]
        params = clip.params(batch)
        vertices = body.pose(params).vertices
        fragments = rasterize(project(vertices, params.camera), body.faces, size)
        shaded = shade(fragments, vertices, body.faces, face_colours=colours)
        yield from draw_overlay(clip.frames(batch, size), fragments, shaded, opacity=0.65)


def _body_of(clip: Clip, name: str | None) -> Body:
    if name is None and clip.body_id.startswith(SMPL_PREFIX):
        raise ValueError(
            f"The fits of {clip.id} belong to {clip.body_id}: pass --body PATH/TO/SMPL_NEUTRAL.pkl"
        )
    return load_body(name or clip.body_id)


def _fill(frames: tuple[int, ...], count: int) -> list[int]:
    """`count` frames, the last one repeated if there are fewer."""
    return [frames[min(place, len(frames) - 1)] for place in range(count)]
