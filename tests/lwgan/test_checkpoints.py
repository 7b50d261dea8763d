"""Weights at rest: what is kept, what is found, what is refused."""

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from iper_toolkit.body.parts import Surface
from lwgan.checkpoints import (
    Checkpoint,
    CheckpointError,
    Generator,
    Origin,
    SurfaceMismatch,
    blueprint,
    check_surface,
    describe,
    load_checkpoint,
    random_checkpoint,
    save_checkpoint,
    variant_of,
)
from lwgan.generators import PRESETS, GeneratorConfig, build_generator
from lwgan.surface_tables import SurfaceTables, build_tables

SMALL = GeneratorConfig(
    background_channels=(2, 3, 4, 5),
    background_blocks=1,
    channels=(3, 4, 5),
    residual_blocks=2,
    spade_hidden=7,
)
TRAINED = Origin("trained", trained_on=("iPER", "MotionSynthetic"), synthetic=True)


def triangle(
    body_id: str = "triangle", convention: str = "reference", u: float = 1
) -> SurfaceTables:
    """Tables of a body of one triangle, which reaches as far as `u` in its texture."""
    faces = torch.tensor([[0, 1, 2]])
    none = torch.empty(0, dtype=torch.int64)
    surface = Surface(
        part=torch.zeros(1, dtype=torch.int64),
        facial_large=none,
        facial_small=none,
        front_body=none,
        uv=torch.tensor([[0.0, 0.0], [u, 0.0], [0.0, 1.0]]),
        uv_faces=faces,
    )
    return build_tables(body_id, faces, surface, convention)  # type: ignore[arg-type]


@pytest.fixture
def tables() -> SurfaceTables:
    return triangle()


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(3)
    return build_generator(SMALL)


@pytest.fixture
def file(tmp_path: Path, generator: Generator, tables: SurfaceTables) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, generator, surface=tables.id, origin=TRAINED)
    return path


def rewrite(file: Path, **changes: Any) -> None:
    """Change what a file says of itself; None takes an entry away."""
    with safe_open(file, framework="pt") as opened:
        weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        description = json.loads(opened.metadata()["lwgan"])
    description |= changes
    kept = {key: value for key, value in description.items() if value is not None}
    save_file(weights, file, {"lwgan": json.dumps(kept)})


# ------------------------------------------------------------------------------------------- there and back


def test_what_is_loaded_is_what_was_saved(
    file: Path, generator: Generator, tables: SurfaceTables
) -> None:
    checkpoint = load_checkpoint(file)
    assert checkpoint.config == SMALL
    assert checkpoint.surface == tables.id
    assert checkpoint.origin == TRAINED
    assert checkpoint.path == file
    assert not checkpoint.random
    assert not checkpoint.generator.training
    loaded = checkpoint.generator.state_dict()
    for key, tensor in generator.state_dict().items():
        assert torch.equal(loaded[key], tensor)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_variant_survives(preset: str, tmp_path: Path, tables: SurfaceTables) -> None:
    config = dataclasses.replace(PRESETS[preset], channels=(3, 4, 5), residual_blocks=1)
    if config.background_network:
        config = dataclasses.replace(config, background_channels=(2, 3, 4, 5))
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, build_generator(config), surface=tables.id, origin=TRAINED)
    assert load_checkpoint(path).config == config
    assert variant_of(config) == preset


def test_loaded_weights_can_be_trained_further(file: Path) -> None:
    parameters = list(load_checkpoint(file).generator.parameters())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in parameters)


def test_loaded_weights_do_not_change_with_the_file(file: Path) -> None:
    checkpoint = load_checkpoint(file)
    before = {key: tensor.clone() for key, tensor in checkpoint.generator.state_dict().items()}
    file.write_bytes(b"\0" * file.stat().st_size)
    after = checkpoint.generator.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_equal_weights_are_equal_files(
    file: Path, tmp_path: Path, generator: Generator, tables: SurfaceTables
) -> None:
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, generator, surface=tables.id, origin=TRAINED)
    assert again.read_bytes() == file.read_bytes()
    assert load_checkpoint(again).sha256 == load_checkpoint(file).sha256


def test_whoever_may_read_other_files_may_read_weights(file: Path) -> None:
    other = file.with_name("other")
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode


def test_float16_is_loaded_as_float32(
    tmp_path: Path, generator: Generator, tables: SurfaceTables
) -> None:
    path = tmp_path / "half.safetensors"
    save_checkpoint(path, generator, surface=tables.id, origin=TRAINED, dtype=torch.float16)
    loaded = load_checkpoint(path).generator.state_dict()
    for key, tensor in generator.state_dict().items():
        assert loaded[key].dtype == torch.float32
        assert torch.equal(loaded[key], tensor.half().float())


