"""What a run's folder believes: rows and records as they were written, and nothing else."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from benchmarks.methods import Copy, Motion, Person, Setup
from benchmarks.planning import Settings
from benchmarks.record import read_record, read_run, unreadable_path
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from iper_toolkit import atomic
from iper_toolkit.body import Body
from iper_toolkit.protocols import Protocol

SIZE = 48
FAST = Settings(size=SIZE, metrics=("l1", "psnr"))
CASE, OTHER = "self/001_1_1", "self/003_1_2"


class Painter:
    name, version, weights = "painter", "1", ""

    def __init__(self, fails_on: str = "") -> None:
        self.fails_on = fails_on
        self.drawn: list[str] = []

    def setup(self, setup: Setup) -> None:
        pass

    def personalize(self, person: Person) -> None:
        pass

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        self.drawn.append(motion.case)
        if motion.case == self.fails_on:
            raise OSError("no disk")
        for _ in range(len(motion)):
            yield np.full((SIZE, SIZE, 3), 90, np.uint8)


Make = Callable[..., Run]


@pytest.fixture
def make(dataset: Any, protocol: Protocol, tmp_path: Path, body: Body) -> Make:
    def make(*methods: Any, settings: Settings = FAST, out: str = "run", **more: Any) -> Run:
        return Run(dataset, protocol, methods, settings, tmp_path / out, body=body, **more)

    return make


def _other_rows(cases: Path) -> None:
    shutil.copy(cases / "003_1_2.parquet", cases / "001_1_1.parquet")


def _other_case(cases: Path) -> None:
    _other_rows(cases)
    shutil.copy(cases / "003_1_2.json", cases / "001_1_1.json")


def _first_rows(count: int) -> Callable[[Path], None]:
    def cut(cases: Path) -> None:
        path = cases / "001_1_1.parquet"
        pq.write_table(read_rows(path).slice(0, count), path)

    return cut


def _better_values(cases: Path) -> None:
    path = cases / "001_1_1.parquet"
    table = read_rows(path)
    place = table.schema.get_field_index("value")
    pq.write_table(table.set_column(place, table.schema.field(place), [[0.0] * len(table)]), path)


def _edited_record(cases: Path) -> None:
    path = cases / "001_1_1.json"
    record = json.loads(path.read_text())
    record["seconds_draw"] = 0.001
    path.write_text(json.dumps(record))


def _record_without_sums(cases: Path) -> None:
    path = cases / "001_1_1.json"
    record = json.loads(path.read_text())
    del record["sha256"], record["rows"]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [
        _other_rows,
        _other_case,
        _first_rows(0),
        _first_rows(3),
        _better_values,
        _edited_record,
        _record_without_sums,
        lambda cases: (cases / "001_1_1.json").write_text("[1]"),
        lambda cases: (cases / "001_1_1.parquet").unlink(),
    ],
)
def test_a_case_that_is_not_as_it_was_written_is_drawn_again(
    damage: Callable[[Path], None], make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_all(make(Painter()))
    table = tmp_path / "run" / "rows.parquet"
    right = table.read_bytes()
    damage(tmp_path / "run" / "cases" / "painter" / "self")
    again = Painter()
    _, complete = run_all(make(again))
    assert complete
    assert again.drawn == [CASE]
    assert table.read_bytes() == right
    told = [one.getMessage() for one in caplog.records if CASE in one.getMessage()]
    assert len(told) == 1
    assert "1 case of painter" in told[0]
    assert "drawn again" in told[0]
    run_all(make(Painter()))
    assert len([one for one in caplog.records if CASE in one.getMessage()]) == 1


def test_damage_in_another_method_s_cases_is_said(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_all(make(Painter()))
    _first_rows(3)(tmp_path / "run" / "cases" / "painter" / "self")
    run_all(make(Copy()))
    assert "until the method painter is run again" in caplog.text
    assert {row["method"] for row in read_rows(tmp_path / "run" / "rows.parquet").to_pylist()} == {
        "copy"
    }


class _Killed(BaseException):
    """Nothing of the program catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("before_the_write", [True, False])
