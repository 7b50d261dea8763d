"""The console scripts: quick help, the version, examples to copy."""

import subprocess
import sys
import time

import pytest

COMMANDS = {
    "iper_toolkit": ["synth", "prepare", "protocol", "check", "info", "preview"],
    "lwgan": ["imitate", "transfer", "view", "import-weights", "info"],
    "benchmarks": ["run", "score", "merge", "leaderboard", "report", "list"],
}
HELPS = [(package, command) for package, names in COMMANDS.items() for command in ["", *names]]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(("package", "command"), HELPS)
def test_help_shows_an_example(package: str, command: str) -> None:
    done = call(package, *filter(None, [command]), "--help")
    assert done.returncode == 0, done.stderr
    program = {"iper_toolkit": "iper", "lwgan": "lwgan", "benchmarks": "lwgan-bench"}[package]
    assert f"{program} {command}".strip() in done.stdout.split("Usage:", 1)[1].split("\n", 1)[1]


@pytest.mark.parametrize(("package", "command"), HELPS)
def test_help_imports_nothing_heavy(package: str, command: str) -> None:
    """What keeps `--help` under half a second; a clock would only measure this machine."""
    heavy = "torch numpy numba cv2 pandas pyarrow scipy av decord smplx safetensors".split()
    arguments = [*filter(None, [command]), "--help"]
    code = (
        f"import sys; from {package}.cli import main\n"
        f"try: main({arguments!r})\n"
        f"except SystemExit: pass\n"
        f"print('HEAVY', sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout, done.stdout[-300:]


@pytest.mark.parametrize("package", COMMANDS)
def test_version(package: str) -> None:
    from iper_toolkit import __version__

    assert __version__ in call(package, "--version").stdout


@pytest.mark.slow
@pytest.mark.parametrize(("package", "command"), HELPS)
def test_help_answers_at_once(package: str, command: str) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        call(package, *filter(None, [command]), "--help")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5
