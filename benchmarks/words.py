"""Numbers and lists as they are written in a text."""

from collections.abc import Sequence

NONE = "\N{EN DASH}"  # where there is no number
MINUS = "\N{MINUS SIGN}"

_SMALL = "Zero One Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve".split()


def sentence_count(value: int, one: str, many: str | None = None) -> str:
    """As `count`, at the beginning of a sentence: "Two methods"."""
    _, _, what = count(value, one, many).partition(" ")
    return f"{_SMALL[value] if value < len(_SMALL) else number(value)} {what}"


def seconds(value: float | None) -> str:
    """A duration in seconds, written in a unit that suits it."""
    if value is None:
        return NONE
    if value < 0.0001:
        return "under 0.1 ms"
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def megabytes(value: int | None) -> str:
    """A number of bytes; 0 stands for not measured."""
    return f"{value / 2**20:,.0f} MiB" if value else NONE


def number(value: int) -> str:
    """With a comma every three digits."""
    return f"{value:,}"


def count(value: int, one: str, many: str | None = None) -> str:
    """A number and what it counts: "1 frame", "2,000 frames"."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in a row: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
