"""What is done to a clip, one file a stage; `iper_toolkit.prepare` runs them in order.

A stage is a function of one `ClipWork`: it reads the source and what earlier stages made, and writes
into the folder it is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iper_toolkit.crop import SquareCrop
from iper_toolkit.layout import DatasetInfo, SourceClip

# Whoever changes what a stage makes raises its number, and every clip is done again from there.
VERSIONS = {"source": 2, "crop": 1, "fit": 2, "front": 1, "mask": 2, "proxy": 3, "rows": 1}


STAGE_FILE = "stage.json"
"""In each stage's folder: its key, and size and sha256 of what it made."""


def stage_folder(root: Path, stage: str, clip_id: str) -> Path:
    """``<root>/cache/<stage>-v<version>/<clip_id>``: what the stage made of a clip."""
    return root / "cache" / f"{stage}-v{VERSIONS[stage]}" / clip_id


@dataclass(frozen=True)
class Options:
    """What a user may choose; the defaults need no thought."""

    body: str = "open"
    """"open", or the path of an SMPL file (licensed by its makers) for SMPL fits."""
    size: int = 512
    """Working size: largest side of the proxy video, pixels."""
    crop_factor: float = 1.3
    """Side of the crop over the person's largest extent, for clips fitted from keypoints."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size is {self.size}; it takes at least 16 pixels.")
        if not self.crop_factor >= 1:
            raise ValueError(f"crop_factor is {self.crop_factor}; it takes 1 or more.")


@dataclass(frozen=True)
class ClipWork:
    """One clip on its way through the stages."""

    root: Path
    clip: SourceClip
    info: DatasetInfo
    options: Options
    folder: Path
    """Where the stage that runs writes."""

    def made(self, stage: str, name: str) -> Path:
        """A file that an earlier stage made of this clip."""
        return stage_folder(self.root, stage, self.clip.clip_id) / name

    def made_sha256(self, stage: str, name: str) -> str:
        """sha256 of such a file, as it was recorded when it was made."""
        return str(read_json(self.made(stage, STAGE_FILE))["outputs"][name]["sha256"])

    def source_facts(self) -> SourceFacts:
        return SourceFacts(**read_json(self.made("source", "source.json"))["facts"])

    def crop(self) -> SquareCrop:
        return SquareCrop(**read_json(self.made("crop", "crop.json")))


@dataclass(frozen=True)
class SourceFacts:
    """What the source says about itself before it is decoded."""

    width: int
    height: int
    fps: float
    num_frames: int


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
