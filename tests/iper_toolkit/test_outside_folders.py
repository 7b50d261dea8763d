"""Fixtures from outside the repository: one that was named and is not there fails, it is not skipped."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outside_folder() -> Callable[..., Path]:
    path = Path(__file__).resolve().parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("shared_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.outside_folder


def test_a_named_folder_must_be_there(
    outside_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(pytest.fail.Exception, match=r"SOME_FOLDER is .*nowhere.*correct or unset"):
        outside_folder("SOME_FOLDER", tmp_path)
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="akun_1"):
        outside_folder("SOME_FOLDER", tmp_path, "akun_1")
    assert outside_folder("SOME_FOLDER", tmp_path / "other") == tmp_path


def test_a_folder_that_nobody_named_may_be_missing(
    outside_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_FOLDER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="set SOME_FOLDER"):
        outside_folder("SOME_FOLDER", tmp_path / "nowhere")
    assert outside_folder("SOME_FOLDER", tmp_path) == tmp_path
