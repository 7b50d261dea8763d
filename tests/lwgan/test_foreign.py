"""The reference program's weights: their keys, what they belong to, and what is refused."""

import os
import re
from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lwgan.checkpoints import CheckpointError, blueprint, load_checkpoint
from lwgan.discriminators import DiscriminatorConfig, build_discriminator
from lwgan.foreign import (
    DISCRIMINATOR_RULES,
    GENERATOR_RULES,
    Rules,
    import_weights,
    infer_config,
    read_discriminator,
    read_state_dict,
    rename,
    reversed_rules,
)
from lwgan.generators import PRESETS, REFERENCE_NAMES, GeneratorConfig, GeneratorInputs
from lwgan.surface_tables import SurfaceTables, build_tables

KEYS = Path(__file__).parent / "keys"

GENERATOR_KEYS = {
    "attlwb-spade": "attlwb_spade",
    "attlwb-front-spade": "attlwb_front_spade",
    "attlwb-adain": "attlwb_adain",
    "addlwb": "addlwb",
    "avglwb": "addlwb",
    "softgate-addlwb": "softgate_addlwb",
    "softgate-avglwb": "softgate_addlwb",
    "input-concat": "input_concat",
    "texture-warping": "texture_warping",
}
BODY_HEAD = DiscriminatorConfig(layout="global-body-head")
DISCRIMINATOR_KEYS = {
    "dis_patch_global": DiscriminatorConfig(),
    "dis_patch_global_augbg": DiscriminatorConfig(background_channels=4),
    "dis_patch_global_local": DiscriminatorConfig(layout="global-local"),
    "dis_patch_global_local_augbg": DiscriminatorConfig("global-local", background_channels=4),
    "dis_patch_global_body_head": BODY_HEAD,
    "dis_patch_global_body_head_augbg": DiscriminatorConfig(
        "global-body-head", background_channels=4
    ),
    "dis_multi_scale": DiscriminatorConfig(
        layout="global-multi-scale", width=32, halvings=3, norm="batch"
    ),
}

# What the reference builds by default. Its AdaIN class has widths of its own.
OFFICIAL = {
    **PRESETS,
    "attlwb-adain": GeneratorConfig(
        fusion="attention-adain", background_channels=(64, 128, 128, 128), residual_blocks=4
    ),
}


def key_list(name: str) -> dict[str, tuple[int, ...]]:
    """The reference's keys and shapes, in its order."""
    lines = (KEYS / f"{name}.txt").read_text().splitlines()
    pairs = (line.split() for line in lines)
    return {
        key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in pairs
    }


