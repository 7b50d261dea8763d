"""Packed clips: all that training reads of a clip, at one size, in one file that opens in a millisecond.

A video is made to be played; training takes single frames from everywhere. A pack holds every picture (JPEG, or PNG
where nothing may be lost) and mask (PNG) for itself, with the fits, the scene without the person, and which frames
show the person from the front and from behind.

::

    FOLDER/packs.json             what it is: where the clips come from, their size, the body
    FOLDER/<subject>/<name>.npz   one clip
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from iper_toolkit import progress
from iper_toolkit.atomic import write_atomically
from iper_toolkit.body import BodyParams
from iper_toolkit.clip import Dataset
from iper_toolkit.images import resize
from iper_toolkit.processes import Pool

PACKS_FILE = "packs.json"
FORMAT = "lwgan-pack-1"
Pixels = NDArray[np.uint8]

# Little is lost, and nothing of the colours' sharpness: a tenth of the raw size.
_JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


class BadPack(ValueError):
    """A file is no pack, or is damaged; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class PackedClip:
    """One clip of T frames, read from its file; pictures are decoded when they are asked for."""

    id: str
    subject: str
    body_id: str
    size: int  # pixels of a side
    fits: NDArray[np.float32]  # (T, 85) camera, pose, shape; NaN where a frame has no valid fit
    front_frames: tuple[int, ...]  # the most frontal one first
    back_frames: tuple[int, ...]  # the least frontal one first
    digest: str  # sha256 of the content
    _pictures: tuple[bytes, ...]
    _masks: tuple[bytes, ...]
    _plate: bytes

    @property
    def num_frames(self) -> int:
        return len(self.fits)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(T,) which frames have a fit."""
        return np.asarray(np.isfinite(self.fits).all(1), bool)

    def frames(self, indices: Sequence[int], size: int) -> Pixels:
        """(N, size, size, 3) uint8 RGB."""
        decoded = (_decode(self._pictures[index], cv2.IMREAD_COLOR_RGB) for index in indices)
        return np.stack([_sized(picture, size) for picture in decoded])

    def masks(self, indices: Sequence[int], size: int) -> Pixels:
        """(N, size, size) uint8, 255 = person."""
        decoded = (_decode(self._masks[index], cv2.IMREAD_GRAYSCALE) for index in indices)
        return np.stack([_sized(mask, size) for mask in decoded])

    def background(self, size: int) -> Pixels:
        """(size, size, 3) uint8 RGB, the scene without the person."""
        return _sized(_decode(self._plate, cv2.IMREAD_COLOR_RGB), size)

    def params(self, indices: Sequence[int] | None = None) -> BodyParams:
        fits = self.fits if indices is None else self.fits[list(indices)]
        return BodyParams.from_array(self.body_id, torch.from_numpy(fits.copy()))


@dataclass(frozen=True)
class Packs:
    """A folder of packed clips."""

    folder: Path
    name: str
    body_id: str
    size: int
    synthetic: bool
    clip_ids: tuple[str, ...]  # sorted
    subjects: tuple[str, ...]  # of each clip

    @classmethod
    def open(cls, folder: Path) -> "Packs":
        """Raises FileNotFoundError, BadPack."""
        path = folder / PACKS_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {PACKS_FILE}: no clips were packed there.")
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise KeyError(f"format {told['format']!r}, not {FORMAT!r}")
            return cls(
                folder=folder,
                name=told["name"],
                body_id=told["body_id"],
                size=told["size"],
                synthetic=told["synthetic"],
                clip_ids=tuple(told["clips"]),
                subjects=tuple(told["clips"].values()),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadPack(
                f"{path} does not describe packed clips ({error}). Pack them again."
            ) from error

    def clip(self, clip_id: str) -> PackedClip:
        return read_pack(self.folder / f"{clip_id}.npz")


def write_packs_file(
    folder: Path, *, name: str, body_id: str, size: int, synthetic: bool, clips: dict[str, str]
) -> None:
    """Say what a folder holds, once all clips are there.

    Args:
        clips: clip -> subject.
    """
    told = {
        "format": FORMAT,
        "name": name,
        "body_id": body_id,
        "size": size,
        "synthetic": synthetic,
        "clips": dict(sorted(clips.items())),
    }
    text = json.dumps(told, indent=1) + "\n"
    write_atomically(folder / PACKS_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def write_pack(
    path: Path,
    *,
    clip_id: str,
    subject: str,
    pictures: Sequence[Pixels],
    masks: Sequence[Pixels],
    plate: Pixels,
    params: BodyParams,
    front_frames: Sequence[int],
    back_frames: Sequence[int],
    lossless: bool = False,
    content: str = "",
) -> None:
    """Write one clip, whole or not at all.

    Args:
        pictures: T of (S, S, 3) RGB. masks: T of (S, S), 255 = person. plate: (S, S, 3) RGB.
        params: (T), NaN where there is no valid fit.
        front_frames, back_frames: which may be sources, best first.
        lossless: pictures as PNG, at five times the size.
        content: digest of what the pack is made of.
    """
    size = plate.shape[0]
    for what, arrays, shape in (
        ("picture", pictures, (size, size, 3)),
        ("mask", masks, (size, size)),
    ):
        if len(arrays) != len(params) or any(
            one.shape != shape or one.dtype != np.uint8 for one in arrays
        ):
            raise ValueError(
                f"{clip_id}: each of {len(params)} fits takes a {what} of uint8 {shape}; got {len(arrays)}, the first "
                f"{arrays[0].dtype} {arrays[0].shape}."
                if len(arrays)
                else f"{clip_id} has no {what}."
            )
    encoded = {
        "pictures": [_encode(one, lossless=lossless) for one in pictures],
        "masks": [_encode(one, lossless=True) for one in masks],
        "plate": [_encode(plate, lossless=lossless)],
    }
    stored: dict[str, Any] = {
        "told": json.dumps(
            {
                "format": FORMAT,
                "id": clip_id,
                "subject": subject,
                "body_id": params.body_id,
                "size": size,
                "content": content,
            }
        ),
        "fits": params.to_array().float().numpy(),
        "front_frames": np.array(front_frames, np.int32),
        "back_frames": np.array(back_frames, np.int32),
    }
    for name, parts in encoded.items():
        stored[name] = np.frombuffer(b"".join(parts), np.uint8)
        stored[f"{name}_ends"] = np.cumsum([len(part) for part in parts])

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **stored)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def read_pack(path: Path) -> PackedClip:
    """Raises FileNotFoundError, BadPack."""
    raw = path.read_bytes()
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as content:
            told = json.loads(str(content["told"]))
            if told["format"] != FORMAT:
                raise KeyError(f"format {told['format']!r}, not {FORMAT!r}")
            parts = {
                name: _split(content[name].tobytes(), content[f"{name}_ends"].tolist())
                for name in ("pictures", "masks", "plate")
            }
            fits = content["fits"]
            front, back = (
                tuple(content[name].tolist()) for name in ("front_frames", "back_frames")
            )
    except Exception as error:  # zipfile, numpy and json raise many kinds for a damaged file
        raise BadPack(
            f"{path} cannot be read as a packed clip ({error}). Remove it and pack again."
        ) from error
    return PackedClip(
        id=told["id"],
        subject=told["subject"],
        body_id=told["body_id"],
        size=told["size"],
        fits=fits,
        front_frames=front,
        back_frames=back,
        digest=sha256(raw).hexdigest(),
        _pictures=parts["pictures"],
        _masks=parts["masks"],
        _plate=parts["plate"][0],
    )


def _split(joined: bytes, ends: list[int]) -> tuple[bytes, ...]:
    return tuple(joined[start:end] for start, end in zip([0, *ends], ends, strict=False))


def _encode(picture: Pixels, *, lossless: bool) -> bytes:
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    kind, settings = (".png", []) if lossless else (".jpg", _JPEG)
    done, data = cv2.imencode(kind, bgr, settings)
    if not done:
        raise RuntimeError("OpenCV could not encode a picture.")
    return data.tobytes()


def _decode(data: bytes, flag: int) -> Pixels:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if picture is None:
        raise BadPack("A packed picture is damaged. Pack the clip again.")
    return np.asarray(picture, np.uint8)


def _sized(picture: Pixels, size: int) -> Pixels:
    return picture if picture.shape[0] == size else resize(picture, (size, size))


def pack_dataset(
    dataset: Dataset,
    size: int,
    *,
    split: str,
    workers: int = 1,
    tell: Callable[[str], object] = lambda text: None,
) -> Packs:
    """The clips of one split of a prepared dataset, packed beside its cache; what is there already is kept.

    Args:
        dataset: opened.
        size: pixels of a side.
        split: "train" or "val", as the dataset's own lists say.
        workers: processes.

    Raises:
        ValueError: the split has no clip that could be packed.
    """
    folder = dataset.root / "cache" / f"packed-v1-{size}" / split
    rows = {name: dataset.rows[name] for name in dataset.clip_ids}
    # What no list names, as anybody's own videos, is for training.
    wanted = {name: row for name, row in rows.items() if (row["split"] or "train") == split}
    if not wanted:
        raise ValueError(
            f"{dataset.root} has no clip in its split {split!r}, of {len(rows)}. Synthetic sets with seeds below 1000 "
            "are for demos and tests; make one to train on: iper synth --seed 1000 --root FOLDER"
        )
    todo = [
        (dataset.root, name, folder / f"{name}.npz", size)
        for name, row in wanted.items()
        if _content_of(folder / f"{name}.npz") != _row_digest(row)
    ]
    if todo:
        tell(f"Packing {len(todo)} clips of {dataset.root} at {size} pixels, once, in {folder}")
        with progress.task("packing", len(todo), "clip") as advance:
            for count, _ in enumerate(_packed(todo, workers), start=1):
                advance(count)
    write_packs_file(
        folder,
        name=dataset.name,
        body_id=next(iter(wanted.values()))["body_id"],
        size=size,
        synthetic=dataset.synthetic,
        clips={name: str(row["subject"]) for name, row in wanted.items()},
    )
    return Packs.open(folder)


def _packed(todo: Sequence[tuple[Path, str, Path, int]], workers: int) -> Iterator[None]:
    if workers > 1:
        with Pool(workers) as pool:
            for ended in pool.run(_pack_one, todo):
                yield ended.result()
    else:
        yield from map(_pack_one, todo)


def _pack_one(job: tuple[Path, str, Path, int]) -> None:
    root, name, path, size = job
    clip = Dataset.open(root).clip(name)
    frames = list(range(clip.num_frames))
    params = clip.params(frames)
    fits = params.to_array().clone()
    fits[~torch.from_numpy(clip.valid)] = torch.nan
    write_pack(
        path,
        clip_id=clip.id,
        subject=clip.subject,
        pictures=list(clip.iterate(frames, size)),
        masks=list(clip.appearance_masks(frames, size)),
        plate=clip.background(size),
        params=BodyParams.from_array(params.body_id, fits),
        front_frames=clip.front_frames,
        back_frames=clip.back_frames,
        content=_row_digest(clip.row),
    )


def _row_digest(row: Mapping[str, Any]) -> str:
    """What a pack is made of: the clip's row knows the source, the crop and the fits."""
    made_of = dict(row)
    if row["mask_source"] == "body":  # packs of an earlier version hold the masks with their margin
        made_of["packed_masks"] = "silhouette"
    return sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()


def _content_of(path: Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as content:
            return str(json.loads(str(content["told"]))["content"])
    except Exception:  # whatever is wrong with it, it is packed again
        return ""
