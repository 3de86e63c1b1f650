"""ASGL Fig. 3a on the digits: spikes injected step by step into a smooth network.

python benchmarks/reproduce/asgl_noise.py     # all runs that are missing
"""

from __future__ import annotations

from itertools import product

import numpy as np
from _asgl_net import network
from common import (
    Record,
    Values,
    clear,
    command,
    mean_deviation,
    mean_error,
    percent,
    picture,
    provenance,
    reflow,
    table,
    verdict,
    verdicts,
)

import snnx
from snnx.analysis.style import BLUE, MUTED, ORANGE, horizontal_grid, label_ends, whole_ticks
from snnx.data import load
from snnx.methods import ASGLMethod
from snnx.training.schedules import Cosine

CLAIM = "asgl_noise"
SETTINGS = {
    "depth": 4,
    "channels": 8,
    "width": 1.0,
    "width_lr": 0.02,
    "T": 2,
    "last_p": 0.8,
    "rise": 0.1,
    "epochs_per_p": 2,
    "epochs": 20,
    "batch_size": 64,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "similar": 64,
    "seeds": [0, 1, 2],
}
LARGE = 5.0  # points from which on an effect is called as large as the paper's


def method(s: Values, smooth: bool) -> ASGLMethod:
    """Return ASGL with a share of spikes that rises from 0, or that stays 0."""
    rises = 0 if smooth else round(s["last_p"] / s["rise"])
    ends = tuple(s["epochs_per_p"] * (i + 1) - 1 for i in range(rises))
    rise = 0.0 if smooth else s["rise"]
    return ASGLMethod(0.0, 1.0, rise, ends, width_lr=s["width_lr"], similar=s["similar"])


def take(record: Record, options: Values) -> None:
    """Train with rising p, then smooth throughout, and keep the figures of every epoch."""
    s, data = record.settings, load("digits")
    record.note_data(data)

    def one(smooth: bool, seed: int) -> Values:
        result = snnx.fit(
            network(s["depth"], s["channels"], s["width"]),
            data,
            objective=snnx.SDT(),
            optim=snnx.Optim(snnx.SGD(s["lr"], s["momentum"], weight_decay=s["weight_decay"])),
            schedule=Cosine(s["epochs"]),
            methods=(method(s, smooth),),
            steps=s["T"],
            epochs=s["epochs"],
            batch_size=s["batch_size"],
            seed=seed,
            backend=record.backend,
        )
        rows = result.history
        return {
            "test_accuracy": result.test_accuracy,
            "test": [round(row["test_accuracy"], 6) for row in rows],
            "train": [round(row["train_accuracy"], 6) for row in rows],
            "p": [round(1.0 - row["dials"]["analog"], 6) for row in rows],
            "similarity": [round(row["similarity"], 5) for row in rows],
            "width": [
                round(mean_deviation([v for k, v in row.items() if k.startswith("width.")])[0], 4)
                for row in rows
                if any(k.startswith("width.") for k in row)
            ],
        }

    for smooth, seed in product((False, True), s["seeds"]):
        record.run(key(smooth, seed), lambda a=(smooth, seed): one(*a))


def key(smooth: bool, seed: int) -> str:
    """Return the key of a run."""
    return f"{'smooth ' if smooth else ''}seed={seed}"


def curve(record: Record, name: str, smooth: bool = False) -> np.ndarray:
    """Return a figure of every seed and epoch, [seeds, epochs]."""
    return np.array([record.runs[key(smooth, seed)][name] for seed in record.settings["seeds"]])


def stages(record: Record) -> list[tuple[float, int, int]]:
    """Return p, the first and the last epoch (from 0) of each stage."""
    shares = curve(record, "p")[0]
    found = []
    for p in sorted(set(shares.tolist())):
        epochs = np.flatnonzero(shares == p)
        found.append((p, int(epochs[0]), int(epochs[-1])))
    return found


def controlled(record: Record, name: str, epochs: slice) -> np.ndarray:
    """Return a figure with rising p less that of smooth training, mean over epochs, in points."""
    rising, smooth = (curve(record, name, kind)[:, epochs].mean(1) for kind in (False, True))
    return 100 * (rising - smooth)


def judged(values: np.ndarray) -> str:
    """Return the verdict on a difference in points: its sign, its clearness, its size."""
    seen = clear(values.tolist())
    return "in part" if seen and values.mean() < LARGE else verdict(seen)


def summary(record: Record) -> list[list[str]]:
    """Return claims, what the paper shows, ours and verdicts."""
    s = record.settings
    train, test = (100 * curve(record, name, smooth=True)[:, -1] for name in ("train", "test"))
    gap, first = train - test, slice(s["epochs_per_p"], 2 * s["epochs_per_p"])
    rise = controlled(record, "test", first)
    cost = -controlled(record, "train", slice(first.start, first.start + 1))
    last = 100 * (curve(record, "train")[:, -1] - curve(record, "test")[:, -1])
    final = controlled(record, "test", slice(-1, None))

    def shown(values: np.ndarray) -> str:
        return "{:+.1f} points, standard error {:.1f}".format(*mean_error(values.tolist()))

    return [
        [
            "Trained smooth (p = 0): noisy net's training accuracy above the SNN's test accuracy",
            "by far, erratic SNN (Fig. 3a)",
            f"{shown(gap)} ({len(gap)} seeds)",
            judged(gap),
        ],
        [
            "The first 10 % of spikes lift the SNN, against smooth training at these epochs",
            "rapid growth (Fig. 3a)",
            shown(rise),
            judged(rise),
        ],
        [
            "They cost the noisy net training accuracy at once, against smooth training",
            "a drop (Fig. 3a)",
            shown(cost),
            judged(cost),
        ],
        [
            "At p = 0.8 the noisy net and the SNN are alike: training less test accuracy",
            "extremely close (Fig. 3d)",
            shown(last),
            verdict(bool(abs(last.mean()) < LARGE)),
        ],
        [
            "With spikes injected the SNN ends above one trained smooth throughout",
            "implied (Fig. 3a to 3c)",
            shown(final),
            judged(final),
        ],
    ]


