"""Names of others cannot act where they are printed, and lose nothing where they are read again."""

import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from iper_toolkit.csv_rows import read_csv_rows
from iper_toolkit.plain_text import (
    csv_cell,
    csv_row,
    json_text,
    markdown,
    read_cell,
    visible,
    without_places,
)
from iper_toolkit.protocols import load_protocol, write_protocol


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünï 人 👍", "plain Ünï 人 👍"),
        ("\x1b]0;title\x07red\x1b[31m", "\\x1b]0;title\\x07red\\x1b[31m"),
        ("a\nb\tc\r\x00", "a\\nb\\tc\\r\\x00"),
        ("\x9b31m", "\\x9b31m"),  # the same in eight bits
        ("abc\u202etxt.exe\u2066", "abc\\u202etxt.exe\\u2066"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("line\u2028end\x85", "line\\u2028end\\x85"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("not UTF-8 \udcff", "not UTF-8 \\udcff"),
        ("joined\u200cletters", "joined\u200cletters"),
    ],
)
def test_controls_are_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode("utf-8")


def test_what_is_kept_stays() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("a\nb", "a\\\\nb"),
        ("[x](http://y)", "\\[x\\](http\\://y)"),
        ("`code` *b* _i_ ~s~ $m$", "\\`code\\` \\*b\\* \\_i\\_ \\~s\\~ \\$m\\$"),
        ("&lt; @me #12", "&amp;lt; \\@me \\#12"),
        ("- item", "\\- item"),
        ("12. item", "12\\. item"),
        ("12.5", "12.5"),
        ("-0.25 ± 0.1", "-0.25 ± 0.1"),
        ("PSNR 21.5 (1) - warp: good", "PSNR 21.5 (1) - warp: good"),
    ],
)
def test_markdown_shows_the_text_as_it_is(text: str, written: str) -> None:
    assert markdown(text) == written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("OSError: /home/jane/data/clips/a/b.png: gone", "OSError: …/a/b.png: gone"),
        ("--method ours=folder:/home/jane/results --out=/Users/jane/x",
         "--method ours=folder:~/results --out=~/x"),
        ("run --root '/home/jane doe/my data/iPER/x'", "run --root '…/iPER/x'"),
        ("/root/.cache/iper/smpl/SMPL_NEUTRAL.pkl", "…/smpl/SMPL_NEUTRAL.pkl"),
        ("/root", "~"),
        ("(/mnt/secret/customer/set/x.mp4)", "(…/set/x.mp4)"),
        ("file:///home/jane/a/b/c", "…/b/c"),
        (r"C:\Users\jane\data\set\x.mp4", "…/set/x.mp4"),
        ("C:/Users/jane/x", "~/x"),
        ("/known folder (1)/of mine/deep/er/x.png is empty", "…/er/x.png is empty"),
        ("/known folder (1)/of mine", "…"),
        ("of https://github.com/a/b, and/or self/001_9_1, ../x/y/z ./a/b/c ~/a/b/c",
         "of https://github.com/a/b, and/or self/001_9_1, ../x/y/z ./a/b/c ~/a/b/c"),
        ("12 / 7 frames, px/frame, /dev/null", "12 / 7 frames, px/frame, /dev/null"),
    ],
)  # fmt: skip
def test_places_of_a_machine_are_not_told(text: str, shown: str) -> None:
    assert without_places(text, Path("/known folder (1)/of mine"), Path("/")) == shown


@pytest.mark.parametrize(
    "text", ["\x9b", "\u202e", "\udcff", "\U000e0041", "人\n\x1b\x7f", "plain"]
)
def test_json_is_the_same_content_and_safe_to_print(text: str) -> None:
    written = json_text({text: [text]}, indent=2)
    assert json.loads(written) == {text: [text]}
    assert visible(written, keep="\n") == written
    written.encode("utf-8")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "''=1", "'a", "a=1", "", "'"],
)  # fmt: skip
def test_no_cell_of_a_csv_file_is_computed(text: str, tmp_path: Path) -> None:
    written = csv_cell(text)
    assert not written.lstrip("\t\r\n ").startswith(("=", "+", "-", "@"))
    assert read_cell(written) == text
    file = io.StringIO()
    csv.writer(file).writerow(csv_row([text, -3, None, 1.5]))
    assert next(csv.reader(io.StringIO(file.getvalue(), newline="")))[1:] == ["-3", "", "1.5"]


class Row(NamedTuple):
    name: str
    number: int


def test_a_cell_is_read_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["name", "number"], csv_row(["=1+1", -3])])
    assert "'=1+1" in path.read_text()
    assert read_csv_rows(path, Row) == (Row("=1+1", -3),)


def test_a_protocol_of_a_clip_with_such_a_name_reads_as_it_was_written(tmp_path: Path) -> None:
    written = write_protocol(
        tmp_path / "protocol",
        id="p-v1",
        dataset="d",
        title="t",
        sources=[("=cmd/1/1", 1, 0, 2)],
        self_imitation=[("=cmd/1/1", 0, 3)],
    )
    assert "\n'=cmd/1/1" in (tmp_path / "protocol" / "self_imitation.csv").read_text()
    read = load_protocol(str(tmp_path / "protocol"))
    assert read.digest == written.digest
    assert "=cmd/1/1" in read.clips
