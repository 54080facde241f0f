"""A network restricted to a set, where only undecided gates remain."""

from dataclasses import dataclass

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds._bounds import Bounds
from relukit.bounds._linear import linear
from relukit.network import Affine, Network
from relukit.piecewise import PiecewiseLinear
from relukit.sets import AbstractSet

# Share of a layer's largest value below which a gate's opening counts as rounding: 2^-40 is a few thousand units in the last
# place, far less than any other looseness.
_HARDLY = 2.0**-40


@dataclass(frozen=True, eq=False)
class CompactNetwork:
    r"""Gates :math:`h = \max(0, z)` with :math:`z = C x + W h + b`, outputs :math:`y = X x + H h + c`.

    Only gates that are undecided on the set remain, in topological order; W is strictly lower triangular. Gates that
    are always on are folded in, gates that are always off are gone. It equals the network on the set, and only there.

    Arguments:
        C, W, b: Shapes `(K, n)`, `(K, K)`, `(K,)`.
        X, H, c: Shapes `(m, n)`, `(m, K)`, `(m,)`.
        lower, upper: Bounds of z over the set, shape `(K,)`.
        error, output_error: Folding is done in floating point. The exact gates satisfy :math:`z = C x + W h + b + e`
            with :math:`|e| \le` `error` for the exact h, shape `(K,)`; likewise the outputs, shape `(m,)`.
        units: For each gate its activation node, its entry, and the kink it stands for, shape `(K, 3)`.
        input_set: The set.
    """

    C: Array
    W: Array
    b: Array
    X: Array
    H: Array
    c: Array
    lower: Array
    upper: Array
    error: Array
    output_error: Array
    units: IntArray
    input_set: AbstractSet

    @property
    def gates(self) -> int:
        return len(self.b)

    def __call__(self, x: Array) -> Array:
        """Outputs at rows `(batch, n)` of the set."""
        return x @ self.X.T + self.hidden(x) @ self.H.T + self.c

    def hidden(self, x: Array) -> Array:
        """Gate values h at rows `(batch, n)`."""
        z = x @ self.C.T + self.b
        h = np.zeros_like(z)
        for k in range(self.gates):
            h[:, k] = np.maximum(z[:, k] + h[:, :k] @ self.W[k, :k], 0)
        return h

    def __repr__(self) -> str:
        return f"CompactNetwork({self.C.shape[1]} inputs, {self.gates} gates, {len(self.c)} outputs)"


@dataclass
class _Form:
    """A node's value as `C x + H h + c`, exact up to `error`."""

    C: Array
    H: Array
    c: Array
    error: Array


def compact(network: Network, input_set: AbstractSet, bounds: Bounds | None = None) -> CompactNetwork:
    """The network on one set with only its undecided gates.

    Arguments:
        network: Piecewise linear; a kinked activation gives one gate per kink.
        input_set: One set, no batch.
        bounds: Bounds over that set; linear bounds by default.

    Raises:
        UnsupportedOperation: An activation is smooth.
    """
    network.require_piecewise_linear("the compact form")
    bounds = linear(network, input_set) if bounds is None else bounds
    n = network.inputs
    forms: dict[int, _Form] = {0: _Form(np.eye(n), np.zeros((n, 0)), np.zeros(n), np.zeros(n))}
    gates = _Gates(n)
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}
    reach_x = np.maximum(np.abs(bounds.lower[0]), np.abs(bounds.upper[0]))
    for i, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node.op, Affine):
            forms[i] = _through_affine(node.op, [forms[j] for j in node.inputs], reach_x, gates)
        else:
            assert isinstance(node.op, PiecewiseLinear)
            lower, upper = bounds.before(i)
            forms[i] = _through_activation(node.op, forms[node.inputs[0]], lower, upper, gates, i, reach_x)
        for j in set(node.inputs):
            if last[j] == i:
                del forms[j]
    out = forms[len(network) - 1]
    K = gates.count
    pad = lambda H: np.pad(H, ((0, 0), (0, K - H.shape[1])))
    stack = lambda parts, shape: np.concatenate(parts) if parts else np.zeros(shape)
    return CompactNetwork(
        C=stack(gates.C, (0, n)),
        W=stack([pad(W) for W in gates.W], (0, 0)),
        b=stack(gates.b, 0),
        X=out.C,
        H=pad(out.H),
        c=out.c,
        lower=stack(gates.lower, 0),
        upper=stack(gates.upper, 0),
        error=stack(gates.error, 0),
        output_error=out.error,
        units=np.concatenate(gates.units) if gates.units else np.zeros((0, 3), np.int64),
        input_set=input_set,
    )


