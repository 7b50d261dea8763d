"""Three tasks, planned: which bodies are drawn, frame by frame, and whose parts they wear. Nothing is drawn here.

`imitate` and `transfer` let people follow a motion, `view` turns a person on the spot. All of them end in
a `Plan`, which `lwgan.synthesis.synthesize` draws.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.body.parts import PART_IDS, PARTS, Surface, part_ids
from iper_toolkit.camera import transfer_camera
from iper_toolkit.grounding import foot_height, stabilise_motion
from iper_toolkit.smoothing import CAMERA_CUTOFF, POSE_CUTOFF, smooth_motion
from iper_toolkit.views import bullet_time as stop_time
from iper_toolkit.views import turn, view_roots
from lwgan.person import Dressed, Motion, Person

Camera = Literal["smooth", "source", "copy", "ref_txty"]
Select = Literal["texture", "flow"]

# Frames a second of a person who is turned, and views of a whole turn: the first and the last are the same.
VIEW_FPS = 25.0
NUM_VIEWS = 180
# A body is posed this many frames at a time.
_BATCH = 32
_FACIAL = PART_IDS["facial"][0]


@dataclass(frozen=True, eq=False)
class Plan:
    """The bodies to draw, in order, and the people they wear."""

    task: Literal["imitate", "transfer", "view"]
    people: tuple[
        Dressed, ...
    ]  # the first is the primary: shape, camera, scene, and what nobody else wears
    params: BodyParams  # (T), cameras in NDC of the primary's square pictures
    fps: float
    motion_frames: tuple[
        int, ...
    ] = ()  # frame of the motion behind each drawn one; none without a motion
    select: Select = (
        "texture"  # whether parts of several people restrict the texture only, or flows too
    )
    name: str = ""  # tells the plans of one command apart, such as "view 90"
    settings: Mapping[str, object] = field(
        default_factory=dict
    )  # for provenance: words and numbers

    def __post_init__(self) -> None:
        if not self.people:
            raise ValueError("A plan takes at least one person; it got none.")
        if len(self.params) == 0:
            raise ValueError(f"The plan to {self.task} has no frames to draw.")
        if self.select not in get_args(Select):
            raise ValueError(
                f"select is {self.select!r}; choose one of: {', '.join(get_args(Select))}."
            )
        for person in self.people:
            _check_body(person.person, self.params.body_id)
        if len({person.person.size for person in self.people}) > 1:
            sizes = ", ".join(f"{p.person.name} {p.person.size}" for p in self.people)
            raise ValueError(
                f"The people's pictures differ in size ({sizes}); read all at one size."
            )
        share_parts(self.people)

    def __len__(self) -> int:
        return len(self.params)

    @property
    def primary(self) -> Person:
        return self.people[0].person


def imitate(
    person: Person,
    motion: Motion,
    body: Body,
    *,
    camera: Camera = "smooth",
    smooth: bool = True,
    pose_cutoff: float = POSE_CUTOFF,
    camera_cutoff: float = CAMERA_CUTOFF,
    views: Sequence[float] = (),
    bullet_time: Sequence[tuple[int, int]] = (),
) -> list[Plan]:
    """A person does what somebody else did, with the shape of the person's first source.

    Args:
        person, motion: both fitted with `body`.
        camera: ``smooth`` starts where source 0 stands and keeps the feet on that ground, jumps apart; its
            steps to the side and towards the camera are dropped, as the reference does. ``source`` keeps the camera
            of source 0; ``copy`` takes the motion's; ``ref_txty`` has the source's scale at the motion's
            place. The last two make sense for a motion whose crop is like the person's.
        smooth: low-pass the motion's poses and cameras first, with the two cutoffs of `iper_toolkit.smoothing`.
        views: degrees about the vertical axis, each from the motion as it is; negative ones turn the other
            way. None is the same as one view of 0 degrees.
        bullet_time: (frame, duration) pairs: before that frame of those imitated, counted from 0, time stands still
            for `duration` frames while the view goes once around, from where it is. Deviation: the reference
            shows an upright body there that begins with its front, whatever the view.

    Returns:
        One plan for each of `views`, or a single one.
    """
    _check_bodies([person], motion, body)
    _check_stops(bullet_time, motion)
    cutoffs = (pose_cutoff, camera_cutoff) if smooth else None
    # Turns about the vertical axis leave the feet as high as they are: cameras are the same for every view and stop.
    moved = _follow(person.params, motion, body, camera, cutoffs)
    settings = {
        "camera": camera,
        "smooth": smooth,
        **({"pose_cutoff": pose_cutoff, "camera_cutoff": camera_cutoff} if smooth else {}),
        **({"bullet_time": [list(stop) for stop in bullet_time]} if bullet_time else {}),
    }
    plans = []
    for degrees in views or (0.0,):
        if not math.isfinite(degrees):
            raise ValueError(f"A view is at {degrees} degrees; it takes a finite number.")
        seen = turn(moved, degrees) if degrees else moved
        frames, origins = stop_time(seen, bullet_time)
        plans.append(
            Plan(
                task="imitate",
                people=(Dressed(person),),
                params=BodyParams.from_array(body.id, frames),
                fps=motion.fps,
                motion_frames=tuple(origins),
                name=view_name(degrees) if views else "",
                settings={**settings, **({"view_degrees": float(degrees)} if views else {})},
            )
        )
    return plans


def view_name(degrees: float) -> str:
    """What the plan of a view is called, and its file after it."""
    return f"view {degrees:g}"


def transfer(
    people: Sequence[Dressed],
    motion: Motion | None,
    body: Body,
    *,
    select: Select = "texture",
    camera: Camera = "smooth",
    smooth: bool = True,
    pose_cutoff: float = POSE_CUTOFF,
    camera_cutoff: float = CAMERA_CUTOFF,
) -> Plan:
    """The first person moves in the first one's scene, and wears parts of the others.

    Args:
        people: the first is the primary. What nobody claims is the primary's; ``facial`` of one person goes before the
            ``head`` of another, and any other part that two people claim is an error.
        motion: None draws the primary once, as the first source stands.
        select: ``texture`` puts the parts together in the texture alone, and every source's features reach the whole
            body: the reference's way. ``flow`` lets features reach the person's own parts only.
        camera, smooth, pose_cutoff, camera_cutoff: as in `imitate`.
    """
    if not people:
        raise ValueError("Appearance transfer takes at least one person; it got none.")
    primary = people[0].person
    _check_bodies([dressed.person for dressed in people], motion, body)
    if motion is None:
        params, fps, origins = primary.params[[0]], VIEW_FPS, tuple[int, ...]()
        settings: dict[str, object] = {"camera": "source"}
    else:
        cutoffs = (pose_cutoff, camera_cutoff) if smooth else None
        moved = _follow(primary.params, motion, body, camera, cutoffs)
        params, fps = BodyParams.from_array(body.id, moved), motion.fps
        origins = tuple(range(len(motion)))
        settings = {"camera": camera, "smooth": smooth}
    worn = {f"{i + 1} {d.person.name}": list(d.parts) for i, d in enumerate(people)}
    return Plan(
        task="transfer",
        people=tuple(people),
        params=params,
        fps=fps,
        motion_frames=origins,
        select=select,
        settings={**settings, "select": select, "parts": worn},
    )


def view(
    person: Person,
    body: Body,
    *,
    angles: Sequence[float] | None = None,
    num_views: int = NUM_VIEWS,
    rest_pose: bool = False,
) -> Plan:
    """A person, turned on the spot about the vertical axis; at 0 degrees upright and facing the camera.

    Args:
        person: the pose of joints 1 to 23 and the shape are those of source 0.
        angles: degrees, any; else `num_views` in equal steps from 0 to 360, both included, as the reference does.
        rest_pose: draw the body's T pose instead.

    The feet stay at the height where they stand in source 0. Deviation: the reference keeps the pelvis, so a
    person who crouches in the source would sink into the ground in a T pose.
    """
    _check_bodies([person], None, body)
    roots = view_roots(num_views) if angles is None else _facing_roots(angles)
    source = person.params[[0]].to_array()
    frames = source.repeat(len(roots), 1)
    frames[:, 3:6] = roots
    if rest_pose:
        frames[:, 6:-10] = 0
    feet = _feet(BodyParams.from_array(body.id, torch.cat([source, frames])), body)
    frames[:, 2] += feet[0] - feet[1:]
    turns: dict[str, object] = (
        {"num_views": num_views} if angles is None else {"angles": [float(a) for a in angles]}
    )
    return Plan(
        task="view",
        people=(Dressed(person),),
        params=BodyParams.from_array(body.id, frames),
        fps=VIEW_FPS,
        settings={**turns, "rest_pose": rest_pose},
    )


def share_parts(people: Sequence[Dressed]) -> tuple[tuple[int, ...], ...]:
    """Part ids of each person, so that 0 to 9 have one owner each; ``facial`` (10) stands beside its owner's.

    Raises:
        ValueError: two people claim the same part.
    """
    claims = [part_ids(dressed.parts) for dressed in people]
    for (i, first), (j, second) in itertools.combinations(enumerate(claims), 2):
        if both := sorted(set(first) & set(second)):
            words = ", ".join("facial" if part == _FACIAL else PARTS[part] for part in both)
            names = [f"{people[k].person.name} (person {k + 1})" for k in (i, j)]
            raise ValueError(
                f"{names[0]} and {names[1]} both claim {words}. Give each part to one person; what nobody "
                "claims is the first person's."
            )
    claimed = set().union(*claims)
    leftover = set(range(len(PARTS))) - claimed
    return tuple(
        tuple(sorted({*claim, *leftover})) if index == 0 else claim
        for index, claim in enumerate(claims)
    )


def owned_faces(people: Sequence[Dressed], surface: Surface) -> Tensor:
    """(P, F) bool: the faces of the body that each person owns; every face has one owner.

    The facial faces lie within the head: who claims ``facial`` takes them from whoever has the head.
    """
    owned = torch.zeros(len(people), len(surface.part), dtype=torch.bool)
    shares = share_parts(people)
    for person, parts in enumerate(shares):
        owned[person, surface.faces_of([p for p in parts if p != _FACIAL]).cpu()] = True
    for person, parts in enumerate(shares):
        if _FACIAL in parts:
            faces = surface.faces_of([_FACIAL]).cpu()
            owned[:, faces] = False
            owned[person, faces] = True
    return owned


def _follow(
    source: BodyParams,
    motion: Motion,
    body: Body,
    camera: Camera,
    cutoffs: tuple[float, float] | None,
) -> Tensor:
    """(len(motion), 85): the chosen poses with source 0's shape, under the camera of the strategy.

    Everything is smoothed and stood on the ground before frames are chosen, so that a piece of a motion moves as it does
    in the whole. Frames without a fit part it into stretches; all of them have the first one's ground.
    """
    if camera not in get_args(Camera):
        raise ValueError(
            f"Unknown camera strategy {camera!r}. Choose one of: {', '.join(get_args(Camera))}."
        )
    driver = motion.params.to_array().clone()
    stretches = motion.stretches()
    first_ground: Tensor | None = None
    for stretch in stretches:
        frames = driver[stretch] if cutoffs is None else smooth_motion(driver[stretch], *cutoffs)
        if camera == "smooth":
            feet = _feet(BodyParams.from_array(body.id, frames), body)
            frames = stabilise_motion(frames, feet)
            ground = frames[0, 2] + feet[0]
            first_ground = ground if first_ground is None else first_ground
            frames[:, 2] += first_ground - ground
        driver[stretch] = frames
    first = driver[stretches[0].start, :3]
    chosen = driver[list(motion.chosen)]
    cameras = transfer_camera(source.camera[0], chosen[:, :3], first, camera)
    shape = source.shape[:1].expand(len(chosen), -1)
    return torch.cat([cameras, chosen[:, 3:-10], shape], dim=1)


def _check_stops(stops: Sequence[tuple[int, int]], motion: Motion) -> None:
    for frame, duration in stops:
        if not 0 <= frame < len(motion) or duration < 1:
            raise ValueError(
                f"The time is to stop before frame {frame} for {duration} frames; {len(motion)} frames are imitated, "
                f"counted from 0. Take a frame from 0 to {len(motion) - 1}, and at least 1 frame to stop."
            )


def _feet(params: BodyParams, body: Body) -> Tensor:
    """(T,) float32 y of each body's lowest point, rounded from float64: the same in every process."""
    exact = body.to("cpu", torch.float64)
    pose, shape = params.pose.double(), params.shape.double()
    heights = [
        foot_height(exact.skin(pose[i : i + _BATCH], shape[i : i + _BATCH]).vertices)
        for i in range(0, len(params), _BATCH)
    ]
    return torch.cat(heights).float()


def _facing_roots(angles: Sequence[float]) -> Tensor:
    """(N, 3) axis-angle of bodies that face the camera, turned by degrees."""
    if len(angles) == 0:
        raise ValueError("No angle to view the person at; pass at least one, or num_views.")
    if odd := [angle for angle in angles if not math.isfinite(angle)]:
        raise ValueError(f"Angles {odd} are not finite numbers of degrees.")
    facing = torch.zeros(1, 85)
    facing[:, 3:6] = view_roots(1)
    return torch.cat([turn(facing, angle)[:, 3:6] for angle in angles])


def _check_bodies(people: Sequence[Person], motion: Motion | None, body: Body) -> None:
    for person in people:
        _check_body(person, body.id)
    if motion is not None and motion.params.body_id != body.id:
        raise BodyMismatch(
            f"The motion {motion.name} was fitted with body {motion.params.body_id!r}, and {body.id!r} is drawn. "
            "Load the body it names, or fit the motion again."
        )


def _check_body(person: Person, body_id: str) -> None:
    if person.params.body_id != body_id:
        raise BodyMismatch(
            f"{person.name} was fitted with body {person.params.body_id!r}, and {body_id!r} is drawn. "
            "Load the body it names, or fit the pictures again."
        )
