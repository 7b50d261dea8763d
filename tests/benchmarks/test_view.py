"""Novel views in the benchmark: a clip in which somebody turns, and one instant from all sides."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.methods import Copy, Motion, Person
from benchmarks.metrics import METRICS, score_frames
from benchmarks.planning import Settings
from benchmarks.record import read_run
from benchmarks.report import write_report
from benchmarks.results import read_rows
from benchmarks.runner import Run, run_all
from iper_toolkit.body import Body, BodyMismatch
from iper_toolkit.camera import camera_across_crop, ndc_to_pixels, project
from iper_toolkit.crop import SquareCrop
from iper_toolkit.images import read_image, resize, write_image
from iper_toolkit.protocols import Protocol
from iper_toolkit.true_pictures import TruthTables

SIZE = 48
TURN = "view/001_1_1"
INSTANT, LATER = "view/002_1_2-at-0002", "view/002_1_2-at-0005"


class Sitter(Copy):
    """Copies, and remembers what it was asked."""

    name = "sitter"

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.motions: list[Motion] = []

    def personalize(self, person: Person) -> None:
        super().personalize(person)
        self.people.append(person)

    def draw(self, motion: Motion) -> Iterator[NDArray[np.uint8]]:
        self.motions.append(motion)
        return super().draw(motion)


def view(kind: str = "all", **more: Any) -> Settings:
    return Settings(task="view", kind=kind, size=SIZE, metrics=("l1",), **more)


def rows(out: Path) -> list[dict[str, Any]]:
    return read_rows(out / "rows.parquet").to_pylist()


@pytest.mark.parametrize(("targets", "scored"), [("unseen", [0, 4, 6]), ("official", [0, 2, 4, 6])])
def test_views_of_a_turn_are_frames_of_the_clip(
    targets: Any,
    scored: list[int],
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    body: Body,
) -> None:
    sitter, settings = Sitter(), view("turn", targets=targets)
    _, complete = run_all(
        Run(dataset, every_task, [sitter], settings, tmp_path / "run", body=body, keep="all")
    )
    assert complete
    table = rows(tmp_path / "run")
    assert [row["frame"] for row in table] == scored
    assert {(row["task"], row["kind"], row["case"]) for row in table} == {("view", "turn", TURN)}
    clip, (motion,) = dataset.clip("001/1/1"), sitter.motions
    assert motion.positions == (0, 1, 2, 3)
    torch.testing.assert_close(motion.params.pose, clip.params([0, 2, 4, 6]).pose)
    torch.testing.assert_close(motion.params.camera, clip.params([0, 2, 4, 6]).camera)
    kept = tmp_path / "run" / "pictures" / "target" / TURN / "00003.png"
    np.testing.assert_array_equal(read_image(kept), clip.frames([6], SIZE)[0])


def test_an_instant_is_drawn_from_the_angles_of_its_true_pictures(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    sitter, clip = Sitter(), dataset.clip("002/1/2")
    metrics = ("l1", "l1_person")
    settings = Settings(task="view", kind="instant", size=SIZE, metrics=metrics)
    run_all(
        Run(dataset, every_task, [sitter], settings, tmp_path / "run", body=body, truths=truths)
    )
    # The fits' cameras are of the whole frame, those to draw of the crop.
    whole = SquareCrop.whole(*reversed(clip.frame_size))
    for motion, instant in zip(sitter.motions, (2, 5), strict=True):
        camera = clip.params([instant] * 4).camera.clone()
        camera[:, 1] = torch.arange(4) / 10 + instant
        wanted = camera_across_crop(camera, whole, clip.crop)
        torch.testing.assert_close(motion.params.camera, wanted)
        torch.testing.assert_close(motion.params.pose, clip.params([instant] * 4).pose)
    table = rows(tmp_path / "run")
    # Frame 2 is the source: it was shown at 0 degrees, and from no other side. Frame 5 is none.
    source = clip.frames([2], SIZE)
    for case, instant, angles in ((INSTANT, 2, (90, 180, 270)), (LATER, 5, (0, 90, 180, 270))):
        numbers = [angle // 90 for angle in angles]
        drawn = np.stack([clip.frames([instant], 96)[0] // (k + 1) for k in numbers])
        expected = score_frames(
            [METRICS[name] for name in metrics],
            np.repeat(source, len(angles), 0),
            np.stack([resize(picture, (SIZE, SIZE)) for picture in drawn]),
            clip.masks([instant - 2 + k for k in numbers], SIZE),
        )
        for metric, values in expected.items():
            got = {
                row["frame"]: row["value"]
                for row in table
                if (row["case"], row["metric"]) == (case, metric)
            }
            assert got == dict(zip(angles, values, strict=True))
    page = write_report(tmp_path / "run").read_text()
    assert "Novel view: one instant from all sides" in page
    assert f"\N{DEGREE SIGN}, {LATER}" in page
    assert "along degrees 90 to 270" in page


def test_a_person_is_learned_once_for_all_their_tasks(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    sitter = Sitter()
    settings = Settings(task="all", kind="all", size=SIZE, metrics=("l1",), subjects=("002",))
    run_all(
        Run(dataset, every_task, [sitter], settings, tmp_path / "run", body=body, truths=truths)
    )
    assert len(sitter.people) == 1
    drawn = [motion.case for motion in sitter.motions]
    transfers = [f"transfer/002_1_2-wears-{clip}" for clip in ("001_1_1", "003_1_2")]
    assert drawn == ["self/002_1_2", INSTANT, LATER, *transfers]


def test_other_true_pictures_are_another_dataset(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    def run(kind: str) -> Run:
        fresh = TruthTables(truths.root)
        out = tmp_path / kind
        return Run(dataset, every_task, [Copy()], view(kind), out, body=body, truths=fresh)

    for kind in ("instant", "turn"):
        run_all(run(kind))
    (digest,) = {row["dataset_digest"] for row in rows(tmp_path / "instant")}
    assert {row["dataset_digest"] for row in rows(tmp_path / "turn")} == {dataset.digest}
    assert digest != dataset.digest
    picture = truths.root / "truth/views/002/1/2/at_0002/0090.png"
    write_image(picture, np.zeros_like(read_image(picture)))
    with pytest.raises(ValueError, match="true_pictures_digest_instant is"):
        run_all(run("instant"))
    run_all(run("turn"))  # whose truth lies in the clip
    (truths.root / "truth" / "transfer.csv").write_text("not a table of this kind\n")
    picture.unlink()
    with pytest.raises(FileNotFoundError, match=r"0090\.png is not there.*iper synth"):
        run_all(run("instant"))


def test_a_damaged_true_picture_is_no_methods_fault(
    dataset: Any, every_task: Protocol, truths: TruthTables, tmp_path: Path, body: Body
) -> None:
    path = truths.root / "truth/views/002/1/2/at_0002/0180.png"
    path.write_bytes(path.read_bytes()[:40])
    run = Run(dataset, every_task, [Copy()], view(), tmp_path / "run", body=body, truths=truths)
    assert not run_all(run)[1]
    assert set(read_run(tmp_path / "run")["unreadable_cases"]) == {INSTANT}
    assert {row["case"] for row in rows(tmp_path / "run")} == {TURN, LATER}


def test_fits_of_another_body_end_the_run(
    dataset: Any,
    every_task: Protocol,
    truths: TruthTables,
    tmp_path: Path,
    body: Body,
) -> None:
    path = truths.root / "truth/views/002/1/2/at_0002/pose_shape.pkl"
    path.write_bytes(path.read_bytes().replace(b"open-body-1", b"open-body-9"))
    run = Run(dataset, every_task, [Copy()], view(), tmp_path / "run", body=body, truths=truths)
    with pytest.raises(BodyMismatch, match=r"open-body-9.*--kind"):
        run_all(run)


def test_true_pictures_are_cut_by_the_clips_crop(
    dataset: Any, every_task: Protocol, truths: TruthTables, body: Body
) -> None:
    case = truths.view_cases(every_task)[0]
    size = dataset.clip(case.clip).frame_size
    whole = truths.pictures_of(case, SquareCrop(17, 11, 96), size)
    half = truths.pictures_of(case, SquareCrop(41, 23, 48), size)
    for read in ("frames", "masks"):
        np.testing.assert_array_equal(
            getattr(half, read)([0], 48)[0], getattr(whole, read)([0], 96)[0, 12:60, 24:72]
        )
    # The body stays on the same pixels.
    pixels = {
        pictures.crop.side: ndc_to_pixels(
            project(body.pose(params).vertices, params.camera)[..., :2], pictures.crop.side
        )
        for pictures in (whole, half)
        for params in [pictures.params([90], body)]
    }
    torch.testing.assert_close(
        pixels[48] + torch.tensor([24.0, 12.0]), pixels[96], atol=1e-3, rtol=0
    )


def test_views_that_all_are_sources_are_told(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    settings = view("turn", num_sources=2, max_frames=2)
    dataset.clip("001/1/1").valid[[0, 6]] = False
    run_all(Run(dataset, every_task, [Copy()], settings, tmp_path / "run", body=body))
    unscored = read_run(tmp_path / "run")["unscored_cases"]
    assert unscored == {
        TURN: "2 frames of 001/1/1 have no valid fit and are not scored; no frame is left to score"
    }


def test_a_run_without_anything_to_score_is_refused(
    dataset: Any, every_task: Protocol, tmp_path: Path, body: Body
) -> None:
    shown = tuple(row for row in every_task.views if row.frame in (2, 4))
    few, out = replace(every_task, views=shown), tmp_path / "run"
    run = Run(dataset, few, [Copy()], view("turn", num_sources=2), out, body=body)
    with pytest.raises(ValueError, match=f"every frame to draw of {TURN} is a source.*official"):
        run_all(run)
    assert not out.exists()
    settings = view("turn", num_sources=2, targets="official")
    run_all(Run(dataset, few, [Copy()], settings, out, body=body))
    assert [row["frame"] for row in rows(out)] == [2, 4]


@pytest.mark.parametrize(
    ("most", "unfit", "drawn"),
    [
        (2, (), [0, 8]),
        (20, (), [0, 1, 3, 4, 5, 6, 7, 8]),  # without frame 2, which is the source
        (3, (0, 1, 3, 4, 5, 6, 7, 8), [0, 4, 8]),  # nothing to score, so of all
    ],
)
def test_a_thinned_run_draws_what_it_scores(
    most: int,
    unfit: tuple[int, ...],
    drawn: list[int],
    dataset: Any,
    every_task: Protocol,
    tmp_path: Path,
    body: Body,
) -> None:
    dataset.clip("001/1/1").valid[list(unfit)] = False
    sitter = Sitter()
    settings = Settings(size=SIZE, metrics=("l1",), max_frames=most, subjects=("001",))
    run_all(Run(dataset, every_task, [sitter], settings, tmp_path / "run", body=body))
    motion = next(motion for motion in sitter.motions if motion.case == "self/001_1_1")
    assert list(motion.positions) == drawn
