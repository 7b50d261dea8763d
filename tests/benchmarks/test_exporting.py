"""Cases as files: whatever a method needs is there, and what it writes beside is scored."""

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.footage import Footage
from benchmarks.results import read_rows
from iper_toolkit.clip import Clip, Dataset
from iper_toolkit.images import read_image, write_image
from iper_toolkit.protocols import Protocol

QUICK = ["--size", "48"]


@pytest.fixture
def call(dataset: Any, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "protocol").rename(tmp_path / "data" / "protocol")
    for clip in dataset.clips.values():
        points = np.zeros((clip.num_frames, 25, 3), np.float32)
        points[..., 0] = (
            clip.crop.left + np.arange(clip.num_frames)[:, None]
        )  # x: the frame's number
        points[..., 1:] = clip.crop.top, 1
        monkeypatch.setattr(clip, "keypoints", points, raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)

    return invoke


def test_a_method_that_is_driven_by_files_is_scored(call: Any, dataset: Any) -> None:
    done = call("export", "--task", "imitation", "--out", "cases", *QUICK)
    assert done.exit_code == 0, done.output
    about = json.loads(Path("cases/cases.json").read_text())
    assert [one["case"] for one in about["cases"]]
    for case in about["cases"]:
        clip = dataset.clip(case["driver"])
        keypoints = np.load(Path("cases", case["driver_keypoints"]))
        assert keypoints.shape == (case["pictures"], 25, 3)
        for line in case["frames"]:
            # Of 96 pixels a side are drawn 48, so x is half of the frame's number.
            assert keypoints[line["position"], 0].tolist() == [line["frame"] / 2, 0, 1]
            seen = read_image(Path("cases", line["driver_frame"]))
            np.testing.assert_array_equal(seen, clip.frames([line["frame"]], 48)[0])
            write_image(Path("cases", line["picture"]), seen)
        source = case["sources"][0]
        np.testing.assert_array_equal(
            read_image(Path("cases", source["pictures"][0])),
            dataset.clip(source["clip"]).frames(source["frames"], 48)[0],
        )
        assert read_image(Path("cases", source["masks"][0])).any()
        bodies = np.load(Path("cases", case["bodies"]))
        assert bodies["drawn_pose"].shape == (case["pictures"], 72)
    scored = call("score", "--pictures", "cases", "--name", "ours", "--metrics", "l1", *QUICK)
    assert scored.exit_code == 0, scored.output
    rows = read_rows(Path("runs/imitation-fake/rows.parquet")).to_pandas()
    assert len(rows) == 26  # the driver's frames are the truth of self-imitation
    assert (rows["value"] == 0).all()


def test_tables_have_plain_values(call: Any) -> None:
    assert call("export", "--out", "cases", "--max-frames", "3", *QUICK).exit_code == 0
    with Path("cases/frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3
    assert rows[0]["picture"] == f"{rows[0]['case']}/{int(rows[0]['position']):05d}.png"
    assert {row["scored"] for row in rows} == {"True"}
    with Path("cases/cases.csv").open(newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"self"}
    listed = json.loads(call("list", "cases", "--json").stdout)["cases"]["self/001_1_1"]
    assert listed["driver"] == "001/1/1"
    assert listed["sources"] == [{"clip": "001/1/1", "frames": [2], "parts": ["all"]}]
    assert listed["frames"] == list(range(9))


def test_an_export_goes_on_and_leaves_what_a_method_wrote(call: Any) -> None:
    assert call("export", "--out", "cases", *QUICK).exit_code == 0
    Path("cases/self/001_1_1/driver/00003.png").unlink()
    mine = Path("cases/self/001_1_1/00000.png")
    mine.write_bytes(b"mine")
    assert call("export", "--out", "cases", *QUICK).exit_code == 0
    assert Path("cases/self/001_1_1/driver/00003.png").is_file()
    assert mine.read_bytes() == b"mine"
    other = call("export", "--out", "cases", "--size", "64")
    assert other.exit_code == 1
    assert "size is 48, not 64" in other.output
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    refused = call("export", "--out", "full", *QUICK)
    assert refused.exit_code == 1
    assert "holds other files" in refused.output
    Path("cases/cases.json").write_text("[1]")
    assert "no list of exported cases" in call("export", "--out", "cases", *QUICK).output


DRIVEN = """
class Driven:
    name, version, weights, inputs = "driven", "1", "", {inputs}
    def setup(self, setup): pass
    def personalize(self, person): pass
    def draw(self, motion):
        for k in range(len(motion)):
            assert motion.keypoints().shape == (len(motion), 25, 3)
            yield motion.frames([k])[0]
"""


def test_a_class_that_asks_for_the_drivers_film_gets_it_and_run_json_says_so(call: Any) -> None:
    Path("mine.py").write_text(DRIVEN.format(inputs='("frames", "keypoints")'))
    done = call("run", "--method", "mine.py:Driven", "--method", "copy", "--metrics", "l1", *QUICK)
    assert done.exit_code == 0, done.output
    rows = read_rows(Path("runs/imitation-fake/rows.parquet")).to_pandas()
    assert (rows.loc[rows["method"] == "driven", "value"] == 0).all()
    told = json.loads(Path("runs/imitation-fake/run.json").read_text())["methods"]
    assert told["driven"]["inputs"] == ["frames", "keypoints"]
    assert told["copy"]["inputs"] == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [("()", "are not given"), ('("keypoints",)', "frames of self"), ('("truth",)', "inputs is")],
)
def test_who_does_not_ask_for_the_film_does_not_get_it(call: Any, inputs: str, said: str) -> None:
    Path("mine.py").write_text(DRIVEN.format(inputs=inputs))
    done = call("run", "--method", "mine.py:Driven", "--metrics", "l1", "--json", *QUICK)
    assert done.exit_code == 1
    assert said in done.output


def test_film_is_opened_anew_in_another_process(dataset: Any) -> None:
    clip = Clip(Path("root"), {"clip_id": "a"})
    clip.__dict__["_cursor"] = open  # stands for an open video: what cached_property leaves
    sent = Footage(clip, (3, 4), 16, ("frames",)).__getstate__()["clip"]
    assert isinstance(sent, Clip)
    assert "_cursor" not in sent.__dict__
    there = pickle.loads(pickle.dumps(Footage(clip, (3, 4), 16, ("frames",))))
    assert (there.numbers, there.clip.root) == ((3, 4), Path("root"))
