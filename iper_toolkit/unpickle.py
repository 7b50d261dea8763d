"""Reads the .pkl files that fits and SMPL come in, without running what they carry.

A pickle is a program. Here it may build numbers, texts, lists, dicts and arrays and nothing else: every name it asks
for is looked up in one table of our own stand-ins, so neither numpy, scipy nor chumpy is ever called with arguments
from the file. Arrays are assembled afterwards, from bytes that must be in the file.
"""

import pickle
import pickletools
from collections.abc import Callable, Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 30  # SMPL-H with all its components has 0.3 GB
_MAX_DENSE = 1 << 22  # entries of a sparse matrix's dense form; a joint regressor has 0.4 million
# Bytes and entries beyond the file's own size that shared parts, written out, may amount to. A file without sharing
# needs none: each byte of an array or a text stands in the file.
_MAX_REPEATED = 1 << 20
_BYTES_AN_ENTRY = 16  # of a container that is copied, at least
_MAX_CONTAINERS = 1 << 18  # lists, dicts, tuples: one takes a byte in the file and 300 in memory
_MAX_ITEM_BYTES = 1 << 16  # of one text in an array of texts
_DTYPE_KINDS = "biufcSU"
_ENCODINGS = ("latin1", "latin-1", "iso-8859-1")


class UnsafePickle(ValueError):
    """The file asks for something other than plain data; nothing of it was run."""


def read_pickle(path: str | Path) -> Any:
    """The plain contents of a pickle: dicts, lists, tuples, numbers, texts, numpy arrays, scipy sparse matrices.

    Text of Python 2 is read as latin1. chumpy objects become arrays.

    Raises:
        UnsafePickle: it asks for other things. ValueError: it is cut off or no pickle.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; pickles of more than {MAX_BYTES} are not read.")
    return parse_pickle(path.read_bytes(), str(path))


def parse_pickle(data: bytes, name: str) -> Any:
    """The same for bytes in memory; `name` stands in the messages."""
    try:
        _check_sizes(data)
        raw = _Unpickler(BytesIO(data), len(data) + _MAX_REPEATED).load()
        return _Assembler(len(data) + _MAX_REPEATED).plain(raw)
    except UnsafePickle as error:
        raise UnsafePickle(
            f"{name} is refused: {error} Only numbers, texts, containers, arrays, sparse matrices and chumpy "
            "arrays are read. If you trust its author, load it yourself and save the arrays as .npz."
        ) from None
    except (
        Exception
    ) as error:  # a broken pickle can raise nearly anything from inside the interpreter
        raise ValueError(
            f"{name} is cut off or no pickle of plain data ({type(error).__name__}: {error}). Get the file again."
        ) from error


def read_fit(path: str | Path) -> dict[str, Any]:
    """iPER's pose_shape.pkl of one video.

    Returns:
        cams: (L, 3) float32 (s, tx, ty). pose: (L, 72) float32 axis-angle. shape: (L, 10) float32; one that is
        stored once is repeated for all L frames. Other keys (a synthetic fit names its body_id) as they are.
    """
    fit = _read_dict(path, ("cams", "pose", "shape"))
    shape = np.asarray(fit["shape"])
    if shape.shape in ((10,), (1, 10)) and np.ndim(fit["pose"]) == 2:
        fit["shape"] = np.broadcast_to(shape.reshape(1, 10), (len(fit["pose"]), 10))
    for key, width in (("cams", 3), ("pose", 72), ("shape", 10)):
        fit[key] = _frames(path, fit, key, (width,))
        _check_size_of(path, key, fit[key], _LARGEST[key])
    for key, kinds in _MARKS.items():
        if key in fit and not isinstance(fit[key], kinds):
            raise ValueError(
                f"{path}: {key} is of type {type(fit[key]).__name__}. Correct or remove it."
            )
    lengths = [len(fit[key]) for key in ("cams", "pose", "shape")]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{path} has {lengths[0]} cameras, {lengths[1]} poses and {lengths[2]} shapes; it must have as many of "
            "each as the video has frames. Get the file again."
        )
    return fit


_MARKS = {"body_id": (str,), "synthetic": (bool, np.bool_)}

# No fit of a person comes near: angles in radians, shapes in standard deviations, cameras in halves of the picture.
_LARGEST = {"cams": 1e4, "pose": 100.0, "shape": 100.0}


def _check_size_of(path: str | Path, key: str, values: NDArray[np.float32], largest: float) -> None:
    size = np.abs(values).max(1)
    if size.max() > largest:
        bad = np.flatnonzero(size > largest)
        raise ValueError(
            f"{path}: {key} reaches {size.max():.3g} in {len(bad)} of {len(values)} frames, first in frame {bad[0]}; "
            f"numbers beyond {largest:g} describe no person. Get the file again, or fit the clip anew from keypoints."
        )


def read_keypoints19(path: str | Path) -> NDArray:
    """iPER's kps.pkl of one video: (L, 19, 2) float32 in [-1, 1] of the frame."""
    keypoints = _frames(path, _read_dict(path, ("kps",)), "kps", (19, 2))
    _check_size_of(path, "kps", keypoints.reshape(len(keypoints), -1), 1e4)
    return keypoints


