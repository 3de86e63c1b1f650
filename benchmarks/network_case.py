"""One case of `networks.py`, in this process: JSON on the last line.

python benchmarks/network_case.py '{"model": "resnet18", "T": 4, "batch": 2, "how": "ours", ...}'
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from network_common import TIMED, WARM, Case, Figures, batch, model, timed
from network_plain import inference, plain

import snnx
from snnx.backend import load_backend
from snnx.ops.levels import NETWORK_GRADIENT

ALGORITHMS = 4  # that cuDNN may try for a convolution under --search


def plan_of(case: Case, backend: str = "torch", **more: Any) -> Any:
    """Return a case as a run's plan."""
    from snnx.training.plan import Plan

    tree = more.pop("model", None) or model(case)
    precision = case["precision"]
    optim = snnx.Optim(snnx.SGD(lr=snnx.Dial("lr", 0.01), momentum=0.9))
    form = {"compile": case.get("compile"), "graph": case.get("graph"), **more}
    fixed = {"objective": snnx.SDT(), "optim": optim, "batch_size": case["batch"], "epochs": 2}
    return Plan(tree, steps=case["T"], backend=backend, precision=precision, **fixed, **form)


def session_of(case: Case, backend: str = "torch", **more: Any) -> Any:
    """Return a session of a case, lean as on a GPU."""
    from snnx.training.progress import open_session
    from snnx.world import ALONE, World

    group = more.pop("group", None)
    plan = plan_of(case, backend, lean=True, **more)
    world = ALONE if group is None else World(0, 1, group)
    return open_session(plan, plan.program(), world)[1]


def refusal(case: Case) -> str:
    """Return how a narrow net of the same form disagrees with the float64 reference, or nothing."""
    from snnx.analysis.bench import disagreement

    small = {**case, "width": min(case.get("width", 0.1), 0.1), "T": min(case["T"], 4), "batch": 2}
    plan = replace(plan_of(small), lean=True, compile=False, graph=None)
    error = disagreement(plan, load_backend("torch"), batch(small, 2))
    allowed = NETWORK_GRADIENT[plan.precision]
    return "" if error <= allowed else f"a gradient is off by {error:.1e}, above {allowed:.0e}"


def stepped(session: Any, given: Any) -> Figures:
    """Return the figures of a session's steps."""
    import torch

    cuda = torch.cuda.is_available()
    dials = {"lr": 0.01, "seed": 1, "epoch": 0}
    standing = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    session.read(session.step([given], {**dials, "step": 0}))
    first = time.perf_counter() - began
    for k in range(1, WARM):
        session.read(session.step([given], {**dials, "step": k}))
    replays = [s.replay for s in session.taker._slots.values() if s.replay is not None]
    call = replays[0] if replays else lambda: session.step([given], {**dials, "step": WARM})
    found = timed(call)
    began = time.perf_counter()
    tokens = [session.step([given], {**dials, "step": WARM + k}) for k in range(TIMED)]
    figures = session.read(tokens[-1])
    wall = 1e3 * (time.perf_counter() - began) / TIMED
    peak = {"peak_mib": (torch.cuda.max_memory_allocated() - standing) / 2**20} if cuda else {}
    form = session.step_form()
    more = {"first_s": first, "step_ms": wall, "form": form, "loss": figures["loss"]}
    return {**found, **more, **peak, "neurons": sorted(set(session.implementations().values()))}


def ours(case: Case) -> Figures:
    """Return the figures of our own step."""
    wrong = refusal(case) if case["model"] != "shd" else ""
    if wrong:
        return {"refused": wrong}
    if not case.get("group"):
        return stepped(session_of(case), batch(case))
    import torch
    import torch.distributed as dist

    kind = "nccl" if torch.cuda.is_available() else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(kind, init_method=f"file://{folder}/r", rank=0, world_size=1)
        try:
            return {**stepped(session_of(case, group=dist.group.WORLD), batch(case)), "group": kind}
        finally:
            dist.destroy_process_group()


