"""How datasets lie on disk: finding the clips under a root, and what belongs to each.

Known layouts, all of which may be looked at together:

- iPER, frames: ``images_HD/<subject>/<outfit>/<action>/*.jpg`` (or ``images/...``)
- iPER, videos: ``<subject>_<outfit>_<action>.mp4`` in the root or under ``videos/``
- a folder of plain videos: ``NAME.mp4`` in the root or under ``videos/``
- MotionSynthetic: ``videos/NAME.mp4`` with fits in ``poses/NAME/pose_shape.pkl``
- FashionVideo: ``videos/NAME.mp4`` with ``fashion_train.txt`` or ``fashion_test.txt`` (addresses of the
  videos) or ``train.txt`` or ``val.txt`` (their names with ``.mp4``); clips are named ``NAME.mp4``

Beside them: fits in ``smpls/<clip>/pose_shape.pkl``; keypoints in ``NAME.json``
or ``NAME_keypoints/``; masks in ``masks/<subject>/<outfit>/<action>.npz``, ``NAME_masks.npz``,
``NAME_mask.mp4`` or, for a single video in its folder, ``masks_half.npz``; ``train.txt`` and
``val.txt`` with one clip a line; and ``dataset.toml``, which may say more (see `DatasetInfo`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from iper_toolkit.naming import is_utf8, normalised, printable
from iper_toolkit.video import VIDEO_SUFFIXES

FRAME_FOLDERS = ("images_HD", "images")
"""Where frames lie; a clip that lies in both is read from the first."""

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")

MASK_ENDING = "_mask"

MOTION_SYNTHETIC, FASHION_VIDEO = "MotionSynthetic", "FashionVideo"

_INFO_KEYS = ("name", "synthetic", "licence", "consent", "body_id", "clips", "complete")
_SYNTHETIC_KEYS = ("purpose", "note", "seed", "size", "format", "generator_version")
"""What `iper synth` writes besides."""
_CLIP_KEYS = ("subject", "outfit", "action", "split", "licence", "consent")
_IPER_NAME = re.compile(r"(\d{3})_(\d+)_(\d+)")


@dataclass(frozen=True)
class DatasetInfo:
    """What ``<root>/dataset.toml`` says. Real datasets need none; synthetic ones must have it.

    A table ``[clips."NAME"]`` may set subject, outfit, action, split, licence and consent of one
    clip: two videos of one person should have the same subject.
    """

    name: str
    synthetic: bool = False
    licence: str = ""
    consent: str = ""
    body_id: str = ""
    """Body the fits were made for, where the fit files do not say it themselves."""
    clips: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of single clips, by their normalised name."""
    complete: bool = True
    """False while a synthetic dataset is being written."""


@dataclass(frozen=True)
class SourceClip:
    """One clip as it lies on disk, and the files beside it; nothing has been opened."""

    clip_id: str
    """``001/9/1`` for iPER, else the video's name."""
    subject: str
    outfit: str
    action: str
    split: str
    """train, val or empty."""
    kind: Literal["video", "frames"]
    source: Path
    """The video, or the folder of frames; absolute."""
    fit: Path | None
    keypoints: Path | None
    """A json file, or a folder with one json a frame."""
    masks: Path | None
    mask_source: Literal["set", "file", "body"]
    licence: str = ""
    consent: str = ""
    problem: str = ""
    """Why this clip cannot be used, known from the names alone; empty if it can."""

    def source_files(self) -> list[Path]:
        """The video, or the frames in order."""
        return [self.source] if self.kind == "video" else frame_files(self.source)

    def files(self) -> Iterator[tuple[str, Path]]:
        """(role, file) of everything that the clip is made from."""
        role = "video" if self.kind == "video" else "frame"
        yield from ((role, path) for path in self.source_files())
        if self.fit is not None:
            yield "fit", self.fit
        if self.keypoints is not None:
            files = [self.keypoints]
            if self.keypoints.is_dir():
                files = sorted(self.keypoints.glob("*.json"), key=_natural)
            yield from (("keypoints", path) for path in files)
        if self.masks is not None:
            yield "masks", self.masks


