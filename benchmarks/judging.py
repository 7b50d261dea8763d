"""The networks that judge pictures in one run: loaded when first asked, each picture shown to each once.

What a judge makes of true pictures is kept on disk, under the digests of the network and of the pictures, so
that the next method does not pay for it again.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detecting import Detector, load_detector
from benchmarks.looking import Boxes
from benchmarks.metrics.arrays import Frames
from benchmarks.metrics.pictures import Pictures
from benchmarks.networks.judge import LoadedJudge, digest_of
from iper_toolkit.assets import MissingAsset, find_asset
from iper_toolkit.atomic import write_atomically

if TYPE_CHECKING:
    from benchmarks.networks.perceptual import PerceptualNetwork

_log = logging.getLogger(__name__)
VIDEO_NETWORK = "i3d"


class Judges:
    """The judges of one run.

    Args:
        device: where they compute, "cpu" or "cuda".
        random_seed: weights that have learned nothing, drawn from this seed, instead of files; for tests of
            what surrounds them. Rows say so.
        flip: whether people and faces are embedded together with their mirror image, and averaged.
        cache: folder for what judges make of true pictures; None: nothing is kept.
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        random_seed: int | None = None,
        flip: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.device, self.random_seed, self.flip = device, random_seed, flip
        self._cache = cache
        self._embedders: dict[str, LoadedJudge] = {}
        self._perceptual: dict[str, PerceptualNetwork] = {}
        self._video: tuple[torch.nn.Module, str] | None = None
        self._detectors: dict[str, tuple[Detector, str]] = {}

    def missing(self, name: str) -> str:
        """Why a judge cannot be asked, with the remedy; empty if it can."""
        if self.random_seed is not None and name != VIDEO_NETWORK:
            return ""
        try:
            # The versions of LPIPS differ in what comes with the package; the file is the same.
            find_asset(name.removesuffix("-v0.0")).require()
        except MissingAsset as error:
            return str(error)
        return ""

    def digest(self, name: str) -> str:
        """sha256 of a judge's weights, or "random-SEED"; with "+flip" if mirror images are averaged in."""
        from benchmarks.networks import JUDGES

        if name == VIDEO_NETWORK:
            return self._load_video()[1]
        return self._embedder(name).digest if name in JUDGES else self._network(name).digest

    # ------------------------------------------------------------------------------------- features

    def embed(
        self, pictures: Pictures, name: str, boxes: Literal["correct", "official"]
    ) -> NDArray[np.float32]:
        """(N, d) features of pictures; rows of NaN where there is nobody to look at.

        Raises:
            MissingAsset: the judge's weights are not here.
        """
        judge = self._embedder(name)
        if not (pictures.is_shared and self._cache):
            return self._embed(judge, pictures, boxes)
        where = {"person": pictures.boxes, "face": pictures.faces}.get(judge.judge.looks_at)
        told = f"{name} {judge.digest} {boxes} {pictures.content}".encode()
        told += b"" if where is None else where.tobytes()
        path = self._cache / f"{hashlib.sha256(told).hexdigest()}.npy"
        kept = _read(path, (len(pictures), judge.judge.dimensions))
        if kept is None:
            kept = self._embed(judge, pictures, boxes)
            self._keep(path, kept)
        return kept

    def _keep(self, path: Path, features: NDArray[np.float32]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda part: _write(part, features))
        except OSError as error:
            self._cache = None
            _log.warning(
                "What judges see in true pictures cannot be kept in %s (%s); the next method pays for it again.",
                path.parent,
                error,
            )

    def _embed(
        self,
        loaded: "LoadedJudge",
        pictures: Pictures,
        boxes: Literal["correct", "official"],
    ) -> NDArray[np.float32]:
        judge = loaded.judge
        found = np.full((len(pictures), judge.dimensions), np.nan, np.float32)
        if not len(pictures):
            return found
        if judge.looks_at == "frame":
            frames = torch.from_numpy(np.ascontiguousarray(pictures.frames)).to(self.device)
            assert judge.resize is not None  # judges of frames have one
            return loaded.embed(judge.resize(frames))
        where = pictures.boxes if judge.looks_at == "person" else pictures.faces
        if where is None:
            raise ValueError(
                f"{judge.title} looks at the {judge.looks_at}, and nobody said where that is: give Pictures its "
                "boxes or faces."
            )
        seen = np.flatnonzero(np.isfinite(where).all(1))
        if not len(seen):
            return found
        frames = torch.from_numpy(np.ascontiguousarray(pictures.frames[seen])).to(self.device)
        if boxes == "official":
            from benchmarks.networks.crops import official_box_rescale, official_crop

            side = pictures.frames.shape[1]
            crops = torch.cat(
                [
                    official_crop(
                        frame, official_box_rescale(torch.from_numpy(box), side), judge.size
                    )
                    for frame, box in zip(frames, where[seen], strict=True)
                ]
            )
            found[seen] = loaded.embed(crops, is_prepared=True)
        else:
            from benchmarks.networks.crops import crop_and_resize

            corners = torch.from_numpy(where[seen]).to(self.device)
            found[seen] = loaded.embed(crop_and_resize(frames, corners, judge.size))
        return found

    def _embedder(self, name: str) -> "LoadedJudge":
        from benchmarks.networks import JUDGES
        from benchmarks.networks.judge import load_judge

        if name not in self._embedders:
            flip = self.flip and JUDGES[name].looks_at != "frame"
            self._embedders[name] = load_judge(
                JUDGES[name], self.device, random_seed=self.random_seed, flip=flip
            )
        return self._embedders[name]

    # ---------------------------------------------------------------------------------- detectors

    def detect(self, name: str, frames: Frames) -> Boxes:
        """(N, 4) the largest person's or face's box in each picture, NaN where none is found."""
        return self._detector(name)[0](frames)

    def detector_digest(self, name: str) -> str:
        """sha256 of a detector's weights."""
        return self._detector(name)[1]

    def _detector(self, name: str) -> tuple[Detector, str]:
        if name not in self._detectors:
            self._detectors[name] = load_detector(name, self.device)
        return self._detectors[name]

    # --------------------------------------------------------------------------------- perceptual

    def layers(self, name: str, picture: Frames) -> tuple[torch.Tensor, ...]:
        """Feature maps (1, C, h, w) of one (H, W, 3) uint8 picture, each position of unit length."""
        frame = torch.from_numpy(np.ascontiguousarray(picture)).to(self.device)
        return self._network(name).layers(frame.permute(2, 0, 1)[None].float() / 255)

    def heads(self, name: str) -> Sequence[torch.Tensor]:
        """The weight of each channel of each layer."""
        return self._network(name).heads

    def _network(self, name: str) -> "PerceptualNetwork":
        from benchmarks.networks.perceptual import load_perceptual

        if name not in self._perceptual:
            self._perceptual[name] = load_perceptual(
                name, self.device, random_seed=self.random_seed
            )
        return self._perceptual[name]

    # ------------------------------------------------------------------------------------- videos

    def embed_windows(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, T, H, W, 3) uint8 -> (N, d) features of the user's video network."""
        from benchmarks.metrics.temporal import video_features

        return video_features(self._load_video()[0], windows)

    def _load_video(self) -> tuple[torch.nn.Module, str]:
        if self._video is None:
            asset = find_asset(VIDEO_NETWORK)
            asset.check()  # TorchScript is a program: none but the one that is known is run
            network = torch.jit.load(str(asset.path), map_location=self.device).eval()
            self._video = network, digest_of(asset.path)
        return self._video


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Features that were kept; None if there are none, or the file is damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None


def _write(path: Path, features: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.save(file, features)
