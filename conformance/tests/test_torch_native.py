"""Laws of the PyTorch backend's state and native module: saved, wrapped, in 16 bits, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx.backend import BackendError

torch = pytest.importorskip("torch")

from snnx_torch import backend, from_torch_layout, to_torch_layout  # noqa: E402
from snnx_torch.precision import set_precision  # noqa: E402
from tests.torch_nets import (  # noqa: E402
    SMOOTH,
    Ruled,
    Scaled,
    assert_close,
    batch,
    both,
    net,
    rng,
    session,
    small,
    tiny,
)

pytestmark = pytest.mark.slow


def test_a_loss_that_is_not_finite_leaves_everything() -> None:
    ours = session(tiny(), precision="fp32", optim=snnx.Optim(snnx.Adam()))
    given = batch((4, 4, 1))
    ours.step([given], {"step": 1})
    before = ours.export()
    pending = ours.step([{**given, "x": given["x"] * np.float32(np.nan)}], {"step": 2})
    with pytest.raises(FloatingPointError, match=r"step 2: .* gradient norm nan"):
        ours.read(pending)
    after = ours.export()
    assert after.count == before.count == 1
    for field in ("parameters", "statistics", "moments"):
        for name, array in getattr(before, field).items():
            assert np.array_equal(getattr(after, field)[name], array), name


def test_a_state_dict_is_named_by_path_and_goes_round() -> None:
    made, other = net(small()), net(small())
    names = {p.path for p in made.program.parameters} | {s.path for s in made.program.statistics}
    assert set(made.state_dict()) == names
    assert isinstance(made.get_submodule("5.body.0"), torch.nn.Conv2d)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(torch.rand_like(tensor))
    other.load_state_dict(made.state_dict())
    x = torch.rand(2, 4, 4, 2)
    assert torch.equal(other(x, steps=2)[0], made(x, steps=2)[0])


def test_a_snapshot_goes_round_and_fits_the_reference() -> None:
    reference, ours = both(small())
    ours.step([batch((4, 4, 2))], {})
    reference.load(ours.export())
    other = session(small())
    other.load(reference.export())
    for name, array in ours.export().parameters.items():
        assert np.array_equal(other.export().parameters[name], array), name
    assert other.export().count == 1
    given = batch((4, 4, 2))
    np.testing.assert_allclose(
        other.forward(given, {}, SMOOTH).y, reference.forward(given, {}, SMOOTH).y, atol=1e-9
    )


def test_ddp_wraps_the_net(tmp_path: Any) -> None:
    made = net(tiny()).train()
    url = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=url, rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(made)
        optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.1)
        before = made.get_parameter("1.weight").detach().clone()
        y, _ = wrapped(torch.rand(4, 4, 4, 1), steps=2)
        y.square().sum().backward()
        optimiser.step()
        assert not torch.equal(made.get_parameter("1.weight"), before)
        assert made.get_buffer("2.running_mean").any()
        group = torch.distributed.group.WORLD
        alone = session(tiny(), precision="fp32")
        shared = session(tiny(), precision="fp32", group=group)
        given = batch((4, 4, 1))
        figures = [s.read(s.step([given], {})) for s in (alone, shared)]
        assert figures[1] == figures[0]
        for name, weights in alone.export().parameters.items():
            np.testing.assert_array_equal(shared.export().parameters[name], weights)
    finally:
        torch.distributed.destroy_process_group()


def test_a_users_layer_trains_with_and_without_its_rule() -> None:
    made = [
        session(snnx.Chain(snnx.Input(4), snnx.Linear(5), layer, snnx.Linear(3)))
        for layer in (Scaled(), Ruled())
    ]
    given = batch((4,))
    found, wanted = (s.grads(given, {})[1] for s in made)
    assert np.any(wanted["2.scale"])
    assert_close(found, wanted)


def test_torchs_layout_permutes_what_follows_a_flatten_and_comes_back() -> None:
    model = tiny()
    program = snnx.flatten(model)
    ours = session(model, precision="fp32")
    ours.step([batch((4, 4, 1))], {})
    snapshot = ours.export()
    habit = to_torch_layout(snapshot, program)
    assert habit.parameters["1.weight"].shape == (3, 1, 3, 3)
    x = rng.random((2, 2, 2, 3)).astype(np.float32)
    wanted = x.reshape(2, -1) @ snapshot.parameters["6.weight"].T
    found = x.transpose(0, 3, 1, 2).reshape(2, -1) @ habit.parameters["6.weight"].T
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    back = from_torch_layout(habit, program)
    for field in ("parameters", "statistics", "moments"):
        for name, array in getattr(snapshot, field).items():
            assert np.array_equal(getattr(back, field)[name], array), name


def test_bf16_stores_activations_in_16_bits_and_weights_in_32() -> None:
    made = net(tiny(), precision="bf16").train()
    seen = []
    for name in ("1.weight", "6.weight"):
        seen.append(made.get_parameter(name).dtype)
    y, state = made(torch.rand(4, 4, 4, 1), steps=2)
    assert y.dtype == torch.bfloat16
    assert state["3"][0].dtype == torch.float32
    assert seen == [torch.float32] * 2
    ours = session(tiny(), precision="bf16")
    first = [ours.read(ours.step([batch((4, 4, 1))], {}))["loss"] for _ in range(2)]
    assert np.all(np.isfinite(first))


def test_autocast_runs_the_net_in_16_bits() -> None:
    made = net(small()).train()
    with torch.autocast("cpu", torch.bfloat16):
        y, state = made(torch.rand(4, 4, 4, 2), steps=2)
    assert y.dtype == torch.bfloat16
    assert {v.dtype for k, arrays in state.items() if k != "t" for v in arrays} == {torch.float32}
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in made.parameters())


def test_deterministic_algorithms_hold_for_the_sessions_work_only() -> None:
    ours = session(tiny(), precision="fp32", deterministic=True)
    ours.step([batch((4, 4, 1))], {})
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_precision_that_the_device_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(BackendError, match="no TF32"):
        net(tiny(), precision="tf32")
    with pytest.raises(BackendError, match="precision is one of"):
        net(tiny(), precision="half")
    real = torch.nn.functional.conv2d

    def rounded(x: Any, weight: Any) -> Any:
        return real(x.bfloat16(), weight.bfloat16()).float()

    monkeypatch.setattr(torch.nn.functional, "conv2d", rounded)
    with pytest.raises(BackendError, match="convolution on cpu has fewer bits"):
        set_precision("fp32", torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_device_that_is_absent_is_refused_with_a_remedy() -> None:
    for device in ("cuda", "cuda:3", "mps", "abacus"):
        with pytest.raises(BackendError, match='"cpu"'):
            backend.build(snnx.flatten(tiny()), {}, device=device)
