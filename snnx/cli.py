"""The command `snnx`: names and options; `snnx.commands` does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from snnx import __version__
from snnx.commands.data import app as data_app
from snnx.commands.failures import guarded
from snnx.commands.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Spiking neural networks: one model definition, the same numbers on every backend.",
)

Backend = Annotated[
    str | None,
    typer.Option("-b", "--backend", help="auto, torch, mlx, numpy or another installed one"),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps, gpu")]
Precision = Annotated[str | None, typer.Option(help="fp32, tf32, bf16")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="print nothing but errors")]
Json = Annotated[bool, typer.Option("--json", help="print the figures as JSON in the last line")]
NoColor = Annotated[bool, typer.Option("--no-color", help="plain text; NO_COLOR does it too")]


def _version(asked: bool) -> None:
    if asked:
        print(f"snnx {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Spiking neural networks: one model definition, the same numbers on every backend."""


@app.command()
@guarded
def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="digits, or FILE.toml, and changes"),
    ] = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="the run's own folder, instead of runs/..."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the folder under runs/")] = None,
    seed: Annotated[int | None, typer.Option(help="names every random draw")] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic", help="refuse kernels whose sums have no fixed order"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data")] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(help="stop after this many optimiser steps in all"),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="DIR|latest", help="go on with a run in its folder"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="build everything, train nothing")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print every value with its origin")
    ] = False,
    plots: Annotated[bool, typer.Option(help="draw the pictures and the page at the end")] = True,
    quiet: Quiet = False,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Train a network: `snnx train` is the quick start, `snnx train optim.lr=0.002` a change."""
    from snnx.commands import train as command

    flags = {
        "backend": backend,
        "device": device,
        "precision": precision,
        "seed": seed,
        "deterministic": deterministic,
        "epochs": epochs,
        "max_steps": max_steps,
    }
    request = command.Request(words or [], flags, out, name, resume, dry_run, print_config, plots)
    command.train(request, Screen(quiet, as_json, no_color))


@app.command(name="eval")
@guarded
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run, a checkpoint, or latest")],
    data: Annotated[str | None, typer.Option(help="other data: a name or FILE.npz")] = None,
    split: Annotated[str, typer.Option(help="test or train")] = "test",
    steps: Annotated[str, typer.Option("--T", help="time steps, for example 1,2,4,6")] = "",
    backend: Backend = None,
    device: Device = None,
    precision: Precision = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="print each class")] = False,
    out: Annotated[Path | None, typer.Option(help="write the figures to this file")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Evaluate a trained network, also at other numbers of time steps or on another backend."""
    from snnx.commands import evaluate as command

    wanted = command.Request(
        run, data, split, _steps(steps), backend, device, precision, per_class, out
    )
    command.run(wanted, Screen(quiet, as_json, no_color))


def _steps(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and 0 < int(word) < 100_000 for word in words):
        raise typer.BadParameter(
            f"expects whole numbers like 1,2,4, got {text!r}", param_hint="--T"
        )
    return tuple(map(int, words))


@app.command()
@guarded
def info(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC|RUN|MODEL]", help="backends, recipes, models, data"),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="changes of the model, as width=0.25"),
    ] = None,
    backend: Backend = None,
    steps: Annotated[
        int | None,
        typer.Option("--T", min=1, help="time steps of the bytes kept [4, or the run's]"),
    ] = None,
    shape: Annotated[str | None, typer.Option(help="of one sample, as 32,32,3")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="their number")] = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Show what is installed, what a run holds, or what a model's steps take and what runs them."""
    from snnx.commands import info as command
    from snnx.commands.model_info import Request

    wanted = Request(topic, words or (), steps, backend, shape, classes) if topic else None
    command.info(wanted, Screen(as_json=as_json, no_color=no_color))


@app.command()
@guarded
def plan(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="digits, or FILE.toml, and changes"),
    ] = None,
    backend: Backend = None,
    precision: Precision = None,
    device: Annotated[str | None, typer.Option(help="h100, h200, or a size such as 24GiB")] = None,
    shape: Annotated[
        str | None, typer.Option(help="of one sample, as 32,32,3, where the data are not here")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="their number, with --shape")] = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Predict the memory of a training step and the largest batch that fits."""
    from snnx.commands import plan as command

    given = {"backend": backend, "precision": precision}
    more = [f"{k}={v}" for k, v in given.items() if v is not None]
    wanted = command.Request([*(words or []), *more], device, shape, classes)
    command.plan(wanted, Screen(as_json=as_json, no_color=no_color))


@app.command()
@guarded
def bench(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="digits, or FILE.toml, and changes"),
    ] = None,
    backend: Backend = None,
    device: Device = None,
    precision: Precision = None,
    forms: Annotated[
        bool, typer.Option("--forms", help="lean or not, compiled or not: all four")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="steps that are timed")] = 20,
    shape: Annotated[
        str | None, typer.Option(help="of one sample, as 32,32,3, where the data are not here")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="their number, with --shape")] = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Measure a training step here: time, memory, and whether its numbers are right."""
    from snnx.commands import bench as command

    given = {"backend": backend, "device": device, "precision": precision}
    more = [f"{k}={v}" for k, v in given.items() if v is not None]
    wanted = command.Request([*(words or []), *more], forms, repeats, shape, classes)
    raise typer.Exit(command.run(wanted, Screen(as_json=as_json, no_color=no_color)))


@app.command()
@guarded
def plot(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run, or latest")],
    which: Annotated[str, typer.Argument(help="one picture by name, or all")] = "all",
    format: Annotated[str, typer.Option(help="svg, png or pdf")] = "svg",
) -> None:
    """Draw the pictures of a run into its folder plots/."""
    from snnx.analysis import plots
    from snnx.training.rundir import RunDir

    folder = RunDir.find(run)
    if which == "landscape":
        from snnx.commands.landscape import compute

        compute(folder.path, Screen())
    try:
        paths = plots.main(folder.path, which, format)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for path in paths:
        print(path)


@app.command()
@guarded
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="runs, or latest")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="the page of several runs [runs/comparison.html]"),
    ] = None,
) -> None:
    """Write the page of a run anew, or one page that compares several."""
    from snnx.commands import report as command

    print(command.report(runs, out))


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@guarded
def conform(
    context: typer.Context,
    help: Annotated[bool, typer.Option("--help", help="show the options")] = False,
) -> None:
    """Check that the backends here compute the same numbers."""
    from snnx_conformance.run import main as check

    raise typer.Exit(check([*(["--help"] if help else []), *context.args]))


app.add_typer(data_app, name="data")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(args=sys.argv[1:] if argv is None else argv, prog_name="snnx")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
