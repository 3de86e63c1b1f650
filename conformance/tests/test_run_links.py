"""Links in a run's folder that a stranger made: nothing is written where they lead."""

from pathlib import Path

import pytest

from snnx.cli import main
from tests.command_line import empty_folder as empty_folder
from tests.command_line import train

FILES = ("log.txt", "metrics.jsonl", ".report.html.part", "checkpoints/last", "plots/.curves.part")
FOLDERS = ("checkpoints", "plots")


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
@pytest.mark.parametrize("words", [("train", "--resume"), ("plot",), ("eval",), ("info",)])
def test_a_link_out_of_a_runs_folder_is_refused(
    name: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = Path("run"), Path("other").absolute()
    (run / "checkpoints").mkdir(parents=True)
    (run / "plots").mkdir()
    other.mkdir()
    kept = other / "kept"
    kept.write_text("mine")
    path = run / name
    if name in FOLDERS:
        path.rmdir()
    path.symlink_to(other if name in FOLDERS else kept)
    assert main([*words, "run"]) == 2
    assert f"{path}: is a link to {other}" in capsys.readouterr().err
    assert list(other.iterdir()) == [kept]
    assert kept.read_text() == "mine"


def test_a_link_inside_of_a_runs_folder_and_one_to_it_are_followed() -> None:
    assert train("--epochs", "1", "-o", "run") == 0
    Path("run/checkpoints/best").symlink_to("last")
    Path("mine").symlink_to("run")
    assert main(["train", "--resume", "mine", "--epochs", "2", "--no-plots"]) == 0
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 2
