"""Plain data comes through, whatever wrote it; anything else is refused before it runs."""

import collections
import pickle
import struct
import sys
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from iper_toolkit.unpickle import (
    UnsafePickle,
    parse_pickle,
    read_fit,
    read_keypoints19,
    read_pickle,
)

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def parse(data: bytes) -> object:
    return parse_pickle(data, "test.pkl")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
        np.arange(6, dtype=">f8"),
        np.zeros((0, 5)),
        np.array(3.5),
        np.array([True, False]),
        np.array([[1, 2**32 - 1]], np.uint32),
        np.array(["left", "right"]),
        np.array([b"ab", b"c"]),
        np.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_through(array: np.ndarray, protocol: int) -> None:
    read = parse(pickle.dumps(array, protocol))
    assert isinstance(read, np.ndarray)
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_scalars_and_sharing_come_through(protocol: int) -> None:
    shared = np.arange(3)
    content = {
        "list": [1, 2.5, "text", None, True, b"bytes", 1 << 70],
        "tuple": (shared, {"again": shared}),
        "set": {1, 2},
        "ordered": collections.OrderedDict([("b", 1), ("a", shared)]),
        "scalar": np.float32(0.25),
    }
    read = parse(pickle.dumps(content, protocol))
    assert isinstance(read, dict)
    assert read["list"] == content["list"]
    assert read["set"] == {1, 2}
    assert list(read["ordered"]) == ["b", "a"]
    assert read["scalar"] == np.float32(0.25)
    assert isinstance(read["scalar"], np.float32)
    assert read["tuple"][0] is read["tuple"][1]["again"]
    np.testing.assert_array_equal(read["tuple"][0], shared)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_matrix, sparse.csc_array])
def test_sparse_matrices_come_through(kind: type, protocol: int) -> None:
    dense = np.array([[0, 0.5, 0], [0.25, 0, 0.75]])
    read = parse(pickle.dumps(kind(dense), protocol))
    assert sparse.issparse(read)
    np.testing.assert_array_equal(read.toarray(), dense)


def test_modules_of_python_2_and_old_scipy_are_known() -> None:
    data = pickle.dumps(sparse.csc_matrix(np.eye(2)), 0)
    renamed = data.replace(b"scipy.sparse._csc", b"scipy.sparse.csc").replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )
    assert renamed != data
    np.testing.assert_array_equal(parse(renamed).toarray(), np.eye(2))  # type: ignore[attr-defined]
    old_set = b"c__builtin__\nset\n((lp0\nI3\natR."
    assert parse(old_set) == {3}


def test_bytes_that_python_2_stored_as_text_are_read_as_latin1() -> None:
    raw = np.array([1.5, -2.0]).tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    data = head + b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(raw)]) + raw + b"tb."
    np.testing.assert_array_equal(parse(data), [1.5, -2.0])


