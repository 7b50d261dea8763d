"""Cases: pieces of work made from a protocol's tables. Whose pictures are given, and what is drawn from them.

A case may name frames that a clip does not have (some official ranges do): `clipped` keeps the frames that
exist and says so in the case's note. All cases have what `Case` asks for, so that one reader serves every task.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol


@dataclass(frozen=True)
class Sources:
    """The frames in which somebody is shown, in order, each once."""

    clip: str
    frames: tuple[int, ...]
    parts: tuple[str, ...] = ("all",)  # what is taken from them: words of `iper_toolkit.body.parts`

    @property
    def key(self) -> str:
        return f"{self.clip}@{','.join(map(str, self.frames))}"


class Case(Protocol):
    """What cases of every task have in common."""

    @property
    def key(self) -> str:
        """A name that is also a folder: "self/001_9_1"."""
        ...

    @property
    def kind(self) -> str: ...
    @property
    def num_sources(self) -> int:
        """How many source frames of a clip the protocol allows."""
        ...

    @property
    def note(self) -> str: ...
    @property
    def people(self) -> tuple[Sources, ...]:
        """Who is shown; the first is the person that is drawn."""
        ...

    @property
    def driver(self) -> str:
        """The clip whose motion is drawn."""
        ...

    @property
    def scene(self) -> str:
        """The clip in whose place the person is drawn."""
        ...

    @property
    def frames(self) -> Sequence[int]:
        """Numbers of what is drawn, in order: frames of `driver`, or angles of a turned instant."""
        ...

    @property
    def person_key(self) -> str:
        """Cases with the same one show the same, so a method may learn it once for all of them."""
        ...

    def clipped(self, num_frames: int, num_driver_frames: int) -> "Case":
        """The case with the frames that exist, when the person's clip and the driver have so many."""
        ...


