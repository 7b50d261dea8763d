"""Cases in, rows out: each method draws each case, and every scored frame becomes a row a metric.

A run may be killed at any moment and started again; shards on a shared folder never meet. A method
that raises, or gives other than the wanted pictures, has failed on the case: that is recorded, and
counts. A clip that cannot be read says nothing of a method: its cases are reported, left out for every
method, and tried again next time. What a run leaves behind is `run_folder.RunFolder`'s.
"""

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.case_reader import CaseReader, Keep, ReadCase
from benchmarks.drawing import Drawing
from benchmarks.judging import Judges
from benchmarks.machine import check_device
from benchmarks.methods import (
    METHOD_ERRORS,
    Dressed,
    Failure,
    Method,
    Setup,
    as_dresser,
    check_identity,
    is_built_in,
)
from benchmarks.metrics import METRICS, Metric
from benchmarks.planning import Plan, PreparedDataset, Settings, clips_of, plan_cases
from benchmarks.run_folder import Outcome, RunFolder
from benchmarks.scoring import CaseScorer, TruePiece
from benchmarks.tasks import KINDS
from iper_toolkit import progress
from iper_toolkit.body import Body, BodyMismatch
from iper_toolkit.cases import Case
from iper_toolkit.progress import counted
from iper_toolkit.protocols import Protocol as CaseTables
from iper_toolkit.true_pictures import TruthTables

