"""What lies under a root and is not used: files that no clip is made from, and lists that name nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from iper_toolkit.layout import (
    FASHION_VIDEO,
    FRAME_SUFFIXES,
    DatasetInfo,
    SourceClip,
    listed_clips,
)
from iper_toolkit.naming import normalised, printable

# What the toolkit itself writes or reads beside clips, and what people keep with a dataset.
_OWN_FOLDERS = ("manifests", "cache", "protocol", "truth", "runs")
_OWN_FILES = ("dataset.toml", "train.txt", "val.txt", "fashion_train.txt", "fashion_test.txt")
_BESIDE_FITS = "kps.pkl"  # iPER ships its own keypoints beside its fits
_DOCUMENTS = ("readme", "license", "licence", "copying", "changelog", "citation")


def unread_files(root: Path, clips: Sequence[SourceClip]) -> list[str]:
    """Files under `root` that no clip is made from, as paths relative to it, sorted.

    A folder of which nothing is read stands for all its files, with their number. Hidden files, what the toolkit
    writes and texts like README are left out.
    """
    read, frame_folders = set(), set()
    for clip in clips:
        if clip.kind == "frames":
            frame_folders.add(clip.source)
            read |= {path for role, path in clip.files() if role != "frame"}
        else:
            read |= {path for _, path in clip.files()}
    found = _unread_below(root, root, read, frame_folders)
    return sorted(printable(name) for name in found[0])


def _unread_below(
    folder: Path, root: Path, read: set[Path], frame_folders: set[Path]
) -> tuple[list[str], int, bool]:
    """Names that are not read, how many files they are, and whether anything of the folder is read."""
    names: list[str] = []
    count, is_read = 0, folder in frame_folders
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if folder == root and entry.name in _OWN_FOLDERS:
                    continue
                inner, number, inner_read = _unread_below(path, root, read, frame_folders)
                names += inner
                count += number
                is_read |= inner_read
            elif path in read:
                is_read = True
            elif not _is_expected(path, folder == root, folder in frame_folders):
                names.append(path.relative_to(root).as_posix())
                count += 1
    if count > 1 and not is_read and folder != root:
        names = [f"{folder.relative_to(root).as_posix()}/ ({count} files)"]
    return names, count, is_read


def _is_expected(path: Path, in_root: bool, in_frames: bool) -> bool:
    name = path.name.lower()
    if in_frames and path.suffix.lower() in FRAME_SUFFIXES:
        return True
    if path.name == _BESIDE_FITS and path.with_name("pose_shape.pkl").is_file():
        return True
    return (in_root and name in _OWN_FILES) or path.stem.lower() in _DOCUMENTS


def unmatched_names(root: Path, info: DatasetInfo, clips: Sequence[SourceClip]) -> list[str]:
    """Lines of train.txt and val.txt, and tables of dataset.toml, that name no clip under `root`."""
    known = {normalised(clip.clip_id) for clip in clips}
    found = [
        f"{split}.txt: {printable(line)}"
        for split, lines in listed_clips(root, info).items()
        for line, clip_id in lines
        if clip_id not in known
    ]
    if info.name == FASHION_VIDEO:  # its lists are the whole dataset's, of which anybody has a part
        found = []
    return found + [f'dataset.toml: [clips."{name}"]' for name in info.clips if name not in known]
