"""The zoo: one plain function per architecture, which returns a tree."""

from collections.abc import Callable
from typing import Any

from snnx.models.digits import digits as digits

MODELS: dict[str, Callable[..., Any]] = {"digits": digits}
