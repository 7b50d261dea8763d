"""`make demo`: which commands it gives, and what it says of itself. (The commands have tests of their own.)"""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

SCRIPT = Path(__file__).parent.parent / "scripts" / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo_script", module)  # where dataclasses look
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "measure_probe", lambda: 0.02)
    return module


@pytest.fixture
def given(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that are given, none of which is run."""
    commands: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...]) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(
            command, 3 if command[3] == "prepare" and "fails/data" in command else 0
        )

    monkeypatch.setattr(demo.subprocess, "run", run)
    return commands


def test_it_shows_all_tasks_and_learns_people_who_are_drawn_alone(demo: ModuleType) -> None:
    run = demo.steps(Path("x"), full=False, workers=2)[2].command
    methods = [word for flag, word in itertools.pairwise(run) if flag == "--method"]
    assert run[run.index("--task") + 1] == "all"
    assert methods == [
        "copy",
        "warp",
        "attlwb-small=lwgan:attlwb-small",
        "personalized=lwgan:attlwb-small+quick-alone",
    ]
    full = demo.steps(Path("x"), full=True, workers=2)[2].command
    assert "personalized=lwgan:attlwb-small+quick" in full
    assert "input-concat=lwgan:input-concat-small" in full


def test_it_ends_with_the_report_and_the_time(
    demo: ModuleType, given: list[tuple[str, ...]]
) -> None:
    done = CliRunner().invoke(demo.main, ["--out", "there"])
    assert done.exit_code == 0, done.output
    assert [command[3] for command in given] == ["synth", "prepare", "run", "report"]
    last = done.output.splitlines()[-2:]
    assert last[0] == f"Report: {Path('there/run/report/index.html')}"
    assert "of CPU (synth " in last[1]
    assert "by the clock" in last[1]


def test_the_full_one_says_first_how_long_it_takes(
    demo: ModuleType, given: list[tuple[str, ...]]
) -> None:
    said = CliRunner().invoke(demo.main, ["--estimate"]).output
    assert given == []
    assert "demo-full takes about" in said
    assert "of CPU" in said
    assert CliRunner().invoke(demo.main, ["--full", "--out", "there"]).output.startswith(said)
    # A machine half as fast takes twice as long.
    assert demo.estimate_full(0.04) == pytest.approx(2 * demo.estimate_full(0.02))
    assert demo.estimate_full(0.02) > 0


def test_a_step_that_fails_ends_it(demo: ModuleType, given: list[tuple[str, ...]]) -> None:
    done = CliRunner().invoke(demo.main, ["--out", "fails"])
    assert done.exit_code == 3
    assert "prepare ended with exit code 3" in done.output
    assert [command[3] for command in given] == ["synth", "prepare"]
    assert "Report:" not in done.output
