"""What a drawn file says of itself."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iper_toolkit import __version__
from iper_toolkit.body import BodyParams
from iper_toolkit.images import decode_image, encode_image, write_image
from iper_toolkit.stages.source import MARK
from iper_toolkit.video import read_comment_tag, write_video
from lwgan.checkpoints import Checkpoint, load_checkpoint
from lwgan.person import Dressed, Person
from lwgan.provenance import (
    FORMAT,
    Provenance,
    _now,
    png_texts,
    png_with_texts,
    provenance_of,
    read_provenance,
    sidecar_of,
    write_record,
)
from lwgan.tasks import Plan

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def checkpoint(tiny_weights: Path) -> Checkpoint:
    return load_checkpoint(tiny_weights)


@pytest.fixture(scope="module")
def record(checkpoint: Checkpoint) -> Provenance:
    import torch

    picture = np.zeros((1, 16, 16, 3), np.uint8)
    params = BodyParams.from_array("open-body-1", torch.zeros(1, 85))
    people = [
        Person(name, picture, picture[..., 0], params, None, (f"{name}.png frame 0 (sha256 ab)",))
        for name in ("me", "été")
    ]
    plan = Plan(
        task="transfer",
        people=(Dressed(people[0]), Dressed(people[1], ("upper",))),
        params=params,
        fps=25.0,
        settings={"camera": "smooth"},
    )
    motion = ("dance.mp4 frames 0-9 (sha256 cd)",)
    return provenance_of(plan, checkpoint, motion=motion, settings={"size": 16}, created=NOON)


def test_the_record_says_everything(
    record: Provenance, checkpoint: Checkpoint, tiny_weights: Path
) -> None:
    content: dict[str, Any] = json.loads(json.dumps(record.to_json()))
    assert content["format"] == FORMAT
    assert content["synthetic"] is True
    assert content["tool"] == {"name": "lwgan", "version": __version__}
    assert content["task"] == "transfer"
    assert content["weights"]["sha256"] == checkpoint.sha256
    assert content["weights"]["file"] == tiny_weights.name  # without the folder
    assert content["weights"]["random"] is True
    assert content["body"]["id"] == "open-body-1"
    assert content["body"]["surface_digest"] == checkpoint.surface.digest
    assert [(p["name"], p["parts"], p["sources"]) for p in content["people"]] == [
        ("me", [], ["me.png frame 0 (sha256 ab)"]),
        ("été", ["upper"], ["été.png frame 0 (sha256 ab)"]),
    ]
    assert content["motion"] == ["dance.mp4 frames 0-9 (sha256 cd)"]
    assert content["settings"] == {"camera": "smooth", "size": 16}
    assert content["created"] == "2026-11-20T12:00:00+00:00"
    assert content["content"] == "result"
    assert record.of("comparison").to_json()["content"] == "comparison"


def test_weights_that_were_trained_are_not_called_random(checkpoint: Checkpoint) -> None:
    from dataclasses import replace

    from lwgan.checkpoints import Origin
    from lwgan.provenance import describe_weights

    trained = replace(checkpoint, origin=Origin("trained", trained_on=("iPER",)))
    assert describe_weights(trained)["random"] is False
    assert describe_weights(checkpoint)["random"] is True


def test_the_sentence_carries_the_mark_and_the_warning(record: Provenance) -> None:
    assert record.sentence().startswith(MARK)
    assert "random" in record.sentence()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_carries_the_record(record: Provenance, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_video(path, [np.zeros((16, 16, 3), np.uint8)], 25, metadata=record.tags())
    assert read_provenance(path) == json.loads(json.dumps(record.to_json()))
    assert MARK in read_comment_tag(path)  # as `iper prepare` looks for it


def test_a_png_carries_the_record(record: Provenance, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = png_with_texts(encode_image(picture, ".png"), record.tags())
    np.testing.assert_array_equal(decode_image(data, "x.png"), picture)
    (tmp_path / "00000.png").write_bytes(data)
    assert read_provenance(tmp_path / "00000.png") == json.loads(json.dumps(record.to_json()))
    assert read_provenance(tmp_path) == read_provenance(tmp_path / "00000.png")


def test_other_programs_read_the_texts_of_a_png(record: Provenance) -> None:
    data = png_with_texts(encode_image(np.zeros((8, 8, 3), np.uint8), ".png"), record.tags())
    with Image.open(BytesIO(data)) as image:
        image.load()
        texts = SimpleNamespace(**{k.lower(): v for k, v in image.text.items()})  # type: ignore[attr-defined]
    assert texts.comment == record.sentence()
    assert json.loads(texts.description)["people"][1]["name"] == "été"
    assert png_texts(data) == record.tags()


def test_files_that_carry_no_record(tmp_path: Path) -> None:
    write_image(tmp_path / "plain.png", np.zeros((8, 8, 3), np.uint8))
    write_video(tmp_path / "plain.mp4", [np.zeros((16, 16, 3), np.uint8)], 25)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("plain.png", "no record of lwgan.*plain.png.json"),
        ("plain.mp4", "no record of lwgan.*plain.mp4.json"),
        ("text.mp4", "cannot be opened"),
        ("empty", "holds no .png"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_provenance(tmp_path / name)


def test_a_date_that_the_environment_fixes(
    record: Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert _now().isoformat(timespec="seconds") == "1970-01-02T00:00:00+00:00"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(ValueError, match="SOURCE_DATE_EPOCH is 'today'"):
        _now()


def test_sidecars_are_not_taken_for_keypoints(record: Provenance, tmp_path: Path) -> None:
    """``x.json`` beside ``x.mp4`` would be."""
    assert sidecar_of(tmp_path / "x.mp4") == tmp_path / "x.mp4.json"
    assert sidecar_of(tmp_path / "x.png") == tmp_path / "x.png.json"
    assert sidecar_of(tmp_path / "x") == tmp_path / "x" / "provenance.json"
    path = sidecar_of(tmp_path / "x.mp4")
    write_record(path, record)
    assert read_provenance(path) == json.loads(path.read_text())
    assert json.loads(path.read_text()) == json.loads(json.dumps(record.to_json()))
