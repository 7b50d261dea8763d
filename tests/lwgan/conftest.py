"""The small mesh of the parity fixtures, as tables of a surface; and two painted people, prepared and raw."""

import json
import math
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lwgan.loss_networks import VGG19, SphereFace, frozen

if TYPE_CHECKING:
    from iper_toolkit.body import BodyParams
    from lwgan.surface_tables import SurfaceTables


@pytest.fixture(scope="session")
def raster_arrays(fixtures_folder: Path) -> dict[str, NDArray]:
    """What the reference drew of four poses of the small mesh, and the mesh itself."""
    with np.load(fixtures_folder / "pipeline" / "raster.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def toy_tables(raster_arrays: dict[str, NDArray]) -> "SurfaceTables":
    """Reference tables of the small mesh, which swap.npz and flow.npz have, too."""
    import torch

    from iper_toolkit.body.parts import Surface, swap_sides
    from iper_toolkit.body.surface_files import corner_order
    from lwgan.surface_tables import build_tables

    faces, rewound = raster_arrays["faces_smpl"], raster_arrays["faces_obj"]
    lengths = raster_arrays["part_face_end"] - raster_arrays["part_face_start"]
    part = np.repeat([swap_sides(part) for part in range(10)], lengths)
    surface = Surface(
        part=torch.from_numpy(part),
        facial_large=torch.from_numpy(raster_arrays["facial_large_faces"]),
        facial_small=torch.from_numpy(raster_arrays["facial_small_faces"]),
        front_body=torch.arange(64, 100),
        uv=torch.from_numpy(raster_arrays["vt"]).float(),
        uv_faces=torch.from_numpy(raster_arrays["faces_vt_uv"]),
        texture_order=torch.from_numpy(corner_order(faces, rewound)),
    )
    return build_tables("toy", torch.from_numpy(faces), surface, "reference")


# ----------------------------------------------------------------------------------- painted people

SIDE = 64
FRAMES = 6


def turning(num_frames: int, *, scale: float = 0.8, first_degrees: float = 0) -> "BodyParams":
    """A person with lowered arms who turns once around, beginning with the face to the camera."""
    import torch

    from iper_toolkit.body import BodyParams

    fit = torch.zeros(num_frames, 85)
    fit[:, :3] = torch.tensor([scale, 0.0, 0.25])
    half = torch.arange(num_frames) * math.pi / num_frames + math.radians(first_degrees) / 2
    fit[:, 3], fit[:, 5] = math.pi * half.cos(), -math.pi * half.sin()  # Ry(2 half) Rx(pi)
    fit[:, 6 + 3 * 15 + 2], fit[:, 6 + 3 * 16 + 2] = -0.9, 0.9
    return BodyParams.from_array("open-body-1", fit)


def photographed(params: "BodyParams", seed: int, side: int) -> tuple[NDArray, NDArray]:
    """(T, side, side, 3) pictures before a coloured wall, and (T, side, side) masks, both uint8."""
    import cv2

    from iper_toolkit.body import load_body
    from iper_toolkit.camera import project
    from iper_toolkit.raster import interpolate, rasterize

    body = load_body("open")
    low, high = body.template.amin(0), body.template.amax(0)
    colours = (body.template - low) / (high - low) * 255  # by the place in the rest pose
    fragments = rasterize(project(body.pose(params).vertices, params.camera), body.faces, side)
    covered = fragments.covered.numpy()
    people = interpolate(fragments, colours.roll(seed, 1), body.faces).numpy()
    wall = np.random.default_rng(seed).integers(60, 200, (4, 4, 3), dtype=np.uint8)
    wall = cv2.resize(wall, (side, side), interpolation=cv2.INTER_CUBIC)
    pictures = np.where(covered[..., None], people.round().clip(0, 255), wall).astype(np.uint8)
    return pictures, covered.astype(np.uint8) * 255


def body25(params: "BodyParams", side: int) -> list[dict]:
    """OpenPose's content of every frame, from the body's own joints."""
    from iper_toolkit.body import load_body
    from iper_toolkit.camera import project_weak_perspective
    from iper_toolkit.keypoints import BODY_25, BODY_45

    landmarks = load_body("open").pose(params).landmarks
    pixels = (project_weak_perspective(landmarks, params.camera).numpy() + 1) / 2 * side
    places = [BODY_45.index({"mid_hip": "pelvis"}.get(name, name)) for name in BODY_25]
    return [
        {
            "people": [
                {
                    "pose_keypoints_2d": [
                        n for x, y in joints[places] for n in (float(x), float(y), 1.0)
                    ]
                }
            ]
        }
        for joints in pixels
    ]


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people who turn, 001/1/1 and 002/1/1, and 003/1/1, whose mask is empty in frame 2."""
    from iper_toolkit.images import write_image
    from iper_toolkit.prepare import prepare

    root = tmp_path_factory.mktemp("prepared") / "data"
    for seed in (1, 2, 3):
        name = f"00{seed}/1/1"
        params = turning(FRAMES, scale=0.75 + 0.05 * seed)
        pictures, masks = photographed(params, seed, SIDE)
        if seed == 3:
            masks[2] = 0
        for number, picture in enumerate(pictures):
            (root / "images" / name).mkdir(parents=True, exist_ok=True)
            write_image(root / "images" / name / f"{number:04d}.png", picture)
        for folder in (root / "smpls" / name, (root / "masks" / name).parent):
            folder.mkdir(parents=True)
        np.savez_compressed(root / "masks" / f"{name}.npz", masks=masks)
        fit = params.to_array().numpy()
        content = {"cams": fit[:, :3], "pose": fit[:, 3:75], "shape": fit[:, 75:]}
        content["body_id"] = params.body_id
        (root / "smpls" / name / "pose_shape.pkl").write_bytes(pickle.dumps(content, protocol=2))
    summary = prepare(root)
    assert summary.ok, summary.failures
    return root


@pytest.fixture(scope="session")
def raw_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with me.png and its keypoints and mask, and dance.mp4 and its keypoints."""
    from iper_toolkit.images import write_image
    from iper_toolkit.video import write_video

    folder, side = tmp_path_factory.mktemp("raw"), 128
    params = turning(3, scale=0.7)
    pictures, masks = photographed(params, 1, side)
    keypoints = body25(params, side)
    write_image(folder / "me.png", pictures[0])
    write_image(folder / "me_mask.png", masks[0])
    (folder / "me_keypoints.json").write_text(json.dumps(keypoints[0]))
    write_video(folder / "dance.mp4", pictures, 30)  # what a folder of frames is taken for
    (folder / "dance.json").write_text(json.dumps({"frames": keypoints}))
    return folder


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a few steps: rough bodies, but these tests are about the way from files to people."""
    from iper_toolkit.body import fitting

    few = (fitting.Stage(15, reach=10.0, prior=8.0, tolerance=0.04, everything=False),)
    config = fitting.FitConfig(stages=few)
    monkeypatch.setattr(fitting, "fit_clip", partial(fitting.fit_clip, config=config))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where raw files are prepared, once for all tests that do not look at how."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a very small network that has learned nothing."""
    from iper_toolkit.body import load_body
    from lwgan.checkpoints import random_checkpoint, save_checkpoint
    from lwgan.generators import GeneratorConfig
    from lwgan.surface_tables import surface_tables

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = GeneratorConfig(
        channels=(4, 6, 8),
        residual_blocks=1,
        background_channels=(4, 4, 4, 8),
        background_blocks=1,
        spade_hidden=4,
    )
    made = random_checkpoint(config, 0, surface_tables(load_body("open"), "reference"))
    save_checkpoint(path, made.generator, surface=made.surface, origin=made.origin)
    return path


@pytest.fixture(scope="session")
def by_recipe() -> Callable[[str, int], nn.Module]:
    """The fixtures' loss networks, "vgg19" or "sphereface", whose weights come from a seed."""

    def numbers(seed: int, index: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
        state = np.random.RandomState((seed * 1000003 + index) % 2**32)
        return state.standard_normal(shape)

    def scaled(network: str, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if name == "fc5.weight":
            return values * np.sqrt(1 / 21504)
        if name.startswith("relu"):
            return 0.25 + 0.05 * values
        if name.endswith("bias"):
            return 0.05 * values
        gain = 1.0 if network == "vgg19" else 0.7
        return values * (gain * np.sqrt(2 / (values.shape[1] * 9)))

    def build(name: str, seed: int) -> nn.Module:
        network = VGG19() if name == "vgg19" else SphereFace()
        for index, (key, tensor) in enumerate(network.state_dict().items()):
            values = scaled(name, key, numbers(seed, index, tuple(tensor.shape)))
            tensor.copy_(torch.from_numpy(values.astype(np.float32)))
        return frozen(network)

    return build
