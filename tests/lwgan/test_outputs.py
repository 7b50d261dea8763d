"""Files of drawn pictures: whole or not there, several in one pass."""

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from iper_toolkit.atomic import PART_PREFIX
from iper_toolkit.images import read_image
from iper_toolkit.video import probe, read_frames
from lwgan.outputs import (
    Files,
    check_output,
    check_outputs,
    fan_out,
    mosaic,
    output_kind,
    side_by_side,
    write_files,
    write_output,
)
from lwgan.provenance import Provenance, read_provenance
from lwgan.synthesis import Drawn

RECORD = Provenance(
    task="imitate",
    weights={"random": True, "sha256": "ab"},
    body={},
    people=(),
    motion=(),
    settings={},
    created="2026-11-20T12:00:00+00:00",
)
SIZE = 32


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [np.full((SIZE, SIZE, 3), 40 * (number + 1), np.uint8) for number in range(count)]


def drawn(count: int) -> Iterator[Drawn]:
    for picture in pictures(count):
        yield Drawn(picture=picture, mask=picture[..., 0], texture=255 - picture)


def broken(count: int) -> Iterator[NDArray[np.uint8]]:
    yield from pictures(count)
    raise RuntimeError("the network broke")


# --------------------------------------------------------------------------------------- one output


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.png", "frames"])
@pytest.mark.parametrize("sidecar", [True, False])
def test_outputs_read_back(tmp_path: Path, name: str, sidecar: bool) -> None:
    out = tmp_path / "new" / name
    count = 1 if name == "x.png" else 3
    written = write_output(out, pictures(count), 12.5, RECORD, sidecar=sidecar)
    assert (written.path, written.num_frames) == (out, count)
    if output_kind(out) == "video":
        assert (probe(out).num_frames, probe(out).fps) == (count, 12.5)
        found = list(read_frames(out))
    else:
        files = [out] if name == "x.png" else [out / f"{n:05d}.png" for n in range(count)]
        found = [read_image(path) for path in files]
    np.testing.assert_allclose(found, pictures(count), atol=2)  # of yuv
    assert read_provenance(out) == RECORD.to_json() | {"people": [], "motion": []}
    assert (written.sidecar is not None) == sidecar
    assert len(list(tmp_path.rglob("*.json"))) == sidecar


