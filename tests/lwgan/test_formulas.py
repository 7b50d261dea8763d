"""Generators against their formulas, computed anew from the weights alone with plain functions.

The formulas are those of Liu et al. 2019 (Liquid Warping GAN) and 2021 (with attention); `weights` is
always a generator's state_dict. They run source by source and frame by frame, as they are written.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwgan.generators import (
    PRESETS,
    GeneratorConfig,
    GeneratorInputs,
    LiquidWarpingGenerator,
    PictureGenerator,
    build_generator,
)

Weights = dict[str, Tensor]
Features = tuple[list[Tensor], list[Tensor]]  # after each halving, and after each residual block

# In float64, where an epsilon in the wrong place counts a million times as much as rounding does.
TOLERANCE = 1e-10


# ----------------------------------------------------------------------------------------- layers


def conv(weights: Weights, name: str, x: Tensor, stride: int = 1, *, bias: bool = True) -> Tensor:
    """Zeros outside, as many that stride 1 keeps the size; layers without a bias must have none."""
    kernel = weights[f"{name}.weight"]
    assert (f"{name}.bias" in weights) == bias
    shift = weights[f"{name}.bias"] if bias else None
    return F.conv2d(x, kernel, shift, stride, padding=kernel.shape[-1] // 2)


def tconv(weights: Weights, name: str, x: Tensor, *, bias: bool = True) -> Tensor:
    """4x4, twice the size."""
    assert (f"{name}.bias" in weights) == bias
    shift = weights[f"{name}.bias"] if bias else None
    return F.conv_transpose2d(x, weights[f"{name}.weight"], shift, stride=2, padding=1)


def normalised(x: Tensor) -> Tensor:
    """IN: ``(x - mean) / sqrt(var + 1e-5)`` over each channel of each picture, biased variance."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def warp(feature: Tensor, flow: Tensor) -> Tensor:
    """(B, C, h, w) read where (B, H, W, 2) says; the two steps have different corners."""
    small = F.interpolate(
        flow.permute(0, 3, 1, 2), feature.shape[2:], mode="bilinear", align_corners=True
    )
    return F.grid_sample(
        feature, small.permute(0, 2, 3, 1), "bilinear", "zeros", align_corners=False
    )


# --------------------------------------------------------------------------------------- networks


def background_net(weights: Weights, x: Tensor, config: GeneratorConfig) -> Tensor:
    """BGNet: every convolution but the last is followed by IN; a block is ``x + IN(conv(relu(IN(conv x))))``."""
    for i in range(4):
        x = F.relu(normalised(conv(weights, f"background.layers.{3 * i}", x, 1 if i == 0 else 2)))
    for block in range(12, 12 + config.background_blocks):
        inner = F.relu(normalised(conv(weights, f"background.layers.{block}.first", x)))
        x = x + normalised(conv(weights, f"background.layers.{block}.second", inner))
    place = 12 + config.background_blocks
    for i in range(3):
        x = F.relu(normalised(tconv(weights, f"background.layers.{place + 3 * i}", x, bias=False)))
    return torch.tanh(conv(weights, f"background.layers.{place + 9}", x, bias=False))


def residual(weights: Weights, name: str, x: Tensor) -> Tensor:
    """``x + conv(relu(conv(x)))``; no norm, nothing after the sum."""
    return x + conv(weights, f"{name}.second", F.relu(conv(weights, f"{name}.first", x)))


def painted(weights: Weights, net: str, x: Tensor) -> tuple[Tensor, Tensor]:
    image = torch.tanh(conv(weights, f"{net}.image_head", x, bias=False))
    return image, torch.sigmoid(conv(weights, f"{net}.mask_head", x, bias=False))


def encoded(weights: Weights, net: str, x: Tensor, blocks: int) -> Features:
    """SIDNet's first half."""
    halved, deep = [], []
    for i in range(3):
        x = F.relu(conv(weights, f"{net}.encoder.{i}", x, 2))
        halved.append(x)
    for r in range(blocks):
        x = residual(weights, f"{net}.residual.{r}", x)
        deep.append(x)
    return halved, deep


