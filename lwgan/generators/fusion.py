"""How warped source features join a frame's own: the rules that tell the generators apart.

Every rule takes features ``x`` (N, C, h, w) of a frame and warped features ``w`` (N, S, C, h, w) of
its sources, and returns (N, C, h, w), which nothing follows. None looks at where a flow is valid:
a source that does not see a pixel takes part with zeros, as released weights expect.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lwgan.generators.blocks import instance_norm, relu, same, with_weights
from lwgan.generators.config import GeneratorConfig


class FusionRule(nn.Module):
    """``forward(x, w)``, and the same for inference."""

    def folded(self) -> nn.Module:
        """The same function with fewer sums, equal up to rounding; shares unchanged weights."""
        return self


class Add(FusionRule):
    """``x + sum_s w_s`` (AddLWB)."""

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        return x + warped.sum(dim=1)


class Mean(FusionRule):
    """``(x + sum_s w_s) / (S + 1)`` (AvgLWB)."""

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        return (x + warped.sum(dim=1)) / (warped.shape[1] + 1)


class SoftGate(FusionRule):
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


class Attention(FusionRule):
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

    def folded(self) -> nn.Module:
        return FoldedAttentionSpade(self)


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

    def folded(self) -> nn.Module:
        return FoldedAttentionAdaIN(self)


def query_in_features(block: Attention) -> nn.Conv2d:
    """``q . k_s`` as ``q' . w_s``: the 1x1 convolution that gives ``q' = K^T (Q x + b_q)``.

    ``q . k_s = q . (K w_s) + q . b_k``, and the last term is the same for every source, so that it
    cancels in the softmax. The key convolution is left out, however many sources there are.
    """
    # In double precision: folding rounds once.
    query, key = block.query.weight[..., 0, 0].double(), block.key.weight[..., 0, 0].double()
    assert block.query.bias is not None
    weight, bias = key.T @ query, key.T @ block.query.bias.double()
    dtype = block.query.weight.dtype
    return with_weights(
        same(len(query), len(query), 1), weight[..., None, None].to(dtype), bias.to(dtype)
    )


def weighted_sum(weights: Tensor, warped: Tensor) -> Tensor:
    """``sum_s a_s w_s``: (N, S, 1, *, *) and (N, S, C, h, w) -> (N, C, h, w)."""
    total = weights[:, 0] * warped[:, 0]
    for s in range(1, warped.shape[1]):
        total = torch.addcmul(total, weights[:, s], warped[:, s])
    return total


class FoldedSpade(nn.Module):
    """`Spade` with one convolution for ``[1 + gamma ; beta]``."""

    def __init__(self, spade: Spade) -> None:
        super().__init__()
        self.shared = spade.shared
        gamma, beta = spade.gamma, spade.beta
        assert gamma.bias is not None
        assert beta.bias is not None
        self.scale_and_shift = with_weights(
            same(gamma.in_channels, 2 * gamma.out_channels),
            torch.cat((gamma.weight, beta.weight)),
            torch.cat((gamma.bias + 1, beta.bias)),
        )

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(relu(self.shared(guide))).chunk(2, dim=1)
        return torch.addcmul(shift, instance_norm(x), scale)


class FoldedAttentionSpade(nn.Module):
    """`AttentionSpade` whose convolutions run once, not once a source.

    Beside `query_in_features`: weights sum to 1, so ``sum_s a_s (V w_s + b) = V sum_s a_s w_s + b``;
    and the weight of a single source is 1, whatever the query.
    """

    def __init__(self, block: AttentionSpade) -> None:
        super().__init__()
        self.query = query_in_features(block)
        self.value = block.value
        self.spade = FoldedSpade(block.spade)

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        if warped.shape[1] == 1:
            merged = warped[:, 0]
        else:
            merged = weighted_sum(AttentionSpade.weights(self.query(x), warped), warped)
        return self.spade(x, self.value(merged))


class FoldedAttentionAdaIN(nn.Module):
    """`AttentionAdaIN`, likewise; and the mean of a 1x1 convolution is that of its input."""

    def __init__(self, block: AttentionAdaIN) -> None:
        super().__init__()
        self.query = query_in_features(block)
        self.value = block.value

    def forward(self, x: Tensor, warped: Tensor) -> Tensor:
        if warped.shape[1] == 1:
            merged = warped[:, 0]
        else:
            query = self.query(x.mean((-2, -1), keepdim=True))[..., 0, 0]
            means = warped.mean((-2, -1))
            weights = AttentionAdaIN.weights(query, means, x.shape[-2:].numel())
            merged = weighted_sum(weights, warped)
        return AttentionAdaIN.restyle(x, self.value(merged))


_RULES: dict[str, Callable[[int, GeneratorConfig], FusionRule]] = {
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

    def fold(self) -> None:
        """Compute the same with fewer sums from now on; for inference, weights change names."""
        for blocks in (self.encoder, self.residual):
            for i, block in enumerate(blocks):
                if isinstance(block, FusionRule):
                    blocks[i] = block.folded()
