"""Rows of a csv file as records whose fields are its columns."""

import csv
from pathlib import Path
from typing import TypeVar, get_type_hints

from iper_toolkit.plain_text import read_cell

_Row = TypeVar("_Row")  # a NamedTuple


def read_csv_rows(path: Path, row: type[_Row]) -> tuple[_Row, ...]:
    """The rows of a file whose header is the fields of `row`; none when the file is not there.

    Args:
        path: UTF-8, separated by commas.
        row: a NamedTuple whose fields are str, int, or ``int | None`` (None where the cell is empty).

    Raises:
        ValueError: other columns, or a line that cannot be read; the message names file and line.
    """
    if not path.is_file():
        return ()
    types = get_type_hints(row)
    columns = ",".join(types)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != list(types):
            raise ValueError(f"{path} has the columns {','.join(header)}; it takes {columns}.")
        rows = []
        for cells in reader:
            where = f"{path}, line {reader.line_num}: {','.join(cells)}"
            if len(cells) != len(types):
                raise ValueError(
                    f"{where} has {len(cells)} columns; it takes {len(types)}: {columns}."
                )
            try:
                pairs = zip(cells, types.values(), strict=True)
                rows.append(row(*(_parse(cell, kind) for cell, kind in pairs)))
            except ValueError as error:
                raise ValueError(f"{where}: {error}.") from error
    return tuple(rows)


def _parse(cell: str, kind: object) -> str | int | None:
    if kind is str:
        return read_cell(cell)
    return None if cell == "" and kind is not int else int(cell)
