"""Recipes: from files, KEY=VALUE and flags to a plan, each value with where it came from.

Later layers win: defaults, recipe, further TOML files, KEY=VALUE, flags. What a method brings lies
just under the file that names it, or under all that the command line says. A layer that gives a
table another `name` begins that table anew, since the keys of one optimiser are not those of
another.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from snnx.data.registry import entry
from snnx.methods import METHODS
from snnx.training.recipe_errors import LEARNING, explained
from snnx.training.recipe_errors import known_keys as known_keys
from snnx.training.recipe_schema import DEFAULTS, TABLES, Recipe, tag

Layer = tuple[Mapping[str, Any], str]  # nested values and their origin
COMMAND_LINE = "command line"
MOST_TEXT = 1 << 18  # characters of a recipe; tomllib takes quadratic time on some text


class RecipeError(ValueError):
    """A recipe, key or value that cannot be used; the message names it and where it came from."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked recipe: nested plain values, and the origin of each by its dotted key."""

    values: dict[str, Any]
    origins: Mapping[str, str]

    def toml(self) -> str:
        """Return the recipe as TOML, each value with its origin as a comment."""
        lines, section = [], ""
        for key, value in leaves(self.values):
            table, name = _split(key)
            if table != section:
                lines += ["", f"[{table}]"]
                section = table
            if value is not None:
                text = f"{name} = {_toml(value)}"
                lines.append(f"{text:<34} # {self.origins[key]}")
        return "\n".join(lines).strip() + "\n"


def recipe_folder() -> Path:
    """Return where the shipped recipes lie: in the wheel, or beside snnx/ in a checkout."""
    packaged = Path(str(files("snnx"))) / "recipes"
    return packaged if packaged.is_dir() else packaged.parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, those in folders (PAPER/NAME) last."""
    root = recipe_folder()
    found = (path.relative_to(root).with_suffix("") for path in root.rglob("*.toml"))
    return sorted((path.as_posix() for path in found), key=lambda name: ("/" in name, name))


def read_recipe(name: str) -> Layer:
    """Return the values of a shipped recipe, or of a path that ends in .toml."""
    if name.endswith(".toml"):
        path, origin = Path(name), name
    else:
        path, origin = recipe_folder() / f"{name}.toml", f"recipe {name}"
        if name not in recipe_names():
            near = get_close_matches(name, recipe_names(), 3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise RecipeError(
                f"there is no recipe {name!r}{hint}; `snnx info recipes` lists the shipped ones, "
                "and your own is FILE.toml"
            )
    try:
        if path.stat().st_size > MOST_TEXT:
            raise RecipeError(
                f"{path}: is larger than {MOST_TEXT >> 10} KiB, too large for a recipe"
            )
        return tomllib.loads(path.read_text("utf-8")), origin
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise RecipeError(f"{path}: is nested too deeply to be a recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error


def override(text: str) -> Layer:
    """Return the values of one KEY=VALUE; a value that is no TOML is a word."""
    key, _, value = text.partition("=")
    try:
        found = tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        try:
            found = tomllib.loads(f"{key} = {json.dumps(value)}")
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{text!r}: expects KEY=VALUE, like optim.lr=0.002") from error
    return found, COMMAND_LINE


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Return the recipe that the layers make. Raises: RecipeError naming the first wrong keys."""
    raw: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for values, origin in [(DEFAULTS, "default"), *_with_method(_named_first(layers))]:
        for key, value in _normal(values).items():
            _lay(raw, origins, key, value, origin)
    if tag(raw["data"]) not in TABLES["data"]:
        entry(tag(raw["data"]))  # raises, with the nearest name
    try:
        checked = Recipe.model_validate(as_tuples(raw))
    except ValidationError as error:
        raise RecipeError(explained(error, raw, origins)) from error
    values = _lists(checked.model_dump(exclude_none=False))
    values["optim"]["groups"] = without_none(values["optim"]["groups"])
    for table in (values[kind] for kind in LEARNING):
        table |= {k: without_none(v) for k, v in table.items() if isinstance(v, Mapping)}
    if values["stages"]:
        _set_by_stages(values, origins)
    if tag(values["model"]) == "FILE.json":
        # the file holds its own neurons; those of a recipe do not apply, and asking is a mistake
        for key in list(leaves({k: values.pop(k) for k in ("neuron", "surrogate")})):
            if origins.get(key[0]) == COMMAND_LINE:
                raise RecipeError(
                    f"{key[0]} (command line): the model {values['model']['name']} holds its own "
                    "neurons; change them there"
                )
    return Resolved(values, {k: origins.get(k, "default") for k, _ in leaves(values)})


