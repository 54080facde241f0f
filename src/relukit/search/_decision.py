"""What a search answers."""

from dataclasses import dataclass

from relukit._types import Array


@dataclass(frozen=True, eq=False)
class Decision:
    """What a search found.

    Arguments:
        status: `sat` (a point with all rows at most 0, confirmed by `confirm`), `unsat` (proven, rounding included) or `unknown`.
        point: The witness, or None.
        boxes: Boxes bounded.
        reason: Why it is unknown.
    """

    status: str
    point: Array | None
    boxes: int
    engine: str
    reason: str = ""


def up_to(bound: float) -> str:
    """How far a proof came whose rows have this as their proven bound."""
    return f"what is to be proven above 0 is proven above {bound:.3g}"


def touching(leaves: int) -> str:
    """Why a search that ended has no answer."""
    return f"{leaves} {'leaf touches' if leaves == 1 else 'leaves touch'} the boundary within rounding"
