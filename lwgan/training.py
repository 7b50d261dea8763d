"""Training: from a configuration and clips to a folder with weights, state, log, and sheets to look at.

::

    RUN/config.json          what is trained, and how
    RUN/weights.safetensors  the generator so far: what `lwgan imitate --weights RUN` draws with
    RUN/state.pt             everything else that is needed to go on to the bit
    RUN/log.jsonl            a line every so many steps; RUN/events.* the same for TensorBoard
    RUN/sheets/00001000.png  sources, texture, what was drawn and what is true

A run that was killed goes on where it last saved, and ends with the same bits on a CPU as one that was not.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iper_toolkit.assets import MissingAsset
from iper_toolkit.atomic import write_atomically
from iper_toolkit.body import Body
from iper_toolkit.images import to_uint8, write_image
from lwgan.batch import Batch
from lwgan.checkpoints import WEIGHTS_FILE, Checkpoint, Generator, Origin, save_checkpoint
from lwgan.discriminators import build_discriminator
from lwgan.generators import build_generator
from lwgan.loss_networks import load_feature_network
from lwgan.samples import Batches, ClipFolder
from lwgan.surface_tables import Convention, SurfaceTables, surface_tables
from lwgan.training_config import TrainingConfig
from lwgan.training_step import Drawn, Learners, draw, generator_terms, training_step

CONFIG_FILE, STATE_FILE, LOG_FILE, SHEETS = "config.json", "state.pt", "log.jsonl", "sheets"
# A new network takes no part in the reference's quirks, and sees dressed bodies.
CONVENTION: Convention = "clothed"
_LOWEST_RATE = 0.02
_NETWORKS = {"perceptual": "vgg19", "identity": "sphereface", "features": "perceptual-small"}
_VALIDATION_BATCHES = 8
_VALIDATION_SEED = 77

Tell = Callable[[str], object]
# Step and generator (the one that would be kept) -> numbers for the log.
Validate = Callable[[int, Generator], Mapping[str, float]]


class TrainingFailed(OSError):
    """The machine gave out, memory or disk; what was saved before is whole. The message says what to do."""


@dataclass(frozen=True)
class Trained:
    """What a run came to."""

    out: Path
    weights: Path
    steps: int
    losses: dict[str, float]  # means over the last lines of the log


@dataclass(frozen=True)
class Processes:
    """Which of several training processes this is: what torchrun says in the environment."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> "Processes":
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def agree(self, first_says: bool) -> bool:
        """What the first process says, in all of them: clocks differ, and who stops alone leaves the others waiting."""
        if self.world == 1:
            return first_says
        said = [first_says]
        torch.distributed.broadcast_object_list(said)
        return bool(said[0])

    def average_gradients(self, module: nn.Module) -> None:
        """Gradients become their mean over all processes; what one has not touched counts as 0 there."""
        parameters = [one for one in module.parameters() if one.requires_grad]
        for one in parameters:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        gradients: list[Tensor] = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        means = flat.split([gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))


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
    config, networks = load_networks(config, device, tell)
    run = _Run(config, out, tables, device, networks, processes, start, tell)
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
        for batch in _loaded(batches, run.step, config.steps, workers, device):
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
    run.close()
    return Trained(out, out / WEIGHTS_FILE, run.step, run.recent())


