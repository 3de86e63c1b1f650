"""A case of the suite, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from snnx.backend import Backend
    from snnx.program import Program

# What a faulty backend may raise inside a case; the case then fails with the text of it.
CRASHES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,  # NotImplementedError and the frameworks' own errors are kinds of it
    TypeError,
    ValueError,
)

Status = Literal["passed", "failed", "missing"]
LEVELS = ("ops", "exact", "models", "training")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case found.

    compared, total   how many numbers were compared, of how many
    error             the largest error found, relative to the largest reference number
    digest            sha256 of the outputs, where they must be equal bit for bit
    status            "missing": the backend does not claim the op or dtype; reported, not hidden
    """

    status: Status
    compared: int = 0
    total: int = 0
    error: float = 0.0
    message: str = ""
    digest: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong and something was compared."""
        return self.status == "passed"

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON takes it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Case:
    """A named check of one backend; `run` computes it. `lacks`: ops it needs and has not."""

    level: str
    name: str
    backend: str
    compute: Callable[[], Outcome]
    lacks: tuple[str, ...] = ()

    def run(self) -> Outcome:
        """Compute the case; what the backend raises is a failure with its text."""
        if self.lacks:
            text = f"{self.backend} does not have {', '.join(self.lacks)}"
            return Outcome("missing", message=f"{text}, which {self.level} {self.name} needs")
        try:
            return self.compute()
        except CRASHES as error:
            text = f"{self.backend} {self.level} {self.name}: {type(error).__name__}: {error}"
            return Outcome("failed", message=f"{text}; {reproduce(self)}")


def lacking(program: Program, *backends: Backend) -> tuple[str, ...]:
    """Return the ops of a program that one of the backends does not claim."""
    needed = {step.op for step in program.steps} - {"array_layer"}
    return tuple(sorted(needed - frozenset.intersection(*(b.ops for b in backends))))


def reproduce(case: Case) -> str:
    """Return the command that runs one case alone."""
    return (
        f"reproduce: snnx conform --backends {case.backend} --level {case.level} --case {case.name}"
    )
