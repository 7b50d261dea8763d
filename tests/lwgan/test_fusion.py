"""Rules that join warped features, against the reference's numbers and their own algebra."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwgan.foreign import GENERATOR_RULES, rename
from lwgan.generators.blocks import Painter, instance_norm
from lwgan.generators.fusion import (
    Add,
    AttentionAdaIN,
    AttentionSpade,
    FusionRule,
    Mean,
    SoftGate,
    Spade,
)
from lwgan.generators.warp import warp

CHANNELS, HIDDEN = 6, 8
RULES: dict[str, Callable[[], FusionRule]] = {
    "add": Add,
    "mean": Mean,
    "soft-gate-add": lambda: SoftGate(CHANNELS, mean=False),
    "soft-gate-mean": lambda: SoftGate(CHANNELS, mean=True),
    "attention-spade": lambda: AttentionSpade(CHANNELS, HIDDEN),
    "attention-adain": lambda: AttentionAdaIN(CHANNELS),
}
ATTENTION = ("attention-spade", "attention-adain")
# float32 sums in another order; the reference is 8e-6 from an independent computation.
TOLERANCE = 2e-4


def made(name: str, seed: int = 0) -> FusionRule:
    torch.manual_seed(seed)
    rule = RULES[name]()
    for weight in rule.parameters():  # large enough that no term hides in rounding
        nn.init.normal_(weight, std=0.4)
    return rule.eval().requires_grad_(False)


def features(num_sources: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, CHANNELS, 8, 6), torch.randn(2, num_sources, CHANNELS, 8, 6)


# ---------------------------------------------------------------------------------------- parity


@pytest.fixture(scope="module")
def units(fixtures_folder: Path) -> dict[str, Tensor]:
    with np.load(fixtures_folder / "lwgan" / "units.npz") as arrays:
        sizes = json.loads(str(arrays["meta_json"]))
        assert (sizes["bs"], sizes["ns"], sizes["nt"], sizes["c"]) == (2, 3, 2, 10)
        return {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta_json"}


def load(rule: nn.Module, units: dict[str, Tensor], group: str) -> None:
    """The weights of a block alone, under the names a whole generator gives them."""
    weights = {}
    for key, value in units.items():
        if key.startswith(f"{group}/sd/"):
            name = rename(f"enc_attlwbs.0.{key.removeprefix(f'{group}/sd/')}", GENERATOR_RULES)
            assert name is not None, key
            weights[name.removeprefix("fusion.encoder.0.")] = value
    rule.load_state_dict(weights)


def warped_units(units: dict[str, Tensor], kind: str, flows: str) -> Tensor:
    """Batch-major sources or previous frames, carried to the target: (2, S, 10, 16, 12)."""
    flow = units[f"attlwb_spade/{flows}"]
    return warp(units[kind], flow.flatten(0, 1)).unflatten(0, flow.shape[:2])


@pytest.mark.parity
@pytest.mark.parametrize("temporal", [False, True])
def test_attention_and_spade_are_the_references(units: dict[str, Tensor], temporal: bool) -> None:
    rule = AttentionSpade(10, units["attlwb_spade/sd/spade.mlp_shared.0.bias"].numel())
    load(rule, units, "attlwb_spade")
    x, warped = units["attlwb_spade/tsf_x"], warped_units(units, "attlwb_spade/src_x", "Tst")
    if temporal:
        warped = torch.cat((warped, warped_units(units, "attlwb_spade/temp_x", "Ttt")), dim=1)
    suffix = "temporal" if temporal else "no_temporal"
    query, keys, _ = rule.project(x, warped)
    expected = units[f"attlwb_spade/alpha_{suffix}"]
    torch.testing.assert_close(rule.weights(query, keys), expected, atol=TOLERANCE, rtol=0)
    expected = units[f"attlwb_spade/out_{suffix}"]
    torch.testing.assert_close(rule(x, warped), expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(rule.folded()(x, warped), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parity
def test_attention_and_adain_are_the_references(units: dict[str, Tensor]) -> None:
    rule = AttentionAdaIN(10)
    load(rule, units, "attlwb_adain")
    x = units["attlwb_spade/tsf_x"]
    sources = warped_units(units, "attlwb_adain/src_x", "Tst")
    warped = torch.cat((sources, warped_units(units, "attlwb_spade/temp_x", "Ttt")), dim=1)
    query, keys, values = rule.project(x, warped)
    weights = rule.weights(query.mean((-2, -1)), keys.mean((-2, -1)), 16 * 12)
    merged = (weights * values).sum(dim=1)
    scale, shift = merged.std(dim=1, keepdim=True), merged.mean(dim=1, keepdim=True)
    for name, value in (
        ("alpha", weights),
        ("out_x", merged),
        ("out_gamma", scale),
        ("out_beta", shift),
        ("out_adain", rule(x, warped)),
        ("out_adain", rule.folded()(x, warped)),
    ):
        expected = units[f"attlwb_adain/{name}"]
        torch.testing.assert_close(value, expected, atol=TOLERANCE, rtol=0, msg=name)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Add(), "addlwb/out"),
        (Mean(), "avglwb/out"),
        (SoftGate(10, mean=False), "softgate/out_add"),
        (SoftGate(10, mean=True), "softgate/out_avg"),
    ],
)
def test_sums_and_gates_are_the_references(
    units: dict[str, Tensor], rule: FusionRule, expected: str
) -> None:
    load(rule, units, expected.split("/")[0])
    warped = warped_units(units, "attlwb_spade/src_x", "Tst")
    fused = rule(units["attlwb_spade/tsf_x"], warped)
    torch.testing.assert_close(fused, units[expected], atol=TOLERANCE, rtol=0)


# --------------------------------------------------------------------------------------- algebra


@pytest.mark.parametrize("num_sources", [1, 2, 5])
@pytest.mark.parametrize("name", RULES)
def test_folded_rules_are_the_same_function(name: str, num_sources: int) -> None:
    rule, (x, warped) = made(name), features(num_sources)
    folded = rule.folded()
    torch.testing.assert_close(folded(x, warped), rule(x, warped), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_sources_does_not_matter(name: str) -> None:
    rule, (x, warped) = made(name), features(3)
    torch.testing.assert_close(rule(x, warped[:, [2, 0, 1]]), rule(x, warped), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ATTENTION)
def test_a_source_that_sees_nothing_takes_part(name: str) -> None:
    """No mask of valid flows: released weights have learned to live with the biases."""
    rule, (x, warped) = made(name), features(2)
    blind = torch.cat((warped, torch.zeros_like(warped[:, :1])), dim=1)
    assert (rule(x, blind) - rule(x, warped)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ATTENTION)
def test_the_same_source_twice_is_that_source(name: str) -> None:
    rule, (x, warped) = made(name), features(1)
    torch.testing.assert_close(
        rule(x, warped.expand(-1, 3, -1, -1, -1)), rule(x, warped), atol=2e-5, rtol=1e-5
    )


def test_attention_follows_the_query() -> None:
    """With identities for weights, a pixel takes the source that looks like itself."""
    rule = AttentionSpade(CHANNELS, HIDDEN).requires_grad_(False)
    for layer in (rule.query, rule.key):
        layer.weight.copy_(10 * torch.eye(CHANNELS)[..., None, None])
        layer.bias.zero_()
    x, warped = features(2)
    warped[:, 1] = x
    warped[:, 0] = -x
    weights = rule.weights(*rule.project(x, warped)[:2])
    assert (weights[:, 1] > 0.99).float().mean() > 0.99


@pytest.mark.parametrize("name", RULES)
def test_gradients_reach_both_inputs_and_every_weight(name: str) -> None:
    rule, (x, warped) = made(name).requires_grad_(), features(2)
    rule(x.requires_grad_(), warped.requires_grad_()).square().sum().backward()
    leaves = {"x": x, "warped": warped, **dict(rule.named_parameters())}
    for leaf, value in leaves.items():
        assert value.grad is not None, leaf
        # The same key bias for all sources cancels in the softmax.
        assert leaf == "key.bias" or value.grad.abs().max() > 1e-6, leaf


def test_spade_with_zero_weights_is_instance_norm() -> None:
    spade, x = Spade(CHANNELS, HIDDEN).requires_grad_(False), torch.randn(2, CHANNELS, 8, 6)
    for layer in (spade.gamma, spade.beta):
        layer.weight.zero_()
        layer.bias.zero_()
    torch.testing.assert_close(spade(x, x), F.instance_norm(x))


# ------------------------------------------------------------------------------ layers they stand on


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (30.0, 1.0), (300.0, 0.5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_does_not_cancel(
    mean: float, deviation: float, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 8, 32, 24) * deviation + mean).to(memory_format=memory_format)
    exact = F.instance_norm(x.double())
    torch.testing.assert_close(instance_norm(x).double(), exact, atol=1e-4, rtol=0)
    low = x.bfloat16()
    exact = F.instance_norm(low.double())
    # A step of bfloat16 at 4, the largest value there is, twice.
    torch.testing.assert_close(instance_norm(low).double(), exact, atol=2**-5, rtol=0)


def test_merged_heads_paint_the_same() -> None:
    torch.manual_seed(0)
    painter, x = Painter(5).requires_grad_(False), torch.randn(2, 5, 16, 24)
    image, mask = painter.paint(x)
    painter.merge_heads()
    merged_image, merged_mask = painter.paint(x)
    torch.testing.assert_close(merged_image, image, atol=1e-6, rtol=0)
    torch.testing.assert_close(merged_mask, mask, atol=1e-6, rtol=0)
