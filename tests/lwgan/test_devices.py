"""What a GPU refuses or waits for is found without one: by watching the operators, and with tensors that only say where they are."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from iper_toolkit.body import Body, BodyParams, load_body
from iper_toolkit.body.parts import Surface
from lwgan import silhouettes
from lwgan.checkpoints import Checkpoint, random_checkpoint
from lwgan.composition import compose_sources, compose_targets, merge_people
from lwgan.generators import GeneratorConfig
from lwgan.person import Dressed, Person
from lwgan.surface_tables import Convention, surface_tables
from lwgan.synthesis import Scene, draw_batch, pose_batch, set_scene
from lwgan.tasks import Plan

SIZE = 32
TINY = GeneratorConfig(
    background_channels=(4, 4, 4, 8),
    background_blocks=1,
    channels=(4, 6, 8),
    residual_blocks=1,
    spade_hidden=4,
)
# CUDA has these for floating numbers only: "addmv_impl_cuda" not implemented for 'Long'.
FLOATS_ONLY = {"mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "addbmm", "dot", "linear", "matmul"}
CONVENTIONS: tuple[Convention, ...] = ("reference", "corrected")


class GpuRules(TorchDispatchMode):
    """Refuses products of whole numbers."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in FLOATS_ONLY:
            factors = [value for value in args if isinstance(value, Tensor)]
            if not all(value.is_floating_point() for value in factors):
                raise NotImplementedError(f"{func} of {[value.dtype for value in factors]}")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


def standing(count: int) -> BodyParams:
    """People who face the camera, turning a little from frame to frame."""
    fit = torch.zeros(count, 85)
    fit[:, :3] = torch.tensor([0.8, 0.0, 0.25])
    half = torch.arange(count) * 0.2
    fit[:, 3], fit[:, 5] = torch.pi * half.cos(), -torch.pi * half.sin()
    return BodyParams.from_array("open-body-1", fit)


def somebody(name: str, num_sources: int) -> Person:
    rng = np.random.default_rng(num_sources)
    masks = np.zeros((num_sources, SIZE, SIZE), np.uint8)
    masks[:, 4:28, 10:22] = 255
    return Person(
        name=name,
        pictures=rng.integers(0, 256, (num_sources, SIZE, SIZE, 3), dtype=np.uint8),
        masks=masks,
        params=standing(num_sources),
    )


def weights(body: Body, convention: Convention) -> Checkpoint:
    return random_checkpoint(TINY, 0, surface_tables(body, convention))


def two_people() -> Plan:
    people = Dressed(somebody("ann", 2)), Dressed(somebody("bob", 1), ("upper",))
    return Plan("transfer", people, standing(3), 25.0)


def test_the_rules_are_those_of_a_gpu() -> None:
    whole, half = torch.ones(3, 3, dtype=torch.int64), torch.ones(3, 3)
    with GpuRules():
        assert (half @ half).sum() == 27
        for product in (
            lambda: whole @ whole,
            lambda: whole @ whole[0],
            lambda: whole[None] @ whole[None],
            lambda: torch.inner(whole[0], whole[0]),
        ):
            with pytest.raises(NotImplementedError, match="int64"):
                product()
        with torch.inference_mode(), pytest.raises(NotImplementedError, match="int64"):
            whole @ whole[0]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_setting_a_scene_and_drawing_take_no_product_of_whole_numbers(
    body: Body, convention: Convention
) -> None:
    with GpuRules():
        scene = set_scene(two_people(), weights(body, convention), body)
        with torch.inference_mode():
            frames = draw_batch(scene, pose_batch(scene.body, standing(2)))
    assert frames.picture.shape == (2, SIZE, SIZE, 3)


# Tensors that say where they are and hold nothing: mixing devices raises as on a GPU ---------------


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Any], Any]]:
    """Moves tensors, records of tensors and networks to a GPU that need not be there."""
    with FakeTensorMode():

        def moved(value: Any) -> Any:
            if isinstance(value, torch.nn.Module):
                for module in value.modules():
                    for store in (module._parameters, module._buffers):
                        store.update({key: moved(tensor) for key, tensor in store.items()})
                return value
            if isinstance(value, Tensor):
                return torch.empty_strided(
                    value.shape, value.stride(), dtype=value.dtype, device="cuda:0"
                )
            if isinstance(value, Surface):
                return value  # looks at its values when it is made
            if isinstance(value, tuple):
                return tuple(moved(item) for item in value)
            if is_dataclass(value) and not isinstance(value, type):
                own = {item.name: getattr(value, item.name) for item in fields(value) if item.init}
                return replace(value, **{name: moved(item) for name, item in own.items()})
            return value

        yield moved


def on_gpu(value: Any) -> bool:
    """Every tensor of a record."""
    if isinstance(value, Tensor):
        return value.device.type == "cuda"
    if is_dataclass(value) and not isinstance(value, type):
        return all(on_gpu(getattr(value, item.name)) for item in fields(value))
    return True


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_batch_is_drawn_where_the_scene_is(
    body: Body, convention: Convention, request: pytest.FixtureRequest
) -> None:
    scene = set_scene(two_people(), weights(body, convention), body)
    moved = request.getfixturevalue("elsewhere")
    far = Scene(
        **{
            item.name: getattr(scene, item.name)
            if item.name == "body"
            else moved(getattr(scene, item.name))
            for item in fields(scene)
        }
    )
    vertices = torch.empty(2, len(body.template), 3, device="cuda:0")
    frames = draw_batch(far, vertices)
    assert on_gpu(frames)
    assert frames.picture.shape == (2, SIZE, SIZE, 3)
    seen = compose_targets(far.sources, vertices[None], far.tables, only_visible=True)
    assert on_gpu(seen)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_sources_are_composed_where_their_pictures_are(
    body: Body,
    convention: Convention,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """All but the search for edge pixels, whose shapes follow from what is in the pictures."""

    def unextended(pictures: Tensor, confident: Tensor, *more: object) -> Tensor:
        return torch.where(confident, pictures, 0)

    tables = surface_tables(body, convention)
    moved = request.getfixturevalue("elsewhere")
    monkeypatch.setattr("lwgan.composition.extend_edges", unextended)
    monkeypatch.setattr(torch, "equal", lambda one, other: False)  # asks for values
    tables = moved(tables)
    people = [
        compose_sources(
            torch.empty(1, count, 3, SIZE, SIZE, device="cuda:0"),
            torch.empty(1, count, 1, SIZE, SIZE, device="cuda:0"),
            torch.empty(1, count, len(body.template), 3, device="cuda:0"),
            tables,
        )
        for count in (2, 1)
    ]
    faces = torch.empty(2, tables.num_faces, dtype=torch.bool, device="cuda:0")
    merged = merge_people(people, faces, tables, restrict_flow=True)
    assert on_gpu(people[0])
    assert on_gpu(merged)


def test_edge_pixels_are_looked_for_where_they_are() -> None:
    """The last step of the search, whose shapes are known beforehand."""
    with FakeTensorMode():
        values = torch.empty(7, 9, device="cuda:0")
        for found in (silhouettes._stable_smallest(values, 3), silhouettes._smallest(values, 3)):
            assert all(value.device.type == "cuda" for value in found)
            assert found[1].shape == (7, 3)
