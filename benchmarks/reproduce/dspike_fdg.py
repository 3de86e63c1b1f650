"""Dspike Fig. 2: the first layer's gradient beside its finite differences, on MNIST.

python benchmarks/reproduce/dspike_fdg.py              # all runs that are missing
python benchmarks/reproduce/dspike_fdg.py --seeds 1    # only the first seed
python benchmarks/reproduce/dspike_fdg.py --backend mlx --seeds 1 --kind SNN
"""

from __future__ import annotations

from _fdg_backends import other_backend, same_runs
from common import (
    Record,
    Values,
    beside,
    command,
    mean_deviation,
    mean_error,
    picture,
    provenance,
    reflow,
    table,
    verdict,
    verdict_of_parts,
    verdicts,
)

import snnx
from snnx.analysis.style import BLUE, GREEN, ORANGE, horizontal_grid
from snnx.backend import load_backend
from snnx.data import Batches, load
from snnx.methods.finite_difference import cosine, finite_differences, first_layer, held_mode
from snnx.methods.inherit import as_ann
from snnx.models.toy import mnist_toy
from snnx.program import flatten
from snnx.training.evaluate import evaluate
from snnx.training.schedules import Cosine

CLAIM = "dspike_fdg"
SETTINGS = {
    "T": 4,
    "epochs": 2,
    "schedule_epochs": 5,
    "batch_size": 128,
    "lr": 0.01,
    "momentum": 0.9,
    "eps": [0.1, 0.01, 0.001],
    "window": 100,
    "every": 50,
    "seeds": [0, 1, 2],
}
KINDS = ("ANN", "SNN")
COLOURS = (BLUE, ORANGE, GREEN)
PAPER = {  # Fig. 2 as the text reads it
    ("ANN", 0.1): "> 0.99",
    ("ANN", 0.01): "> 0.99",
    ("ANN", 0.001): "> 0.99",
    ("SNN", 0.1): "> 0.8",
    ("SNN", 0.01): "lower",
    ("SNN", 0.001): "nearly 0",
}


def take(record: Record, options: Values) -> None:
    """Train the toy net as an ANN and with spikes, and measure on the way."""
    s, data = record.settings, load("mnist")
    record.note_data(data)

    def one(kind: str, seed: int) -> Values:
        ann = kind == "ANN"
        model, steps = (as_ann(mnist_toy()), 1) if ann else (mnist_toy(), s["T"])
        program, objective = flatten(model), snnx.SDT()
        optim = snnx.Optim(snnx.SGD(momentum=s["momentum"]))
        net = snnx.build(model, record.backend, seed=seed)
        session = load_backend(record.backend).session(net, objective, optim, steps=steps)
        path, mode = first_layer(program).inputs["weight"], held_mode(program)
        batches = Batches(data, "train", s["batch_size"], seed)
        schedule, step = Cosine(s["schedule_epochs"]), 0
        found: list[Values] = []
        for epoch in range(s["epochs"]):
            rate = schedule.value(s["lr"], epoch, step, len(batches))
            for i, batch in enumerate(batches.epoch(epoch)):
                dials = {"lr": rate, "seed": seed, "step": step, "epoch": epoch}
                if i < s["window"] and i % s["every"] == 0:
                    _, grads = session.grads(batch, dials, mode, [path])
                    cosines = []
                    for eps in s["eps"]:
                        wanted = finite_differences(session, program, batch, dials, eps, copies=1)
                        cosines.append(cosine(wanted, grads[path]))
                    found.append({"epoch": epoch + 1, "iteration": i, "cosines": cosines})
                session.read(session.step([batch], dials))
                step += 1
                if epoch == s["epochs"] - 1 and i >= s["window"]:
                    break  # nothing more is measured
        test = evaluate(session, program, objective, data, batch_size=250, steps=steps)
        return {"measured": found, "test_accuracy": test.accuracy, "rates": dict(test.rates)}

    for seed in s["seeds"][: options.get("seeds")]:
        for kind in (options["kind"],) if "kind" in options else KINDS:
            record.run(f"{kind} seed={seed}", lambda a=(kind, seed): one(*a))


def runs_of(record: Record, kind: str) -> list[Values]:
    """Return the runs of one kind, of the seeds that both have."""
    s, runs = record.settings, record.runs
    whole = [n for n in s["seeds"] if all(f"{k} seed={n}" in runs for k in KINDS)]
    return [runs[f"{kind} seed={seed}"] for seed in whole]


