"""The reduction by which the open body is built, on a ball."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def decimate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from open_body import decimate

    return decimate


def ball() -> tuple[np.ndarray, np.ndarray]:
    """A cube of 8 x 8 quads a side, blown up: (V, 3) vertices and (Q, 4) faces, closed, wound outward."""
    grid = np.arange(9)
    index: dict[tuple, int] = {}
    quads = []
    for axis in range(3):
        for side in (0, 8):
            for i in grid[:-1]:
                for j in grid[:-1]:
                    quad = []
                    for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
                        point = [0, 0, 0]
                        point[axis], point[(axis + 1) % 3], point[(axis + 2) % 3] = (
                            side,
                            i + di,
                            j + dj,
                        )
                        quad.append(index.setdefault(tuple(int(p) for p in point), len(index)))
                    quads.append(quad if side else quad[::-1])
    vertices = np.array(list(index), float) / 4 - 1
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), np.array(quads)


def test_a_ball_stays_closed_symmetric_and_on_its_vertices(decimate: ModuleType) -> None:
    vertices, quads = ball()
    places = {tuple(np.round(v, 9) + 0.0): i for i, v in enumerate(vertices)}
    mirror = np.array([places[tuple(np.round(v * [-1, 1, 1], 9) + 0.0)] for v in vertices])
    texture = vertices[:, :2] * (1 + 0.2 * vertices[:, 2:])  # any map: it is only carried along
    faces, texture_faces = decimate.triangulate(quads, quads, vertices, mirror)
    assert set(map(frozenset, mirror[faces].tolist())) == set(map(frozenset, faces.tolist()))
    small = decimate.decimate(
        vertices,
        texture,
        faces,
        texture_faces,
        mirror,
        np.ones(len(vertices)),
        np.zeros(len(vertices), bool),
        200,
    )
    assert len(small.kept) == 200
    assert len(small.faces) == 2 * 200 - 4
    edges = np.concatenate([small.faces[:, [k, (k + 1) % 3]] for k in range(3)])
    directed = set(map(tuple, edges.tolist()))
    assert len(directed) == len(edges)
    assert directed == {(b, a) for a, b in directed}
    assert np.array_equal(vertices[small.kept][small.mirror], vertices[small.kept] * [-1, 1, 1])
    mirrored = set(map(frozenset, small.mirror[small.faces].tolist()))
    assert mirrored == set(map(frozenset, small.faces.tolist()))
    assert np.array_equal(small.texture_faces, small.kept[small.faces])
    corners = vertices[small.kept][small.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(1)).sum(1) > 0).all()


def test_what_cannot_be_reduced_further_says_so(decimate: ModuleType) -> None:
    vertices = np.array([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    rest = (faces, faces, np.arange(4), np.ones(4), np.zeros(4, bool))
    with pytest.raises(ValueError, match="at least 4 vertices; 3"):
        decimate.decimate(vertices, vertices[:, :2], *rest, 3)
