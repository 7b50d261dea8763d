"""Pictures and videos with keypoints beside them, prepared on first use and kept in a cache.

What the toolkit knows to prepare is a dataset folder. So the files are copied into a small one of their own,
named after their content, and `iper_toolkit.prepare` does the rest. The same content is never prepared twice,
wherever it lies and whatever it is called; changed content is another folder.

Beside ``NAME.png`` or ``NAME.mp4`` (or a folder ``NAME/`` of frames) lie its keypoints, ``NAME.json``,
``NAME_keypoints.json`` or ``NAME_keypoints/``, and, if there are any, its masks: ``NAME_masks.npz``,
``NAME_mask.mp4`` or, of a picture, ``NAME_mask.png``. Without masks the body's silhouette is taken.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from iper_toolkit import folders
from iper_toolkit.atomic import part_folder
from iper_toolkit.body import load_body
from iper_toolkit.clip import Clip, Dataset
from iper_toolkit.layout import (
    FRAME_SUFFIXES,
    MASK_ENDING,
    DatasetInfo,
    find_clips,
    frame_files,
)
from iper_toolkit.manifest import BadManifest, NotPrepared, file_sha256
from iper_toolkit.masks import read_mask_picture
from iper_toolkit.stages import VERSIONS, Options
from iper_toolkit.video import VIDEO_SUFFIXES

Kind = Literal["picture", "frames", "video"]

# How the small dataset's one clip is called: as frames, which pictures are too, and as a video.
_FRAMES, _VIDEO = "images/person/1/1", "clip"
_OTHER_PICTURES = (".heic", ".heif", ".avif", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_KEYPOINT_FORMS = (
    "OpenPose's BODY_25 or MediaPipe's 33 landmarks (for a video, of every frame); "
    "docs/lwgan.md shows how to make them"
)


@dataclass(frozen=True)
class RawFiles:
    """A picture, a video or a folder of frames, and what lies beside it."""

    kind: Kind
    source: Path
    keypoints: Path
    """A json file, or a folder with one a frame."""
    masks: Path | None

    def placed(self) -> Iterator[tuple[Path, str]]:
        """(file, where it goes in the small dataset)."""
        name = _VIDEO if self.kind == "video" else _FRAMES
        if self.kind == "frames":
            yield from ((path, f"{name}/{path.name}") for path in frame_files(self.source))
        elif self.kind == "picture":
            yield self.source, f"{name}/0000{self.source.suffix.lower()}"
        else:
            yield self.source, f"{name}{self.source.suffix.lower()}"
        if self.keypoints.is_dir():
            for path in sorted(self.keypoints.glob("*.json")):
                yield path, f"{name}_keypoints/{path.name}"
        else:
            yield self.keypoints, f"{name}.json"
        if self.masks is not None:
            ending = MASK_ENDING if self.masks.suffix.lower() in VIDEO_SUFFIXES else "_masks"
            suffix = ".npz" if _is_picture(self.masks) else self.masks.suffix.lower()
            yield self.masks, f"{name}{ending}{suffix}"


def find_raw_files(path: Path) -> RawFiles:
    """What `path` is, and the keypoints and masks beside it; nothing is opened.

    Raises:
        FileNotFoundError: it has no keypoints. ValueError: it is neither picture, video nor frames.
    """
    if path.is_dir():
        kind, name = "frames", path.name
        if not frame_files(path):
            raise ValueError(f"{path} holds no {' or '.join(FRAME_SUFFIXES)} frames; fill it.")
    elif _is_picture(path):
        kind, name = "picture", path.stem
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        kind, name = "video", path.stem
    else:
        known = ", ".join((*FRAME_SUFFIXES, *VIDEO_SUFFIXES))
        if path.suffix.lower() in _OTHER_PICTURES:
            raise ValueError(
                f"{path}: {path.suffix} is not read. Convert it to .jpg or .png first."
            )
        raise ValueError(
            f"{path} is neither a picture nor a video that is read ({known}), nor a folder of frames."
        )
    return RawFiles(kind, path, _find_keypoints(path, name), _find_masks(path, name, kind))  # type: ignore[arg-type]


def prepared_clip(
    files: RawFiles,
    *,
    body: str = "open",
    cache: Path | None = None,
    tell: Callable[[str], object] = lambda text: None,
) -> Clip:
    """The files as a prepared clip. The first time takes a while, mostly to fit the body.

    May be killed at any moment and started again: what is done is not done twice.

    Args:
        files: from `find_raw_files`.
        body: what `load_body` takes; the body that is fitted.
        cache: folder for what was prepared; default: `cache_folder`.
        tell: told in a sentence when there is something to prepare.

    Raises:
        ValueError: nobody could be found in them; says which file is to blame, and why.
    """
    placed = list(files.placed())
    options = Options(body=body)
    root = (cache or cache_folder()) / _key(placed, options)
    if not root.is_dir():
        _make_folder(root.parent)
        _build(root, placed)
    if (clip := _finished(root)) is not None:
        return clip
    from iper_toolkit.prepare import prepare

    tell(
        f"Preparing {files.source}: crop, fit of the body, masks, background. The first time takes a "
        f"while; the result is kept in {root}"
    )
    summary = prepare(root, options=options)
    for reason in summary.failures.values():
        shutil.rmtree(root, ignore_errors=True)  # or pictures of people would pile up there
        why = _in_own_names(reason, files, root).removeprefix(f"{files.source}: ")
        if "mask" in why and files.masks is not None and str(files.masks) not in why:
            why += f" The mask is {files.masks}"
        raise ValueError(f"{files.source} could not be prepared: {why}")
    clip = _finished(root)
    if clip is None:
        raise ValueError(f"{root} stays unprepared. Remove this folder and try again.")
    return clip


def cache_folder() -> Path:
    """Where prepared files are kept: the folder that IPER_CACHE names, else ~/.cache/iper/prepared."""
    named = folders.named_folder("IPER_CACHE")
    return named if named is not None else folders.cache_folder("IPER_CACHE") / "prepared"


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The folder {cache}, where prepared files are kept, cannot be made ({error.strerror}). Name another "
            "one with --cache, or with IPER_CACHE in the environment."
        ) from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in FRAME_SUFFIXES


def _find_keypoints(path: Path, name: str) -> Path:
    names = (f"{name}.json", f"{name}_keypoints.json", f"{name}_keypoints")
    for candidate in names:
        if path.with_name(candidate).exists():
            return path.with_name(candidate)
    raise FileNotFoundError(
        f"{path} has no keypoints beside it. Put them there as {names[0]}, {names[1]} or {names[2]}/: "
        f"{_KEYPOINT_FORMS}."
    )


def _find_masks(path: Path, name: str, kind: str) -> Path | None:
    endings = [f"{name}_masks.npz", *(f"{name}{MASK_ENDING}{end}" for end in VIDEO_SUFFIXES)]
    if kind == "picture":
        endings += [f"{name}{MASK_ENDING}{end}" for end in FRAME_SUFFIXES]
    return next((found for end in endings if (found := path.with_name(end)).is_file()), None)


def _key(placed: list[tuple[Path, str]], options: Options) -> str:
    """A digest over everything that the prepared clip depends on."""
    content: dict[str, Any] = {
        "files": [[name, path.suffix.lower(), file_sha256(path)] for path, name in placed],
        "body": load_body(options.body).id,
        "crop_factor": options.crop_factor,
        "stages": VERSIONS,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _build(root: Path, placed: list[tuple[Path, str]]) -> None:
    """The small dataset, whole or not there."""
    with part_folder(root.parent) as part:
        small = part / "root"
        for path, name in placed:
            target = small / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_picture(path) and target.suffix == ".npz":
                np.savez_compressed(target, masks=read_mask_picture(path)[None])
            else:
                shutil.copyfile(path, target)
        (small / "dataset.toml").write_text(_description(small), encoding="utf-8")
        try:
            small.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was first, with the same content
                raise


def _description(small: Path) -> str:
    """``dataset.toml``: our own drawings and other marked pictures stay marked as synthetic."""
    from iper_toolkit.stages.source import is_marked

    (clip,) = find_clips(small, DatasetInfo(name="own"))
    return f'name = "own"\nsynthetic = {str(bool(is_marked(clip))).lower()}\n'


def _finished(root: Path) -> Clip | None:
    try:
        dataset = Dataset.open(root)
    except (NotPrepared, BadManifest):
        return None
    return dataset.clip(dataset.clip_ids[0]) if dataset.clip_ids else None


def _in_own_names(reason: str, files: RawFiles, root: Path) -> str:
    """A reason that speaks of the copies, in the names of the files that were copied.

    Other paths within `root`, such as those of results, stay as they are.
    """
    clip = _VIDEO if files.kind == "video" else _FRAMES
    named = {name: str(path) for path, name in files.placed()}
    named |= {f"{clip}_keypoints": str(files.keypoints), clip: str(files.source)}
    copies = {str(root / name): own for name, own in named.items()} | named
    # A clip id is a word only where it is not part of another path, nor of a longer word.
    any_copy = "|".join(map(re.escape, sorted(copies, key=len, reverse=True)))
    return re.sub(rf"(?<![\w/.-])(?:{any_copy})(?![\w-])", lambda found: copies[found[0]], reason)
