"""Which frames of a clip show the person best: front and back candidates, and the sources of a run."""

import random
from collections.abc import Sequence

import numpy as np

# Most candidates kept for each side (iPERCore).
NUM_CANDIDATES = 25


def rank_frames(
    front_scores: np.ndarray, limit: int = NUM_CANDIDATES
) -> tuple[list[int], list[int]]:
    """Front and back candidates of a clip.

    Args:
        front_scores: (T,) how many front faces of the body are visible; NaN leaves a frame out.
        limit: most candidates of each kind.

    Returns:
        Frames by falling and by rising score. Of equals, the earlier frame comes first in the front
        list and last in the back list.
    """
    scores = np.asarray(front_scores, dtype=np.float64)
    frames = np.flatnonzero(~np.isnan(scores))
    order = frames[np.argsort(-scores[frames], kind="stable")].tolist()
    return order[:limit], order[::-1][:limit]


def select_sources(
    front: Sequence[int], back: Sequence[int], num_sources: int, seed: int = 0
) -> list[int]:
    """Source frames of a run: half from the front, half from the back; the first is the primary.

    Deviation: an odd number takes one more from the front, where the reference repeats a frame at
    random. Where a clip has too few candidates, chosen ones are repeated at random, as there.

    Args:
        front, back: candidates, best first (`rank_frames`).
        num_sources: how many.
        seed: of the repeats.

    Returns:
        `num_sources` frame numbers.
    """
    if num_sources < 1:
        raise ValueError(f"num_sources is {num_sources}; at least one is needed.")
    if not front:
        raise ValueError("The clip has no front candidates; it has no frame with a fitted body.")
    from_back = num_sources // 2
    chosen = [*front[: num_sources - from_back], *back[:from_back]]
    draw = random.Random(seed)
    return chosen + [draw.choice(chosen) for _ in range(num_sources - len(chosen))]
