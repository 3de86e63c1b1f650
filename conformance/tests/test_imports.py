"""What importing snnx brings with it, seen from a fresh process."""

import subprocess
import sys

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


@pytest.mark.parametrize("module", ["snnx", "snnx.random", "snnx.data", "snnx_conformance.plugin"])
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
