"""Tolerances of the levels above single ops: whole networks, training, free runs, equivalence.

They stand with the op table because no other place may hold a tolerance; the spec hash covers them.
"""

from __future__ import annotations

from snnx.ops._op import Tolerance

# Whole networks in float32, as max |error| / max |reference|: a forward of about ten ops, and the
# gradients back through them.
NETWORK = Tolerance(1e-5, 1e-4)

# The gradients of such a network by the precision of its products: TF32 keeps 10 bits, bfloat16 7.
NETWORK_GRADIENT = {"fp64": 1e-4, "fp32": 1e-4, "tf32": 3e-2, "bf16": 2e-1}

# Ten optimiser steps in smooth mode: loss, weights, moments and statistics, relative.
TRAINING = 1e-4

# Teacher-forced runs: the largest share of spikes that may be left out, being at their threshold.
EXCLUDED_SHARE = 1e-4

# Free runs: at every layer the share of flipped spikes is at most this many times that of float32
# against float64 on the NumPy backend, plus the floor.
FLIP_FACTOR = 10.0
FLIP_FLOOR = 1e-5

# How far from threshold a first flip may lie, relative to the largest potential of its layer. The
# networks here are built to lose three digits by cancellation.
FIRST_FLIP = 3e-4

# Ten seeds a backend: means of last-epoch test accuracy are equivalent within this margin, by two
# one-sided tests at this level.
MARGIN = 0.01
ALPHA = 0.05
