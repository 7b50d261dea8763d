"""A user's arrays: read whole, or refused before memory is taken for them."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iper_toolkit.array_files import ArrayFile, Header, read_npy, read_npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        np.zeros((0, 5), np.float32),
        np.array(3.5),
        np.array(True),
        np.arange(5, dtype=">f8"),
        np.array(["left", "right"]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_through(tmp_path: Path, save: Callable[..., None], array: np.ndarray) -> None:
    save(tmp_path / "a.npz", values=array, other=np.ones(3))
    read = read_npz(tmp_path / "a.npz")
    assert sorted(read) == ["other", "values"]
    assert read["values"].dtype == array.dtype
    np.testing.assert_array_equal(read["values"], array)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)


def test_only_wanted_arrays_are_read_and_rows_come_one_by_one(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(0, 255, (4, 5, 6), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", table=table, objects=np.array([None], object))
    assert list(read_npz(tmp_path / "a.npz", ["table", "absent"])) == ["table"]
    with ArrayFile(tmp_path / "a.npz") as file:
        assert file.headers["table"] == Header((4, 5, 6), np.dtype(np.uint8), False)
        np.testing.assert_array_equal(list(file.rows("table")), table)
        with pytest.raises(
            ValueError, match=r"a\.npz has no array called mask; it holds objects, table"
        ):
            file.read("mask")
    with pytest.raises(ValueError, match="objects holds pickled objects"):
        read_npz(tmp_path / "a.npz")


def _peak_bytes(function: Callable[[], object], message: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_before_they_unfold(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.npz"
    table = io.BytesIO()
    np.save(table, np.zeros((64, 1 << 20), np.uint8))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("masks.npy", table.getvalue())
    del table
    assert bomb.stat().st_size < 1 << 20
    limited = lambda: read_npz(bomb, max_bytes=1 << 25)  # noqa: E731
    assert _peak_bytes(limited, r"bomb\.npz unfolds to 67108864 bytes.*masks is uint8") < 1 << 21

    def too_long(headers: object) -> None:
        raise ValueError("masks has 64 frames; the clip has 3.")

    checked = lambda: read_npz(bomb, check=too_long)  # noqa: E731
    assert _peak_bytes(checked, r"bomb\.npz: masks has 64 frames") < 1 << 21


def test_headers_that_promise_more_than_the_file_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(1000,)", b"(9000,)"))
    with pytest.raises(ValueError, match=r"a\.npy is no whole \.npy file: it says float64\[9000\]"):
        read_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "long.npz", "w") as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"shape": (1 << 40,), "fortran_order": False, "descr": "<f8"}
        )
        file.write(bytes(800))
    with pytest.raises(ValueError, match=r"long\.npz is damaged: x says float64\[1099511627776\]"):
        read_npz(tmp_path / "long.npz")


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.npz is no whole \.npz file"):
        read_npz(tmp_path / "text.npz")
    (tmp_path / "text.npy").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.npy is no whole \.npy file"):
        read_npy(tmp_path / "text.npy")
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "absent.npz")
    np.savez(tmp_path / "cut.npz", x=np.zeros(1000))
    data = bytearray((tmp_path / "cut.npz").read_bytes())
    data[2000] ^= 255
    (tmp_path / "cut.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"cut\.npz is damaged: x cannot be read"):
        read_npz(tmp_path / "cut.npz")
    with zipfile.ZipFile(tmp_path / "junk.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(ValueError, match=r"junk\.npz: x is no plain array"):
        read_npz(tmp_path / "junk.npz")
