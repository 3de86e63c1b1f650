"""MLX: a LIF neuron alone, forward and backward, by our kernel, by array operations and by peers.

python benchmarks/mlx_lif.py --out mlx.json          # on an Apple GPU, or with MLX's CUDA build
python benchmarks/mlx_lif.py --out mlx.json --cpu    # tiny, on MLX's CPU, which has no kernels

Each contender is a process of its own; its spikes and gradients first meet the float64 reference,
or it has no time. T = 4, float32, the neuron and the input those of `cpu.py`. A time is the wall
clock's over `CALLS` calls that are evaluated together, so that the host does not wait for each, and
the median of `ROUNDS`; `once_ms` is a call that is waited for. "generic" is the neuron as array
operations, "loop" one as a user writes it, "compiled" by mx.compile.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import sys
import time
from typing import Any

from rows import ROOT, by_itself, options, taken

sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

LIMIT = 100.0  # seconds of a row: the first call of a compiled loop takes half a minute on CUDA
NEURONS, CALLS, ROUNDS = 2**20, 20, 15
TINY = {"neurons": 256, "calls": 2, "rounds": 2}
HOWS = ("kernel compiled", "generic compiled", "loop compiled", "kernel", "mlx-snn compiled")
MORE = ("generic", "loop", "mlx-snn")


def loop(x: Any) -> Any:
    """Run the neuron as a loop that anybody would write in MLX."""
    import math

    import mlx.core as mx

    u, spikes = mx.zeros_like(x[0]), []
    for t in range(x.shape[0]):
        v = 0.5 * u + x[t]
        smooth = mx.arctan(math.pi * (v - 1.0)) / math.pi
        spike = mx.stop_gradient((v >= 1.0).astype(v.dtype) - smooth) + smooth
        u = v * (1.0 - spike)
        spikes.append(spike)
    return mx.stack(spikes)


def layer(name: str) -> Any:
    """Return a contender as a function of x [T, N, F]."""
    from benchmarks import cpu_lif

    if name == "loop":
        return loop
    if name == "mlx-snn":
        return cpu_lif.mlxsnn()
    how = {"kernel": "fused", "generic": "generic"}[name]
    return cpu_lif.ours("snnx_mlx", implementation=how)


def one(row: dict[str, Any]) -> dict[str, Any]:
    """Return a contender's figures, measured in this process."""
    import mlx.core as mx
    import numpy as np

    from benchmarks import cpu_lif
    from benchmarks.cpu_common import Answer, verdict
    from snnx.ops import OPS
    from snnx_mlx.kernels import launch

    name, *compiled = row["how"].split()
    if name == "mlx-snn" and not cpu_lif.installed("mlxsnn"):
        return {"refused": "mlx-snn is not installed"}
    rng = np.random.default_rng(3)
    x = rng.uniform(-0.4, 1.2, (4, 1, row["neurons"])).astype(np.float32)
    g = rng.standard_normal(x.shape).astype(np.float32)
    op, attributes = OPS["neuron"], {"neuron": cpu_lif.spiking_neuron(), "observe": True}
    inputs = {"x": x.astype(np.float64)}
    out = op.forward(np, inputs, attributes)
    cotangents = {k: np.zeros_like(v) for k, v in out.items()} | {"y": g.astype(np.float64)}
    gradient = op.vjp(np, inputs, attributes, out, cotangents)["x"]
    run, given = layer(name), (mx.array(x), mx.array(g))

    def both(a: Any, b: Any) -> Any:
        (y,), (found,) = mx.vjp(lambda v: [run(v)], [a], [b])
        return y, found

    call = mx.compile(both) if compiled else both
    where = {"device": str(mx.default_device()), "kernels": launch.target() or "none here"}
    began = time.perf_counter()
    try:
        y, found = call(*given)
    except ValueError as error:  # a kernel was asked for, where there are none
        if name != "kernel" or launch.target() is not None:
            raise
        return {"refused": str(error), **where}
    mx.eval(y, found)
    first = time.perf_counter() - began
    free = [np.abs(out["potential"]) < cpu_lif.MARGIN]
    answer = Answer((np.array(y),), {"x": np.array(found)})
    wanted = Answer((out["y"],), {"x": gradient})
    check = verdict(answer, wanted, op.tolerance["float32"].gradient, free)
    rate = float(out["y"].mean())
    if "refused" in check:
        return {**check, "rate": rate, **where}

    def spans(calls: int) -> float:
        found = []
        for _ in range(row["rounds"]):
            began = time.perf_counter()
            mx.eval([call(*given) for _ in range(calls)])
            found.append(1e3 * (time.perf_counter() - began) / calls)
        return statistics.median(found)

    times = {"ms": spans(row["calls"]), "once_ms": spans(1), "first_s": first}
    return {**check, "rate": rate, **times, **where, "mlx": importlib.metadata.version("mlx")}


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    figures = {k: round(row[k], 3) for k in ("ms", "once_ms", "first_s", "rate") if k in row}
    return f"{row['row']:20} {row['how']:18} {figures}"


def main() -> int:
    """Measure, print, write JSON after every row; the exit code is how many rows failed."""
    parser = options(__doc__, 400.0)
    parser.add_argument("--one", help="a row as JSON: measure it in this process and print JSON")
    chosen = parser.parse_args()
    if chosen.one:
        if chosen.cpu:
            import mlx.core as mx

            mx.set_default_device(mx.cpu)  # type: ignore[arg-type]
        print(json.dumps(one(json.loads(chosen.one))))
        return 0
    size = TINY if chosen.cpu else {"neurons": NEURONS, "calls": CALLS, "rounds": ROUNDS}
    listed = [
        ({"row": f"lif T=4 N={size['neurons']}", "how": how, **size}, LIMIT)
        for how in (*HOWS, *MORE)
    ]
    run = by_itself(__file__, chosen, MLX_ENABLE_TF32=os.environ.get("MLX_ENABLE_TF32", "0"))
    times = "of tiny arrays: they say nothing" if chosen.cpu else "of the wall clock"
    return taken(chosen, listed, run, shown, times=times)


if __name__ == "__main__":
    sys.exit(main())
