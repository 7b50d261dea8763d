"""The pool of processes, and what the death of a worker means."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iper_toolkit.processes import (
    NoMainGuard,
    Pool,
    WorkerDied,
    death_in_words,
    loader_death,
    shared_memory_error,
)

# Workers import this module by its name, which another installed package may have; so the jobs are in a file of its own.
JOBS = """
import os, signal, sys, time
from pathlib import Path

def nothing():
    pass

def job(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(0)
    if what == "exit":
        sys.exit(3)
    if what == "raise":
        raise KeyError("no such key")
    if isinstance(what, Path):
        what.write_text(str(os.getpid()))
        time.sleep(60)
    return what
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "the_jobs.py").write_text(JOBS)
    return tmp_path / "script.py"


HEAD = "import sys, signal, time\nfrom pathlib import Path\nfrom iper_toolkit.processes import Pool\nimport the_jobs\n"


def test_each_job_ends_for_itself(script: Path) -> None:
    script.write_text(
        HEAD
        + """
if __name__ == "__main__":
    with Pool(2, start=the_jobs.nothing) as pool:
        for ended in pool.run(the_jobs.job, ["kill", 1, "leave", 2, "exit", "raise", 3]):
            print(ended.job, "|", ended.value, "|", type(ended.error).__name__, ended.error)
        print([one.value for one in pool.run_in_order(the_jobs.job, range(9), ahead=2)])
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" | ", 1) for line in done.stdout.splitlines()[:-1])
    assert [lines[str(n)] for n in (1, 2, 3)] == [f"{n} | NoneType None" for n in (1, 2, 3)]
    assert (
        "WorkerDied A worker process was killed (SIGKILL): most often the memory" in lines["kill"]
    )
    assert "WorkerDied A worker process ended with exit code 0 before" in lines["leave"]
    assert "RuntimeError the job called exit (3)" in lines["exit"]
    assert "KeyError 'no such key'" in lines["raise"]
    assert done.stdout.splitlines()[-1] == str(list(range(9)))
    assert done.stderr == ""


def test_a_script_without_a_guard_is_told_so_once(script: Path) -> None:
    script.write_text(
        HEAD
        + """
with Pool(2, start=the_jobs.nothing) as pool:
    print([ended.result() for ended in pool.run(the_jobs.job, [1, 2, 3])])
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1  # the script's own
    assert 'the script lacks `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    assert "memory" not in done.stderr


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie, whose parent was killed before it could look, is dead.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(script: Path, number: signal.Signals) -> None:
    script.write_text(
        HEAD
        + """
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with Pool(2, start=the_jobs.nothing) as pool:
        list(pool.run(the_jobs.job, [folder / "a", folder / "b"]))
"""
    )
    parent = subprocess.Popen([sys.executable, script, script.parent], stderr=subprocess.DEVNULL)
    files = [script.parent / "a", script.parent / "b"]
    until = time.monotonic() + 30
    while not all(file.exists() and file.read_text() for file in files):
        assert parent.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    workers = [int(file.read_text()) for file in files]
    parent.send_signal(number)
    begun = time.monotonic()
    while any(map(is_alive, workers)):
        assert time.monotonic() - begun < 2.0
        time.sleep(0.02)
    parent.wait(5)


def test_deaths_in_words() -> None:
    assert "memory was not enough" in death_in_words(-signal.SIGKILL)
    assert "shared memory is full (/dev/shm" in death_in_words(-signal.SIGBUS)
    assert "memory" not in death_in_words(-signal.SIGSEGV)
    assert death_in_words(-signal.SIGTERM) == "was ended from outside (SIGTERM)."
    assert "exit code 3" in death_in_words(3)


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", WorkerDied, "memory was not"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It", WorkerDied, "--shm-size"),
        (
            "DataLoader worker (pid 7) exited unexpectedly with exit code 87. D",
            NoMainGuard,
            "guard",
        ),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", WorkerDied, "before its job was done"),
    ],
)
def test_deaths_of_loaders_in_the_same_words(text: str, kind: type, wanted: str) -> None:
    found = loader_death(RuntimeError(text))
    assert type(found) is kind
    assert wanted.replace("guard", "__main__") in str(found)
    assert loader_death(RuntimeError("shapes differ")) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_7_8>: No space left on device (28)"
        ),
        RuntimeError("unable to write to file </torch_7_8>: No space left on device (28)"),
        OSError(28, "No space left on device", "/dev/shm/psm_7"),
    ],
)
def test_full_shared_memory_is_neither_disk_nor_memory(error: Exception) -> None:
    assert "Shared memory is full" in str(shared_memory_error(error))
    assert shared_memory_error(OSError(28, "No space left on device", "/data/x.png")) is None
    assert shared_memory_error(MemoryError("Unable to allocate 3 GiB")) is None


def test_a_pool_takes_a_worker_at_least() -> None:
    with pytest.raises(ValueError, match="takes at least 1"):
        Pool(0)
