"""From files to tables: what comes out, resuming, sharing the work, and failing well."""

import errno
import gc
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit import atomic, manifest
from iper_toolkit import prepare as prepare_module
from iper_toolkit.clip import Dataset
from iper_toolkit.images import write_image
from iper_toolkit.prepare import (
    STAGES,
    MixedRoot,
    NothingToPrepare,
    prepare,
    shard_of,
)
from iper_toolkit.stages import VERSIONS, ClipWork, Options, read_json, stage_folder
from iper_toolkit.video import probe, write_video

MakeRoot = Callable[..., Path]


def tables(root: Path) -> tuple[list, list, dict]:
    """All three, as plain values."""
    about = manifest.read_about(root)
    return (
        manifest.read_clips(root).to_pylist(),
        manifest.read_frames_table(root).to_pylist(),
        about,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mini: type) -> Path:
    """Three clips - frames with masks, a video without, and one that fails - prepared in one go."""
    root = tmp_path_factory.mktemp("undisturbed") / "data"
    make_three(root, mini)
    prepare(root)
    return root


def make_three(root: Path, mini: type) -> None:
    mini.frames(root, "001/1/1", seed=1)
    mini.video(root, "002/1/2", seed=2)
    mini.frames(root, "003/1/1", seed=3)
    (root / "images_HD/003/1/1/0004.jpg").write_bytes(b"")


def test_what_comes_out(undisturbed: Path) -> None:
    clips, frames, about = tables(undisturbed)
    first, second, third = clips
    assert (first["clip_id"], first["kind"], first["mask_source"]) == ("001/1/1", "frames", "set")
    assert (second["kind"], second["mask_source"], second["fps"]) == ("video", "body", 25)
    assert [c["status"] for c in clips] == ["done", "done", "failed"]
    assert first["crop"] == {"cx": 48, "cy": 48, "side": 96}
    assert (first["fit_source"], first["body_id"]) == ("official", "open-body-1")
    assert third["error"].startswith("images_HD/003/1/1/0004.jpg is empty (0 bytes)")
    assert len(frames) == 16
    assert {frame["valid"] for frame in frames} == {True}
    assert about["counts"] == {"clips": 3, "done": 2, "failed": 1, "frames": 16}
    assert about["sizes"]["proxy"] == 512
    assert about["name"] == "iPER"
    assert not about["synthetic"]
    # the person starts facing the camera and turns once
    assert first["front_frames"][0] in (0, 1, 7)
    assert first["back_frames"][0] in (3, 4, 5)
    assert len(first["front_frames"]) == 8


def test_the_tables_name_no_machine(undisturbed: Path) -> None:
    text = (undisturbed / "manifests/dataset.json").read_text()
    assert str(undisturbed) not in text
    assert str(undisturbed) not in json.dumps(tables(undisturbed)[0])
    assert "seconds" not in text


def test_the_cache_says_what_it_is(undisturbed: Path) -> None:
    for stage in STAGES:
        folder = undisturbed / "cache" / f"{stage.name}-v{stage.version}" / "001/1/1"
        record = json.loads((folder / "stage.json").read_text())
        assert sorted(os.listdir(folder)) == sorted([*stage.makes, "stage.json"])
        assert set(record["outputs"]) == set(stage.makes)
    info = probe(stage_folder(undisturbed, "proxy", "001/1/1") / "proxy.mp4")
    assert (info.width, info.height, info.num_frames) == (96, 96, 8)


def test_stages_are_in_order_and_versioned() -> None:
    names = [stage.name for stage in STAGES]
    assert set(names) == set(VERSIONS)
    for place, stage in enumerate(STAGES):
        assert set(stage.needs) <= set(names[:place])
        assert set(stage.options) <= set(Options.__dataclass_fields__)
        assert stage.makes


