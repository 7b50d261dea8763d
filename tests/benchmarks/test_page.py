"""The page: every text escaped, nothing fetched from outside, pictures embedded."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.page import (
    Banner,
    Board,
    Failure,
    Gallery,
    Page,
    PictureRow,
    no_picture,
    picture,
    render,
)
from iper_toolkit.images import decode_image

EVIL = "<script>alert('x')</script> & \"quoted\" Ünïcödé 人"


@pytest.fixture
def bare() -> Page:
    """A page with nothing on it."""
    return Page(
        title="title",
        lede="lede",
        banners=(),
        facts=(),
        boards=(),
        speed_note="",
        speed_columns=(),
        speeds=(),
        failure_note="",
        failures=(),
        notes=(),
        published_note="",
        published_columns=(),
        published=(),
        rules=(),
        cards=(),
        provenance=(),
        footer="",
    )


def test_a_bare_page_says_that_nothing_failed(bare: Page) -> None:
    html = render(bare)
    assert html.startswith("<!DOCTYPE html>")
    assert "Nothing: every method finished every case." in html


def test_texts_are_escaped_wherever_they_stand(bare: Page) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    gallery = Gallery(EVIL, (EVIL,), (PictureRow(EVIL, EVIL, (picture(image, 4, EVIL, EVIL),)),))
    board = Board("anchor", EVIL, EVIL, (), EVIL, (gallery,), EVIL, ())
    html = render(
        replace(
            bare,
            title=EVIL,
            lede=EVIL,
            banners=(Banner(EVIL, EVIL),),
            boards=(board,),
            failures=(Failure(EVIL, EVIL, EVIL),),
        )
    )
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert '"quoted"' not in html
    assert "Ünïcödé 人" in html


def test_a_large_picture_is_shrunk_and_a_small_one_kept() -> None:
    large = picture(np.full((100, 50, 3), 200, np.uint8), 40, "alt", "caption")
    assert (large.width, large.height) == (20, 40)
    kind, _, data = large.uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    image = decode_image(base64.b64decode(data), "embedded")
    assert image.shape == (40, 20, 3)
    assert abs(int(image.mean()) - 200) <= 1
    small = picture(np.zeros((10, 12, 3), np.uint8), 40, "alt", "caption")
    assert (small.width, small.height) == (12, 10)


def test_a_missing_picture_says_why_in_its_place(bare: Page) -> None:
    gallery = Gallery("who", ("warp",), (PictureRow("best", "", (no_picture("failed here"),)),))
    html = render(replace(bare, boards=(Board("a", "b", "c", (), "note", (gallery,), "", ()),)))
    assert "failed here" in html
    assert "<img" not in html
