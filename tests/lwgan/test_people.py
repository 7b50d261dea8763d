"""People and motions out of what a user names."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.atomic import PART_PREFIX
from iper_toolkit.body import BodyMismatch, load_body
from iper_toolkit.clip import Dataset
from iper_toolkit.images import encode_image, read_image, write_image
from iper_toolkit.manifest import BadManifest, NotPrepared, file_sha256
from iper_toolkit.source_views import choose_sources
from lwgan import raw_files as raw
from lwgan.clothing import thickness_of
from lwgan.people import (
    UnfitFrames,
    _clip_of,
    check_size,
    open_frames,
    ranges,
    read_motion,
    read_person,
    split_frames,
    split_parts,
)

SIZE = 64


# --------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "name", "frames"),
    [
        ("001/1/1", "001/1/1", None),
        ("001/1/1@0,30", "001/1/1", "0,30"),
        ("dance.mp4@10-80", "dance.mp4", "10-80"),
        ("dance.mp4@10-", "dance.mp4", "10-"),
        ("me@home.png", "me@home.png", None),
        ("me@home.png@3", "me@home.png", "3"),
        ("001/1/1@", "001/1/1", ""),
    ],
)
def test_names_and_frames(text: str, name: str, frames: str | None) -> None:
    assert split_frames(text) == (name, frames)


def test_a_file_that_is_called_like_frames(tmp_path: Path) -> None:
    file = tmp_path / "clip@10-80"
    file.mkdir()
    assert split_frames(str(file)) == (str(file), None)
    assert split_frames(f"{file}@3") == (str(file), "3")


def test_people_and_their_parts(tmp_path: Path) -> None:
    assert split_parts("001/1/1") == (["001/1/1"], ())
    assert split_parts("a.png+b.mp4@0,3=upper, feet") == (
        ["a.png", "b.mp4@0,3"],
        ("upper", "feet"),
    )
    odd = tmp_path / "1+1=2.png"
    odd.touch()
    assert split_parts(str(odd)) == ([str(odd)], ())
    assert split_parts(f"{odd}=head") == ([str(odd)], ("head",))


@pytest.mark.parametrize("frames", [[0], [0, 1, 2, 5], [3, 2, 1], [4, 5, 4, 5]])
def test_ranges_can_be_typed_again(prepared_root: Path, frames: list[int]) -> None:
    named = open_frames(f"001/1/1@{ranges(frames)}", root=prepared_root)
    assert list(named.chosen()) == frames
    assert ranges([0, 1, 2, 7]) == "0-2,7"


@pytest.mark.parametrize("size", [250, 8, 0, 257])
def test_sizes_that_networks_do_not_take(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8") as caught:
        check_size(size)
    for near in re.findall(r"\d+", str(caught.value).split("take")[1]):
        check_size(int(near))


# ------------------------------------------------------------------------------------ prepared clips


def test_sources_show_the_front_and_the_back(prepared_root: Path) -> None:
    person = read_person(["001/1/1"], size=SIZE, root=prepared_root)
    clip = Dataset.open(prepared_root).clip("001/1/1")
    frames = [clip.front_frames[0], clip.back_frames[0]]
    assert frames == [0, 3]  # of a turn in six frames
    np.testing.assert_array_equal(person.pictures, clip.frames(frames, SIZE))
    np.testing.assert_array_equal(person.masks, clip.masks(frames, SIZE))
    np.testing.assert_array_equal(person.plate, clip.background(SIZE))
    np.testing.assert_array_equal(person.params.to_array(), clip.params(frames).to_array())
    digest = clip.row["source_sha256"]
    assert person.origin == tuple(f"001/1/1 frame {f} (sha256 {digest})" for f in frames)
    assert person.name == "001/1/1"


def test_named_frames_and_several_sources(prepared_root: Path) -> None:
    person = read_person(["001/1/1@4,1", "002/1/1"], size=SIZE, num_sources=3, root=prepared_root)
    first, second = (Dataset.open(prepared_root).clip(f"00{n}/1/1") for n in (1, 2))
    chosen = choose_sources(second, 3)
    wanted = np.concatenate([first.frames([4, 1], SIZE), second.frames(chosen, SIZE)])
    assert person.num_sources == 5
    np.testing.assert_array_equal(person.pictures[:2], wanted[:2])
    np.testing.assert_array_equal(np.sort(person.pictures[2:], 0), np.sort(wanted[2:], 0))
    np.testing.assert_array_equal(person.plate, first.background(SIZE))
    assert [line.split(" (")[0] for line in person.origin[:2]] == [
        "001/1/1 frame 4",
        "001/1/1 frame 1",
    ]


def test_warnings_about_sources(prepared_root: Path) -> None:
    """Frames 0 and 1 of six show the front and 60 degrees beside it, frame 3 the back."""
    cases = [
        (["001/1/1"], []),
        (["001/1/1@0,1"], ["No source shows the person from behind: even frame 1 of 001/1/1"]),
        (["001/1/1@3", "002/1/1@0"], ["WARNING: 001/1/1 and 002/1/1 show different people"]),
    ]
    for sources, beginnings in cases:
        told: list[str] = []
        read_person(sources, size=SIZE, root=prepared_root, tell=told.append)
        assert len(told) == len(beginnings)
        for text, beginning in zip(told, beginnings, strict=True):
            assert text.startswith(beginning)


def test_people_who_are_too_small(prepared_root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"At size 16 the person in frame 0 of 001/1/1 has \d+ pix"
    ):
        read_person(["001/1/1"], size=16, root=prepared_root)


def test_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert split_frames("~/me.mp4@3") == (str(tmp_path / "me.mp4"), "3")


def test_pieces_of_a_motion(prepared_root: Path) -> None:
    clip = Dataset.open(prepared_root).clip("001/1/1")
    for text, limit, frames in [
        ("001/1/1", 0, [0, 1, 2, 3, 4, 5]),
        ("001/1/1@2-4", 0, [2, 3, 4]),
        ("001/1/1@2-", 2, [2, 3]),
    ]:
        motion = read_motion(text, max_frames=limit, root=prepared_root)
        assert motion.chosen == tuple(frames)
        np.testing.assert_array_equal(motion.params.to_array(), clip.params().to_array())
        assert motion.fps == clip.fps
        assert motion.origin[0].startswith(f"001/1/1 frames {ranges(frames)} (sha256 ")


def test_pictures_of_a_motion(prepared_root: Path) -> None:
    named = open_frames("001/1/1@2-4", root=prepared_root)
    shown = list(named.pictures([0, 0, 2], SIZE))
    np.testing.assert_array_equal(shown, named.clip.frames([2, 2, 4], SIZE))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("009/1/1", FileNotFoundError, "which has 001/1/1, 002/1/1, 003/1/1"),
        ("001/1/1@6", ValueError, "has frames 0 to 5; got 6"),
        ("001/1/1@3-9", ValueError, "has frames 0 to 5; got 9"),
        ("001/1/1@4-2", ValueError, "runs backwards; write 2-4"),
        ("001/1/1@1,,2", ValueError, "'' is no frame. Write frames as 0,30 or as 10-80"),
        ("001/1/1@3--4", ValueError, "'3--4' is no frame"),
        ("001/1/1@", ValueError, "No frame stands behind the @"),
        ("001/1/1@0,3,0", ValueError, "Frame 0 of 001/1/1 is named twice"),
        ("001/1/1=upper", FileNotFoundError, "for --person of lwgan transfer"),
        ("003/1/1@0,2", UnfitFrames, "Frame 2 of 003/1/1 shows nobody.*Choose another, such as"),
    ],
)
def test_sources_that_cannot_be(
    prepared_root: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_person([text], size=SIZE, root=prepared_root)


def test_a_motion_with_frames_that_show_nobody(prepared_root: Path) -> None:
    """The message names a piece that can be imitated."""
    with pytest.raises(UnfitFrames, match="Frames 2 of 003/1/1") as caught:
        read_motion("003/1/1", root=prepared_root)
    advice = str(caught.value).split("Leave them out: ")[1]
    motion = read_motion(advice, root=prepared_root)
    assert len(motion) == 5
    assert motion.stretches() == [slice(0, 2), slice(3, 6)]
    with pytest.raises(UnfitFrames, match="choose other frames") as caught:
        read_motion("003/1/1@2", root=prepared_root)
    assert len(read_motion(str(caught.value).split()[-1], root=prepared_root)) == 5


def test_too_few_sources(prepared_root: Path) -> None:
    with pytest.raises(ValueError, match=r"60 sources are wanted.*--num-sources 6"):
        read_person(["001/1/1"], size=SIZE, num_sources=60, root=prepared_root)
    with pytest.raises(ValueError, match="at least one source"):
        read_person([], size=SIZE, root=prepared_root)


def test_a_fit_of_another_body(prepared_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        id = "smpl-0123456789ab"

    monkeypatch.setattr("lwgan.people.load_body", lambda name: Other())
    with pytest.raises(BodyMismatch, match=r"'open-body-1', and 'smpl-0123456789ab'.*--body"):
        read_person(["001/1/1"], size=SIZE, root=prepared_root)


def test_roots_that_are_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(NotPrepared, match="iper prepare --root"):
        read_person(["001/1/1"], size=SIZE, root=tmp_path)


def test_without_a_root_a_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file 001/1/1, and data is no prepared"):
        read_person(["001/1/1"], size=SIZE)


def test_damaged_tables_stand_in_nobodys_way(
    prepared_root: Path, raw_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read whatever ./data is, unless it was named; a clip's name needs it."""
    shutil.copytree(prepared_root / "manifests", tmp_path / "data" / "manifests")
    (tmp_path / "data" / "manifests" / "clips.parquet").write_bytes(b"no table")
    monkeypatch.chdir(tmp_path)
    file = str(raw_files / "me.png")
    assert _clip_of(None, file) is None
    for root, name in [(None, "001/1/1"), (Path("data"), "001/1/1"), (Path("data"), file)]:
        with pytest.raises(BadManifest, match="iper prepare --root data"):
            _clip_of(root, name)