# Frames that are decoded, drawn and scored at a time.
CHUNK = 32
# What reading a damaged clip raises. `BodyMismatch` is a ValueError too, but the whole run's and not one clip's.
_FILE_ERRORS = (OSError, ValueError, KeyError, IndexError, RuntimeError)


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
        precision: in which their networks compute, "float32" or "bfloat16"; "auto": the faster one here.
        keep: pictures that are kept: "some" (8 a case), "all" or "none".
        threads: that score frames side by side.
        truths: the true pictures beside the dataset's clips; None: there are none.
        retry_failed: whether cases on which a method failed are drawn again.
        features: folder for what judges make of true pictures, for the next run; None: nothing is kept.
        missing_metrics: why metrics that were asked for are not scored, for run.json.
        command: what was typed, for run.json; empty when called from Python.

    Raises:
        ValueError: no method was given, two have one name, or a name cannot be a folder's; there is no such device.
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
        precision: str = "auto",
        truths: TruthTables | None = None,
        keep: Keep = "some",
        threads: int = 1,
        retry_failed: bool = False,
        features: Path | None = None,
        missing_metrics: Mapping[str, str] | None = None,
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
        self.settings, self.keep, self.body = settings, keep, body
        check_device(device)
        self.truths = truths if truths is not None else TruthTables()
        self._device, self._precision = device, precision
        self._metrics: tuple[Metric, ...] = tuple(METRICS[name] for name in settings.metrics)
        self._judges = Judges(
            device, random_seed=settings.random_judges, flip=settings.flip, cache=features
        )
        self._reader = CaseReader(dataset, self.truths, settings, body, keep)
        self._folder = RunFolder(
            out.absolute(),  # because a method may change the working folder
            dataset,
            protocol,
            self.truths,
            settings,
            body_id=body.id,
            device=device,
            judges=self._judges,
            missing_metrics=missing_metrics or {},
            command=command,
            retry_failed=retry_failed,
        )
        self._threads = threads
        self._is_set_up = False

    @property
    def out(self) -> Path:
        return self._folder.path

    # ------------------------------------------------------------------------------------- planning

    def plan(self, shard: tuple[int, int] = (0, 1)) -> Plan:
        """The cases of one shard. A person's cases stay together, and adding cases moves none.

        Raises:
            ValueError: nothing of the protocol is in the dataset, or the shard is none.
        """
        return plan_cases(self.dataset, self.protocol, self.settings, self.truths, shard)

    def open(self) -> None:
        """Set the methods up, and make the folder or go on in it.

        Raises:
            ValueError: nothing can be run; a method cannot transfer appearance and is asked to, or cannot be set up
                so; the folder is a dataset's, holds a run with other settings, or cases that another version of one
                of the methods drew.
            RuntimeError: somebody's method raised while it was set up.
            BodyMismatch: a clip was fitted with another body.
        """
        plan = self.plan()  # before anything is written: a mistyped command leaves no folder behind
        for clip in {clip for case in plan.cases for clip in clips_of(case)}:
            self._reader.check_body(clip)
        if any(len(case.people) > 1 for case in plan.cases):
            for method in self.methods:
                as_dresser(method)
        self._set_up(plan)
        self._folder.open(plan, self.methods)

    # -------------------------------------------------------------------------------------- drawing

    def do(self, group: Sequence[Case]) -> list[Outcome]:
        """Draw and score the cases of one `person_key` with every method that has not yet."""
        if not self._is_set_up:
            self._set_up(self.plan())
        outcomes: list[Outcome] = []
        people: tuple[Dressed, ...] | None = None
        learned: dict[str, tuple[Failure | None, float]] = {}  # method -> (failure, seconds)
        for case in counted(group, group[0].person_key if group else "", len(group), "case"):
            todo = [method for method in self.methods if not self._folder.is_done(method, case)]
            if not todo:
                self._folder.note_readable(case)  # a kill may have left the note of an earlier try
                continue
            try:
                people = people or self._reader.read_people(case)
                read = self._reader.read_case(case, people)
            except BodyMismatch:
                raise
            except _FILE_ERRORS as error:
                outcomes.append(self._folder.note_unreadable(case, error))
                continue
            for method in todo:
                if method.name not in learned:
                    self._seed(f"{method.name}/{case.person_key}")
                    with progress.task(f"{method.name} personalizes"):
                        learned[method.name] = _teach(method, people)
            try:
                outcomes += self._score(read, todo, learned)
            except _Unreadable as error:
                outcomes.append(self._folder.note_unreadable(case, error.cause))
            else:
                self._folder.note_readable(case)
        return outcomes

    def _set_up(self, plan: Plan) -> None:
        tasks = tuple(dict.fromkeys(KINDS[case.kind].task for case in plan.cases))
        settings = self.settings
        setup = Setup(settings.size, self.body, self._device, settings.seed, tasks, self._precision)
        for method in () if self._is_set_up else self.methods:
            try:
                method.setup(setup)
            except METHOD_ERRORS as error:
                raise _not_set_up(method, error) from error
        self._is_set_up = True

    def _score(
        self,
        read: ReadCase,
        methods: Sequence[Method],
        learned: dict[str, tuple[Failure | None, float]],
    ) -> list[Outcome]:
        """All methods side by side, so that each true frame is decoded once."""
        drawings = [
            Drawing(method, read.motion, self.settings.size, *learned[method.name])
            for method in methods
        ]
        for drawing in drawings:
            with drawing.own_randomness():
                self._seed(f"{drawing.method.name}/{read.case.key}")
        scorer = CaseScorer(
            read,
            self._metrics,
            self._judges,
            self.body,
            self.settings.size,
            self._threads,
            person_box=self.settings.person_box,
            face_box=self.settings.face_box,
        )
        for drawing in drawings:
            self._expect_estimates(scorer, drawing, read)
        pieces = range(0, len(read.frames), CHUNK)
        for first in counted(pieces, read.case.key, len(pieces), "piece"):
            part = slice(first, first + CHUNK)
            try:
                piece = self._see(read, scorer, part)
            except _FILE_ERRORS as error:
                raise _Unreadable(error) from error
            positions, scored = np.array(read.motion.positions[part]), read.scored[part]
            for drawing in drawings:
                pictures = drawing.take(len(positions))
                if pictures is None:
                    continue
                self._folder.keep_pictures(
                    drawing.method.name, read.case, positions, pictures, read.kept
                )
                if piece is not None:
                    name = drawing.method.name
                    with progress.task(f"scoring {name}"):
                        drawing.add_scores(scorer.score(name, piece, pictures[scored]))
        if self.keep != "none":
            self._folder.keep_sources(read)
        outcomes = []
        for drawing in drawings:
            drawing.finish()
            outcomes.append(self._folder.store(read, drawing, scorer))
        return outcomes

    def _see(self, read: ReadCase, scorer: CaseScorer, part: slice) -> TruePiece | None:
        """Decode some true pictures, keep those that are to be kept, and look at those to compare with, if any."""
        size, scored = self.settings.size, read.scored[part]
        positions = np.array(read.motion.positions[part])
        is_kept = np.array([position in read.kept for position in positions], bool)
        # Where there is no truth, what is kept is the driver, and what is compared with lies elsewhere.
        decoded = is_kept if read.real is not None else scored | is_kept
        truth = read.truth.frames(np.array(read.frames[part])[decoded].tolist(), size)
        self._folder.keep_pictures("target", read.case, positions[decoded], truth, read.kept)
        if not scored.any():
            return None
        places = np.flatnonzero(scored) + part.start
        if read.real is not None:
            clip, wanted = read.real.clip, [read.real.frames[place] for place in places.tolist()]
            pictures = clip.frames(wanted, size)
        else:
            clip, wanted = read.truth, np.array(read.frames)[places].tolist()
            pictures = truth[scored[decoded]]
        masks = clip.masks(wanted, size) if scorer.needs_masks else None
        return scorer.see_truth(places, pictures, masks)

    @staticmethod
    def _expect_estimates(scorer: CaseScorer, drawing: Drawing, read: ReadCase) -> None:
        """Poses that somebody estimated beforehand, where the method has any."""
        estimates = getattr(drawing.method, "estimates", None)
        if estimates is None or drawing.failure is not None:
            return
        try:
            scorer.expect(drawing.method.name, estimates(read.motion.seen_by(drawing.method)))
        except METHOD_ERRORS as error:
            drawing.fail(error)

    def _seed(self, key: str) -> None:
        """Global randomness that depends on the seed and the work alone, not on what ran before."""
        seed = int.from_bytes(
            hashlib.sha256(f"{self.settings.seed}/{key}".encode()).digest()[:4], "big"
        )
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - methods of others draw from the global generator
        torch.manual_seed(seed)

    def finish(self, plan: Plan) -> bool:
        """Write the table and run.json of what is done; whether that is everything. `plan`: of all shards."""
        return self._folder.finish(plan, self.methods)


