"""The backward kernel of a recurrent layer; `recurrent` says how data lie and move."""

from __future__ import annotations

from snnx.emit.frame import named
from snnx.emit.recurrent import Loop, Rows
from snnx.emit.rows import RowWriter
from snnx.emit.unit import Unit
from snnx.emit.variant import Source


def recurrent_backward(unit: Unit, loop: Loop, make: type[RowWriter]) -> Source:
    """Return the backward kernel; `matrix` is V as it stands, g_c has T + 1 slots, the last 0."""
    rows = Rows(unit, loop, make)
    w, states = rows.w, list(rows.states.values())
    for name in ("currents", "matrix", "checkpoints"):
        w.argument(name, "float")
    rows.extra_arguments()
    w.argument("g_y", "data")
    for name in ("c", "y", *states):
        w.argument(f"g_{name}_out", "float")
    w.argument("g_c", "float", "out")
    w.argument("scratch", "float", "out")
    for name in ("c", *states):
        w.argument(f"g_{name}_in", "float", "out")
    learned = {name: rows.numbers[name] for name in unit.learned}
    sums = {p: f"sum_{p}" for p in learned.values()} | ({"b": "sum_b"} if loop.learns else {})
    for array in sums.values():
        w.argument(array, "float", "out")
    if w.gathers:
        w.argument("fed", "float", "out")
    rows.begin("recurrent_backward")
    rows.open()
    for name in ("c", *states):
        rows.start(f"g{name}", f"g_{name}_in", w.load(f"g_{name}_out", "e"))
    for p, array in sums.items():
        rows.start(f"total_{p}", array)
    w.store("g_c", rows.at(str(loop.steps)), w.full(w.constant(0.0)))
    rows.close()
    for chunk, steps, tag in loop.parts[::-1]:
        if chunk == "chunk":
            w.loop("back", loop.whole)
            w.let("chunk", f"{loop.whole - 1} - back", "uint")
        _recomputed(rows, chunk, steps, tag)
        _backward_chunk(rows, chunk, steps, tag, sums)
        if chunk == "chunk":
            w.end()
    if w.resident:
        for name in ("c", *states):
            w.store(f"g_{name}_in", "e", f"g{name}")
        for p, array in sums.items():
            w.store(array, "e", f"total_{p}")
    return w.source()


def _recomputed(rows: Rows, chunk: str, steps: int, tag: str) -> None:
    """Write the states before each step of a chunk into the scratch."""
    w, loop, count = rows.w, rows.loop, len(rows.states)
    w.barrier()  # others may still read the scratch of the chunk before
    rows.open()
    for i, s in enumerate(rows.states.values()):
        w.variable(f"{s}{tag}")
        w.put(f"{s}{tag}", w.load("checkpoints", rows.at(f"({chunk} * {count} + {i})")))
    w.loop("i", steps)
    w.let("t", f"{chunk} * {loop.chunk} + i", "uint")
    state = {name: f"{s}{tag}" for name, s in rows.states.items()}
    for i, held in enumerate(state.values()):
        w.store("scratch", rows.at(f"(i * {count} + {i})"), held)
    current = rows.load(f"again{tag}", w.load("currents", rows.at("(t + 1)")))
    names = {**rows.numbers, **rows.beside("t", f"{tag}q"), **state, "x": current}
    out = w.steps(rows.unit.advance, names, f"{tag}q", set())
    after = named(w, {n: (f"{s}{tag}m", out[n]) for n, s in rows.states.items()})
    for name, s in rows.states.items():
        w.put(f"{s}{tag}", after[name])
    w.end()
    rows.close()


def _backward_chunk(rows: Rows, chunk: str, steps: int, tag: str, sums: dict[str, str]) -> None:
    """Walk back over a chunk."""
    w, loop, unit, count = rows.w, rows.loop, rows.unit, len(rows.states)
    add = w.operations["add"].format
    w.loop("j", steps)
    w.let("i", f"{steps - 1} - j", "uint")
    w.let("t", f"{chunk} * {loop.chunk} + i", "uint")
    w.barrier()
    w.gather("matrix", "g_c", "(t + 1)")
    rows.open()
    current = rows.load(f"x{tag}", w.load("currents", rows.at("(t + 1)")))
    names = {**rows.numbers, **rows.beside("t", tag), "x": current}
    for i, (name, s) in enumerate(rows.states.items()):
        place = rows.at(f"(i * {count} + {i})")
        names[name] = rows.load(f"{s}{tag}b", w.load("scratch", place))
    gy = rows.load(f"gy{tag}", w.load("g_y", rows.at("t")))
    last = rows.load(f"last{tag}", w.load("g_y_out", "e"))
    fed = w.fed(tag)  # while what was loaded is on its way
    done: set[str] = set()
    names["spike"] = w.steps(unit.advance, names, tag, done)["spike"]
    chosen = w.operations["where"].format(f"(t == {loop.steps - 1})", last, w.constant(0.0))
    names["g.y"] = rows.load(f"into{tag}", add(gy, add(fed, chosen)))
    for name, s in rows.states.items():
        names[f"g.{name}"] = rows.load(f"g{s}{tag}", rows.get(f"g{s}", f"g_{s}_in"))
    out = w.steps(unit.reverse, names, tag, done)
    carried = rows.load(f"carried{tag}", rows.get("gc", "g_c_in"))
    found = rows.load(f"g{tag}", add(carried, w.full(out["g.x"])))
    w.store("g_c", rows.at("t"), found)
    terms = {rows.numbers[name]: w.full(out[f"g.{name}"]) for name in unit.learned}
    if loop.learns:
        old = w.load("currents", rows.at("t"))
        terms["b"] = w.operations["mul"].format(found, old)
    for p, term in terms.items():
        rows.set(f"total_{p}", sums[p], add(rows.get(f"total_{p}", sums[p]), term))
    after = named(w, {n: (f"g{s}{tag}n", out[f"g.{n}"]) for n, s in rows.states.items()})
    for name, s in rows.states.items():
        rows.set(f"g{s}", f"g_{s}_in", after[name])
    rows.set("gc", "g_c_in", rows.decayed(found))
    rows.close()
    w.end()
