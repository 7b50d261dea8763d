"""A protocol for clips that have none: every clip is re-made on its own frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iper_toolkit.clip import Dataset
from iper_toolkit.protocols import load_protocol, write_protocol
from iper_toolkit.source_views import choose_sources

PROTOCOL_ID = "own-self-imitation"

NUM_SOURCES = (1, 2, 4, 8)
"""Lengths of the source lists that are written, as far as a clip has frames for them."""


@dataclass(frozen=True)
class WrittenProtocol:
    """What was written, and where."""

    folder: Path
    clips: tuple[str, ...]
    digest: str


def write_own_protocol(
    dataset: Dataset, folder: Path | None = None, *, overwrite: bool = False
) -> WrittenProtocol:
    """Write a self-imitation protocol over all prepared clips of a dataset.

    The first source shows the front best; longer lists take half from the front, half from behind
    (`choose_sources`). All frames are targets (the runner leaves the sources out of the score).

    Args:
        dataset: a prepared root.
        folder: where to; default ``<root>/protocol``, where the benchmark looks.
        overwrite: replace another protocol that lies there.
    """
    folder = folder or dataset.root / "protocol"
    if not dataset.clip_ids:
        raise ValueError(f"{dataset.root} has no clip that is ready: {dataset.failures}")
    if (folder / "protocol.toml").exists() and not overwrite:
        there = load_protocol(folder)
        if there.id != PROTOCOL_ID:
            raise FileExistsError(
                f"{folder} holds the protocol {there.id!r}. Pass --overwrite to replace it, or "
                "--out to write elsewhere."
            )
    sources: list[tuple[str, int, int, int]] = []
    targets: list[tuple[str, int, int]] = []
    for clip in map(dataset.clip, dataset.clip_ids):
        targets.append((clip.id, 0, clip.num_frames - 1))
        for count in NUM_SOURCES:
            if count <= clip.valid.sum():
                frames = choose_sources(clip, count)
                rows = ((clip.id, count, place, frame) for place, frame in enumerate(frames))
                sources.extend(rows)
    written = write_protocol(
        folder,
        id=PROTOCOL_ID,
        dataset=dataset.name,
        title="Self-imitation of own clips",
        sources=sources,
        self_imitation=targets,
    )
    return WrittenProtocol(folder, dataset.clip_ids, written.digest)
