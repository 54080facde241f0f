"""Several questions as one: the least of a network's rows, with a gate for each comparison.

Whether any of several rows reaches 0 on a box is one search over one tree where the least row is asked about; one by one, the
same bounds of the same gates are computed once for each row.
"""

import numpy as np

from relukit._types import Array
from relukit.network import Affine, Network, Node
from relukit.network.affine import Dense
from relukit.piecewise import PiecewiseLinear
from relukit.search._few_chain import Rows

_RELU = PiecewiseLinear([0.0], [0.0, 1.0], name="relu")


def least(network: Network) -> Network:
    """The network followed by the least of its outputs: `min(a, b) = a - relu(a - b)`, pair by pair."""
    nodes = list(network.nodes)
    while (width := nodes[-1].shape[0]) > 1:
        pairs, values = width // 2, len(nodes) - 1
        first, difference = np.zeros((pairs + width % 2, width)), np.zeros((pairs, width))
        for k in range(pairs):
            first[k, 2 * k] = difference[k, 2 * k] = 1.0
            difference[k, 2 * k + 1] = -1.0
        if width % 2:
            first[-1, -1] = 1.0
        minus = -np.eye(len(first))[:, :pairs]
        nodes += [
            Node(Affine((Dense(difference),), np.zeros(pairs)), (values,), (pairs,), "differences"),
            Node(_RELU, (values + 1,), (pairs,), "comparisons"),
            Node(Affine((Dense(first), Dense(minus)), np.zeros(len(first))), (values, values + 2), (len(first),), "least"),
        ]  # fmt: skip
    return Network(tuple(nodes), network.notes, "", network.dtype, network.box)


class LeastRow:
    """The least of `Rows` as one row, for attacks."""

    outputs = 1

    def __init__(self, rows: Rows) -> None:
        self.rows, self.layers = rows, None

    def __call__(self, points: Array) -> Array:
        return self.rows(points).min(axis=1, keepdims=True)

    def worst(self, points: Array) -> Array:
        return self(points)[:, 0]

    def slope(self, points: Array) -> tuple[Array, Array]:
        """The row, and its gradient at each point `(k, n)`."""
        return self.rows.slope(points, least=True)
