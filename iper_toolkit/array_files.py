"""Arrays out of a user's .npz and .npy files, looked at before any memory is taken for them.

A compressed array of zeros is a thousand times smaller than what it unfolds to, and a header may promise any shape. So
headers are read first and compared with the size of the file and with what the caller allows; only then arrays are read.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 30
"""Bytes that the arrays of one file may take in memory where the caller names no other limit."""

_MAX_RATIO = 1032  # deflate cannot make data smaller than by this factor (zlib's technical details)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    struct.error,
    RuntimeError,  # encrypted members
    NotImplementedError,  # zip methods that Python does not know
)


@dataclass(frozen=True)
class Header:
    """What an array says about itself before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


Check = Callable[[Mapping[str, Header]], None]
"""Looks at the headers of the arrays to read; raises ValueError with a sentence that does not name the file."""


class ArrayFile:
    """An open .npz file. Use it as a context manager.

    Raises:
        ValueError: it is no whole .npz file, or an array's header does not fit the file; names the file.
    """

    def __init__(self, path: Path | str, data: bytes | None = None) -> None:
        """`data`: the content, where it has been read already; `path` then stands in the messages."""
        self.path = Path(path)
        try:
            self._archive = zipfile.ZipFile(self.path if data is None else io.BytesIO(data))
        except FileNotFoundError:
            raise
        except (*_DAMAGE, ValueError) as error:
            raise ValueError(
                f"{self.path} is no whole .npz file ({error}); copy it again, or write it with numpy.savez."
            ) from error
        try:
            self.headers: dict[str, Header] = self._read_headers()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str) -> NDArray:
        """One array, whole. The caller has looked at its header."""
        header = self._header(name)
        _check_plain(self.path, name, header)
        with self._open(name) as file:
            _read_header(file)
            array = np.empty(header.shape, header.dtype, order="F" if header.fortran else "C")
            flat = array.reshape(-1, order="F" if header.fortran else "C").view(np.uint8)
            self._fill(file, flat.data, name)
            self._end(file, name)
        return array

    def rows(self, name: str) -> Iterator[NDArray]:
        """The entries of an array along its first axis, one after the other, in C order."""
        header = self._header(name)
        _check_plain(self.path, name, header)
        if header.fortran and len(header.shape) > 1:
            raise ValueError(
                f"{self.path}: {name} is stored in Fortran's order. Save numpy.ascontiguousarray of it."
            )
        with self._open(name) as file:
            _read_header(file)
            for index in range(header.shape[0]):
                row = np.empty(header.shape[1:], header.dtype)
                flat = row.reshape(-1).view(np.uint8)
                self._fill(file, flat.data, f"{name}, entry {index} of {header.shape[0]},")
                yield row
            self._end(file, name)

    def _header(self, name: str) -> Header:
        if name not in self.headers:
            there = ", ".join(sorted(self.headers)) or "nothing"
            raise ValueError(f"{self.path} has no array called {name}; it holds {there}.")
        return self.headers[name]

    def _open(self, name: str) -> IO[bytes]:
        try:
            return self._archive.open(f"{name}.npy")
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def _fill(self, file: IO[bytes], view: memoryview, what: str) -> None:
        """Zip streams hand out what they have; so ask until all is there."""
        done = 0
        try:
            while done < len(view):
                piece = file.read(min(len(view) - done, 1 << 20))
                if not piece:
                    raise ValueError(f"{self.path}: {what} ends early; copy the file again.")
                view[done : done + len(piece)] = piece
                done += len(piece)
        except _DAMAGE as error:
            raise self._damaged(what, error) from error

    def _end(self, file: IO[bytes], name: str) -> None:
        """Zip checksums are compared at the end of a member."""
        try:
            file.read(1)
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def _damaged(self, what: str, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path} is damaged: {what} cannot be read ({error}). Copy it again."
        )

    def _read_headers(self) -> dict[str, Header]:
        headers: dict[str, Header] = {}
        for member in self._archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                continue
            if name in headers:
                raise ValueError(f"{self.path} holds {name} twice; write the file again.")
            if member.file_size > _MAX_RATIO * member.compress_size + 64:
                raise ValueError(
                    f"{self.path} is damaged: {name} cannot unfold from {member.compress_size} to "
                    f"{member.file_size} bytes. Get the file again."
                )
            try:
                with self._open(name) as file:
                    header = _read_header(file)
                    promised = file.tell() + header.nbytes
            except _DAMAGE as error:
                raise self._damaged(name, error) from error
            except (ValueError, TypeError) as error:
                raise ValueError(f"{self.path}: {name} is no plain array ({error}).") from error
            if not header.dtype.hasobject and promised != member.file_size:
                raise ValueError(
                    f"{self.path} is damaged: {name} says {header}, which takes {promised} bytes, and has "
                    f"{member.file_size}. Get the file again."
                )
            headers[name] = header
        return headers


def read_npz(
    path: Path | str,
    names: Iterable[str] | None = None,
    *,
    data: bytes | None = None,
    check: Check | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, NDArray]:
    """Arrays of a .npz file.

    Args:
        path: the file.
        names: arrays to read; those that are not there are left out. None: all.
        data: the content, where it has been read already.
        check: looks at the headers and raises ValueError where they cannot be right.
        max_bytes: that the arrays may take together.

    Raises:
        ValueError: names the file and what is wrong. Nothing large was allocated.
    """
    with ArrayFile(path, data) as file:
        wanted = list(file.headers) if names is None else [n for n in names if n in file.headers]
        headers = {name: file.headers[name] for name in wanted}
        _check_headers(file.path, headers, check, max_bytes)
        return {name: file.read(name) for name in wanted}


def read_npy(
    path: Path | str, *, check: Check | None = None, max_bytes: int = MAX_BYTES
) -> NDArray:
    """The array of a .npy file; like `read_npz`, with "array" as its name for `check`."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            left = path.stat().st_size - file.tell()
            if header.dtype.hasobject:
                raise ValueError("it holds pickled objects, which are not read")
            if header.nbytes != left:
                raise ValueError(f"it says {header} and has {left} bytes")
            _check_headers(path, {"array": header}, check, max_bytes)
            array = np.fromfile(file, header.dtype, prod(header.shape))
    except FileNotFoundError:
        raise
    except (*_DAMAGE, ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no whole .npy file: {error}. Get it again.") from error
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def _check_plain(path: Path, name: str, header: Header) -> None:
    if header.dtype.hasobject:
        raise ValueError(
            f"{path}: {name} holds pickled objects, which are not read. Save plain arrays."
        )


def _check_headers(
    path: Path, headers: Mapping[str, Header], check: Check | None, max_bytes: int
) -> None:
    for name, header in headers.items():
        _check_plain(path, name, header)
    if check is not None:
        try:
            check(headers)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    total = sum(header.nbytes for header in headers.values())
    if total > max_bytes:
        largest = max(headers, key=lambda name: headers[name].nbytes)
        raise ValueError(
            f"{path} unfolds to {total} bytes ({largest} is {headers[largest]}); at most {max_bytes} are read. "
            "Is it the right file?"
        )


def _read_header(file: IO[bytes]) -> Header:
    """Leaves the file at the array's first byte."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version in ((2, 0), (3, 0)):  # 3.0 is 2.0 with names of fields in UTF-8
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"a .npy format of version {version}")
    if any(length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}")
    return Header(tuple(shape), dtype, fortran)
