"""The shared kernel body as the torch backend compiles it on a CPU: vectorised, the same bits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnx import LIF, ArcTan, Learned, Rectangular, Triangular

torch = pytest.importorskip("torch", reason="torch is not installed")

from snnx_torch.kernels import host  # noqa: E402
from snnx_torch.ops import RULES  # noqa: E402

pytestmark = pytest.mark.skipif(host.compiler() is None, reason="g++ is not on PATH")
NEURONS = {
    "rectangular": LIF(surrogate=Rectangular(1.0)),
    "triangular, reset by subtraction": LIF(surrogate=Triangular(1.0), reset="subtract"),
    "arctangent": LIF(surrogate=ArcTan(2.0)),
}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder that keeps what is compiled; nothing compiled before is used again."""

    class Folder:
        name = str(tmp_path)

    monkeypatch.setattr(host, "_folder", Folder)
    host.function.cache_clear()
    yield tmp_path
    host.function.cache_clear()


def numbers(neuron: LIF, steps: int, features: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return spikes and the gradient of the input."""
    rng = np.random.default_rng(3)
    of = partial(torch.tensor, dtype=getattr(torch, dtype))
    x = of(0.4 + rng.standard_normal((steps, 2, features))).requires_grad_()
    y = RULES["neuron"]({"x": x}, {"neuron": neuron, "hand_over": False, "implementation": "cpp"})
    y["y"].backward(of(rng.standard_normal(x.shape)))
    assert x.grad is not None
    return y["y"].detach().float().numpy(), x.grad.float().numpy()


def report(text: Path) -> str:
    """Return what g++ says that it vectorised in a program."""
    native = host._native(str(host.compiler()))
    command = [str(host.compiler()), *host.FLAGS, *native, "-fopt-info-vec-optimized", "-c"]
    done = subprocess.run(
        [*command, str(text), "-o", str(text.with_suffix(".o"))], capture_output=True, text=True
    )
    if "-fopt-info" in done.stderr and done.returncode:
        pytest.skip("this g++ does not report what it vectorised")
    return done.stderr


@pytest.mark.parametrize("steps", [4, 8])
@pytest.mark.parametrize("name", NEURONS)
def test_the_loop_over_neurons_is_vectorised(name: str, steps: int, compiled: Path) -> None:
    numbers(NEURONS[name], steps, 64, "float32")
    programs = sorted(compiled.glob("*.cpp"))
    assert [path.name.split("_")[1] for path in programs] == ["backward", "forward"]
    for path in programs:
        assert "loop vectorized" in report(path), path.name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NEURONS)
def test_vectors_change_no_bit(
    name: str, dtype: str, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = numbers(NEURONS[name], 5, 1037, dtype)
    host.function.cache_clear()
    monkeypatch.setattr(host, "FLAGS", ("-O0", "-ffp-contract=off", "-std=c++17"))
    monkeypatch.setattr(host, "_native", lambda found: ())
    (compiled / "plain").mkdir()
    monkeypatch.setattr(host._folder, "name", str(compiled / "plain"))
    plain = numbers(NEURONS[name], 5, 1037, dtype)
    assert 0.05 < quick[0].mean() < 0.95
    for have, want in zip(quick, plain, strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_learned_number_keeps_its_bits(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = LIF(surrogate=Triangular(1.0), threshold=Learned(0.8, "channel"))
    rng = np.random.default_rng(5)
    x, g = (torch.tensor(rng.standard_normal((4, 3, 7, 33)), dtype=torch.float32) for _ in "xg")
    attributes = {"neuron": neuron, "hand_over": False, "implementation": "cpp"}

    def gradient() -> Any:
        threshold = torch.linspace(0.5, 1.0, 33).requires_grad_()
        RULES["neuron"]({"x": x, "p.threshold": threshold}, attributes)["y"].backward(g)
        assert threshold.grad is not None
        return threshold.grad

    quick = gradient()
    host.function.cache_clear()
    monkeypatch.setattr(host, "FLAGS", ("-O0", "-ffp-contract=off", "-std=c++17"))
    (compiled / "plain").mkdir()
    monkeypatch.setattr(host._folder, "name", str(compiled / "plain"))
    assert torch.equal(quick, gradient())
    assert quick.abs().sum() > 0
