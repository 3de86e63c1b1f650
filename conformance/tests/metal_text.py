"""The Metal text of a kernel as libclang can parse it: MLX's signature, address spaces, stubs."""

from __future__ import annotations

from typing import Any

from snnx.emit import Source
from snnx.emit.c_text import grouped, header

# What Metal has built in, as far as the shared body uses it.
_LANGUAGE = """\
typedef unsigned int uint;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long size_t;
typedef _Float16 half;
typedef __bf16 bfloat16_t;
struct uint3 { uint x, y, z; };
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup static __attribute__((address_space(3)))
namespace metal {
enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
uint mulhi(uint, uint);
float fma(float, float, float);
struct simd_vote {
    typedef unsigned long vote_t;
    explicit operator vote_t() const;
};
simd_vote simd_ballot(bool);
namespace precise {
float exp(float); float log(float); float tanh(float); float atan(float); float sqrt(float);
}
}
"""
_TYPES = {"data": "DATA", "float": "float", "byte": "uint8_t", "word": "WORD", "uint": "uint"}
_TYPES |= {"vote": "uint"}


def names(source: Source) -> str:
    """Return the text in which MLX looks for the names of attributes: never the header."""
    from snnx_mlx.kernels.launch import body

    return body(source, "metal")


def program(source: Source, data: str, word: int = 32) -> str:
    """Return the kernel as MLX writes it around the body; small arrays lie in constant memory."""
    arrays = [a for a in source.arguments if a.role != "size"]
    given = [
        f"const {'constant' if a.kind == 'uint' else 'device'} {_TYPES[a.kind]}* {a.name}"
        if a.role == "in"
        else f"device {_TYPES[a.kind]}* {a.name}"
        for a in arrays
    ]
    places = ["thread_position_in_grid"]
    if grouped(source):
        places = ["threadgroup_position_in_grid", "thread_position_in_threadgroup"]
        places += ["threads_per_threadgroup"]
    attributes = [f"uint3 {place}" for place in places if place in names(source)]
    signature = ", ".join([*given, "const constant uint* sizes", *attributes])
    types = f"typedef {data} DATA;\ntypedef uint{word}_t WORD;\n"
    return (
        f"{_LANGUAGE}{header('metal')}{types}void {source.name}({signature}) {{\n{source.text}}}\n"
    )


def complaints(text: str) -> list[str]:
    """Return what clang finds wrong with the text."""
    import clang.cindex as clang  # type: ignore[import-not-found]

    options = [
        "-std=c++17",
        "-nostdinc",
        "-Wdouble-promotion",
        "-Wconversion",
        "-Wno-unknown-pragmas",
    ]
    unit: Any = clang.Index.create().parse(
        "kernel.cpp", args=options, unsaved_files=[("kernel.cpp", text)]
    )
    return [f"{d.location.line}: {d.spelling}" for d in unit.diagnostics if d.severity >= 2]
