"""Time inheritance: weights that go on from one number of time steps, or from an ANN, to another.

A run is a list of stages; each trains the weights and statistics of the one before at its own T,
with moments and learning-rate schedule begun anew. Dspike goes from long T to short, TET from short
to long; the first stage may be an ANN, the same tree with ReLU in place of every neuron. Source:
Dspike 4.4; TET 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from snnx.activation import ReLU
from snnx.backend import Snapshot
from snnx.building import initial_parameters, initial_statistics
from snnx.layers import Layer
from snnx.methods.rewrite import replace_layers
from snnx.neurons import Neuron
from snnx.optim import Optim
from snnx.program import Program
from snnx.spiking import DSR, Recurrent


def as_ann(model: Any) -> Any:
    """Return the tree with a ReLU in place of every neuron; paths of weights and norms stay.

    Raises: ValueError for a recurrent layer, which has no counterpart without time.
    """

    def unspiked(layer: Layer) -> Layer:
        if isinstance(layer, Recurrent):
            raise ValueError(
                "an ANN stage: Recurrent feeds its spikes back over time, which a network "
                "without time cannot; leave the stage out"
            )
        return ReLU() if isinstance(layer, Neuron | DSR) else layer

    return replace_layers(model, unspiked)


def optim_for(optim: Optim, program: Program) -> Optim:
    """Return the optimiser without the groups that a program (an ANN's) does not have."""
    known = {p.group for p in program.parameters} | {p.path for p in program.parameters}
    groups = {name: rule for name, rule in optim.groups.items() if name in known}
    return replace(optim, groups=groups)


def fitted(snapshot: Snapshot, program: Program, optim: Optim, seed: int) -> Snapshot:
    """Return a snapshot for a program: shared paths are carried over, others start anew.

    So an ANN's snapshot becomes its spiking network's, whose neurons' own numbers are initial.
    """
    moments = {
        f"{p.path}.{m}": np.zeros(p.shape, np.float32)
        for p in program.parameters
        for m in optim.rule(p).moments
    }
    return Snapshot(
        _carried(initial_parameters(program, seed), snapshot.parameters),
        _carried(initial_statistics(program), snapshot.statistics),
        _carried(moments, snapshot.moments),
        snapshot.count,
    )


def _carried(
    start: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {path: old.get(path, value) for path, value in start.items()}
