"""Names of clips and files: compared in one form, and printable whatever bytes a disk holds.

macOS stores ``Zoë`` in two characters more than a keyboard types (Unicode's decomposed form NFD against the composed
NFC). Names are compared, and clips are called, in NFC.
"""

from __future__ import annotations

import unicodedata


def normalised(name: str) -> str:
    """A name in the form in which names are compared: NFC, without white space around it."""
    return unicodedata.normalize("NFC", name).strip()


def printable(name: str) -> str:
    """A name that any UTF-8 file or stream can hold: bytes that are no UTF-8 become ``\\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8 on disk; Python reads other bytes as lone surrogates."""
    return printable(name) == name


def shortened(names: list[str], most: int = 10) -> str:
    """``a, b, c and 12 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
