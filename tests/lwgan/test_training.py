"""Training runs: gone on with to the bit, honest about what is missing, whole when something gives out."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from iper_toolkit.body import Body, load_body
from iper_toolkit.clip import Dataset
from iper_toolkit.threads import one_thread
from lwgan import training_run
from lwgan.checkpoints import Checkpoint, load_checkpoint
from lwgan.discriminators import DiscriminatorConfig
from lwgan.generators import GeneratorConfig
from lwgan.learners import learning_rate_share
from lwgan.packs import Packs, pack_dataset
from lwgan.samples import SampleRules
from lwgan.training import train
from lwgan.training_config import CONFIGS, LossWeights, TrainingConfig, load_config, with_variant
from lwgan.training_run import TrainingFailed

SIZE = 32
CONFIG = TrainingConfig(
    generator=GeneratorConfig(
        background_network=False, channels=(4, 6, 8), residual_blocks=1, spade_hidden=4
    ),
    discriminator=DiscriminatorConfig(width=4, halvings=2),
    losses=LossWeights(person=1, structure=0.5, mask=0.3, sources=0.3, adversarial=0.05),
    samples=SampleRules(size=SIZE, batch=2, num_sources=(1, 2)),
    steps=6,
    learning_rate=1e-3,
    warmup=2,
    ema=0.9,
    clip=1.0,
    adversarial_from=0.4,
    sources_every=2,
    precision="bfloat16",
    save_every=2,
    sheet_every=3,
    validate_every=3,
    log_every=1,
)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Small networks gain nothing of a second thread, and lose much where other tests have the cores."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def packed(prepared_root: Path) -> Packs:
    return pack_dataset(Dataset.open(prepared_root), SIZE, split="train")


@pytest.fixture
def run(packed: Packs, body: Body, tmp_path: Path) -> Callable[..., Any]:
    def start(name: str, config: TrainingConfig = CONFIG, **more: Any) -> Any:
        settings = {"workers": 0, "trained_on": ["painted"], "synthetic": True} | more
        return train(config, [packed], tmp_path / name, body=body, **settings)

    return start


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    text = (folder / "log.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    mine, theirs = one.generator.state_dict(), other.generator.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


class Killed(Exception):
    pass


def test_a_run_leaves_what_is_needed(run: Any, packed: Packs, tmp_path: Path) -> None:
    done = run("run", held_out=[packed], validate=lambda step, generator: {"own": step / 10})
    assert (done.steps, done.weights) == (6, tmp_path / "run" / "weights.safetensors")
    weights = load_checkpoint(tmp_path / "run")
    assert weights.config == CONFIG.generator
    assert weights.surface.convention == "clothed"
    assert weights.notes == ("trained on painted", "trained on synthetic people only")
    told = lines(tmp_path / "run", "train")
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert all(
        math.isfinite(value) for line in told for name, value in line.items() if name != "kind"
    )
    assert ["fake" in line for line in told] == [False] * 3 + [True] * 3
    assert done.losses["total"] == pytest.approx(told[-1]["total"], abs=1e-6)
    assert [line["own"] for line in lines(tmp_path / "run", "validate")] == [0.3, 0.6]
    assert {"person", "structure", "total"} <= set(lines(tmp_path / "run", "validate")[0])
    sheets = sorted(path.name for path in (tmp_path / "run" / "sheets").iterdir())
    assert sheets == ["00000003.png", "00000006.png"]
    assert any((tmp_path / "run").glob("events.*"))  # TensorBoard's


@pytest.mark.parametrize("killed_in", [1, 3, 4, 5])
def test_a_killed_run_ends_with_the_same_bits(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: int
) -> None:
    undisturbed = run("whole")
    step = training_run.training_step

    def dying(learners: Any, batch: Any, config: Any, number: int, **more: Any) -> Any:
        if number == killed_in:
            raise Killed
        return step(learners, batch, config, number, **more)

    monkeypatch.setattr(training_run, "training_step", dying)
    with pytest.raises(Killed):
        run("killed")
    monkeypatch.setattr(training_run, "training_step", step)
    resumed = run("killed")
    assert same_weights(load_checkpoint(undisturbed.out), load_checkpoint(resumed.out))
    states = [torch.load(one.out / "state.pt", weights_only=True) for one in (undisturbed, resumed)]
    assert _equal(states[0], states[1])
    for kind in ("train",):
        wanted, found = lines(tmp_path / "whole", kind), lines(tmp_path / "killed", kind)
        for line in (*wanted, *found):
            del line["seconds"]
        assert found == wanted


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def test_workers_change_nothing(run: Any) -> None:
    config = replace(CONFIG, steps=2)
    assert same_weights(
        load_checkpoint(run("alone", config).out),
        load_checkpoint(run("helped", config, workers=2).out),
    )


_AFTER_THREADS = """
import json
import sys
from pathlib import Path
import cv2
import numpy as np
from iper_toolkit.body import load_body
from lwgan.packs import Packs
from lwgan.training import train
from lwgan.training_config import TrainingConfig

