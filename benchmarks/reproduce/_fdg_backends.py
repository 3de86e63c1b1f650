"""The cosines of `dspike_fdg` on MLX beside torch's."""

from __future__ import annotations

from common import Record, beside, provenance, table


def apart(record: Record, other: Record) -> float:
    """Return the largest difference between the cosines of the runs that both records have."""
    return max(
        abs(a - b)
        for key, run in other.runs.items()
        for one, two in zip(run["measured"], record.runs[key]["measured"], strict=True)
        for a, b in zip(one["cosines"], two["cosines"], strict=True)
    )


def other_backend(record: Record) -> str:
    """Return the section that sets the cosines of MLX beside torch's."""
    other = beside(record.claim, "mlx")
    if other is None:
        return "On MLX this claim was not run."
    rows, places = [], ""
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
asked for; here no cosine differs by more than {apart(record, other):.3f}.

{provenance(other)}"""