def _faked_chumpy(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Classes with the names and states of chumpy's, gone again before anything is read."""
    chumpy, ch, reordering = (
        types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")
    )
    plain = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering", "__qualname__": "Select"})
    ch.Ch, reordering.Select = plain, select  # type: ignore[attr-defined]
    for module in (chumpy, ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return plain, select


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chumpy_objects_become_arrays(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    with monkeypatch.context() as patch:
        plain, select = _faked_chumpy(patch)
        values = plain()
        values.x, values._dirty_vars, values._itr = np.arange(6.0).reshape(3, 2), set(), None
        picked = select()
        picked.a, picked.idxs, picked.preferred_shape = values, np.array([4, 1]), (2, 1)
        data = pickle.dumps({"shapedirs": values, "posedirs": picked}, protocol)
    assert "chumpy" not in sys.modules
    read = parse(data)
    assert isinstance(read, dict)
    np.testing.assert_array_equal(read["shapedirs"], np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(read["posedirs"], [[4], [1]])


class _Reduces:
    def __init__(self, function: Callable, *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


TRACE: list[object] = []


def leave_a_trace(*arguments: object) -> None:
    TRACE.append(arguments)


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


MALICIOUS = {
    "os.system": pickle.dumps(_Reduces(__import__("os").system, "false")),
    "eval": pickle.dumps(_Reduces(eval, "1 + 1")),
    "exec": b"c__builtin__\nexec\n(S'x = 1'\ntR.",
    "getattr": pickle.dumps(_Reduces(getattr, "text", "upper")),
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'false'\ntR.",
    "dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.system\x93.",
    "dotted numpy": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
    "own function": pickle.dumps(_Reduces(leave_a_trace, 1)),
    "nested": pickle.dumps({"a": [(1, {"b": _Reduces(leave_a_trace, 2)})]}),
    "inside an array": pickle.dumps(np.array([_Reduces(leave_a_trace, 3)], object)),
    "numpy.load": pickle.dumps(_Reduces(np.load, "/etc/hostname")),
    "numpy.fromfile": b"cnumpy\nfromfile\n(S'/etc/hostname'\ntR.",
    "numpy memmap": b"cnumpy\nmemmap\n(S'/etc/hostname'\ntR.",
    "numpy test runner": b"cnumpy.testing._private.utils\nruncstring\n(S'x=1'\ntR.",
    "codecs as file": b"ccodecs\nopen\n(S'/etc/hostname'\ntR.",
    "encode as pickle": b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",
    "partial": b"cfunctools\npartial\n(cos\nsystem\ntR.",
    "old class": b"(S'false'\nios\nsystem\n.",
    "object opcode": b"(cos\nsystem\nS'false'\no.",
    "new object": b"\x80\x02csubprocess\nPopen\nS'false'\n\x85\x81.",
    "copyreg of foreign class": b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
    "build on a function": _global("_codecs", "encode") + b"}S'__code__'\nNsb.",
    "build on a function by slots": _global("_codecs", "encode") + b"(N}S'__defaults__'\n(tstb.",
    "build on a class": _global("numpy", "dtype") + b"(N}S'__setstate__'\nNstb.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent id": b"Pevil\n.",
    "bytes of any length": b"c__builtin__\nbytes\n(I9999999999999\ntR.",
    "dict of other things": _global("collections", "OrderedDict") + b"(S'ab'\ntR.",
    "set of other things": b"cbuiltins\nset\n(S'ab'\ntR.",
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_pickles_are_refused_and_do_nothing(name: str) -> None:
    TRACE.clear()
    with pytest.raises(ValueError, match=r"test\.pkl (is refused|is cut off or no pickle)"):
        parse(MALICIOUS[name])
    assert not TRACE
    # what was refused left nothing behind
    np.testing.assert_array_equal(parse(pickle.dumps(np.arange(3))), np.arange(3))
    assert parse(pickle.dumps(b"\xff", 2)) == b"\xff"


def test_a_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(UnsafePickle, match=r"test\.pkl is refused: it asks for .*\.system.*\.npz"):
        parse(MALICIOUS["os.system"])


def _array_pickle(dtype: bytes, shape: bytes, raw: bytes, order: bytes = b"<") -> bytes:
    kind = (
        b"cnumpy\ndtype\n(S'" + dtype + b"'\nI0\nI1\ntR(I3\nS'" + order + b"'\nNNNI-1\nI-1\nI0\ntb"
    )
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return head + b"(I1\n" + shape + kind + b"I00\n" + raw + b"tb."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_array_pickle(b"O8", b"(I1\nt", b"S'12345678'\n"), "type 'O8'"),
        (_array_pickle(b"V8", b"(I1\nt", b"S'12345678'\n"), "type 'V8'"),
        (_array_pickle(b"f8", b"(I99999999999\nt", b"S'12345678'\n"), "with 8 bytes"),
        (_array_pickle(b"f8", b"(I-1\nt", b"S'12345678'\n"), "shape"),
        (_array_pickle(b"f8", b"(I1\nI1\nI2\nt", b"S'12345678'\n"), "with 8 bytes"),
        (_array_pickle(b"f8", b"(I1\nt", b"(lp0\nNa"), "array of objects"),
        (_array_pickle(b"f8", b"(I1\nt", b"N"), "NoneType"),
        (b"cnumpy\nndarray\n(I99999999999\ntR.", "name as data"),
        (b"cnumpy.core.multiarray\nscalar\n(NNtR.", "plain type"),
        (
            b"cscipy.sparse\ncsc_matrix\n)R}S'_shape'\n(I999999\nI999999\ntsb.",
            "sparse matrix of 999999",
        ),
        (b"cchumpy.ch\nCh\n)R.", "lacks its x"),
        (b"\x80\x02]q\x00h\x00a.", "contains itself"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo entry"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_harmless_names_with_harmful_arguments(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(data)


@pytest.mark.parametrize(
    "doubled", [lambda x: [x, x], lambda x: (x, x), lambda x: {"a": x, "b": x}]
)
def test_doubling_references_are_refused_at_once(doubled: Callable[[object], object]) -> None:
    value: object = [1]
    for _ in range(200):
        value = doubled(value)
    with pytest.raises(UnsafePickle, match="written out, it has more than"):
        parse(pickle.dumps(value))


_DOUBLING = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04}" + _DOUBLING + b"Ns.",
        b"\x80\x04}(" + _DOUBLING + b"Nu.",
        b"\x80\x04(" + _DOUBLING + b"Nd.",
        b"\x80\x04\x8f(" + _DOUBLING + b"\x90.",
        b"\x80\x04(" + _DOUBLING + b"\x91.",
        b"\x80\x04ccollections\nOrderedDict\n](" + _DOUBLING + b"N\x86e\x85R.",
        b"\x80\x04cbuiltins\nset\n](" + _DOUBLING + b"e\x85R.",
    ],
    ids=["setitem", "setitems", "dict", "additems", "frozenset", "OrderedDict", "set"],
)
def test_keys_that_would_take_for_ever_to_hash_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="tuple as a key"):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02c_codecs\nencode\nU\x01a" + _DOUBLING + b"\x86R.",
        b"\x80\x02cnumpy\ndtype\n" + _DOUBLING + b"\x85R.",
        _array_pickle(b"f8", _DOUBLING, b"S'12345678'\n"),
        _array_pickle(b"f8", _DOUBLING + b"\x85", b"S'12345678'\n"),
    ],
    ids=["encoding", "dtype", "shape", "length"],
)
def test_messages_do_not_write_out_what_is_endless(data: bytes) -> None:
    with pytest.raises(ValueError, match="tuple"):
        parse(data)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_files_cut_off_anywhere_are_refused(protocol: int) -> None:
    data = pickle.dumps({"cams": np.ones((3, 3)), "pose": [1, 2]}, protocol)
    for end in range(len(data)):
        with pytest.raises(ValueError, match="cut off or no pickle"):
            parse(data[:end])


