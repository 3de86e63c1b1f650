"""The cosines of `dspike_fdg` on MLX beside torch's."""

from __future__ import annotations

from common import Record, beside, mean_deviation, provenance, table


def apart(record: Record, other: Record) -> list[float]:
    """Return the largest difference at each eps between the runs that both records have."""
    found = [
        [abs(a - b) for a, b in zip(one["cosines"], two["cosines"], strict=True)]
        for key, run in other.runs.items()
        for one, two in zip(run["measured"], record.runs[key]["measured"], strict=True)
    ]
    return [max(column) for column in zip(*found, strict=True)]


def same_runs(record: Record, other: Record) -> str:
    """Return the SNN's mean cosine at the largest eps on both, over the runs that both have."""
    shared = [key for key in other.runs if key.startswith("SNN")]
    means = [
        mean_deviation([m["cosines"][0] for key in shared for m in of.runs[key]["measured"]])[0]
        for of in (other, record)
    ]
    eps = record.settings["eps"]
    gaps = ", ".join(f"{gap:.3f}" for gap in apart(record, other))
    return (
        f"SNN at eps {eps[0]:g}: {means[0]:.3f}, torch {means[1]:.3f} ({len(shared)} seeds); "
        f"single cosines apart by at most {gaps} at eps {', '.join(f'{e:g}' for e in eps)}"
    )


def other_backend(record: Record) -> str:
    """Return the section that sets the cosines of MLX beside torch's."""
    other = beside(record.claim, "mlx")
    if other is None:
        return "On MLX this claim was not run."
    rows, places = [], ""
    gaps = ", ".join(f"{gap:.3f}" for gap in apart(record, other))
    every = ", ".join(f"{eps:g}" for eps in record.settings["eps"])
    for key, run in other.runs.items():
        pairs = list(zip(run["measured"], record.runs[key]["measured"], strict=True))
        places = ", ".join(f"{m['epoch']}:{m['iteration']}" for m, _ in pairs)
        for column, eps in enumerate(record.settings["eps"]):
            rows.append([key, f"{eps:g}"])
            for measured in zip(*pairs, strict=True):
                rows[-1].append(", ".join(f"{m['cosines'][column]:.3f}" for m in measured))
        accuracies = (run["test_accuracy"], record.runs[key]["test_accuracy"])
        rows.append([key, "test, %", *(f"{100 * a:.2f}" for a in accuracies)])
    return f"""## On MLX

The same script on MLX: the same initial weights, batches and settings. Cosines at epoch and
iteration {places}, and test accuracy where training stopped.

{table(["run", "eps", "MLX", "torch"], rows)}

Two spiking networks that differ by one spike go apart as they train, so only likeness could be
asked for. The largest difference of a cosine is {gaps} at eps {every}: at the least eps a
difference sees few steps of the staircase, and one spike more or less moves it.

{provenance(other)}"""
