"""The contract of a backend; `snnx.installed` finds one by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from snnx.exchange import Arrays as Arrays
from snnx.exchange import Batch as Batch
from snnx.exchange import Dials as Dials
from snnx.exchange import Footprint as Footprint
from snnx.exchange import Forward as Forward
from snnx.exchange import Snapshot as Snapshot
from snnx.installed import BackendError as BackendError
from snnx.installed import backend_names as backend_names
from snnx.installed import default_backend as default_backend
from snnx.installed import installed as installed
from snnx.installed import load_backend as load_backend
from snnx.scalars import COUNTERS as COUNTERS

if TYPE_CHECKING:
    import numpy as np

    from snnx.mode import Mode
    from snnx.objective import Objective
    from snnx.ops._op import Op
    from snnx.optim import Optim
    from snnx.program import Program
    from snnx.world import World


class Session(Protocol):
    """Training of one network: the only place where the neutral loop meets a framework.

    NumPy arrays cross only here. `dials` holds a value for every dial of the program and the
    optimiser and the counters "seed", "step" and "epoch"; one left out keeps its initial value,
    an unknown one is a KeyError. `steps` is T for a static x; the session's own unless given.

    In a session with a `group`, `step` is taken by all its processes together, each with its shares
    of the micro-batches, and so is `grads` of a batch that is a share; their figures are those of
    the whole. Everything else is this process' own.
    """

    def step(
        self,
        parts: Sequence[Batch],
        dials: Dials,
        mode: Mode | None = None,
        gradients: Arrays | None = None,
        *,
        vote: bool = False,
    ) -> Any:
        """Take one update from micro-batches: gradients are sums over all samples / their count.

        Value and gradients, clip, update, project, commit statistics, without waiting for the
        device. A loss or gradient that is not finite leaves weights, moments and statistics as
        they were, and so do all later steps until `read` has said so: the step can be taken again
        with the weights that it had. Returns what `read` takes. `mode` stands for the training
        mode of the program, for example Mode("smooth", "batch", True, "train") where two backends
        are compared.
        `vote` is a wish of this process, counted over all of them.

        `gradients`, canonical arrays by parameter, stand for those of the mean loss of all `parts`
        of all processes by these parameters; norm, clip and update follow as ever. All others
        are gradients of the loss, as without.
        Raises: KeyError, ShapeError, TypeError for a gradient that fits no parameter.
        """
        ...

    def read(self, pending: Any) -> dict[str, float]:
        """Wait, and return loss, correct, samples, gradient_norm, votes.

        Raises: FloatingPointError with the step's number where they are not finite, or where the
        step was not taken because one before it was not finite.
        """
        ...

    def loss(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode,
        parameters: Arrays | None = None,
        *,
        at: str | None = None,
        values: np.ndarray | None = None,
        copies: int = 1,
        steps: int | None = None,
    ) -> np.ndarray:
        """Return per-sample losses [copies, N] of the program run from edge `at` on.

        `values` [T or 1, copies * N, *F] stands for that edge, copies outermost; batch statistics
        are taken per copy and nothing is committed. `parameters` replaces those of its paths.
        """
        ...

    def grads(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode | None = None,
        wrt: Sequence[str] | None = None,
        *,
        impose: Arrays | None = None,
        steps: int | None = None,
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the mean loss and its gradients by path; nothing is committed.

        `impose` gives the spikes [T, N, *F] of neurons by path (the value before `emit`).
        """
        ...

    def forward(
        self,
        batch: Batch,
        dials: Dials,
        mode: Mode | None = None,
        taps: Sequence[str] = (),
        *,
        impose: Arrays | None = None,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
        hand_over: bool = True,
    ) -> Forward:
        """Run the network. A tap is an edge's name, or "PATH.spike" for the spike of a neuron.

        Without `hand_over` a sequence is run whole: no state is given, and of the state that is
        returned there is the time alone.

        Raises: ValueError for a state without `hand_over`.
        """
        ...

    def export(self) -> Snapshot:
        """Return weights, statistics and moments as canonical NumPy arrays."""
        ...

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot.

        Raises: ValueError naming every path that is missing, unknown or misshapen.
        """
        ...

    def implementations(self) -> Mapping[str, str]:
        """Return what runs each spiking step of a training step, and why, by its path."""
        ...

    def step_form(self) -> str:
        """Return how a training step runs, for the header of a run: recorded, compiled, eager."""
        ...

    def compilations(self) -> int:
        """Return how many graphs the step has been compiled into so far (0: not compiled)."""
        ...


@runtime_checkable
class Backend(Protocol):
    """What a backend package offers under its entry point.

    dtypes are names of the spec that its ops run in; ops are the names it has rules for, a missing
    one is reported by the conformance suite. `run` and `vjp` take and give NumPy arrays: float64
    in, computed in `dtype`, float64 out.
    """

    name: str
    precisions: tuple[str, ...]

    @property
    def dtypes(self) -> frozenset[str]:
        """Names of the dtypes that its ops run in."""
        ...

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops that it implements."""
        ...

    def describe(self) -> dict[str, str]:
        """Return versions and devices, for records and result files."""
        ...

    def run(self, op: Op, inputs: Arrays, attributes: Mapping[str, Any], dtype: str) -> Arrays:
        """Return the op's outputs."""
        ...

    def vjp(
        self,
        op: Op,
        inputs: Arrays,
        attributes: Mapping[str, Any],
        dtype: str,
        cotangents: Arrays,
    ) -> Arrays:
        """Return the gradients of the op's differentiable inputs."""
        ...

    def build(
        self,
        program: Program,
        parameters: Arrays,
        *,
        device: str | None = None,
        precision: str = "fp32",
        lean: bool | None = None,
        kernels: str = "auto",
    ) -> Any:
        """Return a native module that holds the parameters by path and runs the program.

        lean True keeps least for the backward pass: norms, residuals and neurons are computed again
        and spikes are kept as bits (`snnx.passes`); None leaves the choice to the backend. kernels
        is what runs the neurons: "auto", "generic" (interpreted lists) or "fused", kernels of the
        backend's own or an error where it has none for this device and precision.
        """
        ...

    def footprint(
        self,
        program: Program,
        objective: Objective,
        optim: Optim,
        *,
        steps: int,
        samples: int,
        precision: str = "fp32",
        lean: bool | None = None,
        kernels: str = "auto",
        chunk: int | None = None,
        recompute: int | None = None,
    ) -> Footprint:
        """Return the bytes of one training step for a batch of `samples` static inputs.

        kernels is that of `build`. A backend that predicts without the device predicts for a GPU.

        Raises: BackendError where the backend cannot tell.
        """
        ...

    def peak_bytes(self, reset: bool = False) -> int | None:
        """Return the most bytes its arrays took since the last reset; None where it cannot tell."""
        ...

    def session(
        self,
        net: Any,
        objective: Objective,
        optim: Optim,
        *,
        steps: int = 1,
        compile: bool | None = None,
        deterministic: bool = False,
        group: Any = None,
        chunk: int | None = None,
        sync_norm: bool = True,
        recompute: int | None = None,
        graph: bool | None = None,
    ) -> Session:
        """Return a training session of the module; `compile` None lets the backend choose.

        `graph` True records a step as a graph of the device and replays it, or BackendError where
        the backend has none here; None does so where it is safe (`Session.step_form`).
        `Session.step` trains T in chunks of `chunk` steps (`snnx.chunks`); the first of `recompute`
        ranges of the program are computed again for the gradient (`snnx.recompute`).
        `group` are processes that train together (`World.group`). With `sync_norm` their batch
        norms take the statistics of the whole batch; without, each those of its share, and the
        running statistics are their mean.
        """
        ...

    def world(self, device: str | None = None) -> World:
        """Join the processes that a launcher started, each with a device of its own.

        Raises: BackendError where the launcher is another framework's, or no such device is here.
        """
        ...