# ----------------------------------------------------------------------------------------- raw files


@pytest.fixture
def own(raw_files: Path, tmp_path: Path) -> Path:
    """A copy of the raw files that may be changed."""
    folder = tmp_path / "own"
    shutil.copytree(raw_files, folder)
    return folder


def test_a_picture_with_keypoints_and_mask(quick_fit: None, raw_files: Path, cache: Path) -> None:
    person = read_person([raw_files / "me.png"], size=SIZE, cache=cache)
    assert person.pictures.shape == (1, SIZE, SIZE, 3)
    digest = file_sha256(raw_files / "me.png")
    assert person.origin == (f"me.png frame 0 (sha256 {digest})",)
    # The mask is the file's and not the body's silhouette: it covers what is no wall.
    clip = open_frames(raw_files / "me.png", cache=cache).clip
    assert clip.mask_source == "file"
    assert clip.fit_source == "keypoints"
    inside = clip.crop.cut(read_image(raw_files / "me_mask.png")[..., 0])
    assert abs(float(person.masks.mean()) - float(inside.mean())) < 2


def test_without_a_mask_nobody_wears_the_margin_around_the_body(
    quick_fit: None, own: Path, cache: Path
) -> None:
    (own / "me_mask.png").unlink()
    person = read_person([own / "me.png"], size=SIZE, cache=cache)
    clip = open_frames(own / "me.png", cache=cache).clip
    assert clip.mask_source == "body"
    body = load_body("open")
    worn, padded = (
        float(thickness_of(body, person.params, masks).mean())
        for masks in (person.masks, clip.masks([0], SIZE))
    )
    assert abs(worn) < 0.01  # metres
    assert padded > worn + 0.01


