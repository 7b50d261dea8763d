"""Boards in words: for a terminal, as Markdown, as JSON; and what a reader must know of their numbers."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.intervals import FEWEST_SUBJECTS, Mean
from benchmarks.leaderboard import Board, Cell, Column, Published
from benchmarks.metrics import GROUPS
from benchmarks.tasks import KINDS
from benchmarks.words import count
from iper_toolkit.plain_text import json_text, markdown, visible


def as_text(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards for a terminal."""
    return "\n".join(line for board in boards for line in _lines(board, aligned)) + _published_text(
        published, aligned
    )


def as_markdown(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards as GitHub tables."""
    return "\n".join(line for board in boards for line in _lines(board, piped)) + _published_text(
        published, piped
    )


def as_json(boards: Sequence[Board], published: Sequence[Published] = ()) -> str:
    """Boards with full precision; NaN becomes null."""
    content = {
        "boards": [asdict(board) | {"title": board.title} for board in boards],
        "published": [asdict(one) for one in published],
    }
    return json_text(_without_nan(content), indent=2)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


Layout = Callable[[list[list[str]]], list[str]]


def _lines(board: Board, layout: Layout) -> list[str]:
    lines = [
        _CLEANED[layout](board.title),
        f"{count(board.num_subjects, 'person', 'people')}, {count(board.num_cases, 'case')}",
        "",
    ]
    groups = grouped(board.columns)
    for title, picked in groups:
        columns = [board.columns[k] for k in picked]
        head = ["method", *(column.heading for column in columns)]
        body = [
            [
                entry.method,
                *(_cell_text(entry.cells[k], board.columns[k]) for k in picked),
            ]
            for entry in board.entries
        ]
        if title == groups[0][0]:
            head += ["failed", "frames"]
            for line, entry in zip(body, board.entries, strict=True):
                line += [f"{entry.num_failed} of {entry.num_cases}", str(entry.num_frames)]
        lines += [f"{title}:", "", *layout([head, *body]), ""]
        told = [k for k in picked if not board.columns[k].is_set]
        if board.pairs and told:
            differences = [
                [
                    f"{pair.first} - {pair.second}",
                    *(_difference_text(pair.differences[k], board.columns[k]) for k in told),
                ]
                for pair in board.pairs
            ]
            head = ["paired by person", *(board.columns[k].heading for k in told)]
            lines += [*layout([head, *differences]), ""]
    lines += [*map(_CLEANED[layout], _remarks(board)), ""]
    return lines


# Columns that still fit a terminal side by side.
_MOST_COLUMNS = 6


def grouped(columns: Sequence[Column]) -> list[tuple[str, list[int]]]:
    """Titles of tables, and which columns stand in each: by group, those of the person first, a few at a time."""
    tables = []
    for group, title in GROUPS.items():
        picked = [k for k, column in enumerate(columns) if column.group == group]
        picked.sort(key=lambda k: columns[k].region != "person")
        for first in range(0, len(picked), _MOST_COLUMNS):
            part = picked[first : first + _MOST_COLUMNS]
            tables.append((title if first == 0 else f"{title}, continued", part))
    return tables


def _cell_text(cell: Cell, column: Column) -> str:
    half = cell.mean.half_width
    text = column.format(cell.mean.mean)
    if cell.of_set is not None:
        facts = cell.of_set
        if facts.status != "ok":
            return facts.status
        pictures = str(facts.n) if facts.m in (0, facts.n) else f"{facts.n}/{facts.m}"
        return f"{text} (n {pictures}, d {facts.dimensions}{', !' if facts.warning else ''})"
    if half is not None:
        text += f" ± {column.format(half)}"
    if cell.rank is not None:
        text += f" ({cell.rank})"
    if cell.num_undefined:
        text += f" [{cell.num_undefined} undefined]"
    return text


def _difference_text(difference: Mean, column: Column) -> str:
    if math.isnan(difference.mean):
        return "-"
    sign = "+" if difference.mean >= 0 else "-"
    text = f"{sign}{column.format(abs(difference.mean))}"
    half = difference.half_width
    return text if half is None else f"{text} ± {column.format(half)}"


def _remarks(board: Board) -> list[str]:
    remarks = []
    if board.num_subjects < FEWEST_SUBJECTS:
        remarks.append(
            f"Fewer than {FEWEST_SUBJECTS} people: no interval and no rank; these numbers say little about others."
        )
    else:
        remarks.append(
            "± is half of a 95 % Student-t interval over people; (1) is the rank, shared where the paired "
            "difference does not exclude zero."
        )
    incomplete = [e.method for e in board.entries if e.num_cases < board.num_cases]
    if incomplete:
        remarks.append(
            f"Not through with every case, so last and not ranked: {', '.join(incomplete)}. Differences are over "
            "the cases that both methods have."
        )
    if any(entry.num_failed for entry in board.entries):
        remarks.append("A failed case counts with the worst score on every frame.")
    if any(cell.num_undefined for entry in board.entries for cell in entry.cells):
        remarks.append("Frames without a finite score are left out of the mean.")
    remarks += _remarks_on_judges(board)
    if caveat := KINDS[board.facts["kind"]].caveat:
        remarks.append(caveat)
    if board.facts["synthetic"]:
        remarks.append("The people are synthetic: scores say nothing about photographs.")
    return remarks


def _remarks_on_judges(board: Board) -> list[str]:
    """What a reader must know of columns whose judges are not what papers use."""
    remarks = []
    if any(column.is_synthetic for column in board.columns):
        remarks.append(
            "-mini: judges of our own, synthetic-trained, not comparable with published numbers."
        )
    if any(column.is_random for column in board.columns):
        remarks.append(
            "RANDOM weights: the judge has learned nothing; these columns show that the way works, and nothing else."
        )
    for warning, titles in _set_warnings(board).items():
        remarks.append(f"!: {', '.join(titles)}: {warning}.")
    masks = sorted({column.mask_source for column in board.columns if column.mask_source})
    if masks:
        remarks.append(f"Person: masks of source {', '.join(masks)}.")
    return remarks


def _set_warnings(board: Board) -> dict[str, list[str]]:
    """What speaks against numbers of sets -> the titles of those."""
    found: dict[str, list[str]] = {}
    for k, column in enumerate(board.columns):
        for entry in board.entries:
            facts = entry.cells[k].of_set
            if facts is not None and facts.warning:
                titles = found.setdefault(facts.warning.removesuffix("."), [])
                if column.title not in titles:
                    titles.append(column.title)
    return found


def _published_text(published: Sequence[Published], layout: Layout) -> str:
    if not published:
        return ""
    rows = [["published by others", "dataset", "metric", "value", "comparable?", "seen in"]]
    rows += [[p.method, p.dataset, p.metric, p.value, p.comparable, p.seen] for p in published]
    lines = ["Published numbers, copied and not verified; never ranked with the above:", ""]
    return "\n".join(["", *lines, *layout(rows), ""])


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of text as lines with columns under each other."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def piped(rows: list[list[str]]) -> list[str]:
    """Rows of text as a table in Markdown; the first is the head."""
    lines = ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


# How names of others are made safe in lines beside a table.
_CLEANED: dict[Layout, Callable[[str], str]] = {aligned: visible, piped: markdown}


def check_text_path(out: Path | None, runs: Sequence[Path]) -> None:
    """Raise ValueError if a board's text would be written over a table or over one of the runs; None: nowhere."""
    if out is None or not os.path.lexists(out):
        return
    is_table = out.suffix == ".parquet" or (out.is_file() and _starts_as_parquet(out))
    if is_table or any(out.samefile(one) for one in runs if out.exists() and one.exists()):
        raise ValueError(
            f"--out {out} is a table of scores, which text would destroy. Name another file."
        )


def _starts_as_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def write_text(path: Path, text: str) -> None:
    """A board into a file, whole or not at all."""
    from iper_toolkit.atomic import write_atomically

    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
