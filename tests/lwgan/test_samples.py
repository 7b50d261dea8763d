"""Batches: functions of seed and number, whose parts belong together."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iper_toolkit.body import Body, BodyMismatch, load_body
from iper_toolkit.clip import Dataset
from iper_toolkit.images import to_float
from lwgan.clothing import dressed, thickness_of
from lwgan.composition import compose_sources, compose_targets
from lwgan.packs import Packs, pack_dataset
from lwgan.samples import (
    Batches,
    SampleRules,
    behind_people,
    choose_sources,
    choose_targets,
)
from lwgan.surface_tables import Convention, SurfaceTables, surface_tables

SIZE = 48
RULES = SampleRules(size=SIZE, batch=2, num_sources=(2,), colours=False, seed=3)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def tables(body: Body) -> SurfaceTables:
    return surface_tables(body, "clothed")


@pytest.fixture(scope="module")
def packed(prepared_root: Path) -> Packs:
    return pack_dataset(Dataset.open(prepared_root), SIZE, split="train")


def equal(one: Any, other: Any) -> bool:
    names = [field.name for field in fields(one) if field.name != "inputs"]
    same = all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
    inputs = ("source", "target", "flow")
    return same and all(
        torch.equal(getattr(one.inputs, n), getattr(other.inputs, n)) for n in inputs
    )


def test_a_batch_depends_on_seed_and_number_alone(
    packed: Packs, body: Body, tables: SurfaceTables, tmp_path: Path
) -> None:
    rules = replace(RULES, colours=True, window=0.7, whole=0.0)
    one = Batches([packed], rules, body, tables)
    kept = Batches([packed], rules, body, tables, cache=tmp_path)
    wanted = [one[number] for number in range(3)]
    for number in (2, 0, 1, 2):  # in any order, and from what was kept
        assert equal(kept[number], wanted[number])
    assert any(tmp_path.rglob("*.bin"))
    other = Batches([packed], replace(rules, seed=4), body, tables)
    assert not equal(other[0], wanted[0])


def test_damaged_leftovers_are_made_again(
    packed: Packs, body: Body, tables: SurfaceTables, tmp_path: Path
) -> None:
    batches = Batches([packed], RULES, body, tables, cache=tmp_path)
    wanted = batches[0]
    for path in tmp_path.rglob("*.bin"):
        path.write_bytes(b"damaged")
    assert equal(batches[0], wanted)


def test_processes_have_batches_of_their_own(
    packed: Packs, body: Body, tables: SurfaceTables
) -> None:
    first, second = (
        Batches([packed], RULES, body, tables, rank=rank, world=2)[0] for rank in (0, 1)
    )
    assert not torch.equal(first.target, second.target)


def test_every_clip_is_drawn_in_an_epoch(packed: Packs, body: Body, tables: SurfaceTables) -> None:
    batches = Batches([packed], replace(RULES, batch=1), body, tables)
    clips = [batches._clip_at(position).id for position in range(2 * batches.num_clips)]
    for epoch in (clips[: batches.num_clips], clips[batches.num_clips :]):
        assert sorted(epoch) == sorted(packed.clip_ids)


@pytest.mark.parametrize("convention", ["reference", "corrected", "clothed"])
def test_inputs_are_those_of_drawing(packed: Packs, body: Body, convention: Convention) -> None:
    """What training shows is what `compose_sources` and `compose_targets` make, up to half precision."""
    tables = surface_tables(body, convention)
    batches = Batches([packed], replace(RULES, batch=1), body, tables)
    batch = batches[0]
    clip = batches._clip_at(0)
    random = np.random.default_rng((RULES.seed, 2, 0, 0))
    sources = choose_sources(clip, 2, "all-sides", random)
    targets = choose_targets(clip, 1, sources, random)
    params = clip.params([*sources, *targets])
    worn = None
    if convention == "clothed":
        own = thickness_of(body, params[[0, 1]], clip.masks(sources, SIZE)).half().float()
        worn = torch.cat([own, own.mean(0, keepdim=True)])
    vertices = dressed(body, params, worn)[None]
    pictures = torch.from_numpy(to_float(clip.frames(sources, SIZE)))[None]
    masks = 1 - torch.from_numpy(clip.masks(sources, SIZE)[None, :, None]).float() / 255
    composed = compose_sources(pictures, masks, vertices[:, :2], tables, batches._settings)
    drawn = compose_targets(composed, vertices[:, 2:], tables)
    torch.testing.assert_close(batch.inputs.source, composed.source_inputs, atol=1e-3, rtol=0)
    torch.testing.assert_close(batch.inputs.target, drawn.inputs, atol=2e-3, rtol=0)
    torch.testing.assert_close(batch.inputs.flow, drawn.flow)


def test_a_window_shows_the_same_through_flows(
    packed: Packs, body: Body, tables: SurfaceTables
) -> None:
    rules = replace(RULES, window=0.67, whole=0.0)
    batch = Batches([packed], rules, body, tables)[1]
    whole = Batches([packed], RULES, body, tables)[1]
    assert batch.target.shape[-1] == 32 < whole.target.shape[-1] == SIZE
    assert batch.source.shape[-1] == batch.inputs.flow.shape[-2] == 32
    # What a target's pixel finds in a source is the same, wherever the windows lie.
    for one, other in ((batch, whole),):
        columns = [
            next(
                start
                for start in range(SIZE - 31)
                if torch.equal(other.target[k, 0, ..., start : start + 32], one.target[k, 0])
            )
            for k in range(2)
        ]
        for k, start in enumerate(columns):
            seen = F.grid_sample(one.source[k, :1], one.inputs.flow[k, 0, :1], align_corners=False)
            wanted = F.grid_sample(
                other.source[k, :1],
                other.inputs.flow[k, 0, :1, :, start : start + 32],
                align_corners=False,
            )
            inside = (one.inputs.flow[k, 0, 0].abs() < 0.9).all(-1)
            assert inside.any()
            torch.testing.assert_close(seen[0][:, inside], wanted[0][:, inside], atol=1e-4, rtol=0)


def test_colours_change_alike_in_a_whole_clip(
    packed: Packs, body: Body, tables: SurfaceTables
) -> None:
    plain = Batches([packed], RULES, body, tables)[0]
    # The first clip's frames are the same: its colours are drawn behind them.
    changed = Batches([packed], replace(RULES, colours=True), body, tables)[0]
    assert torch.equal(plain.target_mask[0], changed.target_mask[0])
    nothing = (plain.inputs.source[0, :, :3] == 0).all(1)
    assert nothing.any()
    assert (changed.inputs.source[0, :, :3].abs().amax(1)[nothing] == 0).all()
    assert not torch.equal(plain.target[0], changed.target[0])


def test_a_background_network_gets_a_further_scene(
    packed: Packs, body: Body, tables: SurfaceTables
) -> None:
    rules = replace(RULES, extra_background=True, sources="front", hide_sources=False)
    batch = Batches([packed], rules, body, tables)[0]
    assert batch.inputs.background is not None
    assert batch.inputs.background.shape[1] == 2
    known = batch.hole
    shown = batch.inputs.background[:, -1, :3]
    torch.testing.assert_close(shown, batch.real_background * known)


class Frames:
    """A clip's lists of frames."""

    id, num_frames = "c", 6
    valid = np.array([True, True, False, True, True, True])
    front_frames, back_frames = (2, 3, 0), (5, 4)


