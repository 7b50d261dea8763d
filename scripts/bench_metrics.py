"""How fast the metrics are, against the official package's forms written plainly, in the same run.

The baseline does what that package does: each metric loads and embeds its pictures by itself, true ones
again for every method and role, SSIM by scikit-image, Fréchet distances by `scipy.linalg.sqrtm`. Judges have random
weights: what they weigh is not what they cost. Times are CPU seconds of one process on one thread, as
`--workers` runs them; ratios are what to look at. The two forms take turns, so that a busy machine slows both.
"""

import inspect
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.judging import Judges
from benchmarks.looking import boxes_of_masks
from benchmarks.metrics import METRICS, Pair, Pictures, score_pair
from benchmarks.metrics.frechet import frechet_distance

SIZE, NUM_PICTURES = 256, 32
RANDOM_SEED = 1


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], turns: int
) -> tuple[float, float]:
    """Best seconds of each, taking turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for seconds, run in zip(found, (ours, theirs), strict=True):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    return min(found[0]), min(found[1])


# --------------------------------------------------------------------------------------- Fréchet


def sqrtm_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The Fréchet distance as it is usually written."""
    from scipy.linalg import sqrtm

    means = first.mean(0) - second.mean(0)
    left, right = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    told = {"disp": False} if "disp" in inspect.signature(sqrtm).parameters else {}
    found = sqrtm(left @ right, **told)
    root = found[0] if isinstance(found, tuple) else found
    return float(means @ means + np.trace(left) + np.trace(right) - 2 * np.trace(root).real)


def bench_frechet(whole: bool) -> list[dict[str, Any]]:
    rows = []
    cases = [(600, 512, 1.0), (600, 1024, 1.0), (2000, 512, 1.0)]
    if whole:
        cases.insert(2, (600, 2048, 20.0))
    for n, d, goal in cases:
        random = np.random.default_rng(0)
        sets = [random.normal(0, 1, (n, d)) * np.linspace(0.1, 2, d) + shift for shift in (0, 0.1)]
        first, second = (one.astype(np.float32) for one in sets)
        values: dict[str, float] = {}

        def ours(first: Any = first, second: Any = second, values: Any = values) -> None:
            values["ours"] = frechet_distance([first], [second]).value

        def theirs(first: Any = first, second: Any = second, values: Any = values) -> None:
            values["theirs"] = sqrtm_distance(first.astype(np.float64), second.astype(np.float64))

        seconds = compare(ours, theirs, 1 if d > 1024 else 2)
        off = abs(values["ours"] - values["theirs"]) / abs(values["theirs"])
        rows.append(_row(f"Fréchet, n = m = {n}, d = {d}", seconds, goal, off))
    if whole:
        random = np.random.default_rng(0)
        big = [random.normal(0, 1, (3110, 12288)).astype(np.float32) for _ in range(2)]
        start = time.process_time()
        frechet_distance([big[0]], [big[1]])
        spent = time.process_time() - start
        click.echo(f"  Fréchet, n = m = 3110, d = 12288: {spent:.1f} s (goal under 40)")
        rows.append({"what": "Fréchet, n = m = 3110, d = 12288", "seconds": spent, "goal_s": 40})
    return rows


# ----------------------------------------------------------------------------------------- networks


