"""The state of a training run and its folder, which is gone on with to the bit.

::

    RUN/config.json          what is trained, and how
    RUN/weights.safetensors  the generator so far: what `lwgan imitate --weights RUN` draws with
    RUN/state.pt             everything else that is needed to go on to the bit
    RUN/log.jsonl            a line every so many steps; RUN/events.* the same for TensorBoard
    RUN/sheets/00001000.png  sources, texture, what was drawn and what is true
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from iper_toolkit.atomic import write_atomically
from iper_toolkit.images import to_uint8, write_image
from lwgan.batch import Batch
from lwgan.checkpoints import WEIGHTS_FILE, Checkpoint, Generator, Origin, save_checkpoint
from lwgan.generators import build_generator
from lwgan.learners import Tell, begin, set_learning_rates
from lwgan.precision import Precision
from lwgan.processes import Processes
from lwgan.samples import Batches
from lwgan.surface_tables import SurfaceTables
from lwgan.training_config import TrainingConfig
from lwgan.training_step import Drawn, draw, generator_terms, training_step

CONFIG_FILE, STATE_FILE, LOG_FILE, SHEETS = "config.json", "state.pt", "log.jsonl", "sheets"
_VALIDATION_BATCHES = 8

# Step and generator (the one that would be kept) -> numbers for the log.
Validate = Callable[[int, Generator], Mapping[str, float]]


class TrainingFailed(OSError):
    """The machine gave out, memory or disk; what was saved before is whole. The message says what to do."""


class TrainingRun:
    """What `train` steps through: learners, the generator that is kept, and the folder they are saved in.

    Raises:
        ValueError: `start` was made for another surface, or is another generator than the one to be trained.
    """

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
                f"{tables.convention!r} one; it can be drawn with, but not be trained on here."
            )
        self.config, self.out, self._tables, self._device = config, out, tables, device
        self._processes, self._tell = processes, tell
        self.step = 0
        self.learners = begin(config, device, networks, start)
        # Their moving average; or, without one, the same.
        self.kept = deepcopy(self.learners.generator).eval().requires_grad_(False)
        self._lines: list[dict[str, float]] = []  # of the steps since the last line of the log
        self._logged: dict[str, float] = {}  # means of that line
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
            self._logged = self.recent()
            seconds = (now - self._since) / len(self._lines)
            self.log(self._logged | {"rate": rate, "seconds": seconds}, "train")
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
        """Means over the steps since the last line of the log; right after one, that line's. Empty before any step."""
        if not self._lines:
            return self._logged
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


def begun_precision(out: Path) -> Precision | None:
    """The precision that a run's folder was begun with; None if there is no run, or its settings cannot be read."""
    try:
        found = json.loads((out / CONFIG_FILE).read_text(encoding="utf-8"))["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found in get_args(Precision) else None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in sorted(one.keys() | other.keys()):
        first, second = one.get(name), other.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            yield from _differences(first, second, f"{path}{name}.")
        elif first != second:
            yield path + name
