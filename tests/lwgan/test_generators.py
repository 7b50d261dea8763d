"""Whole generators: against the reference's numbers, and against what must hold of any of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lwgan.foreign import GENERATOR_RULES, rename
from lwgan.generators import (
    PRESETS,
    REFERENCE_NAMES,
    GeneratorConfig,
    GeneratorInputs,
    GeneratorOutputs,
    LiquidWarpingGenerator,
    PictureGenerator,
    SourceFeatures,
    build_generator,
)
from lwgan.generators.config import BASELINES

WARPING = [name for name, config in PRESETS.items() if config.fusion not in BASELINES]
# It has a smaller trunk for this one, which no settings change.
ADAIN_OF_THE_REFERENCE = {"background_channels": (64, 128, 128, 128), "residual_blocks": 4}
# float32 sums in another order; the reference is 8e-6 from an independent computation.
TOLERANCE = 2e-4
# fixture -> field of GeneratorOutputs
OUTPUTS = {
    "out_bg_img": "background",
    "out_src_imgs": "source_image",
    "out_src_masks": "source_mask",
    "out_tsf_imgs": "target_image",
    "out_tsf_masks": "target_mask",
}


def named_as_ours(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = {rename(key, GENERATOR_RULES): value for key, value in weights.items()}
    assert None not in ours
    return {key: value for key, value in ours.items() if key is not None}


def small(name: str, **changes: object) -> GeneratorConfig:
    return replace(
        PRESETS[name],
        channels=(4, 6, 8),
        residual_blocks=2,
        background_channels=(4, 4, 6, 6),
        background_blocks=1,
        spade_hidden=8,
        **changes,
    )


def made(config: GeneratorConfig, seed: int = 0) -> LiquidWarpingGenerator | PictureGenerator:
    """A generator in float64, so that tolerances need not speak of rounding."""
    torch.manual_seed(seed)
    generator = build_generator(config).double()
    for weight in generator.parameters():
        nn.init.normal_(weight, std=0.3 if weight.ndim == 1 else weight[0].numel() ** -0.5)
    return generator


def inputs(
    batch: int = 1,
    num_sources: int = 2,
    num_frames: int = 2,
    height: int = 16,
    width: int = 24,
    seed: int = 0,
) -> GeneratorInputs:
    torch.manual_seed(seed)
    flow = torch.rand(batch, num_frames, num_sources, height, width, 2) * 3 - 1.5
    flow[..., :4, :, :] = -2
    previous_flow = torch.rand(batch, num_frames - 1, height, width, 2) * 3 - 1.5
    return GeneratorInputs(
        background=torch.rand(batch, 1, 4, height, width).double() * 2 - 1,
        source=torch.rand(batch, num_sources, 6, height, width).double() * 2 - 1,
        target=torch.rand(batch, num_frames, 6, height, width).double() * 2 - 1,
        flow=flow.double(),
        previous_flow=previous_flow.double(),
    )


# ---------------------------------------------------------------------------------------- parity


def config_of(sizes: dict, **changes: object) -> GeneratorConfig:
    """The generator that a fixture's `meta_json` describes."""
    assert sizes["tsf_filters"] == sizes["sid_filters"]
    return replace(
        PRESETS[REFERENCE_NAMES[sizes["generator"]]],
        channels=sizes["tsf_filters"],
        residual_blocks=sizes["n_res_block"],
        background_channels=sizes["bg_filters"],
        background_blocks=sizes["bg_n_res_block"],
        **changes,
    )


def inputs_of(arrays: dict[str, Tensor], case: str, sizes: dict) -> GeneratorInputs:
    """A fixture's inputs; what its generator does not look at is made up."""
    target = arrays[f"{case}/tsf_inputs"]
    batch, num_frames, _, height, width = target.shape
    shape = (batch, sizes["ns"], 6, height, width)
    flow_shape = (batch, num_frames, sizes["ns"], height, width, 2)
    return GeneratorInputs(
        background=arrays.get(f"{case}/bg_inputs"),
        source=arrays.get(f"{case}/src_inputs", torch.zeros(shape)),
        target=target,
        flow=arrays.get(f"{case}/Tst", torch.full(flow_shape, -2.0)),
        previous_flow=arrays.get(f"{case}/Ttt"),
    )


def assert_as_expected(
    outputs: GeneratorOutputs, arrays: dict[str, Tensor], prefix: str, tolerance: float = TOLERANCE
) -> None:
    compared = 0
    for theirs, ours in OUTPUTS.items():
        value, expected = getattr(outputs, ours), arrays.get(f"{prefix}/{theirs}")
        assert (value is None) == (expected is None), ours
        if value is not None:
            torch.testing.assert_close(value, expected, atol=tolerance, rtol=0)
            compared += 1
    assert compared >= 2


