"""Compare a prepared root with what was recorded of it: tables, cache and source files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from iper_toolkit import manifest
from iper_toolkit.layout import DatasetInfo, SourceClip, find_clips, read_dataset_info
from iper_toolkit.prepare import HASHED, STAGES, MixedRoot, check_marks
from iper_toolkit.progress import counted
from iper_toolkit.stages import STAGE_FILE, read_json, stage_folder
from iper_toolkit.stages.rows import read_rows


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
    findings = list(_check_tables(root))
    if findings:
        return findings  # without sound tables there is nothing to compare with
    info = read_dataset_info(root)
    clips = {clip.clip_id: clip for clip in find_clips(root, info)}
    table = manifest.read_clips(root)
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    frames = manifest.read_frames_table(root)
    findings += _check_content(root, info, list(clips.values()), table, frames)
    slices = manifest.by_clip(frames)
    for clip_id in sorted(
        set(slices) - {name for name, row in rows.items() if row["status"] == "done"}
    ):
        problem = "has frames of this clip, which is not among the prepared ones; run iper prepare"
        findings.append(Finding(clip_id, f"{manifest.FOLDER}/{manifest.FRAMES_FILE}", problem))
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
            findings.extend(_check_rows(root, row, slices.get(clip_id, frames.slice(0, 0))))
    return findings


def _check_tables(root: Path) -> Iterator[Finding]:
    """dataset.json against itself, and the tables' bytes against dataset.json."""
    try:
        about = manifest.read_about(root)
    except manifest.BadManifest as error:
        yield Finding("", f"{manifest.FOLDER}/{manifest.DATASET_FILE}", _within(root, error))
        return
    for name, sha256 in about["files"].items():
        path = root / manifest.FOLDER / name
        file = f"{manifest.FOLDER}/{name}"
        if not path.is_file():
            yield Finding("", file, "is missing; run iper prepare")
        elif manifest.file_sha256(path) != sha256:
            yield Finding("", file, "differs from dataset.json; run iper prepare")


def _check_content(
    root: Path,
    info: DatasetInfo,
    clips: list[SourceClip],
    table: pa.Table,
    frames: pa.Table,
) -> Iterator[Finding]:
    """The tables' content against the digests, and the mark "synthetic" against the clips' own."""
    about = manifest.read_about(root)
    for name, content in ((manifest.CLIPS_FILE, table), (manifest.FRAMES_FILE, frames)):
        if manifest.table_digest(content) != about["digests"][name.partition(".")[0]]:
            problem = "has other content than its digest in dataset.json; run iper prepare"
            yield Finding("", f"{manifest.FOLDER}/{name}", problem)
    if about["synthetic"] != info.synthetic:
        problem = (
            f"says synthetic = {about['synthetic']}, dataset.toml says {info.synthetic}; "
            "run iper prepare"
        )
        yield Finding("", f"{manifest.FOLDER}/{manifest.DATASET_FILE}", problem)
    try:
        check_marks(root, info, clips)
    except MixedRoot as error:
        yield Finding("", "dataset.toml", _within(root, error))


def _check_rows(root: Path, row: dict[str, Any], frames: pa.Table) -> Iterator[Finding]:
    """A clip's lines of both tables against what the cache holds of it."""
    name = f"{manifest.FOLDER}/{manifest.FRAMES_FILE}"
    try:
        manifest.check_clip_frames(root, row, frames)
    except manifest.BadManifest as error:
        yield Finding(row["clip_id"], name, _within(root, error))
        return
    try:
        cached_row, cached = read_rows(stage_folder(root, "rows", row["clip_id"]))
        same_row = manifest.clips_table([cached_row]).to_pylist() == [row]
        same_frames = manifest.table_digest(cached) == manifest.table_digest(frames)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        yield Finding(row["clip_id"], "cache", "has damaged rows of this clip; run iper prepare")
        return
    again = "differs from the cache; run iper prepare"
    if not same_row:
        yield Finding(row["clip_id"], f"{manifest.FOLDER}/{manifest.CLIPS_FILE}", again)
    if not same_frames:
        yield Finding(row["clip_id"], name, again)


def _within(root: Path, error: Exception) -> str:
    """A message with paths relative to the root, as the findings have them."""
    return str(error).replace(f"{root}/", "")


def _check_clip(root: Path, clip: SourceClip, row: dict[str, Any]) -> Iterator[Finding]:
    """Source files first: what the cache holds follows from them."""
    try:
        record = read_json(stage_folder(root, "source", clip.clip_id) / "source.json")
        recorded = {entry["name"]: entry for entry in record["files"]}
    except (OSError, ValueError, KeyError, TypeError):
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
    except (KeyError, TypeError):
        return "has a damaged record; run iper prepare"
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
            recorded = read_json(folder / STAGE_FILE)["outputs"]
            outputs = {output: recorded[output] for output in stage.makes}
        except (OSError, ValueError, KeyError, TypeError):
            problem = "is missing or damaged; run iper prepare"
            yield Finding(clip_id, f"{name}/{STAGE_FILE}", problem)
            continue
        for output, entry in outputs.items():
            if not (folder / output).is_file():
                yield Finding(clip_id, f"{name}/{output}", "is missing; run iper prepare")
            elif _file_problem(folder / output, entry):
                # prepare goes by the size of pictures and videos: they have to be removed to be made again
                remove = "" if output.endswith(HASHED) else "remove it and "
                problem = f"is damaged; {remove}run iper prepare"
                yield Finding(clip_id, f"{name}/{output}", problem)
