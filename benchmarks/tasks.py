"""The three tasks and the kinds of their cases: what is drawn, and what it is compared with.

Nothing is imported from here on, so that the command line can name them without delay.
"""

from dataclasses import dataclass
from typing import Literal, get_args

TaskName = Literal["imitation", "transfer", "view"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)


@dataclass(frozen=True)
class Kind:
    """One kind of case."""

    task: TaskName
    title: str
    does: str  # after "Two methods re-made three people", in the report
    is_scored: bool = True  # whether a true frame exists
    has_true_pictures: bool = False  # the truth lies beside the clips, not in one
    sources: tuple[str, ...] = ("Source",)  # what each person's source picture is called
    truth: str = "True frame"  # what the picture beside the methods' is
    numbers: str = "frames"  # what the numbers of its pictures are
    place: str = "frame {frame} of {driver}"  # of one picture
    caveat: str = ""  # what stands below its table


KINDS: dict[str, Kind] = {
    "self": Kind(
        "imitation",
        "Self-imitation: each person re-made in their own motion",
        "in their own motion",
    ),
    "cross": Kind(
        "imitation",
        "Cross-imitation: each person driven by somebody else",
        "in the motion of others",
        is_scored=False,
        truth="Driver",
    ),
    "own": Kind(
        "transfer",
        "Appearance transfer: each person in another outfit of their own",
        "in another outfit of their own",
        sources=("Head from", "Clothes from"),
        caveat="All but the head comes from the truth's own clip, and the head is the same person's: these scores say how "
        "well a clip is re-made, hardly whether appearance was transferred. That is what kind other measures.",
    ),
    "other": Kind(
        "transfer",
        "Appearance transfer: each person in the outfit of somebody else",
        "in the outfit of somebody else",
        has_true_pictures=True,
        sources=("Person", "Clothes from"),
        truth="True picture",
    ),
    "turn": Kind(
        "view",
        "Novel view: each person as they turn around",
        "as they turn around",
    ),
    "instant": Kind(
        "view",
        "Novel view: one instant from all sides",
        "from all sides of one instant",
        has_true_pictures=True,
        truth="True picture",
        numbers="degrees",
        place="{frame}\N{DEGREE SIGN}, {case}",
    ),
}
# Words that stand for several kinds.
GROUPS: dict[str, tuple[str, ...]] = {
    "scored": tuple(name for name, kind in KINDS.items() if kind.is_scored),
    "all": tuple(KINDS),
}


def kinds_of(task: str, kind: str) -> tuple[str, ...]:
    """The kinds that a task ("all" is every one) and a word for kinds choose together.

    Raises:
        ValueError: an unknown word, or a kind of another task.
    """
    if task not in (*TASKS, "all"):
        raise ValueError(f"Unknown task {task!r}. Choose one of: {', '.join(TASKS)}, all.")
    of_task = [name for name, one in KINDS.items() if task in (one.task, "all")]
    chosen = tuple(name for name in GROUPS.get(kind, (kind,)) if name in of_task)
    if not chosen:
        raise ValueError(
            f"Task {task} has no kind {kind!r}; it has {', '.join(of_task)}, and the words "
            f"{', '.join(GROUPS)}."
        )
    return chosen


def default_kind(task: str) -> tuple[str, str]:
    """What is run when nobody says, and the sentence that tells so."""
    if task == "imitation":
        return "self", (
            "Self-imitation only: every metric compares with a true frame, and a person driven by another has none. "
            "`--kind all` draws cross-imitation too."
        )
    if task == "all":
        return "scored", (
            "Everything that has a true frame; a person driven by another has none. `--kind all` draws "
            "cross-imitation too."
        )
    return "scored", f"Every kind of {task} that this dataset has a truth for."
