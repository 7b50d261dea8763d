"""What is composed of one source picture, kept on disk under its content: it costs more than all else of a batch."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit.atomic import write_atomically
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.images import to_float
from lwgan.clothing import dressed, thickness_of
from lwgan.composition import CompositionSettings, compose_each
from lwgan.surface_tables import SurfaceTables

Pixels = NDArray[np.uint8]
_VERSION = 1  # raised when the same source would be composed otherwise


@dataclass(frozen=True)
class ComposedSource:
    """What one picture shows of a person; rounded to half precision, so that nothing depends on what was kept."""

    shown: Tensor  # (3, H, W) the person in [-1, 1]; 0 where there is none
    unwrapped: Tensor  # (3, H, W) the texture in [-1, 1]
    visibility: Tensor  # (1, H, W) of the texture, 0 or 1
    thickness: Tensor | None  # (V,) of the clothes; None where the convention has none


@dataclass(frozen=True)
class SourceComposer:
    """Composes sources, or reads what was kept of them.

    Args:
        body, tables: of the fits.
        settings: how.
        cache: folder; None: nothing is kept on disk.
        memory: what was composed before, for the few pictures of one person; None: nothing is kept in memory.
    """

    body: Body
    tables: SurfaceTables
    settings: CompositionSettings
    cache: Path | None
    memory: dict[str, ComposedSource] | None = None

    def __call__(self, picture: Pixels, mask: Pixels, params: BodyParams) -> ComposedSource:
        """A picture (S, S, 3), its mask (S, S) with 255 = person, and the fit of the body in it (1)."""
        if self.cache is None and self.memory is None:
            return self._composed(picture, mask, params)
        told = sha256(picture.tobytes() + mask.tobytes() + params.to_array().numpy().tobytes())
        told.update(f"{self.tables.id} {self.settings} {_VERSION}".encode())
        name = told.hexdigest()
        if self.memory is not None:
            if name not in self.memory:
                self.memory[name] = self._composed(picture, mask, params)
            return self.memory[name]
        assert self.cache is not None  # asked above
        path = self.cache / name[:2] / f"{name}.bin"
        found = self._kept(path, picture.shape[0])
        if found is None:
            found = self._composed(picture, mask, params)
            _keep(path, found)
        return found

    def _composed(self, picture: Pixels, mask: Pixels, params: BodyParams) -> ComposedSource:
        worn = None
        if self.tables.convention == "clothed":
            worn = thickness_of(self.body, params, mask[None]).half().float()
        each = compose_each(
            torch.from_numpy(to_float(picture[None]))[None],
            1 - torch.from_numpy(mask[None, None, None]).float() / 255,
            dressed(self.body, params, worn)[None],
            self.tables,
            self.settings,
        )
        return ComposedSource(
            each.shown[0, 0].half().float(),
            each.unwrapped[0, 0].half().float(),
            each.texture_visibility[0, 0],
            None if worn is None else worn[0],
        )

    def _kept(self, path: Path, size: int) -> ComposedSource | None:
        """None if nothing was kept, or the file is damaged."""
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError:
            return None
        picture, bits = 3 * size * size * 2, size * size // 8
        is_clothed = self.tables.convention == "clothed"
        vertices = 2 * self.body.num_vertices if is_clothed else 0
        if len(raw) != 2 * picture + bits + vertices:
            return None
        shown, unwrapped, seen, worn = np.split(raw, np.cumsum([picture, picture, bits]).tolist())
        return ComposedSource(
            _halves(shown).reshape(3, size, size),
            _halves(unwrapped).reshape(3, size, size),
            torch.from_numpy(np.unpackbits(seen).astype(np.float32)).reshape(1, size, size),
            _halves(worn) if is_clothed else None,
        )


def _keep(path: Path, found: ComposedSource) -> None:
    halves = [one.half().numpy().tobytes() for one in (found.shown, found.unwrapped)]
    parts = [*halves, np.packbits(found.visibility.numpy() > 0.5).tobytes()]
    if found.thickness is not None:
        parts.append(found.thickness.half().numpy().tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: part.write_bytes(b"".join(parts)))


def _halves(raw: Pixels) -> Tensor:
    return torch.from_numpy(raw.view(np.float16).astype(np.float32))
