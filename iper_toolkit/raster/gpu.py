"""The rasterizer on a GPU, in Triton: the rules of `raster.cpu`, to the bit where a GPU keeps them.

Two kernels and one buffer of 64-bit keys, a key a pixel:

1. `_draw_faces`: a program takes a few neighbouring faces and offers each to the pixels of its box.
   What is offered is ``depth << 32 | face``, and the pixel keeps the smallest by an atomic minimum:
   the nearest face wins, of equal depths the lower id, in whatever order the programs run. Small
   faces, which is nearly all of a body, are walked side by side in little tiles; a face with a
   large box is taken by the whole program, so that one wall does not hold up its neighbours.
2. `_resolve_pixels`: computes the weights of the face that won once more. Nothing but the key had
   to be agreed on between programs, so a picture is the same in every run.

Every shape follows from the arguments' shapes, and nothing is read back to the host: after one call
for warming up, calls can be captured in a CUDA graph. Buffers take 24 bytes a pixel and frame, of
which 8 (the keys) are free again on return.

The arithmetic is the definition's, term by term: no multiplication and addition may be fused
(`enable_fp_fusion`; a fused edge function is not zero on the edge it describes) and divisions are
rounded as IEEE says (``a / b`` in Triton is not). Boxes are computed in float64, as there.
"""

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from iper_toolkit.raster.cpu import EYE_DISTANCE, FAR, NEAR

# Triton's interpreter runs the same kernels on the CPU, slowly: for tests on machines without a GPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# No face: above every depth, and its lower half reads as face -1.
_NOTHING = tl.constexpr(2**63 - 1)
# As in `raster.cpu`: rounding in the box can never take a pixel away from the edge functions.
_BOX_MARGIN_PIXELS = tl.constexpr(1.0 / 64)


class Blocks(NamedTuple):
    """How much one program takes at once: speed alone depends on it. All but the last: powers of 2.

    The defaults come from counting, not from measuring. Of the open body, at 512 pixels the boxes
    of the faces that show their front hold 14 pixels on average, and 16 neighbours are done after
    2.2 tiles of 4 x 4 (6.5 at 1024); 2 faces a thread take 87 registers, 4 take 148.
    """

    faces: int = 16  # faces of a program
    tile: int = 4  # pixels a side of the tiles in which small faces are walked
    large_tile: int = 16  # pixels a side of the tiles in which a large face is walked
    pixels: int = 256  # pixels of a program of the second kernel
    warps: int = 4
    small_limit: int = 64  # tiles; a face with more in its box is a large one


USUAL_BLOCKS = Blocks()


def rasterize_batch(
    vertices: Tensor,
    faces: Tensor,
    size: int,
    *,
    eye_distance: float = EYE_DISTANCE,
    near: float = NEAR,
    far: float = FAR,
    blocks: Blocks = USUAL_BLOCKS,
) -> tuple[Tensor, Tensor]:
    """Draw meshes that share their faces, one picture each.

    The indices in `faces` are checked when a tensor of faces is first seen and again after it was
    written to: that check waits for the device, later calls do not. Faces on another device than
    the vertices are copied in every call. While a CUDA graph is captured nothing is checked; a face
    that names a vertex that is not there is then not drawn.

    Args:
        vertices: (N, V, 3) on a CUDA device, NDC x right, y down, and depth z.
        faces: (F, 3) integer.
        size: pixels of a side.
        eye_distance, near, far: as in `raster.cpu`.
        blocks: tuning; the result does not depend on it.

    Returns:
        face (N, size, size) int32, -1 where nothing is; barycentric (N, size, size, 3) float32.
    """
    if not (vertices.is_cuda or INTERPRETED):
        raise ValueError(
            f"vertices are on {str(vertices.device)!r}; the GPU engine draws what is on a CUDA "
            "device. Move them there, or take engine='cpu'."
        )
    vertices = vertices.detach().to(torch.float32).contiguous()
    faces = _checked_faces(faces, vertices.shape[1]).to(vertices.device)
    num_frames, num_vertices, num_faces = len(vertices), vertices.shape[1], len(faces)
    shape = (num_frames, size, size)
    keys = torch.full(shape, _NOTHING.value, dtype=torch.int64, device=vertices.device)
    face = torch.empty(shape, dtype=torch.int32, device=vertices.device)
    barycentric = torch.empty(*shape, 3, dtype=torch.float32, device=vertices.device)
    # The definition's arithmetic, see above. The type checker knows no launch options.
    options: dict[str, Any] = {"num_warps": blocks.warps, "enable_fp_fusion": False}
    with torch.cuda.device_of(vertices):
        if num_frames and num_faces:
            _draw_faces[(num_frames * triton.cdiv(num_faces, blocks.faces),)](
                vertices,
                faces,
                keys,
                num_vertices,
                num_faces,
                eye_distance,
                near,
                far,
                SIZE=size,
                FACES=blocks.faces,
                TILE=blocks.tile,
                LARGE_TILE=blocks.large_tile,
                SMALL_LIMIT=blocks.small_limit,
                **options,
            )
        if num_frames:
            _resolve_pixels[(num_frames * triton.cdiv(size * size, blocks.pixels),)](
                vertices,
                faces,
                keys,
                face,
                barycentric,
                num_vertices,
                SIZE=size,
                PIXELS=blocks.pixels,
                **options,
            )
    return face, barycentric


