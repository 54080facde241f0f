"""Linear bounds: rows substituted backward through the network, every activation replaced by a line on each side."""

import numpy as np

from relukit._numerics import gamma, unit_roundoff
from relukit._types import Array
from relukit.bounds._bounds import Bounds, undecided
from relukit.bounds._interval import activation_interval, affine_interval, input_bounds, lines
from relukit.network import Affine, Network
from relukit.network.affine import AbstractLinear, Dense, Sparse
from relukit.piecewise import AbstractActivation, Lines
from relukit.sets import AbstractSet, Box

BUDGET = 1e9  # multiplications that a question may spend on backward bounds of one node, where other bounds can be had
_MEMORY = 1 << 25  # entries of one coefficient array: rows are taken in blocks that stay below 256 MB


@np.errstate(invalid="ignore", over="ignore")  # a curve may be unbounded: what is no number bounds nothing
def linear(
    network: Network,
    input_set: AbstractSet,
    start: Bounds | None = None,
    dtype: type = np.float64,
    budget: float = np.inf,
) -> Bounds:
    r"""Bounds by backward substitution (CROWN), each kept only where it beats the interval bound.

    A row :math:`\lambda \cdot v` of a node's value is bounded below by replacing, from the last node to the input, each
    affine node by its map and each activation by its lower line where the coefficient is positive and by its upper
    line where it is negative; at the input the set's support function ends it. Rounding is carried beside it: the
    exact coefficients differ from the computed ones by at most :math:`\gamma_n |\lambda| |W|`, which moves the bound by
    at most :math:`\gamma_n |\lambda| (|W| |v|_{max})`.

    Arguments:
        network: Any network, smooth activations included.
        input_set: A set of `network.inputs` entries, or a batch.
        start: Bounds over the same set that are already known; the result is never worse.
        dtype: `float64` or `float32`; both are sound.
        budget: Multiplications per set that the bounds of one node may take; a node that takes more keeps those of `start` or the
            interval. The output is always bounded.

    References:
        Efficient Neural Network Robustness Certification with General Activation Functions, Zhang et al., 2018.
    """
    state = Sweep(network, input_set, dtype)
    targets = {network.nodes[i].inputs[0] for i in network.activations} | {len(network) - 1}
    for i in range(1, len(network)):
        exact = state.step(i, start)
        if i in targets and not exact:
            _refine(state, i, i == len(network) - 1, budget)
    return state.bounds()


class Sweep:
    """From the first node to the last: bounds so far, lines of the activations so far, and magnitudes for error terms."""

    def __init__(self, network: Network, input_set: AbstractSet, dtype: type = np.float64) -> None:
        lower, upper = input_bounds(network, input_set, dtype)
        self.network, self.input_set, self.lower, self.upper = network, input_set, [lower], [upper]
        self.lines: dict[int, Lines] = {}
        self._sizes: dict[int, Array] = {}

    def step(self, index: int, start: Bounds | None = None) -> bool:
        """Add the interval bounds of the next node, and the lines of an activation; whether nothing is to be gained over them (one map of a box)."""
        node = self.network.nodes[index]
        lower, upper = [self.lower[j] for j in node.inputs], [self.upper[j] for j in node.inputs]
        if isinstance(node.op, Affine):
            low, high = affine_interval(node.op, lower, upper)
        else:
            assert isinstance(node.op, AbstractActivation)
            low, high = activation_interval(node.op, lower[0], upper[0])
            self.lines[index] = lines(node.op, lower[0], upper[0])
        if start is not None:
            low, high = np.maximum(low, start.lower[index]), np.minimum(high, start.upper[index])
        self.lower.append(low)
        self.upper.append(high)
        return isinstance(self.input_set, Box) and node.inputs == (0,) and isinstance(node.op, Affine)

    def bounds(self) -> Bounds:
        return Bounds(self.network, tuple(self.lower), tuple(self.upper))

    def reach(self, index: int) -> Array:
        """Largest magnitude of a node's value."""
        return np.maximum(np.abs(self.lower[index]), np.abs(self.upper[index]))

    def weighted(self, index: int) -> Array:
        """|W| |v|_max of an affine node, summed over its maps."""
        if index not in self._sizes:
            node = self.network.nodes[index]
            assert isinstance(node.op, Affine)
            self._sizes[index] = sum(m.absolute().apply(self.reach(j)) for m, j in zip(node.op.maps, node.inputs))
        return self._sizes[index]


