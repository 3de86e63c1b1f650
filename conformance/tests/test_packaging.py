"""What the distribution declares, against what is there."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import snnx

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
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
