"""TET against SDT on the embedded digits, on torch and on MLX side by side.

python benchmarks/reproduce/tet_digits.py                   # all runs that are missing, torch
python benchmarks/reproduce/tet_digits.py --backend mlx     # the same on MLX
"""

from __future__ import annotations

from itertools import product

import numpy as np
from common import (
    Record,
    Values,
    beside,
    clear,
    command,
    difference,
    percent,
    picture,
    provenance,
    reflow,
    table,
    verdict,
    verdict_of_likeness,
    verdict_of_parts,
    verdicts,
)
from tet import LOSSES

import snnx
from snnx import BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.analysis.style import BLUE, ORANGE, horizontal_grid, label_ends, whole_ticks
from snnx.analysis.time import accuracy_over_time
from snnx.data import load
from snnx.models.parts import TET_LIF
from snnx.training.schedules import Cosine

CLAIM = "tet_digits"
SETTINGS = {
    "channels": [8, 16],
    "T": 4,
    "mse": 0.05,
    "epochs": 8,
    "batch_size": 32,
    "lr": 0.005,
    "seeds": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
}
BACKENDS = ("torch", "mlx")


def network(channels: list[int]) -> Chain:
    """Return convolutions of stride 2 with norm and TET's neuron, and a linear readout."""
    layers = []
    for features in channels:
        layers += [Conv2d(features, 3, 2, bias=False), BatchNorm(), TET_LIF]
    return Chain(Input(8, 8, 1), *layers, Flatten(), Linear(10))


def take(record: Record, options: Values) -> None:
    """Train both losses from the same weights and batches, seed by seed."""
    s, data = record.settings, load("digits")
    record.note_data(data)

    def one(loss: str, seed: int) -> Values:
        result = snnx.fit(
            network(s["channels"]),
            data,
            objective=snnx.TET(mse=s["mse"]) if loss == "tet" else snnx.SDT(),
            optim=snnx.Optim(snnx.Adam(lr=s["lr"])),
            schedule=Cosine(s["epochs"]),
            steps=s["T"],
            epochs=s["epochs"],
            batch_size=s["batch_size"],
            seed=seed,
            backend=record.backend,
            device="cpu",
        )
        found = accuracy_over_time(result.session, data, steps=s["T"], batch_size=450)
        return {
            "test_accuracy": result.test_accuracy,
            "single": [round(float(v), 6) for v in found.single],
            "train_loss": [round(row["loss"], 5) for row in result.history],
        }

    for seed, loss in product(s["seeds"][: options.get("seeds")], LOSSES):
        record.run(f"{loss} seed={seed}", lambda loss=loss, seed=seed: one(loss, seed))


def records(record: Record) -> dict[str, Record]:
    """Return the records of the backends that there are."""
    found = {name: beside(CLAIM, name) for name in BACKENDS if name != record.backend}
    both = {record.backend: record, **{k: v for k, v in found.items() if v is not None}}
    return {name: both[name] for name in BACKENDS if name in both}


def values(record: Record, loss: str, name: str) -> np.ndarray:
    """Return a figure of every seed that both losses have, in percent."""
    s, runs = record.settings, record.runs
    both = [seed for seed in s["seeds"] if all(f"{of} seed={seed}" in runs for of in LOSSES)]
    return 100 * np.array([runs[f"{loss} seed={seed}"][name] for seed in both])


def gains(record: Record, name: str) -> np.ndarray:
    """Return TET minus SDT in points, seed by seed."""
    return values(record, "tet", name) - values(record, "sdt", name)


def summary(record: Record) -> list[list[str]]:
    """Return claims, the paper's numbers, ours and verdicts."""
    rows = []
    for name, of in records(record).items():
        whole, single = gains(of, "test_accuracy").tolist(), gains(of, "single")
        mean, held = single.mean(0), sum(clear(step.tolist()) for step in single.T)
        rows += [
            [
                f"{name}: TET above SDT at T = {record.settings['T']}, points",
                "+3.25 (CIFAR-100)",
                difference(whole, "seeds, digits"),
                verdict(clear(whole)),
                name,
            ],
            [
                f"{name}: every single step above SDT's",
                "8 of 8 (Table 4)",
                f"{int((mean > 0).sum())} of {len(mean)}, {held} clearly; "
                f"{mean.min():+.2f} to {mean.max():+.2f}",
                verdict_of_parts(held, len(mean)),
                name,
            ],
        ]
    found = records(record)
    if len(found) == len(BACKENDS):
        both = {
            loss: [values(of, loss, "test_accuracy") for of in found.values()] for loss in LOSSES
        }
        shared = min(len(each) for pair in both.values() for each in pair)
        gaps = [(a[:shared] - b[:shared]).tolist() for a, b in both.values()]
        rows.append(
            [
                "torch less MLX in accuracy, points (SDT, TET)",
                "not in the paper",
                "; ".join(difference(gap) for gap in gaps),
                " / ".join(dict.fromkeys(verdict_of_likeness(gap) for gap in gaps)),
                "mlx",
            ]
        )
    return rows


