"""True pictures beside a dataset's clips: somebody in other clothes, an instant seen from other sides.

Only who draws people can have them; `iper synth` does. Two tables say what there is, with paths from the root::

    truth/transfer.csv   clip, outfit_from, frame, picture          the frame of the clip in another outfit
    truth/views.csv      clip, frame, angle_degrees, picture        the frame of the clip, turned on the spot

The pictures of a case fill a folder of their own. Beside them lie their masks, `masks.npz`, in the order of the
names; beside turned ones their fits too, `pose_shape.pkl`. Pictures are whole frames, as large as the clip's: they
are cut by its crop and resized as its own frames are. Cases are made of what a protocol lists sources for, so they
are of the same people.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit.body.model import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import camera_across_crop
from iper_toolkit.cases import TransferCase, ViewCase, case_key, each_once
from iper_toolkit.clip import cut_and_resize
from iper_toolkit.crop import SquareCrop
from iper_toolkit.csv_rows import read_csv_rows
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
    """The true pictures of one case by their numbers; they are read as a clip's frames are.

    Reading raises ValueError where what lies in the folder does not belong to this clip.
    """

    folder: Path
    pictures: Mapping[int, Path]  # number (frame or angle) -> file
    crop: SquareCrop  # of the clip
    frame_size: tuple[int, int]  # (height, width) of the clip's frames, pixels
    mask_source: str = "set"

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) uint8 RGB, in the order of `indices`."""
        found = [cut_and_resize(self._read(index), self.crop, size) for index in indices]
        return np.array(found, np.uint8).reshape(len(found), size, size, 3)

    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size) uint8, 255 = person."""
        found = [self._masks[self._places[index]] for index in indices]
        cut = [cut_and_resize(mask, self.crop, size) for mask in found]
        return np.array(cut, np.uint8).reshape(len(cut), size, size)

    def params(self, indices: Sequence[int], body: Body) -> BodyParams:
        """The bodies in the pictures; cameras are in NDC of the crop.

        Raises:
            BodyMismatch: the fits are of another body.
        """
        path = self.folder / FIT
        fit = read_fit(path)
        if fit.get("body_id") != body.id:
            raise BodyMismatch(
                f"{path} is of body {fit.get('body_id')!r}, and this run poses {body.id!r}. Name that "
                "body with --body, or leave these cases out with --kind."
            )
        arrays = [np.array(fit[name], np.float32) for name in ("cams", "pose", "shape")]
        for array in arrays:
            self._check_count(path, "fits", len(array))
        places = [self._places[index] for index in indices]
        camera, pose, shape = (torch.from_numpy(array[places]) for array in arrays)
        height, width = self.frame_size
        camera = camera_across_crop(camera, SquareCrop.whole(width, height), self.crop)
        return BodyParams(body.id, camera, pose, shape)

    def _read(self, index: int) -> NDArray[np.uint8]:
        picture = read_image(self.pictures[index])
        self._check_size(self.pictures[index], picture)
        return picture

    @cached_property
    def _places(self) -> dict[int, int]:
        """Number of a picture -> its place among masks and fits: they are in the order of the files' names."""
        ordered = sorted(self.pictures, key=lambda index: self.pictures[index])
        return {index: place for place, index in enumerate(ordered)}

    @cached_property
    def _masks(self) -> list[NDArray[np.uint8]]:
        path = self.folder / MASKS
        masks = list(read_masks(path))
        self._check_count(path, "masks", len(masks))
        for mask in masks:
            self._check_size(path, mask)
        return masks

    def _check_count(self, path: Path, what: str, count: int) -> None:
        if count != len(self.pictures):
            raise ValueError(
                f"{path} holds {count} {what}, and the table lists {len(self.pictures)} pictures there; one belongs "
                "to each, in the order of their names."
            )

    def _check_size(self, path: Path, picture: NDArray[np.uint8]) -> None:
        if picture.shape[:2] != self.frame_size:
            got, wanted = (
                f"{width} x {height}" for height, width in (picture.shape[:2], self.frame_size)
            )
            raise ValueError(
                f"{path} is of {got} pixels, and the clip's frames are of {wanted}, by which it is cut; a true "
                "picture is a whole frame of that size."
            )


