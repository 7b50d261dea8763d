"""One step of training: the reference's losses, gradients and first three updates, and what a step must do."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iper_toolkit.threads import one_thread
from lwgan.batch import Batch
from lwgan.discriminators import DiscriminatorConfig, build_discriminator, mean_verdict
from lwgan.foreign import DISCRIMINATOR_RULES, GENERATOR_RULES, rename, reversed_rules
from lwgan.generators import GeneratorConfig, build_generator
from lwgan.generators.records import GeneratorInputs
from lwgan.learners import Learners
from lwgan.training_config import CONFIGS, LossWeights, TrainingConfig
from lwgan.training_step import (
    NotFinite,
    discriminator_terms,
    draw,
    generator_terms,
    judged_view,
    training_step,
)

NAMES = ("lwg", "augbg")
LOSSES, GRADIENTS, STEPS = 1e-4, 5e-3, 1e-3
# What the reference calls its terms.
TERMS = {
    "rec": "reconstruction", "tsf": "perceptual", "face": "identity", "adv": "adversarial", "mask": "mask",
    "smooth": "mask_smoothness",
}  # fmt: skip


class Reference:
    """One fixture file: networks with its weights, its batch, and its numbers."""

    def __init__(self, folder: Path, name: str, by_recipe: Any) -> None:
        self.by_recipe = by_recipe
        with np.load(folder / "lwgan" / f"train_step_{name}.npz", allow_pickle=False) as file:
            self.arrays = dict(file)
        self.meta = json.loads(str(self.arrays["meta_json"]))
        is_augmented = name == "augbg"
        weights = self.meta["lambdas"]
        self.config = TrainingConfig(
            generator=GeneratorConfig(
                background_channels=(4, 6, 8, 10),
                background_blocks=2,
                channels=(4, 6, 8),
                residual_blocks=2,
            ),
            discriminator=DiscriminatorConfig(
                layout="global-body-head" if is_augmented else "global",
                width=self.meta["D_cfg"]["ndf"],
                halvings=self.meta["D_cfg"]["n_layers"],
                background_channels=4 if is_augmented else None,
            ),
            losses=LossWeights(**{ours: weights[theirs] for theirs, ours in TERMS.items()}),
        )

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def learners(self) -> Learners:
        generator, judge = (
            build_generator(self.config.generator),
            build_discriminator(self.config.discriminator),
        )
        for module, prefix, rules in (
            (generator, "G/", GENERATOR_RULES),
            (judge, "D/", DISCRIMINATOR_RULES),
        ):
            state = {}
            for key in self.arrays:
                if key.startswith(prefix):
                    name = rename(key.removeprefix(prefix), rules)
                    assert name is not None, key
                    state[name] = self.tensor(key)
            module.load_state_dict(state)
        return Learners(
            generator,
            judge,
            torch.optim.Adam(generator.parameters(), 1e-4),
            torch.optim.Adam(judge.parameters(), 1e-4),
            {
                "vgg19": self.by_recipe("vgg19", self.meta["vgg_recipe_seed"]),
                "sphereface": self.by_recipe("sphereface", self.meta["face_recipe_seed"]),
            },
        )

    def batch(self) -> Batch:
        masks = self.tensor("body_mask")
        num_sources = self.arrays["real_src"].shape[1]
        nothing = torch.zeros(())
        return Batch(
            inputs=GeneratorInputs(
                background=self.tensor("input_G_bg"),
                source=self.tensor("input_G_src"),
                target=self.tensor("input_G_tsf"),
                flow=self.tensor("Tst"),
            ),
            source=self.tensor("real_src"),
            target=self.tensor("real_tsf"),
            source_mask=masks[:, :num_sources],
            target_mask=masks[:, num_sources:],
            source_scene=nothing,  # a network draws the background
            target_scene=nothing,
            real_background=self.tensor("real_bg"),
            head_boxes=self.tensor("head_bbox"),
            body_boxes=self.tensor("body_bbox"),
        )


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Small networks gain nothing of a second thread, and lose much where other tests have the cores."""
    with one_thread():
        yield


@pytest.fixture(params=NAMES)
def reference(fixtures_folder: Path, by_recipe: Any, request: pytest.FixtureRequest) -> Reference:
    return Reference(fixtures_folder, request.param, by_recipe)


def close(found: Any, wanted: Any, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=tolerance, atol=1e-6)


