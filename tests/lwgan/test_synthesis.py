"""Pictures out of plans: what must hold whatever the weights are."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.body import Body, BodyMismatch, BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import interpolate, rasterize
from lwgan import synthesis
from lwgan.checkpoints import Checkpoint, SurfaceMismatch, random_checkpoint
from lwgan.correspondence import condition_map, face_points, flow_to
from lwgan.generators import PRESETS, GeneratorConfig, SourceFeatures
from lwgan.person import Dressed, Motion, Person
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import Drawn, draw_batch, draw_frames, pose_batch, set_scene, synthesize
from lwgan.tasks import Plan, imitate, owned_faces, transfer, view

SIZE = 64
SMALL = {
    "channels": (4, 6, 8),
    "residual_blocks": 1,
    "background_channels": (4, 4, 4, 8),
    "background_blocks": 1,
    "spade_hidden": 4,
}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(body: Body, preset: str = "attlwb-spade", **changes: object) -> Checkpoint:
    """The same small network for the same words, whatever drew before."""
    config = dataclasses.replace(PRESETS[preset], **SMALL, **changes)  # type: ignore[arg-type]
    return random_checkpoint(config, 0, surface_tables(body, "reference"))


def standing(count: int, *, turned: float = 0, scale: float = 0.8) -> BodyParams:
    """People in an A pose who face the camera, turned by degrees and moving a little."""
    array = torch.zeros(count, 85)
    array[:, :3] = torch.tensor([scale, 0.0, 0.25])
    array[:, 3:6] = torch.tensor([math.pi, 0, 0])
    half = math.radians(turned) / 2  # Ry(turned) Rx(pi) as an axis and an angle of pi
    array[:, 3:6] = math.pi * torch.tensor([math.cos(half), 0, -math.sin(half)])
    array[:, 6 + 3 * 15 + 2] = -0.9 + 0.1 * torch.arange(count)  # the left arm is let down
    array[:, 6 + 3 * 16 + 2] = 0.9
    return BodyParams.from_array("open-body-1", array)


def photograph(
    body: Body, params: BodyParams, size: int, colours: Tensor
) -> tuple[NDArray, NDArray]:
    """Pictures and masks of a body whose vertices have colours (V, 3) in [-1, 1], before grey."""
    vertices = project(body.pose(params).vertices, params.camera)
    fragments = rasterize(vertices, body.faces, size)
    picture = interpolate(fragments, colours, body.faces)
    pictures = ((picture + 1) * 127.5).round().to(torch.uint8).numpy()
    return pictures, (fragments.covered * 255).to(torch.uint8).numpy()


def painted(body: Body) -> Tensor:
    """(V, 3) colours that change smoothly over the surface, by the place in the rest pose."""
    low, high = body.template.amin(0), body.template.amax(0)
    return 0.2 + 0.7 * (2 * (body.template - low) / (high - low) - 1).abs()


def make_person(
    body: Body,
    name: str = "ann",
    *,
    turns: tuple[float, ...] = (0.0, 180.0),
    size: int = SIZE,
    colours: Tensor | None = None,
    plate: bool = True,
    scale: float = 0.8,
) -> Person:
    fits = torch.cat([standing(1, turned=turn, scale=scale).to_array() for turn in turns])
    params = BodyParams.from_array(body.id, fits)
    pictures, masks = photograph(body, params, size, painted(body) if colours is None else colours)
    scene = np.full((size, size, 3), 90, np.uint8)
    return Person(name, pictures, masks, params, scene if plate else None)


def dance(count: int = 5) -> Motion:
    return Motion(standing(count, turned=20), fps=25, name="dance")


def draw(plan: Plan, checkpoint: Checkpoint, body: Body, **options: object) -> list[Drawn]:
    return list(synthesize(plan, checkpoint, body, **options))  # type: ignore[arg-type]


def grey_levels(first: list[Drawn], second: list[Drawn]) -> int:
    """The largest difference between two runs."""
    assert len(first) == len(second)
    return max(
        int(np.abs(getattr(a, name).astype(int) - getattr(b, name)).max())
        for a, b in zip(first, second, strict=True)
        for name in ("picture", "mask", "texture")
    )


# ------------------------------------------------------------------------------------------ oracles


def test_in_the_sources_own_pose_the_texture_is_the_source(body: Body) -> None:
    ann = make_person(body, turns=(0.0,), size=128)
    plan = transfer([Dressed(ann)], None, body)
    (frame,) = draw(plan, weights(body), body)
    inside = _eroded(ann.masks[0] > 0, 2)
    assert inside.sum() > 500
    error = np.abs(frame.texture[inside].astype(int) - ann.pictures[0][inside])
    assert np.median(error) <= 2
    assert error.mean() < 4, "seams of the charts and half a texel apart"
    outside = ~_eroded(ann.masks[0] > 0, -1)
    assert (np.abs(frame.texture[outside].astype(int) - 127) <= 1).all(), "grey where no body is"


def test_a_second_view_fills_what_the_first_does_not_see(body: Body) -> None:
    both = make_person(body, size=128)
    front = both.sources([0])
    truth, mask = photograph(body, both.params[[1]], 128, painted(body))
    inside = _eroded(mask[0] > 0, 2)
    errors = []
    for ann in (front, both):
        plan = Plan("view", (Dressed(ann),), both.params[[1]], 25)
        (frame,) = draw(plan, weights(body), body)
        errors.append(np.abs(frame.texture[inside].astype(int) - truth[0][inside]).mean())
    assert errors[1] < 8
    assert errors[1] < 0.7 * errors[0]


def test_a_camera_that_moves_moves_texture_and_picture(body: Body) -> None:
    size, shift = 128, 8
    ann = make_person(body, size=size, scale=0.3)
    still = standing(1, turned=20, scale=0.3)
    moved = dataclasses.replace(still, camera=still.camera.clone())
    moved.camera[:, 1] += shift * 2 / size / 0.3
    # Nothing but convolutions: their zero margins are out of sight of a small body's middle.
    checkpoint = weights(body, "addlwb")
    frames = [
        draw(Plan("imitate", (Dressed(ann),), params, 25), checkpoint, body)[0]
        for params in (still, moved)
    ]
    assert (frames[0].texture != frames[0].texture[0, 0]).any()
    for name in ("texture", "picture"):
        before, after = (getattr(frame, name).astype(int) for frame in frames)
        middle = slice(size // 2 - 24, size // 2 + 24)
        difference = np.abs(after[middle, middle] - np.roll(before, shift, 1)[middle, middle])
        assert (difference <= 1).mean() > 0.99, name


def test_the_order_of_the_sources_is_nothing_to_the_attention(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(3), body)
    scene = set_scene(plan, weights(body), body)
    swapped = dataclasses.replace(
        scene,
        sources=dataclasses.replace(scene.sources, face_points=scene.sources.face_points.flip(1)),
        features=SourceFeatures(
            tuple(level.flip(1) for level in scene.features.encoder),
            tuple(level.flip(1) for level in scene.features.residual),
        ),
    )
    vertices = pose_batch(scene.body, plan.params)
    with torch.inference_mode():
        first, second = draw_batch(scene, vertices), draw_batch(swapped, vertices)
    assert torch.equal(first.texture, second.texture)
    assert (first.picture.int() - second.picture.int()).abs().max() <= 1


def test_all_parts_on_the_primary_is_imitation(body: Body) -> None:
    ann, bob = make_person(body), make_person(body, "bob", colours=-painted(body))
    (alone,) = imitate(ann, dance(), body)
    both = transfer([Dressed(ann, ("all",)), Dressed(bob)], dance(), body, select="flow")
    checkpoint = weights(body, "addlwb")  # a sum, where a source of nothing adds nothing
    frames = [draw(plan, checkpoint, body) for plan in (alone, both)]
    for first, second in zip(*frames, strict=True):
        np.testing.assert_allclose(first.texture.astype(int), second.texture, atol=1)
        np.testing.assert_allclose(first.picture.astype(int), second.picture, atol=1)


def test_parts_come_from_those_who_wear_them(body: Body) -> None:
    bright, dark = torch.full_like(body.template, 0.8), torch.full_like(body.template, -0.8)
    ann = make_person(body, size=128, colours=bright)
    bob = make_person(body, "bob", size=128, colours=dark)
    plan = transfer([Dressed(ann), Dressed(bob, ("lower",))], None, body)
    (frame,) = draw(plan, weights(body), body)
    rows = np.flatnonzero(ann.masks[0].any(1))
    inside = _eroded(ann.masks[0] > 0, 2)
    top, bottom = (slice(*np.quantile(rows, ends).astype(int)) for ends in ((0, 0.4), (0.7, 1)))
    assert np.median(frame.texture[top][inside[top]]) > 200
    assert np.median(frame.texture[bottom][inside[bottom]]) < 50


@pytest.mark.parametrize("select", ["texture", "flow"])
def test_selection_of_flows_reaches_the_features(body: Body, select: str) -> None:
    ann, bob = make_person(body), make_person(body, "bob", colours=-painted(body))
    plan = transfer([Dressed(ann), Dressed(bob, ("lower",))], None, body, select=select)  # type: ignore[arg-type]
    scene = set_scene(plan, weights(body), body)
    points = scene.sources.face_points
    assert points.shape[1] == 4, "two sources of each"
    nowhere = (points[0] == -2).flatten(1).all(0)
    restricted = bool((points == -2).any())
    assert restricted is (select == "flow")
    assert not nowhere.any()


# --------------------------------------------------------------------------------- batches, streams


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_generator_draws_the_same_in_any_batch(body: Body, preset: str) -> None:
    (plan,) = imitate(make_person(body), dance(), body)
    scene = set_scene(plan, weights(body, preset), body)
    whole, odd, single = (list(draw_frames(scene, plan.params, batch=n)) for n in (8, 2, 1))
    assert len(whole) == 5
    assert grey_levels(whole, single) <= 1
    assert grey_levels(whole, odd) <= 1
    assert whole[0].picture.shape == (SIZE, SIZE, 3)
    assert whole[0].mask.shape == (SIZE, SIZE)
    assert {whole[0].picture.dtype, whole[0].mask.dtype, whole[0].texture.dtype} == {np.dtype("u1")}


def test_savings_change_nothing_and_the_checkpoint_stays_as_it_was(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(2), body)
    checkpoint = weights(body)
    before = {name: value.clone() for name, value in checkpoint.generator.state_dict().items()}
    folded, plain = (draw(plan, checkpoint, body, folded=folded) for folded in (True, False))
    assert grey_levels(folded, plain) <= 1
    draw(plan, checkpoint, body, dtype=torch.bfloat16)
    after = checkpoint.generator.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not next(checkpoint.generator.parameters()).isnan().any()


def test_half_precision_looks_the_same(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(2), body)
    checkpoint = weights(body)
    exact = draw(plan, checkpoint, body)
    coarse = draw(plan, checkpoint, body, dtype=torch.bfloat16)
    for first, second in zip(exact, coarse, strict=True):
        np.testing.assert_array_equal(first.texture, second.texture)
        assert np.abs(first.picture.astype(int) - second.picture).mean() < 2


def test_nothing_is_drawn_before_it_is_asked_for(
    body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    step = synthesis.draw_batch

    def counting(scene: synthesis.Scene, vertices: Tensor) -> synthesis.Frames:
        drawn.append(len(vertices))
        return step(scene, vertices)

    monkeypatch.setattr(synthesis, "draw_batch", counting)
    (plan,) = imitate(make_person(body), dance(7), body)
    frames = synthesize(plan, weights(body), body, batch=3)
    assert drawn == []
    next(frames)
    next(frames)
    assert drawn == [3]
    assert len(list(frames)) == 5
    assert drawn == [3, 3, 1]


def test_a_batch_is_one_graph_that_serves_all_people(body: Body) -> None:
    graphs = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    step = torch.compile(draw_batch, fullgraph=True, backend=keep)
    for turns in ((0.0, 180.0), (10.0, 90.0)):
        (plan,) = imitate(make_person(body, turns=turns), dance(2), body)
        scene = set_scene(plan, weights(body), body)
        vertices = pose_batch(scene.body, plan.params)
        with torch.inference_mode():
            compiled, plain = step(scene, vertices), draw_batch(scene, vertices)
        assert torch.equal(compiled.picture, plain.picture)
    assert len(graphs) == 1


def test_a_compiled_step_sees_one_shape_only(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def compiled(step: Callable[..., synthesis.Frames]) -> Callable[..., synthesis.Frames]:
        def watched(scene: synthesis.Scene, vertices: Tensor) -> synthesis.Frames:
            seen.append(len(vertices))
            return step(scene, vertices)

        return watched

    monkeypatch.setattr(torch, "compile", compiled)
    (plan,) = imitate(make_person(body), dance(5), body)
    plain, filled = (draw(plan, weights(body), body, batch=3, compile=c) for c in (False, True))
    assert seen == [3, 3]
    assert grey_levels(plain, filled) <= 1


def test_previous_frames_are_attended_to(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(4), body)
    checkpoint = weights(body, temporal=True)
    alone = draw(plan, checkpoint, body)
    one, two = (draw(plan, checkpoint, body, temporal=n, batch=b) for n, b in ((1, 1), (2, 8)))
    assert grey_levels(alone[:1], one[:1]) <= 1, "the first frame has none before it"
    assert grey_levels(one[:2], two[:2]) == 0
    assert grey_levels(alone[1:2], one[1:2]) > 0
    assert grey_levels(one[2:], two[2:]) > 0
    with pytest.raises(ValueError, match="'add' cannot attend"):
        draw(plan, weights(body, "addlwb"), body, temporal=1)


class Recorder:
    """A network that notes what it is given, and draws the person as `colour` over half a background."""

    def __init__(self, config: GeneratorConfig, colour: float = 0.5, share: float = 0.25) -> None:
        self.config, self.colour, self.share = config, colour, share
        self.encoded: list[Tensor] = []
        self.drawn: list[tuple[Tensor, Tensor, SourceFeatures | None, Tensor | None]] = []

    def encode_sources(self, source: Tensor) -> SourceFeatures:
        self.encoded.append(source)
        return SourceFeatures((source,), (source,))

    def draw_target(
        self,
        target: Tensor,
        features: SourceFeatures,
        flow: Tensor,
        previous: SourceFeatures | None = None,
        previous_flow: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.drawn.append((target, flow, previous, previous_flow))
        picture = target.new_full(target[:, :, :3].shape, self.colour)
        return picture, target.new_full(target[:, :, :1].shape, self.share)


def test_what_a_past_frame_is_to_the_next_ones(body: Body) -> None:
    """The composite with its condition map, and flows to where that frame's own body was."""
    (plan,) = imitate(make_person(body), dance(3), body, smooth=False)
    real = set_scene(plan, weights(body), body)
    network = Recorder(real.network.config)
    scene = dataclasses.replace(real, network=network)
    vertices = pose_batch(scene.body, plan.params)
    past: list[synthesis.Past] = []
    for frame in range(3):
        drawn, now = synthesis.draw_next(scene, vertices[[frame]], list(past))
        past.append(now)
    composite = 0.25 * scene.background + 0.75 * 0.5
    bodies = [rasterize(vertices[[frame]], body.faces, SIZE) for frame in range(3)]
    points = [face_points(vertices[[frame]], body.faces) for frame in range(3)]
    for frame, seen in enumerate(network.encoded):
        target = network.drawn[frame][0]
        assert seen.shape == (1, 1, 6, SIZE, SIZE)
        torch.testing.assert_close(seen[:, 0, :3], composite)
        torch.testing.assert_close(seen[:, :, 3:], target[:, :, 3:])
        code = condition_map(bodies[frame], scene.tables.code)
        torch.testing.assert_close(seen[:, 0, 3:], code)
        assert not torch.equal(code, target[:, 0, :3])
        torch.testing.assert_close(past[frame].face_points[0], points[frame])
    assert network.drawn[0][2:] == (None, None)
    _, _, previous, flows = network.drawn[2]
    assert previous is not None
    assert flows is not None
    torch.testing.assert_close(previous.encoder[0], torch.cat(network.encoded[:2], dim=1))
    assert flows.shape == (1, 1, 2, SIZE, SIZE, 2)
    for older in range(2):  # newest last
        expected = flow_to(bodies[2], points[older])
        torch.testing.assert_close(flows[:, 0, older], expected)
    assert not torch.equal(flows[:, :, 0], flows[:, :, 1])
    picture = ((composite[0].permute(1, 2, 0) + 1) * 127.5).round()
    np.testing.assert_allclose(drawn.picture[0].int(), picture, atol=1)


