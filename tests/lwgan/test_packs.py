"""Packed clips: what goes in comes out, what is done is kept, and damage is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit.body import BodyParams
from iper_toolkit.clip import Dataset
from lwgan import packs
from lwgan.packs import BadPack, PackedClip, Packs, pack_dataset, read_pack, write_pack

SIZE = 32


def written(path: Path, *, lossless: bool = True, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    masks = random.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)
    fits = torch.zeros(3, 85)
    fits[1] = torch.nan
    write_pack(
        path,
        clip_id="001/1/1",
        subject="001",
        pictures=list(pictures),
        masks=list(masks),
        plate=pictures[0],
        params=BodyParams.from_array("open-body-1", fits),
        front_frames=[2, 0],
        back_frames=[0],
        lossless=lossless,
    )
    return pictures, masks


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    pictures, masks = written(tmp_path / "a" / "clip.npz")
    clip = read_pack(tmp_path / "a" / "clip.npz")
    np.testing.assert_array_equal(clip.frames([2, 0], SIZE), pictures[[2, 0]])
    np.testing.assert_array_equal(clip.masks([1], SIZE), masks[[1]])
    np.testing.assert_array_equal(clip.background(SIZE), pictures[0])
    assert clip.valid.tolist() == [True, False, True]
    assert (clip.id, clip.subject, clip.num_frames, clip.size) == ("001/1/1", "001", 3, SIZE)
    assert (clip.front_frames, clip.back_frames) == ((2, 0), (0,))
    assert len(clip.params([0, 2])) == 2
    assert clip.frames([0], 16).shape == (1, 16, 16, 3)


def test_jpeg_loses_little_of_a_picture_and_nothing_of_a_mask(tmp_path: Path) -> None:
    _, masks = written(tmp_path / "clip.npz", lossless=False)
    np.testing.assert_array_equal(read_pack(tmp_path / "clip.npz").masks([0], SIZE)[0], masks[0])


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"001/1/1.*3 fits.*got 2"):
        written(tmp_path / "clip.npz", count=2)
    assert not any(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("damage", [b"", b"not a pack", None])
def test_damage_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "clip.npz"
    written(path)
    path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(BadPack, match=r"clip\.npz"):
        read_pack(path)


def test_a_folder_without_packs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"packs\.json"):
        Packs.open(tmp_path)
    (tmp_path / "packs.json").write_text("{}")
    with pytest.raises(BadPack, match="format"):
        Packs.open(tmp_path)


def test_a_prepared_dataset_is_packed_once(
    prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(
        prepared_root, tmp_path / "data", ignore=shutil.ignore_patterns("packed-*")
    )
    dataset = Dataset.open(root)
    told: list[str] = []
    found = pack_dataset(dataset, SIZE, split="train", tell=told.append)
    assert found.clip_ids == dataset.clip_ids
    clip, real = found.clip("001/1/1"), dataset.clip("001/1/1")
    assert isinstance(clip, PackedClip)
    assert clip.num_frames == real.num_frames
    assert clip.front_frames == real.front_frames
    difference = clip.frames([1], SIZE).astype(int) - real.frames([1], SIZE)
    assert np.abs(difference).mean() < 4
    np.testing.assert_array_equal(clip.masks([1], SIZE), real.masks([1], SIZE))
    np.testing.assert_allclose(clip.params([2]).pose, real.params([2]).pose)

    def never(job: object) -> None:
        raise AssertionError("packed twice")

    monkeypatch.setattr(packs, "_pack_one", never)
    assert pack_dataset(dataset, SIZE, split="train", tell=told.append).clip_ids == found.clip_ids
    assert len(told) == 1


def test_frames_without_a_fit_are_not_valid(prepared_root: Path) -> None:
    found = pack_dataset(Dataset.open(prepared_root), SIZE, split="train")
    real = Dataset.open(prepared_root).clip("003/1/1")
    assert found.clip("003/1/1").valid.tolist() == real.valid.tolist()


def test_an_empty_split_says_what_to_do(prepared_root: Path) -> None:
    with pytest.raises(ValueError, match=r"split 'val'.*--seed 1000"):
        pack_dataset(Dataset.open(prepared_root), SIZE, split="val")
