"""The summary of all reproduced claims, from their records.

python benchmarks/reproduce/index.py
"""

from __future__ import annotations

import importlib
import json
from collections import Counter

from common import PAGES, RESULTS, Record, reflow, table, typed

CLAIMS = {  # script: the claim of the four papers it belongs to
    "dspike_fdg": "1 Dspike",
    "dspike_fdg_choices": "1 Dspike",
    "dspike_fdg_training": "1 Dspike",
    "dspike_fdg_mnist": "1 Dspike",
    "dspike_fashion": "2 Dspike",
    "dsr": "3 DSR",
    "dsr_neurons": "3 DSR",
    "dsr_ablation": "3 DSR",
    "dsr_cost": "3 DSR",
    "asgl_width": "4 ASGL",
    "asgl_dead": "4 ASGL",
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
    ("Dspike Table 1 over 10 epochs of all 60,000 images", "time on two cores; needs a GPU"),
    ("ASGL Fig. 3a on a network as deep as ResNet-19", "time on two cores; needs a GPU"),
    ("ASGL on SHD and MedlyDB", "neither data set is at hand"),
    ("DSR: accuracy against T in a training as long as the paper's", "time; needs a GPU"),
)


def dirty() -> str:
    """Return which records were begun with changes that were not committed."""
    found = []
    for path in sorted(RESULTS.glob("reproduce-*.json")):
        values = json.loads(path.read_text("utf-8"))
        if values["environment"]["commit"].endswith("-dirty"):
            found.append(path.stem.removeprefix("reproduce-"))
    if not found:
        return ""
    names = ", ".join(found)
    return f""" "-dirty" ({names}) means that the checkout had changes which were not committed;
which ones is not recorded, so that there only the settings and the seeds are certain."""


def page() -> str:
    """Return the summary."""
    rows = []
    for claim, label in CLAIMS.items():
        script = importlib.import_module(claim)
        for what, paper, here, verdict, *backend in script.summary(Record(claim)):
            command = f"`{typed(claim, backend[0] if backend else 'torch')}`"
            rows.append([label, what, paper, here, verdict, command, f"[page]({claim}.md)"])
    head = ["", "claim", "paper", "here", "verdict", "command", ""]
    count = Counter(row[4].strip("*") for row in rows)
    counted = ", ".join(f"{n} {word}" for word, n in count.most_common())
    return reflow(
        f"""# Reproduction

What the four papers claim and what comes out here, on real data (events are semi-synthetic), each
by one command. These runs are small: one CPU thread, small networks, few epochs. Each page says
what was reduced. A paper's number stands beside ours to show the direction, not to be met: data
and networks differ.

{len(rows)} rows: {counted}.

{table(head, rows)}

## How a verdict is made

- A difference ("A above B"): reproduced where the mean of the differences, paired by seed (same
  weights at the start, same batches), has the claimed sign and is above two standard errors.
- A claim with a limit of its own ("at least 15 points", "within 0.5 point", "> 0.8"): reproduced
  where the mean is within it.
- A claim of several parts (every step, every T): reproduced where all hold, "in part" where half
  or more do.
- "In part" also: an effect that is clear but far smaller than the paper's, and a claim that holds
  under one of several choices that were tried; the page says which.
- A claim that two things are equal, which no run can prove: "no difference seen" where the mean is
  below two standard errors, else "a difference seen".
- "Measured": there is no claim to hold it to.

With three seeds chance alone puts a mean above two standard errors one time in eleven, with five
one in seventeen, with ten one in twenty-six; among so many rows some will be chance. "Not
reproduced" means that the effect did not show in our small setting; each page gives the likely
reason. It does not say that the paper is wrong.

## Not run yet

{table(["claim", "why"], NOT_RUN)}

## How it works

A script of `benchmarks/reproduce/` takes the runs that its record in `benchmarks/results/`
lacks, one by one, and then writes its page and figure here. It can be stopped at any time and
goes on where it was. With `--page` it writes the page from the record alone; a test holds every
page to its record. Accuracy is that of the last epoch, never the best one; ± is the sample
standard deviation over seeds, and of a difference its standard error.

The commit that a page names is the last one that had changed the library (`snnx/`, `backends/`)
when its first run was taken; runs taken later at another one are counted beside it. Older records
name the whole checkout's commit.{dirty()}

MNIST: `snnx data get mnist`. Fashion-MNIST: `apt-get install dataset-fashion-mnist` on Debian or
Ubuntu. The digits are embedded.
"""
    )


if __name__ == "__main__":
    (PAGES / "index.md").write_text(page(), "utf-8")
    print(PAGES / "index.md")
