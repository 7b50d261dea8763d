"""How much memory drawing takes, said before it starts: an estimate with named parts, and a refusal that says what fits.

The formulas count what is alive at the peaks: while people are composed and encoded, and while a batch is drawn. Their factors
were fitted to peaks of `synthesize` measured on a CPU, where allocators give memory back late, so that one and the same run
varies by a tenth. Covered are the sizes 64 to 512, 1 to 16 sources, up to 4 people, batches to 16 and 8 previous frames. Not
covered: encoding videos, whatever torch.compile takes, and the workspaces of a GPU, for which there is a flat sum.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from lwgan.composition import VISIBILITY_SIZES
from lwgan.generators import GeneratorConfig, build_generator
from lwgan.generators.config import BASELINES
from lwgan.surface_tables import Convention

# Bytes that libraries take on their first use, the body in float64, surface tables, and small buffers of all kinds. The
# figure for CUDA leaves room for the workspaces of convolutions; it was not measured.
_FIXED = {"cpu": 115 * 2**20, "cuda": 512 * 2**20}
# Float32 numbers a pixel: kept of the people, and of each source (network input, face, weights, visibility) ...
_COMPOSED, _COMPOSED_SOURCE = 12, 11
# ... while each source is composed, and while a frame is composed, once and for each source.
_COMPOSING_SOURCE, _FRAME, _FRAME_SOURCE = 80, 60, 2.5
# Bytes of a source that no size changes: where its faces and vertices lie.
_FACES_OF_SOURCE = 2**20
# Each pixel of the picture in which a source's visible faces are looked for takes so many bytes meanwhile.
_LOOKING = 28
# A previous frame's features: kept, side by side with the other ones', and in part beside the sources'.
_PAST_COPIES = 2.5
# Copies of its widest layer that the background network makes, and what convolutions take beside their results.
_BACKGROUND_COPIES, _SCRATCH = 2.9, 1.1
# Sizes that are offered instead of one that does not fit.
_SIZE_STEP = 64


class NotEnoughMemory(MemoryError):
    """What was asked for will not fit."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that `synthesize` will take beyond what the process holds already."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        named = ", ".join(f"{name} {_readable(size)}" for name, size in self.parts.items() if size)
        return f"{_readable(self.total)} ({named})"


def estimate_bytes(
    config: GeneratorConfig,
    size: int,
    num_sources: int,
    batch: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    convention: Convention = "reference",
    people: int = 1,
    temporal: int = 0,
) -> MemoryEstimate:
    """What drawing takes at its peak, within about a quarter.

    Args:
        config: of the weights, which are loaded already; the copy that draws is counted.
        size: side of the pictures. num_sources: of all people together. batch: frames at once.
        dtype: of the network; its background is drawn in float32.
        convention: of the weights' surface. people: whose parts are worn.
        temporal: previous frames that are attended to; frames are then drawn one at a time, whatever `batch` is.
    """
    pixels, width, weights = size * size, dtype.itemsize, count_weights(config)
    features, frames_at_once = feature_numbers(config) * width, 1 if temporal else batch
    composed = pixels * (_COMPOSED * people + _COMPOSED_SOURCE * num_sources) * 4
    composed += _FACES_OF_SOURCE * num_sources
    sources = composed + pixels * features * num_sources
    per_frame = (_FRAME + _FRAME_SOURCE * (num_sources + temporal)) * 4
    per_frame += _SCRATCH * layer_numbers(config, num_sources + temporal) * width
    frames = frames_at_once * pixels * per_frame
    widest = config.background_channels[0] if config.background_network else 0
    together = num_sources - people + 1  # of one person at most
    looked_at = max(size, VISIBILITY_SIZES[convention]) ** 2
    setup = max(
        weights * (4 - width),  # the copy is made in float32, then rounded
        pixels * (_COMPOSED + _BACKGROUND_COPIES * widest) * 4,
        together * max(pixels * _COMPOSING_SOURCE * 4, looked_at * _LOOKING),
    )
    named = f"{frames_at_once} {'frame' if frames_at_once == 1 else 'frames'}"
    parts = {
        "weights": weights * width,
        "sources": sources,
        "people apart": composed if people > 1 else 0,
        "previous frames": pixels * features * temporal * _PAST_COPIES,
        named: frames,
    }
    parts["setup"] = max(0, setup - sum(parts.values()) + weights * width)
    parts["body and libraries"] = _FIXED["cpu" if torch.device(device).type == "cpu" else "cuda"]
    return MemoryEstimate({name: math.ceil(value) for name, value in parts.items()})