def official(name: str) -> dict[str, Tensor]:
    """The reference's state_dict at its default width, without numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in key_list(name).items()}


def fabricate(config: GeneratorConfig, seed: int = 0) -> OrderedDict[str, Tensor]:
    """A state_dict as the reference would have it, with random numbers."""
    numbers = torch.Generator().manual_seed(seed)
    back = reversed_rules(GENERATOR_RULES)
    return OrderedDict(
        (str(rename(key, back)), torch.randn(tensor.shape, generator=numbers))
        for key, tensor in blueprint(config).items()
    )


def small(preset: str = "attlwb-spade") -> GeneratorConfig:
    config = replace(PRESETS[preset], channels=(3, 4, 5), residual_blocks=2)
    if config.background_network:
        config = replace(config, background_channels=(2, 3, 4, 5), background_blocks=1)
    if config.fusion == "attention-spade":
        config = replace(config, spade_hidden=7)
    return replace(config, num_sources=3) if config.fusion == "input-concat" else config


@pytest.fixture(scope="module")
def tables() -> SurfaceTables:
    """Of a body of one triangle."""
    from iper_toolkit.body.parts import Surface

    faces = torch.tensor([[0, 1, 2]])
    none = torch.empty(0, dtype=torch.int64)
    surface = Surface(
        part=torch.zeros(1, dtype=torch.int64),
        facial_large=none,
        facial_small=none,
        front_body=none,
        uv=torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        uv_faces=faces,
    )
    return build_tables("triangle", faces, surface, "reference")


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    torch.save(fabricate(small()), tmp_path / "small_id_G.pth")
    return tmp_path / "small_id_G.pth"


def refusal(weights: object, folder: Path, tables: SurfaceTables, **options: object) -> str:
    """What is said about a file that holds `weights`; nothing may be written."""
    file, out = folder / "weights.pth", folder / "out" / "weights.safetensors"
    torch.save(weights, file)
    with pytest.raises(CheckpointError) as error:
        import_weights(file, out, tables=tables, **options)  # type: ignore[arg-type]
    assert not out.exists()
    assert str(file) in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("preset", PRESETS)
def test_generators_have_the_weights_of_the_reference(preset: str) -> None:
    theirs, ours = key_list(GENERATOR_KEYS[preset]), blueprint(OFFICIAL[preset])
    renamed = {rename(key, GENERATOR_RULES): shape for key, shape in theirs.items()}
    assert renamed == {key: tuple(tensor.shape) for key, tensor in ours.items()}


@pytest.mark.parametrize("name", DISCRIMINATOR_KEYS)
def test_discriminators_have_the_weights_of_the_reference(name: str) -> None:
    with torch.device("meta"):
        ours = build_discriminator(DISCRIMINATOR_KEYS[name]).state_dict()
    renamed = {rename(key, DISCRIMINATOR_RULES): shape for key, shape in key_list(name).items()}
    assert renamed == {key: tuple(tensor.shape) for key, tensor in ours.items()}


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (GENERATOR_RULES, sorted(set(GENERATOR_KEYS.values()))),
        (DISCRIMINATOR_RULES, list(DISCRIMINATOR_KEYS)),
    ],
    ids=["generators", "discriminators"],
)
def test_renaming_loses_nothing(rules: Rules, names: list[str]) -> None:
    back = reversed_rules(rules)
    for key in (key for name in names for key in key_list(name)):
        ours = rename(key, rules)
        assert ours is not None
        assert rename(ours, back) == key


@pytest.mark.parametrize("rules", [GENERATOR_RULES, DISCRIMINATOR_RULES])
def test_no_rule_is_idle(rules: Rules) -> None:
    names = [*GENERATOR_KEYS.values(), *DISCRIMINATOR_KEYS]
    keys = [key for name in names for key in key_list(name)]
    idle = [rule for rule in rules if not any(rename(key, (rule,)) for key in keys)]
    assert idle == []


@pytest.mark.parametrize(
    "key",
    ["src_net.encoders.layers.x.0.weight", "src_net.encoders.layers.0.1.weight", "weight", ""],
)
def test_keys_that_only_look_alike_are_unknown(key: str) -> None:
    assert rename(key, GENERATOR_RULES) is None


# ------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize("preset", PRESETS)
def test_the_default_width_is_recognised(preset: str) -> None:
    weights = official(GENERATOR_KEYS[preset])
    assert infer_config(weights, "file", variant=preset) == OFFICIAL[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_other_widths_are_recognised(preset: str) -> None:
    config = small(preset)
    assert infer_config(fabricate(config), "file", variant=preset) == config


@pytest.mark.parametrize("name", REFERENCE_NAMES)
def test_the_reference_names_of_variants_are_understood(name: str) -> None:
    preset = REFERENCE_NAMES[name]
    weights = official(GENERATOR_KEYS[preset])
    assert infer_config(weights, "file", variant=name) == OFFICIAL[preset]


@pytest.mark.parametrize(
    ("preset", "kinds"),
    [("avglwb", "addlwb or avglwb"), ("softgate-addlwb", "softgate-addlwb or softgate-avglwb")],
)
def test_variants_of_equal_weights_must_be_named(preset: str, kinds: str) -> None:
    with pytest.raises(CheckpointError, match=f"may be of {kinds}, which have the same keys"):
        infer_config(fabricate(small(preset)), "file")


def test_weights_are_not_taken_for_another_variant() -> None:
    with pytest.raises(CheckpointError, match="file holds weights of attlwb-spade, not of addlwb"):
        infer_config(fabricate(small()), "file", variant="AddLWB")


def test_weights_without_a_background_are_not_taken_for_the_whole() -> None:
    with pytest.raises(CheckpointError, match="of attlwb-front-spade, not of attlwb-spade"):
        infer_config(fabricate(small("attlwb-front-spade")), "file", variant="attlwb-spade")


def test_an_unknown_variant_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Unknown generator 'lwb'. Choose one of: attlwb-spade"):
        infer_config(fabricate(small()), "file", variant="lwb")


def test_temporal_is_what_one_says() -> None:
    assert infer_config(fabricate(small()), "file", temporal=True).temporal
    assert not infer_config(fabricate(small()), "file").temporal


# ------------------------------------------------------------------------------------------- imports


def test_what_was_imported_is_what_the_file_holds(
    small_file: Path, tmp_path: Path, tables: SurfaceTables
) -> None:
    out = tmp_path / "new" / "small.safetensors"
    imported = import_weights(small_file, out, tables=tables)
    original = sha256(small_file.read_bytes()).hexdigest()
    weights = fabricate(small())
    assert imported.sha256 == original
    assert imported.variant == "attlwb-spade"
    assert imported.parameters == sum(tensor.numel() for tensor in weights.values())

    checkpoint = load_checkpoint(out)
    assert checkpoint.config == imported.config == small()
    assert checkpoint.surface == tables.id
    assert checkpoint.notes == (f"imported from small_id_G.pth (sha256 {original})",)
    state = checkpoint.generator.state_dict()
    for key, tensor in weights.items():
        assert torch.equal(state[str(rename(key, GENERATOR_RULES))], tensor)


def test_importing_twice_gives_equal_files(
    small_file: Path, tmp_path: Path, tables: SurfaceTables
) -> None:
    outs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for out in outs:
        import_weights(small_file, out, tables=tables)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_float16_halves_the_file(small_file: Path, tmp_path: Path, tables: SurfaceTables) -> None:
    outs = {name: tmp_path / f"{name}.safetensors" for name in ("float16", "float32")}
    for dtype, out in outs.items():
        import_weights(small_file, out, tables=tables, dtype=dtype)
    half, full = (load_checkpoint(outs[dtype]).generator for dtype in outs)
    assert all(tensor.dtype == torch.float32 for tensor in half.parameters())
    for stored, exact in zip(half.parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(stored, exact, rtol=2**-11, atol=1e-7)
    numbers = 2 * sum(tensor.numel() for tensor in full.parameters())
    saved = outs["float32"].stat().st_size - outs["float16"].stat().st_size
    assert abs(saved - numbers) < 1024  # headers write other offsets


def test_the_prefix_of_parallel_training_is_taken_off(
    tmp_path: Path, tables: SurfaceTables
) -> None:
    file = tmp_path / "parallel.pth"
    torch.save({f"module.{key}": tensor for key, tensor in fabricate(small()).items()}, file)
    imported = import_weights(file, tmp_path / "out.safetensors", tables=tables)
    assert imported.config == small()


def test_the_older_file_format_is_read(tmp_path: Path) -> None:
    """torch 1.7, the reference's own, may write either."""
    torch.save(fabricate(small()), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "old.pth").keys() == fabricate(small()).keys()


