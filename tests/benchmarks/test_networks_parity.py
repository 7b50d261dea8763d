"""The judges' networks and their crops against the reference implementations, with weights drawn by a rule."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.metrics.perceptual import lpips_from_layers, unit_length
from benchmarks.networks import JUDGES
from benchmarks.networks.crops import official_crop, official_person_box
from benchmarks.networks.facenet import IDENTITIES, InceptionResnetV1
from benchmarks.networks.inception import InceptionImageNet, resize_official
from benchmarks.networks.osnet import OSNet
from benchmarks.networks.pcb import PCB
from benchmarks.networks.perceptual import build_lpips, load_backbone

pytestmark = pytest.mark.parity


def _seeded() -> ModuleType:
    path = Path(__file__).with_name("seeded.py")
    spec = importlib.util.spec_from_file_location("seeded", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["seeded"] = module
    spec.loader.exec_module(module)
    return module


seeded = _seeded()


@pytest.fixture
def folder(fixtures_folder: Path) -> Path:
    return fixtures_folder / "evaluation"


def with_seeded_weights(network: nn.Module, prefix: str, seed: int) -> nn.Module:
    network.load_state_dict(seeded.seeded_state(network, prefix, seed))
    return network.eval().requires_grad_(False)


def relative(found: Tensor, expected: NDArray[np.float32]) -> float:
    return float((found - torch.from_numpy(expected)).abs().max() / np.abs(expected).max())


def crops_of(file: dict[str, NDArray], size: tuple[int, int], *, detector: bool = True) -> Tensor:
    crops = []
    for image, box in zip(file["images"], file["boxes"].tolist(), strict=True):
        corners = None if box[0] < 0 or not detector else tuple(box)
        crops.append(official_crop(torch.from_numpy(image), corners, size, detector=detector))
    return torch.cat(crops)


def test_pcb(folder: Path) -> None:
    with np.load(folder / "pcb_seeded.npz") as archive:
        file = dict(archive)
    network = with_seeded_weights(PCB(), "pcb.", int(file["net_seed"]))
    crops = crops_of(file, (384, 192))
    assert relative(crops[:, :, ::48, ::24], file["crop_sample"]) < 1e-5
    assert relative(crops.mean((2, 3)), file["crop_ch_mean"]) < 1e-4
    assert relative(network.parts(crops).norm(dim=1), file["raw_l2_per_part"]) < 1e-4
    assert relative(network(crops), file["feat"]) < 1e-4
    without = network(crops_of(file, (384, 192), detector=False)[:2])
    assert relative(without, file["feat_nobox_unnormalised"]) < 1e-4


def test_osnet(folder: Path) -> None:
    with np.load(folder / "osnet_ibn_seeded.npz") as archive:
        file = dict(archive)
    network = with_seeded_weights(OSNet("ibn", num_classes=1000), "osnet.", int(file["net_seed"]))
    assert relative(network(crops_of(file, (256, 128))), file["feat"]) < 1e-4
    without = network(crops_of(file, (256, 128), detector=False))
    assert relative(without, file["feat_nobox_unnormalised"]) < 1e-4
    seen = network.feature_map(crops_of(file, (384, 192))[:1, :, :256, :128])
    assert relative(seen.mean((2, 3)), file["fmap_chmean"]) < 1e-4


def test_inception_of_torchvision(folder: Path) -> None:
    with np.load(folder / "inception_seeded.npz") as archive:
        file = dict(archive)
    network = with_seeded_weights(InceptionImageNet(), "inception.", int(file["net_seed"]))
    prepared = JUDGES["inception-imagenet"].prepare(
        resize_official(torch.from_numpy(file["images"]))
    )
    assert relative(network(prepared), file["feat2048"]) < 1e-4


def test_faces(folder: Path) -> None:
    with np.load(folder / "face_embed_seeded.npz") as archive:
        file = dict(archive)
    network = InceptionResnetV1(IDENTITIES)
    network = with_seeded_weights(network, "facenet.", int(file["net_seed"]))
    faces = torch.from_numpy(file["images"]).permute(0, 3, 1, 2).float() / 255
    found = network(JUDGES["facenet-vggface2"].prepare(faces))
    assert relative(found, file["emb512"]) < 1e-4


def test_the_official_packages_boxes(folder: Path) -> None:
    expected = json.loads((folder / "yolo_boxes_expected.json").read_text())
    assert expected
    with np.load(folder / "yolo_boxes.npz") as raw:
        for side, boxes in expected.items():
            found = [
                official_person_box(torch.from_numpy(one), int(side)) for one in raw[f"raw_{side}"]
            ]
            assert [None if box is None else list(box) for box in found] == boxes, side


KEYS = {
    "eval_pcb_market751": PCB,
    "eval_osnet_ibn_x1_0_imagenet1000": lambda: OSNet("ibn", num_classes=1000),
    "eval_osnet_x1_0_1000": lambda: OSNet("plain", num_classes=1000),
    "eval_inception_resnet_v1_vggface2": lambda: InceptionResnetV1(IDENTITIES),
    "eval_torchvision_inception_v3": InceptionImageNet,
}


@pytest.mark.parametrize("name", KEYS)
def test_names_and_shapes_are_those_of_the_released_files(fixtures_folder: Path, name: str) -> None:
    path = fixtures_folder.parent / "facts" / "keys" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"no list of keys at {path}")
    with path.open(newline="") as file:
        wanted = {row["key"]: row["shape"] for row in csv.DictReader(file)}
    found = {
        key: "x".join(map(str, value.shape)) or "scalar"
        for key, value in KEYS[name]().state_dict().items()
    }
    assert found == wanted


def layers_of(whole: nn.Module, image: NDArray[np.uint8], version: str) -> list[Tensor]:
    picture = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    scaled = whole.scaling_layer(picture) if version == "0.1" else picture
    return [unit_length(layer) for layer in whole.net.forward(scaled)]


@pytest.mark.parametrize("version", ["0.1", "0.0"])
def test_lpips(folder: Path, version: str) -> None:
    expected = json.loads((folder / "lpips_alex_seeded.json").read_text())
    from torchvision.models import alexnet

    state = seeded.seeded_state(alexnet(weights=None), expected["key_prefix"], expected["net_seed"])
    whole = build_lpips("alex", version).eval().requires_grad_(False)
    load_backbone(whole, dict(state), "lpips-alex", folder)
    heads = [head.model[-1].weight.reshape(-1) for head in whole.lins]
    with np.load(folder / "image_pairs.npz") as pairs:
        for k, wanted in enumerate(expected[f"lpips_v{version}"]):
            sides = [layers_of(whole, pairs[f"{side}_{k}"], version) for side in ("pred", "ref")]
            (found,) = lpips_from_layers(*sides, heads)
            assert found == pytest.approx(wanted, abs=1e-5), expected["names"][k]
            if version == "0.1":
                for level, part in enumerate(expected["per_layer_v0.1"][k]):
                    (own,) = lpips_from_layers(*([side[level]] for side in sides), [heads[level]])
                    assert own == pytest.approx(part, abs=1e-5)


@pytest.mark.parametrize("version", ["0.1", "0.0"])
def test_the_heads_of_lpips(folder: Path, version: str) -> None:
    heads = [
        head.model[-1].weight.reshape(-1).detach() for head in build_lpips("alex", version).lins
    ]
    with np.load(folder / "lpips_linheads.npz") as file:
        for level, head in enumerate(heads):
            layers = [
                unit_length(torch.from_numpy(file[f"{side}{level}"])) for side in ("fa", "fb")
            ]
            found = lpips_from_layers([layers[0]], [layers[1]], [head])
            wanted = file[f"dist_v{version.replace('.', '')}_{level}"].reshape(-1)
            np.testing.assert_allclose(found, wanted, atol=1e-6)
