"""The NumPy backend: the reference itself, as whole networks and as a training session."""

from snnx_numpy.backend import NumpyBackend

backend = NumpyBackend()

__all__ = ["NumpyBackend", "backend"]
