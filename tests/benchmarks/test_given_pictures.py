"""Every kind of file that may lie among given pictures: read by a rule, or a failure that names it."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.given_pictures import (
    digest_of_pictures,
    numbered_pictures,
    read_given_picture,
)

SIZE = 8
RGB = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
Chunks = list[tuple[bytes, bytes]]


def png(rows: np.ndarray, colour: int, bits: int = 8, extra: Chunks | None = None) -> bytes:
    """A PNG written by hand: `rows` (H, bytes a row) uint8, chunks of `extra` before the pixels."""
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", SIZE, len(rows), bits, colour, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        *(extra or []),
        (b"IDAT", zlib.compress(scanlines)),
        (b"IEND", b""),
    ]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def rgb(extra: Chunks | None = None) -> bytes:
    return png(RGB.reshape(SIZE, -1), 2, extra=extra)


def with_alpha(alpha: int) -> bytes:
    layers = np.concatenate([RGB, np.full((SIZE, SIZE, 1), alpha, np.uint8)], axis=2)
    return png(layers.reshape(SIZE, -1), 6)


def exif(orientation: int, order: str = "<") -> Chunks:
    start = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return [(b"eXIf", start + struct.pack(f"{order}IH", 8, 1) + entry + b"\0\0\0\0")]


GREY = RGB[..., 0]
PALETTE = [(b"PLTE", RGB.reshape(-1, 3)[:4].tobytes())]
INDICES = (np.arange(SIZE * SIZE, dtype=np.uint8) % 4).reshape(SIZE, SIZE)
ACCEPTED = {
    "plain": (rgb(), RGB),
    "opaque alpha": (with_alpha(255), RGB),
    "upright by its EXIF": (rgb(exif(1)), RGB),
    "bytes after the end": (rgb() + b"more", RGB),
    "grey": (png(GREY, 0), np.repeat(GREY[..., None], 3, 2)),
    "palette": (png(INDICES, 3, extra=PALETTE), RGB.reshape(-1, 3)[INDICES]),
    "another gamma": (rgb([(b"gAMA", struct.pack(">I", 100_000))]), RGB),
    "a transparent colour that it has not": (rgb([(b"tRNS", b"\1" * 6)]), RGB),
    "one bit": (
        png(np.full((SIZE, 1), 0b10101010, np.uint8), 0, bits=1),
        np.tile(np.uint8([255, 0])[None, :, None], (SIZE, SIZE // 2, 3)),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_pixels_are_taken_as_they_are_stored(name: str, tmp_path: Path) -> None:
    data, expected = ACCEPTED[name]
    path = tmp_path / "00000.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_given_picture(path, SIZE), expected)


def encoded(suffix: str, image: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return data.tobytes()


def flipped(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 9
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


REFUSED = {
    "transparent": (with_alpha(254), "is transparent"),
    "grey with alpha": (png(np.stack([GREY, GREY], 2).reshape(SIZE, -1), 4), "transparent"),
    "transparent entry of a palette": (
        png(INDICES, 3, extra=[*PALETTE, (b"tRNS", b"\x00")]),
        "transparent",
    ),
    "transparent colour": (
        rgb([(b"tRNS", struct.pack(">HHH", *RGB[0, 0].tolist()))]),
        "transparent",
    ),
    "to be turned": (rgb(exif(6)), "EXIF orientation 6"),
    "to be turned, big-endian": (rgb(exif(3, ">")), "EXIF orientation 3"),
    "dark 16 bits": (encoded(".png", RGB.astype(np.uint16)), "16 bits a channel"),
    "bright 16 bits": (encoded(".png", RGB.astype(np.uint16) * 257), "16 bits a channel"),
    "animation": (rgb([(b"acTL", struct.pack(">II", 1, 0))]), "animation"),
    "JPEG": (encoded(".jpg", RGB), "is a JPEG file"),
    "WebP": (encoded(".webp", RGB), "is a WebP file"),
    "TIFF": (encoded(".tiff", RGB), "is a TIFF file"),
    "BMP": (encoded(".bmp", RGB), "is a BMP file"),
    "PFM with NaN": (encoded(".pfm", np.full((SIZE, SIZE, 3), np.nan, np.float32)), "a PFM file"),
    "text": (b"not a picture", "is no file"),
    "empty": (b"", "is no file"),
    "cut short": (rgb()[:-20], "damaged or cut short"),
    "flipped bit": (flipped(rgb()), "damaged or cut short"),
    "no pixels": (png(np.zeros((0, 3), np.uint8), 2), f"8 x 0 pixels; the run takes {SIZE}"),
    "too small": (encoded(".png", RGB[:4]), "is of 8 x 4 pixels; the run takes 8 x 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_read_in_two_ways_is_refused(name: str, tmp_path: Path) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "00000.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said) as error:
        read_given_picture(path, SIZE)
    assert str(path) in str(error.value)


def test_a_size_that_a_header_declares_is_compared_before_pixels_are_read(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = rgb()
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path = tmp_path / "0.png"
    path.write_bytes(data[:16] + header + crc + data[33:])
    with pytest.raises(ValueError, match="60000 x 60000 pixels"):
        read_given_picture(path, SIZE)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "dangling link": (dangling, "a link to nowhere.png, which is not there"),
    "folder": (Path.mkdir, "is no file"),
    "pipe": (os.mkfifo, "is no file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_fails_its_case_and_not_the_run(name: str, tmp_path: Path) -> None:
    make, said = PLACES[name]
    path = tmp_path / "00000.png"
    make(path)
    with pytest.raises(ValueError, match=said):
        read_given_picture(numbered_pictures(tmp_path)[0], SIZE)
    before = digest_of_pictures(tmp_path, [])
    path.rename(tmp_path / "away")
    path.write_bytes(rgb())
    assert digest_of_pictures(tmp_path, []) != before


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["5.png", "00005.png"], "are both picture 5"),
        (["00005.png", "00005.PNG"], "are both picture 5"),
        (["00005.png", "00005.jpg"], "00005.jpg is not a PNG file"),
        (["00005.JPEG"], "not a PNG file"),
        (["00005.png", "5.pfm"], "not a PNG file"),
    ],
)
def test_a_picture_that_is_there_twice_is_refused(
    names: list[str], said: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(rgb())
    with pytest.raises(ValueError, match=said):
        numbered_pictures(tmp_path)


def test_numbers_are_plain_digits(tmp_path: Path) -> None:
    for name in ("00000.png", "1.PNG", "²3.png", "٤.png", "-5.png", "6.5.png", "x7.png", "8.txt"):
        (tmp_path / name).write_bytes(rgb())
    (tmp_path / os.fsdecode(b"\xff9.png")).write_bytes(rgb())
    found = numbered_pictures(tmp_path)
    assert {number: path.name for number, path in found.items()} == {0: "00000.png", 1: "1.PNG"}
    assert digest_of_pictures(tmp_path, [])
    assert numbered_pictures(tmp_path / "nowhere") == {}
