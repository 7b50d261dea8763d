"""A method of anybody's: what a class must have, what it gets by default, and the template."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.footage import inputs_of
from benchmarks.isolation import load_for_run
from benchmarks.methods import load_method
from benchmarks.results import read_rows
from iper_toolkit.clip import Dataset
from iper_toolkit.protocols import Protocol

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_method.py"
LEAST = """
    class Mine:
        name = "mine"
        def personalize(self, person): self.picture = person.pictures[0]
        def draw(self, motion): return [self.picture] * len(motion)
"""


@pytest.fixture
def call(
    dataset: Any, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "protocol").rename(tmp_path / "data" / "protocol")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["run", "--size", "48", *arguments], catch_exceptions=False)

    return invoke


def _write(text: str) -> str:
    Path("mine.py").write_text(textwrap.dedent(text))
    return "mine.py:Mine"


def test_the_template_runs_from_the_command_line(call: Callable[..., Result]) -> None:
    done = call("--method", f"{EXAMPLE}:MyMethod", "--method", "copy", "--metrics", "l1")
    assert done.exit_code == 0, done.output
    rows = read_rows(Path("runs/imitation-fake/rows.parquet")).to_pylist()
    mine = [row for row in rows if row["method"] == "my-method"]
    assert {row["status"] for row in mine} == {"ok"}
    assert {row["method_version"] for row in mine} == {load_method(f"{EXAMPLE}:MyMethod").version}
    assert f"lwgan-bench report {Path.cwd() / 'runs' / 'imitation-fake'}" in done.stdout


def test_name_personalize_and_draw_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    method = load_method(_write(LEAST))
    assert (method.name, method.weights) == ("mine", "")
    assert method.version.startswith("source-")
    assert load_method("ours=mine.py:Mine").name == "ours"
    before = method.version
    assert load_method(_write(LEAST + "    # changed\n")).version != before
    assert load_method("ours=" + _write(LEAST.replace('name = "mine"', "pass"))).name == "ours"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', "pass", "lacks name"),
        ("def draw", "def paint", "lacks draw"),
        ("def personalize(self, person): self.picture = person.pictures[0]", "draw = 3", "lacks"),
        ('name = "mine"', 'name = 3; version = "1"', "name is 3, not text"),
        ('name = "mine"', '__slots__ = (); name = "mine"', "lacks version, and takes no attribute"),
    ],
)
def test_what_is_missing_is_named(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        load_method(_write(LEAST.replace(old, new)))


def test_a_method_in_a_process_of_its_own_tells_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = _write(LEAST.replace('name = "mine"', 'name, inputs = "mine", ("frames",)'))
    method = load_for_run(spec)
    assert inputs_of(method) == ("frames",)
    method.close()  # type: ignore[attr-defined]


def test_run_ends_with_one_line_on_what_is_missing(
    call: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path / "nothing"))
    done = call("--method", "copy", "--metrics", "l1,perceptual", "--device", "auto")
    assert done.exit_code == 0, done.output
    (told,) = [line for line in done.stderr.splitlines() if "not scored" in line]
    assert "iper assets --missing" in told
    assert "http" not in done.stderr
    assert json.loads(Path("runs/imitation-fake/run.json").read_text())["missing_metrics"]


def test_sizes_that_a_method_cannot_draw_are_refused_before_anything_is_loaded(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "open", lambda root: pytest.fail("the dataset was opened"))
    done = call("--method", "lwgan", "--method", "copy", "--size", "50")
    assert done.exit_code == 1
    assert "multiple of 8; it is 50. Take --size 48" in done.output
