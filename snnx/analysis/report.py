"""Pictures at the end of a run, and one page that shows everything about it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis import style
from snnx.analysis.atomic import write_bytes
from snnx.analysis.operations import operations
from snnx.analysis.page import page
from snnx.analysis.plots import draw
from snnx.analysis.raster import chosen_neurons, chosen_samples
from snnx.analysis.rates import DEAD, SATURATED, Rates, firing_rates
from snnx.analysis.rundata import DATA_FILE, read_run
from snnx.backend import Session
from snnx.data import Batches
from snnx.data.arrays import Split
from snnx.program import Program

if TYPE_CHECKING:
    from snnx.data.lazy import Source

RATE_SAMPLES = 1024  # of the test split, from which the rates of the pictures are taken
LOOKED_AT = 64  # samples, evenly over the split, among which those of the raster are chosen


def write_pictures(
    run_dir: Path,
    session: Session,
    dataset: Source,
    config: Mapping[str, Any],
    *,
    program: Program | None = None,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    split: Split = "test",
) -> list[Path]:
    """Write plots/data.npz, plots/*.svg and report.html of a run, and return their paths.

    `program` is that of the session's network (`session.net.program` unless given), `dials` are
    those with which it is evaluated. `config` may hold batch_size; the page shows config.toml.

    Raises: TypeError where the session does not tell its program.
    """
    run_dir = Path(run_dir)
    program = program or _program(session)
    size = config.get("batch_size")
    batch_size = size if isinstance(size, int) and size > 0 else 64
    arrays = _arrays(session, program, dataset, split, dials or {}, steps, batch_size)
    folder = run_dir / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    written = [run_dir / DATA_FILE]
    _save_arrays(written[0], arrays)
    figures = _drawn(run_dir)
    for name, content in figures.items():
        path = folder / f"{name}.svg"
        write_bytes(path, content)
        written.append(path)
    written.append(_write_page(run_dir, figures))
    return written


def write_report(run_dir: Path) -> Path:
    """Write report.html from the run directory's files, drawing its pictures anew.

    Raises: FileNotFoundError if it is no run directory.
    """
    return _write_page(Path(run_dir), _drawn(Path(run_dir)))


def _drawn(run_dir: Path) -> dict[str, bytes]:
    return {name: style.save(f, "svg") for name, f in draw(read_run(run_dir)).items()}


def _write_page(run_dir: Path, figures: Mapping[str, bytes]) -> Path:
    path = run_dir / "report.html"
    text = page(read_run(run_dir), {n: f.decode("utf-8") for n, f in figures.items()})
    write_bytes(path, text.encode())
    return path


def _save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **dict(arrays))  # pyright: ignore[reportArgumentType]
    write_bytes(path, file.getvalue())


def _program(session: Any) -> Program:
    program = getattr(getattr(session, "net", None), "program", None)
    if not isinstance(program, Program):
        raise TypeError(
            f"write_pictures: {type(session).__name__} has no net.program; "
            "give program=flatten(model)"
        )
    return program


def _arrays(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split,
    dials: Mapping[str, float | int],
    steps: int | None,
    batch_size: int,
) -> dict[str, NDArray[Any]]:
    objective = getattr(session, "objective", None)
    readout = objective.readout if objective is not None and objective.classifies else None
    rates = firing_rates(
        session,
        program,
        dataset,
        split,
        batch_size=batch_size,
        dials=dials,
        steps=steps,
        samples=RATE_SAMPLES,
        readout=readout,
    )
    return {
        **_rate_arrays(rates),
        **_step_arrays(program),
        **_data_arrays(dataset),
        **_sample_arrays(session, program, dataset, split, dials, steps),
        "dials": np.array(sorted({*program.dials, *dials} - {"seed", "step", "epoch"}), np.str_),
    }


def _rate_arrays(rates: Rates) -> dict[str, NDArray[Any]]:
    layers = rates.layers
    over_time = [layer.over_time for layer in layers]
    arrays: dict[str, NDArray[Any]] = {
        "layers": np.array([f"{r.path} {r.layer}" for r in layers], np.str_),
        "neurons": np.array([r.neurons for r in layers], np.int64),
        "rate": np.array([r.rate for r in layers]),
        "dead": np.array([r.dead for r in layers]),
        "saturated": np.array([r.saturated for r in layers]),
        "rate_over_time": np.array(over_time).reshape(len(layers), rates.steps),
        "rate_bounds": np.array([DEAD, SATURATED]),
        "rate_samples": np.array(rates.samples),
        "steps": np.array(rates.steps),
    }
    if rates.accuracy is not None:
        arrays["accuracy_over_time"] = rates.accuracy
    if rates.single is not None:
        arrays["accuracy_of_step"] = rates.single
    if rates.spikes is not None:
        arrays["spikes"] = np.array(rates.spikes)
    return arrays


def _step_arrays(program: Program) -> dict[str, NDArray[Any]]:
    counts = operations(program)
    return {
        "step_path": np.array([c.path for c in counts], np.str_),
        "step_layer": np.array([c.layer for c in counts], np.str_),
        "step_shape": np.array([" x ".join(map(str, c.shape)) for c in counts], np.str_),
        "step_parameters": np.array([c.parameters for c in counts], np.int64),
        "step_macs": np.array([-1 if c.macs is None else c.macs for c in counts], np.int64),
        "step_binary": np.array([c.binary for c in counts], np.bool_),
        "input_shape": np.array(" x ".join(map(str, program.input_shape))),
    }


def _data_arrays(dataset: Source) -> dict[str, NDArray[Any]]:
    words = {
        "name": dataset.name,
        "label": dataset.label,
        "id": dataset.id,
        "source": dataset.source,
        "licence": dataset.licence,
        "sizes": f"{dataset.size('train')} training, {dataset.size('test')} test",
    }
    return {f"data_{name}": np.array(word, np.str_) for name, word in words.items()}


def _sample_arrays(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split,
    dials: Mapping[str, float | int],
    steps: int | None,
) -> dict[str, NDArray[Any]]:
    """Return spikes of chosen neurons, logits and inputs of a few samples."""
    batches = Batches(dataset, split, 1, shuffle=False)
    size = dataset.size(split)
    some = np.unique(np.linspace(0, size - 1, min(size, LOOKED_AT)).astype(np.int64))
    picks = some[chosen_samples(batches.take(some)["y"])]
    batch: Any = batches.take(picks)
    taps = [f"{step.path}.spike" for step in program.spiking]
    out = session.forward(batch, dials, taps=taps, steps=steps)
    arrays: dict[str, NDArray[Any]] = {
        "sample_index": picks,
        "sample_y": np.asarray(batch["y"]),
        "logits": np.asarray(out.y, np.float32),
    }
    if "length" in batch:
        arrays["sample_length"] = np.asarray(batch["length"])
    if dataset.layout == "NF" and len(dataset.features) == 3:
        arrays["sample_x"] = np.asarray(batch["x"], np.float32)
    for i, tap in enumerate(taps):
        flat = out.taps[tap].reshape(*out.taps[tap].shape[:2], -1)
        arrays[f"raster.{i}"] = (flat[..., chosen_neurons(flat.shape[-1])] != 0).astype(np.uint8)
    return arrays
