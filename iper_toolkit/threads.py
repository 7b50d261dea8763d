"""One thread a process: people and clips are what runs in parallel, and sums in another order differ."""

from collections.abc import Iterator
from contextlib import contextmanager


def use_one_thread() -> None:
    """From now on; what a worker process calls when it starts."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block; afterwards as many as before."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
