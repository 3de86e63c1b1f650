"""What several test files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mlx_host import HostKernels


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostKernels:
    """Let MLX's kernels run on the host."""
    from tests.mlx_host import on_host  # needs mlx, which not every test does

    return on_host(monkeypatch)