def test_nothing_done_is_done_twice(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables(undisturbed)
    ran = record_stages(monkeypatch)
    summary = prepare(undisturbed)
    assert ran == [("source", "003/1/1")]  # what failed is tried again
    assert summary.unchanged == ("001/1/1", "002/1/2")
    assert summary.prepared == ()
    assert list(summary.failures) == ["003/1/1"]
    assert tables(undisturbed) == before


def test_a_copied_root_keeps_its_work(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(undisturbed, copied, copy_function=shutil.copyfile)  # new times
    ran = record_stages(monkeypatch)
    prepare(copied)
    assert set(ran) == {("source", "001/1/1"), ("source", "002/1/2"), ("source", "003/1/1")}
    assert tables(copied) == tables(undisturbed)


def record_stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    ran: list[tuple[str, str]] = []
    run = prepare_module._run_stage

    def recorded(stage, work, key):
        ran.append((stage.name, work.clip.clip_id))
        run(stage, work, key)

    monkeypatch.setattr(prepare_module, "_run_stage", recorded)
    return ran


def test_only_what_depends_on_a_change_is_repeated(
    mini_root: MakeRoot, mini: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mini_root(2)
    prepare(root)
    ran = record_stages(monkeypatch)
    prepare(root, options=Options(size=64))
    assert ran == [(s, c) for c in ("001/1/1", "002/1/1") for s in ("proxy", "rows")]
    assert manifest.read_about(root)["sizes"]["proxy"] == 64
    ran.clear()
    fit = mini.clip(1, 8)[2].copy()
    fit[:, 1] += 0.01
    mini.fit(root / "smpls/001/1/1/pose_shape.pkl", fit, body_id="open-body-1")
    prepare(root, options=Options(size=64))
    assert [name for name, _ in ran] == [stage.name for stage in STAGES]
    assert {clip for _, clip in ran} == {"001/1/1"}
    ran.clear()
    write_image(root / "images_HD/002/1/1/0003.jpg", mini.clip(2, 8)[0][4])
    prepare(root, options=Options(size=64))
    assert ("proxy", "002/1/1") in ran
    ran.clear()
    (root / "train.txt").write_text("")
    prepare(root, options=Options(size=64))
    assert ran == [("rows", "001/1/1")]
    assert manifest.read_clips(root).to_pylist()[0]["split"] == ""


def test_the_digest_covers_all_that_a_method_is_given(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    prepare(root)
    first = Dataset.open(root)
    row = first.rows["001/1/1"]
    for column, stage, name in (
        ("masks_sha256", "mask", "masks.npz"),
        ("background_sha256", "proxy", "background.png"),
    ):
        assert row[column] == manifest.file_sha256(stage_folder(root, stage, "001/1/1") / name)
    # one pixel of one mask, with the person's area as it was
    path = root / "masks/001/1/1.npz"
    masks = mini.clip(1, 8)[1].copy()
    inside, outside = np.argwhere(masks[3] == 255)[0], np.argwhere(masks[3] == 0)[0]
    masks[3][tuple(inside)], masks[3][tuple(outside)] = 0, 255
    np.savez_compressed(path, masks=masks)
    prepare(root)
    second = Dataset.open(root)
    assert second.rows["001/1/1"]["masks_sha256"] != row["masks_sha256"]
    assert second.digest != first.digest


def test_the_background_does_not_depend_on_the_proxy(mini_root: MakeRoot) -> None:
    root = mini_root(1)
    prepare(root, options=Options(size=96))
    before = Dataset.open(root)
    plate = before.clip("001/1/1").background(96)
    prepare(root, options=Options(size=32))
    after = Dataset.open(root)
    assert np.array_equal(after.clip("001/1/1").background(96), plate)
    assert after.digest == before.digest


def test_options_there_and_back_never_mix_outputs(mini_root: MakeRoot) -> None:
    root = mini_root(1)
    prepare(root, options=Options(size=64))
    before = tables(root)
    prepare(root, options=Options(size=32))
    prepare(root, options=Options(size=64))
    assert tables(root) == before
    assert probe(stage_folder(root, "proxy", "001/1/1") / "proxy.mp4").width == 64


def test_a_mended_clip_joins_the_tables(undisturbed: Path, tmp_path: Path, mini: type) -> None:
    root = tmp_path / "data"
    shutil.copytree(undisturbed, root)
    write_image(root / "images_HD/003/1/1/0004.jpg", mini.clip(3, 8)[0][4])
    summary = prepare(root)
    assert summary.ok
    assert summary.prepared == ("003/1/1",)
    assert Dataset.open(root).clip_ids == ("001/1/1", "002/1/2", "003/1/1")
    shutil.rmtree(root / "images_HD/003")
    assert prepare(root).num_clips == 2
    assert Dataset.open(root).clip_ids == ("001/1/1", "002/1/2")


# ---------------------------------------------------------------------------------- sharing, killing


def test_two_shards_give_the_tables_of_one_process(
    undisturbed: Path, tmp_path: Path, mini: type
) -> None:
    root = tmp_path / "data"
    make_three(root, mini)
    names = ["001/1/1", "002/1/2", "003/1/1"]
    first = prepare(root, shard=(0, 2))
    assert not first.tables_written
    assert {*first.prepared, *first.failures} == {n for n in names if shard_of(n, 2) == 0}
    with pytest.raises(manifest.NotPrepared):
        Dataset.open(root)
    second = prepare(root, shard=(1, 2))
    assert second.tables_written
    assert list(second.failures) == ["003/1/1"]
    assert tables(root) == tables(undisturbed)


@pytest.mark.slow
def test_worker_processes_give_the_same_tables(
    undisturbed: Path, tmp_path: Path, mini: type
) -> None:
    root = tmp_path / "data"
    make_three(root, mini)
    heard: list[tuple] = []
    summary = prepare(root, workers=2, progress=lambda *told: heard.append(told))
    assert summary.prepared == ("001/1/1", "002/1/2")
    assert sorted(told[0] for told in heard) == ["001/1/1", "002/1/2", "003/1/1"]
    assert [told[2:] for told in heard] == [(1, 3), (2, 3), (3, 3)]
    assert tables(root) == tables(undisturbed)


def run_and_die(root: Path, at: int, before: bool) -> bool:
    """Prepare in a forked process that is killed at its `at`-th move into place. True if it lived."""
    gc.collect()
    pid = os.fork()
    if pid == 0:
        gc.disable()  # what other tests left would wait for threads that a fork does not have
        replace, count = os.replace, 0

        def deadly(part: Path, path: Path) -> None:
            nonlocal count
            count += 1
            if count == at and before:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(part, path)
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        atomic.os.replace = deadly  # type: ignore[assignment]
        try:
            prepare(root)
        except BaseException:
            os._exit(2)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", [True, False], ids=["before the move", "after the move"])
def test_killed_at_any_write_and_restarted(
    undisturbed: Path, tmp_path: Path, mini: type, before: bool
) -> None:
    """Every restart dies a little later than the last one got: each write is hit or passed."""
    root = tmp_path / "data"
    make_three(root, mini)
    deaths = 0
    while not run_and_die(root, at=deaths + 1, before=before):
        deaths += 1
        assert deaths < 60
        for mark in root.rglob(
            "*.begun"
        ):  # else the clip goes to a process whose writes nobody counts
            mark.unlink()
    assert deaths >= 8
    assert tables(root) == tables(undisturbed)
    assert not list(root.rglob(f"{atomic.PART_PREFIX}*"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ten_kills_at_random_moments(
    undisturbed: Path, tmp_path: Path, mini: type, workers: str
) -> None:
    root = tmp_path / "data"
    make_three(root, mini)
    command = [sys.executable, "-m", "iper_toolkit", "prepare", "--root", str(root)]
    command += ["--workers", workers]
    # From when the run has begun to write, so that kills hit work on slow and fast machines alike.
    waits = np.random.default_rng(7).uniform(0.02, 0.6, 10)
    hits = 0
    for seconds in waits:
        before = set(root.glob("cache/*/*/*/*/stage.json"))
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        while run.poll() is None and time.monotonic() - started < 60:
            if set(root.glob("cache/*/*/*/*/stage.json")) - before:
                break
            time.sleep(0.01)
        try:
            run.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            hits += not (root / "manifests/dataset.json").exists()
    assert hits >= 3, "too few kills hit unfinished work"
    final = subprocess.run(command, capture_output=True, text=True)
    assert final.returncode == 1, final.stderr  # one clip is broken on purpose
    assert tables(root) == tables(undisturbed)


@pytest.mark.slow
def test_workers_of_a_killed_parent_end_too(tmp_path: Path, mini: type) -> None:
    root = tmp_path / "data"
    for number in range(1, 9):
        mini.frames(root, f"{number:03d}/1/1", seed=1)
    command = [sys.executable, "-m", "iper_toolkit", "prepare", "--workers", "2", "--root"]
    run = subprocess.Popen([*command, str(root)], start_new_session=True)
    while not list(root.glob("cache/source-v*/*/*/*/stage.json")):
        assert run.poll() is None
    run.kill()
    run.wait()
    for _ in range(200):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    pytest.fail("a worker outlived its parent by ten seconds")


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_clip_alone(
    mini_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mini_root(3)
    monkeypatch.setattr(prepare_module, "use_one_thread", partial(exec, _POISON, {}))
    summary = prepare(root, workers=2)
    assert list(summary.failures) == ["002/1/1"]
    assert "SIGKILL): most often the memory was not enough" in summary.failures["002/1/1"]
    assert summary.prepared == ("001/1/1", "003/1/1")
    assert summary.tables_written


# A worker that crashes on one clip, as a decoder may. Source, because workers are started afresh and need not find this
# module: some libraries install a package called `tests`.
_POISON = """
import os
from iper_toolkit import prepare

run = prepare._run_stage

def deadly(stage, work, key):
    if work.clip.clip_id == "002/1/1" and stage.name == "mask":
        os.kill(os.getpid(), 9)
    run(stage, work, key)

prepare._run_stage = deadly
"""


def test_a_clip_that_kills_its_process_stops_the_next_start_no_more(
    mini_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker clips run in the command's own process; the mark that a dead one leaves sends them elsewhere."""
    root = mini_root(2)
    mark = root / "cache" / "locks" / "002" / "1" / "1.begun"
    mark.parent.mkdir(parents=True)
    mark.touch()
    elsewhere: list[str] = []

    def killed(works: list[ClipWork], workers: int) -> list[tuple[str, prepare_module.Outcome]]:
        elsewhere.extend(work.clip.clip_id for work in works)
        error = ValueError("its process was killed by SIGKILL: too little memory")
        return [
            (w.clip.clip_id, prepare_module.Outcome(prepare_module._record_failure(w, error), True))
            for w in works
        ]

    monkeypatch.setattr(prepare_module, "_run_in_processes", killed)
    summary = prepare(root)
    assert elsewhere == ["002/1/1"]
    assert summary.tables_written
    assert summary.prepared == ("001/1/1",)
    assert "SIGKILL" in summary.failures["002/1/1"]
    assert not list(root.rglob("*.begun"))


# ------------------------------------------------------------------------------------------ bad input


def failure_of(root: Path, clip_id: str = "001/1/1") -> str:
    """The reason for which a clip failed, while the other one went on."""
    summary = prepare(root)
    assert set(summary.failures) == {clip_id}, summary.failures
    assert summary.tables_written
    assert len(Dataset.open(root).clip_ids) == summary.num_clips - 1
    reason = summary.failures[clip_id]
    assert str(root) not in reason
    return reason


def test_a_fit_of_the_wrong_length(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root()
    fit = mini.clip(1, 8)[2][:7]
    mini.fit(root / "smpls/001/1/1/pose_shape.pkl", fit, body_id="open-body-1")
    reason = failure_of(root)
    assert "smpls/001/1/1/pose_shape.pkl: 7 frames; images_HD/001/1/1 has 8" in reason


def test_a_missing_frame_is_named(mini_root: MakeRoot) -> None:
    root = mini_root()
    (root / "images_HD/001/1/1/0005.jpg").unlink()
    assert "images_HD/001/1/1 has 7. Missing: 0005.jpg." in failure_of(root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pose": np.zeros((8, 70))}, "pose"),
        ({"cams": np.full((8, 3), np.nan)}, "cams"),
        ({"cams": np.zeros((8, 3))}, "camera scale of frame 0"),
        ({"shape": "none"}, "shape"),
        ({"body_id": "smpl-0123456789ab"}, "made for body smpl-0123456789ab"),
        ({"body_id": ""}, "names no body.*--body"),
        ({"synthetic": True}, "marked as synthetic"),
    ],
)
def test_bad_fits_are_named(mini_root: MakeRoot, mini: type, change: dict, reason: str) -> None:
    root = mini_root()
    fit = mini.clip(1, 8)[2]
    content = {"cams": fit[:, :3], "pose": fit[:, 3:75], "shape": fit[:, 75:]}
    path = root / "smpls/001/1/1/pose_shape.pkl"
    path.write_bytes(pickle.dumps(content | {"body_id": "open-body-1"} | change, protocol=2))
    assert re.search(f"smpls/001/1/1/pose_shape.pkl.*{reason}", failure_of(root))


def test_a_fit_that_is_no_pickle_or_a_hostile_one(mini_root: MakeRoot) -> None:
    root = mini_root()
    path = root / "smpls/001/1/1/pose_shape.pkl"
    path.write_bytes(b"\x80\x02}q\x00")
    assert "pose_shape.pkl" in failure_of(root)
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(root / "owned").encode() + b"'\ntR.")
    assert "pose_shape.pkl" in failure_of(root)
    assert not (root / "owned").exists()


def test_broken_frames_are_named(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root()
    path = root / "images_HD/001/1/1/0006.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "images_HD/001/1/1/0006.jpg is cut short" in failure_of(root)
    write_image(path, mini.clip(1, 8)[0][6][:50])
    assert "frame 6 is 96 x 50, the first is 96 x 96" in failure_of(root)
    path.write_bytes(data)
    write_image(path.with_suffix(".png"), mini.clip(1, 8)[0][6])
    assert "holds frame 0006 twice (0006.jpg, 0006.png)" in failure_of(root)


def test_a_truncated_video(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    path = mini.video(root, "005/1/1", seed=2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "005_1_1.mp4 cannot be opened as a video" in failure_of(root, "005/1/1")


def test_a_truncated_video_whose_index_comes_first(mini_root: MakeRoot, mini: type) -> None:
    """Such a file (faststart) opens well and promises all its frames."""
    import av

    root = mini_root(1)
    path = mini.video(root, "005/1/1", seed=2, num_frames=40)
    first = root / "first.part"
    with av.open(str(path)) as source:
        target = av.open(str(first), "w", format="mp4", options={"movflags": "faststart"})
        with target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    data = first.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    first.unlink()
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 40
    reason = failure_of(root, "005/1/1")
    assert reason.startswith("005_1_1.mp4")
    assert "again" in reason  # which words depends on where the decoder notices


def test_another_rate_of_a_video_is_another_fit(
    mini_root: MakeRoot, mini: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate and number of frames are found by decoding; the fit is smoothed by the rate."""
    root = mini_root(1)
    mini.video(root, "005/1/1", seed=2)
    prepare(root)
    assert Dataset.open(root).clip("005/1/1").fps != 12.5
    folders = {stage: stage_folder(root, stage, "005/1/1") for stage in ("crop", "fit", "proxy")}
    first = {stage: read_json(f / "stage.json")["key"] for stage, f in folders.items()}
    from iper_toolkit.stages import source

    monkeypatch.setattr(source, "probe", lambda path: replace(probe(path), fps=12.5))
    monkeypatch.setitem(VERSIONS, "source", 99)
    prepare(root)
    assert Dataset.open(root).clip("005/1/1").fps == 12.5
    for stage, folder in folders.items():
        assert read_json(folder / "stage.json")["key"] != first[stage], stage


def test_a_video_shorter_than_it_says(
    mini_root: MakeRoot, mini: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mini_root(1)
    mini.video(root, "005/1/1", seed=2)
    from iper_toolkit.stages import proxy

    read = proxy.read_frames
    monkeypatch.setattr(proxy, "read_frames", lambda path: list(read(path))[:-1])
    reason = failure_of(root, "005/1/1")
    assert "005_1_1.mp4 gave 7 frames, but its container promises 8" in reason


def test_masks_of_another_length_or_shape(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root()
    path = root / "masks/001/1/1.npz"
    masks = mini.clip(1, 8)[1]
    np.savez(path, masks=masks[:5])
    assert "masks/001/1/1.npz: masks is (5, 96, 96); the clip has 8 frames" in failure_of(root)
    np.savez(path, masks=masks[:, :40])
    assert "masks are 96 x 40, frames 96 x 96" in failure_of(root)
    np.savez(path, masks=masks * 0)
    assert "no frame shows the person" in failure_of(root)


def test_duplicate_names(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root()
    mini.video(root, "001/1/1")
    assert "2 sources have the name 001/1/1: 001_1_1.mp4, images_HD/001/1/1" in failure_of(root)


def test_spaces_and_unicode_in_paths(tmp_path: Path, mini: type) -> None:
    root = tmp_path / "mes données = ü"
    root.mkdir()
    frames, masks, _ = mini.clip(1, 8)
    write_video(root / "été à la plage.mp4", frames, 25)
    mini.keypoints(root / "été à la plage.json", seed=1)
    grey = np.repeat(masks[..., None], 3, axis=-1)
    write_video(root / "été à la plage_mask.mp4", grey, 25)
    assert prepare(root).ok
    clip = Dataset.open(root).clip("été à la plage")
    assert (clip.fit_source, clip.mask_source, clip.body_id) == ("keypoints", "file", "open-body-1")
    assert clip.row["fit_error_pixels"] < 4
    assert clip.subject == "été à la plage"
    assert clip.keypoints.shape == (8, 25, 3)
    cut = clip.masks(range(8), clip.crop.side) > 127
    assert (cut == (clip.crop.cut(masks.transpose(1, 2, 0)).transpose(2, 0, 1) > 127)).mean() > 0.98


def test_a_video_without_fit_and_keypoints(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    write_video(root / "me.mp4", mini.clip(1, 8)[0], 25)
    reason = failure_of(root, "me")
    assert "me.mp4 has neither a fit nor keypoints" in reason
    assert "me.json" in reason


def test_a_full_disk_fails_one_clip_and_leaves_nothing_half_written(
    mini_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = mini_root()
    from iper_toolkit.stages import proxy

    write = proxy.write_video

    def full(path, frames, fps, **options):
        written = write(path, frames, fps, **options)
        if "/001/1/1/" in str(path):
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return written

    monkeypatch.setattr(proxy, "write_video", full)
    reason = failure_of(root)
    assert reason == (
        f"Cannot write cache/proxy-v{VERSIONS['proxy']}/001/1/1: the disk is full: free some space and run the "
        "same command again"
    )
    assert os.listdir(stage_folder(root, "proxy", "001/1/1")) == []
    monkeypatch.undo()
    assert prepare(root).prepared == ("001/1/1",)


def test_a_read_only_root_says_so(mini_root: MakeRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mini_root(1)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(
        atomic.WriteError, match="is read-only: copy or link the data into a folder"
    ):
        prepare(root)


def test_half_written_outputs_are_not_believed(mini_root: MakeRoot) -> None:
    root = mini_root(1)
    prepare(root)
    before = tables(root)
    path = stage_folder(root, "mask", "001/1/1") / "masks.npz"
    path.write_bytes(path.read_bytes()[:50])
    (stage_folder(root, "fit", "001/1/1") / "stage.json").write_text('{"key": ')
    assert prepare(root).prepared == ("001/1/1",)
    assert tables(root) == before


# ------------------------------------------------------------------------------- synthetic and real


def test_synthetic_clips_in_a_real_root_are_refused(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    for number, frame in enumerate(mini.clip(2, 8)[0]):
        path = root / f"images_HD/777/1/1/{number:04d}.jpg"
        write_image(path, frame, comment="synthetic")
    with pytest.raises(MixedRoot, match="marked as synthetic: 777/1/1"):
        prepare(root)
    assert not (root / "manifests").exists()


def test_real_clips_in_a_synthetic_root_are_refused(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    (root / "dataset.toml").write_text('name = "s"\nsynthetic = true\n')
    with pytest.raises(MixedRoot, match="not marked as synthetic: 001/1/1"):
        prepare(root)
    shutil.rmtree(root / "images_HD")
    mini.video(root, "001/1/1")
    with pytest.raises(MixedRoot, match="not marked as synthetic: 001/1/1"):
        prepare(root)


def test_a_synthetic_root_is_synthetic_throughout(mini_root: MakeRoot, mini: type) -> None:
    root = mini_root(1)
    (root / "dataset.toml").write_text('name = "s"\nsynthetic = true\n')
    frames, _, fit = mini.clip(1, 8)
    for number, frame in enumerate(frames):
        write_image(root / f"images_HD/001/1/1/{number:04d}.jpg", frame, comment="synthetic")
    # the first frame carries the mark, the fit does not
    assert "not marked as synthetic" in prepare(root).failures["001/1/1"]
    path = root / "smpls/001/1/1/pose_shape.pkl"
    mini.fit(path, fit, body_id="open-body-1", synthetic=True)
    assert prepare(root).ok
    dataset = Dataset.open(root)
    assert dataset.synthetic
    assert dataset.clip("001/1/1").fit_source == "synthetic"
    assert probe(dataset.clip("001/1/1").proxy).comment.startswith("synthetic")
    write_image(root / "images_HD/001/1/1/0005.jpg", frames[5])
    assert "0005.jpg is not marked as synthetic" in prepare(root).failures["001/1/1"]


def test_an_empty_or_missing_root_says_what_to_do(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NothingToPrepare) as error:
            prepare(root)
        for hint in ("iper synth --root", "NAME.mp4", "NAME.json", "pose_shape.pkl"):
            assert hint in str(error.value)
    assert not (tmp_path / "nowhere").exists()


def test_an_interrupted_synthetic_set_is_not_prepared(mini_root: MakeRoot) -> None:
    root = mini_root(1)
    (root / "dataset.toml").write_text('name = "s"\nsynthetic = true\ncomplete = false\n')
    with pytest.raises(ValueError, match=r"not complete.*Run the same iper synth command again"):
        prepare(root)


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="index runs from 0 to 1"):
        prepare(tmp_path, shard=(2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        prepare(tmp_path, workers=0)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        Options(size=4)
    with pytest.raises(ValueError, match="1 or more"):
        Options(crop_factor=0.5)
