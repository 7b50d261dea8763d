"""The lwgan-bench command on a small drawn dataset."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.results import read_rows
from iper_toolkit.clip import Dataset
from iper_toolkit.protocols import Protocol

QUICK = ["--size", "48", "--metrics", "l1,l1_person"]


@pytest.fixture
def call(dataset: Any, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command in a folder whose `data/` is the drawn dataset; `protocol` lies where it finds it."""
    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "protocol").rename(tmp_path / "data" / "protocol")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)

    return invoke


def test_run_prints_the_board_and_says_what_it_left_out(call: Any) -> None:
    done = call("run", "--task", "imitation", *QUICK)
    assert done.exit_code == 0, done.output
    assert "Self-imitation only" in done.stderr
    assert "[4/4]" in done.stderr
    assert "imitation, self, on fake (synthetic people): protocol fake-v1" in done.stdout
    assert "paired by person" in done.stdout
    assert "runs/imitation-fake: 4 cases, complete." in done.stdout
    assert {
        row["method"] for row in read_rows(Path("runs/imitation-fake/rows.parquet")).to_pylist()
    } == {
        "copy",
        "warp",
        "attlwb-small",
    }


def test_run_json_has_the_command_as_it_was_given(call: Any) -> None:
    arguments = ["run", "--method", "copy", "--out", "my run", *QUICK]
    assert call(*arguments).exit_code == 0
    about = json.loads(Path("my run/run.json").read_text())
    assert shlex.split(about["command"]) == ["lwgan-bench", *arguments]


