"""One step of training, in the open: draw, compare, update the generator, then the discriminator.

(Liu et al. 2021, section 3.4.) The discriminator is updated with the pictures that were drawn before the generator
changed, as the reference does; what the generator's loss leaves in the discriminator's gradients is thrown away.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lwgan import losses
from lwgan.batch import Batch
from lwgan.checkpoints import Generator
from lwgan.discriminators import Discriminator, DiscriminatorInputs
from lwgan.generators.records import GeneratorOutputs
from lwgan.learners import Learners
from lwgan.precision import resolve_precision
from lwgan.training_config import LossWeights, TrainingConfig


@dataclass(frozen=True)
class Drawn:
    """What a generator made of a batch: people laid over what is behind them."""

    target: Tensor  # (B, T, 3, H, W)
    target_mask: Tensor  # (B, T, 1, H, W), 1 = background
    source: Tensor | None  # (B, S, 3, H, W); None where sources were not drawn again
    source_mask: Tensor | None
    background: Tensor | None  # (B, N, 3, H, W); None: the true scene is behind them


class NotFinite(ArithmeticError):
    """A loss became NaN or infinite; the message says which and what to do."""


def training_step(
    learners: Learners,
    batch: Batch,
    config: TrainingConfig,
    number: int,
    *,
    share: Callable[[nn.Module], None] | None = None,
) -> dict[str, float]:
    """Update everything once.

    Args:
        batch: on the generator's device.
        number: of the step, from 0; says which terms take part (`sources_every`, `adversarial_from`).
        share: function of a module that averages its gradients over processes; None: there is one process.

    Returns:
        The weighted terms by name, their sum `total`, and of the discriminator `real`, `fake` and `verdict_*`.

    Raises:
        NotFinite: a term is no number; then this network, and what is updated after it, stay as they were.
    """
    weights = _weights_of(config, number)
    with _autocast(batch.target.device, config):
        drawn = draw(learners.generator, batch, with_sources=weights.draws_sources)
        judged = weights.adversarial > 0 and learners.discriminator is not None
        verdicts = None
        if judged:
            assert learners.discriminator is not None
            verdicts = learners.discriminator(judged_view(batch, drawn.target, drawn.background))
        terms = generator_terms(drawn, batch, weights, learners.networks, verdicts)
    total = torch.stack(list(terms.values())).sum()
    _check_finite(terms, number)
    learners.generator_optimiser.zero_grad(set_to_none=True)
    total.backward()
    if share is not None:
        share(learners.generator)
    rate = _clip(learners.generator, config.clip)
    learners.generator_optimiser.step()
    told = {name: float(term.detach()) for name, term in terms.items()}
    told |= {"total": float(total.detach())} | rate
    if not judged:
        return told

    assert learners.discriminator is not None
    assert learners.discriminator_optimiser is not None
    with _autocast(batch.target.device, config):
        judgement = discriminator_terms(learners.discriminator, batch, drawn)
    wrong = judgement["real"] + judgement["fake"]
    _check_finite({"discriminator": wrong}, number)
    learners.discriminator_optimiser.zero_grad(set_to_none=True)
    wrong.backward()
    if share is not None:
        share(learners.discriminator)
    learners.discriminator_optimiser.step()
    return told | {name: float(value.detach()) for name, value in judgement.items()}


def draw(generator: Generator, batch: Batch, *, with_sources: bool = True) -> Drawn:
    """Run the generator and lay its people over what is behind them: ``M bg + (1 - M) person``."""
    outputs: GeneratorOutputs = generator(batch.inputs, only_target=not with_sources)
    background = outputs.background
    behind_target, behind_source = batch.target_scene, batch.source_scene
    if background is not None:
        behind_target = behind_source = background[:, :1]
    source = None
    if outputs.source_image is not None and outputs.source_mask is not None:
        source = _over(behind_source, outputs.source_image, outputs.source_mask)
    return Drawn(
        target=_over(behind_target, outputs.target_image, outputs.target_mask),
        target_mask=outputs.target_mask,
        source=source,
        source_mask=outputs.source_mask,
        background=background,
    )


def generator_terms(
    drawn: Drawn,
    batch: Batch,
    weights: LossWeights,
    networks: Mapping[str, nn.Module],
    verdicts: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """The weighted terms of the generator's loss, those of weight 0 left out."""
    target, real = drawn.target.flatten(0, 1), batch.target.flatten(0, 1)
    masks, real_masks = [drawn.target_mask], [batch.target_mask]
    if drawn.source_mask is not None:
        masks, real_masks = [drawn.source_mask, *masks], [batch.source_mask, *real_masks]
    mask, real_mask = torch.cat(masks, 1), torch.cat(real_masks, 1)
    person = losses.person_weights(batch.target_mask.flatten(0, 1), weights.person_factor)
    found = {
        "reconstruction": lambda: _reconstruction(drawn, batch),
        "perceptual": lambda: losses.perceptual_loss(networks["vgg19"], target, real),
        "identity": lambda: losses.identity_loss(
            networks["sphereface"], target, real, batch.head_boxes
        ),
        "adversarial": lambda: losses.least_squares((verdicts or {}).values(), 0),
        "mask": lambda: losses.mask_loss(mask, real_mask),
        "mask_smoothness": lambda: losses.total_variation(mask.flatten(0, 1)),
        "person": lambda: losses.weighted_absolute(target, real, person),
        "pooled": lambda: losses.pooled_absolute(target, real, person),
        "structure": lambda: losses.dissimilarity(target, real, person),
        "edges": lambda: losses.gradient_difference(target, real, person),
        "detail": lambda: losses.detail_difference(target, real, person),
        "features": lambda: losses.feature_distance(
            networks["perceptual-small"], target, real, (0.2,) * 5
        ),
        "sources": lambda: _sources(drawn, batch, weights.person_factor),
    }
    present = dict(found)
    if verdicts is None:
        del present["adversarial"]
    if drawn.source is None:
        del present["sources"]
        if drawn.background is None:
            del present["reconstruction"]
    return {
        name: getattr(weights, name) * term()
        for name, term in present.items()
        if getattr(weights, name) > 0
    }


