"""The shared kernel body on the CPU: compiled by g++ once per text and process, called on tensors.

What is compiled lies in a folder of this process alone and goes with it. Large steps are split
over torch's number of threads; every neuron's bits are the same whoever computes them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnx.emit import Source, Unit, Variant
from snnx.emit.c_text import cpp_name, cpp_program
from snnx.emit.layout import Layout, kinds, shapes, sizes, widest

FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-std=c++17")
SPLIT = 2**15  # threads of a kernel below which one of the machine does them all
_DATA = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat"}
_TYPES = {"float": torch.float32, "byte": torch.uint8, "uint": torch.int32, "vote": torch.int32}
_TYPES |= {"word8": torch.uint8, "word16": torch.int16, "word32": torch.int32}


@cache
def compiler() -> str | None:
    """Return the path of g++, None where there is none."""
    return shutil.which("g++")


@cache
def _native(found: str) -> tuple[str, ...]:
    """Return the flag for this machine's own vector instructions, where the compiler has it.

    They change no bit: contraction stays off, and every instruction is IEEE's.
    """
    command = [found, "-march=native", "-x", "c++", "-fsyntax-only", os.devnull]
    done = subprocess.run(command, capture_output=True, check=False)
    return () if done.returncode else ("-march=native",)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="snnx-kernels-")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@cache
def function(source: Source, data: str, word: int) -> Any:
    """Return the compiled function of a source.

    Raises: RuntimeError with what g++ said.
    """
    found = compiler()
    if found is None:
        raise RuntimeError(f"{source.name}: g++ is not on PATH")
    name = f"{cpp_name(source, data)}_{word}"
    text = Path(_folder().name) / f"{name}.cpp"
    text.write_text(cpp_program([(source, data, word)]))
    library = text.with_suffix(".so")
    command = [found, *FLAGS, *_native(found), "-fPIC", "-shared", str(text), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.name}: g++ failed: {done.stderr[:1000]}")
    run = getattr(ctypes.CDLL(str(library)), cpp_name(source, data))
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    run.restype = None
    return run


def summing(unit: Unit, layout: Layout, size: int) -> Layout:
    """Return the lanes of a backward that sums: a thread of the kernel owns one neuron."""
    return layout.lanes(widest(unit), layout.total, 1)


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel with all that the shapes of its arrays decide; called with arrays, it runs.

    outputs: name, flat shape and dtype of each array that it writes; order: name of each array that
    it takes, with its dtype where it is given.
    """

    source: Source
    data: str
    word: int
    outputs: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    order: tuple[tuple[str, torch.dtype | None], ...]
    numbers: Any
    threads: int

    def __call__(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the kernel on arrays by name; return what it wrote, in flat shapes."""
        outputs = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in self.outputs}
        every = [
            outputs[name] if dtype is None else arrays[name].to(dtype).contiguous()
            for name, dtype in self.order
        ]
        pointers = (ctypes.c_void_p * len(every))(*(a.data_ptr() for a in every))
        run = function(self.source, self.data, self.word)
        _split(run, pointers, self.numbers, self.threads, SPLIT)
        return outputs


def launch(
    source: Source,
    unit: Unit,
    variant: Variant,
    layout: Layout,
    data: torch.dtype,
    size: int,
    samples: int = 0,
    key: int = 0,
) -> Launch:
    """Return the launch of a kernel on arrays of a layout."""
    kind = kinds(source, unit, variant)
    types = {name: data if k == "data" else _TYPES[k] for name, k in kind.items()}
    written = shapes(source, unit, variant, layout)
    outputs = tuple((name, shape, types[name]) for name, shape in written.items())
    order = tuple((name, None if name in written else types[name]) for name in kind)
    numbers = sizes(source, unit, layout, samples, key)
    threads = layout.lane * layout.groups if "lane" in numbers else layout.total
    word = int(kind.get("bits", "word32")[4:])
    return Launch(source, _DATA[data], word, outputs, order, _whole(numbers), threads)


def _whole(numbers: Mapping[str, int]) -> Any:
    """Return whole numbers as a kernel reads them."""
    return (ctypes.c_uint32 * max(len(numbers), 1))(*numbers.values())


def call(
    source: Source,
    data: torch.dtype,
    word: int,
    arrays: Mapping[str, Tensor],
    numbers: Mapping[str, int],
    threads: int,
    split: int = SPLIT,
) -> None:
    """Run so many threads of a kernel on contiguous arrays by name."""
    every = [arrays[a.name] for a in source.arguments if a.role != "size"]
    pointers = (ctypes.c_void_p * len(every))(*(a.data_ptr() for a in every))
    run = function(source, _DATA[data], word)
    _split(run, pointers, _whole(numbers), threads, split)


def _split(run: Any, pointers: Any, numbers: Any, threads: int, split: int) -> None:
    workers = min(torch.get_num_threads(), max(threads // split, 1))
    if workers == 1:
        run(pointers, numbers, 0, threads)
        return
    bounds = [min(-(-threads * i // (32 * workers)) * 32, threads) for i in range(workers + 1)]
    done = [
        _pool(workers).submit(run, pointers, numbers, first, last)
        for first, last in pairwise(bounds)
    ]
    for each in done:
        each.result()
