"""ASGL: its two ends are the spiking and the smooth network; schedule, widths, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.backend import load_backend
from snnx.cli import main
from snnx.methods import METHODS
from snnx.methods.asgl import ASGLMethod
from snnx.methods.method import applied
from snnx.mode import EVAL, Mode, train_mode
from snnx.program import flatten
from snnx.random import uniform
from snnx.training.rundir import RunDir

BACKENDS = ("numpy", "torch", "mlx")
LIF = snnx.LIF(threshold=0.5, surrogate=snnx.Rectangular(1.5))
NET = snnx.Chain(
    snnx.Input(3, 3, 2), snnx.Conv2d(4, 3), LIF, snnx.Flatten(), snnx.Linear(6), LIF, snnx.Linear(3)
)
TRAIN = Mode("mixed", "batch", True, "train")


def batch() -> Any:
    x = uniform(2, "test", "asgl", 0, [0], [0], 8 * 18).reshape(8, 3, 3, 2)
    return {"x": x, "y": np.arange(8) % 3, "index": np.arange(8)}


def session_of(
    model: Any, backend: str, optim: snnx.Optim | None = None, precision: str = "fp32"
) -> Any:
    chosen = load_backend(backend)
    net = snnx.build(model, backend, seed=1, device="cpu", precision=precision)
    return chosen.session(net, snnx.SDT(), optim or snnx.Optim(), steps=3)


def rewritten(**options: Any) -> Any:
    return ASGLMethod(**options).rewrite(NET)


def same(a: Any, b: Any) -> None:
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_spikes_only_and_a_fixed_width_are_the_plain_surrogate_gradient_bit_for_bit(
    backend: str,
) -> None:
    plain = session_of(NET, backend)
    mixed = session_of(rewritten(p=0.5, learned=False), backend)
    assert train_mode(flatten(rewritten(p=1.0, learned=False))).fire == "spike"
    loss, g = plain.grads(batch(), {}, Mode("spike", "batch", True, "train"))
    same({"loss": loss, **g}, _named(mixed.grads(batch(), {"analog": 0.0}, TRAIN)))
    for _ in range(3):
        plain.read(plain.step([batch()], {}))
        mixed.read(mixed.step([batch()], {"analog": 0.0}))
    same(plain.export().parameters, mixed.export().parameters)


def _named(found: tuple[float, dict[str, np.ndarray]]) -> dict[str, Any]:
    return {"loss": found[0], **found[1]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_spikes_at_all_is_the_smooth_network_bit_for_bit(backend: str) -> None:
    session = session_of(rewritten(), backend)
    mixed = session.grads(batch(), {"analog": 1.0}, TRAIN)
    smooth = session.grads(batch(), {"analog": 0.3}, Mode("smooth", "batch", True, "train"))
    same(_named(mixed), _named(smooth))
    assert any(np.abs(g).max() > 0 for k, g in mixed[1].items() if k.endswith("width"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_fires_spikes_whatever_the_share(backend: str) -> None:
    taps = ["2.spike", "5.spike"]
    plain = session_of(NET, backend).forward(batch(), {}, EVAL, taps)
    mixed = session_of(rewritten(p=0.2), backend)
    for share in (0.0, 0.8):
        found = mixed.forward(batch(), {"analog": share}, EVAL, taps)
        same(found.taps, plain.taps)
        np.testing.assert_array_equal(found.y, plain.y)
    analysis = mixed.forward(batch(), {}, Mode("smooth"), taps)
    assert not np.array_equal(analysis.y, plain.y)


def test_the_share_of_smooth_outputs_is_the_dial() -> None:
    session = session_of(rewritten(p=0.7), "numpy")
    spikes = session.forward(batch(), {}, TRAIN, ["2.spike"]).taps["2.spike"]
    smooth = session.forward(batch(), {"analog": 1.0}, TRAIN, ["2.spike"]).taps["2.spike"]
    first = spikes[0], smooth[0]  # later steps follow other potentials
    inside = (first[1] > 0.01) & (first[1] < 0.99)
    assert (first[0] == first[1])[inside].mean() == pytest.approx(0.3, abs=0.12)


def test_the_noise_schedule_of_cifar_100() -> None:
    method = ASGLMethod(p=0.6, zeta=0.8, milestones=(90, 210, 270, 285))
    shares = {0: 0.4, 90: 0.4, 91: 0.32, 210: 0.32, 211: 0.256, 286: 0.4 * 0.8**4}
    for epoch, share in shares.items():
        assert method.analog_share(epoch) == pytest.approx(share, rel=1e-12)
    rising = ASGLMethod(p=0.0, rise=0.1, milestones=(29, 59, 89))
    assert [rising.analog_share(e) for e in (0, 29, 30, 60, 90, 400)] == pytest.approx(
        [1.0, 1.0, 0.9, 0.8, 0.7, 0.7]
    )


@pytest.mark.parametrize(
    ("share", "shapes"),
    [("layer", [(), ()]), ("channel", [(4,), (6,)]), ("neuron", [(3, 3, 4), (6,)])],
)
def test_one_width_per_layer_channel_or_neuron(share: Any, shapes: list[Any]) -> None:
    program = flatten(rewritten(share=share))
    widths = [p for p in program.parameters if p.group == "width"]
    assert [p.shape for p in widths] == shapes
    assert {p.init.value for p in widths} == {np.log(1.5)}


def test_widths_have_an_adam_of_their_own() -> None:
    decayed = snnx.Optim(snnx.SGD(weight_decay=5e-4, momentum=0.9))
    model, optim = applied((ASGLMethod(),), NET, decayed, snnx.SDT())
    program = flatten(model)
    rules = {p.path: optim.rule(p) for p in program.parameters}
    assert rules["2.surrogate.width"] == snnx.Adam(lr=3e-4, weight_decay=0.0)
    assert rules["1.weight"] == decayed.default
    session = session_of(model, "numpy", optim)
    before = session.export().parameters["2.surrogate.width"]
    session.read(session.step([batch()], {}))
    moved = session.export().parameters["2.surrogate.width"] - before
    assert abs(float(moved)) == pytest.approx(3e-4, rel=1e-3)  # Adam's first step is its rate
    mine = snnx.Optim(snnx.SGD(), {"width": snnx.SGD(lr=1e-3)})
    assert ASGLMethod().optim(mine) is mine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.2}, "p is a share"),
        ({"milestones": (3, 2), "zeta": 0.5}, "do not increase"),
        ({"milestones": (3,)}, "do nothing"),
        ({"width_lr": 0.0}, "width_lr"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ASGLMethod(**options)


def test_what_makes_no_sense_is_refused_with_a_reason() -> None:
    dsr = snnx.Chain(snnx.Input(3), snnx.Linear(3), snnx.DSR.integrate_and_fire())
    with pytest.raises(ValueError, match="trains by its rate"):
        ASGLMethod().rewrite(dsr)
    dspike = snnx.Chain(snnx.Input(3), snnx.LIF(surrogate=snnx.Dspike()), snnx.Linear(3))
    with pytest.raises(ValueError, match="Dspike has no width"):
        ASGLMethod().rewrite(dspike)
    with pytest.raises(ValueError, match="no spiking neuron"):
        ASGLMethod().rewrite(snnx.Chain(snnx.Input(3), snnx.Linear(3)))


def test_every_kind_of_neuron_is_mixed_and_other_losses_are_welcome() -> None:
    model = snnx.Chain(
        snnx.Input(3), snnx.Linear(4), snnx.Recurrent(LIF), snnx.CLIF.from_tau(), snnx.Linear(3)
    )
    found, _ = applied((ASGLMethod(),), model, snnx.Optim(), snnx.TET())
    names = [p.path for p in flatten(found).parameters if p.group == "width"]
    assert names == ["2.surrogate.width", "3.surrogate.width"]
    assert flatten(found).has_mask


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_records_share_width_and_similarity(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("model.width=0.04", "batch_size=450", "method.zeta=0.5", "method.milestones=[0]")
    asked = ("train", "method=asgl", "-b", backend, "--epochs", "2", "--no-plots", "-o", "run")
    assert METHODS["asgl"] is ASGLMethod
    assert main([*asked, *words, "device=cpu"]) == 0
    rows = RunDir(tmp_path / "run").rows()
    assert [row["dials"]["analog"] for row in rows] == pytest.approx([0.2, 0.1])
    assert rows[0]["width.3"] == pytest.approx(1.0)
    assert rows[1]["width.3"] != rows[0]["width.3"]
    assert 0 < rows[0]["similarity"] <= 1
