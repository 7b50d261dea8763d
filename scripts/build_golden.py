"""Builds the golden pictures of `lwgan-bench selftest`, and writes down what every metric makes of them.

    python scripts/build_golden.py           pictures and values
    python scripts/build_golden.py --values  the values alone, after a metric's version rose

Four consecutive frames of a synthetic person (seed 1), and what a method might have made of them: shifted, blurred,
with another colour and noise.
"""

import json
import shutil
import tempfile
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.looking import boxes_of_masks, faces_of_bodies
from benchmarks.metrics import METRICS
from benchmarks.scoring import true_keypoints
from benchmarks.selftest import Golden, golden_pairs, takes_random_weights
from iper_toolkit.body import load_body
from iper_toolkit.clip import Dataset
from iper_toolkit.images import write_image

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "golden"
SIZE, FRAMES, CLIP = 192, (0, 1, 2, 3), "001/1/2"


def draw() -> None:
    """The pictures and what is known of them."""
    from iper_toolkit.prepare import prepare
    from iper_toolkit.synthetic.dataset import write_dataset

    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        root = Path(name) / "root"
        write_dataset(root, size="small", seed=1, workers=2)
        prepare(root, workers=2)
        clip = Dataset.open(root).clip(CLIP)
        truth, masks = clip.frames(FRAMES, SIZE), clip.masks(FRAMES, SIZE)
        params = clip.params(FRAMES)
    random = np.random.default_rng(1)
    generated = []
    for frame in truth:
        moved = np.roll(frame, (1, 2), (0, 1))
        soft = cv2.GaussianBlur(moved, (0, 0), 1.2).astype(float) * [1.04, 1.0, 0.95]
        generated.append(np.clip(soft + random.normal(0, 4, soft.shape), 0, 255).astype(np.uint8))
    shutil.rmtree(FOLDER, ignore_errors=True)
    for k in range(len(truth)):
        for kind, picture in (
            ("truth", truth[k]),
            ("generated", generated[k]),
            ("mask", masks[k]),
        ):
            write_image(FOLDER / f"{kind}_{k}.png", picture)
    body = load_body("open")
    wanted = params.to_array().double().numpy()
    found = wanted + random.normal(0, 0.03, wanted.shape)
    posed = body.pose(params)
    joints = posed.joints[:, :24].double().numpy()
    keypoints = true_keypoints(posed.landmarks, params, SIZE)
    seen = keypoints.copy()
    seen[..., :2] += random.normal(0, 2, seen[..., :2].shape)
    seen[:, 4, 2] = 0
    known = {
        "num_pictures": len(truth),
        "licence": "CC0-1.0; drawn by iper synth, nobody is shown",
        "boxes": boxes_of_masks(masks).tolist(),
        "faces": faces_of_bodies(body, params, SIZE).tolist(),
        "keypoints": _rounded(seen, keypoints),
        "params": _rounded(found, wanted),
        "joints": _rounded(joints + random.normal(0, 0.02, joints.shape), joints),
    }
    (FOLDER / "expected.json").write_text(json.dumps(known | {"expected": {}}, indent=1) + "\n")


def _rounded(found: np.ndarray, wanted: np.ndarray) -> list[object]:
    return [np.round(one, 5).tolist() for one in (found, wanted)]


@click.command(help=__doc__)
@click.option("--values", is_flag=True, help="Keep the pictures.")
def main(values: bool) -> None:
    if not values:
        draw()
    golden = Golden.read(FOLDER)
    pairs = golden_pairs(golden)
    expected = {}
    for metric in METRICS.values():
        if not metric.window:
            expected[metric.name] = golden.score(metric, pairs[takes_random_weights(metric)])
            click.echo(f"{metric.name:24} {expected[metric.name]:.9g}")
    text = json.dumps(golden.known | {"expected": expected}, indent=1)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
