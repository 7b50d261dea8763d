"""`lwgan train` and `lwgan personalize` as a user types them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from iper_toolkit.images import read_image
from iper_toolkit.threads import one_thread
from lwgan.checkpoints import load_checkpoint
from lwgan.cli import main
from lwgan.learning_commands import CONFIG_NAMES, PERSONAL_PRESETS
from lwgan.personalization import PRESETS
from lwgan.provenance import read_provenance
from lwgan.training_config import CONFIGS
from lwgan.training_run import TrainingFailed
from lwgan.training_step import NotFinite

TINY = [
    "steps=1", "samples.size=32", "samples.batch=1", "samples.window=1", "generator.channels=[4, 6, 8]",
    "generator.residual_blocks=1", "generator.spade_hidden=4", "losses.adversarial=0",
]  # fmt: skip
SETTINGS = ["--threads", "1", *(word for change in TINY for word in ("--set", change))]


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.exit_code, done.output


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Small networks gain nothing of a second thread, and lose much where other tests have the cores."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def trained(prepared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    code, text = call("train", "--data", prepared_root, "--out", out, "--workers", 0, *SETTINGS)
    assert code == 0, text
    assert f"{out / 'weights.safetensors'}: after 1 of 1 steps" in text
    return out


def test_words_on_the_command_line_are_the_librarys() -> None:
    assert set(CONFIG_NAMES) == set(CONFIGS)
    assert tuple(PERSONAL_PRESETS) == PRESETS


def test_a_prepared_dataset_is_trained_on(trained: Path) -> None:
    weights = load_checkpoint(trained)
    assert weights.notes == ("trained on iPER",)
    assert weights.config.channels == (4, 6, 8)


def test_an_ablation_and_numbers_for_programs(prepared_root: Path, tmp_path: Path) -> None:
    words = ["--data", prepared_root, "--out", tmp_path / "run", "--workers", 0, *SETTINGS]
    asked = ["--variant", "texture-warping", "--precision", "bfloat16", "--json"]
    code, text = call("train", *words, *asked)
    assert code == 0, text
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["precision"] == "bfloat16"
    told = json.loads(text.splitlines()[-1])
    assert told["steps"] == 1
    assert load_checkpoint(told["weights"]).config.fusion == "texture-warping"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "huge"], "no configuration 'huge'"),
        (["--set", "stepps=3"], "Unknown setting stepps"),
        (["--variant", "lwb"], "Unknown generator 'lwb'"),
        (["--held-out", "nowhere"], "nowhere"),
        (["--start", "nothing"], "no weights nothing"),
    ],
)
def test_mistakes_are_said_in_a_sentence(
    prepared_root: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    out = tmp_path / "run"
    code, text = call("train", "--data", prepared_root, "--out", out, *SETTINGS, *words)
    assert code != 0
    assert message in text
    assert "Traceback" not in text
    assert not out.exists()


def test_personalize_learns_in_the_precision_that_is_asked_for(
    trained: Path, prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def learn(*_: object, precision: str, **__: object) -> None:
        asked.append(precision)
        raise ValueError("seen")

    monkeypatch.setattr("lwgan.personalization.personalize", learn)
    words = ["personalize", "--source", "001/1/1", "--root", prepared_root, "--weights", trained]
    words += ["--out", tmp_path / "me.safetensors", "--size", 64]
    for more in ([], ["--precision", "bfloat16"]):
        code, text = call(*words, *more)
        assert code != 0
        assert "seen" in text
    assert asked == ["auto", "bfloat16"]


def test_a_person_is_learned_and_drawn(
    trained: Path, prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "me.safetensors"
    words = ["personalize", "--source", "001/1/1", "--root", prepared_root, "--weights", trained]
    words += ["--size", 32, "--steps", 1, "--out", out]
    code, text = call(*words)
    assert code == 0, text
    assert "2 pictures" in text
    assert load_checkpoint(out).notes[0].endswith("001/1/1 (quick)")
    code, text = call(*words)
    assert code != 0
    assert "--overwrite" in text
    drawing = ["imitate", "--source", "001/1/1", "--motion", "002/1/1@0,1", "--root", prepared_root]
    drawing += ["--weights", out, "--size", 32, "--out", tmp_path / "out.mp4"]
    code, text = call(*drawing)
    assert code == 0, text


def test_drawing_learns_the_person_once(
    trained: Path, prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPER_CACHE", str(tmp_path / "cache"))
    words = ["imitate", "--source", "001/1/1", "--motion", "002/1/1@0", "--root", prepared_root]
    words += ["--weights", trained, "--size", 32, "--personalize", "quick"]
    monkeypatch.setattr("lwgan.personalization.STEPS", {"quick": 1, "thorough": 1, "official": 1})
    code, text = call(*words, "--out", tmp_path / "one.png")
    assert code == 0, text
    assert "step 1 of 1" in text
    code, text = call(*words, "--out", tmp_path / "two.png")
    assert code == 0, text
    assert "Learned before" in text
    one, two = (read_image(tmp_path / name) for name in ("one.png", "two.png"))
    assert (one == two).all()
    assert read_provenance(tmp_path / "two.png")["settings"]["personalize"] == "quick"


@pytest.mark.parametrize("error", [NotFinite("Step 3: person"), TrainingFailed("Memory gave out")])
def test_what_gives_out_is_said_in_a_sentence(
    prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lwgan.training_run.training_step", fails)
    words = ["--data", prepared_root, "--out", tmp_path / "run", "--workers", 0, *SETTINGS]
    code, text = call("train", *words)
    assert code == 1
    assert f"Error: {error}" in text