def run(case: Case) -> Figures:
    """Return the time per step of a run's own loop over the loader, and of the device alone."""
    from snnx.data import Dataset
    from snnx.training import loop

    count = 2 * case["batch"] if "width" in case else 60 * case["batch"]
    given, test = batch(case, count), batch(case, 8)
    data = Dataset(given["x"], given["y"], test["x"], test["y"], "noise")
    training = loop.start(plan_of(case, lean=True, model=model(case)), data)
    spans = []
    for epoch in range(3):
        training.epoch, training.batch = epoch, 0
        began = time.perf_counter()
        loop._epoch(training, loop.Nobody())
        spans.append(1e3 * (time.perf_counter() - began) / (count // case["batch"]))
    found = stepped(training.session, batch(case))
    return {**found, "step_ms": spans[-1], "to_device": spans[-1] / found["device_ms"]}


def dsr(case: Case) -> Figures:
    """Return what a DSR step costs, or a part of the floor that it is held against."""
    import torch

    from snnx.methods.dsr import DSRMethod
    from snnx.methods.method import applied

    way = case["how"].removeprefix("dsr ")
    method = DSRMethod(backward="cheap" if way == "cheap" else "means").for_steps(case["T"])
    optim = snnx.Optim(snnx.SGD(lr=snnx.Dial("lr", 0.01), momentum=0.9))
    tree, optim = applied((method,), model(case), optim, snnx.SDT())
    case = {**case, "T": 1 if way == "one step" else case["T"], "compile": False}
    session = session_of(case, model=tree, methods=(method,))
    if way in ("means", "cheap", "one step"):
        return stepped(session, batch(case))
    net = session.net.train()
    x = torch.tensor(batch(case)["x"]).to(net.device)
    if way == "forward":
        with torch.no_grad():
            return timed(lambda: net(x, steps=case["T"]), 5)
    products, shapes = [], {p.path: p.shape for p in net.program.parameters}
    for step in net.program.steps:
        for prefix, how in (("", step.attributes), ("skip_", step.attributes.get("skip", {}))):
            weight = step.inputs.get(f"{prefix}weight")
            if weight is None or len(shapes[weight]) != 4 or "stride" not in how:
                continue
            o, kernel, _, i = shapes[weight]
            stride, (h, w) = how["stride"], step.shape[:2]
            n, options = case["T"] * case["batch"], {"device": net.device}
            last = {"memory_format": torch.channels_last}
            g = torch.rand(n, o, h, w, **options).contiguous(**last)
            image = torch.rand(n, i, h * stride, w * stride, **options).contiguous(**last)
            products.append((g, image, torch.rand(o, i, kernel, kernel, **options), how))

    def work() -> None:
        for g, image, weight, how in products:
            pair = ([how["stride"]] * 2, [how["padding"]] * 2, [1, 1])
            torch.ops.aten.convolution_backward(
                g, image, weight, None, *pair, False, [0, 0], 1, [False, True, False]
            )

    return {**timed(work, 5), "products": len(products)}


def mlx(case: Case) -> Figures:
    """Return the wall time of MLX's step, each one waited for."""
    session = session_of({**case, "compile": case["compile"]}, "mlx")
    given, spans = batch(case), []
    for k in range(WARM):
        began = time.perf_counter()
        session.read(session.step([given], {"step": k}))
        spans.append(time.perf_counter() - began)
    found = {"first_s": spans[0], "step_ms": 1e3 * statistics.median(spans[2:])}
    return {**found, "form": session.step_form()}


WAYS: dict[str, Callable[[Case], Figures]] = {
    "ours": ours, "run": run, "mlx": mlx, "dsr": dsr, "inference": inference,
    "relu": plain, "loop": plain, "spikingjelly": plain,
}  # fmt: skip


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case")
    parser.add_argument("--search", action="store_true")
    chosen = parser.parse_args()
    case = json.loads(chosen.case)
    import importlib.util

    needs = {"spikingjelly": "spikingjelly", "mlx": "mlx"}
    for word, package in needs.items():
        if word in case["how"] and importlib.util.find_spec(package) is None:
            print(json.dumps({"refused": f"{package} is not installed"}))
            return
    import torch

    torch.backends.cudnn.benchmark = chosen.search
    torch.backends.cudnn.benchmark_limit = ALGORITHMS
    found = WAYS[case["how"].split()[0]](case)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({**found, "device": where, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
