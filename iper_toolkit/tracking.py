"""One person throughout a clip: detections of several people, frame by frame, joined to tracks.

Detectors list people in any order. Each detection is given to the track that expects it (its last place moved on by
its last velocity), over all tracks at once by the Hungarian method; what no track expects begins a new one. The
person is the track with the largest sum of box side times confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# How far from its expected place a person may be, in sides of the box; more after each frame without a detection.
_REACH, _REACH_A_FRAME, _LONGEST_REACH = 0.4, 0.05, 1.0
_SMOOTHING = 0.5  # of the velocity
_FEWEST = 0.5  # share of the frames with people that the person must be in

Joints = NDArray[np.float32]  # (J, 3) x, y in pixels, confidence; 0 where a joint was not found


@dataclass
class _Track:
    joints: dict[int, Joints] = field(default_factory=dict)  # by frame
    place: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    last: int = -1

    def distance(self, joints: Joints, frame: int) -> float:
        """Mean distance of the joints that both have from where they are expected, in sides of the box."""
        gap = frame - self.last
        both = (self.place[:, 2] > 0) & (joints[:, 2] > 0)
        expected = self.place[:, :2] + self.velocity * min(gap, 5)
        if not both.any():
            return np.inf
        apart = np.linalg.norm(expected[both] - joints[both, :2], axis=1).mean()
        distance = float(apart / max(_side(joints), 1.0))
        reach = min(_REACH + _REACH_A_FRAME * (gap - 1), _LONGEST_REACH)
        return distance if distance <= reach else np.inf

    def add(self, joints: Joints, frame: int) -> None:
        if self.last >= 0:
            both = (self.place[:, 2] > 0) & (joints[:, 2] > 0)
            moved = (joints[both, :2] - self.place[both, :2]).mean(0) / (frame - self.last)
            self.velocity = _SMOOTHING * self.velocity + (1 - _SMOOTHING) * moved
        self.place = joints.astype(np.float64)
        self.joints[frame], self.last = joints, frame

    @property
    def weight(self) -> float:
        return sum(_side(joints) * float(joints[:, 2].mean()) for joints in self.joints.values())


def follow_one_person(people: Sequence[Sequence[Joints]]) -> list[Joints | None]:
    """The same person in every frame.

    Args:
        people: of each frame the detections, in any order, (J, 3) each.

    Returns:
        The person's detection in each frame, None where there is none.

    Raises:
        ValueError: there are several people, and none is in half of the frames.
    """
    if all(len(frame) <= 1 for frame in people):  # nobody to confuse with, however far one jumps
        return [frame[0] if frame else None for frame in people]
    tracks: list[_Track] = []
    for number, detections in enumerate(people):
        _join(tracks, [joints for joints in detections if (joints[:, 2] > 0).any()], number)
    if not tracks:
        return [None] * len(people)
    person = max(tracks, key=lambda track: track.weight)
    num_seen = sum(bool(len(frame)) for frame in people)
    if len(person.joints) < _FEWEST * num_seen:
        most = max(len(frame) for frame in people)
        raise ValueError(
            f"up to {most} people are in a frame, and none could be followed through half of the {num_seen} frames "
            f"with people (the best one through {len(person.joints)}). Keep one person's keypoints, or cut the video "
            "to a part that shows one."
        )
    return [person.joints.get(number) for number in range(len(people))]


def _join(tracks: list[_Track], detections: Sequence[Joints], frame: int) -> None:
    from scipy.optimize import linear_sum_assignment  # half a second; most clips show one person

    taken: set[int] = set()
    if tracks and detections:
        distances = np.array([[t.distance(joints, frame) for joints in detections] for t in tracks])
        far = 1e6
        rows, columns = linear_sum_assignment(np.where(np.isfinite(distances), distances, far))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if np.isfinite(distances[row, column]):
                tracks[row].add(detections[column], frame)
                taken.add(column)
    for column, joints in enumerate(detections):
        if column not in taken:
            track = _Track()
            track.add(joints, frame)
            tracks.append(track)


def _side(joints: Joints) -> float:
    """The longer side of the box around the joints that were found, pixels."""
    found = joints[joints[:, 2] > 0, :2]
    return float(np.ptp(found, axis=0).max()) if len(found) else 0.0
