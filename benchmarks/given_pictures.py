"""Pictures that another program wrote, read by rules that `docs/protocols.md` lists.

A picture is a PNG file of 8 bits a channel, of the run's size, opaque and upright. Whatever could be read in two ways
is a `ValueError` that names the file; the case then counts as failed. Nothing is converted silently.
"""

import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.images import check_pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What a file is whose first bytes are these (offset 0), for the message alone.
_KINDS = {
    b"\xff\xd8": "a JPEG",
    b"RIFF": "a WebP",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"Pf": "a PFM",
    b"PF": "a PFM",
    b"P5": "a PGM",
    b"P6": "a PPM",
    b"\x76\x2f\x31\x01": "an OpenEXR",
    b"\x93NUMPY": "a NumPy array",
}
# Other kinds of picture, which no case takes: a case with one of them is not what it seems.
_OTHER_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .bmp .tif .tiff .webp .gif .pfm .pgm .ppm .pnm .exr .hdr .npy .avif .jp2 .heic".split()
)
_GREY_ALPHA, _RGB_ALPHA = 4, 6  # colour types of PNG


def numbered_pictures(folder: Path) -> dict[int, Path]:
    """Number -> file, of the pictures of one case: ``00000.png``, ``00001.png`` ...

    Leading zeros and upper case in ``.PNG`` make no difference. Files with other names are not looked at.

    Raises:
        ValueError: two files have one number, or a number has a file of another kind than PNG.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not re.fullmatch("[0-9]+", path.stem):
            continue
        suffix = path.suffix.lower()
        if suffix in _OTHER_SUFFIXES:
            raise ValueError(
                f"{path} is not a PNG file; a case takes PNG files alone, so that nothing is lost to compression and no "
                "picture is there twice. Convert it, or move it away."
            )
        if suffix != ".png":
            continue
        other = found.setdefault(int(path.stem), path)
        if other is not path:
            raise ValueError(
                f"{other} and {path.name} are both picture {int(path.stem)} of the case; remove one of them."
            )
    return found


def read_given_picture(path: Path, size: int | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PNG file, pixel values as they are stored. Grey and palettes become RGB.

    Args:
        path: the file.
        size: side in pixels that the picture must have; None: any.

    Raises:
        ValueError: there is no such file, it is another kind of file, damaged, of another size, or could be read in
            more than one way (16 bits, transparency, a turn, an animation); the message says what to write instead.
    """
    data = _read_file(path)
    if data[:8] != _SIGNATURE:
        told = next((what for start, what in _KINDS.items() if data.startswith(start)), "no")
        raise ValueError(f"{path} is {told} file, whatever its name; it takes a PNG file.")
    header, chunks = _read_chunks(data, path)
    width, height, bits, colour = header
    if size is not None and (width, height) != (size, size):
        raise ValueError(
            f"{path} is of {width} x {height} pixels; the run takes {size} x {size}. Write it at that size, or give "
            f"--size."
        )
    if bits > 8:
        raise ValueError(
            f"{path} has {bits} bits a channel, of which the brightest value is not known; write 8 bits, 0 to 255."
        )
    if "acTL" in chunks:
        raise ValueError(f"{path} is an animation; write one picture a file.")
    if chunks.get("eXIf", 1) != 1:
        raise ValueError(
            f"{path} says that it is to be turned (EXIF orientation {chunks['eXIf']}); store the pixels upright."
        )
    check_pixels(width, height, path)
    image = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if image is None or image.dtype != np.uint8:
        raise ValueError(f"{path} cannot be decoded; write it again.")
    if image.ndim == 3 and image.shape[2] == 4:
        if (image[..., 3] != 255).any():
            raise ValueError(
                f"{path} is transparent in places; what is behind it is not known. Put it on its background and store RGB."
            )
        image = image[..., :3]
    elif "tRNS" in chunks or colour in (_GREY_ALPHA, _RGB_ALPHA):  # which OpenCV has left out
        raise ValueError(f"{path} marks a colour as transparent; store RGB without it.")
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., ::-1])


def digest_of_pictures(folder: Path, poses: Iterable[Path]) -> str:
    """sha256 of names and contents of all numbered pictures below a folder, and of `poses` found in them.

    What cannot be read counts too, by its name: reading it again fails the case, not the run.
    """
    digest = hashlib.sha256()
    beside = set(poses)
    pictures = {path for path in folder.rglob("*") if path.suffix.lower() == ".png"}
    for path in sorted(pictures | beside):
        if re.fullmatch("[0-9]+", path.stem) or path in beside:
            try:
                content = hashlib.sha256(_read_file(path)).hexdigest()
            except ValueError:
                content = "unreadable"
            name = os.fsencode(path.relative_to(folder).as_posix())
            digest.update(name + f" {content}\n".encode())
    return digest.hexdigest()


def _read_file(path: Path) -> bytes:
    """The bytes of a plain file; ValueError if it is none (a dangling link, a folder, a pipe) or cannot be read."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)  # a pipe would never end
        return path.read_bytes() if is_file else _not_a_file(path)
    except FileNotFoundError as error:
        what = f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() else "gone"
        raise ValueError(f"{path} is {what}; put the picture there.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error


def _not_a_file(path: Path) -> bytes:
    raise ValueError(f"{path} is no file; put the picture there.")


def _read_chunks(data: bytes, path: Path) -> tuple[tuple[int, int, int, int], dict[str, int]]:
    """(width, height, bits, colour type) of a PNG file, and which other chunks it has; checksums are compared.

    Of the chunk "eXIf" the value is the orientation (1: upright), of others 1. PNG specification, clauses 5.3 and 11.2.1.
    """
    position, header, found = 8, None, {}
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        end = data[position + 8 + length : position + 12 + length]
        if len(end) < 4 or zlib.crc32(kind + body) != int.from_bytes(end, "big"):
            break
        position += 12 + length
        name = kind.decode("latin-1")
        if name == "IHDR" and length == 13:
            header = struct.unpack_from(">IIBB", body)
        found[name] = _orientation(body) if name == "eXIf" else 1
        if name == "IEND" and header is not None:
            return header, found
    raise ValueError(f"{path} is damaged or cut short ({len(data)} bytes); write it again.")


def _orientation(exif: bytes) -> int:
    """Orientation (tag 0x0112) of the first directory of EXIF data; 1 where it says nothing. TIFF 6.0, section 2."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
        if tag == 0x0112:
            return int(value)
    return 1
