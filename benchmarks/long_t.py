"""Peak memory of a training step against T: whole, in chunks of time, with ranges computed again.

    python benchmarks/long_t.py             writes benchmarks/results/long_t-cpu.json and the figure
    python benchmarks/long_t.py --figure    draws the figure again, from the record

A convolutional net on [T, 4, 16, 16, 2] on the CPU. `peak_mib` of torch is the most that the step
held beyond what was there before it, by every allocation and release of torch's CPU allocator
(`torch.profiler`); that of MLX is `mx.get_peak_memory`, less the active memory before. The figure
is drawn from the JSON alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import snnx
from snnx import LIF, SGD, TET, AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Optim
from snnx.analysis import style

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "long_t-cpu.json"
FIGURE = ROOT / "docs" / "long_t.svg"
LENGTHS = (16, 32, 64, 128)
TICKS = (5, 10, 20, 50, 100)  # of the figure, MiB
SAMPLES, CHUNK, RECOMPUTE = 4, 16, 4
FORMS: dict[str, dict[str, int]] = {
    "whole": {},
    "recompute = 4": {"recompute": RECOMPUTE},
    "chunk = 16": {"chunk": CHUNK},
    "both": {"chunk": CHUNK, "recompute": RECOMPUTE},
}


def model() -> Chain:
    """Return three blocks of convolution, norm and neuron."""
    block = [part for width in (8, 8, 8) for part in (Conv2d(width, 3), BatchNorm(), LIF())]
    return Chain(Input(16, 16, 2), *block, AvgPool2d(4), Flatten(), Linear(10))


def batch(length: int) -> Any:
    """Return a sequence of a repeating pattern, which is enough to count bytes."""
    shape = (length, SAMPLES, 16, 16, 2)
    x = (np.arange(np.prod(shape)) * 37 % 101 / 100).astype(np.float32).reshape(shape)
    return {"x": x, "y": np.arange(SAMPLES) % 10, "index": np.arange(SAMPLES)}


def torch_peak(step: Any) -> int:
    """Return the most bytes that were allocated during a call, beyond those before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step()
    results: Any = run.profiler  # its events have more than their stubs say
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


def mlx_peak(step: Any) -> int:
    """Return the same of MLX."""
    import mlx.core as mx

    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    step()
    return mx.get_peak_memory() - before


PEAKS = {"torch": torch_peak, "mlx": mlx_peak}


def measure(backend: str, length: int, form: dict[str, Any]) -> float:
    """Return the peak of a second step, in MiB."""
    chosen = snnx.load_backend(backend)
    net = snnx.build(model(), backend, device="cpu")
    made = chosen.session(net, TET(), Optim(SGD(0.1)), steps=length, compile=False, **form)
    data = batch(length)

    def step() -> None:
        made.read(made.step([data], {}))

    step()
    return PEAKS[backend](step) / 2**20


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the peaks of both backends against T."""
    with style.styled():
        drawn = style.new_figure(8.0, 3.4)
        axes = drawn.subplots(1, len(PEAKS), sharex=True, sharey=True)
        for ax, backend in zip(axes, PEAKS, strict=True):
            for form, mark, colour in zip(FORMS, "os^D", style.SERIES, strict=False):
                own = [row for row in rows if (row["backend"], row["form"]) == (backend, form)]
                t, peaks = [r["T"] for r in own], [r["peak_mib"] for r in own]
                ax.plot(t, peaks, marker=mark, color=colour, label=form)
            ax.set(title=backend, xlabel="T (steps)", xscale="log", yscale="log")
            ax.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
            ax.set_yticks(TICKS, [str(tick) for tick in TICKS])
            ax.minorticks_off()
            ax.grid(True, axis="y")
        axes[0].set_ylabel("peak memory of a step, MiB")
        axes[0].legend(frameon=False, fontsize=8.0)
        path.write_bytes(style.save(drawn, "svg"))


def main() -> None:
    """Measure every case, then write the record and the figure; or the figure alone."""
    parser = argparse.ArgumentParser(description="Peak memory of a training step against T.")
    parser.add_argument("--figure", action="store_true", help="draw it again, from the record")
    if parser.parse_args().figure:
        figure(json.loads(RECORD.read_text())["rows"], FIGURE)
        return
    rows = []
    for backend in PEAKS:
        for length in LENGTHS:
            for form, options in FORMS.items():
                peak = round(measure(backend, length, options), 2)
                rows.append({"backend": backend, "form": form, "T": length, "peak_mib": peak})
                print(rows[-1], file=sys.stderr)
    about = {name: version(name) for name in ("numpy", "torch", "mlx")}
    about |= {"python": platform.python_version(), "machine": platform.machine(), "device": "cpu"}
    about["cores"] = str(os.cpu_count())
    found = {"command": "python benchmarks/long_t.py", "environment": about, "rows": rows}
    RECORD.write_text(json.dumps(found, indent=1) + "\n")
    figure(rows, FIGURE)


if __name__ == "__main__":
    main()
