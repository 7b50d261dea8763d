"""The estimate against measured peaks, and refusals that say what fits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lwgan import memory
from lwgan.generators import PRESETS, build_generator
from lwgan.memory import (
    NotEnoughMemory,
    available_bytes,
    check_memory,
    count_weights,
    estimate_bytes,
)

DEFAULT = PRESETS["attlwb-spade"]
MEBIBYTE = 2**20


def total(size: int = 256, sources: int = 2, batch: int = 4, **options: torch.dtype) -> int:
    return estimate_bytes(DEFAULT, size, sources, batch, **options).total


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_weights_are_counted_without_making_them(preset: str) -> None:
    expected = sum(weight.numel() for weight in build_generator(preset).parameters())
    assert count_weights(PRESETS[preset]) == expected


def test_everything_that_costs_is_counted() -> None:
    assert total(batch=8) > total(batch=4)
    assert total(size=512) > total()
    assert total(sources=8) > total()
    assert total(dtype=torch.bfloat16) < total()
    frames = [estimate_bytes(DEFAULT, 256, 2, n).parts for n in (3, 6)]
    assert frames[1]["6 frames"] == pytest.approx(2 * frames[0]["3 frames"], rel=1e-6)
    assert frames[0]["sources"] == frames[1]["sources"], "encoded once, whatever the batch"


# Peaks of `synthesize` on a CPU, MiB, by processes that ended afterwards: what the factors were fitted to. One and the same
# run varies by a tenth.
MEASURED: list[tuple[dict[str, Any], int]] = [
    ({"size": 64, "num_sources": 1, "preset": "addlwb"}, 216),
    ({"size": 64, "num_sources": 16, "preset": "addlwb"}, 266),
    ({"size": 64, "num_sources": 16, "preset": "addlwb", "convention": "corrected"}, 651),
    ({"size": 128, "num_sources": 16, "preset": "texture-warping"}, 256),
    (
        {"size": 128, "num_sources": 16, "preset": "texture-warping", "convention": "corrected"},
        638,
    ),
    ({"size": 256, "num_sources": 2}, 378),
    ({"size": 256, "num_sources": 2, "temporal": 3}, 456),
    ({"size": 256, "num_sources": 2, "temporal": 8}, 680),
    ({"size": 256, "num_sources": 2, "batch": 8}, 793),
    ({"size": 256, "num_sources": 8}, 531),
    ({"size": 256, "num_sources": 8, "batch": 4}, 893),
    ({"size": 256, "num_sources": 8, "convention": "corrected"}, 559),
    ({"size": 256, "num_sources": 8, "people": 4}, 576),
    ({"size": 64, "num_sources": 16, "people": 4}, 283),
    ({"size": 256, "num_sources": 2, "preset": "texture-warping"}, 248),
    ({"size": 256, "num_sources": 2, "preset": "texture-warping", "batch": 16}, 818),
    ({"size": 512, "num_sources": 2}, 701),
    ({"size": 512, "num_sources": 8}, 1259),
    ({"size": 512, "num_sources": 6, "people": 3, "convention": "corrected"}, 1113),
    ({"size": 512, "num_sources": 2, "batch": 4}, 1255),
    ({"size": 512, "num_sources": 2, "batch": 4, "dtype": torch.bfloat16}, 922),
]


def estimated(case: dict[str, Any]) -> float:
    """MiB."""
    options = {"batch": 1, **case}
    config = PRESETS[options.pop("preset", "attlwb-spade")]
    return estimate_bytes(config, **options).total / MEBIBYTE


def measured(**case: Any) -> int:
    (peak,) = [peak for known, peak in MEASURED if known == case]
    return peak


@pytest.mark.parametrize(("case", "peak"), MEASURED, ids=lambda value: str(value)[:70])
def test_the_estimate_is_near_what_was_measured(case: dict[str, Any], peak: int) -> None:
    assert 0.85 < estimated(case) / peak < 1.2


@pytest.mark.parametrize(
    ("fewer", "more"),
    [
        ({"num_sources": 2}, {"num_sources": 8}),
        ({"num_sources": 2}, {"num_sources": 2, "batch": 8}),
        ({"num_sources": 8}, {"num_sources": 8, "batch": 4}),
        ({"num_sources": 2}, {"num_sources": 2, "temporal": 8}),
        (
            {"num_sources": 2, "preset": "texture-warping"},
            {"num_sources": 2, "preset": "texture-warping", "batch": 16},
        ),
    ],
)
def test_what_more_of_anything_takes(fewer: dict[str, Any], more: dict[str, Any]) -> None:
    """Differences, in which what every run takes does not hide a wrong factor."""
    growth = measured(size=256, **more) - measured(size=256, **fewer)
    expected = estimated({"size": 256, **more}) - estimated({"size": 256, **fewer})
    assert 0.8 < expected / growth < 1.25


def test_frames_that_look_back_are_drawn_one_by_one() -> None:
    one, many = (estimate_bytes(DEFAULT, 256, 2, n, temporal=3).parts for n in (1, 64))
    assert one == many
    assert one["previous frames"] > 0
    with pytest.raises(NotEnoughMemory, match=r"Drawing 1 frame at .* --size \d+ --batch 1"):
        check_memory(DEFAULT, 1024, 2, 64, temporal=8, available=2**30)


def test_people_are_kept_apart_and_together() -> None:
    alone, both = (estimate_bytes(DEFAULT, 256, 4, 1, people=n).parts for n in (1, 2))
    assert alone["people apart"] == 0
    # Network input, face, weights and visibility of each source, without the network's features.
    assert both["people apart"] > 4 * 11 * 4 * 256**2
    assert both["people apart"] < both["sources"]


def test_an_estimate_reads_as_a_sentence() -> None:
    text = check_memory(DEFAULT, 256, 2, 4, available=8 * 2**30)
    assert text.startswith("Memory: about ")
    assert "weights 138 MiB" in text
    assert "4 frames" in text
    assert "of 8.0 GiB" in text
    assert "setup" not in text, "parts of nothing are not named"


def test_the_largest_batch_that_fits_is_named() -> None:
    free = total(batch=5) + 1
    with pytest.raises(NotEnoughMemory, match=r"Drawing 64 frames .* fits is 5: --batch 5\."):
        check_memory(DEFAULT, 256, 2, 64, available=free)
    assert check_memory(DEFAULT, 256, 2, 5, available=free)


def test_else_the_largest_size_that_fits_is_named() -> None:
    free = total(size=448, batch=1) + 1
    with pytest.raises(NotEnoughMemory, match=r"1024 x 1024 .* --size 448 --batch 1\."):
        check_memory(DEFAULT, 1024, 2, 8, available=free)
    with pytest.raises(NotEnoughMemory, match="fewer sources, or a larger machine"):
        check_memory(DEFAULT, 1024, 2, 8, available=MEBIBYTE)


def test_what_is_free_is_asked_of_machine_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = available_bytes()
    assert free is None or free > 64 * MEBIBYTE
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:  9 kB\nMemAvailable:   5000 kB\nHugePages_Total:       0\n")
    assert memory._machine_bytes(table) == 5000 * 1024
    assert memory._container_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert memory._container_bytes(tmp_path) == 450
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    assert "does not tell" in check_memory(DEFAULT, 256, 2, 4)


_CHILD = """
import json, math, sys
import numpy as np, torch
torch.set_num_threads(1)
from iper_toolkit.body import BodyParams, load_body
from lwgan.checkpoints import random_checkpoint
from lwgan.generators import PRESETS
from lwgan.person import Dressed, Person
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import synthesize
from lwgan.tasks import Plan