def test_a_retry_that_is_killed_at_any_write_keeps_no_old_rows(
    before_the_write: bool, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(size=SIZE, metrics=("l1",), max_frames=2)
    run_all(make(Painter(), out="right", settings=settings))
    right = (tmp_path / "right" / "rows.parquet").read_bytes()
    run_all(make(Painter(fails_on=CASE), out="failed", settings=settings))
    written = 0
    stop_at = 1
    replace = atomic.os.replace

    def killed(source: Any, target: Any) -> None:
        nonlocal written
        written += 1
        if written == stop_at and before_the_write:
            raise _Killed
        replace(source, target)
        if written == stop_at:
            raise _Killed

    while True:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(tmp_path / "failed", tmp_path / "run")
        written = 0
        with monkeypatch.context() as patched:
            patched.setattr(atomic.os, "replace", killed)
            try:
                run_all(make(Painter(), settings=settings, retry_failed=True))
            except _Killed:
                pass
            else:
                break  # every write has had its turn
        record = read_record(tmp_path / "run", "painter", CASE)
        rows = read_rows(tmp_path / "run" / "cases" / "painter" / f"{CASE}.parquet").to_pylist()
        assert record is None or {row["status"] for row in rows} == {record["status"]}
        run_all(make(Painter(), settings=settings, retry_failed=True))
        assert (tmp_path / "run" / "rows.parquet").read_bytes() == right
        stop_at += 1
    assert stop_at > 4  # pictures, rows, record, table, run.json


def test_a_damaged_run_json_is_written_anew(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_all(make(Painter()))
    path = tmp_path / "run" / "run.json"
    for text in ('{"schema"', "[]", '{"settings": 3}'):
        path.write_text(text)
        again = Painter()
        _, complete = run_all(make(again))
        assert complete
        assert again.drawn == []
        assert read_run(tmp_path / "run")["complete"]
        assert "run.json" in caplog.text
        path.write_text(text)
        with pytest.raises(ValueError, match="size is 48, not 64"):  # the cases remember
            make(Painter(), settings=Settings(size=64, metrics=FAST.metrics)).open()


def test_a_note_of_a_clip_that_was_read_after_all_goes(make: Make, tmp_path: Path) -> None:
    run_all(make(Painter()))
    note = unreadable_path(tmp_path / "run", CASE)
    for content in ('{"case": "x", "error": "gone"}', "{"):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(content)  # as a kill between the rows and its removal leaves it
        _, complete = run_all(make(Painter()))
        assert complete
        assert not note.exists()


def test_of_other_settings_only_the_difference_is_told(make: Make) -> None:
    run_all(make(Painter()))
    other = Settings(size=SIZE, metrics=("l1", "ssim"), max_frames=3)
    with pytest.raises(ValueError, match="other settings") as told:
        make(Painter(), settings=other).open()
    text = str(told.value)
    assert "max_frames is 0, not 3" in text
    assert "metrics: there also psnr; now also ssim" in text
    assert "l1" not in text


def test_dead_parts_of_pictures_go_on_resume(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(make(Painter()))
    parts = [
        tmp_path / "run" / "pictures" / name / f"{CASE}" / f".part-{atomic._host()}~999999999~x.png"
        for name in ("painter", "target", "source")
    ]
    for part in parts:
        part.write_bytes(b"x")
    (tmp_path / "run" / "cases" / "painter" / f"{CASE}.json").unlink()
    run_all(make(Painter()))
    assert [part for part in parts if part.exists()] == []


@pytest.mark.slow
def test_set_scores_follow_their_cases(make: Make, tmp_path: Path) -> None:
    settings = Settings(size=SIZE, metrics=("l1", "fid"), random_judges=1, max_frames=2)
    run_all(make(Painter(), settings=settings, out="right"))
    right = (tmp_path / "right" / "sets.parquet").read_bytes()
    sets = tmp_path / "run" / "sets.parquet"
    run_all(make(Painter(fails_on=CASE), settings=settings))
    run_all(make(Painter(), settings=settings, retry_failed=True))
    assert sets.read_bytes() == right
    features = tmp_path / "run" / "features" / "painter" / f"{CASE}.npz"
    content = bytearray(features.read_bytes())
    content[len(content) // 2] ^= 1
    features.write_bytes(content)
    again = Painter()
    run_all(make(again, settings=settings))
    assert again.drawn == [CASE]
    assert sets.read_bytes() == right
    sets.write_bytes(b"")
    run_all(make(Painter(), settings=settings))
    assert sets.read_bytes() == right
