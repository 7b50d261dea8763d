"""What is done to a clip, one file a stage; `iper_toolkit.prepare` runs them in order.

This list alone says which versions are current: whoever changes what a stage makes raises its number,
and every clip is done again from there.
"""

from pathlib import Path

VERSIONS = {"source": 1, "crop": 1, "fit": 1, "front": 1, "mask": 1, "proxy": 1, "rows": 1}


def stage_folder(root: Path, stage: str, clip_id: str) -> Path:
    """``<root>/cache/<stage>-v<version>/<clip_id>``: what the stage made of a clip."""
    return root / "cache" / f"{stage}-v{VERSIONS[stage]}" / clip_id
