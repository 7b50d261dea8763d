"""A small hand-made dataset in iPER's layout: a flat grey body that turns before a coloured wall."""

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from iper_toolkit.images import write_image
from iper_toolkit.video import write_video

MINI_SIZE = 96
MINI_FRAMES = 8


@cache
def mini_clip(seed: int, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 96, 96, 3) uint8 frames, (T, 96, 96) uint8 masks, (T, 85) float32 fit of the open body."""
    import torch

    from iper_toolkit.body.model import BodyParams, load_body
    from iper_toolkit.camera import project
    from iper_toolkit.raster import rasterize
    from iper_toolkit.rotations import axis_angle_to_matrix, matrix_to_axis_angle

    body = load_body("open")
    generator = np.random.default_rng(seed)
    angles = torch.linspace(0, 2 * torch.pi * (num_frames - 1) / num_frames, num_frames)
    upside_down = axis_angle_to_matrix(torch.tensor([torch.pi, 0, 0]))
    turn = axis_angle_to_matrix(torch.stack([0 * angles, angles, 0 * angles], dim=1))
    fit = torch.zeros(num_frames, 85)
    fit[:, 0] = 0.8 + 0.05 * seed
    fit[:, 1] = 0.3 * torch.sin(angles)
    fit[:, 2] = 0.25
    fit[:, 3:6] = matrix_to_axis_angle(upside_down @ turn)
    fit[:, 75:] = torch.from_numpy(generator.normal(0, 0.5, 10).astype(np.float32))
    params = BodyParams.from_array(body.id, fit)
    vertices = project(body.pose(params).vertices, params.camera)
    seen = rasterize(vertices, body.faces, 4 * MINI_SIZE).face.numpy() >= 0
    masks = np.stack(
        [cv2.resize(s * np.uint8(255), (96, 96), interpolation=cv2.INTER_AREA) for s in seen]
    )
    wall = cv2.resize(generator.integers(60, 250, (4, 4, 3), dtype=np.uint8), (96, 96))
    alpha = masks[..., None] / 255
    frames = (wall * (1 - alpha) + (40 + 10 * seed) * alpha).astype(np.uint8)
    return frames, masks, fit.numpy()


def write_fit(path: Path, fit: np.ndarray, **extra: object) -> None:
    """iPER's pose_shape.pkl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"cams": fit[:, :3], "pose": fit[:, 3:75], "shape": fit[:, 75:], **extra}
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_frame_clip(
    root: Path, clip_id: str, *, seed: int = 1, num_frames: int = MINI_FRAMES, masks: bool = True
) -> None:
    """One clip as a folder of frames with its fit and masks."""
    frames, soft, fit = mini_clip(seed, num_frames)
    folder = root / "images_HD" / clip_id
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        write_image(folder / f"{number:04d}.jpg", frame)
    write_fit(root / "smpls" / clip_id / "pose_shape.pkl", fit, body_id="open-body-1")
    if masks:
        path = root / "masks" / f"{clip_id}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, masks=soft)


def write_video_clip(
    root: Path, clip_id: str, *, seed: int = 1, num_frames: int = MINI_FRAMES
) -> Path:
    """One clip as ``s_o_a.mp4`` with its fit."""
    frames, _, fit = mini_clip(seed, num_frames)
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{clip_id.replace('/', '_')}.mp4"
    write_video(path, frames, 25)
    write_fit(root / "smpls" / clip_id / "pose_shape.pkl", fit, body_id="open-body-1")
    return path


def write_keypoints(path: Path, seed: int = 1, num_frames: int = MINI_FRAMES) -> None:
    """OpenPose BODY_25 json of a mini clip, from its body's own joints."""
    import torch

    from iper_toolkit.body.model import BodyParams, load_body
    from iper_toolkit.camera import project_weak_perspective
    from iper_toolkit.keypoints import BODY_25, BODY_45

    body = load_body("open")
    params = BodyParams.from_array(body.id, torch.from_numpy(mini_clip(seed, num_frames)[2]))
    points = project_weak_perspective(body.pose(params).landmarks, params.camera).numpy()
    pixels = (points + 1) / 2 * MINI_SIZE
    frames = []
    for joints in pixels:
        numbers: list[float] = []
        for name in BODY_25:
            place = {"mid_hip": "pelvis"}.get(name, name)
            numbers += [*map(float, joints[BODY_45.index(place)]), 1.0]
        frames.append({"people": [{"pose_keypoints_2d": numbers}]})
    content = {"width": MINI_SIZE, "height": MINI_SIZE, "fps": 25, "frames": frames}
    path.write_text(json.dumps(content))


class MiniRoot:
    """Writers of mini clips, handed to tests as one fixture."""

    size = MINI_SIZE
    num_frames = MINI_FRAMES
    clip = staticmethod(mini_clip)
    fit = staticmethod(write_fit)
    frames = staticmethod(write_frame_clip)
    video = staticmethod(write_video_clip)
    keypoints = staticmethod(write_keypoints)


@pytest.fixture(scope="session")
def mini() -> type[MiniRoot]:
    return MiniRoot


@pytest.fixture
def mini_root(tmp_path: Path) -> Callable[[int], Path]:
    """`mini_root(n)` makes a root of n frame-folder clips, 001/1/1, 002/1/1, ..."""

    def make(count: int = 2, name: str = "data") -> Path:
        root = tmp_path / name
        for number in range(1, count + 1):
            write_frame_clip(root, f"{number:03d}/1/1", seed=number)
        (root / "train.txt").write_text("001/1/1\n")
        (root / "val.txt").write_text("002/1/1\n")
        return root

    return make
