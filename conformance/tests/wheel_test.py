"""The wheel, installed and used from an empty folder: `python conformance/tests/wheel_test.py`.

A script and no pytest module: a wheel can be tested only where the checkout is not on the path.
It builds the sdist and from it the wheel, installs that into a new environment that sees the
dependencies of this one, and uses it as a user would.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"snnx", "snnx_numpy", "snnx_torch", "snnx_mlx", "snnx_conformance"}
MUST_HOLD = {
    "snnx/data/digits.npz",
    "snnx/recipes/digits.toml",
    *(f"{package}/{file}" for package in PACKAGES for file in ("__init__.py", "py.typed")),
}
LIGHT = """
import sys, snnx
heavy = {"torch", "mlx", "typer", "pydantic", "matplotlib", "safetensors", "tomli_w"}
brought = heavy & {name.partition(".")[0] for name in sys.modules}
assert not brought, f"import snnx brings {brought}"
print(snnx.__version__, snnx.__file__)
"""
BACKENDS = """
from importlib.metadata import entry_points
import snnx_numpy
print(*sorted(point.value for point in entry_points(group="snnx.backends")))
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="snnx-wheel-") as folder:
        place = Path(folder)
        wheel = build(place / "dist")
        check_content(wheel)
        python = install(wheel, place / "venv")
        empty = place / "empty"
        empty.mkdir()
        use(python, empty)
    print("wheel test passed")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """The standard output of a command that must succeed, without this checkout on its path."""
    print("$", *command, flush=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        sys.exit(f"wheel test: exit status {done.returncode} of {command[0]} {command[1]}")
    return done.stdout


def require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"wheel test: {message}")


def build(target: Path) -> Path:
    """The wheel made from the sdist, with this environment's hatchling."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT)
    (wheel,) = target.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """The wheel has our packages, their data and licences, and no other top-level name."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    require(tops - info == PACKAGES, f"holds {sorted(tops)}, wanted {sorted(PACKAGES)}")
    require(names >= MUST_HOLD, f"lacks {sorted(MUST_HOLD - names)}")
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    require(licences == {"LICENSE", "NOTICE"}, f"has the licence files {sorted(licences)}")
    strange = {name for name in names if name.endswith((".pyc", ".so")) or "/tests/" in name}
    require(not strange, f"holds {sorted(strange)}")


def install(wheel: Path, place: Path) -> Path:
    """A new environment's interpreter, with the wheel; the dependencies are this one's."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    target = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    before = {path.name for path in target.iterdir()}
    # A folder named by a .pth goes behind the new site-packages, and its own .pth files (an
    # editable snnx) are not followed.
    (target / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel)
    added = {path.name for path in target.iterdir()} - before - {"dependencies.pth"}
    ours = {name for name in added if not name.endswith(".dist-info")}
    require(ours == PACKAGES, f"site-packages got {sorted(added)}")
    return python


def use(python: Path, empty: Path) -> None:
    """What a user does first, in a folder that holds nothing."""
    out = run(python, "-c", LIGHT, cwd=empty)
    version, _, origin = out.strip().partition(" ")
    require(origin.startswith(str(python.parents[1])), f"imported {origin}, not the wheel")
    out = run(python, "-c", BACKENDS, cwd=empty)
    require(
        set(out.split()) == {f"snnx_{name}:backend" for name in ("numpy", "torch", "mlx")},
        f"entry points are {out.strip()}",
    )
    for command in ((python.with_name("snnx"),), (python, "-m", "snnx")):
        out = run(*command, "--version", cwd=empty)
        require(version in out, f"{command[-1]} --version printed {out!r}, wanted {version}")
    out = run(
        *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--pyargs", "snnx_conformance", "--snnx-backend", "numpy"),
        cwd=empty,
    )
    require(" passed" in out, "the conformance suite ran no test")


if __name__ == "__main__":
    main()
