"""A neuron alone: forward and backward, inference, a user's neuron, beside ReLU and a copy.

python benchmarks/kernels.py --out kernels.json          # on a machine with a CUDA device
python benchmarks/kernels.py --out kernels.json --cpu    # tiny, Triton interpreted: the script

Every contender first meets the float64 reference: other spikes, or gradients outside the op
table's tolerance, and no time is printed for it. Times are of a CUDA graph's replay. Contenders:
the fused kernels, the generic scan, the scan compiled, and SpikingJelly where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kernels_contenders import ROOT, Run, agrees, contenders, neurons, numbers_of


@dataclass(frozen=True)
class Size:
    """What is timed: T, neurons, dtypes, and how often."""

    steps: tuple[int, ...]
    neurons: int
    dtypes: tuple[str, ...]
    warm: int
    timed: int


GPU = Size((4, 8, 16, 32), 2**24, ("float32", "bfloat16"), 3, 20)
CPU = Size((4, 8), 192, ("float32", "bfloat16"), 1, 2)


def timed(call: Callable[[], Any], size: Size, cuda: bool) -> dict[str, float]:
    """Return the median and the smallest time of a call in milliseconds."""
    import torch

    if not cuda:
        for _ in range(size.warm):
            call()
        spans = []
        for _ in range(size.timed):
            start = time.perf_counter()
            call()
            spans.append(1e3 * (time.perf_counter() - start))
        return {"ms": statistics.median(spans), "least_ms": min(spans)}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(size.warm):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    spans = []
    for _ in range(size.timed):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        spans.append(first.elapsed_time(last))
    return {"ms": statistics.median(spans), "least_ms": min(spans)}


def both(run: Run, g: Any, x: Any, *given: Any) -> Any:
    import torch

    return torch.autograd.grad(run(x, *given), [x, *given], g)


def measured(size: Size, dtype: str, steps: int, device: str) -> list[dict[str, Any]]:
    """Return the rows of one dtype and T."""
    import torch

    cuda, kind, total = device == "cuda", getattr(torch, dtype), steps * size.neurons
    place = torch.arange(total, device=device, dtype=torch.int32) * 40503 & 0xFFFF
    shift = torch.arange(steps, device=device)[:, None] * 0.37  # no neuron sees one value twice
    x = ((place.view(steps, -1) / 65536 + shift) % 1.0 * 1.4 - 0.4).to(kind).view(steps, 64, -1)
    del place
    g, y = torch.ones_like(x), torch.empty_like(x)
    base = {"dtype": dtype, "T": steps, "neurons": size.neurons}
    copy = timed(lambda: y.copy_(x), size, cuda)
    moved = 2 * total * x.element_size()
    rows = [{**base, "case": "copy", **copy, "GB/s": moved / copy["ms"] / 1e6}]
    still = x.detach()
    x.requires_grad_()
    floor = timed(lambda: both(torch.relu, g, x), size, cuda)
    rows.append({**base, "case": "relu", "way": "training", **floor})
    for name, neuron in neurons().items():
        start = numbers_of(neuron, x.shape[-1])
        options = {"dtype": torch.float32, "device": device, "requires_grad": True}
        given = [torch.tensor(v, **options) for v in start.values()]
        for who, run in contenders(name, neuron, tuple(start), steps).items():
            row = {**base, "case": name, "contender": who}
            try:
                wrong = agrees(run, neuron, dtype, device)
            except RuntimeError as error:  # another's compiler or library: the rest is measured
                if who == "fused":
                    raise
                wrong = f"it fails here: {str(error).partition(chr(10))[0]}"
            if wrong:
                rows.append({**row, "refused": wrong})
                continue
            forward, whole = partial(run, still, *given), partial(both, run, g, x, *given)
            with torch.no_grad():
                row["rate"] = float((forward() > 0).float().mean())
                seen = timed(forward, size, cuda)
            rows.append({**row, "way": "inference", **seen, "to_copy": seen["ms"] / copy["ms"]})
            seen = timed(whole, size, cuda)
            rows.append({**row, "way": "training", **seen, "to_relu": seen["ms"] / floor["ms"]})
    return rows


def main() -> int:
    """Measure, print, write JSON; the exit code is how many rows of ours were refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu", action="store_true", help="tiny, by Triton's interpreter")
    chosen = parser.parse_args()
    if chosen.cpu:
        os.environ |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "conformance")]
    import torch

    device = "cpu" if chosen.cpu else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --cpu runs the script without one")
    began = time.monotonic()
    size = CPU if chosen.cpu else GPU
    rows = [
        row
        for dtype in size.dtypes
        for steps in size.steps
        for row in measured(size, dtype, steps, device)
    ]
    where = "cpu, interpreted" if chosen.cpu else torch.cuda.get_device_name()
    refused = [row for row in rows if "refused" in row and row["contender"] == "fused"]
    report = {
        "command": " ".join(["python", "benchmarks/kernels.py", *sys.argv[1:]]),
        "machine": {"system": platform.platform(), "device": where, "torch": torch.__version__},
        "times": "of an interpreter: they say nothing" if chosen.cpu else "of a graph's replay",
        "seconds": time.monotonic() - began,
        "refused": len(refused),
        "rows": rows,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    for row in rows:
        of = f"{row['dtype']:9} T={row['T']:<3} {row['case']:16} {row.get('contender', ''):14}"
        shown = row.get("refused") or f"{row.get('way', ''):10} {row['ms']:9.3f} ms"
        ratio = row.get("to_relu") or row.get("to_copy")
        print(of, shown, f"x {ratio:.2f}" if ratio else "")
    return len(refused)


if __name__ == "__main__":
    sys.exit(main())
