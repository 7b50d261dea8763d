"""Person masks: packed on disk, and read from the files that datasets ship.

A mask is uint8 ``(H, W)``, 255 = person; soft values are kept. One clip's masks are one npz file of
PNG pictures: lossless, small, and any frame is read alone.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.array_files import ArrayFile
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import resize

# Run lengths suit masks: four times as fast as the default filters, and about as small.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


class PackedMasks:
    """The masks of one clip, cut by its crop, as the mask stage stored them."""

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64], crop: SquareCrop) -> None:
        self._data, self._ends, self.crop = data, ends, crop

    def __len__(self) -> int:
        return len(self._ends)

    @classmethod
    def read(cls, path: Path) -> PackedMasks:
        """Open a file that `write` made; pictures are decoded when asked for."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                left, top, side = archive["crop"].tolist()
                return cls(archive["png"], archive["ends"], SquareCrop(left, top, side))
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged. Remove it and run iper prepare again.") from error

    @staticmethod
    def write(path: Path, masks: Iterable[NDArray[np.uint8]], crop: SquareCrop) -> None:
        """Pack (S, S) uint8 masks of `crop`, one a frame, into an npz file."""
        pictures = []
        for mask in masks:
            done, data = cv2.imencode(".png", mask, _PNG_OPTIONS)
            if not done:
                raise ValueError(f"{path}: a mask of shape {mask.shape} cannot be stored.")
            pictures.append(data.ravel())
        with path.open("wb") as file:
            np.savez(
                file,
                png=np.concatenate(pictures) if pictures else np.zeros(0, np.uint8),
                ends=np.cumsum([len(picture) for picture in pictures], dtype=np.int64),
                crop=np.array([crop.left, crop.top, crop.side], np.int64),
            )

    def stored(self, index: int) -> NDArray[np.uint8]:
        """(S, S) uint8 mask of a frame at the size it is stored in."""
        first = int(self._ends[index - 1]) if index else 0
        mask = cv2.imdecode(self._data[first : int(self._ends[index])], cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"The stored mask of frame {index} is damaged; run iper check.")
        return np.asarray(mask, np.uint8)

    def at(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, THE resize."""
        masks = np.empty((len(indices), size, size), np.uint8)
        for place, index in enumerate(indices):
            masks[place] = resize(self.stored(index), (size, size))
        return masks


def read_masks(
    path: Path, *, frame_size: tuple[int, int] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The masks that a dataset ships, frame by frame, so that long clips need little memory.

    Args:
        path: an npz file with ``masks`` (T, H, W): bool, float in [0, 1], or uint8 with 255 for the person, or 0 and 1;
            or a grey video. Soft values are kept.
        frame_size: (height, width) of the clip's frames. Masks of more than four times that are refused unread.

    Yields:
        (H, W) uint8, 255 = person, whole frames at whatever scale the file has.

    Raises:
        ValueError: the file is damaged, coloured, or shows several objects; names the file.
    """
    levels = np.zeros(256, np.int64)
    masks = _read_npz(path, frame_size) if path.suffix.lower() == ".npz" else _read_video(path)
    for mask in masks:
        levels += np.bincount(mask.ravel(), minlength=256)
        yield mask
    _check_levels(levels, path, soft=path.suffix.lower() != ".npz")


def read_mask_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8, 255 = person, of a picture: its alpha if it has one that varies, else its grey values.

    Raises:
        ValueError: its channels differ, as of a photograph or of several coloured objects, and no alpha says where the
            person is; or alpha and grey values contradict each other.
    """
    from iper_toolkit.images import read_image

    read_image(path)  # damaged, cut short and too large pictures are named there
    stored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError(f"{path} cannot be read; save the mask as a grey PNG.")
    if stored.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} holds {stored.dtype}; save the mask as a grey PNG of 8 bits.")
    pixels: NDArray[np.uint8] = (
        stored // 257 if stored.dtype == np.uint16 and stored.max() > 1 else stored
    ).astype(np.uint8)
    if pixels.ndim == 2:
        return _of_one_object(pixels, path)
    colours = pixels[..., :3]
    grey = _grey_of(colours)
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        alpha = np.ascontiguousarray(pixels[..., 3])
        if alpha.max() == alpha.min():
            raise ValueError(
                f"{path} has the same alpha everywhere, so it shows nobody. {_SAVE_GREY}"
            )
        if grey is not None and grey.min() < 64 and grey.max() > 191:
            opaque = alpha > 127
            differ = ((grey > 127) != opaque).mean()
            if differ > 0.02 and (grey[opaque] > 127).any() and (grey[opaque] < 128).any():
                raise ValueError(
                    f"{path} has grey values and an alpha that contradict each other. {_SAVE_GREY}"
                )
        return _of_one_object(alpha, path)
    if grey is None:
        raise ValueError(
            f"{path} is coloured: its channels differ, as of a photograph or of several objects, and no alpha says where "
            f"the person is. {_SAVE_GREY}"
        )
    return _of_one_object(grey, path)


_SAVE_GREY = "Save a grey picture: 255 on the person, 0 elsewhere."
_TINT, _TINTED = (
    48,
    0.01,
)  # difference of channels that is colour, and share of pixels that may have it
_MOST_SCALE = 4  # masks have at most this many times the frame's height
_PLATEAU = 0.2  # share of what is not black that one grey level has in pictures of several objects
_FEWEST_PIXELS = 200


def _grey_of(colours: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """(H, W, 3) -> (H, W) if it is grey, up to what compression does to chroma; else None."""
    low = np.minimum(np.minimum(colours[..., 0], colours[..., 1]), colours[..., 2])
    high = np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2])
    if ((high - low) > _TINT).mean() > _TINTED:
        # A few coloured pixels of a small object count too: they are many among those that are not black.
        return None
    bright = high > _TINT
    if bright.any() and ((high - low) > _TINT)[bright].mean() > 0.1:
        return None
    return np.ascontiguousarray(colours[..., 1])


def _of_one_object(mask: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if mask.max(initial=0) == 1:
        mask = mask * np.uint8(255)
    _check_levels(np.bincount(mask.ravel(), minlength=256), path, soft=False)
    return mask


def _check_levels(levels: NDArray[np.int64], path: Path, *, soft: bool) -> None:
    """Refuse label maps: `levels` are the counts of the 256 values over the clip. `soft`: compression blurs them."""
    present = np.flatnonzero(levels)
    largest = int(present.max()) if len(present) else 0
    if largest < 128 and largest > (8 if soft else 0):
        raise ValueError(
            f"{path}: the largest value is {largest}; a person is 255. Are these numbers of objects? Store one object, "
            "as 255."
        )
    some = int(levels[1:].sum())
    middle = levels[8:248]
    flat = np.flatnonzero(middle > max(_FEWEST_PIXELS, _PLATEAU * some)) + 8
    if not soft and len(flat):
        raise ValueError(
            f"{path}: much of it has the grey level {', '.join(map(str, flat))}, as of several objects. Store one "
            "object, as 255."
        )


def read_npz_header(path: Path) -> tuple[tuple[int, ...], bool]:
    """Shape of ``masks`` in an npz file, and whether the file says that it is synthetic."""
    with _opened(path) as file:
        synthetic = False
        if "synthetic" in file.headers:
            header = file.headers["synthetic"]
            # `iper synth` writes the words of its mark.
            if header.shape != () or header.nbytes > 1024 or header.dtype.kind not in "bU":
                raise ValueError(
                    f"{path}: synthetic is {header}; it is one bool or one short text."
                )
            synthetic = bool(file.read("synthetic").item())
        return file.headers["masks"].shape, synthetic


def _read_video(path: Path) -> Iterator[NDArray[np.uint8]]:
    from iper_toolkit.video import read_frames

    for index, frame in enumerate(read_frames(path)):
        grey = _grey_of(frame)
        if grey is None:
            raise ValueError(
                f"{path}: frame {index} is coloured: its channels differ. A mask video is grey, 255 on the person and 0 "
                "elsewhere; its alpha is not read."
            )
        yield grey


def _read_npz(path: Path, frame_size: tuple[int, int] | None) -> Iterator[NDArray[np.uint8]]:
    with _opened(path) as file:
        shape, dtype = file.headers["masks"].shape, file.headers["masks"].dtype
        if len(shape) != 3:
            raise ValueError(f"{path}: masks is {shape}; it must be (frames, height, width).")
        if frame_size is not None and any(
            have > _MOST_SCALE * frame + 1
            for have, frame in zip(shape[1:], frame_size, strict=True)
        ):
            raise ValueError(
                f"{path}: masks is {shape}, and the frames are {frame_size[1]} x {frame_size[0]}: more than "
                f"{_MOST_SCALE} times as large. Masks show the whole frame, at any smaller scale."
            )
        ones = False
        for index, mask in enumerate(file.rows("masks")):
            if dtype != np.uint8:
                yield _to_uint8(mask, path)
                continue
            largest = int(mask.max(initial=0))
            if ones and largest > 1:
                raise ValueError(
                    f"{path}: masks are 0 and 1 up to frame {index}, and go up to {largest} there. Store 255 for the "
                    "person in all frames."
                )
            ones = ones or largest == 1
            yield mask * np.uint8(255) if ones else mask


def _opened(path: Path) -> ArrayFile:
    file = ArrayFile(path)
    with ExitStack() as stack:
        stack.push(file)
        if "masks" not in file.headers:
            raise ValueError(f"{path} has no array called masks, (frames, height, width) uint8.")
        dtype = file.headers["masks"].dtype
        if dtype.kind not in "bf" and dtype != np.uint8:
            raise ValueError(f"{path}: masks is {dtype}; it must be uint8, bool or float.")
        stack.pop_all()
    return file


def _to_uint8(mask: NDArray, path: Path) -> NDArray[np.uint8]:
    values = np.asarray(mask, np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{path}: masks of type {mask.dtype} must lie in 0 .. 1; store uint8 for 0 .. 255."
        )
    return np.rint(values * 255).astype(np.uint8)
