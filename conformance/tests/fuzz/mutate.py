"""Damage to a good file, spelt by bytes, so that any generator of bytes can drive any reader.

A program is a byte that says how many of the pieces count, most often few, and pieces of four bytes
(operation, place, place, value). What one does is a pure function of content and piece, so that a
finding is kept as its program in hex.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

EXTREMES = (0, 1, 0x7F, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**64 - 1)
WIDTHS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
MOST = 1 << 16  # bytes of a damaged file

Operation = Callable[[bytearray, int, int, Sequence[bytes]], None]


def _flip(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    content[at] ^= 1 << value % 8


def _set(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    content[at] = value


def _cut(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    del content[at : at + value + 1]


def _end(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    del content[at:]


def _double(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    content[at:at] = content[at : at + 4 * value + 1]


def _insert(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    content[at:at] = bytes([value]) * (1 + value % 7)


def _number(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    form, number = WIDTHS[value % len(WIDTHS)], EXTREMES[value // 6 % len(EXTREMES)]
    size = struct.calcsize(form)
    content[at : at + size] = struct.pack(form, number % (1 << 8 * size))


def _word(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    if words:
        content[at:at] = words[value % len(words)]


def _replace(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    """Put a word in the place of the word that stands there."""
    if words:
        end = at
        while end < len(content) and content[end : end + 1].isalnum():
            end += 1
        content[at:end] = words[value % len(words)]


def _nest(content: bytearray, at: int, value: int, words: Sequence[bytes]) -> None:
    content[at:at] = (b"[", b"{", b'{"a":', b"(")[value % 4] * (value * 40)


OPERATIONS: tuple[Operation, ...] = (
    *(_flip, _set, _cut, _end, _double, _insert, _number, _word, _replace, _nest),
)


def mutated(content: bytes, program: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Return the content after the program's operations."""
    found = bytearray(content)
    count = (1, 1, 1, 2, 2, 3, 5, 9)[program[0] % 8] if program else 0
    for i in range(1, min(len(program) - 3, 1 + 4 * count), 4):
        kind, high, low, value = program[i : i + 4]
        place = (high << 8 | low) % max(1, len(found))
        if len(found) == 0:
            found += b"\0"
        OPERATIONS[kind % len(OPERATIONS)](found, place, value, words)
        del found[MOST:]
    return bytes(found)
