"""What is wrong with a recipe, in sentences: key, value, origin and the nearest known key."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from snnx.training.recipe_schema import TABLES, LearnedTable, Recipe, tag

LEARNING = ("model", "neuron", "surrogate")  # tables whose numbers may be learned


def explained(error: ValidationError, raw: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Return pydantic's findings as sentences with key, value, origin and the nearest key."""
    known = known_keys(raw)
    found = []
    places = [_place(item["loc"]) for item in error.errors()]
    learnable = {tuple(loc[:2]) for loc in places if "Learned" in loc}
    for item, loc in zip(error.errors(), places, strict=True):
        if len(loc) > 2 and loc[0] in LEARNING and tuple(loc[:2]) in learnable:
            # of a number or a table, what was given says which was meant
            if ("Learned" in loc) != isinstance(raw[loc[0]].get(loc[1]), Mapping):
                continue
            loc = [part for part in loc if part != "Learned"]
        told = ".".join(loc) in known or item["type"] == "extra_forbidden"
        if not told and ".".join(loc[:-1]) in known:
            del loc[-1]  # which alternative of the value pydantic tried
        key = ".".join(loc)
        inner = (o for k, o in origins.items() if k.startswith(f"{key}."))
        origin = origins.get(key) or origins.get(f"{key}.name") or next(inner, "the recipe")
        if item["type"] == "extra_forbidden":
            near = [k for k in known if k.rpartition(".")[2] == loc[-1]]
            near = near or get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            found.append(f"{key} ({origin}): unknown key{hint}")
        elif item["type"] == "union_tag_invalid" and not isinstance(raw[loc[0]], Mapping):
            found.append(f"{key} ({origin}): expects a name or a table, got {raw[loc[0]]!r}")
        elif item["type"] == "union_tag_invalid":
            wrong = tag(raw[loc[0]])
            near = get_close_matches(wrong, TABLES[loc[0]], 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            found.append(
                f"{key} ({origin}): there is no {key} {wrong!r}; {hint}"
                f"there are {', '.join(TABLES[loc[0]])}"
            )
        elif item["type"] == "missing":
            found.append(f"{key} ({origin}): is needed and has no default; give {key}=...")
        else:
            found.append(f"{key} ({origin}): {item['msg']}, got {item['input']!r}")
    return "; ".join(dict.fromkeys(found))


def _place(loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys of a finding, without which schema of a table pydantic chose."""
    found = [str(part) for part in loc]
    if len(found) > 1 and found[0] in TABLES and found[1] in TABLES[found[0]]:
        del found[1]
    return found


def known_keys(raw: Mapping[str, Any]) -> list[str]:
    """Return every dotted key that the chosen schemas have."""
    names = [name for name in Recipe.model_fields if name not in TABLES]
    for kind, schemas in TABLES.items():
        table = raw.get(kind)
        schema: type[BaseModel] | None = schemas.get(tag(table))
        names += [f"{kind}.{key}" for key in (schema.model_fields if schema else ("name",))]
        inner = table if kind in LEARNING and isinstance(table, Mapping) else {}
        learned = [key for key, value in inner.items() if isinstance(value, Mapping)]
        names += [f"{kind}.{key}.{own}" for key in learned for own in LearnedTable.model_fields]
    return names
