"""MLX's recurrent kernels with g++ in the place of Metal: the rule and its custom gradient."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snnx import LIF, Learned, Rectangular, Triangular
from snnx.backend import load_backend
from snnx.ops import OPS
from tests.mlx_host import INSTALLED, HostKernels, on_host
from tests.own_neurons import OWN
from tests.test_emit_cpp import outcome

pytestmark = pytest.mark.skipif(not INSTALLED, reason="mlx is not installed, or g++ not on PATH")
LEARNED = LIF(
    decay=Learned(0.7, "channel", transform="logit"),
    threshold=Learned(0.9),
    surrogate=Triangular(Learned(0.7, transform="log")),
)


@pytest.fixture(params=["a thread a unit", "several units a thread"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> HostKernels:
    """Let MLX's kernels run on the host, in either form."""
    kernels = on_host(monkeypatch)
    if request.param != "a thread a unit":
        module = importlib.import_module("snnx_mlx.kernels.recurrent")  # not its function
        monkeypatch.setattr(module, "RESIDENT", 1)
        monkeypatch.setattr(module, "THREADS", 4)
    return kernels


def case(
    neuron: Any, shape: tuple[int, int, int], grid: int = 0, scale: float = 1.0
) -> dict[str, Any]:
    """Return the inputs of a layer [T, N, F] with a learned synapse and given states."""
    import mlx.core as mx

    rng, units = np.random.default_rng(6), shape[-1]

    def drawn(*size: int) -> Any:
        values = rng.standard_normal(size)
        return mx.array((np.round(values * grid) / grid if grid else values).astype(np.float32))

    found = {"x": 0.4 + drawn(*shape), "feedback": scale * drawn(units, units)}
    found["synapse_decay"] = mx.full((units,), 0.5)
    for state in ("c", "y", *neuron.states):
        values = drawn(*shape[1:])
        found[f"state.{state}"] = (values > 0.8).astype(mx.float32) if state == "y" else values
    for name, scalar in neuron.scalars().items():
        if isinstance(scalar, Learned):
            size = () if scalar.share == "layer" else (units,)
            found[f"p.{name}"] = mx.full(size, float(scalar.init))
    return found


def pulled(rule: Any, inputs: dict[str, Any], attributes: dict[str, Any]) -> tuple[Any, Any]:
    """Return the outputs of a rule and the gradients of all its inputs but a mask."""
    import mlx.core as mx

    names = [n for n in inputs if n != "mask"]
    seen: list[str] = []

    def run(*arrays: mx.array) -> list[mx.array]:
        out = rule({**inputs, **dict(zip(names, arrays, strict=True))}, attributes)
        seen[:] = list(out)
        return list(out.values())

    arrays = [inputs[n] for n in names]
    rng = np.random.default_rng(3)
    shapes = [(y.shape, y.dtype) for y in run(*arrays)]
    weights = [
        mx.array((np.round(rng.standard_normal(s) * 4) / 4).astype(np.float32)).astype(d)
        for s, d in shapes
    ]
    outputs, gradients = mx.vjp(run, arrays, weights)
    return dict(zip(seen, outputs, strict=True)), dict(zip(names, gradients, strict=True))


def both(host: HostKernels, inputs: dict[str, Any], attributes: dict[str, Any]) -> list[Any]:
    """Return outputs and gradients of the generic rule and of the kernels."""
    from snnx_mlx.kernels import recurrent

    generic = pulled(recurrent, inputs, {**attributes, "implementation": "generic"})
    if host.library is None:
        pulled(recurrent, inputs, attributes)
        host.compile()
    before = host.launches
    fast = pulled(recurrent, inputs, attributes)
    assert host.launches == before + 3  # the forward once for its shapes, then both
    return [generic, fast]


def same(a: Any, b: Any) -> bool:
    """Return whether two arrays hold the same numbers."""
    return bool(np.array_equal(np.array(a.astype(a.dtype)), np.array(b)))


