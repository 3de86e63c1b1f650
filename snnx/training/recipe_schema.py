"""The keys of a recipe, made from the dataclasses and functions that they are given to.

A field added to `Adam` or `LIF` is a key of `optim` or `neuron` without a line here.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from snnx import objective, optim, surrogate
from snnx.clif import CLIF
from snnx.data.catalogue import ENTRIES
from snnx.methods import METHODS
from snnx.models import MODELS
from snnx.neurons import LIF
from snnx.scalars import Dial, Learned, initial

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
OBJECTIVES = {"tet": objective.TET, "sdt": objective.SDT, "rate_mse": objective.RateMSE}
RULES = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rounded_sgd": optim.RoundedSGD,
}
SURROGATES = {
    "rectangular": surrogate.Rectangular,
    "triangular": surrogate.Triangular,
    "sigmoid": surrogate.Sigmoid,
    "tanh": surrogate.Tanh,
    "arctan": surrogate.ArcTan,
    "dspike": surrogate.Dspike,
}
NEURONS = {"lif": LIF, "clif": CLIF}
MOST_STEPS = 99_999  # far above what a network is trained with; a slip of the keyboard is not
MOST_WORKERS = 512
GIVEN = ("neuron", "input", "classes")  # what a zoo function gets from elsewhere
GIVEN_TO_READERS = ("root", "base", "name", "source", "licence")
FILES = {".json": "FILE.json", ".npz": "FILE.npz"}  # names that are a user's own files


def _plain(hint: Any) -> Any:
    """Return a field's type as a recipe can say it: a Scalar is a number."""
    if get_origin(hint) in (Union, types.UnionType):
        kept = [a for a in get_args(hint) if a not in (Learned, Dial)]
        return reduce(or_, kept)
    return hint


def _learnable(hint: Any) -> Any:
    """Return a field's type as `_plain`, or a table where it may be a learned number."""
    return _plain(hint) | LearnedTable if Learned in get_args(hint) else _plain(hint)


def _sayable(hint: Any) -> bool:
    """Tell whether TOML has values of this type."""
    if get_origin(hint) in (Union, types.UnionType, tuple):
        return all(map(_sayable, get_args(hint)))
    return hint in (bool, int, float, str, type(None), ...) or get_origin(hint) is Literal


_LEARNED: dict[str, Any] = {
    f.name: (get_type_hints(Learned)[f.name], ... if f.default is MISSING else f.default)
    for f in fields(Learned)
}
# A number that is trained, under the names of the fields of `snnx.Learned`: decay = {init = 0.5}.
LearnedTable = create_model("Learned", __config__=STRICT, **_LEARNED)


def _table(
    kind: str, name: str, cls: type, typed: Callable[[Any], Any] = _plain, **more: Any
) -> type[BaseModel]:
    """Return the schema of a table whose keys are the fields of a dataclass."""
    hints = get_type_hints(cls)
    keys: dict[str, Any] = {"name": (Literal[name], name)}
    for f in fields(cls):
        if f.name == "surrogate":
            continue
        default = f.default if f.default is not MISSING else ...
        keys[f.name] = (
            typed(hints[f.name]),
            initial(default) if isinstance(default, Dial) else default,
        )
    return create_model(f"{kind}.{name}", __config__=STRICT, **keys, **more)


def _rule_table(name: str, cls: type[optim.Rule]) -> type[BaseModel]:
    hints = get_type_hints(cls)
    partial: dict[str, Any] = {f.name: (_plain(hints[f.name]) | None, None) for f in fields(cls)}
    group = create_model(f"optim.groups.{name}", __config__=STRICT, **partial)
    return _table(
        "optim",
        name,
        cls,
        clip_norm=(Annotated[float | None, Field(gt=0)], None),
        clip_value=(Annotated[float | None, Field(gt=0)], None),
        groups=(dict[str, group], Field(default_factory=dict)),
    )


class Strict(BaseModel):
    """A table with no keys but its own."""

    model_config = STRICT


def _function_table(
    kind: str,
    name: str,
    function: Callable[..., Any],
    given: tuple[str, ...],
    base: type[BaseModel] = Strict,
) -> type[BaseModel]:
    """Return the schema of a table whose keys are the arguments of a function, and the base's."""
    hints = get_type_hints(getattr(function, "func", function))
    keys: dict[str, Any] = {"name": (Literal[name], name)}
    for key, parameter in inspect.signature(function).parameters.items():
        if key not in given and _sayable(_plain(hints[key])):
            keys[key] = (_learnable(hints[key]), parameter.default)
    return create_model(f"{kind}.{name}", __base__=base, **keys)


class DataFile(Strict):
    """Which arrays, and what a run does to them: the keys that every data set has.

    `augment` names one of `snnx.data.augment.AUGMENTATIONS`. `validation` is a share of the
    training split that is held out in place of the test split. `lazy` decodes a batch at a time
    what is otherwise decoded once. With `workers` that many processes decode, at most `prefetch`
    batches ahead; the batches are the same.
    """

    name: str
    augment: str | None = None
    validation: Annotated[float | None, Field(gt=0, lt=1)] = None
    lazy: bool = False
    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)] = 0
    prefetch: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 3


