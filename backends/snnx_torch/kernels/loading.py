"""From a kernel's text to a Triton function, once per text.

Triton reads the source of a function, so the text is put where Python looks lines up; no file is
written. Where Triton interprets (TRITON_INTERPRET=1, no GPU needed), NumPy stands for the device
library's transcendental functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch

from snnx.emit import Source
from snnx.emit.triton_text import COUNT, FUNCTIONS


@cache
def available() -> bool:
    """Tell whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


@cache
def interpreting() -> bool:
    """Tell whether Triton interprets kernels on the CPU instead of compiling them."""
    return available() and bool(importlib.import_module("triton").knobs.runtime.interpret)


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one: Triton launches there, wherever its arguments lie."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _interpreted(function: Any) -> Any:
    language = importlib.import_module("triton.language")
    handle = importlib.import_module("triton.runtime.interpreter").TensorHandle

    def call(x: Any) -> Any:
        found = function(x.handle.data).astype(np.float32)
        return language.core.tensor(handle(found, x.handle.dtype), x.type)

    return call


@cache
def _globals() -> dict[str, Any]:
    triton = importlib.import_module("triton")
    found: dict[str, Any] = {"triton": triton, "tl": triton.language, "__name__": __name__}
    if interpreting():
        numpy_names = {"atan": "arctan"}
        for name, function in FUNCTIONS.items():
            found[name] = _interpreted(getattr(np, numpy_names.get(function, function)))
        found["snn_count"] = lambda n: int(np.asarray(n.handle.data).reshape(()))
    else:
        library = importlib.import_module("triton.language.extra.libdevice")
        found |= {name: getattr(library, function) for name, function in FUNCTIONS.items()}
        found["snn_count"] = _defined(COUNT, "<snn_count>", found)["snn_count"]
    return found


@cache
def function(source: Source) -> Any:
    """Return the Triton function of a source."""
    return _defined(source.text, f"<{source.name}>", _globals())[source.name]


def _defined(text: str, place: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the names that a text defines, its lines put where Python looks them up."""
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    names = dict(known)
    exec(compile(text, place, "exec"), names)
    return names
