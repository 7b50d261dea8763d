"""From a case of the tables to work that can be drawn: who is shown, bodies in motion, frames to score."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.footage import Footage
from benchmarks.methods import Dressed, Motion, Person
from benchmarks.metrics import METRICS
from benchmarks.planning import (
    PreparedClip,
    PreparedDataset,
    Settings,
    has_true_pictures,
    spread_evenly,
    was_shown,
)
from benchmarks.tasks import KINDS
from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import transfer_camera
from iper_toolkit.cases import Case, Sources, TransferCase, ViewCase, check_sources
from iper_toolkit.grounding import foot_height, stabilise_motion
from iper_toolkit.true_pictures import TruePictures, TruthTables

Keep = Literal["some", "all", "none"]

# Pictures of a case that are kept unless all or none are wanted.
KEPT_PICTURES = 8
# A body is posed this many frames at a time.
_BATCH = 32


class Truth(Protocol):
    """Where the pictures to compare with, and their masks, come from: a clip, or `TruePictures`."""

    @property
    def mask_source(self) -> str: ...
    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ReadCase:
    """One case of whatever kind, read from the clips and ready to be drawn."""

    case: Case
    subject: str  # who is drawn
    people: tuple[Dressed, ...]  # who is shown; the first is drawn
    motion: Motion
    truth: Truth
    frames: tuple[int, ...]  # the truth's number of each drawn picture
    scored: NDArray[np.bool_]  # which of them are scored
    kept: frozenset[int]  # positions whose pictures are kept
    real: "RealFrames | None" = (
        None  # where there is no true frame: the person, doing something else
    )

    @property
    def follows(self) -> NDArray[np.bool_]:
        """(number of scored pictures,) whether the one before is of the frame before, so that motion can be judged."""
        numbers = np.array([n for n, s in zip(self.frames, self.scored, strict=True) if s])
        if self.case.kind == "instant" or not len(numbers):
            return np.zeros(len(numbers), bool)  # angles are no motion
        return np.concatenate([[False], np.diff(numbers) == 1])


@dataclass(frozen=True)
class RealFrames:
    """Real frames of a person whose pictures have no truth, one beside each: as the official protocol pairs them."""

    clip: Truth
    frames: tuple[int, ...]  # as many as are drawn


class CaseReader:
    """Reads the cases of one run. Errors of files and tables pass through; `BodyMismatch` ends a run."""

    def __init__(
        self,
        dataset: PreparedDataset,
        truths: TruthTables,
        settings: Settings,
        body: Body,
        keep: Keep,
    ) -> None:
        self._dataset, self._truths, self._settings = dataset, truths, settings
        self._body, self._keep = body, keep
        self._unpaired = any(METRICS[name].is_unpaired for name in settings.metrics)
        self._opened: dict[str, PreparedClip] = {}  # the clips of the people at hand

    def read_people(self, case: Case) -> tuple[Dressed, ...]:
        """Whoever is shown in the case and in all others with its `person_key`."""
        self._opened = {}
        return tuple(
            Dressed(self._read_person(case, sources), sources.parts) for sources in case.people
        )

    def _read_person(self, case: Case, sources: Sources) -> Person:
        clip = self._clip(sources.clip)
        frames = list(sources.frames)
        size = self._settings.size
        check_sources(case.key, sources, clip.num_frames)
        if unfit := [frame for frame in frames if not clip.valid[frame]]:
            raise ValueError(
                f"source frames {unfit} of {sources.clip} have no valid fit, so nobody can be learned from them; "
                "mend the fit, or choose other source frames in the protocol."
            )
        return Person(
            clip=sources.clip,
            frames=sources.frames,
            pictures=clip.frames(frames, size),
            masks=clip.appearance_masks(frames, size),
            params=clip.params(frames),
            background=self._clip(case.scene).background(size),
        )

    def _clip(self, clip_id: str) -> PreparedClip:
        if clip_id in self._opened:
            return self._opened[clip_id]
        clip = self.check_body(clip_id)
        self._opened[clip_id] = clip
        return clip

    def check_body(self, clip_id: str) -> PreparedClip:
        """Open a clip; raises `BodyMismatch` if its fits are of another body."""
        clip = self._dataset.clip(clip_id)
        if clip.body_id != self._body.id:
            raise BodyMismatch(
                f"Clip {clip_id} was fitted with body {clip.body_id!r}, and this run poses {self._body.id!r}. "
                "Name the file of that body with --body."
            )
        return clip

    def read_case(self, case: Case, people: tuple[Dressed, ...]) -> ReadCase:
        clip, driver = self._clip(case.people[0].clip), self._clip(case.driver)
        case = case.clipped(clip.num_frames, driver.num_frames)
        if not len(case.frames):
            raise ValueError(f"no frame is left to draw: {case.note}")
        has_truth = KINDS[case.kind].is_scored
        truth, own, valid = self._read_motion(case, driver)
        scored = valid.copy()
        if lost := int((~valid).sum()):
            case = _noted(
                case, f"{lost} frames of {case.driver} have no valid fit and are not scored"
            )
        real: RealFrames | None = None
        if not has_truth:
            # Slicing past the end leaves pictures over, as in the official package.
            of_person = np.array(case.real_frames)[: len(scored)]  # type: ignore[attr-defined]
            scored[len(of_person) :] = False
            if not self._unpaired:
                scored[:] = False
        if has_truth and self._settings.targets == "unseen":
            scored &= ~was_shown(case)
        if has_truth and not scored.any():
            case = _noted(case, "no frame is left to score")
        drawn = np.arange(len(scored))
        if self._settings.max_frames:
            wanted = np.flatnonzero(scored) if scored.any() else drawn
            drawn = np.array(spread_evenly(wanted.tolist(), self._settings.max_frames))
        num_kept = {"all": len(drawn), "none": 0, "some": KEPT_PICTURES}[self._keep]
        if not has_truth:
            beside = [int(of_person[min(k, len(of_person) - 1)]) for k in drawn.tolist()]
            real = RealFrames(clip, tuple(beside)) if len(of_person) else None
        bodies = self._motion_bodies(case, people[0].person.params, own)
        motion = Motion(
            case=case.key,
            kind=case.kind,
            params=bodies[drawn.tolist()],
            driver=own[drawn.tolist()],
            positions=tuple(drawn.tolist()),
            case_length=len(scored),
            footage=(
                Footage(driver, tuple(case.frames[k] for k in drawn.tolist()), self._settings.size)
                if case.kind != "instant"
                else None
            ),
        )
        return ReadCase(
            case=case,
            subject=clip.subject,
            people=people,
            motion=motion,
            truth=truth,
            frames=tuple(case.frames[position] for position in drawn.tolist()),
            scored=scored[drawn],
            kept=frozenset(spread_evenly(drawn.tolist(), num_kept)),
            real=real,
        )

    def _read_motion(
        self, case: Case, driver: PreparedClip
    ) -> tuple[Truth, BodyParams, NDArray[np.bool_]]:
        """The truth of a case, and the fits of what it shows, with which of them are valid."""
        truth: PreparedClip | TruePictures = driver
        if has_true_pictures(case):
            assert isinstance(case, TransferCase | ViewCase)  # no other kind has them
            truth = self._truths.pictures_of(case, driver.crop, driver.frame_size)
        if case.kind == "instant":
            assert isinstance(truth, TruePictures)
            fits = truth.params(case.frames, self._body)
            return truth, fits, np.ones(len(case.frames), bool)
        frames = list(case.frames)
        return truth, driver.params(frames), driver.valid[frames]

    def _motion_bodies(self, case: Case, source: BodyParams, own: BodyParams) -> BodyParams:
        """The bodies to draw: the driver's `own` poses with the person's shape.

        Where there is a truth they have the driver's camera ("copy"), because the truth is seen with it.
        Cross-imitation stands the person where their source picture has them and keeps the feet on the ground
        ("smooth").
        """
        camera = own.camera
        if not KINDS[case.kind].is_scored:
            feet = self._feet(own)
            steady = stabilise_motion(own.to_array(), feet)[:, :3]
            camera = transfer_camera(source.camera[0], steady, steady[0], "smooth")
        shape = source.shape[:1].expand(len(own), -1)
        return BodyParams(own.body_id, camera, own.pose, shape)

    @cached_property
    def _exact_body(self) -> Body:
        return self._body.to(dtype=torch.float64)

    def _feet(self, params: BodyParams) -> torch.Tensor:
        """(N,) height of the lowest point, float32 rounded from float64, so that it is the same in every process."""
        body = self._exact_body
        pose, shape = params.pose.double(), params.shape.double()
        parts = [
            foot_height(
                body.skin(pose[first : first + _BATCH], shape[first : first + _BATCH]).vertices
            )
            for first in range(0, len(params), _BATCH)
        ]
        return torch.cat(parts).float()


def _noted(case: Case, note: str) -> Case:
    whole = "; ".join(filter(None, [case.note, note]))
    return dataclasses.replace(case, note=whole)  # type: ignore[type-var]
