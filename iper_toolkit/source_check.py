"""Whether a clip's pictures are still those that its tables were made from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from iper_toolkit import manifest
from iper_toolkit.layout import frame_files
from iper_toolkit.stages import STAGE_FILE, read_json, stage_folder


def check_pictures(root: Path, row: Mapping[str, Any]) -> None:
    """Raise `manifest.BadManifest` if a clip's video or frames changed since `iper prepare`.

    Looks at sizes and times alone where they are as recorded. Elsewhere - a copied dataset has new
    times - the files are read, once a process.

    Args:
        root: the dataset.
        row: the clip's row of the clips table.
    """
    source = root / row["source"]
    files = [source] if row["kind"] == "video" else frame_files(source)
    if _is_as_recorded(root, row):
        return
    stats = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    if _pictures_sha256(row["kind"], stats) != row["source_sha256"]:
        raise manifest.BadManifest(
            f"{source} changed since it was prepared, so its fit, masks and scores would be of "
            f"other pictures. Put it back, or run: iper prepare --root {root}"
        )


def _is_as_recorded(root: Path, row: Mapping[str, Any]) -> bool:
    """Whether all files of the clip have the names, sizes and times under which it was prepared."""
    from iper_toolkit.prepare import source_key, stamp_of

    folder = stage_folder(root, "source", row["clip_id"])
    try:
        record, done = read_json(folder / "source.json"), read_json(folder / STAGE_FILE)
        files = [(entry["role"], root / entry["name"]) for entry in record["files"]]
        role = "video" if row["kind"] == "video" else "frame"
        synthetic = bool(manifest.read_about(root)["synthetic"])
        stamp = stamp_of(root, files, synthetic=synthetic)
        same_tables = record["digests"][role] == row["source_sha256"]
        return same_tables and bool(done["key"] == source_key(stamp))
    except (OSError, ValueError, KeyError, TypeError):
        return False  # no sound record: the pictures themselves decide


@lru_cache(maxsize=1024)
def _pictures_sha256(kind: str, stats: tuple[tuple[Path, int, int], ...]) -> str:
    """`source_sha256` of the files as they are; sizes and times make changed files other ones."""
    from iper_toolkit.stages.source import role_digests

    role = "video" if kind == "video" else "frame"
    files = [
        {"role": role, "name": path.name, "sha256": manifest.file_sha256(path)}
        for path, _, _ in stats
    ]
    return role_digests(files)[role]
