"""Modes: what a network computes, chosen explicitly and statically."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from snnx.program import Program, Step


@dataclass(frozen=True, slots=True)
class Mode:
    """fire: the value of a spike; norm: whose statistics normalise; dropout: masks drawn or not.

    fire   "spike" Theta(x), "mixed" H(x) where the analog mask is set, "smooth" H(x) everywhere
    norm   "batch" the batch's, and running ones move; "frozen_batch" the batch's, running ones
           stay; "running" the running ones
    draws  "train": random bits are counted by the optimiser step; "eval": by the epoch, under a
           purpose of their own
    """

    fire: Literal["spike", "mixed", "smooth"] = "spike"
    norm: Literal["batch", "frozen_batch", "running"] = "running"
    dropout: bool = False
    draws: Literal["train", "eval"] = "eval"


EVAL = Mode()
NORMS = ("batch_norm", "rate_block", "norm_neuron")  # ops with statistics of the batch


def train_mode(program: Program) -> Mode:
    """Return the mode of training: "mixed" exactly when some neuron's analog share is not 0."""
    return Mode("mixed" if program.has_mask else "spike", "batch", True, "train")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a program fixes besides arrays: its mode, T, copies and what is imposed.

    steps is T. copies is how many copies the batch axis holds, outermost. `imposed` and `observed`
    are paths of neurons whose spikes are given, and whose spikes and potentials are wanted.
    """

    mode: Mode
    steps: int
    copies: int = 1
    imposed: frozenset[str] = frozenset()
    observed: frozenset[str] = frozenset()


def op_attributes(step: Step, run: Run, length: int) -> dict[str, Any]:
    """Return the attributes with which a step's op runs; `length` is the time axis of its input.

    An input of length 1 under T > 1 is static: it stands for T equal steps.
    """
    mode, attributes = run.mode, dict(step.attributes)
    if step.op in NORMS:
        repeat = run.steps if length < run.steps else 1
        attributes |= {"mode": mode.norm, "repeat": repeat, "copies": run.copies}
    if "neuron" in attributes:
        attributes |= {"steps": run.steps, "observe": step.path in run.observed}
        attributes["fire"] = mode.fire
        if mode.fire == "mixed" and attributes["neuron"].analog == 0.0:
            attributes["fire"] = "spike"
        if step.path in run.imposed:
            attributes["fire"] = "imposed"
    return attributes


def draw_purpose(step: Step, run: Run) -> str | None:
    """Return for what a step draws random bits in this run, or None.

    "analog" (a neuron's mask), "dropout", "encode"; evaluation has purposes of its own.
    """
    purpose = None
    if step.op == "dropout" and run.mode.dropout and step.attributes["rate"] > 0:
        purpose = "dropout"
    if step.op == "poisson":
        purpose = "encode"
    if "neuron" in step.attributes and step.path not in run.imposed:
        mixed = run.mode.fire == "mixed" and step.attributes["neuron"].analog != 0.0
        purpose = "analog" if mixed else None
    if purpose is None:
        return None
    return purpose if run.mode.draws == "train" else f"eval {purpose}"


def needed_steps(program: Program, at: str | None) -> tuple[Step, ...]:
    """Return the steps that lead from edge `at` (or the input) to the result, in order."""
    wanted, kept = {program.result}, []
    for step in reversed(program.steps):
        if step.output in wanted and step.output != at:
            kept.append(step)
            wanted.update(step.inputs.values())
    return tuple(reversed(kept))
