"""Every example runs and reaches what it says; each as a user would start it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from snnx.backend import installed

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = EXAMPLES.parent


def run(name: str, *arguments: str) -> str:
    """Run an example in a process of its own and return what it prints."""
    paths = [ROOT, ROOT / "backends", EXAMPLES]
    code = f"import sys; sys.path[:0] = {[str(p) for p in paths]!r}; import {name}; {name}.main()"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracies(text: str) -> list[float]:
    """Return the accuracies that were printed."""
    return [float(found) for found in re.findall(r"(?:accuracy|:) ([01]\.\d{4})", text)]


needs = {
    name: pytest.mark.skipif(not installed(name), reason=f"{name} is not installed")
    for name in ("torch", "mlx")
}


def test_every_example_is_tested():
    text = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in text for path in EXAMPLES.glob("*.py"))


@needs["torch"]
@pytest.mark.parametrize(
    ("name", "arguments", "least"),
    [
        ("first_net", ["--epochs", "4"], 0.9),
        ("own_neuron", ["--epochs", "5"], 0.85),
        ("own_layer", ["--epochs", "8"], 0.85),
        ("own_data", [], 0.7),
        ("train_torch", ["--epochs", "3"], 0.9),
    ],
)
def test_an_example_reaches_its_accuracy(name, arguments, least):
    backend = [] if name == "train_torch" else ["--backend", "torch"]
    found = accuracies(run(name, *backend, *arguments))
    assert found
    assert min(found) >= least


@needs["mlx"]
@pytest.mark.parametrize(
    ("name", "arguments", "least"),
    [  # dense nets: MLX convolves slowly on a CPU
        ("own_neuron", ["--epochs", "3"], 0.75),
        ("own_layer", ["--epochs", "5"], 0.85),
        ("own_data", ["--epochs", "6"], 0.7),
    ],
)
def test_an_example_reaches_its_accuracy_on_mlx(name, arguments, least):
    found = accuracies(run(name, "--backend", "mlx", *arguments))
    assert found
    assert min(found) >= least


@needs["mlx"]
def test_the_native_mlx_loop_learns():
    text = run("train_mlx", "--epochs", "1", "--steps", "2", "--features", "4")
    assert accuracies(text)[-1] > 0.2


@needs["torch"]
@needs["mlx"]
def test_a_run_moves_between_backends():
    arguments = ["--backends", "mlx", "torch", "mlx", "--epochs", "1", "--features", "4"]
    found = accuracies(run("move_run", *arguments))
    assert len(found) == 3
    assert found[-1] > found[0]


@pytest.mark.parametrize(
    "backend", ["numpy", *(pytest.param(n, marks=m) for n, m in needs.items())]
)
def test_a_stream_equals_the_whole_sequence(backend):
    difference = float(run("streaming", "--backend", backend).split()[-1])
    assert difference < 1e-5
