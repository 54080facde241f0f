"""Derive a tree that an independent checker can follow: branch and bound in batches, with plain bounds only.

The engines prove in compiled code and keep no record. This pass proves the same claim once more with bounds that are
simple to check (backward planes with slopes fixed by the gates' own bounds, over the box and the half-space that a
counterexample must lie in) and writes down what a checker cannot guess: where boxes are cut, which gates are split, and the
weights at the leaves and of the half-spaces. Nothing here needs to be right: a wrong tree is rejected.
"""

import time
from dataclasses import dataclass

import numpy as np

from relukit._types import Array, BoolArray

FINISH = 5  # so many open gates are split by phase rather than the box: around a touching face boxes shrink for ever
_BATCH = 512
_ENTRIES = 20_000_000  # of the planes of a batch at most: wide layers are worked on in smaller batches
_INPUTS = 40  # above so many inputs that move, gates are split rather than the box
_SHRUNK = 0.7  # a node whose open gates are at most this share of those above gets bounds of its own, which its children share
_GROWN, _OFTEN = (
    10_000,
    0.9,
)  # from so many nodes on bounds are renewed more often: slower to check node by node, and fewer nodes
_THIN = 1e-5  # share of the claim's box below which a box without open gates is cut no more
_NOTHING = -1e30  # a row so far below 0 proves nothing, and no step turns to it
_SLACK = 2e-12  # relative margin that a leaf must keep, above the rounding that the checker allows for


@dataclass(frozen=True, eq=False)
class Tree:
    """A proof tree in flat arrays; children come after their parents.

    Arguments:
        split: Per node the input (`< n`) or gate (`n + number`) that is split, -1 at a leaf.
        value: Where the input is cut.
        fresh: Whether bounds are computed anew at the node.
        child: Shape `(nodes, 2)`.
        row: Per leaf its row of `weights`; per other node the row whose sum must be at most 0 at a counterexample below it, or -1.
        weights: Shape `(rows, R)`.
        beta: Triples `(row, gate, weight)`.
    """

    split: Array
    value: Array
    fresh: Array
    child: Array
    row: Array
    weights: Array
    beta: list[tuple[int, int, float]]


class _Growing:
    """The tree so far."""

    def __init__(self, rows: int) -> None:
        self.split, self.value, self.fresh, self.child, self.row = [-1], [0.0], [1], [(-1, -1)], [-1]
        self.weights: list[Array] = []
        self.beta: list[tuple[int, int, float]] = []
        self.known: dict[bytes, int] = {}

    def cut(self, node: int, split: int, value: float) -> tuple[int, int]:
        first = len(self.split)
        self.split[node], self.value[node], self.child[node] = split, value, (first, first + 1)
        for _ in range(2):
            self.split.append(-1)
            self.value.append(0.0)
            self.fresh.append(1)
            self.child.append((-1, -1))
            self.row.append(-1)
        return first, first + 1

    def weigh(self, node: int, weights: Array, phases: list[tuple[int, int]], beta: Array) -> None:
        used = [(gate, float(b)) for (gate, _), b in zip(phases, beta) if b > 0]
        key = weights.tobytes() + repr(used).encode()
        if key not in self.known:
            self.known[key] = len(self.weights)
            self.weights.append(weights)
            self.beta.extend((self.known[key], gate, b) for gate, b in used)
        self.row[node] = self.known[key]

    def tree(self) -> Tree:
        return Tree(
            np.array(self.split, np.int64), np.array(self.value), np.array(self.fresh, np.int64), np.array(self.child, np.int64),
            np.array(self.row, np.int64), np.array(self.weights), self.beta,
        )  # fmt: skip


@dataclass
class _Block:
    """A fresh node: its bounds hold for all nodes below it."""

    bounds: list[tuple[Array, Array]]
    open: int
    plane: Array  # over (x, 1): at most 0 wherever all rows are; zeros where none is used


@dataclass
class _Node:
    number: int
    lower: Array
    upper: Array
    phases: list[tuple[int, int]]  # (gate, +1 on or -1 off)
    block: _Block


