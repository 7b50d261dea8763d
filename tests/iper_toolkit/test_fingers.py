"""Fits of 24 joints drawn with fingers, by a 52-joint body that is made of the open one."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from iper_toolkit.body import Body, BodyMismatch, BodyParams, load_body
from iper_toolkit.body.fingers import TOLERANCE, with_fingers

# Two wrists, then fifteen finger joints of each hand in three rows of five.
PARENTS = (20, 21)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def hands(body: Body) -> Body:
    """The open body whose hands hang on finger joints: the first row takes what the hand joints moved."""
    parents = [*body.parents[:22]]
    weights = torch.zeros(body.num_vertices, 52)
    weights[:, :22] = body.weights[:, :22]
    regressor = torch.zeros(52, body.num_vertices)
    regressor[:22] = body.joint_regressor[:22]
    for side, wrist in enumerate(PARENTS):
        first = 22 + 15 * side
        parents += [wrist, *range(first, first + 14)]
        weights[:, first] = body.weights[:, 22 + side]
        regressor[first : first + 15] = body.joint_regressor[22 + side]
    directions = torch.zeros(body.num_vertices, 3, 9 * 51)
    directions[..., : 9 * 21] = body.pose_directions[..., : 9 * 21]
    fingers = torch.zeros(90)
    fingers[2], fingers[45 + 2] = -0.7, 0.7  # both hands let down a little
    return replace(
        body,
        id="fingers",
        weights=weights,
        parents=tuple(parents),
        joint_regressor=regressor,
        pose_directions=directions,
        hand_pose=fingers,
        surface=None,
    )


def fit(count: int = 3) -> BodyParams:
    draw = torch.Generator().manual_seed(0)
    array = 0.3 * torch.randn(count, 85, generator=draw)
    array[:, 3] += math.pi
    array[:, 3 + 66 : 75] = 0  # flat hands
    return BodyParams.from_array("open-body-1", array)


def moved(body: Body, other: Body, params: BodyParams) -> Tensor:
    """(V,) metres between the vertices of two bodies in the same poses, the largest of all frames."""
    return (body.pose(params).vertices - other.pose(params).vertices).norm(dim=-1).amax(0)


def test_fits_of_a_body_are_drawn_with_fingers(body: Body, hands: Body) -> None:
    params = fit()
    with pytest.raises(BodyMismatch):
        hands.pose(params)
    drawn = with_fingers(body, hands)
    assert drawn.id == body.id
    distance = moved(drawn, body, params)
    on_fingers = body.weights[:, 22:].sum(1)
    assert distance[on_fingers == 0].max() < 1e-5
    assert distance[on_fingers > 0.9].max() > 0.03
    as_drawn_there = hands.skin(params.pose, params.shape).vertices
    torch.testing.assert_close(drawn.pose(params).vertices, as_drawn_there)


def test_with_stretched_fingers_it_is_the_body_itself(body: Body, hands: Body) -> None:
    flat = replace(hands, hand_pose=torch.zeros(90))
    assert moved(with_fingers(body, flat), body, fit()).max() < 1e-5


def test_it_goes_where_bodies_go_and_has_the_same_surface(body: Body, hands: Body) -> None:
    drawn = with_fingers(body, hands)
    params = fit(1).to(dtype=torch.float64)
    exact = drawn.to(dtype=torch.float64).pose(params).vertices
    torch.testing.assert_close(exact.float(), drawn.pose(fit(1)).vertices, atol=1e-5, rtol=0)
    assert drawn.surface is body.surface
    assert torch.equal(drawn.faces, body.faces)


def test_hands_with_more_shapes_give_those_of_the_fits(body: Body, hands: Body) -> None:
    more = torch.cat([hands.shape_directions, torch.rand(body.num_vertices, 3, 6)], dim=-1)
    drawn = with_fingers(body, replace(hands, shape_directions=more))
    torch.testing.assert_close(drawn.shape_directions, body.shape_directions)
    fewer = replace(hands, shape_directions=hands.shape_directions[..., :9])
    with pytest.raises(ValueError, match=r"has 9 shape directions; .* take 10"):
        with_fingers(body, fewer)


def test_bodies_that_do_not_belong_together(body: Body, hands: Body) -> None:
    with pytest.raises(ValueError, match="'fingers' has 52 and 'open-body-1' has 24"):
        with_fingers(hands, body)
    with pytest.raises(ValueError, match="other faces"):
        with_fingers(body, replace(hands, faces=hands.faces.flip(0)))
    far = hands.template.clone()
    far[0, 1] += 0.03
    with pytest.raises(ValueError, match=r"30 mm apart at rest.* 10 mm are allowed"):
        with_fingers(body, replace(hands, template=far))
    other = hands.shape_directions.clone()
    other[0, 2, 4] += 0.05
    with pytest.raises(ValueError, match="50 mm apart in how they change with the shape"):
        with_fingers(body, replace(hands, shape_directions=other))
    near = hands.template + 0.5 * TOLERANCE / 3
    finger = int(hands.weights[:, 22].argmax())
    near[finger] += 0.05  # fingers may be modelled otherwise
    drawn = with_fingers(body, replace(hands, template=near))
    torch.testing.assert_close(drawn.template, near)