def test_loading_and_random_weights_leave_the_random_numbers_alone(
    file: Path, tables: SurfaceTables
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = torch.get_rng_state(), np.random.randint(99), random.getstate()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    load_checkpoint(file)
    random_checkpoint(SMALL, 1, tables)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.randint(99) == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


def test_a_failed_save_leaves_the_file_that_was_there(
    file: Path, generator: Generator, tables: SurfaceTables
) -> None:
    before = file.read_bytes()
    with torch.no_grad():
        next(generator.parameters())[0] = torch.inf
    with pytest.raises(ValueError, match=r"not finite: background\.layers\.0\.weight"):
        save_checkpoint(file, generator, surface=tables.id, origin=TRAINED)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


# ------------------------------------------------------------------------------------------- random weights


def test_random_weights_are_marked(tables: SurfaceTables) -> None:
    checkpoint = random_checkpoint(SMALL, 7, tables)
    assert checkpoint.random
    assert checkpoint.path is None
    assert checkpoint.name == "random:7"
    assert checkpoint.notes == ("random weights (seed 7): nothing was learned",)
    assert checkpoint.surface == tables.id


def test_random_weights_depend_on_the_seed_alone(tables: SurfaceTables) -> None:
    first = random_checkpoint(SMALL, 7, tables)
    torch.rand(100)
    second, other = random_checkpoint(SMALL, 7, tables), random_checkpoint(SMALL, 8, tables)
    assert first.sha256 == second.sha256
    assert first.sha256 != other.sha256
    weights = second.generator.state_dict()
    for key, tensor in first.generator.state_dict().items():
        assert torch.equal(weights[key], tensor)


def test_random_weights_take_the_surface_of_the_tables() -> None:
    corrected = triangle(convention="corrected")
    checkpoint = random_checkpoint(SMALL, 0, corrected)
    assert checkpoint.surface == corrected.id
    assert checkpoint.config == SMALL


def test_random_weights_are_made_by_the_name_of_a_preset(tables: SurfaceTables) -> None:
    assert random_checkpoint("addlwb", 0, tables).config == PRESETS["addlwb"]
    with pytest.raises(ValueError, match="Unknown generator 'lwb'"):
        random_checkpoint("lwb", 0, tables)


def test_random_weights_stay_marked_when_saved(tmp_path: Path, tables: SurfaceTables) -> None:
    checkpoint = random_checkpoint(SMALL, 7, tables)
    path = tmp_path / "random.safetensors"
    save_checkpoint(
        path, checkpoint.generator, surface=checkpoint.surface, origin=checkpoint.origin
    )
    assert load_checkpoint(path).random
    assert load_checkpoint(path).notes == checkpoint.notes


# ------------------------------------------------------------------------------------------- folders of runs


def test_a_finished_run_gives_its_weights(file: Path) -> None:
    final = file.with_name("weights.safetensors")
    file.with_name("x9999999.safetensors").write_bytes(b"of a later name")
    file.rename(final)
    assert load_checkpoint(final.parent).path == final


def test_an_unfinished_run_gives_its_last_weights(file: Path) -> None:
    last = file.with_name("0002000.safetensors")
    file.rename(last)
    file.with_name("0001000.safetensors").write_bytes(b"earlier")
    file.with_name(".part-host~1~0003000.safetensors").write_bytes(b"half written")
    assert load_checkpoint(last.parent).path == last


def test_a_folder_of_unrelated_weights(file: Path) -> None:
    """Whichever was taken would be a guess; a single one is none."""
    last = file.with_name("late.safetensors")
    file.rename(last)
    assert load_checkpoint(last.parent).path == last
    last.with_name("front.safetensors").write_bytes(b"others")
    with pytest.raises(
        ValueError, match=r"several.*front\.safetensors, late\.safetensors.*Name one"
    ):
        load_checkpoint(last.parent)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no \.safetensors file"):
        load_checkpoint(tmp_path)


# ------------------------------------------------------------------------------------------- refusals


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights .* `lwgan import-weights`"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 500, -1])
def test_a_file_that_is_cut_off(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"{re.escape(str(file))} is cut off or no"):
        load_checkpoint(file)


def test_a_flipped_bit_is_never_read_as_another_number(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="its numbers are not those that were saved"):
        load_checkpoint(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_pytorch_is_to_be_imported(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"lwgan import-weights .* --out net\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_of_others(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata)
    with pytest.raises(CheckpointError, match="does not say that they are lwgan's weights"):
        load_checkpoint(path)


def test_another_format(file: Path) -> None:
    rewrite(file, format="lwgan-generator-2")
    with pytest.raises(
        CheckpointError, match=r"of format 'lwgan-generator-2'; .* reads 'lwgan-gen"
    ):
        load_checkpoint(file)


@pytest.mark.parametrize("text", ["{", "[]", '"a"'])
def test_a_damaged_header(file: Path, text: str) -> None:
    save_file({"a": torch.ones(1)}, file, {"lwgan": text})
    with pytest.raises(CheckpointError, match=r"damaged header|of format"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "config"),
        ({"checksum": None}, "checksum"),
        ({"config": {"fusion": "magic"}}, "Unknown fusion 'magic'"),
        ({"config": {"depth": 3}}, "Unknown generator settings depth"),
        ({"config": "attlwb"}, "describe"),
        ({"surface": {"body_id": "x"}}, "digest"),
        ({"surface": triangle().id._replace(convention="own")._asdict()}, "'own' is unknown"),
        ({"origin": {"how": "found"}}, "an origin of 'found' is unknown"),
        ({"origin": {"how": "trained", "mood": 1}}, "mood"),
    ],
)
def test_descriptions_that_make_no_sense(file: Path, changes: dict, message: str) -> None:
    rewrite(file, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(file)


def test_weights_of_another_variant_than_they_say(file: Path) -> None:
    config = dataclasses.asdict(dataclasses.replace(SMALL, fusion="attention-adain"))
    rewrite(file, config=config)
    with pytest.raises(
        CheckpointError,
        match=r"says that it is attlwb-adain, .* unknown: fusion\.encoder\.0\.spade",
    ):
        load_checkpoint(file)


def test_weights_of_another_width_than_they_say(file: Path) -> None:
    rewrite(file, config=dataclasses.asdict(dataclasses.replace(SMALL, channels=(3, 4, 6))))
    with pytest.raises(CheckpointError, match=r"of another shape: .* and \d+ more\. Get it again"):
        load_checkpoint(file)


def test_only_plain_generators_are_saved(
    tmp_path: Path, generator: Generator, tables: SurfaceTables
) -> None:
    generator.extra = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"unknown: extra\.weight, extra\.bias"):
        save_checkpoint(tmp_path / "w.safetensors", generator, surface=tables.id, origin=TRAINED)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("w.pth", {}, r"written to a \.safetensors file"),
        ("w.safetensors", {"dtype": torch.int8}, "stored as float32 or float16, not as torch.int8"),
        ("w.safetensors", {"surface": triangle().id._replace(convention="own")}, "or corrected"),
    ],
)
def test_what_cannot_be_saved(
    name: str,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    generator: Generator,
    tables: SurfaceTables,
) -> None:
    with pytest.raises(ValueError, match=message):
        save_checkpoint(
            tmp_path / name, generator, **{"surface": tables.id, "origin": TRAINED, **options}
        )
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- surfaces


