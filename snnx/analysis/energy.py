"""Operations and energy of a trained network: multiply-accumulates and accumulates, kept apart.

A product with an analog input is a multiply-accumulate (MAC). A product with a spike is an
accumulate (AC), made only where the spike came. With the fan-out f of a neuron, the number of its
outgoing synapses (fewer at the border of an image):

    ACs  = sum over t, layers and neurons of f s[t]        MACs = T sum over neurons of f

Energy at 45 nm in float32: an addition takes 0.9 pJ, a multiplication 4.6 pJ. The papers differ in
what a MAC costs: ASGL charges 4.6 pJ; Dspike counts its addition too, 5.5 pJ. No paper counts the
updates of neurons or memory traffic, and neither does this.
Source: ASGL Eq. 29-30 (B.2), Dspike Table 3; the constants from Han et al. 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnx.analysis.fans import fan_out as fan_out
from snnx.analysis.fans import moves, spike_fans
from snnx.analysis.fans import spike_sources as spike_sources
from snnx.analysis.operations import operations, product_kind
from snnx.analysis.rates import first_batches
from snnx.backend import Session
from snnx.data.arrays import Split
from snnx.program import Program, Step

if TYPE_CHECKING:
    from snnx.data.lazy import Source

ADD_PJ = 0.9
MULTIPLY_PJ = 4.6

Floats = NDArray[np.float64]


def picojoules(additions: float, multiplications: float) -> float:
    """Return the energy of so many operations, 0.9 per addition and 4.6 per multiplication.

    With ACs as additions and MACs as multiplications it is ASGL's charge; with every addition
    counted, those inside a MAC too, it is that of Dspike's Table 3.
    """
    return ADD_PJ * additions + MULTIPLY_PJ * multiplications


def dspike_counts(
    ann_macs: float, first_layer_macs: float, rate: float, steps: int
) -> tuple[float, float]:
    """Return additions and multiplications of a spiking network as Dspike's Table 3 counts them.

    additions = rate T ann_macs,   multiplications = T first_layer_macs
    """
    return rate * steps * ann_macs, steps * float(first_layer_macs)


@dataclass(frozen=True, slots=True)
class StepEnergy:
    """What one product costs for one sample, all time steps together.

    `dense` is what it multiplies in one step, without the zeros of a padding; an ANN of this
    shape does it once. `macs` and `acs` are what the spiking network does in all its steps.
    `static`: its input is the same at every step, so that it need be computed only once.
    """

    path: str
    layer: str
    dense: float
    macs: float
    acs: float
    static: bool = False


@dataclass(frozen=True, slots=True)
class Energy:
    """Operations of a network per sample, the mean over `samples`, and what they cost."""

    rows: tuple[StepEnergy, ...]
    samples: int
    steps: float

    @property
    def macs(self) -> float:
        """Multiply-accumulates of one sample."""
        return sum(row.macs for row in self.rows)

    @property
    def acs(self) -> float:
        """Accumulates of one sample."""
        return sum(row.acs for row in self.rows)

    @property
    def ann_macs(self) -> float:
        """Multiply-accumulates of one sample in an ANN of the same products."""
        return sum(row.dense for row in self.rows)

    @property
    def microjoules(self) -> float:
        """The energy of one sample as ASGL charges it: 0.9 pJ an AC, 4.6 pJ a MAC."""
        return picojoules(self.acs, self.macs) * 1e-6

    @property
    def microjoules_once(self) -> float:
        """The same, with products of a static input computed once and not at every step."""
        macs = sum(row.dense if row.static else row.macs for row in self.rows)
        return picojoules(self.acs, macs) * 1e-6

    @property
    def microjoules_dspike(self) -> float:
        """The energy of one sample as Dspike charges it: the addition of a MAC costs too."""
        return picojoules(self.acs + self.macs, self.macs) * 1e-6

    @property
    def ann_microjoules(self) -> float:
        """The energy of one sample in the ANN, 4.6 pJ a MAC."""
        return picojoules(0.0, self.ann_macs) * 1e-6

    def values(self) -> dict[str, Any]:
        """Return the figures of a result file, per sample: MACs and ACs apart, then the energy."""
        return {
            "macs": self.macs,
            "acs": self.acs,
            "ann_macs": self.ann_macs,
            "microjoules": self.microjoules,
            "microjoules_once": self.microjoules_once,
            "microjoules_dspike": self.microjoules_dspike,
            "ann_microjoules": self.ann_microjoules,
            "samples": self.samples,
            "steps": self.steps,
            "layers": [
                {
                    "path": row.path,
                    "layer": row.layer,
                    "macs": row.macs,
                    "acs": row.acs,
                    "ann_macs": row.dense,
                }
                for row in self.rows
            ],
        }


def measure_energy(
    session: Session,
    program: Program,
    dataset: Source,
    split: Split = "test",
    *,
    batch_size: int = 64,
    dials: Mapping[str, float | int] | None = None,
    steps: int | None = None,
    samples: int | None = 1024,
    static_once: bool = False,
    fold_pools: bool = False,
) -> Energy:
    """Return the operations of a network from the spikes it makes on the first `samples` samples.

    An input is counted spike by spike where it is spikes, or a sum of spikes of two branches, also
    after flattening; a max pool's output is spikes too. The network's input, average pools and
    user layers are analog. `fold_pools` counts an average pool of spikes as folded into the weights
    after it, which no paper counts otherwise: each spike then enters the products of every window
    that holds it. `static_once` counts the products of a static input once, not at every step.
    Padded steps count nowhere.

    Raises: ValueError where an ArrayLayer does not tell its MACs, or `samples` is below 1.
    """
    unknown = [c.path for c in operations(program) if c.macs is None]
    if unknown:
        raise ValueError(f"measure_energy: layers {unknown} do not tell their macs; define them")
    products = [s for s in program.steps if product_kind(program, s) is not None]
    own = [s.path for s in products if s.op == "recurrent"]
    each = {s.path: fan_out(program, s) for s in products if s.path not in own}
    sources = {
        s.path: spike_fans(program, s.inputs["x"], each[s.path], fold_pools)
        for s in products
        if s.path in each
    }
    taps = sorted({edge for found in sources.values() for edge, _ in found or ()} | {*own})
    fired: dict[str, Floats] = {}
    count, valid_steps = 0, 0.0
    for batch in first_batches(dataset, split, batch_size, samples):
        out = session.forward(batch, dials or {}, taps=taps, steps=steps)
        valid = _valid(batch, *out.y.shape[:2])
        for tap in taps:
            fired[tap] = _events(out.taps[tap], valid) + fired.get(tap, 0.0)
        for path in own:  # V y[t-1]: what the last step emits is fed to none
            name = f"{path} fed back"
            fired[name] = _events(out.taps[path][:-1], valid[1:]) + fired.get(name, 0.0)
        valid_steps += float(valid.sum())
        count += valid.shape[1]
    mean_steps = valid_steps / count
    rows = []
    for step in products:
        static = dataset.layout == "NF" and not moves(program, step.inputs["x"])
        if step.op == "recurrent":
            rows.append(_fed_back(program, step, fired, count, mean_steps))
            continue
        dense, found = float(each[step.path].sum()), sources[step.path]
        if found is None:
            macs, acs = dense * (1.0 if static and static_once else mean_steps), 0.0
        else:
            macs, acs = 0.0, sum(float((fired[s] * fan).sum()) for s, fan in found) / count
        rows.append(StepEnergy(step.path, step.layer, dense, macs, acs, static))
    return Energy(tuple(rows), count, mean_steps)


def _fed_back(
    program: Program, step: Step, fired: Mapping[str, Floats], count: int, steps: float
) -> StepEnergy:
    """Return what the feedback V y[t-1] of a recurrent layer costs."""
    features = step.shape[-1]
    dense = float(features * features)
    if not program.edges[step.output].binary:
        return StepEnergy(step.path, step.layer, dense, dense * steps, 0.0)
    acs = float(fired[f"{step.path} fed back"].sum()) * features / count
    return StepEnergy(step.path, step.layer, dense, 0.0, acs)


def _valid(batch: Mapping[str, Any], steps: int, n: int) -> Floats:
    """Return [T, N], 1 where a step of a sample is not padding."""
    length = batch.get("length")
    valid = np.ones((steps, n)) if length is None else np.arange(steps)[:, None] < length
    return valid.astype(np.float64)


def _events(values: NDArray[Any], valid: Floats) -> Floats:
    """Return the number of spikes of each neuron over time and samples, [*F]."""
    spikes = (values != 0).reshape(*values.shape[:2], math.prod(values.shape[2:]))
    counted = np.einsum("tn,tnf->f", valid, spikes.astype(np.float64))
    return counted.reshape(values.shape[2:])
