"""Dspike: a surrogate whose temperature follows the finite difference gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from snnx.layers import Layer
from snnx.methods.method import Method
from snnx.methods.rewrite import replace_layers
from snnx.neurons import Neuron
from snnx.scalars import Dial
from snnx.surrogate import Dspike


@dataclass(frozen=True)
class DspikeMethod(Method):
    """The surrogate Dspike in every neuron, with one temperature for the whole network."""

    name: ClassVar = "dspike"
    defaults: ClassVar = {"objective": {"name": "sdt"}}
    eps: float = 0.1

    def rewrite(self, model: Any) -> Any:
        """Return the model with the surrogate Dspike in every neuron."""

        def dialled(layer: Layer) -> Layer:
            if not isinstance(layer, Neuron):
                return layer
            return replace(layer, surrogate=Dspike(Dial("temperature", 1.0)))

        return replace_layers(model, dialled)
