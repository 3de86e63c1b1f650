"""A range of steps that autograd computes again: see `snnx.recompute`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from snnx.recompute import borders

if TYPE_CHECKING:
    from snnx_torch.core import Result
    from snnx_torch.prepare import Play

Advance = Callable[[Sequence["Play"], dict[str, Any], "Result"], None]


def again(items: Sequence[Play], env: dict[str, Any], result: Result, advance: Advance) -> None:
    """Run `items` on `env` and `result` as `advance` does, keeping what they read only."""
    frees = {edge for item in items for edge in item.frees}
    reads = [ref for item in items for ref in (*(r for _, r in item.inputs), item.analog)]
    made = [name for item in items for name in (item.output, *(e for _, e in item.more))]
    taken, left = borders(reads, made, frees)
    states = [(item.path, len(item.states)) for item in items if item.states]
    moved = [ref for item in items for _, ref in item.statistics]
    kind, given = type(result), {ref: env[ref] for ref in taken}

    def body() -> tuple[Tensor, ...]:
        inner = dict(given)
        found = kind(result.y, {}, {}, {}, {})
        advance(items, inner, found)
        ends = [array for path, _ in states for array in found.state[path]]
        return (*(inner[n] for n in left), *ends, *(found.statistics[ref] for ref in moved))

    # nothing here draws from torch's generators, so their state need not be kept
    out = list(checkpoint(body, use_reentrant=False, preserve_rng_state=False))
    env |= {name: out.pop(0) for name in left}
    for path, count in states:
        result.state[path] = tuple(out.pop(0) for _ in range(count))
    result.statistics |= {ref: out.pop(0) for ref in moved}
    for edge in frees & env.keys():
        del env[edge]
