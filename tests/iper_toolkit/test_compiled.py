"""Compiled functions work where there is no place, a bad one or a vanishing one for their machine code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from iper_toolkit.compiled import njit

@njit(nogil=True)
def twice(x):
    return 2 * x

print(twice(3))
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "compiled_here.py").write_text(CODE)
    return folder / "compiled_here.py"


def run(module: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    command = [sys.executable, "-m", "compiled_here"]
    environment = given | {"PYTHONPATH": str(module.parent)} | environment
    return subprocess.run(
        command, env=environment, cwd=module.parent.parent, capture_output=True, text=True
    )


def test_code_is_kept(module: Path, tmp_path: Path) -> None:
    done = run(module, NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert (done.stdout, done.stderr) == ("6\n", "")
    assert list((tmp_path / "kept").rglob("*.nbc"))


def test_no_place_at_all_is_said_once(module: Path, tmp_path: Path) -> None:
    """A file where the folders would be: it stops root too, whom no mode of a folder does."""
    (module.parent / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    code = module.read_text().replace("print(", "thrice = njit()(lambda x: 3 * x)\nprint(")
    module.write_text(code)
    done = run(module, HOME=str(tmp_path / "home"))
    assert done.stdout == "6\n", done.stderr
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
    assert "Traceback" not in done.stderr


def test_kept_code_that_is_damaged_is_compiled_again(module: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run(module, NUMBA_CACHE_DIR=str(kept))
    for file in kept.rglob("*.nb?"):
        file.write_bytes(b"\x80\x05damaged")
    done = run(module, NUMBA_CACHE_DIR=str(kept))
    assert done.stdout == "6\n", done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_place_that_vanishes(module: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    module.write_text(
        module.read_text().replace(
            "print(",
            f"import shutil; shutil.rmtree({str(kept)!r}); open({str(kept)!r}, 'w')\nprint(",
        )
    )
    done = run(module, NUMBA_CACHE_DIR=str(kept))
    assert done.stdout == "6\n", done.stderr
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
