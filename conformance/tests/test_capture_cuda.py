"""The laws of a recorded step where there is a GPU: real graphs, and a second stream in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import snnx
from snnx.building import initial_parameters

torch = pytest.importorskip("torch")

from snnx_torch import backend  # noqa: E402
from snnx_torch.ranks import leave  # noqa: E402
from tests.captured_nets import ADAM, MODELS, SHAPE, STEPS, WARM, dials_of  # noqa: E402
from tests.torch_nets import batch  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]


def session(model: str, graph: bool, precision: str, group: Any = None) -> Any:
    program = snnx.flatten(MODELS[model])
    form: Any = {"device": "cuda", "precision": precision}
    net = backend.build(program, initial_parameters(program, 1), **form)
    more: Any = {"steps": STEPS, "compile": False, "graph": graph, "group": group}
    return backend.session(net, snnx.TET(), ADAM, **more)


def agree(graphed: Any, eager: Any, tolerance: float) -> None:
    """Take steps under changing dials; weights and figures agree at every one."""
    for k in range(WARM + 6):
        given, dials = batch(SHAPE, n=5 if k % 3 else 4), dials_of(graphed, k)
        found, wanted = (s.read(s.step([given], dials)) for s in (graphed, eager))
        assert found["loss"] == pytest.approx(wanted["loss"], rel=tolerance)
        eager.load(graphed.export())  # a spike that rounding flips is not carried on
    assert graphed.taker.captures >= 1
    assert "recorded" in graphed.step_form()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_graph_takes_the_steps_that_eager_takes(model: str, precision: str) -> None:
    tolerance = 1e-4 if precision == "fp32" else 3e-2
    pair = [session(model, graph, precision) for graph in (True, False)]
    agree(pair[0], pair[1], tolerance)


def test_replays_from_one_state_are_equal_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # and no trial of algorithms
    ours, given = session("lif", True, "fp32"), batch(SHAPE)
    ours.searches = False
    for k in range(WARM + 1):
        ours.step([given], {"step": k})
    start, ends = ours.export(), []
    for _ in range(3):
        ours.load(start)
        ours.step([given], {"step": 9})
        ends.append(ours.export().parameters)
    for name, array in ends[0].items():
        assert np.array_equal(array, ends[1][name]), name
        assert np.array_equal(array, ends[2][name]), name


def test_a_graph_holds_the_collectives_of_nccl(tmp_path: Any) -> None:
    url = f"file://{tmp_path}/rendezvous"
    torch.distributed.init_process_group("nccl", init_method=url, rank=0, world_size=1)
    try:
        group = torch.distributed.group.WORLD
        graphed = session("lif", True, "fp32", group)  # lives on while the group is left
        agree(graphed, session("lif", False, "fp32", group), 1e-4)
    finally:
        leave()
