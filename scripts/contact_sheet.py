"""Lays what a run drew side by side: a source, what each method made of it, and the truth.

\b
    python scripts/contact_sheet.py demo-full/run --methods warp,attlwb-small --out docs/pictures/drawn.jpg

Cases are spread evenly over those of the task, and of each the kept frame in the middle is shown: nobody chooses.
"""

from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from iper_toolkit.images import read_image, write_image

_LABEL = 22  # pixels above each column of pictures, for its name
_GAP = 16  # white pixels between two columns of cases
_TRUTH, _SOURCE = "target", "source"


def row_of(pictures: Path, methods: list[str], case: Path, width: int) -> NDArray[np.uint8]:
    """(S, width * tiles, 3): a case's first source, one frame of each method, and the truth."""
    sources = sorted((pictures / _SOURCE / case).glob("*.png"))
    names = sorted(path.name for path in (pictures / _TRUTH / case).glob("*.png"))
    drawn = [name for name in names if all((pictures / m / case / name).is_file() for m in methods)]
    if not sources or not drawn:
        raise click.ClickException(
            f"{pictures} has no frame of {case} that {', '.join(methods)} all drew; the run keeps pictures with "
            "--keep some."
        )
    name = drawn[len(drawn) // 2]
    shown = [sources[0], *(pictures / one / case / name for one in (*methods, _TRUTH))]
    tiles = [read_image(path) for path in shown]
    left = (tiles[0].shape[1] - width) // 2
    return np.concatenate([tile[:, left : left + width] for tile in tiles], axis=1)


def labels(names: list[str], width: int) -> NDArray[np.uint8]:
    """(_LABEL, width * names, 3): each name above its column, dark on white; a long one is drawn smaller."""
    strip = np.full((_LABEL, width * len(names), 3), 255, np.uint8)
    for k, name in enumerate(names):
        (wide, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        scale = 0.5 * min(1.0, (width - 8) / max(1, wide))
        cv2.putText(
            strip,
            name,
            (k * width + 4, _LABEL - 7),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (30, 30, 30),
            1,
            cv2.LINE_AA,
        )
    return strip


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--methods", required=True, help="Names of the run, with commas, left to right.")
@click.option("--task", default="self", show_default=True, help="Folder of the run's pictures.")
@click.option("--cases", default=8, show_default=True, type=click.IntRange(2))
@click.option("--width", default=152, show_default=True, help="Columns of each picture, middle.")
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(run: Path, methods: str, task: str, cases: int, width: int, out: Path) -> None:
    pictures = run / "pictures"
    found = sorted(path.name for path in (pictures / _TRUTH / task).glob("*"))
    if len(found) < cases:
        raise click.ClickException(f"{pictures} has {len(found)} cases of {task}; wanted {cases}.")
    # In the middle of equal shares, so that clips of one person, which follow each other, are not taken together.
    chosen = [found[(2 * k + 1) * len(found) // (2 * cases)] for k in range(cases)]
    rows = [row_of(pictures, methods.split(","), Path(task) / name, width) for name in chosen]
    half = (len(rows) + 1) // 2
    head = labels([_SOURCE, *methods.split(","), _TRUTH], width)
    columns = [np.concatenate([head, *rows[:half]]), np.concatenate([head, *rows[half:]])]
    height = columns[0].shape[0]
    sheet = np.full((height, 2 * columns[0].shape[1] + _GAP, 3), 255, np.uint8)
    sheet[:, : columns[0].shape[1]] = columns[0]
    sheet[: columns[1].shape[0], columns[0].shape[1] + _GAP :] = columns[1]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_image(out, sheet, quality=88)
    click.echo(f"{out}: {', '.join(chosen)}")


if __name__ == "__main__":
    main()
