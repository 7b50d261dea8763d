"""The folder of a run: what lies where, what is done, and what it says together.

::

    run.json                              settings, versions, speed, memory, failures
    rows.parquet                          the table; only methods that are through with every readable case
    cases/<method>/<case key>.parquet     one case's rows
    sets.parquet                          scores of whole sets of pictures, of the same methods
    features/<method>/<case key>.npz      what judges of sets saw in the pictures; "target": in the true ones
    cases/<method>/<case key>.json        how it went: version, seconds, what failed and why; written last, with the
                                          sha256 of the rows: if these fit, the case is done
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
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    check_shape,
    describe_method,
    is_damaged,
    list_failures,
    read_json,
    read_record,
    read_records,
    read_run,
    read_unreadable,
    sha256_of,
    unreadable_path,
    write_case,
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
from benchmarks.scoring import CaseScorer
from benchmarks.set_members import set_members
from benchmarks.sets import (
    features_path,
    read_sets,
    score_sets,
    write_features,
    write_sets,
)
from benchmarks.tasks import KINDS
from benchmarks.words import count
from iper_toolkit.atomic import locked, remove_dead_parts
from iper_toolkit.cases import Case
from iper_toolkit.images import RESIZE_ID, write_image
from iper_toolkit.protocols import Protocol as CaseTables
from iper_toolkit.true_pictures import TruthTables
from iper_toolkit.video import decoder_id

_log = logging.getLogger(__name__)

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
        self._whole: dict[tuple[Path, int, int], bool] = {}

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
            known = self._known_run()
            if known is not None:
                self._check_settings(known["settings"])
            names = {method.name for method in methods}
            for case in plan.cases:
                for method in methods:
                    self.is_done(method, case)
                for name in self._names() - names:
                    self._record(name, case.key)
            self._tell_damaged(names, [case.key for case in plan.cases])
            if known is None:
                started = datetime.now(UTC).isoformat(timespec="seconds")
                record = {"started": started, "command": self._command, "complete": False}
                write_json(path, {"schema": 1, "settings": self._identity, **record})

    def _known_run(self) -> dict[str, Any] | None:
        """run.json; None if it is not there, or damaged: each case's record has the settings, too."""
        path = self.path / "run.json"
        if not path.is_file():
            return None
        try:
            known = read_run(self.path)
            check_shape(path, known, {"settings": dict, "started": str, "command": str})
        except ValueError as error:
            _log.warning("%s It is written anew.", str(error).partition(". Give the same")[0] + ".")
            return None
        return known

    def _tell_damaged(self, mine: Iterable[str], keys: Sequence[str]) -> None:
        """Say once which finished cases do not count, because somebody or something changed their files."""
        for name in sorted(self._names()):
            damaged = [key for key in keys if self._is_damaged(name, key)]
            if not damaged:
                continue
            remedy = (
                "drawn again"
                if name in mine
                else f"left out of the tables until the method {name} is run again"
            )
            some = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
            _log.warning(
                "%s: of %s of %s, rows, features and record are not as they were written, so that is %s: %s.",
                self.path / "cases" / name,
                count(len(damaged), "case"),
                name,
                remedy,
                some,
            )

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
            told = "; ".join(_difference(k, was, now) for k, (was, now) in other.items())
            raise ValueError(
                f"{self.path} holds a run with other settings: {told}. Choose another --out."
            )

    def _record(self, method: str, case_key: str) -> dict[str, Any] | None:
        """The record of a finished case; None if it is not done, or damaged and so to be done again."""
        record = read_record(self.path, method, case_key)
        if record is None or not self._has_features(record):
            return None
        self._check_settings(record["settings"])
        return record

    def _is_damaged(self, method: str, case_key: str) -> bool:
        if is_damaged(self.path, method, case_key):
            return True
        record = read_record(self.path, method, case_key)
        return record is not None and not self._has_features(record)

    def _has_features(self, record: Mapping[str, Any]) -> bool:
        """Whether what judges of sets saw is there and whole, if the case is part of a set."""
        if not record["judges_of_sets"] or record["status"] == "failed":
            return True
        paths = [
            features_path(self.path, name, record["case"]) for name in (record["method"], "target")
        ]
        return all(self._is_whole(path) for path in paths)

    def _is_whole(self, path: Path) -> bool:
        """Whether a file of features has the checksums that it was written with; each version is read once."""
        try:
            state = path.stat()
            version = (path, state.st_size, state.st_mtime_ns)
            if version not in self._whole:
                with zipfile.ZipFile(path) as members:
                    self._whole[version] = members.testzip() is None
        except (OSError, ValueError, zipfile.BadZipFile):
            return False
        return self._whole[version]

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
        """The record last: when it is there and fits, everything of the case is there."""
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
        status: Literal["ok", "failed"] = "failed" if failed else "ok"
        error = drawing.failure.reason if drawing.failure else ""
        frame_of = dict(zip(read.motion.positions, read.frames, strict=True))
        for folder in (
            self.path / "pictures" / method.name / case.key,
            self.path / "pictures" / "target" / case.key,
            self.path / "pictures" / "source" / case.key,
            case_paths(self.path, method.name, case.key)[0].parent,
        ):
            if folder.is_dir():
                remove_dead_parts(folder)
        write_case(
            self.path,
            method.name,
            case.key,
            {
                "kind": case.kind,
                "settings": self._identity,
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
            case_table(facts, scored_frames, scores),
        )
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
            write_sets(path, score_sets(members, metrics, known=self._known_sets(path)))

    @staticmethod
    def _known_sets(path: Path) -> pa.Table | None:
        """Set scores that need not be computed again: of the file that run.json tells of, without failures (cases on
        which a method failed may have been drawn again)."""
        run = path.with_name("run.json")
        if not path.is_file() or read_json(run).get("sets_sha256") != sha256_of(path):
            return None
        table = read_sets(path)
        return table.filter(pc.not_equal(table["status"], "failed"))

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
        before = self._known_run() or {"started": "", "command": self._command}
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
            "sets_sha256": sha256_of(sets)
            if (sets := self.path / "sets.parquet").is_file()
            else "",
            # Of one process; the methods of a process share it, so it says nothing of one of them.
            **{name: max(found) for name, found in peaks.items()},
            "machine": machine(),
            "versions": versions(),
        }


def _difference(name: str, was: Any, now: Any) -> str:
    """A setting that differs; of long ones only what differs in them."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        parts = [
            f"{key} {was.get(key)!r}, not {now.get(key)!r}"
            for key in sorted({*was, *now})
            if was.get(key) != now.get(key)
        ]
        return f"{name}: {', '.join(parts)}"
    if isinstance(was, list) and isinstance(now, list):
        parts = [
            f"{word} {', '.join(map(str, found))}"
            for word, found in (
                ("there also", [one for one in was if one not in now]),
                ("now also", [one for one in now if one not in was]),
            )
            if found
        ]
        return f"{name}: {'; '.join(parts) or 'another order'}"
    return f"{name} is {was!r}, not {now!r}"


def _of_wearer(read: ReadCase, wearer: Dressed) -> str:
    """The folder of one person's sources within the case's; empty where there is only one person."""
    return "+".join(wearer.parts) if len(read.people) > 1 else ""
