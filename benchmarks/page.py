"""What the report page shows, as records of finished text, and the rendering of it.

`report.py` fills these records from a run; `report.html` lays them out. Texts are plain: the template
escapes them all. Pictures are data URIs, so the page needs nothing but itself.
"""

import base64
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray

from benchmarks.charts import Curve, IntervalChart
from iper_toolkit.folders import NoHome, home_folder
from iper_toolkit.images import encode_image, resize
from iper_toolkit.plain_text import visible, without_places

_JPEG_QUALITY = 88
PICTURE = "data:image/jpeg;base64,"  # how every picture of the page begins


@dataclass(frozen=True)
class Fact:
    """A name and what belongs to it; `code` sets it in the typewriter face."""

    name: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Banner:
    """Something that a reader must not miss."""

    head: str
    text: str


@dataclass(frozen=True)
class MetricHead:
    """A column of a score table; `direction` says in words what is better."""

    name: str
    title: str
    direction: str
    unit: str


@dataclass(frozen=True)
class Cell:
    """What one method got by one metric, in finished texts."""

    mean: str
    interval: str
    has_interval: bool
    rank: str
    people: str
    frames: str
    undefined: str
    failed: str
    best: bool


@dataclass(frozen=True)
class MethodRow:
    """A line of a score table: a cell for each metric of its group."""

    method: str
    color: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two methods by one metric, and what it says in words."""

    metric: str
    first: str
    second: str
    difference: str
    interval: str
    people: str
    verdict: str


@dataclass(frozen=True)
class Group:
    """Metrics that may stand side by side; `separate` frames a group that must not be read with the others.

    `more_comparisons` are folded away below `more_caption`: of many methods there are very many pairs.
    """

    title: str
    caption: str
    detail_caption: str
    comparison_caption: str
    more_caption: str
    separate: bool
    metrics: tuple[MetricHead, ...]
    rows: tuple[MethodRow, ...]
    charts: tuple[IntervalChart, ...]
    comparisons: tuple[Comparison, ...]
    more_comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Picture:
    """A picture and the text below it; an empty `uri` where there is none, `alt` then says why."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class PictureRow:
    """One frame: a picture for each column of its gallery."""

    label: str
    place: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """A few frames of one person, side by side."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[PictureRow, ...]


@dataclass(frozen=True)
class Board:
    """One score table's worth: scores that are comparable with each other, and their pictures."""

    anchor: str
    title: str
    lede: str
    groups: tuple[Group, ...]
    gallery_note: str
    galleries: tuple[Gallery, ...]
    curve_note: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class SpeedRow:
    """A method's times and memory, one text for each column."""

    method: str
    color: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A case that a method failed on."""

    method: str
    case: str
    reason: str


@dataclass(frozen=True)
class MetricNote:
    """A metric's card in words."""

    name: str
    version: str
    better: str
    unit: str
    region: str
    failure: str  # what each frame of a failed case counts as
    definition: str


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    lede: str
    banners: tuple[Banner, ...]
    facts: tuple[Fact, ...]
    boards: tuple[Board, ...]
    speed_note: str
    speed_columns: tuple[str, ...]
    speeds: tuple[SpeedRow, ...]
    failure_note: str
    failures: tuple[Failure, ...]
    notes: tuple[Fact, ...]  # what happened to single cases
    published_note: str
    published_columns: tuple[str, ...]
    published: tuple[tuple[str, ...], ...]
    rules: tuple[Fact, ...]
    cards: tuple[MetricNote, ...]
    provenance: tuple[Fact, ...]
    footer: str


def render(page: Page) -> str:
    """The page as HTML; every text of `page` is escaped."""
    return _template().render(page=page)


def picture(image: NDArray[np.uint8], longest_side: int, alt: str, caption: str) -> Picture:
    """Embed (H, W, 3) RGB uint8 as a JPEG of at most `longest_side` pixels a side."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    if scale < 1:
        image = resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    data = base64.b64encode(encode_image(image, ".jpg", quality=_JPEG_QUALITY)).decode("ascii")
    return Picture(f"{PICTURE}{data}", image.shape[1], image.shape[0], alt, caption)


def no_picture(reason: str) -> Picture:
    """What stands where a picture is missing."""
    return Picture("", 0, 0, reason, "")


@cache
def _template() -> Template:
    text = resources.files("benchmarks").joinpath("report.html").read_text("utf-8")
    environment = Environment(
        finalize=_finished,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(text)


def _finished(value: object) -> object:
    """Texts of others without controls, marks that turn text around and places of this machine.

    What is HTML already stays, and so do pictures.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.startswith(PICTURE):
        return value
    return visible(without_places(value, *_places()), keep="\n")


def _places() -> list[Path]:
    """Folders of this machine that nobody else needs to know."""
    try:
        return [home_folder(), Path.cwd()]
    except NoHome:
        return [Path.cwd()]
