"""Videos as phones, browsers and editors write them: the frame asked for by number is the one that is shown."""

import importlib.util
import random
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import av.logging
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


_X264_OPEN = {"x264-params": "open-gop=1:keyint=12"}
_X265 = {"preset": "ultrafast"}
_X265_CLOSED = _X265 | {"x265-params": "open-gop=0:log-level=none"}
_REALTIME = {"deadline": "realtime", "cpu-used": "8"}
FORMATS = [
    *((f"plain.{end}", "libx264", {}) for end in ("mp4", "avi")),
    *((f"b.{end}", "libx264", {"b_frames": 2}) for end in ("mov", "avi", "ts", "3gp")),
    *((f"open.{end}", "libx264", {"b_frames": 3, "options": _X264_OPEN}) for end in ("mp4", "mkv", "avi")),
    *((f"hevc.{end}", "libx265", {"b_frames": 3, "options": _X265}) for end in ("mp4", "mov", "ts")),
    ("closed.mp4", "libx265", {"b_frames": 3, "options": _X265_CLOSED}),
    *((f"mpeg4.{end}", "mpeg4", {"b_frames": 2}) for end in ("mp4", "mov", "avi", "mkv")),
    *((f"mpeg2.{end}", "mpeg2video", {"b_frames": 2}) for end in ("mpg", "mkv", "avi", "ts")),
    ("plain mpeg2.avi", "mpeg2video", {}),
    *((f"vp9.{end}", "libvpx-vp9", {"options": _REALTIME}) for end in ("webm", "mp4")),
    ("vp8.webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "10"}}),
    *((f"av1.{end}", "libsvtav1", {"options": {"preset": "12"}}) for end in ("mp4", "webm")),
    ("ten bit.mp4", "libx265", {"b_frames": 2, "options": _X265, "pixel_format": "yuv420p10le"}),
    ("interlaced.mp4", "libx264", {"options": {"x264-params": "interlaced=1"}}),
    ("jpegs.avi", "mjpeg", {"pixel_format": "yuvj420p"}),
    ("transport in.mp4", "libx264", {"b_frames": 2, "form": "mpegts"}),
]  # fmt: skip


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


@pytest.mark.parametrize("begins", ["at the second keyframe", "within a group"])
@pytest.mark.parametrize(
    ("end", "codec", "options"),
    [
        ("ts", "libx264", {}),
        ("avi", "libx264", _X264_OPEN),
        ("mp4", "libx264", _X264_OPEN),
        ("mp4", "libx265", _X265),
        ("ts", "mpeg2video", {}),
        ("mkv", "mpeg2video", {}),
    ],
)
def test_a_recording_may_begin_anywhere(
    tmp_path: Path, end: str, codec: str, options: dict[str, str], begins: str
) -> None:
    whole, cut = tmp_path / f"whole.{end}", tmp_path / f"cut.{end}"
    encode(whole, codec, b_frames=2, gop=12, options=options)
    with av.open(str(whole)) as source:
        keys = [k for k, packet in enumerate(source.demux(video=0)) if packet.is_keyframe]
    first = keys[1] if begins == "at the second keyframe" else 5
    remux(whole, cut, lambda number: number >= first)
    expected = sequential(cut)
    assert NUM_FRAMES - keys[2] <= len(expected) <= NUM_FRAMES - first
    found = list(read_frames(cut))
    assert probe(cut).num_frames == len(found) == len(expected)
    for frame, true, original in zip(
        found[::-1], expected[::-1], sequential(whole)[::-1], strict=False
    ):
        assert np.array_equal(frame, true)
        assert np.array_equal(frame, original)


def test_a_vp9_recording_that_begins_within_a_group_shows_what_follows(tmp_path: Path) -> None:
    """FFmpeg's own reading stops at the first packet that it cannot decode."""
    whole, cut = tmp_path / "whole.webm", tmp_path / "cut.webm"
    encode(whole, "libvpx-vp9", gop=12, options=_REALTIME)
    remux(whole, cut, lambda number: number >= 5)
    assert np.array_equal(list(read_frames(cut)), sequential(whole)[12:])


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


# The least of twelve damages that must be found, with zeros and with flipped bits.
DAMAGED = [
    ("a.mp4", "libx264", {}, 12, 10),
    ("a.mkv", "libx264", {}, 12, 10),
    ("a.avi", "libx264", {}, 10, 10),
    ("a.mp4", "libx265", _X265, 12, 1),  # its arithmetic code gives pictures of almost any bits
    ("a.mp4", "mpeg4", {}, 11, 11),
    ("a.avi", "mpeg2video", {}, 10, 10),
    ("a.webm", "libvpx-vp9", _REALTIME, 9, 10),
    ("a.mp4", "libsvtav1", {"preset": "12"}, 5, 10),
]


@pytest.mark.parametrize(("name", "codec", "options", "zeroed", "flipped"), DAMAGED)
def test_damage_is_an_error(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], zeroed: int, flipped: int
) -> None:
    """Not all damage can be noticed: some bits decode as another picture that is as valid."""
    path = tmp_path / name
    encode(path, codec, b_frames=0 if codec.startswith(("libvpx", "libsvt")) else 2, options=options)  # fmt: skip
    with av.open(str(path)) as source:
        parts = [(packet.pos, packet.size) for packet in source.demux(video=0) if packet.size]
    start, end = parts[0][0] + 600, parts[-1][0]
    chance, data, damaged = random.Random(0), path.read_bytes(), tmp_path / f"damaged {name}"
    found = {"zeroed": 0, "flipped": 0}
    for number in range(24):
        broken, how = bytearray(data), "flipped" if number % 2 else "zeroed"
        if how == "zeroed":
            position = chance.randrange(start, end - 8)
            broken[position : position + 8] = bytes(8)
        else:
            for _ in range(10):
                broken[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
        damaged.write_bytes(broken)
        try:
            probe(damaged)
        except BrokenVideo:
            found[how] += 1
    assert found["zeroed"] >= zeroed
    assert found["flipped"] >= flipped


@pytest.mark.parametrize("end", ["mkv", "webm", "avi", "ts", "mp4"])
def test_a_file_that_is_cut_short(tmp_path: Path, end: str) -> None:
    path, cut = tmp_path / f"a.{end}", tmp_path / f"cut.{end}"
    encode(path, "libvpx" if end == "webm" else "libx264")
    if end == "mp4":  # the index in front, else the file does not even open
        whole = path.rename(tmp_path / "whole.mp4")
        remux(whole, path, options={"movflags": "faststart"})
    data = path.read_bytes()
    for share in (0.5, 0.8):
        cut.write_bytes(data[: int(len(data) * share) | 1])
        with pytest.raises(BrokenVideo, match="copy or download it again"):
            probe(cut)


def test_errors_of_one_thread_are_heard_while_another_stops_listening(tmp_path: Path) -> None:
    """The level from which FFmpeg reports is one for all threads."""
    path, damaged = tmp_path / "a.mp4", tmp_path / "damaged.mp4"
    encode(path, "mpeg4")
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[middle : middle + 60] = bytes(60)
    damaged.write_bytes(data)
    level = av.logging.get_level()

    def is_broken(which: Path) -> bool:
        try:
            probe(which)
        except BrokenVideo:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(is_broken, [damaged, path] * 10)) == [True, False] * 10
    assert av.logging.get_level() == level


