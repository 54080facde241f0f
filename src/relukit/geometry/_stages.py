"""A network as stages of rows: chains of layers as they are, other networks with their affine maps multiplied out.

A product of affine maps is rounded, unless its numbers are short (`_dyadic`). Beside it stands then what its entries would be if all terms had one sign
(`sizes`) and how many roundings they went through (`loss`): every entry is within loss times the unit roundoff of its size.
"""

from typing import Any, NamedTuple, Optional

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array, IntArray
from relukit.geometry._dyadic import (
    numbers_of,
    offset_is_exact,
    scaled_is_exact,
    smallest,
    steps_are_exact,
    sums_are_exact,
)
from relukit.network import Affine, Network
from relukit.piecewise import PiecewiseLinear

_ENTRIES = 40_000_000  # numbers of one dense row block (320 MB): larger networks are refused with a sentence
_EVEN = 40  # rows of a stage whose sizes differ by more powers of two are brought to one size
_NEAR = 200  # and so are rows further from 1 than this many powers of two
_UNDERFLOW = 2.0**-900  # products that may be smaller are as good as lost,
_LOST = 2.0**-1000  # and sizes then grow by so much that the loss, half of 2^-1073 a term, is within the bound


class Stage(NamedTuple):
    """Rows of one stage: `direct` (n, D + 1), and `blocks[k]` (n, n_k) on the hinges of earlier stages k."""

    direct: Array
    blocks: dict[int, Array]
    sizes: Optional["Stage"] = None  # None: nothing was rounded
    loss: int = 0

    @property
    def bounds(self) -> "Stage":
        """What entries are by size, at most."""
        if self.sizes is not None:
            return self.sizes
        return Stage(np.abs(self.direct), {k: np.abs(W) for k, W in self.blocks.items()})

    @property
    def is_sure(self) -> bool:
        """Whether every entry has its true sign, and is 0 only where it truly is."""
        if self.sizes is None:
            return True
        share = 1.02 * 2.0**-53 * (self.loss + 2)
        parts = [(self.direct, self.sizes.direct), *((W, self.sizes.blocks[k]) for k, W in self.blocks.items())]
        return all(bool(np.all((np.abs(a) > share * b) | (b == 0))) for a, b in parts)


class Rows(NamedTuple):
    """Values as functions of the coordinates and hinges so far: numbers, their sizes, roundings, whether a product may have left float64's range."""

    form: Array
    size: Array
    loss: int
    lost: bool


def chain_stages(network: Network, chain: Any, plane: Array | None) -> tuple[list[Stage], IntArray]:
    """A chain of dense layers with ReLUs: its own weights."""
    W, b = chain.weights[0], chain.biases[0]
    if plane is None:
        first = np.concatenate([W, b[:, None]], axis=1)
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            first = W @ plane
            first[:, -1] += b
    dimension = first.shape[1] - 1
    stages = [Stage(first, {})]
    for k, (W, b) in enumerate(zip(chain.weights[1:], chain.biases[1:])):
        stages.append(Stage(np.concatenate([np.zeros((len(b), dimension)), b[:, None]], axis=1), {k: W}))
    pairs = [[(i, u) for u in range(network.nodes[i].size)] for i in network.activations]
    return stages, np.array([p for group in pairs for p in group], np.int64).reshape(-1, 2)


def general_stages(network: Network, plane: Array | None) -> tuple[list[Stage], IntArray, bool, bool]:
    """Rows (size, D + 1 + hinges so far) pushed through the nodes; each activation with knots makes a stage.

    Returns:
        The stages, node and unit of each hinge, whether nothing was rounded, and whether a product may have left float64's range.
    """
    start = np.eye(network.inputs, network.inputs + 1) if plane is None else np.array(plane)
    walk = _Stages(start.shape[1])
    forms: dict[int, Rows] = {0: Rows(start, np.abs(start), 0, False)}
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}
    for at, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node.op, Affine):
            value = walk.affine(node, [forms[j] for j in node.inputs], at < len(network) - 1)
        else:
            value = walk.activate(node.op, forms[node.inputs[0]], at)
        forms = {j: f for j, f in forms.items() if last[j] > at} | {at: value}
    out = forms[len(network) - 1]
    walk.cut(out)
    return walk.stages, np.array(walk.owners, np.int64).reshape(-1, 2), walk.whole, out.lost


