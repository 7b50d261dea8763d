"""Cases in, rows out: each method draws each case, and every scored frame becomes a row a metric.

What a run leaves in its folder::

    run.json                              settings, versions, speed, memory, failures
    rows.parquet                          the table; only methods that are through with every readable case
    cases/<method>/<case key>.parquet     one case's rows: its being there says that the case is done
    cases/<method>/<case key>.json        how it went: version, seconds, what failed and why
    unreadable/<case key>.json            why the files of a case could not be read; goes when they can
    pictures/<method>/<case key>/         00000.png ..., numbered within the case
    pictures/source|target/<case key>/    what was given, and what was wanted

A run may be killed at any moment and started again; shards on a shared folder never meet. A method
that raises, or gives other than the wanted pictures, has failed on the case: that is recorded, and
counts. A clip that cannot be read says nothing of a method: its cases are reported, left out for every
method, and tried again next time. One folder holds one version of a method.
"""

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import iper_toolkit
from benchmarks.case_reader import CaseReader, Keep, Task
from benchmarks.drawing import Drawing
from benchmarks.machine import machine, peak_device_memory_bytes, peak_memory_bytes, versions
from benchmarks.methods import (
    METHOD_ERRORS,
    RESERVED_NAMES,
    Failure,
    Method,
    Person,
    Setup,
    check_identity,
)
from benchmarks.metrics import METRICS, Metric, score_frames
from benchmarks.planning import Plan, PreparedDataset, Settings, plan_cases
from benchmarks.record import (
    case_paths,
    describe_method,
    list_failures,
    read_record,
    read_records,
    read_run,
    read_unreadable,
    unreadable_path,
    write_json,
)
from benchmarks.results import (
    CaseFacts,
    Scores,
    case_table,
    merge_tables,
    read_rows,
    write_rows,
)
from iper_toolkit.atomic import locked, remove_dead_parts
from iper_toolkit.body import Body, BodyMismatch
from iper_toolkit.images import RESIZE_ID, write_image
from iper_toolkit.protocols import ImitationCase
from iper_toolkit.protocols import Protocol as CaseTables

# Frames that are decoded, drawn and scored at a time.
CHUNK = 32
# What reading a damaged clip raises. `BodyMismatch` is a ValueError too, but the whole run's and not one clip's.
_FILE_ERRORS = (OSError, ValueError, KeyError, IndexError, RuntimeError)
# What only a dataset's folder holds.
_OF_A_DATASET = ("dataset.toml", "manifests", "images_HD")


@dataclass(frozen=True)
class Outcome:
    """How one case of one method went, or why a case could not be tried at all (`method` is empty)."""

    case: str
    method: str
    status: Literal["ok", "failed", "unreadable"]
    error: str = ""


