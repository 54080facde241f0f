"""The bounds of `_dual` through a whole network: convolutions and sums of branches, and nothing larger than a network's values.

Rows go through the network `LANES` at a time, and each batch touches only the units that its rows can read: the window of a
convolution for bounds of early gates, everything for the outputs. Parameters, derivatives and error terms are those of `Dual`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from relukit._clock import loading
from relukit._numerics import down, gamma, up
from relukit._types import Array, IntArray
from relukit.network import Affine
from relukit.search._dual import Bounded, Dual
from relukit.search._graph import Graph
from relukit.search._lane_kernel import LANES
from relukit.search._threads import share, workers
from relukit.search._torch_points import extreme, module_of, outputs
from relukit.sets import Ball

_SINGLE = np.float32
_VALUES = 100_000_000  # of all nodes at the points that torch evaluates at once
_SCRATCH = 1e9  # bytes of buffers for one thread up to which there are several


@dataclass(frozen=True, eq=False)
class ValueRows:
    """Rows that are values of one node, with a sign; or sums of them.

    Arguments:
        node: Whose values.
        units, signs: One value per row.
        weights: Shape `(B, rows)` where each of B rows is a sum.
    """

    node: int
    units: IntArray
    signs: Array
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.units) if self.weights is None else len(self.weights)

    def __getitem__(self, index: IntArray) -> "ValueRows":
        if self.weights is not None:
            return replace(self, weights=self.weights[index])
        return ValueRows(self.node, self.units[index], self.signs[index])

    def weighed(self, weights: Array) -> "ValueRows":
        """Sums with weights at least 0, shape `(B, R)`: where all rows are at most 0, so are these."""
        return replace(self, weights=np.asarray(weights, np.float64))


@dataclass
class _Pass:
    """One batch of lanes: the units that its rows read, node by node from the last to the first."""

    rows: ValueRows
    count: int
    active: list[tuple[int, IntArray]]


class GraphDual(Dual):
    """Bounds of rows of a `Graph`; see `Dual`, whose place it takes.

    Arguments:
        graph: The network, its set, and bounds of its gates.
    """

    lanes = LANES

    def __init__(self, graph: Graph) -> None:  # the parent's arrays over all gates are what this class avoids
        with loading():
            import relukit.search._lane_kernel as _  # noqa: F401
        region, box = graph.input_set, graph.input_set.box()
        self.graph, self.small = graph, graph  # type: ignore[assignment]
        self.center = np.clip(region.center() if not isinstance(region, Ball) else region.middle, box.lower, box.upper)
        self.moving = np.flatnonzero(box.lower < box.upper)
        move = self.moving
        self.low = np.minimum(down(box.lower - self.center), 0.0)[move]
        self.high = np.maximum(up(box.upper - self.center), 0.0)[move]
        self.norm, self.radius = np.inf, 0.0
        if isinstance(region, Ball) and region.norm != np.inf:
            self.norm, self.radius = region.norm, float(np.nextafter(float(region.radius), np.inf))
        self.box_lower, self.box_upper = (np.ascontiguousarray(v, np.float64) for v in (box.lower, box.upper))
        self.reach_x = np.maximum(np.abs(box.lower), np.abs(box.upper))
        self.K, self.n = graph.gates, len(move)
        starts = np.flatnonzero(np.diff(graph.units[:, 0], prepend=-1)) if self.K else np.zeros(0, int)
        self.blocks = list(zip(starts.tolist(), [*starts[1:].tolist(), self.K]))
        self._full: dict[tuple, list[tuple[int, IntArray]]] = {}
        self._buffers: dict[tuple, Array] = {}
        self._weighted: dict[int, Array] = {}
        lower, upper = np.zeros(self.K), np.zeros(self.K)
        for source, units, numbers in graph.sources:
            lower[numbers], upper[numbers] = graph.lower[source][units], graph.upper[source][units]
        self.set_bounds(lower, upper)

    def _prepare(self) -> None:
        lower, upper = self.lower, self.upper
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(upper <= 0, 0.0, np.where(lower >= 0, 1.0, upper / (upper - lower)))
        self.slope, self.top = slope, np.where((lower < 0) & (upper > 0), -slope * lower, 0.0)
        self.phase = np.where(lower >= 0, 1, np.where(upper <= 0, -1, 0)).astype(np.int8)
        self.single_slope, self.single_top = slope.astype(_SINGLE), self.top.astype(_SINGLE)
        self.gate, self.running = {}, {}
        network = self.graph.network
        for i in network.activations:
            source = network.nodes[i].inputs[0]
            if source >= len(self.graph.lower):
                break
            low, high = self.graph.lower[source], self.graph.upper[source]
            self.gate[i] = np.where(low >= 0, -1, -2).astype(np.int64)
            self.running[i] = (high > 0) & ((low >= 0) | (low < 0))
        for first, last in self.blocks:
            i, units = int(self.graph.units[first, 0]), self.graph.units[first:last, 1]
            phase = self.phase[first:last]
            self.gate[i][units] = np.where(phase == 0, np.arange(first, last), -1)
            self.running[i][units] = phase >= 0
        self._full.clear()
        self._buffers.clear()  # values of units that are off from now on must be 0

    # -- rows ------------------------------------------------------------------------------------------------------

    def value_rows(self, node: int, units: IntArray) -> ValueRows:
        """`+v` of some values of a node and then `-v`."""
        return ValueRows(node, np.tile(units, 2), np.repeat([1.0, -1.0], len(units)))

    def gate_rows(self, gates: IntArray) -> ValueRows:  # type: ignore[override]
        """`+z` of gates of one block and then `-z`."""
        node = int(self.graph.units[gates[0], 0]) if len(gates) else self.graph.network.activations[0]
        return self.value_rows(self.graph.network.nodes[node].inputs[0], self.graph.units[gates, 1])

    def output_rows(self, A: Array | None = None, offset: Array | float = 0.0) -> ValueRows:  # type: ignore[override]
        """The outputs."""
        if A is not None or np.any(offset):
            raise NotImplementedError("rows of a graph are its outputs: append others to the network")
        R = self.graph.outputs
        return ValueRows(len(self.graph.network) - 1, np.arange(R), np.ones(R))

    def _order(self, rows: ValueRows) -> IntArray:
        """Rows whose windows overlap come together."""
        shape = self.graph.network.nodes[rows.node].shape
        if rows.weights is not None or len(shape) != 3:
            return np.arange(len(rows))
        plane = shape[1] * shape[2]
        y, x = rows.units % plane // shape[2], rows.units % shape[2]
        return np.lexsort((rows.units // plane, x, y, x // 2, y // 2))

    # -- batches of lanes --------------------------------------------------------------------------------------------

    def _passes(self, rows: ValueRows) -> Iterator[tuple[IntArray, _Pass]]:
        """Batches of rows, with the numbers of the rows in each."""
        order = self._order(rows)
        for k in range(0, len(order), LANES):
            mine = order[k : k + LANES]
            part = rows[mine]
            yield mine, _Pass(part, len(mine), self._reached(part))

    def _parts(self, count: int, columns: int) -> list[IntArray]:
        return [np.arange(count)]  # batches of lanes are shared out instead

    def _check(self, rows: ValueRows, columns: int) -> None:
        """Compiled loops do not: parameters must be given for every gate that the rows can read."""
        needed = int(np.searchsorted(self.graph.units[:, 0], rows.node))
        if columns < needed:
            raise ValueError(f"rows of node {rows.node} read {needed} gates, got parameters of {columns}")

    def _share(self, rows: ValueRows, work: Callable[[tuple[IntArray, _Pass]], None]) -> None:
        """Batches of rows on all threads that the memory allows, until time is up."""
        small = sum(node.size for node in self.graph.network.nodes) * LANES * 12 < _SCRATCH
        share(self._passes(rows), work, self.stop, workers() if small and len(rows) > LANES else 1)

    def _reached(self, rows: ValueRows) -> list[tuple[int, IntArray]]:
        """For each node the units that rows read, from the last node to the input."""
        key = rows.node, rows.units.tobytes()
        if rows.weights is not None and key in self._full:
            return self._full[key]
        network = self.graph.network
        marks: dict[int, Array] = {rows.node: np.zeros(network.nodes[rows.node].size, bool)}
        marks[rows.node][rows.units] = True
        found: list[tuple[int, IntArray]] = []
        for i in range(rows.node, -1, -1):
            mark = marks.pop(i, None)
            if mark is None:
                continue
            node = network.nodes[i]
            if i and not isinstance(node.op, Affine):
                mark &= self.running[i]
            units = np.flatnonzero(mark)
            if not len(units):
                continue
            if i and isinstance(node.op, Affine):
                units = self.graph.maps.walked(i, units)
            found.append((i, units))
            for m, j in zip(self.graph.maps[i] if isinstance(node.op, Affine) else [None] * (i > 0), node.inputs):
                below = marks.setdefault(j, np.zeros(network.nodes[j].size, bool))
                if m is None:
                    below |= mark
                else:
                    m.reach(units, below)
        if rows.weights is not None:
            self._full[key] = found
        return found

    def _buffer(self, kind: str, node: int, dtype: type) -> Array:
        key = kind, node, dtype, threading.get_ident()
        if key not in self._buffers:
            self._buffers[key] = np.zeros((self.graph.network.nodes[node].size, LANES), dtype)
        return self._buffers[key]

    def _scratch(self, kind: str, columns: int, dtype: type) -> Array:
        """One row of lanes per gate, of this thread; what it holds is left over from before."""
        key = kind, -1, dtype, threading.get_ident()
        if key not in self._buffers:
            self._buffers[key] = np.empty((self.K, LANES), dtype)
        return self._buffers[key][:columns]

    def _lanes(self, kind: str, values: Array, which: IntArray, dtype: type) -> Array:
        """Rows `which` of `(B, columns)` as `(columns, LANES)`."""
        from relukit.search._lane_kernel import to_lanes

        out = self._scratch(kind, values.shape[1], dtype)
        to_lanes(np.ascontiguousarray(values), which, out)
        return out

    def _seed(self, batch: _Pass, dtype: type) -> dict[int, Array]:
        """Coefficients of the rows on their node's values; of all other nodes, zero where they will be read."""
        from relukit.search._lane_kernel import clear

        coefficients = {}
        for i, units in batch.active:
            coefficients[i] = self._buffer("coefficients", i, dtype)
            clear(units, coefficients[i])
        rows, top = batch.rows, coefficients[batch.rows.node]
        if rows.weights is None:
            np.add.at(top, (rows.units, np.arange(batch.count)), rows.signs.astype(dtype))
        else:
            top[rows.units, : batch.count] = (rows.weights * rows.signs).T
        return coefficients

    def _parameters(self, which: IntArray, P: Array | None, S: Array | None, dtype: type) -> tuple[Array, Array]:
        if P is None or S is None:
            key = "start", -1, dtype
            if key not in self._buffers:
                start = np.where((self.upper > -self.lower) & (self.phase == 0), 1.0, 0.0)[:, None]
                self._buffers["free", -1, dtype] = np.zeros(
                    (self.K, LANES), dtype
                )  # first: other threads look for `key`
                self._buffers[key] = np.repeat(start, LANES, axis=1).astype(dtype)
            return self._buffers[key], self._buffers["free", -1, dtype]
        return self._lanes("P", P, which, dtype), self._lanes("S", S, which, dtype)

    # -- proposing -------------------------------------------------------------------------------------------------

    def improve(  # type: ignore[override]
        self,
        rows: ValueRows,
        P: Array,
        S: np.ndarray,
        steps: int,
        rate: float = 0.25,
        rate_fixed: float = 0.15,
        decay: float = 0.97,
        weights: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """As `Dual.improve`; the minimizers are left out (`certify` gives them)."""
        from relukit.search._lane_kernel import from_lanes

        self._check(rows, P.shape[1])
        best_P, best = P.copy() if steps else P, np.full(len(P), -np.inf, _SINGLE)
        best_w = None if weights is None else weights.copy()
        asked = rows if weights is None else rows.weighed(weights)

        def work(item: tuple[IntArray, _Pass]) -> None:
            mine, batch = item
            Pt, St = self._parameters(mine, P, S, _SINGLE)
            found = self._improve(batch, Pt, St, steps, rate, rate_fixed, decay, weights is not None)
            best[mine] = found[1]
            if steps:
                from_lanes(found[0], mine, best_P)
            if best_w is not None:
                best_w[mine] = found[2]

        self._share(asked, work)
        return best_P, best, np.zeros((len(P), 0), _SINGLE), best_w

    def _improve(
        self, batch: _Pass, P: Array, S: Array, steps: int, rate: float, rate_fixed: float, decay: float, moving: bool
    ) -> tuple[Array, Array, Array | None]:
        """The best parameters `(columns, LANES)`, bounds and weights of one batch."""
        from relukit.search._lane_kernel import keep

        columns = len(P)
        kept, M1, M2, best_P = (self._scratch(kind, columns, _SINGLE) for kind in ("kept", "M1", "M2", "best"))
        best, best_w, scale = np.full(LANES, -np.inf, _SINGLE), batch.rows.weights if moving else None, None
        if steps:
            M1[:], M2[:], best_P[:] = 0, 0, P
        for k in range(steps + 1):
            value, largest = self._backward(batch, P, S, kept)
            if best_w is not None:
                better = np.flatnonzero(value[: batch.count] > best[: batch.count])
                best_w = best_w.copy()
                assert batch.rows.weights is not None
                best_w[better] = batch.rows.weights[better]
            if not steps:
                return P, np.fmax(value[: batch.count], -np.inf), best_w
            keep(value, best, P, best_P)
            scale = np.abs(value) if scale is None else scale
            if (
                k == steps
                or time.perf_counter() > self.stop
                or np.all(best[: batch.count] > 1e-3 * scale[: batch.count])
            ):
                break
            out = self._forward(batch, P, S, kept, M1, M2, largest, k, rate * decay**k, rate_fixed * decay**k)
            if moving and batch.rows.weights is not None and batch.rows.weights.shape[1] > 1:
                batch = replace(batch, rows=batch.rows.weighed(_moved(batch.rows.weights, out, 2 * rate * decay**k)))
        return best_P, best[: batch.count], best_w

    def _backward(self, batch: _Pass, P: Array, S: Array, kept: Array) -> tuple[Array, Array]:  # type: ignore[override]
        from relukit.search._lane_kernel import backward, bias

        coefficients = self._seed(batch, _SINGLE)
        value, largest = np.zeros(LANES, _SINGLE), np.zeros(LANES, _SINGLE)
        nodes = self.graph.network.nodes
        for i, units in batch.active:
            node, lam = nodes[i], coefficients[i]
            if isinstance(node.op, Affine):
                bias(units, self._bias(i), lam, value)
                for m, j in zip(self.graph.maps[i], node.inputs):
                    if j in coefficients:
                        m.adjoint(units, lam, coefficients[j])
            elif i:
                below = coefficients[node.inputs[0]]
                backward(
                    units, self.gate[i], lam, P, S, self.single_slope, self.single_top, below, kept, value, largest
                )
            else:
                self._at_box(batch, units, lam, value)
        return value, largest

    def _bias(self, i: int) -> Array:
        key = "bias", i, _SINGLE
        if key not in self._buffers:
            op = self.graph.network.nodes[i].op
            assert isinstance(op, Affine)
            self._buffers[key] = op.bias.astype(_SINGLE)
        return self._buffers[key]

    def _at_box(self, batch: _Pass, units: IntArray, lam: Array, value: Array) -> None:
        """The least over the set, and where: values of the input node."""
        from relukit.search._lane_kernel import corner

        x = self._buffer("values", 0, _SINGLE)
        if self.norm == np.inf:
            corner(units, lam, self.box_lower.astype(_SINGLE), self.box_upper.astype(_SINGLE), x, value)
            return
        full = np.zeros_like(lam)
        full[units] = lam[units]
        X = np.ascontiguousarray(full[self.moving].T)
        least, D = np.zeros(LANES, _SINGLE), np.empty_like(X)
        self._least(X, least, D)
        value += least + self.center.astype(_SINGLE) @ full
        x[:] = self.center[:, None]
        x[self.moving] += D.T

    def _forward(
        self, batch: _Pass, P: Array, S: Array, kept: Array, M1: Array, M2: Array, largest: Array, k: int, rate: float,
        rate_fixed: float,
    ) -> Array:  # fmt: skip
        """Send the minimizers through the lines, move the parameters, and return the rows' own values `(rows, lanes)`."""
        from relukit.search._lane_kernel import forward

        f, nodes = _SINGLE, self.graph.network.nodes
        fix1, fix2 = f(1 / (1 - 0.9 ** (k + 1))), f(1 / (1 - 0.999 ** (k + 1)))
        for i, units in reversed(batch.active[: -1 if batch.active[-1][0] == 0 else None]):
            node, out = nodes[i], self._buffer("values", i, f)
            if isinstance(node.op, Affine):
                out[units] = self._bias(i)[units][:, None]
                for m, j in zip(self.graph.maps[i], node.inputs):
                    m.apply(units, self._buffer("values", j, f), out)
            else:
                below = self._buffer("values", node.inputs[0], f)
                forward(
                    units, self.gate[i], below, out, kept, P, S, self.single_slope, self.single_top, M1, M2, f(rate),
                    f(rate_fixed), largest, fix1, fix2,
                )  # fmt: skip
        return self._buffer("values", batch.rows.node, f)[batch.rows.units] * batch.rows.signs[:, None]

    # -- points ----------------------------------------------------------------------------------------------------

    @cached_property
    def _module(self) -> Any:
        return module_of(self.graph.network)

    def outputs_at(self, D: Array) -> Array:
        """Outputs at steps D from the center, shape `(B, R)`, in single precision."""
        parts = [D[k : k + self._at_once] for k in range(0, len(D), self._at_once)]
        if self._module is not None:
            return np.concatenate([outputs(self._module, self._inputs(part)) for part in parts])
        return np.concatenate([self._values(part)[-1].T[: len(part)].copy() for part in parts])

    @property
    def _at_once(self) -> int:
        """Points that are evaluated together."""
        units = sum(node.size for node in self.graph.network.nodes)
        return LANES if self._module is None else int(np.clip(_VALUES // units, 1, LANES))

    def _inputs(self, D: Array) -> Array:
        x = np.repeat(self.center[None], len(D), axis=0)
        x[:, self.moving] += D
        return x

    def _values(self, D: Array) -> list[Array]:
        """Every node's values at up to `LANES` steps, in arrays that the next call uses again."""
        network = self.graph.network
        x = self._buffer("points", 0, _SINGLE)
        x[:] = self.center[:, None].astype(_SINGLE)
        x[self.moving, : len(D)] += D.T
        found = [x]
        for i, node in enumerate(network.nodes[1:], start=1):
            if isinstance(node.op, Affine):
                out = self._buffer("points", i, _SINGLE)
                out[:] = self._bias(i)[:, None]
                for m, j in zip(self.graph.maps[i], node.inputs):
                    m.apply(self.graph.maps.everything(i), found[j], out)
            else:
                out = np.maximum(found[node.inputs[0]], 0, out=self._buffer("points", i, _SINGLE))
            found.append(out)
        return found

    def slopes_of_worst(self, D: Array, mine: Array) -> tuple[Array, Array]:
        """The largest of the rows that are `mine` at each step, and its slope over the steps; infinite where time is up before."""
        value, slopes = np.full(len(D), np.inf, _SINGLE), np.zeros(D.shape, _SINGLE)
        for k in range(0, len(D), self._at_once):
            if k and time.perf_counter() > self.stop:
                break
            part = slice(k, k + self._at_once)
            value[part], slopes[part] = self._slopes_of_worst(D[part], mine[part])
        return value, slopes

    def _slopes_of_worst(self, D: Array, mine: Array) -> tuple[Array, Array]:
        """As `slopes_of_worst`, for up to `LANES` steps."""
        if self._module is not None:
            out, slopes = extreme(self._module, self._inputs(D), mine)
            return out.max(axis=1), slopes[:, self.moving]
        network, B = self.graph.network, len(D)
        values = self._values(D)
        out = np.where(mine, values[-1].T[:B], -np.inf)
        worst = out.argmax(axis=1)
        slopes = [np.zeros((node.size, LANES), _SINGLE) for node in network.nodes]
        slopes[-1][worst, np.arange(B)] = 1
        for i in range(len(network) - 1, 0, -1):
            node = network.nodes[i]
            if isinstance(node.op, Affine):
                for m, j in zip(self.graph.maps[i], node.inputs):
                    m.adjoint(self.graph.maps.everything(i), slopes[i], slopes[j])
            else:
                slopes[node.inputs[0]] += slopes[i] * (values[i] > 0)
        return out.max(axis=1), slopes[0][self.moving, :B].T

    # -- certifying ------------------------------------------------------------------------------------------------

    def weighted(self, i: int) -> Array:
        """|W| |v|_max of an affine node, summed over its maps: what rounding in its adjoint is measured by."""
        if i not in self._weighted:
            node, graph = self.graph.network.nodes[i], self.graph
            assert isinstance(node.op, Affine)
            reach = lambda j: np.maximum(np.abs(graph.lower[j]), np.abs(graph.upper[j]))
            self._weighted[i] = sum(m.absolute().apply(reach(j)) for m, j in zip(node.op.maps, node.inputs))
        return self._weighted[i]

    def certify(  # type: ignore[override]
        self, rows: ValueRows, P: Array | None, S: np.ndarray | None
    ) -> Bounded:
        """Bounds that hold in real arithmetic; the usual slopes where no parameters are given.

        Where time is up the rows that are left get the bound minus infinity.
        """
        from relukit.search._lane_kernel import from_lanes, units_from_lanes

        columns = self.K if P is None else P.shape[1]
        self._check(rows, columns)
        bound, x = np.full(len(rows), -np.inf), np.tile(self.center, (len(rows), 1))
        coefficients = np.zeros((len(rows), columns if P is not None else 0), _SINGLE)

        def work(item: tuple[IntArray, _Pass]) -> None:
            mine, batch = item
            kept = self._scratch("kept", columns, np.float64)
            kept[:] = 0
            value = self._safe(batch, *self._parameters(mine, P, S, np.float64), kept)
            bound[mine] = value[: batch.count]
            if P is not None:
                from_lanes(kept, mine, coefficients)
            inputs = batch.active[-1]
            if inputs[0] == 0:
                units_from_lanes(self._buffer("values", 0, np.float64), inputs[1], mine, x)

        self._share(rows, work)
        empty = np.zeros((len(rows), 0), _SINGLE)
        return Bounded(np.where(np.isnan(bound), -np.inf, bound), coefficients, x, empty if P is None else P)

    def scores(self, found: Bounded, S: np.ndarray) -> Array:
        """As `Dual.scores`, in single precision."""
        from relukit.search._lane_kernel import scores

        out = np.empty(found.coefficients.shape, _SINGLE)
        scores(found.coefficients, S, self.single_top, out)
        return out

    def _safe(self, batch: _Pass, P: Array, S: Array, kept: Array) -> Array:
        r"""Bounds of one batch.

        At every affine node the computed coefficients :math:`W'\lambda` are off by at most :math:`\gamma |W|'|\lambda|`, which
        moves the bound by at most :math:`\gamma |\lambda| \cdot |W| |v|_{max}`; lines hold exactly for the coefficients that go on.
        """
        from relukit.search._lane_kernel import backward_safe, bias_safe

        coefficients = self._seed(batch, np.float64)
        value, error, total = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
        graph, count = self.graph, 10
        for i, units in batch.active:
            node, lam = graph.network.nodes[i], coefficients[i]
            count += len(units)
            if isinstance(node.op, Affine):
                terms = max(min(m.adjoint_terms, len(units)) for m in node.op.maps) + len(graph.network) + 4
                size = self.weighted(i) + np.abs(node.op.bias)
                bias_safe(units, self._wide_bias(i), size, gamma(terms), lam, value, error, total)
                for m, j in zip(graph.maps[i], node.inputs):
                    if j in coefficients:
                        m.adjoint(units, lam, coefficients[j])
            elif i:
                source = node.inputs[0]
                reach = np.maximum(np.abs(graph.lower[source]), np.abs(graph.upper[source]))
                backward_safe(
                    units, self.gate[i], lam, P, S, self.slope, self.lower, self.upper, reach, coefficients[source],
                    kept, value, error, total,
                )  # fmt: skip
            else:
                self._at_box_safe(units, lam, value, error, total)
        return value - 1.01 * (error + gamma(count) * (total + np.abs(value)))

    def _wide_bias(self, i: int) -> Array:
        key = "bias", i, np.float64
        if key not in self._buffers:
            op = self.graph.network.nodes[i].op
            assert isinstance(op, Affine)
            self._buffers[key] = op.bias.copy()  # writable, as the kernels were compiled for
        return self._buffers[key]

    def _at_box_safe(self, units: IntArray, lam: Array, value: Array, error: Array, total: Array) -> None:
        from relukit.search._lane_kernel import corner_safe

        x = self._buffer("values", 0, np.float64)
        if self.norm == np.inf:
            corner_safe(units, lam, self.box_lower, self.box_upper, x, value, total)
            return
        full = np.zeros_like(lam)
        full[units] = lam[units]
        X = np.ascontiguousarray(full[self.moving].T)
        least, D = np.zeros(LANES), np.empty_like(X)
        self._least(X, least, D)
        value += least + self.center @ full
        total += np.abs(self.center) @ np.abs(full) + np.abs(full[self.moving]).T @ np.maximum(-self.low, self.high)
        most = np.abs(X).max(axis=1, initial=0.0) if self.norm == 1 else np.linalg.norm(X, axis=1)
        error += 2 * gamma(2 * self.n + 20) * most * self.radius
        x[:] = self.center[:, None]
        x[self.moving] += D.T


def _moved(weights: Array, out: Array, rate: float) -> Array:
    """Weights of rows: those of rows that are high at the minimizer grow."""
    at = out.T[: len(weights)].astype(np.float64)
    spread = np.maximum(np.abs(at - at.mean(axis=1, keepdims=True)).max(axis=1, keepdims=True), 1e-30)
    weights = weights * np.exp(rate * (at - at.max(axis=1, keepdims=True)) / spread)
    return np.maximum(weights / weights.sum(axis=1, keepdims=True), 1e-9)
