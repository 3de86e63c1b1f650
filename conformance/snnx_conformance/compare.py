"""The one comparison of the suite.

Arrays are equal bit for bit, or the largest error, relative to the largest number of the reference
array, is at most a tolerance. Tolerances come from the op table; those of whole networks, which no
op has, stand here and nowhere else. A number that is not finite fails, and so does a case that
compared nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from snnx_conformance.case import Outcome

Arrays = Mapping[str, np.ndarray]


@dataclass(slots=True)
class Comparison:
    """Collects the comparisons of one case and says what came of them.

    `place` is what a message begins with: backend, op, sample, dtype. `reproduce` is a command.
    """

    place: str
    reproduce: str = ""
    compared: int = 0
    total: int = 0
    error: float = 0.0
    problems: list[str] = field(default_factory=list)
    exact: bool = False
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def check(
        self,
        kind: str,
        wanted: Arrays,
        got: Arrays,
        allowed: float | None,
        keep: Arrays | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        """Compare arrays by name; `allowed` None means bit for bit.

        `keep` marks, by name, the elements that are compared; an array without a mark is compared
        whole. `scales` gives, by name, the least scale of an error where the array's own largest
        number says little of the numbers it was summed from. `kind` is the word for such an array
        in messages: "output", "gradient".
        """
        missing = [n for n in wanted if n not in got]
        extra = [n for n in got if n not in wanted]
        if missing or extra:
            self.problems.append(f"{kind}s missing {missing}, not asked for {extra}")
        for name in wanted:
            if name in got:
                mark = None if keep is None else keep.get(name)
                least = 0.0 if scales is None else scales.get(name, 0.0)
                self._one(f"{kind} {name}", wanted[name], got[name], allowed, mark, least)

    def _one(
        self,
        what: str,
        wanted: np.ndarray,
        got: np.ndarray,
        allowed: float | None,
        keep: np.ndarray | None,
        least: float,
    ) -> None:
        wanted, got = np.asarray(wanted), np.asarray(got)
        if wanted.shape != got.shape:
            self.problems.append(f"{what} has shape {got.shape}, the reference {wanted.shape}")
            return
        wanted, got = wanted.astype(np.float64), got.astype(np.float64)
        mark = np.ones(wanted.shape, bool) if keep is None else np.broadcast_to(keep, wanted.shape)
        self.total += wanted.size
        self.compared += int(mark.sum())
        if allowed is None:
            self.exact = True
            self._digest.update(f"{what}{wanted.shape}".encode())
            self._digest.update((got + 0.0).tobytes())  # -0.0 is 0.0
        if not np.all(np.isfinite(wanted)):
            self.problems.append(f"{what}: the reference is not finite, the case says nothing")
            return
        bad = ~np.isfinite(got)
        if bad.any():
            place = tuple(int(i[0]) for i in np.nonzero(bad))
            self.problems.append(f"{what} is {got[place]} at {list(place)}")
            return
        if not mark.any():
            return
        scale = max(float(np.max(np.abs(wanted))), least)
        miss = np.where(mark, np.abs(got - wanted), 0.0)
        worst = float(np.max(miss))
        self.error = max(self.error, worst / scale if scale else worst)
        limit = 0.0 if allowed is None else allowed * scale
        if worst > limit:
            at = np.unravel_index(int(np.argmax(miss)), miss.shape)
            place = [int(i) for i in at]
            rule = "equal bits" if allowed is None else f"allowed {limit:.2g}"
            self.problems.append(
                f"{what} off by {worst:.3g} at {place}, {rule}; reference {wanted[at]:.9g}, "
                f"got {got[at]:.9g}; {int((miss > limit).sum())} of {miss.size} are off"
            )

    def require(self, condition: bool, problem: str) -> None:
        """Add a problem unless the condition holds, and count it as one number compared."""
        self.compared += 1
        self.total += 1
        if not condition:
            self.problems.append(problem)

    def outcome(self) -> Outcome:
        """Return the outcome; a case that compared nothing has failed."""
        problems = list(self.problems)
        if self.compared == 0:
            problems.append("nothing was compared")
        share = 100.0 * self.compared / max(self.total, 1)
        message = ""
        if problems:
            message = f"{self.place}: {'; '.join(problems)}; {share:.4g} % of numbers compared"
            message += f"; {self.reproduce}" if self.reproduce else ""
        digest = self._digest.hexdigest() if self.exact else ""
        status = "failed" if problems else "passed"
        return Outcome(status, self.compared, self.total, self.error, message, digest)
