"""A ReLU network on one set, kept as it is: convolutions stay kernels, sums of branches stay sums."""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds import Bounds, CompactNetwork, compact
from relukit.bounds._interval import affine_interval, input_bounds
from relukit.bounds._relu_form import relu_form
from relukit.network import Affine, Network
from relukit.network.affine import Conv
from relukit.piecewise import PiecewiseLinear
from relukit.search._lane_maps import Maps
from relukit.sets import AbstractSet, Box


def is_relu(op: object) -> bool:
    return isinstance(op, PiecewiseLinear) and op.is_relu


_PACE, _MAKING = 1e9, 0.1  # multiply-adds in a second; share of the time left that making the compact form may take
_DENSE = 30_000_000  # entries of the matrices of a compact form at most
_UNITS = (
    3000  # from so many units on, activations with several kinks are taken apart: each kink is relaxed by itself then
)


def as_graph(network: Network) -> Network | None:
    """The network with ReLU alone, where it is better kept as a graph: it has convolutions; else None."""
    nodes = [n.op for n in network.nodes[1:]]
    if not any(isinstance(m, Conv) for op in nodes if isinstance(op, Affine) for m in op.maps):
        return None
    if all(isinstance(op, Affine) or is_relu(op) for op in nodes):
        return network
    kinks = max((len(op.knots) for op in nodes if isinstance(op, PiecewiseLinear)), default=0)
    return relu_form(network) if kinks <= 1 or network.units >= _UNITS else None


@dataclass(frozen=True, eq=False)
class Graph:
    """What a `GraphDual` works on: the counterpart of `CompactNetwork` where matrices over all gates would be too large.

    Arguments:
        network: Its outputs are the rows of the question; all activations are ReLU.
        lower, upper: Bounds of every node's value over the set.
        maps: Of the network.
    """

    network: Network
    input_set: AbstractSet
    lower: tuple[Array, ...]
    upper: tuple[Array, ...]
    maps: Maps

    @cached_property
    def units(self) -> IntArray:
        """Undecided units, as `(activation node, unit, 0)`, shape `(K, 3)`."""
        found = [np.zeros((0, 3), np.int64)]
        for i in self.network.activations:
            source = self.network.nodes[i].inputs[0]
            if source < len(self.lower):
                k = np.flatnonzero((self.lower[source] < 0) & (self.upper[source] > 0))
                found.append(np.stack([np.full(len(k), i), k, np.zeros(len(k), np.int64)], axis=1))
        return np.concatenate(found)

    @property
    def gates(self) -> int:
        return len(self.units)

    def numbers(self, units: IntArray) -> IntArray:
        """Which of its gates some units are, shape `(k,)`; units as in `units`."""
        number = {tuple(u): k for k, u in enumerate(self.units.tolist())}
        return np.array([number[tuple(u)] for u in units.tolist()], np.int64)

    @property
    def is_small(self) -> bool:
        """Whether matrices over all gates would be quicker: they are multiplied about four times as fast as kernels are walked."""
        n = self.network.inputs
        return self.gates * (n + 0.5 * self.gates) < 4 * self.maps.cost

    def is_quick_to_compact(self, stop: float) -> bool:
        """Whether the compact form can be made in a small share of the time left, and in memory: every input and gate is sent through the network."""
        columns = self.network.inputs + self.gates
        seconds = self.maps.cost * columns / _PACE
        memory = 24.0 * max(node.size for node in self.network.nodes) * columns
        return seconds < _MAKING * (stop - time.perf_counter()) and memory < 0.5 * free_memory()

    @property
    def outputs(self) -> int:
        return self.network.outputs

    @property
    def sources(self) -> list[tuple[int, IntArray, slice]]:
        """Per activation node with gates: the node that it reads, which of its units are gates, and their numbers."""
        found = []
        for i in np.unique(self.units[:, 0]).tolist():
            first, last = np.searchsorted(self.units[:, 0], [i, i + 1])
            found.append((self.network.nodes[i].inputs[0], self.units[first:last, 1], slice(int(first), int(last))))
        return found

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.network, self.lower, self.upper)

    def tighter(self, lower: Array, upper: Array) -> "Graph":
        """The same with tighter bounds of its gates, which are carried forward as intervals."""
        low, high = list(self.lower), list(self.upper)
        for source, units, numbers in self.sources:
            low[source], high[source] = low[source].copy(), high[source].copy()
            low[source][units] = np.maximum(low[source][units], lower[numbers])
            high[source][units] = np.minimum(high[source][units], upper[numbers])
        for i in range(1, len(low)):
            below, above = node_interval(self.network, i, low, high)
            low[i], high[i] = np.maximum(low[i], below), np.minimum(high[i], above)
            crossed = low[i] > high[i]  # by rounding: the older pair is right
            low[i], high[i] = (
                np.where(crossed, self.lower[i], low[i]),
                np.where(crossed, self.upper[i], high[i]),
            )
        return replace(self, lower=tuple(low), upper=tuple(high))