class _Stages:
    """The stages found so far."""

    def __init__(self, width: int) -> None:
        self.width, self.starts, self.whole = width, [width], True
        self.stages: list[Stage] = []
        self.owners: list[tuple[int, int]] = []

    def affine(self, node: Any, inputs: list[Rows], matters: bool) -> Rows:
        columns = max(r.form.shape[1] for r in inputs)
        if node.size * columns > _ENTRIES:
            raise UnsupportedOperation(
                f"node '{node.name}' needs {node.size} x {columns} numbers to list its pieces, more than {_ENTRIES:,}; take a smaller network"
            )
        wide = [widened(r.form, columns) for r in inputs]
        if matters:  # outputs cut nothing
            self.whole = self.whole and sums_are_exact(node.op.maps, wide, node.op.bias)
        turned = lambda m, rows: m.apply(np.ascontiguousarray(rows.T)).T
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            form: Any = sum(turned(m, f) for m, f in zip(node.op.maps, wide))
            size: Any = sum(turned(m.absolute(), widened(r.size, columns)) for m, r in zip(node.op.maps, inputs))
            form[:, self.width - 1] += node.op.bias
            size[:, self.width - 1] += np.abs(node.op.bias)
        numbers = [numbers_of(m) for m in node.op.maps]
        lost = any(w is None or smallest(w) * smallest(r.size) < _UNDERFLOW for w, r in zip(numbers, inputs))
        size = size + _LOST if lost else size
        terms = sum(m.terms for m in node.op.maps) + len(node.op.maps) + 2
        return Rows(form, size, max(r.loss for r in inputs) + terms, lost or any(r.lost for r in inputs))

    def activate(self, op: PiecewiseLinear, rows: Rows, at: int) -> Rows:
        """The rows after an activation; its hinges become one stage."""
        z, size, n = rows.form, rows.size, len(rows.form)
        slope, offset, jumps, knots = (np.asarray(v, float) for v in op.hinges())
        spread = lambda v: np.broadcast_to(v, n)
        self.whole = self.whole and (
            scaled_is_exact(spread(slope), z, spread(offset))
            and steps_are_exact(op.slopes, jumps)
            and offset_is_exact(op.height, op.slopes, knots)
            and all(scaled_is_exact(np.ones(n), z, spread(knot)) for knot in knots)
        )
        above = np.abs(op.height) + (np.abs(op.slopes[0] * knots[0]) if len(knots) else 0.0)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            passed, passed_size = spread(slope)[:, None] * z, np.abs(spread(slope))[:, None] * size
        passed[:, self.width - 1] += spread(offset)
        passed_size[:, self.width - 1] += spread(above)
        steps = np.abs(np.asarray(op.slopes, float))
        columns, found = [], []  # unit, jump, its size, row, its size
        for k, (jump, knot) in enumerate(zip(jumps, knots)):
            jump, knot, step = spread(jump), spread(knot), spread(steps[k] + steps[k + 1])
            for u in np.flatnonzero(jump):
                row, bound = z[u].copy(), size[u].copy()
                row[self.width - 1] -= knot[u]
                bound[self.width - 1] += abs(knot[u])
                columns.append(u)
                found.append((jump[u], step[u], row, bound))
        lost = smallest(op.slopes) * smallest(size) < _UNDERFLOW
        passed_size, lost = passed_size + _LOST * lost, lost or rows.lost
        if not found:
            return Rows(passed, passed_size, rows.loss + 4, lost)
        values, heights, tops, bounds = (np.array(v) for v in zip(*found))
        self.cut(Rows(tops, bounds, rows.loss + 1, rows.lost))
        self.owners += [(at, int(u)) for u in columns]
        total, places = self.starts[-1] + len(found), self.starts[-1] + np.arange(len(found))
        passed, passed_size = widened(passed, total), widened(passed_size, total)
        passed[columns, places], passed_size[columns, places] = values, heights
        self.starts.append(total)
        return Rows(passed, passed_size, rows.loss + 4, lost)

    def cut(self, rows: Rows) -> None:
        """Rows as a stage of their own."""
        size, stage = self._split(rows.size), self._split(rows.form)
        kept = stage.blocks if self.whole else size.blocks  # rounding may have left 0 where there is something
        kept = [k for k, W in kept.items() if np.any(W)]
        pick = lambda s: s._replace(blocks={k: s.blocks[k] for k in kept})
        self.stages.append(
            pick(stage) if self.whole else pick(stage)._replace(sizes=pick(size), loss=rows.loss)
        )  # products so far lost nothing, or so much

    def _split(self, form: Array) -> Stage:
        form, ends = widened(form, self.starts[-1]), [*self.starts[1:], self.starts[-1]]
        return Stage(
            form[:, : self.width], {k: form[:, a:b] for k, (a, b) in enumerate(zip(self.starts, ends)) if b > a}
        )


