"""Discriminators: what each judge sees, and the reference's verdicts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lwgan.discriminators import (
    DISCRIMINATORS,
    Discriminator,
    DiscriminatorConfig,
    DiscriminatorInputs,
    build_discriminator,
    crop_boxes,
    mean_verdict,
)
from lwgan.foreign import read_discriminator

TOLERANCE = 2e-4  # the fixtures' own advice; float32 rounding of the reference is 8e-6


def small(layout: str = "global", **settings: object) -> Discriminator:
    torch.manual_seed(0)
    return build_discriminator(
        DiscriminatorConfig(layout=layout, width=4, halvings=2, **settings)  # type: ignore[arg-type]
    )


def pictures(count: int = 2, size: int = 64, channels: int = 6) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("halvings", "height", "width", "expected"),
    [(4, 512, 256, (30, 14)), (2, 64, 44, (14, 9)), (3, 24, 24, (1, 1))],
)
def test_one_verdict_a_patch(
    halvings: int, height: int, width: int, expected: tuple[int, int]
) -> None:
    judge = build_discriminator(DiscriminatorConfig(width=2, halvings=halvings))
    verdicts = judge(DiscriminatorInputs(torch.zeros(1, 6, height, width)))
    assert verdicts["global"].shape == (1, 1, *expected)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (DiscriminatorConfig(), 6_962_625),
        (DiscriminatorConfig(background_channels=4), 13_923_202),
        (DiscriminatorConfig(layout="global-local"), 13_925_250),
        (DiscriminatorConfig(layout="global-body-head"), 20_887_875),
        (DiscriminatorConfig(layout="global-body-head", background_channels=4), 27_848_452),
    ],
)
def test_as_many_weights_as_the_papers(config: DiscriminatorConfig, count: int) -> None:
    with torch.device("meta"):
        judge = build_discriminator(config)
    assert sum(tensor.numel() for tensor in judge.parameters()) == count


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_every_preset_is_built_by_its_name(name: str) -> None:
    with torch.device("meta"):
        assert build_discriminator(name).config == DISCRIMINATORS[name]


# ------------------------------------------------------------------------------------------- views


def test_crops_keep_corners_and_resample_between_them() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    crop = crop_boxes(ramp, torch.tensor([[10, 21, 0, 64]]), (4, 5))
    assert crop is not None
    # Corners aligned: the first column shows pixel 10, the last one pixel 20.
    torch.testing.assert_close(crop[0, 0, 0], torch.tensor([10, 12.5, 15, 17.5, 20]))


def test_empty_and_inverted_boxes_are_dropped_and_the_order_kept() -> None:
    values = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 8, 8)
    boxes = torch.tensor(
        [
            [2, 2, 0, 8],  # no width
            [0, 8, 1, 5],
            [6, 3, 0, 8],  # inverted: the person is outside of the picture
            [0, 8, 5, 5],  # no height
            [-4, 3, -4, 99],  # partly outside
            [9, 20, 0, 8],  # wholly outside
        ]
    )
    crops = crop_boxes(values, boxes, (4, 4))
    assert crops is not None
    assert crops[:, 0, 0, 0].tolist() == [1, 4]


def test_a_box_that_sticks_out_is_cut_off() -> None:
    picture = pictures(1, 16)
    inside = crop_boxes(picture, torch.tensor([[0, 5, 8, 16]]), (6, 6))
    outside = crop_boxes(picture, torch.tensor([[-3, 5, 8, 20]]), (6, 6))
    assert inside is not None
    assert outside is not None
    assert torch.equal(inside, outside)


def test_a_judge_without_a_box_gives_no_verdict() -> None:
    judge = small("global-body-head")
    body = torch.tensor([[4, 60, 2, 62], [0, 0, 0, 0]])
    verdicts = judge(DiscriminatorInputs(pictures(), None, body, torch.zeros_like(body)))
    assert list(verdicts) == ["global", "body"]
    assert len(verdicts["body"]) == 1


def test_every_judge_sees_its_own_view() -> None:
    judge = small("global-body-head", background_channels=4)
    boxes = torch.tensor([[4, 60, 2, 62], [8, 40, 0, 64]])
    background = pictures(channels=4)
    inputs = DiscriminatorInputs(pictures(), background, boxes, boxes)
    verdicts = judge(inputs)
    assert list(verdicts) == ["background", "global", "body", "head"]

    elsewhere = inputs.picture.clone()
    elsewhere[:, :, 63, 63] = 5  # outside of every box, in the corner of the picture
    changed = judge(DiscriminatorInputs(elsewhere, background, boxes, boxes))
    assert torch.equal(changed["body"], verdicts["body"])
    assert torch.equal(changed["background"], verdicts["background"])
    assert not torch.equal(changed["global"], verdicts["global"])


def test_without_a_background_its_judge_is_silent() -> None:
    assert list(small(background_channels=4)(DiscriminatorInputs(pictures()))) == ["global"]


def test_multi_scale_judges_look_at_the_picture_if_nothing_else_is_given() -> None:
    judge = small("multi-scale")
    implied = judge(DiscriminatorInputs(pictures()))
    given = judge(DiscriminatorInputs(torch.zeros(2, 1, 1, 1), local=pictures()))
    assert list(implied) == ["full_size", "half_size"]
    assert all(torch.equal(implied[name], given[name]) for name in implied)


def test_gradients_reach_the_cropped_pixels_only() -> None:
    picture = pictures(1).requires_grad_()
    judge = small("global-local")
    verdicts = judge(DiscriminatorInputs(picture, body_boxes=torch.tensor([[16, 48, 0, 64]])))
    (gradient,) = torch.autograd.grad(verdicts["local"].square().sum(), picture)
    assert gradient[..., 16:48].abs().sum() > 0
    assert gradient[..., :16].abs().max() == 0
    assert gradient[..., 48:].abs().max() == 0


def test_sigmoid_gives_probabilities() -> None:
    verdict = small(sigmoid=True)(DiscriminatorInputs(50 * pictures()))["global"]
    assert verdict.min() >= 0
    assert verdict.max() <= 1


def test_the_mean_verdict_weighs_judges_alike() -> None:
    verdicts = {"a": torch.ones(1, 1, 8, 8), "b": torch.full((1, 1, 1, 1), 3.0, requires_grad=True)}
    mean = mean_verdict(verdicts)
    assert mean.item() == 2
    assert not mean.requires_grad


# ------------------------------------------------------------------------------------------- errors


def test_too_small_a_view_says_how_large_it_must_be() -> None:
    judge = build_discriminator(DiscriminatorConfig(layout="global-body-head", width=2))
    boxes = torch.tensor([[0, 128, 0, 128]])
    with pytest.raises(ValueError, match=r"head judge sees 32x32 pixels, but needs 48 a side"):
        judge(DiscriminatorInputs(pictures(1, 128), None, boxes, boxes))


def test_the_smallest_view_is_enough() -> None:
    config = DiscriminatorConfig(layout="global-body-head", width=2)
    boxes = torch.tensor([[0, 192, 0, 192]])
    verdicts = build_discriminator(config)(
        DiscriminatorInputs(pictures(1, 192), None, boxes, boxes)
    )
    assert verdicts["head"].shape == (1, 1, 1, 1)


def test_missing_boxes_are_asked_for() -> None:
    with pytest.raises(ValueError, match="give body_boxes"):
        small("global-local")(DiscriminatorInputs(pictures()))


def test_boxes_of_another_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"head_boxes is \(1, 4\); 2 pictures need \(2, 4\)"):
        DiscriminatorInputs(pictures(2), head_boxes=torch.zeros(1, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "local"}, "Unknown layout 'local'. Choose one of: global, global-local"),
        ({"norm": "layer"}, "Unknown norm 'layer'"),
        ({"halvings": 0}, "halvings is 0"),
        ({"background_channels": True}, "background_channels is True"),
        ({"layout": "multi-scale", "background_channels": 4}, "has no background judge"),
    ],
)
def test_configs_that_cannot_be_built(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscriminatorConfig(**settings)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="Choose one of: patch-global"):
        build_discriminator("patch")


# ------------------------------------------------------------------------------------------- parity


def reference(
    fixtures_folder: Path, folder: Path, name: str, prefix: str = ""
) -> tuple[Discriminator, dict[str, Tensor], dict]:
    """The fixture's discriminator, read as one reads a file of the reference; arrays; settings."""
    with np.load(fixtures_folder / "lwgan" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta_json"}
        settings = json.loads(str(file["meta_json"]))
    start = f"{prefix}sd/"
    weights = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    torch.save(weights, folder / "dis.pth")
    case = settings["cases"][prefix.strip("/")] if prefix else settings
    judge = read_discriminator(folder / "dis.pth", sigmoid=case.get("use_sigmoid", False))
    assert judge.config.width == settings["ndf"]
    assert judge.config.halvings == case["n_layers"]
    return judge.eval(), arrays, settings


def expected(arrays: dict[str, Tensor], case: str) -> list[Tensor]:
    return [arrays[f"{case}/out_{i}"] for i in range(9) if f"{case}/out_{i}" in arrays]


def assert_equal(verdicts: list[Tensor], wanted: list[Tensor]) -> None:
    assert [v.shape for v in verdicts] == [w.shape for w in wanted]
    for verdict, want in zip(verdicts, wanted, strict=True):
        torch.testing.assert_close(verdict, want, atol=TOLERANCE, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("case", ["p0", "p1", "p2"])
@torch.no_grad()
def test_patch_networks_of_the_reference(fixtures_folder: Path, tmp_path: Path, case: str) -> None:
    judge, arrays, settings = reference(fixtures_folder, tmp_path, "dis_patch", f"{case}/")
    picture = arrays["x"]
    if case == "p0":
        picture = picture.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert judge.config.norm == settings["cases"][case]["norm_type"]
    assert_equal([judge(DiscriminatorInputs(picture))["global"]], [arrays[f"{case}/out"]])
    if case == "p2":
        verdict = judge.train()(DiscriminatorInputs(picture))["global"]
        assert_equal([verdict], [arrays["p2/out_train_mode"]])


@pytest.mark.parity
@pytest.mark.parametrize(
    "name", ["dis_patch_global", "dis_patch_global_local", "dis_patch_global_body_head"]
)
@pytest.mark.parametrize("case", ["full", "nobg", "norects"])
@torch.no_grad()
def test_composites_of_the_reference(
    fixtures_folder: Path, tmp_path: Path, name: str, case: str
) -> None:
    judge, arrays, _ = reference(fixtures_folder, tmp_path, name)
    body, head = arrays["body_rects"], arrays["head_rects"]
    if case == "norects":
        body, head = torch.zeros_like(body), torch.zeros_like(head)
    inputs = DiscriminatorInputs(
        picture=arrays["x"],
        background=arrays["bg_x"] if case == "full" else None,
        body_boxes=body,
        head_boxes=head,
    )
    verdicts = judge(inputs)
    assert_equal(list(verdicts.values()), expected(arrays, case))
    if f"{case}/out_avg" in arrays:
        assert_equal([mean_verdict(verdicts)], [arrays[f"{case}/out_avg"]])


@pytest.mark.parity
@torch.no_grad()
def test_multi_scale_of_the_reference(fixtures_folder: Path, tmp_path: Path) -> None:
    judge, arrays, settings = reference(fixtures_folder, tmp_path, "dis_multi_scale")
    assert judge.config.channels == settings["global_nc"]
    inputs = DiscriminatorInputs(picture=arrays["global_x"], local=arrays["local_x"])
    assert_equal(list(judge(inputs).values()), expected(arrays, "full"))