@dataclass(frozen=True)
class ImitationCase:
    """One person re-made in one motion.

    `source_frames` are what the method sees, in order, each frame once. The method draws
    `driver_first..driver_last` of `driver`; for kind "self" these are also the truth, for kind
    "cross" `real_first..real_last` are real frames of the person in other poses.
    """

    key: str
    kind: Literal["self", "cross"]
    clip: str
    driver: str
    num_sources: int
    source_frames: tuple[int, ...]
    driver_first: int
    driver_last: int
    real_first: int
    real_last: int
    note: str = ""

    @property
    def driver_frames(self) -> range:
        return range(self.driver_first, self.driver_last + 1)

    @property
    def real_frames(self) -> range:
        return range(self.real_first, self.real_last + 1)

    @property
    def frames(self) -> range:
        return self.driver_frames

    @property
    def people(self) -> tuple[Sources, ...]:
        return (Sources(self.clip, self.source_frames),)

    @property
    def scene(self) -> str:
        return self.clip

    @property
    def person_key(self) -> str:
        return self.people[0].key

    def clipped(self, num_frames: int, num_driver_frames: int) -> "ImitationCase":
        """The case with the frames that exist, when `clip` has `num_frames` and `driver` `num_driver_frames`.

        What was cut off is said in `note`. A range may become empty; a missing source frame is an error,
        because the case would be another one without it.

        Raises:
            ValueError: a source frame lies past the end of the clip.
        """
        check_sources(self.key, self.people[0], num_frames)
        notes = [self.note] if self.note else []
        changed: dict[str, int] = {}
        ranges = [("driver", self.driver, self.driver_frames, num_driver_frames)]
        ranges.append(("real", self.clip, self.real_frames, num_frames))
        for name, clip, frames, available in ranges:
            kept, note = _cut(frames, clip, available)
            if note:
                changed[f"{name}_last"] = frames.start + len(kept) - 1
                if note not in notes:
                    notes.append(note)
        return replace(self, note="; ".join(notes), **changed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TransferCase:
    """A person in another outfit: head from `person`, clothes from `outfit_from`, motion from `driver`.

    Of kind "own" the outfit is another one of the same person's: its clip is the motion and the truth too, and as
    in the official evaluation all but the head is taken from it. Of kind "other" the outfit is somebody else's:
    the person keeps their hands and is drawn in their own motion and place; the truth is among the
    `true_pictures` of the dataset.
    """

    key: str
    kind: Literal["own", "other"]
    person: str
    outfit_from: str
    driver: str
    num_sources: int
    person_source_frames: tuple[int, ...]
    outfit_source_frames: tuple[int, ...]
    frames: tuple[int, ...]
    note: str = ""

    @property
    def people(self) -> tuple[Sources, ...]:
        kept, worn = {
            "own": (("head",), ("body",)),
            "other": (("head", "hands"), ("torso", "arms", "legs", "feet")),
        }[self.kind]
        return (
            Sources(self.person, self.person_source_frames, kept),
            Sources(self.outfit_from, self.outfit_source_frames, worn),
        )

    @property
    def scene(self) -> str:
        return self.driver

    @property
    def person_key(self) -> str:
        return f"{self.people[0].key}+{self.people[1].key}+{self.scene}"

    def clipped(self, num_frames: int, num_driver_frames: int) -> "TransferCase":
        """As `ImitationCase.clipped`; only the driver's frames are cut."""
        kept, note = _cut(self.frames, self.driver, num_driver_frames)
        return replace(self, frames=tuple(kept), note="; ".join(filter(None, [self.note, note])))


@dataclass(frozen=True)
class ViewCase:
    """A person seen from other sides, drawn from `source_frames`.

    Of kind "turn" the truth is `frames` of a clip in which the person turns. Of kind "instant" time stands still
    at frame `instant`, `frames` are angles in degrees, and the truth is among the `true_pictures` of the dataset.
    """

    key: str
    kind: Literal["turn", "instant"]
    clip: str
    num_sources: int
    source_frames: tuple[int, ...]
    frames: tuple[int, ...]
    instant: int | None = None
    note: str = ""

    @property
    def people(self) -> tuple[Sources, ...]:
        return (Sources(self.clip, self.source_frames),)

    @property
    def driver(self) -> str:
        return self.clip

    @property
    def scene(self) -> str:
        return self.clip

    @property
    def person_key(self) -> str:
        return self.people[0].key

    def clipped(self, num_frames: int, num_driver_frames: int) -> "ViewCase":
        """As `ImitationCase.clipped`; an instant is there as a whole."""
        if self.kind == "instant":
            return self
        kept, note = _cut(self.frames, self.driver, num_driver_frames)
        return replace(self, frames=tuple(kept), note="; ".join(filter(None, [self.note, note])))


def check_sources(case_key: str, sources: Sources, num_frames: int) -> None:
    """Raise ValueError if a source frame lies past the end of its clip: without it the case would be another one."""
    missing = [frame for frame in sources.frames if frame >= num_frames]
    if missing:
        raise ValueError(
            f"Case {case_key}: source frames {missing} lie past the end of clip {sources.clip}, "
            f"which has {num_frames} frames. Is this the clip the protocol means?"
        )


def each_once(listed: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Listed source frames without repetitions, and the note that says so; empty if there were none."""
    frames = tuple(dict.fromkeys(listed))
    return frames, f"sources {list(listed)} name a frame twice" if frames != listed else ""


def case_key(kind: str, clip: str, other: str | None = None, *, ending: str = "") -> str:
    """A name that is also a folder: "self/001_9_1", "cross/001_9_1-by-007_1_2"."""
    joint = {"transfer": "wears"}.get(kind, "by")
    name = clip if other is None or other == clip else f"{clip}-{joint}-{other}"
    return f"{kind}/{name.replace('/', '_')}{ending}"


def _cut(frames: Sequence[int], clip: str, available: int) -> tuple[list[int], str]:
    """The frames that a clip of `available` frames has, and what to say of the others."""
    kept = [frame for frame in frames if frame < available]
    if len(kept) == len(frames):
        return kept, ""
    lost = len(frames) - len(kept)
    return kept, f"{lost} of {len(frames)} frames lie past the end of {clip} ({available} frames)"
