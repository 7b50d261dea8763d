"""`iper assets`: what a user reads, what a program reads, exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iper_toolkit.assets import asset_table, find_asset
from iper_toolkit.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An asset folder of the test's own."""
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    return tmp_path


def listed(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["assets", *arguments])
    assert result.exit_code == code, result.output
    return result


def rows(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    content = json.loads(listed(*arguments, "--json", code=code).stdout)
    assert content["ok"] == (not any(row["status"] == "damaged" for row in content["assets"]))
    return {row["name"]: row for row in content["assets"]}


def put(name: str, content: bytes) -> Path:
    path = find_asset(name).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_list_has_a_line_for_every_file(folder: Path) -> None:
    lines = listed().stdout.splitlines()
    states = {line.split()[1]: line.split()[0] for line in lines if line.startswith("  ")}
    assert set(states) == set(asset_table())
    assert states["open-body"] == "there"
    assert states["smpl-neutral"] == "missing"
    assert {"iper_toolkit:", "lwgan:", "benchmarks:"} <= set(lines)
    assert str(folder) in lines[-1]


def test_a_package_has_its_own(folder: Path) -> None:
    names = set(rows("--package", "lwgan"))
    assert names == {name for name, asset in asset_table().items() if asset.package == "lwgan"}


def test_missing_leaves_out_what_is_there() -> None:
    names = set(rows("--missing"))
    assert "open-body" not in names
    assert "smpl-neutral" in names
    put("smpl-neutral", b"x")
    put("smpl-male", b"")  # a download that stopped is to be got again
    assert names - set(rows("--missing")) == {"smpl-neutral"}


def test_a_name_tells_the_whole_story(folder: Path) -> None:
    text, asset = listed("lpips-alex").stdout, find_asset("lpips-alex")
    for part in (
        asset.title,
        asset.used_by,
        asset.licence,
        asset.how,
        asset.sha256,
        f"{asset.bytes:,} bytes",
        str(folder / "judges" / "alexnet-owt-7be5be79.pth"),
    ):
        assert part is not None
        assert part in text
    assert "begins with b8a52dc0" in listed("lpips-squeeze").stdout
    assert "not comparable with published numbers" in listed("osnet-mini").stdout


def test_a_wrong_size_is_seen_in_the_list() -> None:
    path = put("face-detector", b"cut off")
    result = listed()
    assert "damaged  face-detector" in result.stdout
    assert f"{path} has 7 bytes" in result.stderr
    assert rows()["face-detector"]["status"] == "damaged"


def test_check_compares_hashes_and_fails_on_a_wrong_one() -> None:
    assert rows("--check")["open-body"]["checked"]
    asset = find_asset("face-detector")
    assert asset.bytes is not None
    put("face-detector", bytes(asset.bytes))  # the right size, nothing but zeros
    assert rows()["face-detector"]["status"] == "there"
    row = rows("--check", code=1)["face-detector"]
    assert row["status"] == "damaged"
    assert "sha256 differs" in row["fault"]
    assert "sha256 differs" in listed("--check", code=1).stderr
    assert "sha256 differs" in listed("face-detector", "--check", code=1).stdout


def test_check_of_a_hash_prefix_fails_on_another_file() -> None:
    put("lpips-squeeze", b"other")
    listed("lpips-squeeze", code=0)
    listed("lpips-squeeze", "--check", code=1)


def test_check_says_what_it_cannot_tell() -> None:
    put("pcb-market1501", b"abc")
    text = listed("pcb-market1501", "--check").stdout
    assert "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" in text
    assert "to compare by hand" in text
    assert not rows("pcb-market1501", "--check")["pcb-market1501"]["checked"]


def test_an_unknown_name_is_a_sentence() -> None:
    assert "Unknown asset 'smlp'" in listed("smlp", code=1).output
    assert "Unknown asset 'smlp'" in json.loads(listed("smlp", "--json", code=1).stdout)["error"]


def test_a_name_and_a_choice_contradict() -> None:
    listed("open-body", "--missing", code=2)
    listed("open-body", "--package", "lwgan", code=2)


def test_the_list_needs_no_heavy_import() -> None:
    code = (
        "import sys; from iper_toolkit.cli import main; main(['assets'], standalone_mode=False)\n"
    )
    watch = (
        "import atexit, sys; atexit.register(lambda: print('HEAVY', sorted("
        "{'torch', 'numpy', 'cv2', 'pandas'} & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch + code], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"