def test_behind_people_is_their_own_picture_and_the_scene_where_they_hide_it() -> None:
    pictures, scene = torch.rand(2, 3, 3, 20, 20), torch.rand(2, 3, 20, 20)
    masks = torch.ones(2, 3, 1, 20, 20)
    masks[1, 2, 0, 8:12, 8:12] = 0
    masks[1, 2, 0, 8, 8] = 0.9  # a soft edge is still the person's
    behind = behind_people(pictures, masks, scene)
    assert torch.equal(behind[0], pictures[0])
    hidden = torch.zeros(20, 20, dtype=torch.bool)
    hidden[6:14, 6:14] = True
    assert torch.equal(behind[1, 2][:, hidden], scene[1][:, hidden])
    assert torch.equal(behind[1, 2][:, ~hidden], pictures[1, 2][:, ~hidden])


def test_sources_are_valid_and_distinct() -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        chosen = choose_sources(Frames(), 3, "all-sides", random)  # type: ignore[arg-type]
        assert chosen[0] in (0, 3)
        assert len(set(chosen)) == 3
        assert 2 not in chosen
        front = choose_sources(Frames(), 2, "front", random)  # type: ignore[arg-type]
        assert front[0] == 3
        assert set(front) <= {0, 3}


def test_targets_are_not_sources_unless_there_is_nothing_else() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        assert set(choose_targets(Frames(), 2, [0, 3], random)) <= {1, 4, 5}  # type: ignore[arg-type]
    assert choose_targets(Frames(), 5, [0], random) == [0, 1, 3, 4, 5]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"batch": 0}, "batch"), ({"size": 50}, "multiple"), ({"window": 0.0}, "window"), ({"num_sources": ()}, "num_sources")],
)  # fmt: skip
def test_impossible_rules_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SampleRules(**wrong)


def test_nothing_to_train_on_and_another_body(
    packed: Packs, body: Body, tables: SurfaceTables
) -> None:
    with pytest.raises(ValueError, match="not one clip"):
        Batches([replace(packed, clip_ids=())], RULES, body, tables)
    with pytest.raises(BodyMismatch, match="other"):
        Batches([packed], RULES, replace(body, id="other"), tables)[0]
