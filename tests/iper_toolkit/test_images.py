"""Pictures: round trips, broken files, the resize."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from iper_toolkit.images import (
    decode_image,
    encode_image,
    read_comment,
    read_image,
    resize,
    to_float,
    to_uint8,
    write_image,
)

GRADIENT = np.stack(np.broadcast_arrays(*np.ix_(range(40), range(64)), 9), -1).astype(np.uint8)


def test_png_round_trip_is_exact_and_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a b ü.png"
    write_image(path, GRADIENT)
    assert np.array_equal(read_image(path), GRADIENT)
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(stored[..., ::-1], GRADIENT)


def test_a_jpeg_carries_its_comment(tmp_path: Path) -> None:
    data = encode_image(GRADIENT, ".jpg", comment="synthetic: né")
    assert read_comment(data) == "synthetic: né"
    assert read_comment(encode_image(GRADIENT, ".jpg")) == ""
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert np.abs(read_image(path).astype(int) - GRADIENT).mean() < 2


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG_COMMENTS = {
    "plain": png_chunk(b"tEXt", "Comment\0synthetic: né".encode("latin-1")),
    "packed": png_chunk(b"zTXt", b"comment\0\0" + zlib.compress("synthetic: né".encode("latin-1"))),
    "international": png_chunk(b"iTXt", b"Comment\0\0\0fr\0Commentaire\0synthetic: n\xc3\xa9"),
    "packed international": png_chunk(
        b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress("synthetic: né".encode())
    ),
}


@pytest.mark.parametrize("kind", PNG_COMMENTS)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_png_may_carry_a_comment(kind: str, place: str) -> None:
    data = encode_image(GRADIENT, ".png")
    at = 33 if place == "before" else len(data) - 12  # behind the header, or before the end
    others = png_chunk(b"tEXt", b"Title\0nothing") + png_chunk(b"iTXt", b"Comment")
    marked = data[:at] + others + PNG_COMMENTS[kind] + data[at:]
    assert read_comment(data) == ""
    assert read_comment(marked).strip() == "synthetic: né"
    assert np.array_equal(decode_image(marked, "a.png"), GRADIENT)
    for length in range(0, len(marked), 7):  # the head of a file, wherever it is cut
        read_comment(marked[:length])


def test_a_damaged_comment_says_nothing() -> None:
    data = encode_image(GRADIENT, ".png")
    damaged = png_chunk(b"zTXt", b"Comment\0\0no stream of zlib")
    assert read_comment(data[:33] + damaged + data[33:]) == ""


def test_only_jpegs_take_comments() -> None:
    with pytest.raises(ValueError, match=r"\.jpg files only"):
        encode_image(GRADIENT, ".png", comment="x")


@pytest.mark.parametrize(
    ("suffix", "kept", "problem"),
    [(".jpg", 0, "empty"), (".jpg", 0.6, "cut short"), (".png", 0.6, "cut short")],
)
def test_broken_files_are_named(tmp_path: Path, suffix: str, kept: float, problem: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode_image(noise, suffix)
    path = tmp_path / f"0007{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=rf"0007\{suffix} is {problem}.*copy or download"):
        read_image(path)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "0001.jpg"
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"0001\.jpg is not a picture"):
        read_image(path)


def test_resize_averages_areas_and_interpolates() -> None:
    blocks = GRADIENT[:32].reshape(16, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(resize(GRADIENT[:32], (16, 32)) - blocks).max() <= 0.5
    step = np.array([[0, 100]], np.uint8).repeat(2, 0)
    assert resize(step, (2, 4))[0].tolist() == [0, 25, 75, 100]  # half-pixel centres
    assert resize(GRADIENT, GRADIENT.shape[:2]) is GRADIENT


def test_float_round_trip() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    floats = to_float(every)
    assert floats.shape == (1, 3, 16, 16)
    assert floats.dtype == np.float32
    assert floats.min() == -1
    assert floats.max() == 1
    assert np.array_equal(to_uint8(floats), every)
    assert to_uint8(np.full((3, 1, 1), 9, np.float32)).max() == 255


def drawn_picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("rest", [b"\0" * 4096, b"MotionPhoto_Data" + b"\0\0\0\x18ftypmp42" * 500])
def test_bytes_behind_the_end_of_a_picture_are_ignored(suffix: str, rest: bytes) -> None:
    data = encode_image(drawn_picture(), suffix)
    assert np.array_equal(decode_image(data + rest, "x"), decode_image(data, "x"))
    with pytest.raises(ValueError, match="cut short"):
        decode_image(data[: len(data) * 9 // 10], "x")


def test_an_end_marker_in_a_thumbnail_is_not_the_pictures_end() -> None:
    data = encode_image(drawn_picture(), ".jpg")
    thumbnail = b"Exif\0\0" + data[:400] + b"\xff\xd9"
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert np.array_equal(decode_image(whole, "x"), decode_image(data, "x"))
    with pytest.raises(ValueError, match="cut short"):
        decode_image(whole[: len(segment) + len(data) // 2], "x")


def test_jpegs_give_the_pixels_that_opencv_gives() -> None:
    for quality in (50, 95):
        data = encode_image(drawn_picture(), ".jpg", quality=quality)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(decode_image(data, "x"), expected)


def test_exif_turns_a_jpeg_upright() -> None:
    data = encode_image(drawn_picture(), ".jpg")
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    turned = decode_image(data[:2] + segment + data[2:], "x")
    assert np.array_equal(turned, np.rot90(decode_image(data, "x"), -1))


def test_damage_is_an_error() -> None:
    png = bytearray(encode_image(drawn_picture(), ".png"))
    png[len(png) // 2] ^= 4
    with pytest.raises(ValueError, match=r"damaged \(a checksum of its IDAT part"):
        decode_image(bytes(png), "x")
    jpeg = encode_image(drawn_picture(), ".jpg")
    middle = len(jpeg) // 2
    with pytest.raises(ValueError, match=r"x is (damaged|cut short)"):
        decode_image(jpeg[:middle] + b"\xff\xd8\xff\x40" + jpeg[middle:], "x")


def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    png = bytearray(encode_image(drawn_picture(), ".png"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ValueError, match=r"60000 x 60000 pixels; pictures have at most"):
        decode_image(bytes(png), "x")


def photo(size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """Smooth noise, of which a JPEG is as dense as one of a photo."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.mark.parametrize("padding", [b"\0" * 40, b"\xff" * 9])
def test_a_jpeg_may_be_padded_before_its_end(padding: bytes) -> None:
    data = encode_image(photo(), ".jpg")
    padded = data[:-2] + padding + data[-2:]
    assert np.array_equal(decode_image(padded, "a.jpg"), decode_image(data, "a.jpg"))


