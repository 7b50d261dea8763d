"""What a run is about: its settings, and which cases of a protocol it does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.detecting import FACE_BOXES, PERSON_BOXES, FaceBox, PersonBox
from benchmarks.metrics import METRICS
from benchmarks.tasks import KINDS, TaskName, kinds_of
from iper_toolkit.body import BodyParams
from iper_toolkit.cases import Case, ViewCase
from iper_toolkit.crop import SquareCrop
from iper_toolkit.naming import normalised
from iper_toolkit.prepare import shard_of
from iper_toolkit.protocols import Protocol as CaseTables
from iper_toolkit.true_pictures import TruthTables

Targets = Literal["unseen", "official"]
_T = TypeVar("_T")
# Metrics that score any picture, without a file of anybody's; `choosing.choose_metrics` finds what else there is.
PIXEL_NAMES = tuple(
    name
    for name, card in METRICS.items()
    if card.per_frame is not None
    and not card.judge
    and set(card.needs) <= {"mask"}
    and card.smallest_side <= 16
)
# A chunk of true frames of this side still fits the memory of one computer.
MAX_SIZE = 4096


class PreparedClip(Protocol):
    """What the runner needs of `iper_toolkit.clip.Clip`."""

    @property
    def subject(self) -> str: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def body_id(self) -> str: ...
    @property
    def mask_source(self) -> str: ...
    @property
    def valid(self) -> NDArray[np.bool_]: ...
    @property
    def crop(self) -> SquareCrop: ...
    @property
    def frame_size(self) -> tuple[int, int]: ...
    def frames(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def appearance_masks(self, indices: Sequence[int], size: int) -> NDArray[np.uint8]: ...
    def params(self, indices: Sequence[int] | None = None) -> BodyParams: ...
    def background(self, size: int) -> NDArray[np.uint8]: ...


class PreparedDataset(Protocol):
    """What the runner needs of `iper_toolkit.clip.Dataset`."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def licence(self) -> str: ...
    @property
    def clip_ids(self) -> tuple[str, ...]: ...
    @property
    def failures(self) -> dict[str, str]: ...
    def clip(self, clip_id: str) -> PreparedClip: ...


