"""The forward kernel of a neuron over time; `frame` says how data lie and move."""

from __future__ import annotations

from snnx.emit.frame import Drive, Frame, named
from snnx.emit.unit import Unit
from snnx.emit.variant import Source, Variant
from snnx.emit.writer import Writer


def forward(unit: Unit, variant: Variant, make: type[Writer], drive: Drive | None = None) -> Source:
    """Return the forward kernel of a unit."""
    w = make()
    frame = Frame(w, unit, variant, drive or Drive())
    w.argument("x", "data")
    frame.residual_arguments()
    frame.extra_arguments()
    for name in variant.given:
        w.argument(f"{frame.states[name]}_in", "float")
    frame.number_arguments()
    w.argument("y", "data", "out")
    if unit.observe:
        w.argument("spike", "float", "out")
        w.argument("potential", "float", "out")
    if variant.final:
        for name in frame.states.values():
            w.argument(f"{name}_out", "float", "out")
    if variant.keep == "bits":
        w.argument("bits", "word", "out")
    if variant.keep == "input" and variant.parts > 1:
        w.argument("checkpoints", "float", "out")
    if variant.emits:
        w.voting("fired", variant.steps)
    w.argument("total", "uint", "size")
    frame.drive.declare(w)
    frame.drive.open(w, "forward")
    frame.load_numbers()
    frame.start()
    frame.drive.begin(w)
    for name, s in frame.states.items():
        w.variable(s)
        if name in variant.given:
            w.put(s, w.load(f"{s}_in", "e"))
        w.mark(s)
    for chunk, steps, tag in frame.over_chunks(backwards=False):
        if chunk == "c":
            w.loop("c", variant.chunks[0])
        _forward_chunk(frame, chunk, steps, tag)
        if chunk == "c":
            w.end()
    if variant.final:
        for s in frame.states.values():
            w.store(f"{s}_out", "e", s)
    frame.drive.finish(w)
    frame.drive.close(w)
    return w.source()


def _forward_chunk(frame: Frame, chunk: str, steps: int, tag: str) -> None:
    w, unit, variant = frame.w, frame.unit, frame.variant
    state = dict(frame.states)
    if w.has("checkpoints"):
        for i, s in enumerate(state.values()):
            w.store("checkpoints", frame.kept_at(chunk, i, len(state)), s)
    if variant.keep == "bits":
        w.variable(f"word{tag}", 0, "uint")
    for k in range(steps):
        time, suffix, done = frame.time(chunk, k), f"{tag}{k}", set()
        names = frame.inputs(time, suffix) | state
        out = w.steps(unit.forward, names, suffix, done)
        w.store("y", frame.at(time), out["y"])
        if unit.observe:
            w.store("spike", frame.at(time), out["spike"])
            w.store("potential", frame.at(time), out["potential"])
        if variant.emits:
            w.vote("fired", time, f"({w.full(out['spike'])} != {w.constant(0.0)})")
        if variant.keep == "bits" and unit.bits is not None:
            found = w.steps(unit.bits.conditions, names | {"spike": out["spike"]}, suffix, done)
            held = list(found.values())
            if unit.bits.spike:
                held.append(f"({out['spike']} != {w.constant(0.0)})")
            for i, condition in enumerate(held):
                w.put(f"word{tag}", f"word{tag} | {w.bit(condition, k * len(held) + i)}")
        state = named(w, {n: (f"{frame.states[n]}{tag}n{k}", out[n]) for n in state})
    if variant.keep == "bits":
        w.store_word("bits", frame.kept_at(chunk, 0, 1), f"word{tag}")
    for name, s in frame.states.items():
        w.put(s, state[name])
