"""People, clothes and pictures: exact cuts, constant identity, honest masks, fits that fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from iper_toolkit.body import load_body
from iper_toolkit.camera import project_weak_perspective
from iper_toolkit.synthetic import mesh as meshes
from iper_toolkit.synthetic.clothes import STYLES, sample_outfits, top_field
from iper_toolkit.synthetic.fits import fit_of
from iper_toolkit.synthetic.motion import turn_motion, varied_motion
from iper_toolkit.synthetic.people import Person, dress_person, pose_person, sample_person
from iper_toolkit.synthetic.render import Camera, compose, draw_person
from iper_toolkit.synthetic.scenes import SCENES, Scene, draw_plate, sample_scene

SIZE = 64


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_person(np.random.default_rng(4), num_outfits=2)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scene(np.random.default_rng(1))


CAMERA = Camera(0.95, 0.1, (0.0, 0.85))
NO_BEND = np.zeros(23, np.float32)


def test_clip_cuts_exactly_along_the_field() -> None:
    body = load_body("open")
    whole = meshes.SkinnedMesh.of(body.points, body.faces, np.zeros(10, np.float32))
    field = whole.rest[:, 1] - 0.1234
    part = meshes.clip(whole, field)
    assert part.rest[:, 1].min() == pytest.approx(0.1234, abs=1e-6)
    assert (meshes.trait(part, "margin") >= -1e-6).all()
    np.testing.assert_allclose(part.weights.sum(1), 1, atol=1e-5)

    def area(mesh: meshes.SkinnedMesh) -> float:
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    other = meshes.clip(whole, -field)
    assert area(part) + area(other) == pytest.approx(area(whole), rel=1e-5)


def test_clip_of_nothing_and_of_everything() -> None:
    body = load_body("open")
    whole = meshes.SkinnedMesh.of(body.points, body.faces, np.zeros(10, np.float32))
    ones = np.ones(len(whole.vertices), np.float32)
    assert len(meshes.clip(whole, ones).faces) == len(whole.faces)
    assert len(meshes.clip(whole, -ones).faces) == 0


def test_identity_is_the_same_in_every_outfit(person: Person) -> None:
    first, second = (dress_person(person.identity, outfit) for outfit in person.outfits)
    assert np.array_equal(first.shape, second.shape)
    np.testing.assert_array_equal(first.skeleton.joints, second.skeleton.joints)
    assert first.skeleton.sole == second.skeleton.sole  # one motion fits all shoes
    # Rows 0 and 1 are skin and hair; the others are clothes.
    np.testing.assert_array_equal(first.materials[:2], second.materials[:2])
    assert first.materials.shape != second.materials.shape or not np.allclose(
        first.materials[2:], second.materials[2:]
    )


def test_outfits_of_a_person_differ_in_style() -> None:
    outfits = sample_outfits(np.random.default_rng(0), len(STYLES), skirts=True)
    assert {outfit.style for outfit in outfits} == set(STYLES)
    without = sample_outfits(np.random.default_rng(0), 20, skirts=False)
    assert not any(outfit.bottom.skirt for outfit in without)


@pytest.mark.parametrize("style", list(STYLES))
def test_every_style_dresses_and_draws(style: str, person: Person, scene: Scene) -> None:
    outfit = STYLES[style](np.random.default_rng(8))
    dressed = dress_person(person.identity, outfit)
    motion = turn_motion(dressed.skeleton, 4, 2.0)
    vertices = pose_person(dressed, motion)
    assert np.isfinite(vertices).all()
    assert abs(vertices[..., 1].min()) < 0.02  # the soles are on the floor
    layer = draw_person(dressed, vertices[0], NO_BEND, CAMERA, scene.light, SIZE)
    assert np.isfinite(layer.colour).all()
    assert layer.colour.min() >= 0
    assert 0.04 < layer.coverage.mean() < 0.4


def test_a_hem_is_where_the_cut_says() -> None:
    outfit = STYLES["casual"](np.random.default_rng(2))
    (top,) = outfit.tops
    rest = np.array([[0.0, top.hem + 0.05, 0.15], [0.0, top.hem - 0.05, 0.15]], np.float32)
    inside = top_field(top, rest) > 0
    assert inside.tolist() == [True, False]


def test_masks_are_coverages_of_the_mesh(person: Person, scene: Scene) -> None:
    """At twice the size a pixel's coverage is the mean of the four finer ones."""
    dressed = dress_person(person.identity, person.outfits[0])
    vertices = pose_person(dressed, turn_motion(dressed.skeleton, 2, 2.0))[0]
    coarse, fine = (
        draw_person(dressed, vertices, NO_BEND, CAMERA, scene.light, size).coverage
        for size in (SIZE, 4 * SIZE)
    )
    average = fine.reshape(SIZE, 4, SIZE, 4).mean((1, 3))
    # 2 x 2 samples of a pixel against 8 x 8: a straight edge differs by a quarter at most.
    assert np.abs(coarse - average).max() <= 0.5
    assert np.abs(coarse - average).mean() < 0.01
    assert set(np.unique(coarse)) <= {0, 0.25, 0.5, 0.75, 1}


