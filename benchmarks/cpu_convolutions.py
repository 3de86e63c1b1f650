"""The two convolutions of the digits step alone, forward and backward: what no neuron can spare.

The first sees a static image and needs the gradient of its weights only.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cpu_common import T, clocked, quartiles

WARM = 2


def on_torch(size: int) -> Callable[[], object]:
    """Return the work in torch's layout."""
    import torch

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, requires_grad=True)

    conv2d = torch.nn.functional.conv2d
    image, few, many = torch.randn(size, 1, 8, 8), drawn(32, 1, 3, 3), drawn(64, 32, 3, 3)
    inner = drawn(T * size, 32, 4, 4)
    g_image, g_inner = torch.randn(size, 32, 8, 8), torch.randn(T * size, 64, 4, 4)

    def run() -> object:
        first, second = conv2d(image, few, padding=1), conv2d(inner, many, padding=1)
        return torch.autograd.grad([first, second], [few, inner, many], [g_image, g_inner])

    return run


def on_mlx(size: int) -> Callable[[], object]:
    """Return the work in MLX's layout."""
    import mlx.core as mx

    normal = mx.random.normal
    image, few = normal((size, 8, 8, 1)), normal((32, 3, 3, 1))
    inner, many = normal((T * size, 4, 4, 32)), normal((64, 3, 3, 32))
    cotangents = [normal((size, 8, 8, 32)), normal((T * size, 4, 4, 64))]
    mx.eval(image, few, inner, many, cotangents)

    def both(a: mx.array, b: mx.array, c: mx.array) -> list[mx.array]:
        return [mx.conv2d(image, a, 1, 1), mx.conv2d(b, c, 1, 1)]

    def run() -> object:
        found = mx.vjp(both, [few, inner, many], cotangents)
        mx.eval(found)
        return found

    return run


def processor_ms(backend: str, size: int, rounds: int) -> list[float]:
    """Return the quartiles of the processor time, in milliseconds."""
    run = {"torch": on_torch, "mlx": on_mlx}[backend](size)
    for _ in range(WARM):
        run()
    return quartiles([1e3 * clocked(run)[1] for _ in range(rounds)])
