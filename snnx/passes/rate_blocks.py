"""Merge products, their residual sum and its norm between DSR layers into one step free of time.

Merged is every batch norm whose output goes to DSR layers only, perhaps through sums and average
pools, so that its gradient is the same at every step; which normalises a conv2d or linear that
nothing else reads, or the sum of one with another branch: such a product too, or what DSR layers
emit (an identity shortcut). Every branch comes from the network's input, or from DSR layers of one
decay, through steps that act on each time step alike, so that only the weighted sum of its gradient
over time is asked for. A mean over time then stands for what every step would have kept. Source:
DSR Sec. 4; the op is `snnx.ops.rate_block`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from snnx.program import Program, Step

ALIKE = ("avg_pool2d", "global_avg_pool2d", "flatten", "add")  # linear, and the same at every step


@dataclass(frozen=True, slots=True)
class _Graph:
    """Who makes and who reads each edge."""

    made: dict[str, Step]
    readers: dict[str, list[Step]]
    source: str
    result: str

    def product(self, edge: str) -> Step | None:
        """Return the product that makes an edge which one step reads, else None."""
        step = self.made.get(edge)
        if step is None or step.op not in ("conv2d", "linear") or edge == self.result:
            return None
        return step if len(self.readers[edge]) == 1 else None

    def to_rates(self, edge: str) -> bool:
        """Say whether an edge's gradient is that of DSR layers alone: the same at every step."""
        above = self.readers.get(edge, [])
        return edge != self.result and all(
            s.op == "rate_neuron" or (s.op in ALIKE and self.to_rates(s.output)) for s in above
        )

    def decays(self, edge: str) -> set[float] | None:
        """Return the decays of the DSR layers an edge comes from, None where others are met."""
        if edge == self.source:
            return set()
        step = self.made[edge]
        if step.op == "rate_neuron":
            return {float(step.attributes["neuron"].decay)}
        if step.op not in ALIKE:
            return None
        found: set[float] = set()
        for name in ("x", "a", "b"):
            if name in step.inputs:
                inner = self.decays(step.inputs[name])
                if inner is None:
                    return None
                found |= inner
        return found


def merge_rate_blocks(program: Program, covariance: bool = True) -> Program:
    """Return the program with every such norm as one step "rate_block"; parameters stay.

    covariance False drops the term of the weights' gradient in which input and norm vary together
    over time: another algorithm, which is cheaper.
    """
    readers: dict[str, list[Step]] = {}
    for step in program.steps:
        for name in step.inputs.values():
            readers.setdefault(name, []).append(step)
    made = {step.output: step for step in program.steps}
    graph = _Graph(made, readers, program.source, program.result)
    blocks: dict[str, Step] = {}
    gone: set[str] = set()
    for norm in program.steps:
        found = _block(norm, graph, covariance) if norm.op == "batch_norm" else None
        if found is not None:
            blocks[norm.path], inner = found
            gone |= inner
    steps = tuple(blocks.get(s.path, s) for s in program.steps if s.output not in gone)
    edges = {name: edge for name, edge in program.edges.items() if name not in gone}
    return replace(program, steps=steps, edges=edges)


def _block(norm: Step, graph: _Graph, covariance: bool) -> tuple[Step, set[str]] | None:
    """Return the step that stands for a norm and what it normalises, and the edges inside it."""
    inside, branches = {norm.inputs["x"]}, [norm.inputs["x"]]
    sum_of = graph.made.get(norm.inputs["x"])
    if sum_of is not None and sum_of.op == "add":
        if len(graph.readers[sum_of.output]) > 1 or sum_of.output == graph.result:
            return None
        branches = [sum_of.inputs["a"], sum_of.inputs["b"]]
        branches.sort(key=lambda edge: graph.product(edge) is None)
    main = graph.product(branches[0])
    if main is None or not graph.to_rates(norm.output):
        return None
    inputs = dict(main.inputs)
    attributes = {**norm.attributes, **main.attributes, "covariance": covariance}
    inside.add(main.output)
    for edge in branches[1:]:
        other = graph.product(edge)
        if other is None:
            inputs["skip"] = edge
            continue
        inside.add(other.output)
        names = {n: f"skip_{n}" for n in ("weight", "bias")} | {"x": "skip"}
        inputs |= {names[n]: ref for n, ref in other.inputs.items()}
        attributes["skip"] = dict(other.attributes)
    decays = [graph.decays(inputs[n]) for n in ("x", "skip") if n in inputs]
    first = decays[0]
    if first is None or len(first) > 1 or any(d != first for d in decays):
        return None
    attributes["decay"] = next(iter(first), 1.0)
    inputs |= {f"norm_{name}": norm.inputs[name] for name in ("weight", "bias")}
    inputs |= {name: norm.inputs[name] for name in ("running_mean", "running_var")}
    return replace(norm, op="rate_block", inputs=inputs, attributes=attributes), inside
