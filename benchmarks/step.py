"""What a first step and every later one cost: the digits recipe's net on each backend.

python benchmarks/step.py                            # every backend that is installed
python benchmarks/step.py --backends mlx --compile   # the compiled step
python benchmarks/step.py --out benchmarks/results/step-linux-cpu.json

Every backend runs in a process of its own. Times are wall-clock seconds; memory is the process's
peak resident set. Import time is that of `import snnx` alone, the median of several processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS, BATCH, TIMED, WARM = 4, 32, 60, 10


def measure(
    name: str, compile: bool | None, graph: bool | None, device: str | None
) -> dict[str, Any]:
    """Return the figures of one backend, measured in this process."""
    began = time.perf_counter()
    import snnx
    from snnx.backend import load_backend
    from snnx.data import Batches, load
    from snnx.models.digits import digits

    backend = load_backend(name)
    imported = time.perf_counter()
    net = snnx.build(digits(), name, device=device)
    optim = snnx.Optim(snnx.Adam(lr=0.005))
    session = backend.session(net, snnx.TET(), optim, steps=STEPS, compile=compile, graph=graph)
    batches = list(Batches(load("digits"), "train", BATCH, seed=0, drop_last=True).epoch(0))
    built = time.perf_counter()
    times = []
    for step in range(WARM + TIMED):
        start = time.perf_counter()
        session.read(session.step([batches[step % len(batches)]], {"step": step}))
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "backend": backend.describe(),
        "compiled": session.compilations() > 0,
        "form": session.step_form(),
        "T": STEPS,
        "batch": BATCH,
        "import_backend_s": imported - began,
        "build_s": built - imported,
        "first_step_s": times[0],
        "step_median_s": statistics.median(times[WARM:]),
        "step_minimum_s": min(times[WARM:]),
        "peak_memory_mib": peak / (2**20 if platform.system() == "Darwin" else 2**10),
    }


def import_time(repeats: int = 5) -> float:
    """Return the median time that `import snnx` takes in a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import snnx; print(time.perf_counter() - t)"
    runs = [
        subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(repeats)
    ]
    return statistics.median(float(run) for run in runs)


def main() -> None:
    """Measure and print JSON; write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--no-graph", action="store_false", dest="graph", default=None)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        figures = measure(chosen.one, chosen.compile, chosen.graph, chosen.device)
        print(json.dumps(figures))
        return
    from snnx.backend import installed

    names = chosen.backends or [n for n in ("torch", "mlx") if installed(n)]
    passed = {True: ["--compile"], False: ["--no-compile"], None: []}[chosen.compile]
    passed = [*passed, *(["--no-graph"] if chosen.graph is False else [])]
    passed += ["--device", chosen.device] if chosen.device else []
    found: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "import_snnx_s": import_time(),
    }
    for name in names:
        command = [sys.executable, __file__, "--one", name, *passed]
        found[name] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    text = json.dumps(found, indent=2)
    print(text)
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