def widened(form: Array, columns: int) -> Array:
    return np.pad(form, ((0, 0), (0, columns - form.shape[1])))


class Even(NamedTuple):
    """Stages with rows of one size: rows times powers of two, what they add to later ones times the inverse; and whether that was exact."""

    stages: list[Stage]
    factors: tuple[Array, Array, Array] | None
    exact: bool


def evened(stages: list[Stage], factors: tuple[Array, Array, Array] | None, start: int, columns: IntArray) -> Even:
    """Stages whose rows are about 1 by size, the last one's (outputs) included, so that one error bound does for a stage.

    A positive factor changes no sign. Where sizes are near each other and near 1, nothing is changed.

    Arguments:
        factors, start: As in `pack`.
        columns: Coordinates are counted in units of these powers of two.
    """
    shifts: list[IntArray] = []
    for l, s in enumerate(stages):
        bound = _exponents(s.bounds.direct) + columns
        if factors is not None and l == start:
            plane, W, b = (_exponents(f) for f in factors)
            inner = (W[:, :, None] + plane[None]).max(axis=1, initial=_NONE) + 12  # a sum of up to 4096
            bound = inner + columns
            bound[:, -1] = np.maximum(bound[:, -1], b)
        top = bound.max(axis=1)
        for k, W in s.bounds.blocks.items():
            top = np.maximum(top, (_exponents(W) - shifts[k]).max(axis=1, initial=_NONE) + len(W.T).bit_length())
        shifts.append(np.where(top < _NONE // 2, 0, -top))
    spread = max((int(np.ptp(s)) for s in shifts[:-1] if len(s)), default=0)
    if not columns.any() and spread <= _EVEN and all(np.abs(s).max(initial=0) <= _NEAR for s in shifts):
        return Even(stages, factors, True)
    out, exact = [], True
    for l, s in enumerate(stages):
        parts = []
        for one in (s,) if s.sizes is None else (s, s.sizes):
            direct, sure = scaled(one.direct, shifts[l][:, None] + columns)
            blocks = {k: scaled(W, shifts[l][:, None] - shifts[k]) for k, W in one.blocks.items()}
            exact = exact and sure and all(ok for _, ok in blocks.values())
            parts.append(Stage(direct, {k: W for k, (W, _) in blocks.items()}))
        out.append(parts[0]._replace(sizes=None if s.sizes is None else parts[1], loss=s.loss))
    if factors is not None:
        plane, W, b = factors
        made = scaled(plane, columns), scaled(W, shifts[start][:, None]), scaled(b, shifts[start])
        exact, factors = exact and all(ok for _, ok in made), (made[0][0], made[1][0], made[2][0])
    return Even(out, factors, exact)


_NONE = -1 << 20  # exponent of 0


def _exponents(values: Array) -> IntArray:
    """x < 2^e by size."""
    return np.where(values == 0, _NONE, np.where(np.isfinite(values), np.frexp(values)[1], 1100)).astype(np.int64)


def scaled(values: Array, exponents: IntArray) -> tuple[Array, bool]:
    """values * 2^exponents, and whether nothing was lost: the product may leave float64's range."""
    exponents = np.broadcast_to(exponents, values.shape)
    with np.errstate(over="ignore", under="ignore"):
        out = _shifted(values, exponents)
        return out, bool(np.array_equal(_shifted(out, -exponents), values))


def _shifted(values: Array, exponents: IntArray) -> Array:
    mantissa, exponent = np.frexp(values)
    return np.ldexp(mantissa, np.clip(exponent + exponents, -2200, 2200).astype(np.int32))
