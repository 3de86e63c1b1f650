"""Dspike Table 1: MNIST with the first layer trained by its finite differences, against eps.

python benchmarks/reproduce/dspike_fdg_training.py              # all runs that are missing
python benchmarks/reproduce/dspike_fdg_training.py --backend mlx --seeds 3
"""

from __future__ import annotations

from _both import accuracies, likeness
from _fdg_training import RECTANGULAR, UNTRAINED, arms, take
from common import (
    Record,
    Values,
    clear,
    command,
    difference,
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

from snnx.analysis.style import BLUE, MUTED, ORANGE, horizontal_grid

CLAIM = "dspike_fdg_training"
SETTINGS = {
    "channels": 4,
    "T": 2,
    "steps": 300,
    "batch_size": 32,
    "lr": 0.1,
    "momentum": 0.9,
    "eps": [0.5, 0.1, 0.01, 0.001],
    "copies": 36,
    "compare_every": 10,
    "seeds": [0, 1, 2, 3, 4],
}


def found_runs(record: Record) -> dict[str, list[Values]]:
    """Return the runs of each way to train, of the seeds that all of them have."""
    ways, runs = arms(record), record.runs
    seeds = [n for n in record.settings["seeds"] if all(f"{a} seed={n}" in runs for a in ways)]
    return {arm: [runs[f"{arm} seed={seed}"] for seed in seeds] for arm in ways}


def differences(runs: dict[str, list[Values]], one: str, other: str) -> list[float]:
    """Return one way minus another in points, seed by seed."""
    pairs = zip(runs[one], runs[other], strict=True)
    return [100 * (a["test_accuracy"] - b["test_accuracy"]) for a, b in pairs]


def paired(runs: dict[str, list[Values]], one: str, other: str) -> tuple[float, float]:
    """Return the mean of these differences and its standard error."""
    return mean_error(differences(runs, one, other))


def accuracy(runs: dict[str, list[Values]], arm: str) -> float:
    """Return the mean test accuracy of a way to train, in percent."""
    return mean_deviation([100 * run["test_accuracy"] for run in runs[arm]])[0]


def mean_of(runs: list[Values], name: str) -> str:
    """Return the mean of a figure of some runs, nothing where they have none."""
    found = [run[name] for run in runs if name in run]
    return f"{mean_deviation(found)[0]:.2f}" if found else ""


def summary(record: Record) -> list[list[str]]:
    """Return claims, the paper's numbers, ours and verdicts."""
    s, runs = record.settings, found_runs(record)
    named = {eps: f"FDG, eps {eps:g}" for eps in s["eps"]}
    best = max(s["eps"], key=lambda eps: accuracy(runs, named[eps]))
    shown = ", ".join(f"{accuracy(runs, named[eps]):.1f}" for eps in s["eps"])
    all_eps = ", ".join(f"{eps:g}" for eps in s["eps"])
    rows = [
        [
            f"Table 1: best eps of {all_eps}",
            "0.1",
            f"{best:g} ({shown} %; {len(runs[RECTANGULAR])} seeds)",
            verdict(best == 0.1),
        ]
    ]
    for eps in (e for e in s["eps"] if e != 0.1):
        gains = differences(runs, named[0.1], named[eps])
        words = [f"Table 1: eps 0.1 above eps {eps:g}, points", "above", difference(gains)]
        rows.append([*words, verdict(clear(gains))])
    rows.append(
        [
            "Table 1: rectangular surrogate, a = 1",
            "94.9 % (10 epochs)",
            f"{accuracy(runs, RECTANGULAR):.1f} % ({s['steps']} updates)",
            "measured",
        ]
    )
    return [*rows, *likeness(record)]


def page(record: Record) -> str:
    """Return the page."""
    s, runs = record.settings, found_runs(record)
    count = len(runs[RECTANGULAR])
    rows = []
    for arm in arms(record):
        mean, error = paired(runs, arm, RECTANGULAR)
        rows.append(
            [
                arm,
                percent([run["test_accuracy"] for run in runs[arm]], 2),
                f"{mean_deviation([run['train_loss'] for run in runs[arm]])[0]:.3f}",
                "" if arm == RECTANGULAR else f"{mean:+.2f} ± {error:.2f}",
                mean_of(runs[arm], "cosine"),
                mean_of(runs[arm], "length"),
                "94.9" if arm == RECTANGULAR else "",
            ]
        )
    head = ["first layer trained by", "test, %", "train loss", "minus rectangular"]
    head += ["cosine", "length", "paper, %"]
    images = s["steps"] * s["batch_size"]
    whole = images == 60_000
    seen = "each of" if whole else f"{images:,} of"
    return reflow(
        f"""# Dspike: training by finite differences{" on all of MNIST" if whole else ""}

Claim (Dspike Table 1): trained on MNIST with the finite differences (FDG) of eps from 0.001 to
0.5 in the place of surrogate gradients, a spiking network does best at eps = 0.1; eps must be
neither too large nor too small. The rectangular surrogate reaches 94.9 %.

{verdicts(summary(record))}

A difference is called reproduced where its mean over paired seeds is above 0 by more than two
standard errors. Of the paper's table only 94.9 % and the best eps stand in its text.

## Accuracy

Test accuracy in percent after the last update, mean ± deviation over {count} seeds; the loss is
the mean of the last 50 updates. Runs of one seed have the same initial weights and batches; the
difference from the rectangular surrogate is in points, ± its standard error. All ways train the
linear readout by its own exact gradient: no spike lies behind it. Cosine is that of the FDG
with the rectangular surrogate's gradient of the same weights and batch, every
{s["compare_every"]}th update; length the median of |FDG| over the length of that gradient.

{table(head, rows)}

![Accuracy against eps]({record.claim}.svg)

{says(record)}

{accuracies(record)}
## What was reduced

The network is the paper's (convolution 3x3 - neuron - average pool - linear) with {s["channels"]}
channels in the place of 6 and stride 2, so that one gradient takes {18 * s["channels"]} and not 108
forward passes, of a quarter of the neurons; T = {s["T"]}; {s["steps"]} updates with batches of
{s["batch_size"]} ({seen} the 60,000 training images once) in the place of 10 epochs with
batches of 128. SGD with momentum {s["momentum"]} and rate {s["lr"]} on a cosine to 0, the same
for all. It was picked after single runs of 300 updates by hand, of which no record was kept: of the
rates 0.02, 0.05, 0.1 and 0.2, with the rectangular surrogate and 1,000 training images to look at,
the larger were better (80, 84, 85 and 87 %); 0.1 was taken, as differences are noisier than the
surrogate, and no rate was tried with them. The paper's is 0.01.
Decay 0.25 and threshold 0.5. The FDG of an update is taken on that update's batch. The test split
is whole (10,000 images).

{provenance(record)}
"""
    )


def says(record: Record) -> str:
    """Return what came out, in words that the record supports."""
    s, runs = record.settings, found_runs(record)
    named = {eps: f"FDG, eps {eps:g}" for eps in s["eps"]}
    best = max(s["eps"], key=lambda eps: accuracy(runs, named[eps]))
    mean, error = paired(runs, named[best], RECTANGULAR)
    nearest = max(s["eps"], key=lambda eps: float(mean_of(runs[named[eps]], "cosine")))
    silent = sum(run["length"] == 0.0 for run in runs[named[min(s["eps"])]])
    lowest = min(run["test_accuracy"] for arm in named.values() for run in runs[arm])
    smaller = [eps for eps in named if eps < best]
    sure = [f"{e:g}" for e in smaller if clear(differences(runs, named[best], named[e]))]
    held = f"clearly at {' and '.join(sure)}" if sure else "though not clearly with these seeds"
    return f"""## What this says

The differences train the layer: at eps = {best:g}, the best here, the network is at
{accuracy(runs, named[best]):.1f} %, {mean:+.2f} points from the surrogate (standard error
{error:.2f}) and {paired(runs, named[best], UNTRAINED)[0]:.0f} above an untrained first layer. Every
smaller eps is worse on average, {held}; in the paper 0.1 is the best. The loss is a
staircase in every weight: a small move mostly meets no step of it, and the FDG is 0; where it meets
one, the quotient magnifies it. Such a gradient points nearly anywhere and can be long. In {silent}
of the {len(runs[RECTANGULAR])} runs at the least eps it was 0 at half of the compared updates or
more; the worst ended at {100 * lowest:.0f} %.

The eps at which the FDG is most like the surrogate's gradient (cosine) is {nearest:g}, and the
best eps is {best:g}. Where it lies probably depends on how many steps a difference spans, so on
the samples and neurons behind one weight, of which the paper has more (batches of 128, four times
the neurons of a channel). That this moves it to smaller eps was not measured."""


def draw(record: Record) -> None:
    """Draw accuracy against eps, and the other ways to train as lines."""
    s, runs = record.settings, found_runs(record)
    with picture(record.claim, 5.2) as figure:
        ax = figure.subplots()
        named = [(eps, f"FDG, eps {eps:g}") for eps in sorted(s["eps"])]
        for eps, arm in named:
            values = [100 * run["test_accuracy"] for run in runs[arm]]
            ax.plot([eps] * len(values), values, "o", color=BLUE, alpha=0.4, ms=4.0)
        line = [(eps, accuracy(runs, arm)) for eps, arm in named]
        ax.plot(*zip(*line, strict=True), "-", color=BLUE, label="FDG")
        for arm, colour in ((RECTANGULAR, ORANGE), (UNTRAINED, MUTED)):
            ax.axhline(accuracy(runs, arm), color=colour, ls="--", lw=1.2, label=arm)
        ax.set_xscale("log")
        ax.set_xticks([eps for eps, _ in named], [f"{eps:g}" for eps, _ in named])
        ax.minorticks_off()
        horizontal_grid(ax)
        ax.set_xlabel("eps")
        ax.set_ylabel("test accuracy, %")
        ax.legend(frameon=False, fontsize=8.0)


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw, {"seeds": int})
