"""The reading side: clips, frames from the source, fits, masks, backgrounds."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iper_toolkit import manifest, source_check
from iper_toolkit.clip import Clip, Dataset
from iper_toolkit.images import read_image, resize
from iper_toolkit.manifest import BadManifest
from iper_toolkit.prepare import prepare
from iper_toolkit.stages import stage_folder
from iper_toolkit.video import read_frames


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, mini: type) -> Path:
    root = tmp_path_factory.mktemp("clips") / "data"
    mini.frames(root, "001/1/1", seed=1)
    mini.video(root, "002/1/2", seed=2)
    mini.frames(root, "003/1/1", seed=3)
    (root / "images_HD/003/1/1/0000.jpg").write_bytes(b"")
    (root / "val.txt").write_text("002/1/2\n")
    prepare(root)
    return root


@pytest.fixture
def folder_clip(root: Path) -> Clip:
    return Dataset.open(root).clip("001/1/1")


@pytest.fixture
def video_clip(root: Path) -> Clip:
    return Dataset.open(root).clip("002/1/2")


def test_a_dataset_lists_what_is_ready(root: Path) -> None:
    dataset = Dataset.open(str(root))
    assert dataset.clip_ids == ("001/1/1", "002/1/2")
    assert list(dataset.failures) == ["003/1/1"]
    assert (dataset.name, dataset.synthetic) == ("iPER", False)
    assert dataset.digest == manifest.read_about(root)["digests"]["dataset"]
    with pytest.raises(KeyError, match=r"could not be prepared: .*0000\.jpg is empty"):
        dataset.clip("003/1/1")
    with pytest.raises(KeyError, match="no clip '009/1/1'; it has 001/1/1"):
        dataset.clip("009/1/1")


def test_facts_of_a_clip(video_clip: Clip) -> None:
    clip = video_clip
    assert (clip.id, clip.subject, clip.outfit, clip.action) == ("002/1/2", "002", "1", "2")
    assert (clip.split, clip.num_frames, clip.fps) == ("val", 8, 25)
    assert (clip.body_id, clip.fit_source, clip.mask_source) == ("open-body-1", "official", "body")
    assert (clip.crop.left, clip.crop.top, clip.crop.side) == (0, 0, 96)
    assert clip.valid.dtype == bool
    assert clip.valid.all()
    assert set(clip.front_frames) == set(clip.back_frames) == set(range(8))
    assert clip.front_scores[clip.front_frames[0]] == clip.front_scores.max()
    assert np.isnan(clip.keypoints).all()


def test_looks_are_not_learned_from_the_margin_of_a_body_mask(
    folder_clip: Clip, video_clip: Clip
) -> None:
    margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    look, covered = video_clip.appearance_masks([3, 0], 256), video_clip.masks([3, 0], 256)
    assert (look > 127).sum() < 0.9 * (covered > 127).sum()
    for inner, outer in zip(look, covered, strict=True):
        np.testing.assert_array_equal(cv2.dilate(inner, margin), outer)
    np.testing.assert_array_equal(folder_clip.appearance_masks([2], 64), folder_clip.masks([2], 64))


def test_frames_come_from_the_source(folder_clip: Clip, video_clip: Clip) -> None:
    whole = [read_image(path) for path in sorted(folder_clip.source.iterdir())]
    assert np.array_equal(folder_clip.frames([5, 0, 5], 96), np.stack(whole)[[5, 0, 5]])
    decoded = list(read_frames(video_clip.source))
    assert np.array_equal(video_clip.frames(range(8), 96), decoded)
    smaller = [resize(frame, (40, 40)) for frame in decoded]
    assert np.array_equal(video_clip.frames([7, 2, 3], 40), np.stack(smaller)[[7, 2, 3]])
    assert np.array_equal(list(video_clip.iterate([1, 4], 40)), np.stack(smaller)[[1, 4]])
    assert video_clip.frames([], 40).shape == (0, 40, 40, 3)


def test_reading_in_pieces_is_one_pass(video_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from iper_toolkit import video

    opened = []
    open_decoder = video.open_decoder
    monkeypatch.setattr(video, "open_decoder", lambda *a: opened.append(1) or open_decoder(*a))
    for first in range(0, 8, 2):
        video_clip.frames([first, first + 1], 32)
    assert len(opened) == 1


@pytest.mark.parametrize("index", [-1, 8])
def test_frames_that_are_not_there(folder_clip: Clip, index: int) -> None:
    for read in (folder_clip.frames, folder_clip.masks):
        with pytest.raises(IndexError, match=r"has frames 0 \.\. 7"):
            read([index], 32)
    with pytest.raises(IndexError, match=r"has frames 0 \.\. 7"):
        folder_clip.params([index])


@pytest.mark.parametrize("index", [True, np.bool_(True), 1.5, "1", None])
def test_frames_are_named_by_whole_numbers(folder_clip: Clip, index: object) -> None:
    for read in (folder_clip.frames, folder_clip.masks):
        with pytest.raises(TypeError, match="a frame's number is a whole number"):
            read([index], 32)  # type: ignore[list-item]
    assert folder_clip.frames(np.array([1]), 32).shape == (1, 32, 32, 3)  # type: ignore[arg-type]


def test_a_picture_has_a_size(folder_clip: Clip) -> None:
    for read in (folder_clip.frames, folder_clip.masks):
        with pytest.raises(ValueError, match="size is 0"):
            read([0], 0)


def test_params_are_the_given_fit(folder_clip: Clip, mini: type) -> None:
    fit = torch.from_numpy(mini.clip(1, 8)[2])
    assert torch.equal(folder_clip.params().to_array(), fit)
    assert torch.equal(folder_clip.params([6, 1]).to_array(), fit[[6, 1]])
    assert folder_clip.params().body_id == "open-body-1"


def test_masks_of_the_set_are_exact(folder_clip: Clip, mini: type) -> None:
    masks = mini.clip(1, 8)[1]
    assert np.array_equal(folder_clip.masks([3, 1], 96), masks[[3, 1]])
    halves = masks.reshape(8, 48, 2, 48, 2).mean((2, 4))
    assert np.abs(folder_clip.masks(range(8), 48) - halves).max() <= 0.5


def test_masks_of_the_body_cover_it_with_a_margin(video_clip: Clip, mini: type) -> None:
    truth = mini.clip(2, 8)[1] > 127
    masks = video_clip.masks(range(8), 96) > 127
    assert (masks & truth).sum() == truth.sum()
    assert 1 < masks.sum() / truth.sum() < 2


def test_the_background_has_no_person(folder_clip: Clip, mini: type) -> None:
    frames, masks, _ = mini.clip(1, 8)
    plate = folder_clip.background(96).astype(int)
    seen_free = (masks == 0).sum(0) >= 6
    free = np.where(masks[:, seen_free, None] == 0, frames[:, seen_free].astype(float), np.nan)
    assert np.abs(plate[seen_free] - np.nanmedian(free, axis=0)).mean() < 3
    person = frames[0][masks[0] == 255].mean(0)
    assert np.abs(plate - person).max(-1).min() > 8  # nothing of the grey body is left
    assert folder_clip.background(24).shape == (24, 24, 3)


def test_tables_and_cache_of_different_runs_are_told_apart(
    root: Path, tmp_path: Path, mini: type
) -> None:
    other = tmp_path / "data"
    mini.frames(other, "001/1/1", seed=1)
    prepare(other)
    clip = Dataset.open(other).clip("001/1/1")
    from iper_toolkit.crop import SquareCrop
    from iper_toolkit.masks import PackedMasks

    path = stage_folder(other, "mask", "001/1/1") / "masks.npz"
    PackedMasks.write(path, [np.zeros((90, 90), np.uint8)] * 8, SquareCrop(3, 3, 90))
    with pytest.raises(manifest.BadManifest, match="newer than the tables"):
        clip.masks([0], 32)
    (other / "images_HD/001/1/1/0003.jpg").unlink()
    with pytest.raises(manifest.BadManifest, match="holds 7 frames, but 8 when it was prepared"):
        clip.frames([0], 32)
    (other / "manifests/clips.parquet").write_bytes((root / "manifests/clips.parquet").read_bytes())
    with pytest.raises(manifest.BadManifest, match="do not belong together"):
        Dataset.open(other)


@pytest.mark.parametrize("clip_id", ["001/1/1", "002/1/2"])
def test_pictures_that_changed_are_not_read(root: Path, tmp_path: Path, clip_id: str) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(root, copied, copy_function=shutil.copyfile)  # new times, same content
    clip = Dataset.open(copied).clip(clip_id)
    assert np.array_equal(clip.frames([3], 48), Dataset.open(root).clip(clip_id).frames([3], 48))
    path = clip.source if clip.source.is_file() else clip.source / "0003.jpg"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(1, 1))
    with pytest.raises(BadManifest, match=r"changed since it was prepared.*run: iper prepare"):
        Dataset.open(copied).clip(clip_id).frames([0], 48)


def test_unchanged_pictures_are_not_hashed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_check, "_pictures_sha256", None)
    for clip_id in ("001/1/1", "002/1/2"):
        assert len(Dataset.open(root).clip(clip_id).frames([0], 16)) == 1
