"""The wheel, installed outside the checkout, finds what it ships: manifests, the open body, the report's page."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment that holds the wheel and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (REPOSITORY / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    # The dependencies come from this environment by a path file: the checkout itself is not on that path.
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    dependencies = Path(next(p for p in sys.path if p.endswith("site-packages")))
    mirror = folder / "dependencies"
    mirror.mkdir()
    for entry in dependencies.iterdir():
        if not entry.name.startswith(("__editable__", "iper_toolkit")):
            (mirror / entry.name).symlink_to(entry)
    (Path(site) / "dependencies.pth").write_text(f"{mirror}\n")
    return environment / "bin"


def run(command: list[str | Path], folder: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_whole_path_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(
        [installed / "python", "-c", "import iper_toolkit; print(iper_toolkit.__file__)"], tmp_path
    )
    assert str(REPOSITORY) not in where
    run([installed / "iper", "synth", "--root", "data", "--size", "tiny", "--seed", "3"], tmp_path)
    run([installed / "iper", "prepare", "--root", "data"], tmp_path)
    run(
        [
            installed / "lwgan-bench",
            "run",
            "--task",
            "imitation",
            "--root",
            "data",
            "--out",
            "run",
            "--size",
            "96",
        ],
        tmp_path,
    )
    run([installed / "lwgan-bench", "report", "run"], tmp_path)
    assert list((tmp_path / "run" / "report").glob("*.html"))
    assert "iper-v1" in run([installed / "lwgan-bench", "list"], tmp_path)
    clip = ["--root", "data", "--source", "001/1/1", "--num-sources", "1", "--size", "64"]
    drawn = ["--angle", "0", "--weights", "random", "--out", "front.png"]
    run([installed / "lwgan", "view", *clip, *drawn], tmp_path)
    assert (tmp_path / "front.png").is_file()
