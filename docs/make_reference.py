"""The reference pages, written from the op table and the docstrings.

python docs/make_reference.py            # write the pages of docs/reference
python docs/make_reference.py --check    # write nothing; fail where a committed page is out of date
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from reference_markdown import code, escaped, prose, summary, table

import snnx
from snnx import objective, optim, scalars, surrogate
from snnx.ops import OPS, Op
from snnx.training.recipe_schema import DEFAULTS, TABLES, LearnedTable, Recipe

FOLDER = Path(__file__).parent / "reference"

GROUPS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "Layers": (
        "A model is a `Chain` that begins with `Input`. Every layer is a frozen dataclass.",
        (
            *(snnx.Chain, snnx.Input, snnx.Residual, snnx.Identity),
            *(snnx.Conv2d, snnx.Linear, snnx.BatchNorm, snnx.AvgPool2d, snnx.MaxPool2d),
            *(snnx.GlobalAvgPool2d, snnx.AdaptiveAvgPool2d, snnx.Pad2d, snnx.Flatten),
            *(snnx.Dropout, snnx.Poisson, snnx.ReLU, snnx.ArrayLayer),
        ),
    ),
    "Neurons": (
        "A neuron's `step` is written once. Its reverse is derived from it.",
        (snnx.Neuron, snnx.LIF, snnx.IF, snnx.CLIF, snnx.Recurrent, snnx.DSR),
    ),
    "Surrogates": (
        inspect.getdoc(surrogate) or "",
        (
            *(surrogate.Rectangular, surrogate.Triangular, surrogate.Sigmoid),
            *(surrogate.Tanh, surrogate.ArcTan, surrogate.Dspike),
        ),
    ),
    "Numbers": (inspect.getdoc(scalars) or "", (scalars.Learned, scalars.Dial)),
    "Modes": (
        "What a network computes is chosen explicitly.",
        (snnx.Mode, snnx.train_mode),
    ),
    "Objectives": (
        inspect.getdoc(objective) or "",
        (objective.SDT, objective.TET, objective.RateMSE, objective.MSE),
    ),
    "Optimisers": (
        inspect.getdoc(optim) or "",
        (optim.Optim, optim.SGD, optim.Adam, optim.AdamW, optim.RoundedSGD),
    ),
}


def ops_page() -> str:
    """Return the page of the op table."""
    parts = [
        "# Ops",
        "Every number that snnx computes is defined by one of these ops. Each is one file in "
        "`snnx/ops/`: the equation, a forward and a hand-written vjp in array-API code, samples "
        "and tolerances. That file is the float64 reference, the source of the conformance cases, "
        "and the source of this page, which `docs/make_reference.py` writes.",
        "How to read a signature: `x[T N *F]` is an array with those axes, `?` marks an input that "
        "may be absent, `state.*` stands for every name that begins so. A tolerance is the largest "
        "allowed error divided by the largest number of the reference array. *Random* samples are "
        "compared to the tolerance; *exact* and *tie* samples bit for bit in every dtype that the "
        "sample names.",
        table(
            ("op", "what it is"),
            [(f"[`{op.name}`](#{op.name})", summary(_text(op))) for op in OPS.values()],
        ),
        *(_op(op) for op in OPS.values()),
    ]
    return "\n\n".join(parts) + "\n"


def _text(op: Op) -> str:
    """Return the docstring of the op's own file."""
    text = op.documentation.removeprefix(f"{op.name}: ")
    return text[0].upper() + text[1:]


def _op(op: Op) -> str:
    samples = list(op.samples())
    kinds = Counter(s.kind for s in samples)
    counted = ", ".join(f"{kinds[k]} {k}" for k in ("random", "exact", "tie") if kinds[k])
    attributes = sorted({name for s in samples for name in s.attributes})
    facts = [
        ("signature", code(op.signature)),
        ("attributes", ", ".join(map(code, attributes)) or "none"),
        ("differentiable", ", ".join(map(code, op.differentiable)) or "none"),
        ("samples", f"{len(samples)}: {counted}"),
        ("source", escaped(op.source)),
    ]
    if op.differentiable and not op.smooth:
        facts.append(("vjp", "is not the derivative of the forward; see what checks it above"))
    allowed = (
        f"{dtype} {t.forward:.2g}, gradients {t.gradient:.2g}" for dtype, t in op.tolerance.items()
    )
    facts.append(("tolerance", "; ".join(allowed)))
    heading = f"## {op.name} {{ #{op.name} }}"
    return "\n\n".join([heading, prose(_text(op)), table(("", ""), facts)])


