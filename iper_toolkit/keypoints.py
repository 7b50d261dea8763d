"""2-D keypoints of a clip: OpenPose BODY_25 or MediaPipe's 33 landmarks, from files to one table.

Coordinates are continuous source pixels (a pixel's centre is at index + 0.5). A joint that was not
found has confidence 0; its coordinates mean nothing. When frames show several people, one of them is followed
through the clip (`tracking`).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iper_toolkit.tracking import follow_one_person

BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
    "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip

MEDIAPIPE_33 = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
    "left_foot_index", "right_foot_index",
)  # fmt: skip

# The 24 joints of a body, then the 21 landmark vertices in smplx's order.
BODY_45 = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar",
    "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
    "right_wrist", "left_hand", "right_hand",
    "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe",
    "left_heel", "right_big_toe", "right_small_toe", "right_heel", "left_thumb", "left_index",
    "left_middle", "left_ring", "left_pinky", "right_thumb", "right_index", "right_middle",
    "right_ring", "right_pinky",
)  # fmt: skip

# BODY_25 out of MediaPipe's landmarks; two names: the point half-way. MediaPipe has no small toe.
_BODY_25_FROM_MEDIAPIPE: dict[str, tuple[str, ...]] = {
    name: (name,) for name in BODY_25 if name in MEDIAPIPE_33
} | {
    "neck": ("left_shoulder", "right_shoulder"),
    "mid_hip": ("left_hip", "right_hip"),
    "left_big_toe": ("left_foot_index",),
    "right_big_toe": ("right_foot_index",),
}

# BODY_25 names whose place on our bodies has another name. OpenPose's neck lies between the
# shoulders and not where a body's neck joint is; it has no partner.
_BODY_45_FROM_BODY_25 = {"mid_hip": "pelvis"}

# Coordinates that nearly all lie below this are shares of the frame: nobody is two pixels tall.
_LARGEST_SHARE, _LOW_QUANTILE = 2.0, 0.1
_FARTHEST = 1e6  # pixels from the frame's corner
_HIGHEST_CONFIDENCE = 2.0  # OpenPose's go a little beyond 1, and are cut to it

_FRAME_NUMBER = re.compile(r"(\d+)(?:_keypoints)?$")


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one person in every frame of a clip."""

    body25: np.ndarray  # (T, 25, 3) float32: x, y in source pixels, confidence in [0, 1]
    # (T, 33, 4) float32: x, y, z in source pixels (z smaller = nearer, 0 at the hips), visibility
    landmarks33: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_table(self.body25, "body25", 25, 3)
        if self.landmarks33 is not None:
            _check_table(self.landmarks33, "landmarks33", 33, 4)
            if len(self.landmarks33) != len(self.body25):
                raise ValueError(
                    f"landmarks33 have {len(self.landmarks33)} frames, body25 has {len(self.body25)}."
                )

    def __len__(self) -> int:
        return len(self.body25)

    def __getitem__(self, frames: slice | np.ndarray) -> "Keypoints":
        landmarks = None if self.landmarks33 is None else self.landmarks33[frames]
        return Keypoints(self.body25[frames], landmarks)

    def seen(self, confidence: float = 0.1, num_joints: int = 4) -> np.ndarray:
        """(T,) bool: frames with at least `num_joints` joints above `confidence`."""
        return (self.body25[..., 2] > confidence).sum(1) >= num_joints

    def boxes(self, confidence: float = 0.1) -> np.ndarray:
        """(T, 4) float64 x0, y0, x1, y1 around the joints above `confidence`; NaN in empty frames."""
        found = self.body25[..., 2:] > confidence
        xy = self.body25[..., :2].astype(np.float64)
        low = np.where(found, xy, np.inf).min(1)
        high = np.where(found, xy, -np.inf).max(1)
        boxes = np.concatenate([low, high], axis=1)
        boxes[~np.isfinite(boxes).all(1)] = np.nan
        return boxes

    def body_targets(self) -> np.ndarray:
        """(T, 45, 3) float32 x, y, confidence for the joints and landmarks of a body (`BODY_45`).

        Places without a keypoint have confidence 0, and so has a small toe that lies exactly on its
        big toe: converters that know one toe only write it twice.
        """
        targets = np.zeros((len(self), len(BODY_45), 3), dtype=np.float32)
        for column, name in enumerate(BODY_25):
            place = _BODY_45_FROM_BODY_25.get(name, name)
            if place in BODY_45 and name != "neck":
                targets[:, BODY_45.index(place)] = self.body25[:, column]
        for side in ("left", "right"):
            small, big = (BODY_45.index(f"{side}_{toe}_toe") for toe in ("small", "big"))
            copied = (targets[:, small, :2] == targets[:, big, :2]).all(1)
            targets[copied, small] = 0
        return targets


