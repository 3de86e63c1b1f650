"""The shared kernel body compiled by g++ and called on NumPy arrays: a backend for the suite's ops.

All kernels of a test are compiled as one program; a loop stands for the grid.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from snnx.emit import (
    Rule,
    Source,
    Unit,
    Variant,
    backward,
    chunk_of,
    forward,
    rate_backward,
    rate_forward,
    unit,
)
from snnx.emit.c_text import CWriter, cpp_name, cpp_program
from snnx.emit.layout import Layout, finished, kinds, partials, shapes, sizes, widest

FLAGS = ("-O2", "-ffp-contract=off", "-fno-math-errno", "-std=c++17", "-fPIC", "-shared")
DATA = {"float32": "float", "float16": "half", "bfloat16": "bfloat"}
TYPES = {
    "float": np.float32,
    "byte": np.uint8,
    "uint": np.uint32,
    "vote": np.uint32,
    "word8": np.uint8,
    "word16": np.uint16,
    "word32": np.uint32,
}


def stored(array: Any, dtype: str) -> np.ndarray:
    """Return an array in the memory format of a dtype; bfloat16 as its 16 bits."""
    array = np.asarray(array, np.float32)
    if dtype == "bfloat16":
        raw = array.view(np.uint32)
        return ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16).astype(np.uint16)
    return array.astype(dtype)


def read(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return what `stored` made, as float32."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


@dataclass(frozen=True)
class Job:
    """The kernels of one call of the op "neuron"."""

    unit: Unit
    variant: Variant
    forward: Source
    backward: Source

    @property
    def word(self) -> int:
        """Width of the words of bits."""
        return int(kinds(self.forward, self.unit, self.variant).get("bits", "word32")[4:])


def job(
    attributes: Mapping[str, Any],
    names: Iterable[str],
    steps: int,
    keep: str = "",
    chunk: int = 0,
    witness: bool = False,
    drawn: bool = False,
) -> Job:
    """Return the kernels for the inputs of these names; x has `steps` steps."""
    fire = attributes.get("fire", "spike")
    of = unit(attributes["neuron"], fire, attributes.get("observe", False))
    keep = keep or ("bits" if of.bits is not None else "input")
    total = attributes.get("steps", steps)
    variant = Variant(
        total,
        steps < total,
        tuple(n for n in of.states if n in set(names)),
        "drawn" if drawn else {"mixed": "mask", "imposed": "spike"}.get(fire, ""),  # type: ignore
        keep,  # type: ignore[arg-type]
        True,
        chunk or chunk_of(total, keep, len(of.states), of.bits.count if of.bits else 0),
        witness,
    )
    plain = replace(variant, witness=False)
    return Job(of, variant, forward(of, plain, CWriter), backward(of, variant, CWriter))


class CppKernels:
    """A backend that has the op "neuron" only. `keep` and `chunk` choose its kernels."""

    name = "cpp"

    def __init__(self, keep: str = "", chunk: int = 0) -> None:
        self.keep, self.chunk = keep, chunk
        self.witness = self.drawn = False
        self.sources: dict[tuple[Source, str, int], None] = {}
        self.library: Any = None

    def prepare(self, inputs: Mapping[str, Any], attributes: Mapping[str, Any], dtype: str) -> Job:
        """Return the kernels of a sample, and have them compiled with the others."""
        ways = (self.keep, self.chunk, self.witness, self.drawn)
        made = job(attributes, inputs, inputs["x"].shape[0], *ways)
        for source in (made.forward, made.backward):
            self.sources[(source, DATA[dtype], made.word)] = None
        return made

    def compile(self) -> None:
        """Compile what was prepared."""
        self.library = build(cpp_program(self.sources))

    def call(
        self,
        source: Source,
        made: Job,
        layout: Layout,
        dtype: str,
        arrays: Mapping[str, np.ndarray],
        samples: int = 0,
        key: int = 0,
    ) -> dict[str, np.ndarray]:
        """Run a kernel; return the arrays that it wrote, flat. What it leaves out stays NaN."""
        kind = kinds(source, made.unit, made.variant)
        found: dict[str, np.ndarray] = {}
        for name, shape in shapes(source, made.unit, made.variant, layout).items():
            if kind[name] == "data":
                found[name] = stored(np.full(shape, np.nan), dtype)
            elif kind[name] == "float":
                found[name] = np.full(shape, np.nan, np.float32)
            else:
                found[name] = np.full(shape, 0xA5, TYPES[kind[name]])
        given: dict[str, np.ndarray] = {}
        for name in source.names("in"):
            array = arrays[name]
            if array.dtype == np.float64:
                array = stored(array, dtype) if kind[name] == "data" else array
            wanted = array.dtype if kind[name] == "data" else TYPES[kind[name]]
            given[name] = np.ascontiguousarray(array.astype(wanted))
        every = [(given | found)[n] for n in source.names("in", "out")]
        pointers = (ctypes.c_void_p * len(every))(*(a.ctypes.data for a in every))
        whole = sizes(source, made.unit, layout, samples, key)
        numbers = (ctypes.c_uint32 * max(len(whole), 1))(*whole.values())
        threads = layout.lane * layout.groups if "lane" in whole else layout.total
        run = getattr(self.library, cpp_name(source, DATA[dtype]))
        run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        run(pointers, numbers, 0, threads)
        return found

    def layout(self, made: Job, shape: tuple[int, ...]) -> Layout:
        """Return how a forward deals out the neurons of a step."""
        return Layout.of(shape)

    def arrays(
        self, made: Job, inputs: Mapping[str, Any], attributes: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Return the inputs of an op under the names of a kernel's arguments."""
        found = {"x": np.asarray(inputs["x"], np.float64)}
        for i, state in enumerate(made.unit.states):
            if state in inputs:
                found[f"s{i}_in"] = np.asarray(inputs[state])
        for i, number in enumerate(made.unit.numbers):
            found[f"p{i}_at"] = np.asarray(inputs[number.name])
        for name, argument in (("mask", "mask"), ("spike", "imposed")):
            if name in inputs:
                found[argument] = np.asarray(inputs[name])
        if "weights" in made.forward.names("in") or "weights" in made.backward.names("in"):
            last, decay = made.variant.steps - 1, attributes["neuron"].decay
            powers = np.array([decay ** (last - t) for t in range(last + 1)], np.float32)
            found["weights"] = powers / powers.sum()
        return found

    def run(
        self, op: Any, inputs: Mapping[str, Any], attributes: Mapping[str, Any], dtype: str
    ) -> dict[str, np.ndarray]:
        """Return the op's outputs."""
        made = self.prepare(inputs, attributes, dtype)
        shape = inputs["x"].shape[1:]
        arrays = self.arrays(made, inputs, attributes)
        found = self.call(made.forward, made, self.layout(made, shape), dtype, arrays)
        outputs = {"y": read(found["y"], dtype).reshape(-1, *shape)}
        for i, state in enumerate(made.unit.states):
            outputs[state] = found[f"s{i}_out"].reshape(shape)
        return {k: v.astype(np.float64) for k, v in outputs.items()}

    def vjp(
        self,
        op: Any,
        inputs: Mapping[str, Any],
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Mapping[str, Any],
    ) -> dict[str, np.ndarray]:
        """Return the gradients of the inputs, the given states and the learned numbers."""
        made = self.prepare(inputs, attributes, dtype)
        shape = inputs["x"].shape[1:]
        layout = Layout.of(shape).lanes(widest(made.unit), 4, 2)
        arrays = self.arrays(made, inputs, attributes)
        kept = self.call(made.forward, made, layout, dtype, arrays)
        arrays |= {n: kept[n] for n in ("bits", "checkpoints") if n in kept}
        arrays["g_y"] = np.asarray(cotangents["y"], np.float64)
        for i, state in enumerate(made.unit.states):
            arrays[f"g_s{i}_out"] = np.asarray(cotangents[state])
        got = self.call(made.backward, made, layout, dtype, arrays)
        found = {"x": read(got["g_x"], dtype).reshape(-1, *shape)}
        for i, state in enumerate(made.unit.states):
            if state in inputs:
                found[state] = got[f"g_s{i}_in"].reshape(shape)
        for name, (partial, share) in partials(made.unit).items():
            found[name] = finished(got[partial], share, layout).reshape(inputs[name].shape)
        if "witness" in got:
            found["witness"] = got["witness"].reshape(-1, *shape)
        return {k: v.astype(np.float64) for k, v in found.items()}


