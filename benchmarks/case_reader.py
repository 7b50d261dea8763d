"""From a case of the tables to work that can be drawn: source frames, bodies in motion, frames to score."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.methods import Motion, Person
from benchmarks.planning import PreparedClip, PreparedDataset, Settings, spread_evenly
from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import transfer_camera
from iper_toolkit.grounding import foot_height, stabilise_motion
from iper_toolkit.protocols import ImitationCase

Keep = Literal["some", "all", "none"]

# Pictures of a case that are kept unless all or none are wanted.
KEPT_PICTURES = 8
# A body is posed this many frames at a time.
_BATCH = 32


@dataclass(frozen=True)
class Task:
    """One case, read and ready to be drawn."""

    case: ImitationCase
    clip: PreparedClip
    driver: PreparedClip
    person: Person
    motion: Motion
    frames: tuple[int, ...]  # the driver's frame number of each drawn picture
    scored: NDArray[np.bool_]  # which of them are scored
    kept: frozenset[int]  # positions whose pictures are kept


class CaseReader:
    """Reads the cases of one run. Errors of files and tables pass through; `BodyMismatch` ends a run."""

    def __init__(
        self, dataset: PreparedDataset, settings: Settings, body: Body, keep: Keep
    ) -> None:
        self._dataset, self._settings = dataset, settings
        self._body, self._keep = body, keep
        self._opened: dict[str, PreparedClip] = {}  # the clips of the person at hand

    def read_person(self, case: ImitationCase) -> Person:
        self._opened = {}
        clip = self._clip(case.clip)
        sources = list(case.source_frames)
        size = self._settings.size
        case.clipped(clip.num_frames, 2**31 - 1)  # says so if a source frame is missing
        if unfit := [frame for frame in sources if not clip.valid[frame]]:
            raise ValueError(
                f"source frames {unfit} of {case.clip} have no valid fit, so nobody can be learned from them; "
                "mend the fit, or choose other source frames in the protocol."
            )
        return Person(
            clip=case.clip,
            frames=case.source_frames,
            pictures=clip.frames(sources, size),
            masks=clip.masks(sources, size),
            params=clip.params(sources),
            background=clip.background(size),
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

    def read_task(self, case: ImitationCase, person: Person) -> Task:
        clip, driver = self._clip(case.clip), self._clip(case.driver)
        case = case.clipped(clip.num_frames, driver.num_frames)
        frames = case.driver_frames
        if not frames:
            raise ValueError(f"no frame is left to draw: {case.note}")
        valid = driver.valid[frames.start : frames.stop]
        scored = valid.copy() if case.kind == "self" else np.zeros(len(frames), bool)
        if lost := int((~valid).sum()):
            note = f"{lost} frames of {case.driver} have no valid fit and are not scored"
            case = dataclasses.replace(case, note="; ".join(filter(None, [case.note, note])))
        if case.kind == "self" and self._settings.targets == "unseen":
            scored[[f - frames.start for f in case.source_frames if f in frames]] = False
        if case.kind == "self" and not scored.any():
            case = dataclasses.replace(
                case, note="; ".join(filter(None, [case.note, "no frame is left to score"]))
            )
        wanted = np.flatnonzero(scored) if case.kind == "self" else np.arange(len(frames))
        drawn = np.arange(len(frames))
        if 0 < self._settings.max_frames < len(wanted):
            drawn = np.array(spread_evenly(wanted.tolist(), self._settings.max_frames))
        num_kept = {"all": len(drawn), "none": 0, "some": KEPT_PICTURES}[self._keep]
        kept = spread_evenly(drawn.tolist(), num_kept)
        own = driver.params(list(frames))
        bodies = self._motion_bodies(case, person.params, own)
        motion = Motion(
            case=case.key,
            kind=case.kind,
            params=bodies[drawn.tolist()],
            driver=own[drawn.tolist()],
            positions=tuple(drawn.tolist()),
            case_length=len(frames),
        )
        return Task(
            case=case,
            clip=clip,
            driver=driver,
            person=person,
            motion=motion,
            frames=tuple((drawn + frames.start).tolist()),
            scored=scored[drawn],
            kept=frozenset(kept),
        )

    def _motion_bodies(
        self, case: ImitationCase, source: BodyParams, own: BodyParams
    ) -> BodyParams:
        """The bodies to draw: the driver's `own` poses with the person's shape.

        Self-imitation takes the driver's camera ("copy"), because the truth is seen with it. Cross-imitation
        stands the person where their source picture has them and keeps the feet on the ground ("smooth").
        """
        camera = own.camera
        if case.kind == "cross":
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
