"""The liquid warping generator: a background net, a source net, a target net and their fusion."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lwgan.generators.blocks import BackgroundNet, SourceNet, TargetNet, pictures_for, relu
from lwgan.generators.config import BASELINES, GeneratorConfig
from lwgan.generators.fusion import FusionBlocks
from lwgan.generators.records import (
    GeneratorInputs,
    GeneratorOutputs,
    SourceFeatures,
    check_size,
    side_by_side,
)
from lwgan.generators.warp import GridSampling, RowSampling, resize_flow


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
        self._sampling: type[GridSampling] | type[RowSampling] = GridSampling
        self.checkpointing = False  # in training: compute residual blocks twice, and save memory

    def for_inference(self, folded: bool = True) -> "LiquidWarpingGenerator":
        """A frozen copy that draws the same faster: channels_last, ready for `.to(device, dtype)`.

        In bfloat16, pictures and features are that and flows must stay float32; heads give float32.

        Args:
            folded: save sums by algebra, equal up to rounding (1e-4 of the picture's range): see
                the folded rules of `fusion`, `MergedHeads`, and a source net without its decoder,
                so that `forward` takes `only_target` alone. Names of weights change: a checkpoint
                is saved from the generator itself.
        """
        drawing = copy.deepcopy(self).eval().requires_grad_(False)
        drawing._sampling = RowSampling
        if folded:
            drawing.source.leave_out_decoder()
            drawing.fusion.fold()
            drawing.target.merge_heads()
        return drawing.to(memory_format=torch.channels_last)

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
        frames = pictures_for(self.background, background)
        drawn: Tensor = self.background(frames)
        return drawn.unflatten(0, background.shape[:2])

    def encode_sources(self, source: Tensor) -> SourceFeatures:
        """(B, S, 6, H, W) [picture ; condition map] -> what `draw_target` needs of them."""
        check_size("source", *source.shape[-2:])
        encoder, residual = self.source.encode(pictures_for(self.source, source))
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
        everyone, flows = [features], [flow]
        if previous is not None:
            if not self.config.attends:
                raise ValueError(
                    f"{self.config.fusion!r} cannot attend to previous frames; leave them out."
                )
            if previous_flow is None:
                raise ValueError("previous is given without previous_flow; both or neither.")
            everyone.append(previous)
            flows.append(previous_flow)
        for seen, flow_there in zip(everyone, flows, strict=True):
            _check_flow(flow_there, target, seen)
        frames = pictures_for(self.target, target)
        image, mask = self._draw(frames, everyone, flows)
        shape = target.shape[:2]
        return image.unflatten(0, shape), mask.unflatten(0, shape)

    def _draw(
        self, x: Tensor, everyone: Sequence[SourceFeatures], flows: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(B * T, 6, H, W) frames and whom they look at, with flows (B, T, S, H, W, 2) into them."""
        fused = []
        samplings: list[GridSampling | RowSampling] = []
        for level, (convolution, fuse) in enumerate(
            zip(self.target.encoder, self.fusion.encoder, strict=True)
        ):
            x = relu(convolution(x))
            samplings = [self._sampling(resize_flow(flow, *x.shape[-2:])) for flow in flows]
            x = fuse(x, _warped(samplings, [features.encoder[level] for features in everyone]))
            fused.append(x)
        for level, (block, fuse) in enumerate(
            zip(self.target.residual, self.fusion.residual, strict=True)
        ):
            levels = [features.residual[level] for features in everyone]

            def step(x: Tensor, *levels: Tensor, block: nn.Module = block, fuse: nn.Module = fuse, samplings: Sequence[GridSampling | RowSampling] = samplings) -> Tensor:  # fmt: skip
                drawn: Tensor = fuse(block(x), _warped(samplings, levels))
                return drawn

            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(step, x, *levels, use_reentrant=False)
            else:
                x = step(x, *levels)
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


def _warped(samplings: Sequence[GridSampling | RowSampling], features: Sequence[Tensor]) -> Tensor:
    """Everything looked at: (B, S_i, C, h, w) each -> (B * T, sum of S_i, C, h, w)."""
    return side_by_side([take(level) for take, level in zip(samplings, features, strict=True)])


def _check_flow(flow: Tensor, target: Tensor, features: SourceFeatures) -> None:
    """Raise ValueError unless each frame has a precise flow into each source, all of one size."""
    batch, num_frames, _, height, width = target.shape
    shape = (batch, num_frames, features.num_sources, height, width, 2)
    if flow.shape != shape:
        raise ValueError(
            f"flow is {tuple(flow.shape)}; with a target of {tuple(target.shape)} and "
            f"{features.num_sources} sources (or previous frames) it must be {shape}."
        )
    if flow.dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"flow is {flow.dtype}, which misses pixels; keep flows in float32, whatever the "
            "pictures are in."
        )
    first = features.encoder[0]
    if (len(first), *first.shape[-2:]) != (batch, height // 2, width // 2):
        raise ValueError(
            f"features are of {len(first)}x{first.shape[1]} sources of "
            f"{2 * first.shape[-2]}x{2 * first.shape[-1]} pixels; the target has {batch} people at "
            f"{height}x{width}. Encode the sources at the size that is drawn."
        )
