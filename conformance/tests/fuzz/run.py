"""Many damaged inputs for one reader, in a process of its own: `python -m tests.fuzz.run READER`.

A reader may return, or raise the error that its documentation names. It may not raise another one,
take more than `SECONDS` of processor time or its `room` of address space, write outside its
folder, or return something else than what the altered file held, where a hash stands beside it.
A finding ends with its traceback and the program that makes it again: `--program HEX`.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS, SECONDS, Reader

LONGEST = 40  # bytes of a program


class Hung(BaseException):
    """One input took too long."""


class Finding(AssertionError):
    """An input that a reader does not bear."""


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung


def bounded(room: int) -> None:
    """Give this process what it has and `room` more of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def one(reader: Reader, program: bytes, folder: Path) -> str:
    """Feed one input. Returns how it ended. Raises: Finding, or what the reader should not."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return reader.feed(program, folder)
    except Hung:
        raise Finding(
            f"{reader.name}: no end after {SECONDS} s: --program {program.hex()}"
        ) from None
    except MemoryError as error:
        raise Finding(
            f"{reader.name}: more than {reader.room >> 20} MiB: --program {program.hex()}"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def fuzz(
    reader: Reader, examples: int, number: int, folder: Path, *, shrink: bool = True
) -> Counter[str]:
    """Feed many inputs, and return how often each end was seen. Raises: as `one`."""
    ends: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # type: ignore[arg-type]
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
    )
    @given(st.binary(min_size=6, max_size=LONGEST))
    def feed(program: bytes) -> None:
        ends[one(reader, program, folder)] += 1

    feed()
    return ends


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reader", choices=sorted(READERS))
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", type=bytes.fromhex)
    asked = parser.parse_args()
    reader = READERS[asked.reader]
    signal.signal(signal.SIGPROF, _hung)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if one(reader, b"", folder) != "read":
            print(f"{reader.name}: the undamaged file is not read", file=sys.stderr)
            return 1
        bounded(reader.room)
        gc.collect()
        if asked.program is not None:
            print(one(reader, asked.program, folder))
            return 0
        began = time.monotonic()
        ends = fuzz(reader, asked.examples, asked.seed, folder)
    found = {"reader": reader.name, "inputs": sum(ends.values()), "ends": dict(ends)}
    print(json.dumps({**found, "seconds": round(time.monotonic() - began, 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