class Certifier:
    """Proves `max(A h + D x + d) > 0` over a box, h being the last ReLU layer of a chain.

    Arguments:
        weights, biases: The layers before each ReLU.
        A, D, d: Rows over the last ReLU layer (over x where there is none), over x, constants.
        relu: Per layer which units are ReLUs, these first; the others are carried along as they are. All by default.
    """

    def __init__(
        self, weights: list[Array], biases: list[Array], A: Array, D: Array, d: Array, relu: list[BoolArray] | None = None
    ) -> None:  # fmt: skip
        self.W, self.b, self.A, self.D, self.d = weights, biases, A, D, d
        self.relu = [np.ones(len(b), bool) for b in biases] if relu is None else relu
        self.first = np.cumsum([0] + [int(r.sum()) for r in self.relu])
        self.n, self.R, self.by_gates = D.shape[1], len(d), False

    def prove(self, lower: Array, upper: Array, stop: float, most: int) -> Tree | None:
        """The tree, or None where time (`time.perf_counter`), `most` nodes or the bounds did not suffice."""
        grown, self.width = _Growing(self.R), upper - lower
        bounds, lo, hi = [], lower, upper
        for W, b, relu in zip(self.W, self.b, self.relu):
            middle, half = W @ (0.5 * (lo + hi)) + b, np.abs(W) @ (0.5 * (hi - lo))
            slack = 1e-12 * (np.abs(W) @ np.maximum(np.abs(lo), np.abs(hi)) + np.abs(b))
            bounds.append((middle - half - slack, middle + half + slack))
            lo, hi = (np.where(relu, np.maximum(v, 0), v) for v in bounds[-1])
        widest = max((2 * int(np.sum((L < 0) & (U > 0) & r)) for (L, U), r in zip(bounds, self.relu)), default=1)
        size = max(1, min(_BATCH, _ENTRIES // max(1, widest * max(self.n, *(len(b) for b in self.b), 1))))
        self.by_gates = int(np.sum(lower < upper)) > _INPUTS
        waiting = [_Node(0, lower, upper, [], _Block(bounds, 1 << 30, np.zeros(self.n + 1)))]
        while waiting:
            if time.perf_counter() > stop or len(grown.split) > most:
                return None
            batch, waiting = waiting[-size:], waiting[:-size]
            children = self._work(grown, batch)
            if children is None:
                return None
            waiting.extend(children)
        return grown.tree()

    def _work(self, grown: _Growing, batch: list[_Node]) -> list[_Node] | None:
        """Bound a batch of nodes; close or split each, and return the children. None: a leaf stays open."""
        lo, hi = np.array([x.lower for x in batch]), np.array([x.upper for x in batch])
        found, planes = self._refresh(lo, hi, batch)
        G, e, used, size = self._rows(found, lo, hi)
        above = np.array([node.block.plane for node in batch])
        G, e = self._conditions(G, e, planes, batch, above)
        weights, low, point = _joint(G, e, lo, hi, 12)
        open_ = [(L < 0) & (U > 0) & relu for (L, U), relu in zip(found, self.relu)]
        count = np.sum([o.sum(axis=1) for o in open_], axis=0) if open_ else np.zeros(len(batch), int)
        need = _SLACK * size
        flat = np.flatnonzero((count == 0) & (low <= need))
        if len(flat):
            w2, low2, _ = _joint(G[flat], e[flat], lo[flat], hi[flat], 400)
            better = low2 > low[flat]
            weights[flat[better]], low[flat[better]] = w2[better], low2[better]
        some = np.flatnonzero(count > 0)
        if len(some):  # what the checker does; it is mostly more, and sometimes less, than the sum of bounds
            low[some] = _lowest_below(*self._together(found, weights, batch, some), lo[some], hi[some], above[some])[:, 0]
        if not self.by_gates:
            own, _, _ = _joint(G[:, : self.R], e[:, : self.R], lo, hi, 12)
            v, c = self._together(found, own, batch, np.arange(len(batch)))
            handed = np.concatenate([v[:, 0], c], axis=1)
        empty = _lowest(above[:, None, :-1], above[:, -1:], lo, hi)[:, 0] > 0
        empty |= np.any([np.any(L > U, axis=1) for L, U in found], axis=0)
        score, loss = self._blame(found, open_, used, weights, planes, lo, hi, batch)
        fresh: list[_Node] = []
        share = _SHRUNK if len(grown.split) < _GROWN else _OFTEN
        for p, node in enumerate(batch):
            if empty[p] or low[p] > need[p]:
                grown.weigh(node.number, weights[p, : self.R], node.phases, weights[p, self.R :])
                continue
            if count[p] == 0:
                w = _exact(G[p], e[p], lo[p], hi[p], need[p])
                if w is not None:
                    grown.weigh(node.number, w[: self.R], node.phases, w[self.R :])
                    continue
                if not above[p].any() or np.all(hi[p] - lo[p] <= _THIN * self.width):
                    return None
                # Its gates have a phase where the plane is at most 0, not in all of the box: in less of it more agree.
                score[p] = (hi[p] - lo[p]) / np.where(self.width > 0, self.width, 1.0)
            block = node.block
            if node.number and count[p] and count[p] > share * block.open:
                grown.fresh[node.number] = 0
            else:
                plane = above[p]
                if not self.by_gates:
                    plane = handed[p]
                    grown.weigh(node.number, own[p], [], own[p])
                block = _Block([(L[p].copy(), U[p].copy()) for L, U in found], int(count[p]), plane)
            fresh.extend(self._split(grown, node, block, count[p], score[p], loss[p], lo[p], hi[p], point[p]))
        return fresh

    def _split(
        self, grown, node: _Node, block: _Block, count, score: Array, loss: Array, lo: Array, hi: Array, point
    ) -> list[_Node]:
        """Cut the box at the input that the looseness is due to, or a gate where few are open; the half to be worked on first comes last."""
        i = int(np.argmax(score if score.max() > 0 else hi - lo))
        if self.by_gates or 0 < count <= FINISH or not lo[i] < 0.5 * (lo[i] + hi[i]) < hi[i]:
            gate = int(np.argmax(loss))
            on, off = grown.cut(node.number, self.n + gate, 0.0)
            return [
                _Node(off, node.lower, node.upper, [*node.phases, (gate, -1)], block),
                _Node(on, node.lower, node.upper, [*node.phases, (gate, 1)], block),
            ]
        cut = 0.5 * (lo[i] + hi[i])
        left, right = grown.cut(node.number, i, float(cut))
        below, above = node.upper.copy(), node.lower.copy()
        below[i] = above[i] = cut
        return [_Node(left, node.lower, below, node.phases, block), _Node(right, above, node.upper, node.phases, block)]

    def _refresh(self, lo: Array, hi: Array, batch: list[_Node]):
        """Bounds of every gate that is open in some node's block (or split there), and the planes they came from."""
        count, found, planes = len(lo), [], {}
        above = np.array([node.block.plane for node in batch])
        for k, (W, b) in enumerate(zip(self.W, self.b)):
            L, U = (np.array([node.block.bounds[k][side] for node in batch]) for side in (0, 1))
            want = (L < 0) & (U > 0) & self.relu[k]
            for p, node in enumerate(batch):
                want[p, [g - self.first[k] for g, _ in node.phases if self.first[k] <= g < self.first[k + 1]]] = True
            rows = np.flatnonzero(want.any(axis=0))
            if len(rows):
                half = len(rows)
                v, e = np.concatenate([W[rows], -W[rows]])[None], np.concatenate([b[rows], -b[rows]])[None]
                v, e, used = self._backward(k - 1, v, e, found)
                v, e = np.broadcast_to(v, (count, 2 * half, self.n)), np.broadcast_to(e, (count, 2 * half))
                low = _lowest_below(v, e, lo, hi, above)
                # Only what the node itself asks for: which nodes a checker works on together is its own matter.
                L[:, rows] = np.where(want[:, rows], np.maximum(L[:, rows], low[:, :half]), L[:, rows])
                U[:, rows] = np.where(want[:, rows], np.minimum(U[:, rows], -low[:, half:]), U[:, rows])
                planes[k] = (rows, v, e, used)
            for p, node in enumerate(batch):
                for gate, sign in node.phases:
                    if self.first[k] <= gate < self.first[k + 1]:
                        j = gate - self.first[k]
                        if sign > 0:
                            L[p, j], U[p, j] = max(L[p, j], 0.0), U[p, j] or 1.0
                        else:  # a gate that is 0 throughout goes by its phase, as in the checker
                            L[p, j], U[p, j] = L[p, j] or -1.0, min(U[p, j], 0.0)
            found.append((L, U))
        return found, planes

    def _together(self, found, weights: Array, batch: list[_Node], which: Array) -> tuple[Array, Array]:
        """Planes below the weighed sums of rows and phases, substituted as one row: `(nodes, 1, n)` and `(nodes, 1)`."""
        part = [(L[which], U[which]) for L, U in found]
        more = [np.zeros((len(which), len(b))) for b in self.b]
        for q, p in enumerate(which):
            for (gate, sign), beta in zip(batch[p].phases, weights[p, self.R :]):
                k = int(np.searchsorted(self.first, gate, side="right")) - 1
                more[k][q, gate - self.first[k]] -= sign * beta
        w = weights[which, : self.R]
        v, e, _ = self._backward(len(self.W) - 1, (w @ self.A)[:, None], (w @ self.d)[:, None], part, more)
        return v + (w @ self.D)[:, None], e

    def _backward(
        self, k: int, v: Array, e: Array, found, more: list[Array] | None = None
    ) -> tuple[Array, Array, list[Array]]:
        """Rows `v` over ReLU layer k become rows over x; the coefficients met on the way are returned too."""
        used: list[Array] = [np.zeros(0)] * (k + 1)
        for i in range(k, -1, -1):
            L, U = found[i]
            used[i] = v
            open_, whole = (L < 0) & (U > 0) & self.relu[i], (L >= 0) | ~self.relu[i]
            up = np.where(open_, U / np.where(open_, U - L, 1.0), whole * 1.0)
            low = np.where(open_, (U > -L) * 1.0, whole * 1.0)
            negative = np.minimum(v, 0)
            e = e + (negative @ np.where(open_, -up * L, 0.0)[..., None])[..., 0]
            v = v * low[:, None]
            negative = (
                negative * (up - low)[:, None]
                if negative.shape != v.shape
                else np.multiply(negative, (up - low)[:, None], out=negative)
            )
            v += negative
            if more is not None:
                v += more[i][:, None]
            shape = v.shape
            flat = v.reshape(-1, shape[-1])
            e = e + (flat @ self.b[i]).reshape(shape[:2])
            v = (flat @ self.W[i]).reshape(*shape[:2], -1)
        return v, e, used

    def _rows(self, found, lo: Array, hi: Array):
        """The claim's rows over x, the coefficients on each gate, and the size that rounding is measured by."""
        count = len(lo)
        v = np.broadcast_to(self.A[None], (count, *self.A.shape))
        v, e, used = self._backward(len(self.W) - 1, v, np.broadcast_to(self.d, (count, self.R)), found)
        size = 1.0 + np.abs(self.d).max()
        for (L, U), coef in zip(found, used):
            size = size + (np.abs(coef) @ np.maximum(np.abs(L), np.abs(U))[..., None])[..., 0].max(axis=1)
        G = v + self.D
        return G, e, used, size * np.ones(count)

    def _conditions(self, G: Array, e: Array, planes, batch: list[_Node], above: Array) -> tuple[Array, Array]:
        """Phases as further rows that are at most 0: `-z` of a gate that is on, `z` of one that is off; last the planes from above."""
        most, count = max((len(x.phases) for x in batch), default=0), len(batch)
        more, rest = np.zeros((count, most + 1, self.n)), np.full((count, most + 1), _NOTHING)
        for p, node in enumerate(batch):
            for q, (gate, sign) in enumerate(node.phases):
                k = int(np.searchsorted(self.first, gate, side="right")) - 1
                rows, v, const, _ = planes[k]
                at = int(np.searchsorted(rows, gate - self.first[k])) + (len(rows) if sign > 0 else 0)
                more[p, q], rest[p, q] = v[p, at], const[p, at]
        more[:, most], used = above[:, :-1], above.any(axis=1)
        rest[used, most] = above[used, -1]
        return np.concatenate([G, more], axis=1), np.concatenate([e, rest], axis=1)

    def _blame(self, found, open_, used, weights: Array, planes, lo: Array, hi: Array, batch: list[_Node]):
        """For each input and each gate how much of the bound's looseness is due to it."""
        count, width = len(lo), hi - lo
        score, losses = np.zeros((count, self.n)), []
        phased = [p for p, node in enumerate(batch) if node.phases]
        for k, (L, U) in enumerate(found):
            v = np.broadcast_to(used[k], (count, *used[k].shape[1:]))
            above = np.where(open_[k], -U * L / np.where(open_[k], U - L, 1.0), 0.0)
            below = np.where(open_[k], np.minimum(U, -L), 0.0)
            each = np.where(v > 0, v * below[:, None], -v * above[:, None])
            loss = (weights[:, None, : self.R] @ each)[:, 0]
            for p in phased:  # looseness of the phases' own planes
                for (gate, sign), share in zip(batch[p].phases, weights[p, self.R :]):
                    layer = int(np.searchsorted(self.first, gate, side="right")) - 1
                    if share > 0 and layer > k:
                        rows, _, _, through = planes[layer]
                        at = int(np.searchsorted(rows, gate - self.first[layer])) + (len(rows) if sign > 0 else 0)
                        v = through[k][p if len(through[k]) > 1 else 0, at]
                        loss[p] += share * np.where(v > 0, v * below[p], -v * above[p])
            losses.append(loss + 1e-12 * open_[k])
            if k in planes:
                rows, plane, _, _ = planes[k]
                share = (np.abs(plane[:, : len(rows)]) + np.abs(plane[:, len(rows) :])) * width[:, None]
                total = share.sum(axis=2)
                part = np.divide(loss[:, rows], total, out=np.zeros_like(total), where=total > 0)
                score += (part[:, None] @ share)[:, 0]
        gates = [loss[:, relu] for loss, relu in zip(losses, self.relu)]
        return score, np.concatenate(gates, axis=1) if gates else np.zeros((count, 0))


def _lowest(v: Array, e: Array, lo: Array, hi: Array) -> Array:
    return e + (np.maximum(v, 0) @ lo[..., None] + np.minimum(v, 0) @ hi[..., None])[..., 0]


def _lowest_below(v: Array, e: Array, lo: Array, hi: Array, plane: Array) -> Array:
    """The same where `plane`, shape `(boxes, n + 1)`, is at most 0, too: the best multiple of it, one at which a slope becomes 0, is added."""
    best = _lowest(v, e, lo, hi)
    for i in np.flatnonzero(np.any(plane[:, :-1] != 0, axis=0)):
        g = plane[:, None, i]
        times = np.maximum(-v[..., i] / np.where(np.abs(g) > 1e-200, g, np.inf), 0.0)
        best = np.maximum(best, _lowest(v + times[..., None] * plane[:, None, :-1], e + times * plane[:, -1:], lo, hi))
    return best


def _joint(G: Array, e: Array, lo: Array, hi: Array, steps: int) -> tuple[Array, Array, Array]:
    """Weights of the rows whose sum is bounded best (Frank and Wolfe's steps), that bound, and a point near the minimum of the largest row."""
    count, R = e.shape
    each = _lowest(G, e, lo, hi)
    best = np.argmax(each, axis=1)
    at = np.arange(count)
    weights = np.zeros((count, R))
    weights[at, best] = 1.0
    low, trial = each[at, best].copy(), weights.copy()
    point = np.where(G[at, best] >= 0, lo, hi)
    if R == 1:
        return weights, low, point
    for step in range(steps):
        worst = np.argmax((G @ point[..., None])[..., 0] + e, axis=1)
        share = 2.0 / (step + 3.0)
        trial *= 1 - share
        trial[at, worst] += share
        plane = (trial[:, None] @ G)[:, 0]
        corner = np.where(plane >= 0, lo, hi)
        value = np.sum(plane * corner, axis=1) + np.sum(trial * e, axis=1)
        better = value > low
        low[better], weights[better] = value[better], trial[better]
        point = (1 - share) * point + share * corner
    return weights, low, point


def _exact(G: Array, e: Array, lo: Array, hi: Array, need: float) -> Array | None:
    """The best weights of rows that are linear in x, by a linear program; None where they do not suffice."""
    from scipy.optimize import linprog

    R, n = G.shape
    found = linprog(
        np.r_[np.zeros(n), 1.0], np.c_[G, -np.ones(R)], -e, bounds=[*zip(lo, hi), (None, None)], method="highs"
    )
    if found.status != 0:
        return None
    w = np.maximum(-found.ineqlin.marginals, 0)
    if w.sum() <= 0:
        return None
    w = w / w.sum()
    return (
        w if float(_lowest((w @ G)[None, None], (w @ e)[None, None], lo[None], hi[None])[0, 0]) > 1e-3 * need else None
    )
