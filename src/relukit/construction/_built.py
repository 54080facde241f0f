"""What `build` returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relukit._shown import Shown
from relukit.construction._approximate import Proof
from relukit.network import Network


@dataclass(frozen=True, eq=False)
class Built(Shown):
    """A network, the function it stands for, and how far apart they are.

    Arguments:
        network: With `box` set where the function has a domain.
        function: The table, grid, triangulation or max-min form.
        form: `hinges`, `hats`, `anchored hats`, `max-min`, `mesh` or `centered mesh`.
        max_error_float32, max_error_float64: Largest difference to the function, measured against rational arithmetic on knots, their
            neighbors and points between; inputs are numbers of that precision. `relative_error_...` are shares of `largest_value`.
        error_bound_float32, error_bound_float64: Bounds of it for every point of the domain (of max-min forms without a box: inputs from -1 to 1)
            and every order of summation; None where none is known.
        fewest_units: Units of the smallest exact network of the kind (hinges for tables).
        proof: For functions given by a bound: why the network is within eps.
    """

    network: Network
    function: Any
    form: str
    max_error_float32: float
    max_error_float64: float
    error_bound_float32: float | None = None
    error_bound_float64: float | None = None
    fewest_units: int | None = None
    proof: Proof | None = None
    cpu_seconds: float = 0.0
    tried: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def hidden_units(self) -> int:
        return self.network.units

    @property
    def largest_value(self) -> float:
        """Largest value by size that the function was given with (values, or offsets of affine pieces): what errors are relative to."""
        f = self.function
        return float(np.abs(f.y if hasattr(f, "y") else f.values if hasattr(f, "values") else f.scale).max())

    @property
    def relative_error_float32(self) -> float:
        return self.max_error_float32 / (self.largest_value or 1.0)

    @property
    def relative_error_float64(self) -> float:
        return self.max_error_float64 / (self.largest_value or 1.0)

    def to_dict(self) -> dict[str, Any]:
        keys = (
            "form", "hidden_units", "fewest_units", "max_error_float32", "max_error_float64", "relative_error_float32",
            "relative_error_float64", "largest_value", "error_bound_float32", "error_bound_float64", "cpu_seconds",
        )  # fmt: skip
        more: dict[str, Any] = {"inputs": self.network.inputs, "parameters": self.network.parameters, "tried": list(self.tried)}  # fmt: skip
        if self.proof is not None:
            more["proof"] = self.proof.to_dict()
        known = lambda v: None if isinstance(v, float) and v != v else v  # no float32 where float64 was asked for
        return {k: known(getattr(self, k)) for k in keys} | more

    def __repr__(self) -> str:
        units = f"{self.hidden_units} hidden unit" + "s" * (self.hidden_units != 1)
        single = (
            "" if self.max_error_float32 != self.max_error_float32 else f"{self.max_error_float32:.1e} in float32, "
        )
        return f"Built({self.form}, {units}, error {single}{self.max_error_float64:.1e} in float64)"
