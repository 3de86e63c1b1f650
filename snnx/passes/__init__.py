"""Passes: functions from a program to a program, each tested against the program it was given."""

from snnx.passes.fold import fold_norm as fold_norm
from snnx.passes.fuse import fuse_norm_neuron as fuse_norm_neuron
from snnx.passes.lean import lean_form as lean_form
from snnx.passes.pack import further_outputs as further_outputs
from snnx.passes.pack import mark_packed as mark_packed
from snnx.passes.rate_blocks import merge_rate_blocks as merge_rate_blocks
