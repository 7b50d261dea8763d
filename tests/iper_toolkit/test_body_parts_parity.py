"""Part words mean what they mean in the reference."""

import json
from pathlib import Path

import pytest

from iper_toolkit.body.parts import PART_IDS, parse_parts, part_ids


@pytest.mark.parity
def test_part_words_of_the_reference(fixtures_folder: Path) -> None:
    expected = json.loads((fixtures_folder / "pipeline" / "parsers.json").read_text())
    added = {"legs", "arms", "feet", "hands"}
    assert {n: list(i) for n, i in PART_IDS.items() if n not in added} == expected["PART_IDS"]
    assert expected["parts"]
    for text, names in expected["parts"]:
        assert parse_parts(text, strict=False) == names
    # the same words read as image sides name the other limbs
    for name, ids in expected["PART_IDS"].items():
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert list(part_ids([name])) == ids
        assert part_ids([name], sides="image") == part_ids([swapped])
