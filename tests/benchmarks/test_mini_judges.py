"""The shipped judges: they load, and know people and pictures that they have never seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.judging import Judges
from benchmarks.metrics.pictures import Pictures

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
WEIGHTS = Path(__file__).resolve().parents[2] / "benchmarks" / "weights"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts that trained them are not installed."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_they_are_small() -> None:
    files = list(WEIGHTS.glob("*.safetensors"))
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) < 6 << 20


@pytest.mark.parametrize(("name", "dimensions"), [("osnet-mini", 512), ("pcb-mini", 384)])
def test_features_do_not_depend_on_what_else_is_embedded(name: str, dimensions: int) -> None:
    """Not a bit, whatever the batch and the number of threads."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (11, 64, 64, 3), dtype=np.uint8)
    boxes = np.tile([10.0, 4.5, 50.0, 62.0], (11, 1))
    judges = Judges()
    whole = Pictures(frames, judges, boxes).features(name)
    assert whole.shape == (11, dimensions)
    for part in (slice(0, 1), slice(3, 9)):
        alone = Pictures(frames[part], judges, boxes[part]).features(name)
        np.testing.assert_array_equal(alone, whole[part])
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - threads if threads in (1, 2) else 1)
    try:
        again = Pictures(frames, judges, boxes).features(name)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(again, whole)


def test_parts_are_of_unit_length_together() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    features = Pictures(frames, boxes=np.tile([0.0, 0, 40, 40], (2, 1))).features("pcb-mini")
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    parts = features.reshape(2, 64, 6)
    np.testing.assert_allclose((parts**2).sum(1), 1 / 6, atol=1e-5)


@pytest.mark.usefixtures("scripts")
def test_people_are_found_again_among_look_alikes() -> None:
    """A few families drawn for this test, of a seed that nothing was trained on."""
    from judges import datasets, people, proofs

    plan = datasets.Plan(seed=4001, families=10, pictures=3, pixels=128)
    pictures = datasets.pictures_of([datasets.draw_families(plan, range(plan.families))])
    for name, build in people.NETWORKS.items():
        network = build().eval()
        from safetensors.torch import load_file

        state = load_file(WEIGHTS / f"{name}.safetensors")
        network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
        found = proofs.recognise(network, pictures)
        assert found.gallery >= 14
        assert found.rank_1 >= 0.8, f"{name}: {found}"


@pytest.mark.usefixtures("scripts")
def test_a_shift_is_nearer_than_a_blur_of_equal_squared_error() -> None:
    from judges import datasets, perception

    from benchmarks.networks.mini import LPIPSMini

    plan = datasets.Plan(seed=4002, families=4, pictures=1, pixels=112)
    frames = datasets.draw_families(plan, range(4), num_frames=4)["frames"]
    network = LPIPSMini().eval()
    from safetensors.torch import load_file

    state = load_file(WEIGHTS / "lpips-mini.safetensors")
    network.load_state_dict({key: value.float() for key, value in state.items()})
    found = perception.order(network, frames.astype(np.uint8), 48)
    assert found.shift_before_blur >= 0.9
    assert found.less_before_more >= 0.85


@pytest.mark.usefixtures("scripts")
def test_judges_have_not_seen_people_of_demos_and_tests() -> None:
    from judges import identities

    with pytest.raises(ValueError, match="training seeds"):
        identities.sample_family(999, 0)
