"""Stage `rows`: the clip's lines of the tables, from what the other stages made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from iper_toolkit.manifest import frames_table, write_table
from iper_toolkit.naming import printable
from iper_toolkit.sources import rank_frames
from iper_toolkit.stages import ClipWork, read_json, write_json
from iper_toolkit.stages.fit import FittedClip


def run(work: ClipWork) -> None:
    """Makes ``clip.json``, a row of the clips table, and ``frames.parquet``."""
    clip, facts, crop = work.clip, work.source_facts(), work.crop()
    fitted = FittedClip.read(work.made("fit", "fit.npz"))
    with np.load(work.made("front", "front.npz"), allow_pickle=False) as archive:
        score, is_seen = archive["score"], archive["silhouette"].any(axis=(1, 2))
    area = np.load(work.made("mask", "area.npy"), allow_pickle=False)
    valid = fitted.valid & (area > 0) & is_seen
    if not valid.any():
        raise ValueError(
            f"{clip.source}: no frame shows the person with a body and a mask. Check that the fit's "
            "cameras place the body in the frame, and that the masks show the person as 255."
        )
    front, back = rank_frames(np.where(valid, score, np.nan))
    digests = read_json(work.made("source", "source.json"))["digests"]
    error = fitted.error_pixels
    seen = np.zeros(0) if error is None else error[np.isfinite(error)]
    row = {
        **describe(work),
        "num_frames": facts.num_frames,
        "fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "source_sha256": digests["video" if clip.kind == "video" else "frame"],
        "crop": {"cx": crop.center_x, "cy": crop.center_y, "side": float(crop.side)},
        "body_id": fitted.params.body_id,
        "fit_source": fitted.source,
        "fit_error_pixels": float(np.median(seen)) if len(seen) else None,
        "mask_source": clip.mask_source,
        "front_frames": front,
        "back_frames": back,
        "masks_sha256": work.made_sha256("mask", "masks.npz"),
        "background_sha256": work.made_sha256("proxy", "background.png"),
        "status": "done",
        "error": "",
    }
    write_json(work.folder / "clip.json", row)
    table = frames_table(
        clip.clip_id,
        camera=fitted.params.camera.numpy(),
        pose=fitted.params.pose.numpy(),
        shape=fitted.params.shape.numpy(),
        keypoints=fitted.keypoints,
        fit_error_pixels=error,
        front_score=score,
        mask_area=area,
        valid=valid,
    )
    write_table(work.folder / "frames.parquet", table)


def describe(work: ClipWork) -> dict[str, Any]:
    """The columns that a clip has even if everything else failed."""
    clip = work.clip
    named = ("clip_id", "subject", "outfit", "action", "split", "kind", "licence", "consent")
    columns = {name: value for name, value in vars(clip).items() if name in named}
    return {**columns, "source": printable(clip.source.relative_to(work.root).as_posix())}


def read_rows(folder: Path) -> tuple[dict[str, Any], pa.Table]:
    """What `run` made: the clip's row and its frames."""
    return read_json(folder / "clip.json"), pq.read_table(
        folder / "frames.parquet", partitioning=None
    )
