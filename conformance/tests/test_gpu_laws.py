"""What only a GPU would break, shown without one: where launches go, and what is made when."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from snnx_torch import bits, packed  # noqa: E402
from snnx_torch.kernels import loading  # noqa: E402

KERNELS = Path(loading.__file__).parent


def test_a_launch_makes_the_device_of_its_arguments_the_current_one(monkeypatch: Any) -> None:
    chosen: list[Any] = []

    def device(which: Any) -> Any:
        chosen.append(which)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    with loading.on(torch.device("cuda", 1)), loading.on(torch.device("cpu")):
        assert chosen == [torch.device("cuda", 1)]


def launches(tree: ast.AST) -> list[ast.Call]:
    """Return the launches: calls of something[grid] with options by name."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Subscript) and call.keywords]


def test_every_launch_stands_under_its_device() -> None:
    seen = 0
    for file in sorted(KERNELS.glob("*.py")):
        tree = ast.parse(file.read_text())
        guarded: set[int] = set()
        for block in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
            if ast.unparse(block.items[0].context_expr).startswith("on("):
                guarded.update(id(call) for call in launches(block))
        bare = [call for call in launches(tree) if id(call) not in guarded]
        assert not bare, f"{file.name}:{bare[0].lineno}: {ast.unparse(bare[0].func)}"
        seen += len(guarded)
    assert seen == 6


def test_a_backward_makes_no_table_on_the_stream_that_it_runs_on() -> None:
    x = torch.ones(1, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(3, 2, 3, 3).requires_grad_()
    bits._kept_table.cache_clear()
    kept = (bits.pack(x.permute(0, 2, 3, 1)), None, "")
    y: Any = packed.Conv2d.apply(x, weight, None, kept, (1, 1, 1), None)
    made = bits._kept_table.cache_info().misses
    y.sum().backward()
    assert (made, bits._kept_table.cache_info().misses) == (1, 1)
    assert weight.grad is not None
