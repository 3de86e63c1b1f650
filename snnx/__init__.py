"""Spiking neural networks: one model definition, the same numbers on every backend."""

__version__ = "0.1.0"
