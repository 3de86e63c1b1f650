"""Where the time of `cpu.py` goes: the call's own cost, a copy, and the parts of a digits step.

python benchmarks/cpu_profile.py --out benchmarks/results/cpu-profile-linux.json

Times are medians of processor milliseconds. A neuron at 16 values is the call alone; a copy of
what the LIF case moves is the least that a memory-bound neuron takes; the parts of a step are
torch's profiler's, whose own cost is in them: their shares say more than their sizes.
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

from benchmarks.cpu_common import T, interleaved, quartiles  # noqa: E402

SMALL, LARGE, SIZE, STEPS, LISTED = 16, 2**20, 32, 30, 12
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


def parts(kernels: str) -> dict[str, float]:
    """Return the self time of a digits step by what is done, and of its largest operations."""
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.cpu_digits import chosen_batch, session

    batch, _ = chosen_batch(SIZE)
    made = session("torch", kernels=kernels)
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
        "digits_step_ms": {how: parts(how) for how in ("generic", "cpp")},
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
