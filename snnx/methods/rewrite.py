"""Rewriting a model: another tree in which some layers are replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from snnx.layers import BatchNorm, Chain, Conv2d, Layer, Linear


def replace_layers(model: Any, function: Callable[[Layer], Layer]) -> Any:
    """Return the tree with `function(layer)` in place of every layer, outermost first.

    A function that returns its argument leaves the layer, and is then asked for the layers in it:
    those of Chain and Residual, the neuron of Recurrent and DSR. What it puts in place of a layer
    is not entered. Paths stay what they were as long as one layer stands for one.
    """
    chosen = function(model)
    if chosen is not model:
        return chosen
    if isinstance(model, Chain):
        inner = [replace_layers(layer, function) for layer in model.layers]
        same = all(a is b for a, b in zip(inner, model.layers, strict=True))
        return model if same else Chain(*inner)
    held = {f.name: getattr(model, f.name) for f in fields(model)}
    made = {k: replace_layers(v, function) for k, v in held.items() if isinstance(v, Layer)}
    changed = {k: v for k, v in made.items() if v is not held[k]}
    return replace(model, **changed) if changed else model


def layers_in(model: Any) -> Iterator[Layer]:
    """Yield every layer of a tree, outermost first."""
    found: list[Layer] = []

    def see(layer: Layer) -> Layer:
        found.append(layer)
        return layer

    replace_layers(model, see)
    yield from found


def with_tdbn(model: Any, alpha: float = 1.0, threshold: float = 1.0) -> Any:
    """Return the model with tdBN in place of batch norm: its output is scaled by alpha threshold.

    alpha is 1, or 1 / sqrt(2) for the norms whose outputs meet in a residual sum; threshold is that
    of the neurons. Source: Zheng 2021; Dspike Eq. 4-5.
    Raises: ValueError without a BatchNorm, or where one has another scale already.
    """
    scale = alpha * threshold
    scales = {layer.scale for layer in layers_in(model) if isinstance(layer, BatchNorm)}
    if not scales:
        raise ValueError("with_tdbn: the model has no BatchNorm to scale; put one into it")
    other = sorted(scales - {1.0, scale})
    if other:
        raise ValueError(
            f"with_tdbn: norms of the model are scaled by {other} already, tdBN scales by {scale}; "
            "leave out tdBN, or the scale of the model (norm_scale, sum_scale)"
        )

    def scaled(layer: Layer) -> Layer:
        return replace(layer, scale=scale) if isinstance(layer, BatchNorm) else layer

    return replace_layers(model, scaled)


def with_weight_bits(model: Any, bits: int | None) -> Any:
    """Return the model whose convolutions and linear maps have weights of so many bits.

    Biases, norms and the neurons' numbers stay in float32. Source: DSR App. E (8 and 4 bits).
    """

    def rounded(layer: Layer) -> Layer:
        return replace(layer, bits=bits) if isinstance(layer, Conv2d | Linear) else layer

    return replace_layers(model, rounded)
