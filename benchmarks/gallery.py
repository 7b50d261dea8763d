"""What of a run is shown in pictures: which frames, beside which others, with which score below.

Frames are chosen by a rule, never by hand: of each person the best, the median and the worst picture of
the leading method, among those that the run kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.charts import Curve, Series, curve
from benchmarks.leaderboard import Column
from benchmarks.page import Gallery, Picture, PictureRow, no_picture, picture
from benchmarks.planning import spread_evenly
from benchmarks.record import check_shape, read_json
from benchmarks.tasks import KINDS, Kind
from iper_toolkit.images import read_image

# Together these keep the page at a few megabytes; other people are left out evenly, by name.
_MOST_PICTURES, _MOST_ON_PAGE = 180, 360
_LONGEST_SIDE = 256
_FRAMES_A_PERSON = 3
MOST_CURVES = 3
# What is read of a case's record.
_RECORD = {
    "case": str,
    "kind": str,
    "status": str,
    "error": str,
    "num_drawn": int,
    "sources": list,
    "kept": {"*": int},
}


@dataclass(frozen=True)
class Case:
    """How one case went, of all methods together: the records that the run left."""

    key: str
    records: dict[str, dict[str, Any]]  # method -> its record

    @property
    def kind(self) -> Kind:
        return KINDS[self._longest["kind"]]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Of each person who was shown: `clip`, `frames`, and the `folder` below the case's source pictures."""
        return list(self._longest["sources"])

    @cached_property
    def kept(self) -> dict[int, int]:
        """Position within the case -> number of the frame, of pictures that lie in the folder."""
        return {int(position): frame for position, frame in self._longest["kept"].items()}

    def error_of(self, method: str) -> str:
        return str(self.records.get(method, {}).get("error", ""))

    @property
    def is_drawn(self) -> bool:
        """Whether any method gave the whole case."""
        return any(record["status"] == "ok" for record in self.records.values())

    @cached_property
    def _longest(self) -> dict[str, Any]:
        """The record of the method that drew most: one that failed may have stopped half-way."""
        return max(self.records.values(), key=lambda record: record["num_drawn"])


