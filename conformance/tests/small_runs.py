"""Small runs on the NumPy backend: a session, a folder with rows, one with all its pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnx
from snnx.analysis import write_pictures
from snnx.backend import Forward, load_backend
from snnx.data import Dataset, digits

TINY = snnx.Chain(
    snnx.Input(8, 8, 1),
    snnx.Conv2d(4, 3, stride=2),
    snnx.LIF(threshold=0.2),
    snnx.Flatten(),
    snnx.Linear(10),
)
SILENT = snnx.Chain(snnx.Input(8, 8, 1), snnx.Flatten(), snnx.Linear(10))
ROW = {"epoch": 1, "loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.25, "lr": 0.1}


def some_digits(name: str = "digits") -> Dataset:
    d = digits()
    return Dataset(d.x_train[:8], d.y_train[:8], d.x_test[:24], d.y_test[:24], name, "real")


def session_of(model: Any, steps: int = 3) -> Any:
    backend = load_backend("numpy")
    net = snnx.build(model, "numpy", seed=0)
    return backend.session(net, snnx.TET(), snnx.Optim(), steps=steps)


def run_dir(path: Path, rows: Any = (ROW,), **files: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def full_run(path: Path, model: Any = TINY, steps: int = 3, rows: Any = (ROW,)) -> Path:
    folder = run_dir(path, rows)
    write_pictures(folder, session_of(model, steps), some_digits(), {"batch_size": 7})
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all its pictures, which no test changes."""
    return full_run(tmp_path_factory.mktemp("drawn") / "run")


class Played:
    """A session that gives written spikes: [T, N, F] by path."""

    def __init__(self, spikes: np.ndarray, logits: np.ndarray) -> None:
        self.spikes, self.logits = spikes, logits

    def forward(self, batch: Any, dials: Any, mode: Any = None, taps: Any = (), **_: Any) -> Any:
        at = batch["index"].astype(int)
        return Forward(self.logits[:, at], dict.fromkeys(taps, self.spikes[:, at]), {}, {})


SEQUENCE = snnx.Chain(snnx.Input(2), snnx.Linear(3), snnx.LIF(), snnx.Linear(2))


def sequences(lengths: list[int]) -> Dataset:
    n, t = len(lengths), max(lengths)
    x, y, length = np.zeros((t, n, 2), np.float32), np.arange(n) % 2, np.array(lengths)
    return Dataset(x, y, x, y, "seq", "synthetic", "TNF", lengths_train=length, lengths_test=length)
