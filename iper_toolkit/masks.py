"""Person masks: packed on disk, and read from the files that datasets ship.

A mask is uint8 ``(H, W)``, 255 = person; soft values are kept. One clip's masks are one npz file of
PNG pictures: lossless, small, and any frame is read alone.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import resize

# Run lengths suit masks: four times as fast as the default filters, and about as small.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)


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


def read_masks(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The masks that a dataset ships, frame by frame, so that long clips need little memory.

    Args:
        path: an npz file with ``masks`` (T, H, W) uint8, bool or float in [0, 1]; or a grey video.

    Yields:
        (H, W) uint8, 255 = person, whole frames at whatever scale the file has.
    """
    if path.suffix.lower() == ".npz":
        yield from _read_npz(path)
        return
    from iper_toolkit.video import read_frames

    for frame in read_frames(path):
        yield frame[..., 1]  # grey: the channels are equal


def read_npz_header(path: Path) -> tuple[tuple[int, ...], bool]:
    """Shape of ``masks`` in an npz file, and whether the file says that it is synthetic."""
    with _opened(path) as archive:
        with archive.open("masks.npy") as file:
            shape, _, _ = _read_header(file, path)
        synthetic = False
        if "synthetic.npy" in archive.namelist():
            with archive.open("synthetic.npy") as file:
                synthetic = bool(np.lib.format.read_array(file, allow_pickle=False))
    return shape, synthetic


def _read_npz(path: Path) -> Iterator[NDArray[np.uint8]]:
    with _opened(path) as archive, archive.open("masks.npy") as file:
        shape, fortran, dtype = _read_header(file, path)
        if len(shape) != 3 or fortran:
            raise ValueError(f"{path}: masks is {shape}; it must be (frames, height, width).")
        size = shape[1] * shape[2] * dtype.itemsize
        largest = 0
        for index in range(shape[0]):
            try:
                data = file.read(size)
            except _DAMAGE as error:
                raise ValueError(f"{path} is damaged at frame {index}; copy it again.") from error
            if len(data) < size:
                raise ValueError(f"{path} ends at frame {index} of {shape[0]}; copy it again.")
            mask = np.frombuffer(data, dtype).reshape(shape[1:])
            if dtype == np.uint8:
                largest = max(largest, int(mask.max(initial=0)))
            yield mask if dtype == np.uint8 else _to_uint8(mask, path)
        if largest == 1:
            raise ValueError(
                f"{path}: masks is uint8 of 0 and 1, which would show nobody; a person is 255. "
                "Store the masks as bool, or multiply them by 255."
            )


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole npz file; copy it again.") from error
    if "masks.npy" not in archive.namelist():
        archive.close()
        raise ValueError(f"{path} has no array called masks, (frames, height, width) uint8.")
    return archive


def _read_header(file: object, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)  # type: ignore[arg-type]
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged; copy it again.") from error
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: masks is not a plain array.") from error
    if dtype.kind not in "buf":
        raise ValueError(f"{path}: masks is {dtype}; it must be uint8, bool or float.")
    return shape, fortran, dtype


def _to_uint8(mask: NDArray, path: Path) -> NDArray[np.uint8]:
    values = np.asarray(mask, np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{path}: masks of type {mask.dtype} must lie in 0 .. 1; store uint8 for 0 .. 255."
        )
    return np.rint(values * 255).astype(np.uint8)
