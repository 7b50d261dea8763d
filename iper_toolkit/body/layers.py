"""Garment, hair and eye meshes that follow the open body's shape and pose: what people are dressed in."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from iper_toolkit.body.model import read_open_body_file, skinned_points
from iper_toolkit.body.packing import unpack_uv
from iper_toolkit.body.skinning import SkinnedPoints

LAYERS = ("tights", "skirt", "hair", "left_eye", "right_eye")


@dataclass(frozen=True, eq=False)
class Layer(SkinnedPoints):
    """A mesh over the open body: pose it with `skinning.deform` and the body's own `skeleton`."""

    faces: Tensor  # (F, 3) int64
    uv: Tensor  # (U, 2) float32 in [0, 1], v up
    uv_faces: Tensor  # (F, 3) int64 into uv


def load_layers() -> dict[str, Layer]:
    """The open body's layers.

    `tights` covers the body from neck to wrists and soles (tops, trousers and shoes are cut from it), `skirt` hangs
    from the waist, `hair` is long hair in strips, and the eyes fill their sockets.
    """
    return dict(_load_layers())


@lru_cache(maxsize=1)
def _load_layers() -> dict[str, Layer]:
    arrays = read_open_body_file()
    layers = {}
    for name in LAYERS:
        prefix = f"layer.{name}"
        points = skinned_points(arrays, prefix, len(arrays["parents"]))
        layers[name] = Layer(
            **vars(points),
            faces=torch.from_numpy(arrays[f"{prefix}.faces"].astype("int64")),
            uv=torch.from_numpy(unpack_uv(arrays[f"{prefix}.uv"])),
            uv_faces=torch.from_numpy(arrays[f"{prefix}.uv_faces"].astype("int64")),
        )
    return layers
