"""Every file that is not code: what it is, its licence, how to get it, where it lies.

The table is manifests/assets.toml. Files of others are looked up when they are used, never at import, and never
downloaded behind the user's back: a missing one is a `MissingAsset` that says what to do.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parent.parent


class MissingAsset(FileNotFoundError):
    """A file that something needs is not there; the message says what it is, how to get it and where to put it."""


@dataclass(frozen=True)
class Asset:
    """One line of the table."""

    name: str
    title: str
    file: str  # below the packages if it is shipped, else below the user's asset folder; "/" between folders
    licence: str
    how: str  # a sentence: how to get it
    shipped: bool = False
    sha256: str | None = None  # of the one version we know; None where the owners have several
    bytes: int | None = None

    @property
    def path(self) -> Path:
        """Where the file is, or should be put."""
        return (_PACKAGES if self.shipped else assets_folder()) / self.file

    def require(self) -> Path:
        """The path of a file that must be there, else MissingAsset."""
        if self.path.is_file():
            return self.path
        if self.shipped:
            raise MissingAsset(
                f"{self.title} is not at {self.path}: this installation is incomplete. {self.how}"
            )
        raise MissingAsset(
            f"{self.title} is not at {self.path}. {self.how} Then put it there, or name another folder in "
            f"IPER_ASSETS. (licence: {self.licence})"
        )

    def check(self) -> None:
        """Raise unless the file is there and is the version that the table knows."""
        path = self.require()
        if self.bytes is not None and path.stat().st_size != self.bytes:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes; {self.title} has {self.bytes}. Get it again: {self.how}"
            )
        if self.sha256 is not None and sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise ValueError(
                f"{path} is not the version of {self.title} that is known (its sha256 differs). "
                f"Get it again: {self.how}"
            )


def assets_folder() -> Path:
    """Where users put files of others: the folder that IPER_ASSETS names, else ~/.cache/iper."""
    named = os.environ.get("IPER_ASSETS")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "iper"


def manifests_folder() -> Path:
    """The tables of datasets, protocols and assets: inside the installed package, or beside it in a checkout."""
    inside, beside = Path(__file__).resolve().parent / "manifests", _PACKAGES / "manifests"
    for folder in (inside, beside):
        if (folder / "assets.toml").is_file():
            return folder
    raise MissingAsset(
        f"The manifests are neither at {inside} nor at {beside}: this installation is incomplete. "
        "Install iper-toolkit again, or run it from a full checkout."
    )


@cache
def asset_table() -> Mapping[str, Asset]:
    """All assets by name."""
    path = manifests_folder() / "assets.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return {name: Asset(name=name, **entry) for name, entry in table.items()}
    except TypeError as error:
        raise ValueError(f"{path} has an entry that is no asset: {error}.") from error


def find_asset(name: str) -> Asset:
    """The line of the table; an unknown name raises."""
    if name not in asset_table():
        raise ValueError(f"Unknown asset {name!r}. Choose one of: {', '.join(asset_table())}.")
    return asset_table()[name]


def resolve(name: str) -> Path:
    """The path of an asset that must be there, else MissingAsset."""
    return find_asset(name).require()
