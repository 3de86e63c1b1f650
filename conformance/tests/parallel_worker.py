"""One of several processes: python parallel_worker.py BACKEND FILE.npz computes all cases."""

import sys

import numpy as np
from parallel_cases import everything

from snnx.backend import load_backend


def main() -> None:
    backend = load_backend(sys.argv[1])
    world = backend.world("cpu")
    found = everything(backend, world)
    bits = "".join(f"{k} {v.dtype} {v.shape} {v.tobytes().hex()}\n" for k, v in found.items())
    world.check_alike("what the processes found", bits)
    if world.rank == 0:
        np.savez(sys.argv[2], size=world.size, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
