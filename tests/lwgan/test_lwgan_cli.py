"""The `lwgan` command, from files to files, with a very small network that has learned nothing."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from iper_toolkit import __version__
from iper_toolkit.clip import Dataset
from iper_toolkit.images import read_image, write_image
from iper_toolkit.manifest import file_sha256
from iper_toolkit.video import probe, read_comment_tag, read_frames, write_video
from lwgan.cli import main
from lwgan.generators import PRESETS
from lwgan.options import PRESET_NAMES
from lwgan.people import open_frames
from lwgan.provenance import read_provenance

SIZE = 64

Call = Callable[..., Result]


@pytest.fixture
def call(prepared_root: Path, tiny_weights: Path, tmp_path: Path) -> Call:
    """`call("imitate", ...)` with root, weights and size given; relative outputs go to tmp_path."""

    def invoke(command: str, *arguments: object, weights: object = tiny_weights) -> Result:
        texts = [str(a) for a in arguments]
        if command in ("imitate", "transfer", "view"):
            given = [
                ("--root", prepared_root),
                ("--weights", weights),
                ("--size", SIZE),
                ("--device", "cpu"),
            ]
            for option, value in given:
                if option not in texts:
                    texts += [option, str(value)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return CliRunner().invoke(main, [command, *texts], catch_exceptions=False)
        finally:
            torch.set_num_threads(threads)

    return invoke


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


# --------------------------------------------------------------------------------------------- tasks


def test_imitate(call: Call, prepared_root: Path, tmp_path: Path) -> None:
    out, inputs, compare = (tmp_path / name for name in ("x.mp4", "inputs", "compare.mp4"))
    result = fine(
        call(
            *("imitate", "--source", "001/1/1", "--motion", "002/1/1@1-4"),
            *("--out", out, "--inputs-out", inputs, "--compare", compare, "--batch", 3),
        )
    )
    assert f"{out}: 4 frames, of a network with random weights" in result.stdout
    assert "Memory: about" in result.stderr
    info = probe(out)
    assert (info.num_frames, info.width, info.height, info.fps) == (4, SIZE, SIZE, 30)
    assert read_comment_tag(out).startswith("synthetic")
    record = read_provenance(out)
    assert record == json.loads((tmp_path / "x.mp4.json").read_text())
    assert record["task"] == "imitate"
    assert record["weights"]["random"] is True
    assert record["motion"][0].startswith("002/1/1 frames 1-4 (sha256 ")
    assert len(record["people"][0]["sources"]) == 2
    assert {"size", "batch", "precision", "device", "camera", "background"} <= record[
        "settings"
    ].keys()
    assert [path.name for path in sorted(inputs.glob("*.png"))] == [
        f"0000{n}.png" for n in range(4)
    ]
    # What the network was shown is the person, in the person's colours, on grey.
    shown = read_image(inputs / "00000.png").reshape(-1, 3)
    person = (np.abs(shown.astype(int) - 128) > 2).any(1)
    assert 0.04 < person.mean() < 0.5
    clip = Dataset.open(prepared_root).clip("001/1/1")
    source, mask = clip.frames([0], SIZE)[0], clip.masks([0], SIZE)[0] == 255
    np.testing.assert_allclose(shown[person].mean(0), source[mask].mean(0), atol=25)
    assert probe(compare).width == SIZE // 2 + 10 + SIZE + 10 + SIZE


def test_a_comparison_shows_the_motion(call: Call, prepared_root: Path, tmp_path: Path) -> None:
    compare = tmp_path / "compare"
    fine(
        call(
            *(
                "imitate",
                "--source",
                "001/1/1@0",
                "--motion",
                "002/1/1@2-3",
                "--bullet-time",
                "1:2",
            ),
            *("--out", tmp_path / "x.mp4", "--compare", compare),
        )
    )
    shown = [read_image(path) for path in sorted(compare.glob("*.png"))]
    clip = Dataset.open(prepared_root).clip("002/1/1")
    frames = clip.frames([2, 3, 3, 3], SIZE)  # time stands still before the second one
    np.testing.assert_array_equal([row[:, SIZE + 10 : 2 * SIZE + 10] for row in shown], frames)
    source = Dataset.open(prepared_root).clip("001/1/1").frames([0], SIZE)[0]
    np.testing.assert_array_equal(shown[0][:, :SIZE], source)


def test_imitate_from_several_views(call: Call, tmp_path: Path) -> None:
    fine(
        call(
            *(
                "imitate",
                "--source",
                "001/1/1",
                "--motion",
                "001/1/1@0-1",
                "--view",
                90,
                "--view",
                -45.5,
            ),
            *("--out", tmp_path / "x", "--inputs-out", tmp_path / "inputs.mp4", "--fps", 5),
        )
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("x_view90", "x_view-45_5"),
        *("inputs_view90.mp4", "inputs_view90.mp4.json"),
        *("inputs_view-45_5.mp4", "inputs_view-45_5.mp4.json"),
    }
    assert read_provenance(tmp_path / "x_view90")["settings"]["view_degrees"] == 90
    assert probe(tmp_path / "inputs_view90.mp4").fps == 5


def test_imitate_with_raw_files(
    call: Call, quick_fit: None, raw_files: Path, cache: Path, tmp_path: Path
) -> None:
    result = fine(
        call(
            *("imitate", "--source", raw_files / "me.png", "--motion", raw_files / "dance.mp4"),
            *("--cache", cache, "--max-frames", 2, "--out", tmp_path / "x.mp4", "--json"),
        )
    )
    told = json.loads(result.stdout)
    assert told["outputs"][0]["frames"] == 2
    record = read_provenance(tmp_path / "x.mp4")
    assert record["people"][0]["sources"][0].startswith("me.png frame 0 (sha256 ")
    assert record["motion"][0].startswith("dance.mp4 frames 0-1")
    assert str(raw_files) not in json.dumps(record)


def test_transfer(call: Call, prepared_root: Path, tmp_path: Path) -> None:
    """In the texture, the upper body has the second person's colours and the rest does not."""
    for parts in ("upper", "facial"):
        fine(
            call(
                *("transfer", "--person", "001/1/1@0", "--person", f"002/1/1@0={parts}"),
                *(
                    "--out",
                    tmp_path / f"{parts}.png",
                    "--inputs-out",
                    tmp_path / f"{parts}_inputs.png",
                ),
            )
        )
    fine(
        call(
            *("transfer", "--person", "001/1/1@0", "--person", "002/1/1@0=upper"),
            *("--motion", "001/1/1@0-1", "--select", "flow", "--out", tmp_path / "moving.mp4"),
        )
    )
    assert probe(tmp_path / "moving.mp4").num_frames == 2
    record = read_provenance(tmp_path / "upper.png")
    assert [person["parts"] for person in record["people"]] == [[], ["upper"]]
    assert record["motion"] == []
    upper, facial = (read_image(tmp_path / f"{p}_inputs.png") for p in ("upper", "facial"))
    changed = (np.abs(upper.astype(int) - facial) > 30).any(-1)
    covered = (np.abs(upper.astype(int) - 128) > 2).any(-1)
    rows = np.flatnonzero(covered.any(1))
    middle = slice(rows[0] + len(rows) * 25 // 100, rows[0] + len(rows) * 40 // 100)
    shins = slice(rows[0] + len(rows) * 75 // 100, rows[0] + len(rows) * 90 // 100)
    assert changed[middle][covered[middle]].mean() > 0.8
    assert changed[shins][covered[shins]].mean() < 0.1


def test_view(call: Call, tmp_path: Path) -> None:
    fine(call("view", "--source", "001/1/1", "--turn", 5, "--out", tmp_path / "around.mp4"))
    assert probe(tmp_path / "around.mp4").num_frames == 5
    fine(
        call(
            *("view", "--source", "001/1/1", "--angle", 0, "--angle", 90, "--t-pose"),
            *(
                "--out",
                tmp_path / "views",
                "--inputs-out",
                tmp_path / "inputs",
                "--compare",
                tmp_path / "c",
            ),
        )
    )
    front, side = (read_image(tmp_path / "inputs" / f"0000{n}.png").astype(int) for n in (0, 1))
    widths = [np.count_nonzero((np.abs(p - 128) > 2).any((0, 2))) for p in (front, side)]
    assert widths[0] > 2 * widths[1]  # the arms are stretched out to the sides
    assert read_image(tmp_path / "c" / "00000.png").shape == (SIZE, SIZE // 2 + 10 + SIZE, 3)
    fine(call("view", "--source", "001/1/1", "--angle", 90, "--out", tmp_path / "side.png"))
    assert read_provenance(tmp_path / "side.png")["settings"]["angles"] == [90]


def test_backgrounds(call: Call, prepared_root: Path, tmp_path: Path) -> None:
    """The corner shows what was asked for, squared by its middle."""
    half = np.zeros((40, 80, 3), np.uint8)
    half[:, 20:60] = (10, 200, 30)
    write_image(tmp_path / "green.png", half)
    for name, background in [("p", "plate"), ("n", "network"), ("f", tmp_path / "green.png")]:
        fine(
            call(
                *("view", "--source", "001/1/1", "--angle", 0, "--background", background),
                *("--out", tmp_path / f"{name}.png"),
            )
        )
    plate = Dataset.open(prepared_root).clip("001/1/1").background(SIZE)
    shown = {name: read_image(tmp_path / f"{name}.png").astype(int) for name in "pnf"}
    assert np.abs(shown["p"] - plate).mean() < np.abs(shown["n"] - plate).mean()
    assert np.abs(shown["f"] - (10, 200, 30)).mean() < np.abs(shown["p"] - (10, 200, 30)).mean()
    record = read_provenance(tmp_path / "f.png")["settings"]
    digest = file_sha256(tmp_path / "green.png")
    assert record["background"] == {"file": "green.png", "sha256": digest}
    assert record["fps"] == 25


def test_random_weights_are_loud(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path
) -> None:
    """In the log, in the answer, in the file and beside it; and a seed is a network."""
    import dataclasses

    small = dataclasses.replace(PRESETS["addlwb"], channels=(4, 6, 8), residual_blocks=1)
    small = dataclasses.replace(small, background_channels=(4, 4, 4, 8), background_blocks=1)
    monkeypatch.setitem(PRESETS, "addlwb", small)
    for name, weights in [("a", "random"), ("b", "random:0"), ("c", "random:1")]:
        result = fine(
            call(
                *("view", "--source", "001/1/1@0", "--angle", 0, "--preset", "addlwb"),
                *("--out", tmp_path / f"{name}.png"),
                weights=weights,
            )
        )
        assert "RANDOM WEIGHTS" in result.stderr
        assert "random weights" in result.stdout
    record = read_provenance(tmp_path / "c.png")
    assert record["weights"]["random"] is True
    assert record["weights"]["origin"]["seed"] == 1
    assert record["weights"]["variant"] == "addlwb"
    assert record == json.loads((tmp_path / "c.png.json").read_text())
    same, again, other = (read_image(tmp_path / f"{n}.png") for n in "abc")
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_outputs_are_not_replaced_by_accident(call: Call, tmp_path: Path) -> None:
    arguments = ["view", "--source", "001/1/1@0", "--angle", 0, "--out", tmp_path / "x.png"]
    fine(call(*arguments))
    before = (tmp_path / "x.png").read_bytes()
    refused = call(*arguments)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "x.png").read_bytes() == before
    fine(call(*arguments, "--overwrite", "--no-sidecar"))
    assert not (tmp_path / "x.png.json").exists()
    assert read_provenance(tmp_path / "x.png")["synthetic"] is True  # the file itself still says so


def test_progress_is_lines_where_there_is_no_terminal(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("iper_toolkit.progress.FIRST_LINE_SECONDS", 0.0)
        patched.setattr("iper_toolkit.progress._BAR_SECONDS", 0.001)
        patched.setattr("iper_toolkit.progress.LINE_SECONDS", 0.0)
        result = call("view", "--source", "001/1/1@0", "--turn", 4, "--out", tmp_path / "x.mp4")
    assert re.search(r"\[00:\d\d\] drawing: frame \d of 4", fine(result).stderr)
    quiet = fine(
        call("view", "--source", "001/1/1@0", "--turn", 4, "--out", tmp_path / "y.mp4", "--json")
    )
    assert len(quiet.stderr.splitlines()) == 1  # that the weights are random
    told = json.loads(quiet.stdout)
    sidecar = str(tmp_path / "y.mp4.json")
    assert told["outputs"] == [{"path": str(tmp_path / "y.mp4"), "frames": 4, "sidecar": sidecar}]
    assert (told["size"], told["random_weights"], told["synthetic"]) == (SIZE, True, True)


@pytest.mark.slow
def test_a_real_person_in_their_own_motion(
    call: Call, real_clip_folder: Path, tmp_path: Path
) -> None:
    """What the network is shown is the person: near the true frames, and in their colours from behind."""
    video, keypoints, masks = (
        real_clip_folder / name for name in ("clip.mp4", "body25.json", "masks_half.npz")
    )
    frames = range(24)
    write_video(tmp_path / "me.mp4", read_frames(video, frames), 30)
    people = json.loads(keypoints.read_text())["frames"]
    (tmp_path / "me.json").write_text(json.dumps({"frames": [people[n] for n in frames]}))
    with np.load(masks) as archive:
        np.savez_compressed(tmp_path / "me_masks.npz", masks=archive["masks"][list(frames)])
    given = [
        *("--source", tmp_path / "me.mp4@0,23", "--cache", tmp_path / "cache", "--size", 256),
    ]
    fine(
        call(
            *(
                "imitate",
                *given,
                "--motion",
                tmp_path / "me.mp4",
                "--camera",
                "copy",
                "--no-smoothing",
            ),
            *("--out", tmp_path / "x.mp4", "--inputs-out", tmp_path / "inputs"),
        )
    )
    fine(
        call(
            *("view", *given, "--angle", 0, "--angle", 180),
            *("--out", tmp_path / "y.mp4", "--inputs-out", tmp_path / "turned"),
        )
    )
    clip = open_frames(tmp_path / "me.mp4", cache=tmp_path / "cache").clip
    truth, person = clip.frames(range(24), 256), clip.masks(range(24), 256) == 255
    shown = np.stack([read_image(path) for path in sorted((tmp_path / "inputs").glob("*.png"))])
    drawn = (np.abs(shown.astype(int) - 128) > 2).any(-1)
    both = drawn & person
    assert both.sum() > 0.75 * drawn.sum()  # the naked body lies within the dressed one
    errors = [np.abs(a[b] - t[b]).mean() for a, b, t in zip(shown * 1.0, both, truth, strict=True)]
    plain = [np.abs(t[b] - t[b].mean(0)).mean() for b, t in zip(both, truth, strict=True)]
    assert errors[0] < 5  # the first source itself
    assert np.mean(errors) < 0.75 * np.mean(plain)  # of a person in one colour
    for path in sorted((tmp_path / "turned").glob("*.png")):
        picture = read_image(path)
        dressed = picture[(np.abs(picture.astype(int) - 128) > 2).any(-1)]
        assert abs(dressed.mean() - truth[person].mean()) < 25


# -------------------------------------------------------------------------------------------- errors

IMITATE = ["imitate", "--source", "001/1/1", "--motion", "001/1/1"]
VIEW = ["view", "--source", "001/1/1"]
ERRORS: list[tuple[list[object], str]] = [
    ([*IMITATE, "--size", 250], "multiple of 8"),
    ([*IMITATE, "--weights", "none.safetensors"], "no weights none.safetensors.*--weights random"),
    ([*IMITATE, "--weights", "random:x"], "seed is a whole number"),
    ([*IMITATE, "--preset", "addlwb"], "--preset is for --weights random"),
    ([*IMITATE, "--background", "sky.png"], "no background sky.png"),
    ([*IMITATE, "--bullet-time", "20"], "FRAME:DURATION"),
    ([*IMITATE, "--body", "none.pkl"], "no body 'none.pkl'"),
    ([*IMITATE, "--motion", "003/1/1"], "Leave them out: 003/1/1@0-1,3-5"),
    (["imitate", "--source", "003/1/1@2", "--motion", "001/1/1"], "shows nobody"),
    (["imitate", "--source", "nobody.png", "--motion", "001/1/1"], "neither a file nobody.png nor"),
    ([*IMITATE, "--num-sources", 99], "99 sources are wanted"),
    (["transfer", "--person", "001/1/1"], "lwgan imitate"),
    (["transfer", "--person", "001/1/1", "--person", "002/1/1"], "002/1/1=upper"),
    (["transfer", "--person", "001/1/1", "--person", "002/1/1=wings"], "wings"),
    (["transfer", "--person", "001/1/1=head", "--person", "002/1/1=head"], "both claim head"),
    ([*VIEW, "--turn", 4, "--angle", 3], "exclude each other"),
    ([*VIEW, "--out", "x.gif"], ".gif is not written"),
    ([*VIEW, "--turn", 4, "--out", "x.png"], "holds one picture, but 4 are drawn"),
    ([*VIEW, "--turn", 4, "--inputs-out", "out.mp4"], "Two outputs are called"),
    ([*VIEW, "--out", "fo", "--inputs-out", "fo/00000.png"], "lies in fo"),
    ([*VIEW, "--fps", "nan"], "--fps nan: a video has 1 to 240"),
    ([*VIEW, "--fps", "1e9"], "1 to 240"),
    ([*VIEW, "--size", 80000], "fit"),
    ([*VIEW, "--weights", f"random:{2**63}"], "seed is a whole number from 0"),
    ([*IMITATE, "--bullet-time", "20:60"], "frame from 0 to 5"),
    (["transfer", "--person", "001/1/1", "--person", "002/1/1="], "write 002/1/1=upper"),
    (
        ["transfer", "--person", "001/1/1", "--person", "002/1/1=upper", "--camera", "copy"],
        "--camera is about a motion",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_say_what_to_do(
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    message: str,
    as_json: bool,
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "out.mp4"]
    result = call(*arguments, *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert re.search(message, result.stderr, re.DOTALL), result.stderr
    if as_json:
        assert re.search(message, json.loads(result.stdout)["error"], re.DOTALL)
    assert not list(tmp_path.iterdir())


def test_who_ends_it_politely_is_heard(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C is: parts vanish, and programs are told."""

    def end(*args: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("lwgan.synthesis.draw_batch", end)
    result = call(*VIEW, "--turn", 4, "--out", tmp_path / "x.mp4", "--json")
    assert result.exit_code == 128 + signal.SIGTERM
    told = json.loads(result.stdout)["error"]
    assert told.startswith(
        "Ended by SIGTERM; nothing half-written stays. To go on, run again: lwgan view"
    )
    assert told in result.stderr
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.iterdir())


def test_faults_of_the_program_are_told_as_such(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise TypeError("no such thing")

    monkeypatch.setattr("lwgan.synthesis.draw_batch", fail)
    result = call(*VIEW, "--turn", 4, "--out", tmp_path / "x.mp4", "--json")
    told = json.loads(result.stdout)["error"]
    assert result.exit_code == 1
    assert told.startswith("This is a fault of the program, not of yours: TypeError: no such thing")
    assert "export IPER_DEBUG=1" in told
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("IPER_DEBUG", "1")
    assert "Traceback" in call(*VIEW, "--turn", 4, "--out", tmp_path / "x.mp4").stderr
    assert not list(tmp_path.iterdir())


def test_roots_that_are_not_prepared(call: Call, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = call(*IMITATE, "--root", tmp_path / "data", "--out", tmp_path / "x.mp4")
    assert result.exit_code == 1
    assert "iper prepare --root" in result.stderr


def test_a_gpu_that_is_not_there(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call(*IMITATE, "--device", "cuda", "--out", tmp_path / "x.mp4")
    assert result.exit_code == 1
    assert "--device cpu" in result.stderr


def test_what_does_not_fit_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lwgan.memory.available_bytes", lambda device: 2**28)
    result = call(*VIEW, "--size", 1024, "--turn", 1, "--batch", 64, "--out", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "--batch" in result.stderr
    assert "fit" in result.stderr
    assert not list(tmp_path.iterdir())


def test_weights_of_another_body(
    call: Call, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lwgan.checkpoints import load_checkpoint, save_checkpoint

    made = load_checkpoint(tiny_weights)
    other = tmp_path / "smpl.safetensors"
    surface = made.surface._replace(body_id="smpl-0123456789ab", digest="0" * 64)
    save_checkpoint(other, made.generator, surface=surface, origin=made.origin)
    result = call(*VIEW, "--weights", other, "--out", tmp_path / "x.mp4")
    assert result.exit_code == 1
    assert "smpl-0123456789ab" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


# ------------------------------------------------------------------------------------- other commands


def test_info_of_weights_and_of_pictures(call: Call, tiny_weights: Path, tmp_path: Path) -> None:
    facts = json.loads(fine(call("info", tiny_weights, "--json")).stdout)
    assert (facts["variant"], facts["body"], facts["origin"]) == (
        "attlwb-spade",
        "open-body-1",
        "random",
    )
    assert "attlwb-spade" in fine(call("info", tiny_weights)).stdout
    fine(call(*VIEW, "--angle", 0, "--out", tmp_path / "frames"))
    for path in (tmp_path / "frames", tmp_path / "frames" / "00000.png"):
        facts = json.loads(fine(call("info", path, "--json")).stdout)
        assert (facts["task"], facts["synthetic"]) == ("view", True)
    sidecar = tmp_path / "frames" / "provenance.json"
    facts = json.loads(fine(call("info", sidecar, "--json")).stdout)
    assert facts["task"] == "view"
    assert call("info", tmp_path / "nothing.png").exit_code == 1
    (tmp_path / "notes.txt").touch()
    assert "neither weights (.safetensors" in call("info", tmp_path / "notes.txt").stderr


def test_import_weights(call: Call, tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(b"no checkpoint")
    for arguments, message in [
        (["none.pth", "--out", tmp_path / "x.safetensors"], "none.pth"),
        ([tmp_path / "odd.pth", "--out", tmp_path / "x.pth"], "must end in .safetensors"),
        ([tmp_path / "odd.pth", "--out", tmp_path / "x.safetensors"], "odd.pth"),
    ]:
        result = call("import-weights", *arguments, "--body", "open")
        assert result.exit_code == 1
        assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pth"]


def test_import_weights_of_the_reference(call: Call, tmp_path: Path) -> None:
    """A file with the reference's key names, as its program would have saved it."""
    from lwgan.foreign import GENERATOR_RULES, rename, reversed_rules
    from lwgan.generators import GeneratorConfig, build_generator

    config = GeneratorConfig(
        channels=(4, 6, 8), residual_blocks=1, background_channels=(4, 4, 4, 8), background_blocks=1
    )
    theirs: dict[str, Any] = {}
    back = reversed_rules(GENERATOR_RULES)
    for key, tensor in build_generator(config).state_dict().items():
        name = rename(key, back)
        assert name is not None, key
        theirs[name] = tensor
    torch.save(theirs, tmp_path / "theirs.pth")
    out = tmp_path / "ours.safetensors"
    given = ("import-weights", tmp_path / "theirs.pth", "--out", out)
    nameless = call(*given, "--json")
    assert nameless.exit_code == 2
    assert "--body" in json.loads(nameless.stdout)["error"]
    assert not out.exists()
    result = fine(call(*given, "--body", "open", "--json"))
    assert "Released ones were trained with SMPL" in result.stderr
    facts = json.loads(result.stdout)
    assert facts["origin"] == "imported"
    assert facts["config"]["channels"] == [4, 6, 8]
    assert call(*given, "--body", "open").exit_code == 1
    picture = tmp_path / "x.png"
    result = fine(call(*VIEW, "--angle", 0, "--out", picture, weights=out))
    assert "random" not in result.output
    assert read_provenance(picture)["weights"]["random"] is False


# ---------------------------------------------------------------------------------------------- help


def test_version_and_presets() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert __version__ in result.output
    assert set(PRESET_NAMES) == set(PRESETS)


def test_the_frames_of_a_video_are_those_of_a_folder(call: Call, tmp_path: Path) -> None:
    for name in ("x.mp4", "x"):
        fine(call(*VIEW, "--turn", 3, "--out", tmp_path / name))
    pictures = np.stack([read_image(path) for path in sorted((tmp_path / "x").glob("*.png"))])
    video = np.stack(list(read_frames(tmp_path / "x.mp4")))
    assert np.abs(video.astype(int) - pictures).mean() < 4  # H.264


def test_info_lists_the_weights_that_ship() -> None:
    done = CliRunner().invoke(main, ["info", "--json"])
    assert done.exit_code == 0, done.output
    shipped = json.loads(done.stdout)
    assert "synthetic people only" in shipped["attlwb-small"]
    one = CliRunner().invoke(main, ["info", "attlwb-small", "--json"])
    assert json.loads(one.stdout)["variant"] == "attlwb-front-spade"
