"""A small dataset without files: people drawn from the open body, read as the runner reads prepared clips."""

import csv
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from iper_toolkit.body import Body, BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import resize, write_image
from iper_toolkit.protocols import Protocol, write_protocol
from iper_toolkit.raster import interpolate, rasterize
from iper_toolkit.true_pictures import TruthTables

DRAWN_SIZE = 96
FRAME_SIZE = (112, 128)


@dataclass
class FakeClip:
    """`num_frames` of one person who turns and waves; pictures are drawn once and kept."""

    id: str
    subject: str
    num_frames: int
    body: Body
    mask_source: str = "set"
    reads: list[int] = field(default_factory=list)  # every frame that was asked for

    def __post_init__(self) -> None:
        self.body_id = self.body.id
        self.crop = SquareCrop(17, 11, DRAWN_SIZE)  # what is drawn is a part of the whole frame
        self.frame_size = FRAME_SIZE
        self.valid = np.ones(self.num_frames, bool)
        seed = sum(map(ord, self.id))
        generator = np.random.default_rng(seed)
        time = torch.linspace(0, 1, self.num_frames)
        turn = 0.6 * torch.sin(6.28 * time + seed % 7)
        pose = torch.zeros(self.num_frames, 72)
        # The half turn about x, then a turn about the vertical axis: about (cos a/2, 0, sin a/2).
        pose[:, 0] = torch.pi * torch.cos(turn / 2)
        pose[:, 2] = -torch.pi * torch.sin(turn / 2)
        pose[:, 50] = -0.9 + 0.4 * torch.sin(9 * time)  # left shoulder
        pose[:, 53] = 0.9
        camera = torch.tensor([[0.9, 0.0, 0.25]]).repeat(self.num_frames, 1)
        shape = torch.zeros(self.num_frames, 10)
        shape[:, 0] = float(generator.normal())
        self._params = BodyParams(self.body.id, camera, pose, shape)
        points = project(self.body.pose(self._params).vertices, camera)
        fragments = rasterize(points, self.body.faces, DRAWN_SIZE)
        stripes = torch.sin(self.body.template[:, 1:2] * float(generator.uniform(15, 40)))
        bright = torch.tensor(generator.permutation([60.0, 180.0, 20.0]))
        colours = bright * (1 + 0.3 * stripes)
        drawn = interpolate(fragments, colours.float(), self.body.faces).numpy()
        covered = fragments.covered.numpy()
        rows = np.linspace(60, 200, DRAWN_SIZE)[:, None, None]
        self._plate = (np.zeros((DRAWN_SIZE, DRAWN_SIZE, 3)) + rows).astype(np.uint8)
        self._pictures = np.where(covered[..., None], drawn, self._plate).astype(np.uint8)
        self._masks = (covered * 255).astype(np.uint8)

    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        self.reads += list(indices)
        found = [resize(self._pictures[index], (size, size)) for index in indices]
        return np.array(found, np.uint8).reshape(len(indices), size, size, 3)

    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]:
        found = [resize(self._masks[index], (size, size)) for index in indices]
        return np.array(found, np.uint8).reshape(len(indices), size, size)

    appearance_masks = masks

    def params(self, indices: Sequence[int] | None = None) -> BodyParams:
        return self._params if indices is None else self._params[list(indices)]

    def background(self, size: int) -> NDArray[np.uint8]:
        return resize(self._plate, (size, size))


@dataclass
class FakeDataset:
    clips: dict[str, FakeClip]
    name: str = "fake"
    digest: str = "d" * 64
    synthetic: bool = True
    licence: str = "CC0-1.0"
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self.clips))

    def clip(self, clip_id: str) -> FakeClip:
        return self.clips[clip_id]


@pytest.fixture(scope="session")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="session")
def _drawn_clips(body: Body) -> dict[str, FakeClip]:
    names = [("001/1/1", 9), ("001/1/2", 7), ("002/1/2", 8), ("003/1/2", 6)]
    return {name: FakeClip(name, name[:3], frames, body) for name, frames in names}


@pytest.fixture
def dataset(_drawn_clips: dict[str, FakeClip]) -> FakeDataset:
    for clip in _drawn_clips.values():
        clip.valid = np.ones(clip.num_frames, bool)
        clip.mask_source = "set"
        clip.reads = []
    return FakeDataset(dict(_drawn_clips))


@pytest.fixture
def every_task(dataset: FakeDataset, tmp_path: Path) -> Protocol:
    """Two clips of person 001 that wear each other's clothes, four views of one, and self-imitation of all."""
    lengths = {name: clip.num_frames for name, clip in dataset.clips.items()}
    one, two = "001/1/1", "001/1/2"
    return write_protocol(
        tmp_path / "every-task",
        id="every-v1",
        dataset="fake",
        title="Drawn people at every task",
        sources=[(name, n, k, 2 + 2 * k) for name in lengths for n in (1, 2) for k in range(n)],
        self_imitation=[(name, 0, length - 1) for name, length in lengths.items()],
        cross_imitation=[("001/1/2", "002/1/2", 1, 5, 0, 4)],
        views=[(one, "evaluated", k, 2 * k, 90 * k) for k in range(4)],
        appearance_transfer=[(one, two), (two, one)],
    )


