r"""A network on a small input space as stages of hinges: what the enumeration walks through.

With coordinates p in R^D, stage l holds the rows :math:`z_l = A_l p + c_l + \sum_{k<l} W_{lk} \max(0, z_k)`; the last
stage holds the outputs. Every piecewise-linear activation becomes one hinge per unit and knot plus a line that passes
on, so leaky units, clips, residual connections and pooling need no further kind of step.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array, IntArray
from relukit.geometry._dyadic import offset_is_exact, scaled_is_exact, steps_are_exact, sums_are_exact
from relukit.geometry._room import LANES, at_a_line, padded
from relukit.network import Affine, Network
from relukit.piecewise import PiecewiseLinear

_UNIT = 2.0**-53
_ENTRIES = 40_000_000  # numbers of one dense row block (320 MB): larger networks are refused with a sentence
_RANGE = 900  # exponent that products of D + 1 rows may reach in the exact stage, of 1023


class Stage(NamedTuple):
    """Rows of one stage: `direct` (n, D + 1), and `blocks[k]` (n, n_k) on the hinges of earlier stages k."""

    direct: Array
    blocks: dict[int, Array]


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
    sparse: IntArray  # per stage whether most of its weights on earlier stages are zero


@dataclass(frozen=True, eq=False)
class Form:
    """A network's stages and their packed arrays.

    Arguments:
        rewritten: The stages are products of several affine maps, rounded to float64: pieces are exact for them.
        owners: Node and unit of each hinge, shape (hinges, 2).
    """

    net: Net
    dimension: int
    outputs: int
    hinges: int
    rewritten: bool
    owners: IntArray


_FORMS: WeakKeyDictionary[Network, Form] = WeakKeyDictionary()
_ON_PLANES: WeakKeyDictionary[Network, tuple[bytes, Form]] = WeakKeyDictionary()  # the last plane of each network


def form_of(network: Network, plane: Array | None = None, rows: tuple[Array, Array] | None = None) -> Form:
    """The stages of a network, on its inputs or on `x = plane @ (p, 1)`.

    Arguments:
        plane: Shape (N, D + 1); None for the network's own inputs.
        rows: Half-spaces `A p <= b` that the domain keeps to, as a first stage.
    """
    plain = plane is None and rows is None
    if plain and network in _FORMS:
        return _FORMS[network]
    name = plane.tobytes() if plane is not None and rows is None else b""
    if name and _ON_PLANES.get(network, (b"", None))[0] == name:
        return _ON_PLANES[network][1]
    chain = network.dense_chain()
    if chain is not None and chain.is_relu:
        stages, owners = _chain_stages(network, chain, plane)
        factors = None if plane is None else (plane, chain.weights[0], chain.biases[0])
        rewritten = len([1 for node in network.nodes if isinstance(node.op, Affine)]) > len(chain.weights)
    else:
        stages, owners, whole = _general_stages(network, plane)
        factors, rewritten = None, not whole
    dimension = stages[0].direct.shape[1] - 1
    if rows is not None:
        A, b = rows
        cut = Stage(np.concatenate([A, -b[:, None]], axis=1), {})
        stages = [cut] + [Stage(s.direct, {k + 1: W for k, W in s.blocks.items()}) for s in stages]
        owners = np.concatenate([np.full((len(A), 2), -1), owners])
    net = pack(stages, factors, 0 if rows is None else len(rows[0]))
    form = Form(net, dimension, len(stages[-1].direct), len(owners), rewritten, owners)
    if plain:
        _FORMS[network] = form
    elif name:
        _ON_PLANES[network] = name, form
    return form


def _chain_stages(network: Network, chain: Any, plane: Array | None) -> tuple[list[Stage], IntArray]:
    W, b = chain.weights[0], chain.biases[0]
    if plane is None:
        first = np.concatenate([W, b[:, None]], axis=1)
    else:
        first = W @ plane
        first[:, -1] += b
    dimension = first.shape[1] - 1
    stages = [Stage(first, {})]
    for k, (W, b) in enumerate(zip(chain.weights[1:], chain.biases[1:])):
        stages.append(Stage(np.concatenate([np.zeros((len(b), dimension)), b[:, None]], axis=1), {k: W}))
    pairs = [[(i, u) for u in range(network.nodes[i].size)] for i in network.activations]
    return stages, np.array([p for group in pairs for p in group], np.int64).reshape(-1, 2)


def _general_stages(network: Network, plane: Array | None) -> tuple[list[Stage], IntArray, bool]:
    """Forms (size, D + 1 + hinges so far) pushed through the nodes; each activation with knots makes a stage."""
    start = np.eye(network.inputs, network.inputs + 1) if plane is None else plane
    width = start.shape[1]
    starts, stages, owners, whole = [width], [], [], True
    forms: dict[int, Array] = {0: np.array(start)}
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}

    def widened(form: Array, columns: int) -> Array:
        return np.pad(form, ((0, 0), (0, columns - form.shape[1])))

    def cut(form: Array) -> Stage:
        ends = [*starts[1:], starts[-1]]
        blocks = {k: form[:, a:b] for k, (a, b) in enumerate(zip(starts, ends)) if b <= form.shape[1] and b > a}
        return Stage(form[:, :width], {k: W for k, W in blocks.items() if np.any(W)})

    for at, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node.op, Affine):
            columns = max(forms[j].shape[1] for j in node.inputs)
            if node.size * columns > _ENTRIES:
                raise UnsupportedOperation(
                    f"node '{node.name}' needs {node.size} x {columns} numbers to list its pieces, more than {_ENTRIES:,}; take a smaller network"
                )
            wide = [widened(forms[j], columns) for j in node.inputs]
            if at < len(network) - 1:  # outputs cut nothing
                whole = whole and sums_are_exact(node.op.maps, wide, node.op.bias)
            value: Any = sum(m.apply(np.ascontiguousarray(form.T)).T for m, form in zip(node.op.maps, wide))
            value[:, width - 1] += node.op.bias
        else:
            whole = whole and _is_whole(node.op, forms[node.inputs[0]])
            value = _activate(node.op, forms[node.inputs[0]], at, width, starts, stages, owners, cut, widened)
        forms = {j: f for j, f in forms.items() if last[j] > at} | {at: value}
    stages.append(cut(widened(forms[len(network) - 1], starts[-1])))
    return stages, np.array(owners, np.int64).reshape(-1, 2), whole


def _is_whole(op: Any, z: Array) -> bool:
    """Whether `_activate` rounds nothing."""
    slope, offset, jumps, knots = (np.asarray(v, float) for v in op.hinges())
    n = len(z)
    spread = lambda v: np.broadcast_to(v, n)
    return (
        scaled_is_exact(spread(slope), z, spread(offset))
        and steps_are_exact(op.slopes, jumps)
        and offset_is_exact(op.height, op.slopes, knots)
        and all(scaled_is_exact(np.ones(n), z, spread(knot)) for knot in knots)
    )


def _activate(
    op: PiecewiseLinear, z: Array, at: int, width: int, starts: list, stages: list, owners: list, cut, widened
):
    """The form after an activation; appends its hinges as one stage."""
    n = len(z)
    slope, offset, jumps, knots = (np.asarray(v, float) for v in op.hinges())
    passed = np.broadcast_to(slope, n)[:, None] * z
    passed[:, width - 1] += np.broadcast_to(offset, n)
    rows, columns, values = [], [], []
    for jump, knot in zip(jumps, knots):
        jump, knot = np.broadcast_to(jump, n), np.broadcast_to(knot, n)
        for u in np.flatnonzero(jump):
            row = z[u].copy()
            row[width - 1] -= knot[u]
            columns.append(u)
            values.append(jump[u])
            rows.append(row)
    if not rows:
        return passed
    stages.append(cut(widened(np.array(rows), starts[-1])))
    owners += [(at, int(u)) for u in columns]
    total = starts[-1] + len(rows)
    passed = widened(passed, total)
    passed[columns, starts[-1] + np.arange(len(rows))] = values
    starts.append(total)
    return passed


def pack(stages: list[Stage], factors: tuple[Array, Array, Array] | None, cuts: int) -> Net:
    """Flat arrays of the stages, with the a-priori bounds on what float64 evaluation loses.

    Arguments:
        factors: `(plane, W, b)` where the first network stage's rows are the product `W @ plane` plus `b`.
        cuts: Number of half-spaces in a first stage of the domain.
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
    C, E = _errors(stages, factors, 1 if cuts else 0)
    depth = stages[0].direct.shape[1]
    keep = np.zeros(hinges, np.int64)
    keep[:cuts] = 1
    plane, W, b = factors if factors is not None else (np.zeros((0, depth)), np.zeros((0, 0)), np.zeros(0))
    join = lambda parts: np.concatenate(parts) if parts else np.zeros(0)
    sizes = np.array([np.abs(s).max(initial=0.0) for s in _absolute(stages, factors, 1 if cuts else 0)])
    row_sum = np.array([sum((np.abs(W).sum(axis=1) for W in s.blocks.values()), np.zeros(1)).max() for s in stages])
    zeros = [
        (sum(W.size - np.count_nonzero(W) for W in s.blocks.values()), sum(W.size for W in s.blocks.values()))
        for s in stages
    ]
    sparse = np.array([2 * z > n for z, n in zeros], np.int64)
    scale = 2.0 ** np.minimum(_RANGE // depth - np.frexp(np.maximum(sizes, 1e-300))[1], 1000)  # rows of zeros: any
    return Net(
        size, -(-size // LANES) * LANES, first, np.repeat(np.arange(len(stages)), size)[:hinges].astype(np.int64),
        at_a_line(join(direct)), np.concatenate([[0], np.cumsum([len(d) for d in direct])])[:-1].astype(np.int64),
        at_a_line(join(weight)), weight_at, np.array(skip, np.int64).reshape(-1, 3), join(skip_weight), C, E, row_sum, scale,
        np.ascontiguousarray(plane, float), np.ascontiguousarray(W, float), np.ascontiguousarray(b, float), keep, sparse,
    )  # fmt: skip


def _absolute(stages: list[Stage], factors: tuple[Array, Array, Array] | None, start: int) -> list[Array]:
    """Entrywise bounds of each stage's rows over all patterns, shape (n, D + 1)."""
    total: list[Array] = []
    for l, s in enumerate(stages):
        rows = np.abs(s.direct)
        if factors is not None and l == start:
            plane, W, b = (np.abs(f) for f in factors)
            rows = W @ plane
            rows[:, -1] += b
        for k, W in s.blocks.items():
            with np.errstate(over="ignore"):  # an infinite bound leaves every sign to exact arithmetic
                rows = rows + np.abs(W) @ total[k]
        total.append(rows)
    return total


def _errors(stages: list[Stage], factors: tuple[Array, Array, Array] | None, start: int) -> tuple[Array, Array]:
    r"""C and E of each stage: a computed row loses at most K u times its sum of absolute terms.

    A sum of n products loses less than :math:`(n + 2) u` of the sum of their sizes, in any order and with or without
    fused multiply-add (Accuracy and Stability of Numerical Algorithms, Higham, 2002, chapter 3); through the stages the
    factors add. Two more for evaluation at a point, and 2 percent for terms of second order.
    """
    rows = _absolute(stages, factors, start)
    loss, C, E = [], [], []
    for l, s in enumerate(stages):
        terms = 4 + sum(W.shape[1] for W in s.blocks.values())
        if factors is not None and l == start:
            terms += len(factors[0])
        loss.append(terms + max((loss[k] for k in s.blocks), default=0))
        K = 1.02 * _UNIT * (loss[-1] + 4 + s.direct.shape[1])
        C.append(K * rows[l][:, :-1].max(initial=0.0))
        E.append(K * rows[l][:, -1].max(initial=0.0))
    return np.array(C), np.array(E)


def gates_at(form: Form, points: Array) -> Any:
    """Which hinges are on at points (count, D), in float64; shape (count, hinges)."""
    net, D = form.net, form.dimension
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
