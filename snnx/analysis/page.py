"""The page of a run: one HTML text that needs no network, no script and no other file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from snnx.analysis.pagestyle import document, figure
from snnx.analysis.pagetext import CAPTIONS, FILES
from snnx.analysis.rundata import RunData, flat, number

UNKNOWN = "not recorded"


def page(run: RunData, figures: Mapping[str, str]) -> str:
    """Return the page's HTML; every text that comes from a file is escaped."""
    title = run.folder.resolve().name
    parts = [
        f"<h1>{escape(title)}</h1>",
        _state(run),
        _numbers(run),
        _notes(run),
        _data(run),
        *_figures(figures),
        _model(run),
        _reproduce(run),
        _environment(run),
        _files(run),
    ]
    body = "\n".join(part for part in parts if part)
    return document(title, body)


def _state(run: RunData) -> str:
    if (run.folder / "FAILED").exists():
        return '<p class="warn">This run did not end well: the numbers are its last ones.</p>'
    if run.result:
        return f'<p class="muted">{escape(_what(run))} Its numbers are those of the last epoch.</p>'
    return '<p class="warn">This run has no result yet: the numbers are its last ones.</p>'


def _what(run: RunData) -> str:
    """Return what was trained how, as a sentence."""
    methods = run.result.get("methods")
    words = [str(m) for m in methods if m != "plain"] if isinstance(methods, list) else []
    how = f" by the method {', '.join(words)}" if words else ""
    loss, data = run.result.get("objective"), run.text("data_name")
    return (
        f"A training run of snnx{how}"
        f"{f', with the loss {loss}' if loss else ''}{f', on {data}' if data else ''}."
    )


def _numbers(run: RunData) -> str:
    accuracy = run.last("test_accuracy")
    macs = run.arrays.get("step_macs")
    total = None if macs is None or not macs.size or macs.min() < 0 else int(macs.sum())
    parameters = number(run.found("parameters"))
    if parameters is None and "step_parameters" in run.arrays:
        parameters = float(run.arrays["step_parameters"].sum())
    steps = number(run.found("T", "steps"))
    if "steps" in run.arrays:
        steps = float(run.arrays["steps"])
    spikes = run.last("spikes_per_neuron_step", "spikes")
    if spikes is None and "spikes" in run.arrays:
        spikes = float(run.arrays["spikes"])
    epochs = run.series("train_loss", "loss", "test_accuracy")[0]
    seconds = number(run.found("seconds", "time", "wall_time", "duration"))
    cells = [
        ("test accuracy", shown(accuracy, "{:.2f} %", 100.0)),
        ("training loss", shown(run.last("train_loss", "loss"), "{:.4g}")),
        ("parameters", shown(parameters, "{:,.0f}")),
        ("time steps T", shown(steps, "{:.0f}")),
        ("dense MACs / step", shown(total, "{:,.0f}")),
        ("spikes / neuron / step", shown(spikes, "{:.3f}")),
        *_energy(run),
        ("epochs", f"{len(epochs)}" if len(epochs) else UNKNOWN),
        ("time", duration(seconds)),
        ("seed", word(run.found("seed"))),
        ("backend", word(run.found("backend"))),
        ("device", word(run.found("device"))),
        ("precision", word(run.found("precision"))),
    ]
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>"
        for name, value in cells
        if value != UNKNOWN or not name.startswith("precision")
    )
    return f'<dl class="numbers">{rows}</dl>'


def _energy(run: RunData) -> list[tuple[str, str]]:
    """Return the cells of what one sample costs, where that was measured."""
    energy = run.result.get("energy")
    if not isinstance(energy, Mapping):
        return []
    found = {k: number(energy.get(k)) for k in ("macs", "acs", "microjoules", "ann_microjoules")}
    own, ann = found["microjoules"], found["ann_microjoules"]
    share = None if own is None or not ann else own / ann
    return [
        ("MACs / sample", shown(found["macs"], "{:,.0f}")),
        ("ACs / sample", shown(found["acs"], "{:,.0f}")),
        ("energy / sample", shown(own, "{:.4g} µJ")),
        ("of an ANN's energy", shown(share, "{:.1f} %", 100.0)),
    ]


def shown(value: float | None, form: str, scale: float = 1.0) -> str:
    """Return a number as text; None was not recorded."""
    if value is None:
        return UNKNOWN
    return form.format(value * scale) if math.isfinite(value) else "not finite"


