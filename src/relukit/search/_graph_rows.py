"""Rows through a whole network, `LANES` at a time: which units each batch reads, and room for their coefficients."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from relukit._clock import loading
from relukit._numerics import down, up
from relukit._types import Array, IntArray
from relukit.network import Affine
from relukit.search._dual import Dual
from relukit.search._graph import Graph
from relukit.search._lane_kernel import LANES
from relukit.search._threads import share, workers
from relukit.sets import Ball

_SINGLE = np.float32
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
class Pass:
    """One batch of lanes: the units that its rows read, node by node from the last to the first."""

    rows: ValueRows
    count: int
    active: list[tuple[int, IntArray]]


class GraphRows(Dual):
    """Rows of a `Graph` and what batches of them need.

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
        self._draw_lines()
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

    def _passes(self, rows: ValueRows) -> Iterator[tuple[IntArray, Pass]]:
        """Batches of rows, with the numbers of the rows in each."""
        order = self._order(rows)
        for k in range(0, len(order), LANES):
            mine = order[k : k + LANES]
            part = rows[mine]
            yield mine, Pass(part, len(mine), self._reached(part))

    def _parts(self, count: int, columns: int) -> list[IntArray]:
        return [np.arange(count)]  # batches of lanes are shared out instead

    def _check(self, rows: ValueRows, columns: int) -> None:
        """Compiled loops do not: parameters must be given for every gate that the rows can read."""
        needed = int(np.searchsorted(self.graph.units[:, 0], rows.node))
        if columns < needed:
            raise ValueError(f"rows of node {rows.node} read {needed} gates, got parameters of {columns}")

    def _share(self, rows: ValueRows, work: Callable[[tuple[IntArray, Pass]], None]) -> None:
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

    def _seed(self, batch: Pass, dtype: type) -> dict[int, Array]:
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
