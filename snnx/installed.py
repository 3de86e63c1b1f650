"""How a backend is found.

A backend is found by name: entry points of the group `snnx.backends` first, then the built-in
names. Naming a backend that cannot be imported is an error; nothing falls back in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from snnx.launch import launched

if TYPE_CHECKING:
    from snnx.backend import Backend

BUILT_IN = {"numpy": "snnx_numpy", "torch": "snnx_torch", "mlx": "snnx_mlx"}
FRAMEWORKS = {"numpy": "numpy", "torch": "torch", "mlx": "mlx"}


class BackendError(RuntimeError):
    """A backend or device that cannot be used here; the message says what to do."""


def backend_names() -> tuple[str, ...]:
    """Return the names of all registered backends, installed frameworks or not."""
    found = [point.name for point in entry_points(group="snnx.backends")]
    return tuple(dict.fromkeys([*BUILT_IN, *found]))


def installed(name: str) -> bool:
    """Tell whether the framework of a backend can be imported (third-party ones: assumed)."""
    framework = FRAMEWORKS.get(name)
    if framework is None:
        return name in backend_names()
    if importlib.util.find_spec(framework) is None:
        return False
    # the mlx folder is a namespace that other wheels share, so its core is asked for
    return framework != "mlx" or importlib.util.find_spec("mlx.core") is not None


def load_backend(name: str) -> Backend:
    """Return the backend of that name; BackendError says how to install what is missing."""
    if name == "auto":
        name = default_backend()
    points = {p.name: p for p in entry_points(group="snnx.backends")}
    if name not in points and name not in BUILT_IN:
        raise BackendError(f"no backend {name!r}; there are {', '.join(backend_names())}")
    if name in FRAMEWORKS and not installed(name):
        raise BackendError(
            f"backend {name!r} needs {FRAMEWORKS[name]}, which is not installed; "
            f'run: pip install "snnx[{name}]"'
        )
    if name in points:
        return points[name].load()
    return importlib.import_module(BUILT_IN[name]).backend


def default_backend() -> str:
    """Return the launcher's backend; else "mlx" where Metal is at hand, else "torch", else "mlx".

    Never numpy by itself.
    """
    import platform

    launch = launched()
    if launch is not None:
        return launch.backend
    order = ("mlx", "torch") if platform.system() == "Darwin" else ("torch", "mlx")
    for name in order:
        if installed(name):
            return name
    raise BackendError(
        'neither torch nor mlx is installed; run: pip install "snnx[torch]" '
        'or, on Apple silicon, pip install "snnx[mlx]"'
    )
