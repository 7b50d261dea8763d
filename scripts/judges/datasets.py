"""Pictures of synthetic identities on disk, in shards that any number of processes may draw.

A shard is one npz of `FAMILIES_A_SHARD` families: crops (N, 160, 80, 3) uint8 of the enlarged box,
identity (N,) and family (N,) numbers, degrees (N,); frames (M, S, S, 3) uint8, whole pictures for
the perceptual judge. A shard is a function of seed and number alone, so a set that was interrupted
goes on, and more processes change nothing.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from judges.identities import Pixels, cut, draw_pictures, sample_family
from numpy.typing import NDArray

from iper_toolkit.atomic import write_atomically
from iper_toolkit.threads import use_one_thread

FAMILIES_A_SHARD = 32
_FRAMES_A_SHARD = 24
_MEMBERS = 4  # more than a family has: identity = family * _MEMBERS + member


@dataclass(frozen=True)
class Plan:
    """What a set holds. `seed` is from the training range; sets of other seeds share no identity."""

    seed: int
    families: int
    pictures: int  # of each identity
    pixels: int  # of the square pictures that crops are cut from


TRAINING = Plan(seed=2001, families=2304, pictures=7, pixels=176)
HELD_OUT = Plan(seed=3001, families=192, pictures=8, pixels=176)
HELD_OUT_SMALL = Plan(seed=3002, families=192, pictures=8, pixels=96)
HELD_OUT_LARGE = Plan(seed=3003, families=192, pictures=8, pixels=256)
"""The three held-out sets also differ in their people: each is a proof of its own."""

PLANS = {
    "training": TRAINING,
    "held-out": HELD_OUT,
    "held-out-96": HELD_OUT_SMALL,
    "held-out-256": HELD_OUT_LARGE,
}


@dataclass(frozen=True)
class Pictures:
    """A set in memory. identity and family are numbers from 0 without gaps, (N,) int64 each."""

    crops: Pixels  # (N, 160, 80, 3) RGB
    identity: NDArray[np.int64]
    family: NDArray[np.int64]
    degrees: NDArray[np.float32]
    frames: Pixels  # (M, S, S, 3) RGB

    def __post_init__(self) -> None:
        if not len(self.crops) == len(self.identity) == len(self.family) == len(self.degrees):
            raise ValueError(
                f"crops, identity, family, degrees have {len(self.crops)}, {len(self.identity)}, "
                f"{len(self.family)}, {len(self.degrees)} rows; they must be equally many."
            )


def draw_set(plan: Plan, folder: Path, workers: int, tell: Callable[[str], None]) -> None:
    """Draw the shards of `plan` that `folder` lacks."""
    numbers = range(-(-plan.families // FAMILIES_A_SHARD))
    missing = [number for number in numbers if not _shard_path(folder, number).is_file()]
    if not missing:
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), use_one_thread) as pool:
        pending = {pool.submit(_draw_shard, plan, folder, number): number for number in missing}
        for done, future in enumerate(as_completed(pending), start=1):
            future.result()
            tell(f"{folder.name}: {done} of {len(missing)} shards")


def draw_families(
    plan: Plan, families: range, num_frames: int = 0
) -> dict[str, NDArray[np.generic]]:
    """The arrays of a shard, with `num_frames` whole pictures at most."""
    crops, identity, family, degrees, frames = [], [], [], [], []
    for number in families:
        people = sample_family(plan.seed, number)
        for member in range(len(people.outfits)):
            path = (plan.seed, 3, number, member)
            pictures = list(
                draw_pictures(people, member, path, count=plan.pictures, pixels=plan.pixels)
            )
            crops += [cut(picture) for picture in pictures]
            degrees += [picture.degrees for picture in pictures]
            identity += [number * _MEMBERS + member] * len(pictures)
            family += [number] * len(pictures)
            if len(frames) < num_frames:
                frames.append(pictures[0].frame)
    whole = np.stack(frames) if frames else np.zeros((0, plan.pixels, plan.pixels, 3), np.uint8)
    return {
        "crops": np.stack(crops),
        "identity": np.array(identity, np.int64),
        "family": np.array(family, np.int64),
        "degrees": np.array(degrees, np.float32),
        "frames": whole,
    }


def read_set(folder: Path, *, at_least: int = 1) -> Pictures:
    """All shards of a folder, in order.

    Raises:
        FileNotFoundError: fewer than `at_least` shards lie there.
    """
    paths = sorted(folder.glob("shard-*.npz"))
    if len(paths) < at_least:
        raise FileNotFoundError(
            f"{folder} holds {len(paths)} shards, at least {at_least} are needed. Run "
            "`python scripts/train_judges.py generate` first."
        )
    shards = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            shards.append({name: file[name] for name in file.files})
    return pictures_of(shards)


def pictures_of(shards: list[dict[str, NDArray[np.generic]]]) -> Pictures:
    """Join shards and number identities and families from 0."""
    whole = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    return Pictures(
        crops=whole["crops"].astype(np.uint8, copy=False),
        identity=np.unique(whole["identity"], return_inverse=True)[1].astype(np.int64),
        family=np.unique(whole["family"], return_inverse=True)[1].astype(np.int64),
        degrees=whole["degrees"].astype(np.float32, copy=False),
        frames=whole["frames"].astype(np.uint8, copy=False),
    )


def available_cores() -> int:
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:03d}.npz"


def _draw_shard(plan: Plan, folder: Path, number: int) -> None:
    first = number * FAMILIES_A_SHARD
    families = range(first, min(first + FAMILIES_A_SHARD, plan.families))
    arrays = draw_families(plan, families, _FRAMES_A_SHARD)
    write_atomically(_shard_path(folder, number), partial(_write_arrays, arrays=arrays))


def _write_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