class ModelFile(Strict):
    """A model that `snnx.dumps` wrote."""

    name: str


class ConstantTable(Strict):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class CosineTable(Strict):
    """Half a cosine over all epochs."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class StepTable(Strict):
    """Times `factor` at every milestone."""

    name: Literal["step"] = "step"
    milestones: tuple[int, ...]
    factor: Annotated[float, Field(gt=0)] = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0


TABLES: dict[str, dict[str, type[BaseModel]]] = {
    "data": {
        name: _function_table("data", name, entry.read, GIVEN_TO_READERS, DataFile)
        for name, entry in ENTRIES.items()
    }
    | {"FILE.npz": DataFile},
    "model": {name: _function_table("model", name, f, GIVEN) for name, f in MODELS.items()}
    | {"FILE.json": ModelFile},
    "neuron": {name: _table("neuron", name, cls, _learnable) for name, cls in NEURONS.items()},
    "surrogate": {
        name: _table("surrogate", name, cls, _learnable) for name, cls in SURROGATES.items()
    },
    "objective": {name: _table("objective", name, cls) for name, cls in OBJECTIVES.items()},
    "method": {name: _table("method", name, cls) for name, cls in METHODS.items()},
    "optim": {name: _rule_table(name, cls) for name, cls in RULES.items()},
    "schedule": {"constant": ConstantTable, "cosine": CosineTable, "step": StepTable},
}


def tag(table: Any) -> str:
    """Return which schema of its kind a table names."""
    name = table.get("name") if isinstance(table, dict) else getattr(table, "name", None)
    return next((kind for end, kind in FILES.items() if str(name).endswith(end)), str(name))


def _choice(kind: str) -> Any:
    tagged = [Annotated[cls, Tag(name)] for name, cls in TABLES[kind].items()]
    return Annotated[reduce(or_, tagged), Discriminator(tag)]  # type: ignore[arg-type]


def _positive(default: Any, most: int = 2**32 - 1) -> Any:
    return (Annotated[int, Field(ge=1, le=most)], default)


_OTHER: dict[str, Any] = {k: (_choice(k) | None, None) for k in ("optim", "schedule", "objective")}
# A part of the run with its own T; what it names of `optim` (or its `lr` alone), `schedule` and
# `objective` stands for the run's.
StageTable = create_model(
    "stages",
    __config__=STRICT,
    T=_positive(..., MOST_STEPS),
    epochs=_positive(...),
    lr=(Annotated[float | None, Field(gt=0)], None),
    **_OTHER,
    batch_size=(Annotated[int | None, Field(ge=1)], None),
    ann=(bool, False),
)
_KEYS: dict[str, Any] = {
    # names a folder under runs/
    "name": (Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")], "custom"),
    "paper": (str, ""),
    "expected_accuracy": (Annotated[float | None, Field(ge=0, le=1)], None),
    # the standard deviation over seeds that is printed with it
    "expected_deviation": (Annotated[float | None, Field(ge=0, le=1)], None),
    "undetermined": (tuple[str, ...], ()),
    "note": (str, ""),
    "T": _positive(4, MOST_STEPS),
    "epochs": _positive(15),
    "stages": (tuple[StageTable, ...], ()),
    "batch_size": _positive(64),
    "chunk": (Annotated[int | None, Field(ge=1, le=MOST_STEPS)], None),
    "micro_batches": _positive(1),
    "sync_norm": (bool, True),
    "recompute": (Annotated[int | None, Field(ge=2, le=MOST_STEPS)], None),
    "seed": (Annotated[int, Field(ge=0, lt=2**32)], 0),
    "max_steps": (Annotated[int | None, Field(ge=1)], None),
    "checkpoint_steps": (Annotated[int | None, Field(ge=1)], None),
    "keep_checkpoints": (Annotated[int, Field(ge=2)], 2),
    "archive_epochs": (Annotated[int | None, Field(ge=1)], None),
    "backend": (str, "auto"),
    "device": (str, "auto"),
    "precision": (Literal["fp32", "tf32", "bf16", "fp16", "fp64"], "fp32"),
    "compile": (bool | Literal["auto"], "auto"),
    "graph": (bool | Literal["auto"], "auto"),
    "lean": (bool | Literal["auto"], "auto"),
    "kernels": (Literal["auto", "generic", "fused"], "auto"),
    "deterministic": (bool, False),
    **{kind: (_choice(kind), ...) for kind in TABLES},
}
Recipe = create_model("Recipe", __config__=STRICT, **_KEYS)
DEFAULTS = {
    "data": {"name": "digits"},
    "model": {"name": "digits"},
    "neuron": {"name": "lif"},
    "surrogate": {"name": "triangular"},
    "objective": {"name": "tet"},
    "method": {"name": "plain"},
    "optim": {"name": "adam"},
    "schedule": {"name": "cosine"},
}
