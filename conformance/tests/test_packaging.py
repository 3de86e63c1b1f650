"""What the distribution declares, against what is there."""

import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import snnx

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What the metadata of torch's wheels on PyPI for Linux wants, cuda-toolkit's of theirs included:
#   pip install --dry-run --ignore-installed --report - torch==VERSION
WANTED = {
    "2.13.0": {
        "triton": "3.7.1",
        "nvidia-cuda-nvrtc": "13.0.88",
        "nvidia-cuda-runtime": "13.0.96",
    }
}
LINUX = {"sys_platform": "linux", "platform_system": "Linux"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}
MACHINES = {
    "linux-x86_64": LINUX | {"platform_machine": "x86_64"},
    "linux-aarch64": LINUX | {"platform_machine": "aarch64"},
    "macos-arm64": MACOS,
}
# Pinned packages that have wheels for some of these machines only.
NVIDIA = {"nvidia-cuda-cccl", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"}
ELSEWHERE = {
    "linux-x86_64": set[str](),
    "linux-aarch64": NVIDIA | {"atheris"},
    "macos-arm64": NVIDIA | {"atheris", "libclang", "triton"},
}
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_version_is_kept_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "snnx/__init__.py"
    assert f"version: {snnx.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_wheel_holds_the_packages_of_the_source_roots() -> None:
    found = [ROOT / "snnx", *ROOT.glob("backends/snnx_*"), *ROOT.glob("conformance/snnx_*")]
    assert sorted(PACKAGES) == sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_importable_and_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert (ROOT / package / "__init__.py").is_file()


def test_each_backend_is_an_entry_point() -> None:
    names = [path.removeprefix("backends/snnx_") for path in PACKAGES if "backends/" in path]
    assert PROJECT["project"]["entry-points"]["snnx.backends"] == {
        name: f"snnx_{name}:backend" for name in names
    }


def test_the_pytest_plugin_is_named_like_its_module() -> None:
    plugins = PROJECT["project"]["entry-points"]["pytest11"]
    assert all(name == module for name, module in plugins.items())


@pytest.mark.parametrize("extra", ["torch", "mlx"])
def test_an_extra_of_one_framework_does_not_bring_the_other(extra: str) -> None:
    wanted = PROJECT["project"]["optional-dependencies"][extra]
    assert {Requirement(text).name for text in wanted} == {extra}
    assert not {"torch", "mlx"} & {Requirement(t).name for t in PROJECT["project"]["dependencies"]}


def test_every_pin_satisfies_what_the_project_asks_for() -> None:
    pinned = pins()
    compared = [r for r in requirements() if canonicalize_name(r.name) in pinned]
    assert len({r.name for r in compared}) >= 15
    for requirement in compared:
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_the_pins_are_those_that_the_pinned_torch_wants_on_linux() -> None:
    pinned = pins()
    assert pinned["torch"] in WANTED, "note what its metadata wants (the command stands above)"
    wanted = WANTED[pinned["torch"]]
    assert {name: pinned[name] for name in wanted} == wanted


def test_the_installed_torch_allows_the_pins() -> None:
    try:
        found = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        pytest.skip("torch is not installed")
    pinned = pins()
    if Version(found.version).public != pinned["torch"]:
        pytest.skip("another torch than the pinned one is installed")
    compared = [Requirement(text) for text in found.requires or ()]
    assert compared
    for requirement in compared:  # a build for the CPU wants neither triton nor CUDA
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_what_a_machine_has_no_wheel_of_is_not_asked_for_there(machine: str) -> None:
    asked = {
        canonicalize_name(requirement.name)
        for requirement in requirements()
        if requirement.marker is None or requirement.marker.evaluate(MACHINES[machine])
    }
    assert asked >= {"numpy", "torch", "mlx", "pytest"}
    known = set().union(*ELSEWHERE.values())
    assert asked & known == known - ELSEWHERE[machine]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("torch", "kept"), [("", True), ("torch==2.11.0", False)])
def test_a_torch_named_by_hand_brings_its_own_triton(torch: str, kept: bool) -> None:
    command = ["make", "--dry-run", "--always-make", ".venv/constraints.txt", f"TORCH={torch}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pattern = re.findall(r"grep -vE '(.*)' constraints.txt", said)[0]
    names = [f"{name}=={version}" for name, version in pins().items()]
    left = {line.split("==")[0] for line in names if not re.search(pattern, line)}
    brought = {"torch", *WANTED[pins()["torch"]]}
    assert set(pins()) - left == (set() if kept else brought)


def test_every_hard_dependency_is_pinned() -> None:
    names = {canonicalize_name(Requirement(t).name) for t in PROJECT["project"]["dependencies"]}
    assert names <= pins().keys()


def test_the_embedded_data_and_the_papers_are_attributed() -> None:
    notice = (ROOT / "NOTICE").read_text()
    assert "Alpaydin" in notice
    assert "Creative Commons Attribution 4.0" in notice
    citation = (ROOT / "CITATION.cff").read_text()
    for title in ("Temporal Efficient", "Differentiable Spike", "Spike Representation", "Adaptive"):
        assert title in citation
    assert "Apache License" in (ROOT / "LICENSE").read_text()
