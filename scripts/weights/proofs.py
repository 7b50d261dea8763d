"""What a generator does with people that it was not trained on: closeness, sharpness, and pictures to look at."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metrics import METRICS, score_frames
from iper_toolkit.body import load_body
from iper_toolkit.images import to_uint8
from lwgan.batch import Batch
from lwgan.checkpoints import Generator
from lwgan.packs import Packs
from lwgan.samples import Batches, SampleRules
from lwgan.surface_tables import surface_tables
from lwgan.training import CONVENTION
from lwgan.training_step import draw

Pixels = NDArray[np.uint8]
_SEED, _BATCHES = 5, 16
_PERSON = 128
_MOST_SSIM_LOST = 0.01


@dataclass(frozen=True)
class Figures:
    """Means over frames of people held out, on the person's mask."""

    ssim: float
    l1: float  # 0 .. 1
    lpips_mini: float
    sharpness: float  # standard deviation of the Laplacian, as a share of the truth's
    frames: int

    def is_better_than(self, other: "Figures") -> bool:
        """Whether it looks nearer (LPIPS-mini), and that is not paid for with more than a hundredth of SSIM."""
        return self.lpips_mini < other.lpips_mini and self.ssim > other.ssim - _MOST_SSIM_LOST

    def __str__(self) -> str:
        return (
            f"SSIM {self.ssim:.4f}, L1 {self.l1:.4f}, LPIPS-mini {self.lpips_mini:.4f}, sharpness {self.sharpness:.3f} "
            f"({self.frames} frames; synthetic people)"
        )


def figures(
    generator: Generator, packs: Packs, *, size: int = 256, num_sources: int = 2
) -> Figures:
    """Draw targets of every held-out person."""
    drawn, real, masks, _ = drawn_pictures(generator, packs, size=size, num_sources=num_sources)
    return measured(drawn, real, masks)


def measured(drawn: Pixels, real: Pixels, masks: Pixels) -> Figures:
    names = ("ssim_person", "l1_person", "lpips_mini_person")
    scores = score_frames([METRICS[name] for name in names], drawn, real, masks)
    ssim, l1, lpips = (float(np.nanmean(scores[name])) for name in names)
    sharp = sharpness(drawn, masks) / sharpness(real, masks)
    return Figures(ssim, l1, lpips, sharp, len(drawn))


def drawn_pictures(
    generator: Generator, packs: Packs, *, size: int, num_sources: int
) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """(N, S, S, 3) drawn and true pictures, (N, S, S) masks, and the texture before the plate."""
    body = load_body("open")
    rules = SampleRules(
        size=size,
        batch=3,
        num_sources=(num_sources,),
        num_targets=2,
        colours=False,
        seed=_SEED,
    )
    batches = Batches([packs], rules, body, surface_tables(body, CONVENTION))
    parts: list[tuple[Pixels, Pixels, Pixels, Pixels]] = []
    with torch.inference_mode():
        for number in range(_BATCHES):
            batch = batches[number]
            made = draw(generator, batch, with_sources=False)
            mask = (1 - batch.target_mask.flatten(0, 1)[:, 0]) * 255
            parts.append(
                (
                    _pixels(made.target),
                    _pixels(batch.target),
                    mask.round().byte().numpy(),
                    _pixels(_texture(batch)),
                )
            )
    drawn, real, masks, texture = (np.concatenate(one) for one in zip(*parts, strict=True))
    return drawn, real, masks, texture


def sharpness(pictures: Pixels, masks: Pixels) -> float:
    """Mean over pictures of the standard deviation of the grey picture's Laplacian on the person."""
    found = []
    for picture, mask in zip(pictures, masks, strict=True):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        found.append(cv2.Laplacian(grey, cv2.CV_32F)[mask >= _PERSON].std())
    return float(np.mean(found))


def _texture(batch: Batch) -> torch.Tensor:
    shown = batch.inputs.target[:, :, :3]
    covered = (shown != 0).any(2, keepdim=True)
    return torch.where(covered, shown, batch.target_scene)


def _pixels(pictures: torch.Tensor) -> Pixels:
    return to_uint8(pictures.flatten(0, 1).float().clamp(-1, 1).numpy())
