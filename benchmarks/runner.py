"""Cases in, rows out: each method draws each case, and every scored frame becomes a row a metric.

What a run leaves in its folder::

    run.json                              settings, versions, speed, memory, failures
    rows.parquet                          the table; only methods that are through with every case
    cases/<method>/<case key>.parquet     one case's rows: its being there says that the case is done
    cases/<method>/<case key>.json        how it went: seconds, memory, what failed and why
    pictures/<method>/<case key>/         00000.png ..., numbered within the case
    pictures/source|target/<case key>/    what was given, and what was wanted

A run may be killed at any moment and started again; shards on a shared folder never meet. A method
that raises, or gives other than the wanted pictures, has failed on the case: that is recorded, and
counts. A clip that cannot be read says nothing of a method: it is reported, and tried again next time.
"""

import dataclasses
import hashlib
import json
import random
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import iper_toolkit
from benchmarks.drawing import Drawing
from benchmarks.machine import machine, peak_device_memory_bytes, peak_memory_bytes, versions
from benchmarks.methods import RESERVED_NAMES, Method, Motion, Person, Setup, check_name
from benchmarks.metrics import METRICS, Metric, score_frames
from benchmarks.results import (
    CaseFacts,
    Scores,
    case_table,
    merge_tables,
    read_rows,
    write_rows,
)
from iper_toolkit.atomic import locked, remove_dead_parts, write_atomically
from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import transfer_camera
from iper_toolkit.grounding import foot_height, stabilise_motion
from iper_toolkit.images import RESIZE_ID, write_image
from iper_toolkit.protocols import ImitationCase, Kind
from iper_toolkit.protocols import Protocol as CaseTables

Targets = Literal["unseen", "official"]
Keep = Literal["some", "all", "none"]

# Frames that are decoded, drawn and scored at a time.
CHUNK = 32
# Pictures of a case that are kept unless all or none are wanted.
KEPT_PICTURES = 8


class PreparedClip(Protocol):
    """What the runner needs of `iper_toolkit.clip.Clip`."""

    @property
    def subject(self) -> str: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def body_id(self) -> str: ...
    @property
    def mask_source(self) -> str: ...
    @property
    def valid(self) -> NDArray[np.bool_]: ...
    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def params(self, indices: Sequence[int] | None = None) -> BodyParams: ...
    def background(self, size: int) -> NDArray[np.uint8]: ...


class PreparedDataset(Protocol):
    """What the runner needs of `iper_toolkit.clip.Dataset`."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def clip_ids(self) -> tuple[str, ...]: ...
    @property
    def failures(self) -> dict[str, str]: ...
    def clip(self, clip_id: str) -> PreparedClip: ...


@dataclass(frozen=True)
class Settings:
    """Everything that decides a score, the method aside. A run's folder holds one of these."""

    kind: Kind = "self"
    size: int = 256
    num_sources: int = 1
    targets: Targets = "unseen"
    max_frames: int = 0  # scored frames a case, spread evenly over it; 0: all
    metrics: tuple[str, ...] = tuple(METRICS)
    subjects: tuple[str, ...] = ()  # () is everybody
    seed: int = 0
    task: Literal["imitation"] = "imitation"

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"Unknown metrics {unknown}. Choose of: {', '.join(METRICS)}.")
        if self.size < 16 or self.max_frames < 0 or self.num_sources < 1:
            raise ValueError(
                f"size {self.size}, max_frames {self.max_frames}, num_sources {self.num_sources}: they "
                "take at least 16, 0 and 1."
            )


@dataclass(frozen=True)
class Outcome:
    """How one case of one method went, or why a case could not be tried at all (`method` is empty)."""

    case: str
    method: str
    status: Literal["ok", "failed", "unreadable"]
    error: str = ""


@dataclass(frozen=True)
class Plan:
    """The cases to do, those of one person together, and the cases whose clips are not there."""

    groups: tuple[tuple[ImitationCase, ...], ...]
    missing: dict[str, str]  # case key -> why

    @property
    def cases(self) -> tuple[ImitationCase, ...]:
        return tuple(case for group in self.groups for case in group)


