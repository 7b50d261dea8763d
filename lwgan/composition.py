"""From pictures and posed bodies to what the generator takes: composed once a person, then a frame.

::

    sources = compose_sources(pictures, background_masks, vertices, tables)  # once
    targets = compose_targets(sources, poses, tables)  # every batch of frames

(Liu et al. 2021, section 3.1 and 3.2.) As for the surface's tables, there are three conventions:
``reference`` extends edges from a Canny filter's pixels, the farthest weighing most, and lets the
grey between the charts of the texture bleed in at seams, as released checkpoints saw it;
``corrected`` extends from the person's own outermost pixels, the nearest weighing most, and paints
a rim around the charts. ``clothed`` is that, and dresses the body: its vertices are to be those of
the body inflated by what its person wears (`lwgan.clothing`), flows go on a little beyond it, where
skirts and hair are, and the network sees sources cut out, so that it knows where they end.

Pictures are RGB in [-1, 1] and square; masks are
**1 = background**; vertices are projected: NDC x right, y down, and depth in metres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iper_toolkit.camera import body_box, head_box
from iper_toolkit.raster import Fragments, rasterize
from lwgan.correspondence import (
    VISIBILITY_SIZE,
    condition_map,
    face_points,
    faces_in_view,
    flow_beyond,
    flow_to,
    keep_faces,
    visible_faces,
    with_neighbours,
)
from lwgan.generators.records import GeneratorInputs
from lwgan.silhouettes import canny_edges, dilate, erode, extend_edges, inner_edges
from lwgan.surface_tables import Convention, SurfaceTables
from lwgan.texture import (
    coverage,
    dress,
    grow_charts,
    merge_people_textures,
    merge_sources,
    unwrap,
    visibility,
)

DISCRIMINATOR_BODY_FACTOR = 1.2  # the body's box over the extent of its keypoints

# What counts as surely person or surely background in a soft mask. The reference wants exactly 1,
# so matting noise of one grey level opens holes; the corrected convention forgives a tenth.
_CERTAIN: dict[Convention, float] = {"reference": 1.0, "corrected": 0.9, "clothed": 0.9}
# Pixels of the side at which it is found what a source shows, where pictures are smaller: the
# reference looks at the picture itself, in which hardly a face is seen below this side.
VISIBILITY_SIZES: dict[Convention, int] = {
    "reference": 384,
    "corrected": VISIBILITY_SIZE,
    "clothed": VISIBILITY_SIZE,
}
# How far around the body flows go on, in shares of the picture's side ("clothed").
_BEYOND = 0.06


@dataclass(frozen=True)
class CompositionSettings:
    """How inputs are composed. Kernels are odd sides of boxes, in pixels of a picture of `kernel_size`."""

    confidence_kernel: int = 3  # erodes the person to what is surely person
    extension_kernel: int = 51  # dilates the person to where colours are extended; 9 in training
    background_kernel: int = 11  # erodes the background to what is surely background
    texture_kernel: int = 13  # dilates what a source shows in the texture map
    kernel_size: int = 512  # pixels of the side at which the kernels are meant
    # Small pictures miss faces, so visibility is found in a picture of at least this side; None is
    # 384 under ``reference`` and 1024 under ``corrected``.
    visibility_size: int | None = None

    def scaled(self, kernel: int, size: int) -> int:
        """A kernel for pictures of `size` pixels a side: in proportion, as the nearest odd number.

        None shrinks below 3 pixels, where it would do nothing.
        """
        odd = 2 * round((kernel * size / self.kernel_size - 1) / 2) + 1
        return max(odd, min(kernel, 3))


USUAL_SETTINGS = CompositionSettings()


@dataclass(frozen=True)
class ComposedSources:
    """Everything that is drawn from: B sets of S sources, of one person or of several."""

    source_inputs: Tensor  # (B, S, 6, H, W): [edge-extended picture ; condition map]
    background_inputs: Tensor  # (B, 1, 4, H, W): [picture * known ; known] of the first source
    texture: Tensor  # (B, 3, H, W), merged and ready to be read
    texture_visibility: Tensor  # (B, S, 1, H, W) float, 1 where a source shows the texel
    face_points: Tensor  # (B, S, F, 3, 2) NDC; -2 for faces that no flow may come from
    texture_points: Tensor  # (B, S, F, 3, 2) NDC of the corners of `texture_faces`
    visible_faces: Tensor  # (B, S, F) bool: faces that each source shows, and their neighbours
    fragments: Fragments  # (B, S, H, W) of the sources

    @property
    def num_sources(self) -> int:
        return self.source_inputs.shape[1]

    @property
    def size(self) -> int:
        return self.source_inputs.shape[-1]


@dataclass(frozen=True)
class EachSource:
    """What is found out of each source for itself, whatever other sources stand beside it: the slow part."""

    shown: Tensor  # (B, S, 3, H, W) what the network sees of it: the edge-extended or the cut-out picture
    unwrapped: Tensor  # (B, S, 3, H, W) its colours in the texture map
    texture_visibility: Tensor  # (B, S, 1, H, W) float, 1 where it shows the texel
    visible_faces: Tensor | None = None  # (B, S, F) bool; None: all, as flows do not ask by default
    fragments: Fragments | None = None  # (B, S, H, W); None: cheap to find again


@dataclass(frozen=True)
class ComposedTargets:
    """T frames of each of B people."""

    inputs: Tensor  # (B, T, 6, H, W): [texture-warped picture ; condition map]
    flow: Tensor  # (B, T, S, H, W, 2) NDC in each source, -2 where there is no body
    fragments: Fragments  # (B, T, H, W)
    face_points: Tensor  # (B, T, F, 3, 2) NDC


def compose_sources(
    pictures: Tensor,
    background_masks: Tensor,
    vertices: Tensor,
    tables: SurfaceTables,
    settings: CompositionSettings = USUAL_SETTINGS,
) -> ComposedSources:
    """What the network sees of its sources, and their texture. Once a person.

    Args:
        pictures: (B, S, 3, H, W) float in [-1, 1], square. The first source is the one that shows
            most: it gives the background, and its colours stand wherever it shows the body.
        background_masks: (B, S, 1, H, W) float in [0, 1], 1 = background; may be soft.
        vertices: (B, S, V, 3) float, projected.
        tables: the body's, on the same device; their convention is that of the pictures, too.
        settings: kernels and sizes.

    Raises:
        ValueError: shapes disagree, or a mask shows nobody.
    """
    each = compose_each(pictures, background_masks, vertices, tables, settings)
    background = background_inputs(
        pictures[:, :1], background_masks[:, :1], tables.convention, settings
    )
    return join_sources(each, background, vertices, tables)


def compose_each(
    pictures: Tensor,
    background_masks: Tensor,
    vertices: Tensor,
    tables: SurfaceTables,
    settings: CompositionSettings = USUAL_SETTINGS,
) -> EachSource:
    """The part of `compose_sources` that no other source has a say in, so that it may be kept. Arguments as there."""
    _check_sources(pictures, background_masks, vertices)
    size = pictures.shape[-1]
    vertices = vertices.float()
    fragments = rasterize(vertices, tables.faces, size)
    extended = _extend(pictures, background_masks, fragments, tables.convention, settings)
    visible, shown = _seen_faces(vertices, fragments, tables, settings)
    charts = tables.texture_fragments(size)
    texture_points = face_points(vertices, tables.texture_faces)
    kernel = settings.scaled(settings.texture_kernel, size)
    return EachSource(
        shown=pictures * (1 - background_masks) if tables.convention == "clothed" else extended,
        unwrapped=unwrap(extended, texture_points, charts),
        texture_visibility=visibility(texture_points, shown, charts, (size, size), kernel),
        visible_faces=visible,
        fragments=fragments,
    )


def join_sources(
    each: EachSource, background: Tensor, vertices: Tensor, tables: SurfaceTables
) -> ComposedSources:
    """Sources side by side, the first one first.

    Args:
        each: of `compose_each`.
        background: (B, N, 4, H, W) of `background_inputs`.
        vertices: (B, S, V, 3) float, projected; those of `each`.
    """
    vertices = vertices.float()
    size = each.shown.shape[-1]
    fragments = each.fragments or rasterize(vertices, tables.faces, size)
    visible = each.visible_faces
    if visible is None:
        visible = torch.ones(
            *vertices.shape[:2], tables.num_faces, dtype=torch.bool, device=vertices.device
        )
    texture = merge_sources(each.unwrapped, each.texture_visibility)
    if tables.convention != "reference":
        texture = grow_charts(texture, tables.texture_fragments(size))
    condition = condition_map(fragments, tables.code.to(each.shown.dtype))
    return ComposedSources(
        source_inputs=torch.cat([each.shown, condition], dim=2),
        background_inputs=background,
        texture=texture,
        texture_visibility=each.texture_visibility,
        face_points=face_points(vertices, tables.faces),
        texture_points=face_points(vertices, tables.texture_faces),
        visible_faces=visible,
        fragments=fragments,
    )


def background_inputs(
    pictures: Tensor,
    background_masks: Tensor,
    convention: Convention,
    settings: CompositionSettings = USUAL_SETTINGS,
) -> Tensor:
    """Pictures without their people, and what of them is known: the background network's input.

    Args:
        pictures: (B, N, 3, H, W) float in [-1, 1].
        background_masks: (B, N, 1, H, W) float, 1 = background.
        convention: says how sure a soft mask must be.
        settings: kernels.

    Returns:
        (B, N, 4, H, W): ``[picture * known ; known]``, known 1 where the background is.
    """
    kernel = settings.scaled(settings.background_kernel, pictures.shape[-1])
    known = erode(background_masks, kernel, certain=_CERTAIN[convention]).to(pictures.dtype)
    return torch.cat([pictures * known, known], dim=2)


def compose_targets(
    sources: ComposedSources,
    vertices: Tensor,
    tables: SurfaceTables,
    *,
    only_visible: bool = False,
) -> ComposedTargets:
    """The sources' texture and flows in new poses. Cheap, frame by frame independent.

    Args:
        sources: of the same batch.
        vertices: (B, T, V, 3) float, projected.
        tables: the body's, on the same device.
        only_visible: flows come from faces that a source shows alone. Else a hidden face points at
            what hides it, and the network's attention is left to tell.
    """
    vertices = vertices.float()
    fragments = rasterize(vertices, tables.faces, sources.size)
    textured = dress(sources.texture, fragments, tables.uv_corners)
    condition = condition_map(fragments, tables.code.to(textured.dtype))
    points = sources.face_points
    if only_visible:
        points = keep_faces(points, sources.visible_faces)
    each_source = Fragments(fragments.face[:, :, None], fragments.barycentric[:, :, None])
    flow = flow_to(each_source, points[:, None])
    if tables.convention == "clothed":
        band = math.ceil(_BEYOND * sources.size)
        flow = flow_beyond(flow, fragments.covered, sources.fragments.covered, band)
    return ComposedTargets(
        inputs=torch.cat([textured, condition], dim=2),
        flow=flow,
        fragments=fragments,
        face_points=face_points(vertices, tables.faces),
    )


def previous_flows(targets: ComposedTargets) -> Tensor:
    """(B, T - 1, H, W, 2): where each frame but the first lies in the frame before it."""
    later = Fragments(targets.fragments.face[:, 1:], targets.fragments.barycentric[:, 1:])
    return flow_to(later, targets.face_points[:, :-1])


def generator_inputs(
    sources: ComposedSources, targets: ComposedTargets, *, temporal: bool = False
) -> GeneratorInputs:
    """Both as one call's inputs; `temporal` adds the flows from frame to frame."""
    return GeneratorInputs(
        background=sources.background_inputs,
        source=sources.source_inputs,
        target=targets.inputs,
        flow=targets.flow,
        previous_flow=previous_flows(targets) if temporal else None,
    )