# Tensors of faces whose indices were looked at: version of the content and highest index.
_seen_faces: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _checked_faces(faces: Tensor, num_vertices: int) -> Tensor:
    """(F, 3) faces, contiguous int32 or int64, whose indices are known to name vertices."""
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"faces is {tuple(faces.shape)}; it must be (F, 3), triangles only.")
    if faces.is_floating_point() or faces.is_complex() or faces.dtype == torch.bool:
        raise TypeError(f"faces is {faces.dtype}; vertex indices are integers.")
    capturing = faces.is_cuda and torch.cuda.is_current_stream_capturing()
    if len(faces) and not capturing:
        # A tensor made in inference mode counts no versions.
        version = -1 if faces.is_inference() else faces._version
        seen_version, lowest, highest = _seen_faces.get(faces, (None, 0, 0))
        if version != seen_version:
            lowest, highest = (int(index) for index in torch.aminmax(faces))
            _seen_faces[faces] = version, lowest, highest
        if lowest < 0 or highest >= num_vertices:
            wrong = ((faces < 0) | (faces >= num_vertices)).any(1).nonzero()[0, 0]
            raise ValueError(
                f"Face {int(wrong)} has vertices {faces[wrong].tolist()}, but there are "
                f"{num_vertices} vertices: indices run from 0 to {num_vertices - 1}. Do mesh and "
                "faces belong to one body?"
            )
    if faces.dtype not in (torch.int32, torch.int64):
        faces = faces.to(torch.int32)
    return faces.contiguous()


# ---------------------------------------------------------------------------------------- kernels
# Values of a face and of a pixel broadcast: (faces of the program, 1) or one alone, with (1, pixels
# of a tile) or (pixels,). A face's corners on the screen are ``(xa, ya, xb, yb, xc, yc)``, their
# distances from the eye ``(za, zb, zc)``.


