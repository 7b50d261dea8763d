"""How warped source features join a frame's own: the rules that tell the generators apart.

Every rule takes features ``x`` (N, C, h, w) of a frame and warped features ``w`` (N, S, C, h, w) of
its sources, and returns (N, C, h, w), which nothing follows. None looks at where a flow is valid:
a source that does not see a pixel takes part with zeros, as released weights expect.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lwgan.generators.blocks import instance_norm, relu, same
from lwgan.generators.config import GeneratorConfig


class Add(nn.Module):
    """``x + sum_s w_s`` (AddLWB)."""

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        return x + warped.sum(dim=1)


class Mean(nn.Module):
    """``(x + sum_s w_s) / (S + 1)`` (AvgLWB)."""

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        return (x + warped.sum(dim=1)) / (warped.shape[1] + 1)


class SoftGate(nn.Module):
    """``x + g m``, ``g = sigmoid(conv(relu(conv(x))))``, m the sum or the mean of w_s.

    SoftGateAddLWB and SoftGateAvgLWB. The gate sees x alone, and the mean does not count x.
    """

    def __init__(self, channels: int, *, mean: bool) -> None:
        super().__init__()
        self.gate = nn.ModuleList((same(channels, channels), same(channels, channels)))
        self.mean = mean

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate[1](relu(self.gate[0](x))))
        merged = warped.mean(dim=1) if self.mean else warped.sum(dim=1)
        return torch.addcmul(x, gate, merged)


class Spade(nn.Module):
    """``IN(x) (1 + gamma(h)) + beta(h)``, ``h = relu(shared(z))`` (Park et al. 2019, equation 1)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.shared = same(channels, hidden)
        self.gamma = same(hidden, channels)
        self.beta = same(hidden, channels)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        hidden = relu(self.shared(guide))
        return torch.addcmul(self.beta(hidden), instance_norm(x), 1 + self.gamma(hidden))


class Attention(nn.Module):
    """Sources weighed by how well they answer the frame's query.

    ``q = Q x``, ``k_s = K w_s``, ``v_s = V w_s`` (1x1 convolutions after the warp, so their biases
    stand also where a source sees nothing), and ``z = sum_s a_s v_s``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = same(channels, channels, 1)
        self.key = same(channels, channels, 1)
        self.value = same(channels, channels, 1)

    def project(self, x: Tensor, warped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (N, C, h, w), k and v (N, S, C, h, w)."""
        flat, shape = warped.flatten(0, 1), warped.shape[:2]
        return (
            self.query(x),
            self.key(flat).unflatten(0, shape),
            self.value(flat).unflatten(0, shape),
        )


class AttentionSpade(Attention):
    """AttLWB-SPADE: ``a = softmax_s(q . k_s / sqrt(C))`` at each pixel, z guides a `Spade`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels)
        self.spade = Spade(channels, hidden)

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        query, keys, values = self.project(x, warped)
        weights = self.weights(query, keys)
        return self.spade(x, (weights * values).sum(dim=1))

    @staticmethod
    def weights(query: Tensor, keys: Tensor) -> Tensor:
        """(N, S, 1, h, w), summing to 1 over the sources."""
        scores = (query[:, None] * keys).sum(dim=2, keepdim=True)
        return torch.softmax(scores / math.sqrt(query.shape[1]), dim=1)


class AttentionAdaIN(Attention):
    """AttLWB-AdaIN: one weight a source and frame, z lends x its statistics over the channels.

    ``a = softmax_s(mean(q) . mean(k_s) / sqrt(C h w))``, means over the picture;
    ``out = (x - mean x) / (std x + 1e-5) * std z + mean z``, over the channels of each pixel.
    """

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        query, keys, values = self.project(x, warped)
        weights = self.weights(query.mean((-2, -1)), keys.mean((-2, -1)), x.shape[-2:].numel())
        return self.restyle(x, (weights * values).sum(dim=1))

    @staticmethod
    def weights(query: Tensor, keys: Tensor, num_pixels: int) -> Tensor:
        """Means (N, C) and (N, S, C) over the picture -> (N, S, 1, 1, 1)."""
        scores = (query[:, None] * keys).sum(dim=2) / math.sqrt(query.shape[1] * num_pixels)
        return torch.softmax(scores, dim=1)[..., None, None, None]

    @staticmethod
    def restyle(x: Tensor, style: Tensor) -> Tensor:
        """(N, C, h, w), with the mean and deviation of `style` over the channels of each pixel."""
        deviation, mean = torch.std_mean(x, dim=1, keepdim=True, correction=1)
        scale, shift = torch.std_mean(style, dim=1, keepdim=True, correction=1)
        return (x - mean) / (deviation + 1e-5) * scale + shift


_RULES: dict[str, Callable[[int, GeneratorConfig], nn.Module]] = {
    "add": lambda channels, config: Add(),
    "mean": lambda channels, config: Mean(),
    "soft-gate-add": lambda channels, config: SoftGate(channels, mean=False),
    "soft-gate-mean": lambda channels, config: SoftGate(channels, mean=True),
    "attention-spade": lambda channels, config: AttentionSpade(channels, config.spade_hidden),
    "attention-adain": lambda channels, config: AttentionAdaIN(channels),
}


class FusionBlocks(nn.Module):
    """One rule after each halving and after each residual block of the target net."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        rule = _RULES[config.fusion]
        self.encoder = nn.ModuleList(rule(channels, config) for channels in config.channels)
        self.residual = nn.ModuleList(
            rule(config.channels[-1], config) for _ in range(config.residual_blocks)
        )
