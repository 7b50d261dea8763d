"""From a plan to pictures: sources are encoded once, then frames are drawn batch by batch as they are asked for.

One batch is: pose the body, project it, rasterise it, compose the network's inputs, run the network, lay its picture over
the background. `draw_batch` holds all of that from the projected vertices on, as one pure function of tensors.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.body import Body, BodyParams
from iper_toolkit.images import to_float
from lwgan.checkpoints import Checkpoint, Generator, check_surface
from lwgan.clothing import dressed, thickness_of, worn_by_owners
from lwgan.composition import (
    ComposedSources,
    compose_sources,
    compose_targets,
    merge_people,
)
from lwgan.correspondence import flow_to
from lwgan.generators import GeneratorConfig, SourceFeatures
from lwgan.generators.records import SIZE_MULTIPLE
from lwgan.person import Person
from lwgan.surface_tables import Convention, SurfaceTables, surface_tables
from lwgan.tasks import Plan, owned_faces

Pictures = NDArray[np.uint8]
Background = Literal["auto", "plate", "network"] | Pictures

# Of weights that have learned nothing: no checkpoint depends on the reference's quirks then.
UNTRAINED_CONVENTION: Convention = "corrected"


@dataclass(frozen=True)
class Drawn:
    """One frame."""

    picture: Pictures  # (size, size, 3) RGB
    mask: Pictures  # (size, size), 255 = person, as the network sees it
    texture: Pictures  # (size, size, 3) what the network was shown: the sources' texture on the target body


@dataclass(frozen=True, eq=False)
class Scene:
    """What stays the same from frame to frame: people, encoded, and what is behind them."""

    network: Generator  # for inference, on the device, in the dtype
    tables: SurfaceTables
    sources: ComposedSources
    features: SourceFeatures
    background: Tensor  # (1, 3, size, size) float32 in [-1, 1]
    body: Body  # float64
    dtype: torch.dtype
    thickness: Tensor | None  # (V,) metres of what is worn; None: the naked body is drawn


@dataclass(frozen=True, eq=False)
class Frames:
    """A batch of T drawn frames, on the device."""

    picture: Tensor  # (T, size, size, 3) uint8
    mask: Tensor  # (T, size, size) uint8, 255 = person
    texture: Tensor  # (T, size, size, 3) uint8


@dataclass(frozen=True, eq=False)
class Past:
    """A drawn frame as a further source of the next ones (temporal attention)."""

    features: SourceFeatures
    face_points: Tensor  # (1, 1, F, 3, 2) where its body was


def synthesize(
    plan: Plan,
    checkpoint: Checkpoint,
    body: Body,
    *,
    size: int | None = None,
    batch: int = 8,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    background: Background = "auto",
    folded: bool = True,
    compile: bool = False,
    temporal: int = 0,
) -> Iterator[Drawn]:
    """Draw the frames of a plan, in order, as the caller pulls them.

    Everything is checked, and the sources are encoded, before this returns. Memory does not grow with the plan.

    Args:
        plan: of `lwgan.tasks`; its people's pictures are of the size to draw.
        checkpoint: weights, made for this body's condition maps.
        body: poses the plan.
        size: side of the pictures, a multiple of 8; None is the people's.
        batch: frames drawn at once. The pictures do not depend on it, rounding by one grey level apart.
        device, dtype: where and in what the network runs; flows, texture, background and composite stay float32,
            poses float64.
        background: ``plate`` of the primary, what the ``network`` makes of its first source, a picture (size,
            size, 3), or ``auto``: the plate where there is one, else the network. Deviation: the reference takes
            the network's unless it is told to take a picture or an inpainted plate.
        folded: use the exact algebraic savings; False runs the network as it was trained, for comparison.
        compile: through torch.compile; the last batch is then filled up, so that shapes stay. Not with `temporal`,
            where the number of previous frames changes.
        temporal: previous frames that are attended to; frames are then drawn one at a time, whatever `batch` is.

    Raises:
        SurfaceMismatch: the weights belong to another body. BodyMismatch: so do the fits. ValueError: see the message.
    """
    _check_size(plan, size)
    check_drawing(checkpoint.config, batch, compile, temporal)
    scene = set_scene(
        plan,
        checkpoint,
        body,
        device=device,
        dtype=dtype,
        background=background,
        folded=folded,
    )
    return draw_frames(scene, plan.params, batch=batch, compile=compile, temporal=temporal)


def set_scene(
    plan: Plan,
    checkpoint: Checkpoint,
    body: Body,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    background: Background = "auto",
    folded: bool = True,
) -> Scene:
    """Compose and encode the people of a plan, for all motions of theirs. Arguments as in `synthesize`."""
    device = torch.device(device)
    _check_size(plan, None)
    tables = surface_tables(body, checkpoint.surface.convention)
    check_surface(checkpoint, tables)
    behind = _choose_background(plan.primary, background, checkpoint.config)
    tables, body = tables.to(device), body.to(device, torch.float64)
    network = checkpoint.generator.for_inference(folded).to(device)
    with torch.inference_mode():
        sources, thickness = _compose_people(plan, body, tables)
        if (
            behind is None
        ):  # in float32 whatever dtype is: once, and coarse steps would show in smooth walls
            scenery = network.draw_background(sources.background_inputs)[:, 0].float()
        else:
            scenery = torch.from_numpy(to_float(behind)[None]).to(device)
    network = network.to(dtype)
    with torch.inference_mode():
        features = network.encode_sources(sources.source_inputs.to(dtype))
    return Scene(network, tables, sources, features, scenery, body, dtype, thickness)


def draw_frames(
    scene: Scene, params: BodyParams, *, batch: int = 8, compile: bool = False, temporal: int = 0
) -> Iterator[Drawn]:
    """The people of a scene in any poses: for those who draw the same people more than once.

    Args:
        params: of the scene's body, cameras in NDC of its square pictures. The others as in `synthesize`.
    """
    check_drawing(scene.network.config, batch, compile, temporal)
    if temporal:
        return _draw_in_turn(scene, params, temporal)
    step = torch.compile(draw_batch) if compile else draw_batch
    return _draw_in_batches(step, scene, params, batch, fill=compile)


def pose_batch(body: Body, params: BodyParams, thickness: Tensor | None = None) -> Tensor:
    """(T, V, 3) float32: the posed body in NDC and depth, rounded from float64; inflated by `thickness`.

    Products in float32 change in their last bit with threads and batches, and a pixel here and there with them.
    """
    return dressed(body, params, thickness)


def draw_batch(scene: Scene, vertices: Tensor) -> Frames:
    """Rasterise, compose, run the network and lay its picture over the background: pure, on the scene's device.

    Args:
        vertices: (T, V, 3) float32 from `pose_batch`.
    """
    targets = compose_targets(scene.sources, vertices[None], scene.tables)
    colour, background_mask = scene.network.draw_target(
        targets.inputs.to(scene.dtype), scene.features, targets.flow
    )
    picture = _lay_over(scene.background, colour, background_mask)
    return _as_frames(picture, background_mask, targets.inputs)


def draw_next(scene: Scene, vertices: Tensor, past: Sequence[Past]) -> tuple[Frames, Past]:
    """`draw_batch` of one frame that attends to those before it, and what the next ones need of it.

    As in the reference's program, a past frame is the composited picture and its condition map. (Its training code
    has the person alone, and the texture's colours in place of the condition map.)

    Args:
        vertices: (1, V, 3). past: newest last; may be empty.
    """
    targets = compose_targets(scene.sources, vertices[None], scene.tables)
    flows = [flow_to(targets.fragments, frame.face_points) for frame in past]
    colour, background_mask = scene.network.draw_target(
        targets.inputs.to(scene.dtype),
        scene.features,
        targets.flow,
        past[0].features.concatenated([frame.features for frame in past[1:]]) if past else None,
        torch.stack(flows, dim=2) if past else None,
    )
    picture = _lay_over(scene.background, colour, background_mask)
    seen = torch.cat([picture, targets.inputs[:, :, 3:]], dim=2)
    features = scene.network.encode_sources(seen.to(scene.dtype))
    return _as_frames(picture, background_mask, targets.inputs), Past(features, targets.face_points)


def _draw_in_batches(
    step: Callable[[Scene, Tensor], Frames],
    scene: Scene,
    params: BodyParams,
    batch: int,
    fill: bool,
) -> Iterator[Drawn]:
    for first in range(0, len(params), batch):
        wanted = params[slice(first, first + batch)]
        count = len(wanted)
        if fill:  # the last frame again, so that a compiled step sees one shape only
            wanted = wanted[[*range(count), *[count - 1] * (batch - count)]]
        with torch.inference_mode():
            frames = step(scene, pose_batch(scene.body, wanted, scene.thickness))
        yield from _to_host(frames, count)


def _draw_in_turn(scene: Scene, params: BodyParams, num_previous: int) -> Iterator[Drawn]:
    past: deque[Past] = deque(maxlen=num_previous)
    for frame in range(len(params)):
        with torch.inference_mode():
            vertices = pose_batch(scene.body, params[[frame]], scene.thickness)
            frames, now = draw_next(scene, vertices, list(past))
        past.append(now)
        yield from _to_host(frames, 1)


def _compose_people(
    plan: Plan, body: Body, tables: SurfaceTables
) -> tuple[ComposedSources, Tensor | None]:
    """All sources of all people, ready to be drawn from: (1, S, ...); and what is worn, if that counts."""
    device = body.template.device
    people = [wearer.person for wearer in plan.people]
    worn: list[Tensor | None] = [None] * len(people)
    if tables.convention == "clothed":
        worn = [thickness_of(body, person.params, person.masks).to(device) for person in people]
    composed = [
        compose_sources(
            torch.from_numpy(to_float(person.pictures)[None]).to(device),
            1 - torch.from_numpy(person.masks[None, :, None]).to(device) / 255,
            pose_batch(body, person.params, thickness)[None],
            tables,
        )
        for person, thickness in zip(people, worn, strict=True)
    ]
    means = [thickness.mean(0) for thickness in worn if thickness is not None]
    if len(composed) == 1:
        return composed[0], means[0] if means else None
    owned = owned_faces(plan.people, tables.surface).to(device)
    merged = merge_people(composed, owned, tables, restrict_flow=plan.select == "flow")
    return merged, worn_by_owners(means, owned, tables.faces) if means else None


def background_kind(
    person: Person, choice: Literal["auto", "plate", "network"]
) -> Literal["plate", "network"]:
    """What ``auto`` means for a person."""
    if choice == "auto":
        return "network" if person.plate is None else "plate"
    return choice


def _choose_background(
    person: Person, choice: Background, config: GeneratorConfig
) -> Pictures | None:
    """The picture that is behind the people; None: the network draws it."""
    if not isinstance(choice, str):
        if choice.dtype != np.uint8 or choice.shape != person.pictures.shape[1:]:
            raise ValueError(
                f"The background is {choice.dtype} {choice.shape}; as the people's pictures, it must "
                f"be uint8 {person.pictures.shape[1:]}."
            )
        return choice
    if choice not in ("auto", "plate", "network"):
        raise ValueError(
            f"Unknown background {choice!r}. Choose one of: auto, plate, network; or pass a picture."
        )
    if background_kind(person, choice) == "plate" and person.plate is not None:
        return person.plate
    if choice == "plate":
        raise ValueError(
            f"{person.name} has no plate (the scene without the person). Let the 'network' draw the "
            "background, or pass a picture."
        )
    if not config.background_network:
        raise ValueError(
            "These weights have no background network, and no other background was given: pass a "
            "picture, or a person with a plate."
        )
    return None


def _check_size(plan: Plan, size: int | None) -> None:
    own = plan.primary.size
    wanted = own if size is None else size
    if wanted < SIZE_MULTIPLE or wanted % SIZE_MULTIPLE:
        below = max(SIZE_MULTIPLE, wanted // SIZE_MULTIPLE * SIZE_MULTIPLE)
        near = [below] if wanted < SIZE_MULTIPLE else [below, below + SIZE_MULTIPLE]
        raise ValueError(
            f"size is {wanted}; networks halve it three times, so it must be a multiple of "
            f"{SIZE_MULTIPLE}. Nearest: {' or '.join(map(str, near))}."
        )
    if wanted != own:
        raise ValueError(
            f"size is {wanted}, but the people's pictures are {own} x {own}; read them at {wanted}."
        )


def check_drawing(config: GeneratorConfig, batch: int, compile: bool, temporal: int) -> None:
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least one frame is drawn at a time.")
    if temporal < 0:
        raise ValueError(f"temporal is {temporal}; it takes a number of previous frames, or 0.")
    if temporal and not config.attends:
        raise ValueError(
            f"temporal is {temporal}, but {config.fusion!r} cannot attend to previous "
            "frames; leave it at 0, or take weights with attention."
        )
    if temporal and compile:
        raise ValueError(
            "Frames that attend to previous ones are not compiled: their number changes. Leave out compile, or temporal."
        )


def _lay_over(background: Tensor, colour: Tensor, background_mask: Tensor) -> Tensor:
    """``M bg + (1 - M) colour``: (1, T, 3, H, W) float32."""
    share = background_mask.float()
    return share * background[:, None] + (1 - share) * colour.float()


def _as_frames(picture: Tensor, background_mask: Tensor, inputs: Tensor) -> Frames:
    return Frames(
        picture=_to_bytes(picture[0]).permute(0, 2, 3, 1),
        mask=_to_bytes(1 - 2 * background_mask[0, :, 0].float()),
        texture=_to_bytes(inputs[0, :, :3]).permute(0, 2, 3, 1),
    )


def _to_bytes(values: Tensor) -> Tensor:
    """[-1, 1] -> uint8 0 .. 255, rounded. Deviation: the reference truncates, half a grey level darker."""
    return ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _to_host(frames: Frames, count: int) -> Iterator[Drawn]:
    picture, mask, texture = (
        values[:count].contiguous().cpu().numpy()
        for values in (frames.picture, frames.mask, frames.texture)
    )
    return (Drawn(*frame) for frame in zip(picture, mask, texture, strict=True))
