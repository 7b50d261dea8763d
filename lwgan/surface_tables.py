"""What a body's surface is to the network: a code for each face, texture charts, neighbours, parts.

A condition map paints each face in its code, its place in the body's texture map. A released network was trained on
codes made in one way, so the way has a name: ``reference`` keeps every quirk such a checkpoint depends on, ``corrected``
does what the paper means (Liu et al. 2021, section 3.2).

| | reference | corrected |
|---|---|---|
| code of a face | midpoint of its first edge in the texture | centroid in the texture |
| neighbours of a facial face | facial faces only | faces of the whole head |
| left and right in the `par` code table | sides of the picture of a person who faces the camera | the person's own |

Drawn in the texture map, a face is seen only if its corners turn the right way there. A mirrored chart would vanish, so
its faces have their corners in another order: `texture_faces`, with `texture_corners` to match.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from iper_toolkit.body.model import Body
from iper_toolkit.body.parts import PARTS, Surface
from iper_toolkit.body.surface_files import read_surface_files
from iper_toolkit.raster import Fragments, rasterize

Convention = Literal["reference", "corrected", "clothed"]

NUM_NEAREST = 3  # faces that a seen face vouches for, itself among them
BACKGROUND_CODE = (0.0, 0.0, 1.0)  # the third channel of a condition map is 1 where nobody is
_SPARE_NEIGHBOURS = 5  # asked of the tree beyond the wanted, so that we break ties and not the tree
_AS_IT_IS, _REVERSED = (0, 1, 2), (2, 1, 0)


class SurfaceId(NamedTuple):
    """Which condition maps a network understands. The digest decides; the body's id is for people to read."""

    body_id: str
    digest: str  # 64 hex digits
    convention: Convention


@dataclass(frozen=True, eq=False)
class SurfaceTables:
    """One body's surface in one convention. All tensors lie on one device."""

    body_id: str
    convention: Convention
    faces: Tensor  # (F, 3) int64 vertices, as the body is drawn in pictures
    uv_corners: Tensor  # (F, 3, 2) float32, corners of `faces` in the texture, NDC y down
    texture_faces: Tensor  # (F, 3) int64 vertices, as the body is drawn in its texture
    texture_corners: (
        Tensor  # (F, 3, 2) float32, corners of `texture_faces` in the texture, NDC y down
    )
    code: Tensor  # (F + 1, 3) float32: place in the texture and 0; the last row is the background
    nearest: Tensor  # (F, NUM_NEAREST) int64 faces of the same part, nearest first
    surface: Surface  # parts and face lists
    digest: str  # sha256 of convention, faces and code
    _fragments: dict[int, Fragments] = field(default_factory=dict, init=False, repr=False)

    @property
    def id(self) -> SurfaceId:
        return SurfaceId(self.body_id, self.digest, self.convention)

    @property
    def num_faces(self) -> int:
        return len(self.faces)

    def to(self, device: torch.device | str) -> "SurfaceTables":
        return replace(
            self,
            faces=self.faces.to(device),
            uv_corners=self.uv_corners.to(device),
            texture_faces=self.texture_faces.to(device),
            texture_corners=self.texture_corners.to(device),
            code=self.code.to(device),
            nearest=self.nearest.to(device),
            surface=self.surface.to(device),
        )

    def texture_fragments(self, size: int) -> Fragments:
        """The texture map as a picture, (size, size): which face lies at each texel. Drawn once a size.

        Its weights are those of the corners of `texture_faces`.
        """
        if size not in self._fragments:
            # They are kept, and what is made in inference mode could never be trained through.
            with torch.inference_mode(False):
                flat = torch.ones_like(self.texture_corners[..., :1])  # any depth will do
                corners = torch.cat([self.texture_corners, flat], dim=-1).flatten(0, 1)
                own = torch.arange(len(corners), device=corners.device).reshape(-1, 3)
                self._fragments[size] = rasterize(corners, own, size)
        return self._fragments[size]


def surface_tables(body: Body, convention: Convention) -> SurfaceTables:
    """The tables of a body: the open body's own texture map, or iPERCore's files for a user's SMPL.

    Raises:
        MissingAsset: the body brings no texture map and the files are not in the asset folder; the message says which
            to put where. ValueError: they are damaged, or describe another mesh.
    """
    surface = body.surface
    if surface is None or surface.uv is None:
        surface = read_surface_files(body.faces)
    return build_tables(body.id, body.faces, surface, convention)


def build_tables(
    body_id: str, faces: Tensor, surface: Surface, convention: Convention
) -> SurfaceTables:
    """The tables of any mesh with a texture map, on the CPU.

    Args:
        body_id: names the mesh in messages. faces: (F, 3) integer. surface: with `uv` and `uv_faces`.
    """
    if convention not in get_args(Convention):
        raise ValueError(
            f"Unknown convention {convention!r}. Choose one of: {', '.join(get_args(Convention))}."
        )
    surface, faces = surface.to("cpu"), faces.cpu().long()
    if surface.uv is None or surface.uv_faces is None:
        raise ValueError(f"The surface of {body_id!r} has no texture map: give it uv and uv_faces.")
    if surface.uv_faces.shape != faces.shape:
        raise ValueError(
            f"uv_faces is {tuple(surface.uv_faces.shape)}, but faces is {tuple(faces.shape)}: "
            "both name the corners of the same faces."
        )
    # In float64 every step up to the last rounding is exact, so the digest is the same on every machine.
    u, v = surface.uv.double().unbind(-1)
    corners = torch.stack([2 * u - 1, 1 - 2 * v], dim=-1)[surface.uv_faces]
    order = surface.texture_order
    if order is None:
        order = drawing_order(corners)
    texture_corners = corners.gather(1, order[..., None].expand_as(corners))
    marks = texture_corners[:, :2] if convention == "reference" else texture_corners
    centres = marks.mean(dim=1)
    code = torch.cat([centres, torch.zeros(len(centres), 1)], dim=1)
    code = torch.cat([code, code.new_tensor([BACKGROUND_CODE])]).float()
    return SurfaceTables(
        body_id=body_id,
        convention=convention,
        faces=faces,
        uv_corners=corners.float(),
        texture_faces=faces.gather(1, order),
        texture_corners=texture_corners.float(),
        code=code,
        nearest=nearest_faces(centres.numpy(), _neighbourhoods(surface, convention)),
        surface=surface,
        digest=_digest(convention, faces, code),
    )