def decoded(weights: Weights, net: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """SIDNet's second half; no skips."""
    for i in range(3):
        x = F.relu(tconv(weights, f"{net}.decoder.{i}", x))
    return painted(weights, net, x)


def target_net(
    weights: Weights,
    config: GeneratorConfig,
    x: Tensor,
    seen: Sequence[tuple[Features, Tensor]],
) -> tuple[Tensor, Tensor]:
    """TSFNet draws one frame, (B, 6, H, W), with the features of everyone seen and the flow there."""
    fuse = FUSIONS[config.fusion]
    fused = []
    for i in range(3):
        x = F.relu(conv(weights, f"target.encoder.{i}", x, 2, bias=False))
        warped = [warp(halved[i], flow) for (halved, _), flow in seen]
        x = fuse(weights, f"fusion.encoder.{i}", x, warped)
        fused.append(x)
    for r in range(config.residual_blocks):
        x = residual(weights, f"target.residual.{r}", x)
        warped = [warp(deep[r], flow) for (_, deep), flow in seen]
        x = fuse(weights, f"fusion.residual.{r}", x, warped)
    for i, skipped in enumerate((fused[1], fused[0])):
        x = F.relu(tconv(weights, f"target.up.{i}", x))
        x = F.relu(conv(weights, f"target.skip.{i}", torch.cat([skipped, x], dim=1)))
    return painted(weights, "target", F.relu(tconv(weights, "target.up.2", x)))


# ----------------------------------------------------------------------------------------- fusion


def merged(scores: list[Tensor], values: list[Tensor]) -> Tensor:
    """``z = sum_s a_s v_s``, ``a = exp(score_s) / sum_s' exp(score_s')``."""
    powers = torch.stack(scores).exp()
    return (powers * torch.stack(values)).sum(0) / powers.sum(0)


def attention_spade(weights: Weights, name: str, x: Tensor, warped: list[Tensor]) -> Tensor:
    """``a_s ~ q . k_s / sqrt(C)`` a pixel; ``IN(x) (1 + gamma(h)) + beta(h)``, ``h = relu(shared(z))``."""
    query = conv(weights, f"{name}.query", x)
    keys, values = (
        [conv(weights, f"{name}.{kind}", w) for w in warped] for kind in ("key", "value")
    )
    scores = [(query * key).sum(1, keepdim=True) / sqrt(x.shape[1]) for key in keys]
    hidden = F.relu(conv(weights, f"{name}.spade.shared", merged(scores, values)))
    gamma, beta = (conv(weights, f"{name}.spade.{kind}", hidden) for kind in ("gamma", "beta"))
    return normalised(x) * (1 + gamma) + beta


def attention_adain(weights: Weights, name: str, x: Tensor, warped: list[Tensor]) -> Tensor:
    """``a_s ~ mean(q) . mean(k_s) / sqrt(C h w)`` a picture; ``(x - mean) / (std + 1e-5) std(z) + mean(z)``.

    Statistics over the channels of a pixel, the deviation over C - 1.
    """
    query = conv(weights, f"{name}.query", x).mean((2, 3), keepdim=True)
    keys, values = (
        [conv(weights, f"{name}.{kind}", w) for w in warped] for kind in ("key", "value")
    )
    numbers = x.shape[1] * x.shape[2] * x.shape[3]
    means = [key.mean((2, 3), keepdim=True) for key in keys]
    scores = [(query * mean).sum(1, keepdim=True) / sqrt(numbers) for mean in means]
    style = merged(scores, values)

    def mean_and_deviation(y: Tensor) -> tuple[Tensor, Tensor]:
        mean = y.mean(1, keepdim=True)
        return mean, ((y - mean).square().sum(1, keepdim=True) / (y.shape[1] - 1)).sqrt()

    (mean, deviation), (shift, scale) = mean_and_deviation(x), mean_and_deviation(style)
    return (x - mean) / (deviation + 1e-5) * scale + shift


def gate(weights: Weights, name: str, x: Tensor) -> Tensor:
    """``g = sigmoid(conv(relu(conv(x))))``, which sees x alone; out is ``x + g m``."""
    return torch.sigmoid(
        conv(weights, f"{name}.gate.1", F.relu(conv(weights, f"{name}.gate.0", x)))
    )


FUSIONS: dict[str, Callable[[Weights, str, Tensor, list[Tensor]], Tensor]] = {
    "attention-spade": attention_spade,
    "attention-adain": attention_adain,
    "add": lambda weights, name, x, warped: x + sum(warped),
    "mean": lambda weights, name, x, warped: (x + sum(warped)) / (len(warped) + 1),
    "soft-gate-add": lambda weights, name, x, warped: x + gate(weights, name, x) * sum(warped),
    "soft-gate-mean": lambda weights, name, x, warped: (
        x + gate(weights, name, x) * sum(warped) / len(warped)
    ),
}


# ----------------------------------------------------------------------------------------- whole generators


def drawn(weights: Weights, config: GeneratorConfig, inputs: GeneratorInputs) -> dict[str, Tensor]:
    """All that `forward` gives, by the names of its fields."""
    blocks = config.residual_blocks
    sources = [encoded(weights, "source", x, blocks) for x in inputs.source.unbind(1)]
    again = [decoded(weights, "source", deep[-1]) for _, deep in sources]
    frames: list[tuple[Tensor, Tensor]] = []
    for t, x in enumerate(inputs.target.unbind(1)):
        seen = list(zip(sources, inputs.flow[:, t].unbind(1), strict=True))
        if config.temporal and t > 0:
            image, mask = frames[-1]
            # The person before grey, beside the texture-warped picture: 0:3, not 3: of the target.
            before = torch.cat([image * (1 - mask), inputs.target[:, t - 1, 0:3]], dim=1)
            assert inputs.previous_flow is not None
            features = encoded(weights, "source", before, blocks)
            seen.append((features, inputs.previous_flow[:, t - 1]))
        frames.append(target_net(weights, config, x, seen))
    result = {
        "source_image": torch.stack([image for image, _ in again], dim=1),
        "source_mask": torch.stack([mask for _, mask in again], dim=1),
        "target_image": torch.stack([image for image, _ in frames], dim=1),
        "target_mask": torch.stack([mask for _, mask in frames], dim=1),
    }
    if inputs.background is not None:
        backgrounds = [background_net(weights, x, config) for x in inputs.background.unbind(1)]
        result["background"] = torch.stack(backgrounds, dim=1)
    return result


def made_up(num_sources: int, num_frames: int, *, background: bool) -> GeneratorInputs:
    """Two people; flows reach beyond the picture, and a strip of every frame has no body."""
    torch.manual_seed(1)
    height, width = 16, 24

    def pictures(*shape: int) -> Tensor:
        return torch.rand(2, *shape, height, width, dtype=torch.float64) * 2 - 1

    def flows(*shape: int) -> Tensor:
        flow = torch.rand(2, *shape, height, width, 2, dtype=torch.float64) * 2.4 - 1.2
        flow[..., :4, :, :] = -2
        return flow

    return GeneratorInputs(
        background=pictures(2, 4) if background else None,
        source=pictures(num_sources, 6),
        target=pictures(num_frames, 6),
        flow=flows(num_frames, num_sources),
        previous_flow=flows(num_frames - 1),
    )


def small(
    preset: str, *, temporal: bool = False
) -> tuple[LiquidWarpingGenerator | PictureGenerator, GeneratorConfig]:
    """A narrow generator whose weights keep features about as large as they come in."""
    config = replace(
        PRESETS[preset],
        channels=(4, 6, 8),
        residual_blocks=2,
        background_channels=(4, 5, 6, 7),
        background_blocks=2,
        spade_hidden=5,
        temporal=temporal,
    )
    torch.manual_seed(0)
    generator = build_generator(config).double()
    for weight in generator.parameters():
        nn.init.normal_(weight, std=0.3 if weight.ndim == 1 else weight[0].numel() ** -0.5)
    return generator, config


CASES = [
    pytest.param(preset, sources, 2, False, id=f"{preset} of {sources}")
    for preset, sources in [
        ("attlwb-spade", 3),
        ("attlwb-spade", 1),
        ("attlwb-front-spade", 2),
        ("attlwb-adain", 3),
        ("attlwb-adain", 1),
        ("addlwb", 3),
        ("avglwb", 3),
        ("softgate-addlwb", 3),
        ("softgate-avglwb", 3),
    ]
] + [
    pytest.param(preset, 2, 3, True, id=f"{preset}, each frame with the one before")
    for preset in ("attlwb-spade", "attlwb-adain")
]


@pytest.mark.parametrize(("preset", "num_sources", "num_frames", "temporal"), CASES)
@torch.no_grad()
def test_a_generator_is_its_formulas(
    preset: str, num_sources: int, num_frames: int, temporal: bool
) -> None:
    generator, config = small(preset, temporal=temporal)
    inputs = made_up(num_sources, num_frames, background=config.background_network)
    expected = drawn(generator.state_dict(), config, inputs)
    found = generator(inputs)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=TOLERANCE)
    for folded in (False, True):
        fast = generator.for_inference(folded=folded)(inputs, only_target=True)
        for name in expected.keys() - {"source_image", "source_mask"}:
            torch.testing.assert_close(getattr(fast, name), expected[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("num_sources", [2, 5])
@pytest.mark.parametrize("preset", ["input-concat", "texture-warping"])
@torch.no_grad()
def test_a_baseline_is_one_plain_network(preset: str, num_sources: int) -> None:
    """Of four sources (repeated, or the first four) and the condition map, or of the texture-warped."""
    generator, config = small(preset)
    weights, inputs = generator.state_dict(), made_up(num_sources, 2, background=True)
    found = generator(inputs)
    for t, x in enumerate(inputs.target.unbind(1)):
        if preset == "input-concat":
            four = [inputs.source[:, s % num_sources] for s in range(4)]
            x = torch.cat([*four, x[:, 3:]], dim=1)
        _, deep = encoded(weights, "network", x, config.residual_blocks)
        image, mask = decoded(weights, "network", deep[-1])
        torch.testing.assert_close(found.target_image[:, t], image, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(found.target_mask[:, t], mask, rtol=0, atol=TOLERANCE)
