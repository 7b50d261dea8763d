"""The synthetic iPER on disk: layout, formats, marks, determinism, resume, refusals."""

import csv
import hashlib
import io
import pickle
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from iper_toolkit.body import load_body
from iper_toolkit.protocols import load_protocol
from iper_toolkit.synthetic import SIZES, write_dataset
from iper_toolkit.synthetic import dataset as synthetic_dataset
from iper_toolkit.synthetic.files import MARK
from iper_toolkit.video import probe

TINY = SIZES["tiny"]


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    write_dataset(root, size="tiny", seed=7)
    return root


def clips(root: Path) -> list[str]:
    return (root / "val.txt").read_text().split()


def test_layout_and_counts(root: Path) -> None:
    assert clips(root) == [
        f"{person:03d}/{outfit}/{action}"
        for person, outfit in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))
        for action in (1, 2)
    ]
    assert (root / "train.txt").read_text() == ""
    for clip in clips(root):
        frames = sorted((root / "images_HD" / clip).iterdir())
        assert [frame.name for frame in frames] == [f"{i:04d}.jpg" for i in range(TINY.frames)]
        assert cv2.imread(str(frames[0])).shape == (TINY.pixels, TINY.pixels, 3)


def test_fits_have_the_official_keys_and_shapes(root: Path) -> None:
    for clip in clips(root):
        with (root / "smpls" / clip / "pose_shape.pkl").open("rb") as stream:
            fit = pickle.load(stream, encoding="latin1")
        assert fit["cams"].shape == (TINY.frames, 3)
        assert fit["pose"].shape == (TINY.frames, 72)
        assert fit["shape"].shape == (TINY.frames, 10)
        assert fit["body_id"] == load_body("open").id
        assert fit["synthetic"] is True
        with (root / "smpls" / clip / "kps.pkl").open("rb") as stream:
            keypoints = pickle.load(stream, encoding="latin1")
        assert keypoints["kps"].shape == (TINY.frames, 19, 2)
        assert np.abs(keypoints["kps"]).max() < 1
        assert keypoints["synthetic"] is True


def test_pickles_name_no_module_that_numpy_1_lacks(root: Path) -> None:
    data = (root / "smpls/001/1/1/pose_shape.pkl").read_bytes()
    assert b"numpy._core" not in data


def test_masks_cover_the_keypoints(root: Path) -> None:
    for clip in clips(root):
        with np.load(root / "masks" / f"{clip}.npz", allow_pickle=False) as archive:
            masks = archive["masks"]
            assert str(archive["synthetic"]) == MARK
        assert masks.shape == (TINY.frames, TINY.pixels, TINY.pixels)
        assert masks.dtype == np.uint8
        assert 0.05 < (masks / 255).mean() < 0.35
        # Nobody is cut off by the frame.
        edge = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]])
        assert edge.max() == 0
        keypoints = pickle.loads((root / "smpls" / clip / "kps.pkl").read_bytes())["kps"]
        pixels = ((keypoints + 1) / 2 * TINY.pixels).astype(int)
        frame = np.arange(TINY.frames)[:, None]
        inside = masks[frame, pixels[..., 1], pixels[..., 0]] > 0
        # Ears and wrists may lie beside the silhouette by a pixel.
        assert inside.mean() > 0.95


def test_everything_says_that_it_is_synthetic(root: Path) -> None:
    info = tomllib.loads((root / "dataset.toml").read_text())
    assert info["synthetic"] is True
    assert info["complete"] is True
    assert (info["seed"], info["size"]) == (7, "tiny")
    pictures = list(root.rglob("*.jpg"))
    assert len(pictures) > 200
    for picture in pictures:
        assert MARK.encode() in picture.read_bytes()[:200], picture


def test_the_static_background_is_static(root: Path) -> None:
    """Far from the person only the sensor changes between frames."""
    frames = np.stack(
        [
            cv2.imread(str(path)).astype(float)
            for path in sorted((root / "images_HD/001/1/1").iterdir())
        ]
    )
    with np.load(root / "masks/001/1/1.npz") as archive:
        masks = archive["masks"]
    # Above the floor there is no shadow.
    free = (masks.max(0) == 0) & (np.arange(TINY.pixels)[:, None] < TINY.pixels * 0.5)
    assert free.mean() > 0.15
    deviation = frames.std(0).mean(-1)[free]
    assert 0.2 < deviation.mean() < 5


def test_the_person_fills_a_good_part_of_the_frame(root: Path) -> None:
    for clip in clips(root):
        if not clip.endswith("/1"):
            continue
        with np.load(root / "masks" / f"{clip}.npz") as archive:
            rows = np.nonzero(archive["masks"][0].max(1) > 127)[0]
        assert 0.55 <= np.ptp(rows) / TINY.pixels <= 0.9


