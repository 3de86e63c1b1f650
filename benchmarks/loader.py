"""Samples per second and core of three loaders on generated files: snnx, torch DataLoader, grain.

    python benchmarks/loader.py OUT.json        needs torch, and pip install grain

All three decode, crop and augment by the same function of this repository, sample by sample, into
batches of 32, so what differs is the loader. Each case runs in a fresh process that waits for its
workers, once for one epoch and once for more: the difference leaves out the start. `cpu_ms` is the
CPU time of the process and its workers per sample, which other users of the machine disturb least;
`per_core` is its inverse. `per_second` is by the clock. Data: JPEG files of 256 x 256 pixels and
recordings of 100,000 events, both synthetic.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from generated import CIFAR10_CLASSES, events, noise

from snnx.data import Augmented, Batches, Streamed, augmentation, source
from snnx.data.draws import Draws

IMAGES, RECORDINGS, BATCH = 400, 80, 32
EPOCHS = {"images": (1, 4), "events": (1, 6)}
WORKERS = (0, 1, 2)


def write_images(root: Path) -> None:
    """Write smooth pictures with some noise, since noise alone is no JPEG that anyone has."""
    from PIL import Image

    for i in range(IMAGES + 10):
        name = f"{'train' if i < IMAGES else 'val'}/n{i % 10}/{i}.JPEG"
        coarse = noise(256, name, 3 * 256).astype(np.uint8).reshape(16, 16, 3)
        x = np.asarray(Image.fromarray(coarse).resize((256, 256), 3)).astype(int)
        x = x + noise(17, f"{name} grain", 3 * 256 * 256).reshape(256, 256, 3) - 8
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(root / name, "JPEG", quality=90)


def write_events(root: Path) -> None:
    """Write AEDAT 2 recordings of 1.3 s."""
    for word in CIFAR10_CLASSES:
        (root / word).mkdir(parents=True)
        for i in range(-(-RECORDINGS // 9)):
            t, x, y, p = events(f"{word}/{i}", 100_000, 1_300_000)
            words = np.stack([y << 8 | (127 - x) << 1 | (1 - p), t], 1).astype(">u4")
            head = b"#!AER-DAT2.0\r\n# generated noise\r\n"
            (root / word / f"cifar10_{word}_{i}.aedat").write_bytes(head + words.tobytes())


def opened(kind: str, root: Path) -> Any:
    """Return the augmented data set of the generated files."""
    if kind == "images":
        return Augmented(source("imagenet", root), augmentation("imagenet", "imagenet"))
    return Augmented(
        source("dvs-cifar10", root, framing="dsr_dvs"), augmentation("dsr_dvs", "dvs-cifar10")
    )


class Samples:
    """What torch and grain index: the sample at a position of the training split, as in epoch 0."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.size("train")

    def __getitem__(self, position: Any) -> tuple[np.ndarray, int]:
        x, y, _ = self.data.take("train", Draws(0, 0, np.array([position])))
        axis = len(self.data.layout) - 2
        return np.moveaxis(x, axis, 0)[0].astype(np.float32, copy=False), int(y[0])


Epochs = Callable[[int], Iterator[tuple[int, int]]]  # number -> samples and sum of y of a batch


def snnx_epochs(data: Any, workers: int) -> Epochs:
    """Batches of `Streamed`, or of the data set itself."""
    streamed = Streamed(data, workers) if workers else data

    def epoch(number: int) -> Iterator[tuple[int, int]]:
        for batch in Batches(streamed, "train", BATCH).epoch(number):
            yield len(batch["y"]), int(batch["y"].sum())

    return epoch


def torch_epochs(data: Any, workers: int) -> Epochs:
    """Batches of a DataLoader with persistent, spawned workers and its own collation."""
    from torch.utils.data import DataLoader

    more: dict[str, Any] = {}
    if workers:
        more = {"persistent_workers": True, "multiprocessing_context": "spawn"}
    samples: Any = Samples(data)
    loader = DataLoader(samples, BATCH, shuffle=True, num_workers=workers, **more)

    def epoch(number: int) -> Iterator[tuple[int, int]]:
        for _, y in loader:
            yield len(y), int(y.sum())

    return epoch


def grain_epochs(data: Any, workers: int) -> Epochs:
    """Batches of a MapDataset; one iterator over all epochs keeps its processes."""
    import grain  # pyright: ignore[reportMissingImports]

    samples: Any = Samples(data)
    length = len(samples)
    made = grain.MapDataset.source(samples).shuffle(seed=0).batch(BATCH).repeat(None)
    found: Any = made.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    if workers:
        found = found.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    stream = iter(found)

    def epoch(number: int) -> Iterator[tuple[int, int]]:
        for _ in range(-(-length // BATCH)):
            _, y = next(stream)
            yield len(y), int(np.sum(y))

    return epoch


LOADERS = {"snnx": snnx_epochs, "torch": torch_epochs, "grain": grain_epochs}


def one(kind: str, root: str, loader: str, workers: int, epochs: int) -> None:
    """Run one case and print its seconds after the first batch, its samples and their labels."""
    epoch = LOADERS[loader](opened(kind, Path(root)), workers)
    samples = labels = first = 0
    began = 0.0
    for number in range(epochs):
        for count, total in epoch(number):
            if not samples:
                first, began = count, time.perf_counter()
            samples, labels = samples + count, labels + total
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "timed": samples - first, "n": samples, "y": labels}))


def measured(*case: str) -> tuple[dict[str, Any], float]:
    """Run a case in a fresh process; return what it says, and CPU seconds with its workers."""
    command = [sys.executable, __file__, "--one", *case]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{case}: ended with code {process.returncode}")
        out.seek(0)
        said = json.loads(out.read().splitlines()[-1])
    return said, used.ru_utime + used.ru_stime


def main() -> None:
    """Write the figures of all cases, after each, so that a run that ends early keeps them."""
    names = ("numpy", "torch", "grain", "pillow")
    about: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    about |= {name: version(name) for name in names}
    rows: list[dict[str, Any]] = []
    found = {"command": "python benchmarks/loader.py", "environment": about, "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        for kind, write in (("images", write_images), ("events", write_events)):
            root = Path(folder) / kind
            write(root)
            few, many = EPOCHS[kind]
            for workers in WORKERS:
                for loader in LOADERS:
                    case = (kind, str(root), loader, str(workers))
                    (one, before), (two, after) = (measured(*case, str(e)) for e in (few, many))
                    samples = two["n"] - one["n"]
                    cpu = (after - before) / samples
                    row = {
                        "data": f"{kind}, synthetic",
                        "loader": loader,
                        "workers": workers,
                        "cpu_ms": round(1e3 * cpu, 3),
                        "per_core": round(1 / cpu, 1),
                        "per_second": round(two["timed"] / two["seconds"], 1),
                        "samples": two["n"],
                        "labels": two["y"],
                    }
                    rows.append(row)
                    print(row, file=sys.stderr)
                    about["load"] = [round(v, 1) for v in os.getloadavg()]
                    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        kind, root, loader, workers, epochs = sys.argv[2:]
        one(kind, root, loader, int(workers), int(epochs))
    else:
        main()
