"""Which checkpoints stay, and that a run killed between any two renames leaves whole ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from snnx import checkpoint as checkpoints
from snnx.checkpoint import CheckpointError
from snnx.cli import main
from snnx.rotation import Retention, by_age, clean
from snnx.training.rundir import RunDir
from tests.command_line import empty_folder as empty_folder
from tests.command_line import train
from tests.test_checkpoint import flip, made, refuse


class Killed(BaseException):
    """The process ends here."""


def steps(root: Path) -> list[int]:
    return [checkpoints.read(folder).step for folder in by_age(root)]


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in range(1, 9):
        checkpoints.save(tmp_path, made(step), Retention(keep))
        assert steps(tmp_path) == list(range(step, max(0, step - keep), -1))
    names = ["last", "previous", "previous-2", "previous-3", "previous-4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names[:keep]


def test_fewer_are_kept_from_the_next_one_on(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoints.save(tmp_path, made(step), Retention(5))
    checkpoints.save(tmp_path, made(6), Retention(2))
    assert steps(tmp_path) == [6, 5]


def test_a_retention_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_checkpoints must be at least 2, not 1"):
        Retention(1)
    with pytest.raises(ValueError, match="archive_epochs must be at least 1, not 0"):
        Retention(archive_epochs=0)


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kill_at", range(7))
def test_killed_between_any_two_renames_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, kill_at: int
) -> None:
    keep = Retention(3)
    for step in range(1, before + 1):
        checkpoints.save(tmp_path, made(step), keep)
    rename, left = Path.rename, [kill_at]

    def mortal(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal)
        # a killed process cleans nothing up
        patch.setattr("snnx.checkpoint.shutil.rmtree", lambda *a, **k: None)
        try:
            checkpoints.save(tmp_path, made(before + 1), keep)
            newest = before + 1
        except Killed:
            newest = before
    if newest == 0:
        assert by_age(tmp_path) == []
    else:
        assert checkpoints.load(tmp_path, refuse).step == newest
    found = steps(tmp_path)
    assert found == sorted(found, reverse=True)
    assert len(found) >= min(newest, 2)  # the one before is there too
    clean(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for step in (10, 11, 12):
        checkpoints.save(tmp_path, made(step), keep)
    assert steps(tmp_path) == [12, 11, 10]


def test_damage_falls_back_as_far_as_it_must(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        checkpoints.save(tmp_path, made(step), Retention(4))
    for folder in ("last", "previous", "previous-2"):
        flip(tmp_path / folder / "model.safetensors")
    said: list[str] = []
    assert checkpoints.load(tmp_path, said.append).step == 1
    assert len(said) == 3
    assert all("going on with the checkpoint before it" in text for text in said)


def test_a_damaged_one_pushes_no_whole_one_out(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    for step in (1, 2):
        folder.checkpoint(made(step))
    flip(folder.checkpoints / "last/model.safetensors")
    folder.begin("", {})
    names = sorted(path.name for path in folder.checkpoints.iterdir())
    assert names == ["damaged-last", "previous"]
    folder.checkpoint(made(3))
    assert steps(folder.checkpoints) == [3, 1]
    flip(folder.checkpoints / "last/model.safetensors")
    folder.begin("", {})  # takes the place of the damaged one before
    assert steps(folder.checkpoints) == [1]
    assert len(list(folder.checkpoints.iterdir())) == 2


def test_where_all_are_damaged_an_archived_one_is_named(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for epoch in (1, 2):
        ended = replace(made(epoch), epoch=epoch, batch=0)
        checkpoints.save(root, ended, Retention(2, archive_epochs=1))
    for name in ("last", "previous"):
        flip(root / name / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"rename \S+epoch-00002 to last"):
        checkpoints.load(tmp_path, lambda text: None)
    (root / "last").rename(tmp_path / "away")
    (root / "epoch-00002").rename(root / "last")
    assert checkpoints.load(tmp_path, pytest.fail).step == 2


def test_a_recipe_says_which_checkpoints_stay(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("keep_checkpoints=3", "archive_epochs=2", "checkpoint_steps=2", "--epochs", "4")
    assert train(*words, "-o", "run") == 0
    found = {path.name: checkpoints.read(path) for path in Path("run/checkpoints").iterdir()}
    assert {name: (c.epoch, c.batch, c.step) for name, c in found.items()} == {
        "last": (4, 0, 12),
        "previous": (3, 3, 12),
        "previous-2": (3, 1, 10),
        "epoch-00002": (2, 0, 6),
        "epoch-00004": (4, 0, 12),
    }
    assert main(["eval", "run/checkpoints/epoch-00002"]) == 0
    assert main(["train", "--resume", "run", "keep_checkpoints=2", "--epochs", "5"]) == 0
    assert [p.name for p in by_age(Path("run/checkpoints"))] == ["last", "previous"]
    assert train("keep_checkpoints=1", "-o", "other") == 2
    assert "keep_checkpoints" in capsys.readouterr().err
