r"""A bound of a table network's rounding error anywhere on the table, for any order of summation.

Every value inside the network is affine between neighboring knots (and anchors), so its size there is that of an end. With
inputs off by e and weights off by :math:`\Delta` from their ideal values, an affine node is off by at most
:math:`|W| e + \Delta_W |v| + \Delta_b + \gamma_m (|W||v| + |b|)`, m counting the terms that are not 0, b among them; a single term with
weight 1 or -1 costs one rounding of the sum. A unit that is negative by more than its error is 0 in both and passes
nothing on.

Hats are 0 nearly everywhere. Errors are taken as large as anywhere on an interval, and beyond its end a hat falls as steeply as its own
interval is short: on a long one beside it, its error would count at a place where it has long been off. So intervals are cut near their ends.

For the same reason some intervals at a time are looked at together first, with ranges in place of values at ends: units that are off on
all of them by more than their error are left out, and the rest is a network of a few dozen units.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from relukit._numerics import unit_roundoff
from relukit._types import Array, BoolArray
from relukit.construction._table import Table
from relukit.network import Affine, Network
from relukit.network.affine import AbstractLinear, Sparse

_TOGETHER = 64  # intervals that are looked at together
_NEAR = 16  # a hat's error beyond its end is looked at up to this share of the interval
_CHUNK = 1 << 20  # entries of one array of ranges
_BOUNDED = 1.5e8  # intervals times units that are bounded: a rough table of some 8,000 knots as hinges, half a minute


def table_bound(network: Network, table: Table, dtype: Any) -> float | None:
    """Bound of |network - table| through rounding; None for networks too large to bound: long tables whose units are all on."""
    layers = [_Layer(n.op, n.inputs, n.inputs == (0,) and n.size > 1, dtype) if isinstance(n.op, Affine) else n.inputs[0] for n in network.nodes[1:]]  # fmt: skip
    cuts = _cuts(network, table)
    starts = np.arange(0, len(cuts) - 1, _TOGETHER)
    ends = np.minimum(starts + _TOGETHER, len(cuts) - 1)
    widest = max(node.size for node in network.nodes)
    at_once, worst, done = max(1, _CHUNK // widest), 0.0, 0.0
    for k in range(0, len(starts), at_once):
        low, high = cuts[starts[k : k + at_once], None], cuts[ends[k : k + at_once], None]
        off = _errors(layers, _Range(low, high), dtype)[1]
        for j in range(len(low)):
            kept = _kept(layers, {i: mask[j] for i, mask in off.items()})
            part = [layer.part(kept[i + 1], kept) if isinstance(layer, _Layer) else layer for i, layer in enumerate(layers)]  # fmt: skip
            done += _TOGETHER * sum(int(np.count_nonzero(mask)) for mask in kept)
            if done > _BOUNDED:
                return None
            inside = cuts[starts[k + j] : ends[k + j] + 1, None]
            worst = max(worst, float(_errors(part, _Ends(inside), dtype)[0].max()))
    return worst


def _cuts(network: Network, table: Table) -> Array:
    """Where intervals end: knots, anchors, and places near the knots at which hats that end there are off."""
    first = [n for n in network.nodes[1:] if isinstance(n.op, Affine) and n.inputs == (0,) and n.size > 1]
    places = [-n.op.bias * n.op.maps[0].matrix()[:, 0] for n in first]
    if len(network.activations) > 1:
        x, h = table.x, np.diff(table.x)
        for knots, own, other, sign in ((x[1:-1], h[1:], h[:-1], 1.0), (x[1:-1], h[:-1], h[1:], -1.0)):
            near = np.minimum(own, other) / _NEAR
            places += [(knots + sign * near)[(sign > 0) | (other < own / 2)]]
            places += [(knots + sign * np.sqrt(own) * np.sqrt(other))[other < own / _NEAR]]
    cuts = np.unique(np.concatenate([table.x, *places]))
    return cuts[(cuts >= table.x[0]) & (cuts <= table.x[-1])]


@dataclass(frozen=True)
class _Ends:
    """Values at neighboring places, shape `(intervals + 1, size)`; they are affine between."""

    values: Array

    @property
    def high(self) -> Array:
        return np.maximum(self.values[:-1], self.values[1:])

    @property
    def size(self) -> Array:
        return np.maximum(np.abs(self.values[:-1]), np.abs(self.values[1:]))

    @staticmethod
    def affine(layer: "_Layer", inputs: list[Any]) -> "_Ends":
        return _Ends(_sum(layer.maps, [v.values for v in inputs]) + layer.bias)

    def relu(self) -> "_Ends":
        return _Ends(np.maximum(self.values, 0))


@dataclass(frozen=True)
class _Range:
    """Values anywhere on intervals, one row each, between two bounds."""

    low: Array
    high: Array

    @property
    def size(self) -> Array:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @staticmethod
    def affine(layer: "_Layer", inputs: list[Any]) -> "_Range":
        middle = _sum(layer.maps, [(v.low + v.high) / 2 for v in inputs]) + layer.bias
        half = _sum(layer.absolute, [(v.high - v.low) / 2 for v in inputs])
        return _Range(middle - half, middle + half)

    def relu(self) -> "_Range":
        return _Range(np.maximum(self.low, 0), np.maximum(self.high, 0))


class _Layer:
    """What the bound needs of an affine node: its maps, which entries are filled, and how far each is from its ideal value."""

    def __init__(self, op: Affine, inputs: tuple[int, ...], exact: bool, dtype: Any) -> None:
        ideal = 0.0 if exact else 2.0**-53
        off = lambda w: np.abs(w.astype(dtype).astype(np.float64) - w) + ideal * np.abs(w)
        self.inputs, self.bias, self.bias_off = inputs, op.bias, off(op.bias)
        self.maps = [_sparse(m) for m in op.maps]
        self.absolute = [abs(W) for W in self.maps]
        self.filled = [_with(W, lambda w: (w != 0).astype(float)) for W in self.maps]
        self.off = [_with(W, off) for W in self.maps]
        uneven = [_with(W, lambda w: ((np.abs(w) != 1) & (w != 0)).astype(float)) for W in self.maps]
        self.plain = sum(W @ np.ones(W.shape[1]) for W in uneven) == 0  # rows of 1 and -1

    def part(self, rows: BoolArray, kept: list[BoolArray]) -> "_Layer":
        """These rows, of the units that are kept of the nodes before."""
        other = object.__new__(_Layer)
        other.inputs = self.inputs
        other.bias, other.bias_off, other.plain = self.bias[rows], self.bias_off[rows], self.plain[rows]
        for name in ("maps", "absolute", "filled", "off"):
            setattr(other, name, [W[rows][:, kept[j]] for W, j in zip(getattr(self, name), self.inputs)])
        return other


def _errors(layers: list[Any], start: Any, dtype: Any) -> tuple[Array, dict[int, BoolArray]]:
    """Errors of the last node on each interval, and of each activation the units that are off there in any arithmetic."""
    u, tiny = unit_roundoff(dtype), float(np.finfo(dtype).tiny)
    spans, off = [start], {}
    sizes, errors = [start.size], [np.zeros_like(start.size)]
    for i, layer in enumerate(layers, start=1):
        if isinstance(layer, _Layer):
            take = lambda maps, values, at=layer.inputs: _sum(maps, [values[j] for j in at])
            span = start.affine(layer, [spans[j] for j in layer.inputs])
            wide = [s + e for s, e in zip(sizes, errors)]
            carried = take(layer.absolute, errors)
            weight = take(layer.absolute, wide) + np.abs(layer.bias)
            terms = take(layer.filled, [(s > 0).astype(float) for s in sizes])
            shifted = take(layer.off, wide) + layer.bias_off
            single = layer.plain & (terms <= 1)
            slack = np.where(single, 2.0**-53 * span.size, (terms + 3) * 2.0**-52 * weight)
            size = span.size + slack  # the float64 values at the ends are off by a little themselves
            roundings = terms + (layer.bias != 0)  # one of each product, and those of the sum
            rounding = np.where(single, u * (size + carried + shifted), 1.01 * roundings * u * (weight + shifted))
            error = (carried + shifted + rounding) * (1 + 1e-9) + np.where(weight > 0, tiny, 0.0)
        else:
            before, error = spans[layer], errors[layer]
            high = before.high + 1e-12 * sizes[layer]
            off[i] = high + error <= 0
            error, span = np.where(off[i], 0.0, error), before.relu()
            size = np.where(off[i], 0.0, np.maximum(high, 0) + error)
        spans.append(span)
        sizes.append(size)
        errors.append(error)
    return errors[-1], off


def _kept(layers: list[Any], off: dict[int, BoolArray]) -> list[BoolArray]:
    """Of each node the units that the output reads, through none that is off."""
    counts = [1] + [len(layer.bias) if isinstance(layer, _Layer) else 0 for layer in layers]
    for i, layer in enumerate(layers, start=1):
        counts[i] = counts[i] or counts[layer]
    kept = [np.zeros(n, bool) for n in counts]
    kept[0][:] = kept[-1][:] = True
    for i in range(len(layers), 0, -1):
        layer = layers[i - 1]
        if isinstance(layer, _Layer):
            for W, j in zip(layer.maps, layer.inputs):
                kept[j][W[kept[i]].indices] = True
        else:
            kept[i] &= ~off[i]
            kept[layer] |= kept[i]
    return kept


def _sum(maps: list[Any], values: list[Array]) -> Array:
    return sum((np.asarray((W @ v.T).T) for W, v in zip(maps, values)), np.zeros(()))


def _sparse(m: AbstractLinear) -> Any:
    return m.W.tocsr() if isinstance(m, Sparse) else scipy.sparse.csr_array(m.matrix())


def _with(W: Any, change: Any) -> Any:
    """The matrix with all filled entries changed; the others stay 0."""
    other = W.copy()
    other.data = change(other.data)
    return other
