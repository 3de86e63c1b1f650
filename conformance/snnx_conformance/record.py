"""Records: what a run of the suite found, as JSON, and the comparison of two of them.

The frameworks usually sit on different machines. A record holds, per backend and case, the digest
of the outputs that must be equal bit for bit, and the errors of the others against the float64
reference, which is the same text on both machines. Comparing records needs neither framework.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snnx import serial
from snnx_conformance.case import Case, Outcome

FORMAT = 1
MOST_BYTES = 1 << 26
Record = dict[str, Any]


class RecordError(ValueError):
    """A file that is no record, or two records that cannot be compared."""


def environment() -> dict[str, str]:
    """Return the machine and the versions that every backend shares."""
    import numpy as np

    import snnx

    return {
        "snnx": snnx.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "release": platform.release(),
    }


def make(
    results: Sequence[tuple[Case, Outcome]], described: Mapping[str, Mapping[str, str]], quick: bool
) -> Record:
    """Return the record of a run; `described` holds what each backend says of itself."""
    from snnx.ops import SPEC_HASH

    backends: dict[str, Any] = {
        name: {"describe": dict(text), "cases": {}} for name, text in described.items()
    }
    for case, outcome in results:
        backends[case.backend]["cases"][f"{case.level}/{case.name}"] = outcome.as_dict()
    return {
        "format": FORMAT,
        "spec": SPEC_HASH,
        "quick": quick,
        "environment": environment(),
        "backends": backends,
    }


def write(path: Path, record: Record) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(path: Path) -> Record:
    """Return the record in a file; RecordError says what is wrong with it."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RecordError(
                f"{path}: is larger than {MOST_BYTES >> 20} MiB, too large for a record"
            )
        record = serial.parse(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except serial.SerialError as error:
        raise RecordError(f"{path}: is no JSON ({error}); write it with --record") from error
    if not _is_record(record):
        raise RecordError(f"{path}: is no record of the suite; write it with --record")
    if record.get("format") != FORMAT:
        raise RecordError(
            f"{path}: format {record.get('format')!r}, this snnx reads {FORMAT}; use the same snnx"
        )
    return record


def _is_record(record: Record) -> bool:
    """Tell whether what a comparison reads is there and of its kind."""
    backends = record.get("backends")
    return (
        isinstance(record.get("spec"), str)
        and isinstance(backends, dict)
        and all(isinstance(backend, dict) for backend in backends.values())
        and all(isinstance(backend.get("cases"), dict) for backend in backends.values())
        and all(
            _is_case(case) for backend in backends.values() for case in backend["cases"].values()
        )
    )


def _is_case(case: Any) -> bool:
    return isinstance(case, dict) and all(
        isinstance(case.get(key), str) for key in ("status", "digest", "message")
    )


@dataclass(slots=True)
class Verdict:
    """What a comparison of records found: how many cases, of which how many bit for bit."""

    exact: int = 0
    close: int = 0
    problems: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing differed."""
        return not self.problems


def compare_records(a: Record, b: Record) -> Verdict:
    """Compare every backend of one record with every backend of the other.

    Equal bits where both have a digest; elsewhere both must be within tolerance of the reference.
    Raises: RecordError, where the specs differ.
    """
    if a["spec"] != b["spec"]:
        raise RecordError(
            f"the records are of different specs, {a['spec'][:12]} and {b['spec'][:12]}; "
            "run both with the same snnx"
        )
    verdict = Verdict()
    for name_a, ours in a["backends"].items():
        for name_b, theirs in b["backends"].items():
            _pair(verdict, name_a, name_b, ours["cases"], theirs["cases"])
    if verdict.exact == 0:
        verdict.problems.append("nothing was compared bit for bit: no common case has a digest")
    return verdict


def _pair(
    verdict: Verdict, name_a: str, name_b: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> None:
    common = [key for key in ours if key in theirs]
    before = (verdict.exact, verdict.close)
    for key in common:
        first, second = ours[key], theirs[key]
        for name, outcome in ((name_a, first), (name_b, second)):
            if outcome["status"] == "failed":
                verdict.problems.append(f"{key}: failed on {name}: {outcome['message']}")
        if first["status"] != "passed" or second["status"] != "passed":
            continue
        if first["digest"] and second["digest"]:
            verdict.exact += 1
            if first["digest"] != second["digest"]:
                verdict.problems.append(
                    f"{key}: {name_a} and {name_b} have other bits "
                    f"({first['digest'][:12]}, {second['digest'][:12]})"
                )
        else:
            verdict.close += 1
    exact, close = verdict.exact - before[0], verdict.close - before[1]
    only = len(ours) + len(theirs) - 2 * len(common)
    verdict.pairs.append(
        f"{name_a} and {name_b}: {exact} cases bit for bit, {close} within tolerance of the "
        f"reference, {only} in one record only"
    )
