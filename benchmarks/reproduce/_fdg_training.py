"""The runs of Dspike's Table 1: a net whose first layer is trained by its finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from common import Record, Values

import snnx
from snnx import AvgPool2d, Chain, Conv2d, Flatten, Input, Linear
from snnx.backend import load_backend
from snnx.data import Batches, load
from snnx.methods.finite_difference import cosine, finite_differences, first_layer, held_mode
from snnx.models.toy import TOY_LIF
from snnx.program import flatten
from snnx.surrogate import Dspike, Rectangular, Surrogate
from snnx.training.evaluate import evaluate

RECTANGULAR, DSPIKE, UNTRAINED = "rectangular", "Dspike, b = 1", "first layer untrained"
OTHERS = (RECTANGULAR, DSPIKE, UNTRAINED)


def network(channels: int, surrogate: Surrogate) -> Chain:
    """Return the paper's net with a convolution of stride 2: conv, neuron, average pool, linear."""
    first = Conv2d(channels, 3, 2, padding=1, bias=False)
    neuron = replace(TOY_LIF, surrogate=surrogate)
    return Chain(Input(28, 28, 1), first, neuron, AvgPool2d(2), Flatten(), Linear(10))


def arms(record: Record) -> list[str]:
    """Return the names of all ways to train, the finite differences first."""
    return [f"FDG, eps {eps:g}" for eps in record.settings["eps"]] + list(OTHERS)


def take(record: Record, options: Values) -> None:
    """Train the toy net in every way from the same weights and batches, for every seed."""
    s, data = record.settings, load("mnist")
    record.note_data(data)
    eps_of = {f"FDG, eps {eps:g}": eps for eps in s["eps"]}

    def one(arm: str, seed: int) -> Values:
        model = network(s["channels"], Dspike(1.0) if arm == DSPIKE else Rectangular(1.0))
        program, objective = flatten(model), snnx.SDT()
        optim = snnx.Optim(snnx.SGD(momentum=s["momentum"]))
        net = snnx.build(model, record.backend, seed=seed)
        session = load_backend(record.backend).session(net, objective, optim, steps=s["T"])
        path = first_layer(program).inputs["weight"]
        nothing = {path: np.zeros(program.parameter(path).shape)}
        batches = Batches(data, "train", s["batch_size"], seed)
        losses, given = [], None
        cosines: list[float] = []
        lengths: list[float] = []
        for step, batch in zip(range(s["steps"]), batches.epoch(0), strict=False):
            rate = 0.5 * s["lr"] * (1.0 + math.cos(math.pi * step / s["steps"]))
            dials = {"lr": rate, "seed": seed, "step": step, "epoch": 0}
            if arm in eps_of:
                wanted = finite_differences(
                    session, program, batch, dials, eps_of[arm], copies=s["copies"]
                )
                given = {path: wanted}
                if step % s["compare_every"] == 0:
                    _, own = session.grads(batch, dials, held_mode(program), [path])
                    cosines.append(cosine(wanted, own[path]))
                    lengths.append(float(np.linalg.norm(wanted) / np.linalg.norm(own[path])))
            elif arm == UNTRAINED:
                given = nothing
            pending = session.step([batch], dials, gradients=given)
            losses.append(session.read(pending)["loss"])
        test = evaluate(session, program, objective, data, batch_size=250, steps=s["T"])
        found = {
            "test_accuracy": test.accuracy,
            "train_loss": round(float(np.mean(losses[-50:])), 5),
        }
        if cosines:
            found["cosine"] = round(float(np.mean(cosines)), 5)
            found["length"] = round(float(np.median(lengths)), 5)
        return found

    for seed in s["seeds"][: options.get("seeds")]:
        for arm in reversed(arms(record)):
            record.run(f"{arm} seed={seed}", lambda arm=arm, seed=seed: one(arm, seed))
