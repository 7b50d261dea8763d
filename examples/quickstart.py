"""From nothing to a leaderboard in Python: synthetic people, prepared, two baselines scored.

    python examples/quickstart.py [FOLDER]

The same as `iper synth`, `iper prepare` and `lwgan-bench run` on the command line. Takes about a minute.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.leaderboard import build_boards
from benchmarks.leaderboard_text import as_text
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.runner import Settings
from benchmarks.workers import RunDescription, run_described
from iper_toolkit.clip import Dataset
from iper_toolkit.prepare import prepare
from iper_toolkit.synthetic.dataset import write_dataset


def main(folder: Path) -> None:
    root, out = folder / "data", folder / "run"

    # Three people of 96 pixels, in iPER's own layout. Put your own clips there instead.
    write_dataset(root, size="tiny", seed=1)

    # Crops, fits, masks, background plates, and the Parquet tables that describe them.
    print(f"prepared {prepare(root).num_clips} clips")

    clip = Dataset.open(root).clip("001/1/1")
    frames = clip.frames([0, 1], size=96)  # (2, 96, 96, 3) uint8 RGB
    print(f"clip {clip.id}: {clip.num_frames} frames, {frames.shape=}, body {clip.body_id}")

    # Every case of the protocol, drawn by two methods and scored.
    run_described(RunDescription(root, out, methods=("copy", "warp"), settings=Settings(size=96)))
    print(as_text(build_boards(read_rows(out / "rows.parquet"))))
    print(f"report: {write_report(out)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
