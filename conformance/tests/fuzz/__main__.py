"""All readers, one after the other: `python -m tests.fuzz --examples 100000 --out fuzz.json`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from snnx.training.rundir import environment
from tests.fuzz.readers import READERS


def main() -> int:
    """Run as a command; 1 if a reader failed, after all had their turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows, failed = [], []
    for name in asked.readers.split(","):
        words = [name, "--examples", str(asked.examples), "--seed", str(asked.seed)]
        command = [sys.executable, "-m", "tests.fuzz.run", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, end="", flush=True)
        if done.returncode:
            failed.append(name)
        else:
            rows.append(json.loads(done.stdout))
    if asked.out is not None:
        machine = environment({})
        machine["command"] = f"python -m tests.fuzz --examples {asked.examples}"
        found = {"readers": rows, "failed": failed, "seed": asked.seed, "environment": machine}
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"failed: {', '.join(failed)}" if failed else "every reader bore it")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
