"""What the checker of compressions reads as ReLUs and affine nodes: leaky ReLUs, clipping, maxima, pooling by the maximum.

    f(v) = offset + slope v + sum of weight max(0, v - knot)        one ReLU node per knot, from left to right
    max(a, b) = a + max(0, b - a)                                   pairs of neighbors, then pairs of those

A proof names ReLUs by their order in this reading. Stands by itself: NumPy, SciPy's sparse matrices; no code of what compresses.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from relukit.compression._check_nodes import Node, demand

Value = tuple[int, tuple[int, ...]]  # a node and the shape of its value


class Kinks:
    """Operators of an ONNX graph with kinks other than ReLU's."""

    nodes: list[Node]
    values: dict[str, Value]
    constants: dict[str, np.ndarray]
    _one: Callable[..., tuple[int, tuple[int, ...], list[np.ndarray]]]
    _put: Callable[..., Value]
    _spread: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]

    def _gate(self, source: int) -> int:
        self.nodes.append(Node([source], size=self.nodes[source].size))
        return len(self.nodes) - 1

    def _hinged(self, at: Value, slope: Any, offset: float, hinges: list[tuple[float, Any]]) -> Value:
        """`offset + slope v + sum of weight max(0, v - knot)`; hinges are (knot, weight)."""
        source, shape = at
        n = self.nodes[source].size
        wide = lambda v: np.broadcast_to(np.asarray(v, float), (n,))
        parts = [(source, wide(slope))]
        for knot, weight in hinges:
            before = source
            if knot != 0:
                before, _ = self._put([source], [sparse.identity(n, format="csr")], np.full(n, -knot), shape)
            parts.append((self._gate(before), wide(weight)))
        maps = [sparse.diags(v, format="csr") for _, v in parts]
        return self._put([s for s, _ in parts], maps, np.full(n, float(offset)), shape)

    def _LeakyRelu(self, names: list[str], at: dict) -> Value:
        source, shape, _ = self._one(names)
        slope = float(np.float32(at.get("alpha", 0.01)))
        return self._hinged((source, shape), slope, 0.0, [(0.0, 1 - slope)])

    def _PRelu(self, names: list[str], at: dict) -> Value:
        source, shape, (slope,) = self._one(names)
        wide = self._spread(slope, shape)
        return self._hinged((source, shape), wide, 0.0, [(0.0, 1 - wide)])

    def _Abs(self, names: list[str], at: dict) -> Value:
        source, shape, _ = self._one(names)
        return self._hinged((source, shape), -1.0, 0.0, [(0.0, 2.0)])

    def _Clip(self, names: list[str], at: dict) -> Value:
        source, shape, _ = self._one(names[:1])
        bounds = [at.get("min"), at.get("max")]
        for k, name in enumerate(at["inputs"][1:3]):
            if name:
                demand(name in self.constants and self.constants[name].size == 1, "a Clip between values that move")
                bounds[k] = float(self.constants[name].ravel()[0])
        limit = float(np.finfo(np.float32).max)
        low = -np.inf if bounds[0] is None or bounds[0] <= -limit else float(bounds[0])
        high = np.inf if bounds[1] is None or bounds[1] >= limit else float(bounds[1])
        demand(low < high, "a Clip that leaves nothing")
        return self._clipped((source, shape), low, high)

    def _clipped(self, at: Value, low: float, high: float) -> Value:
        hinges = [(k, w) for k, w in ((low, 1.0), (high, -1.0)) if np.isfinite(k)]
        demand(bool(hinges), "a Clip that cuts nothing")
        if (low, high) == (0.0, np.inf):
            return self._gate(at[0]), at[1]
        return self._hinged(at, 0.0 if np.isfinite(low) else 1.0, low if np.isfinite(low) else 0.0, hinges)

    def _extremum(self, names: list[str], sign: float) -> Value:
        moving = [n for n in names if n in self.values]
        fixed = [self.constants[n] for n in names if n not in self.values]
        if len(moving) == 1 and len(fixed) == 1 and np.all(fixed[0] == fixed[0].flat[0]) and fixed[0].size == 1:
            ends = (float(fixed[0].flat[0]), np.inf) if sign > 0 else (-np.inf, float(fixed[0].flat[0]))
            return self._clipped(self.values[moving[0]], *ends)
        shape = self.values[moving[0]][1]
        demand(not fixed and all(self.values[n][1] == shape for n in moving), "a maximum of values of different shapes, or with a constant that varies")  # fmt: skip
        eye = sparse.identity(int(np.prod(shape)), format="csr")
        best = (self.values[moving[0]][0], sign * eye)
        for name in moving[1:]:
            best = self._larger(best, (self.values[name][0], sign * eye))
        return self._put([best[0]], [sign * best[1]], np.zeros(eye.shape[0]), shape)

    def _Max(self, names: list[str], at: dict) -> Value:
        return self._extremum(names, 1.0)

    def _Min(self, names: list[str], at: dict) -> Value:
        return self._extremum(names, -1.0)

    def _larger(self, a: tuple[int, Any], b: tuple[int, Any]) -> tuple[int, Any]:
        """max of two parts, each a node and a map from it."""
        n = a[1].shape[0]
        if a[0] == b[0]:
            z, _ = self._put([a[0]], [b[1] - a[1]], np.zeros(n), (n,))
        else:
            z, _ = self._put([b[0], a[0]], [b[1], -a[1]], np.zeros(n), (n,))
        eye = sparse.identity(n, format="csr")
        return self._put([a[0], self._gate(z)], [a[1], eye], np.zeros(n), (n,))[0], eye

    def _MaxPool(self, names: list[str], at: dict) -> Value:
        source, shape, _ = self._one(names)
        demand(len(at["outputs"]) == 1 and at.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not at.get("storage_order", 0), "a MaxPool that also returns places, or is padded by a rule")  # fmt: skip
        sides = list(at["kernel_shape"])
        d = len(sides)
        demand(d in (1, 2) and len(shape) == d + 1, "a MaxPool of another dimension")
        pads, steps, holes = at.get("pads", [0] * 2 * d), at.get("strides", [1] * d), at.get("dilations", [1] * d)
        return self._pooled(source, shape, sides, list(pads), list(steps), list(holes), bool(at.get("ceil_mode", 0)))

    def _GlobalMaxPool(self, names: list[str], at: dict) -> Value:
        source, shape, _ = self._one(names)
        d = len(shape) - 1
        return self._pooled(source, shape, list(shape[1:]), [0] * 2 * d, [1] * d, [1] * d, False)

    def _pooled(self, source: int, shape: tuple[int, ...], sides: list, pads: list, steps: list, holes: list, ceil: bool) -> Value:  # fmt: skip
        """Maxima over windows; a window's entries count along the last axis first, padding as its last entry."""
        starts = []
        for a, size in enumerate(shape[1:]):
            room = size + pads[a] + pads[a + len(sides)] - holes[a] * (sides[a] - 1) - 1
            count = (-(-room // steps[a]) if ceil else room // steps[a]) + 1
            if ceil and (count - 1) * steps[a] >= size + pads[a]:
                count -= 1
            demand(count > 0 and min(pads) >= 0, "a MaxPool is empty, or its padding negative")
            starts.append(np.arange(count) * steps[a] - pads[a])
        place = np.arange(int(np.prod(shape))).reshape(shape)
        picked = []
        for offset in np.ndindex(*sides):
            at = [s + o * h for s, o, h in zip(starts, offset, holes)]
            inside = [(p >= 0) & (p < size) for p, size in zip(at, shape[1:])]
            index = place
            for a, p in enumerate(at):
                index = np.take(index, np.clip(p, 0, shape[1 + a] - 1), 1 + a)
            valid = np.logical_and.outer(*inside) if len(sides) == 2 else inside[0]
            picked.append(np.where(valid[None], index, -1))
        stacked = np.stack(picked)
        demand(bool((stacked.max(axis=0) >= 0).all()), "a MaxPool with a window of padding alone")
        stacked = np.where(stacked < 0, stacked.max(axis=0), stacked)
        n, width = stacked[0].size, self.nodes[source].size
        one = lambda index: sparse.csr_matrix((np.ones(n), (np.arange(n), index.ravel())), (n, width))
        parts: list[tuple[int, Any]] = [(source, one(index)) for index in stacked]
        while len(parts) > 1:
            joined = [self._larger(a, b) for a, b in zip(parts[::2], parts[1::2])]
            parts = joined + parts[2 * len(joined) :]
        return self._put([parts[0][0]], [parts[0][1]], np.zeros(n), stacked.shape[1:])
