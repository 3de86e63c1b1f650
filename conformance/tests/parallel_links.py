"""One of several processes, which exchange figures: python parallel_links.py WHAT BACKEND.

WHAT is talk, where all exchange figures three times, leave, where rank 1 ends after the first, or
spin, where all compute for ever instead, without giving Python's lock away.
"""

import itertools
import os
import sys

import numpy as np

from snnx.backend import load_backend
from snnx.world import RankLost


def main(what: str, backend: str) -> None:
    try:
        world = load_backend(backend).world("cpu")
        for turn in range(3):
            if turn and what == "leave" and world.rank == 1:
                os._exit(0)
            if turn and what == "spin":
                with world.waiting("a sum without an end"):
                    sum(itertools.repeat(0))
            seen = world.gather(np.array([turn, world.rank]))
            print(f"rank {world.rank} turn {turn} saw {seen.tolist()}", flush=True)
    except RankLost as error:
        print(f"lost: {error}", flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
