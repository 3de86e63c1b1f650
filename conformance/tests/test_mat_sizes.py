"""A compressed matrix is read whatever its size's bytes are in the other byte order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snnx.data.mat import read_mat

io = pytest.importorskip("scipy.io", reason="scipy writes the file")


def test_a_size_whose_low_bytes_are_zero(tmp_path: Path) -> None:
    for more in range(0, 64, 8):  # one of these elements has 2^20 bytes, heads counted
        x = np.zeros((1, (1 << 20) - 64 + more), np.uint8)
        io.savemat(tmp_path / "x.mat", {"x": x}, do_compression=True)
        assert np.array_equal(read_mat(tmp_path / "x.mat")["x"], x)