class CppRates(CppKernels):
    """A backend that has the op "rate_neuron" only."""

    def prepare(self, inputs: Mapping[str, Any], attributes: Mapping[str, Any], dtype: str) -> Job:
        of = unit(attributes["neuron"])
        steps = attributes.get("steps", inputs["x"].shape[0])
        static = inputs["x"].shape[0] < steps
        chunk = self.chunk or chunk_of(steps, "", 1, 0)
        variant = Variant(steps, static, chunk=chunk)
        constant = None if "p.threshold" in inputs else attributes["neuron"].threshold
        rule = Rule(attributes["kind"], attributes["dt"], attributes["tau"], constant)
        sources = rate_forward(of, variant, rule, CWriter), rate_backward(variant, rule, CWriter)
        for source in sources:
            self.sources[(source, DATA[dtype], 32)] = None
        return Job(of, variant, *sources)

    def layout(self, made: Job, shape: tuple[int, ...]) -> Layout:
        return Layout.of(shape).coding(widest(made.unit))

    def vjp(
        self,
        op: Any,
        inputs: Mapping[str, Any],
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Mapping[str, Any],
    ) -> dict[str, np.ndarray]:
        """Return the gradients of the input and of a learned threshold."""
        made = self.prepare(inputs, attributes, dtype)
        shape, steps = inputs["x"].shape[1:], made.variant.steps
        arrays = self.arrays(made, inputs, attributes)
        kept = self.call(made.forward, made, self.layout(made, shape), dtype, arrays)
        layout = Layout.of(shape).lanes("layer", 4, 2)
        arrays |= {"code": kept["code"], "g_y": np.asarray(cotangents["y"], np.float64)}
        got = self.call(made.backward, made, layout, dtype, arrays)
        g_x = read(got["g_x"], dtype).reshape(1, *shape)
        found = {"x": g_x if made.variant.static else np.repeat(g_x, steps, 0)}
        if "p.threshold" in inputs:
            found["p.threshold"] = attributes["kappa"] * got["partial_p0"].sum()
        return {k: np.asarray(v, np.float64) for k, v in found.items()}


def build(text: str) -> Any:
    """Compile a C++ file and load it."""
    folder = Path(tempfile.gettempdir()) / "snnx-emit"
    folder.mkdir(exist_ok=True)
    stem = folder / hashlib.sha256((text + " ".join(FLAGS)).encode()).hexdigest()[:24]
    library = stem.with_suffix(".so")
    if not library.exists():
        source = stem.with_suffix(".cpp")
        source.write_text(text)
        made = library.with_suffix(f".{id(text)}")
        command = ["g++", *FLAGS, "-Wall", "-Wextra", "-Wdouble-promotion", "-Wno-unused"]
        command += ["-Werror", str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        made.rename(library)
    return ctypes.CDLL(str(library))
