"""Where the time of `cpu.py` goes: the call's own cost, a copy, and the parts of a digits step.

python benchmarks/cpu_profile.py --out benchmarks/results/cpu-profile-linux.json

Times are medians of processor milliseconds. A neuron at 16 values is the call alone; a copy of
what the LIF case moves is the least that a memory-bound neuron takes; the parts of a step are
torch's profiler's, whose own cost is in them: their shares say more than their sizes. The LIF
kernels of "cpp" stand with and without g++'s vectors, and MLX's convolution beside the same as a
product of unfolded images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "conformance")]

import numpy as np  # noqa: E402

from benchmarks.cpu_common import T, clocked, interleaved, quartiles  # noqa: E402

SMALL, MIDDLE, LARGE, SIZE, STEPS, LISTED = 16, 2**14, 2**20, 32, 30, 12
MOVED = 5  # reads of x twice and of g once, writes of y and of the gradient of x
PARTS = {
    "convolutions": ("convolution", "conv2d", "mkldnn"),
    "batch norm": ("batch_norm",),
    "neurons": ("snnx", "Sequence"),
    "pooling": ("pool",),
}


def calls(rounds: int) -> dict[str, float]:
    """Return what a neuron costs forward and backward at 16 values, by who runs it."""
    from benchmarks.cpu_lif import torch_contenders

    x = np.linspace(-1, 2, T * SMALL, dtype=np.float32).reshape(T, SMALL)
    chosen = torch_contenders(x, np.ones_like(x), True, True)
    spans = interleaved([one.run for one in chosen], rounds)
    medians = [quartiles([1e3 * processor for _, processor in each])[1] for each in spans]
    return dict(zip((one.name for one in chosen), medians, strict=True))


def copied(rounds: int) -> float:
    """Return what it takes to read or write the five sequences of the LIF case once each."""
    import torch

    x, y = torch.rand(T, LARGE), torch.empty(T, LARGE)
    spans = interleaved([lambda: y.copy_(x)], rounds)[0]
    return MOVED / 2 * quartiles([1e3 * processor for _, processor in spans])[1]


def kernels(rounds: int) -> dict[str, dict[str, float]]:
    """Return what the kernels of "cpp" take alone, forward and backward, by size and vectors."""
    import torch

    from benchmarks.cpu_lif import ours
    from snnx_torch.kernels import host

    layer, split, flags = ours("snnx_torch", implementation="cpp"), host._split, host.FLAGS
    spans: list[float] = []

    def clocked_split(*given: Any) -> None:
        spans.append(clocked(lambda: split(*given))[1])

    found: dict[str, dict[str, float]] = {}
    try:
        host._split = clocked_split
        for name, more in (("vectors", ()), ("no vectors", ("-fno-tree-vectorize",))):
            host.FLAGS = (*flags, *more)
            host.function.cache_clear()
            host._folder.cache_clear()  # a library of the same path would not be loaded again
            for neurons in (LARGE, MIDDLE):
                x = torch.randn(T, neurons).abs().requires_grad_()
                for _ in range(rounds):
                    torch.autograd.grad(layer(x).sum(), x)
                ways = {"forward": spans[2::2], "backward": spans[3::2]}
                medians = {way: quartiles([1e3 * s for s in of])[1] for way, of in ways.items()}
                found[f"{name}, {neurons} neurons"] = medians
                spans.clear()
    finally:
        host._split, host.FLAGS = split, flags
        host.function.cache_clear()
    return found


def mlx_products(rounds: int) -> dict[str, float]:
    """Return a product's billions of operations a second, and a convolution in both ways."""
    import mlx.core as mx

    a, b = mx.random.normal((8192, 288)), mx.random.normal((288, 64))
    x, weight = mx.random.normal((128, 8, 8, 32)), mx.random.normal((64, 3, 3, 32))
    mx.eval(a, b, x, weight)

    def direct(x: mx.array, weight: mx.array) -> mx.array:
        return mx.conv2d(x, weight, 1, 1)

    def unfolded(x: mx.array, weight: mx.array) -> mx.array:
        n, h, w, c = x.shape
        padded = mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        seen = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        columns = mx.concatenate(seen, axis=-1).reshape(-1, 9 * c)
        return (columns @ weight.reshape(len(weight), -1).T).reshape(n, h, w, -1)

    def both(way: Any) -> Any:
        gradient = mx.grad(lambda x, weight: (way(x, weight) ** 2).sum(), (0, 1))
        return lambda: mx.eval(gradient(x, weight))

    runs = [lambda: mx.eval(a @ b), both(direct), both(unfolded)]
    spans = interleaved(runs, rounds)
    product, *convolutions = (quartiles([1e3 * p for _, p in each])[1] for each in spans)
    names = ("conv2d, both ways, ms", "unfolded, both ways, ms")
    speed = 2 * 8192 * 288 * 64 / product / 1e6
    return {
        "product, 1e9 operations a second": speed,
        **dict(zip(names, convolutions, strict=True)),
    }


def parts(how: str) -> dict[str, float]:
    """Return the self time of a digits step by what is done, and of its largest operations."""
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.cpu_digits import chosen_batch, session

    batch, _ = chosen_batch(SIZE)
    made = session("torch", kernels=how)
    for step in range(5):
        made.read(made.step([batch], {"step": step}))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for step in range(STEPS):
            made.read(made.step([batch], {"step": step}))
    found = dict.fromkeys((*PARTS, "all other operations"), 0.0)
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    found |= {event.key: event.self_cpu_time_total / 1e3 / STEPS for event in events[:LISTED]}
    for event in events:
        part = next((p for p, words in PARTS.items() if any(w in event.key for w in words)), "")
        found[part or "all other operations"] += event.self_cpu_time_total / 1e3 / STEPS
    return found


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=31)
    chosen = parser.parse_args()
    import torch

    report: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/cpu_profile.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "call_ms": calls(chosen.rounds),
        "copy_ms": copied(chosen.rounds),
        "kernel_ms": kernels(chosen.rounds),
        "mlx": mlx_products(chosen.rounds),
        "digits_step_ms": {how: parts(how) for how in ("generic", "cpp")},
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