def test_a_whole_checkpoint_of_the_released_width(tmp_path: Path, tables: SurfaceTables) -> None:
    file, out = tmp_path / "AttLWB-SPADE_id_G.pth", tmp_path / "out.safetensors"
    weights = {key: torch.full(shape, 0.5) for key, shape in key_list("attlwb_spade").items()}
    torch.save(weights, file)
    imported = import_weights(file, out, tables=tables, dtype="float16")
    assert imported.config == GeneratorConfig()
    assert imported.parameters == 36_276_992
    assert out.stat().st_size < 2 * imported.parameters + 100_000


# ------------------------------------------------------------------------------------------- refusals


def test_unknown_missing_and_misshapen_keys_are_named(
    tmp_path: Path, tables: SurfaceTables
) -> None:
    weights = fabricate(small())
    weights["src_net.extra.weight"] = torch.zeros(1)
    weights["tsf_img_reg.1.weight"] = torch.zeros(1)
    del weights["res_blocks.1.main.2.bias"]
    weights["tsf_att_reg.0.weight"] = torch.zeros(1, 3, 7, 7)
    said = refusal(weights, tmp_path, tables)
    assert "as attlwb-spade does not fit" in said
    assert "missing: res_blocks.1.main.2.bias" in said
    assert "unknown: src_net.extra.weight, tsf_img_reg.1.weight" in said
    assert "of another shape: tsf_att_reg.0.weight (1, 3, 7, 7) instead of (1, 3, 5, 5)" in said


