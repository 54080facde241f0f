"""A `Graph` at points: its outputs, where its rows are worst, and the slopes there."""

import time
from functools import cached_property
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.network import Affine
from relukit.search._graph_rows import GraphRows
from relukit.search._lane_kernel import LANES
from relukit.search._torch_points import extreme, module_of, outputs

_SINGLE = np.float32
_VALUES = 100_000_000  # of all nodes at the points that torch evaluates at once


class GraphPoints(GraphRows):
    """What searches ask at points of the set; points are given as distances `D` from the center, of the inputs that move."""

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
