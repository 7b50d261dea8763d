"""What every drawn picture says of itself: that it is synthetic, and what it was made with and from.

The record stands in the file - a video's container tags, a PNG's text - and, unless it is dropped, in a sidecar beside it:
``OUT.mp4.json``, ``OUT.png.json`` or ``OUT/provenance.json``. One JSON object:

==================== =====================================================================================
format               ``lwgan-provenance-1``
synthetic            true
digital_source_type  IPTC's word for it: a composite with trained algorithmic media
content              ``result``, ``texture-warped inputs`` (what the network was shown) or ``comparison``
tool                 name and version
task                 imitate, transfer or view
weights              file (null if random), sha256, variant, random, and what the checkpoint says of itself
body                 id, and digest and convention of the surface whose maps the network was shown
people               of each: name, parts (words of appearance transfer), sources (file or clip, frame, sha256)
motion               file or clip, frames, sha256; empty without one
settings             what else decides the pictures: size, camera, background, ...
created              UTC, ISO 8601; SOURCE_DATE_EPOCH if that is set, so that the same command writes the same bytes
==================== =====================================================================================

Files are named without their folders, which may say more than a reader should know; the sha256 tells them apart.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iper_toolkit import __version__

if TYPE_CHECKING:
    from lwgan.checkpoints import Checkpoint
    from lwgan.tasks import Plan

FORMAT = "lwgan-provenance-1"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
FOLDER_SIDECAR = "provenance.json"

Content = Literal["result", "texture-warped inputs", "comparison"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Names of the two texts, in a container and in a PNG alike: a sentence for people, the record for programs.
_SENTENCE, _RECORD = "comment", "description"


@dataclass(frozen=True)
class Provenance:
    """One record; see above for what its fields mean."""

    task: str
    weights: Mapping[str, Any]
    body: Mapping[str, str]
    people: tuple[Mapping[str, Any], ...]
    motion: tuple[str, ...]
    settings: Mapping[str, Any]
    created: str
    content: Content = "result"

    def of(self, content: Content) -> Provenance:
        """The same of another file of the same run."""
        return replace(self, content=content)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "synthetic": True,
            "digital_source_type": SOURCE_TYPE,
            "tool": {"name": "lwgan", "version": __version__},
            **asdict(self),
        }

    def sentence(self) -> str:
        """For people; its first word is the mark that `iper prepare` tells synthetic files by."""
        weights = "random, untrained weights" if self.weights["random"] else "trained weights"
        return f"synthetic: drawn by lwgan {__version__} ({self.task}, {self.content}), {weights}"

    def tags(self) -> dict[str, str]:
        """Texts for a file: the sentence and the whole record."""
        record = json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True)
        return {_SENTENCE: self.sentence(), _RECORD: record}


def provenance_of(
    plan: Plan,
    checkpoint: Checkpoint,
    *,
    motion: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    created: datetime | None = None,
) -> Provenance:
    """The record of one plan, drawn with one checkpoint.

    Args:
        plan, checkpoint: what was drawn, with what.
        motion: `Motion.origin`.
        settings: what decides the pictures besides the plan's own settings.
        created: default: what the environment's SOURCE_DATE_EPOCH says (reproducible-builds.org), else now.
    """
    return Provenance(
        task=plan.task,
        weights=describe_weights(checkpoint),
        body={
            "id": checkpoint.surface.body_id,
            "surface_digest": checkpoint.surface.digest,
            "convention": checkpoint.surface.convention,
        },
        people=tuple(
            {
                "name": dressed.person.name,
                "parts": list(dressed.parts),
                "sources": list(dressed.person.origin),
            }
            for dressed in plan.people
        ),
        motion=motion,
        settings={**plan.settings, **(settings or {})},
        created=(created or _now()).isoformat(timespec="seconds"),
    )


def _now() -> datetime:
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if not fixed:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(fixed), UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"SOURCE_DATE_EPOCH is {fixed!r}; it must be seconds since 1970, a whole number."
        ) from None


def describe_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the record says of a checkpoint; its file without the folder."""
    from lwgan.checkpoints import variant_of

    return {
        "file": None if checkpoint.path is None else checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "variant": variant_of(checkpoint.config),
        "random": checkpoint.origin.how == "random",
        "origin": asdict(checkpoint.origin),
        "notes": list(checkpoint.notes),
    }


def sidecar_of(out: Path) -> Path:
    """Where the record of `out` lies. Not ``OUT.json``: beside a video that would be its keypoints."""
    return out / FOLDER_SIDECAR if _is_folder(out) else out.with_name(f"{out.name}.json")


def write_record(path: Path, provenance: Provenance) -> None:
    """Write the record as a file of its own, such as a sidecar."""
    text = json.dumps(provenance.to_json(), ensure_ascii=False, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def read_provenance(path: Path) -> dict[str, Any]:
    """The record that a drawn file carries in itself: a video, a PNG, or a folder of PNGs (of the first).

    Args:
        path: such a file, or the sidecar (.json) of one.

    Raises:
        ValueError: it carries none.
    """
    if path.is_dir():
        first = min(path.glob("*.png"), default=None)
        if first is None:
            raise ValueError(f"{path} holds no .png picture.")
        path = first
    if path.suffix.lower() == ".json":
        tags = {_RECORD: path.read_text(encoding="utf-8", errors="replace")}
    elif path.suffix.lower() == ".png":
        tags = png_texts(path.read_bytes())
    else:
        tags = _container_tags(path)
    try:
        record = dict(json.loads(tags[_RECORD]))
        if record["format"] != FORMAT:
            raise KeyError("format")
    except (KeyError, ValueError, TypeError):
        raise ValueError(
            f"{path} carries no record of lwgan: it was made by another program, or the record was "
            f"stripped on the way. A sidecar may be left: {sidecar_of(path).name}"
        ) from None
    return record


def png_with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """The bytes of a PNG with international text chunks (``iTXt``) behind its header."""
    header_end = len(_PNG_SIGNATURE) + 12 + 13  # IHDR holds 13 bytes; length, name and checksum 12
    chunks = b""
    for keyword, text in texts.items():
        body = keyword.capitalize().encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8")
        checksum = zlib.crc32(b"iTXt" + body)
        chunks += struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", checksum)
    return data[:header_end] + chunks + data[header_end:]


def png_texts(data: bytes) -> dict[str, str]:
    """What `png_with_texts` stored, by lower-case keyword."""
    texts = {}
    position = len(_PNG_SIGNATURE)
    while data[:position].startswith(_PNG_SIGNATURE) and position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        if kind == b"iTXt" and b"\0\0\0\0\0" in body:
            keyword, _, text = body.partition(b"\0\0\0\0\0")
            texts[keyword.decode("latin-1").lower()] = text.decode("utf-8", "replace")
        position += 12 + length
    return texts


def _is_folder(out: Path) -> bool:
    return out.is_dir() or not out.suffix


def _container_tags(path: Path) -> dict[str, str]:
    import av

    try:
        with av.open(str(path)) as container:
            return {key.lower(): value for key, value in container.metadata.items()}
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be opened as a video or a picture: {error}.") from error
