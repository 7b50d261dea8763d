"""Words to metrics, and what is said of those that cannot be scored."""

from pathlib import Path

import pytest

from benchmarks.choosing import choose_metrics, wanted_metrics
from benchmarks.judging import Judges
from benchmarks.metrics import GROUPS, METRICS


@pytest.fixture
def no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judges:
    """Nobody put a file of others anywhere."""
    monkeypatch.setenv("IPER_ASSETS", str(tmp_path))
    return Judges()


def test_nothing_said_is_default() -> None:
    names = wanted_metrics(())
    assert names == wanted_metrics(("default",))
    assert {"ssim_person", "os_cs_mini", "lpips_mini", "fid"} <= set(names)
    assert "lpips_vgg" not in names


def test_all_and_groups() -> None:
    assert wanted_metrics(("all",)) == tuple(METRICS)
    for group in GROUPS:
        assert all(METRICS[name].group == group for name in wanted_metrics((group,)))


def test_order_is_that_of_the_table_whatever_was_typed() -> None:
    assert wanted_metrics(("l1", "ssim", "l1")) == ("ssim", "l1")


def test_out_of_the_box_every_group_of_pictures_has_a_metric(no_files: Judges) -> None:
    chosen = choose_metrics((), no_files, size=256)
    groups = {METRICS[name].group for name in chosen.names}
    assert groups == set(GROUPS) - {"body"}  # nobody estimates poses
    assert {"os_cs_mini", "pcb_cs_mini", "os_freid_mini", "lpips_mini"} <= set(chosen.names)
    assert not set(chosen.names) & set(chosen.missing)


def test_a_missing_file_is_told_with_the_remedy(no_files: Judges) -> None:
    missing = choose_metrics((), no_files, size=256).missing
    assert "put it there" in missing["fid"]
    assert "IPER_ASSETS" in missing["lpips_alex"]
    assert "licence" in missing["os_cs"]


def test_what_was_named_must_be_there(no_files: Judges) -> None:
    with pytest.raises(ValueError, match="fid cannot be scored"):
        choose_metrics(("pixel", "fid"), no_files, size=256)


def test_a_group_of_which_nothing_is_there(no_files: Judges) -> None:
    with pytest.raises(ValueError, match="Not one of these"):
        choose_metrics(("body",), no_files, size=256)


def test_small_pictures_leave_out_what_needs_large_ones(no_files: Judges) -> None:
    chosen = choose_metrics(("pixel",), no_files, size=96)
    assert "ms_ssim" not in chosen.names
    assert "--size 176" in chosen.missing["ms_ssim"]


def test_estimated_poses_bring_their_metrics(no_files: Judges) -> None:
    chosen = choose_metrics(("body",), no_files, size=96, estimates=("keypoints",))
    assert chosen.names == ("akd", "mkr")
    assert "pose_shape.pkl" in chosen.missing["mpjpe"]


def test_random_weights_are_asked_for_by_name_only(no_files: Judges) -> None:
    assert "fid" not in choose_metrics((), no_files, size=256).names
    assert "fid" in choose_metrics((), Judges(random_seed=1), size=256).names


def test_unknown_words(no_files: Judges) -> None:
    with pytest.raises(ValueError, match=r"Unknown metrics beauty.*Choose of: ssim"):
        choose_metrics(("beauty",), no_files, size=64)
