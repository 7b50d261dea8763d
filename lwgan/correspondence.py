"""Where in one picture of a body each pixel of another comes from, and what each pixel shows.

Pure functions on any device. Gathers are dense and every shape follows from the arguments' shapes, so that all of it
compiles and can be captured in a CUDA graph; gradients flow to the projected points.
"""

import torch
from torch import Tensor

from iper_toolkit.raster import Fragments, rasterize

# Where a flow points that points nowhere: so far outside that bilinear sampling with zero padding gives zero.
NOWHERE = -2.0
# Pixels of a side at which visibility is found. A body's faces are smaller than the pixels of small pictures: of the
# faces that a camera sees of the open body, and of those on its head, pictures of 128, 384 and 1024 pixels find 0.39 and
# 0.12, 0.79 and 0.59, 0.97 and 0.94 (with neighbours).
VISIBILITY_SIZE = 1024


def face_points(projected: Tensor, faces: Tensor) -> Tensor:
    """The corners of each face in the picture.

    Args:
        projected: (..., V, 2 or 3) float, NDC y down (and depth, which is left out). faces: (F, 3) integer.

    Returns:
        (..., F, 3, 2).
    """
    return projected[..., :2].index_select(-2, faces.flatten()).unflatten(-2, faces.shape)


def flow_to(fragments: Fragments, points: Tensor) -> Tensor:
    """Where each pixel of a body's picture lies in another picture: T(p) = sum_k w_k(p) points[f(p), k].

    (Liu et al. 2019, section 3.2.) With the fragments of a target and the points of a source this is the flow
    T_{s->t}; with the points of the previous frame, T_{t-1->t}; with the fragments of the texture map and the points of
    a source, where each texel lies in the source.

    Args:
        fragments: (..., H, W).
        points: (..., F, 3, 2) float, `face_points` of the other picture. Leading dimensions broadcast against the
            fragments': (B, T, 1) fragments and (B, 1, S) points give (B, T, S) flows.

    Returns:
        (..., H, W, 2) like `points`, NDC x and y, a grid for `grid_sample(align_corners=False)`; (-2, -2) where no
        face is.
    """
    corners = _gather_faces(fragments.face, points.flatten(-2))
    weights = fragments.barycentric.to(points.dtype)
    # One after the other: several times as fast on a CPU as a sum over an axis of three.
    flow = weights[..., 0:1] * corners[..., 0:2]
    flow = flow + weights[..., 1:2] * corners[..., 2:4]
    flow = flow + weights[..., 2:3] * corners[..., 4:6]
    return torch.where(fragments.covered[..., None], flow, NOWHERE)


def flow_beyond(flow: Tensor, covered: Tensor, source_covered: Tensor, band: int) -> Tensor:
    """Flows that go on around the body: what is beside a point here is looked for beside it there.

    ``T(p) = T(q) + (p - q)`` with q the nearest pixel of the body, as long as that lies beside the source's body, too: a
    skirt and hair are where no body is, and a body is not to be seen twice.

    Args:
        flow: (B, T, S, H, W, 2) NDC, -2 where no body is. covered: (B, T, H, W) bool, where the target's is.
        source_covered: (B, S, H, W) bool, where the sources' are.
        band: pixels from the body up to which it goes on.

    Returns:
        The same shape; unchanged on the body and beyond the band.
    """
    height, width = covered.shape[-2:]
    nearest, near = nearest_covered(covered, band)
    index = nearest.flatten(-2)[:, :, None, :, None].expand(*flow.shape[:3], -1, 2)
    there = flow.flatten(-3, -2).gather(-2, index).view_as(flow)
    rows = torch.arange(height, device=flow.device)[:, None]
    columns = torch.arange(width, device=flow.device)
    x = (columns - nearest % width) * (2 / width)
    y = (rows - nearest // width) * (2 / height)
    beside = torch.stack([x, y], dim=-1).to(flow.dtype)[:, :, None]
    found = there + beside
    bodies = source_covered.flatten(0, 1)[:, None].to(flow.dtype)
    places = found.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (B * S, T * H, W, 2)
    hit = torch.nn.functional.grid_sample(bodies, places, mode="nearest", align_corners=False)
    hit = hit.view(*source_covered.shape[:2], *covered.shape[1:]).transpose(1, 2) > 0.5
    goes_on = near[:, :, None] & ~hit
    return torch.where(goes_on[..., None], found, flow)


def nearest_covered(covered: Tensor, band: int) -> tuple[Tensor, Tensor]:
    """The nearest covered pixel of each, by jump flooding (Rong & Tan 2006): exact up to rare errors below a pixel, alike on every device.

    Args:
        covered: (..., H, W) bool. band: pixels.

    Returns:
        (..., H, W) int64, flat index into H x W, of itself where there is none; and bool, whether there is one at
        most `band` pixels away that is not itself.
    """
    height, width = covered.shape[-2:]
    rows = torch.arange(height, device=covered.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=covered.device).expand(height, width)
    nothing = 4 * (height + width)  # farther than anything
    y = torch.where(covered, rows, nothing).int()
    x = torch.where(covered, columns, nothing).int()
    best = (y - rows).square() + (x - columns).square()
    step = 1 << max(0, band - 1).bit_length()
    while step >= 1:
        for down in (-step, 0, step):
            for across in (-step, 0, step):
                if not down and not across:
                    continue
                other_y, other_x = (_shifted(one, down, across, nothing) for one in (y, x))
                distance = (other_y - rows).square() + (other_x - columns).square()
                nearer = distance < best
                best = torch.where(nearer, distance, best)
                y, x = torch.where(nearer, other_y, y), torch.where(nearer, other_x, x)
        step //= 2
    near = (best > 0) & (best <= band * band)
    index = torch.where(near, y * width + x, rows * width + columns)
    return index.long(), near


def _shifted(values: Tensor, down: int, across: int, outside: int) -> Tensor:
    """(..., H, W) moved by whole pixels; what comes in from outside is `outside`."""
    height, width = values.shape[-2:]
    padded = torch.nn.functional.pad(
        values, (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0)), value=outside
    )
    top, left = max(-down, 0), max(-across, 0)
    return padded[..., top : top + height, left : left + width]


