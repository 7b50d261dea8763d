"""A run's folder to one self-contained page: what was compared, who won, by how much, and how it looks.

Every number comes from the leaderboard or from run.json; this file puts them into words. The page of
a run is the same whenever it is made: it says when nothing but what the run says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import gallery, leaderboard
from benchmarks.charts import NUM_COLORS
from benchmarks.intervals import FEWEST_SUBJECTS
from benchmarks.metrics import METRICS
from benchmarks.page import (
    Banner,
    Board,
    Fact,
    Failure,
    MetricNote,
    Page,
    SpeedRow,
    render,
)
from benchmarks.record import check_shape, read_run
from benchmarks.results import COMPARABLE, read_rows, rows_file, to_frame
from benchmarks.score_tables import outcome, score_groups
from benchmarks.sets import read_sets, sets_file
from benchmarks.tasks import KINDS
from benchmarks.words import NONE, count, listed, megabytes, number, seconds, sentence_count
from iper_toolkit.atomic import write_atomically
from iper_toolkit.protocols import shipped_protocols

# What a reader must know of a kind of case beside what its title says.
_TASK_RULES = {
    "own": (
        "Two clips of one person in two outfits: the head is taken from the first, all else from the second, whose "
        "motion, camera, scene and frames are the truth. The first clip's shape is drawn. So all but the head is "
        "re-made from the truth's own clip, and the head is the same person's: these scores say how well a clip is "
        "re-made, and next to nothing of whether appearance was transferred. A method that ignores the person "
        "scores as well (--method warp-clothes does so, to be compared with warp). Transfer is measured by "
        "the kind other, where there are true pictures of it."
    ),
    "other": (
        "The person in their own motion, camera and scene; head and hands are theirs, torso, arms, legs and feet "
        "another person's. The truth was drawn so. These scores measure transfer: whoever ignores one of the two "
        "draws another's clothes or another's head. Bare skin of the limbs stays the other person's in what a "
        "method can see."
    ),
    "turn": (
        "Frames of a clip in which the person turns, drawn with their own poses and cameras. Poses differ a little "
        "from frame to frame, as in life."
    ),
    "instant": (
        "One moment of a clip, the person turned on the spot while the scene stands still; the truth was drawn so. "
        "Where the moment is a source, only the side that it shows counts as seen."
    ),
}
_MASKS = {
    "set": "the dataset's own masks",
    "file": "masks beside each clip",
    "body": "the fitted body, widened",
}

# What is read of run.json.
_NUMBER = (int, float, type(None))
_RUN = {
    "settings": {"metrics": list, "size": int, "targets": str, "max_frames": int, "subjects": list},
    "dataset": {"name": str, "digest": str, "synthetic": bool, "licence": str},
    "protocol": {"id": str, "version": int, "digest": str, "title": str},
    "methods": {
        "*": {
            "complete": bool,
            "version": str,
            "weights": str,
            "num_drawn": int,
            "seconds_a_frame": _NUMBER,
            "seconds_personalize_a_case": _NUMBER,
        }
    },
    "failures": list,
    "missing_cases": {"*": str},
    "unreadable_cases": {"*": str},
    "notes": {"*": str},
    "started": str,
    "command": str,
    "machine": dict,
    "versions": {"*": str},
    "peak_memory_bytes": int,
    "peak_device_memory_bytes": int,
}


def write_report(run_folder: Path) -> Path:
    """Write ``report/index.html`` into the folder of a run; returns its path.

    Raises:
        FileNotFoundError: the folder is no run's, or the run has no table yet.
        ValueError: the table cannot be read.
    """
    html = render(_page(run_folder))
    path = run_folder / "report" / "index.html"
    write_atomically(path, lambda part: part.write_text(html, encoding="utf-8"))
    return path


def _page(run_folder: Path) -> Page:
    run = read_run(run_folder)
    table = read_rows(rows_file(run_folder))
    check_shape(run_folder / "run.json", run, _RUN)
    rows = to_frame(table)
    sets = read_sets(sets_file(rows_file(run_folder)))
    boards = leaderboard.build_boards(table, sets) if len(table) + len(sets) else []
    methods = list(run["methods"])
    colors = {name: k % NUM_COLORS for k, name in enumerate(sorted(methods))}
    cases = gallery.read_cases(run_folder, methods)
    shown = [
        _board(
            run_folder,
            f"board-{k}",
            board,
            _rows_of(rows, board),
            cases,
            colors,
            gallery.num_pictures(len(boards)),
        )
        for k, board in enumerate(boards, 1)
    ]
    scored = set(rows["case"].unique())
    driven = [
        case
        for key, case in cases.items()
        if not case.kind.is_scored and key not in scored and case.is_drawn
    ]
    if driven:
        order = [entry.method for entry in boards[0].entries] if boards else []
        order += [name for name in methods if name not in order]
        shown.append(_driven_board(run_folder, driven, order))
    not_tried = run["missing_cases"] | run["unreadable_cases"]
    return Page(
        title=_title(run, boards),
        lede=_lede([(board, _rows_of(rows, board)) for board in boards])
        or "Pictures only: nothing of this run has a true frame to compare with.",
        banners=tuple(_banners(run, boards)),
        facts=tuple(_facts(run, rows)),
        boards=tuple(shown),
        speed_note=_machine_sentence(run),
        speed_columns=(
            "Drawing a frame",
            "Learning a person",
            "Pictures drawn",
        ),
        speeds=tuple(_speed(name, colors[name], told) for name, told in run["methods"].items()),
        failure_note=(
            "A failed case stays in the tables: each of its frames counts with the worst score of the metric. "
            "A case that was not tried is no method's fault and in no table."
        ),
        failures=(
            *(Failure(one["method"], one["case"], one["error"]) for one in run["failures"]),
            *(Failure("not tried", case, why) for case, why in sorted(not_tried.items())),
        ),
        notes=tuple(Fact(case, note) for case, note in sorted(run["notes"].items())),
        published_note=(
            "Copied from where they were seen and not verified. They were made with other data, code or "
            "resizing; they stand here for orientation and are never ranked with the tables above."
        ),
        published_columns=("Dataset", "Method", "Metric", "Value", "Comparable?", "Seen in"),
        published=tuple(_published(run["dataset"]["name"])),
        rules=tuple(_rules(run, boards)),
        cards=tuple(_metric_note(name) for name in run["settings"]["metrics"]),
        provenance=tuple(_provenance(run)),
        footer=(
            "This page needs no network: its pictures, style and charts are inside. "
            "The table behind it is rows.parquet beside the report's folder."
        ),
    )


def _rows_of(rows: pd.DataFrame, board: leaderboard.Board) -> pd.DataFrame:
    own = pd.Series(True, index=rows.index)
    for name in COMPARABLE:
        own &= rows[name] == board.facts[name]
    return rows[own]


# ------------------------------------------------------------------------------- the head of the page


def _title(run: dict[str, Any], boards: Sequence[leaderboard.Board]) -> str:
    names = [entry.method for entry in boards[0].entries] if boards else list(run["methods"])
    return f"{listed(names)} on {run['dataset']['name']}"


def _lede(boards: Sequence[tuple[leaderboard.Board, pd.DataFrame]]) -> str:
    """What was done, in a sentence or, of several kinds of case, in two."""
    if not boards:
        return ""
    first = boards[0][0]
    facts = first.facts
    drawn = "synthetic " if facts["synthetic"] else ""
    most = max(board.num_subjects for board, _ in boards)
    methods = sentence_count(max(len(board.entries) for board, _ in boards), "method")
    people = count(most, f"{drawn}person", f"{drawn}people")
    sources = _sources_in_words(boards)
    size = f"{facts['size']} \N{MULTIPLICATION SIGN} {facts['size']} pixels"
    protocol = (
        f"under protocol {facts['protocol']} version {facts['protocol_version']} "
        f"(digest {facts['protocol_digest'][:12]})."
    )
    done = [(KINDS[board.facts["kind"]].does, _amount(board, rows)) for board, rows in boards]
    if len(done) == 1:
        ((does, amount),) = done
        return f"{methods} re-made {people} {does}, each from {sources}: {amount} of {size}, {protocol}"
    told = "; ".join(f"{does}: {amount}" for does, amount in done)
    return (
        f"{methods} re-made {people}, each from {sources}, in pictures of {size}, {protocol} "
        f"{told[0].upper()}{told[1:]}."
    )


def _sources_in_words(boards: Sequence[tuple[leaderboard.Board, pd.DataFrame]]) -> str:
    facts = [board.facts for board, _ in boards]
    sources = count(facts[0]["num_sources"], "source picture")
    # Of a transfer two clips are shown, and each gives so many.
    of_several = any(len(KINDS[one["kind"]].sources) > 1 for one in facts)
    return f"{sources} of every clip shown" if of_several else sources


def _amount(board: leaderboard.Board, rows: pd.DataFrame) -> str:
    frames = max(entry.num_frames for entry in board.entries)
    return f"{count(rows['clip'].nunique(), 'clip')}, {count(frames, 'scored frame')}"


def _banners(run: dict[str, Any], boards: Sequence[leaderboard.Board]) -> list[Banner]:
    settings, found = run["settings"], []
    if run["dataset"]["synthetic"]:
        found.append(
            Banner(
                "Synthetic.",
                "The people are rendered, not filmed. The scores compare methods on this set; they say nothing "
                "about photographs and are not comparable with published numbers.",
            )
        )
    elif run["protocol"]["id"] not in shipped_protocols():
        found.append(
            Banner(
                "Not comparable with published numbers.",
                f"The protocol {run['protocol']['id']} was made for these clips; nobody else has scored them.",
            )
        )
    else:
        ours = (
            "Here pictures are shrunk by area averaging, never re-encoded, and averaged to people first"
            + ("" if settings["targets"] == "official" else ", and source frames are not scored")
            + "."
        )
        found.append(
            Banner(
                "Not comparable with published numbers.",
                "The official package shrinks with bilinear interpolation without smoothing, stores pictures as "
                f"JPEG, averages the means of batches of 16 frames, and scores source frames too. {ours}",
            )
        )
    untrained = [name for name, told in run["methods"].items() if told.get("random_weights")]
    if untrained:
        found.append(
            Banner(
                "Random weights.",
                f"{listed(untrained)} drew with weights that have learned nothing. Their pictures and scores show "
                "that the way works, and say nothing of what the method can do.",
            )
        )
    driven = [name for name, told in run["methods"].items() if told.get("inputs")]
    if driven:
        found.append(
            Banner(
                "Driven by frames.",
                f"{listed(driven)} saw the driver's frames or keypoints, the others its fits alone. Where people are "
                "re-made in their own motion those frames are the truth.",
            )
        )
    if settings["max_frames"]:
        found.append(
            Banner(
                "Thinned out.",
                f"At most {count(settings['max_frames'], 'frame')} a case, spread evenly over it (--max-frames). "
                "Only runs with the same restriction compare.",
            )
        )
    if settings["subjects"]:
        found.append(
            Banner("Not everybody.", f"Restricted to the people {listed(settings['subjects'])}.")
        )
    through = [name for name, told in run["methods"].items() if told["complete"]]
    if len(through) < len(run["methods"]):
        found.append(
            Banner(
                "Not finished.",
                f"Only methods that are through with every case are scored: {listed(through) or 'none'}. "
                "The same command goes on where it stopped.",
            )
        )
    if run["unreadable_cases"]:
        found.append(
            Banner(
                "Clips could not be read.",
                f"{count(len(run['unreadable_cases']), 'case')} could not be read and stand in no table, whatever "
                "the method; they are listed under what failed. The same command tries them again.",
            )
        )
    if run["missing_cases"]:
        found.append(
            Banner(
                "Clips are missing.",
                f"{count(len(run['missing_cases']), 'case')} of the protocol could not be tried; they are "
                "listed under what failed.",
            )
        )
    fewest = min((board.num_subjects for board in boards), default=FEWEST_SUBJECTS)
    if fewest < FEWEST_SUBJECTS:
        found.append(
            Banner(
                "Few people.",
                f"With {count(fewest, 'person', 'people')} there is no interval and no rank (that takes "
                f"{FEWEST_SUBJECTS}): these numbers say little about anybody else.",
            )
        )
    return found


def _facts(run: dict[str, Any], rows: pd.DataFrame) -> list[Fact]:
    masks = sorted(name for name in rows["mask_source"].unique() if name)
    frames = rows[["case", "frame"]].drop_duplicates()
    return [
        Fact("Dataset", run["dataset"]["name"]),
        Fact("Protocol", f"{run['protocol']['id']} v{run['protocol']['version']}"),
        Fact("People", number(rows["subject"].nunique())),
        Fact("Clips", number(rows["clip"].nunique())),
        Fact("Scored frames", number(len(frames))),
        Fact("Picture size", f"{run['settings']['size']} px"),
        Fact("Person's region", listed([_MASKS.get(name, name) for name in masks]) or NONE),
    ]


# ------------------------------------------------------------------------------------------ one board


def _board(
    run_folder: Path,
    anchor: str,
    board: leaderboard.Board,
    rows: pd.DataFrame,
    cases: dict[str, gallery.Case],
    colors: dict[str, int],
    most_pictures: int,
) -> Board:
    decisive = board.columns[board.decisive]
    scores = rows[
        (rows["metric"] == decisive.metric)
        & (rows["metric_version"] == decisive.version)
        & (rows["mask_source"] == decisive.mask_source)
        & (rows["judge"] == decisive.judge)
    ]
    methods = [entry.method for entry in board.entries]
    kind = KINDS[board.facts["kind"]]
    galleries, num_people = gallery.people_galleries(
        run_folder, scores, cases, decisive, methods, kind, most_pictures
    )
    note = (
        f"Of each person the best, the median and the worst picture of {methods[0]} by {decisive.title}, out of "
        "those that the run kept; every method's score stands below its picture. Press a picture to enlarge "
        "it, then compare with the arrow keys."
    )
    if not galleries:
        note = "The run kept no pictures of scored frames."
    elif len(galleries) < num_people:
        note += f" Shown are {len(galleries)} of {num_people} people, spread evenly by name."
    which = "each case"
    if board.num_cases > gallery.MOST_CURVES:
        which = "the first, the middle and the last case by name"
    return Board(
        anchor=anchor,
        title=kind.title,
        lede=" ".join(filter(None, [outcome(board), kind.caveat])),
        groups=score_groups(board, colors),
        gallery_note=note,
        galleries=tuple(galleries),
        curve_note=(
            f"{decisive.title} along the scored frames of {which}. "
            "Gaps are frames without a finite score."
        ),
        curves=tuple(gallery.curves(scores, decisive, methods, colors, kind.numbers)),
    )


def _driven_board(run_folder: Path, cases: Sequence[gallery.Case], methods: Sequence[str]) -> Board:
    galleries, num_cases = gallery.driven_galleries(run_folder, cases, methods)
    note = "The first, the middle and the last picture that the run kept."
    if len(galleries) < num_cases:
        note += f" Shown are {len(galleries)} of {num_cases} cases, spread evenly by name."
    return Board(
        anchor="driven",
        title=KINDS["cross"].title,
        lede="No true frame exists for a person in somebody else's motion, so there are pictures and no paired scores.",
        groups=(),
        gallery_note=note if galleries else "The run kept no pictures of these cases.",
        galleries=tuple(galleries),
        curve_note="",
        curves=(),
    )


# ------------------------------------------------------------------- speed, definitions, provenance


def _machine_sentence(run: dict[str, Any]) -> str:
    machine = run["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    peak = run["peak_device_memory_bytes"]
    device = f", and {megabytes(peak)} on the device" if peak else ""
    return (
        f"Measured during the run on {machine['processor']}, {count(machine['num_cores'], 'core')}{gpu}, "
        f"{machine['system']}, Python {machine['python']}. Seconds are wall time of the method alone, without "
        f"reading and scoring. A process held at most {megabytes(run['peak_memory_bytes'])}{device}, for "
        "reading, scoring and all its methods together."
    )


def _speed(method: str, color: int, told: dict[str, Any]) -> SpeedRow:
    return SpeedRow(
        method,
        color,
        (
            seconds(told["seconds_a_frame"]),
            seconds(told["seconds_personalize_a_case"]),
            number(told["num_drawn"]),
        ),
    )


def _published(dataset: str) -> list[tuple[str, ...]]:
    numbers = leaderboard.read_published()
    numbers.sort(key=lambda one: one.dataset != dataset)  # those of this dataset first
    return [
        (one.dataset, one.method, one.metric, one.value, one.comparable, one.seen)
        for one in numbers
    ]


def _rules(run: dict[str, Any], boards: Sequence[leaderboard.Board]) -> list[Fact]:
    settings = run["settings"]
    targets = {
        "unseen": "A frame that a method saw as its source is drawn but not scored.",
        "official": "Every frame of a case is scored, source frames too, as the official protocol has it.",
    }[settings["targets"]]
    kinds = [
        one for one in dict.fromkeys(board.facts["kind"] for board in boards) if one in _TASK_RULES
    ]
    sources = sorted({c.mask_source for board in boards for c in board.columns if c.mask_source})
    rules = [
        Fact(
            "What is compared",
            "The method's picture and the true frame, in the clip's fixed square crop.",
        ),
        Fact(
            "Resize",
            f"True frames are decoded from the source and brought to {settings['size']} \N{MULTIPLICATION SIGN} {settings['size']} "
            f"pixels by {settings['resize']} (area averaging when shrinking, bilinear when enlarging).",
        ),
        Fact("Targets", targets),
        *(Fact(KINDS[kind].title, _TASK_RULES[kind]) for kind in kinds),
        Fact(
            "Means",
            "Frames are averaged to cases, cases to clips, clips to people, people to the mean shown; a long clip "
            "counts no more than a short one.",
        ),
        Fact(
            "Intervals",
            "95% Student-t intervals over people. Frames of one person agree with each other and are no sample. "
            f"Fewer than {FEWEST_SUBJECTS} people: no interval, no rank.",
        ),
        Fact(
            "Ranks",
            "1 plus the number of methods that are better by a paired interval without zero; methods that the "
            "data do not tell apart share a rank.",
        ),
        Fact(
            "Undefined",
            "Frames without a finite score are left out of the mean and counted beside it.",
        ),
        Fact(
            "Failures",
            "A method that raises, or gives other than the wanted pictures, has failed on the case. Each frame of "
            "it counts with the metric's failure value, given below.",
        ),
    ]
    if run.get("missing_metrics"):
        rules += [
            Fact(f"Not scored: {', '.join(names)}", why)
            for why, names in _by_reason(run["missing_metrics"]).items()
        ]
    if sources:
        rules.append(
            Fact(
                "Masks",
                f"The person's region is that of {listed([_MASKS.get(name, name) for name in sources])}; "
                "scores on masks of another origin are never mixed with these.",
            )
        )
    return rules


def _by_reason(missing: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in missing.items():
        found.setdefault(why, []).append(name)
    return found


def _metric_note(name: str) -> MetricNote:
    card = METRICS[name]
    paper = "" if card.paper == "-" else f" {card.paper}."
    return MetricNote(
        name=card.name,
        version=str(card.version),
        better=card.better,
        unit=NONE if card.unit == "1" else card.unit,
        region=card.region,
        failure=NONE if card.failure_value is None else f"{card.failure_value:g}",
        definition=f"{card.definition}{paper}",
    )


def _provenance(run: dict[str, Any]) -> list[Fact]:
    settings = run["settings"]
    named = {"seed", "body", "protocol", "protocol_digest", "dataset", "dataset_digest"}
    facts = [
        Fact(
            "Protocol",
            f"{run['protocol']['title']} ({run['protocol']['id']}, version {run['protocol']['version']})",
        ),
        Fact("Protocol digest", run["protocol"]["digest"], code=True),
        Fact("Dataset digest", run["dataset"]["digest"], code=True),
        Fact("Body model", settings["body"], code=True),
        Fact("Seed", str(settings["seed"])),
        Fact("Run started", run["started"].replace("T", " ").replace("+00:00", " UTC")),
        *([Fact("Command", run["command"], code=True)] if run["command"] else []),
    ]
    for name, told in run["methods"].items():
        weights = f", weights sha256 {told['weights']}" if told["weights"] else ", no weights"
        facts.append(Fact(f"Method {name}", f"version {told['version']}{weights}"))
    facts += [
        Fact(
            "Settings",
            ", ".join(
                f"{key}={_plain(value)}" for key, value in settings.items() if key not in named
            ),
            code=True,
        ),
        Fact("Software", ", ".join(f"{key} {value}" for key, value in run["versions"].items())),
        Fact(
            "Licences",
            "The toolkit: Apache-2.0. The pictures: "
            + (run["dataset"]["licence"] or "their owners' terms")
            + ".",
        ),
    ]
    return facts


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
