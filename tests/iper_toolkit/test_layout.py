"""Finding clips: iPER's layouts, plain videos, odd names, names claimed twice."""

from pathlib import Path

import pytest

from iper_toolkit.layout import find_clips, frame_files, missing_frames, read_dataset_info
from iper_toolkit.protocols import protocol_of


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_every_layout_is_found(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images_HD/001/9/1/0000.jpg",
        "smpls/001/9/1/pose_shape.pkl",
        "masks/001/9/1.npz",
        "images/002/1/2/000.jpg",
        "003_1_1.mp4",
        "videos/003_1_2.mp4",
        "smpls/003/1/2/pose_shape.pkl",
        "me dancing é.mp4",
        "me dancing é.json",
        "me dancing é_mask.mp4",
        "videos/you.webm",
        "videos/you_keypoints/0_keypoints.json",
        "videos/you_masks.npz",
        ".hidden.mp4",
        "notes.txt",
    )
    (tmp_path / "train.txt").write_text("001/9/1\n003_1_1\n\n")
    (tmp_path / "val.txt").write_text("002/1/2\nyou.webm\n")
    clips = {clip.clip_id: clip for clip in find_clips(tmp_path)}
    assert list(clips) == ["001/9/1", "002/1/2", "003/1/1", "003/1/2", "me dancing é", "you"]
    first = clips["001/9/1"]
    assert (first.subject, first.outfit, first.action, first.split) == ("001", "9", "1", "train")
    assert (first.kind, first.mask_source) == ("frames", "set")
    assert first.fit == tmp_path / "smpls/001/9/1/pose_shape.pkl"
    assert [clips[name].split for name in list(clips)[1:]] == ["val", "train", "", "", "val"]
    assert clips["003/1/2"].fit is not None
    own = clips["me dancing é"]
    assert own.keypoints == tmp_path / "me dancing é.json"
    assert (own.masks, own.mask_source) == (tmp_path / "me dancing é_mask.mp4", "file")
    assert clips["you"].keypoints == tmp_path / "videos/you_keypoints"
    assert clips["you"].masks == tmp_path / "videos/you_masks.npz"
    assert clips["002/1/2"].mask_source == "body"
    roles = [(role, path.name) for role, path in clips["you"].files()]
    assert roles == [
        ("video", "you.webm"),
        ("keypoints", "0_keypoints.json"),
        ("masks", "you_masks.npz"),
    ]


def test_half_size_masks_count_only_where_it_is_clear_whose_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "masks_half.npz")
    assert find_clips(tmp_path)[0].mask_source == "file"
    touch(tmp_path, "b.mp4")
    assert [clip.mask_source for clip in find_clips(tmp_path)] == ["body", "body"]


def test_a_name_claimed_twice_is_a_problem_of_that_name_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.mov", "b.mp4", "images_HD/001/1/1/0.jpg", "001_1_1.mp4")
    clips = {clip.clip_id: clip for clip in find_clips(tmp_path)}
    assert "a.mov, a.mp4. Keep one of them" in clips["a"].problem
    assert "001_1_1.mp4, images_HD/001/1/1" in clips["001/1/1"].problem
    assert clips["b"].problem == ""


def test_frames_in_both_folders_are_taken_from_the_larger_ones(tmp_path: Path) -> None:
    touch(tmp_path, "images/001/1/1/0.jpg", "images_HD/001/1/1/0.jpg")
    (clip,) = find_clips(tmp_path)
    assert clip.source == tmp_path / "images_HD/001/1/1"
    assert clip.problem == ""


def test_frames_are_sorted_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "10.jpg", "9.jpg", "1.JPG", "._1.jpg", "thumbs.db")
    files = frame_files(tmp_path)
    assert [path.name for path in files] == ["1.JPG", "9.jpg", "10.jpg"]


def test_missing_frames_are_named() -> None:
    files = [Path(f"{number:04d}.jpg") for number in (0, 1, 3, 6)]
    assert missing_frames(files) == ["0002.jpg", "0004.jpg", "0005.jpg"]
    assert missing_frames([Path("1.jpg"), Path("2.jpg")]) == []
    assert missing_frames([Path("a.jpg")]) == []


def test_dataset_toml_may_say_more(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "dataset.toml").write_text(
        'name = "mine"\nlicence = "CC-BY"\nconsent = "signed"\n'
        '[clips."a"]\nsubject = "anna"\nsplit = "val"\nlicence = "own"\n'
    )
    info = read_dataset_info(tmp_path)
    assert (info.name, info.synthetic) == ("mine", False)
    (clip,) = find_clips(tmp_path)
    assert (clip.subject, clip.split) == ("anna", "val")
    assert (clip.licence, clip.consent) == ("own", "signed")


@pytest.mark.parametrize("text", ["name = ", 'synthetic = "yes"', "clips = 3"])
def test_a_broken_dataset_toml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.toml"):
        read_dataset_info(tmp_path)


def test_names_without_toml(tmp_path: Path) -> None:
    assert read_dataset_info(tmp_path).name == "own"
    touch(tmp_path, "images_HD/001/1/1/0.jpg")
    assert read_dataset_info(tmp_path).name == "iPER"


def test_motion_synthetic(tmp_path: Path) -> None:
    name = "PeopleSnapshot_female-3-sport_1650_0094"
    for path in (f"videos/{name}.mp4", f"poses/{name}/pose_shape.pkl", f"poses/{name}/kps.pkl"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "val.txt").write_text(f"{name}\n")
    (clip,) = find_clips(tmp_path)
    assert (clip.clip_id, clip.split) == (name, "val")
    assert clip.fit == tmp_path / "poses" / name / "pose_shape.pkl"
    protocol = protocol_of(tmp_path, read_dataset_info(tmp_path).name)
    assert protocol.id == "motion-synthetic-v1"
    assert clip.clip_id in {case.video for case in protocol.self_imitation}


@pytest.mark.parametrize("listing", ["val.txt", "fashion_test.txt"])
def test_fashion_video(tmp_path: Path, listing: str) -> None:
    name = "91M3UFSKn8S.mp4"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / name).touch()
    (tmp_path / "videos/91M3UFSKn8S.json").touch()
    address = "" if listing == "val.txt" else "https://example.org/"
    (tmp_path / listing).write_text(f"{address}{name}\n\n")
    (clip,) = find_clips(tmp_path)
    assert (clip.clip_id, clip.split) == (name, "val" if listing == "val.txt" else "")
    assert clip.keypoints == tmp_path / "videos/91M3UFSKn8S.json"
    protocol = protocol_of(tmp_path, read_dataset_info(tmp_path).name)
    assert protocol.id == "fashion-video-v1"
    assert clip.clip_id in {case.video for case in protocol.self_imitation}


def test_plain_videos_stay_ones_own(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/me.mp4").touch()
    (clip,) = find_clips(tmp_path)
    assert (clip.clip_id, read_dataset_info(tmp_path).name) == ("me", "own")