def keypoints_from_landmarks(landmarks33: np.ndarray) -> Keypoints:
    """(T, 33, 4) MediaPipe landmarks, source pixels -> `Keypoints` with the BODY_25 made of them."""
    landmarks33 = np.asarray(landmarks33, dtype=np.float32)
    _check_table(landmarks33, "landmarks33", 33, 4)
    body25 = np.zeros((len(landmarks33), 25, 3), dtype=np.float32)
    for column, name in enumerate(BODY_25):
        if name in _BODY_25_FROM_MEDIAPIPE:
            rows = [MEDIAPIPE_33.index(part) for part in _BODY_25_FROM_MEDIAPIPE[name]]
            body25[:, column, :2] = landmarks33[:, rows, :2].mean(1)
            body25[:, column, 2] = landmarks33[:, rows, 3].min(1)
    return Keypoints(body25, landmarks33)


def read_keypoints(path: str | Path) -> Keypoints:
    """Read the keypoints of a clip.

    Args:
        path: a .json file of OpenPose frames (``{"frames": [{"people": [...]}, ...]}``), one of
            MediaPipe landmarks (``{"keypoints": [T][33][4], "names": [...]}``), or a folder of
            OpenPose's own files, one a frame, ``..._<number>_keypoints.json``.

    Raises:
        ValueError: names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No keypoints at {path}. Expected a BODY_25 or MediaPipe .json file, or a folder of "
            "OpenPose's ..._keypoints.json files."
        )
    content = _load_json(path)
    try:
        if isinstance(content, dict) and "frames" in content:
            return Keypoints(_body25_frames(content["frames"]))
        if isinstance(content, dict) and "people" in content:
            return Keypoints(_body25_frames([content]))
        if isinstance(content, dict) and "keypoints" in content:
            return keypoints_from_landmarks(_landmarks(content))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    keys = ", ".join(sorted(content)) if isinstance(content, dict) else type(content).__name__
    raise ValueError(
        f"{path} holds {keys or 'nothing'}; expected 'frames' (OpenPose BODY_25, one entry a frame) "
        "or 'keypoints' (33 MediaPipe landmarks a frame). Export the keypoints in one of these forms."
    )


def _read_folder(folder: Path) -> Keypoints:
    files: dict[int, Path] = {}
    for file in sorted(folder.glob("*.json")):
        match = _FRAME_NUMBER.search(file.stem)
        if match is None:
            raise ValueError(
                f"{file} has no frame number; OpenPose names its files ..._<number>_keypoints.json."
            )
        number = int(match[1])
        if number in files:
            raise ValueError(f"{file} and {files[number].name} are both frame {number}; keep one.")
        files[number] = file
    if not files:
        raise ValueError(
            f"{folder} has no .json files; run OpenPose with --write_json {folder} --model_pose BODY_25."
        )
    numbers = sorted(files)
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        raise ValueError(
            f"{folder} lacks frame {missing[0]} ({len(missing)} missing between {numbers[0]} and "
            f"{numbers[-1]}). OpenPose writes a file for frames without people too; copy them all."
        )
    people = []
    for number in numbers:
        content = _load_json(files[number])
        try:
            people.append(_people_of(content, number))
        except ValueError as error:
            raise ValueError(f"{files[number]}: {error}") from None
    try:
        return Keypoints(_one_person(people))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not readable JSON ({error}). Was it written to the end? Export it again."
        ) from None


def _body25_frames(frames: Any) -> np.ndarray:
    """OpenPose frames -> (T, 25, 3) float32, the largest person of each."""
    if not isinstance(frames, list) or not frames:
        raise ValueError("'frames' must be a list with one entry a frame, and is empty or no list.")
    return _one_person([_people_of(frame, index) for index, frame in enumerate(frames)])


def _people_of(frame: Any, index: int) -> list[np.ndarray]:
    """Everybody in one OpenPose frame, (25, 3) each."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list):
        raise ValueError(f"frame {index} has no list 'people' (empty where nobody is seen).")
    return [_body25_person(person, index) for person in people]


def _one_person(people: list[list[np.ndarray]]) -> np.ndarray:
    """(T, 25, 3) float32 of the person that is followed through all frames."""
    table = np.zeros((len(people), 25, 3), dtype=np.float32)
    for index, person in enumerate(follow_one_person(people)):
        if person is not None:
            table[index] = person
    if _are_shares(table[..., :2], table[..., 2]):
        raise ValueError(
            f"coordinates lie in {_range_of(table)}, not in pixels. Multiply x by the frame's width and y by its "
            "height (OpenPose: --keypoint_scale 0)."
        )
    return table


