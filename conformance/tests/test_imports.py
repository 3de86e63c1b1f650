"""What importing snnx brings with it, seen from a fresh process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "mlx",
    "typer",
    "click",
    "rich",
    "pydantic",
    "matplotlib",
    "safetensors",
    "tomli_w",
    "snnx_torch",
    "snnx_mlx",
    "snnx_conformance",
)


def loaded_by(code: str) -> set[str]:
    """The top-level names in sys.modules after running `code` in a new interpreter."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["snnx", "snnx.random", "snnx.data", "snnx.analysis", "snnx_conformance.plugin"]
)
def test_import_loads_no_framework_and_no_command_line(module: str) -> None:
    brought = loaded_by(f"import {module}") & set(HEAVY) - {module.partition(".")[0]}
    assert not brought, f"import {module} brings {', '.join(sorted(brought))}"


def test_the_check_sees_a_heavy_import() -> None:
    assert "safetensors" in loaded_by("import safetensors")


def test_a_backend_brings_its_own_framework_only() -> None:
    for module, others in {
        "snnx_numpy": {"torch", "mlx"},
        "snnx_torch": {"mlx"},
        "snnx_mlx": {"torch"},
    }.items():
        brought = loaded_by(f"import {module}") & others
        assert not brought, f"import {module} brings {', '.join(sorted(brought))}"


ROOT = Path(__file__).parents[2]
SHIPPED = ("snnx", "backends", "conformance/snnx_conformance")
RANDOM = "draws come from snnx.random"
EXECUTES = "loading or saving must never touch a pickle"
# What ruff's banned-api cannot say, since it is switched off whole where a framework is allowed.
BANNED = {
    "numpy.random": RANDOM,
    "mlx.core.random": RANDOM,
    "torch.rand": RANDOM,
    "torch.randn": RANDOM,
    "torch.randint": RANDOM,
    "torch.randperm": RANDOM,
    "torch.bernoulli": RANDOM,
    "torch.normal": RANDOM,
    "torch.load": EXECUTES,
    "torch.save": EXECUTES,
    "pickle": EXECUTES,
}
ALLOWED = {  # each with its reason in the file
    "snnx/ops/_cases.py": "numpy.random",
}
OTHERS = {  # packages that a package must not import
    "snnx_numpy": ("torch", "mlx", "snnx_torch", "snnx_mlx"),
    "snnx_torch": ("mlx", "snnx_numpy", "snnx_mlx"),
    "snnx_mlx": ("torch", "snnx_numpy", "snnx_torch"),
}


def names_used(source: str) -> set[str]:
    """Dotted names that a module imports or reads, with its import aliases resolved."""
    tree = ast.parse(source)
    aliases: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                used.add(name.name)
                aliases[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                used.add(f"{node.module}.{name.name}")
                aliases[name.asname or name.name] = f"{node.module}.{name.name}"
    for node in ast.walk(tree):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in aliases:
            used.add(".".join([aliases[node.id], *reversed(parts)]))
    return used


def violations(source: str, package: str) -> list[str]:
    """The banned names that a module of a package uses, each with the reason."""
    banned = {**BANNED, **dict.fromkeys(OTHERS.get(package, ()), "backends stand alone")}
    return [
        f"{name}: {reason}"
        for name in sorted(names_used(source))
        for start, reason in banned.items()
        if name == start or name.startswith(start + ".")
    ]


def test_shipped_code_uses_no_other_random_stream_no_pickle_and_no_other_backend() -> None:
    files = [path for folder in SHIPPED for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    found, used = [], set()
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        package = next(part for part in name.split("/") if part.startswith("snnx"))
        for line in violations(path.read_text(), package):
            if name in ALLOWED and line.startswith(ALLOWED[name]):
                used.add(name)
            else:
                found.append(f"{name} uses {line}")
    assert not found, "\n".join(found)
    assert used == ALLOWED.keys(), "an exemption that exempts nothing"


@pytest.mark.parametrize(
    ("source", "package", "name"),
    [
        ("import torch\nx = torch.rand(3)", "snnx_torch", "torch.rand:"),
        ("import mlx.core as mx\nx = mx.random.key(0)", "snnx_mlx", "mlx.core.random.key:"),
        ("from numpy import random", "snnx", "numpy.random:"),
        ("import numpy as np\nr = np.random.default_rng(0)", "snnx", "numpy.random.default_rng:"),
        ("from torch import load", "snnx_torch", "torch.load:"),
        ("import snnx_numpy.ops", "snnx_torch", "snnx_numpy.ops:"),
        ("from mlx import nn", "snnx_torch", "mlx.nn:"),
    ],
)
def test_the_scan_sees_planted_violations(source: str, package: str, name: str) -> None:
    assert any(line.startswith(name) for line in violations(source, package))


def test_the_scan_leaves_innocent_names() -> None:
    source = "import torch\nfrom snnx import random\nrandom.bits\ntorch.random_projection\n"
    assert violations(source, "snnx_torch") == []
