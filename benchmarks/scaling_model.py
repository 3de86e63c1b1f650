"""The expected step time of ResNet-34 on ImageNet on 8 and 64 GPUs, from stated figures.

python benchmarks/scaling_model.py
python benchmarks/scaling_model.py --batch 32 --T 4 --macs-per-second 1.0e14 --cores 64

Nothing here is measured on GPUs by snnx. Parameters, norms and multiply-adds are counted from
snnx's own program; every other number is an assumption, printed with its source:

    step    = compute + gradients + norms
    compute = 3 MACs T batch / rate                    forward, and two products backward
    gradients = latency + 2 (n - 1) / n bytes / speed  one all-reduce after backward, not overlapped
    norms   = 2 latency per norm                       a gather forward, an all-reduce backward

batch is that of one GPU. Speed and latency are those of the slowest link on the way.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from snnx.analysis.operations import operations, total_macs
from snnx.models.resnet import spiking_resnet34
from snnx.program import flatten

ASSUMED = {
    "macs_per_second": (
        1.34e14,
        "an H100 in bfloat16: a sketch of the fused step trained ResNet-18 (0.56 GMAC, T = 4, "
        "batch 128) in 6.4 ms, so 3 * 0.56e9 * 4 * 128 / 6.4e-3; not ResNet-34, not snnx's step",
    ),
    "node_speed": (3.6e11, "NVLink 4 between 8 H100: 450 GB/s a direction by its data sheet, 80 %"),
    "node_latency": (2.0e-5, "a small NCCL all-reduce on 8 GPUs, tens of microseconds: a guess"),
    "net_speed": (4.0e10, "one 400 Gbit/s InfiniBand port for each GPU, 50 GB/s, 80 %"),
    "net_latency": (6.0e-5, "a small NCCL all-reduce over 8 nodes: a guess"),
    "cores": (96, "processor cores of a node of 8 GPUs"),
    "images_per_core": (150.0, "JPEG of 500 x 375 decoded, cropped, resized by Pillow: a guess"),
}
IMAGES = 1_281_167  # of the training split
PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step takes, in seconds, and the images that it needs in a second on every node."""

    compute: float
    gradients: float
    norms: float
    images: float

    @property
    def step(self) -> float:
        """The whole step."""
        return self.compute + self.gradients + self.norms


def estimate(gpus: int, batch: int, steps: int, assumed: dict[str, float]) -> Estimate:
    """Return the figures of so many GPUs with `batch` samples each at T = `steps`."""
    program = flatten(spiking_resnet34())
    macs = total_macs(operations(program))
    if macs is None:
        raise ValueError("a layer of ResNet-34 has no count of multiply-adds")
    norms = sum(step.op == "batch_norm" for step in program.steps)
    gradient_bytes = 4 * sum(p.size for p in program.parameters)
    where = "node" if gpus <= PER_NODE else "net"
    latency, speed = assumed[f"{where}_latency"], assumed[f"{where}_speed"]
    compute = 3 * macs * steps * batch / assumed["macs_per_second"]
    gradients = latency + 2 * (gpus - 1) / gpus * gradient_bytes / speed
    waits = 2 * latency * norms
    images = min(gpus, PER_NODE) * batch / (compute + gradients + waits)
    return Estimate(compute, gradients, waits, images)


def first_to_break(found: Estimate, assumed: dict[str, float]) -> str:
    """Return what limits first."""
    decoded = assumed["cores"] * assumed["images_per_core"]
    if decoded < found.images:
        return (
            f"decoding: a node needs {found.images:.0f} images/s and decodes {decoded:.0f}, so a "
            f"step takes {found.images / decoded:.2f} times as long"
        )
    lost = {"gradients": found.gradients / found.step, "norms": found.norms / found.step}
    worst = max(lost, key=lambda name: lost[name])
    return f"the {worst}, {100 * lost[worst]:.1f} % of the step; decoding keeps up"


def main() -> None:
    """Print the assumptions, and the estimate for 8 and 64 GPUs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, (value, source) in ASSUMED.items():
        text = source.replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=text)
    parser.add_argument("--batch", type=int, default=32, help="samples on a GPU")
    parser.add_argument("--T", type=int, default=4, help="time steps")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64])
    options = parser.parse_args()
    assumed = {name: float(getattr(options, name)) for name in ASSUMED}
    for name, (_, source) in ASSUMED.items():
        print(f"assumed {name} = {assumed[name]:g}   {source}")
    program = flatten(spiking_resnet34())
    count = sum(p.size for p in program.parameters)
    print(f"counted {count} parameters, {total_macs(operations(program))} MACs a sample and step")
    for gpus in options.gpus:
        found = estimate(gpus, options.batch, options.T, assumed)
        epoch = IMAGES / (gpus * options.batch) * found.step
        print(
            f"{gpus:>3} GPUs, {options.batch} each, T = {options.T}: step {1e3 * found.step:.1f} ms"
            f" = compute {1e3 * found.compute:.1f} + gradients {1e3 * found.gradients:.2f} + norms "
            f"{1e3 * found.norms:.2f}; {found.images:.0f} images/s a node; epoch {epoch:.0f} s"
        )
        print(f"    first to break: {first_to_break(found, assumed)}")


if __name__ == "__main__":
    main()
