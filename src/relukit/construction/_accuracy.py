"""How far a built network is from the function it stands for: measured against rational arithmetic, and bounded."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from relukit._numerics import unit_roundoff
from relukit._types import Array
from relukit.construction._table import Table
from relukit.network import Affine, Network
from relukit.network.affine import AbstractLinear, Dense, Sparse

_CHUNK = 1 << 22  # entries of one array of intervals times units
_BOUNDED = 1.5e8  # intervals times units that are bounded: a table of about 6,000 rough knots, half a minute
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


def table_bound(network: Network, table: Table, dtype: Any) -> float | None:
    r"""Bound of the rounding error anywhere on the table, for any order of summation; None for tables too long to bound.

    Every value inside the network is affine between neighboring knots (and anchors), so its size there is that of an end. With
    inputs off by e and weights off by :math:`\Delta` from their ideal values, an affine node is off by at most
    :math:`|W| e + \Delta_W |v| + \Delta_b + \gamma_{m+1} (|W||v| + |b|)`, m counting the terms that are not 0; a single term with
    weight 1 or -1 costs one rounding of the sum. A unit that is negative by more than its error is 0 in both and passes
    nothing on.
    """
    layers = [_Weights(n.op, n.inputs == (0,) and n.size > 1, dtype) for n in network.nodes if isinstance(n.op, Affine)]
    first = [n for n in network.nodes[1:] if isinstance(n.op, Affine) and n.inputs == (0,) and n.size > 1]
    places = [-n.op.bias * n.op.maps[0].matrix()[:, 0] for n in first]
    cuts = np.unique(np.concatenate([table.x, *places]))
    cuts = cuts[(cuts >= table.x[0]) & (cuts <= table.x[-1])]
    units = max(node.size for node in network.nodes)
    if len(cuts) * units > _BOUNDED:
        return None
    worst, step = 0.0, max(1, _CHUNK // units)
    for start in range(0, len(cuts) - 1, step):
        worst = max(worst, _interval_bound(network, layers, cuts[start : start + step + 1], dtype))
    return worst


class _Weights:
    """What the bound needs of an affine node: which entries are filled, and how far each is from its ideal value."""

    def __init__(self, op: Affine, exact: bool, dtype: Any) -> None:
        ideal = 0.0 if exact else 2.0**-53
        off = lambda w: np.abs(w.astype(dtype).astype(np.float64) - w) + ideal * np.abs(w)
        self.filled = [_with(m, lambda w: (w != 0).astype(float)) for m in op.maps]
        self.off = [_with(m, off) for m in op.maps]
        self.bias_off = off(op.bias)
        uneven = [_with(m, lambda w: ((np.abs(w) != 1) & (w != 0)).astype(float)) for m in op.maps]
        self.plain = sum(m.apply(np.ones(m.in_size)) for m in uneven) == 0  # rows of 1 and -1


def _interval_bound(network: Network, layers: list[_Weights], ends: Array, dtype: Any) -> float:
    u, tiny = unit_roundoff(dtype), float(np.finfo(dtype).tiny)
    values, errors = [ends[:, None]], [np.zeros((len(ends) - 1, 1))]
    sizes, todo = [_larger(values[0])], iter(layers)
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            layer, inputs = next(todo), node.inputs
            through = partial(_through, inputs=inputs)
            exact = through(node.op.maps, lambda j: values[j]) + node.op.bias
            absolute = [m.absolute() for m in node.op.maps]
            carried = through(absolute, lambda j: errors[j])
            weight = through(absolute, lambda j: sizes[j] + errors[j]) + np.abs(node.op.bias)
            terms = through(layer.filled, lambda j: (sizes[j] > 0).astype(float))
            shifted = through(layer.off, lambda j: sizes[j] + errors[j]) + layer.bias_off
            slack = np.where(layer.plain & (terms <= 1), 2.0**-53 * _larger(exact), (terms + 3) * 2.0**-52 * weight)
            size = _larger(exact) + slack  # the float64 values at the ends are off by a little themselves
            rounding = np.where(layer.plain & (terms <= 1), u * (size + carried + shifted), 1.01 * (terms + 1) * u * (weight + shifted))  # fmt: skip
            error = (carried + shifted + rounding) * (1 + 1e-9) + np.where(weight > 0, tiny, 0.0)
            values.append(exact)
        else:
            before, error = values[node.inputs[0]], errors[node.inputs[0]]
            high = np.maximum(before[:-1], before[1:]) + 1e-12 * sizes[node.inputs[0]]
            off = high + error <= 0
            error = np.where(off, 0.0, error)
            values.append(node.op(before))
            size = np.where(off, 0.0, np.maximum(high, 0) + error)
        errors.append(error)
        sizes.append(size)
    return float(errors[-1].max())


def _through(maps: list[AbstractLinear], of: Callable[[int], Array], inputs: tuple[int, ...]) -> Array:
    """Sum of maps of one quantity of the nodes that are read."""
    return sum((m.apply(of(j)) for m, j in zip(maps, inputs)), np.zeros(()))


def _larger(values: Array) -> Array:
    return np.maximum(np.abs(values[:-1]), np.abs(values[1:]))


def _with(m: AbstractLinear, change: Callable[[Array], Array]) -> AbstractLinear:
    """A map with all entries changed; entries that are 0 stay so."""
    if isinstance(m, Sparse):
        other = m.W.copy()
        other.data = change(other.data)
        return Sparse(other)
    return Dense(change(m.matrix()))
