"""MLX's CUDA kernels, compiled for an H100 that need not be there: registers, spills, roundings."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from snnx import LIF, BatchNorm, Chain, Conv2d, Flatten, Input, Linear, Recurrent, Residual
from snnx.surrogate import ArcTan
from tests.nvrtc import FUNCTIONS, SERVED, Launch, Machine, assembled

pytestmark = [
    pytest.mark.skipif(not SERVED, reason="NVIDIA's wheels are installed on Linux x86-64 only"),
    pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="mlx is not installed"),
]
DTYPES = ("float32", "float16", "bfloat16")
KINDS = {"forward", "backward", "rate_backward", "recurrent_forward", "recurrent_backward"}
KINDS |= {"pack", "unpack"}
REGISTERS = 65536  # of a multiprocessor, for the threads of one group
RESIDENT = 512  # threads of a recurrent kernel's largest group
SEPARATE = "-fmad=false"  # the compiler's option against contraction, which MLX cannot be given
ARCTAN = LIF(detach_reset=True, surrogate=ArcTan(2.0))


def launched(dtype: str) -> tuple[Launch, ...]:
    from tests.cuda_launches import launched  # needs mlx

    return launched(dtype)


def shortest(launches: Iterable[Launch], key: Callable[[Launch], Hashable]) -> list[Launch]:
    """Return the shortest text of every key."""
    found: dict[Hashable, Launch] = {}
    for launch in launches:
        old = found.setdefault(key(launch), launch)
        if len(launch.text) < len(old.text):
            found[key(launch)] = launch
    return list(found.values())


def arity(launch: Launch) -> Hashable:
    """Return what a kernel is and how many arrays it is given."""
    return launch.kind, launch.text.split("\n", 1)[0].count(",")


def functions(launch: Launch) -> Hashable:
    """Return what a kernel is and which functions it calls."""
    return launch.kind, frozenset(FUNCTIONS.findall(launch.text))


def holds(launches: list[Launch], machines: dict[str, Machine]) -> None:
    """Hold kernels to the registers that there are, and to every rounding that is written."""
    for launch in launches:
        machine = machines[launch.name]
        assert machine.spilled == 0, launch.name
        group = RESIDENT if launch.kind.startswith("recurrent") else launch.group
        assert machine.registers * group <= REGISTERS, launch.name
        if not FUNCTIONS.search(launch.text):
            assert machine.fused == 0, launch.name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_form_of_a_launch_compiles_and_spills_nothing(dtype: str, tmp_path: Path) -> None:
    # loads and stores are all that two types of 16 bits differ in
    chosen = shortest(launched(dtype), arity if dtype != "float16" else lambda a: a.kind)
    assert {launch.kind for launch in chosen} == KINDS
    holds(chosen, assembled(chosen, tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_launch_is_the_same_with_and_without_contraction(dtype: str, tmp_path: Path) -> None:
    every = list(launched(dtype))
    machines = assembled(every, tmp_path)
    holds(every, machines)
    separate = assembled(every, tmp_path, SEPARATE)
    for launch in every:
        assert machines[launch.name].fused == separate[launch.name].fused, launch.name


@pytest.mark.slow
def test_nothing_is_fused_into_a_function(tmp_path: Path) -> None:
    chosen = shortest(filter(lambda a: FUNCTIONS.search(a.text), launched("float32")), functions)
    assert {name for a in chosen for name in FUNCTIONS.findall(a.text)} == set(
        re.findall(r"\w+", FUNCTIONS.pattern.split("(")[1].split(")")[0])
    )
    fused, separate = assembled(chosen, tmp_path), assembled(chosen, tmp_path, SEPARATE)
    for launch in chosen:
        assert fused[launch.name].fused == separate[launch.name].fused > 0, launch.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guarded", "bare", "needle"),
    [
        ("__fmul_rn(a, b)", "((a) * (b))", "SNN_MUL("),
        ("__fadd_rn(expf(a), 0.0f)", "expf(a)", "SNN_EXP("),
    ],
)
def test_without_a_guard_roundings_are_lost(
    guarded: str, bare: str, needle: str, tmp_path: Path
) -> None:
    found = [a for a in launched("float32") if needle in a.text and a.kind == "forward"]
    launch = min(found, key=lambda a: (a.text.count(needle) < 9, len(a.text)))
    assert guarded in launch.header
    naked = replace(launch, header=launch.header.replace(guarded, bare))
    counts = [assembled([a], tmp_path)[launch.name].fused for a in (launch, naked)]
    wanted = assembled([launch], tmp_path, SEPARATE)[launch.name].fused
    assert counts[0] == wanted != counts[1]


@pytest.mark.slow
def test_what_the_compiler_says_is_raised(tmp_path: Path) -> None:
    launch = next(a for a in launched("float32") if a.kind == "pack")
    with pytest.raises(ValueError, match="snnx_missing"):
        assembled([replace(launch, text=launch.text.replace("sizes[0]", "snnx_missing"))], tmp_path)


def convolved(shortcut: str) -> Chain:
    """Return a net with a norm before each neuron: alone, with an addition, with a norm on it."""
    pair = (Conv2d(4, 3, bias=False), BatchNorm())
    skip = Chain(*pair) if shortcut == "norm" else Chain()
    block = (Residual(Chain(*pair), skip), ARCTAN) if shortcut else ()
    return Chain(Input(6, 6, 2), *pair, ARCTAN, *block, Flatten(), Linear(2))


ALONE = Chain(Input(8), Linear(8), ARCTAN, Linear(2))
FED_BACK = Chain(Input(700), Linear(240), Recurrent(ARCTAN), Linear(20))


NETS = [  # a net, its steps, and the most registers that a thread of its kernels may have
    (ALONE, 4, 32),
    (ALONE, 16, 64),
    (ALONE, 32, 96),
    (convolved(""), 4, 48),
    (convolved("plain"), 4, 48),
    (convolved("norm"), 4, 64),
    (FED_BACK, 250, 40),
]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_registers_leave_room_to_hide_loads(dtype: str, tmp_path: Path) -> None:
    from tests.cuda_launches import trained

    each = [(trained(net, dtype, steps), most) for net, steps, most in NETS]
    every = list({launch.name: launch for launches, _ in each for launch in launches}.values())
    machines = assembled(every, tmp_path)
    holds(every, machines)
    for launches, most in each:
        used = {a.name: machines[a.name].registers for a in launches}
        assert {a.kind for a in launches} > {"unpack"}
        assert max(used.values()) <= most, used


def alone(dtype: str, steps: int) -> list[Launch]:
    """Return the forward and the backward of a neuron by itself."""
    import mlx.core as mx

    from snnx_mlx.kernels.neuron import neuron
    from tests.cuda_launches import noted

    def rule(x: mx.array) -> mx.array:
        return neuron({"x": x}, {"neuron": ARCTAN, "hand_over": False})["y"].sum()

    with noted() as found:
        mx.eval(mx.grad(rule)(mx.zeros((steps, 2, 7), getattr(mx, dtype))))
    return sorted(found.values(), key=lambda a: a.kind)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_forward_loads_all_its_steps_before_it_stores(dtype: str, tmp_path: Path) -> None:
    backward, forward = alone(dtype, 4)
    assert (backward.kind, forward.kind) == ("backward", "forward")
    bare = replace(forward, header=forward.header.replace("__ldg(array + i)", "array[i]"))
    assert bare != forward
    machine = assembled([forward], tmp_path)[forward.name]
    assert machine.loads == (5, 5)  # how many neurons, and the four steps
    assert machine.registers <= 32
    assert machine.spilled == 0
    first, every = assembled([bare], tmp_path)[bare.name].loads
    assert first < every == 5  # what a store may change is loaded behind it
    assert "snn_reads" not in backward.text  # it has no registers left


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forwards_of_nets_load_all_four_steps_before_they_store(dtype: str, tmp_path: Path) -> None:
    from tests.cuda_launches import trained

    for net in (convolved(""), convolved("plain"), convolved("norm")):
        forwards = [a for a in trained(net, dtype, 4) if a.kind == "forward"]
        assert forwards
        for machine in assembled(forwards, tmp_path).values():
            first, every = machine.loads
            assert first == every > 4
            assert machine.registers <= 32
