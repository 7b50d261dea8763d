"""Weights that everybody can draw again: the rule by which the reference's numbers were made without any file."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def seeded_state(network: nn.Module, prefix: str, seed: int) -> Mapping[str, Tensor]:
    """A state for every key of a network, each from its name, its shape and the seed alone."""
    return {
        key: seeded_tensor(f"{prefix}{key}", tuple(value.shape), seed, key)
        for key, value in network.state_dict().items()
    }


def seeded_tensor(name: str, shape: tuple[int, ...], seed: int, key: str) -> Tensor:
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    drawn = random.standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) >= 2:
        drawn = drawn * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith("running_var"):
        drawn = 1 + 0.2 * np.abs(drawn)
    elif key.endswith("weight"):
        drawn = 1 + 0.1 * drawn
    else:
        drawn = 0.1 * drawn
    return torch.from_numpy(drawn.astype(np.float32))
