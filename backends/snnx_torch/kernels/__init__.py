"""Fused kernels of neurons on CUDA, beside the generic rules that they must match."""

from snnx_torch.kernels import bits as bits
from snnx_torch.kernels.implementation import Implementation, implementation
from snnx_torch.kernels.neuron import neuron
from snnx_torch.kernels.pair import norm_neuron
from snnx_torch.kernels.rates import rate_neuron
from snnx_torch.kernels.recurrent import recurrent

__all__ = ["Implementation", "implementation", "neuron", "norm_neuron", "rate_neuron", "recurrent"]
