"""Bounds of rows over the gates of a compact network, optimized over slopes and over multipliers of held gates.

A row r(x, h) is bounded below by replacing gates from the last to the first: a free gate with a positive coefficient by
h >= a z for any a in [0, 1], with a negative one by the line through (l, 0) and (u, u); a gate held on by z with a multiplier
of z >= 0, a gate held off by 0 with a multiplier of z <= 0. What remains is linear in x, and its minimizer x* over the set,
sent forward once along the same lines, gives the exact derivative by every parameter: the bound is a minimum of
functions that are linear in each, so that the derivative is the value at the minimizer. No automatic differentiation.

Parameters are proposed in single precision; `certify` evaluates them in double precision with a-priori error terms, and any
parameters give a valid bound.

References:
    Fast and Complete: Enabling Complete Neural Network Verification with Rapid and Massively Parallel Incomplete Verifiers,
    Xu et al., 2021. Beta-CROWN: Efficient Bound Propagation with Per-neuron Split Constraints, Wang et al., 2021.
"""

from dataclasses import dataclass, replace

import numpy as np

from relukit._clock import loading
from relukit._numerics import down, gamma, up
from relukit._types import Array, BoolArray, IntArray
from relukit.bounds._compact import CompactNetwork
from relukit.bounds._shrink import blocks
from relukit.search._threads import share, workers
from relukit.sets import Ball

_SINGLE = np.float32
_PORTION, _WORTH = 16, 10_000  # rows of one thread, and parameters of all, from which on threads are worth it


@dataclass(frozen=True, eq=False)
class Rows:
    """Functions `X d + H h + c` of the steps d = x - center and the gates.

    Arguments:
        X, H, c: Shapes `(R, moving inputs)`, `(R, K)`, `(R,)`.
        error: How far the exact row may be from it, for the exact h, shape `(R,)`.
        size: Sums of magnitudes over the set, shape `(R,)`.
    """

    X: Array
    H: Array
    c: Array
    error: Array
    size: Array

    def __len__(self) -> int:
        return len(self.c)

    def __getitem__(self, index: IntArray) -> "Rows":
        return Rows(self.X[index], self.H[index], self.c[index], self.error[index], self.size[index])

    def weighed(self, weights: Array) -> "Rows":
        """Sums with weights at least 0, shape `(B, R)`: where all rows are at most 0, so are these."""
        lost = weights @ (self.error + gamma(len(self.c) + 3) * self.size)
        return Rows(weights @ self.X, weights @ self.H, weights @ self.c, 1.01 * lost, weights @ self.size)


@dataclass(frozen=True, eq=False)
class Bounded:
    """Certified bounds of rows.

    Arguments:
        bound: No point of the set under the held phases has the row below it; shape `(B,)`.
        coefficients: The row's coefficient on each gate's h where that gate was replaced, shape `(B, K)`.
        x: Minimizers of what remained, shape `(B, n)`, all inputs.
        P: The parameters.
        weights: Weights of the rows, shape `(B, R)`, where rows were summed.
    """

    bound: Array
    coefficients: Array
    x: Array
    P: Array
    weights: Array | None = None