@pytest.mark.parametrize(
    ("name", "matrix", "show"),
    [
        ("quarter turn", (0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ("half turn", (-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ("three quarters", (0, -1, 1, 0), np.rot90),
        ("mirrored", (-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ("upside down", (1, 0, 0, -1), lambda image: image[::-1]),
        ("mirrored and turned", (0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_a_video_is_turned_and_mirrored_as_it_says(
    tmp_path: Path, name: str, matrix: tuple[int, ...], show: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = tmp_path / "a.mp4"
    video.write_video(path, [picture[:32] for picture in pictures(3)], 30)
    stored = sequential(path)

    def packed(a: int, b: int, c: int, d: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    data = path.read_bytes()
    position = data.index(packed(1, 0, 0, 1), data.index(b"tkhd"))
    path.write_bytes(data[:position] + packed(*matrix) + data[position + 36 :])
    found, info = list(read_frames(path)), probe(path)
    assert np.array_equal(found, [show(frame) for frame in stored])
    assert (info.height, info.width) == found[0].shape[:2]
    assert info.turned


@pytest.mark.skipif(not importlib.util.find_spec("decord"), reason="decord has no wheel here")
@pytest.mark.parametrize(
    ("name", "codec", "how", "reason"),
    [
        ("a.ts", "libx264", {"b_frames": 2}, "in another order"),
        ("a.mp4", "mpeg4", {}, "other pixels"),
        ("a.mp4", "libx265", {"options": _X265, "pixel_format": "yuv420p10le"}, "other colours"),
        ("a.mp4", "libx264", {"options": {"x264-params": "interlaced=1"}}, "interlaced"),
    ],
)
def test_decord_is_refused_where_it_reads_something_else(
    tmp_path: Path, name: str, codec: str, how: dict, reason: str
) -> None:
    path = tmp_path / name
    encode(path, codec, **how)
    with pytest.raises(ValueError, match=rf"{reason}.*'auto' or 'pyav'"):
        next(read_frames(path, decoder="decord"))


@pytest.mark.skipif(not importlib.util.find_spec("decord"), reason="decord has no wheel here")
def test_decord_does_not_show_what_an_edit_list_hides(tmp_path: Path) -> None:
    whole, trimmed = tmp_path / "whole.mp4", tmp_path / "trimmed.mp4"
    encode(whole, "libx264", gop=60)
    remux(whole, trimmed, shift=16, options={"avoid_negative_ts": "disabled", "use_editlist": "1"})
    with pytest.raises(ValueError, match="it shows 24"):
        next(read_frames(trimmed, decoder="decord"))


@pytest.mark.parametrize(
    ("stamps", "fps"),
    [
        ([40 * k for k in range(20)], 25),  # the header says 1000
        ([33 * k + (5 * k) % 11 for k in range(20)], 30),
        ([5000 + 33 * k for k in range(20)], 30.3),
        ([0, 33], 30.3),
        ([100 * k for k in range(9)] + [1800], 5),  # a pause
        ([5 * k for k in range(20)], 200),
    ],
)
def test_the_rate_is_frames_over_the_span_of_their_stamps(
    tmp_path: Path, stamps: list[int], fps: float
) -> None:
    path = tmp_path / "a.mkv"
    encode(path, "libvpx", options=_REALTIME, stamps=stamps, count=len(stamps))
    assert probe(path).fps == pytest.approx(fps, rel=0.01)


def test_a_header_that_is_nearly_right_is_right(tmp_path: Path) -> None:
    """Stamps in milliseconds round a rate; the header's is exact."""
    path = tmp_path / "a.mkv"
    encode(path, "libx264", count=20)  # 0, 33, 67 ... ms
    assert probe(path).fps == 30


def test_a_header_that_claims_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    encode(path, "libx264", count=2)
    monkeypatch.setattr("iper_toolkit.images.MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match="64 x 64 pixels; pictures have at most"):
        probe(path)
