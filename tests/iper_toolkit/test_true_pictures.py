"""True pictures beside a dataset's clips: their tables, and the cases made of them."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from iper_toolkit.body import Body, load_body
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import write_image
from iper_toolkit.protocols import load_protocol
from iper_toolkit.true_pictures import RedressedRow, TruePictures, TruthTables, TurnedRow


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("views.csv", "clip,frame\n", "it takes clip,frame,angle_degrees,picture"),
        (
            "views.csv",
            "clip,frame,angle_degrees,picture\na,b,0,c\n",
            "line 2: a,b,0,c: invalid literal",
        ),
        ("transfer.csv", "clip,outfit_from,frame,picture\na,b,0\n", "line 2: a,b,0 has 3 columns"),
    ],
)
def test_tables_that_cannot_be_read(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / name).write_text(text)
    tables, table = (
        TruthTables(tmp_path),
        {"views.csv": "turned", "transfer.csv": "redressed"}[name],
    )
    with pytest.raises(ValueError, match=said):
        getattr(tables, table)
    # Who does not need that table never meets its faults.
    assert getattr(tables, "turned" if table == "redressed" else "redressed") == ()


def test_a_root_without_truths_has_no_cases(tmp_path: Path) -> None:
    tables = TruthTables(tmp_path)
    protocol = load_protocol("iper-v1")
    assert tables.transfer_cases(protocol) == []
    assert tables.view_cases(protocol) == []


def test_cases_are_of_people_whom_the_protocol_has(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    lines = ["001/9/2,001/11,0,a/0.jpg", "001/9/2,004/1,4,b/4.jpg", "001/9/2,004/1,0,b/0.jpg"]
    (tmp_path / "truth" / "transfer.csv").write_text(
        "\n".join(["clip,outfit_from,frame,picture", *lines, "001/9/2,002/1,0,c/0.jpg"])
    )
    (tmp_path / "truth" / "views.csv").write_text(
        "clip,frame,angle_degrees,picture\n001/9/2,7,45,d/045.jpg\n001/9/2,7,0,d/000.jpg\n002/1/2,7,0,e/000.jpg\n"
    )
    protocol = load_protocol("iper-v1")
    tables = TruthTables(tmp_path)
    # An outfit of their own is the protocol's business; of 002 it lists no sources.
    (transfer,) = tables.transfer_cases(protocol, 2)
    assert transfer.key == "transfer/001_9_2-wears-004_1_1"
    assert transfer.frames == (0, 4)
    assert transfer.outfit_source_frames == protocol.source_frames("004/1/1", 2)
    (view,) = tables.view_cases(protocol)
    assert tables.transfers_left_out(protocol) == ("001/9/2 in the outfit 002/1",)
    assert tables.views_left_out(protocol) == ("002/1/2 at frame 7",)
    assert (view.key, view.instant, view.frames) == ("view/001_9_2-at-0007", 7, (0, 45))


@pytest.mark.parametrize(
    ("table", "lines", "said"),
    [
        ("transfer", ["001/9/2,004/1,-1,a/0.jpg"], "004/1,-1,a/0.jpg: frames count from 0"),
        ("views", ["001/9/2,-7,0,a/0.jpg"], "frames count from 0, and angles are 0 to 359"),
        ("views", ["001/9/2,7,360,a/0.jpg"], "angles are 0 to 359"),
        ("transfer", ["a/1/2,b/1,0,a/0.jpg", "a/1/2,b/1,0,a/1.jpg"], "in another line too"),
        ("transfer", ["a/1/2,b/1,0,a/0.jpg", "a/1/2,b/1,1,a/0.jpg"], "in another line too"),
        ("transfer", ["a/1/2,b/1,0,a/0.jpg", "a/1/2,b/1,1,b/1.jpg"], "lie in one folder"),
        ("views", ["a/1/2,0,0,a/0.jpg", "b/1/2,0,0,a/1.jpg"], "lie in one folder"),
    ],
)
def test_lines_that_contradict_each_other(
    table: str, lines: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "truth").mkdir()
    fields = {"transfer": RedressedRow, "views": TurnedRow}[table]._fields
    text = "\n".join([",".join(fields), *lines])
    (tmp_path / "truth" / f"{table}.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        _ = (TruthTables(tmp_path).redressed, TruthTables(tmp_path).turned)


@pytest.fixture
def around(tmp_path: Path) -> TruePictures:
    """Two sides of an instant, 40 x 30 pixels, of which the crop is 20 x 20."""
    body = load_body("open")
    files = {angle: tmp_path / f"{angle:03d}.png" for angle in (0, 180)}
    for angle, path in files.items():
        write_image(path, np.full((30, 40, 3), angle, np.uint8))
    np.savez(tmp_path / "masks.npz", masks=np.full((2, 30, 40), 255, np.uint8))
    write_fit(tmp_path, body, 2)
    return TruePictures(tmp_path, files, SquareCrop(10, 5, 20), (30, 40))


def write_fit(folder: Path, body: Body, count: int) -> None:
    width = {"cams": 3, "pose": 3 * body.num_joints, "shape": 10}
    arrays = {name: np.ones((count, size), np.float32) for name, size in width.items()}
    (folder / "pose_shape.pkl").write_bytes(
        pickle.dumps({**arrays, "body_id": body.id}, protocol=2)
    )


def test_pictures_masks_and_fits_belong_together(around: TruePictures) -> None:
    body = load_body("open")
    assert [picture.mean() for picture in around.frames([180, 0], 8)] == [180, 0]
    assert around.masks([180], 8).shape == (1, 8, 8)
    # The whole square is 40 wide, the crop 20 and in its middle: everything is twice as large.
    torch.testing.assert_close(around.params([0], body).camera[0, 0], torch.tensor(2.0))
    write_fit(around.folder, body, 3)
    with pytest.raises(ValueError, match=r"pose_shape.pkl holds 3 fits, and .* lists 2 pictures"):
        around.params([0], body)
    np.savez(around.folder / "masks.npz", masks=np.zeros((1, 30, 40), np.uint8))
    with pytest.raises(ValueError, match=r"masks.npz holds 1 masks, and .* lists 2 pictures"):
        replace(around).masks([0], 8)  # a fresh one: masks are read once


def test_pictures_of_another_size_are_not_cut(around: TruePictures) -> None:
    write_image(around.pictures[0], np.zeros((15, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"000.png is of 20 x 15 pixels.* frames are of 40 x 30"):
        around.frames([0], 8)
    np.savez(around.folder / "masks.npz", masks=np.zeros((2, 15, 20), np.uint8))
    with pytest.raises(ValueError, match=r"masks.npz is of 20 x 15 pixels.* are of 40 x 30"):
        around.masks([0], 8)
