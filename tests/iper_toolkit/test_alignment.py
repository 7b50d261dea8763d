"""The same numbers anywhere in memory give the same bits: prepared tables must not depend on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from iper_toolkit.body.fitting import FitConfig, Stage, fit_clip
from iper_toolkit.body.model import Body, BodyParams, load_body
from iper_toolkit.crop import SquareCrop
from iper_toolkit.keypoints import Keypoints
from iper_toolkit.stages.fit import FittedClip
from iper_toolkit.stages.front import draw

OFFSETS = range(1, 16)  # floats of 4 bytes: every place in a line of 64 bytes


def moved(values: Tensor, offset: int) -> Tensor:
    """The same numbers, `offset` numbers behind the start of a line."""
    place = torch.empty(values.numel() + offset, dtype=values.dtype)[offset:].view(values.shape)
    assert place.data_ptr() % 64 == offset * values.element_size() % 64
    return place.copy_(values)


def moved_params(params: BodyParams, offset: int) -> BodyParams:
    return BodyParams.from_array(params.body_id, moved(params.to_array(), offset))


def moved_body(body: Body, offset: int) -> Body:
    names = ("template", "shape_directions", "pose_directions", "joint_regressor", "weights")
    return replace(body, **{name: moved(getattr(body, name), offset) for name in names})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def params() -> BodyParams:
    random = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(5, 72, generator=random)
    pose[:, 0] = torch.pi
    camera = torch.tensor([0.8, 0.0, 0.2]).expand(5, 3)
    return BodyParams("open-body-1", camera, pose, torch.randn(5, 10, generator=random))


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_posed_body(params: BodyParams, offset: int) -> None:
    """Posed in float64 and rounded, as whatever reaches a file is: float32 itself does not keep its last bit."""

    body, exact = load_body().to(dtype=torch.float64), params.to(dtype=torch.float64)
    moved_exact = replace(exact, pose=moved(exact.pose, offset), shape=moved(exact.shape, offset))
    expected = body.pose(exact)
    for found in (body.pose(moved_exact), moved_body(body, offset).pose(exact)):
        assert torch.equal(found.vertices.float(), expected.vertices.float())
        assert torch.equal(found.landmarks.float(), expected.landmarks.float())


@pytest.mark.parametrize("offset", OFFSETS)
def test_front_scores_and_silhouettes(params: BodyParams, offset: int) -> None:
    def fitted(params: BodyParams) -> FittedClip:
        return FittedClip(params, "official", np.ones(len(params), bool), None, None)

    expected = draw(load_body(), fitted(params))
    found = draw(moved_body(load_body(), offset), fitted(moved_params(params, offset)))
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("offset", [1, 7, 12])
def test_a_fit(params: BodyParams, offset: int) -> None:
    body, crop = load_body(), SquareCrop(0, 0, 200)
    points = params.camera[:, None, :1] * (
        body.pose(params).landmarks[..., :2] + params.camera[:, None, 1:]
    )
    table = np.ones((5, 25, 3), np.float32)
    table[..., :2] = crop.ndc_to_source(points[:, :25].numpy())
    config = FitConfig(stages=(Stage(40, reach=0.75, prior=6.0, tolerance=0.04),))
    expected = fit_clip(body, Keypoints(table), crop, config=config)
    shifted = moved(torch.from_numpy(table), offset).numpy()
    found = fit_clip(moved_body(body, offset), Keypoints(shifted), crop, config=config)
    assert torch.equal(found.params.to_array(), expected.params.to_array())
    assert np.array_equal(found.error_pixels, expected.error_pixels)


def test_the_tables_do_not_hang_on_last_bits(params: BodyParams) -> None:
    """Noise as that of a matrix product in another order changes no pixel of any silhouette."""
    fitted = FittedClip(params, "official", np.ones(5, bool), None, None)
    body = load_body().to(dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(body.template.shape, dtype=torch.float64, generator=random) * 1e-15 + 1
    expected, found = (
        draw(body, fitted),
        draw(replace(body, template=body.template * noise), fitted),
    )
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