def test_bodies_of_equal_surface_may_be_drawn(file: Path) -> None:
    check_surface(load_checkpoint(file), triangle(body_id="her sister"))


def test_another_body_is_refused_by_name(file: Path) -> None:
    with pytest.raises(
        SurfaceMismatch, match=r"surface of body 'triangle' .* but 'giant' .*nonsense"
    ):
        check_surface(load_checkpoint(file), triangle(body_id="giant", u=0.5))


def test_another_convention_says_how_to_make_the_tables(file: Path) -> None:
    with pytest.raises(SurfaceMismatch, match=r"surface_tables\(body, 'reference'\)"):
        check_surface(load_checkpoint(file), triangle(convention="corrected"))


# ------------------------------------------------------------------------------------------- descriptions


def test_a_description_is_plain_and_complete(file: Path, tables: SurfaceTables) -> None:
    checkpoint = load_checkpoint(file)
    facts = json.loads(json.dumps(describe(checkpoint)))
    assert facts["variant"] == "attlwb-spade"
    assert facts["parameters"] == sum(tensor.numel() for tensor in blueprint(SMALL).values())
    assert facts["body"] == "triangle"
    assert facts["surface"] == tables.digest
    assert facts["sha256"] == checkpoint.sha256
    assert facts["origin"] == "trained"
    assert facts["notes"] == [
        "trained on iPER, MotionSynthetic",
        "trained on synthetic people only",
    ]


def test_a_kind_without_a_name_is_described() -> None:
    config = GeneratorConfig(fusion="add", background_network=False)
    assert variant_of(config) == "add without background"


def test_the_digest_is_that_of_the_file(file: Path) -> None:
    import hashlib

    checkpoint: Checkpoint = load_checkpoint(file)
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    value: float, tmp_path: Path, toy_tables: SurfaceTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lwgan import checkpoints

    made = random_checkpoint("addlwb", 0, toy_tables)
    with torch.no_grad():
        next(made.generator.parameters()).flatten()[0] = value
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_check_finite", lambda *weights: None)
        save_checkpoint(
            tmp_path / "w.safetensors", made.generator, surface=made.surface, origin=made.origin
        )
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["residual_blocks", "background_blocks", "spade_hidden"])
def test_no_network_of_a_billion_is_begun(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 1000000000; it takes at most"):
        GeneratorConfig(**{name: 10**9})