def test_dyadic_inputs_are_bit_equal_to_the_generic_rule(host):
    neuron = LIF(decay=0.5, detach_reset=True, surrogate=Rectangular(0.5))
    (generic, g_generic), (fast, g_fast) = both(
        host, case(neuron, (5, 3, 11), grid=2), {"neuron": neuron, "observe": True}
    )
    assert 0.05 < np.array(generic["y"]).mean() < 0.9
    assert list(fast) == ["y", "spike", "potential", "state.c", "state.y", "state.v"]
    for name, value in generic.items():
        assert same(fast[name], value), name
    for name, g in g_generic.items():
        assert np.any(np.array(g) != 0), name
        assert same(g_fast[name], g), name


@pytest.mark.parametrize("fire", ["spike", "mixed"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sequences_longer_than_a_word(host, dtype, fire):
    import mlx.core as mx

    inputs = case(LEARNED, (70, 3, 13), scale=0.1)
    inputs["x"] = inputs["x"].astype(getattr(mx, dtype))
    if fire == "mixed":
        inputs["mask"] = mx.array(np.random.default_rng(2).uniform(size=(70, 3, 13))) < 0.3
    (generic, g_generic), (fast, g_fast) = both(host, inputs, {"neuron": LEARNED, "fire": fire})
    near = 2e-2 if dtype == "bfloat16" else 2e-5
    for name, value in generic.items():
        wanted, found = (np.array(a.astype(mx.float32)) for a in (value, fast[name]))
        assert fast[name].dtype == value.dtype
        np.testing.assert_allclose(found, wanted, rtol=near, atol=near, err_msg=name)
    if fire == "spike":
        assert 0.05 < generic["y"].astype(mx.float32).mean().item() < 0.9
        assert mx.array_equal(fast["y"], generic["y"])
    for name, g in g_generic.items():
        assert g_fast[name].dtype == g.dtype
        wanted, found = (np.array(a.astype(mx.float32)) for a in (g, g_fast[name]))
        assert np.abs(found - wanted).max() <= near * np.abs(wanted).max(), name


def test_states_are_handed_over_bit_for_bit(host):
    import mlx.core as mx

    from snnx_mlx.kernels import recurrent

    neuron = OWN["adaptive"]
    inputs = case(neuron, (20, 2, 9), scale=0.1)
    attributes, x = {"neuron": neuron}, inputs["x"]
    for noted in (True, False):
        whole = recurrent(inputs, attributes)
        first = recurrent({**inputs, "x": x[:7]}, attributes)
        handed = {n: a for n, a in first.items() if n.startswith("state.")}
        second = recurrent({**inputs, **handed, "x": x[7:]}, attributes)
        if noted:
            host.compile()
    assert same(mx.concatenate([first["y"], second["y"]]), whole["y"])
    assert 0.05 < np.array(whole["y"]).mean() < 0.9
    for name in ("state.c", "state.y", "state.v", "state.a"):
        assert same(second[name], whole[name]), name


def test_a_static_input_and_a_rest_are_the_repeated_input_and_zeros(host):
    import mlx.core as mx

    from snnx_mlx.kernels import recurrent

    given = case(LEARNED, (1, 3, 7), scale=0.3)
    given = {n: a for n, a in given.items() if not n.startswith("state.")}
    attributes = {"neuron": LEARNED, "steps": 6}
    (generic, g_generic), (fast, g_fast) = both(host, given, attributes)
    assert mx.array_equal(fast["y"], generic["y"])
    assert 0.05 < np.array(generic["y"]).mean() < 0.9
    for name, g in g_generic.items():
        np.testing.assert_allclose(g_fast[name], g, rtol=2e-5, atol=2e-5, err_msg=name)
    # one state given, the others at rest
    alone = {**given, "state.v": mx.full((3, 7), 0.5)}
    host.library = None
    recurrent(alone, attributes)
    host.compile()
    wanted = recurrent(alone, {**attributes, "implementation": "generic"})
    assert mx.array_equal(recurrent(alone, attributes)["y"], wanted["y"])
    assert not mx.array_equal(wanted["y"], generic["y"])


@pytest.mark.parametrize("kind", ["forward", "backward"])
@pytest.mark.parametrize("which", [-1, -2])
def test_a_missing_barrier_is_seen(host, which, kind):
    """Without either barrier of a step, threads read what is old or not there."""
    neuron = LIF(decay=0.5, detach_reset=True)
    inputs, attributes = case(neuron, (5, 3, 11), grid=2), {"neuron": neuron}
    both(host, inputs, attributes)

    def broken(source: Any) -> Any:
        if kind not in source.name:
            return source
        parts = source.text.split("SNN_BARRIER;")
        assert len(parts) >= 3
        at = len(parts) - 1 if which == -1 else len(parts) - 2
        text = "SNN_BARRIER;".join(parts[:at]) + "SNN_BARRIER;".join(parts[at:])
        return replace(source, text=text)

    host.sources = {(broken(s), data, word): None for s, data, word in host.sources}
    host.compile()
    (generic, g_generic), (fast, g_fast) = both(host, inputs, attributes)
    equal = [same(fast[n], v) for n, v in generic.items()]
    equal += [same(g_fast[n], v) for n, v in g_generic.items()]
    assert not all(equal)


def test_the_kernels_stand_inside_a_compiled_step(host):
    """Noted kernels give zeros: what is tested is that MLX can trace forward and backward."""
    import mlx.core as mx

    from snnx_mlx.kernels import recurrent

    inputs = case(LEARNED, (5, 2, 4))
    names = list(inputs)

    def loss(*arrays: mx.array) -> mx.array:
        out = recurrent(dict(zip(names, arrays, strict=True)), {"neuron": LEARNED})
        return mx.sum(out["y"]) + mx.sum(out["state.c"])

    step = mx.compile(mx.value_and_grad(loss, argnums=tuple(range(len(names)))))
    value, gradients = step(*inputs.values())
    assert value.shape == ()
    assert [g.shape for g in gradients] == [a.shape for a in inputs.values()]
    assert len(host.sources) == 2


@pytest.mark.parametrize("sample", list(OPS["recurrent"].samples())[::4], ids=lambda s: s.name)
def test_samples_agree_with_the_reference(host, sample):
    backend, op = load_backend("mlx"), OPS["recurrent"]
    outcome(backend, op, sample, "float32")
    host.compile()
    found = outcome(backend, op, sample, "float32")
    assert found.passed, found.message
    assert host.launches >= 2


def test_the_bits_are_those_of_torchs_kernels_by_gxx(host):
    """Threads of a group add in the order of k, as one thread does that owns a whole row."""
    torch = pytest.importorskip("torch")
    torch_rule = importlib.import_module("snnx_torch.kernels.recurrent").recurrent
    inputs, attributes = case(LEARNED, (40, 3, 13), scale=0.1), {"neuron": LEARNED}
    _, (fast, g_fast) = both(host, inputs, attributes)
    tensors = {n: torch.tensor(np.array(a)).requires_grad_() for n, a in inputs.items()}
    out = torch_rule(tensors, {**attributes, "implementation": "cpp"})
    rng = np.random.default_rng(3)
    weights = [(np.round(rng.standard_normal(y.shape) * 4) / 4) for y in out.values()]
    wanted = [torch.tensor(w.astype(np.float32)) for w in weights]
    torch.autograd.backward(list(out.values()), wanted)
    assert 0.05 < np.array(fast["y"]).mean() < 0.9
    for name, value in out.items():
        assert np.array_equal(np.array(fast[name]), value.detach().numpy()), name
    for name in ("x", "state.c", "state.v"):  # others are sums or products outside the kernel
        assert np.array_equal(np.array(g_fast[name]), tensors[name].grad.numpy()), name
