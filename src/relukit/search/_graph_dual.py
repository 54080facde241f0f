"""The bounds of `_dual` through a whole network: convolutions and sums of branches, and nothing larger than a network's values.

Rows go through the network `LANES` at a time, and each batch touches only the units that its rows can read: the window of a
convolution for bounds of early gates, everything for the outputs. Parameters, derivatives and error terms are those of `Dual`.
"""

import time
from dataclasses import replace

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.network import Affine
from relukit.search._dual import Bounded
from relukit.search._graph_points import GraphPoints
from relukit.search._graph_rows import Pass, ValueRows
from relukit.search._lane_kernel import LANES

_SINGLE = np.float32


class GraphDual(GraphPoints):
    """Bounds of rows of a `Graph`; see `Dual`, whose place it takes.

    Arguments:
        graph: The network, its set, and bounds of its gates.
    """

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

        def work(item: tuple[IntArray, Pass]) -> None:
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
        self, batch: Pass, P: Array, S: Array, steps: int, rate: float, rate_fixed: float, decay: float, moving: bool
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

    def _backward(self, batch: Pass, P: Array, S: Array, kept: Array) -> tuple[Array, Array]:  # type: ignore[override]
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

    def _at_box(self, batch: Pass, units: IntArray, lam: Array, value: Array) -> None:
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
        self, batch: Pass, P: Array, S: Array, kept: Array, M1: Array, M2: Array, largest: Array, k: int, rate: float,
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

    def certify(  # type: ignore[override]
        self, rows: ValueRows, P: Array | None, S: np.ndarray | None
    ) -> Bounded:
        """Bounds that hold in real arithmetic; the usual slopes where no parameters are given, and no minimizers then.

        Where time is up the rows that are left get the bound minus infinity.
        """
        from relukit.search._lane_kernel import from_lanes, units_from_lanes

        columns = self.K if P is None else P.shape[1]
        self._check(rows, columns)
        bound = np.full(len(rows), -np.inf)
        x = np.tile(self.center, (len(rows), 1)) if P is not None else np.zeros((len(rows), 0))
        coefficients = np.zeros((len(rows), columns if P is not None else 0), _SINGLE)

        def work(item: tuple[IntArray, Pass]) -> None:
            mine, batch = item
            kept = self._scratch("kept", columns, np.float64)
            kept[:] = 0
            value = self._safe(batch, *self._parameters(mine, P, S, np.float64), kept)
            bound[mine] = value[: batch.count]
            if P is None:
                return
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

    def _safe(self, batch: Pass, P: Array, S: Array, kept: Array) -> Array:
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
