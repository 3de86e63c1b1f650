"""Data sets as NumPy arrays, and the batches that every backend is given."""

from collections.abc import Callable
from difflib import get_close_matches

from snnx.data.arrays import DataError as DataError
from snnx.data.arrays import Dataset as Dataset
from snnx.data.batches import Batch as Batch
from snnx.data.batches import Batches as Batches
from snnx.data.digits import digits as digits
from snnx.data.npz import from_npz as from_npz

DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits}


def load(name: str) -> Dataset:
    """The data set of a name in `DATASETS`, or of a path that ends in .npz.

    Raises: DataError if there is none.
    """
    if name in DATASETS:
        return DATASETS[name]()
    if name.endswith(".npz"):
        return from_npz(name)
    near = get_close_matches(name, DATASETS, 1)
    raise DataError(
        f"there is no data set {name!r}{f'; did you mean {near[0]!r}?' if near else ''} "
        f"Known are {', '.join(sorted(DATASETS))}, and your own arrays as FILE.npz"
    )
