"""True pictures beside a dataset's clips: somebody in other clothes, an instant seen from other sides.

Only who draws people can have them; `iper synth` does. Two tables say what there is, with paths from the root::

    truth/transfer.csv   clip, outfit_from, frame, picture          the frame of the clip in another outfit
    truth/views.csv      clip, frame, angle_degrees, picture        the frame of the clip, turned on the spot

Beside the pictures of a folder lie their masks, `masks.npz`, in the order of the names; beside turned ones their
fits too, `pose_shape.pkl`. Pictures are whole frames: they are cut by the clip's crop and resized as its own
frames are. Cases are made of what a protocol lists sources for, so they are of the same people.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.model import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import camera_across_crop
from iper_toolkit.cases import TransferCase, ViewCase, case_key, each_once
from iper_toolkit.clip import cut_and_resize
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import read_image
from iper_toolkit.masks import read_masks
from iper_toolkit.protocols import Protocol
from iper_toolkit.unpickle import read_fit

MASKS, FIT = "masks.npz", "pose_shape.pkl"


class RedressedRow(NamedTuple):
    """`picture` shows `frame` of `clip` as it would be in the outfit `outfit_from` ("002/1")."""

    clip: str
    outfit_from: str
    frame: int
    picture: str


class TurnedRow(NamedTuple):
    """`picture` shows `frame` of `clip` with the person turned by `angle_degrees`."""

    clip: str
    frame: int
    angle_degrees: int
    picture: str


@dataclass(frozen=True)
class TruePictures:
    """The true pictures of one case by their numbers; they are read as a clip's frames are."""

    folder: Path
    pictures: Mapping[int, Path]  # number (frame or angle) -> file
    crop: SquareCrop  # of the clip
    mask_source: str = "set"

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) uint8 RGB, in the order of `indices`."""
        found = [cut_and_resize(self._read(index), self.crop, size) for index in indices]
        return np.array(found, np.uint8).reshape(len(found), size, size, 3)

    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, 255 = person."""
        found = [self._masks[self._place(index)] for index in indices]
        cut = [cut_and_resize(mask, self.crop, size) for mask in found]
        return np.array(cut, np.uint8).reshape(len(cut), size, size)

    def params(self, indices: Sequence[int], body: Body) -> BodyParams:
        """The bodies in the pictures; cameras are in NDC of the crop.

        Raises:
            BodyMismatch: the fits are of another body.
        """
        fit = read_fit(self.folder / FIT)
        if fit.get("body_id") != body.id:
            raise BodyMismatch(
                f"{self.folder / FIT} is of body {fit.get('body_id')!r}, and this run poses {body.id!r}. Name that "
                "body with --body, or leave these cases out with --kind."
            )
        places = [self._place(index) for index in indices]
        camera, pose, shape = (
            torch.from_numpy(np.array(fit[name], np.float32)[places])
            for name in ("cams", "pose", "shape")
        )
        height, width = self._read(indices[0]).shape[:2]
        camera = camera_across_crop(camera, SquareCrop.whole(width, height), self.crop)
        return BodyParams(body.id, camera, pose, shape)

    def _read(self, index: int) -> NDArray[np.uint8]:
        return read_image(self.pictures[index])

    def _place(self, index: int) -> int:
        """Which mask and fit belong to a picture: they are in the order of the files' names."""
        return sorted(self.pictures.values()).index(self.pictures[index])

    @cached_property
    def _masks(self) -> list[NDArray[np.uint8]]:
        path = self.folder / MASKS
        masks = list(read_masks(path))
        if len(masks) != len(self.pictures):
            raise ValueError(
                f"{path} holds {len(masks)} masks, and {len(self.pictures)} pictures lie there."
            )
        return masks


