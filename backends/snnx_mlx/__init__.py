"""The MLX backend: Metal, CUDA and CPU through the same code."""

from snnx_mlx.backend import MlxBackend

backend = MlxBackend()

__all__ = ["MlxBackend", "backend"]