if __name__ == "__main__":
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (31, 31), 5)
    config = TrainingConfig.from_dict(json.loads(Path(sys.argv[1]).read_text()))
    train(config, [Packs.open(Path(sys.argv[2]))], Path(sys.argv[3]), body=load_body("open"), workers=1)
"""


def test_workers_start_after_threads_have_computed(packed: Packs, tmp_path: Path) -> None:
    """As of a second run in one process: a fork would wait for the threads that it has not."""
    (tmp_path / "config.json").write_text(replace(CONFIG, steps=1).to_json())
    (tmp_path / "train.py").write_text(_AFTER_THREADS)
    words = [sys.executable, "train.py", "config.json", str(packed.folder), "run"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_a_run_stops_in_time_and_goes_on(run: Any) -> None:
    assert run("run", stop_after=0.0).steps == 1
    assert run("run").steps == 6
    assert run("run").steps == 6  # nothing is left to do


def test_a_folder_of_other_settings_or_of_something_else_is_refused(
    run: Any, tmp_path: Path
) -> None:
    run("run", replace(CONFIG, steps=1))
    with pytest.raises(ValueError, match=r"other settings \(learning_rate\)"):
        run("run", replace(CONFIG, steps=1, learning_rate=1.0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not empty"):
        run("mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_weights_to_begin_with(run: Any) -> None:
    first = load_checkpoint(run("first", replace(CONFIG, steps=1)).out)
    still = replace(CONFIG, steps=1, learning_rate=1e-12, ema=0.0)
    begun = load_checkpoint(run("second", still, start=first).out)
    for name, value in first.generator.state_dict().items():
        torch.testing.assert_close(begun.generator.state_dict()[name], value, atol=1e-8, rtol=0)
    with pytest.raises(ValueError, match="must be one kind"):
        run("third", with_variant(CONFIG, "addlwb"), start=first)


@pytest.mark.parametrize("variant", ["addlwb", "avglwb", "input-concat", "texture-warping"])
def test_ablations_are_trained_alike(run: Any, variant: str) -> None:
    config = with_variant(replace(CONFIG, steps=2, adversarial_from=0.0), variant)
    weights = load_checkpoint(run(variant, config).out)
    assert weights.config.fusion == config.generator.fusion
    assert weights.config.channels == CONFIG.generator.channels


def test_the_official_form_runs_with_what_is_there(
    run: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path / "none"))
    told: list[str] = []
    official = CONFIGS["official"]
    config = replace(
        official,
        generator=replace(CONFIG.generator, background_network=True, background_channels=(4, 4, 4, 4), background_blocks=1),
        discriminator=replace(official.discriminator, width=2, halvings=1),
        samples=replace(official.samples, size=64, num_sources=(2,)),
        steps=1,
        log_every=1,
    )  # fmt: skip
    run("official", config, tell=told.append)
    missing = [line for line in told if line.startswith("WARNING")]
    assert len(missing) == 2
    assert "perceptual loss is left out" in missing[0]
    assert "VGG-19" in missing[0]
    (line,) = lines(tmp_path / "official", "train")
    assert {"reconstruction", "mask", "adversarial", "real", "fake"} <= set(line)
    assert not {"perceptual", "identity"} & set(line)


def test_a_full_disk_loses_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    calls = []

    def full(state: Any, path: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingFailed, match=r"Step 4 could not be saved.*make room"):
        run("run")
    monkeypatch.setattr(torch, "save", save)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2
    assert run("run").steps == 6


def _beyond_a_gpu() -> None:
    raise torch.OutOfMemoryError("tried to allocate 80 GiB")


def _beyond_the_machine() -> None:
    torch.empty(10**15)


@pytest.mark.parametrize("allocate", [_beyond_a_gpu, _beyond_the_machine])
def test_memory_that_gives_out_says_what_to_set(
    run: Any, monkeypatch: pytest.MonkeyPatch, allocate: Callable[[], None]
) -> None:
    monkeypatch.setattr(training_run, "training_step", lambda *_, **__: allocate())
    with pytest.raises(TrainingFailed, match=r"samples\.batch=1.*checkpointing=true"):
        run("run")


def test_a_damaged_state_is_named(run: Any, tmp_path: Path) -> None:
    run("run", replace(CONFIG, steps=2))
    (tmp_path / "run" / "state.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingFailed, match=r"state\.pt is damaged.*--start"):
        run("run", replace(CONFIG, steps=2))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = replace(CONFIG, steps=100, warmup=10, decay_from=0.6)
    shares = [learning_rate_share(step, config) for step in range(100)]
    assert shares[0] == 0.1
    assert shares[9:60] == [1.0] * 51
    assert shares[60:] == sorted(shares[60:], reverse=True)
    assert shares[-1] < 0.03
    assert learning_rate_share(99, replace(config, decay_from=1.0)) == 1.0


_PROCESS = """
import sys
from pathlib import Path
import torch
from iper_toolkit.body import load_body
from lwgan.packs import Packs
from lwgan.training import train
from lwgan.training_config import TrainingConfig
import json
torch.set_num_threads(1)
config = TrainingConfig.from_dict(json.loads(Path(sys.argv[1]).read_text()))
train(config, [Packs.open(Path(sys.argv[2]))], Path(sys.argv[3]), body=load_body("open"), workers=0)
"""


def test_processes_learn_together(run: Any, packed: Packs, tmp_path: Path) -> None:
    """Two processes of one clip each take the steps of one process with both (plain losses are means)."""
    config = replace(
        CONFIG,
        steps=2,
        samples=replace(CONFIG.samples, batch=1, num_sources=(1,), colours=False),
        losses=LossWeights(person=1.0, mask=0.3),
        precision="float32",
    )
    (tmp_path / "config.json").write_text(config.to_json())
    (tmp_path / "train.py").write_text(_PROCESS)
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29533",
        "WORLD_SIZE": "2",
    }
    arguments = [sys.executable, "train.py", "config.json", str(packed.folder), "together"]
    processes = [
        subprocess.Popen(arguments, cwd=tmp_path, env=environment | {"RANK": str(rank)})
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    together = load_checkpoint(tmp_path / "together")
    alone = load_checkpoint(run("alone", config).out)
    assert not same_weights(together, alone)  # the other process' gradient took part
    assert torch.load(tmp_path / "together" / "state.pt", weights_only=True)["step"] == 2


# ------------------------------------------------------------------------------------ configuration


def test_every_preset_can_be_written_and_read() -> None:
    for config in CONFIGS.values():
        assert TrainingConfig.from_dict(json.loads(config.to_json())) == config


def test_settings_change_by_word_and_by_file(tmp_path: Path) -> None:
    changed = load_config(
        "small", ["losses.adversarial=0", "samples.num_sources=[1, 4]", "precision=float32"]
    )
    assert changed.losses.adversarial == 0
    assert changed.samples.num_sources == (1, 4)
    assert changed.precision == "float32"
    path = tmp_path / "mine.toml"
    path.write_text('preset = "small"\nsteps = 5\n[samples]\nsize = 64\n')
    assert load_config(str(path)) == replace(
        CONFIGS["small"], steps=5, samples=replace(CONFIGS["small"].samples, size=64)
    )


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("smal", (), "no configuration 'smal'.*small"),
        ("small", ("steps",), "no setting"),
        ("small", ("losses.advers=1",), "Unknown setting losses.advers.*losses.adversarial"),
        ("small", ("steps=0",), "at least 1"),
        ("small", ("losses.person=-1",), "0 or more"),
        ("small", ("generator.background_network=true",), "whole pictures"),
        ("small", ("precision=float8",), "auto, float32, bfloat16"),
    ],
)
def test_wrong_settings_are_named(name: str, changes: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_config(name, changes)


def test_a_run_keeps_the_precision_it_began_with(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic = replace(CONFIG, precision="auto", steps=2)
    monkeypatch.setattr("lwgan.training.resolve_precision", lambda *_: "float32")
    run("a", automatic)
    path = tmp_path / "a" / "config.json"
    assert json.loads(path.read_text())["precision"] == "float32"
    # Gone on with on a machine that is faster in the other one.
    monkeypatch.setattr("lwgan.training.resolve_precision", lambda *_: "bfloat16")
    run("a", automatic)
    assert json.loads(path.read_text())["precision"] == "float32"
    run("b", automatic)
    assert json.loads((tmp_path / "b" / "config.json").read_text())["precision"] == "bfloat16"
