"""Questions about the pieces of a network on a plane, answered on the arrays of `relukit.regions` all at once."""

from dataclasses import dataclass

import numpy as np

from relukit._types import Array, IntArray
from relukit.geometry import Regions
from relukit.network import Network


@dataclass(frozen=True, eq=False)
class Pieces:
    """Regions with the network's outputs at the corners; an affine piece is known from these.

    Arguments:
        found: The pieces.
        values: Outputs at `found.vertices`, shape `(V, m)`.
        following: For each entry of `found.indices` the entry of the next corner of the same polygon.
        owner: For each entry its polygon.
    """

    found: Regions
    values: Array
    following: IntArray
    owner: IntArray

    @classmethod
    def of(cls, network: Network, found: Regions) -> "Pieces":
        after = np.arange(1, len(found.indices) + 1)
        after[found.offsets[1:] - 1] = found.offsets[:-1]
        owner = np.repeat(np.arange(len(found)), np.diff(found.offsets))
        return cls(found, network(found.plane.points(found.vertices)), after, owner)

    def means(self, at_vertices: Array) -> Array:
        """Mean over the corners of each polygon, shape `(R, ...)`: the value at a point inside, for affine quantities."""
        sums = np.add.reduceat(at_vertices[self.found.indices], self.found.offsets[:-1], axis=0)
        return sums / np.diff(self.found.offsets)[:, None]

    def levels(self, gap: Array) -> tuple[Array, IntArray]:
        """Where a quantity that is affine on each piece is 0: segments `(count, 2, 2)` and the piece of each.

        A convex polygon meets the zero line of an affine function in one segment: its two ends are the places where
        the sign changes along the border. A corner with value 0 counts as positive.
        """
        first, second = self.found.indices, self.found.indices[self.following]
        a, b = gap[first], gap[second]
        crossing = np.flatnonzero((a >= 0) != (b >= 0))
        share = (a[crossing] / (a[crossing] - b[crossing]))[:, None]
        start, end = self.found.vertices[first[crossing]], self.found.vertices[second[crossing]]
        ends = start + share * (end - start)
        return ends.reshape(-1, 2, 2), self.owner[crossing][::2]

    def boundary(self) -> Array:
        """The decision boundary, shape `(count, 2, 2)`: a single output's zeros, or where the two largest outputs tie."""
        if self.values.shape[1] == 1:
            return self.levels(self.values[:, 0])[0]
        kept = []
        for i in range(self.values.shape[1]):
            for j in range(i + 1, self.values.shape[1]):
                kept.append(self._ties(i, j))
        return np.concatenate(kept)

    def _ties(self, i: int, j: int) -> Array:
        """The part of `out_i = out_j` where no other output is larger, by cutting each segment at the others."""
        gap = self.values[:, i] - self.values[:, j]
        first, second = self.found.indices, self.found.indices[self.following]
        a, b = gap[first], gap[second]
        crossing = np.flatnonzero((a >= 0) != (b >= 0))
        share = (a[crossing] / (a[crossing] - b[crossing]))[:, None]
        blend = lambda table: (table[first[crossing]] * (1 - share) + table[second[crossing]] * share).reshape(
            -1, 2, table.shape[1]
        )
        ends, values = blend(self.found.vertices), blend(self.values)
        low, high = np.zeros(len(ends)), np.ones(len(ends))
        for k in range(values.shape[2]):
            if k in (i, j):
                continue
            lead = values[:, :, i] - values[:, :, k]  # affine along the segment; kept where >= 0
            p, q = lead[:, 0], lead[:, 1]
            with np.errstate(divide="ignore", invalid="ignore"):
                cut = p / (p - q)
            low = np.where((p < 0) & (q >= 0), np.maximum(low, cut), low)
            high = np.where((p >= 0) & (q < 0), np.minimum(high, cut), high)
            high = np.where((p < 0) & (q < 0), -1.0, high)
        start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
        cut = np.stack([start + low[:, None] * step, start + high[:, None] * step], axis=1)
        return cut[high > low]

    def nearest(self, point: Array) -> tuple[float, Array] | None:
        """Distance to the decision boundary in the plane, and the boundary's nearest point."""
        segments = self.boundary()
        if not len(segments):
            return None
        start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
        square = np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
        share = np.clip(((point - start) * step).sum(axis=1) / square, 0, 1)
        near = start + share[:, None] * step
        gaps = np.linalg.norm(near - point, axis=1)
        best = int(gaps.argmin())
        return float(gaps[best]), near[best]

    def locate(self, point: Array) -> int:
        """The piece that a point lies in; on a border, one of its neighbors."""
        a = self.found.vertices[self.found.indices]
        b = self.found.vertices[self.found.indices[self.following]]
        turn = (b[:, 0] - a[:, 0]) * (point[1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (point[0] - a[:, 0])
        return int(np.minimum.reduceat(turn, self.found.offsets[:-1]).argmax())

    def neighbors(self, k: int) -> list[int]:
        """Pieces that share an edge with piece k."""
        ends = np.sort(np.stack([self.found.indices, self.found.indices[self.following]]), axis=0).astype(np.int64)
        key = ends[0] * len(self.found.vertices) + ends[1]
        own = key[self.owner == k]
        return sorted(set(self.owner[np.isin(key, own) & (self.owner != k)].tolist()))
