"""Which checkpoints a run keeps: the newest few by age, and every so many epochs one for good.

    last, previous, previous-2, ...    the newest `keep`; the oldest makes room
    epoch-00010, epoch-00020, ...      one in every `archive_epochs` epochs, never removed
    damaged-last, ...                  what a resumed run could not read, until the next of its name

Every step is one rename, so a run that is killed at any moment leaves whole folders under these
names: at worst a name is missing, and the next one in age holds what it held. What is being written
or removed lies under a name with a dot, which `clean` removes when a run begins.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

LAST, PREVIOUS, ARCHIVED, DAMAGED = "last", "previous", "epoch-", "damaged-"
WRITING, REMOVING = ".writing-", ".removing-"


@dataclass(frozen=True, slots=True)
class Retention:
    """How many of the newest checkpoints are kept, and every how many epochs one for good.

    Raises: ValueError for fewer than 2, since the newest may be damaged, and for archive_epochs
    below 1.
    """

    keep: int = 2
    archive_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.keep < 2:
            raise ValueError(
                f"keep_checkpoints must be at least 2, not {self.keep}: the newest may be damaged"
            )
        if self.archive_epochs is not None and self.archive_epochs < 1:
            raise ValueError(f"archive_epochs must be at least 1, not {self.archive_epochs}")

    def archived(self, epoch: int, batch: int) -> str | None:
        """Return the name under which the end of an epoch is kept for good; None if it is not."""
        due = self.archive_epochs is not None and batch == 0 and epoch > 0
        return f"{ARCHIVED}{epoch:05d}" if due and epoch % (self.archive_epochs or 1) == 0 else None


def by_age(root: Path) -> list[Path]:
    """Return the folders of the newest checkpoints that are there, the newest first."""
    numbered = [
        (int(path.name.removeprefix(f"{PREVIOUS}-")), path)
        for path in root.glob(f"{PREVIOUS}-*")
        if path.name.removeprefix(f"{PREVIOUS}-").isdecimal()
    ]
    found = [root / LAST, root / PREVIOUS, *(path for _, path in sorted(numbered))]
    return [path for path in found if path.is_dir()]


def promote(root: Path, fresh: Path, keep: int) -> Path:
    """Make a whole folder `last`, the ones before it one older, and remove those beyond `keep`."""
    names = [LAST, PREVIOUS, *(f"{PREVIOUS}-{age}" for age in range(2, keep))]
    # a kill may have left a gap, which then takes the place of the oldest
    free = next((i for i, name in enumerate(names) if not (root / name).exists()), keep - 1)
    for path in by_age(root):
        if path.name not in names or (free == keep - 1 and path.name == names[-1]):
            remove(path)
    for i in range(free, 0, -1):
        (root / names[i - 1]).rename(root / names[i])
    fresh.rename(root / LAST)
    return root / LAST


def remove(path: Path) -> None:
    """Remove a checkpoint: first its name, so that half of it is never taken for one."""
    doomed = path.with_name(f"{REMOVING}{path.name}-{os.getpid()}")
    if doomed.exists():
        shutil.rmtree(doomed)
    path.rename(doomed)
    shutil.rmtree(doomed)


def clean(root: Path) -> None:
    """Remove what a killed run was writing or removing."""
    for start in (WRITING, REMOVING):
        for path in root.glob(f"{start}*"):
            shutil.rmtree(path)
