"""Philox4x32-10 as kernel text, bit for bit that of `snnx.random`: one neuron's uniform draw."""

from __future__ import annotations

from snnx.random import KEY_STEPS, MULTIPLIERS, ROUNDS

_MASK = 0xFFFFFFFF


def _rounds(high: str, suffix: str, end: str) -> list[str]:
    """Return the rounds as assignments; `high` is the upper word of a product."""
    rows = []
    for i in range(ROUNDS):
        keys = [f"0x{step * i & _MASK:08X}{suffix}" for step in KEY_STEPS]
        m0, m1 = (f"0x{m:08X}{suffix}" for m in MULTIPLIERS)
        rows += [
            f"h0 = {high}(c0, {m0}){end}",
            f"l0 = c0 * {m0}{end}",
            f"h1 = {high}(c2, {m1}){end}",
            f"l1 = c2 * {m1}{end}",
            f"c0 = h1 ^ c1 ^ (k0 + {keys[0]}){end}",
            f"c2 = h0 ^ c3 ^ (k1 + {keys[1]}){end}",
            f"c1 = l1{end}",
            f"c3 = l0{end}",
        ]
    return rows


def triton_draw() -> str:
    """Return the Triton function snn_draw(count, sample, time, element, seed, key) -> [0, 1)."""
    rows = [
        "@triton.jit",
        "def snn_draw(count, sample, time, element, k0, k1):",
        "c3 = element >> 2",
        "c0 = count + c3 * 0",  # every word has the shape of the block
        "c1 = sample + c3 * 0",
        "c2 = time + c3 * 0",
        *_rounds("tl.umulhi", "", ""),
        "lane = element & 3",
        "word = tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))",
        "return (word >> 8).to(tl.float32) * 5.9604644775390625e-08",
    ]
    return "\n".join([*rows[:2], *(f"    {row}" for row in rows[2:])])


def c_draw() -> str:
    """Return the function of the shared body; SNN_HIGH is the upper word of a product."""
    rows = [
        "SNN_DEVICE inline float snn_draw("
        "uint count, uint sample, uint time, uint element, uint k0, uint k1) {",
        "uint c0 = count, c1 = sample, c2 = time, c3 = element >> 2, h0, h1, l0, l1;",
        *_rounds("SNN_HIGH", "u", ";"),
        "uint lane = element & 3u;",
        "uint word = lane < 2u ? (lane == 0u ? c0 : c1) : (lane == 2u ? c2 : c3);",
        "return (float)(word >> 8) * 5.9604644775390625e-08f;",
    ]
    return "\n".join([rows[0], *(f"    {row}" for row in rows[1:]), "}"])