@triton.jit
def _draw_faces(
    vertices: tl.tensor,  # (N, V, 3) float32
    faces: tl.tensor,  # (F, 3) int32 or int64
    keys: tl.tensor,  # (N, SIZE, SIZE) int64, in and out
    num_vertices: tl.tensor,
    num_faces: tl.tensor,
    eye_distance: tl.tensor,
    near: tl.tensor,
    far: tl.tensor,
    SIZE: tl.constexpr,
    FACES: tl.constexpr,
    TILE: tl.constexpr,
    LARGE_TILE: tl.constexpr,
    SMALL_LIMIT: tl.constexpr,
) -> None:
    """Offer the faces of a block to the pixels of one frame."""
    num_blocks = tl.cdiv(num_faces, FACES)
    # 64 bits: a batch of large pictures has more than 2^31 pixels.
    frame = (tl.program_id(0) // num_blocks).to(tl.int64)
    vertices += frame * num_vertices * 3
    keys += frame * SIZE * SIZE
    face = tl.program_id(0) % num_blocks * FACES + tl.arange(0, FACES)[:, None]

    screen, depths, there = _corners(
        vertices, faces, face, face < num_faces, num_vertices, eye_distance
    )
    left, right, top, bottom = _pixel_box(screen, depths, there, SIZE)
    num_tiles = tl.cdiv(right - left, TILE) * tl.cdiv(bottom - top, TILE)
    large = num_tiles > SMALL_LIMIT
    small_box = left, right, top, tl.where(large, top, bottom)
    num_steps = tl.max(tl.where(large, 0, num_tiles))
    pixel = tl.arange(0, TILE * TILE)[None, :]
    limits = near, far
    _walk(keys, face, screen, depths, small_box, num_steps, pixel, limits, SIZE, TILE)

    pixel = tl.arange(0, LARGE_TILE * LARGE_TILE)
    one = tl.max(tl.where(large, face, -1))
    while one >= 0:
        _draw_large_face(
            vertices, faces, keys, one, num_vertices, eye_distance, pixel, limits, SIZE, LARGE_TILE
        )
        one = tl.max(tl.where(large & (face < one), face, -1))


@triton.jit
def _draw_large_face(
    vertices: tl.tensor,
    faces: tl.tensor,
    keys: tl.tensor,
    face: tl.tensor,
    num_vertices: tl.tensor,
    eye_distance: tl.tensor,
    pixel: tl.tensor,
    limits: tl.tuple,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    screen, depths, there = _corners(vertices, faces, face, face >= 0, num_vertices, eye_distance)
    box = _pixel_box(screen, depths, there, SIZE)
    left, right, top, bottom = box
    num_steps = tl.cdiv(right - left, TILE) * tl.cdiv(bottom - top, TILE)
    _walk(keys, face, screen, depths, box, num_steps, pixel, limits, SIZE, TILE)


@triton.jit
def _resolve_pixels(
    vertices: tl.tensor,  # (N, V, 3) float32
    faces: tl.tensor,  # (F, 3) int32 or int64
    keys: tl.tensor,  # (N, SIZE, SIZE) int64
    face_out: tl.tensor,  # (N, SIZE, SIZE) int32
    barycentric_out: tl.tensor,  # (N, SIZE, SIZE, 3) float32
    num_vertices: tl.tensor,
    SIZE: tl.constexpr,
    PIXELS: tl.constexpr,
) -> None:
    """Write the face that won each pixel of a block, and its weights."""
    num_blocks = tl.cdiv(SIZE * SIZE, PIXELS)
    frame = (tl.program_id(0) // num_blocks).to(tl.int64)
    pixel = tl.program_id(0) % num_blocks * PIXELS + tl.arange(0, PIXELS)
    exists = pixel < SIZE * SIZE
    place = frame * SIZE * SIZE + pixel

    face = tl.load(keys + place, mask=exists, other=_NOTHING).to(tl.int32)
    covered = face >= 0
    vertices += frame * num_vertices * 3
    screen, _, _ = _corners(vertices, faces, face, covered, num_vertices, 0.0)
    _, wa, wb, wc = _weights(screen, pixel // SIZE, pixel % SIZE, SIZE)
    tl.store(face_out + place, face, mask=exists)
    tl.store(barycentric_out + place * 3, tl.where(covered, wa, 0.0), mask=exists)
    tl.store(barycentric_out + place * 3 + 1, tl.where(covered, wb, 0.0), mask=exists)
    tl.store(barycentric_out + place * 3 + 2, tl.where(covered, wc, 0.0), mask=exists)


@triton.jit
def _corners(
    vertices: tl.tensor,
    faces: tl.tensor,
    face: tl.tensor,
    exists: tl.tensor,
    num_vertices: tl.tensor,
    eye_distance: tl.tensor,
) -> tl.tuple:
    """A face's corners on the screen, their depths, and whether all three are in the mesh."""
    a = tl.load(faces + face * 3, mask=exists, other=-1)
    b = tl.load(faces + face * 3 + 1, mask=exists, other=-1)
    c = tl.load(faces + face * 3 + 2, mask=exists, other=-1)
    lowest = tl.minimum(tl.minimum(a, b), c)
    highest = tl.maximum(tl.maximum(a, b), c)
    there = (lowest >= 0) & (highest < num_vertices)
    xa = tl.load(vertices + a * 3, mask=there, other=0.0)
    ya = tl.load(vertices + a * 3 + 1, mask=there, other=0.0)
    za = tl.load(vertices + a * 3 + 2, mask=there, other=0.0) + eye_distance
    xb = tl.load(vertices + b * 3, mask=there, other=0.0)
    yb = tl.load(vertices + b * 3 + 1, mask=there, other=0.0)
    zb = tl.load(vertices + b * 3 + 2, mask=there, other=0.0) + eye_distance
    xc = tl.load(vertices + c * 3, mask=there, other=0.0)
    yc = tl.load(vertices + c * 3 + 1, mask=there, other=0.0)
    zc = tl.load(vertices + c * 3 + 2, mask=there, other=0.0) + eye_distance
    return (xa, ya, xb, yb, xc, yc), (za, zb, zc), there


@triton.jit
def _area(screen: tl.tuple) -> tl.tensor:
    """Twice the area on the screen, positive for a face that shows its front."""
    xa, ya, xb, yb, xc, yc = screen
    return (yb - ya) * (xc - xa) - (yc - ya) * (xb - xa)


@triton.jit
def _pixel_box(
    screen: tl.tuple, depths: tl.tuple, there: tl.tensor, SIZE: tl.constexpr
) -> tl.tuple:
    """First and end column, first and end row of the pixels a face may cover; empty if none."""
    xa, ya, xb, yb, xc, yc = screen
    za, zb, zc = depths
    finite = tl.abs(xa + xb + xc + ya + yb + yc + za + zb + zc) < float("inf")
    drawn = there & finite & (_area(screen) > 0)
    left = _first_pixel(tl.minimum(tl.minimum(xa, xb), xc), drawn, SIZE)
    right = _end_pixel(tl.maximum(tl.maximum(xa, xb), xc), drawn, SIZE)
    top = _first_pixel(tl.minimum(tl.minimum(ya, yb), yc), drawn, SIZE)
    bottom = _end_pixel(tl.maximum(tl.maximum(ya, yb), yc), drawn, SIZE)
    # Off the screen the end may lie before the first.
    return left, tl.maximum(right, left), top, tl.maximum(bottom, top)


@triton.jit
def _first_pixel(edge: tl.tensor, drawn: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    at = (tl.where(drawn, edge, 0.0).to(tl.float64) * SIZE + (SIZE - 1)) * 0.5 - _BOX_MARGIN_PIXELS
    # Clamped as a float: a huge number has no integer.
    return tl.where(drawn, tl.ceil(tl.minimum(tl.maximum(at, 0.0), SIZE)).to(tl.int32), 0)


@triton.jit
def _end_pixel(edge: tl.tensor, drawn: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    at = (tl.where(drawn, edge, 0.0).to(tl.float64) * SIZE + (SIZE - 1)) * 0.5 + _BOX_MARGIN_PIXELS
    return tl.where(drawn, tl.floor(tl.minimum(tl.maximum(at, -1.0), SIZE - 1)).to(tl.int32) + 1, 0)


@triton.jit
def _walk(
    keys: tl.tensor,
    face: tl.tensor,
    screen: tl.tuple,
    depths: tl.tuple,
    box: tl.tuple,
    num_steps: tl.tensor,
    pixel: tl.tensor,
    limits: tl.tuple,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """Offer faces to the pixels of their boxes, in each step one tile of each box."""
    left, right, top, bottom = box
    across = tl.maximum(tl.cdiv(right - left, TILE), 1)
    tile = 0
    while tile < num_steps:
        # The row is below the bottom once a box has no tiles left.
        row = top + tile // across * TILE + pixel // TILE
        column = left + tile % across * TILE + pixel % TILE
        in_box = (row < bottom) & (column < right)
        _offer(keys, face, screen, depths, row, column, in_box, limits, SIZE)
        tile += 1


@triton.jit
def _offer(
    keys: tl.tensor,
    face: tl.tensor,
    screen: tl.tuple,
    depths: tl.tuple,
    row: tl.tensor,
    column: tl.tensor,
    in_box: tl.tensor,
    limits: tl.tuple,
    SIZE: tl.constexpr,
) -> None:
    """Let pixels keep a face if it covers them and is the nearest so far."""
    za, zb, zc = depths
    near, far = limits
    inside, wa, wb, wc = _weights(screen, row, column, SIZE)
    inverse = tl.div_rn(wa, za) + tl.div_rn(wb, zb) + tl.div_rn(wc, zc)
    depth = tl.div_rn(tl.full(inverse.shape, 1.0, tl.float32), inverse)
    # The bits of floats are ordered as the floats are, but those of negative ones backwards.
    bits = depth.to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (bits.to(tl.int64) << 32) | face.to(tl.int64)
    seen = in_box & inside & (depth > near) & (depth < far)
    # Relaxed: programs share nothing but these minima, so none has to wait for another's memory.
    tl.atomic_min(keys + row * SIZE + column, key, mask=seen, sem="relaxed")


@triton.jit
def _weights(screen: tl.tuple, row: tl.tensor, column: tl.tensor, SIZE: tl.constexpr) -> tl.tuple:
    """Whether pixels' centres are inside a face, and their barycentric weights on the screen."""
    xa, ya, xb, yb, xc, yc = screen
    x = tl.div_rn((2 * column + 1 - SIZE).to(tl.float32), SIZE * 1.0)
    y = tl.div_rn((2 * row + 1 - SIZE).to(tl.float32), SIZE * 1.0)
    # Edge functions; each over the area is the weight of the corner opposite.
    edge_ab = (x - xa) * (yb - ya) - (y - ya) * (xb - xa)
    edge_bc = (x - xb) * (yc - yb) - (y - yb) * (xc - xb)
    edge_ca = (x - xc) * (ya - yc) - (y - yc) * (xa - xc)
    inside = (edge_ab >= 0) & (edge_bc >= 0) & (edge_ca >= 0)
    area = _area(screen)
    wa = tl.div_rn(edge_bc, area)
    wb = tl.div_rn(edge_ca, area)
    wc = tl.div_rn(edge_ab, area)
    # Not `tl.minimum`, which takes the 1 where a weight is NaN.
    wa = tl.where(wa > 1, 1.0, wa)
    wb = tl.where(wb > 1, 1.0, wb)
    wc = tl.where(wc > 1, 1.0, wc)
    total = wa + wb + wc
    return inside, tl.div_rn(wa, total), tl.div_rn(wb, total), tl.div_rn(wc, total)
