"""What the commands of `snnx` do; `snnx.cli` has their names and options."""
