"""Models as JSON: a tree of dataclasses to text and back, by the names of registered classes.

    {"format": 1, "model": {"class": "Chain", "layers": [{"class": "Input", "shape": [8]}, ...]}}

A node names its class under "class", which no field can be called, and gives every field; a field
left out has its default. Only classes that were registered are made: nothing is imported or
executed for a file. A class of your own is registered by `register` in the program that writes and
in the one that reads.
"""

from __future__ import annotations

import json
import math
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from snnx import (
    activation,
    clif,
    layers,
    neurons,
    objective,
    optim,
    pooling,
    scalars,
    spatial,
    spiking,
    surrogate,
)

FORMAT = 1
MAX_CHARACTERS = 16_000_000  # a tree of a million layers; more is no model
MAX_DEPTH = 64

T = TypeVar("T", bound=type)
_CLASSES: dict[str, type] = {}


class SerialError(ValueError):
    """A model file, or a model, that cannot be turned into the other; the message says where."""


def register(cls: T) -> T:
    """Make a frozen dataclass of your own known to `dumps` and `loads`; usable as a decorator.

    Raises: TypeError for anything but a dataclass, ValueError where another class has its name.
    """
    if not isinstance(cls, type) or "__dataclass_fields__" not in vars(cls):
        raise TypeError(f"register: expects a dataclass, gets {cls!r}")
    known = _CLASSES.setdefault(cls.__name__, cls)
    if known is not cls:
        raise ValueError(
            f"register: the name {cls.__name__!r} belongs to {known.__module__}.{known.__name__}; "
            "give your class another name"
        )
    return cls


for _cls in (
    layers.Input,
    layers.Chain,
    layers.Identity,
    layers.Residual,
    layers.Conv2d,
    layers.Linear,
    layers.BatchNorm,
    pooling.AvgPool2d,
    pooling.MaxPool2d,
    pooling.GlobalAvgPool2d,
    layers.Flatten,
    layers.Dropout,
    layers.Poisson,
    spatial.Pad2d,
    spatial.AdaptiveAvgPool2d,
    neurons.LIF,
    activation.ReLU,
    clif.CLIF,
    spiking.Recurrent,
    spiking.DSR,
    scalars.Learned,
    scalars.Dial,
    surrogate.Rectangular,
    surrogate.Triangular,
    surrogate.Sigmoid,
    surrogate.Tanh,
    surrogate.ArcTan,
    surrogate.Dspike,
    objective.SDT,
    objective.TET,
    objective.RateMSE,
    objective.MSE,
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.RoundedSGD,
    optim.Optim,
):
    register(_cls)


