"""Processes that exchange figures with the right ones, or end and say why."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from launched import ports, run, surroundings

from snnx.patience import Patience

LINKS = str(Path(__file__).with_name("parallel_links.py"))
BACKENDS = ("torch", "mlx")


def rank_of_ring(rank: int, hosts: list[str], folder: Path, name: str, seconds: str = "30") -> Any:
    """Start one process of a ring whose processes it takes to be at `hosts`."""
    file = folder / f"{name}{rank}.json"
    file.write_text(json.dumps([[host] for host in hosts]))
    return subprocess.Popen(
        [sys.executable, LINKS, "talk", "mlx"],
        env=surroundings(MLX_RANK=str(rank), MLX_HOSTFILE=str(file), SNNX_TIMEOUT=seconds),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(processes: list[Any]) -> list[tuple[int, str]]:
    """Return exit codes and prints of processes, none of which outlives this."""
    try:
        return [(p.wait(100), p.communicate()[0]) for p in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("crossed", [False, True])
def test_rings_that_share_ports_refuse_each_other(crossed: bool, tmp_path: Path) -> None:
    with ports(4) as port:
        first, second = ([f"127.0.0.1:{port + k}" for k in pair] for pair in ((0, 1), (2, 3)))
        # both rank 0 look for rank 1 where the other ring's listens, as if the ports were the same
        near = [[a[0], b[1]] if crossed else a for a, b in ((first, second), (second, first))]
        processes = [
            rank_of_ring(rank, hosts[rank], tmp_path, name)
            for name, hosts in (("a", (near[0], first)), ("b", (near[1], second)))
            for rank in (0, 1)
        ]
        for code, text in outcome(processes):
            assert code == int(crossed), text
            assert ("is linked to processes of another launch" in text) == crossed
            assert text.count("saw [[") == (0 if crossed else 3)


@pytest.mark.slow
def test_a_process_that_finds_no_other_is_ended(tmp_path: Path) -> None:
    with ports(2) as port:
        hosts = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
        waiting = rank_of_ring(0, hosts, tmp_path, "a", "4")
        try:
            _, errors = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    assert waiting.returncode == 1
    assert "waited 4 s" in errors or re.search(r"Timeout \(0:00:0[78]", errors)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_taken_for_the_figures_of_a_process_that_has_gone(backend: str) -> None:
    done = run(backend, 4, LINKS, "leave", backend, SNNX_TIMEOUT="10")
    seen = re.findall(r"rank (\d) turn (\d) saw (.*)", done.stdout)
    for _, turn, rows in seen:
        assert json.loads(rows) == [[int(turn), rank] for rank in range(4)]
    assert {turn for _, turn, _ in seen} == {"0"}
    assert re.search("another process of the run has died|waited 10 s", done.stdout + done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_never_gives_pythons_lock_away_is_ended(backend: str) -> None:
    began = time.monotonic()
    done = run(backend, 2, LINKS, "spin", backend, SNNX_TIMEOUT="6")
    assert re.search(r"Timeout \(0:00:1[12]", done.stderr)
    assert 'parallel_links.py", line' in done.stderr
    assert time.monotonic() - began < 120
    if backend == "torch":  # mlx.launch says nothing by its exit code
        assert done.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("lock", [True, False])
def test_patience_ends_a_process_that_spins(lock: bool) -> None:
    spin = "sum(itertools.repeat(0))" if lock else "while True: pass"
    program = (
        "import itertools\nfrom snnx.patience import Patience\n"
        f"with Patience(1, 'rank 0 of 2').waiting('step 7'):\n    {spin}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    text = r"Timeout \(0:00:0[12]" if lock else "waited 1 s for the other processes in step 7"
    assert re.search(text, done.stderr)


def test_a_wait_inside_a_wait_leaves_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told, ended = [], threading.Event()
    monkeypatch.setattr("snnx.patience.os._exit", lambda code: ended.set())
    patience = Patience(0.4, "rank 0 of 2", told.append)
    with patience.waiting("the step"):
        with patience.waiting("an exchange"):
            pass
        assert ended.wait(10)
    assert "in the step" in told[0]


def test_a_lease_of_ports_is_nobody_elses() -> None:
    with ports(4) as first, ports(4) as second:
        assert abs(first - second) >= 4
    with ports(4) as again:
        assert again == first