@pytest.mark.parity
def test_pictures_and_losses_are_the_references(reference: Reference) -> None:
    learners, batch = reference.learners(), reference.batch()
    drawn = draw(learners.generator, batch)
    for name, found in (
        ("fake_bg", drawn.background),
        ("fake_src_imgs", drawn.source),
        ("fake_tsf_imgs", drawn.target),
        ("fake_masks", torch.cat([drawn.source_mask, drawn.target_mask], 1)),  # type: ignore[list-item]
    ):
        assert found is not None
        np.testing.assert_allclose(found.detach(), reference.arrays[f"fwd/out_{name}"], atol=2e-5)
    assert learners.discriminator is not None
    verdicts = learners.discriminator(judged_view(batch, drawn.target, drawn.background))
    terms = generator_terms(drawn, batch, reference.config.losses, learners.networks, verdicts)
    for theirs, ours in TERMS.items():
        close(terms[ours].detach(), reference.arrays[f"loss/out_g_{theirs}"], LOSSES)
    close(
        sum(float(t.detach()) for t in terms.values()), reference.arrays["loss/out_g_total"], LOSSES
    )
    judged = discriminator_terms(learners.discriminator, batch, drawn)
    close((judged["real"] + judged["fake"]).detach(), reference.arrays["loss/out_d_total"], LOSSES)
    for theirs, ours in (("real", "verdict_real"), ("fake", "verdict_fake")):
        close(judged[ours], reference.arrays[f"loss/out_d_{theirs}_avg"], LOSSES)
    assert float(mean_verdict(verdicts)) == pytest.approx(float(judged["verdict_fake"]), rel=1e-4)


def has_no_true_gradient(key: str, config: TrainingConfig) -> bool:
    """Biases before an instance norm, and of keys, cancel: what is stored of them is rounding."""
    if not key.endswith("bias"):
        return False
    if ".fk." in key:
        return True
    if key.startswith("bg_net"):
        return True
    last = 3 * config.discriminator.halvings + 2
    number = key.split(".")[-2]
    return "model." in key and number.isdigit() and 0 < int(number) < last


def errors_of_gradients(reference: Reference, batch: Batch) -> dict[str, float]:
    """Greatest error of each tensor's gradient, as a share of its greatest value."""
    learners, config = reference.learners(), reference.config
    assert learners.discriminator is not None
    drawn = draw(learners.generator, batch)
    verdicts = learners.discriminator(judged_view(batch, drawn.target, drawn.background))
    terms = generator_terms(drawn, batch, config.losses, learners.networks, verdicts)
    torch.stack(list(terms.values())).sum().backward()
    learners.discriminator.zero_grad()
    judged = discriminator_terms(learners.discriminator, batch, drawn)
    (judged["real"] + judged["fake"]).backward()
    errors = {}
    for module, prefix, rules in (
        (learners.generator, "gradG/", GENERATOR_RULES),
        (learners.discriminator, "gradD/", DISCRIMINATOR_RULES),
    ):
        for name, parameter in module.named_parameters():
            key = rename(name, reversed_rules(rules))
            assert key is not None
            wanted = reference.arrays[f"{prefix}{key}"]
            if has_no_true_gradient(key, config):
                continue
            assert parameter.grad is not None, name
            greatest = max(float(np.abs(wanted).max()), 1e-12)
            errors[name] = float(np.abs(parameter.grad.numpy() - wanted).max()) / greatest
    return errors


def nudged(batch: Batch, seed: int) -> Batch:
    """The same pictures, as far as float32 can tell: each number off by a rounding or so."""
    random = torch.Generator().manual_seed(seed)

    def off(values: Tensor) -> Tensor:
        return values * (1 + 1.2e-7 * torch.randn(values.shape, generator=random))

    inputs = replace(batch.inputs, source=off(batch.inputs.source), target=off(batch.inputs.target))
    assert inputs.background is not None
    return replace(batch, inputs=replace(inputs, background=off(inputs.background)))


@pytest.mark.parity
def test_gradients_are_the_references(reference: Reference) -> None:
    """Gradients of ReLU and of absolute differences jump where an argument crosses 0.

    So a rounding that falls the other way, anywhere, moves some of them by a few per cent, in the reference's own
    program too. A tensor is right if it agrees for these pictures or for ones that differ by a rounding.
    """
    batch = reference.batch()
    errors = errors_of_gradients(reference, batch)
    assert len(errors) > 60
    for seed in range(12):
        if max(errors.values()) <= GRADIENTS:
            break
        again = errors_of_gradients(reference, nudged(batch, seed))
        errors = {name: min(error, again[name]) for name, error in errors.items()}
    assert {name: error for name, error in errors.items() if error > GRADIENTS} == {}


