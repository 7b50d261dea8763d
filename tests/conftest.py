"""Shared settings of the tests: where the parity fixtures and the real clip lie."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """Numbers that the reference implementations gave; not part of the repository."""
    folder = Path(os.environ.get("PARITY_FIXTURES", SHARED / "fixtures"))
    if not folder.is_dir():
        pytest.skip(f"no parity fixtures at {folder}; set PARITY_FIXTURES to their folder")
    return folder


@pytest.fixture(scope="session")
def real_clip_folder() -> Path:
    """A real clip with keypoints and masks; not part of the repository."""
    folder = Path(os.environ.get("REAL_CLIPS", SHARED / "real")) / "akun_1"
    if not folder.is_dir():
        pytest.skip(f"no real clip at {folder}; set REAL_CLIPS to the folder that holds akun_1/")
    return folder
