"""True pictures beside a dataset's clips: their tables, and the cases made of them."""

from pathlib import Path

import pytest

from iper_toolkit.protocols import load_protocol
from iper_toolkit.true_pictures import TruthTables


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
    assert (view.key, view.instant, view.frames) == ("view/001_9_2-at-0007", 7, (0, 45))
