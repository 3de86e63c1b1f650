"""Fused kernels of neurons on Metal and CUDA, beside the generic scan that they must match."""

from snnx_mlx.kernels.implementation import Implementation, implementation
from snnx_mlx.kernels.neuron import neuron
from snnx_mlx.kernels.pair import norm_neuron
from snnx_mlx.kernels.rates import rate_neuron
from snnx_mlx.kernels.recurrent import recurrent

__all__ = ["Implementation", "implementation", "neuron", "norm_neuron", "rate_neuron", "recurrent"]