def cosines(runs: list[Values], epoch: int, column: int) -> list[float]:
    """Return the cosines measured in an epoch at one eps, of all seeds."""
    return [m["cosines"][column] for run in runs for m in run["measured"] if m["epoch"] == epoch]


def by_seed(record: Record, kind: str, column: int) -> list[float]:
    """Return the mean cosine of each run at one eps."""
    runs = runs_of(record, kind)
    return [mean_deviation([m["cosines"][column] for m in run["measured"]])[0] for run in runs]


def average(record: Record) -> dict[tuple[str, float], float]:
    """Return the mean cosine of each network and eps over all that was measured."""
    return {
        (kind, eps): mean_deviation(
            [m["cosines"][column] for run in runs_of(record, kind) for m in run["measured"]]
        )[0]
        for kind in KINDS
        for column, eps in enumerate(record.settings["eps"])
    }


def paired(record: Record, column: int) -> tuple[float, float]:
    """Return how far an SNN's cosine falls to the next eps: mean and standard error over all."""
    found = [m["cosines"] for run in runs_of(record, "SNN") for m in run["measured"]]
    mean, deviation = mean_deviation([row[column] - row[column + 1] for row in found])
    return mean, deviation / len(found) ** 0.5


def summary(record: Record) -> list[list[str]]:
    """Return claims, the paper's numbers, ours and verdicts."""
    s, means = record.settings, average(record)
    ann = min(means["ANN", eps] for eps in s["eps"])
    snn = [means["SNN", eps] for eps in s["eps"]]
    measured = sum(len(run["measured"]) for run in runs_of(record, "SNN"))
    drops = [paired(record, column) for column in range(len(snn) - 1)]
    shown = ", ".join(f"{mean:.3f}" for mean in snn) + f" (means of {measured}); drops "
    shown += ", ".join(f"{drop:.2f} ± {error:.2f}" for drop, error in drops)
    falls = verdict_of_parts(sum(drop > 2 * error for drop, error in drops), len(drops))
    count = len(runs_of(record, "SNN"))
    here = f"{count} seed{'s' if count > 1 else ''}"
    other = beside(CLAIM, "mlx")
    on_mlx = same_runs(record, other) if other else ""
    on_seeds = {eps: by_seed(record, "SNN", i) for i, eps in enumerate(s["eps"])}
    first, last = (
        "{:.3f}, standard error {:.3f} ({})".format(*mean_error(on_seeds[eps]), here)
        for eps in (s["eps"][0], s["eps"][-1])
    )
    mlx_row = ["The same cosines on MLX", "not in the paper", on_mlx, "measured", "mlx"]
    return [
        ["ANN: cosine with the FDG at every eps", "> 0.99", f"{ann:.3f}", verdict(ann > 0.99)],
        ["SNN: at eps 0.1", "> 0.8", first, verdict(snn[0] > 0.8)],
        ["SNN: falls with eps 0.1, 0.01, 0.001", "falls", shown, falls],
        ["SNN: at eps 0.001", "nearly 0", last, verdict(abs(snn[-1]) < 0.2)],
        *([mlx_row] if on_mlx else []),
    ]


