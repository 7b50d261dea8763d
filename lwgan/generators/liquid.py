"""The liquid warping generator: a background net, a source net, a target net and their fusion."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lwgan.generators.blocks import BackgroundNet, SourceNet, TargetNet
from lwgan.generators.config import BASELINES, GeneratorConfig
from lwgan.generators.fusion import FusionBlocks
from lwgan.generators.records import (
    GeneratorInputs,
    GeneratorOutputs,
    SourceFeatures,
    check_size,
)
from lwgan.generators.warp import resize_flow, warp_sources


class LiquidWarpingGenerator(nn.Module):
    """Draws people in new poses from any number of pictures of them (Liu et al. 2019, 2021).

    `forward` is for training; to draw a clip, call `encode_sources` and `draw_background` once and
    `draw_target` for its frames.
    """

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GeneratorConfig()
        if config.fusion in BASELINES:
            raise ValueError(f"{config.fusion!r} does not warp features; call build_generator.")
        self.background = (
            BackgroundNet(config.background_channels, config.background_blocks)
            if config.background_network
            else None
        )
        self.source = SourceNet(6, config.channels, config.residual_blocks)
        self.target = TargetNet(config.channels, config.residual_blocks)
        self.fusion = FusionBlocks(config)

    def forward(self, inputs: GeneratorInputs, only_target: bool = False) -> GeneratorOutputs:
        """Everything at once; with `only_target`, sources are not drawn again."""
        features = self.encode_sources(inputs.source)
        source_image, source_mask = None, None
        if not only_target:
            image, mask = self.source.decode(features.residual[-1].flatten(0, 1))
            shape = inputs.source.shape[:2]
            source_image, source_mask = image.unflatten(0, shape), mask.unflatten(0, shape)
        if self.config.temporal and inputs.target.shape[1] > 1:
            image, mask = self._draw_in_order(inputs, features)
        else:
            image, mask = self.draw_target(inputs.target, features, inputs.flow)
        return GeneratorOutputs(
            background=self._background_of(inputs),
            source_image=source_image,
            source_mask=source_mask,
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
        drawn: Tensor = self.background(background.flatten(0, 1))
        return drawn.unflatten(0, background.shape[:2])

    def encode_sources(self, source: Tensor) -> SourceFeatures:
        """(B, S, 6, H, W) [picture ; condition map] -> what `draw_target` needs of them."""
        check_size("source", *source.shape[-2:])
        encoder, residual = self.source.encode(source.flatten(0, 1))
        shape = source.shape[:2]
        return SourceFeatures(
            encoder=tuple(level.unflatten(0, shape) for level in encoder),
            residual=tuple(level.unflatten(0, shape) for level in residual),
        )

    def draw_target(
        self,
        target: Tensor,
        features: SourceFeatures,
        flow: Tensor,
        previous: SourceFeatures | None = None,
        previous_flow: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw T frames, each for itself.

        Args:
            target: (B, T, 6, H, W) [texture-warped picture ; condition map].
            features: of S sources, from `encode_sources`.
            flow: (B, T, S, H, W, 2) float32 NDC, -2 where there is no body.
            previous: of P frames drawn before, from `encode_sources` too; attention only.
            previous_flow: (B, T, P, H, W, 2), into those frames.

        Returns:
            image (B, T, 3, H, W) in [-1, 1], mask (B, T, 1, H, W) in [0, 1], 1 = background.
        """
        check_size("target", *target.shape[-2:])
        looks = [(features, flow)]
        if previous is not None:
            if not self.config.attends:
                raise ValueError(f"{self.config.fusion!r} cannot attend to previous frames.")
            if previous_flow is None:
                raise ValueError("previous is given without previous_flow.")
            looks.append((previous, previous_flow))
        image, mask = self._draw(target.flatten(0, 1), looks)
        shape = target.shape[:2]
        return image.unflatten(0, shape), mask.unflatten(0, shape)

    def _draw(
        self, x: Tensor, looks: Sequence[tuple[SourceFeatures, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """(B * T, 6, H, W) and what to look at, with flows (B, T, S, H, W, 2) -> image, mask."""
        fused = []
        flows: list[Tensor] = []
        for level, (convolution, fuse) in enumerate(
            zip(self.target.encoder, self.fusion.encoder, strict=True)
        ):
            x = torch.relu(convolution(x))
            flows = [resize_flow(flow, *x.shape[-2:]) for _, flow in looks]
            x = fuse(x, _warped([f.encoder[level] for f, _ in looks], flows))
            fused.append(x)
        for level, (block, fuse) in enumerate(
            zip(self.target.residual, self.fusion.residual, strict=True)
        ):
            x = fuse(block(x), _warped([f.residual[level] for f, _ in looks], flows))
        return self.target.decode(x, fused)

    def _draw_in_order(
        self, inputs: GeneratorInputs, features: SourceFeatures
    ) -> tuple[Tensor, Tensor]:
        """Frame by frame, each attending to the one before as well; gradients flow through it."""
        if inputs.previous_flow is None:
            raise ValueError("A temporal generator needs previous_flow (B, T - 1, H, W, 2).")
        images: list[Tensor] = []
        masks: list[Tensor] = []
        for t in range(inputs.target.shape[1]):
            now = slice(t, t + 1)
            previous, previous_flow = None, None
            if t > 0:
                # The reference re-encodes the drawn person before mid grey (not black), beside
                # channels 0:3 (the texture-warped picture), where sources carry condition maps.
                person = images[-1] * (1 - masks[-1])
                texture = inputs.target[:, t - 1 : t, :3]
                previous = self.encode_sources(torch.cat((person, texture), dim=2))
                previous_flow = inputs.previous_flow[:, None, t - 1 : t]
            image, mask = self.draw_target(
                inputs.target[:, now], features, inputs.flow[:, now], previous, previous_flow
            )
            images.append(image)
            masks.append(mask)
        return torch.cat(images, dim=1), torch.cat(masks, dim=1)

    def _background_of(self, inputs: GeneratorInputs) -> Tensor | None:
        if self.background is None:
            return None
        if inputs.background is None:
            raise ValueError("This generator has a background network; it needs background inputs.")
        return self.draw_background(inputs.background)


def _warped(features: Sequence[Tensor], flows: Sequence[Tensor]) -> Tensor:
    """Everything looked at, side by side: (B * T, sum of S, C, h, w)."""
    return torch.cat([warp_sources(f, flow) for f, flow in zip(features, flows, strict=True)], 1)
