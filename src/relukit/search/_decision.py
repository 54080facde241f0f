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
