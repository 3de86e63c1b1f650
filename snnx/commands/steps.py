"""The steps of a network as a table: shapes, weights, MACs, what each keeps and what runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snnx.analysis.memory import readable
from snnx.analysis.operations import operations
from snnx.commands.screen import Screen
from snnx.program import Program

LEGEND = (
    "MACs: of one time step, * fed by spikes: additions, made where one comes; "
    "kept: bytes of one sample from forward to backward pass"
)
NUMBERS = ("weights", "MACs", "kept", "kept lean")


def step_table(
    program: Program,
    kept: Mapping[str, Mapping[str, float]],
    runs: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """Return a row of cells by column for every step.

    `kept` are bytes of one sample by the path of a step, under the name of their column; `runs` is
    what runs a step, where that is not the framework's own operation.
    """
    counts = operations(program)
    starred = any(count.binary for count in counts)
    rows = []
    for count in counts:
        macs = "?" if count.macs is None else f"{count.macs:,}" if count.macs else ""
        row = {
            "step": count.path,
            "layer": count.layer,
            "shape": " x ".join(map(str, count.shape)),
            "weights": f"{count.parameters:,}" if count.parameters else "",
            "MACs": f"{macs} {'*' if count.binary else ' '}" if starred else macs,
        }
        for name, sizes in kept.items():
            row[name] = readable(sizes[count.path]) if count.path in sizes else ""
        if runs is not None:
            row["runs by"] = runs.get(count.path, count.op)
        rows.append(row)
    return rows


def print_steps(rows: Sequence[Mapping[str, str]], screen: Screen) -> None:
    """Print the table, numbers to the right."""
    head = {name: name for name in rows[0]} if rows else {}
    wide = {name: max(len(row[name]) for row in (head, *rows)) for name in head}
    for row in (head, *rows):
        cells = (
            f"{row[name]:>{size}}" if name in NUMBERS else f"{row[name]:<{size}}"
            for name, size in wide.items()
        )
        screen.line("  ".join(cells).rstrip())
