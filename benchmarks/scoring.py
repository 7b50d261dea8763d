"""Scores the pictures of one case: several methods against the same true pictures, some frames at a time.

A case is scored in pieces, so that memory does not grow with its length. What is carried from piece to piece is the
last picture (for metrics of motion) and the frames of a window that is not full yet (for those of videos).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.case_reader import ReadCase
from benchmarks.detecting import FACE_DETECTOR, PERSON_DETECTOR, FaceBox, PersonBox
from benchmarks.judging import Judges
from benchmarks.looking import boxes_of_bodies, boxes_of_masks, faces_of_bodies
from benchmarks.methods import FoundPoses
from benchmarks.metrics import Estimates, Metric, Pair, Pictures, score_pair
from benchmarks.networks import looks_at
from iper_toolkit.body import Body, BodyParams
from iper_toolkit.camera import ndc_to_pixels, project_weak_perspective
from iper_toolkit.keypoints import BODY_25, BODY_45

# OpenPose's neck lies between the shoulders, the body's joint does not.
_NOT_ON_THE_BODY = {"neck"}


@dataclass
class _Carried:
    """What one method's pictures, or the true ones, hand on to the next piece."""

    last: NDArray[np.uint8] | None = None
    window: list[NDArray[np.uint8]] = field(default_factory=list)
    windows: list[NDArray[np.float32]] = field(default_factory=list)  # features of full ones


@dataclass(frozen=True)
class TruePiece:
    """Some scored true pictures of a case, where the person is in them and in those to be judged."""

    pictures: Pictures
    masks: NDArray[np.uint8] | None
    boxes: NDArray[np.float64] | None  # of the person in the generated pictures
    faces: NDArray[np.float64] | None
    follows: NDArray[np.bool_]
    places: NDArray[np.int64]  # of the pictures among the case's drawn ones


