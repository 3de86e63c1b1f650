"""A spiking autoencoder: training it on images, and how like its images are to them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from common import Record, Values

import snnx
from snnx import Adam, Dial, Optim, Tanh
from snnx import backend as backends
from snnx.analysis.reconstruction import psnr, ssim
from snnx.backend import Session, load_backend
from snnx.data import Batch, Batches, Dataset
from snnx.methods import ASGLMethod
from snnx.models import autoencoder
from snnx.models.dense import AUTOENCODER_LIF
from snnx.objective import MSE
from snnx.training.schedules import Cosine


def trained(
    record: Record, data: Dataset, method: str, width: float, seed: int, rates: Values
) -> Values:
    """Train one autoencoder and return how like the test images its images are."""
    s, asgl = record.settings, method == "ASGL"
    extra = ASGLMethod(
        s["p"] if asgl else 1.0, learned=asgl, width_lr=rates.get("width_lr", 1.0), similar=0
    )
    neuron = replace(AUTOENCODER_LIF, surrogate=Tanh(width))
    model = extra.rewrite(autoencoder(neuron=neuron, input=data.features))
    backend = load_backend(record.backend)
    net = snnx.build(model, record.backend, seed=seed)
    optim = extra.optim(Optim(Adam(lr=Dial("lr", rates["lr"]))))
    session = backend.session(net, MSE(), optim, steps=s["T"])
    batches = Batches(data, "train", s["batch_size"], seed)
    schedule, step, losses = Cosine(s["epochs"]), 0, []
    for epoch in range(s["epochs"]):
        total = 0.0
        for batch in batches.epoch(epoch):
            lr = schedule.value(rates["lr"], epoch, step, len(batches))
            dials = {"seed": seed, "step": step, "epoch": epoch, "lr": lr}
            found = session.read(session.step([itself(batch)], dials))
            total += found["loss"] * found["samples"]
            step += 1
        losses.append(round(total / data.size("train"), 5))
    learned = {p.path: p.learned for p in net.program.parameters if p.path.endswith(".width")}
    values = session.export().parameters
    widths = [q.value(float(values[path])) for path, q in learned.items() if q is not None]
    return {
        **measured(session, data, s["T"], s["shown"]),
        "train_loss": losses,
        "widths": [round(w, 4) for w in widths],
    }


def itself(batch: Batch) -> backends.Batch:
    """Return the batch whose target is its input."""
    x = batch["x"]
    return {"x": x, "y": x.reshape(len(x), -1), "index": batch["index"]}


def measured(session: Session, data: Dataset, steps: int, shown: list[int]) -> Values:
    """Return PSNR and SSIM over the test images, and some of the images."""
    signal, structure, pictures = [], [], {}
    for batch in Batches(data, "test", 500, shuffle=False).epoch(0):
        y = session.forward(itself(batch), {}, steps=steps).y.mean(0)
        images = np.clip(y.reshape(batch["x"].shape), 0.0, 1.0)[..., 0]
        signal.append(psnr(batch["x"][..., 0], images))
        structure.append(ssim(batch["x"][..., 0], images))
        for i in shown:
            if i in batch["index"]:
                pictures[i] = packed(images[batch["index"] == i][0])
    return {
        "psnr": round(float(np.concatenate(signal).mean()), 4),
        "ssim": round(float(np.concatenate(structure).mean()), 4),
        "images": [pictures[i] for i in shown],
    }


def packed(image: np.ndarray) -> str:
    """Return an image [28, 28] in [0, 1] as text: its bytes in base 64."""
    return base64.b64encode(np.round(255 * image).astype(np.uint8).tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """Return the image of `packed`."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(28, 28) / 255.0


def strips(axes: np.ndarray, columns: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Draw a column of packed images under each (title, colour, images)."""
    for (title, colour, images), strip in zip(columns, axes.T, strict=True):
        strip[0].set_title(title, fontsize=7.0, color=colour, loc="center", pad=3.0)
        for ax, text in zip(strip, images, strict=True):
            ax.imshow(unpacked(text), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set_axis_off()
