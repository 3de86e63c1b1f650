"""One case of `networks.py`, in this process: JSON on the last line.

python benchmarks/network_case.py '{"model": "resnet18", "T": 4, "batch": 2, "how": "ours", ...}'
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

ALGORITHMS = 4  # that cuDNN may try for a convolution: as many as a session lets it try
WAYS = {  # by the first word of how: in which file, and which function
    "ours": ("network_ours", "ours"),
    "run": ("network_ours", "run"),
    "mlx": ("network_ours", "mlx"),
    "inference": ("network_ours", "inference"),
    "dsr": ("network_dsr", "dsr"),
    "group": ("network_group", "group"),
}
PACKAGES = ("spikingjelly", "snntorch", "mlx")  # which a case may need


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case")
    parser.add_argument("--no-search", action="store_false", dest="search")
    chosen = parser.parse_args()
    case = json.loads(chosen.case)
    words = case["how"].split()
    for package in PACKAGES:
        if package in words and importlib.util.find_spec(package) is None:
            print(json.dumps({"refused": f"{package} is not installed"}))
            return
    import torch

    torch.backends.cudnn.benchmark = chosen.search
    torch.backends.cudnn.benchmark_limit = ALGORITHMS
    way = WAYS.get(words[0], ("network_plain", "plain"))
    if words[0] == "inference" and len(words) > 1:
        way = ("network_plain", "inference")
    from snnx.backend import BackendError

    try:
        found = getattr(importlib.import_module(way[0]), way[1])(case)
    except BackendError as error:  # a form that this machine does not have
        found = {"refused": str(error)}
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({**found, "device": where, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
