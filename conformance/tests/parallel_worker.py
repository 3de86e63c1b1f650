"""One of several processes: python parallel_worker.py BACKEND FILE.npz computes all cases."""

import sys

import numpy as np
from parallel_cases import everything

from snnx.backend import load_backend
from snnx.program import flatten
from snnx.world import World
from snnx_conformance.training import ROUNDED


def wrapped(world: World) -> dict[str, np.ndarray]:
    """Gradients of the native module inside torch's own DistributedDataParallel, on a grid."""
    import torch

    net, _ = ROUNDED[1]
    program = flatten(net.model)
    made = load_backend("torch").build(program, net.parameters(program), device="cpu").train()
    ddp = torch.nn.parallel.DistributedDataParallel(made, process_group=world.group)
    own, _ = world.share(4)
    x = torch.from_numpy(net.batch(program)["x"])
    y, _ = ddp(x[:, own])
    y.sum().backward()
    grads = {k: p.grad.numpy() for k, p in made.named_parameters() if p.grad is not None}
    whole = load_backend("torch").build(program, net.parameters(program), device="cpu").train()
    y, _ = whole(x)
    (y.sum() / world.size).backward()  # the hooks take the mean over processes
    wanted = {k: p.grad.numpy() for k, p in whole.named_parameters() if p.grad is not None}
    assert grads.keys() == wanted.keys()
    same = [np.array_equal(grads[k], wanted[k]) and bool(np.any(wanted[k])) for k in wanted]
    return {"ddp: same": np.array(same)}


def main() -> None:
    backend = load_backend(sys.argv[1])
    world = backend.world("cpu")
    found = everything(backend, world)
    if backend.name == "torch":
        found |= wrapped(world)
    bits = "".join(f"{k} {v.dtype} {v.shape} {v.tobytes().hex()}\n" for k, v in found.items())
    world.check_alike("what the processes found", bits)
    if world.rank == 0:
        np.savez(sys.argv[2], size=world.size, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
