"""A neuron alone: forward and backward, inference, a user's neuron, beside ReLU and a copy.

python benchmarks/kernels.py --out kernels.json                # on a machine with a CUDA device
python benchmarks/kernels.py --out kernels.json --cpu          # tiny, Triton interpreted: a trial
python benchmarks/kernels.py --out k.json --rows "lif T=4"     # some rows

Every contender first meets the float64 reference: other spikes, or gradients outside the op
table's tolerance, and no time is printed for it. Times are of a CUDA graph's replay. Contenders:
the fused kernels, and for the plain LIF the generic scan, a plain loop, both compiled, and
SpikingJelly where it is installed, with a float32 state and with its own.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kernels_contenders import ROOT, Run, agrees, contenders, neurons, numbers_of
from rows import by_itself, options, taken

LIMIT = 120.0  # seconds of a row
LONG = 200.0  # from T = 16 on, where a kernel may compile for half a minute
GROUPS = {  # rows that share a process: what the tables ask for first
    "lif": ("lif",),
    "own": ("own-adaptive", "own-quadratic"),
    "forms": ("lif-attached", "lif-soft", "lif-rectangular"),
}
ORDER = (("lif", 4), ("lif", 8), ("own", 4), ("lif", 16), ("lif", 32), ("forms", 4), ("forms", 8))
MORE = (("own", 8), ("forms", 16), ("own", 16), ("forms", 32), ("own", 32))


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


def rows_of(
    size: Size, names: tuple[str, ...], dtype: str, steps: int, device: str
) -> list[dict[str, Any]]:
    """Return the figures of some neurons at one dtype and T."""
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
        if name not in names:
            continue
        start = numbers_of(neuron, x.shape[-1])
        options = {"dtype": torch.float32, "device": device, "requires_grad": True}
        given = [torch.tensor(v, **options) for v in start.values()]
        for who, run in contenders(name, neuron, tuple(start), steps).items():
            row = {**base, "case": name, "contender": who}
            try:
                wrong = agrees(run, neuron, dtype, device)
            except RuntimeError as error:  # a compiler's or a library's: the rest is measured
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


def one(given: dict[str, Any], cpu: bool) -> dict[str, Any]:
    """Return a row's figures, measured in this process."""
    sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "conformance")]
    import torch

    size, device = (CPU, "cpu") if cpu else (GPU, "cuda")
    found = rows_of(size, GROUPS[given["group"]], given["dtype"], given["T"], device)
    where = "cpu, interpreted" if cpu else torch.cuda.get_device_name()
    ours = [row for row in found if row.get("contender") == "fused"]
    wrong = [f"{row['case']}: {row['refused']}" for row in ours if "refused" in row]
    more = {"failed": "; ".join(wrong)} if wrong else {}
    return {"figures": found, "device": where, "torch": torch.__version__, **more}


def shown(row: dict[str, Any]) -> str:
    """Return a row as lines, one for every figure."""
    lines = [row["row"]]
    for each in row.get("figures", ()):
        of = f"  {each['case']:16} {each.get('contender', ''):16}"
        said = each.get("refused") or f"{each.get('way', ''):10} {each['ms']:9.3f} ms"
        ratio = each.get("to_relu") or each.get("to_copy")
        lines.append(f"{of} {said}" + (f" x {ratio:.2f}" if ratio else ""))
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write JSON after every row; the exit code is how many failed."""
    parser = options(__doc__, 540.0)
    parser.add_argument("--one", help="a row as JSON: measure it in this process and print JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one(json.loads(chosen.one), chosen.cpu)))
        return 0
    size = CPU if chosen.cpu else GPU
    listed = [
        (
            {"row": f"{group} T={steps} {dtype}", "group": group, "T": steps, "dtype": dtype},
            LIMIT if steps < 16 else LONG,
        )
        for group, steps in (*ORDER, *MORE)
        if steps in size.steps
        for dtype in size.dtypes
    ]
    more = {"TRITON_INTERPRET": "1"} if chosen.cpu else {}
    times = "of an interpreter: they say nothing" if chosen.cpu else "of a graph's replay"
    return taken(chosen, listed, by_itself(__file__, chosen, **more), shown, times=times)


if __name__ == "__main__":
    sys.exit(main())