def read_dataset_info(root: Path) -> DatasetInfo:
    """``dataset.toml``, or what can be said without it."""
    path = root / "dataset.toml"
    if not path.is_file():
        return DatasetInfo(name=_recognise(root))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Correct it or remove it.") from error
    entries = table.get("clips", {})
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ValueError(f'{path}: clips are tables, [clips."NAME"]. Correct it or remove it.')
    written = _SYNTHETIC_KEYS if table.get("synthetic") is True else ()
    _check_keys(path, "", {k: v for k, v in table.items() if k not in written}, _INFO_KEYS)
    for name, entry in entries.items():
        _check_keys(path, f' of [clips."{name}"]', entry, _CLIP_KEYS)
    clips = {
        normalised(name): {key: str(value) for key, value in entry.items()}
        for name, entry in entries.items()
    }
    if not isinstance(table.get("synthetic", False), bool):
        raise ValueError(f"{path}: synthetic is {table['synthetic']!r}; write true or false.")
    return DatasetInfo(
        name=str(table.get("name", "own")),
        synthetic=table.get("synthetic", False),
        licence=str(table.get("licence", "")),
        consent=str(table.get("consent", "")),
        body_id=str(table.get("body_id", "")),
        clips=clips,
        complete=bool(table.get("complete", True)),
    )


def _check_keys(
    path: Path, where: str, table: Mapping[str, object], known: tuple[str, ...]
) -> None:
    """A misspelt key would be ignored without a word."""
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(
            f"{path}: there is no key {', '.join(unknown)}{where}; there are {', '.join(known)}."
        )


def _recognise(root: Path) -> str:
    """The public dataset that a root without dataset.toml is, by its layout, else "own"."""
    if any((root / name).is_dir() for name in (*FRAME_FOLDERS, "smpls")):
        return "iPER"
    if not (root / "videos").is_dir():
        return "own"
    if (root / "poses").is_dir():
        return MOTION_SYNTHETIC
    addresses = any((root / f"fashion_{part}.txt").is_file() for part in ("train", "test"))
    named = [name for part in ("train", "val") for name in _lines(root / f"{part}.txt")]
    if addresses or (named and all(Path(name).suffix.lower() in VIDEO_SUFFIXES for name in named)):
        return FASHION_VIDEO
    return "own"


def find_clips(root: Path, info: DatasetInfo | None = None) -> list[SourceClip]:
    """Every clip under `root`, sorted by id. A name claimed twice is one clip with a problem."""
    info = info or read_dataset_info(root)
    splits = _read_splits(root, info)
    found: dict[str, list[SourceClip]] = {}
    for names, kind, source in (*_frame_clips(root), *_video_clips(root)):
        clip = _describe(root, info, splits, names, kind, source)
        found.setdefault(clip.clip_id, []).append(clip)
    return [_only_one(root, clips) for _, clips in sorted(found.items(), key=lambda i: i[0])]