@pytest.mark.parity
@pytest.mark.parametrize("name", PRESETS)
def test_every_generator_draws_as_the_reference(fixtures_folder: Path, name: str) -> None:
    path = fixtures_folder / "lwgan" / f"{name.replace('-', '_')}.npz"
    with np.load(path) as arrays:
        sizes = json.loads(str(arrays["meta_json"]))
        tensors = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta_json"}
    weights = {k.removeprefix("sd/"): v for k, v in tensors.items() if k.startswith("sd/")}
    assert REFERENCE_NAMES[sizes["generator"]] == name
    for case, about in sizes["cases"].items():
        generator = build_generator(config_of(sizes, temporal=about["temporal"])).eval()
        generator.load_state_dict(named_as_ours(weights))
        given = inputs_of(tensors, case, about)
        with torch.inference_mode():
            outputs = generator(given)
            assert_as_expected(outputs, tensors, case)
            targets = generator(given, only_target=True)
            folded = generator.for_inference()(given, only_target=True)
        assert targets.source_image is None
        assert torch.equal(targets.target_image, outputs.target_image)
        without_sources = {k: v for k, v in tensors.items() if "out_src" not in k}
        assert_as_expected(folded, without_sources, case)


@pytest.mark.parity
def test_the_default_widths_draw_as_the_reference(fixtures_folder: Path) -> None:
    """36 million weights, made anew by the fixture's recipe."""
    with np.load(fixtures_folder / "lwgan" / "default_width_attlwb_spade.npz") as arrays:
        seed = json.loads(str(arrays["meta_json"]))["seed"]
        tensors = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta_json"}
    keys = (Path(__file__).parent / "keys" / "attlwb_spade.txt").read_text().split("\n")
    weights = {}
    for index, line in enumerate(filter(None, keys)):
        key, sides = line.split()
        weights[key] = recipe_weight(seed, index, key, tuple(map(int, sides.split("x"))))
    first, last = weights["bg_net.main.0.weight"], weights["tsf_att_reg.0.weight"]
    torch.testing.assert_close(first.flatten()[:8], tensors["check/first_weights"])
    torch.testing.assert_close(last.flatten()[-8:], tensors["check/last_weights"])
    with torch.device("meta"):
        generator = build_generator("attlwb-spade").eval()
    generator.load_state_dict(named_as_ours(weights), assign=True)
    given = GeneratorInputs(
        *(tensors[name] for name in ("bg_inputs", "src_inputs", "tsf_inputs", "Tst"))
    )
    with torch.inference_mode():
        assert_as_expected(generator(given), tensors, "full")
        folded = generator.for_inference()(given, only_target=True)
    without_sources = {k: v for k, v in tensors.items() if "out_src" not in k}
    assert_as_expected(folded, without_sources, "full")


def recipe_weight(seed: int, index: int, key: str, shape: tuple[int, ...]) -> Tensor:
    """Entry `index` of the network of `default_width_attlwb_spade.npz`."""
    parent = key.split(".")[-2]
    scale = 0.05 if len(shape) == 1 else (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if parent in ("mlp_gamma", "mlp_beta") or key.endswith("main.2.weight"):
        scale *= 0.25
    if parent in ("fq", "fk"):
        scale *= 2.5
    if key.startswith(("tsf_img_reg", "tsf_att_reg")):
        scale *= 0.5
    if key.startswith(("src_net.img_reg", "src_net.att_reg")):
        scale *= 6
    random = np.random.RandomState((seed * 1000003 + index) % 2**32)
    return torch.from_numpy((random.standard_normal(shape) * scale).astype(np.float32))


@pytest.mark.parity
@pytest.mark.parametrize("form", ["plain", "unfolded", "folded"])
def test_steps_of_a_clip_are_the_references(fixtures_folder: Path, form: str) -> None:
    """Features kept, frames drawn with and without three frames before them."""
    with np.load(fixtures_folder / "lwgan" / "inference_step.npz") as arrays:
        sizes = json.loads(str(arrays["meta_json"]))
        tensors = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "meta_json"}
    weights = {k.removeprefix("sd/"): v for k, v in tensors.items() if k.startswith("sd/")}
    filters = {"tsf_filters": sizes["filters"], "sid_filters": sizes["filters"]}
    generator = build_generator(config_of(sizes | filters)).eval()
    generator.load_state_dict(named_as_ours(weights))
    if form != "plain":
        generator = generator.for_inference(folded=form == "folded")
    target, flow = tensors["tsf_inputs"][:, None], tensors["Tst"][:, None]

    def assert_close(value: Tensor, expected: str) -> None:
        torch.testing.assert_close(value, tensors[expected], atol=TOLERANCE, rtol=0)

    with torch.inference_mode():
        features = generator.encode_sources(tensors["src_inputs"])
        for i in range(3):
            assert_close(features.encoder[i][0], f"feat/out_enc_{i}")
            assert_close(features.residual[i][0], f"feat/out_res_{i}")
        background = generator.draw_background(tensors["bg_inputs"])
        assert_close(background[:, 0], "step/out_bg")
        earlier = [generator.encode_sources(tensors["temp_inputs"][:, t : t + 1]) for t in range(3)]
        previous = earlier[0].concatenated(earlier[1:])
        for name, before in (("notemp", ()), ("temp", (previous, tensors["Ttt"][:, None]))):
            image, mask = generator.draw_target(target, features, flow, *before)
            assert_close(image[:, 0], f"step/out_img_{name}")
            assert_close(mask[:, 0], f"step/out_mask_{name}")
            picture = mask * background + (1 - mask) * image
            assert_close(picture[:, 0], f"step/out_pred_{name}")


