"""What an op is: its signature, its reference forward and vjp, its samples and its tolerances.

One op is one value of `Op` in one file of this package. The documentation, the float64 reference
(`snnx_numpy`), and the cases of the conformance suite are all read from it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np

Array = Any  # an array of any namespace that follows the array API standard
Arrays = Mapping[str, Array]
Attributes = Mapping[str, Any]

Forward = Callable[[Any, Arrays, Attributes], dict[str, Array]]
Vjp = Callable[[Any, Arrays, Attributes, Arrays, Arrays], dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest allowed error, as max |error| / max |reference| of each compared array."""

    forward: float
    gradient: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One case of an op: inputs in float64 (or integers), attributes, and what is expected of it.

    kind "exact": dyadic inputs; every backend must agree bit for bit in every dtype it declares
    among `dtypes`. kind "random": ordinary values, compared to the op's tolerance, neurons nearer
    to threshold than `margin` left out. kind "tie": values exactly at a discontinuity, bit for bit.
    `cotangents` may be given; otherwise the suite draws them (dyadic for "exact" and "tie").
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["random", "exact", "tie"] = "random"
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    cotangents: Mapping[str, np.ndarray] | None = None
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Op:
    """An op of the spec.

    name        the key in `snnx.ops.OPS`, and the name of a backend's rule
    signature   named arrays with axes: "x[... I], weight[O I], bias[O]? -> y[... O]"; `?` optional;
                a name "state.*" stands for every name that begins with "state."
    forward     (xp, inputs, attributes) -> outputs, array-API code
    vjp         (xp, inputs, attributes, outputs, cotangents) -> gradients of `differentiable`
    samples     a generator of `Sample`, seeded by itself
    tolerance   by dtype name
    differentiable   the inputs that have a gradient; absent optional inputs are left out
    source      where the equation comes from
    smooth      True where `vjp` is the true derivative of `forward`, so that central differences
                of the reference check it; otherwise the op says in its docstring what checks it
    """

    name: str
    signature: str
    forward: Forward
    vjp: Vjp
    samples: Callable[[], Iterator[Sample]]
    tolerance: Mapping[str, Tolerance]
    differentiable: tuple[str, ...]
    source: str
    smooth: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs in the order of the signature."""
        return tuple(_name(term) for term in _terms(self.signature.split("->")[0]))

    @property
    def optional(self) -> tuple[str, ...]:
        """Names of the inputs that may be left out."""
        terms = _terms(self.signature.split("->")[0])
        return tuple(_name(term) for term in terms if term.endswith("?"))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs in the order of the signature."""
        return tuple(_name(term) for term in _terms(self.signature.split("->")[1]))

    @property
    def documentation(self) -> str:
        """The docstring of the module in which the op stands."""
        return inspect.getdoc(inspect.getmodule(self.vjp)) or ""

    def has_gradient(self, name: str) -> bool:
        """Tell whether the input of that name is differentiable."""
        return any(matches(name, term) for term in self.differentiable)

    def check_inputs(self, inputs: Arrays) -> None:
        """Raise ValueError where an input is missing or unknown."""
        missing = [n for n in self.inputs if n not in inputs and n not in self.optional]
        unknown = [n for n in inputs if not any(matches(n, term) for term in self.inputs)]
        if missing or unknown:
            raise ValueError(
                f"op {self.name}: missing inputs {missing}, unknown inputs {unknown}; "
                f"the signature is {self.signature}"
            )


def matches(name: str, term: str) -> bool:
    """Tell whether a name is meant by a term of a signature; "state.*" means "state.v" too."""
    return name.startswith(term[:-1]) if term.endswith("*") else name == term


def _terms(side: str) -> list[str]:
    return [term.strip() for term in side.split(",") if term.strip()]


def _name(term: str) -> str:
    return term.split("[")[0].strip().rstrip("?")


MEANING = (  # what the ops compute with, besides their own files
    "snnx.random",
    "snnx.surrogate",
    "snnx.neurons",
    "snnx.trace",
    "snnx.lower",
    "snnx.ops._windows",
    "snnx.ops._xp",
)
DRAWN = (  # what the cases are made with, and the tolerances of the levels above the ops
    "snnx.ops._cases",
    "snnx.ops._neuron_cases",
    "snnx.ops._neuron_samples",
    "snnx.ops._rate_samples",
    "snnx.ops._recurrent_samples",
    "snnx.ops.levels",
)


def op_table_hash(ops: Mapping[str, Op], cases: bool = True) -> str:
    """Return the sha256 of the ops' signatures, code, tolerances and differentiable inputs.

    Code is the source of the op's module without docstrings, comments on lines of their own and
    empty lines, and that of the modules in `MEANING`; with `cases` also what draws the samples.
    Conformance records carry the hash of the whole table: two records are compared only under
    equal specs. The hash of some ops alone says whether what used them stands; checkpoints and the
    equivalence of training carry it.
    """
    digest = hashlib.sha256()
    for name in (*MEANING, *(DRAWN if cases else ())):
        digest.update(_code(importlib.import_module(name)).encode())
    for name in sorted(ops):
        op = ops[name]
        tolerances = {k: (t.forward, t.gradient) for k, t in sorted(op.tolerance.items())}
        module = inspect.getmodule(op.vjp)  # a forward may be that of another op
        text = "" if module is None else _code(module)
        row = [name, op.signature, list(op.differentiable), tolerances, text]
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def _code(module: ModuleType) -> str:
    source = inspect.getsource(module)
    dropped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                dropped.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines = enumerate(source.splitlines(), start=1)
    kept = (line for number, line in lines if number not in dropped)
    return "\n".join(line for line in kept if line.strip() and not line.strip().startswith("#"))
