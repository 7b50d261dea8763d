"""Writing: whole or not there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iper_toolkit.atomic import (
    PART_PREFIX,
    WriteError,
    locked,
    move_into_place,
    part_folder,
    remove_dead_parts,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.txt"]


def test_the_part_keeps_the_suffix(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(part: Path) -> None:
        seen.append(part)
        part.write_bytes(b"x")

    write_atomically(tmp_path / "new folder" / "ü.mp4", write)
    assert seen[0].suffix == ".mp4"
    assert (tmp_path / "new folder" / "ü.mp4").read_bytes() == b"x"


def test_a_full_disk_names_file_and_remedy(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    with pytest.raises(WriteError, match=r"table\.txt: the disk is full: free some space"):
        write_atomically(tmp_path / "table.txt", fail)
    assert os.listdir(tmp_path) == []


def test_the_device_that_is_always_full(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")

    def write(part: Path) -> None:
        part.symlink_to("/dev/full")
        with part.open("wb") as file:
            file.write(b"x" * 10)

    with pytest.raises(WriteError, match="the disk is full"):
        write_atomically(tmp_path / "file.bin", write)
    assert os.listdir(tmp_path) == []


def test_part_folders_vanish_and_files_move_out(tmp_path: Path) -> None:
    with part_folder(tmp_path / "clip") as part:
        (part / "a.txt").write_text("a")
        (part / "b.txt").write_text("b")
        move_into_place(part / "a.txt", tmp_path / "clip" / "a.txt")
    assert os.listdir(tmp_path / "clip") == ["a.txt"]


def test_only_parts_of_dead_processes_are_removed(tmp_path: Path) -> None:
    code = "from iper_toolkit.atomic import _part_name; print(_part_name())"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / f"{dead}folder").mkdir()
    (tmp_path / f"{dead}file").write_text("")
    elsewhere = tmp_path / f"{PART_PREFIX}another-machine~1~folder"
    elsewhere.mkdir()
    with part_folder(tmp_path) as alive:
        remove_dead_parts(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere])


def test_the_lock_keeps_others_out_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib, time; from iper_toolkit.atomic import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    import fcntl

    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with locked(path):
        assert path.exists()
