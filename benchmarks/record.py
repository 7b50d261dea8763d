"""What a run says of itself: `run.json`, and a small record of each case beside its rows.

A record names the case, the method, and count and sha256 of the rows beside it, and ends with a sha256 of its own.
It is written last. So rows and records that were damaged, edited, or left by a kill between the two do not fit, and
count as not there.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.results import write_rows
from iper_toolkit.atomic import write_atomically


def case_paths(out: Path, method: str, case_key: str) -> tuple[Path, Path]:
    """Where one case of one method has its rows (Parquet) and its record (JSON)."""
    stem = out / "cases" / method / case_key
    return stem.with_name(f"{stem.name}.parquet"), stem.with_name(f"{stem.name}.json")


def unreadable_path(out: Path, case_key: str) -> Path:
    """Where it is noted that the files of a case could not be read, as long as that is so."""
    return out / "unreadable" / f"{case_key}.json"


def read_unreadable(out: Path, case_keys: Sequence[str]) -> dict[str, str]:
    """Case key -> why its files could not be read when it was last tried."""
    paths = {key: unreadable_path(out, key) for key in case_keys}
    return {key: _why_unreadable(path) for key, path in paths.items() if path.is_file()}


def _why_unreadable(path: Path) -> str:
    try:
        return str(read_json(path)["error"])
    except (OSError, ValueError, KeyError):  # the case is tried again all the same
        return f"{path} should say why, and is damaged"


def read_run(out: Path) -> dict[str, Any]:
    """run.json of a run's folder.

    Raises:
        FileNotFoundError: the folder is no run's.
        ValueError: the file is damaged.
    """
    path = out / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{out} holds no run.json; is it the --out of `lwgan-bench run`?")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: {error}. Give the same `lwgan-bench run` command again: it is written anew, and "
            "finished cases are kept."
        ) from error
    return content


def check_shape(path: Path, content: Any, shape: Mapping[str, Any], where: str = "") -> None:
    """Raise ValueError, which names file and field, unless a JSON object has some fields of some types.

    `shape`: field -> type, tuple of types, or the shape of an object; "*" as a field stands for every field.
    """
    for name, wanted in shape.items():
        for field in list(content) if name == "*" else [name]:
            value, told = content.get(field), f"{where}{field}"
            kinds = dict if isinstance(wanted, Mapping) else wanted
            if field not in content or not isinstance(value, kinds):
                got = f"is a {type(value).__name__}" if field in content else "is not there"
                raise ValueError(
                    f"{path}: {told} {got}; the file is damaged or of another version. Give the same `lwgan-bench run` "
                    "command again: finished cases are kept."
                )
            if isinstance(wanted, Mapping):
                check_shape(path, value, wanted, f"{told}.")


def write_case(
    out: Path, method: str, case_key: str, record: Mapping[str, Any], rows: pa.Table
) -> None:
    """Keep one case of one method: the rows, and then the record, which makes the case count as done."""
    rows_path, path = case_paths(out, method, case_key)
    write_rows(rows_path, [rows])
    told = {"count": len(rows), "sha256": sha256_of(rows_path)}
    # As it will be read: JSON has no tuples, and no numbers for keys.
    content = json.loads(json.dumps({**record, "case": case_key, "method": method, "rows": told}))
    write_json(path, content | {"sha256": _digest(content)})


def read_record(out: Path, method: str, case_key: str) -> dict[str, Any] | None:
    """The record of a finished case; None if there is none, or rows and record do not fit: then it is to be done again."""
    rows, path = case_paths(out, method, case_key)
    try:
        record = read_json(path)
        digest = record.pop("sha256", None)
        fits = (
            digest == _digest(record)
            and (record["case"], record["method"]) == (case_key, method)
            and record["rows"]["sha256"] == sha256_of(rows)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if fits else None


def is_damaged(out: Path, method: str, case_key: str) -> bool:
    """Whether a case has a record that does not count, because the record or the rows are not as they were written."""
    return (
        case_paths(out, method, case_key)[1].is_file()
        and read_record(out, method, case_key) is None
    )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_records(out: Path, method: str, case_keys: Sequence[str]) -> list[dict[str, Any]]:
    """The records of a method's finished cases."""
    records = (read_record(out, method, key) for key in case_keys)
    return [record for record in records if record is not None]


def describe_method(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Version, counts and speed of one method, from the records of its cases."""
    drawn = sum(one["num_drawn"] for one in records)
    seconds = {
        name: sum(one[name] for one in records) for name in ("seconds_draw", "seconds_personalize")
    }
    return {
        "version": records[0]["method_version"] if records else "",
        "weights": records[0]["weights"] if records else "",
        "random_weights": any(one.get("random_weights", False) for one in records),
        "inputs": sorted({name for one in records for name in one.get("inputs", [])}),
        "num_cases": len(records),
        "num_failed": sum(one["status"] == "failed" for one in records),
        "num_drawn": drawn,
        "num_scored": sum(one["num_scored"] for one in records),
        "seconds_a_frame": seconds["seconds_draw"] / drawn if drawn else None,
        "seconds_personalize_a_case": (
            seconds["seconds_personalize"] / len(records) if records else None
        ),
    }


def list_failures(method: str, records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"method": method, "case": one["case"], "error": one["error"]}
        for one in records
        if one["status"] == "failed"
    ]
