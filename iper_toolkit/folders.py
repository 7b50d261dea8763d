"""Where users keep things: the home folder, ``~`` in what they type, and the folders that variables name."""

from __future__ import annotations

import os
from pathlib import Path


class NoHome(OSError):
    """The home folder is needed and cannot be told; the message says which variable to set."""

    def __str__(self) -> str:
        return str(self.args[0])


def home_folder(remedy: str = "set HOME") -> Path:
    """The user's home folder.

    Raises:
        NoHome: HOME is not set, and the system does not know this user.
    """
    home = os.environ.get("HOME") or os.path.expanduser(f"~{_user()}" if _user() else "~")
    if not home or home.startswith("~"):
        raise NoHome(
            f"The home folder cannot be told: HOME is not set, and this system has no entry for the user "
            f"{_user_number()}. To go on, {remedy}."
        )
    return Path(home)


def expanded(path: str | os.PathLike[str]) -> str:
    """A path as text, with ``~`` for the home folder, which no shell opens behind a ``=`` nor in a variable.

    Raises:
        NoHome: it begins with ``~/`` and there is no home folder. ValueError: with ``~name``, and there is no such
            user: a folder that is called so is written ``./~name``.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return text
    first, separator, rest = text.partition(os.sep)
    if first == "~":
        home = str(home_folder("set HOME or write the path in full"))
        return os.path.join(home, rest) if separator else home
    opened = os.path.expanduser(text)
    if opened.startswith("~") and not os.path.lexists(text):
        raise ValueError(
            f"{text} begins with {first}, and there is no user of this name. Write the path in full, or ./{text} for a "
            "file that is called so."
        )
    return opened


def named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names; None where it is not set or empty."""
    named = os.environ.get(variable)
    return Path(expanded(named)) if named else None


def cache_folder(variable: str) -> Path:
    """The folder that `variable` names, else ``~/.cache/iper``. It may not exist yet.

    Raises:
        NoHome: neither the variable nor the home folder is known.
    """
    named = named_folder(variable)
    if named is not None:
        return named
    return (
        home_folder(f"set HOME, or {variable} to a folder that you may write to")
        / ".cache"
        / "iper"
    )


def _user() -> str:
    """The name of the user, or nothing where the system does not know it."""
    try:
        import pwd
    except ImportError:  # Windows, where expanduser reads USERPROFILE
        return ""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _user_number() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "who runs this"