def merge_people(
    people: Sequence[ComposedSources],
    faces: Sequence[Tensor] | Tensor,
    tables: SurfaceTables,
    *,
    restrict_flow: bool,
) -> ComposedSources:
    """One set of sources of several people: each gives some faces to the texture.

    Args:
        people: the primary person first, whose background it is.
        faces: (F,) bool for each person: the faces taken from them (`tasks.owned_faces`).
        tables: the body's.
        restrict_flow: flows, too, come from each person's faces alone. Else, as the reference's
            program has it, only the texture tells whose clothes are worn.
    """
    _check_people(people, faces)
    primary = people[0]
    charts = tables.texture_fragments(primary.size)
    # A texel belongs to a person where the first source, the reference for the others, has it.
    shares = [
        coverage(
            person.texture_points[:, 0],
            own.expand(len(person.texture), -1),
            charts,
            (person.size, person.size),
        )
        for person, own in zip(people, faces, strict=True)
    ]
    texture = merge_people_textures([person.texture for person in people], shares)
    if tables.convention != "reference":
        nobody = torch.stack(shares).sum(0) == 0
        texture = grow_charts(torch.where(nobody, primary.texture, texture), charts)

    def along_sources(name: str) -> Tensor:
        return torch.cat([getattr(person, name) for person in people], dim=1)

    points = along_sources("face_points")
    if restrict_flow:
        kept = [
            own.expand(*person.face_points.shape[:3])
            for person, own in zip(people, faces, strict=True)
        ]
        points = keep_faces(points, torch.cat(kept, dim=1))
    return ComposedSources(
        source_inputs=along_sources("source_inputs"),
        background_inputs=primary.background_inputs,
        texture=texture,
        texture_visibility=along_sources("texture_visibility"),
        face_points=points,
        texture_points=along_sources("texture_points"),
        visible_faces=along_sources("visible_faces"),
        fragments=Fragments(
            torch.cat([person.fragments.face for person in people], dim=1),
            torch.cat([person.fragments.barycentric for person in people], dim=1),
        ),
    )


