"""Shared settings of the tests: where the parity fixtures and the real clip lie."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


def outside_folder(variable: str, usual: Path, inside: str = "") -> Path:
    """A folder that is not part of the repository: where `variable` says, else at `usual`.

    Only a folder that nobody named may be missing: then its tests are skipped.
    """
    named = os.environ.get(variable)
    folder = Path(named or usual) / inside
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"{variable} is {named}, but there is no folder {folder}; correct or unset it.")
    pytest.skip(f"no folder {folder}; set {variable} to the one that should be used")


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """Numbers that the reference implementations gave."""
    return outside_folder("PARITY_FIXTURES", SHARED / "fixtures")


@pytest.fixture(scope="session")
def real_clip_folder() -> Path:
    """A real clip with keypoints and masks."""
    return outside_folder("REAL_CLIPS", SHARED / "real", "akun_1")
