"""The golden table: every metric on a few committed pictures gives the committed value."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cli import main
from benchmarks.metrics import METRICS
from benchmarks.selftest import Check, Golden, check_installation


def test_every_metric_gives_what_it_should() -> None:
    found = list(check_installation())
    checks = [one for one in found if isinstance(one, Check)]
    assert not [one for one in checks if not one.is_right]
    left = {one[0] for one in found if isinstance(one, tuple)}
    assert left == {"fvd"}  # a network of the user's, of which nothing is known
    assert {one.metric for one in checks} | left == set(METRICS)


def test_a_wrong_value_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import resources

    shutil.copytree(Path(str(resources.files("benchmarks"))) / "golden", tmp_path / "golden")
    path = tmp_path / "golden" / "expected.json"
    known = json.loads(path.read_text())
    known["expected"] = {"ssim": known["expected"]["ssim"], "l1": known["expected"]["l1"] * 1.001}
    path.write_text(json.dumps(known))
    monkeypatch.setattr("benchmarks.selftest.Golden.read", lambda *_: golden)
    golden = Golden(**{k: getattr(GOLDEN, k) for k in ("generated", "truth", "masks")}, known=known)
    result = CliRunner().invoke(main, ["selftest"])
    assert result.exit_code == 1
    assert "WRONG  l1" in result.output
    assert "ok     ssim" in result.output
    assert "1 of 2 metrics are right" in result.output


GOLDEN = Golden.read()


def test_an_installation_without_the_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="incomplete"):
        Golden.read(tmp_path)
