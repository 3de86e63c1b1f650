"""Time inheritance on Fashion-MNIST, both directions: Dspike's to short T and TET's to long T.

python benchmarks/reproduce/time_inheritance.py              # all runs that are missing
python benchmarks/reproduce/time_inheritance.py --seeds 2    # only the first two seeds
"""

from __future__ import annotations

from itertools import product
from typing import Any

from common import (
    Record,
    Values,
    command,
    mean_deviation,
    percent,
    picture,
    provenance,
    reflow,
    table,
    verdict,
    verdicts,
)
from tet import parts

import snnx
from snnx import AvgPool2d, BatchNorm, Chain, Conv2d, Flatten, Input, Linear
from snnx.analysis.style import BLUE, ORANGE, horizontal_grid
from snnx.analysis.time import accuracy_over_time
from snnx.data import Dataset, load
from snnx.models.parts import TET_LIF
from snnx.training import loop
from snnx.training.plan import Plan, Stage
from snnx.training.schedules import Cosine

CLAIM = "time_inheritance"
SETTINGS = {
    "channels": [8, 16, 32],
    "train": 4_000,
    "validation": 500,
    "batch_size": 64,
    "epochs": 12,
    "inherited_epochs": 2,
    "lr": 0.003,
    "share_of_lr": {"dspike": 0.4, "tet": 0.1},
    "mse": 0.05,
    "seeds": [0, 1, 2],
}
ARMS = {  # name: loss, direction, T of each stage (0: the ANN), stages that are trained in full
    "Dspike: scratch T=4": ("sdt", "dspike", (4,), 1),
    "Dspike: scratch T=2": ("sdt", "dspike", (2,), 1),
    "Dspike: ANN, 6, 4, 2": ("sdt", "dspike", (0, 6, 4, 2), 2),
    "TET: scratch T=6": ("tet", "tet", (6,), 1),
    "TET: 2, 6": ("tet", "tet", (2, 6), 1),
}
MARGIN = 0.5  # points


def network(channels: list[int]) -> Chain:
    """Return a pool to 14 x 14, convolutions of stride 2 with norm and TET's neuron, a readout."""
    layers = []
    for features in channels:
        layers += [Conv2d(features, 3, 2, bias=False), BatchNorm(), TET_LIF]
    return Chain(Input(28, 28, 1), AvgPool2d(2), *layers, Flatten(), Linear(10))


def stages(s: Values, arm: str) -> tuple[Stage, ...]:
    """Return the stages of an arm: full ones, then inherited ones at a smaller learning rate."""
    _, direction, times, whole = ARMS[arm]
    made = []
    for i, steps in enumerate(times):
        epochs = s["epochs"] if i < whole else s["inherited_epochs"]
        lr = s["lr"] * (1.0 if i < whole else s["share_of_lr"][direction])
        made.append(Stage(steps or 1, epochs, Cosine(epochs), lr, ann=steps == 0))
    return tuple(made)


def cost(s: Values, arm: str, inherited: bool = False) -> int:
    """Return the T-epochs of an arm, or of its inherited stages; an ANN's epoch counts as one."""
    whole = ARMS[arm][3] if inherited else 0
    return sum(stage.steps * stage.epochs for stage in stages(s, arm)[whole:])


class Ends(loop.Nobody):
    """Evaluates the whole test split where a stage of neurons ends, and keeps the rows."""

    def __init__(self, training: Any, data: Dataset) -> None:
        self.training, self.data = training, data
        self.rows: list[Values] = []
        self.found: dict[str, list[float]] = {}
        self.ends: dict[int, int] = {}
        epoch = 0
        for stage in training.plan.stages:
            epoch += stage.epochs
            if not stage.ann:
                self.ends[epoch] = stage.steps

    def epoch(self, row: Values) -> None:
        """Keep the row, and the accuracy at every shorter T where a stage ends."""
        self.rows.append(row)
        steps = self.ends.get(row["epoch"])
        if steps is not None:
            session = self.training.session
            seen = accuracy_over_time(session, self.data, steps=steps, batch_size=1000)
            self.found[f"T={steps}"] = [round(float(v), 6) for v in seen.after]


