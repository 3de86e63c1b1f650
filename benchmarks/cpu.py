"""Time on a CPU: the LIF neuron alone and the digits step, beside whatever peers are installed.

python benchmarks/cpu.py --out benchmarks/results/cpu-linux.json   # 15 rounds or more
python benchmarks/cpu.py --page                                    # docs/performance.md from them
python benchmarks/cpu.py --quick --out cpu.json                    # tiny, no peers: the script

One thread of torch (MLX has a thread of its own for every stream). Every contender first meets the
float64 reference in this process; where its spikes or gradients are others, no time is taken.
Contenders take turns. Beside wall time stands processor time, which other work on the machine
disturbs less. Peers, none needed: SpikingJelly and snnTorch (torch), mlx-snn (MLX).

MLX's wheels for Linux bring the reference BLAS; LD_PRELOAD=libopenblas.so.0 puts a quick one in its
place, for the peers too. Such a record is one of its own: --out .../cpu-linux-openblas.json
MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=268435456 make
glibc keep what was freed, so that nobody's time is that of the system handing out pages.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [p for p in (str(ROOT), str(ROOT / "backends")) if p not in sys.path]

from benchmarks import cpu_digits, cpu_lif  # noqa: E402  the paths above are theirs

RESULTS = [ROOT / "benchmarks/results" / f"cpu-linux{which}.json" for which in ("", "-openblas")]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- cpu: from benchmarks/cpu.py -->", "<!-- cpu: end -->"
GIVEN = ("LD_PRELOAD", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
PACKAGES = ("torch", "mlx", "numpy", "spikingjelly", "snntorch", "mlx-snn")
SIZES = (2**20, 2**14)


def version(package: str) -> str:
    """Return the version of a package, or that it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the name of the CPU, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def report(backends: list[str], rounds: int, quick: bool, peers: bool) -> dict[str, Any]:
    """Measure everything."""
    if "torch" in backends:
        import torch

        torch.set_num_threads(1)
    began = time.monotonic()
    load = [os.getloadavg()]
    cases = []
    for backend in backends:
        for neurons in (256,) if quick else SIZES:
            cases.append(cpu_lif.case(backend, neurons, rounds, quick, peers))
        cases.append(cpu_digits.case(backend, 2 if quick else 32, rounds, quick, peers))
    load.append(os.getloadavg())
    return {
        "command": " ".join(["python", "benchmarks/cpu.py", *sys.argv[1:]]),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in PACKAGES},
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "given": {name: os.environ[name] for name in GIVEN if name in os.environ},
        "load_average_before_and_after": load,
        "seconds": time.monotonic() - began,
        "cases": cases,
    }


def title(case: dict[str, Any], preloaded: str) -> str:
    """Return what a case is, in a few words."""
    what = f"N = {case['neurons']:,}" if "neurons" in case else f"batch {case['batch']}"
    under = f", {preloaded} preloaded" if preloaded else ""
    return f"{case['case']} on {case['backend']}, T = {case['T']}, {what}{under}"


def span(quartiles: list[float], digits: int = 3) -> str:
    """Return a median with its quartiles."""
    low, middle, high = (f"{value:.{digits}g}" for value in quartiles)
    return f"{middle} ({low} to {high})"


def table(case: dict[str, Any]) -> list[str]:
    """Return a case as the lines of a table."""
    lines = ["| | processor ms | wall ms | ratio, processor | ratio, wall |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in case["contenders"]:
        cells = [row["name"]]
        if "refused" in row:
            cells += [f"no time: {row['refused']}", "", "", ""]
        else:
            cells += [span(row["processor_ms"]), span(row["wall_ms"])]
            ratio = case["ratios"].get(row["name"])
            cells += [span(ratio[of]) for of in ("processor", "wall")] if ratio else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def section(found: dict[str, Any], record: Path | None = None) -> str:
    """Return the part of the page that is made from a record."""
    preloaded = Path(found["given"].get("LD_PRELOAD", "")).name
    before = "".join(f"{name}={Path(v).name} " for name, v in found["given"].items())
    versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    machine = found["machine"]
    loads = " and ".join(f"{load[0]:.1f}" for load in found["load_average_before_and_after"])
    lines = [
        f"`{before}{found['command']}` on {machine['processor']}, {machine['system']}, "
        f"Python {machine['python']}; {versions}; OMP_NUM_THREADS = {found['OMP_NUM_THREADS']}. "
        f"Load average before and after: {loads}.",
    ]
    if record is not None:
        lines[0] += f" Record: `benchmarks/results/{record.name}`."
    for case in found["cases"]:
        others = {ratio["beside"] for ratio in case["ratios"].values()}
        beside = f"Ratios are to {others.pop()}: above 1, snnx is faster. " if others else ""
        lines += ["", f"### {title(case, preloaded)}", ""]
        errors = [r["gradient_error"] for r in case["contenders"] if "refused" not in r]
        told = f"{case['rounds']} rounds; mean rate {case['rate']:.2f}"
        told += f"; gradients within {max(errors):.0e} of the reference" if errors else ""
        if "left_out_share" in case:
            told += f"; {case['left_out_share']:.2%} of the neurons left out of the comparison"
        if "convolutions_ms" in case:
            told += (
                f". The convolutions alone: {span(case['convolutions_ms'])} ms of processor time"
            )
        lines += [f"{told}. {beside}".strip(), ""]
        lines += table(case)
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the sections of the records in the place of the old ones."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    found = [section(json.loads(path.read_text()), path) for path in RESULTS if path.is_file()]
    return "\n\n".join([f"{head}{BEGIN}", *found, f"{END}{tail}"])


def main() -> None:
    """Measure, print and write JSON, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--backends", nargs="+", choices=["torch", "mlx"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds, no peers")
    parser.add_argument("--page", action="store_true", help="write the page from the record")
    chosen = parser.parse_args()
    if chosen.page:
        PAGE.write_text(page(PAGE.read_text()))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is first imported
    from snnx.backend import installed

    backends = chosen.backends or [name for name in ("torch", "mlx") if installed(name)]
    rounds = 2 if chosen.quick else chosen.rounds
    found = report(backends, rounds, chosen.quick, peers=not chosen.quick)
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    print(section(found))


if __name__ == "__main__":
    main()
