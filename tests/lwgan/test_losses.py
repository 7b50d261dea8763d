"""Losses: the reference's numbers, and what each term must do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lwgan import losses
from lwgan.discriminators import crop_boxes
from lwgan.loss_networks import PerceptualSmall, SphereFace, frozen, load_feature_network

TOLERANCE = 1e-4  # relative, as asked for


@pytest.fixture(scope="module")
def expected(fixtures_folder: Path) -> Any:
    with np.load(fixtures_folder / "lwgan" / "losses.npz", allow_pickle=False) as file:
        content: dict[str, Any] = dict(file)
    return content | {"meta": json.loads(str(content["meta_json"]))}


def of(expected: Any, name: str) -> Tensor:
    return torch.from_numpy(expected[name])


def close(found: Tensor | float, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=TOLERANCE, atol=1e-7)


@pytest.mark.parity
def test_the_perceptual_loss_is_the_references(expected: Any, by_recipe: Any) -> None:
    network = by_recipe("vgg19", expected["meta"]["vgg_recipe_seed"])
    weights = list(network.state_dict().values())
    np.testing.assert_array_equal(weights[0].flatten()[:8], expected["vgg/check_first8"])
    x, y = of(expected, "x"), of(expected, "y")
    close(losses.perceptual_loss(network, x, y), expected["vgg/out_total"])
    each = [
        losses.feature_distance(
            network, losses._resize(x, 224), losses._resize(y, 224), np.eye(5)[level].tolist()
        )
        for level in range(5)
    ]
    close(torch.stack(each), expected["vgg/out_layer_l1"])


@pytest.mark.parity
def test_the_identity_loss_is_the_references(expected: Any, by_recipe: Any) -> None:
    network = by_recipe("sphereface", expected["meta"]["face_recipe_seed"])
    x, y = of(expected, "x"), of(expected, "y")
    close(
        losses.identity_loss(network, x, y, of(expected, "face/bbox")), expected["face/out_total"]
    )
    boxes = of(expected, "face/bbox2")
    close(losses.identity_loss(network, x, y, boxes), expected["face/out_total_bbox2"])
    crops = [crop_boxes(one, boxes, losses.FACE_SIZE) for one in (x, y)]
    assert crops[0] is not None
    np.testing.assert_allclose(crops[0], expected["face/out_crop_x"], atol=1e-5)
    for level in range(5):
        found = losses.feature_distance(network, *crops, np.eye(5)[level].tolist())  # type: ignore[arg-type]
        close(found, expected["face/out_layer_l1"][level])
    nothing = losses.identity_loss(network, x, y, torch.zeros(2, 4, dtype=torch.int64))
    close(nothing, expected["face/out_total_none"])


@pytest.mark.parity
def test_least_squares_and_variation_are_the_references(expected: Any) -> None:
    verdicts = [of(expected, "gan/o0"), of(expected, "gan/o1")]
    for wanted in (0, 1, -1):
        close(losses.least_squares(verdicts, wanted), expected[f"gan/out_target_{wanted}"])
    close(losses.total_variation(of(expected, "tv/m")), expected["tv/out"])


@pytest.mark.parity
def test_boxes_are_the_references(expected: Any) -> None:
    from lwgan.composition import head_and_body_boxes

    head, body = head_and_body_boxes(of(expected, "bbox/kps"), 512)
    np.testing.assert_array_equal(head, expected["bbox/out_head"])
    np.testing.assert_array_equal(body, expected["bbox/out_body"])


# --------------------------------------------------------------------------------------- properties


def pictures(seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


WEIGHTS = torch.ones(2, 1, 32, 32)


@pytest.mark.parametrize(
    "term",
    [
        losses.weighted_absolute,
        losses.pooled_absolute,
        losses.gradient_difference,
        losses.detail_difference,
        losses.dissimilarity,
    ],
)
def test_terms_are_nothing_on_equal_pictures_and_grow_with_noise(term: Any) -> None:
    real = pictures()
    assert float(term(real, real, WEIGHTS)) == pytest.approx(0, abs=1e-6)
    noise = pictures(1)
    values = [float(term(real + share * noise, real, WEIGHTS)) for share in (0.05, 0.2, 0.8)]
    assert values == sorted(values)
    assert values[0] > 0


def test_detail_counts_how_much_there_is_and_not_where() -> None:
    random = torch.Generator().manual_seed(0)
    real = 0.3 * torch.randn(2, 3, 48, 48, generator=random)
    weights = torch.ones(2, 1, 48, 48)
    blurred = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1)
    softer = losses.detail_difference(blurred, real, weights)
    shifted = losses.detail_difference(real.roll(1, -1), real, weights)
    assert shifted < 0.2 * softer
    # Where nothing counts, nothing is asked for.
    left = torch.zeros_like(weights)
    left[..., :24] = 1
    half = torch.where(left > 0, real, blurred)
    assert losses.detail_difference(half, real, left) < 0.05 * softer
    # The root of the laplacian's mean square, by the book.
    stripes = torch.zeros(1, 1, 10, 10)
    stripes[..., ::2] = 1.0
    found = losses.detail_difference(stripes, torch.zeros_like(stripes), torch.ones(1, 1, 10, 10))
    assert float(found) == pytest.approx(2.0, abs=2e-3)


def test_detail_of_a_flat_picture_has_a_gradient() -> None:
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)
    losses.detail_difference(flat, torch.randn(1, 3, 16, 16), torch.ones(1, 1, 16, 16)).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_structure_term_is_one_minus_ssim() -> None:
    from skimage.metrics import structural_similarity

    real, drawn = pictures(), pictures(2)
    found = losses.dissimilarity(drawn, real, WEIGHTS)
    wanted = [
        structural_similarity(
            a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy(), win_size=7, channel_axis=2,
            data_range=2.0, use_sample_covariance=False,
        )
        for a, b in zip(drawn, real, strict=True)
    ]  # fmt: skip
    assert float(found) == pytest.approx(1 - np.mean(wanted), abs=1e-4)


def test_a_person_counts_as_often_as_asked_and_pictures_count_alike() -> None:
    masks = torch.ones(1, 1, 4, 4)
    masks[..., :2, :2] = 0
    weights = losses.person_weights(masks, 5)
    assert float(weights[0, 0, 0, 0] / weights[0, 0, 3, 3]) == pytest.approx(5)
    assert float(weights.mean()) == pytest.approx(1)


def test_no_gradient_reaches_the_real_picture_by_way_of_features() -> None:
    network = frozen(PerceptualSmall())
    drawn, real = pictures().requires_grad_(), pictures(1).requires_grad_()
    losses.feature_distance(network, drawn, real, (0.2,) * 5).backward()
    assert drawn.grad is not None
    assert real.grad is None


def test_no_judge_is_an_error() -> None:
    with pytest.raises(ValueError, match="No judge"):
        losses.least_squares([], 1)


def test_networks_load_by_the_keys_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import vgg19

    from iper_toolkit.assets import MissingAsset, find_asset

    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    with pytest.raises(MissingAsset, match="VGG-19"):
        load_feature_network("vgg19")
    path = find_asset("vgg19").path
    path.parent.mkdir(parents=True, exist_ok=True)
    theirs = vgg19(weights=None)
    torch.save(theirs.state_dict(), path)
    x = pictures(side=64)
    with torch.no_grad():
        found = load_feature_network("vgg19")(x)
        for level, last in zip(found, (1, 6, 11, 20, 29), strict=True):
            wanted = theirs.features[: last + 1](x)
            torch.testing.assert_close(level, wanted, atol=1e-5, rtol=1e-4)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not torchvision's VGG-19"):
        load_feature_network("vgg19")


def test_the_face_networks_last_layers_of_classes_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iper_toolkit.assets import find_asset

    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    path = find_asset("sphereface").path
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(SphereFace().state_dict() | {"fc6.weight": torch.zeros(512, 10)}, path)
    with torch.no_grad():
        assert load_feature_network("sphereface")(torch.zeros(1, 3, 112, 96))[-1].shape == (1, 512)
