"""Every row that needs an accelerator, in one command, under ten minutes: correctness and cost.

python benchmarks/gpu.py --out gpu.json            # on the machine with the GPU
python benchmarks/gpu.py --out cpu.json --cpu      # the same rows without one: the script itself

Rows: conformance of every installed backend on the device with its record beside the JSON, the
spine's tests, those of recorded steps, the digits on each backend, and the first and later steps:
eager, recorded, compiled. A row that fails is kept with the end of what it printed; the exit code
is the number of failed rows. What neurons and whole networks cost stands in `kernels.py` and
`networks.py`, each a command of its own.
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
TAIL = 2000


def run(command: list[str], environment: dict[str, str], limit: float) -> dict[str, Any]:
    """Run a command and return its exit code, its time and the end of what it printed."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        code, text = 124, (late.stdout or b"").decode(errors="replace")
    shown = " ".join(["python", *command[1:]])
    seconds = time.monotonic() - began
    return {"command": shown, "exit": code, "seconds": seconds, "output": text[-TAIL:]}


def read(path: Path) -> Any:
    """Return the JSON of a file, or None where there is none."""
    return json.loads(path.read_text()) if path.is_file() else None


def rows(folder: Path, record: Path, backends: list[str], cpu: bool) -> dict[str, Any]:
    """Run every row."""
    python, found = sys.executable, {}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/backends:{ROOT}/conformance"}
    if cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    names = ",".join(["numpy", *backends])
    matrix = folder / "matrix.json"
    command = [python, "-m", "snnx", "conform", "--backends", names, "--json", str(matrix)]
    found["conform"] = run([*command, "--record", str(record)], environment, 240)
    found["conform"]["matrix"] = read(matrix)
    spine = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "conformance/tests/test_spine.py"]
    found["spine"] = run([python, *spine], environment, 90)
    captured = [*spine[:-1], "conformance/tests/test_capture_cuda.py", "-rs"]
    found["capture"] = run([python, *captured], environment, 90)
    for name in backends:
        out = folder / name
        digits = ["-m", "snnx", "train", "digits", "--backend", name, "--out", str(out)]
        found[f"digits-{name}"] = run([python, *digits, "--no-plots"], environment, 240)
        found[f"digits-{name}"]["result"] = read(out / "result.json")
    forms = {"eager": ["--no-compile", "--no-graph"], "recorded": ["--no-compile"]}
    forms["compiled"] = ["--compile"]
    for label, extra in forms.items():
        figures = folder / f"{label}.json"
        step = ["benchmarks/step.py", "--backends", *backends, "--out", str(figures), *extra]
        found[f"step-{label}"] = run([python, *step], environment, 150)
        found[f"step-{label}"]["figures"] = read(figures)
    return found


def main() -> int:
    """Run, write the JSON and return how many rows failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backends", nargs="+")
    parser.add_argument("--cpu", action="store_true", help="hide the CUDA devices")
    chosen = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "backends")]
    from snnx.backend import installed

    backends = chosen.backends or [n for n in ("torch", "mlx") if installed(n)]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    record = chosen.out.with_suffix(".record.json").resolve()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = rows(Path(folder), record, backends, chosen.cpu)
    failed = [name for name, row in found.items() if row["exit"]]
    machine = {"system": platform.platform(), "python": platform.python_version()}
    report = {"machine": machine, "failed": failed, "seconds": time.monotonic() - began} | found
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, row in found.items():
        print(f"{name:16} exit {row['exit']}  {row['seconds']:6.1f} s")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
