"""Faults planted in the code paths of snnx_torch and snnx_mlx; the shipped suite must see each."""
