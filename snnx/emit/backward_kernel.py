"""The backward kernel of a neuron over time; `frame` says how data lie and move."""

from __future__ import annotations

from snnx.emit.frame import Drive, Frame, named
from snnx.emit.unit import Unit
from snnx.emit.variant import Source, Variant
from snnx.emit.writer import Writer


def backward(
    unit: Unit, variant: Variant, make: type[Writer], drive: Drive | None = None
) -> Source:
    """Return the backward kernel of a unit."""
    w = make()
    frame = Frame(w, unit, variant, drive or Drive())
    recomputes = variant.keep == "input"
    if recomputes:
        w.argument("x", "data")
        frame.residual_arguments()
        frame.extra_arguments()
        if variant.parts > 1:
            w.argument("checkpoints", "float")
        else:
            for name in variant.given:
                w.argument(f"{frame.states[name]}_in", "float")
    else:
        w.argument("bits", "word")
    frame.number_arguments()
    w.argument("g_y", "data")
    if variant.final:
        for s in frame.states.values():
            w.argument(f"g_{s}_out", "float")
    w.argument("g_x", "data", "out")
    if unit.residual:
        w.argument("g_residual", "data", "out")
    for name in variant.given:
        w.argument(f"g_{frame.states[name]}_in", "float", "out")
    learned = {name: frame.numbers[name] for name in unit.learned}
    for p in learned.values():
        w.argument(f"partial_{p}", "float", "out")
    if variant.witness:
        w.argument("witness", "float", "out")
    w.argument("total", "uint", "size")
    frame.drive.declare(w)
    if learned:
        w.argument("lane", "uint", "size")
        w.argument("groups", "uint", "size")
        w.argument("turns", "uint", "size")
        w.lanes("backward")
    else:
        w.tile("backward")
    frame.load_numbers()
    for p in learned.values():
        w.variable(f"sum_{p}")
    if learned:
        w.rows_of_lane()
    if recomputes:
        frame.start()
    frame.drive.begin(w)
    for s in frame.states.values():
        w.variable(f"g{s}")
        if variant.final:
            w.put(f"g{s}", w.load(f"g_{s}_out", "e"))
        w.mark(f"g{s}")
    if variant.static:
        w.variable("gx")
    for chunk, steps, tag in frame.over_chunks(backwards=True):
        if chunk == "c":
            w.loop("i", variant.chunks[0])
            w.let("c", f"{variant.chunks[0] - 1} - i", "uint")
        _backward_chunk(frame, chunk, steps, tag)
        if chunk == "c":
            w.end()
    if variant.static:
        w.store("g_x", "e", "gx")
    for name in variant.given:
        s = frame.states[name]
        w.store(f"g_{s}_in", "e", f"g{s}")
    frame.drive.finish(w)
    if learned:
        w.end()
    for number in unit.numbers:
        if number.learned:
            p = frame.numbers[number.name]
            w.reduce(f"partial_{p}", f"sum_{p}", number.share)
    return w.source()


def _backward_chunk(frame: Frame, chunk: str, steps: int, tag: str) -> None:
    w, unit, variant = frame.w, frame.unit, frame.variant
    steps_of, lines = (_recomputed, unit.reverse)
    if variant.keep == "bits" and unit.bits is not None:
        steps_of, lines = _unpacked, unit.bits.reverse
    names, done = steps_of(frame, chunk, steps, tag)
    g_state = {f"g.{name}": f"g{s}" for name, s in frame.states.items()}
    for k in reversed(range(steps)):
        time, suffix = frame.time(chunk, k), f"{tag}{k}"
        w.let(f"gy{suffix}", w.load("g_y", frame.at(time)))
        w.mark(f"gy{suffix}")
        given = {**names[k], **g_state, "g.y": f"gy{suffix}"}
        out = w.steps(lines, given, suffix, done[k])
        if variant.static:
            w.put("gx", w.add("gx", w.full(out["g.x"])))
        else:
            w.store("g_x", frame.at(time), out["g.x"])
        if unit.residual:
            w.store("g_residual", frame.at(time), out["g.residual"])
        if variant.witness:
            w.store("witness", frame.at(time), names[k]["spike"])
        for name in unit.learned:
            w.accumulate(f"sum_{frame.numbers[name]}", w.full(out[f"g.{name}"]))
        after = {f"g.{n}": (f"g{s}{suffix}", out[f"g.{n}"]) for n, s in frame.states.items()}
        g_state = named(w, after)
    for name, s in frame.states.items():
        w.put(f"g{s}", g_state[f"g.{name}"])


def _recomputed(
    frame: Frame, chunk: str, steps: int, tag: str
) -> tuple[list[dict[str, str]], list[set[str]]]:
    """Run the states of a chunk forward; return the names and the written operations by step."""
    w, unit = frame.w, frame.unit
    state: dict[str, str] = {}
    for i, (name, s) in enumerate(frame.states.items()):
        state[name] = f"{s}{tag}"
        if frame.variant.parts > 1:
            before = w.load("checkpoints", frame.kept_at(chunk, i, len(frame.states)))
            w.let(state[name], before)
        elif name in frame.variant.given:
            w.let(state[name], w.load(f"{s}_in", "e"))
        else:
            w.variable(state[name])
        w.mark(state[name])
    names: list[dict[str, str]] = []
    written: list[set[str]] = []
    for k in range(steps):
        suffix, done = f"{tag}{k}", set()
        now = frame.inputs(frame.time(chunk, k), suffix) | state
        out = w.steps(unit.advance, now, suffix, done)
        names.append(now | {"spike": out["spike"]})
        written.append(done)
        state = named(w, {n: (f"{frame.states[n]}{tag}n{k}", out[n]) for n in state})
    return names, written


def _unpacked(
    frame: Frame, chunk: str, steps: int, tag: str
) -> tuple[list[dict[str, str]], list[set[str]]]:
    """Load the word of a chunk; return the names of its bits by step."""
    w, bits = frame.w, frame.unit.bits
    if bits is None:
        raise ValueError("the neuron's backward needs more than bits; keep its input")
    w.let(f"word{tag}", w.load("bits", frame.kept_at(chunk, 0, 1), "uint"), "uint")
    names: list[dict[str, str]] = []
    for k in range(steps):
        now = dict(frame.numbers)
        held = [*(name for name, _ in bits.conditions.outputs), *(["spike"] if bits.spike else [])]
        for i, name in enumerate(held):
            identifier = f"b{i}{tag}{k}"
            condition = w.unbit(f"word{tag}", k * len(held) + i)
            if name == "spike":
                w.let(identifier, w.operations["where"].format(condition, *map(w.constant, (1, 0))))
            else:
                w.let(identifier, condition, "bool")
            w.mark(identifier)
            now[name] = identifier
        names.append(now)
    return names, [set() for _ in names]