def test_a_misshapen_layer_is_blamed_itself(tables: SurfaceTables) -> None:
    """Not the ones behind it, which are as they should be."""
    shapes = {key: torch.empty(shape) for key, shape in key_list("attlwb_spade").items()}
    shapes["bg_net.main.0.weight"] = torch.empty(9, 4, 7, 7)
    assert infer_config(shapes, "odd.pth") == GeneratorConfig()


def test_our_own_file_needs_no_import(tmp_path: Path, tables: SurfaceTables) -> None:
    (tmp_path / "ours.safetensors").touch()
    with pytest.raises(CheckpointError, match="needs no import: pass it as --weights"):
        import_weights(tmp_path / "ours.safetensors", tmp_path / "x.safetensors", tables=tables)


@pytest.mark.parametrize(
    "key",
    [
        "bg_net.main.0.weight",
        "bg_net.main.12.main.0.weight",
        "tsf_net_enc.layers.2.0.weight",
        "res_blocks.0.main.0.weight",
        "enc_attlwbs.0.spade.mlp_shared.0.weight",
    ],
)
def test_telling_keys_that_are_missing_are_named(
    key: str, tmp_path: Path, tables: SurfaceTables
) -> None:
    weights = fabricate(small())
    del weights[key]
    assert re.search(f"missing: {re.escape(key)}[.;]", refusal(weights, tmp_path, tables))


@pytest.mark.parametrize("preset", ["attlwb-adain", "addlwb", "texture-warping"])
def test_a_background_network_that_is_missing_is_a_hole(
    preset: str, tmp_path: Path, tables: SurfaceTables
) -> None:
    weights = {k: v for k, v in fabricate(small(preset)).items() if not k.startswith("bg_net.")}
    said = refusal(weights, tmp_path, tables, variant=preset)
    assert f"as {preset} does not fit: missing: bg_net.main.0.weight" in said


def test_a_block_numbered_sky_high_builds_no_giant(tmp_path: Path, tables: SurfaceTables) -> None:
    weights = fabricate(small())
    weights["res_blocks.999999999.main.0.weight"] = torch.zeros(1)
    assert "res_blocks.999999999.main.0.weight" in refusal(weights, tmp_path, tables)


def test_whole_numbers_are_no_weights(tmp_path: Path, tables: SurfaceTables) -> None:
    weights = fabricate(small())
    weights["tsf_att_reg.0.weight"] = weights["tsf_att_reg.0.weight"].int()
    said = refusal(weights, tmp_path, tables)
    assert "of another type: tsf_att_reg.0.weight torch.int32" in said


def test_numbers_that_are_not_finite(tmp_path: Path, tables: SurfaceTables) -> None:
    weights = fabricate(small())
    weights["tsf_att_reg.0.weight"][0, 0, 0, 0] = torch.nan
    said = refusal(weights, tmp_path, tables)
    assert "not finite: tsf_att_reg.0.weight" in said