def test_an_unreadable_clip_sets_the_exit_code_and_leaves_the_table(
    call: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(indices: Any, size: int) -> Any:
        raise OSError("flipped byte")

    monkeypatch.setattr(dataset.clip("002/1/2"), "frames", unreadable)
    done = call("run", "--method", "copy", *QUICK)
    assert done.exit_code == 1
    assert "2 people, 3 cases" in done.stdout
    assert "self/002_1_2: OSError: flipped byte" in done.stderr
    assert "not complete: 1 case could not be read" in done.stdout


def test_a_failure_sets_the_exit_code(call: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    name, version, weights = 'mine', '1', ''\n"
        "    def setup(self, setup): pass\n"
        "    def personalize(self, person): pass\n"
        "    def draw(self, motion): raise OSError('no weights')\n"
    )
    done = call("run", "--method", "mine.py:Mine", "--method", "copy", *QUICK, "--json")
    assert done.exit_code == 1
    content = json.loads(done.stdout)
    assert content["complete"]
    assert len(content["failed"]) == 4
    assert content["failed"][0]["error"] == "OSError: no weights"


def test_score_pictures_of_anybody(call: Any) -> None:
    assert call("run", "--method", "copy", "--keep", "all", *QUICK).exit_code == 0
    folder = "runs/imitation-fake/pictures/copy"
    done = call("score", "--pictures", folder, "--name", "theirs", "--out", "runs/theirs", *QUICK)
    assert done.exit_code == 0, done.output
    assert "theirs" in done.stdout
    merged = call("merge", "all.parquet", "runs/imitation-fake", "runs/theirs")
    assert merged.exit_code == 0
    assert len(read_rows(Path("all.parquet"))) == 2 * 26 * 2
    board = json.loads(call("leaderboard", "all.parquet", "--format", "json").stdout)
    copied, theirs = board["boards"][0]["entries"]
    assert (copied["method"], theirs["method"]) == ("copy", "theirs")
    assert [c["mean"]["mean"] for c in copied["cells"]] == [
        c["mean"]["mean"] for c in theirs["cells"]
    ]


def test_merging_replaces_nothing(call: Any) -> None:
    for name in ("one", "two"):
        assert call("run", "--method", f"{name}=copy", "--out", name, *QUICK).exit_code == 0
    assert call("merge", "a.parquet", "one").exit_code == 0
    kept = {
        path: path.read_bytes() for path in [Path("a.parquet"), *Path().glob("one/**/*.parquet")]
    }
    Path("link.parquet").symlink_to("nowhere.parquet")
    Path("b.sets.parquet").write_text("mine")
    for arguments in (
        ["a.parquet", "two"],  # the new file's name forgotten
        ["a.parquet", "a.parquet", "two"],
        ["one/rows.parquet", "one"],
        ["link.parquet", "two"],
        ["b.parquet", "two"],
    ):
        refused = call("merge", *arguments)
        assert refused.exit_code == 1, arguments
        assert "is there already" in refused.output
    told = call("merge", "a.parquet", "two").output
    assert "lwgan-bench merge NEW.parquet a.parquet two" in told
    for out in ("a.parquet", "one/rows.parquet", "one/sets.parquet"):
        Path("one/sets.parquet").write_bytes(kept[Path("a.parquet")])
        refused = call("leaderboard", "one", "--out", out)
        assert refused.exit_code == 1
        assert "text would destroy" in refused.output
    assert {path: path.read_bytes() for path in kept} == kept
    assert call("merge", "new.parquet", "a.parquet", "two").exit_code == 0
    assert len(read_rows(Path("new.parquet"))) == 2 * len(read_rows(Path("a.parquet")))


def test_a_given_picture_that_cannot_be_read_fails_its_case_alone(call: Any) -> None:
    assert call("run", "--method", "copy", "--keep", "all", *QUICK).exit_code == 0
    folder = Path("runs/imitation-fake/pictures/copy/self")
    (folder / "001_1_1" / "00001.png").unlink()
    (folder / "001_1_1" / "00001.png").symlink_to("nowhere.png")
    (folder / "002_1_2" / "3.png").write_bytes((folder / "002_1_2" / "00003.png").read_bytes())
    done = call("score", "--pictures", str(folder.parent), "--name", "theirs", "--json", *QUICK)
    assert done.exit_code == 1
    failed = {one["case"]: one["error"] for one in json.loads(done.stdout)["failed"]}
    assert set(failed) == {"self/001_1_1", "self/002_1_2"}
    assert "a link to nowhere.png, which is not there" in failed["self/001_1_1"]
    assert "are both picture 3" in failed["self/002_1_2"]


def test_leaderboard_of_two_runs_into_a_file(call: Any) -> None:
    assert call("run", "--method", "copy", "--out", "one", *QUICK).exit_code == 0
    assert call("run", "--method", "b=copy", "--out", "two", *QUICK).exit_code == 0
    done = call("leaderboard", "one", "two", "--format", "markdown", "--out", "table.md")
    assert done.exit_code == 0
    assert Path("table.md").read_text() == done.stdout
    assert done.stdout.count("| b |") == 1
    assert done.stdout.count("| b - copy |") == 1
    assert "74.53" not in done.stdout
    assert "74.53" in call("leaderboard", "one", "--published", "all").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--method", "wrap"], "Unknown method 'wrap'"),
        (["run", "--metrics", "beauty"], "Unknown metrics beauty"),
        (["run", "--shard", "4/4"], "shard is '4/4'"),
        (
            ["run", "--subjects", "003,009", *QUICK],
            "--subjects names 009, of whom there is no case",
        ),
        (["score", "--pictures", "data", "--name", "a b"], "'a b' cannot name a method"),
        (["score", "--pictures", "/"], "'' cannot name a method"),
        (["score", "--pictures", "data", "--name", "warp", *QUICK], "name of a built-in method"),
        (["run", "--num-sources", "5", *QUICK], "lists no 5 sources"),
        (["run", "--protocol", "nothing", *QUICK], "No protocol 'nothing'"),
        (["leaderboard", "data"], "not finished"),
        (["run", "--task", "transfer", *QUICK], "0 cases of this kind (own, other)"),
        (["run", "--task", "view", "--kind", "self"], "Task view has no kind 'self'"),
        (["run", "--device", "foo", *QUICK], "There is no device 'foo'; --device takes cpu"),
        (["run", "--device", "cuda:99", *QUICK], "--device cuda:99: there "),
    ],
)
def test_mistakes_are_answered_in_a_sentence(call: Any, arguments: list[str], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output


def test_lists(call: Any) -> None:
    everything = json.loads(call("list", "--json").stdout)
    assert set(everything) == {"methods", "metrics", "protocols"}
    assert "iper-v1" in everything["protocols"]
    assert "warp" in everything["methods"]
    cases = json.loads(call("list", "cases", "--json").stdout)["cases"]
    assert "self/001_1_1" in cases
    assert len(cases) == 5
    assert "self/001_9_1" in call("list", "cases", "--protocol", "iper-v1").stdout


def test_an_early_mistake_is_json_too(call: Any) -> None:
    done = call("run", "--method", "wrap", "--json", *QUICK)
    assert done.exit_code == 1
    assert "Unknown method 'wrap'" in json.loads(done.stdout)["error"]


def test_a_method_may_change_the_working_folder(call: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from benchmarks.methods import Copy\n"
        "class Mine(Copy):\n"
        "    name = 'mine'\n"
        "    def __init__(self): os.chdir('elsewhere')\n"
    )
    done = call("run", "--method", "mine.py:Mine", "--out", "out", *QUICK)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "rows.parquet").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_clip_without_a_scored_frame_is_told(call: Any, dataset: Any) -> None:
    dataset.clip("002/1/2").valid[:] = False
    dataset.clip("002/1/2").valid[2] = True  # its source alone
    done = call("run", "--method", "copy", *QUICK)
    assert done.exit_code == 0, done.output
    assert "1 without a frame to score" in done.stderr
    assert "self/002_1_2: 7 frames" in done.stderr


def test_a_run_without_a_table_is_no_success(call: Any, dataset: Any) -> None:
    for clip in dataset.clips.values():
        clip.valid[:] = False
        clip.valid[2] = True  # the source alone
    done = call("run", "--method", "copy", *QUICK)
    assert done.exit_code == 1
    assert "There is no table: not one frame could be scored." in done.stderr


def test_kinds_of_which_some_people_have_no_case(call: Any) -> None:
    done = call("run", "--kind", "all", "--subjects", "003", "--method", "copy", *QUICK)
    assert "No case of kind cross of these --subjects in this dataset and protocol" in done.stderr
