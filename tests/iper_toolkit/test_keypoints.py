"""Keypoint files: both formats, several people, and files that are wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iper_toolkit.keypoints import (
    BODY_25,
    BODY_45,
    MEDIAPIPE_33,
    Keypoints,
    keypoints_from_landmarks,
    read_keypoints,
)


def person(seed: int, scale: float = 100.0) -> list[float]:
    rng = np.random.default_rng(seed)
    table = np.concatenate([rng.uniform(0, scale, (25, 2)), rng.uniform(0.5, 1, (25, 1))], axis=1)
    return table.ravel().tolist()


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def openpose(*people: list[float]) -> dict[str, Any]:
    return {"people": [{"pose_keypoints_2d": numbers} for numbers in people]}


def landmarks(frames: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.uniform(0, 500, (frames, 33, 4)).astype(np.float32)
    table[..., 3] = rng.uniform(0.5, 1, (frames, 33))
    return table


def test_a_file_of_openpose_frames_takes_the_largest_person(tmp_path: Path) -> None:
    frames = [openpose(person(0, 50), person(1, 400)), openpose(), openpose(person(1, 410))]
    keypoints = read_keypoints(write(tmp_path / "clip.json", {"frames": frames}))
    assert len(keypoints) == 3
    np.testing.assert_allclose(keypoints.body25[0].ravel(), person(1, 400), rtol=1e-6)
    np.testing.assert_array_equal(keypoints.body25[1], 0)
    np.testing.assert_array_equal(keypoints.seen(), [True, False, True])
    boxes = keypoints.boxes()
    assert np.isnan(boxes[1]).all()
    expected = np.array(person(1, 410)).reshape(25, 3)
    np.testing.assert_allclose(boxes[2, :2], expected[:, :2].min(0), rtol=1e-6)
    assert len(keypoints[1:]) == 2


def test_a_folder_of_openpose_files_is_read_by_number(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        write(tmp_path / f"clip_{number}_keypoints.json", openpose(person(number)))
    keypoints = read_keypoints(tmp_path)
    np.testing.assert_allclose(keypoints.body25[1].ravel(), person(10), rtol=1e-6)
    (tmp_path / "clip_10_keypoints.json").unlink()
    with pytest.raises(ValueError, match="lacks frame 10"):
        read_keypoints(tmp_path)


def test_landmarks_become_body_25(tmp_path: Path) -> None:
    table = landmarks()
    content = {"keypoints": [*table.tolist(), None], "names": [n.upper() for n in MEDIAPIPE_33]}
    keypoints = read_keypoints(write(tmp_path / "clip.json", content))
    assert keypoints.landmarks33 is not None
    np.testing.assert_allclose(keypoints.landmarks33[:3], table)
    np.testing.assert_array_equal(keypoints.seen(), [True, True, True, False])
    knee = keypoints.body25[:3, BODY_25.index("left_knee")]
    np.testing.assert_allclose(knee, table[:, 25][:, [0, 1, 3]])
    neck = keypoints.body25[:3, BODY_25.index("neck")]
    np.testing.assert_allclose(neck[:, :2], table[:, 11:13, :2].mean(1), rtol=1e-6)
    np.testing.assert_allclose(neck[:, 2], table[:, 11:13, 3].min(1))
    assert (keypoints.body25[:, BODY_25.index("left_small_toe")] == 0).all()


def test_normalised_landmarks_need_the_frame_size(tmp_path: Path) -> None:
    table = landmarks() / 500
    with pytest.raises(ValueError, match="not in pixels"):
        read_keypoints(write(tmp_path / "a.json", {"keypoints": table.tolist()}))
    content = {"keypoints": table.tolist(), "width": 640, "height": 480}
    keypoints = read_keypoints(write(tmp_path / "b.json", content))
    assert keypoints.landmarks33 is not None
    np.testing.assert_allclose(keypoints.landmarks33[..., :2], table[..., :2] * [640, 480])


def test_places_on_the_body(tmp_path: Path) -> None:
    content = {"frames": [openpose(person(0))]}
    keypoints = read_keypoints(write(tmp_path / "clip.json", content))
    targets = keypoints.body_targets()
    assert targets.shape == (1, 45, 3)
    assert len(set(BODY_45)) == 45
    source = keypoints.body25[0]
    for name, place in (("nose", 24), ("right_eye", 25), ("left_ear", 28), ("mid_hip", 0)):
        np.testing.assert_array_equal(targets[0, place], source[BODY_25.index(name)])
    copied = source[None].copy()
    copied[0, BODY_25.index("left_small_toe")] = copied[0, BODY_25.index("left_big_toe")]
    toes = Keypoints(copied).body_targets()[0, [29, 30, 33], 2]
    np.testing.assert_array_equal(toes > 0, [True, False, True])
    # pelvis, hips, knees, ankles, shoulders, elbows, wrists; nose, eyes, ears, toes, heels
    assert (targets[0, :, 2] > 0).sum() == 1 + 12 + 11


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"frames": [{"peop', "not readable JSON.*Export it again"),
        ({"frames": []}, "is empty or no list"),
        ({"frames": [{"persons": []}]}, "frame 0 has no list 'people'"),
        ({"frames": [openpose([0.0] * 54)]}, "54 numbers; BODY_25 has 75.*--model_pose BODY_25"),
        ({"frames": [openpose([float("nan")] * 75)]}, "frame 0 holds NaN"),
        ({"frames": [{"people": [{}]}]}, "no list 'pose_keypoints_2d'"),
        ({"keypoints": [[[0, 0, 0, 1]] * 17]}, r"frame 0 is \(17, 4\); it must be 33"),
        ({"keypoints": [[[0, 0, 0, 1]] * 33], "names": ["nose"]}, "not MediaPipe's 33"),
        ({"keypoints": [[[0, 0, 0, "x"]] * 33]}, "no table of numbers"),
        ({"keypoints": [[[0, 0, 0, 1]] * 33], "names": 5}, "'names' is 5; it must be a list"),
        ('{"frames": ' + "[" * 100_000, "not readable JSON"),
        ({"poses": []}, "holds poses; expected 'frames'"),
        ([], "expected 'frames'"),
    ],
)
def test_wrong_files_are_named_with_what_to_do(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "bad clip.json", content)
    with pytest.raises(ValueError, match=f"bad clip.json.*{message}"):
        read_keypoints(path)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No keypoints at"):
        read_keypoints(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"no \.json files"):
        read_keypoints(tmp_path)
    write(tmp_path / "notes.json", {})
    with pytest.raises(ValueError, match="no frame number"):
        read_keypoints(tmp_path)


def test_tables_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"body25 is \(2, 18, 3\)"):
        Keypoints(np.zeros((2, 18, 3), np.float32))
    with pytest.raises(ValueError, match="3 frames, body25 has 2"):
        Keypoints(np.zeros((2, 25, 3), np.float32), np.zeros((3, 33, 4), np.float32))
    with pytest.raises(ValueError, match="NaN"):
        keypoints_from_landmarks(np.full((1, 33, 4), np.nan))


def test_the_real_clip_reads_the_same_from_both_files(real_clip_folder: Path) -> None:
    body25 = read_keypoints(real_clip_folder / "body25.json")
    mediapipe = read_keypoints(real_clip_folder / "mediapipe33.json")
    assert len(body25) == len(mediapipe) == 219
    # The stored BODY_25 was made from the landmarks, with averaged confidences and small toes.
    kept = [i for i, name in enumerate(BODY_25) if "small_toe" not in name]
    np.testing.assert_allclose(
        mediapipe.body25[:, kept, :2], body25.body25[:, kept, :2], atol=0.0051
    )


def standing(x: float, y: float = 200.0, height: float = 200.0) -> np.ndarray:
    """(25, 3) a person around (x, y)."""
    table = np.array(person(7, 1.0)).reshape(25, 3)
    table[:, :2] = (table[:, :2] - 0.5) * (height / 2, height) + (x, y)
    return table


@pytest.mark.parametrize("apart", [60.0, 170.0, 400.0])
def test_one_person_is_followed_whatever_order_they_are_listed_in(
    tmp_path: Path, apart: float
) -> None:
    chance = np.random.default_rng(0)
    frames, expected = [], []
    for number in range(20):
        main = standing(200 + 4 * number, height=210)
        other = standing(200 + apart + 4 * number, height=205 if number % 3 else 225)
        pair = [main.ravel().tolist(), other.ravel().tolist()]
        expected.append(200 + 4 * number)
        frames.append(openpose(*(pair if chance.random() < 0.5 else pair[::-1])))
    frames[7] = openpose()  # a frame in which nobody was found
    found = read_keypoints(write(tmp_path / "duet.json", {"frames": frames})).body25
    middle = found[:, :, 0].mean(1) - np.array(expected)
    offset = middle[0]
    keep = np.arange(20) != 7
    assert np.abs(middle[keep] - offset).max() < 10
    assert (found[7] == 0).all()


def test_people_who_pass_each_other_keep_who_they_are(tmp_path: Path) -> None:
    frames = []
    for number in range(30):
        right, left = standing(100 + 10 * number, 200), standing(400 - 10 * number, 215, 180)
        pair = [right.ravel().tolist(), left.ravel().tolist()]
        frames.append(openpose(*pair[:: 1 if number % 2 else -1]))
    found = read_keypoints(write(tmp_path / "pass.json", {"frames": frames})).body25
    steps = np.diff(found[:, :, 0].mean(1))
    assert (np.abs(steps - 10) < 2).all()


def test_a_crowd_in_which_nobody_stays_is_refused(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    frames = []
    for _ in range(20):
        places = chance.uniform(0, 5000, 2)
        frames.append(openpose(*(standing(x, height=100).ravel().tolist() for x in places)))
    with pytest.raises(ValueError, match=r"crowd\.json: up to 2 people are in a frame"):
        read_keypoints(write(tmp_path / "crowd.json", {"frames": frames}))


@pytest.mark.parametrize(("low", "named"), [(0.0, r"\[0, 1\]"), (-1.0, r"\[-1, 1\]")])
@pytest.mark.parametrize("single", [True, False])
def test_openpose_coordinates_that_are_no_pixels(
    tmp_path: Path, low: float, named: str, single: bool
) -> None:
    table = np.array(person(0, 1.0)).reshape(25, 3)
    table[:, :2] = low + table[:, :2] * (1 - low)
    one = openpose(table.ravel().tolist())
    path = write(tmp_path / "a.json", one if single else {"frames": [one, one]})
    with pytest.raises(ValueError, match=rf"a\.json: coordinates lie in {named}, not in pixels"):
        read_keypoints(path)
    folder = tmp_path / "a_keypoints"
    folder.mkdir()
    write(folder / "a_0_keypoints.json", one)
    with pytest.raises(ValueError, match="not in pixels"):
        read_keypoints(folder)


def test_a_close_ups_shares_may_lie_far_outside(tmp_path: Path) -> None:
    """Feet that the picture does not show are guessed at several heights of the frame."""
    table = landmarks(2)
    table[..., :2] /= 500
    table[:, 25:, 1] += 4  # knees and feet
    content = {"keypoints": table.tolist(), "width": 480, "height": 100}
    found = read_keypoints(write(tmp_path / "close.json", content)).landmarks33
    assert found is not None
    np.testing.assert_allclose(found[..., 0], table[..., 0] * 480, rtol=1e-5)
    np.testing.assert_allclose(found[..., 1], table[..., 1] * 100, rtol=1e-5)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (2, 1e30, "confidence of 1e\\+30"),
        (2, -0.5, "confidence of -0.5"),
        (0, True, "true or false"),
        (0, 1e12, "1e\\+12 pixels away"),
        (0, [1.0], "no table of numbers"),
    ],
)
def test_values_that_no_joint_has(tmp_path: Path, place: int, value: object, problem: str) -> None:
    numbers: list[Any] = person(0)
    numbers[place] = value
    with pytest.raises(ValueError, match=problem):
        read_keypoints(write(tmp_path / "a.json", {"frames": [openpose(numbers)]}))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"frames": [openpose(person(0))]}), encoding="utf-8-sig")
    assert len(read_keypoints(path)) == 1