@dataclass(frozen=True)
class TruthTables:
    """What true pictures a dataset has. Each table is read when it is first asked for; None as root: there are none.

    Raises, from whatever reads a table:
        ValueError: it has other columns, a line that cannot be read, a picture twice, or cases that share a folder.
    """

    root: Path | None = None

    @cached_property
    def redressed(self) -> tuple[RedressedRow, ...]:
        """The rows of truth/transfer.csv."""
        path = self._table("transfer")
        rows = read_csv_rows(path, RedressedRow) if path else ()
        for row in rows:
            if row.frame < 0:
                raise ValueError(f"{path}: {_told(row)}: frames count from 0.")
        _check_folders(path, [(row[:2], row.frame, row) for row in rows])
        return rows

    @cached_property
    def turned(self) -> tuple[TurnedRow, ...]:
        """The rows of truth/views.csv."""
        path = self._table("views")
        rows = read_csv_rows(path, TurnedRow) if path else ()
        for row in rows:
            if row.frame < 0 or not 0 <= row.angle_degrees < 360:
                raise ValueError(
                    f"{path}: {_told(row)}: frames count from 0, and angles are 0 to 359 degrees."
                )
        _check_folders(path, [(row[:2], row.angle_degrees, row) for row in rows])
        return rows

    def _table(self, name: str) -> Path | None:
        return None if self.root is None else self.root / "truth" / f"{name}.csv"

    def transfer_cases(self, protocol: Protocol, num_sources: int = 1) -> list[TransferCase]:
        """Of kind "other": people in somebody else's outfit. Outfits of their own are the protocol's cases.

        An outfit is shown by the first clip of it, by name, that the protocol has: in iPER the one in which it is
        turned around. `transfers_left_out` are the others.
        """
        cases = []
        for (clip, outfit), frames in self._redressed_by_others.items():
            outfit_clip = _first_clip_of(outfit, protocol)
            if outfit_clip is None or clip not in protocol.clips:
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

    def transfers_left_out(self, protocol: Protocol) -> tuple[str, ...]:
        """What of somebody else's outfits no case is made of, because the protocol has no clip of one of the two."""
        return tuple(
            f"{clip} in the outfit {outfit}"
            for clip, outfit in self._redressed_by_others
            if clip not in protocol.clips or _first_clip_of(outfit, protocol) is None
        )

    @cached_property
    def _redressed_by_others(self) -> dict[tuple[str, str], list[int]]:
        """(clip, outfit of another person) -> frames."""
        found: dict[tuple[str, str], list[int]] = {}
        for row in self.redressed:
            if row.outfit_from.split("/")[0] != row.clip.split("/")[0]:
                found.setdefault((row.clip, row.outfit_from), []).append(row.frame)
        return found

    def view_cases(self, protocol: Protocol, num_sources: int = 1) -> list[ViewCase]:
        """Of kind "instant": one a clip and frame, as far as the protocol has the clip (see `views_left_out`)."""
        cases = []
        for (clip, instant), angles in self._turned_instants.items():
            if clip not in protocol.clips:
                continue
            sources, note = each_once(protocol.source_frames(clip, num_sources))
            key = case_key("view", clip, ending=f"-at-{instant:04d}")
            order = tuple(sorted(angles))
            cases.append(ViewCase(key, "instant", clip, num_sources, sources, order, instant, note))
        return cases

    def views_left_out(self, protocol: Protocol) -> tuple[str, ...]:
        """The instants of clips that the protocol does not have."""
        return tuple(
            f"{clip} at frame {instant}"
            for clip, instant in self._turned_instants
            if clip not in protocol.clips
        )

    @cached_property
    def _turned_instants(self) -> dict[tuple[str, int], list[int]]:
        """(clip, frame) -> angles."""
        found: dict[tuple[str, int], list[int]] = {}
        for row in self.turned:
            found.setdefault((row.clip, row.frame), []).append(row.angle_degrees)
        return found

    def pictures_of(
        self, case: TransferCase | ViewCase, crop: SquareCrop, frame_size: tuple[int, int]
    ) -> TruePictures:
        """The truth of a case that these tables made; crop and size are those of the frames of the case's driver."""
        assert self.root is not None  # no tables, no case
        if isinstance(case, TransferCase):
            chosen = {
                row.frame: self.root / row.picture
                for row in self.redressed
                if row.clip == case.driver and _is_clip_of(case.outfit_from, row.outfit_from)
            }
        else:
            chosen = {
                row.angle_degrees: self.root / row.picture
                for row in self.turned
                if (row.clip, row.frame) == (case.clip, case.instant)
            }
        return TruePictures(next(iter(chosen.values())).parent, chosen, crop, frame_size)

    @cached_property
    def transfer_digest(self) -> str:
        """sha256 of truth/transfer.csv and of every file that it leads to."""
        return self._digest_of(self.redressed)

    @cached_property
    def views_digest(self) -> str:
        """sha256 of truth/views.csv and of every file that it leads to."""
        return self._digest_of(self.turned)

    def _digest_of(self, rows: Sequence[RedressedRow | TurnedRow]) -> str:
        digest = hashlib.sha256()
        root = self.root or Path()  # which no row needs where there is none
        files = {row.picture for row in rows}
        for folder in {Path(name).parent for name in files}:
            files |= {
                (folder / name).as_posix()
                for name in (MASKS, FIT)
                if (root / folder / name).is_file()
            }
        for name in sorted(files):
            path = root / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is not there, though a table in {root / 'truth'} lists it. Give the `iper synth` "
                    "command of this set again, or leave these cases out with --kind."
                )
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{name} {content}\n".encode())
        for row in sorted(rows, key=str):
            digest.update(f"{row}\n".encode())
        return digest.hexdigest()


def _is_clip_of(clip: str, outfit: str) -> bool:
    return clip.startswith(f"{outfit}/")


def _first_clip_of(outfit: str, protocol: Protocol) -> str | None:
    return next((clip for clip in protocol.clips if _is_clip_of(clip, outfit)), None)


def _check_folders(
    path: Path | None, rows: Sequence[tuple[Hashable, int, RedressedRow | TurnedRow]]
) -> None:
    """Raise ValueError if a case has a picture twice, or its pictures lie with another case's.

    `rows`: case, number of the picture within it, and the row.
    """
    folder_of: dict[Hashable, Path] = {}
    case_of: dict[Path, Hashable] = {}
    seen: set[tuple[Hashable, int]] = set()
    files: set[str] = set()
    for case, number, row in rows:
        if (case, number) in seen or row.picture in files:
            raise ValueError(f"{path}: {_told(row)}: this picture is in another line too.")
        seen.add((case, number))
        files.add(row.picture)
        folder = Path(row.picture).parent
        if folder_of.setdefault(case, folder) != folder or case_of.setdefault(folder, case) != case:
            raise ValueError(
                f"{path}: {_told(row)}: the pictures of one case, and no others, lie in one folder, whose masks are "
                "in the order of their names."
            )


def _told(row: RedressedRow | TurnedRow) -> str:
    return ",".join(map(str, row))