def _pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (NUM_PICTURES, SIZE, SIZE, 3), dtype=np.uint8)
    generated = np.clip(truth + random.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    masks = np.zeros(truth.shape[:3], np.uint8)
    masks[:, SIZE // 8 : -SIZE // 8, SIZE // 3 : -SIZE // 3] = 255
    return generated, truth, masks


class Plain:
    """The official package's way: a metric at a time, each with its own pass over both sets of pictures."""

    def __init__(self, judges: Judges) -> None:
        self._judges = judges

    def embed(
        self, name: str, frames: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> torch.Tensor:
        """(N, d): pictures to [0, 1], cut, normalised, resized, embedded, in batches of 16."""
        loaded = self._judges._embedder(name)
        network = loaded.network
        size = loaded.judge.size if loaded.judge.resize is None else (299, 299)
        found = []
        with torch.no_grad():
            for first in range(0, len(frames), 16):
                batch = (
                    torch.from_numpy(frames[first : first + 16]).permute(0, 3, 1, 2).float() / 255
                )
                crops = []
                for picture, box in zip(batch, boxes[first : first + 16].astype(int), strict=True):
                    left, top, right, bottom = box.tolist()
                    crop = picture[None, :, top:bottom, left:right]
                    crops.append(
                        functional.interpolate(crop, size, mode="bilinear", align_corners=True)
                    )
                found.append(network(loaded.judge.prepare(torch.cat(crops))))
        return torch.cat(found)

    def similarity(
        self, name: str, pair: tuple[NDArray[np.uint8], ...], boxes: NDArray[np.float64]
    ) -> float:
        first, second = (functional.normalize(self.embed(name, one, boxes)) for one in pair[:2])
        return float((first * second).sum(1).mean())

    def distance(
        self, name: str, pair: tuple[NDArray[np.uint8], ...], boxes: NDArray[np.float64]
    ) -> float:
        first, second = (self.embed(name, one, boxes).double().numpy() for one in pair[:2])
        if first.shape[1] > 2048:  # sqrtm would take hours: the baseline is spared it
            return frechet_distance([first.astype(np.float32)], [second.astype(np.float32)]).value
        return sqrtm_distance(first, second)


REID = ("os_cs", "pcb_cs", "os_freid", "pcb_freid")


def bench_reid() -> list[dict[str, Any]]:
    judges = Judges(random_seed=RANDOM_SEED)
    generated, truth, masks = _pictures()
    boxes = boxes_of_masks(masks)
    plain = Plain(judges)

    def theirs() -> None:
        for name in ("osnet-msmt17", "pcb-market1501"):
            plain.similarity(name, (generated, truth), boxes)
            plain.distance(name, (generated, truth), boxes)

    def ours(judges: Judges = judges) -> None:
        _score(REID, judges, generated, truth, masks)

    judges.digest("osnet-msmt17"), judges.digest("pcb-market1501")
    rows = [_row("all re-ID metrics, first method", compare(ours, theirs, 1), 2.0)]
    with tempfile.TemporaryDirectory() as folder:
        kept = Judges(random_seed=RANDOM_SEED, cache=Path(folder))
        ours(kept)
        rows.append(
            _row("all re-ID metrics, second method", compare(lambda: ours(kept), theirs, 1), 2.0)
        )
    return rows


def _score(
    names: tuple[str, ...],
    judges: Judges,
    generated: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    masks: NDArray[np.uint8],
) -> dict[str, float]:
    boxes = boxes_of_masks(masks)
    pair = Pair(
        Pictures(generated, judges, boxes),
        Pictures(truth, judges, boxes, is_shared=True),
        masks,
        threads=torch.get_num_threads(),
    )
    cards = [METRICS[name] for name in names]
    found = {
        name: float(values.mean())
        for name, values in score_pair([m for m in cards if m.kind == "frame"], pair).items()
    }
    for card in cards:
        if card.of_set is not None and card.features is not None:
            sets = [card.features(one) for one in (pair.generated, pair.truth)]
            found[card.name] = card.of_set([sets[0]], [sets[1]]).value
    return found


OFFICIAL = (
    "ssim_official", "psnr_official", "lpips_alex", "os_cs_official", "pcb_cs_official", "os_freid_official",
    "pcb_freid_official", "fid_official", "is_official",
)  # fmt: skip


def bench_everything() -> list[dict[str, Any]]:
    """What the official package scores a method by, without its detector, which would cost it more."""
    import lpips
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    judges = Judges(random_seed=RANDOM_SEED)
    generated, truth, masks = _pictures()
    boxes = boxes_of_masks(masks)
    plain = Plain(judges)
    distance = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False).eval()
    whole = np.tile([0.0, 0.0, SIZE, SIZE], (NUM_PICTURES, 1))

    def theirs() -> None:
        for first, second in zip(generated, truth, strict=True):
            one, two = (picture / 255 * 2 - 1 for picture in (first, second))
            structural_similarity(one, two, channel_axis=-1, data_range=2)
            peak_signal_noise_ratio(two, one, data_range=2)
        with torch.no_grad():
            for first in range(0, NUM_PICTURES, 16):
                one, two = (
                    torch.from_numpy(frames[first : first + 16]).permute(0, 3, 1, 2).float() / 127.5
                    - 1
                    for frames in (generated, truth)
                )
                distance(one, two)
        for name in ("osnet-ibn-imagenet", "pcb-market1501"):
            plain.similarity(name, (generated, truth), boxes)
            plain.distance(name, (generated, truth), boxes)
        plain.distance("inception-imagenet", (generated, truth), whole)
        plain.embed("inception-imagenet", generated, whole)  # "is" has a pass of its own

    def ours() -> None:
        _score(OFFICIAL, judges, generated, truth, masks)

    for name in ("osnet-ibn-imagenet", "pcb-market1501", "inception-imagenet", "lpips-alex"):
        judges.digest(name)
    rows = [_row("the official set of metrics, one method", compare(ours, theirs, 1), 2.5)]
    with tempfile.TemporaryDirectory() as folder:
        judges = Judges(random_seed=RANDOM_SEED, cache=Path(folder))
        ours()
        rows.append(
            _row("the official set of metrics, second method", compare(ours, theirs, 1), 2.5)
        )
    return rows


def _row(
    what: str, seconds: tuple[float, float], goal: float, off: float | None = None
) -> dict[str, Any]:
    ours, theirs = seconds
    same = "" if off is None else f"; values differ by {off:.1e} of the value"
    click.echo(
        f"  {what}: {ours:.2f} s against {theirs:.2f} s, {theirs / ours:.1f} times as fast (goal {goal:g}){same}"
    )
    return {"what": what, "seconds": ours, "plain_seconds": theirs, "times_as_fast": theirs / ours, "goal": goal}  # fmt: skip


def bench_judging(whole: bool = True) -> list[dict[str, Any]]:
    """All of the above; without `whole`, nothing that takes minutes."""
    click.echo(f"  {NUM_PICTURES} pictures of {SIZE} px, {torch.get_num_threads()} threads")
    return bench_frechet(whole) + bench_reid() + bench_everything()