def take(record: Record, options: Values) -> None:
    """Train every arm from the same weights, seed by seed."""
    s, data = record.settings, load("fashion-mnist")
    record.note_data(data)
    few = parts(data, s["train"], s["validation"])

    def one(arm: str, seed: int) -> Values:
        loss = ARMS[arm][0]
        plan = Plan(
            model=network(s["channels"]),
            objective=snnx.TET(mse=s["mse"]) if loss == "tet" else snnx.SDT(),
            optim=snnx.Optim(snnx.Adam(lr=s["lr"])),
            stages=stages(s, arm),
            batch_size=s["batch_size"],
            seed=seed,
            backend=record.backend,
        )
        training = loop.start(plan, few)
        ends = Ends(training, data)
        loop.run(training, ends)
        return {
            "test_accuracy": ends.found[f"T={plan.steps}"][-1],
            "after": ends.found,
            "validation": [row["test_accuracy"] for row in ends.rows],
            "train_loss": [round(row["loss"], 5) for row in ends.rows],
        }

    for seed, arm in product(s["seeds"][: options.get("seeds")], ARMS):
        record.run(f"{arm} seed={seed}", lambda arm=arm, seed=seed: one(arm, seed))


def found_runs(record: Record) -> dict[str, list[Values]]:
    """Return the runs of each arm, of the seeds that all have."""
    s, runs = record.settings, record.runs
    seeds = [seed for seed in s["seeds"] if all(f"{arm} seed={seed}" in runs for arm in ARMS)]
    return {arm: [runs[f"{arm} seed={seed}"] for seed in seeds] for arm in ARMS}


def accuracies(runs: dict[str, list[Values]], arm: str, stage: int, steps: int) -> list[float]:
    """Return the accuracies in percent at `steps` where the stage of T = `stage` had ended."""
    return [100 * run["after"][f"T={stage}"][steps - 1] for run in runs[arm]]


def comparisons(s: Values) -> list[tuple[str, str, str, int, float]]:
    """Return what is compared: claim, the paper's share of T-epochs, arms, T, and our share."""
    long = "Dspike: ANN, 6, 4, 2"
    scratch = cost(s, "Dspike: scratch T=4") + cost(s, "Dspike: scratch T=2")
    share = cost(s, long, inherited=True) / scratch
    tet = cost(s, "TET: 2, 6") / cost(s, "TET: scratch T=6")
    return [
        (long, "25 % (Dspike 4.4)", "Dspike: scratch T=4", 4, share),
        (long, "25 % (Dspike 4.4)", "Dspike: scratch T=2", 2, share),
        ("TET: 2, 6", "50 % (TET 4.3)", "TET: scratch T=6", 6, tet),
    ]


def summary(record: Record) -> list[list[str]]:
    """Return claims, the papers' numbers, ours and verdicts."""
    runs, rows = found_runs(record), []
    for arm, paper, scratch, steps, share in comparisons(record.settings):
        pairs = zip(
            accuracies(runs, arm, steps, steps),
            accuracies(runs, scratch, steps, steps),
            strict=True,
        )
        mean, deviation = mean_deviation([a - b for a, b in pairs])
        count = len(runs[arm])
        rows.append(
            [
                f"{arm}: within {MARGIN} point of scratch at T = {steps}",
                f"the same accuracy or more at {paper} of the T-epochs",
                f"{mean:+.2f}, standard error {deviation / count**0.5:.2f} ({count} seeds), at "
                f"{100 * share:.0f} %",
                verdict(mean >= -MARGIN),
            ]
        )
    return rows


