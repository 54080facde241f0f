"""The pieces of a network on a plane, as data: polygons, patterns, maps, neighbors, decision boundaries."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._shown import Shown
from relukit._types import Array, BoolArray, IntArray


@dataclass(frozen=True)
class Plane:
    """Points `origin + s u + t v` of the input space, with coordinates (s, t)."""

    origin: Array
    u: Array
    v: Array

    def points(self, coordinates: Array) -> Array:
        return self.origin + coordinates[..., :1] * self.u + coordinates[..., 1:] * self.v

    def coordinates(self, x: Array) -> Array:
        """Coordinates of the nearest point of the plane."""
        basis = np.stack([self.u, self.v], axis=1)
        return np.linalg.lstsq(basis, np.asarray(x) - self.origin, rcond=None)[0]


@dataclass(frozen=True, eq=False)
class Regions(Shown):
    """Convex polygons on which the network is affine.

    Arguments:
        vertices: Corners of all polygons, shape `(V, 2)`, in plane coordinates; shared between neighbors.
        offsets, indices: Polygon k has the corners `indices[offsets[k]:offsets[k + 1]]`, in order.
        plane: How coordinates become inputs.
        area: Sum of the polygons' areas; `area_error` is its relative difference to the domain's.
        exact: Whether every decision which side of a line a corner is on is certain for the network as it stands, by rational arithmetic where
            floats cannot tell. False only where so many had to be asked in whole numbers that there was no time for all (deep leaky or
            residual networks full of degenerate places): the rest is then certain for the multiplied maps rounded to float64.
        patterns: Gates that are on in each polygon as packed bits (`numpy.packbits`, little), shape `(R, bytes)`, or None.
        gates: Number of gates.
        complete: False where the walk was stopped; `stopped_by` says by what: "limit", "memory" or "Ctrl-C".
        exact_tests: Signs that needed rational arithmetic.
        owners: Node and unit of each gate, shape (gates, 2).
    """

    vertices: Array
    offsets: IntArray
    indices: IntArray
    plane: Plane
    area: float
    area_error: float
    exact: bool
    make_maps: Callable[[], tuple[Array, Array]] = field(repr=False)
    make_lines: Callable[[], IntArray] = field(repr=False)
    patterns: Any = None
    gates: int = 0
    gate_pattern: Callable[[Array], BoolArray] | None = field(default=None, repr=False)
    complete: bool = True
    counted_edges: int | None = None
    exact_tests: int = 0
    owners: Any = None
    stopped_by: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def maps(self) -> tuple[Array, Array]:
        """`(A, c)`: outputs are `A[k] p + c[k]` on polygon k, shapes `(R, m, 2)` and `(R, m)`; made when they are first asked for."""
        return self.make_maps()

    @cached_property
    def lines(self) -> IntArray:
        """For each entry of `indices` the gate whose line the edge from that corner to the next lies on; `gates + s` for side s of the domain."""
        return self.make_lines()

    @cached_property
    def areas(self) -> Array:
        """Area of each polygon, in plane coordinates; shape `(R,)`."""
        start = self.vertices[self.indices[self.offsets[:-1]]][
            self.owner
        ]  # from a corner of its own: tiny pieces keep their digits
        a, b = self.vertices[self.indices] - start, self.vertices[self.indices[self.following]] - start
        return 0.5 * np.add.reduceat(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], self.offsets[:-1])

    def polygon(self, k: int) -> Array:
        return self.vertices[self.indices[self.offsets[k] : self.offsets[k + 1]]]

    @property
    def polygons(self) -> list[IntArray]:
        """Vertex numbers of each polygon."""
        return np.split(self.indices, self.offsets[1:-1])

    @property
    def edges(self) -> int:
        """Number of edges of the subdivision, counted: sides of polygons, those between two pieces once."""
        if self.counted_edges is not None:
            return self.counted_edges
        names = self._names()
        names.sort()
        return int(np.count_nonzero(np.diff(names))) + (len(names) > 0)

    @cached_property
    def following(self) -> IntArray:
        """For each entry of `indices` the entry of the next corner of the same polygon."""
        after = np.arange(1, len(self.indices) + 1)
        after[self.offsets[1:] - 1] = self.offsets[:-1]
        return after

    @cached_property
    def owner(self) -> IntArray:
        """For each entry of `indices` its polygon."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def neighbors(self) -> IntArray:
        """For each entry of `indices` the polygon across the edge that starts there, -1 at the domain's sides."""
        key = self._names()
        order = np.argsort(key, kind="stable")
        same = key[order][1:] == key[order][:-1]
        found = np.full(len(key), -1)
        first, second = order[:-1][same], order[1:][same]
        found[first], found[second] = self.owner[second], self.owner[first]
        return found

    def _names(self) -> IntArray:
        """For each entry of `indices` one number for the edge that starts there: that of its two corners, in no order."""
        a, b = self.indices.astype(np.int64), self.indices[self.following].astype(np.int64)
        return np.minimum(a, b) * (len(self.vertices) + 1) + np.maximum(a, b)

    def pattern(self, k: int) -> BoolArray:
        """Which gates are on in polygon k, shape `(gates,)`."""
        if self.patterns is None:
            raise UnsupportedOperation("patterns are known for chains of dense layers only")
        return np.unpackbits(self.patterns[k], bitorder="little")[: self.gates].astype(bool)

    def locate(self, points: Array) -> IntArray:
        """The polygon that each point lies in, -1 outside; `points` in plane coordinates, shape `(count, 2)`."""
        points = np.atleast_2d(np.asarray(points, float))
        found = np.full(len(points), -1)
        if self.patterns is not None and self.gate_pattern is not None:
            where = {bits.tobytes(): k for k, bits in enumerate(self.patterns)}
            packed = np.packbits(self.gate_pattern(points), axis=1, bitorder="little")
            low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
            inside = np.all((points >= low) & (points <= high), axis=1)
            for i in np.flatnonzero(inside):
                found[i] = where.get(packed[i].tobytes().ljust(self.patterns.shape[1], b"\0"), -1)
        for i in np.flatnonzero(found < 0):
            found[i] = self._search(points[i])
        return found

    def _search(self, point: Array) -> int:
        """By all edges: the polygon that has the point on the left of each."""
        a, b = self.vertices[self.indices], self.vertices[self.indices[self.following]]
        side = (b[:, 0] - a[:, 0]) * (point[1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (point[0] - a[:, 0])
        worst = np.minimum.reduceat(side, self.offsets[:-1])
        k = int(np.argmax(worst))
        return k if worst[k] >= -1e-12 else -1

    def boundary(self, first: int | None = None, second: int | None = None) -> Array:
        """Segments of the decision boundary, shape `(count, 2, 2)`.

        Arguments:
            first: A class; with `second`, only the boundary between the two. A single output changes sign there.
        """
        from relukit.geometry._decision import boundary

        return boundary(self, first, second)

    @property
    def is_whole(self) -> bool:
        """Whether the plane is a two-input network's own input space."""
        eye = np.eye(2)
        return (
            len(self.plane.origin) == 2
            and not self.plane.origin.any()
            and np.array_equal([self.plane.u, self.plane.v], eye)
        )

    def plot(self, ax: Any = None, color: str = "decision") -> Any:
        """Draw the pieces, their borders and the decision boundary; returns the axes.

        Arguments:
            ax: Matplotlib axes; new ones by default.
            color: `"decision"`; `"slope"`: size of the gradient; `"depth"`: borders by the layer of their unit.
        """
        from relukit.geometry._draw import draw_regions

        return draw_regions(self, ax, color)

    def graph(self) -> Any:
        """Neighborhood as a NetworkX graph; edges hold the gate that flips, where it is known."""
        import networkx

        graph = networkx.Graph()
        graph.add_nodes_from(range(len(self)))
        for entry in np.flatnonzero(self.neighbors > self.owner):
            graph.add_edge(int(self.owner[entry]), int(self.neighbors[entry]), gate=int(self.lines[entry]))
        return graph

    def geojson(self) -> dict[str, Any]:
        """Polygons as a GeoJSON-like feature collection, in plane coordinates; `decision` is that in a polygon's middle."""
        A, c = self.maps
        features = []
        for k in range(len(self)):
            ring = self.polygon(k)
            out = A[k] @ ring.mean(axis=0) + c[k]
            about = {"piece": k, "area": float(self.areas[k]), "decision": int(out.argmax()) if len(out) > 1 else int(out[0] > 0), "A": A[k].tolist(), "c": c[k].tolist()}  # fmt: skip
            features.append({"type": "Feature", "properties": about, "geometry": {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}})  # fmt: skip
        return {"type": "FeatureCollection", "features": features}

    def save(self, path: str | Path) -> Path:
        """Write arrays (.npz), .json, .geojson, .graphml, a picture (.svg, .png, .pdf), or output 0 as a surface (.ply, .obj)."""
        from relukit.geometry._write import write_regions

        return write_regions(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        return {
            "regions": len(self), "vertices": len(self.vertices), "edges": self.edges, "area": self.area,
            "area_error": self.area_error, "exact": self.exact, "exact_tests": self.exact_tests, "complete": self.complete,
        }  # fmt: skip

    def __repr__(self) -> str:
        how = "exact" if self.exact else "float64"
        return f"Regions({len(self)} pieces, {how}, area error {self.area_error:.1e})"