@pytest.mark.parity
def test_three_updates_are_the_references(reference: Reference) -> None:
    learners, batch = reference.learners(), reference.batch()
    for row, number in zip(reference.arrays["steps/out_losses"], range(3), strict=True):
        told = training_step(learners, batch, reference.config, number)
        found = [told[ours] for ours in TERMS.values()] + [
            told["verdict_real"],
            told["verdict_fake"],
        ]
        close(found, row, STEPS)


# --------------------------------------------------------------------------------------- properties

SMALL = GeneratorConfig(
    background_network=False, channels=(4, 6, 8), residual_blocks=1, spade_hidden=4
)


def small(**losses: float) -> tuple[Learners, Batch, TrainingConfig]:
    torch.manual_seed(0)
    config = replace(
        CONFIGS["small"],
        generator=SMALL,
        discriminator=DiscriminatorConfig(width=4, halvings=2),
        losses=LossWeights(**({"person": 1.0, "mask": 0.3} | losses)),
        warmup=0,
        adversarial_from=0.0,
        precision="float32",
    )
    generator = build_generator(SMALL)
    judge = build_discriminator(config.discriminator)

    def picture(*shape: int) -> Tensor:
        return torch.rand(shape) * 2 - 1

    mask = torch.ones(2, 1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 0
    batch = Batch(
        inputs=GeneratorInputs(
            None, picture(2, 2, 6, 32, 32), picture(2, 1, 6, 32, 32), picture(2, 1, 2, 32, 32, 2)
        ),
        source=picture(2, 2, 3, 32, 32),
        target=picture(2, 1, 3, 32, 32),
        source_mask=mask.expand(-1, 2, -1, -1, -1),
        target_mask=mask,
        source_scene=picture(2, 2, 3, 32, 32),
        target_scene=picture(2, 1, 3, 32, 32),
        real_background=picture(2, 3, 32, 32),
        head_boxes=torch.tensor([[8, 20, 8, 20]] * 2),
        body_boxes=torch.tensor([[4, 28, 4, 28]] * 2),
    )
    learners = Learners(
        generator,
        judge,
        torch.optim.Adam(generator.parameters(), 1e-2),
        torch.optim.Adam(judge.parameters(), 1e-3),
        {},
    )
    return learners, batch, config


def test_losses_fall() -> None:
    learners, batch, config = small(structure=0.5, edges=0.5, pooled=0.5, sources=0.5)
    told = [training_step(learners, batch, config, number)["total"] for number in range(30)]
    assert told[-1] < 0.8 * told[0]


def test_sources_are_drawn_again_in_some_steps_alone() -> None:
    learners, batch, config = small(sources=1.0)
    config = replace(config, sources_every=3)
    told = [training_step(learners, batch, config, number) for number in range(4)]
    assert ["sources" in one for one in told] == [True, False, False, True]


def test_the_discriminator_comes_in_when_it_is_time() -> None:
    learners, batch, config = small(adversarial=0.1)
    config = replace(config, steps=4, adversarial_from=0.5)
    assert learners.discriminator is not None
    before = {name: one.clone() for name, one in learners.discriminator.state_dict().items()}
    told = [training_step(learners, batch, config, number) for number in range(2)]
    assert all("fake" not in one for one in told)
    unchanged = learners.discriminator.state_dict()
    assert all(torch.equal(before[name], unchanged[name]) for name in before)
    assert {"adversarial", "real", "fake"} <= set(training_step(learners, batch, config, 2))


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    learners, batch, config = small()
    before = {name: one.clone() for name, one in learners.generator.state_dict().items()}
    with pytest.raises(NotFinite, match=r"Step 7: person.*clip=1"):
        training_step(learners, replace(batch, target=batch.target * torch.nan), config, 7)
    after = learners.generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("fusion", ["attention-spade", "attention-adain", "add", "mean"])
def test_checkpointing_changes_no_gradient(fusion: Any) -> None:
    _, batch, _ = small()
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        generator = build_generator(replace(SMALL, fusion=fusion))
        generator.checkpointing = checkpointing  # type: ignore[assignment]
        draw(generator, batch, with_sources=False).target.square().mean().backward()
        found.append({n: p.grad for n, p in generator.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
