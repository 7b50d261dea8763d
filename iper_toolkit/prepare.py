"""From whatever lies under a root to tables: ordered stages, resumed and run in parallel over clips.

A stage is done for a clip when its outputs are there together with a ``stage.json`` that carries the
stage's *key*: a digest over its version, the options and source files it depends on, and the keys
of the stages it needs. Anything else is done again. So a kill costs at most the stage that ran, a
changed option repeats what depends on it, and any number of processes may share the work.

Every clip leaves its rows in the cache; whichever process finds all clips done or failed writes the
tables.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from iper_toolkit import __version__, manifest
from iper_toolkit.atomic import (
    WriteError,
    locked,
    move_into_place,
    part_folder,
    remedy,
    remove_dead_parts,
    write_atomically,
)
from iper_toolkit.layout import DatasetInfo, SourceClip, find_clips, read_dataset_info
from iper_toolkit.naming import printable
from iper_toolkit.processes import Pool, WorkerDied
from iper_toolkit.progress import task
from iper_toolkit.stages import (
    STAGE_FILE,
    VERSIONS,
    ClipWork,
    Options,
    read_json,
    stage_folder,
    write_json,
)
from iper_toolkit.threads import one_thread, use_one_thread
from iper_toolkit.unread import unmatched_names, unread_files

_log = logging.getLogger(__name__)

FAILURE_FILE = "failure.json"
HASHED = (".json", ".npy", ".npz", ".parquet")
"""Endings of the cache's files whose content counts, not only the size: numbers that tables and later stages take over."""
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What reading a damaged record of the cache raises; it is made again."""
WARNINGS_FILE = "warnings.json"


@dataclass(frozen=True)
class Stage:
    """One step: what it needs, what it makes, and what it must be done again for."""

    name: str
    needs: tuple[str, ...]
    """Stages whose outputs it reads; the source's facts count through `reads`."""
    reads: tuple[str, ...]
    """Roles of source files that it reads (see `SourceClip.files`)."""
    makes: tuple[str, ...]
    """Files that it leaves."""
    options: tuple[str, ...] = ()
    """Names of `Options` that it depends on."""

    @property
    def version(self) -> int:
        return VERSIONS[self.name]

    def run(self, work: ClipWork) -> None:
        """``iper_toolkit/stages/<name>.py`` holds the function; it is imported when first used."""
        importlib.import_module(f"iper_toolkit.stages.{self.name}").run(work)


PICTURES = ("video", "frame")

STAGES = (
    Stage("source", (), (), ("source.json",)),
    Stage("crop", (), (*PICTURES, "fit", "keypoints"), ("crop.json",), ("crop_factor",)),
    Stage("fit", ("crop",), (*PICTURES, "fit", "keypoints"), ("fit.npz",), ("body",)),
    Stage("front", ("fit",), (), ("front.npz",), ("body",)),
    Stage(
        "mask",
        ("crop", "fit", "front"),
        (*PICTURES, "masks"),
        ("masks.npz", "area.npy", "overlay.jpg", WARNINGS_FILE),
    ),
    Stage(
        "proxy",
        ("crop", "mask"),
        PICTURES,
        ("proxy.mp4", "background.png", "proxy.json"),
        ("size",),
    ),
    Stage("rows", ("fit", "front", "mask", "proxy"), PICTURES, ("clip.json", "frames.parquet")),
)


class NothingToPrepare(FileNotFoundError):
    """There is no clip under the root; the message says what to put there."""


class MixedRoot(ValueError):
    """A root holds synthetic and real clips."""


@dataclass(frozen=True)
class Summary:
    """What one call of `prepare` did."""

    num_clips: int
    """All clips under the root."""
    prepared: tuple[str, ...]
    """Clips of this shard on which work was done."""
    unchanged: tuple[str, ...]
    """Clips of this shard that were done before."""
    failures: dict[str, str]
    """clip id -> reason: of this shard, and of all once the tables are written."""
    warnings: dict[str, tuple[str, ...]]
    """clip id -> sentences about the fit and the masks, of the clips of this shard that are done."""
    unread: tuple[str, ...]
    """Files under the root that no clip is made from, as paths relative to it."""
    unmatched: tuple[str, ...]
    """Entries of train.txt, val.txt and dataset.toml that name no clip."""
    tables_written: bool
    """Every clip is done or failed, and the tables say so; else other shards still work."""

    @property
    def ok(self) -> bool:
        return not self.failures