def _read_dict(path: str | Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content = read_pickle(path)
    found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise ValueError(
            f"{path} holds {found}; it must be a dict with {', '.join(keys)}. Is it the right file?"
        )
    return content


def _frames(
    path: str | Path, content: dict[str, Any], key: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """An array of one row a frame, checked."""
    wanted = f"(L, {', '.join(map(str, shape))})"
    try:
        values = np.asarray(content[key])
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{path}: {key} is no table; it must be numbers {wanted}.") from error
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {key} is of type {values.dtype}; it must be numbers {wanted}.")
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape or len(values) == 0:
        raise ValueError(f"{path}: {key} is {values.shape}; it must be {wanted} with L frames.")
    values = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad):
        raise ValueError(
            f"{path}: {key} is not finite in {len(bad)} of {len(values)} frames, first in frame {bad[0]}. "
            "Get the file again, or fit the clip anew from keypoints."
        )
    return values


def _check_sizes(data: bytes) -> None:
    """Refuse what would reserve memory far beyond the file: labels of the memo, which may be any number, and
    containers without end. (That texts and bytes are as long as they say, genops finds out.)"""
    containers = 0
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
            raise UnsafePickle(f"it asks for memo entry {argument} in a file of {len(data)} bytes.")
        containers += opcode.name in _MAKES_CONTAINER
        if containers > _MAX_CONTAINERS:
            raise UnsafePickle(f"it has more than {_MAX_CONTAINERS} lists, dicts and objects.")


_MAKES_CONTAINER = frozenset(
    "EMPTY_LIST LIST EMPTY_DICT DICT EMPTY_SET FROZENSET EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 REDUCE NEWOBJ "
    "NEWOBJ_EX OBJ INST".split()
)


# Stand-ins. Instances only collect what the file says; classes and callables cannot be changed by it.


class _FrozenClass(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise UnsafePickle(f"it sets {name} of a class.")


class _Call:
    """A callable that a pickle can call and do nothing else with."""

    __slots__ = ("_function",)
    _function: Callable

    def __init__(self, function: Callable) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise UnsafePickle(f"it sets {name} of a function.")

    def __setstate__(self, state: object) -> None:
        raise UnsafePickle("it changes a function.")


class _Stub(metaclass=_FrozenClass):
    """An object that is assembled when the whole file has been read."""

    __slots__ = ("arguments", "state")
    arguments: tuple
    state: Any

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, None

    def __new__(cls, *arguments: object) -> "_Stub":
        stub = object.__new__(cls)
        stub.__init__(*arguments)  # type: ignore[misc]  # pickles may call __new__ alone
        return stub

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Name(_Stub):
    """A class that is only ever an argument, such as numpy.ndarray."""


class _Dtype(_Stub): ...


class _Array(_Stub): ...


class _Buffer(_Stub): ...


class _Scalar(_Stub): ...


class _Chumpy(_Stub): ...


class _ChumpySelect(_Stub): ...


class _Csc(_Stub): ...


class _Csr(_Stub): ...


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        raise UnsafePickle(f"it encodes {type(text).__name__} as {_shown(encoding)}.")
    return text.encode("latin1")


def _shown(value: object) -> str:
    """A value for a message. A tuple's own text may be endless: its items may be one tuple, again and again."""
    return repr(value) if isinstance(value, str | bytes | int | float) else type(value).__name__


def _simple_key(key: object) -> Any:
    """The keys of dicts and items of sets that are let through: hashing a tuple may take for ever."""
    if not isinstance(key, str | bytes | int | float | None):
        raise UnsafePickle(f"it uses a {type(key).__name__.strip('_').lower()} as a key.")
    return key


def _empty_bytes(*arguments: object) -> bytes:
    """How the oldest protocols store b""; with arguments it would reserve any amount of memory."""
    if arguments:
        raise UnsafePickle("it makes bytes of something.")
    return b""


def _pairs(pairs: object = ()) -> dict:
    if not isinstance(pairs, list | tuple):
        raise UnsafePickle(f"it makes a dict of {type(pairs).__name__}.")
    made = {}
    for key, value in pairs:
        made[_simple_key(key)] = value
    return made


def _set(items: object = ()) -> set:
    if not isinstance(items, list | tuple):
        raise UnsafePickle(f"it makes a set of {type(items).__name__}.")
    return {_simple_key(item) for item in items}


def _old_object(stub: object, base: object, state: object) -> _Stub:
    """copy_reg._reconstructor, by which Python 2 stored objects in its oldest protocols."""
    if not (isinstance(stub, _FrozenClass) and base is _Name and state is None):
        raise UnsafePickle("it rebuilds an object from unknown parts.")
    return stub()


_NAMES: dict[tuple[str, str], object] = {
    **{
        (f"numpy.{core}.multiarray", name): stub
        for core in ("core", "_core")
        for name, stub in (("_reconstruct", _Array), ("scalar", _Scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): _Call(_pairs),
    ("_codecs", "encode"): _Call(_encode),
    **{(module, "set"): _Call(_set) for module in ("builtins", "__builtin__")},
    **{(module, "bytes"): _Call(_empty_bytes) for module in ("builtins", "__builtin__")},
    **{(module, "object"): _Name for module in ("builtins", "__builtin__")},
    **{(module, "_reconstructor"): _Call(_old_object) for module in ("copyreg", "copy_reg")},
    **{(module, "Ch"): _Chumpy for module in ("chumpy", "chumpy.ch")},
    ("chumpy.reordering", "Select"): _ChumpySelect,
    **{
        (f"scipy.sparse{module}", f"{name}_{kind}"): stub
        for name, stub in (("csc", _Csc), ("csr", _Csr))
        for module in ("", f".{name}", f"._{name}")
        for kind in ("matrix", "array")
    },
}


class _Unpickler(pickle._Unpickler):
    """The interpreter written in Python: its opcodes can be replaced, and files have few of them."""

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BytesIO, budget: int) -> None:
        """`budget`: bytes and entries that calls may be handed; each call copies what it is handed."""
        super().__init__(file, encoding="latin1")
        self.budget = budget + _BYTES_AN_ENTRY * _MAX_CONTAINERS  # calls of few arguments are many

    def load_reduce(self) -> None:
        self._pay(self.stack[-1])
        pickle._Unpickler.load_reduce(self)  # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        self._pay(self.stack[-1])
        pickle._Unpickler.load_newobj(self)  # type: ignore[attr-defined]

    def load_newobj_ex(self) -> None:
        raise UnsafePickle("it makes an object with named arguments.")

    def _pay(self, arguments: object) -> None:
        parts = arguments if isinstance(arguments, tuple) else ()
        texts = [part for part in parts if isinstance(part, str | bytes | bytearray)]
        containers = [part for part in parts if isinstance(part, list | tuple | dict)]
        entries = len(parts) + sum(map(len, containers))
        self.budget -= _BYTES_AN_ENTRY * entries + sum(map(len, texts))
        if self.budget < 0:
            raise UnsafePickle("it uses one part again and again, for more than the file's size.")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise UnsafePickle(f"it asks for {module}.{name}.")
        return _NAMES[module, name]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_pairs(list(zip(items[::2], items[1::2], strict=True))))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_simple_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(_pairs(list(zip(items[::2], items[1::2], strict=True))))

    def load_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(_set(items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(_set(items)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


class _Assembler:
    """Turns stubs into arrays, everything else into itself; shared objects once, cycles never.

    Containers that hold one part many times, and that one another, would be endless to whoever walks
    through them or copies them, as numpy does: they are counted as they would be written out.
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.bytes_left = max_entries  # for arrays, each of which is a copy
        self.entries: dict[int, int] = {}  # of the containers in `done`, written out
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(
            value, bool | int | float | complex | str | bytes | bytearray
        ):
            return value
        key = id(value)
        if key in self.done:
            return self.done[key]
        if key in self.open:
            raise UnsafePickle("an object in it contains itself.")
        self.open.add(key)
        self.done[key] = result = self._assemble(value)
        if isinstance(value, dict):
            self._count(key, (*value.keys(), *value.values()))
        elif isinstance(value, list | tuple | set | frozenset):
            self._count(key, value)
        self.open.discard(key)
        return result

    def _count(self, key: int, items: Iterable[object]) -> None:
        self.entries[key] = sum(map(self._size, items))
        if self.entries[key] > self.max_entries:
            raise UnsafePickle(f"written out, it has more than {self.max_entries} entries.")

    def _size(self, item: object) -> int:
        """What one item of a container adds to it, written out; `item` as the file has it."""
        if isinstance(item, str | bytes | bytearray):
            return 1 + len(item)
        made = self.done.get(id(item))
        return 1 + (made.nbytes if isinstance(made, np.ndarray) else self.entries.get(id(item), 0))

    def _filled(self, raw: object, dtype: object, shape: object, *, fortran: bool) -> NDArray:
        return self._paid(_filled(raw, dtype, shape, fortran=fortran))

    def _paid(self, array: NDArray) -> NDArray:
        self.bytes_left -= array.nbytes
        if self.bytes_left < 0:
            raise UnsafePickle(
                "it fills arrays with the same bytes, for more than the file's size."
            )
        return array

    def _assemble(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.plain(k): self.plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self.plain(item) for item in value)
        if isinstance(value, _Dtype):
            return self._dtype(value)
        if isinstance(value, _Array):
            return self._array(value)
        if isinstance(value, _Buffer):
            raw, dtype, shape, order = (*map(self.plain, value.arguments), "C")[:4]
            return self._filled(raw, dtype, shape, fortran=order == "F")
        if isinstance(value, _Scalar):
            dtype, raw = map(self.plain, value.arguments)
            return self._filled(raw, dtype, (), fortran=False)[()]
        if isinstance(value, _Chumpy):
            return self._paid(np.asarray(self._state(value, "x")))
        if isinstance(value, _ChumpySelect):
            source = np.asarray(self._state(value, "a"))
            index = np.asarray(self._state(value, "idxs"))
            return self._paid(source.ravel()[index].reshape(self._state(value, "preferred_shape")))
        if isinstance(value, _Csc | _Csr):
            return self._sparse(value)
        raise UnsafePickle(f"it keeps a {type(value).__name__.strip('_').lower()} as data.")

    def _state(self, stub: _Stub, key: str) -> Any:
        if not isinstance(stub.state, dict) or key not in stub.state:
            raise ValueError(f"an object lacks its {key}")
        return self.plain(stub.state[key])

    def _dtype(self, stub: _Dtype) -> np.dtype:
        code = stub.arguments[0] if stub.arguments else None
        if not isinstance(code, str) or code.lstrip("<>=|")[:1] not in _DTYPE_KINDS:
            raise UnsafePickle(f"it has an array of type {_shown(code)}.")
        dtype = np.dtype(code)
        if dtype.itemsize > _MAX_ITEM_BYTES:
            raise UnsafePickle(f"it has an array of type {_shown(code)}.")
        if isinstance(stub.state, tuple) and len(stub.state) > 2:
            order, inner = stub.state[1], stub.state[2]
            if inner is not None or any(part is not None for part in stub.state[3:5]):
                raise UnsafePickle("it has an array of records.")
            if order in ("<", ">"):
                dtype = dtype.newbyteorder(order)
        return dtype

    def _array(self, stub: _Array) -> NDArray:
        state = stub.state
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without contents")
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, list):
            raise UnsafePickle("it has an array of objects.")
        return self._filled(raw, self.plain(dtype), shape, fortran=bool(fortran))

    def _sparse(self, stub: _Csc | _Csr) -> Any:
        from scipy import sparse

        shape = (
            stub.state.get("_shape", stub.state.get("shape"))
            if isinstance(stub.state, dict)
            else None
        )
        rows, columns = _lengths(shape)
        if rows * columns > _MAX_DENSE:
            raise UnsafePickle(f"it has a sparse matrix of {rows} x {columns}.")
        kind = sparse.csc_matrix if isinstance(stub, _Csc) else sparse.csr_matrix
        parts = tuple(self._state(stub, key) for key in ("data", "indices", "indptr"))
        matrix = kind(parts, shape=(rows, columns))
        matrix.check_format(full_check=True)
        return matrix


def _filled(raw: object, dtype: object, shape: object, *, fortran: bool) -> NDArray:
    """An array of bytes that are all there."""
    if not isinstance(dtype, np.dtype):
        raise UnsafePickle("it has an array without a plain type.")
    if isinstance(raw, str):  # Python 2 stored bytes as text
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray):
        raise UnsafePickle(f"it fills an array with {type(raw).__name__}.")
    lengths = _lengths(shape)
    if prod(lengths) * dtype.itemsize != len(raw):
        raise ValueError(f"an array {lengths} of {dtype} with {len(raw)} bytes")
    array = np.frombuffer(raw, dtype).reshape(lengths, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=True)


def _lengths(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 32:
        raise ValueError(f"an array of shape {_shown(shape)}")
    if not all(isinstance(length, int) and 0 <= length < 1 << 40 for length in shape):
        raise ValueError(f"an array of shape ({', '.join(map(_shown, shape))})")
    return shape