class _Run:
    """The state of a run, and its folder."""

    def __init__(
        self,
        config: TrainingConfig,
        out: Path,
        tables: SurfaceTables,
        device: str,
        networks: Mapping[str, nn.Module],
        processes: Processes,
        start: Checkpoint | None,
        tell: Tell,
    ) -> None:
        if start is not None and start.surface.digest != tables.id.digest:
            raise ValueError(
                f"{start.name} was made for another surface or convention than {tables.id.body_id} in the "
                f"{CONVENTION!r} one; it can be drawn with, but not be trained on here."
            )
        self.config, self.out, self._tables, self._device = config, out, tables, device
        self._processes, self._tell = processes, tell
        self.step = 0
        self.learners = begin(config, device, networks, start)
        # Their moving average; or, without one, the same.
        self.kept = deepcopy(self.learners.generator).eval().requires_grad_(False)
        self._lines: list[dict[str, float]] = []
        self._since = time.monotonic()
        self._board: Any = None

    # ------------------------------------------------------------------------------------- folder

    def enter(self) -> None:
        """Make the folder, or go on in it."""
        path = self.out / CONFIG_FILE
        wanted = json.loads(self.config.to_json())
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            different = sorted(_differences(there, wanted))
            if different:
                raise ValueError(
                    f"{self.out} was begun with other settings ({', '.join(different)}). Take another --out, or the old "
                    "settings; to begin with its weights, name it in --start."
                )
        elif self.out.is_dir() and any(self.out.iterdir()):
            raise ValueError(f"{self.out} is not empty and no training run; take another --out.")
        if not (self.out / STATE_FILE).is_file():
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda part: part.write_text(self.config.to_json(), "utf-8"))
            (self.out / LOG_FILE).unlink(missing_ok=True)
        self._board = _board(self.out, self._tell)

    def resume(self) -> None:
        """Go on with what was saved last, if anything was."""
        path = self.out / STATE_FILE
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self._device, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise TrainingFailed(
                f"{path} is damaged ({str(error).splitlines()[0]}). Remove it to begin anew, with --start {self.out / WEIGHTS_FILE} to keep "
                "what was learned."
            ) from error
        self.step = int(state["step"])
        self.learners.generator.load_state_dict(state["generator"])
        self.kept.load_state_dict(state["kept"])
        self.learners.generator_optimiser.load_state_dict(state["generator_optimiser"])
        if self.learners.discriminator is not None:
            assert self.learners.discriminator_optimiser is not None
            self.learners.discriminator.load_state_dict(state["discriminator"])
            self.learners.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        if self._processes.is_first:
            _cut_log(self.out / LOG_FILE, self.step)
            self._tell(f"Going on after step {self.step} of {self.config.steps}.")

    def save(self, origin: Origin) -> None:
        """The weights and everything needed to go on; what was there before stays until all is written."""
        if not self._processes.is_first:
            return
        judge = self.learners.discriminator
        optimiser = self.learners.discriminator_optimiser
        state = {
            "step": self.step,
            "generator": self.learners.generator.state_dict(),
            "kept": self.kept.state_dict(),
            "generator_optimiser": self.learners.generator_optimiser.state_dict(),
            "discriminator": None if judge is None else judge.state_dict(),
            "discriminator_optimiser": None if optimiser is None else optimiser.state_dict(),
        }
        weights = build_generator(self.config.generator)
        weights.load_state_dict(
            {k: v.cpu().contiguous() for k, v in self.kept.state_dict().items()}
        )
        try:
            save_checkpoint(
                self.out / WEIGHTS_FILE, weights, surface=self._tables.id, origin=origin
            )
            write_atomically(self.out / STATE_FILE, lambda part: torch.save(state, part))
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError for a full disk
            raise TrainingFailed(
                f"Step {self.step} could not be saved in {self.out} ({error}). What was saved before is whole: make "
                "room, and give the same command again."
            ) from error

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    # --------------------------------------------------------------------------------------- steps

    def is_due(self, every: int) -> bool:
        return self.step % every == 0

    def do(self, batch: Batch) -> None:
        """One step, its log, and the sheet if one is due."""
        config = self.config
        rate = set_learning_rates(self.learners, config, self.step)
        share = self._processes.average_gradients if self._processes.world > 1 else None
        told = training_step(self.learners, batch, config, self.step, share=share)
        self.step += 1
        self._average()
        self._lines.append(told)
        if self.is_due(config.log_every):
            now = time.monotonic()
            means = self.recent() | {
                "rate": rate,
                "seconds": (now - self._since) / len(self._lines),
            }
            self.log(means, "train")
            self._lines, self._since = [], now
        if self.is_due(config.sheet_every) and self._processes.is_first:
            path = self.out / SHEETS / f"{self.step:08d}.png"
            path.parent.mkdir(exist_ok=True)
            with torch.no_grad():
                write_image(path, sheet(batch, draw(self.kept, batch, with_sources=False)))

    def _average(self) -> None:
        """The weights that are kept: a moving average, whose beginning is forgotten soon."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step)) if self.config.ema else 0.0
        with torch.no_grad():
            new = self.learners.generator.parameters()
            for one, other in zip(self.kept.parameters(), new, strict=True):
                one.lerp_(other, 1 - decay)

    def recent(self) -> dict[str, float]:
        """Means over the steps since the last line of the log."""
        names = {name for line in self._lines for name in line}
        return {
            name: float(np.mean([line[name] for line in self._lines if name in line]))
            for name in sorted(names)
        }

    def look(self, watched: Batches, validate: Validate | None) -> None:
        """The losses on people that are not learned from, and what else the caller wants to know."""
        sums: dict[str, list[float]] = {}
        weights = replace(self.config.losses, adversarial=0, sources=0)
        with torch.no_grad():
            for number in range(_VALIDATION_BATCHES):
                batch = watched[number].to(self._device)
                drawn = draw(self.kept, batch, with_sources=weights.draws_sources)
                terms = generator_terms(drawn, batch, weights, self.learners.networks, None)
                for name, term in terms.items():
                    sums.setdefault(name, []).append(float(term))
        told = {name: float(np.mean(values)) for name, values in sums.items()}
        told["total"] = sum(told.values())
        if validate is not None:
            told |= validate(self.step, self.kept)
        self.log(told, "validate")

    def log(self, numbers: Mapping[str, float], kind: str) -> None:
        if not self._processes.is_first:
            return
        line = {"step": self.step, "kind": kind} | {
            k: round(float(v), 6) for k, v in numbers.items()
        }
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, self.step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._tell(f"step {self.step} of {self.config.steps} ({kind}): {shown}")


def begin(
    config: TrainingConfig,
    device: str,
    networks: Mapping[str, nn.Module],
    start: Checkpoint | None = None,
) -> Learners:
    """Networks and optimisers before the first step; the generator fresh, of the seed in `config.samples`, or `start`'s.

    Raises:
        ValueError: `start` is another generator than the one to be trained.
    """
    if start is not None and start.config != config.generator:
        raise ValueError(
            f"{start.name} is {start.config}, and {config.generator} is to be trained; they must be one kind."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.samples.seed)
        generator = build_generator(config.generator)
        judge = build_discriminator(config.discriminator) if config.losses.adversarial else None
    if start is not None:
        generator.load_state_dict(start.generator.state_dict())
    generator.checkpointing = config.checkpointing
    generator = generator.to(device).to(memory_format=torch.channels_last)
    betas = (config.beta1, 0.999)
    judges_optimiser = None
    if judge is not None:
        judge = judge.to(device).to(memory_format=torch.channels_last)
        rate = config.discriminator_learning_rate
        judges_optimiser = torch.optim.Adam(judge.parameters(), rate, betas)
    optimiser = torch.optim.Adam(generator.parameters(), config.learning_rate, betas)
    return Learners(generator, judge, optimiser, judges_optimiser, networks)


def set_learning_rates(learners: Learners, config: TrainingConfig, step: int) -> float:
    """Those of a step; returns the generator's."""
    share = learning_rate_share(step, config)
    for optimiser, base in (
        (learners.generator_optimiser, config.learning_rate),
        (learners.discriminator_optimiser, config.discriminator_learning_rate),
    ):
        for group in optimiser.param_groups if optimiser is not None else ():
            group["lr"] = base * share
    return config.learning_rate * share


