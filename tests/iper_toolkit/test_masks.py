"""Masks: packed, and read from the files that datasets ship."""

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from iper_toolkit.crop import SquareCrop
from iper_toolkit.masks import PackedMasks, read_mask_picture, read_masks, read_npz_header
from iper_toolkit.synthetic.files import MARK
from iper_toolkit.video import write_video

SOFT = np.random.default_rng(0).integers(0, 256, (5, 24, 24), dtype=np.uint8)


def test_packed_masks_are_exact_and_picked_alone(tmp_path: Path) -> None:
    crop = SquareCrop(-3, 4, 24)
    PackedMasks.write(tmp_path / "masks.npz", SOFT, crop)
    packed = PackedMasks.read(tmp_path / "masks.npz")
    assert len(packed) == 5
    assert packed.crop == crop
    assert np.array_equal(packed.at([4, 0, 4], 24), SOFT[[4, 0, 4]])
    half = SOFT.reshape(5, 12, 2, 12, 2).mean((2, 4))
    assert np.abs(packed.at(range(5), 12) - half).max() <= 0.5


def test_damaged_packs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    PackedMasks.write(path, SOFT, SquareCrop(0, 0, 24))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"masks\.npz is damaged"):
        PackedMasks.read(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_masks_come_frame_by_frame(tmp_path: Path, compressed: bool) -> None:
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "m.npz", masks=SOFT, synthetic=np.array(True))
    assert np.array_equal(list(read_masks(tmp_path / "m.npz")), SOFT)
    assert read_npz_header(tmp_path / "m.npz") == ((5, 24, 24), True)


def test_bool_and_float_masks_become_grey_levels(tmp_path: Path) -> None:
    np.savez(tmp_path / "bool.npz", masks=SOFT > 127)
    assert np.array_equal(list(read_masks(tmp_path / "bool.npz")), (SOFT > 127) * 255)
    np.savez(tmp_path / "float.npz", masks=SOFT.astype(np.float32) / 255)
    assert np.array_equal(list(read_masks(tmp_path / "float.npz")), SOFT)
    np.savez(tmp_path / "wrong.npz", masks=SOFT.astype(np.float32))
    with pytest.raises(ValueError, match=r"must lie in 0 \.\. 1; store uint8"):
        list(read_masks(tmp_path / "wrong.npz"))


def test_masks_of_ones_are_masks(tmp_path: Path) -> None:
    np.savez(tmp_path / "ones.npz", masks=(SOFT > 127).astype(np.uint8))
    assert np.array_equal(list(read_masks(tmp_path / "ones.npz")), (SOFT > 127) * 255)
    np.savez(tmp_path / "nobody.npz", masks=np.zeros((2, 4, 4), np.uint8))
    assert not np.any(list(read_masks(tmp_path / "nobody.npz")))
    mixed = (SOFT > 127).astype(np.uint8)
    mixed[3] *= 255
    np.savez(tmp_path / "mixed.npz", masks=mixed)
    with pytest.raises(ValueError, match=r"mixed\.npz: masks are 0 and 1 up to frame 3"):
        list(read_masks(tmp_path / "mixed.npz"))


