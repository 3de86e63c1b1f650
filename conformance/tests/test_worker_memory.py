"""A decoding process keeps the memory of one sample for the next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from snnx.data.worker import keep_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        held = [np.ones(1 << 20, np.uint8) for _ in range(12)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    assert keep_memory()
faults(3)
print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_a_worker_asks_the_system_for_its_memory_once() -> None:
    found = {}
    for how in ("kept", "as it comes"):
        command = [sys.executable, "-c", SCRIPT, how]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[how] = int(done.stdout)
    assert found["as it comes"] > 1000, "or there is nothing to keep"
    assert found["kept"] < found["as it comes"] / 10
