"""A training step of whole networks: ours in each form, plain nets beside them, MLX, one process.

python benchmarks/networks.py --out networks.json                 # on a machine with CUDA
python benchmarks/networks.py --out networks.json --cpu           # every row, tiny: the script
python benchmarks/networks.py --out n.json --rows resnet18 nccl   # some rows

Each case runs in a process of its own, whose caches of compiled kernels are empty where it says
cold. Ours is timed only where its gradients, at the reference's spikes, are those of the float64
reference on a narrow net of the same form; the plain nets' neurons are judged by `kernels.py`.
`device_ms` is between CUDA events around one step (a replay where the step is recorded), `step_ms`
the host's clock over steps of which only the last is read, `peak_mib` what a step allocates over
weights, moments and inputs. cuDNN chooses by its heuristics, unless --search.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "benchmarks")]
LIMIT = 170.0  # seconds of a case

Case = dict[str, Any]


def cases(cpu: bool) -> dict[str, list[Case]]:
    """Return the cases of every row, smaller where there is no GPU."""
    size = {"batch": 2, "width": 0.04, "input": [8, 8, 3]} if cpu else {"batch": 128}
    low = "fp32" if cpu else "tf32"
    found: dict[str, list[Case]] = {}
    ours = [
        {"how": "ours", "compile": c, "graph": g}
        for c, g in ((False, None), (False, False), ("aot_eager" if cpu else True, None))
    ]
    plain = [{"how": h} for h in ("relu", "relu compiled", "loop compiled", "spikingjelly")]
    rows = (("resnet18", 4, "bf16"), ("resnet18", 4, low), ("resnet19", 4, "bf16"))
    for model, steps, precision in (*rows, ("resnet19", 6, "bf16")):
        name = f"{model} T={steps} {precision}"
        base = {"model": model, "T": steps, "precision": precision, **size}
        contenders = [*ours[:1], *plain[:1]]
        if model == "resnet18":
            contenders = [*ours, *plain] if precision == "bf16" else [*ours[::2], *plain[:3]]
        found[name] = [{**base, **one} for one in contenders]
    r18 = {"model": "resnet18", "T": 4, "precision": "bf16", **size}
    found["first step"] = [
        {**r18, "how": "ours", "compile": False, "first": True, "cache": state}
        for state in ("cold", "cached")
    ]
    found["as a run"] = [{**r18, "how": "run", "compile": False}]
    found["inference"] = [{**r18, "how": h} for h in ("inference", "inference spikingjelly")]
    found["nccl"] = [{**r18, "how": "ours", "compile": False, "group": True}]
    dsr = {**r18, "model": "preact_resnet18", "precision": "fp32", "T": 3 if cpu else 20}
    if cpu:
        dsr["input"] = [16, 16, 3]
    ways = ("means", "cheap", "one step", "forward", "products")
    found["dsr"] = [{**dsr, "how": f"dsr {way}"} for way in ways]
    shd = {"model": "shd", "T": 5 if cpu else 250, "batch": 2 if cpu else 256, "how": "ours"}
    shd |= {"precision": "fp32", "compile": False, "width": 0.04 if cpu else 1.0}
    found["recurrent"] = [shd, {**shd, "width": 0.1 if cpu else 2.5}]
    mlx = {**r18, "how": "mlx", "precision": "fp32"}
    found["mlx"] = [{**mlx, "compile": c} for c in (True, False)]
    return found


def measured(case: Case, cpu: bool, search: bool) -> Case:
    """Run a case in a process of its own and return its figures, or why it has none."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/backends:{ROOT}/conformance"}
    if cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if "cache" in case:
        place = Path(tempfile.gettempdir()) / f"snnx-cold-{os.getpid()}"
        environment |= {"TRITON_CACHE_DIR": f"{place}/t", "TORCHINDUCTOR_CACHE_DIR": f"{place}/i"}
    command = [sys.executable, str(Path(__file__).with_name("network_case.py")), json.dumps(case)]
    command += ["--search"] if search else []
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=environment,
            text=True,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**case, "failed": f"no answer in {LIMIT:.0f} s"}
    row = {**case, "seconds": time.monotonic() - began}
    if done.returncode:
        return {**row, "failed": done.stderr[-1500:] or f"exit {done.returncode}"}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def main() -> int:
    """Measure, print, write JSON after every row; the exit code is how many rows failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", help="beginnings of their names")
    parser.add_argument("--cpu", action="store_true", help="tiny, without a GPU")
    parser.add_argument("--search", action="store_true", help="let cuDNN try its algorithms")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds in all")
    chosen = parser.parse_args()
    began, rows = time.monotonic(), []
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    for name, several in cases(chosen.cpu).items():
        if chosen.rows and not any(name.startswith(r) for r in chosen.rows):
            continue
        for case in several:
            row: Case = {"row": name, **case}
            if time.monotonic() - began > chosen.limit:
                row["skipped"] = f"after {chosen.limit:.0f} s"
            else:
                row |= measured(case, chosen.cpu, chosen.search)
            rows.append(row)
            kept = {k: row[k] for k in ("device_ms", "step_ms", "first_s", "peak_mib") if k in row}
            shown = {k: round(v, 3) for k, v in kept.items()}
            how = " ".join(f"{k}={row[k]}" for k in ("compile", "graph", "cache") if k in row)
            said = row.get("skipped") or row.get("refused") or row.get("failed", "")[-200:] or shown
            print(f"{name:22} {row['how']:22} {how:28} {said}", flush=True)
            report = {
                "command": " ".join(["python", "benchmarks/networks.py", *sys.argv[1:]]),
                "machine": {"system": platform.platform(), "python": platform.python_version()},
                "times": "of tiny nets: they say nothing" if chosen.cpu else "see the docstring",
                "seconds": time.monotonic() - began,
                "rows": rows,
            }
            chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    return sum("failed" in row for row in rows)


if __name__ == "__main__":
    sys.exit(main())