def _body25_person(person: Any, frame: int) -> np.ndarray:
    numbers = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    if not isinstance(numbers, list):
        raise ValueError(f"a person of frame {frame} has no list 'pose_keypoints_2d'.")
    if len(numbers) != 75:
        raise ValueError(
            f"a person of frame {frame} has {len(numbers)} numbers; BODY_25 has 75 (x, y, confidence "
            "of 25 joints). Other models of OpenPose are not read: use --model_pose BODY_25."
        )
    joints = _finite(numbers, f"frame {frame}")
    if joints.shape != (75,):
        raise ValueError(f"a person of frame {frame} holds lists; BODY_25 is 75 numbers in a row.")
    return _checked(joints.reshape(25, 3), f"frame {frame}")


def _are_shares(xy: np.ndarray, confidence: np.ndarray) -> bool:
    """Whether coordinates are shares of the frame: those of unseen feet may lie far outside, most do not."""
    found = np.abs(xy[confidence > 0]).max(-1)
    return len(found) > 0 and float(np.quantile(found, _LOW_QUANTILE)) <= _LARGEST_SHARE


def _range_of(table: np.ndarray) -> str:
    return "[-1, 1]" if (table[table[..., 2] > 0][:, :2] < 0).any() else "[0, 1]"


def _checked(joints: np.ndarray, where: str) -> np.ndarray:
    """Joints (J, C) with x, y first and confidence last, which is cut to 1."""
    confidence = joints[:, -1]
    if confidence.min() < 0 or confidence.max() > _HIGHEST_CONFIDENCE:
        raise ValueError(
            f"{where} has a confidence of {confidence.min() if confidence.min() < 0 else confidence.max():g}; it lies "
            "in 0 .. 1, and is 0 for a joint that was not found."
        )
    found = np.abs(joints[confidence > 0, :2])
    if found.size and found.max() > _FARTHEST:
        raise ValueError(f"{where} has a joint {found.max():g} pixels away; it takes pixels.")
    joints[:, -1] = np.minimum(confidence, 1)
    return joints


def _landmarks(content: dict[str, Any]) -> np.ndarray:
    """MediaPipe content -> (T, 33, 4) float32 in pixels."""
    frames = content["keypoints"]
    if not isinstance(frames, list) or not frames:
        raise ValueError(
            "'keypoints' must be a list with one entry a frame, and is empty or no list."
        )
    names = content.get("names")
    if names is not None and not isinstance(names, list):
        raise ValueError(f"'names' is {names!r}; it must be a list, or be left out.")
    if names is not None and tuple(str(name).lower() for name in names) != MEDIAPIPE_33:
        raise ValueError(
            f"'names' are not MediaPipe's 33 landmarks in their order (first of {len(names)}: "
            f"{', '.join(map(str, names[:3]))}). Other skeletons are read as OpenPose BODY_25 only."
        )
    table = np.zeros((len(frames), 33, 4), dtype=np.float32)
    for index, frame in enumerate(frames):
        if not frame:  # null or an empty list: nobody was found
            continue
        values = _finite(frame, f"frame {index}")
        if values.shape != (33, 4):
            raise ValueError(
                f"frame {index} is {values.shape}; it must be 33 landmarks of x, y, z, visibility."
            )
        table[index] = _checked(values, f"frame {index}")
    if _are_shares(table[..., :2], table[..., 3]):
        width, height = content.get("width"), content.get("height")
        if not _is_size(width) or not _is_size(height):
            raise ValueError(
                "coordinates lie in [0, 1], not in pixels. Multiply them by the frame's size, or "
                "store 'width' and 'height' beside 'keypoints'."
            )
        table[..., :3] *= np.array([width, height, width], dtype=np.float32)
    return table


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 1e5


def _has_truth_values(numbers: Any) -> bool:
    if isinstance(numbers, list):
        return any(map(_has_truth_values, numbers))
    return isinstance(numbers, bool)


def _finite(numbers: Any, where: str) -> np.ndarray:
    if _has_truth_values(numbers):
        raise ValueError(f"{where} holds true or false, where numbers are expected.")
    try:
        values = np.array(numbers, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where} holds something that is no table of numbers.") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{where} holds NaN or infinity; write 0, 0, 0 for a joint not found.")
    return values


def _check_table(table: np.ndarray, name: str, joints: int, columns: int) -> None:
    if table.ndim != 3 or table.shape[1:] != (joints, columns):
        raise ValueError(f"{name} is {table.shape}; it must be (T, {joints}, {columns}).")
    if not np.isfinite(table).all():
        raise ValueError(f"{name} holds NaN or infinity; give missing joints confidence 0 instead.")
