"""Fuzzing of every reader of files that may come from a stranger."""