def test_numbers_too_large_for_float16(tmp_path: Path, tables: SurfaceTables) -> None:
    weights = fabricate(small())
    weights["tsf_att_reg.0.weight"] *= 1e6
    torch.save(weights, tmp_path / "large.pth")
    with pytest.raises(ValueError, match=r"float16: target.mask_head.weight. Store .* as float32"):
        import_weights(
            tmp_path / "large.pth", tmp_path / "o.safetensors", tables=tables, dtype="float16"
        )


def test_a_discriminator_is_no_generator(tmp_path: Path, tables: SurfaceTables) -> None:
    weights = {key: torch.zeros(shape) for key, shape in key_list("dis_patch_global").items()}
    said = refusal(weights, tmp_path, tables)
    assert "holds a discriminator, which only training needs" in said
    assert "_id_G.pth" in said


def test_an_optimiser_is_no_network(tmp_path: Path, tables: SurfaceTables) -> None:
    adam = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}],
    }
    assert "an optimiser's state" in refusal(adam, tmp_path, tables)


def test_other_networks_are_told_what_is_taken(tmp_path: Path, tables: SurfaceTables) -> None:
    said = refusal(torch.nn.Linear(2, 2).state_dict(), tmp_path, tables)
    assert "no rule knows any of its keys (weight, bias)" in said
    assert "AttLWB-SPADE" in said
    assert "impersonator" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        ({}, "holds a dict"),
        ({"epoch": 3, "state_dict": {}}, "epoch (int), state_dict (dict)"),
        ({"module.a": torch.ones(1), "a": torch.ones(1)}, "has keys twice"),
    ],
)
def test_other_contents(
    content: object, message: str, tmp_path: Path, tables: SurfaceTables
) -> None:
    assert message in refusal(content, tmp_path, tables)


