"""AEDAT files: version 2 of a DVS128 (DVS-CIFAR10) and version 3.1 (DVS128 Gesture)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import numpy as np

from snnx.data.arrays import DataError
from snnx.data.events import Events
from snnx.data.files import exactly, fits, reading, upto

SIDE = 128
VERSION2 = b"#!AER-DAT2"
VERSION3 = b"#!AER-DAT3.1"
END_OF_HEADER = b"#!END-HEADER"
MOST_HEADER = 1 << 16
MOST_EVENTS_BYTES = 1 << 31
POLARITY = 1
PACKET = struct.Struct(
    "<HHIIIIII"
)  # type, source, size, ts offset, overflow, capacity, number, valid


def read_aedat2(path: Path) -> Events:
    """The events of an AEDAT 2 file of a DVS128.

        lines that begin with "#"; then big-endian uint32 pairs (address a, t in microseconds)
        x = 127 - ((a & 0xFE) >> 1)    y = (a & 0x7F00) >> 8    p = 1 - (a & 1)

    Raises: DataError if the file is missing, of another version or sensor, too large, or ends
    within an event.
    """
    with reading(path) as file:
        begin = _header(file, path, VERSION2, "AEDAT 2")
        data = begin + upto(file, MOST_EVENTS_BYTES)
    if len(data) >= MOST_EVENTS_BYTES:
        raise DataError(f"{path}: holds more than {MOST_EVENTS_BYTES >> 23} million events")
    if len(data) % 8:
        raise DataError(
            f"{path}: is truncated: {len(data)} bytes of events are no whole number of 8; "
            "get the file again"
        )
    pairs = np.frombuffer(data, ">u4").reshape(-1, 2).astype(np.int64)
    address, t = pairs[:, 0], pairs[:, 1]
    if len(address) and int(address.max()) > 0xFFFF:
        raise DataError(
            f"{path}: has the address {int(address.max()):#x} in event {int(address.argmax())}; "
            "those of a DVS128 have 16 bits: the file is damaged or of another sensor"
        )
    return Events(
        t,
        (127 - ((address & 0xFE) >> 1)).astype(np.uint8),
        ((address & 0x7F00) >> 8).astype(np.uint8),
        (1 - (address & 1)).astype(np.uint8),
        SIDE,
        SIDE,
    )


def read_aedat3(path: Path) -> Events:
    """The valid polarity events of an AEDAT 3.1 file of a sensor of 128 x 128 pixels.

        header lines up to "#!END-HEADER"; then packets, little-endian: a header of 28 bytes
        (type, source, event size, timestamp offset, overflow, capacity, number, valid) and events
        polarity event: uint32 d, int32 t
        valid = d & 1    p = (d >> 1) & 1    y = (d >> 2) & 0x7FFF    x = (d >> 17) & 0x7FFF
        time  = t + overflow * 2^31

    Packets of other types are skipped.

    Raises: DataError if the file is missing, of another version, ends within a packet, or has
    impossible sizes or an event outside the sensor.
    """
    parts: list[np.ndarray] = [np.zeros((4, 0), np.int64)]
    with reading(path) as file:
        begin = _header(file, path, VERSION3, "AEDAT 3.1")
        number = 0
        while head := begin + file.read(PACKET.size - len(begin)):
            begin = b""
            what = f"packet {number}"
            if len(head) < PACKET.size:
                raise DataError(f"{path}: is truncated within {what}; get the file again")
            kind, _, size, offset, overflow, capacity, count, _ = PACKET.unpack(head)
            if size == 0 or count > capacity or (kind == POLARITY and (size, offset) != (8, 4)):
                raise DataError(
                    f"{path}: {what} says {count} of {capacity} events of {size} bytes with the "
                    f"time at {offset}, which cannot be; the file is damaged"
                )
            fits(size * count, f"{path}: {what}", "the file is damaged")
            data = exactly(file, size * count, path, what)
            number += 1
            if kind != POLARITY:
                continue
            d, t = np.frombuffer(data, "<u4").reshape(-1, 2).astype(np.int64).T
            columns = np.stack(
                [t + (overflow << 31), (d >> 17) & 0x7FFF, (d >> 2) & 0x7FFF, (d >> 1) & 1]
            )
            parts.append(columns[:, (d & 1) == 1])
    t, x, y, p = np.concatenate(parts, axis=1)
    for name, values in (("x", x), ("y", y)):
        if len(values) and int(values.max()) >= SIDE:
            raise DataError(
                f"{path}: has {name} = {int(values.max())} on a sensor of 128 x 128; the file is "
                "damaged or of another sensor"
            )
    return Events(t, x.astype(np.uint8), y.astype(np.uint8), p.astype(np.uint8), SIDE, SIDE)


def read_gesture_labels(path: Path) -> list[tuple[int, int, int]]:
    """(class 0 .. 10, start us, end us) of each gesture in a *_labels.csv of DVS128 Gesture.

    Raises: DataError, with the line, unless it is a line of names and then three whole numbers
    each, with a class in 1 .. 11 and start < end.
    """
    with reading(path) as file:
        text = file.read(1 << 20).decode("ascii", "replace")
    rows: list[tuple[int, int, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if number == 1 or not line.strip():
            continue
        words = [word.strip() for word in line.split(",")]
        if len(words) != 3 or not all(word.isdecimal() for word in words):
            raise DataError(f"{path}: line {number}: must be class,start,end, got {line[:60]!r}")
        label, start, end = (int(word) for word in words)
        if not 1 <= label <= 11 or start >= end:
            raise DataError(
                f"{path}: line {number}: the class must lie in 1 .. 11 and start before end, "
                f"got {line[:60]!r}"
            )
        rows.append((label - 1, start, end))
    if not rows:
        raise DataError(f"{path}: names no gesture")
    return rows


def _header(file: IO[bytes], path: Path, version: bytes, title: str) -> bytes:
    """Read past the header lines; the first bytes of the events, where they had to be read."""
    line = file.readline(MOST_HEADER)
    if not line.startswith(version):
        raise DataError(f"{path}: is no {title} file: it begins with {line[:16]!r}")
    total = len(line)
    while total < MOST_HEADER:
        if version == VERSION3 and line.startswith(END_OF_HEADER):
            return b""
        begin = file.read(1)
        if begin != b"#":
            if version == VERSION3:
                raise DataError(f"{path}: has no line {END_OF_HEADER.decode()}; it is damaged")
            return begin
        line = begin + file.readline(MOST_HEADER)
        total += len(line)
    raise DataError(f"{path}: has a header of more than {MOST_HEADER} bytes; it is damaged")
