"""`snnx plot RUN landscape`: the losses around a run's weights, computed where they are not yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snnx import checkpoint as checkpoints
from snnx.analysis.landscape import landscape, save_landscape
from snnx.analysis.rundata import LANDSCAPE_FILE
from snnx.commands.evaluate import Request, data_table, plan_of
from snnx.commands.screen import Screen
from snnx.objective import SDT, TET
from snnx.training import loop
from snnx.training.recipe import RecipeError
from snnx.training.recipe_data import open_data


def compute(folder: Path, screen: Screen) -> None:
    """Write plots/landscape.npz of a run, unless it is newer than the last checkpoint.

    Both losses, that of the mean output and that of every step, are computed with equal directions.
    """
    checkpoint = checkpoints.load(folder, screen.warn)
    path = folder / LANDSCAPE_FILE
    last = folder / "checkpoints" / checkpoints.LAST / checkpoints.STATE
    if path.is_file() and last.is_file() and path.stat().st_mtime >= last.stat().st_mtime:
        return
    plan = plan_of(checkpoint, Request(str(folder)))
    table = data_table(checkpoint.config.get("recipe", {}).get("data"), None)
    if table is None:
        raise RecipeError(
            f"{folder}: was trained on arrays; call snnx.analysis.landscape.landscape with them"
        )
    dataset, program = open_data(table), plan.program()
    dials = {**checkpoint.dials, "seed": checkpoint.seed, "epoch": checkpoint.epoch}
    arrays = {}
    for kind, objective in (("sdt", SDT()), ("tet", TET(mse=0.0))):
        screen.line(f"computing the landscape of {objective}")
        _, session = loop.open_session(replace(plan, objective=objective), program)
        loop.load_snapshot(session, checkpoint.snapshot)
        grid, losses = landscape(
            session,
            program,
            dataset,
            batch_size=plan.batch_size,
            steps=plan.steps,
            dials=dials,
            seed=plan.seed,
        )
        arrays |= {"landscape_grid": grid, f"landscape_{kind}": losses}
    save_landscape(folder, arrays)
