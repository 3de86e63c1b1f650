"""A range of steps that MLX computes again for the gradient: see `snnx.recompute`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from snnx.passes import further_outputs
from snnx.recompute import borders

if TYPE_CHECKING:
    from snnx.program import Step
    from snnx_mlx.core import Result

Advance = Callable[[Sequence["Step"], dict[str, Any], "Result"], None]


def again(
    steps: Sequence[Step],
    later: Sequence[Step],
    lasting: set[str],
    env: dict[str, Any],
    result: Result,
    advance: Advance,
    hand_over: bool = True,
) -> None:
    """Run `steps` on `env` and `result` as `advance` does, keeping what they read only.

    Left behind are the edges that `later` steps read and those in `lasting`, and with `hand_over`
    the states.
    """
    wanted = lasting | {ref for step in later for ref in step.inputs.values()}
    made = [e for s in steps for e in (s.output, *further_outputs(s).values())]
    reads = [ref for step in steps for ref in step.inputs.values()]
    taken, left = borders(reads, made, set(made) - wanted)
    states = [(step.path, len(step.states)) for step in steps if step.states and hand_over]
    moved = [r for step in steps for r in step.inputs.values() if r in result.statistics]
    kind = type(result)

    # MLX gives no gradient to what a checkpointed function reads from outside its arguments
    def body(*arrays: mx.array) -> list[mx.array]:
        inner = dict(zip(taken, arrays, strict=True))
        found = kind(result.y, {}, {ref: inner[ref] for ref in moved})
        advance(steps, inner, found)
        ends = [array for path, _ in states for array in found.state[path]]
        return [*(inner[n] for n in left), *ends, *(found.statistics[ref] for ref in moved)]

    out = list(mx.checkpoint(body)(*(env[name] for name in taken)))
    env |= {name: out.pop(0) for name in left}
    for path, count in states:
        result.state[path] = tuple(out.pop(0) for _ in range(count))
    result.statistics |= {ref: out.pop(0) for ref in moved}