def page(record: Record) -> str:
    """Return the page."""
    s, found = record.settings, records(record)
    steps = range(1, s["T"] + 1)
    rows = [
        [
            f"{name}, {loss.upper()}",
            percent(list(values(of, loss, "test_accuracy") / 100), 2),
            *(percent(list(v / 100)) for v in values(of, loss, "single").T),
        ]
        for name, of in found.items()
        for loss in LOSSES
    ]
    first = [
        [
            f"{loss.upper()}, seed {seed}",
            *(of.runs[f"{loss} seed={seed}"]["train_loss"][0] for of in found.values()),
        ]
        for loss in LOSSES
        for seed in s["seeds"]
        if all(f"{loss} seed={seed}" in of.runs for of in found.values())
    ]
    channels = ", ".join(map(str, s["channels"]))
    sources = "\n\n".join(provenance(of) for of in found.values())
    return reflow(
        f"""# TET on both backends

Claims: as on [the page of TET](tet.md), on data small enough for MLX on a CPU; and both backends
tell the same.

{verdicts(summary(record))}

TET counts as ahead where the mean of the differences, paired by seed, is above 0 by more than two
standard errors; of single steps all must be, and half or more is called "in part".

Test accuracy in percent after the last epoch, then that of each step alone; mean ± deviation over
seeds:

{table(["", "accuracy", *(f"step {t}" for t in steps)], rows)}

Training loss of the first epoch. Initial weights and batches are the same bit for bit on both
backends; the rest is rounding, and spikes that flip by it:

{table(["", *found], first)}

![Single steps on both backends](tet_digits.svg)

{says(record)}

## What was reduced

The embedded digits (8 x 8) in the place of CIFAR; convolutions of stride 2 with {channels} channels
in the place of ResNet-19; {s["epochs"]} epochs of batches of {s["batch_size"]}; T = {s["T"]}. Adam
at {s["lr"]} with a cosine, lambda {s["mse"]}. No number was tuned.

{sources}
"""
    )


def says(record: Record) -> str:
    """Return what came out, in words that the record supports."""
    found = records(record)
    count = len(values(record, "sdt", "test_accuracy"))
    ahead = {name: float(gains(of, "test_accuracy").mean()) for name, of in found.items()}
    each = [step for of in found.values() for step in gains(of, "single").T]
    held = sum(clear(step.tolist()) for step in each)
    text = ", ".join(f"{mean:+.2f} on {name}" for name, mean in ahead.items())
    return f"""## What this says

Both backends begin alike: the loss of the first epoch is the same but for flipped spikes. TET less
SDT is {text}, points of accuracy over {count} seeds of 450 test images, where one image is 0.2
points; of the single steps of both backends {held} of {len(each)} are clearly ahead.
[On Fashion-MNIST](tet_long.md), with 10,000 test images, every one is at T = 4 and 6."""


def draw(record: Record) -> None:
    """Draw the accuracy of single steps for both losses on each backend."""
    steps = np.arange(1, record.settings["T"] + 1)
    found = records(record)
    with picture(CLAIM) as figure:
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (name, of) in zip(axes, found.items(), strict=True):
            ends = []
            for loss, colour in (("sdt", ORANGE), ("tet", BLUE)):
                mean = values(of, loss, "single").mean(0)
                ax.plot(steps, mean, "o-", color=colour)
                ends.append((float(mean[-1]), loss.upper(), colour))
            whole_ticks(ax.xaxis)
            horizontal_grid(ax)
            ax.set_title(f"Each step alone, {name}")
            ax.set_xlabel("step")
            label_ends(ax, ends)
        axes[0].set_ylabel("test accuracy, %")


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw, {"seeds": int})