def test_a_bad_frame_length_of_a_pickle_reserves_no_memory() -> None:
    with pytest.raises(ValueError, match="cut off or no pickle"):
        parse(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"few.")


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="RecursionError"):
        parse(b"]" * 100_000 + b"a" * 99_999 + b".")


def test_a_dict_key_nested_without_end_is_refused() -> None:
    with pytest.raises(UnsafePickle, match="tuple as a key"):
        parse(b"})" + b"\x85" * 200_000 + b"Ns.")


def _shared(value: bytes, use: bytes, times: int) -> bytes:
    """A list of `times` uses of one value, which stands in the file once."""
    return b"\x80\x04" + value + b"q\x000](" + use * times + b"e."


def _bombs() -> dict[str, bytes]:
    text = b"X" + struct.pack("<I", 50_000) + bytes(50_000)
    array = _array_pickle(b"u1", b"(I50000\nt", b"h\x00", b"|")[:-1]
    numbers = b"(" + b"N" * 10_000 + b"t"
    pairs = b"](" + b"".join(b"(J" + struct.pack("<i", i) + b"Nt" for i in range(1_000)) + b"e"
    return {
        "texts encoded": _shared(text, b"c_codecs\nencode\nh\x00\x85R", 2_000),
        "arrays of the same bytes": _shared(text, array, 400),
        "calls with long arguments": _shared(numbers, b"cnumpy\ndtype\nh\x00R", 200),
        "objects with long arguments": _shared(numbers, b"cnumpy\ndtype\nh\x00\x81", 200),
        "dicts of the same pairs": _shared(pairs, b"ccollections\nOrderedDict\nh\x00\x85R", 4_000),
        "a table of one long text": b"}X\4\0\0\0cams"
        + _shared(text, b"h\x00", 10_000)[2:-1]
        + b"s.",
        "lists without end": b"](" + b"]" * 400_000 + b"e.",
        "a list of one array": _shared(pickle.dumps(np.zeros(6_000), 2)[2:-1], b"h\x00", 10_000),
    }