def read_cases(run_folder: Path, methods: Iterable[str]) -> dict[str, Case]:
    """Case key -> the case, for every case that one of the methods has done."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for method in methods:
        for path in sorted((run_folder / "cases" / method).glob("**/*.json")):
            record = read_json(path)
            check_shape(path, record, _RECORD)
            if record["kind"] not in KINDS:
                raise ValueError(
                    f"{path}: there is no kind {record['kind']!r} of case in this version."
                )
            found.setdefault(record["case"], {})[method] = record
    return {key: Case(key, records) for key, records in sorted(found.items())}


def num_pictures(num_boards: int) -> int:
    """How many pictures each board of a page may show."""
    return min(_MOST_PICTURES, _MOST_ON_PAGE // max(1, num_boards))


def people_galleries(
    run_folder: Path,
    scores: pd.DataFrame,
    cases: dict[str, Case],
    column: Column,
    methods: Sequence[str],
    kind: Kind,
    most_pictures: int = _MOST_PICTURES,
) -> tuple[list[Gallery], int]:
    """A gallery for each person, and how many people have pictures at all.

    Args:
        run_folder: of the run.
        scores: rows of one board by one metric, columns of `results.SCHEMA`.
        cases: what `read_cases` gave.
        column: the metric of `scores`.
        methods: columns of the gallery; the first one decides which frames are shown.
        kind: of the board's cases.
        most_pictures: of all galleries together; other people are left out.
    """
    with_pictures = _scores_with_pictures(scores, cases)
    leading = with_pictures[
        (with_pictures["method"] == methods[0]) & (with_pictures["status"] == "ok")
    ]
    people = sorted(leading["subject"].unique())
    columns = (*kind.sources, kind.truth, *methods)
    shown = spread_evenly(people, most_pictures // (_FRAMES_A_PERSON * len(columns)))
    galleries = []
    for subject in shown:
        own = leading[leading["subject"] == subject]
        best_last = own.sort_values(
            ["value", "case", "frame"], ascending=[column.better == "higher", True, True]
        )
        picks = _picks(best_last)
        rows = [
            PictureRow(
                label=label,
                place=kind.place.format(frame=pick.frame, driver=pick.driver, case=pick.case),
                pictures=_pictures_of(
                    run_folder, cases[pick.case], pick.position, with_pictures, column, methods
                ),
            )
            for label, pick in picks
        ]
        galleries.append(Gallery(f"Person {subject}", columns, tuple(rows)))
    return galleries, len(people)


def driven_galleries(
    run_folder: Path, cases: Iterable[Case], methods: Sequence[str]
) -> tuple[list[Gallery], int]:
    """Galleries of cases without a true frame, and how many cases have pictures at all."""
    with_pictures = [case for case in cases if case.kept]
    shown = spread_evenly(with_pictures, _MOST_PICTURES // (_FRAMES_A_PERSON * (2 + len(methods))))
    galleries = []
    for case in shown:
        columns = (*case.kind.sources, case.kind.truth, *methods)
        rows = [
            PictureRow(
                label=f"Picture {position}",
                place="",
                pictures=_pictures_of(run_folder, case, position, None, None, methods),
            )
            for position in spread_evenly(list(case.kept), _FRAMES_A_PERSON)
        ]
        galleries.append(Gallery(case.key, columns, tuple(rows)))
    return galleries, len(with_pictures)


def curves(
    scores: pd.DataFrame,
    column: Column,
    methods: Sequence[str],
    colors: dict[str, int],
    numbers: str = "frames",
) -> list[Curve]:
    """Scores along the frames (what their `numbers` are) of at most `MOST_CURVES` cases: the first, the middle and the last by name."""
    drawn = []
    for key in spread_evenly(sorted(scores["case"].unique()), MOST_CURVES):
        own = scores[scores["case"] == key].sort_values("frame")
        series = [
            Series(
                label=method,
                color=colors[method],
                frames=part["frame"].tolist(),
                values=part["value"].astype(float).tolist(),
            )
            for method in methods
            if not (part := own[(own["method"] == method) & (own["status"] != "failed")]).empty
        ]
        if series:
            subtitle = (
                f"{column.title} along {numbers} {own['frame'].min()} to {own['frame'].max()}"
            )
            drawn.append(curve(str(key), subtitle, series))
    return drawn


def _scores_with_pictures(scores: pd.DataFrame, cases: dict[str, Case]) -> pd.DataFrame:
    """The rows whose pictures were kept, with the column `position` that names the picture."""
    parts = []
    for key, own in scores.groupby("case", observed=True, sort=True):
        case = cases.get(str(key))
        if case is None or not case.is_drawn:
            continue
        positions = own["frame"].map({frame: position for position, frame in case.kept.items()})
        parts.append(own.assign(position=positions)[positions.notna()].astype({"position": int}))
    return pd.concat(parts) if parts else scores.iloc[:0].assign(position=0)


def _picks(best_last: pd.DataFrame) -> list[tuple[str, Any]]:
    """Best, median and worst row; fewer if there are fewer rows."""
    rows = list(best_last.itertuples(index=False))
    wanted = {"Best": len(rows) - 1, "Median": (len(rows) - 1) // 2, "Worst": 0}
    chosen: dict[int, str] = {}
    for label, index in wanted.items():
        chosen.setdefault(index, label)
    return [(label, rows[index]) for index, label in chosen.items()]


def _pictures_of(
    run_folder: Path,
    case: Case,
    position: int,
    scores: pd.DataFrame | None,
    column: Column | None,
    methods: Sequence[str],
) -> tuple[Picture, ...]:
    truth = case.kind.truth
    found = [
        *(_source_picture(run_folder, case, sources) for sources in case.sources),
        _picture(
            run_folder / "pictures" / "target" / case.key / f"{position:05d}.png",
            f"{truth} of {case.key}, picture {position}",
            "",
        ),
    ]
    for method in methods:
        error = case.error_of(method)
        if error:
            found.append(no_picture(f"failed: {error}"))
            continue
        caption = ""
        if scores is not None and column is not None:
            caption = _score_text(scores, column, case.key, method, position)
        found.append(
            _picture(
                run_folder / "pictures" / method / case.key / f"{position:05d}.png",
                f"{method} on {case.key}, picture {position}" + (caption and f", {caption}"),
                caption,
            )
        )
    return tuple(found)


def _source_picture(run_folder: Path, case: Case, sources: dict[str, Any]) -> Picture:
    """The first source picture of one person."""
    first, *others = sources["frames"]
    caption = f"frame {first}" + (f" and {len(others)} more" if others else "")
    if len(case.sources) > 1:
        caption = f"{sources['clip']}, {caption}"
    return _picture(
        run_folder / "pictures" / "source" / case.key / sources["folder"] / f"{first:05d}.png",
        f"Source of {case.key}, {caption}",
        caption,
    )


def _score_text(
    scores: pd.DataFrame, column: Column, case_key: str, method: str, position: int
) -> str:
    own = scores[
        (scores["case"] == case_key)
        & (scores["method"] == method)
        & (scores["position"] == position)
    ]
    if own.empty or own["status"].iloc[0] != "ok":
        return f"{column.title} undefined"
    return f"{column.title} {column.format(float(own['value'].iloc[0]))}"


def _picture(path: Path, alt: str, caption: str) -> Picture:
    if not path.is_file():
        return no_picture("not kept")
    return picture(read_image(path), _LONGEST_SIDE, alt, caption)
