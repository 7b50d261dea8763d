"""The two Inception networks: resizes against other libraries, and the FID's against torch-fidelity."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.networks import JUDGES
from benchmarks.networks.inception import InceptionFID, resize_clean, resize_official


@pytest.fixture
def frames() -> torch.Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (2, 61, 740, 3), dtype=np.uint8))


def test_the_clean_resize_is_pillows(frames: torch.Tensor) -> None:
    """Of floats, one channel at a time, as clean-fid calls it; rounded to grey levels afterwards."""
    pillow = pytest.importorskip("PIL.Image")
    found = resize_clean(frames)
    assert (found.shape, found.dtype) == ((2, 3, 299, 299), torch.float32)
    for one, frame in zip(found.numpy(), frames.numpy(), strict=True):
        for channel in range(3):
            plane = pillow.fromarray(frame[..., channel].astype(np.float32))
            resized = np.asarray(plane.resize((299, 299), pillow.Resampling.BICUBIC)).clip(0, 255)
            # Half a grey level of rounding, and the arithmetic of float32.
            assert np.abs(one[channel] * 255 - resized).max() < 0.5 + 5e-3


def test_resizes_keep_flat_pictures_and_pictures_of_299(frames: torch.Tensor) -> None:
    flat = torch.full((1, 40, 50, 3), 77, dtype=torch.uint8)
    random = torch.randint(0, 256, (1, 299, 299, 3), dtype=torch.uint8)
    for resize in (resize_clean, resize_official):
        torch.testing.assert_close(resize(flat), torch.full((1, 3, 299, 299), 77 / 255))
        torch.testing.assert_close(resize(random), random.permute(0, 3, 1, 2) / 255)


def test_only_the_clean_resize_is_antialiased() -> None:
    """Stripes of one pixel shrunk threefold: grey, unless pixels are skipped."""
    stripes = torch.zeros(1, 897, 897, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    inner = slice(10, -10)
    assert resize_clean(stripes)[..., inner].std() < 0.1
    assert resize_official(stripes)[..., inner].std() > 0.4


def test_the_fids_network_is_torch_fidelitys(tmp_path: Path, frames: torch.Tensor) -> None:
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    ours = InceptionFID().eval()
    for parameter in ours.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    judge = JUDGES["inception-fid"]
    weights = {key.removeprefix(judge.prefix): value for key, value in ours.state_dict().items()}
    torch.save(weights, tmp_path / "weights.pth")
    network = theirs.FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], str(tmp_path / "weights.pth")
    )
    clean = resize_clean(frames)
    with torch.inference_mode():
        found = ours(judge.prepare(clean))
        pooled, logits = network((clean * 255).round().to(torch.uint8))
    assert found.shape == (2, judge.dimensions)
    torch.testing.assert_close(found, torch.cat([pooled, logits], 1), rtol=0, atol=0)
    assert found[0, :2048].std() > 0
    assert not torch.equal(found[0], found[1])
    assert judge.read(weights).keys() == ours.state_dict().keys()


def test_torch_fidelity_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)  # fmt: skip
    with pytest.raises(ImportError, match=r"iper-toolkit\[fid\]"):
        InceptionFID()
