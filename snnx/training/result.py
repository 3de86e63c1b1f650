"""The figures by which a run is compared with others."""

from __future__ import annotations

from typing import Any

from snnx.analysis.energy import measure_energy
from snnx.analysis.operations import operations
from snnx.checkpoint import spec_hash
from snnx.training.evaluate import Evaluation
from snnx.training.loop import Training, data_values
from snnx.training.rundir import environment

# what a recipe says of itself and a result repeats, where it is said
OF_RECIPE = ("paper", "expected_accuracy", "expected_deviation", "undetermined", "note")


ENERGY_SAMPLES = 1024  # of the test split, as many as ASGL measures


def energy_values(training: Training) -> dict[str, Any]:
    """Return the operations and energy of one sample, from the spikes on the test split.

    Average pools are folded into the weights after them, so that spikes stay spikes, as the papers
    count. A model with a layer that does not tell its MACs has none: "unknown" names the layers.
    """
    plan = training.plan
    unknown = [c.path for c in operations(training.program) if c.macs is None]
    if unknown:
        return {"unknown": f"layers {unknown} do not tell their macs"}
    found = measure_energy(
        training.session,
        training.program,
        training.dataset,
        batch_size=plan.batch_size,
        dials={**training.dials, "seed": plan.seed, "step": training.step, "epoch": training.epoch},
        steps=plan.steps,
        samples=ENERGY_SAMPLES,
        fold_pools=True,
    )
    return {**found.values(), "pools": "folded"}


def result_values(training: Training, test: Evaluation, seconds: float) -> dict[str, Any]:
    """Return result.json: test_accuracy is the share of right answers after the last epoch."""
    plan, program = training.plan, training.program
    described = training.backend.describe()
    return {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_samples": test.samples,
        "spikes_per_neuron_step": test.rate,
        "rates": dict(test.rates),
        "energy": energy_values(training),
        "epochs": training.epoch,
        "steps": training.step,
        "T": plan.steps,
        "parameters": sum(p.size for p in program.parameters),
        "objective": type(training.stage.objective).__name__,
        "methods": [method.name for method in plan.methods],
        "seed": plan.seed,
        "processes": training.world.size,
        "backend": training.backend.name,
        "device": plan.device or described.get("device", "auto"),
        "precision": plan.precision,
        **data_values(training),
        **{key: plan.config[key] for key in OF_RECIPE if plan.config.get(key)},
        "seconds": seconds,
        "spec_hash": spec_hash(),
        "environment": environment(described),
    }