def head_and_body_boxes(keypoints: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What the discriminators of head and body look at.

    Args:
        keypoints: (..., 19, 2) NDC, HMR's 19 keypoints of the targets.
        size: pixels of a side.

    Returns:
        Two (..., 4) int64: min_x, max_x, min_y, max_y.
    """
    return head_box(keypoints, size), body_box(keypoints, size, DISCRIMINATOR_BODY_FACTOR)


def _seen_faces(
    vertices: Tensor, fragments: Fragments, tables: SurfaceTables, settings: CompositionSettings
) -> tuple[Tensor, Tensor]:
    """Faces that the sources show, and their neighbours.

    Args:
        vertices: (B, S, V, 3). fragments: (B, S, H, W) of them.

    Returns:
        (B, S, F) bool twice: for the flows, and for the texture.
    """
    size = fragments.face.shape[-1]
    fine = max(size, settings.visibility_size or VISIBILITY_SIZES[tables.convention])
    visible = visible_faces(fragments, tables.num_faces)
    if fine > size:
        visible = visible | faces_in_view(vertices, tables.faces, fine)
    visible = with_neighbours(visible, tables.nearest)
    if tables.convention != "reference" or torch.equal(tables.faces, tables.texture_faces):
        return visible, visible
    # The reference looks for what goes into the texture with the faces as they are drawn there, so
    # mirrored charts are seen from inside.
    shown = faces_in_view(vertices, tables.texture_faces, fine)
    return visible, with_neighbours(shown, tables.nearest)


def _extend(
    pictures: Tensor,
    background_masks: Tensor,
    fragments: Fragments,
    convention: Convention,
    settings: CompositionSettings,
) -> Tensor:
    """The edge-extended pictures: the person, and colours wherever person or body may be."""
    certain, size = _CERTAIN[convention], pictures.shape[-1]
    person = 1 - background_masks
    kernel = settings.scaled(settings.confidence_kernel, size)
    confident = erode(person, kernel, certain=certain)
    perhaps = (person > 1 - certain) | fragments.covered[:, :, None]
    band = dilate(perhaps, settings.scaled(settings.extension_kernel, size))
    if convention == "reference":
        return extend_edges(pictures, confident, band, canny_edges(confident), "growing")
    return extend_edges(pictures, confident, band, inner_edges(confident), "falling")


def _check_sources(pictures: Tensor, background_masks: Tensor, vertices: Tensor) -> None:
    shape = tuple(pictures.shape)
    if pictures.ndim != 5 or shape[2] != 3 or shape[3] != shape[4] or 0 in shape:
        raise ValueError(
            f"pictures is {shape}; it must be (B, S, 3, H, W), square and with at least one source."
        )
    if not pictures.is_floating_point():
        raise TypeError(f"pictures is {pictures.dtype}; it takes floats in [-1, 1].")
    wanted = (*shape[:2], 1, *shape[3:])
    if background_masks.shape != wanted:
        raise ValueError(
            f"background_masks is {tuple(background_masks.shape)}; beside pictures {shape} it must "
            f"be {wanted}."
        )
    if vertices.shape[:2] != shape[:2] or vertices.ndim != 4 or vertices.shape[-1] != 3:
        raise ValueError(
            f"vertices is {tuple(vertices.shape)}; beside pictures {shape} it must be "
            f"({shape[0]}, {shape[1]}, V, 3)."
        )


def _check_people(people: Sequence[ComposedSources], faces: Sequence[Tensor] | Tensor) -> None:
    if not people or len(people) != len(faces):
        raise ValueError(
            f"{len(people)} people and {len(faces)} selections of faces; give one selection for "
            "each person, and at least one person."
        )
    shapes = {(tuple(person.texture.shape), person.face_points.shape[2]) for person in people}
    if len(shapes) > 1:
        raise ValueError(
            f"People are composed in different shapes (texture, faces): {sorted(shapes)}. Compose "
            "all of them at one size, with one body."
        )