def test_bytes_that_are_left_over_in_a_jpeg_are_damage() -> None:
    data = encode_image(photo(), ".jpg")
    for rest in (b"\x12\x34" * 8, b"\0" * 8 + b"\x55"):
        with pytest.raises(ValueError, match=r"a\.jpg is damaged .*extraneous"):
            decode_image(data[:-2] + rest + data[-2:], "a.jpg")


def test_a_jpeg_with_a_thumbnail_is_cut_short_wherever_it_ends() -> None:
    """The thumbnail within the EXIF segment has an end marker of its own."""
    data, thumbnail = encode_image(photo(), ".jpg"), encode_image(photo((16, 28)), ".jpg")
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    whole = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert np.array_equal(decode_image(whole, "a.jpg"), decode_image(data, "a.jpg"))
    for length in range(len(exif), len(whole) - 1, 97):
        with pytest.raises(ValueError, match=r"a\.jpg is cut short"):
            decode_image(whole[:length], "a.jpg")


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_most_damaged_jpegs_are_refused(options: list[int]) -> None:
    """OpenCV shows all of these. Where the Huffman code finds its way back, nobody can tell."""
    data = cv2.imencode(".jpg", photo(), options)[1].tobytes()
    chance, refused = np.random.default_rng(0), 0
    for _ in range(60):
        broken = bytearray(data)
        for position in chance.integers(650, len(data) - 2, 10):
            broken[position] ^= 1 << int(chance.integers(8))
        try:
            decode_image(bytes(broken), "a.jpg")
        except ValueError:
            refused += 1
    assert refused >= 54


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tiff"])
def test_other_formats_are_read_as_far_as_they_are_not_too_large(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cv2.imencode(suffix, photo()[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert np.array_equal(decode_image(data, "a"), photo())
    monkeypatch.setattr("iper_toolkit.images.MAX_PIXELS", 90 * 160 - 1)
    with pytest.raises(ValueError, match="160 x 90 pixels; pictures have at most 14399"):
        decode_image(data, "a")


def test_a_bmp_that_claims_a_billion_pixels() -> None:
    data = bytearray(cv2.imencode(".bmp", photo())[1].tobytes())
    data[18:26] = struct.pack("<ii", 30000, 30000)
    with pytest.raises(ValueError, match="pictures have at most 100000000 pixels"):
        decode_image(bytes(data), "a.bmp")
