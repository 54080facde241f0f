"""What a compression gives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit.compression._proof import Record, write_proof
from relukit.network import Network


@dataclass(frozen=True, eq=False)
class Compression(Shown):
    """A smaller network and what is known about it.

    Arguments:
        network: The network to use instead; equal to the original on the set (and only there).
        form: `plain` (layers with fewer units), `skip` (undecided gates with direct connections from the input), `channels` (convolutions
            with fewer channels) or `unchanged`.
        parameters_before, parameters_after: Stored numbers.
        units: Hidden units before; `dead` and `always_on` of them are proven so on the set.
        merged: Units that are copies or multiples of others, numbers, or that nothing reads.
        undecided_by_samples: Units for which points of the set show both sides of a kink: no proof can make them stable.
        open_units: Units neither proven stable nor seen on both sides.
        given_up: Gates replaced by lines within the tolerance.
        max_difference: Largest difference of any output seen on sampled inputs, both networks in float32.
        error_bound: Bound of the difference of the two functions in real arithmetic (rounding of the folded weights, and the tolerance used).
        float32_bound: Bound of the difference when both are computed in float32, whatever the order of their sums.
        proven: Whether that bound covers the whole set.
        reason: One sentence.
        cpu_seconds: Of work by this process; `load_seconds` went to loading or compiling code, once in a process.
    """

    network: Network
    form: str
    parameters_before: int
    parameters_after: int
    units: int
    dead: int
    always_on: int
    undecided_by_samples: int
    max_difference: float
    error_bound: float
    proven: bool
    reason: str
    cpu_seconds: float
    load_seconds: float = 0.0
    merged: int = 0
    given_up: int = 0
    float32_bound: float = 0.0
    _proof: Record | None = field(default=None, repr=False)

    @property
    def stable_units(self) -> int:
        return self.dead + self.always_on

    @property
    def open_units(self) -> int:
        return max(self.units - self.stable_units - self.undecided_by_samples, 0)

    def save_proof(self, path: str | Path, original: str | Path, small: str | Path) -> float:
        """Write the proof for two files, once the independent checker accepts it.

        Arguments:
            original: The file the network came from.
            small: Where `network` was saved.

        Returns:
            The bound of the difference of the two files' functions, rounding of stored weights included.

        Raises:
            InvalidInput: `compress` was not called with `proof=True`, or the checker does not accept.
        """
        if self._proof is None:
            raise InvalidInput("this compression holds no proof: call compress(..., proof=True)")
        free = (
            self.form == "unchanged" or self.given_up
        )  # what was given up, the checker bounds by itself: no rounding explains it
        allowed = np.inf if free else 1e-6 + 10 * (self.error_bound + self.float32_bound)
        return write_proof(path, self._proof, original, small, allowed)

    def to_dict(self) -> dict[str, Any]:
        keys = (
            "form", "parameters_before", "parameters_after", "units", "stable_units", "dead", "always_on", "merged", "given_up",
            "undecided_by_samples", "open_units", "proven", "error_bound", "reason", "cpu_seconds", "load_seconds",
        )  # fmt: skip
        return {k: getattr(self, k) for k in keys} | {
            "max_difference": self.max_difference,
            "max_difference_float32": self.max_difference,
            "float32_bound": self.float32_bound,
        }

    def __repr__(self) -> str:
        return (
            f"Compression({self.parameters_before} -> {self.parameters_after} parameters, {self.form}: {self.reason})"
        )
