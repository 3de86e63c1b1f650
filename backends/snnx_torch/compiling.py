"""torch.compile and torch's algorithm settings, for the length of one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as counter
from types import FunctionType
from typing import Any

import torch
import torch._dynamo

# Gradients are taken inside the compiled step, and the Python floats of a program are constants of
# it: whatever changes lies in the dial buffer.
_SETTINGS = {"trace_autograd_ops": True, "specialize_float": True}


# In torch 2.11 the compiler refuses the leaves of the step, and given them from outside it loses
# gradients of autograd.Function without a word; 2.13 is the first that the tests hold to its word.
OLDEST = (2, 13)


def hindrance() -> str:
    """Return why this torch cannot compile a training step, or nothing."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= OLDEST:
        return ""
    return f"torch {torch.__version__} cannot compile a step, {OLDEST[0]}.{OLDEST[1]} and later can"


def compiled(step: Callable[..., Any], name: str, count: Callable[[], None]) -> Callable[..., Any]:
    """Return the step as one graph of torch.compile's backend `name`; each graph calls `count`."""
    inner = torch._dynamo.lookup_backend(name)

    def counted(graph: Any, inputs: Any) -> Any:
        count()
        return inner(graph, inputs)

    whole = torch.compile(_alone(step), fullgraph=True, backend=counted)

    def call(*arrays: Any) -> Any:
        with torch._dynamo.config.patch(_SETTINGS):
            return whole(*arrays)

    return call


_NUMBERS = counter()


def _alone(step: Any) -> Any:
    """Return the function with code of its own.

    torch counts graphs by code, and refuses the ninth; the steps of all sessions are one code. What
    it learns of sizes, which vary in one session and not in another, goes by the code's name.
    """
    code = step.__code__.replace(co_name=f"{step.__name__}_{next(_NUMBERS)}")
    return FunctionType(code, step.__globals__, step.__name__, step.__defaults__, step.__closure__)


CPU_SAYS = ("can't allocate memory", "could not create a primitive", "could not create a memory")


TRIED = 4  # algorithms of a convolution: all of them cost a first step many seconds more


def searches(device: torch.device, deterministic: bool) -> bool:
    """Return whether the training steps of a session let cuDNN try algorithms (`algorithms`)."""
    return device.type == "cuda" and not deterministic


@contextmanager
def algorithms(deterministic: bool, search: bool = False) -> Iterator[None]:
    """Use deterministic algorithms inside, where asked for.

    `search`: cuDNN tries `TRIED` algorithms for a convolution when it first meets its shapes, and
    keeps the quickest of the moment; where a user has it search already, it is their setting.
    Deterministic, it never does.

    Raises: MemoryError, which every backend's user can catch, for torch's own errors of that kind.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic or before)
    cudnn: Any = torch.backends.cudnn
    searched = cudnn.benchmark, cudnn.benchmark_limit
    if deterministic:
        cudnn.benchmark = False
    elif search and not cudnn.benchmark:
        cudnn.benchmark, cudnn.benchmark_limit = True, TRIED
    try:
        yield
    except RuntimeError as error:
        # on the CPU torch has no type of its own for it, and oneDNN no word
        said = any(text in str(error) for text in CPU_SAYS)
        if isinstance(error, torch.OutOfMemoryError) or said:
            raise MemoryError(f"torch: {str(error).splitlines()[0]}") from error
        raise
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.benchmark, cudnn.benchmark_limit = searched
