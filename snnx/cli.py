"""The command `snnx`: names and options; `snnx.commands` does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from snnx import __version__
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
    request = command.Request(words or [], flags, out, name, resume, dry_run, print_config)
    command.train(request, Screen(quiet, as_json, no_color))


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(args=sys.argv[1:] if argv is None else argv, prog_name="snnx")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
