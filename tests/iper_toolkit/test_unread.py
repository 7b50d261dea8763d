"""Roots as users have them: other encodings and Unicode forms, files that nobody reads, names that mean nothing."""

import errno
import json
import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from iper_toolkit import atomic
from iper_toolkit.cli import main
from iper_toolkit.clip import Dataset
from iper_toolkit.layout import find_clips, read_dataset_info
from iper_toolkit.prepare import prepare
from iper_toolkit.synthetic.dataset import _claim, _settings
from iper_toolkit.unread import unmatched_names, unread_files
from iper_toolkit.video import write_video


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.full((64, 64, 3), 40 * k, np.uint8) for k in range(3)], 30)


NFC, NFD = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("typed", [NFC, NFD])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lists_match_whatever_form_they_were_typed_in(
    tmp_path: Path, on_disk: str, typed: str, encoding: str, ending: str
) -> None:
    for name in ("anna", on_disk):
        video(tmp_path / f"{name}.mp4")
    (tmp_path / "train.txt").write_text(
        ending.join(["anna.mp4", "no_such_clip.mp4", ""]), encoding=encoding, newline=""
    )
    (tmp_path / "val.txt").write_text(f"{typed}.mp4{ending}", encoding=encoding, newline="")
    (tmp_path / "dataset.toml").write_text(
        f'name = "own"{ending}[clips."{typed}"]{ending}subject = "zoe"{ending}[clips."bob"]{ending}',
        encoding=encoding,
        newline="",
    )
    info = read_dataset_info(tmp_path)
    clips = {clip.clip_id: clip for clip in find_clips(tmp_path, info)}
    assert (clips["anna"].split, clips[NFC].split, clips[NFC].subject) == ("train", "val", "zoe")
    assert unmatched_names(tmp_path, info, list(clips.values())) == [
        "train.txt: no_such_clip.mp4",
        'dataset.toml: [clips."bob"]',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('nmae = "own"', "no key nmae; there are name"),
        ('[clips."a"]\nsubjct = "x"', r'no key subjct of \[clips."a"\]'),
        ("clips = 3", "clips are tables"),
    ],
)
def test_a_misspelt_key_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_dataset_info(tmp_path)


def test_what_synth_writes_is_read(tmp_path: Path) -> None:
    _claim(tmp_path / "data", _settings("few", 1, "frames"))
    info = read_dataset_info(tmp_path / "data")
    assert (info.name, info.synthetic, info.complete) == ("synthetic-iper", True, False)


def test_files_that_nobody_reads_are_named(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    video(tmp_path / "sub" / "b.mp4")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "clip.xyz").write_bytes(b"x")
    frames = tmp_path / "images_HD" / "001" / "1" / "1"
    frames.mkdir(parents=True)
    cv2.imwrite(str(frames / "0000.jpg"), np.zeros((8, 8, 3), np.uint8))
    (frames / "0001.webp").write_bytes(b"x")
    for number in (1, 2):
        lost = tmp_path / "smpls" / "009" / "1" / str(number)
        lost.mkdir(parents=True)
        (lost / "pose_shape.pkl").write_bytes(b"x")
    for ignored in (".hidden", "README.md", "manifests/clips.parquet", "cache/x", "protocol/y"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_bytes(b"x")
    assert unread_files(tmp_path, find_clips(tmp_path)) == [
        "clip.xyz",
        "images_HD/001/1/1/0001.webp",
        "other.json",
        "smpls/ (2 files)",
        "sub/b.mp4",
    ]


def test_prepare_says_what_it_does_not_use(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    (tmp_path / "holiday.heic").write_bytes(b"x")
    (tmp_path / "train.txt").write_text("b.mp4\n")
    done = CliRunner().invoke(main, ["prepare", "--root", str(tmp_path)])
    assert done.exit_code == 1  # a has no keypoints
    assert "Not read: holiday.heic." in done.stderr
    assert "Names without a clip: train.txt: b.mp4." in done.stderr
    assert "1 clip;" in done.stdout


def test_a_name_that_is_no_utf8_fails_alone(tmp_path: Path) -> None:
    video(tmp_path / "good.mp4")
    bad = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        with open(bad, "wb") as file:
            file.write((tmp_path / "good.mp4").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    summary = prepare(tmp_path)
    assert summary.tables_written
    assert "not UTF-8 on disk; rename it" in summary.failures["caf\\xe9"]
    assert "rename" not in summary.failures["good"]
    assert Dataset.open(tmp_path).failures.keys() == {"caf\\xe9", "good"}
    json.dumps(summary.failures).encode()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_tables_and_a_warning(
    tmp_path: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    atomic._warn_of_no_locks.cache_clear()
    video(tmp_path / "a.mp4")
    assert prepare(tmp_path).tables_written
    assert "this file system has no locks" in caplog.text
    assert (tmp_path / "manifests" / "clips.parquet").is_file()


def test_two_prepares_do_a_clip_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process waits for a clip that the first one works on, instead of removing its parts."""
    pytest.importorskip("fcntl")
    video(tmp_path / "a.mp4")
    held: list[Path] = []
    locked = atomic.locked
    monkeypatch.setattr(
        "iper_toolkit.prepare.locked", lambda path: held.append(path) or locked(path)
    )
    prepare(tmp_path)
    assert tmp_path / "cache" / "locks" / "a.lock" in held