@pytest.fixture
def truths(dataset: FakeDataset, tmp_path: Path) -> TruthTables:
    """True pictures of 002/1/2 in the outfits of 001/1 and 003/1, and from four sides at frames 2 and 5.

    No two pictures, masks or fits of them are alike.
    """
    root, clip = tmp_path / "root", dataset.clip("002/1/2")
    redressed: list[list[object]] = []
    # The last is an outfit of their own: not this table's business.
    for outfit, worn, frames in (
        ("001/1", "001/1/1", (1, 2, 4)),
        ("003/1", "003/1/2", (1, 3)),
        ("002/2", "002/1/2", (1,)),
    ):
        folder = f"truth/transfer/002/1/2/wearing_{outfit.replace('/', '_')}"
        other = dataset.clip(worn)
        pictures, masks = (read(frames, DRAWN_SIZE) for read in (other.frames, other.masks))
        write_truth(root / folder, frames, pictures, masks)
        redressed += [["002/1/2", outfit, n, f"{folder}/{n:04d}.png"] for n in frames]
    turned: list[list[object]] = []
    angles = (0, 90, 180, 270)
    for instant in (2, 5):
        folder = f"truth/views/002/1/2/at_{instant:04d}"
        dimmer = np.uint8([[[[1]]], [[[2]]], [[[3]]], [[[4]]]])
        pictures = np.repeat(clip.frames([instant], DRAWN_SIZE), len(angles), 0) // dimmer
        write_truth(
            root / folder, angles, pictures, clip.masks(range(instant - 2, instant + 2), DRAWN_SIZE)
        )
        fits = clip.params([instant] * len(angles))
        camera = fits.camera.clone()
        camera[:, 1] = torch.arange(len(angles)) / 10 + instant  # each angle has a fit of its own
        fit = {"cams": camera.numpy(), "pose": fits.pose.numpy(), "shape": fits.shape.numpy()}
        write_fit(root / folder, fit, clip.body_id)
        turned += [["002/1/2", instant, n, f"{folder}/{n:04d}.png"] for n in angles]
    write_csv(
        root / "truth" / "transfer.csv", ["clip", "outfit_from", "frame", "picture"], *redressed
    )
    write_csv(root / "truth" / "views.csv", ["clip", "frame", "angle_degrees", "picture"], *turned)
    return TruthTables(root)


def write_truth(
    folder: Path, numbers: Sequence[int], pictures: NDArray[np.uint8], masks: NDArray[np.uint8]
) -> None:
    """Whole frames of which the clips' crop is `pictures`; around it they are bright, and masked as the person."""
    crop = SquareCrop(17, 11, DRAWN_SIZE)
    rows = slice(crop.top, crop.top + crop.side)
    columns = slice(crop.left, crop.left + crop.side)
    whole = np.full((len(numbers), *FRAME_SIZE, 3), 250, np.uint8)
    whole[:, rows, columns] = pictures
    for number, picture in zip(numbers, whole, strict=True):
        write_image(folder / f"{number:04d}.png", picture)
    whole_masks = np.full((len(numbers), *FRAME_SIZE), 255, np.uint8)
    whole_masks[:, rows, columns] = masks
    np.savez(folder / "masks.npz", masks=whole_masks)


def write_fit(folder: Path, arrays: dict[str, NDArray[np.float32]], body_id: str) -> None:
    (folder / "pose_shape.pkl").write_bytes(
        pickle.dumps({**arrays, "body_id": body_id}, protocol=2)
    )


def write_csv(path: Path, *rows: list[object]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def protocol(dataset: FakeDataset, tmp_path: Path) -> Protocol:
    """Self-imitation of every clip from source frame 2, and 001 driven by 002."""
    lengths = {name: clip.num_frames for name, clip in dataset.clips.items()}
    return write_protocol(
        tmp_path / "protocol",
        id="fake-v1",
        dataset="fake",
        title="Drawn people",
        sources=[(name, n, k, 2 + 2 * k) for name in lengths for n in (1, 2) for k in range(n)],
        self_imitation=[(name, 0, length - 1) for name, length in lengths.items()],
        cross_imitation=[("001/1/2", "002/1/2", 1, 5, 0, 4)],
    )


@pytest.fixture(autouse=True)
def methods_in_this_process(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process for each method takes seconds to start; test_isolation.py is what needs them."""
    if request.path.name != "test_isolation.py":
        from benchmarks.methods import load_method

        monkeypatch.setattr("benchmarks.workers.load_for_run", lambda spec, **_: load_method(spec))