@dataclass(frozen=True)
class _Task:
    """One case, read and ready to be drawn."""

    case: ImitationCase
    clip: PreparedClip
    driver: PreparedClip
    person: Person
    motion: Motion
    frames: tuple[int, ...]  # the driver's frame number of each drawn picture
    scored: NDArray[np.bool_]  # which of them are scored
    kept: frozenset[int]  # positions whose pictures are kept


def default_kind(metrics: Sequence[str]) -> tuple[Kind, str]:
    """What is run when nobody says, and the sentence that tells so."""
    if all(METRICS[name].kind == "paired" for name in metrics):
        return "self", (
            "Self-imitation only: every chosen metric compares with a true frame, and a person driven by "
            "another has none. `--kind all` draws cross-imitation too."
        )
    return "all", "Self- and cross-imitation."


class Run:
    """One benchmark run in one folder."""

    def __init__(
        self,
        dataset: PreparedDataset,
        protocol: CaseTables,
        methods: Sequence[Method],
        settings: Settings,
        out: Path,
        *,
        body: Body,
        device: str = "cpu",
        keep: Keep = "some",
        threads: int = 1,
        retry_failed: bool = False,
    ) -> None:
        names = [method.name for method in methods]
        for name in names:
            check_name(name)
            if names.count(name) > 1:
                raise ValueError(f"Two methods are called {name!r}; rename one with NAME=SPEC.")
        if not methods:
            raise ValueError("No method was given.")
        self.dataset, self.protocol, self.methods = dataset, protocol, tuple(methods)
        self.settings, self.out, self.keep = settings, out, keep
        self.retry_failed = retry_failed
        self.body = body
        self._setup = Setup(settings.size, body, device, settings.seed)
        self._metrics: tuple[Metric, ...] = tuple(METRICS[name] for name in settings.metrics)
        self._threads = threads
        self._is_set_up = False

    # ------------------------------------------------------------------------------------- planning

    def plan(self, shard: tuple[int, int] = (0, 1)) -> Plan:
        """The cases of one shard. A person's cases stay together, and adding cases moves none.

        Raises:
            ValueError: nothing of the protocol is in the dataset, or the shard is none.
        """
        index, count = shard
        if not 0 <= index < count:
            raise ValueError(
                f"Shard {index}/{count} does not exist; shards are 0/{count} .. {count - 1}/{count}."
            )
        settings = self.settings
        cases = self.protocol.imitation_cases(settings.kind, settings.num_sources)
        known = set(self.dataset.clip_ids)
        failures = self.dataset.failures
        groups: dict[str, list[ImitationCase]] = {}
        missing: dict[str, str] = {}
        for case in cases:
            lost = [clip for clip in (case.clip, case.driver) if clip not in known]
            subject = (
                case.clip.split("/")[0]
                if case.clip in lost
                else self.dataset.clip(case.clip).subject
            )
            if settings.subjects and subject not in settings.subjects:
                continue
            if lost:
                missing[case.key] = f"clip {lost[0]}: {failures.get(lost[0], 'not in the dataset')}"
            else:
                groups.setdefault(case.person_key, []).append(case)
        if not groups:
            some = ", ".join(sorted(known)[:5])
            raise ValueError(
                f"No case of protocol {self.protocol.id!r} can be run: the dataset has {len(known)} prepared clips "
                f"({some}), the protocol {len(cases)} cases of this kind. Wrong --protocol, --root, --kind or --subjects?"
            )
        mine = {
            key: tuple(group)
            for key, group in groups.items()
            if int(hashlib.sha256(key.encode()).hexdigest(), 16) % count == index
        }
        return Plan(tuple(mine.values()), missing)

    def open(self) -> None:
        """Make the folder, or go on in it.

        Raises:
            ValueError: the folder holds a run with other settings.
        """
        settings = self._identity()
        path = self.out / "run.json"
        with locked(self.out / ".lock"):
            if path.is_file():
                there = read_run(self.out)["settings"]
                other = {k: (there.get(k), v) for k, v in settings.items() if there.get(k) != v}
                if other:
                    told = "; ".join(
                        f"{k} is {was!r}, not {now!r}" for k, (was, now) in other.items()
                    )
                    raise ValueError(
                        f"{self.out} holds a run with other settings: {told}. Choose another --out."
                    )
            else:
                _write_json(path, {"schema": 1, "settings": settings, "complete": False})

    def _identity(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        return settings | {
            "protocol": self.protocol.id,
            "protocol_digest": self.protocol.digest,
            "dataset": self.dataset.name,
            "dataset_digest": self.dataset.digest,
            "body": self.body.id,
            "resize": RESIZE_ID,
            "metric_versions": {metric.name: metric.version for metric in self._metrics},
            "code_version": iper_toolkit.__version__,
        }

    # -------------------------------------------------------------------------------------- drawing

    def is_done(self, method: Method, case: ImitationCase) -> bool:
        rows, record = self._record_paths(method.name, case.key)
        if not rows.is_file():
            return False
        return not self.retry_failed or json.loads(record.read_text())["status"] == "ok"

    def do(self, group: Sequence[ImitationCase]) -> list[Outcome]:
        """Draw and score the cases of one person with every method that has not yet."""
        if not self._is_set_up:
            for method in self.methods:
                method.setup(self._setup)
            self._is_set_up = True
        outcomes: list[Outcome] = []
        person: Person | None = None
        knows_person: dict[str, tuple[str, float]] = {}  # method -> (error, seconds)
        for case in group:
            todo = [method for method in self.methods if not self.is_done(method, case)]
            if not todo:
                continue
            try:
                person = person or self._read_person(case)
                task = self._read_task(case, person)
            except BodyMismatch:
                raise
            except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
                outcomes.append(Outcome(case.key, "", "unreadable", _sentence(error)))
                continue
            for method in todo:
                if method.name not in knows_person:
                    self._seed(f"{method.name}/{case.person_key}")
                    start = time.perf_counter()
                    error_text = ""
                    try:
                        method.personalize(person)
                    except Exception:
                        error_text = traceback.format_exc()
                    knows_person[method.name] = (error_text, time.perf_counter() - start)
            try:
                outcomes += self._score(task, todo, knows_person)
            except _Unreadable as error:
                outcomes.append(Outcome(case.key, "", "unreadable", str(error)))
        return outcomes

    def _read_person(self, case: ImitationCase) -> Person:
        clip = self._clip(case.clip)
        sources = list(case.source_frames)
        size = self.settings.size
        case.clipped(clip.num_frames, 2**31 - 1)  # says so if a source frame is missing
        return Person(
            clip=case.clip,
            frames=case.source_frames,
            pictures=clip.frames(sources, size),
            masks=clip.masks(sources, size),
            params=clip.params(sources),
            background=clip.background(size),
        )

    def _clip(self, clip_id: str) -> PreparedClip:
        clip = self.dataset.clip(clip_id)
        if clip.body_id != self.body.id:
            raise BodyMismatch(
                f"Clip {clip_id} was fitted with body {clip.body_id!r}, and this run poses {self.body.id!r}. "
                "Name the file of that body with --body."
            )
        return clip

    def _read_task(self, case: ImitationCase, person: Person) -> _Task:
        clip, driver = self._clip(case.clip), self._clip(case.driver)
        case = case.clipped(clip.num_frames, driver.num_frames)
        frames = case.driver_frames
        if not frames:
            raise ValueError(f"no frame is left to draw: {case.note}")
        valid = driver.valid[frames.start : frames.stop]
        scored = valid.copy() if case.kind == "self" else np.zeros(len(frames), bool)
        if lost := int((~valid).sum()):
            note = f"{lost} frames of {case.driver} have no valid fit and are not scored"
            case = dataclasses.replace(case, note="; ".join(filter(None, [case.note, note])))
        if case.kind == "self" and self.settings.targets == "unseen":
            scored[[f - frames.start for f in case.source_frames if f in frames]] = False
        wanted = np.flatnonzero(scored) if case.kind == "self" else np.arange(len(frames))
        drawn = np.arange(len(frames))
        if 0 < self.settings.max_frames < len(wanted):
            drawn = wanted[_spread(len(wanted), self.settings.max_frames)]
        kept = {
            "all": drawn,
            "none": drawn[:0],
            "some": drawn[_spread(len(drawn), KEPT_PICTURES)],
        }[self.keep]
        bodies = self._motion_bodies(case, person.params, driver)
        own = driver.params(list(frames))
        motion = Motion(
            case=case.key,
            kind=case.kind,
            params=bodies[drawn.tolist()],
            driver=own[drawn.tolist()],
            positions=tuple(drawn.tolist()),
            case_length=len(frames),
        )
        return _Task(
            case=case,
            clip=clip,
            driver=driver,
            person=person,
            motion=motion,
            frames=tuple((drawn + frames.start).tolist()),
            scored=scored[drawn],
            kept=frozenset(kept.tolist()),
        )

    def _motion_bodies(
        self, case: ImitationCase, source: BodyParams, driver: PreparedClip
    ) -> BodyParams:
        """The bodies to draw: the driver's poses with the person's shape.

        Self-imitation takes the driver's camera ("copy"), because the truth is seen with it. Cross-imitation
        stands the person where their source picture has them and keeps the feet on the ground ("smooth").
        """
        own = driver.params(list(case.driver_frames))
        camera = own.camera
        if case.kind == "cross":
            feet = self._feet(own)
            steady = stabilise_motion(own.to_array(), feet)[:, :3]
            camera = transfer_camera(source.camera[0], steady, steady[0], "smooth")
        shape = source.shape[:1].expand(len(own), -1)
        return BodyParams(own.body_id, camera, own.pose, shape)

    def _feet(self, params: BodyParams) -> torch.Tensor:
        """(N,) height of the lowest point, float32 rounded from float64, so that it is the same in every process."""
        body = self.body.to(dtype=torch.float64)
        pose, shape = params.pose.double(), params.shape.double()
        parts = [
            foot_height(
                body.skin(pose[first : first + CHUNK], shape[first : first + CHUNK]).vertices
            )
            for first in range(0, len(params), CHUNK)
        ]
        return torch.cat(parts).float()

    def _score(
        self, task: _Task, methods: Sequence[Method], knows_person: dict[str, tuple[str, float]]
    ) -> list[Outcome]:
        """All methods side by side, so that each true frame is decoded once."""
        drawings = [
            Drawing(method, task.motion, self.settings.size, *knows_person[method.name])
            for method in methods
        ]
        for drawing in drawings:
            with drawing.own_randomness():
                self._seed(f"{drawing.method.name}/{task.case.key}")
        needs_mask = any("mask" in metric.needs for metric in self._metrics)
        with ThreadPoolExecutor(self._threads) as pool:
            for first in range(0, len(task.frames), CHUNK):
                part = slice(first, first + CHUNK)
                frames = np.array(task.frames[part])
                positions = np.array(task.motion.positions[part])
                scored = task.scored[part]
                is_kept = np.array([position in task.kept for position in positions], bool)
                decoded = scored | is_kept
                try:
                    wanted = frames[decoded].tolist()
                    truth = task.driver.frames(wanted, self.settings.size)
                    masks = task.driver.masks(wanted, self.settings.size) if needs_mask else None
                except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
                    raise _Unreadable(_sentence(error)) from error
                self._keep_pictures("target", task.case, positions[decoded], truth, task.kept)
                of_scored = scored[decoded]
                for drawing in drawings:
                    pictures = drawing.take(len(frames))
                    if pictures is None:
                        continue
                    self._keep_pictures(
                        drawing.method.name, task.case, positions, pictures, task.kept
                    )
                    if not scored.any():
                        continue
                    drawing.add_scores(
                        self._score_frames(
                            pool,
                            pictures[scored],
                            truth[of_scored],
                            None if masks is None else masks[of_scored],
                        )
                    )
        sources = np.array(task.person.frames)
        self._keep_pictures(
            "source",
            task.case,
            sources,
            task.person.pictures,
            None if self.keep != "none" else frozenset(),
        )
        outcomes = []
        for drawing in drawings:
            drawing.finish()
            outcomes.append(self._store(task, drawing))
        return outcomes

    def _score_frames(
        self,
        pool: ThreadPoolExecutor,
        pictures: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        masks: NDArray[np.uint8] | None,
    ) -> dict[str, NDArray[np.float64]]:
        parts = [part for part in np.array_split(np.arange(len(truth)), self._threads) if len(part)]

        def score(part: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
            mask = None if masks is None else masks[part]
            return score_frames(self._metrics, pictures[part], truth[part], mask)

        scored = list(pool.map(score, parts))
        return {
            metric.name: np.concatenate([one[metric.name] for one in scored] or [np.empty(0)])
            for metric in self._metrics
        }

    def _seed(self, key: str) -> None:
        """Global randomness that depends on the seed and the work alone, not on what ran before."""
        seed = int.from_bytes(
            hashlib.sha256(f"{self.settings.seed}/{key}".encode()).digest()[:4], "big"
        )
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - methods of others draw from the global generator
        torch.manual_seed(seed)

    # -------------------------------------------------------------------------------------- storing

    def _record_paths(self, method: str, case_key: str) -> tuple[Path, Path]:
        stem = self.out / "cases" / method / case_key
        return stem.with_name(f"{stem.name}.parquet"), stem.with_name(f"{stem.name}.json")

    def _keep_pictures(
        self,
        name: str,
        case: ImitationCase,
        numbers: NDArray[np.int64],
        pictures: NDArray[np.uint8],
        kept: frozenset[int] | None,
    ) -> None:
        folder = self.out / "pictures" / name / case.key
        for number, picture in zip(numbers.tolist(), pictures, strict=True):
            if kept is not None and number not in kept:
                continue
            path = folder / f"{number:05d}.png"
            if name in RESERVED_NAMES and path.is_file():
                continue  # another method's turn left it here
            write_image(path, picture)

    def _store(self, task: _Task, drawing: "Drawing") -> Outcome:
        """Rows last: when they are there, everything of the case is."""
        case, method = task.case, drawing.method
        failed = bool(drawing.error)
        facts = CaseFacts(
            method=method.name,
            method_version=method.version,
            weights=method.weights,
            task=self.settings.task,
            kind=case.kind,
            case=case.key,
            clip=case.clip,
            driver=case.driver,
            subject=task.clip.subject,
            protocol=self.protocol.id,
            protocol_version=self.protocol.version,
            protocol_digest=self.protocol.digest,
            targets=self.settings.targets,
            num_sources=case.num_sources,
            max_frames=self.settings.max_frames,
            size=self.settings.size,
            resize=RESIZE_ID,
            dataset=self.dataset.name,
            dataset_digest=self.dataset.digest,
            synthetic=self.dataset.synthetic,
            code_version=iper_toolkit.__version__,
        )
        scored_frames = [f for f, s in zip(task.frames, task.scored, strict=True) if s]
        values = drawing.values()
        scores = [
            Scores(
                metric.name,
                str(metric.version),
                metric.region,
                task.driver.mask_source if "mask" in metric.needs else "",
                None if failed else values[metric.name],
            )
            for metric in self._metrics
            if scored_frames
        ]
        rows, record = self._record_paths(method.name, case.key)
        status: Literal["ok", "failed"] = "failed" if failed else "ok"
        error = drawing.error.strip().splitlines()[-1] if failed else ""
        _write_json(
            record,
            {
                "case": case.key,
                "method": method.name,
                "status": status,
                "error": error,
                "traceback": drawing.error,
                "note": case.note,
                "num_drawn": drawing.count,
                "num_scored": 0 if failed else len(scored_frames),
                "seconds_draw": drawing.seconds,
                "seconds_personalize": drawing.seconds_personalize,
                "peak_memory_bytes": peak_memory_bytes(),
                "peak_device_memory_bytes": peak_device_memory_bytes(self._setup.device),
                "source_frames": list(case.source_frames),
                "kept": sorted(task.kept),
                "machine": machine(),
            },
        )
        for folder in (self.out / "pictures" / method.name / case.key, rows.parent):
            if folder.is_dir():
                remove_dead_parts(folder)
        write_rows(rows, [case_table(facts, scored_frames, scores)])
        return Outcome(case.key, method.name, status, error)

    def finish(self, plan: Plan) -> bool:
        """Write what the folder holds together: rows.parquet of the methods that are through, and run.json.

        Args:
            plan: of the whole run, all shards. Returns whether every case of every method is done.
        """
        keys = [case.key for case in plan.cases]
        with locked(self.out / ".lock"):
            folder = self.out / "cases"
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            through = [
                name
                for name in names
                if all(self._record_paths(name, key)[0].is_file() for key in keys)
            ]
            if through:
                tables = {}
                for name in through:
                    for key in keys:
                        path = self._record_paths(name, key)[0]
                        tables[str(path)] = read_rows(path)
                write_rows(self.out / "rows.parquet", merge_tables(tables))
            summary = self._summary(plan, names, through)
            _write_json(self.out / "run.json", summary)
        return bool(summary["complete"])

    def _summary(self, plan: Plan, names: Sequence[str], through: Sequence[str]) -> dict[str, Any]:
        methods: dict[str, Any] = {}
        failures: list[dict[str, str]] = []
        notes: dict[str, str] = {}
        known = {method.name: method for method in self.methods}
        before = read_run(self.out).get("methods", {})
        for name in names:
            records = []
            for case in plan.cases:
                rows, record = self._record_paths(name, case.key)
                if rows.is_file():
                    records.append(json.loads(record.read_text()))
            drawn = sum(one["num_drawn"] for one in records)
            failures += [
                {"method": name, "case": one["case"], "error": one["error"]}
                for one in records
                if one["status"] == "failed"
            ]
            notes |= {one["case"]: one["note"] for one in records if one["note"]}
            method = known.get(name)
            told = before.get(name, {})
            methods[name] = {
                "version": method.version if method else told.get("version", ""),
                "weights": method.weights if method else told.get("weights", ""),
                "complete": name in through,
                "num_cases": len(records),
                "num_failed": sum(one["status"] == "failed" for one in records),
                "num_drawn": drawn,
                "num_scored": sum(one["num_scored"] for one in records),
                "seconds_a_frame": sum(one["seconds_draw"] for one in records) / drawn
                if drawn
                else None,
                "seconds_personalize_a_case": (
                    sum(one["seconds_personalize"] for one in records) / len(records)
                    if records
                    else None
                ),
                "peak_memory_bytes": max(
                    (one["peak_memory_bytes"] for one in records), default=None
                ),
                "peak_device_memory_bytes": max(
                    (one["peak_device_memory_bytes"] for one in records), default=None
                ),
            }
        return {
            "schema": 1,
            "settings": self._identity(),
            "complete": all(method.name in through for method in self.methods),
            "protocol": {
                "id": self.protocol.id,
                "version": self.protocol.version,
                "digest": self.protocol.digest,
                "title": self.protocol.title,
            },
            "dataset": {
                "name": self.dataset.name,
                "digest": self.dataset.digest,
                "synthetic": self.dataset.synthetic,
            },
            "num_cases": len(plan.cases),
            "missing_cases": plan.missing,
            "methods": methods,
            "failures": failures,
            "notes": notes,
            "machine": machine(),
            "versions": versions(),
        }


class _Unreadable(Exception):
    """A clip's files gave out in the middle of a case."""


def _spread(available: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` indices, spread evenly from the first to the last of `available`."""
    if available <= wanted:
        return np.arange(available)
    return np.unique(np.rint(np.linspace(0, available - 1, wanted)).astype(np.int64))


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.args[0] if isinstance(error, KeyError) and error.args else error}"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_run(out: Path) -> dict[str, Any]:
    """run.json of a run's folder.

    Raises:
        FileNotFoundError: the folder is no run's.
    """
    path = out / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{out} holds no run.json; is it the --out of `lwgan-bench run`?")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def run_all(
    run: Run,
    *,
    shard: tuple[int, int] = (0, 1),
    tell: Callable[[int, int, list[Outcome]], None] | None = None,
) -> tuple[list[Outcome], bool]:
    """Do one shard of a run in this process; what a notebook calls.

    Args:
        run: the run; its folder is made, or gone on with.
        shard: (index, count).
        tell: called after each person with how many are done, of how many, and their outcomes.

    Returns:
        The outcomes of this call, and whether the whole run, all shards, is complete.
    """
    run.open()
    whole = run.plan()
    plan = run.plan(shard)
    outcomes: list[Outcome] = []
    for count, group in enumerate(plan.groups, 1):
        new = run.do(group)
        outcomes += new
        if tell is not None:
            tell(count, len(plan.groups), new)
    return outcomes, run.finish(whole)
