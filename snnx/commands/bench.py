"""`snnx bench`: what a training step of a recipe costs on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from snnx.analysis.bench import FORMS, Cost, Form, bench
from snnx.analysis.memory import readable
from snnx.backend import BackendError, installed, load_backend
from snnx.commands.plan import planned, stand_in
from snnx.commands.screen import Screen
from snnx.training.rundir import environment

HEAD = ("backend", "form", "first step", "step", "+-", "with loader", "samples/s", "peak", "error")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for; `forms` measures every form and not only the default."""

    words: Sequence[str]
    forms: bool = False
    repeats: int = 20
    shape: str | None = None
    classes: int | None = None


def run(request: Request, screen: Screen) -> int:
    """Measure every backend that is named, or installed; return 1 where one disagrees."""
    named = [word for word in request.words if word.startswith("backend=")]
    names = [n for n in ("torch", "mlx") if installed(n)] if not named else [""]
    rows: list[Cost] = []
    facts = {}
    screen.line("  ".join((f"{HEAD[0]:<8}", f"{HEAD[1]:<16}", *(f"{h:>11}" for h in HEAD[2:]))))
    for name in names:
        words = [*request.words, *([f"backend={name}"] if name else [])]
        plan, dataset = planned(words, request.shape, request.classes)
        if request.shape is not None:
            dataset = stand_in(request.shape, request.classes, 2 * plan.batch_size)
        facts[plan.backend] = environment(load_backend(plan.backend).describe())
        for form in FORMS if request.forms else (Form(plan.lean, plan.compile),):
            try:
                rows.append(bench(plan, dataset, form, request.repeats))
            except BackendError as error:
                if not request.forms:
                    raise
                screen.warn(f"{plan.backend} {form.name}: not here: {error}")
                continue
            _line(rows[-1], screen)
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    screen.line("step: median of one batch again and again, +- its quartiles' distance; error: of")
    screen.line("loss and gradients against the float64 reference at its spikes, over the largest")
    screen.line("value; a form that disagrees, there or in a spike off its threshold, has no")
    screen.line(f"time. OMP_NUM_THREADS is {threads}.")
    for row in rows:
        if row.runs:
            screen.line(f"{row.backend} {row.form}: {row.runs}")
    screen.final({"rows": [row.values() for row in rows], "environment": facts})
    return int(any(row.step is None for row in rows))


def _line(row: Cost, screen: Screen) -> None:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{1000 * value:.2f} ms"

    rate = "-" if row.samples_per_second is None else f"{row.samples_per_second:.0f}"
    cells = [seconds(v) for v in (row.first_step, row.step, row.spread, row.loop)]
    cells += [rate, "-" if row.peak_bytes is None else readable(row.peak_bytes)]
    cells.append(f"{row.error:.1e}")
    head = (f"{row.backend:<8}", f"{row.form:<16}")
    screen.line("  ".join((*head, *(f"{cell:>11}" for cell in cells))))
    if row.misfired:
        screen.warn(f"{row.backend} {row.form}: {row.misfired} spikes are not the reference's")
    elif row.step is None:
        screen.warn(f"{row.backend} {row.form}: error {row.error:.1e} above {row.allowed:.1e}")
