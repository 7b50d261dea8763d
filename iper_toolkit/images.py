"""Pictures at rest and in networks: read, write, convert, and THE resize.

Pictures are RGB uint8 ``(H, W, 3)``; masks and other maps uint8 ``(H, W)``.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.atomic import write_atomically

RESIZE_ID = "area-linear-1"
"""Name of `resize`; it stands in every score, because another resize gives other scores."""

MAX_PIXELS = 100_000_000
"""Of one picture or frame; a header that says more is refused before anything is allocated."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_COMMENT = 1 << 20  # bytes that a packed one may unfold to; the rest is not read

_ENCODE_OPTIONS: dict[str, list[int]] = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 4]}


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB uint8. Raises ValueError that names the file if it is not a whole picture."""
    return decode_image(path.read_bytes(), path)


def decode_image(data: bytes, name: Path | str) -> NDArray[np.uint8]:
    """The bytes of a picture file -> (H, W, 3) RGB uint8, turned upright as EXIF says.

    Bytes behind the end of the picture (a motion photo's video, padding) are ignored.

    Args:
        data: the file.
        name: for the error alone.

    Raises:
        ValueError: it is empty, cut short, damaged, too large, or no picture.
    """
    if not data:
        raise ValueError(f"{name} is empty (0 bytes); copy or download it again.")
    if data[:2] == b"\xff\xd8":
        return _decode_jpeg(data, name)
    if data[:8] == _PNG_SIGNATURE:
        _check_png(data, name)
    else:
        _check_other(data, name)
    return _decode_by_opencv(data, name)


def _decode_by_opencv(data: bytes, name: Path | str) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{name} is not a picture that can be read; copy or download it again.")
    return np.asarray(image, np.uint8)


def _decode_jpeg(data: bytes, name: Path | str) -> NDArray[np.uint8]:
    """OpenCV fills what it cannot decode with grey and says nothing; simplejpeg gives the same pixels, or an error."""
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        check_pixels(width, height, name)
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except TooLarge:
        raise
    except (ValueError, KeyError) as error:  # KeyError: the header ends before it names the colours
        if _is_only_padded(data, str(error)):
            return _decode_by_opencv(data, name)
        damage = f"damaged ({error})" if _end_of_jpeg(data) else f"cut short ({len(data)} bytes)"
        raise ValueError(f"{name} is {damage}; copy or download it again.") from None
    return _decode_by_opencv(data, name) if _has_exif(data) else np.asarray(image, np.uint8)


def _is_only_padded(data: bytes, error: str) -> bool:
    """Whether all that a decoder complains of is zeros between the picture and its end, which some cameras write."""
    told = re.search(r"(\d+) extraneous bytes before marker 0xd9", error)
    end = _end_of_jpeg(data)
    if told is None or end is None:
        return False
    padding = int(told[1])
    return data[end - padding : end] == bytes(padding)


def _end_of_jpeg(data: bytes) -> int | None:
    """Where the end marker of the picture lies (those of thumbnails are within segments); None: there is none."""
    position = max((position for position, _, _ in _jpeg_segments(data)), default=2)
    end = data.find(b"\xff\xd9", position)
    return None if end < 0 else end


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(position, marker, body) of each segment up to the picture itself, which begins with 0xDA."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a byte that fills up
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield position, marker, data[position + 4 : position + 2 + length]
        if marker == 0xDA:
            return
        position += 2 + length


def _check_other(data: bytes, name: Path | str) -> None:
    """Compare the size that a header of another format claims; nothing is decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise TooLarge(
            f"{name} is too large ({error}); pictures have at most {MAX_PIXELS} pixels. Make it smaller."
        ) from None
    except Exception as error:  # Pillow's readers raise many kinds
        raise ValueError(
            f"{name} is not a picture that can be read (JPEG, PNG, WebP, BMP or TIFF); copy or download it again."
        ) from error
    check_pixels(width, height, name)


class TooLarge(ValueError):
    """A header claims more pixels than a picture may have."""


def check_pixels(width: int, height: int, name: Path | str) -> None:
    """Refuse what a header claims before it is allocated."""
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"{name} says that it is {width} x {height} pixels; pictures have at most {MAX_PIXELS} pixels. Make it smaller."
        )


def _has_exif(data: bytes) -> bool:
    """Whether a JPEG has EXIF data, which may ask for another orientation; OpenCV knows."""
    return any(marker == 0xE1 and body[:4] == b"Exif" for _, marker, body in _jpeg_segments(data))


