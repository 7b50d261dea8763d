"""The arrays that metrics take and give."""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # (N, H, W, 3) RGB
Masks = NDArray[np.uint8]  # (N, H, W), 255 = person; 128 and more counts as person
Scores = NDArray[np.float64]  # (N,), one a frame