def _refine(state: Sweep, target: int, everything: bool, budget: float) -> None:
    """Tighten the bounds of node `target`, only for units that a tighter bound can decide (or all, whatever it takes)."""
    readers = [state.network.nodes[i].op for i in state.network.consumers[target]]
    lower, upper = state.lower[target], state.upper[target]
    open_ = np.ones(lower.shape, bool) if everything else np.zeros(lower.shape, bool)
    for op in readers:
        if isinstance(op, AbstractActivation):
            open_ |= undecided(op, lower, upper)
    rows = np.flatnonzero(open_.reshape(-1, lower.shape[-1]).any(axis=0))
    if not len(rows) or (not everything and 2 * len(rows) * _work(state.network, target) > budget):
        return
    batch = int(np.prod(lower.shape[:-1], dtype=np.int64))
    widest = max(n.size for n in state.network.nodes[: target + 1])
    block = max(1, _MEMORY // (2 * batch * widest))
    low, high = lower.copy(), upper.copy()
    for k in range(0, len(rows), block):
        part = rows[k : k + block]
        found = lower_rows(state, target, part)
        low[..., part] = np.maximum(low[..., part], found[..., : len(part)])
        high[..., part] = np.minimum(high[..., part], -found[..., len(part) :])
    # Rounding can cross two bounds of the same point value; the looser pair is the safe one.
    crossed = low > high
    state.lower[target], state.upper[target] = np.where(crossed, lower, low), np.where(crossed, upper, high)


def _work(network: Network, target: int) -> int:
    """Multiplications that carrying one row back from a node takes, about."""
    return sum(n.op.terms * n.size if isinstance(n.op, Affine) else 4 * n.size for n in network.nodes[1 : target + 1])


def _rows_of(linear: AbstractLinear, rows: np.ndarray, dtype: np.dtype) -> Array:
    """Rows of a map's matrix."""
    if isinstance(linear, Dense):
        return linear.W[rows].astype(dtype, copy=False)
    if isinstance(linear, Sparse):
        return linear.W[rows].toarray().astype(dtype, copy=False)
    hot = np.zeros((len(rows), linear.out_size), dtype)
    hot[np.arange(len(rows)), rows] = 1
    return linear.adjoint(hot)


def lower_rows(state: Sweep, target: int, rows: np.ndarray) -> Array:
    """Lower bounds of `+v[rows]` and then `-v[rows]`, shape `(*batch, 2 * len(rows))`."""
    network, dtype = state.network, state.lower[0].dtype
    batch = state.lower[0].shape[:-1]
    node = network.nodes[target]
    signs = np.repeat(np.asarray([1, -1], dtype), len(rows))[:, None]
    constant: Array = np.zeros((*batch, 2 * len(rows)), dtype)
    error: Array = np.zeros_like(constant)
    pending: dict[int, Array] = {}
    if isinstance(node.op, Affine):  # the first step needs no matrix product
        picked = np.tile(rows, 2)
        constant = constant + signs[:, 0] * node.op.bias[picked].astype(dtype)
        error = error + unit_roundoff(dtype) * (state.weighted(target)[..., picked] + np.abs(constant))
        for m, j in zip(node.op.maps, node.inputs):
            pending[j] = _join(pending.get(j), signs * np.tile(_rows_of(m, rows, dtype), (2, 1)))
    else:
        hot = np.zeros((2 * len(rows), node.size), dtype)
        hot[np.arange(2 * len(rows)), np.tile(rows, 2)] = signs[:, 0]
        pending[target] = hot
    for i in range(target, 0, -1):
        coefficients = pending.pop(i, None)
        if coefficients is None:
            continue
        node, size = network.nodes[i], np.abs(coefficients)
        if isinstance(node.op, Affine):
            bias = node.op.bias.astype(dtype)
            constant = constant + coefficients @ bias
            # Sums over this node's entries, in the adjoint and in the bias; 4 more for merges and the running constant.
            terms = max(max(m.adjoint_terms for m in node.op.maps), node.size) + 4
            error = error + gamma(terms, dtype) * (_dot(size, state.weighted(i) + np.abs(bias)) + np.abs(constant))
            for m, j in zip(node.op.maps, node.inputs):
                pending[j] = _join(pending.get(j), m.adjoint(coefficients))
        else:
            around, source = state.lines[i], node.inputs[0]
            positive = coefficients >= 0
            spread = lambda v: v[..., None, :]
            constant = constant + np.sum(
                coefficients * np.where(positive, spread(around.lower_intercept), spread(around.upper_intercept)),
                axis=-1,
            )
            passed = coefficients * np.where(positive, spread(around.lower_slope), spread(around.upper_slope))
            offsets = np.maximum(np.abs(around.lower_intercept), np.abs(around.upper_intercept))
            slopes = np.maximum(np.abs(around.lower_slope), np.abs(around.upper_slope))
            error = error + gamma(node.size + 4, dtype) * (_dot(size, offsets) + np.abs(constant))
            error = error + 4 * unit_roundoff(dtype) * _dot(size, slopes * state.reach(source))
            pending[source] = _join(pending.get(source), passed)
    rows_at_input = np.broadcast_to(
        pending.get(0, np.zeros((2 * len(rows), network.inputs), dtype)), (*batch, 2 * len(rows), network.inputs)
    )
    value = constant - state.input_set.support(-rows_at_input).astype(dtype)
    # 1.01: the error terms themselves were summed in floating point.
    total = 1.01 * error + 4 * unit_roundoff(dtype) * (np.abs(constant) + np.abs(value))
    bound = value - total
    return np.where(np.isnan(bound), -np.inf, bound).astype(dtype)


def _join(known: Array | None, more: Array) -> Array:
    return more if known is None else known + more


def _dot(rows: Array, vector: Array) -> Array:
    """Rows `(*batch, r, n)` times one vector per set `(*batch, n)`."""
    return (rows @ vector[..., None])[..., 0]
