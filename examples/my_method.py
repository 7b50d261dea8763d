"""A method of your own: copy this file, change `personalize` and `draw`, and score it.

    lwgan-bench run --root data/ --method copy --method examples/my_method.py:MyMethod

It runs in a process of its own. What it is given, and what it may have beside these: docs/methods.md.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Motion, Person


class MyMethod:
    """Cuts the person out of the first source picture and moves the cut-out as the driver's camera moves."""

    name = "my-method"  # stands in the tables

    def personalize(self, person: Person) -> None:
        """Called once for each person, before their motions are drawn."""
        self.picture = person.pictures[0]  # (S, S, 3) uint8 RGB
        self.is_person = person.masks[0] > 127  # (S, S)
        self.background = person.background  # (S, S, 3), the scene without the person
        self.camera = person.params.camera[0].numpy()  # s, tx, ty

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        """Yield a picture for each body of the motion, in order: (S, S, 3) uint8 RGB."""
        side = len(self.picture)
        rows, columns = np.nonzero(self.is_person)
        for scale, x, y in motion.params.camera.numpy():
            # x = s (X + tx), in [-1, 1] from the left to the right edge; the body stands at the origin.
            before = self.camera[0] * self.camera[1:]
            shift = (scale * np.array([x, y]) - before) * side / 2
            across, down = np.round(shift).astype(int)
            inside = (rows + down >= 0) & (rows + down < side)
            inside &= (columns + across >= 0) & (columns + across < side)
            picture = self.background.copy()
            picture[rows[inside] + down, columns[inside] + across] = self.picture[
                rows[inside], columns[inside]
            ]
            yield picture
