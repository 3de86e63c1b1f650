"""The summary of all reproduced claims, from their records.

python benchmarks/reproduce/index.py
"""

from __future__ import annotations

import importlib

from common import PAGES, Record, reflow, table

CLAIMS = {  # script: the claim of the four papers it belongs to
    "dspike_fdg": "1 Dspike",
    "dspike_fdg_choices": "1 Dspike",
    "dspike_fdg_training": "1 Dspike",
    "dspike_fashion": "2 Dspike",
    "dsr": "3 DSR",
    "dsr_ablation": "3 DSR",
    "dsr_cost": "3 DSR",
    "asgl_width": "4 ASGL",
    "asgl_start": "4 ASGL",
    "asgl_backends": "4 ASGL",
    "asgl_adaptive": "4 ASGL",
    "asgl_noise": "4 ASGL",
    "asgl_autoencoder": "4 ASGL",
    "asgl_sequences": "5 ASGL",
    "tet": "6 TET",
    "tet_long": "6 TET",
    "tet_digits": "6 TET",
    "time_inheritance": "7 time inheritance",
    "energy": "8 energy",
}

NOT_RUN = (
    ("Any claim with the network, data and epochs of its paper", "needs a GPU, and the data"),
    ("Dspike Table 1 over 10 epochs of all 60,000 images", "time"),
    ("ASGL Fig. 3a on a network as deep as ResNet-19", "time"),
    ("ASGL on SHD and MedlyDB", "neither data set is at hand"),
    ("DSR with LIF layers: accuracy against T", "time"),
    ("Dspike Table 1 and further seeds of Fig. 2 on MLX", "time"),
    (
        "Claim 6 on MLX beyond the digits",
        "MLX convolutions are too slow on a CPU for it; needs a GPU",
    ),
)


def page() -> str:
    """Return the summary."""
    rows = []
    for claim, label in CLAIMS.items():
        script = importlib.import_module(claim)
        command = f"`python benchmarks/reproduce/{claim}.py`"
        for what, paper, here, verdict in script.summary(Record(claim)):
            rows.append([label, what, paper, here, verdict, command, f"[page]({claim}.md)"])
    head = ["", "claim", "paper", "here", "verdict", "command", ""]
    return reflow(
        f"""# Reproduction

What the four papers claim and what comes out here, on real data (events are semi-synthetic), each
by one command. These runs are small: one CPU thread, small networks, few epochs. Each page says
what was reduced. A paper's number stands beside ours to show the direction, not to be met: data
and networks differ.

{table(head, rows)}

"Not reproduced" means that the effect did not show in our small setting; each page gives the
likely reason. It does not say that the paper is wrong.

## Not run yet

{table(["claim", "why"], NOT_RUN)}

## How it works

A script of `benchmarks/reproduce/` takes the runs that its record in `benchmarks/results/`
lacks, one by one, and then writes its page and figure here. It can be stopped at any time and
goes on where it was. With `--page` it writes the page from the record alone; a test holds every
page to its record. Accuracy is that of the last epoch, never the best one; ± is the sample
standard deviation over seeds.

MNIST: `snnx data get mnist`. Fashion-MNIST: `apt-get install dataset-fashion-mnist` on Debian or
Ubuntu. The digits are embedded.
"""
    )


if __name__ == "__main__":
    (PAGES / "index.md").write_text(page(), "utf-8")
    print(PAGES / "index.md")
