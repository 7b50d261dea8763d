"""The GPU's rasterizer against the CPU's: the kernels run in Triton's interpreter, and on a GPU if there is one.

The interpreter has to be chosen before Triton is imported, so this file is also a script: a process
of its own draws all cases and writes them down.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from iper_toolkit import raster
from iper_toolkit.body.model import BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster.cpu import rasterize_array
from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle

triton = pytest.importorskip("triton", reason="Triton is made for Linux alone")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Pictures = Mapping[str, tuple[NDArray[np.int32], NDArray[np.float32]]]

# Blocks for the interpreter, which takes one program at a time; and a limit that calls faces large
# which are not, so that both ways of walking a box are taken.
FEW_PROGRAMS: dict[str, int] = {"faces": 64, "large_tile": 32, "pixels": 1024, "small_limit": 16}
FEWER_PROGRAMS: dict[str, int] = {**FEW_PROGRAMS, "faces": 2048, "pixels": 4096}
USUAL_OPTIONS: dict[str, Any] = {}


class Case(NamedTuple):
    """What is drawn."""

    vertices: Tensor  # (N, V, 3)
    faces: Tensor  # (F, 3)
    size: int
    options: dict[str, Any] = USUAL_OPTIONS  # of `rasterize`: depths
    blocks: dict[str, int] = FEW_PROGRAMS
    checked: bool = True  # whether indices are looked at first


# Covers the whole picture; counter-clockwise with y up.
COVERING = torch.tensor([(-1.0, 1.0, 0.0), (3.0, 1.0, 0.0), (-1.0, -3.0, 0.0)])
ONE_FACE = torch.tensor([[0, 1, 2]])
FURTHER = torch.tensor([0.0, 0.0, 1.0])


def soup(seed: int, num_frames: int = 1, num_faces: int = 200) -> tuple[Tensor, Tensor]:
    """Triangles of all sizes and windings, some of them partly or wholly off the screen."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-1.3, 1.3, (num_frames, num_faces, 1, 3))
    sizes = rng.choice([0.02, 0.1, 0.6], (num_frames, num_faces, 1, 1))
    vertices = middle + rng.normal(size=(num_frames, num_faces, 3, 3)) * sizes
    faces = torch.arange(3 * num_faces).reshape(-1, 3)
    return torch.from_numpy(vertices.astype(np.float32)).flatten(1, 2), faces