def test_what_was_prepared_once_is_read_at_once(
    quick_fit: None, raw_files: Path, own: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content is the same person, wherever it lies and whatever it is called."""
    first = read_person([raw_files / "me.png"], size=SIZE, cache=cache)
    told: list[str] = []
    for name in ("me.png", "me_keypoints.json", "me_mask.png"):
        (own / name).rename(own / name.replace("me", "somebody else", 1))

    def never(*args: object, **options: object) -> None:
        raise AssertionError("prepared again")

    monkeypatch.setattr("iper_toolkit.prepare.prepare", never)
    again = read_person([own / "somebody else.png"], size=SIZE, cache=cache, tell=told.append)
    np.testing.assert_array_equal(first.pictures, again.pictures)
    np.testing.assert_array_equal(first.params.to_array(), again.params.to_array())
    assert not [text for text in told if text.startswith("Preparing")]


@pytest.mark.parametrize("changed", ["me.png", "me_keypoints.json", "me_mask.png"])
def test_changed_content_is_another_clip(own: Path, changed: str) -> None:
    def key() -> str:
        return raw._key(list(raw.find_raw_files(own / "me.png").placed()), raw.Options())

    before = key()
    if changed.endswith(".png"):
        write_image(own / changed, 255 - read_image(own / changed))
    else:
        (own / changed).write_text((own / changed).read_text().replace("1.0", "0.9"))
    assert key() != before


def test_a_kill_leaves_nothing_half_read(
    quick_fit: None, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the files are copied, then while they are prepared; the third attempt ends well."""
    cache = tmp_path / "cache"

    class Killed(BaseException):
        pass

    def kill(*args: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("lwgan.raw_files._description", kill)
        with pytest.raises(Killed):
            read_person([own / "me.png"], size=SIZE, cache=cache)
    assert not [path for path in cache.iterdir() if not path.name.startswith(PART_PREFIX)]
    with monkeypatch.context() as patch:
        patch.setattr("iper_toolkit.stages.mask.run", kill)
        with pytest.raises(Killed):
            read_person([own / "me.png"], size=SIZE, cache=cache)
    (root,) = cache.iterdir()
    assert (root / "cache" / f"fit-v{raw.VERSIONS['fit']}").is_dir()  # what was done
    assert not (root / "manifests").exists()
    with monkeypatch.context() as patch:
        patch.setattr("iper_toolkit.stages.fit.run", kill)  # is not done again
        assert read_person([own / "me.png"], size=SIZE, cache=cache).num_sources == 1


def test_a_video_and_a_folder_of_frames(
    quick_fit: None, raw_files: Path, own: Path, cache: Path, tmp_path: Path
) -> None:
    motion = read_motion(raw_files / "dance.mp4", cache=cache)
    assert (len(motion), motion.fps, motion.name) == (3, 30, "dance.mp4")
    clip = open_frames(raw_files / "dance.mp4", cache=cache).clip
    (own / "steps").mkdir()
    for number in range(3):
        write_image(own / "steps" / f"{number:03d}.png", clip.source_frame(number))
    (own / "dance.json").rename(own / "steps.json")
    steps = read_motion(own / "steps", cache=tmp_path / "other")
    np.testing.assert_allclose(steps.params.to_array(), motion.params.to_array(), atol=1e-5)


def test_drawn_pictures_stay_marked(own: Path, tmp_path: Path) -> None:
    """A picture that says it is synthetic makes a synthetic root of its own."""
    comment = "synthetic: drawn"
    (own / "me.jpg").write_bytes(encode_image(read_image(own / "me.png"), ".jpg", comment=comment))
    for name, marked in (("me.jpg", "true"), ("me.png", "false")):
        placed = list(raw.find_raw_files(own / name).placed())
        raw._build(tmp_path / name, placed)
        text = (tmp_path / name / "dataset.toml").read_text()
        assert f"synthetic = {marked}" in text


def test_keypoints_that_cannot_be_used_are_named_as_they_lie(own: Path, tmp_path: Path) -> None:
    """Not as the copies in the cache are called."""
    short = {"people": [{"pose_keypoints_2d": [1.0] * 54}]}
    (own / "me_keypoints.json").write_text(json.dumps(short))
    with pytest.raises(ValueError, match="54 numbers") as caught:
        read_person([own / "me.png"], size=SIZE, cache=tmp_path / "cache")
    assert str(own / "me_keypoints.json") in str(caught.value)
    assert "images/person" not in str(caught.value)


def test_a_mask_that_shows_nobody(quick_fit: None, own: Path, tmp_path: Path) -> None:
    """The message names it, and no copy of the pictures stays behind."""
    write_image(own / "me_mask.png", np.zeros((128, 128, 3), np.uint8))
    with pytest.raises(ValueError, match="no frame shows the person") as caught:
        read_person([own / "me.png"], size=SIZE, cache=tmp_path / "cache")
    assert str(caught.value).startswith(f"{own / 'me.png'} could not be prepared: no frame")
    assert str(caught.value).endswith(f"The mask is {own / 'me_mask.png'}")
    assert not list((tmp_path / "cache").iterdir())


def test_copies_have_the_names_of_their_files(own: Path, tmp_path: Path) -> None:
    """What else lies in the cache, such as a result that finds no room, keeps its whole path."""
    root = tmp_path / "cache" / "0123"
    files = raw.find_raw_files(own / "dance.mp4")
    result = root / "cache" / "proxy-v2" / "clip" / "proxy.mp4"
    for reason, expected in [
        ("clip.mp4: cut off", f"{files.source}: cut off"),
        (f"{root}/clip.json: no frames", f"{files.keypoints}: no frames"),
        (f"{root / 'clip'}: a clip of 3 frames", f"{files.source}: a clip of 3 frames"),
        (f"Cannot write {result}: disk full", f"Cannot write {result}: disk full"),
    ]:
        told = raw._in_own_names(reason, files, root)
        assert told.replace(f"a {files.source} of", "a clip of") == expected


def test_a_cache_that_cannot_be_made(own: Path) -> None:
    (own / "notes").touch()
    with pytest.raises(OSError, match=r"notes/cache, where .* cannot be made .*--cache"):
        read_person([own / "me.png"], size=SIZE, cache=own / "notes" / "cache")


def test_raw_files_that_cannot_be_read(own: Path) -> None:
    (own / "empty").mkdir()
    (own / "notes.txt").write_text("me")
    (own / "me.HEIC").touch()
    write_image(own / "alone.png", read_image(own / "me.png"))
    cases = [
        ("alone.png", FileNotFoundError, r"alone\.json, alone_keypoints\.json or alone_keypoints/"),
        ("notes.txt", ValueError, r"neither a picture nor a video"),
        ("me.HEIC", ValueError, r"me.HEIC: .HEIC is not read. Convert it to .jpg"),
        ("empty", ValueError, "holds no .* frames"),
    ]
    for name, error, message in cases:
        with pytest.raises(error, match=message):
            read_person([own / name], size=SIZE, cache=own / "cache")
    assert not (own / "cache").exists()


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_CACHE", str(tmp_path))
    assert raw.cache_folder() == tmp_path
    monkeypatch.delenv("IPER_CACHE")
    assert raw.cache_folder() == Path.home() / ".cache" / "iper" / "prepared"
