"""Which cases of a run's folder add up to the scores of whole sets."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.record import read_records
from benchmarks.results import rows_file
from benchmarks.sets import Member, features_path, merge_sets, read_sets, sets_file


def set_members(run: Path, methods: Sequence[str], case_keys: Sequence[str]) -> list[Member]:
    """The cases of some methods that a run's folder holds, as far as they have scores of sets."""
    found = []
    for name in methods:
        for one in read_records(run, name, case_keys):
            if one["judges_of_sets"]:
                found.append(
                    Member(
                        facts=one["facts"],
                        features=features_path(run, name, one["case"]),
                        truth=features_path(run, "target", one["case"]),
                        judges=one["judges_of_sets"],
                        looked=one["looked_of_sets"],
                        has_failed=one["status"] == "failed",
                    )
                )
    return found


def all_set_members(run: Path) -> list[Member]:
    """Every case of every method that a run's folder holds, as far as it has scores of sets."""
    found = []
    for folder in sorted((run / "cases").iterdir()) if (run / "cases").is_dir() else []:
        keys = [
            path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")
        ]
        found += set_members(run, [folder.name], sorted(keys))
    return found


def merged_sets(runs: Sequence[Path]) -> tuple[pa.Table, list[str]]:
    """The set scores of several runs' folders and tables as one table, and what had to be left out."""
    tables = {str(path): read_sets(sets_file(rows_file(path))) for path in runs}
    members = {str(path): all_set_members(path) for path in runs if path.is_dir()}
    return merge_sets(tables, members)
