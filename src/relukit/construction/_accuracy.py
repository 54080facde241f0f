"""How far a built network is from the function it stands for, measured against rational arithmetic."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.construction._table import Table
from relukit.network import Affine, Network
from relukit.network.affine import Sparse

_CHUNK = 1 << 22  # entries of one array of intervals times units
_MEASURED = 2e7  # points times knots that are measured


def evaluate(network: Network, x: Array, dtype: Any) -> Array:
    """Outputs at rows of x with all weights and all arithmetic in one precision."""
    values = [np.asarray(x, dtype)]
    single = np.dtype(dtype) == np.float32
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            maps = [Sparse(m.W.astype(np.float32)) if single and isinstance(m, Sparse) else m for m in node.op.maps]
            parts = [m.apply(values[j]) for m, j in zip(maps, node.inputs)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            values.append(total + node.op.bias.astype(dtype))
        else:
            values.append(node.op(values[node.inputs[0]]))
    return values[-1]


class Truth:
    """Points (rounded to a precision first) and the function there, in rational arithmetic."""

    def __init__(self, exact: Callable[[tuple[Fraction, ...]], Fraction], points: Array, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.points = np.unique(np.asarray(points, self.dtype), axis=0)
        self.values = [exact(tuple(map(Fraction, row))) for row in self.points.tolist()]

    def error(self, network: Network) -> float:
        """Largest difference of a network computed in that precision."""
        widest, worst = max(n.size for n in network.nodes), 0.0
        parts = max(1, len(self.points) * widest // _CHUNK)
        got = np.concatenate([evaluate(network, rows, self.dtype)[:, 0] for rows in np.array_split(self.points, parts)])
        if not np.all(np.isfinite(got)):
            return float("inf")
        for value, true in zip(got.tolist(), self.values):
            worst = max(worst, abs(float(Fraction(value) - true)))
        return worst


def measured_error(network: Network, exact: Callable[[tuple[Fraction, ...]], Fraction], points: Array, dtype: Any) -> float:  # fmt: skip
    """Largest difference at the given points to a function known in rational arithmetic."""
    return Truth(exact, points, dtype).error(network)


def test_points(table: Table, dtype: Any, most: int = 8_000) -> Array:
    """Knots, their two neighbors in `dtype`, middles, and points between, inside the table; shape `(count, 1)`."""
    x = table.x
    most = min(most, max(400, int(_MEASURED / len(x))))
    if 4 * len(x) > most:
        x = x[np.unique(np.linspace(0, len(x) - 1, most // 4).astype(int))]
    knots = x.astype(dtype)
    generator = np.random.default_rng(0)
    inside = x[:-1] + np.diff(x) * generator.random(len(x) - 1)
    points = np.concatenate([knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf), (x[:-1] + np.diff(x) / 2).astype(dtype), inside.astype(dtype)])  # fmt: skip
    return points[(points >= table.x[0]) & (points <= table.x[-1])][:, None].astype(dtype)
