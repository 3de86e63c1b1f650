"""The figures by which a run is compared with others."""

from __future__ import annotations

from typing import Any

from snnx.checkpoint import spec_hash
from snnx.training.evaluate import Evaluation
from snnx.training.loop import Training, data_values
from snnx.training.rundir import environment

# what a recipe says of itself and a result repeats, where it is said
OF_RECIPE = ("paper", "expected_accuracy", "undetermined", "note")


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
        "epochs": training.epoch,
        "steps": training.step,
        "T": plan.steps,
        "parameters": sum(p.size for p in program.parameters),
        "objective": type(plan.objective).__name__,
        "methods": [method.name for method in plan.methods],
        "seed": plan.seed,
        "backend": training.backend.name,
        "device": plan.device or described.get("device", "auto"),
        "precision": plan.precision,
        **data_values(training),
        **{key: plan.config[key] for key in OF_RECIPE if plan.config.get(key)},
        "seconds": seconds,
        "spec_hash": spec_hash(),
        "environment": environment(described),
    }
