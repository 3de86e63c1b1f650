"""MLX's own words for too little memory become MemoryError, and nothing else does."""

from typing import Any

import pytest

from snnx.training import loop
from snnx.training.faults import OutOfMemory
from tests.test_training import data, plan

pytest.importorskip("mlx.core")

from snnx_mlx.memory import within_memory
from snnx_mlx.train_step import TrainStep

TEXTS = [
    "[metal::malloc] Attempting to allocate 99 bytes which is greater than the maximum allowed",
    "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPU)",
    "[malloc] Unable to allocate 99 bytes.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_too_little_memory_is_named(text: str) -> None:
    with pytest.raises(MemoryError, match="mlx: "), within_memory():
        raise RuntimeError(text)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), within_memory():
        raise RuntimeError("[matmul] shapes do not fit")


def test_a_step_of_mlx_names_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = TrainStep.gradients

    def limited(
        step: Any, run: Any, parameters: Any, statistics: Any, batch: Any, *rest: Any, **o: Any
    ) -> Any:
        if len(batch["index"]) > 3:
            raise RuntimeError(TEXTS[0])
        return gradients(step, run, parameters, statistics, batch, *rest, **o)

    monkeypatch.setattr(TrainStep, "gradients", limited)
    training = loop.start(plan(backend="mlx", compile=False, batch_size=13), data())
    with pytest.raises(OutOfMemory, match=r"of 13 samples at T=3 .*take batch_size=3"):
        loop.run(training, loop.Nobody())