def test_protocol_and_truth_tables_name_what_is_there(root: Path) -> None:
    protocol = load_protocol(root / "protocol")
    assert set(protocol.clips) == set(clips(root))
    for count in (1, 2, 4, 8):
        for case in protocol.imitation_cases("all", count):
            assert len(set(case.source_frames)) == count
            assert max(*case.source_frames, case.driver_last, case.real_last) < TINY.frames
            if case.kind == "cross":
                assert case.driver.split("/")[0] != case.clip.split("/")[0]
                assert case.driver.endswith("/2")
    transfers = protocol.transfer_cases()
    assert len(transfers) == 8  # two people with two outfits: both ways, both actions
    assert all(case.person.split("/")[0] == case.outfit_from.split("/")[0] for case in transfers)
    assert protocol.view_cases()
    for table, columns in (("transfer", 4), ("views", 4)):
        with (root / "truth" / f"{table}.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) > 1
        for row in rows[1:]:
            assert len(row) == columns
            assert (root / row[-1]).is_file()


def test_transfer_truth_is_the_same_motion_in_other_clothes(root: Path) -> None:
    """Same place and pose: outside of both silhouettes the pictures agree, inside they differ."""
    own = root / "images_HD/001/1/2"
    other = root / "truth/transfer/001/1/2/wearing_001_2"
    with np.load(root / "masks/001/1/2.npz") as archive:
        masks = archive["masks"]
    with np.load(other / "masks.npz") as archive:
        worn = archive["masks"]
    overlap = (np.minimum(masks, worn) > 127).sum() / (np.maximum(masks, worn) > 127).sum()
    assert overlap > 0.7
    first, second = (cv2.imread(str(folder / "0003.jpg")).astype(int) for folder in (own, other))
    difference = np.abs(first - second).mean(-1)
    nobody = (masks[3] == 0) & (worn[3] == 0)
    both = (masks[3] == 255) & (worn[3] == 255)
    assert difference[nobody].mean() < 4
    assert difference[both].mean() > 12


def test_view_truth_begins_with_the_instant_itself(root: Path) -> None:
    folder = root / "truth/views/001/1/2/at_0008"
    first = cv2.imread(str(folder / "000.jpg")).astype(int)
    frame = cv2.imread(str(root / "images_HD/001/1/2/0008.jpg")).astype(int)
    assert np.abs(first - frame).mean() < 4  # other grain
    with np.load(folder / "masks.npz") as archive:
        assert archive["masks"].shape == (8, TINY.pixels, TINY.pixels)
    fit = pickle.loads((folder / "pose_shape.pkl").read_bytes())
    assert len(fit["pose"]) == 8
    assert np.ptp(fit["pose"][:, 3:], axis=0).max() == 0  # only the root turns


def test_same_seed_same_bytes_with_any_number_of_workers(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", size="tiny", seed=7, workers=2)
    assert digests(tmp_path / "again") == digests(root)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A set of two people that is drawn in a second, under the name "tiny"."""
    size = synthetic_dataset.Size(2, (1,), 4, 2.0, 64, instants=1, other_person_every=2)
    monkeypatch.setitem(synthetic_dataset.SIZES, "tiny", size)
    synthetic_dataset._person.cache_clear()
    yield
    synthetic_dataset._person.cache_clear()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("stop", ["write_masks", "write_fit", "write_frames", "write_jpeg", "move"])
def test_an_interrupted_run_continues(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of an outfit: nothing half-written is believed, the end is the same."""
    write_dataset(tmp_path / "undisturbed", size="tiny", seed=7)
    target = tmp_path / "set"
    real = getattr(synthetic_dataset, stop)
    calls = 0

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(synthetic_dataset, stop, failing)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(target, size="tiny", seed=7)
    assert tomllib.loads((target / "dataset.toml").read_text())["complete"] is False
    monkeypatch.setattr(synthetic_dataset, stop, real)
    write_dataset(target, size="tiny", seed=7)
    assert digests(target) == digests(tmp_path / "undisturbed")


def test_a_finished_set_is_not_drawn_again(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    written = write_dataset(root, size="tiny", seed=7)
    assert (written.outfits_drawn, written.outfits_found) == (0, 5)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}


def test_progress_is_told(root: Path) -> None:
    (root / "masks/003/1/2.npz").unlink()  # one clip is missing: its outfit is finished again
    told: list[tuple[int, int, str]] = []
    write_dataset(root, size="tiny", seed=7, progress=lambda *what: told.append(what))
    assert told == [(10, 10, "003/1")]


def test_wrong_wishes_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiny, small, medium"):
        write_dataset(tmp_path, size="huge", seed=0)
    with pytest.raises(ValueError, match="0 or more"):
        write_dataset(tmp_path, size="tiny", seed=-1)
    with pytest.raises(ValueError, match="frames, mp4"):
        write_dataset(tmp_path, size="tiny", seed=0, frame_format="avi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        write_dataset(tmp_path, size="tiny", seed=0, workers=0)
    with pytest.raises(FileExistsError, match="another synthetic set: seed = 7"):
        write_dataset(root, size="tiny", seed=8)


def test_a_real_root_is_never_written_to(tmp_path: Path) -> None:
    frames = tmp_path / "images_HD/001/1/1"
    frames.mkdir(parents=True)
    (frames / "000.jpg").write_bytes(b"real")
    with pytest.raises(FileExistsError, match="not synthetic"):
        write_dataset(tmp_path, size="tiny", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["images_HD"]
    own = tmp_path / "own"
    own.mkdir()
    (own / "dataset.toml").write_text('name = "mine"\n')
    with pytest.raises(FileExistsError, match="real dataset"):
        write_dataset(own, size="tiny", seed=0)


@pytest.mark.usefixtures("few")
def test_training_seeds_split_people_and_mp4_is_marked(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", size="tiny", seed=1000, frame_format="mp4")
    root = tmp_path / "set"
    assert (root / "train.txt").read_text().split() == ["001/1/1", "001/1/2"]
    assert (root / "val.txt").read_text().split() == ["002/1/1", "002/1/2"]
    assert tomllib.loads((root / "dataset.toml").read_text())["purpose"] == "training"
    info = probe(root / "001_1_1.mp4")
    assert (info.num_frames, info.width, info.fps) == (4, 64, 2.0)
    assert info.comment == MARK
    assert not (root / "images_HD").exists()


def test_files_read_without_pickles_of_ours(root: Path) -> None:
    """A mask archive holds plain arrays only."""
    data = (root / "masks/001/1/1.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert set(archive.files) == {"masks", "synthetic"}
