"""Judges: frozen networks, how pictures come before them, and whose weights they have.

What a judge makes of a picture depends on the picture alone: pictures go through it in batches of one fixed size, so
that neither the length of a set nor its shards change a bit.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iper_toolkit.assets import resolve
from iper_toolkit.threads import one_thread
from iper_toolkit.weight_files import load_strictly, read_state

# Pictures that go through a network at a time; the last batch is filled up.
_BATCH = {"cpu": 8, "cuda": 32}


@dataclass(frozen=True)
class Judge:
    """One network that turns pictures into features."""

    name: str  # key in JUDGES, and of its weights among the assets
    title: str
    build: Callable[[], nn.Module]  # untrained
    prepare: Callable[[Tensor], Tensor]  # (N, 3, h, w) RGB in [0, 1] -> what the network takes
    dimensions: int
    looks_at: Literal["frame", "person", "face"]
    size: tuple[int, int] = (0, 0)  # (height, width) of a crop
    resize: Callable[[Tensor], Tensor] | None = (
        None  # of whole frames: (N, H, W, 3) uint8 -> (N, 3, h, w)
    )
    prefix: str = ""  # before every key in the network, and in no file
    unused: tuple[str, ...] = ()  # beginnings of keys that files hold and features do not need

    def read(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's state out of a file's."""
        plain = {key.removeprefix("module."): value for key, value in state.items()}
        return {
            f"{self.prefix}{key}": value.float() if value.is_floating_point() else value
            for key, value in plain.items()
            if not key.startswith(self.unused or ("\0",))
        }


@dataclass(frozen=True)
class LoadedJudge:
    """A judge with weights, on a device."""

    judge: Judge
    network: nn.Module
    digest: str  # sha256 of its file, or "random-SEED"; with "+flip"
    device: str
    flip: bool = False

    def embed(self, crops: Tensor, *, is_prepared: bool = False) -> NDArray[np.float32]:
        """Features of crops.

        Args:
            crops: (N, 3, h, w) float32 in [0, 1]; of the network's own range if `is_prepared`.

        Returns:
            (N, d) float32: what the network gives; with `flip` the mean over each picture and its mirror image.
        """
        inputs = crops if is_prepared else self.judge.prepare(crops)
        found = self._through(inputs)
        if self.flip:
            found = (found + self._through(inputs.flip(-1))) / 2
        return found.cpu().numpy()

    def _through(self, inputs: Tensor) -> Tensor:
        size = _BATCH["cpu" if self.device == "cpu" else "cuda"]
        found = []
        with torch.inference_mode(), reproducibly():
            for first in range(0, len(inputs), size):
                batch = inputs[first : first + size]
                missing = size - len(batch)
                if missing:
                    batch = torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)])
                batch = batch.to(self.device).contiguous(memory_format=torch.channels_last)
                found.append(self.network(batch)[: size - missing].float())
        return torch.cat(found) if found else torch.empty(0, self.judge.dimensions)


@contextmanager
def reproducibly() -> Iterator[None]:
    """On a CPU one thread, for the last bits of a convolution depend on how many share it; processes use the other cores.

    On a GPU full float32 (TF32 keeps three digits) and algorithms that are chosen without trying.
    """
    exact = torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
    with one_thread(), exact:
        yield


def load_judge(
    judge: Judge, device: str = "cpu", *, random_seed: int | None = None, flip: bool = False
) -> LoadedJudge:
    """A judge with the weights of its file.

    Args:
        random_seed: weights that have learned nothing, drawn from it, instead of the file's; for tests.
        flip: whether features are averaged over pictures and their mirror images.

    Raises:
        MissingAsset: the file is not here.
        ValueError: it is not this network's.
    """
    if random_seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed)
            network, digest = spread_weights(judge.build()), f"random-{random_seed}"
    else:
        path = resolve(judge.name)
        network, digest = judge.build(), digest_of(path)
        load_strictly(network, judge.read(read_state(path)), judge.title, path)
    network = network.eval().requires_grad_(False).to(device)
    network = network.to(memory_format=torch.channels_last)
    return LoadedJudge(judge, network, f"{digest}{'+flip' if flip else ''}", device, flip)


def spread_weights(network: nn.Module) -> nn.Module:
    """Draw all weights anew, so that pictures are told apart: fresh networks hardly do, deep down."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    return network


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
