"""Launches of the shared kernel body by MLX, on Metal or CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import mlx.core as mx

from snnx.emit import Source, Unit, Variant
from snnx.emit.c_text import grouped, header
from snnx.emit.layout import Layout, kinds, shapes, sizes

THREADS = 256  # of a threadgroup
LANE = 2**16  # threads of a backward that sums gradients
VOTERS = 32  # threads whose votes are a word: a warp, a SIMD group
BOUND = 31  # arrays that Metal binds to a kernel
ATTRIBUTE = "// thread_position_in_grid: MLX looks for the name in the body\n"
GROUPED = (
    "// threadgroup_position_in_grid, thread_position_in_threadgroup, threads_per_threadgroup:\n"
    "// MLX looks for the names in the body\n"
)
FORWARD = "snnx_forward_"  # what begins the name of a neuron's forward kernel
TYPES = {"float": mx.float32, "byte": mx.uint8, "uint": mx.uint32, "word32": mx.uint32}
TYPES |= {"vote": mx.uint32}

Target = Literal["metal", "cuda"]


def target() -> Target | None:
    """Return the language of the default device's kernels; None on the CPU."""
    if mx.default_device().type != mx.DeviceType.gpu:
        return None
    if mx.metal.is_available():
        return "metal"
    return "cuda" if mx.cuda.is_available() else None


def body(source: Source, language: Target) -> str:
    """Return the text of a source as MLX wants it.

    Metal's attributes are found by their names. On CUDA MLX does not declare that arrays are apart,
    though it allocates outputs anew: a forward reads its inputs through the read-only cache, so
    that the loads of all steps need not wait for stores. A backward has no registers left for it.
    """
    if language == "metal":
        return (GROUPED if grouped(source) else ATTRIBUTE) + source.text
    if not source.name.startswith(FORWARD):
        return source.text
    names = [*source.names("in"), "sizes"]
    given = "".join(f"const auto snn_{name} = snn_reads({name});\n" for name in names)
    shadows = "".join(f"const auto {name} = snn_{name};\n" for name in names)
    return f"{given}{{\n{shadows}{source.text}}}\n"


@cache
def kernel(source: Source, language: Target) -> Any:
    """Return MLX's kernel of a source; its name is that of the text, so no two share one.

    Raises: ValueError where a kernel has more arrays than Metal binds.
    """
    inputs = [*source.names("in"), "sizes"]
    outputs = list(source.names("out"))
    if language == "metal" and len(inputs) + len(outputs) > BOUND:
        raise ValueError(
            f"{source.name}: reads and writes {len(inputs) + len(outputs)} arrays, and Metal binds "
            f'{BOUND}; give kernels="generic", or let fewer of the neuron\'s numbers learn'
        )
    if language == "metal":
        return mx.fast.metal_kernel(
            name=source.name,
            input_names=inputs,
            output_names=outputs,
            source=body(source, "metal"),
            header=header("metal"),
        )
    return mx.fast.cuda_kernel(
        name=source.name,
        input_names=inputs,
        output_names=outputs,
        source=body(source, "cuda"),
        header=header("cuda"),
    )


def execute(
    source: Source,
    arrays: list[mx.array],
    data: mx.Dtype,
    threads: int,
    outputs: list[tuple[tuple[int, ...], mx.Dtype]],
    group: int = THREADS,
) -> list[mx.array]:
    """Run a kernel of `threads` threads, `group` of them in a group, on the default device."""
    language = target()
    if language is None:
        raise RuntimeError(f"{source.name}: MLX has no kernels on {mx.default_device()}")
    if source.votes:  # by whole warps; threads beyond the last neuron end at once
        threads = -(-threads // VOTERS) * VOTERS
    return kernel(source, language)(
        inputs=arrays,
        template=[("DATA", data), ("WORD", mx.uint32)],
        grid=(threads, 1, 1),
        threadgroup=(min(threads, group), 1, 1),
        output_shapes=[shape for shape, _ in outputs],
        output_dtypes=[dtype for _, dtype in outputs],
    )


def launch(
    source: Source,
    unit: Unit,
    variant: Variant,
    layout: Layout,
    arrays: Mapping[str, mx.array],
    place: tuple[int, int] = (0, 0),
) -> dict[str, mx.array]:
    """Run a kernel; return what it wrote, in flat shapes. `place`: samples and key of draws."""
    kind, data = kinds(source, unit, variant), arrays["x" if "x" in arrays else "g_y"].dtype
    wanted = shapes(source, unit, variant, layout)
    outputs = [
        (shape, data if kind[name] == "data" else TYPES[kind[name]])
        for name, shape in wanted.items()
    ]
    numbers = sizes(source, unit, layout, *place)
    given = [arrays[name].reshape(-1) for name in source.names("in")]
    given.append(mx.array(list(numbers.values()), mx.uint32))
    threads = layout.lane * layout.groups if "lane" in numbers else layout.total
    found = execute(source, given, data, threads, outputs)
    return dict(zip(wanted, found, strict=True))
