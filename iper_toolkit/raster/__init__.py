"""Meshes to pictures: `rasterize` finds the face at each pixel, `interpolate` carries values there.

``fragments = rasterize(camera.project(vertices, camera), faces, 256)``, then
``interpolate(fragments, colours, faces)``. The rules are written in `raster.cpu`; `raster.gpu`
follows them on a CUDA device.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from iper_toolkit.raster.cpu import EYE_DISTANCE, FAR, NEAR, rasterize_array, vertex_indices

__all__ = ["EYE_DISTANCE", "FAR", "NEAR", "Engine", "Fragments", "interpolate", "rasterize"]

Engine = Literal["auto", "cpu", "gpu"]

_log = logging.getLogger(__name__)
_devices_told: set[str] = set()


@dataclass(frozen=True)
class Fragments:
    """What the rasterizer saw at each pixel of a square picture."""

    face: Tensor  # (..., H, W) int32, -1 where no face covers the pixel
    barycentric: Tensor  # (..., H, W, 3) float32, sums to 1 where face >= 0, else zeros

    def __post_init__(self) -> None:
        if self.barycentric.shape != (*self.face.shape, 3):
            raise ValueError(
                f"barycentric is {tuple(self.barycentric.shape)}; face is {tuple(self.face.shape)}, "
                f"so it must be {(*self.face.shape, 3)}."
            )

    @property
    def covered(self) -> Tensor:
        """(..., H, W) bool, where a face is: the silhouette."""
        return self.face >= 0


def rasterize(
    vertices: Tensor,
    faces: Tensor,
    size: int,
    *,
    eye_distance: float = EYE_DISTANCE,
    near: float = NEAR,
    far: float = FAR,
    engine: Engine = "auto",
) -> Fragments:
    """The face that is seen at each pixel, and where on it. Not differentiable.

    Faces are culled when they show their back: a mesh wound outward in the y-up frame of the rest
    pose shows its front once it is turned by pi about x, as every fit in iPER's convention is. A
    mesh that was mirrored instead (y alone negated) shows its inside: reverse its faces.

    Args:
        vertices: (..., V, 3) float, NDC x right, y down, and depth z in metres (larger is farther),
            as `camera.project` gives. A face with a vertex that is not finite is not drawn.
        faces: (F, 3) integer, shared by all frames.
        size: pixels of a side.
        eye_distance: metres from the eye to z = 0.
        near, far: metres from the eye; what is not strictly between is not drawn.
        engine: "cpu" draws frames side by side on as many threads as torch uses
            (`torch.set_num_threads`), wherever the vertices are; "gpu" draws them where they are, on
            a CUDA device, and needs Triton; "auto" takes the GPU for what is there, if it can, and
            says once if it cannot.

    Returns:
        Fragments (..., size, size) on the device of `vertices`. The engines follow the same rules
        in the same arithmetic.
    """
    for name, value in (("vertices", vertices), ("faces", faces)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} is a {type(value).__name__}; it takes a torch tensor (torch.as_tensor)."
            )
    if not hasattr(size, "__index__"):
        raise TypeError(f"size is {size!r}; it takes one whole number, pixels of a square's side.")
    if vertices.ndim < 2 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices is {tuple(vertices.shape)}; it must be (..., V, 3).")
    if size < 1:
        raise ValueError(f"size is {size}; a picture has at least 1 pixel a side.")
    if engine not in get_args(Engine):
        raise ValueError(f"engine is {engine!r}; choose one of: {', '.join(get_args(Engine))}.")
    leading = vertices.shape[:-2]
    face, barycentric = torch.ops.iper_toolkit.rasterize(
        vertices.detach().reshape(leading.numel(), *vertices.shape[-2:]),
        faces,
        int(size),
        float(eye_distance),
        float(near),
        float(far),
        engine,
    )
    return Fragments(
        face=face.reshape(*leading, size, size),
        barycentric=barycentric.reshape(*leading, size, size, 3),
    )


# An operator of torch, so that torch.compile takes it as it is instead of looking into it.
_operators = torch.library.Library("iper_toolkit", "DEF")
_operators.define(
    "rasterize(Tensor vertices, Tensor faces, int size, float eye_distance, float near, float far, "
    "str engine) -> (Tensor, Tensor)"
)


@torch.library.impl(_operators, "rasterize", "CompositeExplicitAutograd")
def _rasterize(
    vertices: Tensor,
    faces: Tensor,
    size: int,
    eye_distance: float,
    near: float,
    far: float,
    engine: Engine,
) -> tuple[Tensor, Tensor]:
    """(N, V, 3) -> face (N, size, size), barycentric (N, size, size, 3) on the same device."""
    if engine == "auto":
        engine = _usual_engine(vertices.device.type)
    draw = _gpu_engine() if engine == "gpu" else _rasterize_on_cpu
    face, barycentric = draw(vertices, faces, size, eye_distance=eye_distance, near=near, far=far)
    return face.to(vertices.device), barycentric.to(vertices.device)


@torch.library.register_fake("iper_toolkit::rasterize", lib=_operators)
def _rasterize_shapes(
    vertices: Tensor, faces: Tensor, size: int, *settings: object
) -> tuple[Tensor, Tensor]:
    shape = (len(vertices), size, size)
    face = vertices.new_empty(shape, dtype=torch.int32)
    return face, vertices.new_empty((*shape, 3), dtype=torch.float32)


def _usual_engine(device: str) -> Engine:
    if device == "cuda" and find_spec("triton") is not None:
        return "gpu"
    if device != "cpu" and device not in _devices_told:
        _devices_told.add(device)
        reason = "Triton is not installed" if device == "cuda" else "it has no engine there"
        _log.warning(
            "The rasterizer runs on the CPU (%s); vertices on %r are copied there and back "
            "(said once).",
            reason,
            device,
        )
    return "cpu"


def _gpu_engine() -> Callable[..., tuple[Tensor, Tensor]]:
    """Triton is imported when it is used: it costs half a second and is not there everywhere."""
    if find_spec("triton") is None:
        raise ModuleNotFoundError(
            "The GPU engine needs Triton, which is not installed: pip install triton (Linux), or "
            "take engine='cpu'."
        )
    from iper_toolkit.raster.gpu import rasterize_batch

    return rasterize_batch


def _rasterize_on_cpu(
    vertices: Tensor, faces: Tensor, size: int, *, eye_distance: float, near: float, far: float
) -> tuple[Tensor, Tensor]:
    """(N, V, 3) on any device -> face (N, size, size), barycentric (N, size, size, 3) on the CPU."""
    vertices_array = vertices.to("cpu", torch.float32).contiguous().numpy()
    faces_array = vertex_indices(faces.cpu().numpy())
    face = torch.empty(len(vertices), size, size, dtype=torch.int32)
    barycentric = torch.empty(len(vertices), size, size, 3)
    face_array, barycentric_array = face.numpy(), barycentric.numpy()

    def draw(first: int, step: int) -> None:
        depth = None  # one buffer serves all frames of a thread
        for i in range(first, len(vertices_array), step):
            _, _, depth = rasterize_array(
                vertices_array[i],
                faces_array,
                size,
                face_array[i],
                barycentric_array[i],
                depth,
                eye_distance=eye_distance,
                near=near,
                far=far,
            )

    num_threads = min(torch.get_num_threads(), len(vertices_array))
    if num_threads > 1:
        with ThreadPoolExecutor(num_threads) as pool:
            for done in [pool.submit(draw, first, num_threads) for first in range(num_threads)]:
                done.result()
    else:
        draw(0, 1)
    return face, barycentric


def interpolate(fragments: Fragments, attributes: Tensor, faces: Tensor | None = None) -> Tensor:
    """Values of a mesh's corners or vertices, carried to the pixels where they are seen.

    Linear on the screen. Differentiable with respect to the attributes.

    Args:
        fragments: (..., H, W).
        attributes: values of each face's corners, (F, 3, C), without `faces`; or of each vertex,
            (V, C), with `faces`. Either may carry the leading dimensions of the fragments in front:
            then each frame has its own values.
        faces: (F, 3) integer, for values of vertices.

    Returns:
        (..., H, W, C) in the type of the attributes, zeros where no face is.
    """
    own_dims = 3 if faces is None else 2
    wanted = "(F, 3, C) values of corners" if faces is None else "(V, C) values of vertices"
    frame_shape = fragments.face.shape[:-2]
    leading = attributes.shape[: max(attributes.ndim - own_dims, 0)]
    if (
        attributes.ndim < own_dims
        or (leading and leading != frame_shape)
        or (faces is None and attributes.shape[-2] != 3)
    ):
        raise ValueError(
            f"attributes is {tuple(attributes.shape)}; with faces {'not ' if faces is None else ''}"
            f"given it must be {wanted}, alone or behind {tuple(frame_shape)}."
        )
    covered = fragments.covered
    seen = fragments.face[covered].long()
    # Where the values of one mesh begin when each frame has its own: (N,) one number a pixel.
    num_rows = attributes.shape[-own_dims]
    if leading:
        frame = covered.reshape(-1, *covered.shape[-2:]).nonzero()[:, 0]
        offset = frame * num_rows
    else:
        offset = torch.zeros_like(seen)
    if faces is None:
        corners = attributes.reshape(-1, 3, attributes.shape[-1])[seen + offset]
    else:
        rows = faces.to(seen.device).long()[seen] + offset[:, None]
        corners = attributes.reshape(-1, attributes.shape[-1])[rows]
    weights = fragments.barycentric[covered].to(attributes.dtype)
    values = (corners * weights[..., None]).sum(-2)
    picture = values.new_zeros(*fragments.face.shape, attributes.shape[-1])
    picture[covered] = values
    return picture
