"""Weights of others, read as data, and loaded only where every name and shape fits."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

# Keys that a file may hold or lack, because nothing depends on them.
_COUNTERS = "num_batches_tracked"


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a weights file by name: .safetensors, or .pth without running what it carries.

    Raises:
        ValueError: the file holds something else.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is no file of tensors
        raise ValueError(f"{path} cannot be read as weights: {error}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ValueError(f"{path} holds no table of tensors by name.")
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], title: str, path: Path) -> None:
    """Load weights that must fit, name by name and shape by shape; counters of batches alone may be missing.

    Raises:
        ValueError: names the first keys that do not fit.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    wrong = [key for key in state if key not in wanted]
    wrong += [key for key in wanted if key not in state and not key.endswith(_COUNTERS)]
    wrong += [key for key in state if key in wanted and tuple(state[key].shape) != wanted[key]]
    if wrong:
        raise ValueError(
            f"{path} is not {title}: {len(wrong)} of its tensors are missing, unknown or of another shape "
            f"({', '.join(wrong[:4])}{', ...' if len(wrong) > 4 else ''})."
        )
    network.load_state_dict(dict(state), strict=False)