def test_only_the_last_frames_are_past(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(5), body)
    real = set_scene(plan, weights(body), body)
    network = Recorder(real.network.config)
    list(draw_frames(dataclasses.replace(real, network=network), plan.params, temporal=2))
    counts = [0 if flow is None else flow.shape[2] for *_, flow in network.drawn]
    assert counts == [0, 1, 2, 2, 2]


def test_the_mask_says_where_the_background_is(body: Body) -> None:
    """Mostly person: mostly the network's colour, and a bright mask, for people look for themselves there."""
    plan = view(make_person(body), body, angles=[0])
    real = set_scene(plan, weights(body), body)
    scene = dataclasses.replace(real, network=Recorder(real.network.config, 1.0, 0.25))
    frames = draw_batch(scene, pose_batch(scene.body, plan.params))
    assert (frames.picture == round(0.25 * 90 + 0.75 * 255)).all()
    assert (frames.mask == round(0.75 * 255)).all()


def test_the_textures_owner_is_who_was_asked(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each person's faces are those of the plan, in its order."""
    given: list[Tensor] = []
    merge = synthesis.merge_people

    def watched(people: list, faces: Tensor, *rest: object, **options: object) -> object:
        given.append(faces)
        return merge(people, faces, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(synthesis, "merge_people", watched)
    assert body.surface is not None
    ann, bob = make_person(body), make_person(body, "bob", colours=-painted(body))
    people = [Dressed(ann, ("feet",)), Dressed(bob, ("left_arm",))]
    set_scene(transfer(people, None, body), weights(body), body)
    assert torch.equal(given[0], owned_faces(people, body.surface))
    left = body.template[body.faces].mean(1)[given[0][1]]
    assert (left[:, 0] > 0).all(), "the person's own left"


def test_one_scene_serves_all_motions(body: Body) -> None:
    plans = imitate(make_person(body), dance(2), body, views=[0, 60])
    checkpoint = weights(body)
    scene = set_scene(plans[0], checkpoint, body)
    for plan in plans:
        together = list(draw_frames(scene, plan.params))
        assert grey_levels(together, draw(plan, checkpoint, body)) == 0


def test_what_changes_its_shape_is_not_compiled(body: Body) -> None:
    (plan,) = imitate(make_person(body), dance(2), body)
    with pytest.raises(ValueError, match="Leave out compile, or temporal"):
        draw(plan, weights(body), body, compile=True, temporal=1)


# --------------------------------------------------------------------------------------- background


def test_backgrounds(body: Body) -> None:
    ann, bare = make_person(body), make_person(body, plate=False)
    plan, without = (view(person, body, angles=[0]) for person in (ann, bare))
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)

    def behind(of: Plan, background: synthesis.Background = "auto") -> Tensor:
        return set_scene(of, weights(body), body, background=background).background

    np.testing.assert_allclose(behind(plan), 90 / 127.5 - 1, atol=1e-6)
    assert torch.equal(behind(plan), behind(plan, "plate"))
    painted_by_network = behind(without)
    assert torch.equal(painted_by_network, behind(plan, "network"))
    assert painted_by_network.std() > 0
    coarse = set_scene(plan, weights(body), body, background="network", dtype=torch.bfloat16)
    assert torch.equal(coarse.background, painted_by_network), "in float32, whatever frames are"
    assert coarse.features.encoder[0].dtype == torch.bfloat16
    shown = ((behind(plan, picture)[0].permute(1, 2, 0) + 1) * 127.5).round()
    np.testing.assert_array_equal(shown, picture)
    with pytest.raises(ValueError, match="ann has no plate"):
        behind(without, "plate")
    with pytest.raises(ValueError, match=r"background is uint8 \(8, 8, 3\).*\(64, 64, 3\)"):
        behind(plan, picture[:8, :8])
    with pytest.raises(ValueError, match=r"'green'.*one of: auto, plate, network"):
        behind(plan, "green")  # type: ignore[arg-type]
    front = weights(body, "attlwb-front-spade")
    assert torch.equal(set_scene(plan, front, body).background, behind(plan))
    with pytest.raises(ValueError, match="no background network"):
        draw(without, front, body)


def test_the_picture_lies_over_the_background(body: Body) -> None:
    plan = view(make_person(body), body, angles=[0])
    scene = set_scene(plan, weights(body), body)
    vertices = pose_batch(scene.body, plan.params)
    other = dataclasses.replace(scene, background=torch.ones_like(scene.background))
    with torch.inference_mode():
        frames = [draw_batch(s, vertices) for s in (scene, other)]
    share = 1 - frames[0].mask[0].float() / 255  # of the background
    expected = share * (255 - 90)
    actual = (frames[1].picture[0].float() - frames[0].picture[0].float()).mean(-1)
    np.testing.assert_allclose(actual, expected, atol=1.5)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 60}, "multiple of 8. Nearest: 56 or 64"),
        ({"size": 3}, "Nearest: 8"),
        ({"size": 128}, "size is 128, but the people's pictures are 64 x 64"),
        ({"batch": 0}, "batch is 0"),
        ({"temporal": -1}, "temporal is -1"),
    ],
)
def test_options_that_cannot_be(body: Body, options: dict[str, object], message: str) -> None:
    plan = view(make_person(body), body, angles=[0])
    with pytest.raises(ValueError, match=message):
        synthesize(plan, weights(body), body, **options)  # type: ignore[arg-type]


def test_weights_of_another_body_are_refused_before_anything_is_drawn(body: Body) -> None:
    plan = view(make_person(body), body, angles=[0])
    checkpoint = weights(body)
    strange = dataclasses.replace(
        checkpoint, surface=checkpoint.surface._replace(body_id="smpl-1", digest="0" * 64)
    )
    with pytest.raises(SurfaceMismatch):
        synthesize(plan, strange, body)
    other = dataclasses.replace(body, id="smpl-1")
    with pytest.raises(BodyMismatch):
        synthesize(plan, weights(other), other)


def _eroded(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Smaller by some pixels, or larger by -pixels."""
    from scipy import ndimage

    grow = ndimage.binary_erosion if pixels > 0 else ndimage.binary_dilation
    return np.asarray(grow(mask, iterations=abs(pixels)))
