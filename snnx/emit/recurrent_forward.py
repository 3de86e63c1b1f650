"""The forward kernel of a recurrent layer; `recurrent` says how data lie and move."""

from __future__ import annotations

from snnx.emit.frame import named
from snnx.emit.recurrent import Loop, Rows
from snnx.emit.rows import RowWriter
from snnx.emit.unit import Unit
from snnx.emit.variant import Source


def recurrent_forward(unit: Unit, loop: Loop, make: type[RowWriter]) -> Source:
    """Return the forward kernel. What is fed back is "z" where y is kept apart, else y itself."""
    rows = Rows(unit, loop, make)
    w, states = rows.w, list(rows.states.values())
    w.argument("x", "data")
    w.argument("matrix", "float")
    rows.extra_arguments()
    if loop.given:
        for name in ("c", "y", *states):
            w.argument(f"{name}_in", "float")
    w.argument("y", "data", "out")
    if loop.apart:
        w.argument("z", "float", "out")
    for name in ("spike", "potential") if unit.observe else ():
        w.argument(name, "float", "out")
    for name in ("c", *states):
        w.argument(f"{name}_out", "float", "out")
    if loop.trains:
        w.argument("currents", "float", "out")
        w.argument("checkpoints", "float", "out")
        if loop.bits:
            w.argument("bits", "word", "out")
    if w.gathers:
        w.argument("fed", "float", "out")
    rows.begin("recurrent_forward")
    rows.open()
    for name in ("c", *states):
        value = w.load(f"{name}_in", "e") if loop.given else ""
        rows.start(name, f"{name}_out", value)
    first = w.load("y_in", "e") if loop.given else w.full(w.constant(0.0))
    w.store("z" if loop.apart else "y", "e", first)
    if loop.trains:
        w.store("currents", "e", rows.get("c", "c_out"))
    rows.close()
    for chunk, steps, tag in loop.parts:
        if chunk == "chunk":
            w.loop("chunk", loop.whole)
        _forward_chunk(rows, chunk, steps, tag)
        if chunk == "chunk":
            w.end()
    if w.resident:
        for name in ("c", *states):
            w.store(f"{name}_out", "e", name)
    return w.source()


def _forward_chunk(rows: Rows, chunk: str, steps: int, tag: str) -> None:
    w, loop, states = rows.w, rows.loop, list(rows.states.values())
    packs = loop.trains and loop.bits
    if loop.trains:
        if not w.resident:
            w.barrier()  # the states lie in memory, and others may have written them
        rows.open()
        for i, s in enumerate(states):
            place = rows.at(f"({chunk} * {len(states)} + {i})")
            w.store("checkpoints", place, rows.get(s, f"{s}_out"))
        if packs:
            w.variable(f"word{tag}", 0, "uint")
            if not w.resident:
                w.store_word("bits", rows.at(chunk), f"word{tag}")
        rows.close()
    w.loop("i", steps)
    w.let("t", f"{chunk} * {loop.chunk} + i", "uint")
    w.barrier()
    w.gather("matrix", "z" if loop.apart else "y", "t")
    rows.open()
    x = rows.load(f"x{tag}", w.load("x", "e" if loop.static else rows.at("t")))
    names = {**rows.numbers, **rows.beside("t", tag)}
    state = {n: rows.load(f"{s}{tag}", rows.get(s, f"{s}_out")) for n, s in rows.states.items()}
    before = rows.load(f"c{tag}", rows.get("c", "c_out"))
    w.let(f"drive{tag}", w.operations["add"].format(rows.decayed(before), x))
    current = rows.load(f"now{tag}", w.operations["add"].format(f"drive{tag}", w.fed(tag)))
    out = w.steps(rows.unit.forward, {**names, **state, "x": current}, tag, set())
    w.store("y", rows.at("t" if loop.apart else "(t + 1)"), out["y"])
    if loop.apart:
        w.store("z", rows.at("(t + 1)"), out["y"])
    for name in ("spike", "potential") if rows.unit.observe else ():
        w.store(name, rows.at("t"), out[name])
    if loop.trains:
        w.store("currents", rows.at("(t + 1)"), current)
    if packs:
        fired = w.bit(f"({out['spike']} != {w.constant(0.0)})", "i")
        if w.resident:
            w.put(f"word{tag}", f"word{tag} | {fired}")
        else:
            held = w.load("bits", rows.at(chunk), "uint")
            w.let(f"word{tag}", f"{held} | {fired}", "uint")
            w.store_word("bits", rows.at(chunk), f"word{tag}")
    after = named(w, {n: (f"{s}{tag}n", out[n]) for n, s in rows.states.items()})
    for name, s in rows.states.items():
        rows.set(s, f"{s}_out", after[name])
    rows.set("c", "c_out", current)
    rows.close()
    w.end()
    if packs and w.resident:
        w.store_word("bits", rows.at(chunk), f"word{tag}")
