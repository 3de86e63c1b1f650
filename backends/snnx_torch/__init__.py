"""The PyTorch backend: native modules, autograd and torch.compile, on CPU, CUDA and MPS."""

from snnx_torch.backend import TorchBackend
from snnx_torch.layout import from_torch_layout, to_torch_layout

backend = TorchBackend()

__all__ = ["TorchBackend", "backend", "from_torch_layout", "to_torch_layout"]
