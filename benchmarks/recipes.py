"""Three optimiser steps of every CIFAR and event recipe at full width, image size and T.

python benchmarks/recipes.py                     # those that the results file does not hold yet
python benchmarks/recipes.py tet asgl/shd        # those whose names begin so
python benchmarks/recipes.py --batch 2 --minutes 15

Data are generated noise in the true on-disk layout, labelled synthetic: no accuracy is reported.
Each recipe runs in a process of its own. The batch is the recipe's, halved until an estimate of
the memory fits into --memory; --batch reduces it by hand. A step is that of the recipe's last
stage; what a method does once each epoch (Dspike's finite differences) is not in it. Results go
into the file recipe by recipe, so an interrupted call goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from snnx.checkpoint import spec_hash
from snnx.training import recipe
from snnx.training.rundir import environment

HERE = Path(__file__).parent
DATA = ("cifar10", "cifar100", "dvs-cifar10", "dvs-gesture", "shd", "medlydb")
STEPS = 3
KEPT = 8  # bytes for each output element: float32, kept for the backward pass, and its gradient
GIB = 2**30


def names(begin: list[str]) -> list[str]:
    """Return the recipes of published rows on CIFAR or events whose names begin so."""
    found = []
    for name in recipe.recipe_names():
        wanted = not begin or any(name.startswith(word) for word in begin)
        table = recipe.resolve([recipe.read_recipe(name)]).values["data"] if "/" in name else {}
        if wanted and table.get("name") in DATA:
            found.append(name)
    return found


def fitting(batch: int, per_sample: int, memory: float) -> int:
    """Return the batch, halved until `per_sample` bytes for each sample fit into `memory` GiB."""
    while batch > 1 and batch * per_sample > memory * GIB:
        batch //= 2
    return batch


def measure(name: str, batch: int | None, memory: float, device: str) -> dict[str, Any]:
    """Return the figures of one recipe, measured in this process."""
    from generated import source

    from snnx.data import Batches
    from snnx.training import loop
    from snnx.training.recipe_data import prepared
    from snnx.training.recipe_plan import make_plan

    own = recipe.resolve([recipe.read_recipe(name)]).values
    asked = min(own["batch_size"], batch or own["batch_size"])
    changes = {"backend": "torch", "device": device, "batch_size": asked}
    values = recipe.resolve([recipe.read_recipe(name), (changes, "benchmark")]).values
    with tempfile.TemporaryDirectory() as folder:
        table = {**values["data"], "lazy": True}
        stored = source(table, Path(folder), asked, 2)
        dataset = prepared(stored, table)
        plan = make_plan(values, dataset)
        plan = plan.stage(plan.epochs - 1)[0]
        outputs = sum(math.prod(step.shape) for step in plan.program().steps)
        size = fitting(asked, outputs * plan.steps * KEPT, memory)
        training = loop.start(plan, dataset)
        batches = Batches(dataset, "train", size, plan.seed)
        losses, seconds = [], []
        for step in range(STEPS):
            samples: Any = next(iter(batches.epoch(step)))
            for dial, value in plan.optim.dials(training.program).items():
                training.dials[dial] = plan.schedule.value(value, 0, step, STEPS)
            dials = {**training.dials, "seed": plan.seed, "step": step, "epoch": 0}
            began = time.perf_counter()
            found = training.session.read(training.session.step([samples], dials))
            seconds.append(time.perf_counter() - began)
            losses.append(found["loss"])
    reduced = "by --batch" if asked < own["batch_size"] else ""
    if size < asked:
        reduced = f"to fit into {memory:g} GiB"
    return {
        "recipe": name,
        "data": f"{values['data']['name']} ({stored.label})",
        "T": plan.steps,
        "input": list(training.program.input_shape),
        "batch": size,
        "batch_of_recipe": own["batch_size"],
        "batch_reduced": reduced,
        "parameters": sum(p.size for p in training.program.parameters),
        "losses": losses,
        "finite": all(map(math.isfinite, losses)),
        "step_s": seconds,
        "peak_memory_gib": peak(device),
        "environment": provenance(training.backend.describe()),
    }


def provenance(described: dict[str, str]) -> dict[str, Any]:
    """Return versions, machine, op table and commit of this process."""
    found = environment(described)
    del found["command"]  # the call of a single recipe, which nobody types
    return {**found, "spec_hash": spec_hash(), "commit": commit()}


def commit() -> str:
    """Return the checkout's commit, "-dirty" after it where a file differs from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown: no git"
    words = [git, "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not from a checkout"


def peak(device: str) -> float:
    """Return the peak memory in GiB: of the device, or the process's resident set."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / GIB
    unit = 1 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def table(rows: dict[str, Any]) -> str:
    """Return the results as text."""
    head = f"{'recipe':<34} {'T':>4} {'batch':>9} {'parameters':>11} {'loss':>14} {'GiB':>6} s/step"
    lines = [head]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"{name:<34} {row['error']}")
            continue
        batch = f"{row['batch']}/{row['batch_of_recipe']}"
        loss = f"{row['losses'][0]:.3f}..{row['losses'][-1]:.3f}"
        lines.append(
            f"{name:<34} {row['T']:>4} {batch:>9} {row['parameters']:>11,} {loss:>14} "
            f"{row['peak_memory_gib']:>6.2f} {min(row['step_s']):.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("begin", nargs="*", help="recipes whose names begin so; all without")
    parser.add_argument("--batch", type=int, help="at most so many samples in a batch")
    parser.add_argument("--memory", type=float, default=20.0, help="GiB that a step may take")
    parser.add_argument("--minutes", type=float, help="begin no further recipe after so long")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="results file (recipes-DEVICE.json)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.batch, args.memory, args.device)))
        return
    out = args.out or HERE / "results" / f"recipes-{args.device}.json"
    rows: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    began, left = time.monotonic(), []
    for name in names(args.begin):
        if name in rows and "error" not in rows[name]:
            continue
        if args.minutes is not None and time.monotonic() - began > 60 * args.minutes:
            left.append(name)
            continue
        print(f"{name} ...", flush=True)
        command = [sys.executable, __file__, "--one", name, "--device", args.device]
        command += ["--memory", str(args.memory)]
        command += [] if args.batch is None else ["--batch", str(args.batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            rows[name] = {"error": f"exit status {done.returncode}: {last}"}
        else:
            rows[name] = json.loads(done.stdout.splitlines()[-1])
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_suffix(".part")
        unfinished.write_text(json.dumps(rows, indent=1) + "\n")
        unfinished.replace(out)
    print(table(rows))
    if left:
        print(f"not run: {', '.join(left)}")
    if any("error" in row or not row["finite"] for row in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
