"""Laws of a recorded step: a replay is a step, whatever its dials, its batch, what came before.

No GPU is needed: the session's own code runs over `recorded.Recorder` in place of CUDA graphs.
"""

from __future__ import annotations

import numpy as np
import pytest

import snnx
from snnx.mode import Mode

pytest.importorskip("torch")

from tests.captured_nets import MODELS, SGD, SHAPE, WARM, dials_of, made, same
from tests.recorded import Recorder
from tests.torch_nets import batch

pytestmark = pytest.mark.slow

CASES = {
    "lif": ("lif", {}),
    "lif lean": ("lif", {"lean": True}),
    "lif lean bf16": ("lif", {"lean": True, "precision": "bf16"}),
    "lif bf16": ("lif", {"precision": "bf16", "objective": snnx.SDT()}),
    "lif cpp": ("lif", {"lean": True, "kernels": "cpp"}),
    "asgl": ("asgl", {"optim": SGD}),
    "asgl lean": ("asgl", {"lean": True}),
    "asgl cpp": ("asgl", {"kernels": "cpp"}),
    "dspike": ("dspike", {}),
    "dspike lean": ("dspike", {"lean": True, "optim": SGD}),
    "dsr": ("dsr", {}),
    "dsr cpp": ("dsr", {"kernels": "cpp", "lean": True}),
    "dropout": ("dropout", {}),
    "recurrent cpp": ("dropout", {"kernels": "cpp"}),
    "chunks": ("lif", {"chunk": 2}),
    "ranges": ("lif", {"recompute": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_replay_is_a_step_under_every_dial(case: str) -> None:
    model, more = CASES[case]
    recorder = Recorder()
    ours, eager = made(MODELS[model], recorder, **more), made(MODELS[model], **more)
    given = [batch(SHAPE, n=5) for _ in range(4)]
    for k in range(12):
        dials = dials_of(ours, k)
        found, wanted = (s.read(s.step([given[k % 4]], dials)) for s in (ours, eager))
        assert found == wanted
        assert same(ours.export(), eager.export())
    assert (recorder.warmed, recorder.replays) == (WARM, 12 - WARM)
    assert ours.taker.captures == 1
    weights = [s for s in ours.net.program.steps if s.op in ("conv2d", "linear")]
    runs = {"chunks": 2, "ranges": 1}.get(case, 1)
    fed_back = case == "recurrent cpp"  # the generic path sums that gradient as it walks
    assert recorder.side.forks == (len(weights) + fed_back) * runs
    assert recorder.side.joins == runs


def test_a_smaller_last_batch_has_a_graph_of_its_own_and_more_forms_run_eagerly() -> None:
    recorder = Recorder()
    ours, eager = made(MODELS["asgl"], recorder), made(MODELS["asgl"])
    sizes = [4, 4, 3] * 5
    given = [batch(SHAPE, n=n) for n in sizes]
    for k, part in enumerate(given):
        pair = [s.read(s.step([part], dials_of(ours, k))) for s in (ours, eager)]
        assert pair[0] == pair[1]
    assert ours.taker.captures == 2
    assert recorder.replays == len(sizes) - 2 * WARM
    for n in (1, 2):
        ours.step([batch(SHAPE, n=n)], {})
    with pytest.warns(RuntimeWarning, match="5th form .* runs eagerly: a session keeps 4 graphs"):
        pending = ours.step([batch(SHAPE, n=6)], {})
    assert ours.read(pending)["samples"] == 6
    assert ours.taker.captures == 2


def test_other_modes_and_imposed_gradients_are_forms_and_dials_are_not() -> None:
    recorder = Recorder()
    ours, eager = made(MODELS["asgl"], recorder), made(MODELS["asgl"])
    parts = [batch(SHAPE, n=3), batch(SHAPE, n=2, steps=4, length=True)]
    path = "1.weight"
    imposed = {path: np.ones(ours.export().parameters[path].shape, np.float32)}
    smooth = Mode("smooth", "batch", True, "train")
    for k in range(3 * (WARM + 2)):
        mode, gradients = [(None, None), (smooth, None), (None, imposed)][k % 3]
        scaled = None if gradients is None else {path: gradients[path] * np.float32(k)}
        for s in (ours, eager):
            s.step(parts, dials_of(ours, k), mode, scaled, vote=k % 2 == 1)
        assert same(ours.export(), eager.export())
    assert ours.taker.captures == 3
    assert recorder.replays == 3 * 2
    votes = [ours.read(ours.step(parts, {}, vote=v))["votes"] for v in (True, False)]
    assert votes == [1.0, 0.0]


def test_steps_that_nobody_has_read_yet_keep_their_figures() -> None:
    ours, eager = made(MODELS["lif"], Recorder()), made(MODELS["lif"])
    given = [batch(SHAPE) for _ in range(WARM + 3)]
    tokens = [ours.step([part], {"step": k}) for k, part in enumerate(given)]
    wanted = [eager.read(eager.step([part], {"step": k})) for k, part in enumerate(given)]
    assert [ours.read(token) for token in reversed(tokens)] == wanted[::-1]
    assert len({figures["loss"] for figures in wanted}) == len(given)


def test_export_and_load_between_replays_reach_the_graph() -> None:
    ours, eager = made(MODELS["dsr"], Recorder()), made(MODELS["dsr"])
    other = made(MODELS["dsr"])
    for k in range(4):
        other.step([batch(SHAPE)], {"step": k})
    for k in range(WARM + 4):
        if k == WARM + 2:
            for s in (ours, eager):
                s.load(other.export())
        part = batch(SHAPE)
        for s in (ours, eager):
            s.step([part], dials_of(ours, k))
        assert same(ours.export(), eager.export())
    assert ours.export().count == 4 + 2
    assert np.all(ours.export().parameters["3.threshold"] >= 0.01)


def test_a_replay_that_is_not_finite_leaves_everything_and_the_next_one_goes_on() -> None:
    ours, eager = made(MODELS["lif"], Recorder()), made(MODELS["lif"])
    given = [batch(SHAPE) for _ in range(WARM + 3)]
    given[WARM + 1]["x"][0, 0, 0] = np.nan
    for k, part in enumerate(given):
        tokens = [s.step([part], {"step": k}) for s in (ours, eager)]
        if k == WARM + 1:
            for s, token in zip((ours, eager), tokens, strict=True):
                with pytest.raises(FloatingPointError, match=f"step {k}: "):
                    s.read(token)
        assert same(ours.export(), eager.export())
    assert ours.export().count == len(given) - 1
