"""Weights, statistics and moments, from and to the canonical arrays of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from snnx.backend import Snapshot
from snnx_torch.arrays import host, parameters_in, parameters_out, to_tensor
from snnx_torch.net import Net, project

Tensors = Mapping[str, Tensor]


def exported(net: Net, moments: Tensors, owners: Mapping[str, str], count: int) -> Snapshot:
    """Return what a session saves; `owners` names the parameter of every moment."""
    program = net.program
    by_moment = {
        name: parameters_out(program, {path: moments[name]})[path] for name, path in owners.items()
    }
    parameters = parameters_out(program, _parameters(net))
    return Snapshot(parameters, host(net.statistics()), by_moment, count)


def load_weights(net: Net, snapshot: Snapshot) -> None:
    """Copy the parameters, projected to where they may be, and the statistics into the net."""
    parameters = _parameters(net)
    given = parameters_in(net.program, snapshot.parameters, net.dtype, net.device)
    with torch.no_grad():
        for path, parameter in parameters.items():
            parameter.copy_(given[path])
        for path, buffer in net.statistics().items():
            buffer.copy_(to_tensor(snapshot.statistics[path], net.dtype, net.device))
    project(net.program, parameters)


def load_moments(net: Net, moments: Tensors, owners: Mapping[str, str], snapshot: Snapshot) -> None:
    """Copy the snapshot's moments into those of a session."""
    with torch.no_grad():
        for name, path in owners.items():
            array = {path: snapshot.moments[name]}
            new = parameters_in(net.program, array, net.dtype, net.device)
            moments[name].copy_(new[path])


def _parameters(net: Net) -> dict[str, Tensor]:
    return {p.path: net.get_parameter(p.path) for p in net.program.parameters}
