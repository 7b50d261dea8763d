"""Inception-v3 twice: the FID's network with an antialiased resize, and the official package's of torchvision."""

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 299
POOLED, LOGITS = 2048, 1008


def resize_clean(frames: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, 299, 299) float32 in [0, 1]: bicubic with antialiasing, rounded to grey levels.

    Parmar et al. 2022 (clean-fid) show what other resizes do to the FID.
    """
    pictures = frames.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(
        pictures, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0, 255).round() / 255


def resize_official(frames: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, 299, 299) float32 in [0, 1]: bilinear, without antialiasing."""
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    return functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)


class InceptionImageNet(nn.Module):
    """torchvision's Inception-v3 up to its average pool: what the official package calls "fid" features.

    The state dict has torchvision's keys.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import inception_v3

        # Weights are loaded afterwards; drawing them truncated takes half a minute.
        whole = inception_v3(
            weights=None, aux_logits=True, transform_input=False, init_weights=False
        )
        for name, module in whole.named_children():
            self.add_module(name, module)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, 299, 299) in [-1, 1] -> (N, 2048)."""
        x = pictures
        for name, module in self.named_children():
            if name == "AuxLogits":
                continue
            if name == "dropout":
                break
            x = module(x)
        return x.flatten(1)


class InceptionFID(nn.Module):
    """The network of the FID (Heusel et al. 2017) as torch-fidelity keeps it; its state dict has that file's keys.

    Its logits leave out the bias, as those of published Inception Scores do.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ImportError(
                'FID, KID and IS take torch-fidelity\'s network: pip install "iper-toolkit[fid]".'
            ) from error

        class Unloaded(FeatureExtractorInceptionV3):
            """It would fetch its weights while it is made; ours are loaded afterwards, by name."""

            def load_state_dict(self, state: dict[str, Tensor], *args: Any, **more: Any) -> Any:
                return super().load_state_dict(state, *args, **more) if state else None

        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        self.network = Unloaded(
            "inception-v3-compat",
            ["2048", "logits_unbiased"],
            feature_extractor_weights_path=nothing,
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, 299, 299) float32 whole numbers of 0 .. 255 -> (N, 2048 + 1008): pooled features, then logits."""
        pooled, logits = self.network(pictures.to(torch.uint8))
        return torch.cat([pooled, logits], dim=1)
