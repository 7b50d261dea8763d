"""The two baselines, which warp no features: one auto-encoder that sees pictures only.

Both have the methods of the liquid warping generator, so that a program that draws clips need not
know which one it holds.
"""

import copy

import torch
from torch import Tensor, nn

from lwgan.generators.blocks import BackgroundNet, SourceNet, pictures_for
from lwgan.generators.config import BASELINES, GeneratorConfig
from lwgan.generators.records import (
    GeneratorInputs,
    GeneratorOutputs,
    SourceFeatures,
    check_size,
)


class PictureGenerator(nn.Module):
    """InputConcat and TextureWarping (Liu et al. 2019, the baselines of their comparison).

    "input-concat" sees `config.num_sources` source inputs and the target's condition map, no
    flow; "texture-warping" sees the texture-warped picture and the condition map of the frame.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        if config.fusion not in BASELINES:
            raise ValueError(f"{config.fusion!r} is not a baseline; call build_generator.")
        self.config = config
        self.background = (
            BackgroundNet(config.background_channels, config.background_blocks)
            if config.background_network
            else None
        )
        in_channels = 6 * config.num_sources + 3 if config.fusion == "input-concat" else 6
        self.network = SourceNet(in_channels, config.channels, config.residual_blocks)

    def for_inference(self, folded: bool = True) -> "PictureGenerator":
        """A frozen copy that draws the same faster: channels_last, and `folded`, with merged heads."""
        drawing = copy.deepcopy(self).eval().requires_grad_(False)
        if folded:
            drawing.network.merge_heads()
        return drawing.to(memory_format=torch.channels_last)

    def forward(self, inputs: GeneratorInputs, only_target: bool = False) -> GeneratorOutputs:
        """Everything at once; sources are never drawn again, whatever `only_target` says."""
        if self.background is not None and inputs.background is None:
            raise ValueError("This generator has a background network; it needs background inputs.")
        image, mask = self.draw_target(
            inputs.target, self.encode_sources(inputs.source), inputs.flow
        )
        return GeneratorOutputs(
            background=(
                None
                if self.background is None or inputs.background is None
                else self.draw_background(inputs.background)
            ),
            source_image=None,
            source_mask=None,
            target_image=image,
            target_mask=mask,
        )

    def draw_background(self, background: Tensor) -> Tensor:
        """(B, N, 4, H, W) [picture * known ; known] -> (B, N, 3, H, W) in [-1, 1]."""
        if self.background is None:
            raise ValueError(
                "This generator has no background network; give the scene without the person."
            )
        check_size("background", *background.shape[-2:])
        frames = pictures_for(self.background, background)
        drawn: Tensor = self.background(frames)
        return drawn.unflatten(0, background.shape[:2])

    def encode_sources(self, source: Tensor) -> SourceFeatures:
        """(B, S, 6, H, W) -> the same: pictures are all that the baselines keep."""
        check_size("source", *source.shape[-2:])
        return SourceFeatures(encoder=(source,), residual=())

    def draw_target(
        self,
        target: Tensor,
        features: SourceFeatures,
        flow: Tensor,
        previous: SourceFeatures | None = None,
        previous_flow: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, T, 6, H, W) -> image (B, T, 3, H, W) in [-1, 1], mask (B, T, 1, H, W), 1 = background.

        `flow` is not looked at. Previous frames cannot be: ValueError.
        """
        check_size("target", *target.shape[-2:])
        if previous is not None or previous_flow is not None:
            raise ValueError(f"{self.config.fusion!r} cannot attend to previous frames.")
        seen = target
        if self.config.fusion == "input-concat":
            seen = torch.cat((self._chosen(features.encoder[0], target), target[:, :, -3:]), dim=2)
        image, mask = self.network(pictures_for(self.network, seen))
        shape = target.shape[:2]
        return image.unflatten(0, shape), mask.unflatten(0, shape)

    def _chosen(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S, 6, H, W) -> (B, T, 6 num_sources, H, W): the first ones, repeated if too few."""
        order = [index % source.shape[1] for index in range(self.config.num_sources)]
        chosen = source[:, order].flatten(1, 2)
        return chosen[:, None].expand(-1, target.shape[1], -1, -1, -1)