def discriminator_terms(
    discriminator: Discriminator, batch: Batch, drawn: Drawn
) -> dict[str, Tensor]:
    """Its two terms, +1 wanted on real and -1 on drawn pictures, and mean verdicts to log."""
    background = None if drawn.background is None else drawn.background.detach()
    fake = discriminator(judged_view(batch, drawn.target.detach(), background))
    real_background = None if background is None else batch.real_background[:, None]
    real = discriminator(judged_view(batch, batch.target, real_background))
    return {
        "real": losses.least_squares(real.values(), 1),
        "fake": losses.least_squares(fake.values(), -1),
        "verdict_real": _mean(real),
        "verdict_fake": _mean(fake),
    }


def judged_view(batch: Batch, target: Tensor, background: Tensor | None) -> DiscriminatorInputs:
    """Targets beside the condition map they were drawn from; the last background beside what was known of it."""
    condition = batch.inputs.target[:, :, -3:]
    seen = None
    if background is not None:
        seen = torch.cat([background[:, -1], batch.hole], dim=1)
    return DiscriminatorInputs(
        picture=torch.cat([target, condition], dim=2).flatten(0, 1),
        background=seen,
        body_boxes=batch.body_boxes,
        head_boxes=batch.head_boxes,
    )


def _reconstruction(drawn: Drawn, batch: Batch) -> Tensor:
    """Half of L1 of the sources plus L1 of the background; of what draws no sources, L1 of the background alone."""
    terms = []
    if drawn.source is not None:
        terms.append(0.5 * losses.mean_absolute(drawn.source, batch.source))
    if drawn.background is not None:
        share = 1.0 if drawn.source is None else 0.5
        last = drawn.background[:, -1]
        terms.append(share * losses.mean_absolute(last, batch.real_background))
    return torch.stack(terms).sum()


def _sources(drawn: Drawn, batch: Batch, factor: float) -> Tensor:
    assert drawn.source is not None  # such a term is left out
    weights = losses.person_weights(batch.source_mask.flatten(0, 1), factor)
    return losses.weighted_absolute(drawn.source.flatten(0, 1), batch.source.flatten(0, 1), weights)


def _weights_of(config: TrainingConfig, number: int) -> LossWeights:
    """The weights that hold in a step."""
    weights = config.losses
    if number < config.adversarial_from * config.steps:
        weights = replace(weights, adversarial=0.0)
    if number % config.sources_every:
        weights = replace(weights, sources=0.0)
        if not config.generator.background_network:
            weights = replace(weights, reconstruction=0.0)
    return weights


def _over(background: Tensor, person: Tensor, mask: Tensor) -> Tensor:
    return mask * background + (1 - mask) * person


def _mean(verdicts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([verdict.detach().float().mean() for verdict in verdicts.values()]).mean()


def _autocast(device: torch.device, config: TrainingConfig) -> AbstractContextManager[object]:
    enabled = resolve_precision(config.precision, device.type) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _clip(module: nn.Module, longest: float) -> dict[str, float]:
    if not longest:
        return {}
    return {"gradient": float(nn.utils.clip_grad_norm_(module.parameters(), longest))}


def _check_finite(terms: Mapping[str, Tensor], number: int) -> None:
    bad = [name for name, term in terms.items() if not torch.isfinite(term)]
    if bad:
        raise NotFinite(
            f"Step {number}: {', '.join(bad)} is not finite, and nothing was learned from it. What was saved "
            "before is whole. Lower learning_rate, set clip=1, or train in precision=float32; then give the same "
            "command again."
        )