def test_the_fit_projects_onto_the_drawn_person(person: Person) -> None:
    """The open body, posed by the stored fit, lies where the person was drawn."""
    dressed = dress_person(person.identity, person.outfits[0])
    motion = varied_motion(dressed.skeleton, 6, 2.0, np.random.default_rng(0))
    fit = fit_of(motion, dressed.shape, CAMERA)
    body = load_body("open")
    posed = body.pose(fit.params)
    seen = project_weak_perspective(posed.vertices, torch.from_numpy(fit.camera)).numpy()

    rotation = CAMERA.rotation
    world = pose_person(dressed, motion).astype(np.float64) @ rotation.T
    drawn = CAMERA.scale * (world[..., :2] + CAMERA.shift)
    # Skin that is drawn is a subset of the body's vertices, in their own places.
    row, corner = np.nonzero(dressed.face_material == 0)[0], dressed.mesh.faces
    skin = np.unique(corner[row])
    distance = np.abs(dressed.mesh.vertices[skin][:, None] - _shaped(dressed.shape)[None]).sum(-1)
    match = distance.argmin(1)
    assert distance.min(1).max() < 1e-5
    np.testing.assert_allclose(drawn[:, skin], seen[:, match], atol=2e-5)
    assert fit.keypoints.shape == (6, 19, 2)
    # HMR's order: right ankle first, left ankle sixth, head top higher than the neck (y down).
    joints = project_weak_perspective(posed.joints, torch.from_numpy(fit.camera)).numpy()
    np.testing.assert_allclose(fit.keypoints[:, 0], joints[:, 8], atol=1e-6)
    np.testing.assert_allclose(fit.keypoints[:, 5], joints[:, 7], atol=1e-6)
    assert (fit.keypoints[:, 13, 1] < fit.keypoints[:, 12, 1]).all()


def _shaped(shape: np.ndarray) -> np.ndarray:
    body = load_body("open")
    return body.template.numpy() + body.shape_directions.numpy() @ shape


def test_turning_shows_the_back(person: Person, scene: Scene) -> None:
    """Frontal, the nose is nearer to the camera than the back of the head; half-way round not."""
    dressed = dress_person(person.identity, person.outfits[0])
    motion = turn_motion(dressed.skeleton, 8, 4.0)
    fit = fit_of(motion, dressed.shape, CAMERA)
    landmarks = load_body("open").pose(fit.params).landmarks
    nose_depth = (landmarks[:, 24, 2] - landmarks[:, 15, 2]).numpy()
    assert nose_depth[0] < -0.05  # larger z is farther
    assert nose_depth[4] > 0.05


def test_shadow_falls_away_from_the_light(person: Person, scene: Scene) -> None:
    dressed = dress_person(person.identity, person.outfits[0])
    vertices = pose_person(dressed, turn_motion(dressed.skeleton, 2, 2.0))[0]
    centres = []
    for side in (-1.0, 1.0):
        direction = np.array([0.7 * side, 0.6, 0.39])
        light = replace(scene.light, direction=tuple(direction / np.linalg.norm(direction)))
        shade = draw_person(dressed, vertices, NO_BEND, CAMERA, light, SIZE).shade
        assert shade.max() > 0.3
        assert shade[: SIZE // 2].max() == 0  # on the floor, not in the air
        centres.append((shade.sum(0) * np.arange(SIZE)).sum() / shade.sum())
    assert centres[0] > SIZE / 2 > centres[1]


@pytest.mark.parametrize("kind", list(SCENES))
def test_every_place_is_a_picture_of_its_own(kind: str, scene: Scene) -> None:
    plate = draw_plate(replace(scene, kind=kind), SIZE)
    assert plate.shape == (SIZE, SIZE, 3)
    assert np.isfinite(plate).all()
    assert plate.min() >= 0
    assert plate.std() > 0.005
    assert np.array_equal(plate, draw_plate(replace(scene, kind=kind), SIZE))
    assert not np.array_equal(
        plate, draw_plate(replace(scene, kind=kind, seed=scene.seed + 1), SIZE)
    )


def test_compose_keeps_the_plate_where_nobody_is(person: Person, scene: Scene) -> None:
    dressed = dress_person(person.identity, person.outfits[0])
    vertices = pose_person(dressed, turn_motion(dressed.skeleton, 2, 2.0))[0]
    layer = draw_person(dressed, vertices, NO_BEND, CAMERA, scene.light, SIZE)
    plate = draw_plate(scene, SIZE)
    picture = compose(layer, plate, None)
    empty = (layer.coverage == 0) & (layer.shade == 0) & (plate.max(-1) < 0.7)
    assert empty.mean() > 0.1
    expected = np.sqrt(plate[empty]) * 255
    assert np.abs(picture[empty] - expected).max() <= 1
