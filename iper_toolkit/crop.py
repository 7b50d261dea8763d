"""One square a clip, cut out of every frame; and the reference's crop boxes.

`SquareCrop` is what the toolkit uses. The functions named ``reference_...`` reproduce iPERCore's
boxes and pictures to the pixel, for checkpoints and protocols that were made with them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SquareCrop:
    """A square of whole source pixels. It may overhang the frame: the picture is mirrored there.

    Its points are continuous: the pixel with index i covers [i, i + 1) and has its centre at i + 0.5.
    """

    left: int
    top: int
    side: int  # pixels

    def __post_init__(self) -> None:
        for name in ("left", "top", "side"):
            value = getattr(self, name)
            if int(value) != value:
                raise ValueError(f"{name} is {value!r}; a crop lies on whole pixels.")
            object.__setattr__(self, name, int(value))  # numpy integers become plain ones
        if self.side < 1:
            raise ValueError(f"side is {self.side}; a crop is at least one pixel wide.")

    @classmethod
    def whole(cls, width: int, height: int) -> "SquareCrop":
        """The smallest centred square that covers a frame."""
        side = max(width, height)
        return cls(left=(width - side) // 2, top=(height - side) // 2, side=side)

    @property
    def center_x(self) -> float:
        return self.left + self.side / 2

    @property
    def center_y(self) -> float:
        return self.top + self.side / 2

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(H, W, ...) frame -> (side, side, ...), a copy, mirrored about the outermost pixels where the frame ends."""
        height, width = image.shape[:2]
        rows = np.arange(self.top, self.top + self.side)
        columns = np.arange(self.left, self.left + self.side)
        inside_rows = rows[(rows >= 0) & (rows < height)]
        inside_columns = columns[(columns >= 0) & (columns < width)]
        if len(inside_rows) == 0 or len(inside_columns) == 0:
            raise ValueError(f"{self} lies outside a frame of {width} x {height} pixels.")
        inside = image[
            inside_rows[0] : inside_rows[-1] + 1, inside_columns[0] : inside_columns[-1] + 1
        ]
        margins = (
            (int(inside_rows[0] - rows[0]), int(rows[-1] - inside_rows[-1])),
            (int(inside_columns[0] - columns[0]), int(columns[-1] - inside_columns[-1])),
        )
        if margins == ((0, 0), (0, 0)):
            return inside.copy()
        # Mirrored, because repeated edge pixels are streaks, and of a dark edge a black bar.
        return np.pad(inside, (*margins, *((0, 0),) * (image.ndim - 2)), mode="reflect")

    def mirrored_outside(
        self, mask: NDArray[np.uint8], frame_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """A mask of this square, with what is outside of the frame mirrored as `cut` mirrors the picture.

        Args:
            mask: (S, S) uint8, at any scale.
            frame_size: (height, width) of the frames, pixels.
        """
        size = len(mask)
        first = np.array([self.top, self.left], np.float64)
        low = np.clip(np.ceil(-first / self.side * size), 0, size - 1).astype(int)
        high = np.clip(np.floor((frame_size - first) / self.side * size), 1, size).astype(int)
        if (low >= high).any() or (low.max() == 0 and high.min() == size):
            return mask
        inside = mask[low[0] : high[0], low[1] : high[1]]
        margins = ((low[0], size - high[0]), (low[1], size - high[1]))
        return np.asarray(np.pad(inside, margins, mode="reflect"))

    def source_to_ndc(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) continuous source pixels (x, y) -> NDC of this square.

        `camera.pixels_to_ndc` takes pixel indices, which are half a pixel less.
        """
        corner = np.array([self.left, self.top], dtype=np.float64)
        return ((np.asarray(xy, dtype=np.float64) - corner) * 2 / self.side - 1).astype(_float(xy))

    def ndc_to_source(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) NDC of this square -> continuous source pixels (x, y)."""
        corner = np.array([self.left, self.top], dtype=np.float64)
        return ((np.asarray(xy, dtype=np.float64) + 1) / 2 * self.side + corner).astype(_float(xy))


def crop_around(boxes: np.ndarray, frame_size: tuple[int, int], factor: float = 1.25) -> SquareCrop:
    """One square for a clip: the union of its person boxes, enlarged, made square.

    The square keeps its size at the frame's border and overhangs it, so the person is never
    distorted nor moved out of the middle. Boxes are first cut to the frame: a keypoint guessed
    far outside shows no pixel.

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in continuous source pixels; rows that are not finite or are
            empty (a frame without a person) are left out.
        frame_size: (height, width) of the frames.
        factor: side of the square over the longer side of the union.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes are {boxes.shape}; they must be (N, 4): x0, y0, x1, y1.")
    if not factor > 0:
        raise ValueError(f"factor is {factor}; it must be positive.")
    height, width = frame_size
    boxes = boxes[np.isfinite(boxes).all(1)]
    boxes = np.clip(boxes, 0, [width, height, width, height])
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if len(boxes) == 0:
        raise ValueError(
            f"No person box lies in the frame of {width} x {height} pixels: no frame has two joints "
            "there that were found with confidence. Are these the keypoints of this clip, in its "
            "own pixels? Export them again."
        )
    x0, y0 = boxes[:, :2].min(0).tolist()
    x1, y1 = boxes[:, 2:].max(0).tolist()
    side = max(2, round(max(x1 - x0, y1 - y0) * factor))
    return SquareCrop(left=round((x0 + x1 - side) / 2), top=round((y0 + y1 - side) / 2), side=side)


def _float(xy: np.ndarray) -> np.dtype:
    dtype = np.asarray(xy).dtype
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)


# ------------------------------------------------------------------------------ the reference's way


@dataclass(frozen=True)
class ReferenceCrop:
    """A cut picture, and where its pixels come from: ``p -> p * scale - start``."""

    image: np.ndarray  # (size, size, C)
    scale: float
    start: np.ndarray  # (2,) x, y in pixels of the scaled frame
    center: np.ndarray  # (2,) centre of the square in pixels of the cut picture

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2 or more) x, y in frame pixels -> cut picture; further columns pass unchanged."""
        moved = np.array(xy, copy=True)
        moved[..., :2] = xy[..., :2] * self.scale - self.start
        return moved

    def box(self, box: np.ndarray) -> np.ndarray:
        """(4,) x0, y0, x1, y1 in frame pixels -> cut picture."""
        return np.asarray(box) * self.scale - np.tile(self.start, 2)


def reference_union_box(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 -> (4,) the box around all."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def reference_enlarge_box(
    box: np.ndarray, frame_size: tuple[int, int], factor: float
) -> np.ndarray:
    """iPERCore's enlarged box: `factor` times the height, as wide as high, clamped to the frame.

    The width follows the height after clamping, and the edges are truncated to whole pixels.
    `factor` 0 means the whole frame.

    Args:
        box: (4,) x0, y0, x1, y1 in pixels.
        frame_size: (height, width).
        factor: 1.3 for sources, 3.0 for references, 0 for datasets.

    Returns:
        (4,) int64 x0, y0, x1, y1.
    """
    height, width = frame_size
    x0, y0, x1, y1 = (float(v) for v in box)
    center_x, center_y = (x0 + x1) // 2, (y0 + y1) // 2
    if factor == 0:
        reach = max(height, width) // 2
        middle_x, middle_y = width // 2, height // 2
        low = np.maximum([middle_x - reach, middle_y - reach], 0)
        high = np.minimum([middle_x + reach, middle_y + reach], [width, height])
        return np.concatenate([low, high]).astype(np.int64)
    half_height = (y1 - y0) * factor / 2
    top, bottom = max(0, int(center_y - half_height)), min(height, int(center_y + half_height))
    half = (bottom - top) / 2
    left, right = max(0, int(center_x - half)), min(width, int(center_x + half))
    return np.array([left, top, right, bottom], dtype=np.int64)


def reference_pad_box(box: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """iPERCore's "pad to square", with its swapped roles: the longer side grows, clamped.

    It is a step of boxes that protocols depend on; `crop_around` makes boxes truly square.
    """
    return _grow_box(box, frame_size, longer=True)


def reference_active_box(
    boxes: np.ndarray, frame_size: tuple[int, int], factor: float
) -> np.ndarray:
    """The one box of a clip: union of (N, 4) boxes, enlarged, padded. (4,) int64."""
    enlarged = reference_enlarge_box(reference_union_box(boxes), frame_size, factor)
    return enlarged if factor == 0 else reference_pad_box(enlarged, frame_size)


def reference_square_box(box: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """Extend the shorter side to the longer one, as far as the frame goes. (4,) int64."""
    return _grow_box(box, frame_size, longer=False)


def reference_crop(image: np.ndarray, box: np.ndarray, size: int) -> ReferenceCrop:
    """Cut `box` as iPERCore does: square it, repeat edge pixels where the frame ends, resize.

    Args:
        image: (H, W, C) uint8.
        box: (4,) x0, y0, x1, y1 whole pixels.
        size: side of the result in pixels; the resize is OpenCV's bilinear.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in reference_square_box(box, (height, width)))
    missing_rows, missing_columns = max(0, (x1 - x0) - (y1 - y0)), max(0, (y1 - y0) - (x1 - x0))
    above, before = missing_rows // 2, missing_columns // 2
    square = cv2.copyMakeBorder(
        image[y0:y1, x0:x1],
        above,
        missing_rows - above,
        before,
        missing_columns - before,
        cv2.BORDER_REPLICATE,
    )
    scale = size / square.shape[0]
    start = (np.array([x0, y0], dtype=np.float64) - (before, above)) * scale
    middle = np.array([x0 - before, y0 - above]) + square.shape[0] / 2
    return ReferenceCrop(
        image=cv2.resize(square, (size, size)),
        scale=scale,
        start=start,
        center=middle * scale - start,
    )


def _grow_box(box: np.ndarray, frame_size: tuple[int, int], *, longer: bool) -> np.ndarray:
    """Add the difference of the sides to one side: floor of the half before, ceil after."""
    height, width = frame_size
    x0, y0, x1, y1 = (int(v) for v in box)
    difference = abs((x1 - x0) - (y1 - y0))
    before, after = difference // 2, difference - difference // 2
    widen = ((x1 - x0) > (y1 - y0)) == longer
    if widen:
        x0, x1 = max(0, x0 - before), min(width, x1 + after)
    else:
        y0, y1 = max(0, y0 - before), min(height, y1 + after)
    return np.array([x0, y0, x1, y1], dtype=np.int64)
