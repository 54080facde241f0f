r"""A network on a small input space as stages of hinges: what the enumeration walks through.

With coordinates p in R^D, stage l holds the rows :math:`z_l = A_l p + c_l + \sum_{k<l} W_{lk} \max(0, z_k)`; the last
stage holds the outputs. Every piecewise-linear activation becomes one hinge per unit and knot plus a line that passes
on, so leaky units, clips, residual connections and pooling need no further kind of step.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from relukit._types import Array, IntArray
from relukit.geometry._rational import ALWAYS, Rational
from relukit.geometry._room import LANES, at_a_line, padded
from relukit.geometry._stages import Stage, chain_stages, evened, general_stages
from relukit.network import Affine, Network
from relukit.sets._abstract import Rows

_UNIT = 2.0**-53
_RANGE = 900  # exponent that products of D + 1 rows may reach in the exact stage, of 1023
_FLOOR = 2.0**-960  # no error bound lies below, unless it is 0: what underflows is less


class Net(NamedTuple):
    """The form as flat arrays for compiled code; see `pack`."""

    size: IntArray  # rows of each stage; the last stage holds the outputs
    stride: IntArray  # the same, rounded up to a multiple of eight
    first: IntArray  # number of each stage's first hinge
    stage: IntArray  # stage of each hinge
    direct: Array  # (D + 1, n_l) per stage, one after the other
    direct_at: IntArray
    weight: Array  # transposed block on the stage before: row i holds what hinge i adds, per stage
    weight_at: IntArray  # -1: no such block
    skip: IntArray  # (stage, earlier stage, place in skip_weight)
    skip_weight: Array
    slope_error: Array  # C per stage: |z computed - z| <= E + C |p|_1, whatever the pattern
    shift_error: Array  # E per stage
    row_sum: Array  # largest sum of absolute weights on other stages, over a stage's rows
    scale: Array  # power of two that keeps a stage's rows in range in the exact stage
    plane: Array  # (N, D + 1): coordinates to inputs where the first stage's rows are products, else empty
    plane_weight: Array  # (n, N) and the bias: the factors of those products
    plane_bias: Array
    keep: IntArray  # 0: a hinge; 1: a half-space of the domain, only its negative side is kept
    sparse: IntArray  # per stage whether most of its weights on earlier stages are zero, and all have their true signs
    oracle: IntArray  # address to ask for exact answers; whether it is asked for all: where rows are rounded; whether to stop


@dataclass(frozen=True, eq=False)
class Form:
    """A network's stages and their packed arrays.

    Arguments:
        plain: As `net`, with the network's own numbers: what maps are made of. The same object where rows were not evened (see `_stages`).
        rounded: The stages are products of several affine maps, rounded to float64; signs are certain all the same (see `_rational`).
        owners: Node and unit of each hinge, shape (hinges, 2).
        columns: Powers of two that coordinates count in; None for plain coordinates.
    """

    net: Net
    dimension: int
    outputs: int
    hinges: int
    rounded: bool
    owners: IntArray
    plain: Net
    rational: Rational
    columns: IntArray | None = None

    def inward(self, points: Array) -> Array:
        """Points in the coordinates of the walk."""
        return points if self.columns is None else np.ldexp(points, -self.columns)

    def outward(self, points: Array) -> Array:
        """Points of the walk in the coordinates of the domain."""
        return points if self.columns is None else np.ldexp(points, self.columns)


_FORMS: WeakKeyDictionary[Network, Form] = WeakKeyDictionary()
_ON_PLANES: WeakKeyDictionary[Network, tuple[bytes, Form]] = WeakKeyDictionary()  # the last plane of each network
_FAR = 2.0**64  # coordinates larger or smaller than this, or its inverse, count in units of their own


def form_of(
    network: Network,
    plane: Array | None = None,
    rows: Rows | None = None,
    box: tuple[Array, Array] | None = None,
) -> Form:
    """The stages of a network, on its inputs or on `x = plane @ (p, 1)`.

    Arguments:
        plane: Shape (N, D + 1); None for the network's own inputs.
        rows: Half-spaces `A p <= b` that the domain keeps to, as a first stage.
        box: Around the domain, for the units that coordinates count in.
    """
    columns = None if box is None else _units(*box)
    plain = plane is None and rows is None and columns is None
    if plain and network in _FORMS:
        return _FORMS[network]
    name = plane.tobytes() if plane is not None and rows is None and columns is None else b""
    if name and _ON_PLANES.get(network, (b"", None))[0] == name:
        return _ON_PLANES[network][1]
    form = _made(network, plane, rows, columns)
    if plain:
        _FORMS[network] = form
    elif name:
        _ON_PLANES[network] = name, form
    return form


def _units(lower: Array, upper: Array) -> IntArray | None:
    """Powers of two that bring a box's coordinates near 1, where they are far from it; no end leaves float64's range."""
    if all(1 / _FAR < max(abs(a), abs(b)) < _FAR for a, b in zip(lower.tolist(), upper.tolist())):
        return None
    ends = np.stack([lower, upper])
    exponent = np.where(ends == 0, 0, np.frexp(ends)[1])
    size, least = exponent.max(axis=0, where=ends != 0, initial=-1100), exponent.min(axis=0, where=ends != 0, initial=1100)  # fmt: skip
    return np.where(np.abs(size) < 64, 0, np.minimum(size, least + 960)).astype(np.int64)


def _made(network: Network, plane: Array | None, rows: Rows | None, columns: IntArray | None) -> Form:
    chain, lost = network.dense_chain(), False
    if (
        chain is not None
        and chain.is_relu
        and sum(isinstance(n.op, Affine) for n in network.nodes) == len(chain.weights)
    ):
        stages, owners = chain_stages(network, chain, plane)
        factors, rounded = None if plane is None else (plane, chain.weights[0], chain.biases[0]), False
    else:
        stages, owners, whole, lost = general_stages(network, plane)
        factors, rounded = None, not whole
    dimension = stages[0].direct.shape[1] - 1
    cuts = np.zeros((0, dimension + 1))
    if rows is not None:
        cuts = np.concatenate([rows[0], -rows[1][:, None]], axis=1)
        later = lambda s: None if s is None else Stage(s.direct, {k + 1: W for k, W in s.blocks.items()})
        stages = [Stage(cuts, {})] + [s._replace(blocks={k + 1: W for k, W in s.blocks.items()}, sizes=later(s.sizes)) for s in stages]  # fmt: skip
        owners = np.concatenate([np.full((len(cuts), 2), -1), owners])
    units = np.append(np.zeros(dimension, np.int64) if columns is None else columns, 0)
    start = np.eye(network.inputs, dimension + 1) if plane is None else plane
    rational = Rational(network, start, units, cuts)
    even = evened(stages, factors, 1 if len(cuts) else 0, units)
    net = pack(even.stages, even.factors, len(cuts), lost)
    rational.oracle[ALWAYS] = rounded or not even.exact
    net = net._replace(oracle=rational.oracle)
    plain = net if even.stages is stages else pack(stages, factors, len(cuts), lost)
    return Form(net, dimension, len(stages[-1].direct), len(owners), rounded, owners, plain, rational, columns)


def pack(stages: list[Stage], factors: tuple[Array, Array, Array] | None, cuts: int, lost: bool = False) -> Net:
    """Flat arrays of the stages, with the a-priori bounds on what float64 evaluation loses.

    Arguments:
        factors: `(plane, W, b)` where the first network stage's rows are the product `W @ plane` plus `b`.
        cuts: Number of half-spaces in a first stage of the domain.
        lost: Products that make the rows may have left float64's range.
    """
    size = np.array([len(s.direct) for s in stages], np.int64)
    first = np.concatenate([[0], np.cumsum(size)])[:-1].astype(np.int64)
    hinges = int(size[:-1].sum())
    direct = [np.ascontiguousarray(s.direct.T).ravel() for s in stages]
    weight_at, weight, place = np.full(len(stages), -1, np.int64), [], 0
    skip, skip_weight, skip_place = [], [], 0
    for l, s in enumerate(stages):
        for k, W in s.blocks.items():
            flat = np.ascontiguousarray(W.T).ravel()
            if k == l - 1:
                weight_at[l], place = place, place + padded(flat.size)
                weight.append(np.pad(flat, (0, padded(flat.size) - flat.size)))
            else:
                skip.append((l, k, skip_place))
                skip_weight.append(flat)
                skip_place += flat.size
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite bound leaves every sign to exact arithmetic
        C, E = _errors(stages, factors, 1 if cuts else 0, lost)
        sizes = np.array([np.abs(s).max(initial=0.0) for s in _absolute(stages, factors, 1 if cuts else 0)])
    depth = stages[0].direct.shape[1]
    keep = np.zeros(hinges, np.int64)
    keep[:cuts] = 1
    plane, W, b = factors if factors is not None else (np.zeros((0, depth)), np.zeros((0, 0)), np.zeros(0))
    join = lambda parts: np.concatenate(parts) if parts else np.zeros(0)
    row_sum = np.array([sum((np.abs(W).sum(axis=1) for W in s.blocks.values()), np.zeros(1)).max() for s in stages])
    zeros = [
        (sum(W.size - np.count_nonzero(W) for W in s.blocks.values()), sum(W.size for W in s.blocks.values()))
        for s in stages
    ]
    sparse = np.array([2 * z > n and s.is_sure for (z, n), s in zip(zeros, stages)], np.int64)
    scale = 2.0 ** np.minimum(_RANGE // depth - np.frexp(np.maximum(sizes, 1e-300))[1], 1000)  # rows of zeros: any
    return Net(
        size, -(-size // LANES) * LANES, first, np.repeat(np.arange(len(stages)), size)[:hinges].astype(np.int64),
        at_a_line(join(direct)), np.concatenate([[0], np.cumsum([len(d) for d in direct])])[:-1].astype(np.int64),
        at_a_line(join(weight)), weight_at, np.array(skip, np.int64).reshape(-1, 3), join(skip_weight), C, E, row_sum, scale,
        np.ascontiguousarray(plane, float), np.ascontiguousarray(W, float), np.ascontiguousarray(b, float), keep, sparse, np.zeros(3, np.int64),
    )  # fmt: skip


def _absolute(stages: list[Stage], factors: tuple[Array, Array, Array] | None, start: int) -> list[Array]:
    """Entrywise bounds of each stage's rows over all patterns, shape (n, D + 1)."""
    total: list[Array] = []
    for l, s in enumerate(stages):
        rows = s.bounds.direct
        if factors is not None and l == start:
            plane, W, b = (np.abs(f) for f in factors)
            rows = W @ plane
            rows[:, -1] += b
        for k, W in s.bounds.blocks.items():
            rows = rows + W @ total[k]
        total.append(rows)
    return total