@dataclass(frozen=True)
class TruthTables:
    """What true pictures a dataset has."""

    root: Path
    redressed: tuple[RedressedRow, ...] = ()
    turned: tuple[TurnedRow, ...] = ()

    @classmethod
    def read(cls, root: Path) -> "TruthTables":
        """The tables of a root; empty ones where there are none.

        Raises:
            ValueError: a table has other columns, or a line that cannot be read.
        """
        folder = root / "truth"
        return cls(
            root,
            _read_table(folder / "transfer.csv", RedressedRow),
            _read_table(folder / "views.csv", TurnedRow),
        )

    def transfer_cases(self, protocol: Protocol, num_sources: int = 1) -> list[TransferCase]:
        """Of kind "other": people in somebody else's outfit. Outfits of their own are the protocol's cases."""
        found: dict[tuple[str, str], list[int]] = {}
        for row in self.redressed:
            if row.outfit_from.split("/")[0] != row.clip.split("/")[0]:
                found.setdefault((row.clip, row.outfit_from), []).append(row.frame)
        cases = []
        for (clip, outfit), frames in found.items():
            outfit_clip = f"{outfit}/1"  # the action in which it is turned around
            if not {clip, outfit_clip} <= set(protocol.clips):
                continue
            person, note = each_once(protocol.source_frames(clip, num_sources))
            worn, of_outfit = each_once(protocol.source_frames(outfit_clip, num_sources))
            cases.append(
                TransferCase(
                    key=case_key("transfer", clip, outfit_clip),
                    kind="other",
                    person=clip,
                    outfit_from=outfit_clip,
                    driver=clip,
                    num_sources=num_sources,
                    person_source_frames=person,
                    outfit_source_frames=worn,
                    frames=tuple(sorted(frames)),
                    note="; ".join(filter(None, [note, of_outfit])),
                )
            )
        return cases

    def view_cases(self, protocol: Protocol, num_sources: int = 1) -> list[ViewCase]:
        """Of kind "instant": one a clip and frame."""
        found: dict[tuple[str, int], list[int]] = {}
        for row in self.turned:
            found.setdefault((row.clip, row.frame), []).append(row.angle_degrees)
        cases = []
        for (clip, instant), angles in found.items():
            if clip not in protocol.clips:
                continue
            sources, note = each_once(protocol.source_frames(clip, num_sources))
            key = case_key("view", clip, ending=f"-at-{instant:04d}")
            order = tuple(sorted(angles))
            cases.append(ViewCase(key, "instant", clip, num_sources, sources, order, instant, note))
        return cases

    def pictures_of(self, case: TransferCase | ViewCase, crop: SquareCrop) -> TruePictures:
        """The truth of a case that these tables made; `crop` is that of the case's driver."""
        if isinstance(case, TransferCase):
            chosen = {
                row.frame: self.root / row.picture
                for row in self.redressed
                if row.clip == case.driver and f"{row.outfit_from}/1" == case.outfit_from
            }
        else:
            chosen = {
                row.angle_degrees: self.root / row.picture
                for row in self.turned
                if (row.clip, row.frame) == (case.clip, case.instant)
            }
        return TruePictures(next(iter(chosen.values())).parent, chosen, crop)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tables and of every file that they lead to."""
        digest = hashlib.sha256()
        rows: Sequence[RedressedRow | TurnedRow] = (*self.redressed, *self.turned)
        files = {row.picture for row in rows}
        for folder in {Path(name).parent for name in files}:
            files |= {
                (folder / name).as_posix()
                for name in (MASKS, FIT)
                if (self.root / folder / name).is_file()
            }
        for name in sorted(files):
            path = self.root / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is not there, though {self.root / 'truth'} lists it. Give the `iper synth` command "
                    "of this set again, or leave these cases out with --kind."
                )
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{name} {content}\n".encode())
        for row in sorted(rows, key=str):
            digest.update(f"{row}\n".encode())
        return digest.hexdigest()


_Row = TypeVar("_Row", RedressedRow, TurnedRow)


def _read_table(path: Path, row: type[_Row]) -> tuple[_Row, ...]:
    if not path.is_file():
        return ()
    types: dict[str, Callable[[str], Any]] = get_type_hints(row)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        if (header := next(reader, [])) != list(types):
            raise ValueError(
                f"{path} has the columns {','.join(header)}; it takes {','.join(types)}."
            )
        rows = []
        for cells in reader:
            where = f"{path}, line {reader.line_num}: {','.join(cells)}"
            if len(cells) != len(types):
                raise ValueError(f"{where} has {len(cells)} columns; it takes {','.join(types)}.")
            try:
                rows.append(row(*(kind(c) for c, kind in zip(cells, types.values(), strict=True))))
            except ValueError as error:
                raise ValueError(f"{where}: {error}.") from error
        return tuple(rows)
