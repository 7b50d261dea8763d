"""The folder of a run: what lies where, what is done, and what it says together.

::

    run.json                              settings, versions, speed, memory, failures
    rows.parquet                          the table; only methods that are through with every readable case
    cases/<method>/<case key>.parquet     one case's rows: its being there says that the case is done
    sets.parquet                          scores of whole sets of pictures, of the same methods
    features/<method>/<case key>.npz      what judges of sets saw in the pictures; "target": in the true ones
    cases/<method>/<case key>.json        how it went: version, seconds, what failed and why
    unreadable/<case key>.json            why the files of a case could not be read; goes when they can
    pictures/<method>/<case key>/         00000.png ..., numbered within the case
    pictures/target/<case key>/           what was wanted, numbered like it
    pictures/source/<case key>/           what was given, by frame; of several people in a folder for each, named
                                          after the parts that are theirs

One folder holds one version of a method, and cases of one set of settings.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import iper_toolkit
from benchmarks.case_reader import ReadCase
from benchmarks.drawing import Drawing
from benchmarks.judging import Judges
from benchmarks.machine import machine, peak_device_memory_bytes, peak_memory_bytes, versions
from benchmarks.methods import RESERVED_NAMES, Dressed, Method
from benchmarks.metrics import METRICS
from benchmarks.planning import Plan, PreparedDataset, Settings, has_true_pictures
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
    rows_file,
    write_rows,
)
from benchmarks.scoring import CaseScorer
from benchmarks.sets import (
    Member,
    features_path,
    merge_sets,
    read_sets,
    score_sets,
    sets_file,
    write_features,
    write_sets,
)
from benchmarks.tasks import KINDS
from iper_toolkit.atomic import locked, remove_dead_parts
from iper_toolkit.cases import Case
from iper_toolkit.images import RESIZE_ID, write_image
from iper_toolkit.protocols import Protocol as CaseTables
from iper_toolkit.true_pictures import TruthTables
from iper_toolkit.video import decoder_id

# What only a dataset's folder holds.
_OF_A_DATASET = ("dataset.toml", "manifests", "images_HD")


@dataclass(frozen=True)
class Outcome:
    """How one case of one method went, or why a case could not be tried at all (`method` is empty)."""

    case: str
    method: str
    status: Literal["ok", "failed", "unreadable"]
    error: str = ""


class RunFolder:
    """The folder of one run, which several processes may fill at a time.

    Args:
        path: absolute, because a method may change the working folder.
        judges: whose digests stand in the rows.
        missing_metrics: why metrics that were asked for are not scored, for run.json.
        command: what was typed, for run.json.
        retry_failed: whether a case on which a method failed counts as not done.
    """

    def __init__(
        self,
        path: Path,
        dataset: PreparedDataset,
        protocol: CaseTables,
        truths: TruthTables,
        settings: Settings,
        *,
        body_id: str,
        device: str,
        judges: Judges,
        missing_metrics: Mapping[str, str],
        command: str,
        retry_failed: bool,
    ) -> None:
        self.path = path
        self._dataset, self._protocol, self._truths = dataset, protocol, truths
        self._settings = settings
        self._body_id, self._device = body_id, device
        self._judges, self._missing_metrics = judges, dict(missing_metrics)
        self._command, self._retry_failed = command, retry_failed

    # ------------------------------------------------------------------------------- going on in it

    def open(self, plan: Plan, methods: Sequence[Method]) -> None:
        """Make the folder, or go on in it.

        Raises:
            ValueError: the folder is a dataset's, holds a run with other settings, or cases that another version of
                one of the methods drew.
        """
        if marks := [name for name in _OF_A_DATASET if (self.path / name).exists()]:
            raise ValueError(
                f"{self.path} holds {', '.join(marks)}, so it is a dataset; a run takes a folder of its own. Choose "
                "another --out."
            )
        path = self.path / "run.json"
        with locked(self.path / ".lock"):
            if path.is_file():
                self._check_settings(read_run(self.path)["settings"])
            names = {method.name for method in methods}
            for case in plan.cases:
                for method in methods:
                    self.is_done(method, case)
                for name in self._names() - names:
                    self._record(name, case.key)
            if not path.is_file():
                started = datetime.now(UTC).isoformat(timespec="seconds")
                record = {"started": started, "command": self._command, "complete": False}
                write_json(path, {"schema": 1, "settings": self._identity, **record})

    def is_done(self, method: Method, case: Case) -> bool:
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
                f"{self.path} holds {case.key} as {method.name} drew it in {was}; now it is {now}. Choose another "
                "--out, or call the new one by another name (NAME=SPEC)."
            )
        return not self._retry_failed or record["status"] == "ok"

    def _names(self) -> set[str]:
        """The methods that the folder holds cases of."""
        folder = self.path / "cases"
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def _check_settings(self, there: dict[str, Any]) -> None:
        other = {k: (there.get(k), v) for k, v in self._identity.items() if there.get(k) != v}
        if other:
            told = "; ".join(f"{k} is {was!r}, not {now!r}" for k, (was, now) in other.items())
            raise ValueError(
                f"{self.path} holds a run with other settings: {told}. Choose another --out."
            )

    def _record(self, method: str, case_key: str) -> dict[str, Any] | None:
        """The record of a finished case; None if it is not done, or damaged and so to be done again."""
        record = read_record(self.path, method, case_key)
        if record is not None:
            self._check_settings(record.get("settings", {}))
        return record

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Everything that scores of this folder have in common."""
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self._settings)))
        identity = settings | {
            "protocol": self._protocol.id,
            "protocol_digest": self._protocol.digest,
            "dataset": self._dataset.name,
            "dataset_digest": self._dataset.digest,
            "body": self._body_id,
            "resize": RESIZE_ID,
            "metric_versions": {name: METRICS[name].version for name in self._settings.metrics},
            "code_version": iper_toolkit.__version__,
        }
        identity |= {
            f"true_pictures_digest_{kind}": self._digest_of_true_pictures(kind)
            for kind in self._settings.kinds
            if KINDS[kind].has_true_pictures
        }
        return identity

    # -------------------------------------------------------------------------------------- storing

    def note_unreadable(self, case: Case, error: BaseException) -> Outcome:
        """Remember that a case could not be read, until it can."""
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        outcome = Outcome(case.key, "", "unreadable", f"{type(error).__name__}: {said}")
        write_json(unreadable_path(self.path, case.key), {"case": case.key, "error": outcome.error})
        return outcome

    def note_readable(self, case: Case) -> None:
        unreadable_path(self.path, case.key).unlink(missing_ok=True)

    def keep_pictures(
        self,
        name: str,
        case: Case,
        numbers: NDArray[np.int64],
        pictures: NDArray[np.uint8],
        kept: frozenset[int],
    ) -> None:
        """Keep those of some pictures whose numbers are in `kept`."""
        self._write_pictures(self.path / "pictures" / name / case.key, numbers, pictures, kept)

    def keep_sources(self, read: ReadCase) -> None:
        """Keep what a method was shown."""
        for wearer in read.people:
            folder = self.path / "pictures" / "source" / read.case.key / _of_wearer(read, wearer)
            frames = np.array(wearer.person.frames)
            self._write_pictures(
                folder, frames, wearer.person.pictures, frozenset(wearer.person.frames)
            )

    def _write_pictures(
        self,
        folder: Path,
        numbers: NDArray[np.int64],
        pictures: NDArray[np.uint8],
        kept: frozenset[int],
    ) -> None:
        is_shared = folder.relative_to(self.path / "pictures").parts[0] in RESERVED_NAMES
        for number, picture in zip(numbers.tolist(), pictures, strict=True):
            path = folder / f"{number:05d}.png"
            if number not in kept or (is_shared and path.is_file()):
                continue  # a shared one was left here by another method's turn
            write_image(path, picture)

    def store(self, read: ReadCase, drawing: Drawing, scorer: CaseScorer) -> Outcome:
        """Rows last: when they are there, everything of the case is."""
        case, method = read.case, drawing.method
        failed = drawing.failure is not None
        scored_frames = [f for f, s in zip(read.frames, read.scored, strict=True) if s]
        values = drawing.values()
        metrics = [one for one in scorer.metrics if scored_frames and scorer.has(method.name, one)]
        judges = {one.name: self._judges.digest(one.judge) if one.judge else "" for one in metrics}
        looked = {one.name: scorer.looked(one) for one in metrics}
        scores = [
            Scores(
                metric.name,
                str(metric.version),
                metric.region,
                looked[metric.name],
                None if failed else values[metric.name],
                judges[metric.name],
                scorer.kept(metric),
            )
            for metric in metrics
            if metric.kind == "frame"
        ]
        facts = self._facts(read, method)
        of_sets = {one.name: judges[one.name] for one in metrics if one.kind == "set"}
        if of_sets and not failed:
            for name in (method.name, "target"):
                write_features(features_path(self.path, name, case.key), scorer.features(name))
        rows, record = case_paths(self.path, method.name, case.key)
        status: Literal["ok", "failed"] = "failed" if failed else "ok"
        error = drawing.failure.reason if drawing.failure else ""
        frame_of = dict(zip(read.motion.positions, read.frames, strict=True))
        write_json(
            record,
            {
                "case": case.key,
                "kind": case.kind,
                "settings": self._identity,
                "method": method.name,
                "method_version": method.version,
                "weights": method.weights,
                "random_weights": bool(getattr(method, "random_weights", False)),
                "inputs": list(getattr(method, "inputs", ())),
                "status": status,
                "error": error,
                "traceback": drawing.failure.traceback if drawing.failure else "",
                "note": case.note,
                "facts": dataclasses.asdict(facts),
                "judges_of_sets": of_sets,
                "looked_of_sets": {name: looked[name] for name in of_sets},
                "num_drawn": drawing.count,
                "num_scored": 0 if failed else len(scored_frames),
                "seconds_draw": drawing.seconds,
                "seconds_personalize": drawing.seconds_personalize,
                "peak_memory_bytes": getattr(method, "peak_memory_bytes", peak_memory_bytes)(),
                "peak_device_memory_bytes": peak_device_memory_bytes(self._device),
                "sources": [
                    {
                        "clip": wearer.person.clip,
                        "frames": list(wearer.person.frames),
                        "folder": _of_wearer(read, wearer),
                    }
                    for wearer in read.people
                ],
                "kept": {position: frame_of[position] for position in sorted(read.kept)},
                "machine": machine(),
            },
        )
        for folder in (self.path / "pictures" / method.name / case.key, rows.parent):
            if folder.is_dir():
                remove_dead_parts(folder)
        write_rows(rows, [case_table(facts, scored_frames, scores)])
        return Outcome(case.key, method.name, status, error)

    def _facts(self, read: ReadCase, method: Method) -> CaseFacts:
        case = read.case
        return CaseFacts(
            method=method.name,
            method_version=method.version,
            weights=method.weights,
            task=KINDS[case.kind].task,
            kind=case.kind,
            case=case.key,
            clip=case.people[0].clip,
            driver=case.driver,
            subject=read.subject,
            protocol=self._protocol.id,
            protocol_version=self._protocol.version,
            protocol_digest=self._protocol.digest,
            targets=self._settings.targets,
            num_sources=case.num_sources,
            max_frames=self._settings.max_frames,
            size=self._settings.size,
            resize=RESIZE_ID,
            dataset=self._dataset.name,
            dataset_digest=self._digest_of_truth(case),
            synthetic=self._dataset.synthetic,
            code_version=iper_toolkit.__version__,
            decoder=decoder_id(),
        )

    def _digest_of_truth(self, case: Case) -> str:
        """The dataset's digest; with the true pictures beside its clips where they are the truth."""
        if not has_true_pictures(case):
            return self._dataset.digest
        both = f"{self._dataset.digest} {self._digest_of_true_pictures(case.kind)}"
        return hashlib.sha256(both.encode()).hexdigest()

    def _digest_of_true_pictures(self, kind: str) -> str:
        truths = self._truths
        return truths.transfer_digest if kind == "other" else truths.views_digest

    # ------------------------------------------------------------------------------------ finishing

    def finish(self, plan: Plan, methods: Sequence[Method]) -> bool:
        """Write what the folder holds together: rows.parquet of the methods that are through, and run.json.

        Cases whose files could not be read are left out of the table for every method, and named in run.json.

        Args:
            plan: of the whole run, all shards.
            methods: that were asked for.

        Returns:
            Whether every case of every method is done.
        """
        all_keys = [case.key for case in plan.cases]
        with locked(self.path / ".lock"):
            unreadable = read_unreadable(self.path, all_keys)
            keys = [key for key in all_keys if key not in unreadable]
            names = sorted(self._names())
            through = [
                name for name in names if all(self._record(name, key) is not None for key in keys)
            ]
            if through and keys:
                tables = {}
                for name in through:
                    for key in keys:
                        path = case_paths(self.path, name, key)[0]
                        tables[str(path)] = read_rows(path)
                write_rows(self.path / "rows.parquet", merge_tables(tables))
                self._write_sets(through, keys)
            complete = not unreadable and all(method.name in through for method in methods)
            summary = self._summary(plan, names, through, unreadable)
            write_json(self.path / "run.json", summary | {"complete": complete})
        return complete

    def _write_sets(self, methods: Sequence[str], keys: Sequence[str]) -> None:
        members = set_members(self.path, methods, keys)
        metrics = [METRICS[name] for name in self._settings.metrics]
        path = self.path / "sets.parquet"
        if any(metric.kind == "set" for metric in metrics):
            write_sets(path, score_sets(members, metrics, known=read_sets(path)))

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
        before = read_run(self.path)
        peaks = {
            name: [before.get(name, 0)]
            for name in ("peak_memory_bytes", "peak_device_memory_bytes")
        }
        for name in names:
            records = read_records(self.path, name, [case.key for case in plan.cases])
            failures += list_failures(name, records)
            notes |= {one["case"]: one["note"] for one in records if one["note"]}
            unscored |= {
                one["case"]: one["note"]
                for one in records
                if KINDS[one["kind"]].is_scored and one["status"] == "ok" and not one["num_scored"]
            }
            for peak, found in peaks.items():
                found += [one[peak] for one in records]
            methods[name] = {"complete": name in through, **describe_method(records)}
        return {
            "schema": 1,
            "settings": self._identity,
            "started": before["started"],
            "command": before["command"],
            "complete": False,
            "protocol": {
                "id": self._protocol.id,
                "version": self._protocol.version,
                "digest": self._protocol.digest,
                "title": self._protocol.title,
            },
            "dataset": {
                "name": self._dataset.name,
                "digest": self._dataset.digest,
                "synthetic": self._dataset.synthetic,
                "licence": self._dataset.licence,
            },
            "num_cases": len(plan.cases),
            "missing_cases": plan.missing,
            "left_out": list(plan.left_out),
            "missing_metrics": self._missing_metrics,
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


def set_members(run: Path, methods: Sequence[str], case_keys: Sequence[str]) -> list[Member]:
    """The cases of some methods that a run's folder holds, as far as they have scores of sets."""
    found = []
    for name in methods:
        for one in read_records(run, name, case_keys):
            if one["judges_of_sets"]:
                found.append(
                    Member(
                        facts=one["facts"],
                        features=features_path(run, name, one["case"]),
                        truth=features_path(run, "target", one["case"]),
                        judges=one["judges_of_sets"],
                        looked=one["looked_of_sets"],
                        has_failed=one["status"] == "failed",
                    )
                )
    return found


def all_set_members(run: Path) -> list[Member]:
    """Every case of every method that a run's folder holds, as far as it has scores of sets."""
    found = []
    for folder in sorted((run / "cases").iterdir()) if (run / "cases").is_dir() else []:
        keys = [
            path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")
        ]
        found += set_members(run, [folder.name], sorted(keys))
    return found


def merged_sets(runs: Sequence[Path]) -> tuple[pa.Table, list[str]]:
    """The set scores of several runs' folders and tables as one table, and what had to be left out."""
    tables = {str(path): read_sets(sets_file(rows_file(path))) for path in runs}
    members = {str(path): all_set_members(path) for path in runs if path.is_dir()}
    return merge_sets(tables, members)


def _of_wearer(read: ReadCase, wearer: Dressed) -> str:
    """The folder of one person's sources within the case's; empty where there is only one person."""
    return "+".join(wearer.parts) if len(read.people) > 1 else ""