Progress = Callable[[str, str | None, int, int], None]
"""Called after each clip with (clip id, error or None, clips finished, clips of this shard)."""


def prepare(
    root: Path | str,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    options: Options | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Turn what lies under `root` into ``manifests/`` and ``cache/``. May be killed and repeated.

    Args:
        root: a dataset folder as `layout` describes it; nothing of it is changed.
        workers: processes on this machine.
        shard: (index, count): this process does the clips whose name falls to `index`. All shards
            share the folder.
        options: see `Options`.
        progress: told about every clip.

    Raises:
        NothingToPrepare, MixedRoot, WriteError: nothing could be done at all. A clip that cannot
            be prepared raises nothing: it stands in `Summary.failures` and in the tables.
    """
    root = Path(root)
    options = options or Options()
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard is {index}/{count}; the index runs from 0 to {count - 1}.")
    if workers < 1:
        raise ValueError(f"workers is {workers}; it takes at least 1.")
    info = read_dataset_info(root) if root.is_dir() else DatasetInfo(name="own")
    if not info.complete:
        raise ValueError(
            f"{root / 'dataset.toml'} says that this dataset is not complete: writing it was "
            "interrupted. Run the same iper synth command again; it goes on where it stopped."
        )
    clips = find_clips(root, info) if root.is_dir() else []
    if not clips:
        raise NothingToPrepare(_what_to_do(root))
    check_marks(root, info, clips)
    _check_writable(root)
    _body_id(options.body)  # one that cannot be read is one error, not one a clip
    base = ClipWork(root, clips[0], info, options, root)
    own = [clip for clip in clips if shard_of(clip.clip_id, count) == index]
    prepared, unchanged, failures = [], [], {}
    with (
        task("preparing", len(own), "clip") as advance,
        contextlib.closing(_run_all(base, own, workers)) as outcomes,
    ):
        for finished, (clip_id, outcome) in enumerate(outcomes, start=1):
            if outcome.error is not None:
                failures[clip_id] = outcome.error
            elif outcome.worked:
                prepared.append(clip_id)
            else:
                unchanged.append(clip_id)
            advance(finished)
            if progress is not None:
                progress(clip_id, outcome.error, finished, len(own))
    everywhere = finish(base, clips)
    return Summary(
        num_clips=len(clips),
        prepared=tuple(sorted(prepared)),
        unchanged=tuple(sorted(unchanged)),
        failures=dict(sorted((everywhere if everywhere is not None else failures).items())),
        warnings=_warnings(base, [clip for clip in own if clip.clip_id not in failures]),
        unread=tuple(unread_files(root, clips)),
        unmatched=tuple(unmatched_names(root, info, clips)),
        tables_written=everywhere is not None,
    )


def _warnings(base: ClipWork, clips: Sequence[SourceClip]) -> dict[str, tuple[str, ...]]:
    """What the stages had to say about clips that are done."""
    found = {}
    for clip in clips:
        path = replace(base, clip=clip).made("mask", WARNINGS_FILE)
        sentences = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        if sentences:
            found[clip.clip_id] = tuple(map(str, sentences))
    return found


def shard_of(name: str, count: int) -> int:
    """The shard that a clip falls to; it never moves when other clips are added."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % count


def check_marks(root: Path, info: DatasetInfo, clips: Sequence[SourceClip]) -> None:
    """Refuse a root in which dataset.toml and the clips' own marks disagree about "synthetic"."""
    from iper_toolkit.stages.source import is_marked

    wrong = [c.clip_id for c in clips if is_marked(c) is (not info.synthetic)]
    if not wrong:
        return
    names = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    if info.synthetic:
        raise MixedRoot(
            f"{root / 'dataset.toml'} says that this root is synthetic, but these clips are not "
            f"marked as synthetic: {names}. Move them to a root of their own."
        )
    raise MixedRoot(
        f"These clips are marked as synthetic: {names}; but {root / 'dataset.toml'} does not say "
        "`synthetic = true` of the root. Move them to a root of their own."
    )


# ------------------------------------------------------------------------------------------ one clip


@dataclass(frozen=True)
class Outcome:
    """How a clip ended."""

    error: str | None
    worked: bool


def run_stages(work: ClipWork) -> Outcome:
    """Bring one clip through all stages; what is done already is left alone. Raises nothing."""
    folder = stage_folder(work.root, "rows", work.clip.clip_id)
    worked = False
    try:
        stamp = source_stamp(work)
        if work.clip.problem:
            raise ValueError(work.clip.problem)
        keys: dict[str, str] = {}
        lock = work.root / "cache" / "locks" / f"{work.clip.clip_id}.lock"
        with (
            one_thread(),
            task(work.clip.clip_id, len(STAGES), "stage") as advance,
            locked(lock),
        ):
            for number, stage in enumerate(STAGES):
                advance(number, stage.name)
                keys[stage.name] = stage_key(stage, work, stamp, keys)
                if not is_done(stage, work, keys[stage.name]):
                    worked = True
                    _run_stage(stage, work, keys[stage.name])
    except Exception as error:
        _log.debug("clip %s failed", work.clip.clip_id, exc_info=True)
        return Outcome(_record_failure(work, error), worked)
    (folder / FAILURE_FILE).unlink(missing_ok=True)
    return Outcome(None, worked)


def source_stamp(work: ClipWork) -> str:
    """A quick fingerprint of a clip's source files: names, sizes, times; nothing is opened.

    It spares hashing everything on every run. Only the `source` stage depends on it: copied files
    have another stamp but the same digests, so nothing else is repeated.
    """
    return stamp_of(work.root, work.clip.files(), synthetic=work.info.synthetic)


def stamp_of(root: Path, files: Iterable[tuple[str, Path]], *, synthetic: bool) -> str:
    """`source_stamp` of (role, file) pairs."""
    stats = []
    for role, path in files:
        status = path.stat()
        name = path.relative_to(root).as_posix()
        stats.append([role, name, status.st_size, status.st_mtime_ns])
    return _digest([stats, synthetic])


def source_key(stamp: str) -> str:
    """Key of the `source` stage, which depends on nothing but the stamp."""
    return _digest({"stage": "source", "version": VERSIONS["source"], "stamp": stamp})


def stage_key(stage: Stage, work: ClipWork, stamp: str, keys: dict[str, str]) -> str:
    """What a stage's outputs depend on, as a digest. `keys` holds those of earlier stages."""
    if stage.name == "source":
        return source_key(stamp)
    content: dict[str, Any] = {"stage": stage.name, "version": stage.version}
    source = read_json(work.made("source", "source.json"))
    content["source"] = {role: source["digests"].get(role) for role in stage.reads}
    if work.clip.kind == "video":
        content["facts"] = source[
            "facts"
        ]  # found by decoding: another decoder may see another number of frames
    content["needs"] = {name: keys[name] for name in stage.needs}
    chosen = asdict(work.options)
    if "body" in stage.options:
        chosen["body"] = [_body_id(work.options.body), work.info.body_id]
    content["options"] = {name: chosen[name] for name in stage.options}
    content["synthetic"] = work.info.synthetic
    if stage.name == "rows":
        from iper_toolkit.stages.rows import describe

        content["described"] = {**describe(work), "mask_source": work.clip.mask_source}
    return _digest(content)


def is_done(stage: Stage, work: ClipWork, key: str) -> bool:
    """Whether the stage's outputs are there, whole, and for this key."""
    folder = stage_folder(work.root, stage.name, work.clip.clip_id)
    try:
        record = read_json(folder / STAGE_FILE)
        return record["key"] == key and all(
            _is_whole(folder / name, record["outputs"][name]) for name in stage.makes
        )
    except _DAMAGED:
        return False


def _is_whole(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file of the cache is as recorded. Of pictures and videos only the size counts: reading all takes long."""
    if path.stat().st_size != entry["bytes"]:
        return False
    return not path.name.endswith(HASHED) or manifest.file_sha256(path) == entry["sha256"]


def _run_stage(stage: Stage, work: ClipWork, key: str) -> None:
    folder = stage_folder(work.root, stage.name, work.clip.clip_id)
    started = time.perf_counter()
    with part_folder(folder) as part:
        stage.run(replace(work, folder=part))
        outputs = {
            name: {
                "bytes": (part / name).stat().st_size,
                "sha256": manifest.file_sha256(part / name),
            }
            for name in stage.makes
        }
        # From here to the new stage.json the stage counts as not done: old and new files never mix.
        (folder / STAGE_FILE).unlink(missing_ok=True)
        for name in stage.makes:
            move_into_place(part / name, folder / name)
    record = {
        "stage": stage.name,
        "version": stage.version,
        "clip_id": work.clip.clip_id,
        "key": key,
        "outputs": outputs,
        "options": {name: asdict(work.options)[name] for name in stage.options},
        "seconds": round(time.perf_counter() - started, 3),
        "made_by": f"iper-toolkit {__version__}",
    }
    write_atomically(folder / STAGE_FILE, lambda path: write_json(path, record))


def _record_failure(work: ClipWork, error: Exception) -> str:
    """Leave the reason where the process that writes the tables finds it; returns the reason."""
    reason = _reason(error, work.root)
    folder = stage_folder(work.root, "rows", work.clip.clip_id)
    record = {"error": reason, "key": _failure_key(work)}
    try:
        remove_dead_parts(folder)
        write_atomically(folder / FAILURE_FILE, lambda path: write_json(path, record))
    except OSError as unwritable:  # a full disk: the tables wait until the clip is tried again
        _log.warning("%s", unwritable)
    return reason


def _failure_key(work: ClipWork) -> str:
    """A failure counts as long as the clip, the options and the program are the same."""
    try:
        stamp = source_stamp(work)
    except OSError as error:
        stamp = f"unreadable: {error.errno}"
    return _digest([stamp, asdict(work.options), work.info.body_id, VERSIONS, work.clip.problem])


_READING_REMEDIES = {
    errno.ENOENT: "it is not there, or a link that leads nowhere: put the file back or remove the link",
    errno.EISDIR: "it is a folder, where a file is expected: remove or rename it",
}


def _reason(error: Exception, root: Path) -> str:
    """One line for people, the same on every machine: paths are relative to the root."""
    advice = None
    if isinstance(error, OSError):
        advice = remedy(error) or _READING_REMEDIES.get(error.errno or 0)
    if isinstance(error, OSError) and advice and not isinstance(error, WriteError):
        text = f"{error.filename or 'a file'}: {advice}"
    elif isinstance(error, KeyError) and error.args:
        text = f"KeyError: {error.args[0]}"
    elif isinstance(error, (ValueError, OSError, ImportError, WorkerDied)):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}"
    for prefix in (f"{root}{os.sep}", f"{root.resolve()}{os.sep}"):
        text = text.replace(prefix, "")
    return printable(" ".join(text.split()))


# ------------------------------------------------------------------------------------------ all clips


def finish(base: ClipWork, clips: Sequence[SourceClip]) -> dict[str, str] | None:
    """Write the tables if every clip is done or failed; returns all failures, or None if not yet."""
    from iper_toolkit.stages.rows import describe, read_rows

    with locked(base.root / "cache" / "lock"):
        rows, frames, failures = [], [], {}
        for clip in clips:
            work = replace(base, clip=clip)
            state = _state(work)
            if state is None:
                return None
            if state == "":
                row, table = read_rows(stage_folder(base.root, "rows", clip.clip_id))
                rows.append(row)
                frames.append(table)
            else:
                failures[clip.clip_id] = state
                rows.append({**describe(work), "status": "failed", "error": state})
        manifest.write_manifests(base.root, rows, frames, _about(base))
        return failures


def _state(work: ClipWork) -> str | None:
    """ "" if a clip is done, its error if it failed, None if neither is known for these sources."""
    folder = stage_folder(work.root, "rows", work.clip.clip_id)
    try:
        failure = read_json(folder / FAILURE_FILE)
        if failure["key"] == _failure_key(work):
            return str(failure["error"])
    except _DAMAGED:
        pass  # no failure on record, or a stale one
    try:
        stamp = source_stamp(work)
        keys: dict[str, str] = {}
        for stage in STAGES:
            keys[stage.name] = stage_key(stage, work, stamp, keys)
            if not is_done(stage, work, keys[stage.name]):
                return None
    except _DAMAGED:
        return None
    return ""


def _about(base: ClipWork) -> dict[str, Any]:
    from iper_toolkit.images import RESIZE_ID
    from iper_toolkit.video import decoder_id

    names = ("av", "decord", "numpy", "opencv-python", "pyarrow", "torch")
    return {
        "name": base.info.name,
        "synthetic": base.info.synthetic,
        "licence": base.info.licence,
        "body_id": _body_id(base.options.body),
        "sizes": {"proxy": base.options.size, "front": 256},
        "options": {**asdict(base.options), "body": _body_id(base.options.body)},
        "resize": RESIZE_ID,
        "decoder": decoder_id(),
        "stages": {stage.name: stage.version for stage in STAGES},
        "tools": {"iper-toolkit": __version__, **_versions(names)},
    }


def _versions(names: Sequence[str]) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _run_all(
    base: ClipWork, clips: Sequence[SourceClip], workers: int
) -> Generator[tuple[str, Outcome], None, None]:
    works = [replace(base, clip=clip) for clip in clips]
    if workers == 1:
        for work in works:
            mark = base.root / "cache" / "locks" / f"{work.clip.clip_id}.begun"
            if mark.is_file():  # it killed the process that began it: its death must not be ours
                yield from _run_in_processes([work], 1)
                mark.unlink(missing_ok=True)
                continue
            with _marked(mark):
                outcome = run_stages(work)
            yield work.clip.clip_id, outcome
        return
    yield from _run_in_processes(works, workers)


@contextlib.contextmanager
def _marked(mark: Path) -> Iterator[None]:
    """A file that stays only where the process dies within the block, as one that is killed for memory does."""
    with contextlib.suppress(OSError):  # a full disk is told by the stages
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def _run_in_processes(works: Sequence[ClipWork], workers: int) -> Iterator[tuple[str, Outcome]]:
    suspects: list[ClipWork] = []
    with Pool(workers, start=use_one_thread) as pool:
        for ended in pool.run(run_stages, works):
            if isinstance(ended.error, WorkerDied):
                suspects.append(ended.job)
            else:
                yield ended.job.clip.clip_id, ended.result()
    # Alone: where memory gave out, another clip may have taken it.
    for work in suspects:
        with Pool(1, start=use_one_thread) as pool:
            (ended,) = pool.run(run_stages, [work])
        if isinstance(ended.error, WorkerDied):
            outcome = Outcome(_record_failure(work, ended.error), worked=True)
        else:
            outcome = ended.result()
        yield work.clip.clip_id, outcome


def _body_id(name: str) -> str:
    from iper_toolkit.body.model import load_body

    return load_body(name).id


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_writable(root: Path) -> None:
    for folder in (root / "cache", root / manifest.FOLDER):
        remove_dead_parts(folder)
    probe = root / "cache" / ".writable"
    write_atomically(probe, lambda part: part.write_bytes(b""))
    probe.unlink(missing_ok=True)


def _what_to_do(root: Path) -> str:
    state = "has no clips" if root.is_dir() else "does not exist"
    return f"""{root} {state}. Put something there:

  synthetic people, made in seconds, to try everything out:
    iper synth --root {root} --size tiny --seed 1
  iPER (its frames or videos, and its fits):
    {root}/images_HD/001/1/1/0000.jpg ...   or   {root}/001_1_1.mp4
    {root}/smpls/001/1/1/pose_shape.pkl
  your own video, with keypoints beside it (OpenPose BODY_25 or MediaPipe's 33 landmarks):
    {root}/NAME.mp4
    {root}/NAME.json   or   {root}/NAME_keypoints/*.json

Then run: iper prepare --root {root}"""
