"""Videos as phones, browsers and editors write them: the frame asked for by number is the one that is shown."""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from iper_toolkit import video
from iper_toolkit.video import BrokenVideo, FrameCursor, probe, read_frames

NUM_FRAMES = 40


def pictures(count: int = NUM_FRAMES, size: int = 64) -> list[np.ndarray]:
    """Frames that show their number, over a pattern that moves."""
    noise = np.random.default_rng(0).integers(0, 256, (size * 2, size * 2, 3), np.uint8)
    noise = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    found = []
    for number in range(count):
        frame = np.ascontiguousarray(noise[number % size :][:size, number // 2 % size :][:, :size])
        cv2.putText(frame, str(number), (4, 44), 0, 1.2, (255, 255, 255), 3)
        found.append(frame)
    return found


def encode(
    path: Path,
    codec: str,
    *,
    b_frames: int = 0,
    gop: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    count: int = NUM_FRAMES,
    form: str | None = None,
    stamps: Sequence[int] | None = None,
) -> None:
    """Write `pictures`; `stamps` are milliseconds, else there are 30 frames a second."""
    with av.open(str(path), "w", format=form, options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=1000 if stamps else 30)
        stream.width = stream.height = 64
        stream.pix_fmt = pixel_format
        stream.options = {"x265-params": "log-level=none"} | (options or {})
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        if stamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = stamps[number] if stamps else number
            if stamps:
                frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def remux(
    source: Path,
    target: Path,
    keep: Callable[[int], bool] = lambda number: True,
    *,
    shift: int = 0,
    form: str | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Copy the packets that are to be kept, `shift` frames earlier, without encoding them again."""
    with (
        av.open(str(source)) as read,
        av.open(str(target), "w", format=form, options=options or {}) as out,
    ):
        from_stream = read.streams.video[0]
        stream = out.add_stream_from_template(from_stream)
        frame = round(Fraction(1, 30) / from_stream.time_base)
        for number, packet in enumerate(read.demux(from_stream)):
            if packet.dts is not None and keep(number):
                packet.pts -= shift * frame
                packet.dts -= shift * frame
                packet.stream = stream
                out.mux(packet)


def sequential(path: Path) -> list[np.ndarray]:
    """What FFmpeg gives from the first frame to the last."""
    with av.open(str(path)) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]


FORMATS = [
    ("a.mp4", "libx264", {"b_frames": 2}),
    ("a.avi", "libx264", {"b_frames": 0}),
    ("open.mkv", "libx264", {"b_frames": 3, "options": {"x264-params": "open-gop=1:keyint=8"}}),
    ("a.ts", "libx264", {"b_frames": 2}),
    ("hevc.mp4", "libx265", {"b_frames": 2}),
    ("hevc.mov", "libx265", {"b_frames": 4, "gop": 20}),
    ("a.mov", "mpeg4", {"b_frames": 2}),
    ("a.mpg", "mpeg2video", {"b_frames": 2}),
    ("b.avi", "mpeg2video", {"b_frames": 0}),
    ("vp9.webm", "libvpx-vp9", {"options": {"deadline": "realtime", "cpu-used": "8"}}),
    ("vp8.webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "10"}}),
    ("av1.mp4", "libsvtav1", {"options": {"preset": "12"}}),
    ("ten bit.mp4", "libx265", {"b_frames": 2, "pixel_format": "yuv420p10le"}),
    ("interlaced.mp4", "libx264", {"options": {"x264-params": "interlaced=1"}}),
    ("transport in.mp4", "libx264", {"b_frames": 2, "form": "mpegts"}),
]


@pytest.mark.parametrize(("name", "codec", "how"), FORMATS, ids=[name for name, *_ in FORMATS])
def test_every_frame_by_number_is_the_one_that_is_shown(
    tmp_path: Path, name: str, codec: str, how: dict
) -> None:
    path = tmp_path / name
    encode(path, codec, **how)
    expected = sequential(path)
    info = probe(path)
    assert info.num_frames == len(expected) == NUM_FRAMES
    assert 29.5 < info.fps < 30.5
    orders = [range(NUM_FRAMES), range(NUM_FRAMES - 1, -1, -7), [5, 38, 6, 31, 0, 39]]
    with FrameCursor(path) as cursor:
        for number in (number for order in orders for number in order):
            assert np.array_equal(cursor.read(number), expected[number]), number
    wanted = [0, 7, 7, 23, 39]
    for number, frame in zip(wanted, read_frames(path, wanted), strict=True):
        assert np.array_equal(frame, expected[number])


def test_what_an_edit_list_hides_does_not_count(tmp_path: Path) -> None:
    """As phones trim, and `ffmpeg -ss ... -c copy`: lead-in packets are stored, and not shown."""
    whole, trimmed = tmp_path / "whole.mp4", tmp_path / "trimmed.mp4"
    encode(whole, "libx264", b_frames=2, gop=60)
    remux(whole, trimmed, shift=16, options={"avoid_negative_ts": "disabled", "use_editlist": "1"})
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames == NUM_FRAMES  # stored
    assert probe(trimmed).num_frames == NUM_FRAMES - 16
    expected = sequential(whole)[16:]
    with FrameCursor(trimmed) as cursor:
        for number in (0, 23, 4):
            assert np.array_equal(cursor.read(number), expected[number])
        with pytest.raises(BrokenVideo, match="no frame 24"):
            cursor.read(24)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
def test_a_recording_may_begin_within_a_group_of_pictures(tmp_path: Path, codec: str) -> None:
    whole, cut = tmp_path / "whole.ts", tmp_path / "cut.ts"
    encode(whole, codec, b_frames=2, gop=12)
    remux(whole, cut, lambda number: number >= 5)
    expected = sequential(whole)
    found = list(read_frames(cut))
    assert probe(cut).num_frames == len(found) >= NUM_FRAMES - 12 - 3
    for frame, true in zip(found[::-1], expected[::-1], strict=False):
        assert np.array_equal(frame, true)


def test_a_browsers_recording_has_the_rate_of_its_stamps(tmp_path: Path) -> None:
    """MediaRecorder: millisecond stamps, a little unsteady, and 1000 frames a second in the header."""
    path = tmp_path / "me.webm"
    stamps = [number * 1000 // 30 + number * 7 % 9 for number in range(NUM_FRAMES)]
    encode(path, "libvpx", options={"deadline": "realtime", "cpu-used": "8"}, stamps=stamps)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000
    assert 29 < probe(path).fps < 31
    single = tmp_path / "single.webm"
    encode(single, "libvpx", options={"deadline": "realtime"}, stamps=[0], count=1)
    assert probe(single).fps == 30


def test_a_comment_that_is_no_utf8_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, "libx264")
    remux_with_comment = tmp_path / "b.mp4"
    with (
        av.open(str(path)) as read,
        av.open(str(remux_with_comment), "w") as out,
    ):
        out.metadata["comment"] = "cafe"
        stream = out.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = remux_with_comment.read_bytes()
    assert data.count(b"cafe") == 1
    remux_with_comment.write_bytes(data.replace(b"cafe", b"caf\xe9"))
    assert probe(remux_with_comment).num_frames == NUM_FRAMES
    assert video.read_comment_tag(remux_with_comment).startswith("caf")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("m.mp4", "mpeg4")])
@pytest.mark.parametrize("how", ["zeros", "bits"])
def test_damage_that_the_decoder_reports_is_an_error(
    tmp_path: Path, name: str, codec: str, how: str
) -> None:
    """Not all damage can be noticed: some bits decode as another picture that is as valid."""
    path, damaged = tmp_path / name, tmp_path / f"damaged {name}"
    encode(path, codec, b_frames=2)
    expected = sequential(path)
    data = path.read_bytes()
    start, end = data.index(b"mdat") + 600, data.index(b"moov") - 20
    chance = random.Random(0)
    found, changed = 0, 0
    for _ in range(12):
        broken = bytearray(data)
        if how == "zeros":
            position = chance.randrange(start, end - 8)
            broken[position : position + 8] = bytes(8)
        else:
            for _ in range(10):
                broken[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
        damaged.write_bytes(broken)
        try:
            got = list(read_frames(damaged))
        except BrokenVideo as error:
            found += "copy or download it again" in str(error)
            changed += 1
            continue
        changed += any((a != b).any() for a, b in zip(got, expected, strict=True))
    assert changed >= 10
    assert found > changed / 2


def test_a_header_that_claims_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    encode(path, "libx264", count=2)
    monkeypatch.setattr("iper_toolkit.images.MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match="64 x 64 pixels; pictures have at most"):
        probe(path)
