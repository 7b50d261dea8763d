"""Personalization: exact moves of pictures, what it learns, and that it is done once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iper_toolkit.body import Body, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from iper_toolkit.threads import one_thread
from lwgan import personalization
from lwgan.checkpoints import Checkpoint, Origin, random_checkpoint
from lwgan.generators import GeneratorConfig
from lwgan.people import read_person
from lwgan.person import Person
from lwgan.personalization import (
    PersonClip,
    _People,
    personal_config,
    personal_key,
    personalize,
    personalized,
)
from lwgan.samples import Batches, SampleRules
from lwgan.surface_tables import surface_tables
from lwgan.training_config import LossWeights

SIZE = 64


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Small networks gain nothing of a second thread, and lose much where other tests have the cores."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def person(prepared_root: Path) -> Person:
    return read_person(["001/1/1"], size=SIZE, num_sources=2, root=prepared_root)


@pytest.fixture
def known(body: Body, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Weights that pass for trained ones."""
    monkeypatch.setattr(personalization, "_QUICK", LossWeights(person=1, structure=0.5, mask=0.3))
    config = GeneratorConfig(
        background_network=False, channels=(8, 12, 16), residual_blocks=1, spade_hidden=8
    )
    made = random_checkpoint(config, 0, surface_tables(body, "clothed"))
    return replace(made, origin=Origin("trained", trained_on=("painted",), synthetic=True))


def test_copies_move_the_picture_as_they_move_the_body(person: Person, body: Body) -> None:
    clip = PersonClip(person)
    indices = list(range(person.num_sources, clip.num_frames))
    masks = clip.masks(indices, SIZE) > 127
    params = clip.params(indices)
    vertices = project(body.pose(params).vertices, params.camera).float()
    silhouettes = rasterize(vertices, body.faces, SIZE).covered.numpy()
    for mask, silhouette in zip(masks, silhouettes, strict=True):
        middles = [np.argwhere(one).mean(0) for one in (mask, silhouette)]
        np.testing.assert_allclose(*middles, atol=0.6)  # pixels
    sides = [mask.any(0).sum() for mask in masks]
    assert max(sides) > min(sides)  # nearer and farther


def test_the_pictures_themselves_come_first(person: Person) -> None:
    clip = PersonClip(person)
    np.testing.assert_array_equal(clip.frames([0, 1], SIZE), person.pictures)
    assert torch.equal(clip.params([1]).camera, person.params[[1]].camera)
    with pytest.raises(ValueError, match="64 pixels, not at 32"):
        clip.frames([0], 32)


def test_another_plate_than_the_pictures_own_teaches_no_mask(person: Person, body: Body) -> None:
    assert person.plate is not None
    clips = _People((PersonClip(replace(person, plate=255 - person.plate)),))
    rules = SampleRules(size=SIZE, batch=4, num_sources=(1,), colours=False)
    batch = Batches([clips], rules, body, surface_tables(body, "clothed"))[0]
    far = F.max_pool2d((batch.target_mask[:, 0] < 1).float(), 7, stride=1, padding=3) == 0
    far = far[:, None].expand_as(batch.target)
    assert far.float().mean() > 0.5
    assert torch.equal(batch.target_scene[far], batch.target[far])
    assert not torch.equal(batch.target_scene[~far], batch.target[~far])


@pytest.mark.parametrize("preset", ["quick", "official"])
def test_the_person_is_learned_and_the_given_weights_stay(
    person: Person, body: Body, known: Checkpoint, preset: personalization.Preset
) -> None:
    before = {name: value.clone() for name, value in known.generator.state_dict().items()}
    told: list[str] = []
    steps = 160 if preset == "quick" else 1
    learned = personalize([person], known, body, preset=preset, steps=steps, tell=told.append)
    losses = [float(line.rpartition(" ")[2]) for line in told if "step" in line]
    if preset == "quick":  # of the official form only the losses that are here take part
        assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    after = known.generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = learned.generator.state_dict()
    assert not all(torch.equal(before[name], changed[name]) for name in before)
    assert learned.notes[0].endswith(f"({preset})")
    assert not any(parameter.requires_grad for parameter in learned.generator.parameters())


@pytest.mark.parametrize(("preset", "times"), [("quick", 1), ("thorough", 1), ("official", 2)])
def test_several_people_are_learned_together(
    person: Person, known: Checkpoint, preset: personalization.Preset, times: int
) -> None:
    one, two = (personal_config(known, [person] * count, preset) for count in (1, 2))
    assert two.steps == times * one.steps


def test_what_was_learned_is_kept_by_its_content(
    person: Person, body: Body, known: Checkpoint, tmp_path: Path
) -> None:
    told: list[str] = []

    def learn(someone: Person = person, steps: int = 2) -> Checkpoint:
        return personalized([someone], known, body, steps=steps, cache=tmp_path, tell=told.append)

    first = learn()
    again = learn()
    assert told[-1].startswith("Learned before")
    assert again.sha256 == first.sha256
    assert learn(person.sources([1, 0])).sha256 != first.sha256
    assert learn(steps=3).sha256 != first.sha256
    assert len(list(tmp_path.iterdir())) == 3
    assert first.path is not None
    first.path.write_bytes(b"damaged")
    assert learn().sha256 == first.sha256
    assert "damaged" in " ".join(told)


def test_random_weights_and_unknown_presets_are_refused(
    person: Person, body: Body, known: Checkpoint
) -> None:
    with pytest.raises(ValueError, match="learned nothing"):
        personalize([person], replace(known, origin=Origin("random", seed=0)), body)
    with pytest.raises(ValueError, match="quick, thorough, official"):
        personal_config(known, [person], "slow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one person"):
        personal_config(known, [], "quick")


def test_one_picture_alone_can_be_learned(person: Person, body: Body, known: Checkpoint) -> None:
    config = personal_config(known, [person.sources([0])], "quick")
    assert config.samples.num_sources == (1,)
    personalize([person.sources([0])], known, body, steps=1)


def test_the_precision_is_part_of_what_is_kept(person: Person, known: Checkpoint) -> None:
    keys = {
        personal_key([person], known, personal_config(known, [person], "quick", None, precision))
        for precision in ("float32", "bfloat16")
    }
    assert len(keys) == 2
    assert personal_config(known, [person], "official", None, "bfloat16").precision == "float32"
