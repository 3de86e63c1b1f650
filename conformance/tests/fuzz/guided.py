"""A reader fuzzed by what its code does: `python -m tests.fuzz.guided READER -runs=100000`.

Needs atheris (`pip install "snnx[fuzz]"`). What follows the reader's name goes to libFuzzer. The
inputs are the same programs of damage as those of `tests.fuzz.run`.
"""

from __future__ import annotations

import importlib
import signal
import sys
import tempfile
from pathlib import Path

atheris = importlib.import_module("atheris")  # has no types, and is seldom there

with atheris.instrument_imports(include=["snnx"], enable_loader_override=False):
    from tests.fuzz.readers import READERS

from tests.fuzz.run import LONGEST, _hung, one  # noqa: E402  (after what is instrumented)


def main() -> None:
    """Run as a command."""
    reader = READERS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one(reader, b"", folder)
        signal.signal(signal.SIGPROF, _hung)

        def feed(program: bytes) -> None:
            one(reader, program, folder)

        limits = [f"-max_len={LONGEST}", f"-rss_limit_mb={1024 + (reader.room >> 20)}"]
        atheris.Setup([sys.argv[0], *limits, *sys.argv[2:]], feed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
