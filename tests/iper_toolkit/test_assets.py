"""The table of outside files is complete, and a missing one says what to do."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from iper_toolkit import assets
from iper_toolkit.assets import Asset, MissingAsset


@pytest.mark.parametrize("asset", assets.asset_table().values(), ids=lambda asset: asset.name)
def test_every_asset_says_what_it_is_and_how_to_get_it(asset: Asset) -> None:
    for text in (asset.title, asset.file, asset.licence, asset.how):
        assert text
        assert text == text.strip()
    assert asset.how.endswith(".")
    assert not Path(asset.file).is_absolute()
    assert ".." not in Path(asset.file).parts
    if asset.shipped:
        assert asset.sha256
        assert asset.bytes
        asset.check()


def test_assets_lie_at_different_places() -> None:
    paths = [asset.path for asset in assets.asset_table().values()]
    assert len(set(paths)) == len(paths)


def test_a_missing_file_says_what_how_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    with pytest.raises(MissingAsset) as caught:
        assets.resolve("smpl-neutral")
    message = str(caught.value)
    for part in (str(tmp_path / "smpl" / "SMPL_NEUTRAL.pkl"), "Register at", "non-commercial"):
        assert part in message
    assert isinstance(caught.value, FileNotFoundError)


def test_a_file_that_was_put_in_place_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    path = tmp_path / "smpl" / "SMPL_MALE.pkl"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert assets.resolve("smpl-male") == path


def test_the_default_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPER_ASSETS", raising=False)
    assert assets.assets_folder() == Path.home() / ".cache" / "iper"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'smlp'.*open-body"):
        assets.resolve("smlp")


def test_a_flipped_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    content = b"weights"
    asset = Asset(
        "w", "The weights", "w.bin", "MIT", "Ask.", sha256=sha256(content).hexdigest(), bytes=7
    )
    asset.path.write_bytes(content)
    asset.check()
    asset.path.write_bytes(b"weightz")
    with pytest.raises(ValueError, match="sha256 differs"):
        asset.check()
    asset.path.write_bytes(b"weight")
    with pytest.raises(ValueError, match="6 bytes"):
        asset.check()


def test_manifests_inside_the_package_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "iper_toolkit"
    monkeypatch.setattr(assets, "__file__", str(package / "assets.py"))
    monkeypatch.setattr(assets, "_PACKAGES", tmp_path)
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