def condition_map(fragments: Fragments, code: Tensor) -> Tensor:
    """A picture of the body with each face in one colour.

    Args:
        fragments: (..., H, W). code: (F + 1, C) float; the last row is the background's.

    Returns:
        (..., C, H, W).
    """
    row = torch.where(fragments.covered, fragments.face, len(code) - 1)
    return code[row.long()].movedim(-1, -3)


def visible_faces(fragments: Fragments, num_faces: int) -> Tensor:
    """(..., F) bool: the faces that a picture (..., H, W) shows somewhere.

    Deviation: the reference drops the lowest face of a picture without background, which it takes for the background.
    """
    face = torch.where(fragments.covered, fragments.face, num_faces).long().flatten(-2)
    seen = torch.zeros(*face.shape[:-1], num_faces + 1, dtype=torch.bool, device=face.device)
    return seen.scatter(-1, face, True)[..., :-1]


def faces_in_view(vertices: Tensor, faces: Tensor, size: int = VISIBILITY_SIZE) -> Tensor:
    """(..., F) bool: the faces that a camera sees, whatever the size of the network's pictures.

    Args:
        vertices: (..., V, 3) as `camera.project` gives. faces: (F, 3). size: pixels of a side to look at.
    """
    return visible_faces(rasterize(vertices, faces, size), len(faces))


def with_neighbours(visible: Tensor, nearest: Tensor) -> Tensor:
    """(..., F) bool: visible faces, and the nearest ones of each.

    Args:
        visible: (..., F) bool. nearest: (F, K) int64, `SurfaceTables.nearest`.
    """
    voices = visible[..., None].expand(*visible.shape, nearest.shape[1]).flatten(-2).int()
    heard = torch.zeros_like(visible, dtype=torch.int32).index_add(-1, nearest.flatten(), voices)
    return visible | (heard > 0)


def keep_faces(points: Tensor, kept: Tensor) -> Tensor:
    """`face_points` whose other faces are nowhere: a flow from them is (-2, -2) there.

    Args:
        points: (..., F, 3, 2). kept: (F,) or (..., F) bool.
    """
    return torch.where(kept[..., None, None], points, NOWHERE)


def _gather_faces(face: Tensor, values: Tensor) -> Tensor:
    """The values of each pixel's face. Leading dimensions broadcast, and neither argument is copied for it.

    Args:
        face: (..., H, W) integer; -1 reads face 0. values: (..., F, C).

    Returns:
        (..., H, W, C).
    """
    leading, num_faces = values.shape[:-2], values.shape[-2]
    start = torch.arange(0, leading.numel() * num_faces, num_faces, device=face.device)
    row = face.clamp_min(0).long() + start.reshape(*leading, 1, 1)
    return torch.nn.functional.embedding(row, values.reshape(-1, values.shape[-1]))