@pytest.mark.parametrize("name", _bombs())
def test_small_files_do_not_take_much_memory(name: str) -> None:
    data = _bombs()[name]
    assert len(data) < 500_000
    tracemalloc.start()
    try:
        with pytest.raises(UnsafePickle, match=r"test\.pkl is refused: "):
            np.asarray(parse(data))
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally:
        tracemalloc.stop()


# --- fits -----------------------------------------------------------------------------------------


def _write_fit(folder: Path, **changes: object) -> Path:
    fit = {"cams": np.ones((4, 3)), "pose": np.zeros((4, 72)), "shape": np.zeros((4, 10))}
    path = folder / "pose_shape.pkl"
    path.write_bytes(pickle.dumps({**fit, **changes}, 2))
    return path


def test_a_fit_is_read(tmp_path: Path) -> None:
    fit = read_fit(_write_fit(tmp_path, body_id="open-body-1"))
    assert [fit[key].shape for key in ("cams", "pose", "shape")] == [(4, 3), (4, 72), (4, 10)]
    assert fit["cams"].dtype == np.float32
    assert fit["body_id"] == "open-body-1"


@pytest.mark.parametrize("shape", [np.arange(10.0), np.arange(10.0)[None]])
def test_a_shape_stored_once_is_repeated(tmp_path: Path, shape: np.ndarray) -> None:
    fit = read_fit(_write_fit(tmp_path, shape=shape))
    np.testing.assert_array_equal(fit["shape"], np.tile(np.arange(10.0, dtype=np.float32), (4, 1)))


def _with_nan(*size: int) -> np.ndarray:
    values = np.zeros(size)
    values[2] = np.nan
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": np.zeros((4, 69))}, r"pose is \(4, 69\); it must be \(L, 72\)"),
        ({"cams": np.ones((3, 3))}, "3 cameras, 4 poses and 4 shapes"),
        ({"shape": np.zeros((3, 10))}, "4 cameras, 4 poses and 3 shapes"),
        ({"pose": _with_nan(4, 72)}, "not finite in 1 of 4 frames, first in frame 2"),
        ({"cams": np.zeros((0, 3))}, r"cams is \(0, 3\)"),
        ({"cams": "none"}, "must be numbers"),
        ({"pose": np.full((4, 72), 1e30)}, "pose reaches 1e[+]30 in 4 of 4 frames.*no person"),
        ({"shape": np.full((4, 10), -1e4)}, "shape reaches 1e[+]04.*no person"),
        ({"cams": np.full((4, 3), 1e9)}, "cams reaches 1e[+]09.*no person"),
        ({"pose": [[0.0], [0.0, 1.0]]}, "pose is no table; it must be numbers"),
        ({"body_id": 5}, "body_id is of type int"),
        ({"synthetic": np.zeros(3)}, "synthetic is of type ndarray"),
    ],
)
def test_bad_fits_say_file_and_fault(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = _write_fit(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        read_fit(path)
    assert str(path) in str(caught.value)


def test_a_fit_without_its_keys_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "kps.pkl"
    path.write_bytes(pickle.dumps({"kps": np.zeros((4, 19, 2))}, 2))
    assert read_keypoints19(path).shape == (4, 19, 2)
    with pytest.raises(
        ValueError, match=r"holds \['kps'\]; it must be a dict with cams, pose, shape"
    ):
        read_fit(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds list"):
        read_keypoints19(path)


def test_an_absent_file_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_pickle(tmp_path / "none.pkl")