def page(record: Record) -> str:
    """Return the page."""
    s, runs = record.settings, found_runs(record)
    rows = []
    for arm, (loss, _, times, _) in ARMS.items():
        cells = []
        for steps in (6, 4, 2):
            cells.append(
                percent([v / 100 for v in accuracies(runs, arm, steps, steps)], 2)
                if steps in times
                else ""
            )
        rows.append([arm, loss.upper(), cost(s, arm), cost(s, arm, True) or "", *cells])
    long = "Dspike: ANN, 6, 4, 2"
    before = [
        [t, *(f"{mean_deviation(accuracies(runs, long, stage, t))[0]:.2f}" for stage in (6, t))]
        for t in (4, 2)
    ]
    short = mean_deviation(accuracies(runs, "TET: 2, 6", 2, 2))[0]
    count, channels = len(runs[long]), ", ".join(map(str, s["channels"]))
    return reflow(
        f"""# Time inheritance

Claims: weights trained at one T go on at another and reach the accuracy of training from scratch
there, within {MARGIN} point, at a fraction of the time. Dspike goes from long T to short, begun
with an ANN: each further T costs a quarter (Sec. 4.4; 50 epochs in the place of 300 are a sixth).
TET goes from short T to long: half of the T-epochs (Sec. 4.3).

{verdicts(summary(record))}

A T-epoch is one epoch at T = 1. Counted for Dspike are the stages that make the networks of T = 4
and 2 from that of T = 6, against training both from scratch; for TET the whole run. A claim counts
as reproduced where the mean paired difference is above -{MARGIN} point.

## Accuracy

Test accuracy in percent at the end of the stage of each T, mean ± deviation over {count} seeds.
All arms of a seed begin with the same weights.

{table(["arm", "loss", "T-epochs", "of them inherited", "T = 6", "T = 4", "T = 2"], rows)}

Before the inherited stages, the network of T = 6 is read after fewer steps; the first T outputs are
the same bit for bit:

{table(["T", "network of T = 6 read at T, %", "after the stage of this T, %"], before)}

TET's network of T = 2 has {short:.2f} % before it goes on at T = 6.

![Time inheritance](time_inheritance.svg)

## What this says

In all three the network that inherited is within the margin, and rather above than below training
from scratch. A part of the reason is plain: the weights of the longer or shorter T were trained in
full before, and that training is counted to the T it was made for, as the papers count it. Who
wants one T only, and has no network of another, saves nothing by Dspike's direction, while TET's
whole run counts and still costs half. Three seeds do not settle which way is better; the claim is
only that little is lost.

## What was reduced

A pool to 14 x 14 and {len(s["channels"])} convolutions of stride 2 with {channels} channels, the
first {s["train"]:,} images of Fashion-MNIST, full stages of {s["epochs"]} epochs (the papers: 300)
and inherited ones of {s["inherited_epochs"]} (50), so the shares are the papers'. Adam, {s["lr"]}
with a cosine; inherited stages begin at {s["share_of_lr"]["dspike"]} of it (Dspike: 0.004 after
0.01) or {s["share_of_lr"]["tet"]} (TET: 0.0001 after 0.001). TET's neuron with its triangular
surrogate in both directions: Dspike's search for a temperature, another part of its method, was
left out. The test split is whole (10,000 images).

{provenance(record)}
"""
    )


def draw(record: Record) -> None:
    """Draw accuracy against T-epochs of every arm's ends."""
    s, runs = record.settings, found_runs(record)
    with picture(CLAIM) as figure:
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (arm, _, scratch, steps, _) in zip(axes, comparisons(s), strict=True):
            for i, (which, colour) in enumerate(((scratch, ORANGE), (arm, BLUE))):
                values = accuracies(runs, which, steps, steps)
                ax.plot([i] * len(values), values, "o", color=colour, alpha=0.5)
                ax.plot([i - 0.2, i + 0.2], [mean_deviation(values)[0]] * 2, color=colour)
            ax.set_xticks([0, 1], ["scratch", "inherited"])
            ax.set_xlim(-0.6, 1.6)
            ax.set_title(f"{arm.split(':')[0]}, T = {steps}")
            horizontal_grid(ax)
        axes[0].set_ylabel("test accuracy, %")


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw, {"seeds": int})
