"""The pytest plugin: what it refuses, and when a run that looks green is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ID = "test_op_agrees_with_the_reference[numpy-linear-bits-dyadic-float32]"


def suite(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the suite as the author of a backend would, from another folder."""
    roots = [ROOT, ROOT / "backends", ROOT / "conformance"]
    path = os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")])
    plugin = ["-p", "no:cacheprovider", "-p", "snnx_conformance.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "--pyargs", "snnx_conformance"]
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def xfails(tmp_path: Path) -> Path:
    return tmp_path / "xfails.txt"


def test_named_backend_runs_and_is_named_in_the_banner(tmp_path: Path) -> None:
    done = suite("--snnx-backend", "numpy", "-k", "linear", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    verbose = suite("--snnx-backend", "numpy", "-k", "linear", "-v", "-v", folder=tmp_path)
    assert "snnx backend: numpy (numpy " in verbose.stdout


def test_backend_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    done = suite("--snnx-backend", "nope", folder=tmp_path)
    assert done.returncode not in (0, 5)
    assert "no backend 'nope'" in done.stdout + done.stderr


def test_run_that_tested_no_backend_fails(tmp_path: Path) -> None:
    done = suite("--snnx-backend", "numpy", "-k", "no_such_case", folder=tmp_path)
    assert done.returncode == 1
    assert "tested no backend" in done.stdout


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (f"# it passes all the same\n{ID}\n", 1, "XPASS(strict)"),
        ("# no such test\ntest_x[numpy-y]\n", 4, "no test has the id test_x[numpy-y]"),
        (f"{ID}\n", 4, "has no '# reason' above it"),
    ],
    ids=["passes", "matches-nothing", "no-reason"],
)
def test_expected_failures_are_strict_in_both_directions(
    text: str, code: int, said: str, tmp_path: Path, xfails: Path
) -> None:
    xfails.write_text(text)
    arguments = ("--snnx-backend", "numpy", "--snnx-xfails", str(xfails), "-k", "linear")
    done = suite(*arguments, folder=tmp_path)
    assert done.returncode == code, done.stdout
    assert said in done.stdout + done.stderr