def encode(value: Any, where: str = "model") -> Any:
    """Return a tree as what JSON can say: nodes as objects, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        if _CLASSES.get(kind) is not type(value):
            raise SerialError(
                f"{where}: the class {kind} is not registered; call snnx.register({kind})"
            )
        found = {f.name: encode(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
        return {"class": kind, **found}
    if isinstance(value, tuple | list):
        return [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): encode(item, f"{where}.{k}") for k, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SerialError(f"{where}: {type(value).__name__} cannot be written as JSON: {value!r}")


def decode(value: Any, where: str = "model", depth: int = 0) -> Any:
    """Return the tree of decoded JSON; every field is checked against its annotation."""
    if depth > MAX_DEPTH:
        raise SerialError(f"{where}: the tree is deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return tuple(decode(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if "class" not in value:
        return {k: decode(item, f"{where}.{k}", depth + 1) for k, item in value.items()}
    kind = value["class"]
    cls = _CLASSES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise SerialError(
            f"{where}: unknown class {kind!r}; a class of your own must be registered with "
            "snnx.register before the file is read"
        )
    hints = _hints(cls)
    given = {
        k: decode(item, f"{where}.{k}", depth + 1) for k, item in value.items() if k != "class"
    }
    for name, item in given.items():
        if name not in hints:
            raise SerialError(
                f"{where} {kind}: unknown field {name!r}; there are {', '.join(hints) or 'none'}"
            )
        if not _fits(item, hints[name]):
            stated = next(f.type for f in fields(cls) if f.name == name)
            raise SerialError(f"{where} {kind}: {name} is {value[name]!r}, expects {stated}")
    return _make(cls, given, f"{where} {kind}")


def dumps(model: Any, *, indent: int | None = 2) -> str:
    """Return a model as JSON text. Raises: SerialError for a class that is not registered."""
    try:
        return json.dumps(
            {"format": FORMAT, "model": encode(model)}, indent=indent, allow_nan=False
        )
    except ValueError as error:
        if isinstance(error, SerialError):
            raise
        raise SerialError(f"model: holds a number that is not finite ({error})") from error


def loads(text: str | bytes) -> Any:
    """Return the model of JSON text; `loads(dumps(model)) == model`.

    Raises: SerialError naming the place for anything that `dumps` would not have written.
    """
    content = parse(text)
    written = content.get("format")
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise SerialError(
            f'model: "format" is {written!r}; a model file is what snnx.dumps writes, '
            f'{{"format": {FORMAT}, "model": ...}}'
        )
    if written > FORMAT:
        raise SerialError(
            f"model: format {written} is newer than {FORMAT}, the newest this snnx reads; "
            "update snnx"
        )
    unknown = sorted(set(content) - {"format", "model"})
    if unknown or "model" not in content:
        raise SerialError(f'model: the file has "format" and "model" only, not {sorted(content)}')
    return decode(content["model"])


def load_file(path: str | Path) -> Any:
    """Return the model of a JSON file. Raises: SerialError, also where it cannot be read."""
    path = Path(path)
    try:
        if path.stat().st_size > 4 * MAX_CHARACTERS:
            raise SerialError(f"{path}: is too large to be a model")
        return loads(path.read_bytes())
    except OSError as error:
        raise SerialError(f"{path}: cannot be read: {error.strerror}") from error
    except SerialError as error:
        raise SerialError(f"{path}: {error}") from error


def parse(text: str | bytes) -> dict[str, Any]:
    """Return the object of JSON text that may come from anywhere.

    Raises: SerialError for too much text, too deep nesting, a repeated key, NaN, and no object.
    """
    if len(text) > MAX_CHARACTERS:
        raise SerialError(f"the text has {len(text)} characters, more than {MAX_CHARACTERS}")
    try:
        content = json.loads(
            text, object_pairs_hook=_unrepeated, parse_constant=_not_finite, parse_float=_finite
        )
    except RecursionError as error:
        raise SerialError(f"the tree is deeper than {MAX_DEPTH} levels") from error
    except UnicodeDecodeError as error:
        raise SerialError(f"the file is no text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise SerialError(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except ValueError as error:
        if isinstance(error, SerialError):
            raise
        raise SerialError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SerialError(f"expects a JSON object, gets {type(content).__name__}")
    return content


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = Counter(name for name, _ in pairs)
        twice = next(name for name, count in seen.items() if count > 1)
        raise SerialError(f"the key {twice!r} stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _not_finite(name: str) -> float:
    raise SerialError(f"{name} is no number of JSON")


def _make(cls: type, given: dict[str, Any], where: str) -> Any:
    try:
        if not cls.__dataclass_params__.init:  # type: ignore[attr-defined]
            # Input(8, 8, 1) and Chain(a, b): one field, given as positional arguments
            (name,) = (f.name for f in fields(cls))
            return cls(*given.get(name, ()))
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise SerialError(f"{where}: {error}") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a decoded value is what an annotation says; an int is a float, a bool no int."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if origin in (Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(_fits, value, args))
    if origin is not None:
        if not isinstance(value, origin):
            return False
        return not isinstance(value, Mapping) or all(_fits(v, args[1]) for v in value.values())
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint)
