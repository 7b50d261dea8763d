"""Appearance transfer in the benchmark: who is shown, what is drawn, and what it is compared with."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.methods import (
    Copy,
    Dressed,
    Motion,
    Person,
    PictureFolder,
    Setup,
    default_methods,
    load_method,
)
from benchmarks.metrics import METRICS, score_frames
from benchmarks.planning import Settings
from benchmarks.record import read_run
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from benchmarks.warp import Warp
from iper_toolkit.body import Body
from iper_toolkit.body.parts import PARTS
from iper_toolkit.images import read_image
from iper_toolkit.protocols import Protocol, TransferRow
from iper_toolkit.true_pictures import TruthTables

SIZE = 48
OWN = Settings(task="transfer", kind="own", size=SIZE, metrics=("l1", "l1_person"))
ONE, TWO = "transfer/001_1_1-wears-001_1_2", "transfer/001_1_2-wears-001_1_1"
OTHER, THIRD = "transfer/002_1_2-wears-001_1_1", "transfer/002_1_2-wears-003_1_2"


class Tailor(Copy):
    """Copies, and remembers what it was shown."""

    name = "tailor"

    def __init__(self) -> None:
        self.shown: list[Sequence[Dressed]] = []
        self.motions: list[Motion] = []

    def dress(self, wearers: Sequence[Dressed]) -> None:
        super().dress(wearers)
        self.shown.append(wearers)

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        self.motions.append(motion)
        return super().draw(motion)


class Naked:
    """A method as it was before there was any transfer."""

    name, version, weights = "naked", "1", ""

    def setup(self, setup: Setup) -> None:
        self.size = setup.size

    def personalize(self, person: Person) -> None: ...

    def draw(self, motion: Motion) -> list[NDArray[np.uint8]]:
        return [np.zeros((self.size, self.size, 3), np.uint8)] * len(motion)


def run(
    dataset: Any, protocol: Protocol, methods: list[Any], out: Path, body: Body, **more: Any
) -> tuple[Run, bool]:
    settings = more.pop("settings", OWN)
    shard = more.pop("shard", (0, 1))
    made = Run(dataset, protocol, methods, settings, out, body=body, **more)
    return made, run_all(made, shard=shard)[1]


def rows(out: Path) -> list[dict[str, Any]]:
    return read_rows(out / "rows.parquet").to_pylist()


def test_two_people_are_shown_and_the_second_ones_clip_is_the_truth(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    tailor = Tailor()
    _, complete = run(dataset, every_task, [tailor], tmp_path / "run", body)
    assert complete
    head, clothes = tailor.shown[0]
    assert (head.person.clip, head.person.frames, head.parts) == ("001/1/1", (2,), ("head",))
    assert (clothes.person.clip, clothes.parts) == ("001/1/2", ("body",))
    table = [row for row in rows(tmp_path / "run") if row["case"] == ONE]
    assert {(row["task"], row["kind"], row["clip"], row["driver"]) for row in table} == {
        ("transfer", "own", "001/1/1", "001/1/2")
    }
    # 7 frames of the outfit's clip, without its source.
    frames = [0, 1, 3, 4, 5, 6]
    driver = dataset.clip("001/1/2")
    copied = np.repeat(driver.frames([2], SIZE), len(frames), axis=0)
    expected = score_frames(
        [METRICS["l1_person"]], copied, driver.frames(frames, SIZE), driver.masks(frames, SIZE)
    )["l1_person"]
    got = {row["frame"]: row["value"] for row in table if row["metric"] == "l1_person"}
    assert got == dict(zip(frames, expected, strict=True))


def test_official_targets_score_the_outfits_sources_too(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = Settings(
        task="transfer", kind="own", size=SIZE, metrics=("l1",), targets="official", num_sources=2
    )
    run(dataset, every_task, [Copy()], tmp_path / "run", body, settings=settings)
    assert [row["frame"] for row in rows(tmp_path / "run") if row["case"] == ONE] == list(range(7))


def test_the_body_is_the_persons_in_the_drivers_pose_camera_and_place(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    tailor = Tailor()
    run(dataset, every_task, [tailor], tmp_path / "run", body)
    person, driver = dataset.clip("001/1/1"), dataset.clip("001/1/2")
    motion = next(motion for motion in tailor.motions if motion.case == ONE)
    torch.testing.assert_close(motion.params.pose, driver.params().pose)
    torch.testing.assert_close(motion.params.camera, driver.params().camera)
    torch.testing.assert_close(motion.params.shape, person.params([2]).shape.expand(7, -1))
    for wearer in tailor.shown[0]:
        np.testing.assert_array_equal(wearer.person.background, driver.background(SIZE))


def test_somebody_elses_clothes_are_compared_with_the_true_pictures(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    tailor = Tailor()
    settings = Settings(task="transfer", size=SIZE, metrics=("l1", "l1_person"), kind="other")
    _, complete = run(
        dataset, every_task, [tailor], tmp_path / "run", body, settings=settings, truths=truths
    )
    assert complete
    for (person, clothes), worn in zip(tailor.shown, ("001/1/1", "003/1/2"), strict=True):
        assert (person.person.clip, person.parts) == ("002/1/2", ("head", "hands"))
        assert (clothes.person.clip, clothes.parts) == (worn, ("torso", "arms", "legs", "feet"))
    table = rows(tmp_path / "run")
    # Frame 2 is the person's source: its pose and face were shown.
    wanted = {OTHER: ("001/1/1", [1, 4]), THIRD: ("003/1/2", [1, 3])}
    for case, (worn, frames) in wanted.items():
        clip = dataset.clip(worn)
        expected = score_frames(
            [METRICS["l1"], METRICS["l1_person"]],
            np.repeat(clip.frames([2], SIZE), len(frames), axis=0),
            clip.frames(frames, SIZE),
            clip.masks(frames, SIZE),
        )
        for metric, values in expected.items():
            got = {
                row["frame"]: row["value"]
                for row in table
                if (row["case"], row["metric"]) == (case, metric)
            }
            assert got == dict(zip(frames, values, strict=True))
            assert len(set(values)) == 2  # so that frames cannot be mistaken
    motion = tailor.motions[0]
    torch.testing.assert_close(motion.params.pose, dataset.clip("002/1/2").params([1, 2, 4]).pose)
    kept = tmp_path / "run" / "pictures" / "target" / OTHER / "00002.png"
    np.testing.assert_array_equal(read_image(kept), dataset.clip("001/1/1").frames([4], SIZE)[0])
    page = write_report(tmp_path / "run").read_text()
    columns = re.findall(r'<th scope="col">(.*?)</th>', page[page.index("Person 002") :])
    assert columns[:4] == ["Frame", "Person", "Clothes from", "True picture"]
    assert page.index("002/1/2, frame 2") < page.index("001/1/1, frame 2")


def test_a_method_that_cannot_dress_is_refused_before_the_run(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"naked cannot transfer appearance.*--task imitation"):
        run(dataset, every_task, [Copy(), Naked()], out, body)
    assert not out.exists()
    settings = Settings(task="view", kind="turn", size=SIZE, metrics=("l1",))
    _, complete = run(dataset, every_task, [Naked()], out, body, settings=settings)
    assert complete


def test_kept_pictures_show_both_people_and_score_the_same(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    run(dataset, every_task, [Copy()], tmp_path / "run", body, keep="all")
    pictures = tmp_path / "run" / "pictures"
    for part, clip in (("head", "001/1/1"), ("body", "001/1/2")):
        (path,) = (pictures / "source" / ONE / part).iterdir()
        np.testing.assert_array_equal(read_image(path), dataset.clip(clip).frames([2], SIZE)[0])
    folder = PictureFolder(pictures / "copy", "theirs")
    run(dataset, every_task, [folder], tmp_path / "again", body)
    values = [[row["value"] for row in rows(tmp_path / name)] for name in ("run", "again")]
    assert values[0] == values[1]
    page = write_report(tmp_path / "run").read_text()
    for words in (
        "Head from",
        "Clothes from",
        "001/1/1, frame 2",
        "in another outfit of their own",
    ):
        assert words in page


def test_shards_and_a_resumed_run_make_the_same_table(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    settings = Settings(task="all", kind="all", size=SIZE, metrics=("l1",))
    more: dict[str, Any] = {"settings": settings, "truths": truths}
    run(dataset, every_task, [Copy()], tmp_path / "one", body, **more)
    done = [
        run(dataset, every_task, [Copy()], tmp_path / "two", body, shard=(index, 2), **more)[1]
        for index in (1, 0)
    ]
    assert done == [False, True]
    whole = (tmp_path / "one" / "rows.parquet").read_bytes()
    assert (tmp_path / "two" / "rows.parquet").read_bytes() == whole
    (tmp_path / "one" / "cases" / "copy" / f"{ONE}.json").unlink()
    (tmp_path / "one" / "rows.parquet").unlink()
    run(dataset, every_task, [Copy()], tmp_path / "one", body, **more)
    assert (tmp_path / "one" / "rows.parquet").read_bytes() == whole
    kinds = {(row["task"], row["kind"]) for row in rows(tmp_path / "one")}
    assert kinds == {
        ("imitation", "self"),
        ("transfer", "own"),
        ("transfer", "other"),
        ("view", "turn"),
        ("view", "instant"),
    }


def test_failures_and_unreadable_clothes_are_kept_apart(
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    body: Body,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Clumsy(Tailor):
        def dress(self, wearers: Sequence[Dressed]) -> None:
            for wearer in wearers:
                wearer.person.pictures[:] = 0  # its own copy
            raise RuntimeError("the thread tore")

    out = tmp_path / "run"
    run(dataset, every_task, [Clumsy(), Copy()], out, body)
    assert {one["case"] for one in read_run(out)["failures"]} == {ONE, TWO}
    assert {row["status"] for row in rows(out) if row["method"] == "copy"} == {"ok"}
    values = {row["value"] for row in rows(out) if row["method"] == "copy"}
    run(dataset, every_task, [Copy()], tmp_path / "alone", body)
    assert {row["value"] for row in rows(tmp_path / "alone")} == values

    dataset.clip("001/1/2").valid[2] = False  # the source of TWO's head and of ONE's clothes
    _, complete = run(dataset, every_task, [Copy()], tmp_path / "unfit", body)
    assert not complete
    unreadable = read_run(tmp_path / "unfit")["unreadable_cases"]
    assert set(unreadable) == {ONE, TWO}
    assert all(
        "source frames [2] of 001/1/2 have no valid fit" in why for why in unreadable.values()
    )


def test_a_lost_clip_of_clothes_is_missing(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    del dataset.clips["001/1/1"]
    settings = Settings(task="all", kind="scored", size=SIZE, metrics=("l1",))
    made = Run(dataset, every_task, [Copy()], settings, tmp_path / "run", body=body, truths=truths)
    assert {ONE, TWO, OTHER} <= set(made.plan().missing)
    assert THIRD not in made.plan().missing


def test_warp_wears_ones_head_and_the_others_clothes(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    size = 96
    head, clothes = dataset.clip("001/1/1"), dataset.clip("003/1/2")

    def person(clip: Any) -> Person:
        return Person(
            clip.id,
            (2,),
            clip.frames([2], size),
            clip.masks([2], size),
            clip.params([2]),
            clothes.background(size),
        )

    warp = load_method("warp")
    assert isinstance(warp, Warp)
    warp.setup(Setup(size, body))
    bodies = clothes.params([2])
    motion = Motion("x", "own", bodies, bodies, (2,), 6)
    warp.personalize(person(head))
    (all_head,) = warp.draw(motion)
    warp.personalize(person(clothes))
    (all_clothes,) = warp.draw(motion)
    warp.dress([Dressed(person(head), ("head",)), Dressed(person(clothes), ("body",))])
    (mixed,) = warp.draw(motion)

    from iper_toolkit.camera import project
    from iper_toolkit.raster import rasterize

    assert body.surface is not None
    seen = rasterize(project(body.pose(bodies).vertices, bodies.camera), body.faces, size).face[0]
    part = torch.where(seen >= 0, body.surface.part[seen.clamp_min(0)], -1).numpy()
    # Away from the seam, where both are mixed.
    on_head = part == PARTS.index("head")
    on_head[np.flatnonzero(on_head.any(1))[-3:]] = False
    on_legs = (part == PARTS.index("left_leg")) | (part == PARTS.index("right_leg"))

    def apart(one: NDArray[np.uint8], other: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
        return float(np.abs(one.astype(float) - other)[where].mean())

    assert apart(mixed, all_head, on_head) < 0.2 * apart(mixed, all_clothes, on_head)
    assert apart(mixed, all_clothes, on_legs) < 0.2 * apart(mixed, all_head, on_legs)


def test_a_baseline_that_ignores_the_head_shows_what_own_is_blind_to(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    settings = Settings(task="transfer", size=SIZE, metrics=("l1",), kind="scored", num_sources=1)
    names, why = default_methods("transfer")
    assert names == ("copy", "warp", "warp-clothes", "lwgan")
    assert not why
    methods = [load_method(name) for name in names[:3]]
    assert [one.name for one in methods] == ["copy", "warp", "warp-clothes"]
    usual = (("copy", "warp", "lwgan"), "")
    assert default_methods("imitation") == default_methods("all") == usual
    for more, why in (({"body": "SMPL.pkl"}, "open body"), ({"size": 100}, "multiples of 8")):
        names, said = default_methods("view", **more)
        assert names == ("copy", "warp")
        assert why in said
    assert "lwgan" in default_methods("view", body="SMPL.pkl", weights="w.safetensors")[0]
    out = tmp_path / "run"
    _, complete = run(
        dataset, every_task, methods, out, body, settings=settings, truths=truths, keep="all"
    )
    assert complete
    table = rows(out)
    assert {row["status"] for row in table} == {"ok"}
    # Its pictures are those of warp that was shown the clothes' clip alone, in the driver's scene.
    warp = load_method("warp")
    warp.setup(Setup(SIZE, body))
    person, clothes = dataset.clip("001/1/1"), dataset.clip("001/1/2")
    read = (clothes.frames([2], SIZE), clothes.masks([2], SIZE), clothes.params([2]))
    warp.personalize(Person(clothes.id, (2,), *read, clothes.background(SIZE)))
    bodies = clothes.params([0])
    bodies.shape[:] = person.params([2]).shape
    (drawn,) = warp.draw(Motion(ONE, "own", bodies, bodies, (0,), 7))
    kept = read_image(out / "pictures" / "warp-clothes" / ONE / "00000.png")
    np.testing.assert_array_equal(kept, drawn)
    assert "hardly whether appearance was transferred" in write_report(out).read_text()


def test_a_body_without_parts_is_refused_before_the_run(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    bare, out = replace(body, surface=None), tmp_path / "run"
    with pytest.raises(
        ValueError, match=r"^method warp: The body open-body-1 does not say which part.*--task\.$"
    ):
        run(dataset, every_task, [load_method("warp")], out, bare)
    assert not out.exists()
    settings = Settings(task="view", kind="turn", size=SIZE, metrics=("l1",), max_frames=1)
    assert run(dataset, every_task, [load_method("warp")], out, bare, settings=settings)[1]


def test_two_cases_of_one_name_are_refused(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    pair = TransferRow("002/1/2", "001/1/1")  # which the true pictures have as well
    both = replace(every_task, appearance_transfer=(*every_task.appearance_transfer, pair))
    settings = Settings(task="transfer", kind="all", size=SIZE, metrics=("l1",))
    out = tmp_path / "run"
    with pytest.raises(
        ValueError, match=f"Two cases would be called '{OTHER}', one of kind own and one of kind"
    ):
        run(dataset, both, [Copy()], out, body, settings=settings, truths=truths)
    with pytest.raises(ValueError, match=r"shows person 002, and 001/1/1 person 001.*kind other"):
        run(dataset, both, [Copy()], out, body)
    assert not out.exists()


def test_what_the_protocol_has_no_clips_of_is_told(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    less = replace(
        every_task,
        self_imitation=tuple(r for r in every_task.self_imitation if r.video != "003/1/2"),
    )
    settings = Settings(task="all", kind="scored", size=SIZE, metrics=("l1",))
    made = Run(dataset, less, [Copy()], settings, tmp_path / "run", body=body, truths=truths)
    assert made.plan().left_out == ("002/1/2 in the outfit 003/1",)
    keys = {case.key for case in made.plan().cases}
    assert OTHER in keys
    assert THIRD not in keys
