"""Verdicts: what a proof attempt ends with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from relukit._shown import Shown
from relukit._types import Array

if TYPE_CHECKING:
    from relukit.verification.certificate import Certificate


def _listed(values: Array) -> str:
    """The first entries, and how many there are in all."""
    flat = np.ravel(values)
    more = "" if len(flat) <= 8 else f", ... ({len(flat)} in all)"
    return "[" + ", ".join(f"{v:.6g}" for v in flat[:8]) + more + "]"


def _work(verdict: Any) -> str:
    return f"{verdict.engine}, {verdict.boxes:,} box{'es' * (verdict.boxes != 1)}, {verdict.cpu_seconds:.3g} CPU-s"


@dataclass(frozen=True, eq=False)
class Verified(Shown):
    """No counterexample exists, in real arithmetic, rounding of the proof included.

    Arguments:
        boxes: Boxes or linear programs the proof took.
        certificate: A record that `relukit check` accepts, where one was asked for and could be made.
        note: Why there is no certificate, or what the proof covers beyond real arithmetic.
    """

    boxes: int
    engine: str
    cpu_seconds: float
    certificate: "Certificate | None" = field(default=None, repr=False)
    note: str = field(default="", repr=False)
    status = "unsat"

    def to_dict(self) -> dict[str, Any]:
        more = {"note": self.note} if self.note else {}
        return {
            "status": self.status,
            "boxes": self.boxes,
            "engine": self.engine,
            "cpu_seconds": self.cpu_seconds,
        } | more

    def __repr__(self) -> str:
        return f"Verified({_work(self)}{'; ' * bool(self.note)}{self.note})"


@dataclass(frozen=True, eq=False)
class Falsified(Shown):
    """A counterexample, confirmed by the original model in its own precision.

    Arguments:
        witness: The input.
        outputs: What the original returns for it.
    """

    witness: Array
    outputs: Array
    boxes: int
    engine: str
    cpu_seconds: float
    status = "sat"

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status, "witness": self.witness.tolist(), "outputs": self.outputs.tolist(), "boxes": self.boxes, "engine": self.engine,
            "cpu_seconds": self.cpu_seconds,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Falsified(witness {_listed(self.witness)}, outputs {_listed(self.outputs)}; {_work(self)})"


@dataclass(frozen=True, eq=False)
class Undecided(Shown):
    """Neither a proof nor a counterexample.

    Arguments:
        reason: Why.
        next_step: What would help.
    """

    reason: str
    next_step: str
    boxes: int
    engine: str
    cpu_seconds: float
    status = "unknown"

    @property
    def timed_out(self) -> bool:
        return self.reason.startswith("time is up")

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": "timed-out" if self.timed_out else self.status, "reason": self.reason, "next_step": self.next_step, "boxes": self.boxes,
            "engine": self.engine, "cpu_seconds": self.cpu_seconds,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Undecided({self.reason}; {self.next_step}; {_work(self)})"


Verdict = Verified | Falsified | Undecided


@dataclass(frozen=True, eq=False)
class Interval(Shown):
    """A quantity between a proven bound and one that is reached or proven.

    Arguments:
        lower, upper: The quantity lies between them.
        proven: Whether they agree up to the tolerance that was asked for.
        at: A point where the inner end is reached, where there is one.
    """

    lower: float
    upper: float
    proven: bool
    at: Array | None = None
    boxes: int = 0
    cpu_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        at = None if self.at is None else self.at.tolist()
        return {
            "lower": self.lower,
            "upper": self.upper,
            "proven": self.proven,
            "at": at,
            "boxes": self.boxes,
            "cpu_seconds": self.cpu_seconds,
        }

    def __repr__(self) -> str:
        ends = f"{self.lower:.9g} to {self.upper:.9g}"
        return f"Interval({ends}, {'proven' if self.proven else 'not closed'}, {self.cpu_seconds:.3g} CPU-s)"
