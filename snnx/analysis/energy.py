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

from snnx.analysis.operations import operations, product_kind
from snnx.analysis.rates import first_batches
from snnx.backend import Session
from snnx.data.arrays import Split
from snnx.program import Program, Step

if TYPE_CHECKING:
    from snnx.data.lazy import Source

ADD_PJ = 0.9
MULTIPLY_PJ = 4.6
KEEPERS = ("flatten", "dropout")  # what passes spikes on one by one

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


def fan_out(program: Program, step: Step) -> Floats:
    """Return how many products of a step each element of its input enters, [*F] of the input.

    A window that hangs over the border has no product there, so border elements count less; the
    sum is what the step really multiplies, `operations` counts the zeros of the padding too.

    Raises: ValueError for a step that multiplies nothing.
    """
    kind = product_kind(program, step)
    if kind is None:
        raise ValueError(f"fan_out: step {step.path} is {step.op}, which multiplies by no weight")
    shape = program.edges[step.inputs["x"]].shape
    if kind != "conv2d":
        return np.full(shape, float(step.shape[-1]))
    kernel = program.parameter(step.inputs["weight"]).shape[1:3]
    stride, padding = step.attributes["stride"], step.attributes["padding"]
    rows, columns = (
        _windows_over(shape[i], step.shape[i], kernel[i], stride, padding) for i in range(2)
    )
    features = step.shape[-1] // step.attributes["groups"]
    return features * rows[:, None, None] * columns[None, :, None] * np.ones(shape)


def _windows_over(size: int, windows: int, kernel: int, stride: int, padding: int) -> Floats:
    """Count the windows over each of `size` places along one axis."""
    place = np.arange(size)[:, None] + padding - np.arange(windows)[None, :] * stride
    return ((place >= 0) & (place < kernel)).sum(1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class StepEnergy:
    """What one product costs for one sample, all time steps together.

    `dense` is what it multiplies in one step, without the zeros of a padding; an ANN of this
    shape does it once. `macs` and `acs` are what the spiking network does in all its steps.
    """

    path: str
    layer: str
    dense: float
    macs: float
    acs: float


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
    def microjoules_dspike(self) -> float:
        """The energy of one sample as Dspike charges it: the addition of a MAC costs too."""
        return picojoules(self.acs + self.macs, self.macs) * 1e-6

    @property
    def ann_microjoules(self) -> float:
        """The energy of one sample in the ANN, 4.6 pJ a MAC."""
        return picojoules(0.0, self.ann_macs) * 1e-6


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
) -> Energy:
    """Return the operations of a network from the spikes it makes on the first `samples` samples.

    An input is counted spike by spike where it is spikes, or a sum of spikes of two branches, also
    after flattening; a max pool's output is spikes too. The network's input, average pools and
    user layers are analog. `static_once` counts the products of a static input once, not at every
    step. Padded steps count nowhere.

    Raises: ValueError where an ArrayLayer does not tell its MACs, or `samples` is below 1.
    """
    unknown = [c.path for c in operations(program) if c.macs is None]
    if unknown:
        raise ValueError(f"measure_energy: layers {unknown} do not tell their macs; define them")
    products = [s for s in program.steps if product_kind(program, s) is not None]
    sources = {s.path: spike_sources(program, s.inputs["x"]) for s in products}
    own = [s.path for s in products if s.op == "recurrent"]
    taps = sorted({edge for found in sources.values() for edge in found or ()} | {*own})
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
        found = sources[step.path]
        # what does not depend on time is computed once
        once = static_once and dataset.layout == "NF" and not _moves(program, step.inputs["x"])
        rows.append(_row(program, step, found, fired, count, 1.0 if once else mean_steps))
    return Energy(tuple(rows), count, mean_steps)


def _row(
    program: Program,
    step: Step,
    sources: tuple[str, ...] | None,
    fired: Mapping[str, Floats],
    count: int,
    steps: float,
) -> StepEnergy:
    if step.op == "recurrent":
        features = step.shape[-1]
        dense = float(features * features)
        spikes = program.edges[step.output].binary
        acs = float(fired[f"{step.path} fed back"].sum()) * features / count if spikes else 0.0
        return StepEnergy(step.path, step.layer, dense, 0.0 if spikes else dense * steps, acs)
    each = fan_out(program, step)
    dense = float(each.sum())
    if sources is None:
        return StepEnergy(step.path, step.layer, dense, dense * steps, 0.0)
    acs = sum(float((fired[s].reshape(each.shape) * each).sum()) for s in sources) / count
    return StepEnergy(step.path, step.layer, dense, 0.0, acs)


def spike_sources(program: Program, edge: str) -> tuple[str, ...] | None:
    """Return the edges whose spikes are those of an edge, or None where it is analog.

    A sum of spikes is several spikes; flattening and dropout (in evaluation) change none.
    """
    if program.edges[edge].binary:
        return (edge,)
    step = next((s for s in program.steps if s.output == edge), None)
    if step is None:
        return None
    if step.op == "add":
        a, b = (spike_sources(program, step.inputs[name]) for name in ("a", "b"))
        return None if a is None or b is None else a + b
    return spike_sources(program, step.inputs["x"]) if step.op in KEEPERS else None


def _moves(program: Program, edge: str) -> bool:
    """Tell whether an edge differs from step to step under a static input."""
    step = next((s for s in program.steps if s.output == edge), None)
    if step is None:
        return False
    if "neuron" in step.attributes or step.op == "poisson":
        return True
    return any(_moves(program, ref) for ref in step.inputs.values() if ref in program.edges)


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