def node_interval(network: Network, i: int, lower: list[Array], upper: list[Array]) -> tuple[Array, Array]:
    """Interval of one node from those of the nodes that it reads."""
    node = network.nodes[i]
    if isinstance(node.op, Affine):
        return affine_interval(node.op, [lower[j] for j in node.inputs], [upper[j] for j in node.inputs])
    return np.maximum(lower[node.inputs[0]], 0.0), np.maximum(upper[node.inputs[0]], 0.0)


def scratch_of(network: Network) -> float:
    """Bytes that bounds of one batch of rows through the whole network take."""
    from relukit.search._lane_kernel import LANES

    return sum(node.size for node in network.nodes) * LANES * 16.0


def free_memory() -> float:
    """Bytes that the system says a process can still have; infinite where it does not say."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024.0 * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return np.inf


def graph_of_intervals(network: Network, input_set: AbstractSet) -> Graph:
    """Interval bounds alone: enough to evaluate and to attack."""
    low, high = input_bounds(network, input_set)
    lower, upper = [low], [high]
    for i in range(1, len(network)):
        low, high = node_interval(network, i, lower, upper)
        lower.append(low)
        upper.append(high)
    return Graph(network, input_set, tuple(lower), tuple(upper), Maps(network))


def compacted(graph: Graph, stop: float) -> CompactNetwork | None:
    """Its compact form, where that is made soon and its matrices are not too large; else None."""
    if graph.gates * graph.input_set.size > _DENSE or not graph.is_quick_to_compact(stop):
        return None
    return compact(graph.network, graph.input_set, graph.bounds)


def make_graph(network: Network, input_set: AbstractSet, stop: float, maps: Maps | None = None) -> Graph:
    """Linear bounds of every gate and of the outputs, node by node; intervals from where time is up.

    Arguments:
        network: All activations are ReLU.
        stop: Wall-clock time to stop at (`time.perf_counter`).
        maps: Of the network, where they are made already.
    """
    from relukit.search._graph_dual import GraphDual

    low, high = input_bounds(network, input_set)
    lower, upper, maps = [low], [high], maps or Maps(network)
    read = {network.nodes[i].inputs[0] for i in network.activations} | {len(network) - 1}
    for i, node in enumerate(network.nodes[1:], start=1):
        low, high = node_interval(network, i, lower, upper)
        lower.append(low)
        upper.append(high)
        last = i == len(network) - 1
        units = np.arange(node.size) if last else np.flatnonzero((low < 0) & (high > 0))
        # The interval of an affine function of a box is its range.
        exact = node.inputs == (0,) and not last and isinstance(input_set, Box)
        if i not in read or not len(units) or exact or time.perf_counter() > stop:
            continue
        graph = Graph(network, input_set, tuple(lower), tuple(upper), maps)
        dual = GraphDual(graph)
        dual.stop = stop
        found = dual.certify(dual.value_rows(i, units), None, None).bound
        low, high = low.copy(), high.copy()
        low[units] = np.maximum(low[units], found[: len(units)])
        high[units] = np.minimum(high[units], -found[len(units) :])
        crossed = low > high
        lower[i], upper[i] = np.where(crossed, lower[i], low), np.where(crossed, upper[i], high)
    return Graph(network, input_set, tuple(lower), tuple(upper), maps)