class CaseScorer:
    """Everything that is scored of one case.

    Args:
        read: the case.
        metrics: cards; those that make no sense of the case (paired ones without a truth, motion without
            consecutive frames) are left out.
        judges: the networks.
        body: of the fits, to find faces and joints.
        size: side of the pictures, pixels.
        threads: that compare pixels side by side.
        person_box, face_box: where the boxes that judges look into come from.
    """

    def __init__(
        self,
        read: ReadCase,
        metrics: Sequence[Metric],
        judges: Judges,
        body: Body,
        size: int,
        threads: int = 1,
        *,
        person_box: PersonBox = "mask",
        face_box: FaceBox = "fit",
    ) -> None:
        self._person_box, self._face_box = person_box, face_box
        self._read, self._judges, self._body = read, judges, body
        self._size, self._threads = size, threads
        self.metrics = tuple(metric for metric in metrics if self._makes_sense(metric))
        self._follows = dict(
            zip(np.flatnonzero(read.scored).tolist(), read.follows.tolist(), strict=True)
        )
        cut_out = {looks_at(metric.judge) for metric in self.metrics}
        self._needs_boxes, self._needs_faces = "person" in cut_out, "face" in cut_out
        self.needs_masks = any("mask" in metric.needs for metric in self.metrics)
        self._window = max((metric.window for metric in self.metrics), default=0)
        self._carried: dict[str, _Carried] = {}
        self._features: dict[str, dict[str, list[NDArray[np.float32]]]] = {}
        self._found: dict[str, FoundPoses] = {}

    def _makes_sense(self, metric: Metric) -> bool:
        if self._read.real is not None and not metric.is_unpaired:
            return False
        return "previous" not in metric.needs or bool(self._read.follows.any())

    def looked(self, metric: Metric) -> str:
        """What says where in a picture this metric looks: the mask's source, or the box's; empty: nothing does."""
        masks = self._read.truth if self._read.real is None else self._read.real.clip
        part = looks_at(metric.judge)
        source = {"person": self._person_box, "face": self._face_box}.get(part, "mask")
        if source == "mask":
            return masks.mask_source if "mask" in metric.needs else ""
        if source == "fit":
            return "fit"
        name = PERSON_DETECTOR if part == "person" else FACE_DETECTOR
        return f"detector {self._judges.detector_digest(name)[:12]}"

    def kept(self, metric: Metric) -> NDArray[np.bool_] | None:
        """Which scored frames have a row of this metric; None: all."""
        return self._read.follows if "previous" in metric.needs else None

    # ---------------------------------------------------------------------------------------- truth

    def see_truth(
        self, places: NDArray[np.int64], frames: NDArray[np.uint8], masks: NDArray[np.uint8] | None
    ) -> TruePiece:
        """Look at the next scored true pictures, whose `places` are among the case's drawn ones."""
        drawn = self._read.motion.params[places.tolist()]
        is_real = self._read.real is not None
        shown = self._real_params(places) if is_real else drawn
        boxes = self._person_boxes(frames, masks, shown) if self._needs_boxes else None
        truth_faces = faces = None
        if self._needs_faces:
            truth_faces = self._face_boxes(frames, shown)
            faces = faces_of_bodies(self._body, drawn, self._size) if is_real else truth_faces
        own = boxes
        if is_real and self._needs_boxes:
            # Nobody has a mask of a picture that was never taken; the body to be drawn says where they are.
            own = boxes_of_bodies(self._body, drawn, self._size)
        follows = np.array([self._follows[place] for place in places.tolist()], bool)
        carried = self._carried.setdefault("target", _Carried())
        pictures = Pictures(frames, self._judges, boxes, truth_faces, carried.last, is_shared=True)
        self._hand_on("target", frames, follows)
        self._keep_features("target", pictures)
        return TruePiece(pictures, masks, own, faces, follows, places)

    def _person_boxes(
        self, frames: NDArray[np.uint8], masks: NDArray[np.uint8] | None, shown: BodyParams
    ) -> NDArray[np.float64]:
        if self._person_box == "detector":
            return self._judges.detect(PERSON_DETECTOR, frames)
        if self._person_box == "fit":
            return boxes_of_bodies(self._body, shown, self._size)
        assert masks is not None  # metrics of the person need them
        return boxes_of_masks(masks)

    def _face_boxes(self, frames: NDArray[np.uint8], shown: BodyParams) -> NDArray[np.float64]:
        if self._face_box == "detector":
            return self._judges.detect(FACE_DETECTOR, frames)
        return faces_of_bodies(self._body, shown, self._size)

    def _real_params(self, places: NDArray[np.int64]) -> BodyParams:
        real = self._read.real
        assert real is not None  # only asked for then
        frames = [real.frames[place] for place in places.tolist()]
        return real.clip.params(frames)  # type: ignore[attr-defined]

    # ------------------------------------------------------------------------------------ generated

    def score(
        self, method: str, piece: TruePiece, frames: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.float64]]:
        """Scores of a method's next pictures, (N,) by metric; what sets need of them is kept."""
        carried = self._carried.setdefault(method, _Carried())
        pictures = Pictures(frames, self._judges, piece.boxes, piece.faces, carried.last)
        estimates = self._estimates(method, piece)
        pair = Pair(pictures, piece.pictures, piece.masks, piece.follows, estimates, self._threads)
        scores = score_pair([m for m in self._per_frame if self._has(m, estimates)], pair)
        self._hand_on(method, frames, piece.follows)
        self._keep_features(method, pictures)
        return scores

    @property
    def _per_frame(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.kind == "frame"]

    def features(self, name: str) -> dict[str, NDArray[np.float32]]:
        """What sets need of a method's pictures, or of "target": (n, d) by what they are called in the file."""
        found = {key: np.concatenate(parts) for key, parts in self._features.get(name, {}).items()}
        if self._window:
            windows = self._carried.get(name, _Carried()).windows
            if windows:
                found["i3d:correct"] = np.concatenate(windows)
        return found

    def _keep_features(self, name: str, pictures: Pictures) -> None:
        kept = self._features.setdefault(name, {})
        done = set()
        for metric in self.metrics:
            if metric.features is not None and feature_key(metric) not in done:
                done.add(feature_key(metric))
                kept.setdefault(feature_key(metric), []).append(metric.features(pictures))

    def _hand_on(self, name: str, frames: NDArray[np.uint8], follows: NDArray[np.bool_]) -> None:
        carried = self._carried.setdefault(name, _Carried())
        if len(frames):
            carried.last = frames[-1].copy()
        if not self._window:
            return
        for frame, goes_on in zip(frames, follows.tolist(), strict=True):
            if not goes_on:
                carried.window.clear()
            carried.window.append(frame.copy())
            if len(carried.window) == self._window:
                carried.windows.append(self._judges.embed_windows(np.stack(carried.window)[None]))
                carried.window.clear()

    # ------------------------------------------------------------------------------- estimated poses

    def expect(self, method: str, found: FoundPoses | None) -> None:
        """What somebody estimated in a method's pictures of this case."""
        if found is not None:
            self._found[method] = found

    @staticmethod
    def _has(metric: Metric, estimates: Estimates | None) -> bool:
        wanted = {"keypoints": "keypoints", "estimated_fit": "params"}
        return all(
            estimates is not None and getattr(estimates, attribute) is not None
            for need, attribute in wanted.items()
            if need in metric.needs
        )

    def has(self, method: str, metric: Metric) -> bool:
        """Whether a method's pictures can be scored by a metric: whether poses were estimated in them, if it takes any."""
        found = self._found.get(method)
        estimates = None
        if found is not None:
            nothing = np.empty(0)
            estimates = Estimates(
                None if found.keypoints is None else (nothing, nothing),
                None if found.params is None else (nothing, nothing),
            )
        return self._has(metric, estimates)

    def _estimates(self, method: str, piece: TruePiece) -> Estimates | None:
        found = self._found.get(method)
        if found is None:
            return None
        places = piece.places
        wanted = self._read.motion.driver[places.tolist()]
        posed = self._body.pose(wanted)
        keypoints = params = joints = None
        if found.keypoints is not None:
            keypoints = found.keypoints[places], true_keypoints(posed.landmarks, wanted, self._size)
        if found.params is not None:
            mine = found.params[places]
            params = mine, wanted.to_array().double().numpy()
            own = BodyParams.from_array(wanted.body_id, torch.from_numpy(mine).float())
            joints = tuple(
                one[:, :24].double().numpy() for one in (self._body.pose(own).joints, posed.joints)
            )
        return Estimates(keypoints, params, joints)  # type: ignore[arg-type]


def true_keypoints(landmarks: torch.Tensor, params: BodyParams, size: int) -> NDArray[np.float64]:
    """(N, 25, 3) BODY_25 of a posed body in pictures of `size` pixels; what is not on it, or outside, has confidence 0.

    landmarks: (N, 45, 3), of `Body.pose`.
    """
    points = ndc_to_pixels(project_weak_perspective(landmarks, params.camera), size)
    found = np.zeros((len(params), len(BODY_25), 3))
    for column, name in enumerate(BODY_25):
        place = {"mid_hip": "pelvis"}.get(name, name)
        if place not in BODY_45 or name in _NOT_ON_THE_BODY:
            continue
        xy = points[:, BODY_45.index(place)].double().numpy()
        inside = ((xy >= 0) & (xy <= size - 1)).all(1)
        found[:, column, :2], found[:, column, 2] = xy, inside
    return found


def feature_key(metric: Metric) -> str:
    """What a set metric's features are called in a case's file."""
    return f"{metric.judge}:{metric.boxes}"
