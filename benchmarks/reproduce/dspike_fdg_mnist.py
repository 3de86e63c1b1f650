"""Dspike Table 1 on all of MNIST: one epoch of the 60,000 images, against eps.

python benchmarks/reproduce/dspike_fdg_mnist.py              # all runs that are missing
python benchmarks/reproduce/dspike_fdg_mnist.py --backend mlx
"""

from __future__ import annotations

import dspike_fdg_training
from common import command
from dspike_fdg_training import draw, page, summary, take

__all__ = ["CLAIM", "SETTINGS", "draw", "page", "summary", "take"]

CLAIM = "dspike_fdg_mnist"
SETTINGS = dspike_fdg_training.SETTINGS | {"steps": 1875}


if __name__ == "__main__":
    command(CLAIM, SETTINGS, take, page, draw, {"seeds": int})