@dataclass(frozen=True)
class Settings:
    """Everything that decides a score, the method aside. A run's folder holds one of these."""

    kind: str = "self"  # one of `tasks.KINDS`, or a word for several
    size: int = 256  # side of the pictures, pixels
    num_sources: int = 1  # source frames that a method is given
    targets: Targets = "unseen"  # whether source frames are scored: "official" scores them
    max_frames: int = 0  # scored frames a case, spread evenly over it; 0: all
    metrics: tuple[str, ...] = PIXEL_NAMES
    subjects: tuple[str, ...] = ()  # () is everybody
    seed: int = 0
    task: TaskName | Literal["all"] = "imitation"
    flip: bool = False  # whether judges of people see mirror images, too, and average
    random_judges: int | None = None  # tests only: judges with random weights of this seed
    person_box: PersonBox = "mask"  # what says where the person is that judges look at
    face_box: FaceBox = "fit"

    def __post_init__(self) -> None:
        kinds_of(self.task, self.kind)  # says so if the task has no such kind
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"Unknown metrics {unknown}. Choose of: {', '.join(METRICS)}.")
        if self.person_box not in PERSON_BOXES or self.face_box not in FACE_BOXES:
            raise ValueError(
                f"person_box {self.person_box!r}, face_box {self.face_box!r}: they take {', '.join(PERSON_BOXES)} and "
                f"{', '.join(FACE_BOXES)}."
            )
        if not 16 <= self.size <= MAX_SIZE or self.max_frames < 0 or self.num_sources < 1:
            raise ValueError(
                f"size {self.size}, max_frames {self.max_frames}, num_sources {self.num_sources}: they "
                f"take 16 to {MAX_SIZE}, at least 0 and at least 1."
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of case that are run."""
        return kinds_of(self.task, self.kind)


@dataclass(frozen=True)
class Plan:
    """The cases to do, those of one person together, and the cases whose clips are not there."""

    groups: tuple[tuple[Case, ...], ...]
    missing: dict[str, str]  # case key -> why
    left_out: tuple[
        str, ...
    ] = ()  # true pictures of which no case is made: the protocol has not their clips

    @property
    def cases(self) -> tuple[Case, ...]:
        return tuple(case for group in self.groups for case in group)


def spread_evenly(things: Sequence[_T], most: int) -> list[_T]:
    """At most `most` things, evenly from the first to the last."""
    if len(things) <= most:
        return list(things)
    if most <= 1:
        return list(things[:most])
    step = (len(things) - 1) / (most - 1)
    return [things[round(k * step)] for k in range(most)]


def list_cases(
    protocol: CaseTables, truths: TruthTables, kinds: Sequence[str], num_sources: int = 1
) -> list[Case]:
    """The cases of some kinds: of the protocol's tables, and of the true pictures beside the clips.

    Raises:
        ValueError: the protocol has no such list of sources.
    """
    made: dict[str, Callable[[], Sequence[Case]]] = {
        "self": partial(protocol.imitation_cases, "self", num_sources),
        "cross": partial(protocol.imitation_cases, "cross", num_sources),
        "own": partial(protocol.transfer_cases, num_sources),
        "other": partial(truths.transfer_cases, protocol, num_sources),
        "turn": partial(protocol.view_cases, num_sources),
        "instant": partial(truths.view_cases, protocol, num_sources),
    }
    return [case for kind in kinds for case in made[kind]()]


def plan_cases(
    dataset: PreparedDataset,
    protocol: CaseTables,
    settings: Settings,
    truths: TruthTables,
    shard: tuple[int, int] = (0, 1),
) -> Plan:
    """The cases of one shard. A person's cases stay together, and adding cases moves none.

    Raises:
        ValueError: nothing of the protocol is in the dataset, or nothing of it could be scored; two cases have one
            name; an outfit of one's own is somebody else's; the shard is none.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(
            f"Shard {index}/{count} does not exist; shards are 0/{count} .. {count - 1}/{count}."
        )
    cases = list_cases(protocol, truths, settings.kinds, settings.num_sources)
    check_keys(cases)
    known = set(dataset.clip_ids)
    failures = dataset.failures
    groups: dict[str, list[Case]] = {}
    missing: dict[str, str] = {}
    subjects: set[str] = set()
    for case in cases:
        clip = case.people[0].clip
        lost = [name for name in clips_of(case) if name not in known]
        subject = clip.split("/")[0] if clip in lost else dataset.clip(clip).subject
        subjects.add(subject)
        if settings.subjects and subject not in map(normalised, settings.subjects):
            continue
        if not lost and case.kind == "own":
            _check_is_own(case, dataset)
        if lost:
            missing[case.key] = f"clip {lost[0]}: {failures.get(lost[0], 'not in the dataset')}"
        else:
            groups.setdefault(case.person_key, []).append(case)
    if unknown := sorted(set(map(normalised, settings.subjects)) - subjects):
        raise ValueError(
            f"--subjects names {', '.join(unknown)}, of whom there is no case; protocol {protocol.id!r} takes "
            f"{', '.join(sorted(subjects)) or 'nobody'}."
        )
    if not groups:
        some = ", ".join(sorted(known)[:5])
        raise ValueError(
            f"No case of protocol {protocol.id!r} can be run: the dataset has {len(known)} prepared clips "
            f"({some}), the protocol {len(cases)} cases of this kind ({', '.join(settings.kinds)}). Wrong --protocol, "
            "--root, --task, --kind or --subjects?"
        )
    planned = [case for group in groups.values() for case in group]
    if settings.targets == "unseen" and all(
        KINDS[case.kind].is_scored and was_shown(case).all() for case in planned
    ):
        raise ValueError(
            f"Nothing could be scored: every frame to draw of {planned[0].key}"
            + (f" and {len(planned) - 1} more cases" if len(planned) > 1 else "")
            + " is a source. Take fewer --num-sources, or score sources too with --targets official."
        )
    mine = {key: tuple(group) for key, group in groups.items() if shard_of(key, count) == index}
    left_out = {"other": truths.transfers_left_out, "instant": truths.views_left_out}
    untold = [
        told for kind, of in left_out.items() if kind in settings.kinds for told in of(protocol)
    ]
    return Plan(tuple(mine.values()), missing, tuple(untold))


def check_keys(cases: Sequence[Case]) -> None:
    """Raise ValueError if two cases have one key: they would be one folder, and one of them would vanish."""
    known: dict[str, Case] = {}
    for case in cases:
        other = known.setdefault(case.key, case)
        if other is not case:
            raise ValueError(
                f"Two cases would be called {case.key!r}, one of kind {other.kind} and one of kind {case.kind}. Rename a "
                "clip, or take the row out of one of the tables."
            )


def was_shown(case: Case) -> NDArray[np.bool_]:
    """(N,) which pictures of a case show a moment that a source shows too, from the same side."""
    shown = {frame for one in case.people if one.clip == case.driver for frame in one.frames}
    if isinstance(case, ViewCase) and case.kind == "instant":
        # At angle 0 the instant is the moment of the frame itself.
        shown = {0} if case.instant in shown else set()
    return np.array([frame in shown for frame in case.frames], bool)


def _check_is_own(case: Case, dataset: PreparedDataset) -> None:
    person, outfit = (one.clip for one in case.people)
    subjects = [dataset.clip(clip).subject for clip in (person, outfit)]
    if subjects[0] != subjects[1]:
        raise ValueError(
            f"Case {case.key}: {person} shows person {subjects[0]}, and {outfit} person {subjects[1]}. "
            "appearance_transfer.csv takes two clips of one person: the second one's frames are the truth. "
            "Somebody else's clothes need true pictures (kind other)."
        )


def clips_of(case: Case) -> tuple[str, ...]:
    """Every clip that a case reads, each once; the person's comes first."""
    shown = [one.clip for one in case.people]
    return tuple(dict.fromkeys([*shown, case.driver, case.scene]))


def has_true_pictures(case: Case) -> bool:
    """Whether the truth lies beside the clips, not in one."""
    return KINDS[case.kind].has_true_pictures
