"""The sheet of what a run drew: what lies where, and what is said when there is nothing to lay."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from iper_toolkit.images import read_image, write_image

SCRIPT = Path(__file__).parent.parent / "scripts" / "contact_sheet.py"
SIZE = 32


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three cases; every method's pictures have a grey level of their own."""
    for level, name in enumerate(("source", "warp", "target"), start=1):
        for case in ("001", "002", "003"):
            for frame in ("00000.png", "00007.png"):
                path = tmp_path / "pictures" / name / "self" / case / frame
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, np.full((SIZE, SIZE, 3), 40 * level, np.uint8))
    return tmp_path


def lay(run: Path, *options: str) -> tuple[int, str]:
    main = runpy.run_path(str(SCRIPT))["main"]
    words = [str(run), "--width", "16", "--out", str(run / "sheet.png"), *options]
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


def test_source_methods_and_truth_stand_beside_each_other(run: Path) -> None:
    code, output = lay(run, "--methods", "warp", "--cases", "3")
    assert code == 0, output
    sheet = read_image(run / "sheet.png")
    label = sheet.shape[0] - 2 * SIZE
    assert sheet.shape[1:] == (2 * 3 * 16 + 16, 3)
    assert [int(level) for level in sheet[label + 5, 8 : 3 * 16 : 16, 0]] == [40, 80, 120]
    for column in range(3):  # each has its name above it, on both sides of the sheet
        for left in (0, 3 * 16 + 16):
            name = sheet[:label, left + 16 * column : left + 16 * (column + 1)]
            assert name.min() < 250
            assert name.max() == 255
    assert (sheet[label + SIZE :, -16:] == 255).all()  # the third case stands alone on the right


def test_missing_methods_and_cases_are_named(run: Path) -> None:
    code, output = lay(run, "--methods", "warp,nobody", "--cases", "2")
    assert code == 1
    assert "nobody all drew" in output
    code, output = lay(run, "--methods", "warp", "--cases", "4")
    assert code == 1
    assert "3 cases" in output
