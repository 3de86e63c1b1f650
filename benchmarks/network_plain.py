"""The plain nets of `networks.py`, and inference: beside what ours is measured."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import Any

from network_common import Case, Figures, batch, device_of, model, timed

import snnx
from snnx.backend import load_backend


def plain(case: Case) -> Figures:
    """Return the figures of a plain net's step: autocast, SGD, captured where it can be."""
    import torch
    import torch.nn.functional as F
    from plain_nets import PlainNet

    from snnx.building import initial_parameters

    device, (kind, *compiled) = device_of(case), case["how"].split()
    program = snnx.flatten(model(case))
    net: Any = PlainNet(program, initial_parameters(program, 0), kind, case["T"])
    net = net.to(device).to(memory_format=torch.channels_last).train()
    torch.backends.cuda.matmul.allow_tf32 = case["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = case["precision"] == "tf32"
    optim = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True)
    given = batch(case)
    x = torch.tensor(given["x"]).permute(0, 3, 1, 2).to(device)
    y = torch.tensor(given["y"]).to(device)
    run = (
        torch.compile(net, backend="inductor" if device.type == "cuda" else "eager")
        if compiled
        else net
    )
    low = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def step() -> None:
        optim.zero_grad(set_to_none=True)
        with low if case["precision"] == "bf16" else nullcontext():
            loss = F.cross_entropy(run(x).float().mean(0), y)
        loss.backward()
        optim.step()

    cuda = device.type == "cuda"
    standing = torch.cuda.memory_allocated() if cuda else 0
    began = time.perf_counter()
    step()
    first = time.perf_counter() - began
    if not cuda:
        return {**timed(step, 3), "first_s": first}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
        torch.cuda.reset_peak_memory_stats()
        step()
    torch.cuda.current_stream().wait_stream(side)
    # momentum stands as long as the net, so it is no part of the step
    moments = sum(p.numel() * p.element_size() for p in net.parameters())
    peak = (torch.cuda.max_memory_allocated() - standing - moments) / 2**20
    eager = timed(step)["device_ms"]
    optim.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return {**timed(graph.replay), "first_s": first, "eager_ms": eager, "peak_mib": peak}


def inference(case: Case) -> Figures:
    """Return the time of a forward pass."""
    import torch
    from plain_nets import PlainNet

    from snnx.building import initial_parameters

    device, program = device_of(case), snnx.flatten(model(case))
    weights = initial_parameters(program, 0)
    x = torch.tensor(batch(case)["x"]).to(device)
    if case["how"] == "inference":
        form = {"precision": case["precision"], "device": str(device)}
        net = load_backend("torch").build(program, weights, **form).eval()
        call = partial(net, x, steps=case["T"])
    else:
        plain_net: Any = PlainNet(program, weights, "spikingjelly", case["T"]).to(device).eval()
        call = partial(plain_net.to(memory_format=torch.channels_last), x.permute(0, 3, 1, 2))
    low = torch.autocast(device.type, torch.bfloat16)
    apart = case["how"] != "inference" and case["precision"] == "bf16"
    with torch.no_grad(), low if apart else nullcontext():
        for _ in range(3):
            call()
        return timed(call)