def drawing_order(corners: Tensor) -> Tensor:
    """The order of each face's corners in which the rasterizer draws it in the texture.

    Args:
        corners: (F, 3, 2) NDC y down.

    Returns:
        (F, 3) int64, a permutation of 0, 1, 2 a face: reversed where the chart is mirrored.
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    mirrored = first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]
    return torch.where(mirrored[:, None], torch.tensor(_REVERSED), torch.tensor(_AS_IT_IS))


def nearest_faces(
    centres: NDArray[np.float64], groups: Iterable[Tensor], count: int = NUM_NEAREST
) -> Tensor:
    """The faces of the same group whose centres are nearest, the face itself normally first.

    Args:
        centres: (F, 2). groups: faces of each group, (N,) int64; where groups overlap, the last one holds.
        count: neighbours a face. A face without so many repeats itself.

    Returns:
        (F, count) int64; of equal distances the lower face comes first.
    """
    nearest = np.repeat(np.arange(len(centres))[:, None], count, axis=1)
    for group in (group.numpy() for group in groups):
        if not len(group):
            continue
        asked = range(1, min(count + _SPARE_NEIGHBOURS, len(group)) + 1)
        distance, row = cKDTree(centres[group]).query(centres[group], list(asked))
        order = np.lexsort((group[row], distance))[:, :count]
        nearest[group, : order.shape[1]] = np.take_along_axis(group[row], order, axis=1)
    return torch.from_numpy(nearest)


def _neighbourhoods(surface: Surface, convention: Convention) -> Sequence[Tensor]:
    """Parts that share no neighbours. The reference's facial parts come after the head, and so cut it up."""
    if convention == "reference":
        return list(surface.reference_parts().values())
    return [surface.faces_of([part]) for part in range(len(PARTS))]


def _digest(convention: str, faces: Tensor, code: Tensor) -> str:
    digest = sha256(f"{convention};{tuple(faces.shape)};{tuple(code.shape)};".encode())
    digest.update(faces.numpy().astype("<i8").tobytes())
    digest.update(code.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def code_table(tables: SurfaceTables, name: str) -> Tensor:
    """What else than its place in the texture a face may be painted in; see `condition_map`.

    Args:
        name: a key of CODE_TABLES.

    Returns:
        (F + 1, C) float32; the last row is the background's.
    """
    if name not in CODE_TABLES:
        raise ValueError(f"Unknown code table {name!r}. Choose one of: {', '.join(CODE_TABLES)}.")
    return CODE_TABLES[name](tables)


def _uv(tables: SurfaceTables) -> Tensor:
    return _with_background(tables.code[:-1, :2], -1)


def _seg(tables: SurfaceTables) -> Tensor:
    return _with_background(torch.ones_like(tables.code[:-1, :1]), 0)


def _par(tables: SurfaceTables) -> Tensor:
    """A channel for each of the twelve overlapping parts, and one for the background."""
    surface = tables.surface
    if tables.convention == "reference":
        parts = list(surface.reference_parts().values())
    else:
        parts = [surface.faces_of([part]) for part in range(len(PARTS) + 2)]
    table = torch.zeros(tables.num_faces + 1, len(parts) + 1, device=tables.faces.device)
    for channel, faces in enumerate(parts):
        table[faces, channel] = 1
    table[-1, -1] = 1
    return table


def _listed(choose: Callable[[Surface], Tensor]) -> Callable[[SurfaceTables], Tensor]:
    def table(tables: SurfaceTables) -> Tensor:
        values = torch.zeros(tables.num_faces + 1, 1, device=tables.faces.device)
        values[choose(tables.surface)] = 1
        return values

    return table


def _back(tables: SurfaceTables) -> Tensor:
    return code_table(tables, "head") - code_table(tables, "facial")


def _ids(tables: SurfaceTables) -> Tensor:
    return _with_background(_numbers(tables)[:, None].float() / tables.num_faces, -1)


def _binary(tables: SurfaceTables) -> Tensor:
    """A face's number in binary, highest digit first."""
    digits = torch.arange(tables.num_faces.bit_length(), device=tables.faces.device).flip(0)
    return _with_background((_numbers(tables)[:, None] >> digits & 1).float(), -1)


def _numbers(tables: SurfaceTables) -> Tensor:
    return torch.arange(tables.num_faces, device=tables.faces.device)


def _with_background(values: Tensor, background: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, 1), value=background)


CODE_TABLES: dict[str, Callable[[SurfaceTables], Tensor]] = {
    "uv_seg": lambda tables: tables.code,
    "uv": _uv,
    "seg": _seg,
    "par": _par,
    "front": _listed(lambda surface: surface.front_body),
    "facial": _listed(lambda surface: surface.front_face),
    "head": _listed(lambda surface: surface.head_faces),
    "back": _back,
    "ids": _ids,
    "binary": _binary,
}
