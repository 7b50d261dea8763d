"""Prepared clips, read lazily: `Dataset.open(root)`, then `dataset.clip("001/9/1")`.

Pictures come from the **source**, cut by the clip's crop, never from the small proxy video: scores
are computed on them. Opening is cheap; everything is read when asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iper_toolkit import manifest
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import read_image, resize
from iper_toolkit.layout import frame_files
from iper_toolkit.masks import PackedMasks
from iper_toolkit.naming import normalised
from iper_toolkit.source_check import check_pictures
from iper_toolkit.stages import stage_folder
from iper_toolkit.video import FrameCursor

if TYPE_CHECKING:
    from iper_toolkit.body.model import BodyParams


def cut_and_resize(frame: NDArray[np.uint8], crop: SquareCrop, size: int) -> NDArray[np.uint8]:
    """What a clip's picture is: (H, W, 3) frame, cut by the crop, THE resize to (size, size, 3).

    The same as ``resize(crop.cut(frame), (size, size))``, without copying a crop that is inside.
    """
    height, width = frame.shape[:2]
    right, bottom = crop.left + crop.side, crop.top + crop.side
    inside = crop.left >= 0 and crop.top >= 0 and right <= width and bottom <= height
    cut = frame[crop.top : bottom, crop.left : right] if inside else crop.cut(frame)
    return resize(cut, (size, size))


@dataclass(frozen=True)
class Dataset:
    """A root that `iper prepare` has been through."""

    root: Path
    name: str
    synthetic: bool
    licence: str
    """Terms of the pictures, as dataset.toml says; empty where it says nothing."""
    digest: str
    """sha256 of the tables' content."""
    rows: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """clip id -> its row of clips.parquet, failed clips too."""

    @classmethod
    def open(cls, root: Path | str) -> Dataset:
        """Read the tables of a root, and compare them with their record.

        Raises:
            manifest.NotPrepared: there are none.
            manifest.BadManifest: they were edited, damaged or mixed. Both say what to run.
        """
        root = Path(root)
        about = manifest.read_about(root)
        manifest.check_files(root, about)
        clips = manifest.read_clips(root)
        return cls(
            root=root,
            name=about["name"],
            synthetic=about["synthetic"],
            licence=about["licence"],
            digest=about["digests"]["dataset"],
            rows={row["clip_id"]: row for row in clips.to_pylist()},
        )

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips that are ready, sorted."""
        return tuple(name for name, row in self.rows.items() if row["status"] == "done")

    @property
    def failures(self) -> dict[str, str]:
        """clip id -> why it could not be prepared."""
        return {name: row["error"] for name, row in self.rows.items() if row["status"] != "done"}

    def clip(self, clip_id: str) -> Clip:
        """One clip. Raises KeyError that says what there is, or why the clip is not ready."""
        row = self.rows.get(normalised(clip_id))
        if row is None:
            some = ", ".join(self.clip_ids[:5])
            raise KeyError(f"{self.root} has no clip {clip_id!r}; it has {some} ...")
        if row["status"] != "done":
            raise KeyError(f"Clip {clip_id!r} could not be prepared: {row['error']}")
        return Clip(root=self.root, row=row)


@dataclass(frozen=True)
class Clip:
    """One prepared clip. Frame numbers are 0-based positions in the source's sorted frames."""

    root: Path = field(repr=False)
    row: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return str(self.row["clip_id"])

    @property
    def subject(self) -> str:
        return str(self.row["subject"])

    @property
    def outfit(self) -> str:
        return str(self.row["outfit"])

    @property
    def action(self) -> str:
        return str(self.row["action"])

    @property
    def split(self) -> str:
        return str(self.row["split"])

    @property
    def num_frames(self) -> int:
        return int(self.row["num_frames"])

    @property
    def fps(self) -> float:
        return float(self.row["fps"])

    @property
    def body_id(self) -> str:
        """The body that the fits belong to."""
        return str(self.row["body_id"])

    @property
    def fit_source(self) -> str:
        """official, keypoints, regressor or synthetic."""
        return str(self.row["fit_source"])

    @property
    def mask_source(self) -> str:
        """set, file or body."""
        return str(self.row["mask_source"])

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the source's frames, pixels."""
        return int(self.row["height"]), int(self.row["width"])

    @property
    def front_frames(self) -> tuple[int, ...]:
        """Up to 25 most frontal frames, best first."""
        return tuple(self.row["front_frames"])

    @property
    def back_frames(self) -> tuple[int, ...]:
        """Up to 25 least frontal frames, least first."""
        return tuple(self.row["back_frames"])

    @cached_property
    def crop(self) -> SquareCrop:
        """The clip's square in source pixels; fits, masks and pictures are in its frame."""
        crop = self.row["crop"]
        side = round(crop["side"])
        return SquareCrop(
            left=round(crop["cx"] - side / 2), top=round(crop["cy"] - side / 2), side=side
        )

    @property
    def source(self) -> Path:
        """The video, or the folder of frames."""
        return self.root / self.row["source"]

    # ------------------------------------------------------------------------------------- pictures

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) uint8 RGB from the source: cut by the crop, then THE resize.

        Frames come in the order of `indices`, each decoded once. Consecutive calls that go forward
        through a video continue where the last one ended, so reading a clip in pieces is one pass.
        """
        _check_size(size)
        pictures = np.empty((len(indices), size, size, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(self._checked(index), []).append(place)
        ordered = sorted(places)
        for index, picture in zip(ordered, self.iterate(ordered, size), strict=True):
            pictures[places[index]] = picture
        return pictures

    def iterate(self, indices: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
        """The same one by one, for ascending `indices`: memory stays small however long the clip."""
        _check_size(size)
        for index in indices:
            yield cut_and_resize(self.source_frame(index), self.crop, size)

    def source_frame(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, the whole frame as the source has it."""
        index = self._checked(index)
        if self.row["kind"] == "frames":
            return read_image(self._frame_files[index])
        return self._cursor.read(index)

    def _checked(self, index: int) -> int:
        if isinstance(index, (bool, np.bool_)) or not hasattr(index, "__index__"):
            raise TypeError(
                f"Clip {self.id}: a frame's number is a whole number; got {index!r}. Of a bool "
                "array, pass np.flatnonzero(array)."
            )
        if not 0 <= index < self.num_frames:
            raise IndexError(f"Clip {self.id} has frames 0 .. {self.num_frames - 1}; got {index}.")
        return operator.index(index)

    @cached_property
    def _frame_files(self) -> list[Path]:
        files = frame_files(self.source)
        if len(files) != self.num_frames:
            raise manifest.BadManifest(
                f"{self.source} holds {len(files)} frames, but {self.num_frames} when it was "
                "prepared. Put the frames back or run iper prepare again."
            )
        check_pictures(self.root, self.row)
        return files

    @cached_property
    def _cursor(self) -> FrameCursor:
        check_pictures(self.root, self.row)
        return FrameCursor(self.source)

    def background(self, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB: the crop without the person, as far as it was ever seen.

        It is stored at the crop's side, up to 1024 pixels, whatever the proxy's size.
        """
        _check_size(size)
        path = stage_folder(self.root, "proxy", self.id) / "background.png"
        self._check_cached(path, "background_sha256")
        return resize(read_image(path), (size, size))

    @property
    def proxy(self) -> Path:
        """A small video of the crop with a keyframe every 10 frames: for training, not for scores."""
        return stage_folder(self.root, "proxy", self.id) / "proxy.mp4"

    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, 255 = person, in the frame of the crop; THE resize."""
        _check_size(size)
        return self._packed_masks.at([self._checked(index) for index in indices], size)

    def appearance_masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, 255 where a picture's colours are the person's: what may be learned as their look.

        The same as `masks`, except where these are of kind ``body``. Those reach beyond the fitted body on purpose, so
        that the background holds nothing of the person. What lies in that rim may be wall as well as clothes, so here
        the mask is the fitted body's own silhouette.
        """
        if self.mask_source != "body":
            return self.masks(indices, size)
        return self.silhouettes(indices, size)

    def silhouettes(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, 255 where the fitted body without clothes and hair is; THE resize."""
        from iper_toolkit.stages.front import unpack

        _check_size(size)
        masks = np.empty((len(indices), size, size), np.uint8)
        for place, index in enumerate(indices):
            masks[place] = resize(unpack(self._silhouettes[self._checked(index)]), (size, size))
        return masks

    @cached_property
    def _silhouettes(self) -> NDArray[np.uint8]:
        from iper_toolkit.stages.front import read_silhouettes

        silhouettes = read_silhouettes(stage_folder(self.root, "front", self.id) / "front.npz")
        if len(silhouettes) != self.num_frames:
            raise manifest.BadManifest(
                f"The cache of clip {self.id} is newer than the tables. Run: iper prepare --root "
                f"{self.root}"
            )
        return silhouettes

    @cached_property
    def _packed_masks(self) -> PackedMasks:
        path = stage_folder(self.root, "mask", self.id) / "masks.npz"
        self._check_cached(path, "masks_sha256")
        packed = PackedMasks.read(path)
        if packed.crop != self.crop or len(packed) != self.num_frames:
            raise manifest.BadManifest(
                f"The cache of clip {self.id} is newer than the tables. Run: iper prepare --root "
                f"{self.root}"
            )
        return packed

    def _check_cached(self, path: Path, column: str) -> None:
        """Refuse a file of the cache that is not the one that the tables record."""
        try:
            same = manifest.file_sha256(path) == self.row[column]
        except FileNotFoundError as error:
            raise manifest.BadManifest(
                f"{path} is missing. Run: iper prepare --root {self.root}"
            ) from error
        if not same:
            raise manifest.BadManifest(
                f"{path} is damaged, or the cache of clip {self.id} is newer than the tables. Run: iper prepare "
                f"--root {self.root}"
            )

    # ---------------------------------------------------------------------------------- frames table

    @cached_property
    def _table(self) -> Any:
        table = manifest.read_frames_table(self.root, self.id)
        manifest.check_clip_frames(self.root, self.row, table)
        return table

    def params(self, indices: Sequence[int] | None = None) -> BodyParams:
        """The body's fit, all frames or some; cameras are in NDC of the crop."""
        import torch

        from iper_toolkit.body.model import BodyParams

        chosen = slice(None) if indices is None else [self._checked(index) for index in indices]
        parts = [
            manifest.vectors(self._table, name)[chosen] for name in ("camera", "pose", "shape")
        ]
        array = torch.from_numpy(np.concatenate(parts, axis=1))
        return BodyParams.from_array(self.body_id, array)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(T,) bool: the frame shows the person and has a finite fit."""
        return np.asarray(self._table["valid"].combine_chunks(), dtype=bool)

    @cached_property
    def front_scores(self) -> NDArray[np.int32]:
        """(T,) visible front faces of body and head."""
        return np.asarray(self._table["front_score"].combine_chunks(), dtype=np.int32)

    @cached_property
    def keypoints(self) -> NDArray[np.float32]:
        """(T, 25, 3) BODY_25 x, y in source pixels and confidence; NaN where there are none."""
        return manifest.vectors(self._table, "keypoints").reshape(-1, manifest.NUM_KEYPOINTS, 3)


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size is {size}; a picture has at least 1 pixel a side.")
