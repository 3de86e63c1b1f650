"""NVIDIA's run-time compiler, which needs no GPU, on MLX's CUDA kernels as MLX hands them to it.

MLX writes a kernel's signature from the arrays of the launch, puts headers of CUDA above it, and
compiles it for the device's own architecture. It passes no option about contraction and offers
none, so the compiler is free to make one rounding of a product and a sum.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SERVED = sys.platform == "linux" and platform.machine() == "x86_64"
ARCHITECTURE = "sm_90a"  # what MLX asks for on an H100
# What lies above a kernel in MLX: complex numbers, 16-bit types, arrays, limits, groups.
HEADERS = (
    "cuda/std/complex",
    "cuda/std/type_traits",
    "cuda_bf16.h",
    "cuda_fp16.h",
    "cuda/std/array",
    "cuda/std/limits",
    "cuda/std/tuple",
    "cooperative_groups.h",
)
TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16", "bool": "bool"}
UNUSED = "--diag-suppress=177"  # a name that is declared and not read
FUNCTIONS = re.compile(r"SNN_(DIV|EXP|LOG|TANH|ATAN|SQRT)\(")  # their own code multiplies and adds


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel as MLX writes it, its type of data, and the threads of a group."""

    name: str
    text: str
    header: str
    data: str
    group: int

    @property
    def kind(self) -> str:
        """The kernel's name without its digest."""
        return re.findall(r"_snnx_([a-z_]+)_[0-9a-f]{16}_", self.name)[0]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the assembler made: a thread's registers and spilled bytes, the instructions."""

    registers: int
    spilled: int
    code: tuple[str, ...]

    @property
    def fused(self) -> int:
        """How many instructions multiply and add in one rounding."""
        return sum("FFMA" in line for line in self.code)

    @property
    def loads(self) -> tuple[int, int]:
        """How many loads from memory stand before the first store, and how many there are."""
        which = [found[0] for line in self.code if (found := re.findall(r"\b(LDG|STG)\b", line))]
        return which.index("STG"), which.count("LDG")


class CudaLaunches:
    """Stands for MLX's CUDA: notes every kernel that is launched, which then writes zeros."""

    def __init__(self) -> None:
        self.found: dict[str, Launch] = {}

    def cuda_kernel(
        self, name: str, input_names: list[str], output_names: list[str], source: str, header: str
    ) -> Any:
        """Return what launches a kernel, as mx.fast.cuda_kernel does."""
        import mlx.core as mx

        for given in input_names:  # MLX would take the text for a wish, and add a parameter
            assert not re.search(rf"{given}_(shape|strides|ndim)", source), given

        def run(
            inputs: list[Any],
            template: list[tuple[str, Any]],
            grid: tuple[int, ...],
            threadgroup: tuple[int, ...],
            output_shapes: list[Any],
            output_dtypes: list[Any],
        ) -> list[Any]:
            assert len(inputs) == len(input_names)
            assert len(output_shapes) == len(output_dtypes) == len(output_names)
            values = [_type(value) for _, value in template]
            full = "_".join(["custom_kernel", name, *values])
            pairs = zip(input_names, inputs, strict=True)
            parameters = [f"const {_type(a.dtype)}* {n}" for n, a in pairs]
            pairs = zip(output_names, output_dtypes, strict=True)
            parameters += [f"{_type(dtype)}* {n}" for n, dtype in pairs]
            using = [f"using {n} = {v};" for (n, _), v in zip(template, values, strict=True)]
            head = f"__global__ void {full}({', '.join(parameters)}) {{"
            text = "\n".join([head, *using, source, "}"])
            group = max(threadgroup[0], self.found[full].group if full in self.found else 0)
            launch = Launch(full, text, header, values[0], group)
            assert self.found.setdefault(full, launch).text == text, full
            self.found[full] = launch
            return [mx.zeros(s, d) for s, d in zip(output_shapes, output_dtypes, strict=True)]

        return run


def on_cuda(patch: pytest.MonkeyPatch) -> CudaLaunches:
    """Let MLX believe that it has CUDA."""
    import mlx.core as mx

    from snnx_mlx.kernels import launch

    found = CudaLaunches()
    patch.setattr(launch, "target", lambda: "cuda")
    patch.setattr(launch, "kernel", cache(launch.kernel.__wrapped__))
    patch.setattr(mx.fast, "cuda_kernel", found.cuda_kernel)
    return found


