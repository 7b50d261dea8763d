"""The README's quick start runs as it stands there."""

import subprocess
import sys
from pathlib import Path

QUICKSTART = Path(__file__).resolve().parent.parent / "examples" / "quickstart.py"


def test_quickstart_ends_with_a_leaderboard_and_a_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, QUICKSTART, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warp" in done.stdout
    assert "synthetic" in done.stdout
    assert (tmp_path / "run" / "report" / "index.html").stat().st_size > 10_000