def frame_files(folder: Path) -> list[Path]:
    """The frames of a folder by number: ``2.jpg`` comes before ``10.jpg``."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
    return sorted((path for path in files if not path.name.startswith(".")), key=_natural)


def missing_frames(files: Iterable[Path]) -> list[str]:
    """Names that a numbered sequence of frames lacks: ``0001.jpg`` of 0000, 0002, 0003."""
    numbered = {int(path.stem): path for path in files if path.stem.isdecimal()}
    if not numbered:
        return []
    some = next(iter(numbered.values()))
    absent = sorted(set(range(min(min(numbered), 1), max(numbered))) - set(numbered))
    return [f"{number:0{len(some.stem)}d}{some.suffix}" for number in absent]


# ------------------------------------------------------------------------------------------- finding


_Found = tuple[tuple[str, str, str] | None, Literal["video", "frames"], Path]


def _frame_clips(root: Path) -> Iterator[_Found]:
    seen = set()
    for top in FRAME_FOLDERS:
        for folder in sorted((root / top).glob("*/*/*/"), key=_natural):
            subject, outfit, action = folder.relative_to(root / top).parts
            if (subject, outfit, action) not in seen and not subject.startswith("."):
                seen.add((subject, outfit, action))
                yield (subject, outfit, action), "frames", folder


def _video_clips(root: Path) -> Iterator[_Found]:
    for folder in (root, root / "videos"):
        if not folder.is_dir():
            continue
        videos = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
        ]
        stems = {path.stem for path in videos}
        for path in sorted(videos):
            if path.stem.endswith(MASK_ENDING) and path.stem.removesuffix(MASK_ENDING) in stems:
                continue
            match = _IPER_NAME.fullmatch(path.stem)
            yield (match.group(1), match.group(2), match.group(3)) if match else None, "video", path


def _describe(
    root: Path,
    info: DatasetInfo,
    splits: Mapping[str, str],
    names: tuple[str, str, str] | None,
    kind: Literal["video", "frames"],
    source: Path,
) -> SourceClip:
    name = source.stem if kind == "video" else source.name
    on_disk = "/".join(names) if names else name
    if info.name == FASHION_VIDEO and kind == "video":
        on_disk = source.name
    clip_id = normalised(printable(on_disk))
    subject, outfit, action = (normalised(printable(n)) for n in names or (name, "1", "1"))
    said = info.clips.get(clip_id, {})
    masks, mask_source = _find_masks(root, on_disk, source, name)
    return SourceClip(
        clip_id=clip_id,
        subject=said.get("subject", subject),
        outfit=said.get("outfit", outfit),
        action=said.get("action", action),
        split=said.get("split", splits.get(clip_id, "")),
        kind=kind,
        source=source,
        fit=_first_there(
            root / "smpls" / on_disk / "pose_shape.pkl", root / "poses" / name / "pose_shape.pkl"
        ),
        keypoints=_first_there(
            source.with_name(f"{name}.json"), source.with_name(f"{name}_keypoints")
        ),
        masks=masks,
        mask_source=mask_source,
        licence=said.get("licence", info.licence),
        consent=said.get("consent", info.consent),
        problem=_name_problem(on_disk),
    )


def _find_masks(
    root: Path, clip_id: str, source: Path, name: str
) -> tuple[Path | None, Literal["set", "file", "body"]]:
    own = root / "masks" / f"{clip_id}.npz"
    if own.is_file():
        return own, "set"
    beside = [source.with_name(f"{name}_masks.npz")]
    beside += [source.with_name(f"{name}{MASK_ENDING}{suffix}") for suffix in VIDEO_SUFFIXES]
    half = source.with_name("masks_half.npz")  # it names no clip, so there must be only one
    if half.exists() and _is_only_video(source):
        beside.append(half)
    found = _first_there(*beside)
    return (found, "file") if found else (None, "body")


def _is_only_video(source: Path) -> bool:
    videos = [p for p in source.parent.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
    return videos == [source]


def _first_there(*paths: Path) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _only_one(root: Path, clips: list[SourceClip]) -> SourceClip:
    if len(clips) == 1:
        return clips[0]
    sources = ", ".join(sorted(clip.source.relative_to(root).as_posix() for clip in clips))
    problem = (
        f"{len(clips)} sources have the name {clips[0].clip_id}: {sources}. Keep one of them or "
        "rename the others."
    )
    return replace(clips[0], problem=problem)


def _name_problem(name: str) -> str:
    if any(ord(character) < 32 for character in name):
        return f"The name {name!r} holds control characters; rename the file."
    if not is_utf8(name):
        return f"The name {printable(name)} is not UTF-8 on disk; rename it."
    return ""


def _lines(path: Path) -> list[str]:
    """The lines of a text that are not empty; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line]


def listed_clips(root: Path, info: DatasetInfo) -> dict[str, list[tuple[str, str]]]:
    """Of train.txt and val.txt each line and the clip id that it means, by the name of the split.

    Lines may be written ``s/o/a``, ``s_o_a`` or ``NAME.mp4``.
    """
    listed: dict[str, list[tuple[str, str]]] = {}
    for split in ("train", "val"):
        for line in _lines(root / f"{split}.txt"):
            name = normalised(line)
            if info.name != FASHION_VIDEO and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                name = Path(name).stem
            match = _IPER_NAME.fullmatch(name)
            clip_id = "/".join(match.groups()) if match else name
            listed.setdefault(split, []).append((line, clip_id))
    return listed


def _read_splits(root: Path, info: DatasetInfo) -> dict[str, str]:
    """clip id -> "train" or "val"."""
    listed = listed_clips(root, info)
    return {clip_id: split for split, lines in listed.items() for _, clip_id in lines}


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key under which digits count as numbers."""
    pieces = re.split(r"(\d+)", path.stem)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces if p], path.name
