"""Videos: both decoders give the same frames; broken files are found."""

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

from iper_toolkit.video import (
    BrokenVideo,
    FrameCursor,
    decoder_name,
    probe,
    read_comment_tag,
    read_frames,
    write_video,
)

DECODERS = ["pyav"] + (["decord"] if importlib.util.find_spec("decord") else [])


def numbered(count: int, size: int = 64) -> list[np.ndarray]:
    """Frames that tell their number: a bright square that wanders, and a grey level."""
    frames = []
    for number in range(count):
        frame = np.full((size, size, 3), 30 + 3 * number, np.uint8)
        place = 4 * (number % 12)
        frame[place : place + 12, place : place + 12] = (250, 40, 160)
        frames.append(frame)
    return frames


@pytest.fixture(scope="module", params=[10, 250], ids=["short GOP", "one keyframe"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "numbered frames ü.mp4"
    tags = {"comment": "synthetic test"}
    written = write_video(path, numbered(47), 25, keyframe_every=request.param, metadata=tags)
    assert written == 47
    return path


def test_probe_tells_what_was_written(video: Path) -> None:
    info = probe(video)
    assert (info.width, info.height, info.num_frames, info.fps) == (64, 64, 47, 25)
    assert info.comment == read_comment_tag(video) == "synthetic test"
    assert not info.turned


@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_come_back_in_order(video: Path, decoder: str) -> None:
    for frame, original in zip(read_frames(video, decoder=decoder), numbered(47), strict=True):
        assert np.abs(frame.astype(int) - original).mean() < 4


@pytest.mark.parametrize("decoder", DECODERS)
def test_picked_frames_equal_the_sequential_ones(video: Path, decoder: str) -> None:
    everything = list(read_frames(video, decoder="pyav"))
    wanted = [0, 1, 1, 9, 10, 24, 33, 46]
    for index, frame in zip(wanted, read_frames(video, wanted, decoder=decoder), strict=True):
        assert np.array_equal(frame, everything[index])


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_cursor_goes_on_and_starts_over(video: Path, decoder: str) -> None:
    everything = list(read_frames(video, decoder="pyav"))
    with FrameCursor(video, decoder=decoder) as cursor:
        for index in (3, 3, 4, 20, 2, 46, 0):
            assert np.array_equal(cursor.read(index), everything[index])
        with pytest.raises(BrokenVideo, match="has no frame 47"):
            cursor.read(47)
        assert np.array_equal(cursor.read(5), everything[5])


def test_frames_are_asked_for_in_order(video: Path) -> None:
    for indices in ([3, 2], [-1]):
        with pytest.raises(ValueError, match="ascending and not negative"):
            list(read_frames(video, indices))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_video(first, numbered(12), 30)
    write_video(second, numbered(12), 30)
    assert first.read_bytes() == second.read_bytes()


def test_keyframes_are_where_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, numbered(35), 30)
    with av.open(str(path)) as container:
        packets = sorted((p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size)
    assert [number for number, (_, key) in enumerate(packets) if key] == [0, 10, 20, 30]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("faststart", [False, True])
def test_a_truncated_video_is_found(tmp_path: Path, faststart: bool, decoder: str) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, numbered(60, 128), 30)
    if faststart:  # the table of frames at the front: the file opens, and ends too soon
        with (
            av.open(str(whole)) as source,
            av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = tmp_path / "fast.mp4"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])

    number, complaint = 0, ""
    try:
        assert probe(cut).num_frames == 60  # the promise; `prepare` compares it with what it read
        number = sum(1 for _ in read_frames(cut, decoder=decoder))
    except BrokenVideo as error:
        complaint = str(error)
    assert number < 60
    assert faststart or "cut.mp4 cannot be opened as a video" in complaint
    assert not complaint or "copy" in complaint


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(BrokenVideo, match=r"x\.mp4 cannot be opened as a video.*copy"):
        probe(path)


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 is not there"):
        probe(tmp_path / "gone.mp4")


def test_odd_sizes_and_no_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="63 x 64 is odd"):
        write_video(tmp_path / "a.mp4", [np.zeros((64, 63, 3), np.uint8)], 30)
    with pytest.raises(ValueError, match="no frame to write"):
        write_video(tmp_path / "b.mp4", [], 30)


@pytest.mark.parametrize("fps", [0, -5, 1e9, float("inf"), float("nan")])
def test_speeds_that_no_video_has(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="fps is"):
        write_video(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)], fps)
    assert not list(tmp_path.iterdir())


def test_unknown_decoders_are_refused() -> None:
    assert decoder_name() in DECODERS
    with pytest.raises(ValueError, match="Choose one of: auto, decord, pyav"):
        decoder_name("magic")


def test_same_frames_same_bytes_whatever_lies_in_memory(tmp_path: Path) -> None:
    """At 96 pixels x264's macroblock tree gave several results, depending on memory it did not own."""
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (12, 96, 96, 3), np.uint8)
    found = set()
    for turn in range(40):
        litter = [np.full(int(n), turn, np.uint8) for n in generator.integers(1, 100_000, 20)]
        path = tmp_path / "clip.mp4"
        write_video(path, frames, 30)
        found.add(path.read_bytes())
        del litter
    assert len(found) == 1


def test_every_small_width_is_read_as_it_is(tmp_path: Path) -> None:
    """At 16, 24, 48 and 72 pixels decord takes padded rows for more channels."""
    generator = np.random.default_rng(0)
    path = tmp_path / "clip.mp4"
    for width in range(16, 101, 2):
        coarse = generator.integers(0, 256, (5, 26, 3), np.uint8)
        picture = coarse.repeat(4, 0).repeat(4, 1)[:, :width]
        write_video(path, [np.roll(picture, number, 0) for number in range(4)], 30)
        expected = list(read_frames(path, decoder="pyav"))
        assert expected[0].shape == (20, width, 3)
        assert np.abs(expected[0].mean((0, 1)) - picture.mean((0, 1))).max() < 4
        assert np.array_equal(list(read_frames(path)), expected), width
        assert np.array_equal(list(read_frames(path, [1, 3])), [expected[1], expected[3]]), width


@pytest.mark.skipif("decord" not in DECODERS, reason="decord has no wheel here")
def test_decord_is_not_believed_on_what_it_misreads(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, numbered(3, 48), 30)
    with pytest.raises(ValueError, match=r"4 channels.*'auto' or 'pyav'"):
        list(read_frames(path, decoder="decord"))