size, sources, batch, temporal, people = map(int, sys.argv[1:6])
dtype, convention, preset = getattr(torch, sys.argv[6]), *sys.argv[7:9]
body = load_body("open")
weights = random_checkpoint(PRESETS[preset], 0, surface_tables(body, convention))
frames = max(2 * batch, 2 * temporal + 2)
fits = torch.zeros(max(sources, frames), 85)
fits[:, :3] = torch.tensor([0.8, 0, 0.25])
fits[:, 3] = math.pi
fits[:, 51] = torch.linspace(-1, 0, len(fits))
params = BodyParams.from_array(body.id, fits)
y, x = np.mgrid[:size, :size] / size - 0.5
mask = ((x / 0.25) ** 2 + (y / 0.45) ** 2 < 1).astype(np.uint8) * 255
pictures = np.random.default_rng(0).integers(0, 255, (sources, size, size, 3)).astype(np.uint8)
each = slice(sources // people)
worn = tuple(
    Dressed(Person("ann", pictures[each], np.repeat(mask[None], sources, 0)[each], params[each]), parts)
    for parts in ((), ("upper",), ("feet",), ("facial",))[:people]
)
plan = Plan("imitate" if people == 1 else "transfer", worn, params[slice(frames)], 25)
def kibibytes(name):
    # Of this program alone: what getrusage calls the peak may be that of the process that started it.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

before = kibibytes("VmRSS")
for frame in synthesize(plan, weights, body, batch=batch, dtype=dtype, temporal=temporal):
    pass
print((kibibytes("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(
    "case",
    [
        {"size": 64, "num_sources": 16, "preset": "addlwb", "convention": "corrected"},
        {"size": 256, "num_sources": 2},
        {"size": 256, "num_sources": 2, "batch": 8},
        {"size": 256, "num_sources": 2, "temporal": 8},
        {"size": 256, "num_sources": 8, "people": 4},
        {"size": 512, "num_sources": 2, "batch": 4},
        {"size": 512, "num_sources": 2, "batch": 4, "dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_the_estimate_is_near_the_measured_peak(case: dict[str, Any]) -> None:
    usual = {"batch": 1, "temporal": 0, "people": 1, "dtype": torch.float32}
    options = {**usual, "convention": "reference", "preset": "attlwb-spade", **case}
    names = ("size", "num_sources", "batch", "temporal", "people", "dtype", "convention", "preset")
    texts = [str(options[name]).removeprefix("torch.") for name in names]
    command = [sys.executable, "-c", _CHILD, *texts]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(answer.stdout) / MEBIBYTE
    # The same run varies by a tenth; what is promised is a quarter.
    assert 0.75 < estimated(case) / peak < 1.35, f"{estimated(case):.0f} of {peak:.0f} MiB"
