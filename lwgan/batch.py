"""What one training step looks at, ready for the generator."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lwgan.generators.records import GeneratorInputs


@dataclass(frozen=True)
class Batch:
    """B people with S sources and T targets each, ready for a step."""

    inputs: GeneratorInputs
    source: Tensor  # (B, S, 3, H, W) real pictures in [-1, 1]
    target: Tensor  # (B, T, 3, H, W)
    source_mask: Tensor  # (B, S, 1, H, W), 1 = background, soft
    target_mask: Tensor  # (B, T, 1, H, W)
    source_scene: Tensor  # (B, S, 3, H, W) behind the people, where no network draws it
    target_scene: Tensor  # (B, T, 3, H, W)
    real_background: Tensor  # (B, 3, H, W) what the last background entry should become
    head_boxes: Tensor  # (B * T, 4) int64 min_x, max_x, min_y, max_y
    body_boxes: Tensor  # (B * T, 4)

    def to(self, device: torch.device | str) -> "Batch":
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return Batch(**moved)

    @property
    def hole(self) -> Tensor:
        """(B, 1, H, W) 1 where the last background entry was known."""
        background = self.inputs.background
        if background is None:
            raise ValueError("This batch has no background inputs.")
        return background[:, -1, 3:4]