def check_memory(
    config: GeneratorConfig,
    size: int,
    num_sources: int,
    batch: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    convention: Convention = "reference",
    people: int = 1,
    temporal: int = 0,
    available: int | None = None,
) -> str:
    """A line that says what drawing takes and what there is. Arguments as in `estimate_bytes`.

    Args:
        available: bytes; None asks the machine.

    Raises:
        NotEnoughMemory: it does not fit; the message names the largest batch, or else size, that does.
    """
    device = torch.device(device)

    def estimate(size: int, batch: int) -> MemoryEstimate:
        return estimate_bytes(
            config,
            size,
            num_sources,
            batch,
            dtype,
            device,
            convention=convention,
            people=people,
            temporal=temporal,
        )

    need = estimate(size, batch)
    free = available_bytes(device) if available is None else available
    if free is None:
        return f"Memory: about {need}; {_owner(device)} does not tell how much is free."
    if need.total <= free:
        return f"Memory: about {need} of {_readable(free)} that {_owner(device)} has free."
    at_once = 1 if temporal else batch
    batches = [fewer for fewer in range(1, at_once) if estimate(size, fewer).total <= free]
    sizes = [
        less for less in range(_SIZE_STEP, size, _SIZE_STEP) if estimate(less, 1).total <= free
    ]
    if batches:
        advice = f"The largest batch that fits is {batches[-1]}: --batch {batches[-1]}."
    elif sizes:
        advice = f"Even one frame at a time does not fit; this does: --size {sizes[-1]} --batch 1."
    else:
        advice = "No smaller batch or size fits either: take fewer sources, or a larger machine."
    raise NotEnoughMemory(
        f"Drawing {at_once} {'frame' if at_once == 1 else 'frames'} at {size} x {size} from {num_sources} sources takes about {need}, but "
        f"{_owner(device)} has {_readable(free)} free. {advice}"
    )


def available_bytes(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be taken: of the GPU's memory, or of the machine's or container's.

    None where the system does not tell.
    """
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds and does not use is free for it too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    machine, container = _machine_bytes(), _container_bytes(Path("/sys/fs/cgroup"))
    return min((known for known in (machine, container) if known is not None), default=None)


def _machine_bytes(table: Path = Path("/proc/meminfo")) -> int | None:
    """What Linux calls available; else all of the memory; else None."""
    if table.exists():
        return _table(table, ":")["MemAvailable"] * 1024
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container_bytes(folder: Path) -> int | None:
    """What the limit of a container (cgroup, version 2) leaves; None without one."""
    limit = folder / "memory.max"
    if not limit.exists() or limit.read_text().strip() == "max":
        return None
    used = int((folder / "memory.current").read_text())
    files = _table(folder / "memory.stat", " ")[
        "inactive_file"
    ]  # copies of files, given up on demand
    return max(0, int(limit.read_text()) - used + files)


def _table(path: Path, separator: str) -> dict[str, int]:
    """Rows such as ``MemFree: 12 kB`` by their first word."""
    rows = (row.split(separator, 1) for row in path.read_text().splitlines())
    return {name: int(rest.split()[0]) for name, rest in rows}


@lru_cache
def count_weights(config: GeneratorConfig) -> int:
    """Numbers in a generator's weights."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in build_generator(config).parameters())


def feature_numbers(config: GeneratorConfig) -> float:
    """What is kept of a source: numbers for each pixel of its picture."""
    if config.fusion in BASELINES:
        return 6
    first, second, deepest = config.channels
    return first / 4 + second / 16 + deepest / 64 * (1 + config.residual_blocks)


def layer_numbers(config: GeneratorConfig, num_sources: int) -> float:
    """What is alive at the network's widest point while a frame is drawn: numbers a pixel.

    That is the last layer, with the features it skips to, or the first fusion at half the size: the frame's own features and
    the rule's (4 or 5 times), each source's before and after they are weighed, and what SPADE makes of them.
    """
    first, second, _ = config.channels
    last = first + second / 4
    if config.fusion in BASELINES:
        return last
    hidden = config.spade_hidden if config.fusion == "attention-spade" else 0
    fusing = first / 4 * (5 + 2 * num_sources) + hidden / 4
    return max(last + first / 4 + second / 16, fusing)


def _owner(device: torch.device) -> str:
    return "this machine" if device.type == "cpu" else f"the GPU ({device})"


def _readable(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