def _type(dtype: Any) -> str:
    name = str(dtype).removeprefix("mlx.core.")
    return TYPES.get(name, f"{name}_t")


@cache
def place() -> Path:
    """Return the folder of CUDA's libraries and headers among the installed packages."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec and spec.submodule_search_locations) or ():
        if (Path(root) / "cu13" / "lib" / "libnvrtc.so.13").is_file():
            return Path(root) / "cu13"
    raise RuntimeError("nvidia-cuda-nvrtc is not installed: pip install -e '.[torch,mlx,test]'")


@cache
def _library() -> ctypes.CDLL:
    folder = place() / "lib"
    for part in sorted(folder.glob("libnvrtc-builtins.so.13*")):  # it is looked for by name alone
        ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(folder / "libnvrtc.so.13"))


@cache
def _parsed() -> tuple[Any, list[str]]:
    """Return a folder for the headers as they are parsed once, and the options that say so."""
    folder = tempfile.TemporaryDirectory()
    return folder, ["--pch", f"--pch-dir={folder.name}", "--pch-messages=false"]


def program(launches: Iterable[Launch]) -> str:
    """Return kernels of one header as one file."""
    kernels = list(launches)
    (header,) = {launch.header for launch in kernels}
    includes = "".join(f"#include <{name}>\n" for name in HEADERS)
    texts = "\n\n".join(launch.text for launch in kernels)
    return f"{includes}{header}namespace mlx::core::cu {{\n{texts}\n}}\n"


def cubin(text: str, names: Iterable[str], *options: str) -> tuple[bytes, dict[str, str]]:
    """Return the machine code of a program for an H100, and its names of the kernels.

    Raises: ValueError with what the compiler says, warnings too.
    """
    library, made = _library(), ctypes.c_void_p()
    include = place() / "include"
    given = [
        "--device-as-default-execution-space",
        f"--gpu-architecture={ARCHITECTURE}",
        f"--include-path={include / 'cccl'}",
        f"--include-path={include}",
        UNUSED,
        *_parsed()[1],
        *options,
    ]
    _checked(library.nvrtcCreateProgram(ctypes.byref(made), text.encode(), b"k.cu", 0, None, None))
    wanted = {name: f"mlx::core::cu::{name}".encode() for name in names}
    for spelled in wanted.values():
        _checked(library.nvrtcAddNameExpression(made, spelled))
    words = (ctypes.c_char_p * len(given))(*(word.encode() for word in given))
    failed = library.nvrtcCompileProgram(made, len(given), words)
    said = _read(made, "ProgramLog").rstrip(b"\0").decode()
    if failed or said.strip():
        raise ValueError(said)
    lowered = {}
    for name, spelled in wanted.items():
        found = ctypes.c_char_p()
        _checked(library.nvrtcGetLoweredName(made, spelled, ctypes.byref(found)))
        lowered[(found.value or b"").decode()] = name
    code = _read(made, "CUBIN")
    _checked(library.nvrtcDestroyProgram(ctypes.byref(made)))
    return code, lowered


def _checked(status: int) -> None:
    assert status == 0, f"NVRTC: error {status}"


def _read(made: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _checked(getattr(_library(), f"nvrtcGet{what}Size")(made, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _checked(getattr(_library(), f"nvrtcGet{what}")(made, buffer))
    return buffer.raw


def assembled(launches: Iterable[Launch], folder: Path, *options: str) -> dict[str, Machine]:
    """Return what the assembler made of every kernel, by its name."""
    kernels = list(launches)
    code, names = cubin(program(kernels), [launch.name for launch in kernels], *options)
    file = folder / "kernels.cubin"
    file.write_bytes(code)
    used = _said("-res-usage", file)
    numbers = dict(re.findall(r"Function (\S+):\s+(REG:\d+ STACK:\d+)", used))
    found = {}
    for part in _said("-sass", file).split("Function : ")[1:]:
        name = part.split("\n", 1)[0].strip()
        registers, stack = map(int, re.findall(r"\d+", numbers[name]))
        lines = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", part)
        found[names[name]] = Machine(registers, stack, tuple(lines))
    assert set(found) == {launch.name for launch in kernels}
    return found


def _said(option: str, file: Path) -> str:
    """Return what cuobjdump, which Triton's wheel brings, says of a file."""
    spec = importlib.util.find_spec("triton")
    assert spec is not None, "triton is not installed: pip install -e '.[torch,mlx,test]'"
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, option, file], capture_output=True, text=True, check=True).stdout
