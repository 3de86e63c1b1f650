"""`snnx train` in which the last process does what it should not: MODE, then the command's words.

MODE is die or hang, in the fourth batch, or ok.
"""

import os
import signal
import sys
import time
from typing import Any

from snnx.cli import main
from snnx.data import Batches
from snnx.launch import launched


def spoiled(mode: str, take: Any) -> Any:
    seen = []

    def spoil(self: Any, positions: Any, epoch: int = 0) -> Any:
        seen.append(epoch)
        if len(seen) == 4 and mode == "die":
            os._exit(9)
        if len(seen) == 4 and mode == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # or the launcher would wait for it
            time.sleep(600)
        return take(self, positions, epoch)

    return spoil


if __name__ == "__main__":
    launch = launched()
    assert launch is not None
    if launch.rank == 1:
        Batches.take = spoiled(sys.argv[1], Batches.take)  # type: ignore[method-assign]
    raise SystemExit(main(sys.argv[2:]))
