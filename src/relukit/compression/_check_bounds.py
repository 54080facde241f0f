"""Bounds of every ReLU's sum over the domain of a proof, made anew by the checker.

Interval arithmetic first, then backward substitution (each open ReLU between two lines) for the units that stay open. The domain is one or
several boxes, each cut by rows A x <= a, or by a ball. A minimum over such a set is bounded by weak duality, whatever multipliers a solver proposes,
or by the ball's center and the dual norm.

Rounding: sums of n products in float64 are off by at most g |a|.|b|, g = n u / (1 - n u); it is carried beside every bound.
"""

from typing import Any

import numpy as np

from relukit.compression._check_network import Node

U, TINY, BLOCK = 2.0**-53, 1e-290, 4_000_000


def g(n: int) -> float:
    """Relative error of a sum of n products, with room for the rounding of the bound itself."""
    return 1.05 * (n + 4) * U / (1 - (n + 4) * U)


class Bounder:
    """Bounds of one network over boxes cut by the same rows."""

    def __init__(self, nodes: list[Node], A: np.ndarray, a: np.ndarray, ball: tuple[np.ndarray, float, int] | None = None) -> None:  # fmt: skip
        self.nodes, self.A, self.a, self.ball = nodes, A, a, ball
        self.absolute = [[abs(M) for M in node.maps] for node in nodes]
        self.readers = np.zeros(len(nodes), int)
        for node in nodes:
            for s in node.sources:
                self.readers[s] += 1
        self.relus = [i for i, node in enumerate(nodes) if node.is_relu]

    def over(self, lower: np.ndarray, upper: np.ndarray, known: dict[int, Any], wanted: dict[int, np.ndarray]) -> Any:
        """Bounds of every node over one box: lists of lower and upper ends.

        Arguments:
            known: For the nodes read by ReLUs, ends shown elsewhere: `(lower, upper)`.
            wanted: For the nodes read by ReLUs, the units that are substituted if they stay open.
        """
        self.box = lower, upper
        self.L, self.H = [lower], [upper]
        targets = {self.nodes[i].sources[0] for i in self.relus}
        for i, node in enumerate(self.nodes[1:], start=1):
            if node.is_relu:
                L, H = (np.maximum(v[node.sources[0]], 0) for v in (self.L, self.H))
            else:
                L, H = self._interval(i)
            if i in targets:
                if i in known:
                    L, H = np.maximum(L, known[i][0]), np.minimum(H, known[i][1])
                self.L.append(L)
                self.H.append(H)
                self._substituted(i, wanted.get(i))
            else:
                self.L.append(L)
                self.H.append(H)
        return self.L, self.H

    def reach(self, i: int) -> np.ndarray:
        return np.maximum(np.abs(self.L[i]), np.abs(self.H[i]))

    def _interval(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        node = self.nodes[i]
        low, high, least, most = node.bias, node.bias, np.abs(node.bias), np.abs(node.bias)
        for s, M, absolute in zip(node.sources, node.maps, self.absolute[i]):
            plus, minus = 0.5 * (absolute + M), 0.5 * (absolute - M)  # exact: each entry is the weight or 0
            L, H = self.L[s], self.H[s]
            low, high = low + (plus @ L - minus @ H), high + (plus @ H - minus @ L)
            least = least + plus @ np.abs(L) + minus @ np.abs(H)
            most = most + plus @ np.abs(H) + minus @ np.abs(L)
        slack = g(2 * node.terms)
        return low - slack * least, high + slack * most

    def _substituted(self, i: int, wanted: np.ndarray | None) -> None:
        """Tighter ends of node i where they lie on both sides of 0."""
        L, H = self.L[i], self.H[i]
        open_ = (L < 0) & (H > 0)
        rows = np.flatnonzero(open_ if wanted is None else open_ & wanted)
        step = max(1, BLOCK // max(n.size for n in self.nodes[: i + 1]))
        L, H = L.copy(), H.copy()
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            unit = np.zeros((len(part), len(L)))
            unit[np.arange(len(part)), part] = 1
            low = self.least(i, np.r_[unit, -unit])
            L[part] = np.maximum(L[part], low[: len(part)])
            H[part] = np.minimum(H[part], -low[len(part) :])
        self.L[i], self.H[i] = L, H

    def least(self, i: int, C: np.ndarray) -> np.ndarray:
        """Lower bounds of `C v_i`, row by row."""
        waiting: dict[int, np.ndarray] = {i: C}
        const, sizes, error, steps = np.zeros(len(C)), np.zeros(len(C)), np.zeros(len(C)), 0
        for k in range(i, 0, -1):
            coef = waiting.pop(k, None)
            if coef is None:
                continue
            node, steps = self.nodes[k], steps + 1
            error += 2 * self.readers[k] * U * (np.abs(coef) @ self.reach(k))  # sums of what several readers gave
            if node.is_relu:
                s = node.sources[0]
                L, H = self.L[s], self.H[s]
                open_ = (L < 0) & (H > 0)
                up = np.where(open_, H / np.where(open_, H - L, 1), (L >= 0) * 1.0)
                low = np.where(open_, (H > -L) * 1.0, (L >= 0) * 1.0)
                negative = np.minimum(coef, 0)
                shift = negative @ np.where(open_, -up * L, 0)
                error += g(node.size + 8) * (np.abs(coef) @ (2 * self.reach(s) * (H > 0)))
                self._add(waiting, s, coef * low + negative * (up - low))
            else:
                shift = coef @ node.bias
                size = np.abs(node.bias)
                for s, M, absolute in zip(node.sources, node.maps, self.absolute[k]):
                    size = size + absolute @ self.reach(s)
                    self._add(waiting, s, coef @ M)
                error += g(node.terms) * (np.abs(coef) @ size)
            const, sizes = const + shift, sizes + np.abs(shift)
        coef = waiting.pop(0, np.zeros((len(C), self.nodes[0].size)))
        at, slack = self._input(coef)
        error += slack + (steps + 4) * U * (sizes + np.abs(at))
        found = const + at - 1.01 * error - TINY
        return np.where(np.isfinite(found), found, -np.inf)

    @staticmethod
    def _add(waiting: dict[int, np.ndarray], s: int, coef: np.ndarray) -> None:
        waiting[s] = waiting[s] + coef if s in waiting else coef

    def _input(self, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of `coef x` over the box cut by A x <= a and by the ball, and what rounding may add."""
        lower, upper = self.box
        reach, n = np.maximum(np.abs(lower), np.abs(upper)), len(lower)
        minimum = lambda c: np.maximum(c, 0) @ lower + np.minimum(c, 0) @ upper
        best, slack = minimum(coef), g(n) * (np.abs(coef) @ reach)
        if self.ball is not None:
            center, radius, norm = self.ball
            size = np.sqrt((coef**2).sum(axis=1)) if norm == 2 else np.abs(coef).max(axis=1, initial=0)
            value, off = coef @ center - radius * size, g(n + 4) * (np.abs(coef) @ np.abs(center) + 2 * radius * size)
            better = value - off > best - slack
            best, slack = np.where(better, value, best), np.where(better, off, slack)
        if len(self.a):
            for k, c in enumerate(coef):
                y = self._multipliers(c, lower, upper)
                moved = c + y @ self.A  # c x >= (c + y A) x - y a for y >= 0
                value = minimum(moved) - y @ self.a
                off = g(n + len(y)) * ((np.abs(c) + 2 * y @ np.abs(self.A)) @ reach + y @ np.abs(self.a))
                if value - off > best[k] - slack[k]:
                    best[k], slack[k] = value, off
        return best, slack

    def _multipliers(self, c: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        from scipy.optimize import linprog

        found = linprog(c, self.A, self.a, bounds=np.c_[lower, upper], method="highs")
        if found.status == 0:
            return np.maximum(-np.asarray(found.ineqlin.marginals), 0)
        return np.zeros(len(self.a))