class Dual:
    """The gates of a compact network in the form that bounds are computed from.

    Arguments:
        small: The compact network; its set is a `Box`, or a `Ball` in any norm.
    """

    stop = np.inf  # wall-clock time (`time.perf_counter`) after which descents end early
    lanes = 1  # points that are evaluated at the cost of one

    def __init__(self, small: CompactNetwork) -> None:
        with loading():
            import relukit.search._dual_kernel as _  # noqa: F401
        self.small, self.blocks = small, blocks(small)
        region, box = small.input_set, small.input_set.box()
        self.center = region.center() if not isinstance(region, Ball) else region.middle
        self.moving = np.flatnonzero(box.lower < box.upper)
        move = self.moving
        x0 = np.clip(self.center, box.lower, box.upper)
        self.center = x0
        self.low = np.minimum(down(box.lower - x0), 0.0)[move]
        self.high = np.maximum(up(box.upper - x0), 0.0)[move]
        self.norm, self.radius = np.inf, 0.0
        if isinstance(region, Ball) and region.norm != np.inf:
            self.norm, self.radius = region.norm, float(np.nextafter(float(region.radius), np.inf))
        self.C, self.W = np.ascontiguousarray(small.C[:, move]), small.W
        self.K, self.n = self.C.shape
        self.few = gamma(2 * (self.K + self.n) + 20)
        self.reach = np.maximum(-self.low, self.high)
        spread = gamma(small.C.shape[1] + 2)
        self.b = small.b + small.C @ x0
        self.shift = small.error + spread * (np.abs(small.b) + np.abs(small.C) @ np.abs(x0))
        self.X = small.X[:, move]
        self.c = small.c + small.X @ x0
        self.output_shift = small.output_error + spread * (np.abs(small.c) + np.abs(small.X) @ np.abs(x0))
        self.single_C, self.single_W, self.single_b = (a.astype(_SINGLE) for a in (self.C, self.W, self.b))
        self.single_CT = np.ascontiguousarray(self.single_C.T)
        self.single_WT = np.ascontiguousarray(self.single_W.T)
        self._absolute = np.abs(self.C) @ self.reach + np.abs(self.b), np.abs(self.W)
        self.set_bounds(small.lower, small.upper)

    def set_bounds(self, lower: Array, upper: Array) -> None:
        """Bounds of z to work with: tighter ones make better lines."""
        self.lower, self.upper = lower.copy(), upper.copy()
        self._prepare()

    def _draw_lines(self) -> None:
        """Each gate's upper line and phase, from its bounds."""
        lower, upper = self.lower, self.upper
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(upper <= 0, 0.0, np.where(lower >= 0, 1.0, upper / (upper - lower)))
        self.slope, self.top = slope, np.where((lower < 0) & (upper > 0), -slope * lower, 0.0)
        self.phase = np.where(lower >= 0, 1, np.where(upper <= 0, -1, 0)).astype(np.int8)
        self.single_slope, self.single_top = slope.astype(_SINGLE), self.top.astype(_SINGLE)

    def _prepare(self) -> None:
        self._draw_lines()
        self.height = np.maximum(self.upper, 0.0)
        self.size = self._absolute[0] + self._absolute[1] @ self.height
        self.loose = self.shift + self.few * self.size

    # -- rows ------------------------------------------------------------------------------------------------------

    def gate_rows(self, gates: IntArray) -> Rows:
        """`+z` of the gates and then `-z`."""
        two = lambda a: np.concatenate([a[gates], -a[gates]])
        return Rows(two(self.C), two(self.W), two(self.b), np.tile(self.loose[gates], 2), np.tile(self.size[gates], 2))

    def output_rows(self, A: Array | None = None, offset: Array | float = 0.0) -> Rows:
        """The outputs, or `A y + offset`."""
        X, H, c = self.X, self.small.H, self.c
        size = np.abs(X) @ self.reach + np.abs(H) @ self.height + np.abs(c)
        error = self.output_shift + self.few * size
        if A is None:
            return Rows(X, H, c + offset, error, size)
        size = np.abs(A) @ size + np.abs(offset)
        return Rows(A @ X, A @ H, A @ c + offset, np.abs(A) @ error + gamma(A.shape[1] + 3) * size, size)

    # -- proposing -------------------------------------------------------------------------------------------------

    def start(self, rows: int, columns: int | None = None) -> tuple[Array, np.ndarray]:
        """Parameters and phases of free gates: the slope of the line below is 1 where most of the gate's interval is above 0.

        `columns` counts the gates that the rows read; later ones are left out of everything.
        """
        P = np.where((self.upper > -self.lower) & (self.phase == 0), 1.0, 0.0).astype(_SINGLE)[:columns]
        return np.tile(P, (rows, 1)), np.tile(self.phase[:columns], (rows, 1))

    def improve(
        self,
        rows: Rows,
        P: Array,
        S: np.ndarray,
        steps: int,
        rate: float = 0.25,
        rate_fixed: float = 0.15,
        decay: float = 0.97,
        weights: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """Better parameters by Adam's steps: the best `(P, bound, minimizers, weights)` met, in single precision.

        Rows that reach a positive bound stop. With `weights` (shape `(B, R)`) each of the B questions is about a sum of all R rows,
        whose weights move too: those of rows that are high at the minimizer grow.
        """
        basis, best_w = rows, weights
        if weights is not None:
            best_w = weights.copy()
            rows = basis.weighed(weights)
        P = P.copy()
        B = len(P)
        best, best_P, best_D = np.full(B, -np.inf, _SINGLE), P.copy(), np.zeros((B, self.n), _SINGLE)
        live = np.arange(B)
        X0, H0, c0 = rows.X.astype(_SINGLE), rows.H.astype(_SINGLE), rows.c.astype(_SINGLE)
        M1, M2 = np.zeros_like(P), np.zeros_like(P)
        for k in range(steps + 1):
            A, M, value, largest = self._backward(H0, c0, P, S)
            value, D = self._at_input(X0, M, value)
            if best_w is not None:
                better = np.flatnonzero(value > best[live])
                best_w[live[better]] = weights[better]
            if len(live) == B:
                self._keep(value, best, P, best_P, D, best_D)
            else:
                part = best[live], best_P[live], best_D[live]
                self._keep(value, part[0], P, part[1], D, part[2])
                best[live], best_P[live], best_D[live] = part
            if k == steps:
                break
            open_ = value <= 1e-4 * np.abs(c0)
            if not open_.any():
                break
            if open_.sum() < 0.7 * len(open_):
                live = live[open_]
                X0, H0, c0, P, S, M1, M2, A, D, largest = (a[open_] for a in (X0, H0, c0, P, S, M1, M2, A, D, largest))
                weights = None if weights is None else weights[open_]
            H = self._step(A, P, S, D, M1, M2, largest, k, rate * decay**k, rate_fixed * decay**k)
            if weights is not None and len(basis) > 1:
                at: Array = D @ basis.X.T + H @ basis.H.T[: H.shape[1]] + basis.c
                spread = np.maximum(np.abs(at - np.mean(at, axis=1, keepdims=True)).max(axis=1, keepdims=True), 1e-30)
                weights = weights * np.exp(2 * rate * decay**k * (at - at.max(axis=1, keepdims=True)) / spread)
                w: Array = np.maximum(weights / weights.sum(axis=1, keepdims=True), 1e-9)
                X0, H0, c0 = ((w @ a).astype(_SINGLE) for a in (basis.X, basis.H, basis.c))
                weights = w
        return best_P, best, best_D, best_w

    def bound(
        self, rows: Rows, P: Array, S: np.ndarray, steps: int, weights: Array | None = None, **rates: float
    ) -> Bounded:
        """Improve parameters, then certify the best."""
        parts = self._parts(len(P), P.shape[1])
        if len(parts) < 2:
            return self._bound(rows, P, S, steps, weights, **rates)
        found: dict[int, Bounded] = {}

        def work(k: int) -> None:
            mine, w = parts[k], None if weights is None else weights[parts[k]]
            found[k] = self._bound(rows if w is not None else rows[mine], P[mine], S[mine], steps, w, **rates)

        share(iter(range(len(parts))), work, np.inf, len(parts))
        whole = lambda name: np.concatenate([getattr(found[k], name) for k in range(len(parts))])
        w = None if weights is None else whole("weights")
        return Bounded(whole("bound"), whole("coefficients"), whole("x"), whole("P"), w)

    def _bound(self, rows: Rows, P: Array, S: np.ndarray, steps: int, weights: Array | None, **rates: float) -> Bounded:
        P, _, _, weights = self.improve(rows, P, S, steps, weights=weights, **rates)
        return replace(self.certify(rows if weights is None else rows.weighed(weights), P, S), weights=weights)

    def _parts(self, count: int, columns: int) -> list[IntArray]:
        """Rows in portions for as many threads, where there are enough of them to be worth it."""
        few = count < 2 * _PORTION or count * columns < _WORTH or getattr(self, "device", None) is not None
        return np.array_split(np.arange(count), 1 if few else min(workers(), count // _PORTION))

    def _backward(self, H: Array, c: Array, P: Array, S: np.ndarray) -> tuple[Array, Array, Array, Array]:
        from relukit.search._dual_kernel import backward

        K = P.shape[1]
        A, M, value, largest = H[:, :K].copy(), np.empty_like(P), c.copy(), np.zeros(len(P), _SINGLE)
        for first, last in reversed(self._blocks(K)):
            backward(A, P, S, M, value, largest, first, last, self.single_slope, self.single_top, self.single_b)
            if first:
                A[:, :first] += M[:, first:last] @ self.single_W[first:last, :first]
        return A, M, value, largest

    def _at_input(self, X: Array, M: Array, value: Array) -> tuple[Array, Array]:
        X = X + M @ self.single_C[: M.shape[1]]
        D = np.empty_like(X)
        self._least(X, value, D)
        return value, D

    def _least(self, X: Array, value: Array, D: Array) -> None:
        from relukit.search._dual_kernel import ball1, ball2, corner

        low, high = self.low.astype(X.dtype, copy=False), self.high.astype(X.dtype, copy=False)
        if self.norm == np.inf:
            corner(X, value, D, low, high)
        else:
            (ball2 if self.norm == 2 else ball1)(X, value, D, low, high, self.radius)

    def _keep(self, value: Array, best: Array, P: Array, best_P: Array, D: Array, best_D: Array) -> None:
        from relukit.search._dual_kernel import keep

        keep(value, best, P, best_P, D, best_D)

    def _step(
        self, A: Array, P: Array, S: np.ndarray, D: Array, M1: Array, M2: Array, largest: Array, k: int, rate: float,
        rate_fixed: float,
    ) -> Array:  # fmt: skip
        from relukit.search._dual_kernel import forward

        K = P.shape[1]
        Z = D @ self.single_CT[:, :K] + self.single_b[:K]
        H = np.empty_like(Z)
        f = _SINGLE
        fix1, fix2 = f(1 / (1 - 0.9 ** (k + 1))), f(1 / (1 - 0.999 ** (k + 1)))
        for first, last in self._blocks(K):
            forward(
                A, P, S, Z, H, first, last, self.single_slope, self.single_top, M1, M2, f(rate), f(rate_fixed), largest,
                f(0.9), f(0.999), fix1, fix2,
            )  # fmt: skip
            if last < K:
                Z[:, last:] += H[:, first:last] @ self.single_WT[first:last, last:K]
        return H

    def _blocks(self, columns: int) -> list[tuple[int, int]]:
        return [pair for pair in self.blocks if pair[1] <= columns]

    # -- points ----------------------------------------------------------------------------------------------------

    def gates_at(self, D: Array) -> Array:
        """h at steps D from the center, in single precision."""
        Z = D @ self.single_CT + self.single_b
        for first, last in self.blocks:
            np.maximum(Z[:, first:last], 0, out=Z[:, first:last])
            if last < self.K:
                Z[:, last:] += Z[:, first:last] @ self.single_WT[first:last, last:]
        return Z

    def slopes_at(self, h: Array, coefficients: Array) -> Array:
        """Slopes over d of `coefficients . h`, from gates that are on at h."""
        A = coefficients * (h > 0)
        for first, last in reversed(self.blocks[1:]):
            A[:, :first] += (A[:, first:last] @ self.single_W[first:last, :first]) * (h[:, :first] > 0)
        return A @ self.single_C

    def outputs_at(self, D: Array) -> Array:
        """Outputs at steps D from the center, shape `(B, R)`, in single precision."""
        return D @ self.X.T.astype(_SINGLE) + self.gates_at(D) @ self.small.H.T.astype(_SINGLE) + self.c.astype(_SINGLE)

    def slopes_of_worst(self, D: Array, mine: BoolArray) -> tuple[Array, Array]:
        """The largest of the outputs that are `mine` (shape `(B, R)`) at steps D, and its slope over the steps."""
        h, H = self.gates_at(D), self.small.H.astype(_SINGLE)
        X = self.X.astype(_SINGLE)
        out = np.where(mine, D @ X.T + h @ H.T + self.c.astype(_SINGLE), -np.inf)
        worst = out.argmax(axis=1)
        return out.max(axis=1), X[worst] + self.slopes_at(h, H[worst])

    def project(self, D: Array) -> Array:
        """Steps back into the set."""
        D = np.clip(D, self.low.astype(D.dtype), self.high.astype(D.dtype))
        if self.norm == np.inf:
            return D
        ball = Ball(np.zeros(self.n), self.radius, self.norm)
        return np.clip(ball.project(D), self.low, self.high).astype(D.dtype)

    def points(self, D: Array) -> Array:
        """Inputs at steps D, in the set's box."""
        x = np.tile(self.center, (len(D), 1))
        x[:, self.moving] += D
        return self.small.input_set.box().project(x)

    def steps_to(self, x: Array) -> Array:
        """Steps to inputs."""
        return (x - self.center)[:, self.moving]

    # -- certifying ------------------------------------------------------------------------------------------------

    def certify(self, rows: Rows, P: Array, S: np.ndarray) -> Bounded:
        r"""Bounds that hold in real arithmetic.

        The coefficient :math:`m_k` with which z_k enters is a floating-point number, and :math:`v h \ge m z + t` holds exactly
        for it. Inserting :math:`z_k = C_k d + W_k h + b_k + e_k` changes coefficients on d and on earlier h, whose rounding
        moves the bound by at most :math:`\gamma` times the sum of magnitudes; over all gates that is
        :math:`\sum_k |m_k| (|e_k| + \gamma s_k)` with :math:`s_k` the sum of magnitudes of row k.
        """
        from relukit.search._dual_kernel import backward_safe

        K, exact = P.shape[1], P.astype(np.float64)
        A = rows.H[:, :K].copy()
        M, value, error = np.empty_like(A), rows.c.copy(), np.zeros((len(A), 2))
        for first, last in reversed(self._blocks(K)):
            backward_safe(A, exact, S, M, value, error, first, last, self.slope, self.lower, self.upper, self.b)
            if first:
                A[:, :first] += M[:, first:last] @ self.W[first:last, :first]
        X = rows.X + M @ self.C[:K]
        D = np.empty_like(X)
        self._least(X, value, D)
        lost = rows.error + np.abs(M) @ self.loose[:K] + error[:, 0] + self.few * (error[:, 1] + np.abs(value))
        if self.norm != np.inf:
            most = np.abs(X).max(axis=1, initial=0.0) if self.norm == 1 else np.linalg.norm(X, axis=1)
            lost += 2 * self.few * most * self.radius
        x = np.tile(self.center, (len(A), 1))
        x[:, self.moving] += D
        bound = value - 1.01 * lost
        return Bounded(np.where(np.isnan(bound), -np.inf, bound), A, x, P)

    def scores(self, found: Bounded, S: np.ndarray) -> Array:
        """What each free gate's line above costs the bound: 0 where the gate is held or its line below is used."""
        return np.where(S == 0, -np.minimum(found.coefficients, 0.0) * self.top[: S.shape[1]], 0.0)

    def free(self) -> BoolArray:
        return self.phase == 0