# --------------------------------------------------------------------------------------- oracles


@pytest.mark.parametrize(
    ("name", "changes", "tensors", "parameters"),
    [
        ("attlwb-spade", {}, 221, 36_276_992),
        ("attlwb-front-spade", {}, 185, 27_739_904),
        ("attlwb-adain", ADAIN_OF_THE_REFERENCE, 139, 18_580_096),
        ("addlwb", {}, 113, 27_971_520),
        ("avglwb", {}, 113, 27_971_520),
        ("softgate-addlwb", {}, 149, 36_601_664),
        ("softgate-avglwb", {}, 149, 36_601_664),
        ("input-concat", {}, 74, 17_713_472),
        ("texture-warping", {}, 74, 17_701_376),
    ],
)
def test_the_references_sizes(name: str, changes: dict, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        weights = list(build_generator(replace(PRESETS[name], **changes)).parameters())
    assert len(weights) == tensors
    assert sum(weight.numel() for weight in weights) == parameters


@pytest.mark.parametrize("name", WARPING)
def test_the_order_of_sources_does_not_matter(name: str) -> None:
    generator, given = made(small(name)), inputs(num_sources=3)
    order = [2, 0, 1]
    turned = replace(given, source=given.source[:, order], flow=given.flow[:, :, order])
    expected, found = generator(given), generator(turned)
    torch.testing.assert_close(found.target_image, expected.target_image)
    torch.testing.assert_close(found.target_mask, expected.target_mask)
    torch.testing.assert_close(found.source_image, expected.source_image[:, order])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("form", ["plain", "folded"])
def test_people_and_frames_are_drawn_each_for_itself(name: str, form: str) -> None:
    generator, given = made(small(name)), inputs(batch=2, num_sources=3, num_frames=3)
    if form == "folded":
        generator = generator.for_inference()
    image, mask = generator.draw_target(
        given.target, generator.encode_sources(given.source), given.flow
    )
    for b in range(2):
        features = generator.encode_sources(given.source[b : b + 1])
        for t in range(3):
            alone = generator.draw_target(
                given.target[b : b + 1, t : t + 1], features, given.flow[b : b + 1, t : t + 1]
            )
            torch.testing.assert_close(image[b, t], alone[0][0, 0])
            torch.testing.assert_close(mask[b, t], alone[1][0, 0])


@pytest.mark.parametrize("name", PRESETS)
def test_only_target_leaves_the_rest_as_it_is(name: str) -> None:
    generator, given = made(small(name)), inputs()
    everything, targets = generator(given), generator(given, only_target=True)
    assert torch.equal(targets.target_image, everything.target_image)
    assert torch.equal(targets.target_mask, everything.target_mask)
    assert targets.source_image is None
    assert targets.source_mask is None
    assert (everything.source_image is None) == (name not in WARPING)


@pytest.mark.parametrize(
    ("name", "temporal"),
    [
        *((name, False) for name in PRESETS),
        *((name, True) for name in PRESETS if PRESETS[name].attends),
    ],
)
def test_gradients_reach_every_weight_and_input(name: str, temporal: bool) -> None:
    config = small(name, temporal=temporal)
    generator, given = made(config), inputs(num_frames=3)
    for pictures in (given.background, given.source, given.target):
        assert pictures is not None
        pictures.requires_grad_()
    outputs = generator(given)
    total = torch.zeros((), dtype=torch.float64)
    for field in OUTPUTS.values():
        drawn = getattr(outputs, field)
        if drawn is not None:
            total = total + (drawn * torch.randn_like(drawn)).sum()
    total.backward()
    for weight_name, weight in generator.named_parameters():
        assert weight.grad is not None, weight_name
        # No gradient but rounding: the same bias for all keys, and a bias before instance norm.
        if weight_name.endswith("key.bias") or (
            weight_name.startswith("background") and weight_name.endswith("bias")
        ):
            continue
        assert weight.grad.abs().max() > 1e-8, weight_name
    assert given.target.grad is not None
    assert given.target.grad.abs().max() > 0
    if name != "texture-warping":
        assert given.source.grad is not None
        assert given.source.grad.abs().max() > 0
    if config.background_network:
        assert given.background is not None
        assert given.background.grad is not None


@pytest.mark.parametrize("name", ["attlwb-spade", "attlwb-adain"])
def test_a_temporal_generator_draws_its_first_frame_alone(name: str) -> None:
    """And gradients of the last frame reach the first through what was drawn."""
    given = inputs(num_frames=3)
    given.target.requires_grad_()
    plain, temporal = (made(small(name, temporal=on)) for on in (False, True))
    image = temporal(given).target_image
    torch.testing.assert_close(image[:, 0], plain(given).target_image[:, 0])
    assert (image[:, 1:] - plain(given).target_image[:, 1:]).abs().max() > 1e-4
    (gradient,) = torch.autograd.grad(image[:, 2].sum(), given.target)
    assert gradient[:, 0].abs().max() > 0


def test_flows_of_many_sources_are_not_mixed_up() -> None:
    """A source whose flow is empty everywhere tells the picture nothing about itself."""
    generator, given = made(small("attlwb-spade")), inputs(num_sources=3)
    given.flow[:, :, 1] = -2
    other = replace(given, source=given.source.clone())
    other.source[:, 1] = 0.5
    assert torch.equal(generator(other).target_image, generator(given).target_image)
    other.source[:, 2] = 0.5
    assert not torch.equal(generator(other).target_image, generator(given).target_image)


def test_input_concat_repeats_few_sources_and_drops_the_fifth() -> None:
    generator = made(small("input-concat"))
    given = inputs(num_sources=5)
    few = replace(given, source=given.source[:, :3], flow=given.flow[:, :, :3])
    four = torch.cat((given.source[:, :3], given.source[:, :1]), dim=1)
    padded = replace(given, source=four, flow=given.flow[:, :, :4])
    assert torch.equal(generator(few).target_image, generator(padded).target_image)
    fifth = given.source.clone()
    fifth[:, 4] = 0
    changed = replace(given, source=fifth)
    assert torch.equal(generator(changed).target_image, generator(given).target_image)


# --------------------------------------------------------------------------------- wrong use, records


@pytest.mark.parametrize(("height", "width"), [(20, 24), (24, 20)])
def test_sizes_that_cannot_be_halved_three_times(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8.*24x24"):
        inputs(height=height, width=width)
    generator = made(small("attlwb-spade"))
    pictures = torch.zeros(1, 1, 6, height, width)
    with pytest.raises(ValueError, match="multiples of 8"):
        generator.encode_sources(pictures)
    with pytest.raises(ValueError, match="multiples of 8"):
        generator.draw_background(pictures[:, :, :4])


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("source", (1, 2, 3, 16, 24)),
        ("target", (1, 2, 6, 24, 16)),
        ("flow", (1, 2, 3, 16, 24, 2)),
        ("background", (2, 1, 4, 16, 24)),
        ("previous_flow", (1, 2, 16, 24, 2)),
    ],
)
def test_inputs_that_disagree(field: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{field} is .*must be"):
        replace(inputs(), **{field: torch.zeros(shape)})


def test_inputs_move_and_flows_stay_precise() -> None:
    given = inputs().to("cpu", torch.bfloat16)
    assert given.source.dtype == given.target.dtype == torch.bfloat16
    assert given.background is not None
    assert given.background.dtype == torch.bfloat16
    assert given.flow.dtype == torch.float64


def test_what_a_generator_cannot_do_is_said() -> None:
    given = inputs()
    front = made(small("attlwb-front-spade"))
    with pytest.raises(ValueError, match="no background network"):
        front.draw_background(given.background)
    assert front(given).background is None
    for name in ("attlwb-spade", "input-concat"):
        with pytest.raises(ValueError, match="needs background inputs"):
            made(small(name))(replace(given, background=None))
    for name in ("addlwb", "softgate-avglwb", "input-concat"):
        generator = made(small(name))
        features = generator.encode_sources(given.source)
        with pytest.raises(ValueError, match="cannot attend to previous frames"):
            generator.draw_target(given.target, features, given.flow, features, given.flow)
    generator = made(small("attlwb-spade", temporal=True))
    with pytest.raises(ValueError, match="needs previous_flow"):
        generator(replace(given, previous_flow=None))
    features = generator.encode_sources(given.source)
    with pytest.raises(ValueError, match="without previous_flow"):
        generator.draw_target(given.target, features, given.flow, features)
    with pytest.raises(ValueError, match="keep flows in float32"):
        generator.draw_target(given.target, features, given.flow.bfloat16())


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_sources_that_do_not_fit_the_flow_are_refused(form: str) -> None:
    """Else the fast form would read rows of other sources."""
    generator, given = made(small("attlwb-spade")), inputs(num_sources=3)
    if form == "folded":
        generator = generator.for_inference()
    fewer = generator.encode_sources(given.source[:, :2])
    with pytest.raises(ValueError, match=r"flow is .* and 2 sources .* it must be"):
        generator.draw_target(given.target, fewer, given.flow)
    larger = generator.encode_sources(inputs(num_sources=3, height=32).source)
    with pytest.raises(ValueError, match=r"32x24 pixels.*Encode the sources at the size"):
        generator.draw_target(given.target, larger, given.flow)
    features = generator.encode_sources(given.source)
    with pytest.raises(ValueError, match=r"flow is .* and 3 sources"):
        generator.draw_target(given.target, features, given.flow, features, given.flow[:, :, :2])


def test_sources_of_several_people_stand_in_a_row() -> None:
    generator, given = made(small("attlwb-spade")), inputs(num_sources=3)
    together = generator.encode_sources(given.source)
    alone = [generator.encode_sources(given.source[:, s : s + 1]) for s in range(3)]
    joined = alone[0].concatenated(alone[1:])
    assert isinstance(joined, SourceFeatures)
    assert joined.num_sources == 3
    for found, expected in zip(
        (*joined.encoder, *joined.residual), (*together.encoder, *together.residual), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_their_json(name: str) -> None:
    config = small(name, num_sources=3)
    assert GeneratorConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "spade"}, "Unknown fusion 'spade'. Choose one of: attention-spade"),
        ({"channels": (64, 128)}, "channels is .* 3 whole numbers"),
        ({"background_channels": (64, 128, 128, 0)}, "background_channels is .* 4 whole numbers"),
        ({"residual_blocks": 0}, "residual_blocks is 0"),
        ({"spade_hidden": 1.5}, "spade_hidden is 1.5"),
        ({"fusion": "add", "temporal": True}, "Switch it off or choose one of: attention-spade"),
    ],
)
def test_configs_that_cannot_be_built(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(**changes)


def test_unknown_settings_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown generator settings width"):
        GeneratorConfig.from_json('{"width": 3}')
    with pytest.raises(ValueError, match=r"Unknown generator 'lwb'. Choose one of: attlwb-spade"):
        build_generator("lwb")
    with pytest.raises(ValueError, match="call build_generator"):
        LiquidWarpingGenerator(PRESETS["input-concat"])
    with pytest.raises(ValueError, match="call build_generator"):
        PictureGenerator(PRESETS["attlwb-spade"])


@pytest.mark.parametrize("fusion", ["input-concat", "texture-warping"])
def test_a_baseline_may_do_without_a_background_network(fusion: Any) -> None:
    """Then the scene is given, as to every generator of the person alone."""
    config = GeneratorConfig(
        fusion=fusion, background_network=False, channels=(4, 6, 8), residual_blocks=1
    )
    generator = build_generator(config)
    inputs = GeneratorInputs(
        None,
        torch.zeros(1, 2, 6, 16, 16),
        torch.zeros(1, 1, 6, 16, 16),
        torch.zeros(1, 1, 2, 16, 16, 2),
    )
    drawn = generator(inputs)
    assert drawn.background is None
    assert drawn.target_image.shape == (1, 1, 3, 16, 16)
    with pytest.raises(ValueError, match="no background network"):
        generator.draw_background(torch.zeros(1, 1, 4, 16, 16))
