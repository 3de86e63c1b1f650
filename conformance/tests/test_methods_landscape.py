"""The picture of the loss around a run's weights, from the command line."""

from pathlib import Path
from typing import Any

import pytest

from snnx.analysis.landscape import landscape
from snnx.cli import main


def test_the_landscape_of_a_run_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snnx.commands import landscape as command

    small = landscape

    def quick(*args: Any, **options: Any) -> Any:
        return small(*args, **options, points=3, samples=4)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "landscape", quick)
    tiny = ("-b", "numpy", "model.width=0.04", "batch_size=450", "--no-plots", "--epochs", "1")
    assert main(["train", *tiny, "-o", "run"]) == 0
    assert main(["plot", "run", "landscape"]) == 0
    assert "computing the landscape of TET" in capsys.readouterr().out
    assert main(["plot", "run", "landscape"]) == 0
    assert "computing" not in capsys.readouterr().out
    assert Path("run/plots/landscape.svg").is_file()
