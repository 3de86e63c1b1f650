"""Passes: functions from a program to a program, each tested against the program it was given."""

from snnx.passes.fold import fold_norm as fold_norm
