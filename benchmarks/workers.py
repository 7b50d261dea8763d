"""A run as a description that other processes can build for themselves, and the processes that do."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.case_reader import Keep
from benchmarks.isolation import TIME_LIMIT, IsolatedMethod, load_for_run
from benchmarks.planning import Settings
from benchmarks.runner import Outcome, Run, run_all
from iper_toolkit import progress
from iper_toolkit.body import load_body
from iper_toolkit.cases import Case
from iper_toolkit.clip import Dataset
from iper_toolkit.processes import Pool, WorkerDied
from iper_toolkit.protocols import load_protocol, protocol_of
from iper_toolkit.true_pictures import TruthTables

Tell = Callable[[int, int, list[Outcome]], None]


@dataclass(frozen=True)
class RunDescription:
    """Names and numbers only; `build` opens what they name. Arguments not told here are as in `runner.Run`."""

    root: Path
    out: Path | None  # None: runs/TASK-DATASET
    methods: tuple[str, ...]  # as `load_method` takes them
    settings: Settings
    protocol: str = ""  # id or folder; empty: the dataset's own, else the shipped one
    body: str = "open"  # "open", or the file of an SMPL body
    device: str = "cpu"
    precision: str = "auto"  # of networks
    keep: Keep = "some"
    threads: int = 1  # of one process
    time_limit: float = TIME_LIMIT  # seconds for one answer of a method in a process of its own
    retry_failed: bool = False
    missing_metrics: Mapping[str, str] = field(default_factory=dict)  # why some are not scored
    command: str = ""  # what was typed, for run.json

    def absolute(self) -> "RunDescription":
        """The same, whatever a method makes the working folder."""
        out = self.out or Path("runs") / f"{self.settings.task}-{Dataset.open(self.root).name}"
        return replace(
            self,
            root=self.root.absolute(),
            out=out.absolute(),
            protocol=_absolute(self.protocol),
            body=_absolute(self.body),
        )

    def build(self) -> Run:
        self = self.absolute()
        assert self.out is not None  # `absolute` names it
        dataset = Dataset.open(self.root)
        protocol = (
            load_protocol(self.protocol) if self.protocol else protocol_of(self.root, dataset.name)
        )
        return Run(
            dataset,
            protocol,
            [
                load_for_run(spec, time_limit=self.time_limit, threads=self.threads)
                for spec in self.methods
            ],
            self.settings,
            self.out,
            body=load_body(self.body),
            device=self.device,
            precision=self.precision,
            truths=TruthTables(self.root),
            keep=self.keep,
            threads=self.threads,
            retry_failed=self.retry_failed,
            features=self.root / "cache" / "judged",
            missing_metrics=self.missing_metrics,
            command=self.command,
        )


def _absolute(named: str) -> str:
    """A path from the root; other names as they are."""
    return str(Path(named).absolute()) if named and Path(named).exists() else named


_of_this_process: Run | None = None


def _start(description: RunDescription) -> None:
    global _of_this_process
    torch.set_num_threads(description.threads)
    _of_this_process = description.build()


def _do(group: tuple[Case, ...]) -> list[Outcome]:
    assert _of_this_process is not None  # `_start` ran first
    return _of_this_process.do(group)


def _end_children(run: Run) -> None:
    """End the processes of methods that have one of their own."""
    for method in run.methods:
        if isinstance(method, IsolatedMethod):
            method.close()


def run_described(
    description: RunDescription,
    *,
    shard: tuple[int, int] = (0, 1),
    workers: int = 1,
    tell: Tell | None = None,
) -> tuple[Run, list[Outcome], bool]:
    """Do one shard of a run in `workers` processes; like `runner.run_all` otherwise.

    Raises:
        WorkerDied: a worker process died. What it had finished is kept, and the other cases are done.
    """
    description = description.absolute()  # before code of others is loaded
    if workers <= 1:
        run = description.build()
        try:
            outcomes, complete = run_all(run, shard=shard, tell=tell)
        finally:
            _end_children(run)
        return run, outcomes, complete
    threads = max(1, (os.cpu_count() or 1) // workers)
    description = replace(description, threads=threads)
    run = description.build()
    try:
        run.open()
    finally:
        _end_children(run)  # the workers have their own
    groups = run.plan(shard).groups
    outcomes = []
    deaths: list[str] = []
    with (
        progress.task("drawing and scoring", len(groups), "person") as advance,
        Pool(workers, start=_start, start_arguments=(description,)) as pool,
    ):
        for count, ended in enumerate(pool.run(_do, groups), 1):
            if isinstance(ended.error, WorkerDied):
                deaths.append(f"{', '.join(case.key for case in ended.job)}: {ended.error}")
                continue
            outcomes += ended.result()
            advance(count)
            if tell is not None:
                tell(count, len(groups), ended.result())
    if deaths:
        raise WorkerDied(
            f"{' '.join(deaths)} All other cases are kept: give the same command again to try these again."
        )
    return run, outcomes, run.finish(run.plan())