@pytest.mark.parametrize("name", ["x.mp4", "frames"])
def test_a_failure_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match="the network broke"):
        write_output(tmp_path / name, broken(2), 25, RECORD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.mp4", "frames"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    """A half-drawn output never takes the place of a whole one."""
    out = tmp_path / name
    write_output(out, pictures(3), 25, RECORD)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RuntimeError, match="the network broke"):
        write_output(out, broken(2), 25, RECORD)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after


def test_a_shorter_output_leaves_no_frames_of_the_longer_one(tmp_path: Path) -> None:
    write_output(tmp_path / "frames", pictures(3), 25, RECORD)
    check_output(tmp_path / "frames", 2, overwrite=True)
    write_output(tmp_path / "frames", pictures(2), 25, RECORD, sidecar=False, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        "00000.png",
        "00001.png",
    ]


def test_what_cannot_be_written_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").touch()
    (tmp_path / "told.png.json").touch()
    (tmp_path / "plain").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mother.png").touch()
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "00000.png").touch()
    (tmp_path / "folder.mp4").mkdir()
    cases = [
        ("there.mp4", 3, False, FileExistsError, "there.mp4 exists.*--overwrite"),
        ("told.png", 1, False, FileExistsError, "told.png.json exists"),
        ("plain", 3, True, FileExistsError, "is a file"),
        ("photos", 3, True, FileExistsError, r"holds other files \(mother.png\)"),
        ("frames", 3, False, FileExistsError, "not empty.*--overwrite"),
        ("folder.mp4", 3, True, FileExistsError, "is a folder"),
        ("x.png", 3, True, ValueError, "holds one picture, but 3 are drawn.*x.mp4"),
        ("x.gif", 3, True, ValueError, ".gif is not written"),
    ]
    for name, count, overwrite, error, message in cases:
        with pytest.raises(error, match=message):
            check_output(tmp_path / name, count, overwrite=overwrite)
    for name, count, overwrite in [
        ("there.mp4", 3, True),
        ("frames", 3, True),
        ("new", 3, False),
        ("x.png", 1, False),
    ]:
        check_output(tmp_path / name, count, overwrite=overwrite)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.mp4", "x.mp4"], "Two outputs are called"),
        (["x.mp4", "y/../x.mp4"], "Two outputs are called"),
        (["fo", "fo/00000.png"], "00000.png lies in .*fo, a folder of frames"),
        (["fo/inputs/x.mp4", "fo"], "lies in"),
        (["fo/inputs", "fo"], "lies in"),
    ],
)
def test_outputs_in_each_others_way(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_outputs([tmp_path / name for name in names], overwrite=True)
    check_outputs([tmp_path / name for name in ("fo", "fo2", "fo.mp4", "x/y.mp4")], overwrite=False)
    assert not list(tmp_path.iterdir())


def test_places_that_nobody_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is a file. Name it elsewhere"):
        check_output(tmp_path / "file" / "x.mp4", None, overwrite=False)

    def forbid(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", forbid)
    for name in ("x.mp4", "new/folder"):
        with pytest.raises(PermissionError, match=f"{name} cannot be written.*an output elsewhere"):
            check_output(tmp_path / name, None, overwrite=False)


@pytest.mark.parametrize("name", ["x.mp4", "x.png", "frames"])
def test_what_another_process_wrote_meanwhile_stays(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    count = 1 if name == "x.png" else 2

    slow = tmp_path / "slow"
    with pytest.raises(FileExistsError, match="appeared while it was drawn"):
        write_files(Files(slow, out), raced(out, count), 25, RECORD, sources=np.stack(pictures(1)))
    found = (
        next(iter(read_frames(out)))
        if name == "x.mp4"
        else read_image(out / "00000.png" if name == "frames" else out)
    )
    np.testing.assert_allclose(found, 255 - 40, atol=2)
    assert not slow.exists()


def raced(out: Path, count: int) -> Iterator[Drawn]:
    """Drawn frames, while somebody else writes the inverse of them to `out`."""
    yield from drawn(count)
    code = (
        "import numpy as np; from pathlib import Path; from lwgan.outputs import write_output; "
        "from lwgan.provenance import Provenance\n"
        f"write_output(Path({str(out)!r}), [np.full((32, 32, 3), 215, np.uint8)] * {count}, 25, "
        "Provenance('view', {'random': True}, {}, (), (), {}, ''))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["x.mp4", "frames"])
def test_what_a_kill_left_is_neither_read_nor_kept(tmp_path: Path, name: str) -> None:
    """A process that is killed in the middle cannot tidy up; the next run does."""
    code = (
        "import os, numpy as np; from pathlib import Path; from lwgan.outputs import write_output; "
        "from lwgan.provenance import Provenance\n"
        "def frames():\n"
        "    noise = np.random.default_rng(0)\n"
        "    for _ in range(99):\n"  # enough that the encoder has written some
        "        yield noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)\n"
        "    os._exit(9)\n"
        f"write_output(Path({str(tmp_path / name)!r}), frames(), 25, "
        "Provenance('view', {'random': True}, {}, (), (), {}, ''))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert left
    assert all(any(part.startswith(PART_PREFIX) for part in path.parts) for path in left)
    check_output(tmp_path / name, 3, overwrite=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------ several at once


def test_all_files_of_a_plan(tmp_path: Path) -> None:
    files = Files(tmp_path / "x.mp4", tmp_path / "inputs", tmp_path / "compare.mp4")
    sources = np.stack(pictures(2))
    written = write_files(
        files, drawn(3), 25, RECORD, sources=sources, motion=iter(pictures(3)), sidecar=False
    )
    assert [(one.path, one.num_frames) for one in written] == [(p, 3) for p in files.paths()]
    np.testing.assert_array_equal(read_image(tmp_path / "inputs" / "00002.png"), 255 - 120)
    info = probe(tmp_path / "compare.mp4")
    assert (info.width, info.height) == (SIZE // 2 + 10 + SIZE + 10 + SIZE, SIZE)
    contents = [read_provenance(path)["content"] for path in files.paths()]
    assert contents == ["result", "texture-warped inputs", "comparison"]


def test_all_files_of_a_plan_or_none(tmp_path: Path) -> None:
    """The second output fails at its very last frame, when the first one is complete."""
    files = Files(tmp_path / "ok.mp4", tmp_path / "new" / "inputs.mp4")

    def odd() -> Iterator[Drawn]:
        yield from drawn(2)
        (last,) = drawn(1)
        yield replace(last, texture=last.texture[..., :2])

    with pytest.raises(ValueError, match="shape"):
        write_files(files, odd(), 25, RECORD, sources=np.stack(pictures(1)))
    assert not list(tmp_path.iterdir())


def test_a_comparison_needs_a_motion_picture_for_every_frame(tmp_path: Path) -> None:
    files = Files(tmp_path / "x.mp4", comparison=tmp_path / "compare.mp4")
    sources = np.stack(pictures(1))
    with pytest.raises(ValueError, match="shorter"):
        write_files(files, drawn(3), 25, RECORD, sources=sources, motion=iter(pictures(2)))
    assert not list(tmp_path.iterdir())


def test_names_of_several_plans() -> None:
    files = Files(Path("a/x.mp4"), Path("inputs")).of("view -90.5")
    assert files == Files(Path("a/x_view-90_5.mp4"), Path("inputs_view-90_5"))


def test_columns_go_to_their_consumers() -> None:
    rows = [(number, -number) for number in range(100)]
    assert fan_out(rows, [sum, list]) == [4950, [-n for n in range(100)]]
    assert fan_out(rows, [lambda column: next(column), max]) == [0, 0]  # one stops early


def test_consumers_run_beside_the_producer() -> None:
    """A row is consumed while later ones are not made yet."""
    consumed = threading.Event()

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        assert consumed.wait(10), "the first row waited for the last one"
        yield (2,)

    def consume(column: Iterator[int]) -> int:
        first = next(column)
        consumed.set()
        return first + sum(column)

    assert fan_out(rows(), [consume]) == [3]


def test_a_failing_consumer_ends_all() -> None:
    made = 0
    ended: list[str] = []

    def rows() -> Iterator[tuple[int, int]]:
        nonlocal made
        for made in range(1, 10_000):
            yield made, made

    def fail(column: Iterator[int]) -> None:
        next(column)
        raise OSError("disk full")

    def collect(column: Iterator[int]) -> list[int]:
        try:
            return list(column)
        except RuntimeError:
            ended.append("told")
            raise

    with pytest.raises(OSError, match="disk full"):
        fan_out(rows(), [collect, fail])
    assert ended == ["told"]
    assert made < 9_999


def test_a_failing_producer_tells_its_consumers(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[NDArray[np.uint8]]]:
        for picture in broken(3):
            yield (picture,)

    with pytest.raises(RuntimeError, match="the network broke"):
        fan_out(rows(), [lambda column: write_output(tmp_path / "x.mp4", column, 25, RECORD)])
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------- side by side


@pytest.mark.parametrize(
    ("count", "width"), [(1, 48), (2, 24), (3, 48), (4, 48), (5, 32), (8, 48), (9, 48), (10, 36)]
)
def test_every_source_is_in_the_mosaic(count: int, width: int) -> None:
    shown = mosaic([np.full((48, 48, 3), 20 * (n + 1), np.uint8) for n in range(count)], 48)
    assert shown.shape == (48, width, 3)
    assert set(np.unique(shown)) - {0} == {20 * (n + 1) for n in range(count)}


def test_one_source_is_shown_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mosaic([picture], 48), picture)
    joined = side_by_side(picture, picture)
    assert joined.shape == (48, 48 + 10 + 48, 3)
    np.testing.assert_array_equal(joined[:, 58:], picture)
