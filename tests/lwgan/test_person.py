"""Records of people and motions check themselves and say what is wrong."""

import numpy as np
import pytest
import torch

from iper_toolkit.body import BodyParams
from lwgan.person import Dressed, Motion, Person, frames_without_fit


def fits(count: int) -> BodyParams:
    return BodyParams.from_array("open-body-1", torch.zeros(count, 85))


def person(count: int = 3, size: int = 16) -> Person:
    return Person(
        name="ann",
        pictures=np.arange(count * size * size * 3).astype(np.uint8).reshape(count, size, size, 3),
        masks=np.zeros((count, size, size), np.uint8),
        params=fits(count),
        origin=tuple(f"frame {i}" for i in range(count)),
    )


def test_a_person_known_from_some_of_the_sources() -> None:
    whole = person()
    some = whole.sources([2, 0])
    np.testing.assert_array_equal(some.pictures, whole.pictures[[2, 0]])
    assert (some.num_sources, some.size, len(some.params)) == (2, 16, 2)
    assert some.origin == ("frame 2", "frame 0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": np.zeros((3, 16, 12, 3), np.uint8)}, r"pictures.*\(3, 16, 16, 3\)"),
        ({"pictures": np.zeros((0, 16, 16, 3), np.uint8)}, "at least one source"),
        ({"pictures": np.zeros((3, 16, 16, 3), np.float32)}, "float32.*must be uint8"),
        ({"masks": np.zeros((2, 16, 16), np.uint8)}, r"masks.*\(3, 16, 16\)"),
        ({"plate": np.zeros((16, 16), np.uint8)}, r"plate.*\(16, 16, 3\)"),
        ({"params": fits(2)}, "3 pictures and 2 fits"),
    ],
)
def test_a_person_that_does_not_fit_together(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Person(**{**vars(person()), **change})  # type: ignore[arg-type]


def test_frames_without_a_fit_are_named() -> None:
    array = torch.zeros(10, 85)
    array[[2, 3, 4], 0] = torch.nan
    array[8, 84] = torch.inf
    params = BodyParams.from_array("open-body-1", array)
    assert frames_without_fit(params) == [2, 3, 4, 8]
    with pytest.raises(ValueError, match=r"Frames 2-4, 8 of the motion dance .*no valid fit"):
        Motion(params, fps=25, name="dance")
    with pytest.raises(ValueError, match=r"Source 2 of ann .*no valid fit"):
        Person(**{**vars(person()), "params": params[[0, 1, 2]]})


def test_an_empty_motion_and_one_without_speed() -> None:
    with pytest.raises(ValueError, match="motion has no frames"):
        Motion(fits(0), fps=25)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be more than 0"):
            Motion(fits(1), fps=fps)
    assert len(Motion(fits(4), fps=25)) == 4


def test_chosen_frames_of_a_motion() -> None:
    """Frames that are not imitated may lack a fit; they part the motion."""
    array = torch.zeros(8, 85)
    array[[0, 3, 4], 10] = torch.nan
    params = BodyParams.from_array("open-body-1", array)
    some = Motion(params, fps=25, frames=(6, 1, 1))
    assert (len(some), some.chosen) == (3, (6, 1, 1))
    assert some.stretches() == [slice(1, 3), slice(5, 8)]
    with pytest.raises(ValueError, match=r"Frames 3 of the motion .*no valid fit"):
        Motion(params, fps=25, frames=(1, 3))
    with pytest.raises(ValueError, match=r"Frames 8 are to be imitated .* has 0 to 7"):
        Motion(params, fps=25, frames=(1, 8))
    with pytest.raises(ValueError, match="no frames"):
        Motion(params, fps=25, frames=())


def test_an_unknown_part_is_refused_where_it_is_named() -> None:
    assert Dressed(person(), ("upper", "left_foot")).parts == ("upper", "left_foot")
    with pytest.raises(ValueError, match="Unknown part 'hat'"):
        Dressed(person(), ("hat",))
