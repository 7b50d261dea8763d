"""Names and sentences of others, made safe where they are printed: terminals, Markdown, JSON, tables of commas.

A name of a method, a clip or a file, or an error, may hold anything. Made safe it can neither move a terminal's cursor,
nor turn text around, nor begin a tag of HTML or a table's next cell, nor be taken for a formula.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Controls, bidirectional marks and other invisible signs, halves of pairs (file names that are not UTF-8), line ends.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need them, and they move nothing
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKDOWN = re.compile(
    r"[\\`*_\[\]|~$]|:(?=//)|@(?=\w)|#(?=\w)|^[-+=#](?![\d.])|^\d+(?=[.)](?:\s|$))"
)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_FORMULA = re.compile(r"'*\s*[=+\-@]|'*[\t\r\n]")


def visible(text: object, keep: str = "") -> str:
    r"""The text with every control and invisible character written out: ``\n``, ``\x1b``, ``\u202e``.

    Args:
        text: anything; its `str`.
        keep: characters that stay as they are, such as a line end.
    """
    said = str(text)
    if said.isprintable():
        return said
    return "".join(
        one if one in keep or not _is_invisible(one) else _NAMED.get(one) or _escaped(one)
        for one in said
    )


def markdown(text: object) -> str:
    """One line of Markdown (GitHub's) that shows the text as it is, in a paragraph or a table's cell."""
    escaped = _MARKDOWN.sub(lambda found: _before_punctuation(found.group()), visible(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found.group()], escaped)


def _before_punctuation(text: str) -> str:
    # "1." begins a list as much as "-" does; of it the full stop is what can be escaped.
    return f"{text}\\" if text.isdigit() else f"\\{text}"


def without_places(text: str, *known: Path) -> str:
    """The text with absolute paths shortened to their last two names, for pages that are shown to others.

    Where a folder lies, and whose home it is in, is nobody's business: ``/home/jane/data/a/b.png`` becomes ``…/a/b.png``,
    ``/home/jane`` becomes ``~``.

    Args:
        text: a sentence, a command line.
        known: folders of this machine that may stand in the text; so they are found whatever signs they hold.
    """
    text = text.replace("file:///", "/")
    for folder in sorted({str(one) for one in known}, key=len, reverse=True):
        if len(Path(folder).parts) > 2:
            text = re.sub(rf"{re.escape(folder)}(?=$|[/\\\s'\",:;)])", _KNOWN, text)
    return _PATH.sub(_shortened, text)


# A path that begins at a root, quoted or not; the slashes of an address (https://) and of a relative path begin none.
_PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>(?:/(?!/)|[A-Za-z]:[\\/]|\0)[^'"]+)(?P=quote)"""
    r"""|(?P<bare>(?:(?<![\w/.~\\-])/(?!/)|(?<![\w])[A-Za-z]:[\\/](?!/)|\0)[^\s'"<>:;,()|]*)"""
)
_KNOWN = "\0"  # stands for a known folder while the text is searched
_OF_HOMES = {
    "home": 2,
    "Users": 2,
    "root": 1,
}  # first name -> how many names lead to somebody's home


def _shortened(found: re.Match[str]) -> str:
    path, quote = found["quoted"] or found["bare"], found["quote"] or ""
    names = [name for name in re.split(r"[\\/]", path) if name]
    is_known, is_drive = path.startswith(_KNOWN), names[:1] and names[0].endswith(":")
    names = names[1:] if is_known or is_drive else names
    of_home = _OF_HOMES.get(names[0], 0) if names and not is_known else 0
    rest = names[of_home:]
    if len(rest) > 2 or (is_known and rest):
        short = f"…/{'/'.join(rest[-2:])}"
    elif of_home:
        short = "/".join(["~", *rest])
    else:
        short = "…" if is_known else path
    return f"{quote}{short}{quote}"


def json_text(content: Any, indent: int | None = None) -> str:
    """JSON of one line, or indented, in which invisible characters are escapes: the same content, safe to print."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(
        json.dumps(one)[1:-1] if _is_invisible(one) and one != "\n" else one for one in text
    )


def csv_cell(value: Any) -> Any:
    """A value for a csv file. Text that a spreadsheet would compute gets an apostrophe in front; `read_cell` takes it off."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def csv_row(values: Iterable[Any]) -> list[Any]:
    """`csv_cell` of each value."""
    return [csv_cell(value) for value in values]


def read_cell(text: str) -> str:
    """The text that `csv_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE and character not in _JOINERS


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