class Run:
    """One benchmark run in one folder.

    Args:
        dataset: prepared clips.
        protocol: which clip is re-made from which frames.
        methods: what draws; names must differ.
        settings: everything else that decides a score.
        out: the run's folder; made, or gone on with.
        body: the body of every fit.
        device: where methods compute, "cpu" or "cuda"; passed on to them.
        keep: pictures that are kept: "some" (8 a case), "all" or "none".
        threads: that score frames side by side.
        retry_failed: whether cases on which a method failed are drawn again.
        command: what was typed, for run.json; empty when called from Python.

    Raises:
        ValueError: no method was given, two have one name, or a name cannot be a folder's.
    """

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
        command: str = "",
    ) -> None:
        names = [method.name for method in methods]
        for method in methods:
            check_identity(method)
            if names.count(method.name) > 1:
                raise ValueError(
                    f"Two methods are called {method.name!r}; rename one with NAME=SPEC."
                )
        if not methods:
            raise ValueError("No method was given.")
        self.dataset, self.protocol, self.methods = dataset, protocol, tuple(methods)
        # Absolute, because a method may change the working folder.
        self.settings, self.out, self.keep = settings, out.absolute(), keep
        self.retry_failed = retry_failed
        self.command = command
        self.body = body
        self._setup = Setup(settings.size, body, device, settings.seed)
        self._metrics: tuple[Metric, ...] = tuple(METRICS[name] for name in settings.metrics)
        self._reader = CaseReader(dataset, settings, body, keep)
        self._threads = threads
        self._is_set_up = False

    # ------------------------------------------------------------------------------------- planning

    def plan(self, shard: tuple[int, int] = (0, 1)) -> Plan:
        """The cases of one shard. A person's cases stay together, and adding cases moves none.

        Raises:
            ValueError: nothing of the protocol is in the dataset, or the shard is none.
        """
        return plan_cases(self.dataset, self.protocol, self.settings, shard)

    def open(self) -> None:
        """Make the folder, or go on in it.

        Raises:
            ValueError: nothing can be run; the folder is a dataset's, holds a run with other settings, or cases that
                another version of one of the methods drew.
            BodyMismatch: a clip was fitted with another body.
        """
        plan = self.plan()  # before anything is written: a mistyped command leaves no folder behind
        for case in plan.cases:
            self._reader.check_body(case.clip)
        if marks := [name for name in _OF_A_DATASET if (self.out / name).exists()]:
            raise ValueError(
                f"{self.out} holds {', '.join(marks)}, so it is a dataset; a run takes a folder of its own. Choose "
                "another --out."
            )
        path = self.out / "run.json"
        with locked(self.out / ".lock"):
            if path.is_file():
                self._check_settings(read_run(self.out)["settings"])
            names = {method.name for method in self.methods}
            for case in plan.cases:
                for method in self.methods:
                    self.is_done(method, case)
                for name in self._names() - names:
                    self._record(name, case.key)
            if not path.is_file():
                started = datetime.now(UTC).isoformat(timespec="seconds")
                record = {"started": started, "command": self.command, "complete": False}
                write_json(path, {"schema": 1, "settings": self._identity(), **record})

    def _names(self) -> set[str]:
        """The methods that the folder holds cases of."""
        folder = self.out / "cases"
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def _check_settings(self, there: dict[str, Any]) -> None:
        other = {k: (there.get(k), v) for k, v in self._identity().items() if there.get(k) != v}
        if other:
            told = "; ".join(f"{k} is {was!r}, not {now!r}" for k, (was, now) in other.items())
            raise ValueError(
                f"{self.out} holds a run with other settings: {told}. Choose another --out."
            )

    def _record(self, method: str, case_key: str) -> dict[str, Any] | None:
        """The record of a finished case; None if it is not done, or damaged and so to be done again."""
        record = read_record(self.out, method, case_key)
        if record is not None:
            self._check_settings(record.get("settings", {}))
        return record

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
        """Whether the folder holds the case, drawn by this very method.

        Raises:
            ValueError: another version of the method drew it, or one with other weights or settings.
        """
        record = self._record(method.name, case.key)
        if record is None:
            return False
        there = (record["method_version"], record["weights"])
        if there != (method.version, method.weights):
            was, now = (
                f"version {version!r} with weights {weights[:12] or 'none'}"
                for version, weights in (there, (method.version, method.weights))
            )
            raise ValueError(
                f"{self.out} holds {case.key} as {method.name} drew it in {was}; now it is {now}. Choose another "
                "--out, or call the new one by another name (NAME=SPEC)."
            )
        return not self.retry_failed or record["status"] == "ok"

    def do(self, group: Sequence[ImitationCase]) -> list[Outcome]:
        """Draw and score the cases of one person with every method that has not yet."""
        if not self._is_set_up:
            for method in self.methods:
                try:
                    method.setup(self._setup)
                except METHOD_ERRORS as error:
                    failure = Failure.of(error)
                    raise RuntimeError(
                        f"method {method.name}: setup failed: {failure.reason}. No case was drawn; mend the method "
                        f"and give the same command again.\n{failure.traceback}"
                    ) from error
            self._is_set_up = True
        outcomes: list[Outcome] = []
        person: Person | None = None
        knows_person: dict[str, tuple[Failure | None, float]] = {}  # method -> (failure, seconds)
        for case in group:
            todo = [method for method in self.methods if not self.is_done(method, case)]
            if not todo:
                continue
            try:
                person = person or self._reader.read_person(case)
                task = self._reader.read_task(case, person)
            except BodyMismatch:
                raise
            except _FILE_ERRORS as error:
                outcomes.append(self._note_unreadable(case, error))
                continue
            for method in todo:
                if method.name not in knows_person:
                    self._seed(f"{method.name}/{case.person_key}")
                    start = time.perf_counter()
                    failed = None
                    try:
                        method.personalize(person.copy())
                    except METHOD_ERRORS as error:
                        failed = Failure.of(error)
                    knows_person[method.name] = (failed, time.perf_counter() - start)
            try:
                outcomes += self._score(task, todo, knows_person)
            except _Unreadable as error:
                outcomes.append(self._note_unreadable(case, error.cause))
            else:
                unreadable_path(self.out, case.key).unlink(missing_ok=True)
        return outcomes

    def _note_unreadable(self, case: ImitationCase, error: BaseException) -> Outcome:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        outcome = Outcome(case.key, "", "unreadable", f"{type(error).__name__}: {said}")
        write_json(unreadable_path(self.out, case.key), {"case": case.key, "error": outcome.error})
        return outcome

    def _score(
        self,
        task: Task,
        methods: Sequence[Method],
        knows_person: dict[str, tuple[Failure | None, float]],
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
                    masks = None
                    if needs_mask and scored.any():
                        masks = task.driver.masks(wanted, self.settings.size)
                except _FILE_ERRORS as error:
                    raise _Unreadable(error) from error
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

    def _store(self, task: Task, drawing: "Drawing") -> Outcome:
        """Rows last: when they are there, everything of the case is."""
        case, method = task.case, drawing.method
        failed = drawing.failure is not None
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
        rows, record = case_paths(self.out, method.name, case.key)
        status: Literal["ok", "failed"] = "failed" if failed else "ok"
        error = drawing.failure.reason if drawing.failure else ""
        write_json(
            record,
            {
                "case": case.key,
                "settings": self._identity(),
                "method": method.name,
                "method_version": method.version,
                "weights": method.weights,
                "status": status,
                "error": error,
                "traceback": drawing.failure.traceback if drawing.failure else "",
                "note": case.note,
                "driver_first": case.driver_first,
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

        Cases whose files could not be read are left out of the table for every method, and named in run.json.

        Args:
            plan: of the whole run, all shards.

        Returns:
            Whether every case of every method is done.
        """
        all_keys = [case.key for case in plan.cases]
        with locked(self.out / ".lock"):
            unreadable = read_unreadable(self.out, all_keys)
            keys = [key for key in all_keys if key not in unreadable]
            names = sorted(self._names())
            through = [
                name for name in names if all(self._record(name, key) is not None for key in keys)
            ]
            if through and keys:
                tables = {}
                for name in through:
                    for key in keys:
                        path = case_paths(self.out, name, key)[0]
                        tables[str(path)] = read_rows(path)
                write_rows(self.out / "rows.parquet", merge_tables(tables))
            summary = self._summary(plan, names, through, unreadable)
            write_json(self.out / "run.json", summary)
        return bool(summary["complete"])

    def _summary(
        self,
        plan: Plan,
        names: Sequence[str],
        through: Sequence[str],
        unreadable: dict[str, str],
    ) -> dict[str, Any]:
        methods: dict[str, Any] = {}
        failures: list[dict[str, str]] = []
        notes: dict[str, str] = {}
        unscored: dict[str, str] = {}
        before = read_run(self.out)
        peaks = {
            name: [before.get(name, 0)]
            for name in ("peak_memory_bytes", "peak_device_memory_bytes")
        }
        for name in names:
            records = read_records(self.out, name, [case.key for case in plan.cases])
            failures += list_failures(name, records)
            notes |= {one["case"]: one["note"] for one in records if one["note"]}
            unscored |= {
                one["case"]: one["note"]
                for one in records
                if one["case"].startswith("self/")
                and one["status"] == "ok"
                and not one["num_scored"]
            }
            for peak, found in peaks.items():
                found += [one[peak] for one in records]
            methods[name] = {"complete": name in through, **describe_method(records)}
        return {
            "schema": 1,
            "settings": self._identity(),
            "started": before["started"],
            "command": before["command"],
            "complete": not unreadable and all(method.name in through for method in self.methods),
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
                "licence": self.dataset.licence,
            },
            "num_cases": len(plan.cases),
            "missing_cases": plan.missing,
            "unreadable_cases": unreadable,
            "unscored_cases": unscored,
            "methods": methods,
            "failures": failures,
            "notes": notes,
            # Of one process; the methods of a process share it, so it says nothing of one of them.
            **{name: max(found) for name, found in peaks.items()},
            "machine": machine(),
            "versions": versions(),
        }


class _Unreadable(Exception):
    """A clip's files gave out in the middle of a case."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


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
