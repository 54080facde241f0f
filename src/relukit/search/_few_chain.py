"""Plain chains of dense layers, quick: rows and their gradients at many points, and linear bounds over a box.

The general functions do the same for every network; here each layer costs a few NumPy calls. Most questions about small
networks end with them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from relukit._numerics import gamma, unit_roundoff
from relukit._types import Array, IntArray
from relukit.bounds import Bounds, linear
from relukit.network import Affine, Network
from relukit.network.affine import Dense
from relukit.piecewise import PiecewiseLinear
from relukit.search._torch_points import extreme, module_of
from relukit.sets import Box

_ENTRIES = 3_000_000
# Products of at most so many terms: OpenBLAS starts its threads above 2^18, which wait for each other longer than they work.
_PRODUCT = 250_000


@dataclass(frozen=True, eq=False)
class Layer:
    """`W x + b`, then ReLU if `gated`; `node` is the number of its affine node."""

    W: Array
    b: Array
    gated: bool
    node: int


def layers_of(network: Network) -> list[Layer] | None:
    """The network as dense layers with ReLU or nothing between them; None where it is something else."""
    found: list[Layer] = []
    entries = 0
    for i, node in enumerate(network.nodes[1:], start=1):
        if node.inputs != (i - 1,):
            return None
        if isinstance(node.op, Affine):
            op = node.op.maps[0]
            if not isinstance(op, Dense):
                return None
            entries += op.W.size
            if entries > _ENTRIES:
                return None
            found.append(Layer(op.W, node.op.bias, False, i))
        elif isinstance(node.op, PiecewiseLinear) and node.op.is_relu and found and not found[-1].gated:
            found[-1] = Layer(found[-1].W, found[-1].b, True, i - 1)
        else:
            return None
    return found or None


class Rows:
    """Rows of a network at many points: attacks ask for nothing else.

    Points come in any number; float32 does, since what they find is checked elsewhere.
    """

    def __init__(self, network: Network, base: Network | None = None) -> None:
        self.network, self.outputs = network, network.outputs
        self.base = base  # what the rows were appended to: several questions share its torch version
        self.layers = layers_of(network)

    @cached_property
    def _single(self) -> list[tuple[Array, Array, bool]]:
        """Layers in float32, affine ones in a row multiplied out."""
        found: list[tuple[Array, Array, bool]] = []
        for layer in self.layers or []:
            W, b = layer.W, layer.b
            if found and not found[-1][2]:
                before = found.pop()
                W, b = W @ before[0], W @ before[1] + b
            found.append((W, b, layer.gated))
        return [(np.ascontiguousarray(W.T, np.float32), b.astype(np.float32), gated) for W, b, gated in found]

    def __call__(self, points: Array) -> Array:
        """Rows `(k, R)` at points `(k, n)`."""
        if self._module is not None:
            import torch

            with torch.no_grad():
                return self._module(torch.as_tensor(points, dtype=torch.float32)).numpy()
        if self.layers is None:
            return self.network(points)
        points = points.astype(np.float32)
        part = max(1, _PRODUCT // max(W.size for W, _, _ in self._single))
        out = np.empty((len(points), self.outputs), np.float32)
        for k in range(0, len(points), part):
            value = points[k : k + part]
            for W, b, gated in self._single:
                value = value @ W
                value += b
                if gated:
                    np.maximum(value, 0, out=value)
            out[k : k + part] = value
        return out

    def worst(self, points: Array) -> Array:
        """The largest row at each point: a counterexample has it at most 0."""
        return self(points).max(axis=1)

    @cached_property
    def _module(self) -> Any:
        """A large network that is no chain, in torch; None of others."""
        module = None if self.base is None or self.layers is not None else module_of(self.base)
        if module is None:
            return None
        import torch

        last = self.network.nodes[-1].op
        assert isinstance(last, Affine)
        W, b = (torch.tensor(a, dtype=torch.float32) for a in (last.maps[0].matrix(), last.bias))
        return lambda x: module(x) @ W.T + b

    def slope(self, points: Array, least: bool = False, row: IntArray | None = None) -> tuple[Array, Array]:
        """Rows, and the gradient of the largest one at each point `(k, n)`.

        With `least` the least row and its gradient; with `row`, shape `(k,)`, this row and its gradient at each point (chains only).
        """
        if self._module is not None and row is None:
            out, grad = extreme(self._module, points, least=least)
            return out.min(axis=1, keepdims=True) if least else out, grad
        if self.layers is None:
            out = self.network(points)
            worst, grad = out.argmin(axis=1) if least else out.argmax(axis=1), np.empty_like(points)
            for r in np.unique(worst):
                hot = np.zeros(self.outputs)
                hot[r] = 1.0
                grad[worst == r] = self.network.gradient(points[worst == r], hot)
            return out.min(axis=1, keepdims=True) if least else out, grad
        value, on = points.astype(np.float32), []
        for W, b, gated in self._single:
            value = value @ W
            value += b
            if gated:
                np.maximum(value, 0, out=value)
                on.append(value > 0)
        chosen = row if row is not None else value.argmin(axis=1) if least else value.argmax(axis=1)
        grad = self._single[-1][0].T[chosen]
        if self._single[-1][2]:
            grad = grad * on.pop()[np.arange(len(value)), chosen][:, None]
        for W, _, gated in self._single[-2::-1]:
            if gated:
                grad = grad * on.pop()
            grad = grad @ W.T
        if row is not None:
            value = np.take_along_axis(value, row[:, None], axis=1)
        return value.min(axis=1, keepdims=True) if least else value, grad.astype(np.float64)


def bounds_of(network: Network, layers: list[Layer] | None, box: Box) -> Bounds:
    """What `bounds.linear` gives, in a tenth of its time for small chains; sound in the same way.

    A row's error is `sum |c_j| loose_j` over the units j substituted with coefficients c, `loose_j` being gamma times the sum of
    magnitudes in row j; a line above an undecided unit adds `(gamma + 8 u) |c| (u - l)` for its own rounding.
    """
    if layers is None:
        return linear(network, box)
    xl, xu = box.lower, box.upper
    g = gamma(network.inputs + sum(len(layer.b) for layer in layers) + 16)
    reach_x = np.maximum(np.abs(xl), np.abs(xu))
    low, high, reach = xl, xu, reach_x
    lower, upper = [xl], [xu]
    lines: list[tuple[Array, ...]] = []
    for k, layer in enumerate(layers):
        plus, minus = np.maximum(layer.W, 0), np.minimum(layer.W, 0)
        loose = g * (np.maximum(plus, -minus) @ reach + np.abs(layer.b))
        L = plus @ low + minus @ high + layer.b - loose
        U = plus @ high + minus @ low + layer.b + loose
        rows = np.flatnonzero((L < 0) & (U > 0)) if layer.gated else np.arange(len(L))
        if k and len(rows):
            W, b = layer.W[rows], layer.b[rows]
            found = _backward(np.concatenate([W, -W]), np.concatenate([b, -b]), np.tile(loose[rows], 2), layers, lines, k, xl, xu, reach_x, g)  # fmt: skip
            # Rounding can cross two bounds of the same value; the looser pair is the safe one.
            a, c = np.maximum(L[rows], found[: len(rows)]), np.minimum(U[rows], -found[len(rows) :])
            crossed = ~(a <= c)
            L[rows], U[rows] = np.where(crossed, L[rows], a), np.where(crossed, U[rows], c)
        lower.append(L)
        upper.append(U)
        low, high = L, U
        if layer.gated:
            low, high = np.maximum(L, 0), np.maximum(U, 0)
            lower.append(low)
            upper.append(high)
        reach = np.maximum(np.abs(low), np.abs(high))
        lines.append(_lines(L, U, loose, layer.gated, g))
    return Bounds(network, tuple(lower), tuple(upper))


def _lines(L: Array, U: Array, loose: Array, gated: bool, g: float) -> tuple[Array, ...]:
    """Slope below, slope above, intercept above, errors of both."""
    one = np.ones_like(L)
    if not gated:
        return one, one, np.zeros_like(L), loose, loose
    open_ = (L < 0) & (U > 0)
    width = np.where(open_, U - L, 1.0)
    above = np.where(open_, U / width, L >= 0)
    below = np.where(open_, U > -L, L >= 0).astype(np.float64)
    lift = np.where(open_, -above * L, 0.0)
    e_above = above * loose + np.where(open_, (g + 16 * unit_roundoff()) * width, 0.0)
    return below, above, lift, below * loose, e_above


def _backward(
    A: Array, constant: Array, error: Array, layers: list[Layer], lines: list[tuple[Array, ...]], k: int, xl: Array, xu: Array,
    reach_x: Array, g: float,
) -> Array:  # fmt: skip
    """Smallest values of rows of layer k over the box."""
    for layer, (below, above, lift, e_below, e_above) in zip(layers[k - 1 :: -1], lines[k - 1 :: -1]):
        plus, minus = np.maximum(A, 0), np.minimum(A, 0)
        constant = constant + minus @ lift
        error = error + plus @ e_below - minus @ e_above
        A = plus * below + minus * above
        constant = constant + A @ layer.b
        A = A @ layer.W
    plus, minus = np.maximum(A, 0), np.minimum(A, 0)
    value = constant + plus @ xl + minus @ xu
    low = value - 1.01 * error - g * (np.abs(constant) + (plus - minus) @ reach_x)
    return np.where(np.isnan(low), -np.inf, low)