class Command:
    """Runs a shell command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_carries_code_is_refused_and_nothing_run(
    tmp_path: Path, tables: SurfaceTables, zipped: bool
) -> None:
    trace = tmp_path / "it-was-run"
    file = tmp_path / "code.pth"
    torch.save(
        {**fabricate(small()), "x": Command(trace)}, file, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match=r"nothing of it was run: it asks for \w+\.system"):
        import_weights(file, tmp_path / "out.safetensors", tables=tables)
    assert not trace.exists()


def test_a_pickled_network_is_refused(tmp_path: Path, tables: SurfaceTables) -> None:
    said = refusal(torch.nn.Linear(2, 2), tmp_path, tables)
    assert "asks for torch.nn.modules.linear.Linear" in said
    assert "save the network's state_dict() alone" in said


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_file_that_is_cut_off(
    small_file: Path, tmp_path: Path, tables: SurfaceTables, kept: float
) -> None:
    data = small_file.read_bytes()
    small_file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(CheckpointError, match=f"{re.escape(str(small_file))} is cut off, or no"):
        import_weights(small_file, tmp_path / "out.safetensors", tables=tables)


def test_a_file_that_is_not_there(tmp_path: Path, tables: SurfaceTables) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.pth to import"):
        import_weights(tmp_path / "nowhere.pth", tmp_path / "out.safetensors", tables=tables)


def test_an_unknown_dtype(small_file: Path, tmp_path: Path, tables: SurfaceTables) -> None:
    with pytest.raises(ValueError, match="Choose one of: float32, float16"):
        import_weights(small_file, tmp_path / "o.safetensors", tables=tables, dtype="int8")


def test_tables_of_the_other_convention(
    small_file: Path, tmp_path: Path, tables: SurfaceTables
) -> None:
    corrected = build_tables("triangle", tables.faces, tables.surface, "corrected")
    with pytest.raises(ValueError, match="trained on condition maps of the 'reference' convention"):
        import_weights(small_file, tmp_path / "out.safetensors", tables=corrected)


# ------------------------------------------------------------------------------------------- discriminators


@pytest.mark.parametrize("name", DISCRIMINATOR_KEYS)
def test_discriminators_are_recognised_at_any_width(name: str, tmp_path: Path) -> None:
    kind = DISCRIMINATOR_KEYS[name]
    config = DiscriminatorConfig(
        layout=kind.layout,
        width=3,
        max_widening=2,
        halvings=3,
        norm=kind.norm,
        channels=5,
        background_channels=kind.background_channels,
        scale_channels=2 if kind.layout == "global-multi-scale" else 6,
    )
    original = build_discriminator(config)
    back = reversed_rules(DISCRIMINATOR_RULES)
    weights = {str(rename(k, back)): v for k, v in original.state_dict().items()}
    torch.save(weights, tmp_path / "net_id_D.pth")
    read = read_discriminator(tmp_path / "net_id_D.pth")
    assert read.config == config
    for key, tensor in original.state_dict().items():
        assert torch.equal(read.state_dict()[key], tensor)


def test_a_generator_is_no_discriminator(small_file: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no discriminator of the reference program"):
        read_discriminator(small_file)


def test_a_discriminator_with_a_hole_is_refused(tmp_path: Path) -> None:
    weights = {key: torch.zeros(shape) for key, shape in key_list("dis_patch_global").items()}
    del weights["global_model.model.5.bias"]
    torch.save(weights, tmp_path / "dis.pth")
    with pytest.raises(CheckpointError, match=r"missing: global_model\.model\.5\.bias"):
        read_discriminator(tmp_path / "dis.pth")


# ------------------------------------------------------------------------------------------- parity

CASES = {
    "attlwb-spade": ["c0", "c1", "c2"],
    "attlwb-front-spade": ["c0", "c1", "c2"],
    "attlwb-adain": ["c0", "c1", "c2"],
    "addlwb": ["c0", "c1"],
    "avglwb": ["c0", "c1"],
    "softgate-addlwb": ["c0", "c1"],
    "softgate-avglwb": ["c0", "c1"],
    "input-concat": ["c0", "c1", "c2"],
    "texture-warping": ["c0", "c1"],
}


@pytest.mark.parity
@pytest.mark.parametrize("preset", PRESETS)
@torch.no_grad()
def test_imported_weights_draw_what_the_reference_draws(
    preset: str, fixtures_folder: Path, tmp_path: Path, tables: SurfaceTables
) -> None:
    """From the .pth file to the picture: every rename lands where it must."""
    name = preset.replace("-", "_")
    with np.load(fixtures_folder / "lwgan" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta_json"}
    weights = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    torch.save(weights, tmp_path / "reference.pth")
    for case in CASES[preset]:
        temporal = f"{case}/Ttt" in arrays
        out = tmp_path / f"{case}.safetensors"
        import_weights(
            tmp_path / "reference.pth", out, tables=tables, variant=preset, temporal=temporal
        )
        target = arrays[f"{case}/tsf_inputs"]
        source = arrays.get(f"{case}/src_inputs", target)  # left out where they are not looked at
        unseen = torch.full((*target.shape[:2], source.shape[1], *target.shape[3:], 2), -2.0)
        inputs = GeneratorInputs(
            background=arrays.get(f"{case}/bg_inputs"),
            source=source,
            target=target,
            flow=arrays.get(f"{case}/Tst", unseen),
            previous_flow=arrays.get(f"{case}/Ttt"),
        )
        drawn = load_checkpoint(out).generator(inputs)
        for ours, theirs in (
            (drawn.background, "bg_img"),
            (drawn.source_image, "src_imgs"),
            (drawn.source_mask, "src_masks"),
            (drawn.target_image, "tsf_imgs"),
            (drawn.target_mask, "tsf_masks"),
        ):
            if f"{case}/out_{theirs}" in arrays:
                wanted = arrays[f"{case}/out_{theirs}"]
                torch.testing.assert_close(ours, wanted, atol=2e-4, rtol=0)