def page(record: Record) -> str:
    """Return the page."""
    s = record.settings

    def shown(name: str, epoch: int, smooth: bool = False) -> str:
        return percent(curve(record, name, smooth)[:, epoch].tolist())

    rows = [
        [
            f"{p:g}",
            f"{first + 1} to {last + 1}",
            shown("train", first),
            shown("train", last),
            shown("test", last),
            f"{curve(record, 'similarity')[:, last].mean():.3f}",
            shown("train", last, smooth=True),
            shown("test", last, smooth=True),
        ]
        for p, first, last in stages(record)
    ]
    head = ["p", "epochs", "noisy net, first epoch", "noisy net, last epoch", "SNN, last epoch"]
    head += ["similarity", "smooth throughout: noisy net", "its SNN"]
    return reflow(
        f"""# ASGL: spikes injected into a smooth network

Claim (ASGL Fig. 3a, 5.4 and 5.5): trained smooth (p = 0), the noisy network fits its data while the
spiking network inside it, of the same weights, is erratic; the first few per cent of spikes in
training turn the one into the other, at a small cost at once. With p = 0.8 both are alike.

{verdicts(summary(record))}

A difference is called reproduced where its mean over paired seeds is above 0 by more than two
standard errors and at least {LARGE:g} points; "in part" where it is clear but smaller. Likeness is
less than {LARGE:g} points apart.

## From smooth to spiking

The share p of spikes rises from 0 to {s["last_p"]:g} by {s["rise"]:g} every
{s["epochs_per_p"]} epochs. The noisy network is what is trained, so its accuracy is that of the
training batches; the SNN is the same weights with spikes alone, on the test split. On the right
a network of the same seed that was trained smooth (p = 0) throughout, at the stage's last epoch:
what rises there is training alone. Percent, mean ± deviation over {len(s["seeds"])} seeds;
similarity: cosine between the activations of both, mean over layers and samples, measured as the
stage's last epoch begins.

{table(head, rows)}

![Accuracy and similarity over epochs](asgl_noise.svg)

## What this says

The signs are the paper's and the sizes are not. A smooth network of {s["depth"]} layers with a
window of {s["width"]:g} already has a spiking network inside it that works: between the threshold's
two sides the smooth step is never far from the spike, and few layers pile the error up. So there
is little for the first spikes to repair. At p = 0.2 to 0.5 the SNN is even below the one of smooth
training, and only in the last stages above it; with {len(s["seeds"])} seeds and 450 test images, of
which one is 0.2 points, that order is within what seeds do. What shows clearly is the growing
likeness of both networks as p rises (right). The effect of Fig. 3a needs a net as deep as
ResNet-19; a deeper one was not run here, for its cost.

## What was reduced

{s["depth"]} convolutions of {s["channels"]} channels on the digits in the place of ResNet-19 on
CIFAR-10, T = {s["T"]}, {s["epochs"]} epochs in the place of 300, so that p rises every
{s["epochs_per_p"]} epochs in the place of every 30. Width {s["width"]:g} at the start, clip shape
(rectangular window); the widths' Adam has the rate {s["width_lr"]} of the page on
[widths](asgl_width.md), SGD at {s["lr"]} with a cosine as there. Nothing was tuned for this page.
The similarity is that of {s["similar"]} training samples.

{provenance(record)}
"""
    )


def draw(record: Record) -> None:
    """Draw both accuracies over the epochs of a rising p, and the similarities."""
    s = record.settings
    with picture(CLAIM) as figure:
        left, right = figure.subplots(1, 2)
        epochs = np.arange(1, s["epochs"] + 1)
        ends = []
        for name, text, colour, smooth in (
            ("train", "noisy net", ORANGE, False),
            ("test", "SNN", BLUE, False),
            ("test", "SNN, p = 0", MUTED, True),
        ):
            values = 100 * curve(record, name, smooth)
            left.plot(epochs, values.mean(0), color=colour)
            left.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
            ends.append((float(values.mean(0)[-1]), text, colour))
        shares = curve(record, "p")[0]
        for epoch in np.flatnonzero(np.diff(shares)) + 1:
            left.axvline(epoch + 0.5, color=MUTED, lw=0.5, alpha=0.5)
        left.set_title(f"p from 0 to {s['last_p']:g}, a line at each rise")
        left.set_ylabel("accuracy, %")
        horizontal_grid(left)
        label_ends(left, ends)
        ends = []
        for text, colour, smooth in (("p rises", BLUE, False), ("p = 0", MUTED, True)):
            values = curve(record, "similarity", smooth)[:, 1:]  # without the untrained network
            low, high = values.min(0), values.max(0)
            right.plot(epochs[1:], values.mean(0), color=colour)
            right.fill_between(epochs[1:], low, high, color=colour, alpha=0.15, lw=0)
            ends.append((float(values.mean(0)[-1]), text, colour))
        right.set_title("Likeness of noisy net and SNN")
        right.set_ylabel("cosine")
        horizontal_grid(right)
        label_ends(right, ends)
        for ax in (left, right):
            whole_ticks(ax.xaxis)
            ax.set_xlabel("epoch")


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw)