def learning_rate_share(step: int, config: TrainingConfig) -> float:
    """What the learning rate of a step is multiplied by: a rise, a plain, and a cosine down to a fiftieth."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    start = config.decay_from * config.steps
    if step < start or config.steps <= start:
        return 1.0
    done = (step - start) / (config.steps - start)
    return _LOWEST_RATE + (1 - _LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2


def sheet(batch: Batch, drawn: Drawn) -> NDArray[np.uint8]:
    """A row a person: first and last source, texture, what was drawn and what is true, of the first target; RGB."""
    columns = [
        batch.source[:, 0],
        batch.source[:, -1],
        batch.inputs.target[:, 0, :3],
        drawn.target[:, 0],
        batch.target[:, 0],
        (1 - 2 * drawn.target_mask[:, 0]).expand(-1, 3, -1, -1),
    ]
    whole = torch.cat([column.float().cpu() for column in columns], dim=-1)
    return to_uint8(torch.cat(list(whole), dim=-2).clamp(-1, 1).numpy())


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
    for batch in loader:
        yield batch.to(device)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has an error of its own for a GPU's memory alone; a CPU's is a RuntimeError of this text."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "DefaultCPUAllocator" in str(error)
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    from iper_toolkit.threads import use_one_thread

    use_one_thread()


def load_networks(
    config: TrainingConfig, device: str, tell: Tell
) -> tuple[TrainingConfig, dict[str, nn.Module]]:
    """The networks that the losses look through; a term whose network is not here is left out, aloud."""
    networks: dict[str, nn.Module] = {}
    losses = config.losses
    for term, name in _NETWORKS.items():
        if not getattr(losses, term):
            continue
        try:
            networks[name] = load_feature_network(name, device)  # type: ignore[arg-type]
        except MissingAsset as error:
            tell(f"WARNING: the {term} loss is left out: {error}")
            losses = replace(losses, **{term: 0.0})
    return replace(config, losses=losses), networks


def _board(out: Path, tell: Tell) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tell(
            f"No TensorBoard here (pip install iper-toolkit[train]); {LOG_FILE} has the same numbers."
        )
        return None
    return SummaryWriter(str(out))


def _cut_log(path: Path, step: int) -> None:
    """Leave out lines of steps that will be done again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    write_atomically(path, lambda part: part.write_text("".join(kept), "utf-8"))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in sorted(one.keys() | other.keys()):
        first, second = one.get(name), other.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            yield from _differences(first, second, f"{path}{name}.")
        elif first != second:
            yield path + name
