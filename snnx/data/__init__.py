"""Data sets as NumPy arrays, and the batches that every backend is given."""

from snnx.data.arrays import DataError as DataError
from snnx.data.arrays import Dataset as Dataset
from snnx.data.augment import Augmentation as Augmentation
from snnx.data.augment import augmentation as augmentation
from snnx.data.augmented import Augmented as Augmented
from snnx.data.augmented import held_out as held_out
from snnx.data.batches import Batch as Batch
from snnx.data.batches import Batches as Batches
from snnx.data.catalogue import ENTRIES as DATASETS
from snnx.data.catalogue import Entry as Entry
from snnx.data.digits import digits as digits
from snnx.data.lazy import Lazy as Lazy
from snnx.data.lazy import Source as Source
from snnx.data.npz import from_npz as from_npz
from snnx.data.npz import to_npz as to_npz
from snnx.data.obtain import get as get
from snnx.data.preview import preview as preview
from snnx.data.registry import load as load
from snnx.data.registry import source as source
from snnx.data.registry import verify as verify
from snnx.data.registry import where as where
from snnx.data.saccade import Saccade as Saccade
from snnx.data.saccade import saccade as saccade
from snnx.data.streamed import Streamed as Streamed

__all__ = [
    "DATASETS",
    "Augmentation",
    "Augmented",
    "Batch",
    "Batches",
    "DataError",
    "Dataset",
    "Entry",
    "Lazy",
    "Saccade",
    "Source",
    "Streamed",
    "augmentation",
    "digits",
    "from_npz",
    "get",
    "held_out",
    "load",
    "preview",
    "saccade",
    "source",
    "to_npz",
    "verify",
    "where",
]
