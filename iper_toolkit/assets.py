"""Every file that is not code: what it is, its licence, how to get it, where it lies.

The table is manifests/assets.toml. Files of others are looked up when they are used, never at import, and never
downloaded behind the user's back: a missing one is a `MissingAsset` that says what to do.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import file_digest
from pathlib import Path
from typing import Literal, get_args

from iper_toolkit.folders import cache_folder

Package = Literal["iper_toolkit", "lwgan", "benchmarks"]
Status = Literal["there", "missing", "damaged"]

_INSTALLED = Path(__file__).resolve().parent.parent  # the folder that holds the three packages

# What browsers and git leave in a file's place, by how it begins. Such files have a plausible name and no known size.
_STAND_INS = {
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}


class MissingAsset(FileNotFoundError):
    """A file that something needs is not there; the message says what it is, how to get it and where to put it."""


@dataclass(frozen=True)
class Asset:
    """One line of the table."""

    name: str
    title: str
    package: Package  # who opens it
    used_by: str  # a phrase: for what
    file: str  # below the packages if it is shipped, else below the user's asset folder; "/" between folders
    licence: str  # the short form, then after ";" what else is known of it
    how: str  # a sentence: how to get it
    shipped: bool = False
    sha256: str | None = None  # of the one version we know; None where the owners have several
    sha256_prefix: str | None = None  # its first digits, where its owners put them into the name
    bytes: int | None = None
    note: str | None = None  # a sentence: what to know before numbers made with it are believed

    def __post_init__(self) -> None:
        if self.package not in get_args(Package):
            raise ValueError(
                f"The asset {self.name!r} is of package {self.package!r}; there are {', '.join(get_args(Package))}."
            )
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"The sha256 of {self.name!r} is {self.sha256!r}; it has 64 of the digits 0-9 and a-f."
            )
        if self.sha256_prefix is not None and not re.fullmatch("[0-9a-f]+", self.sha256_prefix):
            raise ValueError(
                f"The sha256_prefix of {self.name!r} is {self.sha256_prefix!r}; it has digits 0-9 and a-f."
            )
        if self.sha256 and self.sha256_prefix and not self.sha256.startswith(self.sha256_prefix):
            raise ValueError(
                f"The sha256 of {self.name!r} does not begin with its sha256_prefix, {self.sha256_prefix}."
            )

    @property
    def path(self) -> Path:
        """Where the file is, or should be put."""
        return (_INSTALLED if self.shipped else assets_folder()) / self.file

    @property
    def short_licence(self) -> str:
        """The licence up to its first semicolon."""
        return self.licence.partition(";")[0]

    @property
    def hash_is_known(self) -> bool:
        """Whether `check` can tell this version from others."""
        return self.sha256 is not None or self.sha256_prefix is not None

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

    def digest(self) -> str:
        """The sha256 of the file that is there, as 64 digits; read in pieces, whatever its size."""
        with self.require().open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()

    def fault(self, *, hashes: bool) -> str | None:
        """What is wrong with the file that is there, as a sentence; None if nothing is.

        Args:
            hashes: whether to compare sha256 too, which reads all of the file; else only its size and beginning.

        Raises:
            MissingAsset: there is no file. OSError: it cannot be read.
        """
        path = self.require()
        size = path.stat().st_size
        with path.open("rb") as stream:
            begin = stream.read(64).lstrip().lower()
        for sign, what in _STAND_INS.items():
            if begin.startswith(sign):
                return f"{path} is {what}, not {self.title}."
        if size == 0:
            return f"{path} is empty."
        if self.bytes is not None and size != self.bytes:
            return f"{path} has {size} bytes; {self.title} has {self.bytes}."
        if not hashes or not self.hash_is_known:
            return None
        found = self.digest()
        if self.sha256 is not None and found != self.sha256:
            return (
                f"{path} is not the version of {self.title} that is known: its sha256 differs, "
                f"{found} instead of {self.sha256}."
            )
        if self.sha256_prefix is not None and not found.startswith(self.sha256_prefix):
            return (
                f"{path} is not the version of {self.title} that is known: its sha256 differs, "
                f"{found} does not begin with {self.sha256_prefix}."
            )
        return None

    def status(self, *, hashes: bool = False) -> Status:
        """How it is with the file; "damaged" by size and beginning alone, unless `hashes` are compared too.

        Raises:
            OSError: it is there and cannot be read.
        """
        if not self.path.is_file():
            return "missing"
        return "there" if self.fault(hashes=hashes) is None else "damaged"

    def check(self) -> None:
        """Raise unless the file is there (MissingAsset) and is the version that the table knows (ValueError)."""
        fault = self.fault(hashes=True)
        if fault is not None:
            raise ValueError(f"{fault} Get it again: {self.how}")


def assets_folder() -> Path:
    """Where users put files of others: the folder that IPER_ASSETS names, else ~/.cache/iper."""
    return cache_folder("IPER_ASSETS")


def manifests_folder() -> Path:
    """The tables of datasets, protocols and assets: inside the installed package, or beside it in a checkout."""
    inside, beside = Path(__file__).resolve().parent / "manifests", _INSTALLED / "manifests"
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
    table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
