"""Stage `source`: which files a clip is made from, their sha256, and whether they say "synthetic"."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from iper_toolkit.images import decode_image, read_comment
from iper_toolkit.layout import SourceClip
from iper_toolkit.manifest import file_sha256
from iper_toolkit.stages import ClipWork, SourceFacts, write_json
from iper_toolkit.video import BrokenVideo, probe, read_comment_tag

MARK = "synthetic"
"""The word that a synthetic picture's or video's own comment holds."""

FRAME_FOLDER_FPS = 30.0
"""iPER's frames come from videos of this rate; folders do not say."""


def run(work: ClipWork) -> None:
    """Makes ``source.json``: files with sha256, a digest a role, and the facts of the container."""
    clip = work.clip
    files: list[dict] = []
    first_frame: bytes | None = None
    for role, path in clip.files():
        entry: dict[str, str | int] = {"role": role, "name": path.relative_to(work.root).as_posix()}
        if role == "frame":
            data = path.read_bytes()
            first_frame = data if first_frame is None else first_frame
            if not data:
                raise ValueError(f"{path} is empty (0 bytes); copy or download it again.")
            _check_mark(path, is_marked_picture(data), work.info.synthetic)
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        else:
            entry |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        files.append(entry)
    if clip.kind == "video":
        facts = _video_facts(work, clip.source)
    else:
        facts = _folder_facts(clip, first_frame)
    write_json(
        work.folder / "source.json",
        {"files": files, "digests": role_digests(files), "facts": asdict(facts)},
    )


def role_digests(files: Iterable[dict]) -> dict[str, str]:
    """Role -> digest: of one file its sha256, of several the sha256 of the list of names and sha256."""
    by_role: dict[str, list[dict]] = {}
    for entry in files:
        by_role.setdefault(entry["role"], []).append(entry)
    digests = {}
    for role, entries in by_role.items():
        if len(entries) == 1 and role != "frame":
            digests[role] = entries[0]["sha256"]
            continue
        lines = "".join(f"{Path(e['name']).name} {e['sha256']}\n" for e in entries)
        digests[role] = hashlib.sha256(lines.encode()).hexdigest()
    return digests


def is_marked(clip: SourceClip) -> bool | None:
    """Whether a clip's picture says that it is synthetic; None if it cannot be read to say so.

    Looks at one file only; the stage looks at all.
    """
    try:
        if clip.kind == "video":
            return MARK in read_comment_tag(clip.source).lower()
        files = clip.source_files()
        if not files:
            return None
        with files[0].open("rb") as file:
            head = file.read(65536)
        return is_marked_picture(head) if head else None
    except (BrokenVideo, OSError):
        return None


def is_marked_picture(data: bytes) -> bool:
    """Whether the bytes of a picture carry the mark in their comment."""
    return MARK in read_comment(data).lower()


def _check_mark(path: Path, marked: bool, synthetic: bool) -> None:
    if marked != synthetic:
        one, other = ("", "not ") if marked else ("not ", "")
        raise ValueError(
            f"{path} is {one}marked as synthetic, but dataset.toml says the root is {other}synthetic. "
            "Keep synthetic and real clips in different roots."
        )


def _video_facts(work: ClipWork, path: Path) -> SourceFacts:
    info = probe(path)
    _check_mark(path, MARK in info.comment.lower(), work.info.synthetic)
    return SourceFacts(info.width, info.height, info.fps, info.num_frames)


def _folder_facts(clip: SourceClip, first_frame: bytes | None) -> SourceFacts:
    files = clip.source_files()
    if first_frame is None:
        raise ValueError(f"{clip.source} holds no .jpg or .png frames; fill it or remove it.")
    stems = [path.stem for path in files]
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        names = ", ".join(path.name for path in files if path.stem == twice)
        raise ValueError(f"{clip.source} holds frame {twice} twice ({names}); keep one of them.")
    height, width = decode_image(first_frame, files[0]).shape[:2]
    return SourceFacts(width, height, FRAME_FOLDER_FPS, len(files))
