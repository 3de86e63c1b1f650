"""MATLAB's MAT files, level 5 (-v6 and -v7): the numbers, cells and structs that data sets hold.

    file      128 bytes of header, then elements
    element   type uint32, size uint32, content, padded to 8 bytes; small ones in 8 bytes in all
    type 15   a zlib stream that holds one element      type 14   a matrix: flags, shape, name, data

A cell array becomes an object array in MATLAB's shape, a 1 x 1 struct a dict, text a str. Sparse
and complex matrices, objects and functions are refused; nothing in a file is ever executed.
Source: The MathWorks, MAT-File Format, 2019.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnx.data.arrays import DataError
from snnx.data.files import fits

MATRIX, COMPRESSED, UINT32, INT32 = 14, 15, 6, 5
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1, 2, 4, 16, 17}  # how characters may be stored
CELL, STRUCT, CHARACTERS = 1, 2, 4
NUMBERS = range(6, 16)  # classes double to uint64
COMPLEX = 0x0800
WIDEST = 2**48  # elements of a shape whose zeros count as ones
DEEPEST = 8


class _Damaged(Exception):
    """What is wrong with the bytes, without the file's name."""


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MAT file by name.

    Raises: DataError if the file is missing, of another level, truncated or damaged, or holds what
    is no number, text, cell or struct.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(b"MATLAB 7.3"):
        raise DataError(f"{path}: is a MAT file of version 7.3 (HDF5); save it anew with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or not content.startswith(b"MATLAB 5.0"):
        raise DataError(f"{path}: is no MAT file of level 5; save it in MATLAB with -v7")
    try:
        return dict(_Reader(content, 128, order).variables())
    except (_Damaged, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is truncated or damaged ({error}); get the file again") from error


@dataclass
class _Reader:
    """A place in bytes that are read element by element."""

    content: bytes
    place: int
    order: str
    depth: int = 0

    def variables(self) -> Any:
        """Yield (name, value) of the matrices to the end."""
        while self.place < len(self.content):
            kind, body = self.element()
            if kind == COMPRESSED:
                kind, body = _Reader(_unpacked(body, self.order), 0, self.order).element()
            if kind != MATRIX:
                raise _Damaged(f"an element of type {kind} stands where a matrix should")
            yield _Reader(body, 0, self.order, self.depth + 1).matrix()

    def element(self) -> tuple[int, bytes]:
        """Return type and content of the next element, and go behind it."""
        head = self._word(self.place)
        if head >> 16:
            kind, size, start, end = head & 0xFFFF, head >> 16, self.place + 4, self.place + 8
        else:
            kind, size, start = head, self._word(self.place + 4), self.place + 8
            end = start + size + (0 if kind == COMPRESSED else -size % 8)
        if size > len(self.content) - start:
            raise _Damaged(f"{size} bytes are announced and {len(self.content) - start} are left")
        self.place = end
        return kind, self.content[start : start + size]

    def _word(self, place: int) -> int:
        return struct.unpack_from(f"{self.order}I", self.content, place)[0]

    def matrix(self) -> tuple[str, Any]:
        """Return name and value of the matrix that these bytes are the content of."""
        if not self.content:  # how an empty cell is written
            return "", np.zeros((0, 0))
        if self.depth > DEEPEST:
            raise _Damaged(f"it is nested more than {DEEPEST} deep")
        flags = self._one({UINT32})
        shape = tuple(int(n) for n in self._numbers({INT32}))
        count, name = math.prod(shape), self._text()
        kind = flags & 0xFF
        if min(shape, default=-1) < 0 or flags & COMPLEX:
            raise _Damaged(f"the matrix {name!r} has the shape {shape} or complex numbers")
        if math.prod(max(n, 1) for n in shape) > WIDEST:  # also beside a 0, which NumPy ignores
            raise _Damaged(f"the matrix {name!r} has the shape {shape}")
        if kind in NUMBERS:
            return name, self._filled(self._numbers(set(TYPES)), shape, name)
        if kind == CHARACTERS:
            return name, self._text()
        if kind == CELL:
            return name, self._filled(self._matrices(count), shape, name)
        if kind == STRUCT and count == 1:
            return name, self._fields()
        raise _Damaged(f"the matrix {name!r} is of class {kind}, no number, text, cell or struct")

    def _filled(self, values: Any, shape: tuple[int, ...], name: str) -> Any:
        if len(values) != math.prod(shape):
            raise _Damaged(f"the matrix {name!r} of shape {shape} has {len(values)} values")
        return values.reshape(shape, order="F")

    def _matrices(self, count: int) -> Any:
        if count * 8 > len(self.content) - self.place:
            raise _Damaged(f"{count} cells are announced, which do not fit")
        found = np.empty(count, object)
        for i in range(count):
            kind, body = self.element()
            if kind != MATRIX:
                raise _Damaged(f"an element of type {kind} stands in a cell")
            found[i] = _Reader(body, 0, self.order, self.depth + 1).matrix()[1]
        return found

    def _fields(self) -> dict[str, Any]:
        width = self._one({INT32})
        _, names = self.element()
        if width < 1 or len(names) % width:
            raise _Damaged("the names of a struct's fields are cut")
        parts = [names[i : i + width] for i in range(0, len(names), width)]
        keys = [part.partition(b"\0")[0].decode("ascii") for part in parts]
        return dict(zip(keys, self._matrices(len(keys)), strict=True))

    def _one(self, types: set[int]) -> int:
        found = self._numbers(types)
        if not len(found):
            raise _Damaged("a number is missing")
        return int(found[0])

    def _numbers(self, types: set[int]) -> Any:
        kind, body = self.element()
        if kind not in types:
            raise _Damaged(f"an element of type {kind} stands where numbers should")
        dtype = np.dtype(self.order + TYPES[kind])
        if len(body) % dtype.itemsize:
            raise _Damaged("a number is cut")
        return np.frombuffer(body, dtype).astype(dtype.newbyteorder("="))

    def _text(self) -> str:
        kind, body = self.element()
        if kind not in TEXTS:
            raise _Damaged(f"an element of type {kind} stands where text should")
        if kind in (4, 17):
            return body.decode("utf-16-le" if self.order == "<" else "utf-16-be")
        return body.decode("utf-8")


def _unpacked(body: bytes, order: str) -> bytes:
    """The element in a zlib stream, whose size is looked at before all of it is unpacked."""
    stream = zlib.decompressobj()
    head = stream.decompress(body, 8)
    size = 8 + (struct.unpack(f"{order}I", head[4:8])[0] if len(head) == 8 else 0)
    fits(size, "a matrix of the MAT file", "the file is damaged")
    rest = stream.decompress(stream.unconsumed_tail, size + 8)
    if stream.unconsumed_tail:
        raise _Damaged("a compressed matrix is longer than it says")
    if not stream.eof:
        raise _Damaged("a compressed matrix is cut")
    return head + rest
