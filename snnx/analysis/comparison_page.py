"""The page of several runs: one HTML text that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from snnx.analysis import style
from snnx.analysis.atomic import write_bytes
from snnx.analysis.comparison import (
    FIGURES,
    NOT_SET,
    Group,
    differences,
    groups_of,
    method_of,
    name_of,
    read_runs,
)
from snnx.analysis.comparison_plots import DASHES, draw_comparison, look_of
from snnx.analysis.page import commands, word
from snnx.analysis.pagestyle import document, figure
from snnx.analysis.rundata import RunData

CAPTIONS = {
    "curves": (
        "Training",
        "Loss and accuracy after every epoch, with the last value. Losses of different objectives "
        "are different numbers: compare the accuracies.",
    ),
    "rates": (
        "Firing rates",
        "Share of time steps in which a neuron of the layer fires, over the test samples after "
        "the last epoch. Fewer spikes are fewer additions.",
    ),
    "time": (
        "Accuracy against time",
        "Test accuracy when the output is read after fewer steps than the network was trained "
        "with.",
    ),
    "dials": (
        "What the methods did",
        "The numbers that each run set, learned or measured from epoch to epoch beside its "
        "weights; one that every layer has is shown as the mean over layers. A run without a line "
        "has no such number.",
    ),
}
FEW = 8  # settings that are read at a glance
UNITS = (
    '<p class="muted">Accuracy: on the test split. Spike rate: spikes per neuron and time step. '
    "Energy: of one sample, at 4.6 pJ a MAC and 0.9 pJ an AC.</p>"
)
SEEDS = " Thin lines and marks are single seeds."
WIDER = "main { max-width: 72rem; } figure:not(.half) { max-width: 54rem; }"
SWATCH = '<svg class="key" width="26" height="10" viewBox="0 0 26 10" aria-hidden="true">'


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page that compares these runs, and return its path.

    Raises: ComparisonError where they cannot be compared.
    """
    runs = read_runs(folders)
    text = comparison_page(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, text.encode())
    return out


def comparison_page(runs: Sequence[RunData]) -> str:
    """Return the page's HTML; every text that comes from a file is escaped."""
    groups = groups_of(runs)
    title = f"{len(runs)} runs on {runs[0].result['data'].get('name', 'the same data')}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _introduction(runs),
        f"<h2>Runs</h2>{_runs(groups)}",
        _means(groups),
        _differences(groups),
        *_pictures(groups),
        _reproduce(runs),
    ]
    return document(title, f"<style>{WIDER}</style>" + "\n".join(part for part in parts if part))


def _introduction(runs: Sequence[RunData]) -> str:
    data = runs[0].result["data"]
    label = escape(str(data.get("label", "unstated")))
    text = (
        f'<p class="muted">All on {escape(str(data.get("id", data["hash"])))} ({label}). '
        "Accuracies are those of the last epoch.</p>"
    )
    specs = {run.result.get("spec_hash") for run in runs}
    if len(specs) > 1:
        text += (
            '<p class="warn">These runs were made under different op tables (spec_hash): what '
            "differs may be snnx and not the recipe.</p>"
        )
    return text


def _key(place: int, group: Group) -> str:
    """Return the letter of a group beside the line by which pictures show it."""
    colour, dash = look_of(place)
    pattern = "" if DASHES[dash] == "-" else ' stroke-dasharray="' + ("7 3" if dash == 1 else "2 3")
    pattern += '"' if pattern else ""
    line = f'<path d="M1 5H25" stroke="{_css(colour)}" stroke-width="3.5"{pattern}/></svg>'
    return f"{SWATCH}{line}&nbsp;<b>{group.key}</b>"


def _css(colour: str) -> str:
    return f"var(--c{colour[1:]}, {colour})" if colour in style.DARK else colour


def _runs(groups: Sequence[Group]) -> str:
    shown = [f for f in FIGURES if any(group.values(f.read) for group in groups)]
    names = ["", "run", "method", "backend", "T", "seed", *(f.title for f in shown), "data"]
    numeric = {"T", "seed", *(f.title for f in shown)}
    rows = []
    for place, group in enumerate(groups):
        for run in group.runs:
            cells = [
                _key(place, group),
                escape(name_of(run)),
                escape(method_of(run)),
                escape(_place(run)),
                escape(word(run.found("T"))),
                escape(word(run.found("seed"))),
            ]
            for f in shown:
                value = f.read(run)
                cells.append("" if value is None else f.shown([value]))
            rows.append([*cells, escape(str(run.result["data"].get("label", "unstated")))])
    return _table(names, rows, numeric) + UNITS


def _place(run: RunData) -> str:
    backend, device = word(run.found("backend")), word(run.found("device"))
    return backend if device in ("auto", "cpu") else f"{backend} {device}"


def _means(groups: Sequence[Group]) -> str:
    if all(len(group.runs) == 1 for group in groups):
        return ""
    shown = [f for f in FIGURES if any(group.values(f.read) for group in groups)]
    shown = [f for f in shown if f.title != "parameters"]
    rows = []
    for place, group in enumerate(groups):
        cells = [_key(place, group), escape(group.name), f"{len(group.runs)}"]
        rows.append([*cells, *(f.shown(group.values(f.read)) for f in shown)])
    titles = [f.title for f in shown]
    table = _table(["", "group", "seeds", *titles], rows, {"seeds", *titles})
    return (
        f"<h2>Over seeds</h2>{table}"
        '<p class="muted">Runs that differ by their seed alone: mean ± standard deviation '
        "(n - 1). One seed has no deviation.</p>"
    )


def _differences(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return "<h2>What differs</h2><p>Nothing but the seed.</p>"
    names = ["setting", *(_key(place, group) for place, group in enumerate(groups))]
    found = differences(groups)
    own = {key for key, values in found.items() if NOT_SET in values}
    text = "<h2>What differs</h2>"
    for keys in ([k for k in found if k not in own], [k for k in found if k in own]):
        rows = [[escape(k), *map(_value, found[k])] for k in keys]
        table = _table(names, rows, set()) if rows else ""
        if rows and keys[0] in own and len(found) > FEW:
            # options of one method, rule or surrogate, which the others do not have
            summary = f"<summary>{len(rows)} settings that only some of the runs have</summary>"
            table = f"<details>{summary}{table}</details>"
        text += table
    return text


def _value(text: str) -> str:
    return f'<span class="muted">{text}</span>' if text == NOT_SET else escape(text)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], numeric: set[str]) -> str:
    """Return a table of HTML cells; columns of these names are set as numbers."""
    kinds = ["class=n" if name in numeric else "class=w" for name in names]
    head = "".join(f"<th {kind}>{name}</th>" for name, kind in zip(names, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td {k}>{c}</td>' for c, k in zip(row, kinds, strict=True))}</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _pictures(groups: Sequence[Group]) -> Iterator[str]:
    keys = "&emsp;".join(
        f"{_key(place, group)} {escape(group.name)}" for place, group in enumerate(groups)
    )
    yield f"<h2>Pictures</h2><p>{keys}</p>"
    seeds = SEEDS if any(len(group.runs) > 1 for group in groups) else ""
    for name, drawn in draw_comparison(groups).items():
        title, caption = CAPTIONS[name]
        svg = style.save(drawn, "svg").decode("utf-8")
        yield figure(name, svg, title, caption + seeds)


def _reproduce(runs: Sequence[RunData]) -> str:
    lines = [line for run in runs for line in commands(run)]
    if not lines:
        return ""
    return f"<h2>Reproduce</h2><pre><code>{escape(chr(10).join(lines))}</code></pre>"