def layers_page() -> str:
    """Return the page of layers, neurons, surrogates, numbers, modes, objectives, optimisers."""
    parts = [
        "# Layers, neurons, objectives, optimisers",
        "Written from the docstrings by `docs/make_reference.py`. Everything here is plain data: "
        "it holds no arrays and imports no framework. All names are those of the package `snnx`.",
    ]
    for title, (text, things) in GROUPS.items():
        parts += [f"## {title}", prose(text)]
        parts += [part for thing in things for part in _thing(thing)]
    return "\n\n".join(parts) + "\n"


def _thing(thing: Any) -> Iterator[str]:
    yield f"### {thing.__name__} {{ #{thing.__name__} }}"
    yield f"```text\n{signature(thing.__name__, thing)}\n```"
    yield prose(inspect.getdoc(thing) or "")
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if isinstance(member, classmethod) and not name.startswith("_"):
                bound = getattr(thing, name)
                yield f"```text\n{signature(f'{thing.__name__}.{name}', bound)}\n```"
                yield prose(inspect.getdoc(bound) or "")


def signature(name: str, thing: Callable[..., Any]) -> str:
    """Return the call as one writes it: names and defaults, broken where it is long."""
    words, keyword_only = [], False
    for p in inspect.signature(thing).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            words.append("*")
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f"={_value(p.default)}"
        words.append(f"{star}{p.name}{default}")
    line = f"{name}({', '.join(words)})"
    if len(line) <= 90:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + ")"


def _value(value: Any) -> str:
    if is_dataclass(value) or isinstance(value, int | float | tuple | type(None)):
        return repr(value)
    return f'"{value}"' if isinstance(value, str) else "{}"  # a factory of an empty mapping


def recipe_page() -> str:
    """Return the page of a recipe's keys, from the schema that checks them."""
    parts = [
        "# Recipe keys",
        "Written from the schema by `docs/make_reference.py`. A key without a default must be "
        "given. How recipes are used is told in [Command line](../cli.md#recipes).",
        "## The recipe { #recipe }",
        _keys(Recipe),
        "## A learned number { #learned }",
        "Where a key may be learned, a table stands for the number: `decay = { init = 0.5, "
        'transform = "logit" }`. `group` names the keys of `[optim.groups]` that train it.',
        _keys(LearnedTable),
    ]
    for kind, schemas in TABLES.items():
        parts.append(f"## [{kind}] {{ #{kind} }}")
        if kind in DEFAULTS:
            parts.append(f'The default is `name = "{DEFAULTS[kind]["name"]}"`.')
        alike: dict[str, list[str]] = {}
        for name, schema in schemas.items():
            alike.setdefault(_keys(schema), []).append(name)
        for keys, names in alike.items():
            parts += [f"### {', '.join(names)} {{ #{kind}-{_anchor(names[0])} }}", keys]
    return "\n\n".join(parts) + "\n"


def _anchor(name: str) -> str:
    return name.replace(".", "-")


def _keys(schema: type[BaseModel]) -> str:
    rows = []
    for name, field in schema.model_fields.items():
        if name == "name" and schema is not Recipe:
            continue
        if name in TABLES and schema is Recipe:
            rows.append((code(name), f"a name or a table, [see below](#{name})", ""))
        else:
            default = "" if field.is_required() else _toml(field.get_default())
            rows.append((code(name), _type(field.annotation), default))
    return table(("key", "type", "default"), rows) if rows else "It has no keys but its name."


def _toml(value: Any) -> str:
    if value is None:
        return "not set"
    return code(json.dumps(value if isinstance(value, tuple | int | float | str) else {}))


def _type(hint: Any) -> str:
    """Return a type as a writer of TOML calls it."""
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    words |= {type(None): "", Any: "any"}
    if hint in words:
        return words[hint]
    if get_origin(hint) is Annotated:
        return _type(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, map(_type, get_args(hint)))))
    if get_origin(hint) is Literal:
        return ", ".join(code(json.dumps(value)) for value in get_args(hint))
    if get_origin(hint) in (tuple, list):
        inner = [_type(a) for a in get_args(hint) if a is not ...]
        return f"list of {', '.join(dict.fromkeys(inner))}"
    if get_origin(hint) is dict:
        return "table of tables" if len(get_args(hint)) == 2 else "table"
    if hint is LearnedTable:
        return "[learned](#learned)"
    if inspect.isclass(hint) and issubclass(hint, BaseModel):
        return "table of " + ", ".join(map(code, hint.model_fields))
    return getattr(hint, "__name__", str(hint))


PAGES: dict[str, Callable[[], str]] = {
    "ops.md": ops_page,
    "layers.md": layers_page,
    "recipe.md": recipe_page,
}


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; return 1 where a checked one is out of date."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(path)
        elif not check:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    for path in stale:
        print(f"{path}: is not what the code says; run: python docs/make_reference.py")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
