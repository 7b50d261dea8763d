"""The precision is the faster one of this machine, unless somebody says so; it is measured once and recorded."""

import json
from pathlib import Path

import pytest
import torch

from lwgan import precision
from lwgan.precision import resolve_precision
from lwgan.training_config import CONFIGS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_measured", {})
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"float32": 0.02, "bfloat16": 0.15}, "float32"),  # AVX2: bfloat16 is emulated
        ({"float32": 0.02, "bfloat16": 0.004}, "bfloat16"),  # AMX
        ({"float32": 0.02, "bfloat16": 0.018}, "float32"),  # no more than noise
    ],
)
def test_the_faster_one_is_taken_and_remembered(
    seconds: dict[str, float], expected: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measure(name: str) -> float:
        asked.append(name)
        return seconds[name]

    monkeypatch.setattr(precision, "measure_convolution", measure)
    assert resolve_precision("auto") == resolve_precision("auto") == expected
    assert asked == ["float32", "bfloat16"]
    assert json.loads((cache / "precision.json").read_text()) == {precision.machine_id(): expected}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # another machine, as far as speed goes
    resolve_precision("auto")
    assert len(asked) == 4


def test_who_says_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measure_convolution", lambda name: pytest.fail("measured"))
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"
    with pytest.raises(ValueError, match="Choose one of: auto, float32, bfloat16"):
        resolve_precision("float16")


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', "no json"])
def test_a_damaged_or_unwritable_cache_costs_a_measurement_only(
    content: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "measure_convolution", lambda name: float(name == "bfloat16"))
    cache.mkdir()
    (cache / "precision.json").write_text(content)
    assert resolve_precision("auto") == "float32"
    monkeypatch.setenv("IPER_CACHE", str(cache / "precision.json" / "below a file"))
    precision._measured.clear()
    assert resolve_precision("auto") == "float32"


def test_a_process_decides_once_though_nothing_can_be_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of one run are not drawn in two precisions because a second measurement came out otherwise."""
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    monkeypatch.setattr(precision, "measure_convolution", lambda name: float(name == "bfloat16"))
    assert resolve_precision("auto") == "float32"
    monkeypatch.setattr(precision, "measure_convolution", lambda name: float(name == "float32"))
    assert resolve_precision("auto") == "float32"


def test_another_process_takes_what_was_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measure_convolution", lambda name: float(name == "float32"))
    assert resolve_precision("auto") == "bfloat16"
    precision._measured.clear()
    monkeypatch.setattr(precision, "measure_convolution", lambda name: pytest.fail("measured"))
    assert resolve_precision("auto") == "bfloat16"


def test_measuring_takes_a_moment() -> None:
    assert 0 < precision.measure_convolution("float32") < 1
    assert torch.get_default_dtype() == torch.float32


def test_no_configuration_asks_for_bfloat16_whatever_the_processor() -> None:
    assert {name: config.precision for name, config in CONFIGS.items()} == {
        "official": "float32",
        "official-personal": "float32",
        "modern": "auto",
        "small": "auto",
    }
