"""What a method does counts as its own failure: it dies, hangs, prints or exits, and others are drawn and scored."""

import json
import os
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.cli import main
from benchmarks.isolation import IsolatedMethod, load_for_run
from benchmarks.methods import Copy, RemoteFailure, load_method
from benchmarks.results import read_rows
from iper_toolkit import progress
from iper_toolkit.clip import Dataset
from iper_toolkit.protocols import Protocol

QUICK = ["--size", "48", "--metrics", "l1,l1_person"]
HEAD = """
import ctypes, os, random, signal, sys, threading, time
import numpy as np, torch


class Base:
    name, version, weights = "mine", "1", ""
    def setup(self, setup): self.size = setup.size
    def personalize(self, person): self.picture = person.pictures[0]
    def draw(self, motion):
        for _ in range(len(motion)): yield self.picture

"""


@pytest.fixture
def call(dataset: Any, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Dataset, "open", classmethod(lambda _, root: dataset))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "protocol").rename(tmp_path / "data" / "protocol")

    def invoke(body: str, *arguments: str) -> Result:
        (tmp_path / "mine.py").write_text(HEAD + textwrap.dedent(body))
        command = ["run", "--method", "mine.py:Mine", "--method", "copy", *QUICK, *arguments]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return invoke


def errors(done: Result) -> list[str]:
    return [one["error"] for one in json.loads(done.stdout)["failed"]]


def test_a_method_that_dies_or_hangs_fails_alone(call: Any) -> None:
    """Each of the four cases meets another fault; all of them count, and `copy` is scored on all."""
    done = call(
        """
        class Mine(Base):
            def draw(self, motion):
                fault = open("count").read() if os.path.exists("count") else ""
                open("count", "w").write(fault + "x")
                yield self.picture
                if fault == "": os._exit(0)
                if fault == "x": os.kill(os.getpid(), signal.SIGKILL)
                if fault == "xx": time.sleep(600)
                raise SystemExit("enough")
        """,
        "--time-limit",
        "8",
        "--json",
    )
    assert done.exit_code == 1
    found = errors(done)
    assert "ended by itself, with exit code 0" in found[0]
    assert "signal SIGKILL" in found[1]
    assert "no answer for 8 s and was ended; --time-limit" in found[2]
    assert found[3] == "SystemExit: enough"
    rows = read_rows(Path("runs/imitation-fake/rows.parquet")).to_pandas()
    ends = rows.groupby("method")["value"].agg(["size", "count"])
    assert ends.loc["copy", "count"] == ends.loc["copy", "size"] == ends.loc["mine", "size"]


@pytest.mark.slow
def test_what_a_method_changes_stays_with_it(call: Any, tmp_path: Path) -> None:
    done = call(
        """
        class Mine(Base):
            def setup(self, setup):
                print("hello", flush=True)
                os.system("echo from a shell")
                os.chdir("/")
                np.random.seed(1); random.seed(1)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                threading.Thread(target=time.sleep, args=(600,)).start()
                super().setup(setup)
        """,
        "--json",
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["complete"]
    assert Path.cwd() == tmp_path


@pytest.mark.slow
def test_a_method_that_cannot_be_made_or_set_up_stops_the_run(call: Any) -> None:
    for body, problem in [
        ("class Mine(Base):\n    def __init__(self): raise ValueError('no weights')", "no weights"),
        ("class Mine(Base):\n    def setup(self, setup): os._exit(3)", "exit code 3"),
        ("class Mine(Base):\n    def setup(self, setup): raise OSError('no GPU')", "no GPU"),
    ]:
        done = call(body)
        assert done.exit_code == 1
        assert problem in done.stderr
        assert not Path("runs").exists()


DRAWS_AT_RANDOM = """
    class Mine(Base):
        def personalize(self, person): self.shift = torch.randint(0, 99, ()).item()
        def draw(self, motion):
            for _ in range(len(motion)):
                noise = np.random.randint(0, 99, (self.size, self.size, 3)) + random.randrange(9)
                yield (noise + self.shift).astype(np.uint8)
"""


def test_random_numbers_are_those_of_one_process(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(DRAWS_AT_RANDOM, "--out", "apart").exit_code == 0
    monkeypatch.setattr("benchmarks.workers.load_for_run", lambda spec, **_: load_method(spec))
    assert call(DRAWS_AT_RANDOM, "--out", "together").exit_code == 0
    apart, together = (read_rows(Path(name) / "rows.parquet") for name in ("apart", "together"))
    assert apart.equals(together)


def test_baselines_and_folders_stay_in_the_process(tmp_path: Path) -> None:
    assert isinstance(load_for_run("mine=copy"), Copy)
    (tmp_path / "pictures").mkdir()
    assert not isinstance(load_for_run(f"folder:{tmp_path / 'pictures'}"), IsolatedMethod)
    with pytest.raises(ValueError, match="Unknown method 'nothing'"):
        load_for_run("nothing")


def test_a_child_ends_with_its_method(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HEAD + "class Mine(Base): pass\n")
    method = load_for_run(f"{tmp_path / 'mine.py'}:Mine", time_limit=60)
    assert isinstance(method, IsolatedMethod)
    assert method._child is not None
    number = method._child._process.pid
    os.kill(number, 0)
    method.close()
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_failure_keeps_where_it_was_raised() -> None:
    import pickle

    from benchmarks.methods import Failure

    failure = Failure("KeyError: 'x'", "Traceback ... line 3")
    error = pickle.loads(pickle.dumps(RemoteFailure("x", failure, "KeyError")))
    assert Failure.of(error) == failure
    assert (str(error), error.kind, error.is_plain) == ("x", "KeyError", False)


def test_what_a_method_reports_is_shown_as_done_here(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        HEAD
        + textwrap.dedent(
            """
            from iper_toolkit import progress

            class Mine(Base):
                inputs = ("frames", "keypoints")
                def personalize(self, person):
                    with progress.task("personalizing", 40, "step") as advance:
                        advance(11)
                        time.sleep(4)
            """
        )
    )
    method = load_for_run(f"{tmp_path / 'mine.py'}:Mine", time_limit=60)
    assert isinstance(method, IsolatedMethod)
    assert method.inputs == ("frames", "keypoints")
    seen: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            seen.append(progress.in_words(progress.running()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        method._teach("personalize", None)
    finally:
        ended.set()
        watcher.join()
    assert "personalizing: step 12 of 40" in seen
    assert progress.running() == []
    method.close()
