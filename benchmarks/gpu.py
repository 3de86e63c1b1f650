"""Is it right on an accelerator: recorded steps, conformance, training, first and later steps.

python benchmarks/gpu.py --out gpu.json            # on the machine with the GPU
python benchmarks/gpu.py --out gpu.json --cpu      # the same rows without one, quick: a trial

Rows, in order of importance: the tests of recorded steps that need CUDA, each level of conformance
of every installed backend on the device, its record beside the JSON, the digits trained on each,
and the first and later steps: eager, recorded, compiled. Each is a process with a limit of its own.
What neurons and whole networks cost stands in `kernels.py`, `networks.py` and `mlx_lif.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rows import ROOT, TAIL, Row, environment, isolated, options, taken

TESTS = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
FORMS = {"recorded": ["--no-compile"], "eager": ["--no-compile", "--no-graph"]}
FORMS["compiled"] = ["--compile"]


def listed(backends: list[str]) -> list[tuple[Row, float]]:
    """Return the rows, each with its limit in seconds."""
    found: list[tuple[Row, float]] = []
    captured = "conformance/tests/test_capture_cuda.py"
    if "torch" in backends:
        found.append(({"row": "recorded steps", "tests": captured}, 150.0))

    def add(row: str, limit: float, **more: str) -> None:
        found.extend(({"row": f"{row} {b}", "backend": b, **more}, limit) for b in backends)

    # fewer cases first: how long a device compiles the kernels of every case is not known
    add("conform quick", 150.0, level="ops,exact", quick="--quick")
    add("digits", 150.0)
    add("conform exact", 120.0, level="exact")
    add("conform models", 150.0, level="models")
    add("conform ops", 300.0, level="ops")
    add("conform training", 150.0, level="training")
    for form in FORMS:
        add(f"step {form}", 120.0, form=form)
    found.append(({"row": "spine", "tests": "conformance/tests/test_spine.py"}, 100.0))
    return found


def command(row: Row, place: Path, cpu: bool) -> list[str]:
    """Return the command of a row; what it writes goes to `place`, conformance's record beside."""
    if "tests" in row:
        return [*TESTS, row["tests"]]
    if "level" in row:
        told = ["-m", "snnx", "conform", "--backends", f"numpy,{row['backend']}"]
        record = f"{place}.record.json"
        more = ["--quick"] if cpu or "quick" in row else []
        return [*told, "--level", row["level"], "--json", str(place), "--record", record, *more]
    if "form" in row:
        step = ["benchmarks/step.py", "--backends", row["backend"], "--out", str(place)]
        return [*step, *FORMS[row["form"]]]
    told = ["-m", "snnx", "train", "digits", "--backend", row["backend"], "--out", str(place)]
    return [*told, "--no-plots", *(["epochs=2"] if cpu else [])]


def read(path: Path) -> Any:
    """Return the JSON of a file, or None where there is none."""
    return json.loads(path.read_text()) if path.is_file() else None


def shown(row: Row) -> str:
    """Return a row as a line."""
    accuracy = (row.get("figures") or {}).get("test_accuracy")
    more = f"test accuracy {accuracy:.4f}" if accuracy is not None else ""
    return f"{row['row']:24} {row.get('seconds', 0.0):6.1f} s {more}"


def main() -> int:
    """Run, write the JSON after every row and return how many failed."""
    parser = options(__doc__, 570.0)
    parser.add_argument("--backends", nargs="+")
    chosen = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "backends")]
    from snnx.backend import installed

    backends = chosen.backends or [n for n in ("torch", "mlx") if installed(n)]
    with tempfile.TemporaryDirectory() as folder:

        def run(row: Row, seconds: float) -> Row:
            name = row["row"].replace(" ", "-")
            place = Path(folder) / name
            told = command(row, place, chosen.cpu)
            found = isolated([sys.executable, *told], environment(chosen.cpu), seconds)
            text = found.pop("stdout") + found.pop("stderr")
            made = read(place / "result.json" if place.is_dir() else place)
            record = Path(f"{place}.record.json")
            if record.is_file():
                kept = chosen.out.with_suffix(f".{name}.record.json")
                kept.write_text(record.read_text())
            row = {"command": " ".join(["python", *told]), "figures": made, **found}
            row["output"] = text[-TAIL:]
            return {**row, "failed": text[-TAIL:]} if found["exit"] else row

        return taken(chosen, listed(backends), run, shown)


if __name__ == "__main__":
    sys.exit(main())