def _check_png(data: bytes, name: Path | str) -> None:
    """Walk the chunks to the end of the picture: size, checksums (PNG specification, 5.3)."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if kind == b"IHDR" and length == 13:
            width, height = (
                int.from_bytes(data[k : k + 4], "big") for k in (position + 8, position + 12)
            )
            check_pixels(width, height, name)
        if end + 4 > len(data):
            break
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(
                f"{name} is damaged (a checksum of its {kind.decode('latin-1')} part is wrong); copy or download it again."
            )
        if kind == b"IEND":
            return
        position = end + 4
    raise ValueError(f"{name} is cut short ({len(data)} bytes); copy or download it again.")


def write_image(
    path: Path, image: NDArray[np.uint8], *, quality: int = 95, comment: str | None = None
) -> None:
    """Write (H, W, 3) RGB or (H, W) grey uint8; the suffix says the format.

    Args:
        path: ``.jpg`` and ``.png`` above all; the file appears whole or not at all.
        image: the picture.
        quality: of a JPEG, 0 .. 100.
        comment: stored in a JPEG's comment segment, where `read_comment` finds it.
    """
    data = encode_image(image, path.suffix, quality=quality, comment=comment)
    write_atomically(path, lambda part: part.write_bytes(data))


def encode_image(
    image: NDArray[np.uint8], suffix: str, *, quality: int = 95, comment: str | None = None
) -> bytes:
    """The bytes that `write_image` writes."""
    suffix = suffix.lower()
    options = _ENCODE_OPTIONS.get(suffix, [])
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif comment is not None:
        raise ValueError(f"A comment can be stored in .jpg files only, not in {suffix!r}.")
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(suffix, stored, options)
    if not done:
        raise ValueError(f"OpenCV cannot write {suffix!r} from an array of shape {image.shape}.")
    data = encoded.tobytes()
    if comment is not None:
        text = comment.encode("utf-8")
        segment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        data = data[:2] + segment + data[2:]  # right behind the start-of-image marker
    return data


def read_comment(data: bytes) -> str:
    """What a picture's bytes say in their comments, as one text; empty for formats but JPEG and PNG.

    Of a JPEG its comment segments, of a PNG the texts under the keyword "Comment", in any of the three
    kinds of chunk. The bytes may end early, as the head of a file does.
    """
    if data[:2] == b"\xff\xd8":
        comments = list(_jpeg_comments(data))
    elif data[:8] == _PNG_SIGNATURE:
        comments = list(_png_comments(data))
    else:
        comments = []
    return "\n".join(comments)


def _jpeg_comments(data: bytes) -> Iterator[str]:
    for _, marker, body in _jpeg_segments(data):
        if marker == 0xFE:
            yield body.decode("utf-8", "replace")


def _png_comments(data: bytes) -> Iterator[str]:
    """Chunks are a length, a kind, the body and a checksum (PNG specification, 11.3.3)."""
    position = len(_PNG_SIGNATURE)
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length
        keyword, _, rest = body.partition(b"\0")
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword.lower() != b"comment":
            continue
        packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
        if kind == b"zTXt":
            rest = rest[1:]  # the method, of which there is one
        elif kind == b"iTXt":
            rest = rest[2:].split(b"\0", 2)[-1]  # behind a language and the keyword in it
        if packed:
            try:
                rest = zlib.decompressobj().decompress(rest, _LONGEST_COMMENT)
            except zlib.error:
                continue  # damaged: it says nothing
        yield rest.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """THE resize: area averaging when it shrinks, bilinear when it enlarges.

    Args:
        image: (H, W) or (H, W, C) uint8.
        size: (height, width) wanted. A picture that shrinks along one side and grows along the
            other counts as shrinking.

    Returns:
        (height, width) or (height, width, C) uint8.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] or width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., H, W, C) uint8 -> (..., C, H, W) float32 in [-1, 1], as networks take it."""
    moved = np.moveaxis(images, -1, -3)
    return np.ascontiguousarray(moved, dtype=np.float32) * np.float32(2 / 255) - np.float32(1)


def to_uint8(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(..., C, H, W) float in [-1, 1] -> (..., H, W, C) uint8, rounded and clipped."""
    scaled = np.rint((np.asarray(images, np.float32) + 1) * np.float32(127.5))
    return np.ascontiguousarray(np.moveaxis(np.clip(scaled, 0, 255), -3, -1)).astype(np.uint8)
