"""Dials as one device buffer of 32-bit words: uint32 counters, then float32 dials.

The step reads 0-d views of the buffer, never a Python number that changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnx.backend import COUNTERS
from snnx.batch import check_counters


def pack(values: Mapping[str, Any], names: tuple[str, ...], device: torch.device) -> Tensor:
    """Return the buffer, int32 [3 + len(names)], by one copy that the host does not wait for."""
    return words_of(values, names, device).to(device, non_blocking=True)


def words_of(values: Mapping[str, Any], names: tuple[str, ...], device: torch.device) -> Tensor:
    """Return the buffer on the host, in memory from which it is copied to the device."""
    check_counters(values)
    words = np.empty(len(COUNTERS) + len(names), np.uint32)
    words[: len(COUNTERS)] = [values[name] for name in COUNTERS]
    words[len(COUNTERS) :] = np.array([values[n] for n in names], np.float32).view(np.uint32)
    host = torch.from_numpy(words.view(np.int32))
    return host.pin_memory() if device.type == "cuda" else host


def unpack(buffer: Tensor, names: tuple[str, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return every dial as a 0-d tensor: counters int64, others in `dtype`."""
    count = len(COUNTERS)
    counters = buffer[:count].to(torch.int64) & 0xFFFFFFFF
    numbers = buffer[count:].view(torch.float32).to(dtype)
    found = {name: counters[i] for i, name in enumerate(COUNTERS)}
    found.update({name: numbers[i] for i, name in enumerate(names)})
    return found
