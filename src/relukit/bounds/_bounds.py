"""The result of every bound method."""

from dataclasses import dataclass

import numpy as np

from relukit._types import Array
from relukit.network import Network
from relukit.piecewise import PiecewiseLinear


@dataclass(frozen=True, eq=False)
class Bounds:
    """Lower and upper bounds of every node's value over an input set.

    Arguments:
        network: The network they belong to.
        lower, upper: One array per node, shape `(*batch, size)`; no value of the network over the set lies outside.
    """

    network: Network
    lower: tuple[Array, ...]
    upper: tuple[Array, ...]

    @property
    def output(self) -> tuple[Array, Array]:
        """Bounds of the outputs."""
        return self.lower[-1], self.upper[-1]

    def before(self, index: int) -> tuple[Array, Array]:
        """Bounds of what activation node `index` reads."""
        source = self.network.nodes[index].inputs[0]
        return self.lower[source], self.upper[source]

    def off(self, index: int) -> np.ndarray:
        """Units of activation node `index` that are constant over the set: provably dead."""
        lower, upper = self.before(index)
        op = self.network.nodes[index].op
        if not isinstance(op, PiecewiseLinear):
            return np.zeros(lower.shape, bool)
        first, last = op.piece(lower), op.piece(upper)
        flat = np.stack([np.broadcast_to(s == 0, lower.shape) for s in op.slopes])
        return (first == last) & np.take_along_axis(flat, first[None], axis=0)[0]

    def undecided(self, index: int) -> np.ndarray:
        """Units of activation node `index` with a kink inside their bounds (every unit, for a smooth activation)."""
        lower, upper = self.before(index)
        return undecided(self.network.nodes[index].op, lower, upper)

    def always_on(self, index: int) -> np.ndarray:
        """Units on one sloped piece over the whole set."""
        return ~self.undecided(index) & ~self.off(index)


def undecided(op: object, lower: Array, upper: Array) -> np.ndarray:
    """Which units have a kink strictly inside `(lower, upper)`."""
    if not isinstance(op, PiecewiseLinear):
        return np.ones(lower.shape, bool)
    found = np.zeros(lower.shape, bool)
    for knot in op.knots:
        found |= (lower < knot) & (upper > knot)
    return found