def _teach(method: Method, people: Sequence[Dressed]) -> tuple[Failure | None, float]:
    """Show a method its people, each in memory of its own; what went wrong, and the seconds it took."""
    start = time.perf_counter()
    failure = None
    try:
        if len(people) == 1:
            method.personalize(people[0].person.copy())
        else:
            as_dresser(method).dress([wearer.copy() for wearer in people])
    except METHOD_ERRORS as error:
        failure = Failure.of(error)
    return failure, time.perf_counter() - start


def _not_set_up(method: Method, error: BaseException) -> Exception:
    """What to say of a method that raised: a sentence if it is one of ours, and where it raised if it is not."""
    failure = Failure.of(error)
    is_plain = isinstance(error, (ValueError, OSError)) or getattr(error, "is_plain", False)
    if is_built_in(method) and is_plain:
        return ValueError(f"method {method.name}: {error}")
    return RuntimeError(
        f"method {method.name}: setup failed: {failure.reason.removesuffix('.')}. No case was drawn; mend the method "
        f"and give the same command again.\n{failure.traceback}"
    )


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
    groups = counted(plan.groups, "drawing and scoring", len(plan.groups), "person")
    for count, group in enumerate(groups, 1):
        new = run.do(group)
        outcomes += new
        if tell is not None:
            tell(count, len(plan.groups), new)
    return outcomes, run.finish(whole)
