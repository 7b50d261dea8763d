"""The table of files that are not code is complete, and a missing or damaged one says what to do."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from iper_toolkit import assets
from iper_toolkit.assets import Asset, MissingAsset

CONTENT = b"weights"
DIGEST = sha256(CONTENT).hexdigest()


def weights(**others: Any) -> Asset:
    """An asset of the seven bytes CONTENT, with what a test says of it."""
    return Asset("w", "The weights", "lwgan", "nothing", "w.bin", "MIT; more", "Ask.", **others)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("asset", assets.asset_table().values(), ids=lambda asset: asset.name)
def test_every_asset_says_what_it_is_and_how_to_get_it(asset: Asset) -> None:
    for text in (asset.title, asset.used_by, asset.file, asset.licence, asset.how):
        assert text
        assert text == text.strip()
    assert asset.how.endswith(".")
    assert asset.note is None or asset.note.endswith(".")
    assert len(asset.short_licence) < 50  # a column of `iper assets`
    assert not Path(asset.file).is_absolute()
    assert ".." not in Path(asset.file).parts


@pytest.mark.parametrize(
    "asset",
    [asset for asset in assets.asset_table().values() if asset.shipped],
    ids=lambda asset: asset.name,
)
def test_what_is_shipped_is_what_the_table_knows(asset: Asset) -> None:
    if not asset.path.exists() and asset.sha256 is None:
        pytest.skip("not made yet")
    asset.check()
    found = (asset.digest(), asset.path.stat().st_size)
    assert (asset.sha256, asset.bytes) == found, "record sha256 and bytes in manifests/assets.toml"


def test_assets_lie_at_different_places() -> None:
    paths = [asset.path for asset in assets.asset_table().values()]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lpips-alex", "AlexNet_Weights.IMAGENET1K_V1"),
        ("lpips-vgg", "VGG16_Weights.IMAGENET1K_V1"),
        ("lpips-squeeze", "SqueezeNet1_1_Weights.IMAGENET1K_V1"),
        ("inception-imagenet", "Inception_V3_Weights.IMAGENET1K_V1"),
        ("person-detector", "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1"),
    ],
)
def test_torchvisions_files_are_those_it_names_itself(name: str, weights: str) -> None:
    models = pytest.importorskip("torchvision.models")
    asset, url = assets.find_asset(name), models.get_weight(weights).url
    assert url in asset.how
    file = url.rpartition("/")[2]
    assert Path(asset.file).name == file
    # torch.hub's rule: the eight digits of the name begin the sha256
    assert file.endswith(f"-{asset.sha256_prefix}.pth")


def test_a_missing_file_says_what_how_and_where(folder: Path) -> None:
    with pytest.raises(MissingAsset) as caught:
        assets.resolve("smpl-neutral")
    message = str(caught.value)
    for part in (str(folder / "smpl" / "SMPL_NEUTRAL.pkl"), "Register at", "non-commercial"):
        assert part in message
    assert isinstance(caught.value, FileNotFoundError)
    assert assets.find_asset("smpl-neutral").status() == "missing"


def test_a_file_that_was_put_in_place_is_found(folder: Path) -> None:
    path = folder / "smpl" / "SMPL_MALE.pkl"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert assets.resolve("smpl-male") == path
    assert assets.find_asset("smpl-male").status(hashes=True) == "there"


def test_the_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPER_ASSETS", raising=False)
    assert assets.assets_folder() == Path.home() / ".cache" / "iper"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'smlp'.*open-body"):
        assets.resolve("smlp")


def test_a_flipped_byte_is_found(folder: Path) -> None:
    asset = weights(sha256=DIGEST, bytes=7)
    asset.path.write_bytes(CONTENT)
    asset.check()
    assert asset.digest() == DIGEST
    asset.path.write_bytes(b"weightz")
    assert asset.status() == "there"  # the size is right, and nothing more was looked at
    assert asset.status(hashes=True) == "damaged"
    with pytest.raises(ValueError, match=r"sha256 differs.*Get it again: Ask\."):
        asset.check()
    asset.path.write_bytes(b"weight")
    assert asset.status() == "damaged"
    with pytest.raises(ValueError, match="6 bytes"):
        asset.check()


def test_the_first_digits_of_a_hash_are_enough_to_tell(folder: Path) -> None:
    asset = weights(sha256_prefix=DIGEST[:8])
    asset.path.write_bytes(CONTENT)
    asset.check()
    asset.path.write_bytes(b"weightz")
    with pytest.raises(ValueError, match=f"does not begin with {DIGEST[:8]}"):
        asset.check()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:8f23\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html><body>Virus scan warning", "a web page"),
        (b"<HTML><HEAD><TITLE>404", "a web page"),
    ],
)
def test_what_downloads_leave_instead_of_weights_is_damaged(
    folder: Path, content: bytes, what: str
) -> None:
    asset = weights()
    asset.path.write_bytes(content)
    assert asset.status() == "damaged"
    with pytest.raises(ValueError, match=what):
        asset.check()


def test_a_large_file_is_not_held_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = weights(sha256=DIGEST)
    asset.path.write_bytes(CONTENT)

    def refuse(path: Path) -> bytes:
        raise MemoryError(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    asset.check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "abc"}, "64 of the digits"),
        ({"sha256_prefix": "XY"}, "digits 0-9 and a-f"),
        ({"sha256": DIGEST, "sha256_prefix": "0" * 8}, "does not begin"),
    ],
)
def test_an_impossible_hash_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weights(**fields)


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'torch'.*benchmarks"):
        Asset("w", "W", "torch", "nothing", "w", "MIT", "Ask.")  # type: ignore[arg-type]


def test_manifests_inside_the_package_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "iper_toolkit"
    monkeypatch.setattr(assets, "__file__", str(package / "assets.py"))
    monkeypatch.setattr(assets, "_INSTALLED", tmp_path)
    with pytest.raises(MissingAsset, match="incomplete"):
        assets.manifests_folder()
    for folder in (tmp_path / "manifests", package / "manifests"):
        folder.mkdir(parents=True)
        (folder / "assets.toml").touch()
        assert assets.manifests_folder() == folder


def test_the_table_is_read_without_heavy_imports() -> None:
    code = (
        "import sys; from iper_toolkit import assets; assets.asset_table(); "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
