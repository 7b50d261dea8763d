"""What all commands do in the same way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from iper_toolkit.console import FOLDER, Commands, FileOrWord, Spec, in_words
from iper_toolkit.folders import NoHome, cache_folder, expanded, home_folder


@click.group("tool", cls=Commands)
def tool() -> None:
    """A tool."""


@tool.command()
@click.option("--root", type=FOLDER)
@click.option("--body", type=FileOrWord())
@click.option("--method", type=Spec())
def paths(**given: object) -> None:
    click.echo(json.dumps({name: str(value) for name, value in given.items()}))


ERRORS = {
    "value": ValueError("size is 3; it takes 8 or more."),
    "key": KeyError("digests"),
    "type": TypeError("unsupported operand"),
    "memory": MemoryError(),
    "torch": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "disk": OSError(28, "No space left on device", "/data/x.png"),
    "cut": EOFError("Ran out of input"),
}


@tool.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
@click.option("--count", type=click.IntRange(1))
def fail(name: str, **given: object) -> None:
    raise ERRORS[name]


@tool.command()
@click.option("--json", "as_json", is_flag=True)
@click.argument("number", type=int)
def end(number: int, as_json: bool) -> None:
    os.kill(os.getpid(), number)
    signal.sigtimedwait([], 5)


def test_paths_open_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["paths", "--root=~/people", "--body=~/b.pkl", "--method=ours=folder:~/x"]
    found = json.loads(CliRunner().invoke(tool, arguments).stdout)
    assert found["root"] == str(tmp_path / "people")
    assert found["body"] == str(tmp_path / "b.pkl")
    assert found["method"] == f"ours=folder:{tmp_path}/x"
    monkeypatch.setenv("IPER_CACHE", "~/elsewhere")
    assert cache_folder("IPER_CACHE") == tmp_path / "elsewhere"
    monkeypatch.setenv("IPER_CACHE", "")
    assert cache_folder("IPER_CACHE") == tmp_path / ".cache" / "iper"


def test_a_user_nobody_knows_is_an_error() -> None:
    result = CliRunner().invoke(tool, ["paths", "--root=~nobody-of-this-name/x"])
    assert result.exit_code == 2
    assert "there is no user of this name" in result.stderr


def test_without_a_home_the_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("IPER_ASSETS", raising=False)
    monkeypatch.setattr("iper_toolkit.folders._user", lambda: "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(NoHome, match=r"HOME is not set.*set HOME, or IPER_ASSETS to a folder"):
        cache_folder("IPER_ASSETS")
    with pytest.raises(NoHome, match="write the path in full"):
        expanded("~/x")
    monkeypatch.setenv("HOME", "/home/me")
    assert home_folder() == Path("/home/me")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("value", "size is 3; it takes 8 or more."),
        ("key", "a fault of the program, not of yours: KeyError: digests (test_console.py, line"),
        ("type", "a fault of the program, not of yours: TypeError: unsupported operand"),
        ("memory", "The memory is not enough."),
        ("torch", "The memory is not enough ("),
        ("disk", "/data/x.png: the disk is full"),
        ("cut", "EOFError: Ran out of input"),
    ],
)
def test_errors_are_sentences_and_json(name: str, wanted: str) -> None:
    result = CliRunner().invoke(tool, ["fail", name, "--json"])
    assert result.exit_code == 1
    assert wanted in json.loads(result.stdout)["error"]
    assert wanted in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["fail", "value", "--count", "0"], ["fail"], ["fail", "value", "--no-such"]]
)
def test_errors_of_usage_are_json_too(arguments: list[str]) -> None:
    result = CliRunner().invoke(tool, [*arguments, "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] in " ".join(result.stderr.split())


def test_the_traceback_is_shown_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPER_DEBUG", "1")
    assert "Traceback" in CliRunner().invoke(tool, ["fail", "type"]).stderr


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_and_name_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    result = CliRunner().invoke(tool, ["end", str(int(number)), "--json"])
    assert result.exit_code == 128 + number
    assert f"To go on, run again: tool end {int(number)} --json" in result.stderr
    assert json.loads(result.stdout)["error"] in result.stderr
    assert signal.getsignal(number) is before


SAY = """
import sys
import click
from iper_toolkit.console import Commands, print_json

@click.group("tool", cls=Commands)
def tool(): pass

@tool.command()
def say():
    click.echo("higher \\u2191, lower \\u2193, Mar\\u00eda, \\u5f20")
    click.echo("\\u2192", err=True)

@tool.command()
def told():
    print_json(name="\\u5f20")

@tool.command()
def many():
    for number in range(100_000):
        click.echo(f"line {number}")

tool()
"""


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_streams_that_cannot_carry_a_character(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "say.py").write_text(SAY)
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, tmp_path / "say.py"]
    done = subprocess.run([*command, "say"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(encoding)
    assert said.startswith("higher ^, lower v, Mar")
    assert done.stderr.decode(encoding).strip() == "->"
    done = subprocess.run([*command, "told"], env=environment, capture_output=True)
    assert json.loads(done.stdout) == {"name": "\u5f20"}


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(SAY)
    script = f'set -o pipefail; "{sys.executable}" "{tmp_path}/say.py" many | head -n 1'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("line 0\n", "")
    assert done.returncode == 141


def test_errors_without_a_file_name() -> None:
    assert "the disk is full" in in_words(OSError(28, "No space left on device"))


def test_ascii_streams_stop_nothing(tmp_path: Path) -> None:
    """click takes them for a mistake of the environment, and writes UTF-8."""
    (tmp_path / "say.py").write_text(SAY)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, tmp_path / "say.py", "say"]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
