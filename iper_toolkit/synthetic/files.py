"""Writing iPER's official file formats so that every file says that it is synthetic."""

import errno
import os
import pickle
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.images import encode_image
from iper_toolkit.synthetic.fits import Fit
from iper_toolkit.video import write_video

MARK = "synthetic: drawn by iper-toolkit, shows no real person, CC0-1.0"
_JPEG_QUALITY = 93
_MOVE_ATTEMPTS = 5


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """(H, W, 3) RGB as a JPEG whose comment segment is the mark."""
    path.write_bytes(encode_image(image, ".jpg", quality=_JPEG_QUALITY, comment=MARK))


def write_frames(folder: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """``0000.jpg`` ... in a new folder."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        write_jpeg(folder / f"{number:04d}.jpg", frame)


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """A video whose comment is the mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, fps, metadata={"comment": MARK})


def write_fit(folder: Path, fit: Fit, body_id: str) -> None:
    """``pose_shape.pkl`` and ``kps.pkl`` in a new folder, as iPER ships them, with two more keys."""
    folder.mkdir(parents=True)
    marks = {"synthetic": True, "note": MARK, "body_id": body_id}
    shapes = {"cams": fit.camera, "pose": fit.pose, "shape": fit.shape}
    _write_pickle(folder / "pose_shape.pkl", {**shapes, **marks})
    _write_pickle(folder / "kps.pkl", {"kps": fit.keypoints, **marks})


def _write_pickle(path: Path, content: dict[str, object]) -> None:
    """Protocol 2, and arrays under the module name that NumPy 1 and 2 both know."""
    data = pickle.dumps(content, protocol=2)
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def write_masks(path: Path, masks: NDArray[np.uint8]) -> None:
    """(T, H, W) coverages 0..255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, masks=masks, synthetic=np.array(MARK))


def move(part: Path, place: Path) -> None:
    """Move a finished file or folder into place, over what an interrupted run left there.

    A worker that outlived its killed parent may put the same bytes there at the same moment: then
    the folder is cleared and moved again.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_MOVE_ATTEMPTS):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        try:
            os.replace(part, place)
        except OSError as error:
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not taken or attempt == _MOVE_ATTEMPTS - 1:
                raise
        else:
            return