def duration(seconds: float | None) -> str:
    """Return a time as text."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def word(value: Any) -> str:
    """Return a value as text; None was not recorded."""
    return UNKNOWN if value is None else str(value)


def _notes(run: RunData) -> str:
    broken = sum(
        not math.isfinite(value)
        for row in run.rows
        for value in map(number, flat(row).values())
        if value is not None
    )
    notes = [*run.notes]
    if broken:
        notes.append(f"metrics.jsonl: {broken} numbers are not finite; the curves have gaps there")
    return "".join(f'<p class="warn">{escape(note)}</p>' for note in notes)


def _data(run: RunData) -> str:
    names = ("id", "label", "sizes", "source", "licence")
    kept = {name: run.text(f"data_{name}") for name in names}
    if not any(kept.values()):
        return ""
    label = kept["label"] or "unstated"
    rows = [("data set", kept["id"]), ("label", label), ("samples", kept["sizes"])]
    rows += [("source", kept["source"]), ("licence", kept["licence"])]
    return f"<h2>Data</h2>{_table([r for r in rows if r[1]])}"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f'<div class="wide"><table><tbody>{cells}</tbody></table></div>'


def _figures(figures: Mapping[str, str]) -> Iterator[str]:
    if figures:
        yield "<h2>Pictures</h2>"
    for name, text in figures.items():
        title, caption = CAPTIONS[name]
        yield figure(name, text, title, caption)


def _model(run: RunData) -> str:
    a = run.arrays
    names = ("path", "layer", "shape", "parameters", "macs", "binary")
    if not all(f"step_{n}" in a for n in names) or not len(a["step_path"]):
        return ""
    rows = []
    for path, layer, shape, size, macs, binary in zip(
        *(a[f"step_{n}"].tolist() for n in names), strict=True
    ):
        cost = "not known" if macs < 0 else f"{macs:,}" if macs else ""
        cost += " *" if binary else ""
        rows.append(
            f"<tr><td class=w>{escape(path)}</td><td class=w>{escape(layer)}</td>"
            f"<td class=w>{escape(shape)}</td><td class=n>{f'{size:,}' if size else ''}</td>"
            f"<td class=n>{cost}</td></tr>"
        )
    known = a["step_macs"][a["step_macs"] >= 0]
    total = f"{int(known.sum()):,}" + (" and more" if len(known) < len(rows) else "")
    starred = " Where the input is spikes (*), each is an addition, made only when a spike comes."
    return (
        '<h2>Model</h2><div class="wide"><table><thead><tr><th>path</th><th>layer</th>'
        "<th>output per step</th><th class=n>parameters</th><th class=n>MACs per step</th>"
        f"</tr></thead><tbody><tr><td class=w>input</td><td></td>"
        f"<td class=w>{escape(run.text('input_shape'))}</td><td></td><td></td></tr>"
        f"{''.join(rows)}</tbody><tfoot><tr><td>all</td><td></td><td></td>"
        f"<td class=n>{int(a['step_parameters'].sum()):,}</td>"
        f"<td class=n>{total}</td></tr></tfoot></table></div>"
        '<p class="muted">MACs are the multiply-accumulates of a dense network of these shapes, '
        f"for one sample and one time step.{starred if a['step_binary'].any() else ''}</p>"
    )


def _reproduce(run: RunData) -> str:
    lines = commands(run)
    text = "<h2>Reproduce</h2>"
    if lines:
        text += f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"
    else:
        text += "<p>The command was not recorded.</p>"
    if run.config_text:
        text += (
            "<details><summary>config.toml</summary>"
            f"<pre><code>{escape(run.config_text)}</code></pre></details>"
        )
    return text


def commands(run: RunData) -> list[str]:
    """Return the command lines of a run: those before it was resumed, then the last."""
    before = run.env.get("before")
    earlier = [e for e in before if isinstance(e, Mapping)] if isinstance(before, list) else []
    found = []
    for env in (*earlier, run.env):
        command = env.get("command")
        if isinstance(command, list) and command:
            words = [str(word) for word in command]
            name = words[0].replace("\\", "/").rsplit("/", 1)[-1]
            start = "python -m snnx" if name == "__main__.py" else shlex.quote(name)
            found.append(" ".join([start, *map(shlex.quote, words[1:])]))
        elif isinstance(command, str):
            found.append(command)
    return found


def _environment(run: RunData) -> str:
    kept = {k: v for k, v in run.env.items() if k not in ("before", "command")}
    rows = [(key, word(value)) for key, value in flat(kept).items()]
    return f"<h2>Environment</h2>{_table(rows)}" if rows else ""


def _files(run: RunData) -> str:
    rows = []
    for path in sorted({*run.folder.iterdir(), run.folder / "report.html"}):
        name = path.name + ("/" if path.is_dir() else "")
        rows.append((name, FILES.get(path.name, "")))
    return f"<h2>Files of the run</h2>{_table(rows)}"