OBJECT = np.zeros((60, 80), np.uint8)
OBJECT[10:50, 20:40] = 255
OTHER = np.zeros_like(OBJECT)
OTHER[30:55, 50:75] = 255
PHOTO = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
SOFT_OBJECT = cv2.GaussianBlur(OBJECT, (9, 9), 0)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (OBJECT, OBJECT),
        (OBJECT // 255, OBJECT),
        (SOFT_OBJECT, SOFT_OBJECT),
        (OBJECT.astype(np.uint16) * 257, OBJECT),
        (np.dstack([OBJECT] * 3), OBJECT),
        (np.dstack([PHOTO, OBJECT]), OBJECT),
        (np.dstack([PHOTO, SOFT_OBJECT]), SOFT_OBJECT),
        (np.dstack([np.full_like(OBJECT, 255)] * 3 + [OBJECT]), OBJECT),
        (np.dstack([OBJECT] * 4), OBJECT),
        (np.dstack([OBJECT] * 3 + [np.full_like(OBJECT, 255)]), OBJECT),
    ],
    ids="grey ones soft deep rgb cut-out soft-cut-out white-alpha all-four opaque".split(),
)
def test_mask_pictures_are_read_by_alpha_or_grey(
    tmp_path: Path, picture: np.ndarray, expected: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), picture)
    np.testing.assert_array_equal(read_mask_picture(tmp_path / "m.png"), expected)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (PHOTO, "is coloured: its channels differ"),
        (np.dstack([PHOTO, np.full_like(OBJECT, 255)]), "is coloured: its channels differ"),
        (np.dstack([OTHER * 0, OTHER // 2, OBJECT // 2]), "is coloured: its channels differ"),
        (np.dstack([PHOTO, OBJECT * 0]), "the same alpha everywhere"),
        (np.maximum(OBJECT // 255 * 38, OTHER // 255 * 75), "the largest value is 75"),
        (np.maximum(OBJECT // 255, OTHER // 255 * 2), "the largest value is 2"),
        (np.maximum(OBJECT // 2, OTHER), "much of it has the grey level 127"),
    ],
    ids="photo opaque-photo palette transparent grey-palette labels two-levels".split(),
)
def test_pictures_that_are_no_masks_are_refused(
    tmp_path: Path, picture: np.ndarray, message: str
) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), picture)
    with pytest.raises(ValueError, match=rf"m\.png.*{message}"):
        read_mask_picture(tmp_path / "m.png")


def test_label_maps_and_colour_videos_are_refused(tmp_path: Path) -> None:
    labels = np.stack([np.maximum(OBJECT // 255, OTHER // 255 * 2)] * 3)
    np.savez(tmp_path / "labels.npz", masks=labels)
    with pytest.raises(ValueError, match=r"labels\.npz: the largest value is 2"):
        list(read_masks(tmp_path / "labels.npz"))
    write_video(tmp_path / "me_mask.mp4", np.stack([cv2.resize(PHOTO[:6, :8], (80, 60))] * 3), 25)
    with pytest.raises(ValueError, match=r"me_mask\.mp4: frame 0 is coloured"):
        list(read_masks(tmp_path / "me_mask.mp4"))


def test_masks_much_larger_than_the_frames_are_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, masks=np.zeros((2, 6000, 6000), np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.npz: masks is .*more than 4 times as large"):
            list(read_masks(path, frame_size=(600, 600)))
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_grey_video_is_a_mask_file(tmp_path: Path) -> None:
    squares = np.zeros((6, 32, 32, 3), np.uint8)
    squares[:, 8:24, 8:24] = 255
    write_video(tmp_path / "me_mask.mp4", squares, 25)
    masks = list(read_masks(tmp_path / "me_mask.mp4"))
    assert len(masks) == 6
    assert np.abs(masks[3].astype(int) - squares[3, ..., 0]).max() < 30


def test_other_npz_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=SOFT)
    with pytest.raises(ValueError, match="no array called masks"):
        read_npz_header(tmp_path / "other.npz")
    np.savez(tmp_path / "flat.npz", masks=SOFT[0])
    with pytest.raises(ValueError, match=r"must be \(frames, height, width"):
        list(read_masks(tmp_path / "flat.npz"))
    np.savez(tmp_path / "names.npz", masks=np.array([["a"]]))
    with pytest.raises(ValueError, match="must be uint8, bool or float"):
        list(read_masks(tmp_path / "names.npz"))
    np.savez(tmp_path / "objects.npz", masks=np.array([None, 1], dtype=object))
    with pytest.raises(ValueError, match=r"must be uint8, bool or float"):
        list(read_masks(tmp_path / "objects.npz"))
    (tmp_path / "none.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no whole \.npz file"):
        list(read_masks(tmp_path / "none.npz"))


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, masks=SOFT)
    data = bytearray(path.read_bytes())
    data[1500] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"m\.npz is damaged"):
        list(read_masks(path))


@pytest.mark.parametrize(
    ("mark", "expected"), [(True, True), (False, False), (MARK, True), ("", False)]
)
def test_the_mark_of_synthetic_masks_is_a_bool_or_a_text(
    tmp_path: Path, mark: bool | str, expected: bool
) -> None:
    np.savez(tmp_path / "m.npz", masks=np.zeros((1, 8, 8), bool), synthetic=np.array(mark))
    assert read_npz_header(tmp_path / "m.npz") == ((1, 8, 8), expected)


@pytest.mark.parametrize("mark", [np.ones(3, bool), np.array("x" * 1000), np.array(2.5)])
def test_other_marks_are_refused(tmp_path: Path, mark: np.ndarray) -> None:
    np.savez(tmp_path / "m.npz", masks=np.zeros((1, 8, 8), bool), synthetic=mark)
    with pytest.raises(ValueError, match="one bool or one short text"):
        read_npz_header(tmp_path / "m.npz")