def _toml(value: Any) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # JSON's numbers and words are TOML's too


def _set_by_stages(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Put in what the stages say of T and epochs; asking for others beside them is a mistake."""
    stages = values["stages"] = [without_none(stage) for stage in values["stages"]]
    told = {"T": stages[-1]["T"], "epochs": sum(stage["epochs"] for stage in stages)}
    for key, value in told.items():
        asked = origins.get(key, "")
        if (asked == COMMAND_LINE or asked.startswith("--")) and values[key] != value:
            raise RecipeError(
                f"{key} ({asked}): the stages say {key}, {value} in the end; change it there"
            )
        values[key], origins[key] = value, "stages"


def _named_first(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with what the command line names before what it says of the named.

    A name begins its table anew, so in `optim.lr=0.1 optim=sgd` it would take the rate away.
    """
    found = list(layers)
    places = [i for i, (_, origin) in enumerate(found) if origin == COMMAND_LINE]
    said = sorted((found[i] for i in places), key=lambda layer: not _names(layer[0]))
    for place, layer in zip(places, said, strict=True):
        found[place] = layer
    return found


def _names(values: Mapping[str, Any]) -> bool:
    """Return whether one KEY=VALUE chooses a table: `optim=sgd`, or `optim.name=sgd`."""
    tables = [v for k, v in _normal(values).items() if k in TABLES]
    return any(isinstance(table, Mapping) and "name" in table for table in tables)


def _with_method(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with the defaults of the method, which the last naming layer chose."""
    found = list(layers)
    for place in range(len(found) - 1, -1, -1):
        name = tag(_normal(found[place][0]).get("method"))
        if name in METHODS:
            while place > 0 and found[place][1] == found[place - 1][1] == COMMAND_LINE:
                place -= 1
            found.insert(place, (METHODS[name].defaults, f"method {name}"))
            break
    return found


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted TOML key, value) of nested values, a table's own values before its tables."""
    nested = []
    for name, value in values.items():
        key = prefix + (name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name))
        if isinstance(value, Mapping):
            nested.append((key, value))
        else:
            yield key, value
    for key, value in nested:
        yield from leaves(value, f"{key}.")


def _split(key: str) -> tuple[str, str]:
    """Return (table, name) of a dotted key."""
    found = re.fullmatch(r'(?:(.*)\.)?("(?:[^"\\]|\\.)*"|[^."]+)', key)
    return (found[1] or "", found[2]) if found else ("", key)


def without_none(value: Any) -> Any:
    """Return nested values without the keys that are None, which TOML cannot say."""
    if isinstance(value, Mapping):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    return value


def as_tuples(value: Any) -> Any:
    """Return nested values with tuples for lists."""
    if isinstance(value, Mapping):
        return {k: as_tuples(v) for k, v in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _normal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with `optim = "sgd"` written as a table."""
    found = {k: {"name": v} if k in TABLES and isinstance(v, str) else v for k, v in values.items()}
    stages = found.get("stages")
    if isinstance(stages, list):
        found["stages"] = [_normal(s) if isinstance(s, Mapping) else s for s in stages]
    return found


def _lay(raw: dict[str, Any], origins: dict[str, str], key: str, value: Any, origin: str) -> None:
    """Put one top-level value over those before it."""
    old = raw.get(key)
    if isinstance(value, Mapping) and isinstance(old, dict):
        if "name" in value and value["name"] != old.get("name"):
            for dotted in [k for k in origins if k.startswith(f"{key}.")]:
                del origins[dotted]
            old = {}
        raw[key] = _merged(old, value)
    else:
        raw[key] = value
    fresh = {k: origin for k, _ in leaves({key: value})}
    for old_key in [k for k in origins if any(_inside(k, new) or _inside(new, k) for new in fresh)]:
        del origins[old_key]  # a number where a table was, or a table where a number was
    origins |= fresh


def _inside(key: str, table: str) -> bool:
    return key.startswith(f"{table}.")


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for key, value in new.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _merged(both[key], value) if nested else value
    return both


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _lists(v) for k, v in value.items()}
    return list(map(_lists, value)) if isinstance(value, tuple) else value


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys whose values differ between two resolved recipes."""
    a, b = dict(leaves(old)), dict(leaves(new))
    return [k for k in {**a, **b} if a.get(k) != b.get(k)]
