"""DSR in `networks.py`: its step, exact and cheap, and the parts of its floor."""

from __future__ import annotations

from functools import partial
from typing import Any

from network_common import Case, Figures, batch, timed
from network_ours import at_rate, checked, session_of, stepped


def dsr(case: Case) -> Figures:
    """Return what a DSR step costs, or a part of its floor.

    "means" and "cheap" are the two steps, "one step" the exact one at T = 1; "forward" the forward
    pass at T, "products" the weight-gradient products of every convolution at T.
    """
    import torch

    way = case["how"].removeprefix("dsr ")
    case = {**case, "T": 1 if way == "one step" else case["T"], "compile": False}
    if way == "products":
        return products(case)
    found = checked(case)
    if "refused" in found:
        return found
    session = session_of(case)
    rate = at_rate(session, case)
    if way == "one step":  # in one step most neurons have yet to reach their threshold
        rate.pop("refused", None)
    if "refused" in rate:
        return {**found, **rate}
    if way != "forward":
        return {**found, **rate, **stepped(session, batch(case))}
    net = session.net.train()
    x = torch.tensor(batch(case)["x"]).to(net.device)
    with torch.no_grad():
        return {**found, **rate, **timed(partial(net, x, steps=case["T"]), 5)}


def products(case: Case) -> Figures:
    """Return the time of all weight-gradient products, on noise of the shapes that a step has."""
    import torch

    session = session_of(case)
    device, program = session.net.device, session.net.program
    shapes = {p.path: p.shape for p in program.parameters}
    given: list[tuple[Any, ...]] = []
    for step in program.steps:
        for prefix, how in (("", step.attributes), ("skip_", step.attributes.get("skip", {}))):
            weight = step.inputs.get(f"{prefix}weight")
            if weight is None or len(shapes[weight]) != 4 or "stride" not in how:
                continue
            o, kernel, _, i = shapes[weight]
            stride, (h, w) = how["stride"], step.shape[:2]
            n, last = case["T"] * case["batch"], {"memory_format": torch.channels_last}
            g = torch.rand(n, o, h, w, device=device).contiguous(**last)
            image = torch.rand(n, i, h * stride, w * stride, device=device).contiguous(**last)
            given.append((g, image, torch.rand(o, i, kernel, kernel, device=device), how))

    def work() -> None:
        for g, image, weight, how in given:
            pair = ([how["stride"]] * 2, [how["padding"]] * 2, [1, 1])
            torch.ops.aten.convolution_backward(
                g, image, weight, None, *pair, False, [0, 0], 1, [False, True, False]
            )

    return {**timed(work, 5), "products": len(given)}