def page(record: Record) -> str:
    """Return the page."""
    s = record.settings
    epochs = range(1, s["epochs"] + 1)
    rows = []
    for kind in KINDS:
        runs = runs_of(record, kind)
        for column, eps in enumerate(s["eps"]):
            cells = [mean_deviation(cosines(runs, epoch, column)) for epoch in epochs]
            everything = [c for epoch in epochs for c in cosines(runs, epoch, column)]
            rows.append(
                [
                    kind,
                    f"{eps:g}",
                    *(f"{m:.3f} ± {d:.3f}" for m, d in cells),
                    f"{min(everything):.3f}",
                    PAPER[kind, eps],
                ]
            )
    count = len(runs_of(record, "SNN"))
    each = len(cosines(runs_of(record, "SNN")[:1], 1, 0))
    accuracy = {
        kind: mean_deviation([100 * run["test_accuracy"] for run in runs_of(record, kind)])[0]
        for kind in KINDS
    }
    head = ["network", "eps", *(f"epoch {e}" for e in epochs), "least of all", "paper"]
    tenth = [[m["cosines"][0] for m in run["measured"]] for run in runs_of(record, "SNN")]
    first = mean_deviation([run[0] for run in tenth])[0]
    later = mean_deviation([c for run in tenth for c in run[1:]])[0]
    return reflow(
        f"""# Dspike: gradients against finite differences

Claim (Dspike Fig. 2): in an ANN the gradient of the first layer has a cosine above 0.99 with its
finite differences (FDG) for eps from 0.1 to 0.001; in an SNN the surrogate gradient has one
above 0.8 at eps = 0.1, which falls as eps gets smaller, to nearly 0 at 0.001.

{verdicts(summary(record))}

Means over seeds of a run's mean, with standard errors; a drop, with its standard error over all
measurements, counts where it is above two of them; "in part" where that is so of one of the two.
"Nearly 0" is taken as below 0.2.

[Another page](dspike_fdg_training.md) has Table 1, accuracy when the first layer is trained by the
FDG itself, [one more](dspike_fdg_mnist.md) the same on all of MNIST, and
[a fourth](dspike_fdg_choices.md) what the cosine of the SNN depends on.

## Cosines

Mean ± deviation over the measured iterations of an epoch; {count}
seed{"s" if count > 1 else ""}, {each} iterations of each epoch and seed.

{table(head, rows)}

![Cosine of the gradient of the first layer with its finite differences](dspike_fdg.svg)

The loss of a spiking network is a staircase in every weight. At large eps a difference spans
many steps of it and follows its slope, which the surrogate follows too; at small eps it sees
the few steps that happen to lie near. So the order of the paper is to be expected. The size of
the cosines depends on what the paper does not give: T, decay, padding, how images are scaled
(here 0 to 1), the optimiser, and the batch of the measurement (128 is that of training). Here
the cosine at eps = 0.1 is {first:.2f} before the first update and {later:.2f} on average after
it: this surrogate agrees less once the network has learnt something. With so few measurements a
single one weighs much.

{other_backend(record)}

## What was reduced

The paper takes the mean over the first {s["window"]} iterations of each of 5 epochs; here every
{s["every"]}th of these is measured, in the first {s["epochs"]} epochs. Beyond the last
measurement of epoch {s["epochs"]} nothing is trained. The rest is the paper's: MNIST, all
60,000 images, conv 3x3 1 to 6 (54 weights) - neuron - average pool - linear, batches of
{s["batch_size"]}, rate {s["lr"]} on its way to 0 over {s["schedule_epochs"]} epochs,
rectangular surrogate with a = 1. Left open by the paper and chosen: T = {s["T"]}, decay 0.25,
threshold 0.5, momentum {s["momentum"]}, padding that keeps 28 x 28, pools of 2. The gradient
and both losses of a difference see the same batch, before the update that is made from it. Test
accuracy where training stopped: ANN {accuracy["ANN"]:.1f} %, SNN {accuracy["SNN"]:.1f} %.

{provenance(record)}
"""
    )


def draw(record: Record) -> None:
    """Draw every measured cosine over training, one colour for each eps."""
    s = record.settings
    with picture(CLAIM) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, kind in zip(axes, KINDS, strict=True):
            runs = runs_of(record, kind)
            places = [(m["epoch"], m["iteration"]) for m in runs[0]["measured"]]
            x = list(range(len(places)))
            for column, (eps, colour) in enumerate(zip(s["eps"], COLOURS, strict=True)):
                spread = [
                    mean_deviation([run["measured"][i]["cosines"][column] for run in runs])
                    for i in x
                ]
                means, errors = zip(*spread, strict=True)
                bars = errors if len(runs) > 1 else None
                at = [i + 0.08 * (column - 1) for i in x]  # beside each other, to be told apart
                ax.errorbar(at, means, bars, fmt="o-", color=colour, label=f"eps {eps:g}")
            ax.set_xticks(x, [f"{e}:{i}" for e, i in places])
            horizontal_grid(ax)
            ax.set_title(kind)
            ax.set_xlabel("epoch : iteration")
        axes[0].set_ylim(-0.75, 1.05)
        axes[0].set_ylabel("cosine with the FDG")
        axes[0].legend(frameon=False, fontsize=8.0, loc="lower left")


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw, {"seeds": int, "kind": str})