def _errors(
    stages: list[Stage], factors: tuple[Array, Array, Array] | None, start: int, lost: bool
) -> tuple[Array, Array]:
    r"""C and E of each stage: a computed row loses at most K u times its sum of absolute terms.

    A sum of n products loses less than :math:`(n + 2) u` of the sum of their sizes, in any order and with or without
    fused multiply-add (Accuracy and Stability of Numerical Algorithms, Higham, 2002, chapter 3); through the stages the
    factors add. Two more for evaluation at a point, and 2 percent for terms of second order.
    """
    rows = _absolute(stages, factors, start)
    loss, C, E = [], [], []
    for l, s in enumerate(stages):
        terms = 4 + sum(W.shape[1] for W in s.blocks.values()) + s.loss
        if factors is not None and l == start:
            terms += len(factors[0])
        loss.append(terms + max((loss[k] for k in s.blocks), default=0))
        K = 1.02 * _UNIT * (loss[-1] + 4 + s.direct.shape[1])
        for bounds, part in ((C, rows[l][:, :-1]), (E, rows[l][:, -1])):
            most = float(part.max(initial=0.0))
            bounds.append(max(K * most, _FLOOR) if most > 0 or lost else most)  # NaN stays: it decides nothing
    return np.array(C), np.array(E)


def gates_at(form: Form, points: Array) -> Any:
    """Which hinges are on at points (count, D), in float64; shape (count, hinges)."""
    net, D = form.plain, form.dimension
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    values: list[Array] = []
    for l in range(len(net.size) - 1):
        n, at = int(net.size[l]), int(net.direct_at[l])
        z = homogeneous @ net.direct[at : at + (D + 1) * n].reshape(D + 1, n)
        blocks = [(k, net.skip_weight, place) for s, k, place in net.skip if s == l]
        if net.weight_at[l] >= 0:
            blocks.append((l - 1, net.weight, net.weight_at[l]))
        for k, weight, place in blocks:
            z = z + np.maximum(values[k], 0) @ weight[place : place + net.size[k] * n].reshape(net.size[k], n)
        values.append(z)
    return np.concatenate(values, axis=1) > 0 if values else np.zeros((len(points), 0), bool)