def body(*cameras: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """The open body, a frame a camera, turned on from frame to frame."""
    model = load_body("open")
    angles = torch.arange(len(cameras)) * 2.4 + 0.3
    upside_down = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0]))
    turns = axis_angle_to_matrix(angles[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    fit = torch.zeros(len(cameras), 85)
    fit[:, :3] = torch.tensor(cameras)
    fit[:, 3:6] = matrix_to_axis_angle(upside_down @ turns)
    params = BodyParams.from_array(model.id, fit)
    return project(model.pose(params).vertices, params.camera), model.faces


def cases() -> dict[str, Case]:
    square = torch.tensor([(-1.0, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])[None]
    found = {
        "soup": Case(*soup(0), 64),
        "soup of many frames": Case(*soup(1, num_frames=3, num_faces=60), 17),
        "soup in small blocks": Case(
            *soup(2, num_faces=40),
            24,
            blocks={"faces": 16, "tile": 2, "large_tile": 8, "pixels": 64, "small_limit": 9},
        ),
        "usual blocks": Case(*soup(3, num_faces=40), 33, blocks={}),
        "body": Case(*body((1.0, 0.0, 0.2), (0.8, 0.1, 0.3)), 96, blocks=FEWER_PROGRAMS),
        "body that overhangs the picture": Case(*body((3.0, 0.3, 0.6)), 64, blocks=FEWER_PROGRAMS),
        "body far away": Case(*body((0.1, 0.0, 0.0)), 64, blocks=FEWER_PROGRAMS),
        "one pixel": Case(*soup(4), 1),
        "ties": Case(COVERING[None], torch.tensor([[0, 1, 2], [0, 1, 2]]), 8),
        "ties up to rounding": Case(COVERING[None], torch.tensor([[1, 2, 0], [0, 1, 2]]), 8),
        "shared edge through centres": Case(square, torch.tensor([[0, 3, 2], [0, 2, 1]]), 16),
        "shared edge, other order": Case(square, torch.tensor([[0, 2, 1], [0, 3, 2]]), 16),
        "nearer face later": Case(
            torch.cat([COVERING + FURTHER, COVERING])[None], torch.arange(6).reshape(2, 3), 8
        ),
        "nearer face first": Case(
            torch.cat([COVERING, COVERING + FURTHER])[None], torch.arange(6).reshape(2, 3), 8
        ),
        "back": Case(COVERING[None], torch.tensor([[0, 2, 1]]), 8),
        "huge face": Case(COVERING[None] * 1e6, ONE_FACE, 40),
        "face that overflows": Case(COVERING[None] * 1e38, ONE_FACE, 8),
        "face without area": Case(torch.zeros(1, 3, 3), ONE_FACE, 8),
        "face off the screen": Case(COVERING[None] + 4 * torch.ones(3), ONE_FACE, 8),
        "behind the eye": Case(COVERING[None] - 5 * FURTHER, ONE_FACE, 8),
        "no faces": Case(COVERING[None], torch.empty(0, 3, dtype=torch.int64), 8),
        "no frames": Case(torch.empty(0, 3, 3), ONE_FACE, 8),
        "faces of 32 bits": Case(COVERING[None], ONE_FACE.int(), 8),
        "faces of 16 bits": Case(COVERING[None], ONE_FACE.short(), 8),
        "vertices of 64 bits": Case(COVERING[None].double(), ONE_FACE, 8),
        "vertices in steps": Case(torch.zeros(1, 6, 3).index_copy_(1, torch.arange(0, 6, 2), COVERING[None])[:, ::2], ONE_FACE, 8),
        "near is strict": Case(COVERING[None], ONE_FACE, 4, {"eye_distance": 2.0, "near": 2.0}),
        "far is strict": Case(COVERING[None], ONE_FACE, 4, {"eye_distance": 2.0, "far": 2.0}),
        "depths of both signs": Case(
            *soup(5, num_faces=60), 24, {"eye_distance": 0.0, "near": -9.0, "far": 9.0}
        ),
        "indices that name no vertex": Case(
            COVERING[None],
            torch.tensor([[0, 1, 3], [-1, 1, 2], [10**6, 1, 2], [0, 1, 2]]),
            8,
            checked=False,
        ),
    }  # fmt: skip
    for value in (np.nan, np.inf, -np.inf):
        for coordinate in range(3):
            broken = torch.cat([COVERING - FURTHER, COVERING])[None].repeat(3, 1, 1)
            broken[range(3), range(3), coordinate] = value
            name = f"vertex with {'xyz'[coordinate]} {value}"
            found[name] = Case(broken, torch.arange(6).reshape(2, 3), 8)
    return found


CASES = cases()


def draw_by_kernels(device: str) -> Pictures:
    from iper_toolkit.raster import gpu

    drawn = {}
    check = gpu._checked_faces
    for name, case in CASES.items():
        gpu._checked_faces = check if case.checked else lambda faces, num_vertices: faces
        face, barycentric = gpu.rasterize_batch(
            case.vertices.to(device),
            case.faces.to(device),
            case.size,
            **case.options,
            blocks=gpu.Blocks(**case.blocks),
        )
        drawn[name] = face.cpu().numpy(), barycentric.cpu().numpy()
    gpu._checked_faces = check
    return drawn


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=needs_gpu)])
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    if request.param == "cuda":
        return draw_by_kernels("cuda")
    file = tmp_path_factory.mktemp("interpreter") / "drawn.npz"
    subprocess.run(
        [sys.executable, __file__, str(file)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=True,
    )
    with np.load(file) as arrays:
        return {name: (arrays[f"{name}/face"], arrays[f"{name}/barycentric"]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_engines_agree(name: str, drawn: Pictures, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    face, barycentric = drawn[name]
    assert face.shape == (len(case.vertices), case.size, case.size)
    assert face.dtype == np.int32
    assert barycentric.dtype == np.float32
    faces = case.faces
    if not case.checked:  # what names no vertex is not drawn; here, all but the last
        faces = faces[-1:]
        face = np.where(face == len(case.faces) - 1, 0, -1)
    for i, vertices in enumerate(case.vertices):
        expected_face, expected_barycentric, _ = rasterize_array(
            vertices.numpy(), faces.numpy(), case.size, **case.options
        )
        same = face[i] == expected_face
        if "interpreter" in request.node.name:  # the same arithmetic, to the bit
            assert same.all()
            np.testing.assert_array_equal(barycentric[i], expected_barycentric)
        else:  # what is asked of a GPU
            assert same.mean() >= 0.9995
            difference = np.abs(barycentric[i] - expected_barycentric)[same]
            assert difference.max(initial=0) <= 1e-5


def test_the_cases_show_what_they_are_for() -> None:
    """Engines agree about an empty picture, too."""

    def picture(name: str) -> NDArray[np.int32]:
        case = CASES[name]
        vertices, faces = case.vertices[0].numpy(), case.faces.numpy()
        return rasterize_array(vertices, faces, case.size, **case.options)[0]

    shown = {
        "ties": {0},
        "ties up to rounding": {0, 1},
        "shared edge through centres": {0, 1},
        "nearer face later": {1},
        "nearer face first": {0},
        "huge face": {0},
        "vertex with z nan": {1},
    }
    for name in ("back", "face that overflows", "face without area", "face off the screen"):
        shown[name] = {-1}
    for name in ("behind the eye", "near is strict", "far is strict"):
        shown[name] = {-1}
    for name, faces in shown.items():
        assert set(picture(name).flat) == faces, name
    for name, least in {"body": 500, "body far away": 3, "depths of both signs": 5}.items():
        assert len(set(picture(name).flat)) > least, name
    assert (picture("body that overhangs the picture")[[0, -1]] >= 0).any(axis=1).all()


# --------------------------------------------------------------------------- what a compiler makes


@pytest.mark.parametrize("faces", ["*i32", "*i64"])
def test_compiled_for_a_gpu_the_arithmetic_stays_the_definitions(
    faces: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compiling needs no GPU. Seen in the assembly: nothing fused, divisions rounded, no waiting."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from iper_toolkit.raster import gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    blocks = gpu.USUAL_BLOCKS
    tensors = {"vertices": "*fp32", "faces": faces, "keys": "*i64"}
    whole = {"num_vertices": "i32"}
    draw_constants = {
        "SIZE": 512,
        "FACES": blocks.faces,
        "TILE": blocks.tile,
        "LARGE_TILE": blocks.large_tile,
        "SMALL_LIMIT": blocks.small_limit,
    }
    resolve_constants = {"SIZE": 512, "PIXELS": blocks.pixels}
    kernels = [
        (
            gpu._draw_faces,
            tensors
            | whole
            | {"num_faces": "i32", "eye_distance": "fp32", "near": "fp32", "far": "fp32"},
            draw_constants,
        ),
        (
            gpu._resolve_pixels,
            tensors | {"face_out": "*i32", "barycentric_out": "*fp32"} | whole,
            resolve_constants,
        ),
    ]
    for kernel, signature, constants in kernels:
        source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
        options = {"num_warps": blocks.warps, "enable_fp_fusion": False}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assembly: str = compiled.asm["ptx"]
        assert "div.rn.f32" in assembly
        for other in ("fma.", "div.full", "div.approx", "rcp.approx", ".ftz"):
            assert other not in assembly
        if kernel is gpu._draw_faces:
            minima = [
                line for line in assembly.splitlines() if ".min.s64" in line and "global" in line
            ]
            assert minima
            assert all(".relaxed." in line for line in minima)


def test_a_tracer_sees_one_operator_of_known_shapes() -> None:
    """Which is what torch.compile goes by: it never looks into the engines."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    case = CASES["soup of many frames"]
    drawn = raster.rasterize(case.vertices, case.faces, case.size)
    with FakeTensorMode() as mode:
        vertices, faces = mode.from_tensor(case.vertices), mode.from_tensor(case.faces)
        seen = raster.rasterize(vertices, faces, case.size)
    for real, traced in ((drawn.face, seen.face), (drawn.barycentric, seen.barycentric)):
        assert traced.shape == real.shape
        assert traced.dtype == real.dtype


# ------------------------------------------------------------------------------ choosing, checking


def test_engines_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices = COVERING.clone()
    plain = raster.rasterize(vertices, ONE_FACE, 4)
    named = raster.rasterize(vertices, ONE_FACE, 4, engine="cpu")
    assert torch.equal(plain.face, named.face)
    with pytest.raises(ValueError, match=r"engine is 'cuda'; choose one of: auto, cpu, gpu\."):
        raster.rasterize(vertices, ONE_FACE, 4, engine="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"vertices are on 'cpu'.*or take engine='cpu'"):
        raster.rasterize(vertices, ONE_FACE, 4, engine="gpu")
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install triton"):
        raster.rasterize(vertices, ONE_FACE, 4, engine="gpu")


def test_a_device_without_an_engine_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(raster, "_devices_told", set())
    assert raster._usual_engine("cuda") == "gpu"
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        for device in ("cpu", "cuda", "cuda", "mps", "mps"):
            assert raster._usual_engine(device) == "cpu"
    assert [record.message for record in caplog.records] == [
        "The rasterizer runs on the CPU (Triton is not installed); vertices on 'cuda' are copied "
        "there and back (said once).",
        "The rasterizer runs on the CPU (it has no engine there); vertices on 'mps' are copied "
        "there and back (said once).",
    ]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The tensors whose lowest and highest index was read, in order."""
    seen: list[Tensor] = []
    read = torch.aminmax

    def count(faces: Tensor, **options: Any) -> Any:
        seen.append(faces)
        return read(faces, **options)

    monkeypatch.setattr(torch, "aminmax", count)
    return seen


def test_indices_are_read_once_and_again_when_written(looked_at: list[Tensor]) -> None:
    from iper_toolkit.raster.gpu import _checked_faces

    faces = torch.tensor([[0, 1, 2], [2, 3, 4]])
    for _ in range(3):
        assert _checked_faces(faces, 5) is faces
    assert len(looked_at) == 1
    with pytest.raises(ValueError, match=r"Face 1 has vertices \[2, 3, 4\].*from 0 to 3"):
        _checked_faces(faces, 4)
    faces[0, 0] = -1
    with pytest.raises(ValueError, match=r"Face 0 has vertices \[-1, 1, 2\]"):
        _checked_faces(faces, 5)
    assert len(looked_at) == 2
    _checked_faces(torch.tensor([[0, 1, 2]]), 5)
    assert len(looked_at) == 3


def test_indices_made_in_inference_mode_are_checked(looked_at: list[Tensor]) -> None:
    from iper_toolkit.raster.gpu import _checked_faces

    with torch.inference_mode():
        faces = torch.tensor([[0, 1, 2]])
        for _ in range(2):
            _checked_faces(faces, 3)
        with pytest.raises(ValueError, match="Face 0 has vertices"):
            _checked_faces(faces, 2)
    assert len(looked_at) == 1


def test_faces_of_another_form_are_named() -> None:
    from iper_toolkit.raster.gpu import _checked_faces

    with pytest.raises(ValueError, match=r"faces is \(1, 2\); it must be \(F, 3\)"):
        _checked_faces(torch.zeros(1, 2, dtype=torch.int64), 5)
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(TypeError, match="vertex indices are integers"):
            _checked_faces(torch.zeros(1, 3, dtype=dtype), 5)


# ----------------------------------------------------------------------------------------- a GPU


@needs_gpu
def test_vertices_on_a_gpu_are_drawn_there() -> None:
    case = CASES["body"]
    there = raster.rasterize(case.vertices.cuda(), case.faces.cuda(), 256)
    here = raster.rasterize(case.vertices, case.faces, 256)
    assert there.face.is_cuda
    same = there.face.cpu() == here.face
    assert same.float().mean() >= 0.9995
    difference = (there.barycentric.cpu() - here.barycentric)[same].abs().max()
    assert difference <= 1e-5
    copied = raster.rasterize(case.vertices.cuda(), case.faces.cuda(), 256, engine="cpu")
    assert copied.face.is_cuda
    assert torch.equal(copied.face.cpu(), here.face)
    carried = raster.interpolate(copied, case.vertices.cuda(), case.faces.cuda())
    expected = raster.interpolate(here, case.vertices, case.faces)
    assert torch.allclose(carried.cpu(), expected, atol=1e-6)


@needs_gpu
def test_calls_after_the_first_do_not_wait_and_can_be_captured() -> None:
    case = CASES["body"]
    vertices, faces = case.vertices.cuda(), case.faces.cuda()
    expected = raster.rasterize(vertices.flip(0), faces, 128)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        raster.rasterize(vertices, faces, 128)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = raster.rasterize(vertices, faces, 128)
    vertices.copy_(vertices.flip(0))
    graph.replay()
    assert torch.equal(captured.face, expected.face)
    assert torch.equal(captured.barycentric, expected.barycentric)


@needs_gpu
def test_a_batch_of_more_pixels_than_32_bits_can_count() -> None:
    case = CASES["huge face"]
    vertices = case.vertices.cuda().expand(2049, -1, -1)
    fragments = raster.rasterize(vertices, case.faces.cuda(), 1024)
    assert (fragments.face[-1] == 0).all()
    assert (fragments.face[0] == 0).all()


if __name__ == "__main__":
    arrays: dict[str, Any] = {}
    for name, (face, barycentric) in draw_by_kernels("cpu").items():
        arrays |= {f"{name}/face": face, f"{name}/barycentric": barycentric}
    np.savez(sys.argv[1], **arrays)
