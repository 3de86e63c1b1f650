"""A training step of whole networks: ours in each form, plain nets and peers beside them, MLX.

python benchmarks/networks.py --out networks.json               # on a machine with CUDA
python benchmarks/networks.py --out networks.json --cpu         # every row, tiny: the script
python benchmarks/networks.py --out n.json --rows resnet18 nccl # some rows

Each case runs in a process of its own, whose caches of compiled kernels are empty where it says
cold. Every net, ours and theirs, is timed only where a narrow net of the same form agrees with the
float64 reference (`network_check`), and where its mean rate is 0.10 to 0.25. `device_ms` is between
CUDA events around one step (a replay where the step is recorded), `step_ms` the host's clock over
steps of which only the last is read, `peak_mib` what a step allocates over weights, moments and
inputs. cuDNN tries four algorithms for each convolution, for every contender, as a session on CUDA
has it do by itself; with --no-search it chooses by its heuristics.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rows import environment, measured, options, taken

Case = dict[str, Any]
LIMIT, COMPILED = 140.0, 200.0  # seconds of a case, of one that a compiler takes part in


def cases(cpu: bool) -> list[Case]:
    """Return the cases in order of importance, smaller where there is no GPU."""
    size = {"batch": 2, "width": 0.04, "input": [8, 8, 3]} if cpu else {"batch": 128}
    compiler, low = "aot_eager" if cpu else True, "fp32" if cpu else "tf32"
    found: list[Case] = []

    def add(row: str, base: Case, *hows: str | Case) -> None:
        for how in hows:
            found.append({"row": row, **base, **({"how": how} if isinstance(how, str) else how)})

    def resnet(model: str, steps: int, precision: str) -> tuple[str, Case]:
        base = {"model": model, "T": steps, "precision": precision, "compile": False, **size}
        return f"{model} T={steps} {precision}", base

    r18, tf32, r19 = (
        resnet(*which)
        for which in (("resnet18", 4, "bf16"), ("resnet18", 4, low), ("resnet19", 4, "bf16"))
    )
    peers = ("spikingjelly 32", "spikingjelly", "spikingjelly 16", "snntorch")
    add(*r18, "ours", "relu", "loop compiled", *peers[:1])
    add(*tf32, "ours", "relu", *peers[:1])
    add("nccl", r18[1], "group")
    add(*r19, "ours", "relu", *peers[:1])
    add("as a run", {**r18[1], "compile": None}, "run")  # as the recipe has it, by itself
    firsts = ({"how": "ours", "first": True, "cache": state} for state in ("cold", "cached"))
    add("first step", r18[1], *firsts)
    shd = {"model": "shd", "T": 5 if cpu else 250, "batch": 2 if cpu else 256}
    shd |= {"precision": low, "compile": False, "width": 0.04 if cpu else 1.0}
    add("recurrent", shd, "ours", "loop compiled", "loop", "spikingjelly")
    add("recurrent fp32", {**shd, "precision": "fp32"}, "ours")
    add("recurrent wide", {**shd, "width": 0.1 if cpu else 2.5}, "ours", "loop compiled")
    dsr = {**r18[1], "model": "preact_resnet18", "precision": "fp32", "T": 3 if cpu else 20}
    dsr |= {"input": [16, 16, 3]} if cpu else {}
    ways = ("means", "cheap", "one step", "forward", "products")
    add("dsr", dsr, *(f"dsr {way}" for way in ways))
    add("inference", r18[1], "inference", *(f"inference {p}" for p in ("spikingjelly 32", "loop")))
    add(*resnet("resnet19", 6, "bf16"), "ours", "relu", *peers[:1])
    add(r18[0], r18[1], {"how": "ours", "graph": False}, {"how": "ours", "compile": compiler})
    more = [peer for peer in peers[1:] if not (cpu and peer == "spikingjelly 16")]  # CUDA only
    add(r18[0], r18[1], "relu compiled", *more)
    add(*tf32, "loop compiled", peers[3])
    add(*r19, peers[3])
    mlx = {**r18[1], "how": "mlx", "precision": "fp32", "compile": True}
    add("mlx", mlx, {"kernels": "auto"}, {"kernels": "generic"})
    return found


def limit(case: Case) -> float:
    slow = case.get("compile") is not False or "compiled" in case["how"] or case["how"] == "group"
    return COMPILED if slow or case["how"] == "spikingjelly 16" else LIMIT


def shown(row: Case) -> str:
    """Return a row as a line."""
    kept = ("device_ms", "step_ms", "first_s", "peak_mib", "rate", "ratio", "gradients_equal")
    figures = {k: round(row[k], 3) for k in kept if k in row}
    how = " ".join(f"{k}={row[k]}" for k in ("graph", "cache", "kernels") if k in row)
    how += f" compile={row['compile']}" if row["compile"] else ""
    if "check" in row:
        figures["error"] = float(f"{row['check']['error']:.1e}")
    return f"{row['row']:20} {row['how']:18} {how:14} {figures}"


def main() -> int:
    """Measure, print, write JSON after every row; the exit code is how many rows failed."""
    parser = options(__doc__, 570.0)
    parser.add_argument("--no-search", action="store_true", help="cuDNN chooses without trying")
    chosen = parser.parse_args()
    script = str(Path(__file__).with_name("network_case.py"))
    with tempfile.TemporaryDirectory() as folder:

        def run(row: Case, seconds: float) -> Case:
            more = {}
            if "cache" in row:  # the second case finds what the first has compiled
                place = {"TRITON_CACHE_DIR": "t", "TORCHINDUCTOR_CACHE_DIR": "i"}
                more = {name: str(Path(folder) / end) for name, end in place.items()}
            if row["how"] == "mlx":
                more["MLX_ENABLE_TF32"] = "0"
            command = [sys.executable, script, json.dumps(row)]
            command += ["--no-search"] if chosen.no_search else []
            return measured(command, environment(chosen.cpu, **more), seconds)

        times = "of tiny nets: they say nothing" if chosen.cpu else "see the docstring"
        rows = [(case, limit(case)) for case in cases(chosen.cpu)]
        return taken(chosen, rows, run, shown, times=times)


if __name__ == "__main__":
    sys.exit(main())
