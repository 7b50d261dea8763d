"""Training: from a configuration and clips to a folder with weights, state, log, and sheets to look at.

A run that was killed goes on where it last saved, and ends with the same bits on a CPU as one that was not.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from iper_toolkit import progress
from iper_toolkit.body import Body
from iper_toolkit.processes import begin_as_worker, loader_death, refuse_in_workers
from lwgan.batch import Batch
from lwgan.checkpoints import WEIGHTS_FILE, Checkpoint, Origin
from lwgan.learners import Tell, load_networks
from lwgan.precision import Precision, resolve_precision
from lwgan.processes import Processes
from lwgan.samples import Batches, ClipFolder
from lwgan.surface_tables import Convention, surface_tables
from lwgan.training_config import TrainingConfig
from lwgan.training_run import TrainingFailed, TrainingRun, Validate, begun_precision

# A new network takes no part in the reference's quirks, and sees dressed bodies.
CONVENTION: Convention = "clothed"
_VALIDATION_SEED = 77


@dataclass(frozen=True)
class Trained:
    """What a run came to."""

    out: Path
    weights: Path
    steps: int
    losses: dict[str, float]  # means of the last steps; empty if there was nothing left to do


def train(
    config: TrainingConfig,
    data: Sequence[ClipFolder],
    out: Path,
    *,
    body: Body,
    trained_on: Sequence[str] = (),
    synthetic: bool = False,
    held_out: Sequence[ClipFolder] = (),
    scenes: Sequence[Path] = (),
    start: Checkpoint | None = None,
    device: str = "cpu",
    workers: int = 1,
    cache: Path | None = None,
    validate: Validate | None = None,
    stop_after: float | None = None,
    tell: Tell = lambda text: None,
) -> Trained:
    """Train, or go on with what `out` holds.

    Args:
        config: what and how. A folder that was begun with another one is refused.
        data: clips to learn from. held_out: clips on which the same losses are told, and nothing is learned.
        out: the run's folder.
        body: of all fits.
        trained_on: names for the weights' origin. synthetic: whether everybody in `data` is drawn.
        scenes: pictures of places, for `samples.extra_background`.
        start: weights to begin with; None: fresh ones, of the seed in `config.samples`.
        device: "cpu" or "cuda".
        workers: processes that load batches, started afresh, so that a script calls this under
            ``if __name__ == "__main__"``; 0: the training process itself.
        cache: folder for what is composed of sources; None: composed again each time.
        validate: other numbers to log, such as a benchmark's.
        stop_after: seconds after which it saves and stops, to be gone on with; None: never.
        tell: takes lines for the user.

    Raises:
        ValueError: no clip, or a folder with another configuration.
        TrainingFailed: memory or disk gave out, or a loss is no number.
    """
    processes = Processes.of_environment()
    if processes.world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda" and processes.world > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", processes.rank)))
    tables = surface_tables(body, CONVENTION)
    config = replace(config, precision=_precision_of(config, out, device, processes))
    config, networks = load_networks(config, device, tell)
    run = TrainingRun(config, out, tables, device, networks, processes, start, tell)
    if processes.is_first:  # the others see a folder that is made
        run.enter()
    processes.wait()
    run.resume()
    origin = Origin(
        "trained",
        trained_on=tuple(trained_on),
        synthetic=synthetic,
        size=config.samples.size,
    )
    batches = Batches(
        data,
        config.samples,
        body,
        tables,
        cache=cache,
        rank=processes.rank,
        world=processes.world,
        scenes=scenes,
    )
    watched = None
    if held_out:
        rules = replace(config.samples, seed=_VALIDATION_SEED, colours=False, window=1.0)
        watched = Batches(held_out, rules, body, tables, cache=cache, scenes=scenes)
    begun = time.monotonic()
    try:
        for batch in _told(_loaded(batches, run.step, config.steps, workers, device), run):
            run.do(batch)
            if run.is_due(config.validate_every) and watched is not None and processes.is_first:
                run.look(watched, validate)
            elif run.is_due(config.validate_every) and validate is not None and processes.is_first:
                run.log(dict(validate(run.step, run.kept)), "validate")
            in_time = stop_after is None or processes.agree(time.monotonic() - begun < stop_after)
            if run.is_due(config.save_every) or run.step == config.steps or not in_time:
                run.save(origin)
            if not in_time:
                tell(f"Stopped after {run.step} of {config.steps} steps; the same command goes on.")
                break
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise TrainingFailed(
            f"Memory gave out in step {run.step}: {error}. Set samples.batch={max(1, config.samples.batch // 2)}, a smaller "
            "samples.size, or checkpointing=true; the run goes on from its last save only with the same settings."
        ) from error
    finally:
        run.close()
    return Trained(out, out / WEIGHTS_FILE, run.step, run.recent())


def _precision_of(
    config: TrainingConfig, out: Path, device: str, processes: Processes
) -> Precision:
    """What `auto` means for a run: what it began with, else what is faster for the first process."""
    if config.precision != "auto":
        return config.precision
    begun = begun_precision(out)
    if begun is not None:
        return begun
    is_half = processes.is_first and resolve_precision("auto", device) == "bfloat16"
    return "bfloat16" if processes.agree(is_half) else "float32"


def _loaded(batches: Batches, first: int, last: int, workers: int, device: str) -> Iterator[Batch]:
    """Batches number `first` to `last`, in order, on the device."""
    loader: DataLoader[Batch] = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        # A fork of a process that has computed with threads waits for ever for threads that it has not.
        multiprocessing_context="spawn" if workers else None,
    )
    if workers:
        refuse_in_workers()
    try:
        for batch in loader:
            yield batch.to(device)
    except RuntimeError as error:
        died = loader_death(error)
        raise error if died is None else died from error


def _told(batches: Iterator[Batch], run: TrainingRun) -> Iterator[Batch]:
    """The batches, with the run's steps reported as progress."""
    with progress.task(f"training {run.out.name}", run.config.steps, "step") as advance:
        advance(run.step)
        for batch in batches:
            yield batch
            advance(run.step)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has an error of its own for a GPU's memory alone; a CPU's is a RuntimeError of this text."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "DefaultCPUAllocator" in str(error)
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    from iper_toolkit.threads import use_one_thread

    begin_as_worker()
    use_one_thread()
