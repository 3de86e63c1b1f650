"""The plain nets of `networks.py`: beside what ours is measured, and held to the same reference."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from network_check import Answer, held, oracle_of, outside, rate_of, settle
from network_common import FEW, Case, Figures, batch, device_of, freed, small, timed, weights
from network_ours import plan_of
from plain_nets import PlainNet

from snnx.methods.inherit import as_ann


def precise(case: Case) -> Any:
    """Set the precision of products and return the context of a forward pass."""
    torch.backends.cuda.matmul.allow_tf32 = case["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = case["precision"] == "tf32"
    if case["precision"] != "bf16":
        return nullcontext()
    return torch.autocast(device_of().type, torch.bfloat16, cache_enabled=False)


def net_of(case: Case) -> Any:
    """Return the plain net of a case; "spikingjelly 32" is the kind spikingjelly32."""
    _, kind, compiled = named(case)
    program = plan_of(case).program()
    made: Any = PlainNet(program, weights(case, program), kind, case["T"], compiled)
    return made.to(device_of()).to(memory_format=torch.channels_last)


def named(case: Case) -> tuple[bool, str, bool]:
    """Return of a case's name: is it inference, which kind of neuron, is it compiled."""
    words = case["how"].split()
    kind = "".join(w for w in words if w not in ("inference", "compiled"))
    return words[0] == "inference", kind, "compiled" in words


def whole(net: Any, case: Case) -> Any:
    """Return the net as a call, compiled where the case asks; of a recurrent one its step is."""
    _, _, compiled = named(case)
    if not compiled or case["model"] == "shd":
        return net
    return torch.compile(net, backend="inductor" if device_of().type == "cuda" else "eager")


def given(case: Case, made: Any) -> tuple[Any, Any]:
    """Return a batch as torch takes it: x in channels_last memory, y."""
    x = torch.tensor(made["x"]).to(device_of())
    x = x.permute(0, 3, 1, 2) if x.dim() == 4 else x
    return x, torch.tensor(made["y"]).to(device_of())


def checked(case: Case) -> Figures:
    """Return {"check"}, and "refused" where a narrow net of the same form is not the reference.

    A net of ReLU has no spikes at which its gradients could be compared, and below float32
    rounding decides its masks: there its loss is compared, and its gradients in float32.
    """
    if named(case)[1] == "relu" and case["precision"] != "fp32":
        whole_check = _checked({**case, "precision": "fp32"}, True)
        low = whole_check if "refused" in whole_check else _checked(case, False)
        return {**low, "check": {**low["check"], "gradients_in_fp32": whole_check["check"]}}
    return _checked(case, True)


def _checked(case: Case, gradients: bool) -> Figures:
    near = small(case)
    infers, kind, _ = named(case)
    plan = plan_of(near)
    if kind == "relu":  # equal images at every step: the batch's statistics are those of one
        plan = replace(plan, model=as_ann(plan.model), steps=1)
    oracle = oracle_of(plan, weights(near, plan_of(near).program()))
    net = net_of(near)
    if infers:
        net.settled(settle(oracle, batch(near)))
    net.watched = True
    run, low = whole(net.eval() if infers else net.train(), near), precise(near)

    def give(made: Any) -> Answer:
        x, y = given(near, made)
        for parameter in net.parameters():
            parameter.grad = None
        with low:
            logits, spikes = run(x)
        logits = logits.float()
        found = net.by_path(spikes)
        if infers:
            return Answer(found, None, {}, logits.detach().cpu().numpy())
        loss = F.cross_entropy(logits.mean(0), y)
        loss.backward()
        return Answer(found, float(loss.detach()), net.gradients() if gradients else {})

    found = held(oracle, give, lambda seed: batch(near, seed=seed), case["precision"])
    net.reset()
    return found


def at_rate(net: Any, case: Case, low: Any) -> Figures:
    """Return {"rate"} of the net that is timed, and "refused" where it is not a net's usual one."""
    if net.kind == "relu":
        return {}
    x, _ = given(case, batch(case, min(FEW, case["batch"])))
    net.watched = True
    with torch.no_grad(), low:
        _, spikes = net(x)
    net.watched = False
    rate = rate_of(net.by_path(spikes))
    net.reset()
    wrong = outside(rate, case)
    return {"rate": rate, **({"refused": wrong} if wrong else {})}


def plain(case: Case) -> Figures:
    """Return the figures of a plain net's step: autocast, SGD, captured where it can be."""
    check = checked(case)
    if "refused" in check:
        return check
    net, low = net_of(case).train(), precise(case)
    check |= at_rate(net, case, low)
    if "refused" in check:
        return check
    optim = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9, foreach=True)
    x, y = given(case, batch(case))
    run = whole(net, case)
    freed()

    def step() -> None:
        optim.zero_grad(set_to_none=True)
        with low:
            loss = F.cross_entropy(run(x).float().mean(0), y)
        loss.backward()
        optim.step()

    cuda = device_of().type == "cuda"
    standing = torch.cuda.memory_allocated() if cuda else 0
    began = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    check["first_s"] = time.perf_counter() - began
    if not cuda:
        return {**check, **timed(step, 3)}
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
    check["peak_mib"] = (torch.cuda.max_memory_allocated() - standing - moments) / 2**20
    check["eager_ms"] = timed(step)["device_ms"]
    optim.zero_grad(set_to_none=True)
    net.reset()  # a state kept by the neurons holds a graph that the recording may not meet
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:  # what cannot be recorded is shown as a user has it
        return {**check, "device_ms": check["eager_ms"], "uncaptured": str(error).splitlines()[0]}
    return {**check, **timed(graph.replay)}


def inference(case: Case) -> Figures:
    """Return the time of a plain net's forward pass."""
    check = checked(case)
    if "refused" in check:
        return check
    net, low = net_of(case), precise(case)
    few, _ = given(case, batch(case, min(FEW, case["batch"])))
    net.settled()
    with torch.no_grad(), low:
        net.train()(few)
    net.eval()
    check |= at_rate(net, case, low)
    if "refused" in check:
        return check
    x, _ = given(case, batch(case))
    call = partial(whole(net, case), x)
    with torch.no_grad(), low:
        for _ in range(3):
            call()
        return {**check, **timed(call)}