class _Gates:
    """Gates found so far."""

    def __init__(self, inputs: int) -> None:
        self.count = 0
        self.C: list[Array] = []
        self.W: list[Array] = []
        self.b: list[Array] = []
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        self.error: list[Array] = []
        self.units: list[IntArray] = []
        self.reach = np.zeros(0)  # largest h of each gate

    def add(
        self, form: _Form, entries: IntArray, knot: Array, lower: Array, upper: Array, node: int, hinge: int
    ) -> IntArray:
        """One gate h = max(0, v - knot) for each entry; returns their numbers."""
        shift = form.c[entries] - knot
        self.C.append(form.C[entries])
        self.W.append(form.H[entries])
        self.b.append(shift)
        low, high = np.nextafter(lower - knot, -np.inf), np.nextafter(upper - knot, np.inf)
        self.lower.append(low)
        self.upper.append(high)
        self.error.append(form.error[entries] + 2 * gamma(1) * (np.abs(form.c[entries]) + np.abs(knot)))
        self.units.append(np.stack([np.full(len(entries), node), entries, np.full(len(entries), hinge)], axis=1))
        self.reach = np.concatenate([self.reach, np.maximum(high, 0)])
        self.count += len(entries)
        return np.arange(self.count - len(entries), self.count)


def _size(form: _Form, reach_x: Array, gates: _Gates) -> Array:
    """Sum of magnitudes in each row of a form over the set."""
    return np.abs(form.C) @ reach_x + np.abs(form.H) @ gates.reach[: form.H.shape[1]] + np.abs(form.c)


def _through_affine(op: Affine, forms: list[_Form], reach_x: Array, gates: _Gates) -> _Form:
    width = max(f.H.shape[1] for f in forms)
    C = sum(m.apply(f.C.T).T for m, f in zip(op.maps, forms))
    H = sum(np.pad(m.apply(f.H.T).T, ((0, 0), (0, width - f.H.shape[1]))) for m, f in zip(op.maps, forms))
    c = sum(m.apply(f.c) for m, f in zip(op.maps, forms)) + op.bias
    size = sum(m.absolute().apply(_size(f, reach_x, gates)) for m, f in zip(op.maps, forms)) + np.abs(op.bias)
    carried = sum(m.absolute().apply(f.error) for m, f in zip(op.maps, forms))
    # 1.01: error terms are summed in floating point themselves.
    return _Form(C, H, c, 1.01 * (carried + gamma(op.terms + 2) * size))


def _through_activation(
    op: PiecewiseLinear, form: _Form, lower: Array, upper: Array, gates: _Gates, node: int, reach_x: Array
) -> _Form:
    n = len(lower)
    spread = lambda a: np.broadcast_to(a, (n,))
    slope, offset, weights, knots = op.hinges()
    slope, offset = spread(slope).copy(), spread(offset).copy()
    fresh: list[tuple[IntArray, IntArray, Array]] = []
    slack, slip = np.abs(offset), np.zeros(n)
    for j in range(len(knots)):
        knot, weight = spread(knots[j]), spread(weights[j])
        # A gate that opens or closes by no more than rounding counts as off or on, what it may add is an error: differences of
        # equal rows are such gates, and no split would ever settle them.
        hardly = (
            (lower < knot)
            & (upper > knot)
            & (np.minimum(upper - knot, knot - lower) <= _HARDLY * np.abs(lower + upper).max(initial=0))
        )
        on = (lower >= knot) | (hardly & (knot - lower < upper - knot))
        slip = slip + np.where(hardly, np.abs(weight) * np.minimum(upper - knot, knot - lower), 0)
        slope = slope + np.where(on, weight, 0)
        offset = offset - np.where(on, weight * knot, 0)
        slack = slack + np.abs(weight * knot)
        entries = np.flatnonzero((lower < knot) & (upper > knot) & (weight != 0) & ~hardly)
        if len(entries):
            fresh.append(
                (
                    entries,
                    gates.add(form, entries, knot[entries], lower[entries], upper[entries], node, j),
                    weight[entries],
                )
            )
    H = np.zeros((n, gates.count))
    H[:, : form.H.shape[1]] = slope[:, None] * form.H
    for entries, numbers, weight in fresh:
        H[entries, numbers] = weight
    exact = (slope == 0) | (slope == 1)  # then nothing but the offset rounds
    size = np.where(exact, 0, np.abs(slope) * _size(form, reach_x, gates))
    few = gamma(len(knots) + 4)
    rounding = few * (size + np.where(slack > 0, slack + np.abs(slope * form.c), 0))
    error = 1.01 * (
        np.abs(slope) * form.error
        + slip
        + rounding
        + few * np.where(exact, 0, np.abs(slope) * np.maximum(np.abs(lower), np.abs(upper)))
    )
    return _Form(slope[:, None] * form.C, H, slope * form.c + offset, error)
