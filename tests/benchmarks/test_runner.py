"""The runner's promises: nothing lost, nothing dropped, nothing scored that was shown."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.methods import Copy, Motion, Person, PictureFolder, Setup
from benchmarks.metrics import METRICS, score_frames
from benchmarks.planning import Settings
from benchmarks.record import read_run
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from benchmarks.tasks import default_kind
from iper_toolkit.body import Body, BodyMismatch
from iper_toolkit.images import read_image, write_image
from iper_toolkit.protocols import Protocol
from iper_toolkit.video import decoder_id

SIZE = 48
FAST = Settings(size=SIZE, metrics=("ssim", "psnr", "l1", "l1_person"))


class Painter:
    """Draws every picture in one colour, and counts what it was asked."""

    version = "1"
    weights = ""

    def __init__(self, name: str = "painter", colour: int = 90) -> None:
        self.name, self.colour = name, colour
        self.people: list[Person] = []
        self.motions: list[Motion] = []

    def setup(self, setup: Setup) -> None:
        self.size = setup.size

    def personalize(self, person: Person) -> None:
        self.people.append(person)

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        self.motions.append(motion)
        for _ in range(len(motion)):
            yield self.picture()

    def picture(self) -> NDArray[np.uint8]:
        return np.full((self.size, self.size, 3), self.colour, np.uint8)


class Rolling(Painter):
    """Draws with the global generators, as careless research code does."""

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        for _ in range(len(motion)):
            picture = self.picture()
            picture[0] = random.randrange(256)
            picture[1] = np.random.randint(256)  # noqa: NPY002
            picture[2] = int(torch.randint(256, ()))
            yield picture


def make(
    dataset: Any, protocol: Protocol, methods: list[Any], out: Path, body: Body, **more: Any
) -> Run:
    settings = more.pop("settings", FAST)
    return Run(dataset, protocol, methods, settings, out, body=body, **more)


def rows(out: Path) -> list[dict[str, Any]]:
    return read_rows(out / "rows.parquet").to_pylist()


def test_every_unseen_frame_is_scored_with_the_truth(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run = make(dataset, protocol, [Copy()], tmp_path / "run", body)
    outcomes, complete = run_all(run)
    assert complete
    assert {one.status for one in outcomes} == {"ok"}
    table = rows(tmp_path / "run")
    # 9 + 7 + 8 + 6 frames, without the one source frame of each clip, by four metrics.
    assert len(table) == (30 - 4) * 4
    clip = dataset.clip("002/1/2")
    frames = [f for f in range(8) if f != 2]
    copied = np.repeat(clip.frames([2], SIZE), len(frames), axis=0)
    expected = score_frames(
        [METRICS["l1_person"]], copied, clip.frames(frames, SIZE), clip.masks(frames, SIZE)
    )["l1_person"]
    got = {
        row["frame"]: row["value"]
        for row in table
        if row["clip"] == "002/1/2" and row["metric"] == "l1_person"
    }
    assert got == dict(zip(frames, expected, strict=True))
    assert {row["mask_source"] for row in table if row["region"] == "person"} == {"set"}
    assert {row["mask_source"] for row in table if row["region"] == "frame"} == {""}
    assert {row["decoder"] for row in table} == {decoder_id()}


def test_official_targets_include_the_sources(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(size=SIZE, metrics=("l1",), targets="official")
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body, settings=settings))
    table = rows(tmp_path / "run")
    assert len(table) == 30
    assert [row["value"] for row in table if row["frame"] == 2] == [0.0] * 4
    assert {row["targets"] for row in table} == {"official"}


def test_a_method_sees_no_target_frame(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    painter = Painter()
    run_all(make(dataset, protocol, [painter], tmp_path / "run", body))
    assert [person.frames for person in painter.people] == [(2,)] * 4
    for person in painter.people:
        np.testing.assert_array_equal(
            person.pictures[0], dataset.clip(person.clip).frames([2], SIZE)[0]
        )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", "RuntimeError: out of paint"),
        ("few", "gave 3 pictures"),
        ("many", "gave more pictures"),
        ("float", "gave float32 (48, 48, 3)"),
        ("small", "gave uint8 (47, 48, 3)"),
        ("none", "gave list"),
        ("personalize", "ZeroDivisionError"),
        ("exits", "SystemExit: 3"),
        ("lines", "ValueError: one two"),
    ],
)
def test_a_failure_is_recorded_and_counts(
    fault: str, said: str, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    class Faulty(Painter):
        def personalize(self, person: Person) -> None:
            if fault == "personalize" and person.clip == "002/1/2":
                raise ZeroDivisionError
            super().personalize(person)

        def draw(self, motion: Motion) -> Iterator[Any]:
            if motion.case != "self/002_1_2":
                yield from super().draw(motion)
                return
            for k in range(len(motion)):
                if k == 3 and fault == "raises":
                    raise RuntimeError("out of paint")
                if k == 3 and fault == "exits":
                    raise SystemExit(3)
                if k == 3 and fault == "lines":
                    raise ValueError("one\n  two")
                if k == 3 and fault == "few":
                    return
                picture: Any = self.picture()
                if k == 3 and fault == "float":
                    picture = picture.astype(np.float32)
                if k == 3 and fault == "small":
                    picture = picture[1:]
                if k == 3 and fault == "none":
                    picture = picture.tolist()
                yield picture
            if fault == "many":
                yield self.picture()

    out = tmp_path / "run"
    outcomes, complete = run_all(make(dataset, protocol, [Faulty(), Copy()], out, body))
    assert complete
    assert [(one.case, one.method) for one in outcomes if one.status == "failed"] == [
        ("self/002_1_2", "painter")
    ]
    (failure,) = read_run(out)["failures"]
    assert said in failure["error"]
    table = [row for row in rows(out) if row["case"] == "self/002_1_2"]
    of = {name: [row for row in table if row["method"] == name] for name in ("painter", "copy")}
    assert {row["status"] for row in of["painter"]} == {"failed"}
    assert {row["value"] for row in of["painter"]} == {None}
    # Failed or not: the same frames by the same metrics.
    assert [(r["frame"], r["metric"]) for r in of["painter"]] == [
        (r["frame"], r["metric"]) for r in of["copy"]
    ]
    assert {row["status"] for row in of["copy"]} == {"ok"}


def test_what_is_done_is_not_done_again(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    out = tmp_path / "run"
    first = Painter()
    run_all(make(dataset, protocol, [first], out, body))
    undisturbed = (out / "rows.parquet").read_bytes()
    # As if the process had been killed before it finished this case and the table.
    (out / "cases" / "painter" / "self" / "001_1_1.parquet").unlink()
    (out / "rows.parquet").unlink()
    (out / "pictures" / "painter" / "self" / "001_1_1" / ".part-elsewhere~1~00000.png").write_bytes(
        b"x"
    )
    second = Painter()
    run_all(make(dataset, protocol, [second], out, body))
    assert [motion.case for motion in second.motions] == ["self/001_1_1"]
    assert (out / "rows.parquet").read_bytes() == undisturbed


def test_retrying_failures_repeats_only_them(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    class Broken(Painter):
        def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
            if motion.case == "self/003_1_2":
                raise OSError("no disk")
            return super().draw(motion)

    out = tmp_path / "run"
    run_all(make(dataset, protocol, [Broken()], out, body))
    mended = Painter()
    run_all(make(dataset, protocol, [mended], out, body))
    assert mended.motions == []
    run_all(make(dataset, protocol, [mended], out, body, retry_failed=True))
    assert [motion.case for motion in mended.motions] == ["self/003_1_2"]
    assert {row["status"] for row in rows(out)} == {"ok"}


def test_two_shards_make_the_table_of_one_process(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(kind="all", size=SIZE, metrics=("ssim", "l1"))

    def methods() -> list[Any]:
        return [Painter(), Rolling("rolling"), Copy()]

    run_all(make(dataset, protocol, methods(), tmp_path / "one", body, settings=settings))
    done = []
    for index in (1, 0):
        run = make(dataset, protocol, methods(), tmp_path / "two", body, settings=settings)
        outcomes, complete = run_all(run, shard=(index, 2))
        done.append({one.case for one in outcomes})
        assert complete == (index == 0)
        assert (tmp_path / "two" / "rows.parquet").is_file() == complete
    assert all(done)
    assert not done[0] & done[1]
    one, two = (tmp_path / name / "rows.parquet" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_randomness_does_not_depend_on_the_company(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Rolling("a")], tmp_path / "alone", body))
    run_all(make(dataset, protocol, [Rolling("b"), Rolling("a")], tmp_path / "both", body))
    both = [row for row in rows(tmp_path / "both") if row["method"] == "a"]
    assert rows(tmp_path / "alone") == both


class Vandal(Painter):
    """Writes into everything that it is given, through NumPy and through torch."""

    def personalize(self, person: Person) -> None:
        torch.from_numpy(person.pictures).zero_()
        person.masks[:] = 255
        person.background[:] = 0
        person.params.camera.zero_()
        person.params.pose.zero_()
        person.params.shape.zero_()

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        for params in (motion.params, motion.driver):
            params.camera.zero_()
            params.pose.zero_()
            params.shape.zero_()
        return super().draw(motion)


def test_a_method_that_writes_into_its_inputs_spoils_no_other(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(kind="all", size=SIZE, metrics=FAST.metrics)
    alone, beside = Painter(), Painter()
    for name, methods in (
        ("alone", [Copy(), alone]),
        ("beside", [Vandal("vandal"), Copy(), beside]),
    ):
        run_all(make(dataset, protocol, methods, tmp_path / name, body, settings=settings))
    kept = [row for row in rows(tmp_path / "beside") if row["method"] != "vandal"]
    assert kept == rows(tmp_path / "alone")
    for one, other in zip(alone.people, beside.people, strict=True):
        np.testing.assert_array_equal(one.background, other.background)
        np.testing.assert_array_equal(one.masks, other.masks)
        assert torch.equal(one.params.to_array(), other.params.to_array())
    for first, second in zip(alone.motions, beside.motions, strict=True):
        assert torch.equal(first.params.to_array(), second.params.to_array())
        assert torch.equal(first.driver.to_array(), second.driver.to_array())
    source = read_image(
        tmp_path / "beside" / "pictures" / "source" / "self" / "001_1_1" / "00002.png"
    )
    np.testing.assert_array_equal(source, dataset.clip("001/1/1").frames([2], SIZE)[0])


def test_a_method_may_draw_into_one_buffer(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    class Counting(Painter):
        def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
            for k in range(len(motion)):
                yield np.full((self.size, self.size, 3), 10 * k, np.uint8)

    class Reusing(Counting):
        def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
            buffer = self.picture()
            for picture in super().draw(motion):
                buffer[:] = picture
                yield buffer

    methods = [Counting("fresh"), Reusing("reused")]
    run_all(make(dataset, protocol, methods, tmp_path / "run", body))
    values = {
        name: [row["value"] for row in rows(tmp_path / "run") if row["method"] == name]
        for name in ("fresh", "reused")
    }
    assert values["fresh"] == values["reused"]


def test_a_source_without_a_fit_is_no_source(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    dataset.clip("002/1/2").valid[2] = False
    painter = Painter()
    outcomes, complete = run_all(make(dataset, protocol, [painter], tmp_path / "run", body))
    assert not complete
    (bad,) = [one for one in outcomes if one.status == "unreadable"]
    assert bad.case == "self/002_1_2"
    assert "source frames [2] of 002/1/2 have no valid fit" in bad.error
    assert "002/1/2" not in [person.clip for person in painter.people]


def test_a_person_is_learned_once_for_self_and_cross(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    painter = Painter()
    settings = Settings(kind="all", size=SIZE, metrics=("l1",))
    run_all(make(dataset, protocol, [painter], tmp_path / "run", body, settings=settings))
    assert len(painter.people) == 4
    assert len(painter.motions) == 5
    assert {row["kind"] for row in rows(tmp_path / "run")} == {"self"}
    pictures = tmp_path / "run" / "pictures" / "painter" / "cross" / "001_1_2-by-002_1_2"
    assert len(list(pictures.glob("*.png"))) == 5


def test_self_takes_the_drivers_camera_and_cross_the_sources(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    painter = Painter()
    settings = Settings(kind="all", size=SIZE, metrics=("l1",))
    run_all(make(dataset, protocol, [painter], tmp_path / "run", body, settings=settings))
    motions = {motion.case: motion for motion in painter.motions}
    own = motions["self/001_1_2"]
    torch.testing.assert_close(own.params.camera, dataset.clip("001/1/2").params().camera)
    cross = motions["cross/001_1_2-by-002_1_2"]
    source = dataset.clip("001/1/2").params([2])
    torch.testing.assert_close(cross.params.camera[0], source.camera[0])
    torch.testing.assert_close(cross.params.shape, source.shape.expand(5, -1))
    torch.testing.assert_close(cross.params.pose, dataset.clip("002/1/2").params().pose[1:6])


def test_frames_without_a_fit_and_past_the_end_are_told(
    dataset: Any, tmp_path: Path, protocol: Protocol, body: Body
) -> None:
    clip = dataset.clip("002/1/2")
    clip.valid[5] = False
    dataset.clips["003/1/2"].num_frames = 4  # the protocol asks for 6
    try:
        run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))
    finally:
        dataset.clips["003/1/2"].num_frames = 6
    notes = read_run(tmp_path / "run")["notes"]
    assert notes["self/002_1_2"] == "1 frames of 002/1/2 have no valid fit and are not scored"
    assert notes["self/003_1_2"] == "2 of 6 frames lie past the end of 003/1/2 (4 frames)"
    frames = {(row["clip"], row["frame"]) for row in rows(tmp_path / "run")}
    assert {f for c, f in frames if c == "003/1/2"} == {0, 1, 3}
    assert {f for c, f in frames if c == "002/1/2"} == {0, 1, 3, 4, 6, 7}


def test_missing_clips_and_unreadable_ones_do_not_stop_the_others(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    del dataset.clips["003/1/2"]
    dataset.failures["003/1/2"] = "moov atom not found"

    def unreadable(indices: Any, size: int) -> Any:
        raise OSError("flipped byte")

    monkeypatch.setattr(dataset.clip("002/1/2"), "masks", unreadable)
    run = make(dataset, protocol, [Copy()], tmp_path / "run", body)
    outcomes, complete = run_all(run)
    assert not complete
    assert run.plan().missing == {"self/003_1_2": "clip 003/1/2: moov atom not found"}
    (bad,) = [one for one in outcomes if one.status == "unreadable"]
    assert (bad.case, bad.method, bad.error) == ("self/002_1_2", "", "OSError: flipped byte")
    # Everybody else is in the table all the same.
    assert {row["clip"] for row in rows(tmp_path / "run")} == {"001/1/1", "001/1/2"}
    about = read_run(tmp_path / "run")
    assert about["unreadable_cases"] == {"self/002_1_2": "OSError: flipped byte"}
    assert not about["complete"]
    monkeypatch.undo()
    _, complete = run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))
    assert complete
    assert {row["clip"] for row in rows(tmp_path / "run")} == set(dataset.clips)
    assert read_run(tmp_path / "run")["unreadable_cases"] == {}


def test_another_run_does_not_go_into_the_folder(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))
    other = Settings(size=SIZE + 16, metrics=FAST.metrics)
    with pytest.raises(ValueError, match=r"size is 48, not 64.*another --out"):
        run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body, settings=other))


def test_methods_join_a_finished_run(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))
    run_all(make(dataset, protocol, [Painter()], tmp_path / "run", body))
    assert {row["method"] for row in rows(tmp_path / "run")} == {"copy", "painter"}
    assert set(read_run(tmp_path / "run")["methods"]) == {"copy", "painter"}


def test_what_one_method_alone_could_read_is_left_out_for_all(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))

    def unreadable(indices: Any, size: int) -> Any:
        raise OSError("flipped byte")

    monkeypatch.setattr(dataset.clip("002/1/2"), "frames", unreadable)
    _, complete = run_all(make(dataset, protocol, [Painter()], tmp_path / "run", body))
    assert not complete
    table = rows(tmp_path / "run")
    of = {m: {r["clip"] for r in table if r["method"] == m} for m in ("copy", "painter")}
    assert of["copy"] == of["painter"] == set(dataset.clips) - {"002/1/2"}


@pytest.mark.parametrize("change", ["version", "weights"])
def test_another_version_does_not_go_into_the_folder(
    change: str, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    out = tmp_path / "run"
    run_all(make(dataset, protocol, [Painter()], out, body))
    before = (out / "run.json").read_bytes()
    newer = Painter(colour=20)
    setattr(newer, change, "2" * 64)
    with pytest.raises(ValueError, match=r"painter drew it in version '1'.*another --out"):
        run_all(make(dataset, protocol, [newer], out, body))
    # Nor in the middle of a case list, where another process may have been at work.
    run = make(dataset, protocol, [newer], out, body)
    with pytest.raises(ValueError, match=r"NAME=SPEC"):
        run.do(run.plan().groups[0])
    assert newer.motions == []
    assert (out / "run.json").read_bytes() == before
    # What is in the folder is what run.json tells, whoever joins later.
    run_all(make(dataset, protocol, [Copy()], out, body))
    assert read_run(out)["methods"]["painter"]["version"] == "1"


def test_a_fit_of_another_body_is_refused(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.clip("001/1/1"), "body_id", "smpl-0123456789ab")
    with pytest.raises(BodyMismatch, match="--body"):
        run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))


def test_thinned_runs_score_frames_spread_over_the_case(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(size=SIZE, metrics=("l1",), max_frames=3, subjects=("002",))
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body, settings=settings))
    assert [row["frame"] for row in rows(tmp_path / "run")] == [0, 4, 7]
    assert {row["max_frames"] for row in rows(tmp_path / "run")} == {3}


@pytest.mark.parametrize("keep", ["some", "all", "none"])
def test_kept_pictures(
    keep: Any, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body, keep=keep))
    pictures = tmp_path / "run" / "pictures"
    counts = {
        name: len(list((pictures / name / "self" / "001_1_1").glob("*.png")))
        for name in ("copy", "target", "source")
    }
    many = {"some": 8, "all": 9, "none": 0}[keep]
    assert counts == {"copy": many, "target": many, "source": min(many, 1)}
    if keep == "all":
        np.testing.assert_array_equal(
            read_image(pictures / "target" / "self" / "001_1_1" / "00005.png"),
            dataset.clip("001/1/1").frames([5], SIZE)[0],
        )


def test_kept_pictures_score_the_same_as_the_method(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Rolling("ours")], tmp_path / "run", body, keep="all"))
    folder = PictureFolder(tmp_path / "run" / "pictures" / "ours", "ours")
    run_all(make(dataset, protocol, [folder], tmp_path / "again", body))
    values = [[row["value"] for row in rows(tmp_path / name)] for name in ("run", "again")]
    assert values[0] == values[1]


def test_a_missing_picture_fails_the_case(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    for name, clip in dataset.clips.items():
        for k in range(clip.num_frames):
            path = tmp_path / "theirs" / "self" / name.replace("/", "_") / f"{k:05d}.png"
            write_image(path, np.zeros((SIZE, SIZE, 3), np.uint8))
    (tmp_path / "theirs" / "self" / "002_1_2" / "00006.png").unlink()
    run_all(
        make(
            dataset,
            protocol,
            [PictureFolder(tmp_path / "theirs", "theirs")],
            tmp_path / "run",
            body,
        )
    )
    (failure,) = read_run(tmp_path / "run")["failures"]
    assert "holds 7 numbered pictures" in failure["error"]
    assert "takes 00000.png to 00007.png" in failure["error"]


def test_run_json_tells_where_numbers_come_from(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run_all(make(dataset, protocol, [Copy()], tmp_path / "run", body))
    about = read_run(tmp_path / "run")
    assert about["complete"]
    assert about["protocol"]["digest"] == protocol.digest
    assert about["dataset"] == {
        "name": "fake",
        "digest": "d" * 64,
        "synthetic": True,
        "licence": "CC0-1.0",
    }
    assert about["started"].endswith("+00:00")
    assert about["command"] == ""
    copied = about["methods"]["copy"]
    assert (copied["num_cases"], copied["num_drawn"], copied["num_scored"]) == (4, 30, 26)
    assert copied["seconds_a_frame"] >= 0
    assert about["peak_memory_bytes"] > 1 << 20
    assert "peak_memory_bytes" not in copied
    assert about["machine"]["num_cores"]
    assert about["versions"]["numpy"] == np.__version__
    json.dumps(about)


def test_nothing_to_run_says_what_there_is(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(size=SIZE, metrics=("l1",), subjects=("003", "007"))
    with pytest.raises(ValueError, match=r"names 007, of whom.*takes 001, 002, 003"):
        make(dataset, protocol, [Copy()], tmp_path / "run", body, settings=settings).plan()
    dataset.clips = {"009/1/1": dataset.clip("001/1/1")}
    with pytest.raises(ValueError, match=r"1 prepared clips \(009/1/1\)"):
        make(dataset, protocol, [Copy()], tmp_path / "run", body).plan()


def test_shards_do_not_shift_when_people_join(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    run = make(dataset, protocol, [Copy()], tmp_path / "run", body)
    before = {case.key for case in run.plan((0, 2)).cases}
    del dataset.clips["003/1/2"]
    after = {case.key for case in run.plan((0, 2)).cases}
    assert after == before - {"self/003_1_2"}


def test_default_kind_is_said() -> None:
    kind, why = default_kind("imitation")
    assert kind == "self"
    assert "--kind all" in why
    for task in ("transfer", "view", "all"):
        assert default_kind(task)[0] == "scored"


@pytest.mark.parametrize("name", ["target", "../x", "", ".hidden"])
def test_names_that_cannot_be_folders(
    name: str, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    with pytest.raises(ValueError, match="cannot name a method"):
        make(dataset, protocol, [Painter(name)], tmp_path / "run", body)


def test_a_setup_that_fails_says_whose(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    class Exits(Painter):
        def setup(self, setup: Setup) -> None:
            raise SystemExit("no memory.")

    with pytest.raises(
        RuntimeError, match=r"painter: setup failed: SystemExit: no memory\. No case"
    ):
        run_all(make(dataset, protocol, [Exits()], tmp_path / "run", body))
    assert not (tmp_path / "run").exists()


def test_a_mistaken_run_leaves_no_folder(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="lists no 5 sources"):
        make(dataset, protocol, [Copy()], out, body, settings=Settings(num_sources=5)).open()
    monkeypatch.setattr(dataset.clip("001/1/1"), "body_id", "smpl-0123456789ab")
    with pytest.raises(BodyMismatch):
        make(dataset, protocol, [Copy()], out, body).open()
    assert not out.exists()


@pytest.mark.parametrize("mark", ["dataset.toml", "manifests", "images_HD"])
def test_a_dataset_is_no_place_for_a_run(
    mark: str, dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    (tmp_path / mark).mkdir()
    with pytest.raises(ValueError, match=f"holds {mark}, so it is a dataset.*another --out"):
        make(dataset, protocol, [Copy()], tmp_path, body).open()
    assert not (tmp_path / "run.json").exists()


def test_cases_remember_their_settings_without_run_json(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    out = tmp_path / "run"
    run_all(make(dataset, protocol, [Copy()], out, body))
    (out / "run.json").unlink()
    other = Settings(size=SIZE + 16, metrics=FAST.metrics)
    for method in (Copy(), Painter()):
        with pytest.raises(ValueError, match=r"size is 48, not 64"):
            make(dataset, protocol, [method], out, body, settings=other).open()
        assert not (out / "run.json").exists()
    _, complete = run_all(make(dataset, protocol, [Copy()], out, body))
    assert complete


def test_damaged_cases_are_done_again(
    dataset: Any, protocol: Protocol, tmp_path: Path, body: Body
) -> None:
    out = tmp_path / "run"
    run_all(make(dataset, protocol, [Painter()], out, body))
    cases = out / "cases" / "painter" / "self"
    (cases / "001_1_1.parquet").write_bytes(b"")
    (cases / "002_1_2.json").unlink()
    (cases / "003_1_2.json").write_text("{")
    painter = Painter()
    run_all(make(dataset, protocol, [painter], out, body))
    assert [motion.case for motion in painter.motions] == [
        "self/001_1_1",
        "self/002_1_2",
        "self/003_1_2",
    ]


def test_pictures_beyond_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size 100000.*16 to 4096"):
        Settings(size=100_000)
