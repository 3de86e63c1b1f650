"""The command line in this process, on a network small enough for a test."""

from pathlib import Path

import pytest

from snnx.cli import main

TINY = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in a folder that holds nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def train(*words: str) -> int:
    """Return the exit code of `snnx train` on the small network."""
    return main(["train", *TINY, *words])
