"""The form that draws clips is the generator itself, in fewer sums, other memory and lower precision."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lwgan.generators import (
    PRESETS,
    LiquidWarpingGenerator,
    PictureGenerator,
    SourceFeatures,
    build_generator,
)

Generator = LiquidWarpingGenerator | PictureGenerator
ATTENDING = [name for name, config in PRESETS.items() if config.attends]


def made(name: str, residual_blocks: int = 3) -> Generator:
    torch.manual_seed(0)
    generator = build_generator(
        replace(
            PRESETS[name],
            channels=(8, 12, 16),
            residual_blocks=residual_blocks,
            background_channels=(4, 8, 8, 8),
            background_blocks=2,
            spade_hidden=16,
        )
    )
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.3)
    return generator


def clip(
    num_sources: int = 3, num_frames: int = 2, num_previous: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sources, targets, flow, previous frames and the flow into them, at 48 x 32."""
    torch.manual_seed(1)
    flow = torch.rand(1, num_frames, num_sources, 48, 32, 2) * 2.4 - 1.2
    flow[..., :16, :, :] = -2
    return (
        torch.rand(1, num_sources, 6, 48, 32) * 2 - 1,
        torch.rand(1, num_frames, 6, 48, 32) * 2 - 1,
        flow,
        torch.rand(1, num_previous, 6, 48, 32) * 2 - 1,
        torch.rand(1, num_frames, num_previous, 48, 32, 2) * 2.4 - 1.2,
    )


@torch.inference_mode()
def draw(generator: Generator, num_sources: int, attend: bool = False) -> Tensor:
    """(1, T, 4, H, W): image and mask."""
    source, target, flow, previous, previous_flow = clip(num_sources)
    before = (generator.encode_sources(previous), previous_flow) if attend else ()
    drawn = generator.draw_target(target, generator.encode_sources(source), flow, *before)
    return torch.cat(drawn, dim=2)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("num_sources", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_it_draws_the_same(name: str, num_sources: int, folded: bool) -> None:
    generator = made(name)
    expected = draw(generator, num_sources)
    assert expected.std() > 0.1
    found = draw(generator.for_inference(folded), num_sources)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("num_sources", [1, 3])
@pytest.mark.parametrize("name", ATTENDING)
def test_it_attends_to_the_same_previous_frames(name: str, num_sources: int, folded: bool) -> None:
    generator = made(name)
    expected = draw(generator, num_sources, attend=True)
    assert (expected - draw(generator, num_sources)).abs().max() > 0.01
    found = draw(generator.for_inference(folded), num_sources, attend=True)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("folded", [True, False])
def test_it_draws_the_same_background(folded: bool) -> None:
    generator, known = made("attlwb-spade"), torch.rand(1, 2, 4, 48, 32)
    with torch.inference_mode():
        expected = generator.draw_background(known)
        found = generator.for_inference(folded).draw_background(known)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_bfloat16_is_near(name: str) -> None:
    generator = made(name)
    found = draw(generator.for_inference().bfloat16(), 2)
    assert found.dtype == torch.float32
    error = (found - draw(generator, 2)).abs()
    # Eight bits, rounded in each of twenty layers of random weights, a few grey levels on average.
    assert 0 < error.mean() < 0.02


def test_the_generator_itself_stays_as_it_is() -> None:
    generator = made("attlwb-spade").train()
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    drawing = generator.for_inference()
    for weight in drawing.parameters():
        weight.zero_()
    assert not drawing.training
    assert not any(weight.requires_grad for weight in drawing.parameters())
    assert generator.training
    assert all(weight.requires_grad for weight in generator.parameters())
    assert generator.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_an_inference_form_gives_another() -> None:
    drawing = made("attlwb-spade").for_inference()
    torch.testing.assert_close(draw(drawing.for_inference(), 2), draw(drawing, 2))


def test_sources_are_not_drawn_again() -> None:
    drawing = made("attlwb-spade").for_inference()
    features = drawing.encode_sources(clip()[0])
    with pytest.raises(ValueError, match="only_target"):
        drawing.source.decode(features.residual[-1][0])


def test_features_stay_channels_last_however_they_are_joined() -> None:
    drawing = made("attlwb-spade").for_inference()
    features = drawing.encode_sources(clip(num_sources=2)[0])
    joined = features.concatenated([features])
    assert joined.num_sources == 4
    for level in (*features.encoder, *joined.encoder, *joined.residual):
        assert level[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name",
    [
        "attlwb-spade",
        *(pytest.param(name, marks=pytest.mark.slow) for name in PRESETS if name != "attlwb-spade"),
    ],
)
def test_a_step_compiles_whole_and_once(name: str) -> None:
    """No break of the graph, and no second graph for other flows: nothing depends on the data."""
    torch._dynamo.reset()
    graphs = 0

    def count(graph: fx.GraphModule, example_inputs: list[Any]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    drawing = made(name, residual_blocks=1).for_inference()

    def step(target: Tensor, features: SourceFeatures, flow: Tensor) -> tuple[Tensor, Tensor]:
        return drawing.draw_target(target, features, flow)

    compiled = torch.compile(step, fullgraph=True, backend=count)
    with torch.inference_mode():
        source, target, flow, _, _ = clip()
        features = drawing.encode_sources(source)
        for moved in (flow, flow.flip(3), torch.full_like(flow, -2)):
            torch.testing.assert_close(
                compiled(target, features, moved)[0], step(target, features, moved)[0]
            )
    assert graphs == 1
    torch._dynamo.reset()
