"""What two processes cost: the all-reduce, synchronised norms, and a step, on this machine.

python benchmarks/parallel.py                      # torch by gloo, then MLX by its ring
python benchmarks/parallel.py --backends torch --processes 4 --out FILE.json

Starts torchrun and mlx.launch, each process with one thread. The net is the digits recipe's with
batch norm, batch 32 in all, T = 4. Times are medians, in milliseconds, as rank 0 sees them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH, STEPS, TIMED, WARM = 32, 4, 40, 3


def median_ms(call: Callable[[], Any]) -> float:
    """Return the median time of a call."""
    times = []
    for i in range(WARM + TIMED):
        began = time.perf_counter()
        call()
        if i >= WARM:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def measure(name: str) -> dict[str, Any]:
    """Return the figures of this process' world."""
    import snnx
    from snnx.backend import load_backend
    from snnx.data import Batches, load
    from snnx.models.digits import digits
    from snnx.program import flatten

    backend = load_backend(name)
    world = backend.world("cpu")
    model = digits(batch_norm=True)
    norms = sum(step.op == "batch_norm" for step in flatten(model).steps)
    found: dict[str, Any] = {
        "backend": backend.describe(),
        "processes": world.size,
        "norms": norms,
        "gather_32_bytes_ms": median_ms(lambda: world.gather(np.zeros(32, np.uint8))),
    }
    data = Batches(load("digits"), "train", BATCH, seed=0, drop_last=True, world=world)
    parts = next(data.steps(0))
    for kind, sync in (("synchronised", True), ("by_process", False)):
        net = snnx.build(model, name, device="cpu")
        optim = snnx.Optim(snnx.Adam(lr=0.005))
        session = backend.session(
            net, snnx.TET(), optim, steps=STEPS, group=world.group, sync_norm=sync
        )
        found["parameters"] = sum(p.size for p in net.program.parameters)
        found[f"step_{kind}_ms"] = median_ms(lambda s=session: s.read(s.step(parts, {})))
    if world.size > 1:
        floats = np.zeros(found["parameters"], np.float32)
        found["gather_of_all_gradients_ms"] = median_ms(lambda: world.gather(floats))
    return found


def spawn(name: str, processes: int) -> dict[str, Any]:
    """Return the figures of so many processes."""
    own = [sys.executable, str(Path(__file__).resolve()), "--measure", name]
    if processes > 1 and name == "torch":
        how = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        own = [sys.executable, *how, *own[1:]]
    elif processes > 1:
        launcher = str(Path(sys.executable).with_name("mlx.launch"))
        own = [launcher, "-n", str(processes), "-p", "43210", "--", *own]
    done = subprocess.run(
        own,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def main() -> None:
    """Measure one and several processes of each backend, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=["torch", "mlx"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        found = measure(options.measure)
        from snnx.launch import launched

        launch = launched()
        if launch is None or launch.rank == 0:
            print(json.dumps(found), flush=True)
        return
    rows = [spawn(name, n) for name in options.backends for n in (1, options.processes)]
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()}
    for row in rows:
        print(json.dumps(row))
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
