"""Compare a prepared root with what was recorded of it: tables, cache and source files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iper_toolkit import manifest
from iper_toolkit.layout import SourceClip, find_clips, read_dataset_info
from iper_toolkit.prepare import STAGES
from iper_toolkit.progress import counted
from iper_toolkit.stages import STAGE_FILE, read_json, stage_folder


@dataclass(frozen=True)
class Finding:
    """One thing that is not as recorded."""

    clip_id: str
    """Empty for the tables themselves."""
    file: str
    """Relative to the root."""
    problem: str
    """What is wrong, and what to do."""


def check_root(root: Path) -> list[Finding]:
    """Everything that is not as recorded; empty if all is well. Reads every file once.

    Raises:
        manifest.NotPrepared: there is nothing recorded yet.
    """
    about = manifest.read_about(root)
    findings = list(_check_tables(root, about))
    if findings:
        return findings  # without sound tables there is nothing to compare with
    clips = {clip.clip_id: clip for clip in find_clips(root, read_dataset_info(root))}
    rows = {row["clip_id"]: row for row in manifest.read_clips(root).to_pylist()}
    for clip_id in sorted(set(clips) - set(rows)):
        source = clips[clip_id].source.relative_to(root).as_posix()
        findings.append(Finding(clip_id, source, "is not prepared yet; run iper prepare"))
    for clip_id, row in counted(rows.items(), "checking", len(rows), "clip"):
        if row["status"] != "done":
            findings.append(
                Finding(clip_id, row["source"], f"could not be prepared: {row['error']}")
            )
        elif clip_id not in clips:
            findings.append(Finding(clip_id, row["source"], "is gone; put it back"))
        else:
            findings.extend(_check_clip(root, clips[clip_id], row))
    return findings


def _check_tables(root: Path, about: dict[str, Any]) -> Iterator[Finding]:
    for name, sha256 in about["files"].items():
        path = root / manifest.FOLDER / name
        file = f"{manifest.FOLDER}/{name}"
        if not path.is_file():
            yield Finding("", file, "is missing; run iper prepare")
        elif manifest.file_sha256(path) != sha256:
            yield Finding("", file, "differs from dataset.json; remove it and run iper prepare")


def _check_clip(root: Path, clip: SourceClip, row: dict[str, Any]) -> Iterator[Finding]:
    """Source files first: what the cache holds follows from them."""
    try:
        record = read_json(stage_folder(root, "source", clip.clip_id) / "source.json")
        recorded = {entry["name"]: entry for entry in record["files"]}
    except (OSError, ValueError, KeyError):
        yield Finding(clip.clip_id, "cache", "has no record of the source; run iper prepare")
        return
    there = {path.relative_to(root).as_posix(): (role, path) for role, path in clip.files()}
    for name, entry in recorded.items():
        if name not in there:
            yield Finding(clip.clip_id, name, "is missing; put it back or run iper prepare")
        elif problem := _file_problem(there[name][1], entry):
            if there[name][0] == "fit":
                problem += _fit_length(there[name][1], row["num_frames"])
            yield Finding(clip.clip_id, name, problem)
    for name in sorted(set(there) - set(recorded)):
        yield Finding(clip.clip_id, name, "was not there when the clip was prepared; prepare again")
    yield from _check_cache(root, clip.clip_id)
    num_rows = manifest.read_frames_table(root, clip.clip_id).num_rows
    if num_rows != row["num_frames"]:
        problem = f"has {num_rows} rows of this clip; it has {row['num_frames']} frames"
        yield Finding(clip.clip_id, f"{manifest.FOLDER}/{manifest.FRAMES_FILE}", problem)


def _file_problem(path: Path, entry: dict[str, Any]) -> str:
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"has {size} bytes, it had {entry['bytes']}; put it back or run iper prepare"
        if manifest.file_sha256(path) != entry["sha256"]:
            return (
                "has other content than when it was prepared; put it back, or touch the file (prepare "
                "goes by sizes and times) and run iper prepare"
            )
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _fit_length(path: Path, num_frames: int) -> str:
    from iper_toolkit.unpickle import read_fit

    try:
        length = len(read_fit(path)["cams"])
    except (ValueError, OSError) as error:
        return f" ({error})"
    return "" if length == num_frames else f" (fits {length} frames, the clip has {num_frames})"


def _check_cache(root: Path, clip_id: str) -> Iterator[Finding]:
    for stage in STAGES:
        folder = stage_folder(root, stage.name, clip_id)
        name = folder.relative_to(root).as_posix()
        try:
            outputs = read_json(folder / STAGE_FILE)["outputs"]
        except (OSError, ValueError, KeyError):
            yield Finding(clip_id, f"{name}/{STAGE_FILE}", "is missing; run iper prepare")
            continue
        for output, entry in outputs.items():
            if not (folder / output).is_file():
                yield Finding(clip_id, f"{name}/{output}", "is missing; run iper prepare")
            elif _file_problem(folder / output, entry):
                # prepare trusts sizes, so a flipped byte has to be removed for it to be made again
                problem = "is damaged; remove it and run iper prepare"
                yield Finding(clip_id, f"{name}/{output}", problem)
