"""The pieces of a network in a box or polytope of any small dimension, as data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from relukit._shown import Shown
from relukit._types import Array, BoolArray, IntArray
from relukit.geometry._form import Form
from relukit.sets._abstract import Rows

_VOLUME = 2e-3  # CPU seconds for the volume of one cell of seven inputs,
_GROWTH = 26.0  # and times that for each further input
_PATIENCE = 20.0  # CPU seconds of volumes that a summary may take
_BLOCK = 4096  # cells whose half-spaces are held at once


@dataclass(frozen=True, eq=False)
class Cells(Shown):
    """Convex polytopes on which a network is affine, in D inputs.

    Arguments:
        vertices: Corners of all cells, shape `(V, D)`, shared between neighbors.
        offsets, indices: Cell k has the corners `indices[offsets[k]:offsets[k + 1]]`, in no order.
        masks: For each entry of `indices` the facets of its cell that the corner lies on, as bits, shape `(words, entries)`.
        facet_offsets, facets: Cell k has the facets `facets[facet_offsets[k]:facet_offsets[k + 1]]`: the gate whose wall it lies
            on; `gates + 2 d` and `gates + 2 d + 1` for the lower and upper side of input d; from `gates + 2 D` on the rows of a polytope.
        neighbors: For each entry of `facets` the cell on its other side, -1 at the domain's sides.
        patterns: Gates that are on in each cell as packed bits (`numpy.packbits`, little), shape `(R, bytes)`.
        gates: Number of gates.
        owners: Node and unit of each gate, shape `(gates, 2)`.
        complete: False where the walk was stopped; `stopped_by` says by what: "limit", "memory" or "Ctrl-C".
        unmatched: Facets inside the domain without a neighbor: 0 for a complete list, as a run-time check.
        exact: As in `Regions`: every sign is certain, by rational arithmetic where floats cannot tell.
        exact_tests: Signs that needed rational arithmetic.
        lower, upper: The domain's box; `rows` a polytope's further half-spaces.
    """

    vertices: Array
    offsets: IntArray
    indices: IntArray
    masks: Any
    facet_offsets: IntArray
    facets: IntArray
    neighbors: IntArray
    patterns: Any
    gates: int
    owners: IntArray
    complete: bool
    unmatched: int
    exact: bool
    exact_tests: int
    lower: Array
    upper: Array
    rows: Rows | None
    form: Form = field(repr=False)
    raw: Any = field(repr=False)  # the walk's facet labels and pattern words
    gate_pattern: Callable[[Array], BoolArray] = field(repr=False)
    stopped_by: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dimension(self) -> int:
        return self.vertices.shape[1]

    @cached_property
    def maps(self) -> tuple[Array, Array]:
        """`(A, c)`: outputs are `A[k] x + c[k]` on cell k, shapes `(R, m, D)` and `(R, m)`; made when they are first asked for."""
        from relukit.geometry._measures import all_maps

        D = self.dimension
        table = all_maps(self.form.plain, D, self.raw.patterns, len(self)).reshape(len(self), D + 1, self.form.outputs)
        return table[:, :D].transpose(0, 2, 1), table[:, D]

    @property
    def polygons(self) -> list[IntArray]:
        """Vertex numbers of each cell."""
        return np.split(self.indices, self.offsets[1:-1])

    def cell(self, k: int) -> Array:
        """Corners of cell k, shape `(n, D)`."""
        return self.vertices[self.indices[self.offsets[k] : self.offsets[k + 1]]]

    def pattern(self, k: int) -> BoolArray:
        """Which gates are on in cell k, shape `(gates,)`."""
        return np.unpackbits(self.patterns[k], bitorder="little")[: self.gates].astype(bool)

    def walls(self, k: int) -> IntArray:
        """The gate, or side, of each facet of cell k."""
        return self.facets[self.facet_offsets[k] : self.facet_offsets[k + 1]]

    def facet_vertices(self, k: int) -> list[IntArray]:
        """For each facet of cell k the numbers of its vertices."""
        part = slice(self.offsets[k], self.offsets[k + 1])
        inside = self.indices[part]
        count = int(self.facet_offsets[k + 1] - self.facet_offsets[k])
        bit = lambda f: (self.masks[f >> 6, part] >> np.uint64(f & 63)) & np.uint64(1) == 1
        return [inside[bit(f)] for f in range(count)]

    def half_spaces(self, k: int | slice) -> Rows:
        """Irredundant half-spaces `A x <= b` of cell k, rows of length one, in the order of `walls(k)`; of cells in a row with a slice, as in `facets`."""
        first, stop, _ = k.indices(len(self)) if isinstance(k, slice) else (k, k + 1, 1)
        return self._half_spaces(first, stop)

    def _half_spaces(self, first: int, stop: int) -> Rows:
        from relukit.geometry._measures import half_spaces

        D, raw = self.dimension, self.raw
        m = int(self.facet_offsets[stop] - self.facet_offsets[first])
        A, b = np.empty((m, D)), np.empty(m)
        half_spaces(
            self.form.plain, D, raw.patterns, first, stop, self.facet_offsets, raw.facets, self.lower, self.upper, np.empty(len(self.form.plain.direct)), A, b
        )  # fmt: skip
        return Rows(A, b)

    def blocks(self, size: int = _BLOCK) -> Iterator[tuple[range, Rows, Array, Array]]:
        """Cells in turn with what a program over them needs: `(numbers, half-spaces, centers, radii)`.

        Half-spaces of the block's cells lie one after the other, as in `facets`; centers are Chebyshev's.
        """
        from relukit.geometry._measures import centers

        D = self.dimension
        for first in range(0, len(self), size):
            stop = min(first + size, len(self))
            rows = self._half_spaces(first, stop)
            x, radius = np.empty((stop - first, D)), np.empty(stop - first)
            centers(
                self.offsets, self.indices, self.vertices, first, stop, self.facet_offsets, rows.A, rows.b, D, x,
                np.empty((D + 2, D + 3)), np.empty(D), np.empty(D + 2, np.int64), radius,
            )  # fmt: skip
            yield range(first, stop), rows, x, radius

    @cached_property
    def centers(self) -> tuple[Array, Array]:
        """Chebyshev centers (of the largest ball in each cell), shape `(R, D)`, and the radii."""
        parts = [(x, r) for _, _, x, r in self.blocks()]
        if not parts:
            return np.zeros((0, self.dimension)), np.zeros(0)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    @cached_property
    def volumes(self) -> Array:
        """Volume of each cell: length, area, ... by dimension; shape `(R,)`."""
        return np.ldexp(self._shares, int(self._units.sum()))

    @cached_property
    def _units(self) -> IntArray:
        """Powers of two in which lengths along each input are counted where a volume could leave float64's range; zeros else."""
        exponents = np.frexp(self.upper - self.lower)[1].astype(np.int64)
        return exponents if np.abs(exponents).max(initial=0) * self.dimension > 400 else np.zeros_like(exponents)

    @cached_property
    def _shares(self) -> Array:
        """Volumes in these units."""
        from relukit.geometry._measures import volumes

        D, widest = self.dimension, int(np.diff(self.offsets).max(initial=1))
        out, points = (
            np.empty(len(self)),
            self.vertices if not self._units.any() else np.ldexp(self.vertices, -self._units),
        )
        room = np.empty((D + 1, widest), np.int64), np.empty((D + 1, 2), np.int64), np.empty(D + 1, np.uint64)
        reals = np.empty((D, D)), np.empty(D + 1)
        volumes(self.offsets, self.indices, self.masks, points, D, 0, len(self), *room, *reals, out)
        return out

    @property
    def volumes_are_dear(self) -> bool:
        """Whether so many volumes of so many inputs would take minutes: summaries and files leave them out then."""
        return len(self) * _VOLUME * _GROWTH ** (self.dimension - 7) > _PATIENCE

    @property
    def area(self) -> float:
        """Sum of the volumes."""
        return float(np.sum(np.sort(self.volumes)))

    @cached_property
    def area_error(self) -> float:
        """Relative difference between the sum of the volumes and the domain's; NaN where the list is not complete."""
        if not self.complete:
            return float("nan")
        if self.rows is None:
            whole = float(np.prod(np.ldexp(self.upper - self.lower, -self._units)))
            return abs(float(np.sum(np.sort(self._shares))) - whole) / whole
        return abs(self.area - self._whole) / self._whole

    @cached_property
    def _whole(self) -> float:
        """A polytope's volume by Qhull, from its half-spaces."""
        assert self.rows is not None
        from scipy.spatial import ConvexHull, HalfspaceIntersection

        A, b = self.rows
        D = self.dimension
        rows = np.vstack([np.c_[A, -b], np.c_[np.eye(D), -self.upper], np.c_[-np.eye(D), self.lower]])
        if D == 1:
            slope, at = rows[:, 0], rows[:, 1]
            return float(np.min(-at[slope > 0] / slope[slope > 0]) - np.max(-at[slope < 0] / slope[slope < 0]))
        inside = self.centers[0][int(np.argmax(self.centers[1]))]
        return float(ConvexHull(HalfspaceIntersection(rows, inside).intersections).volume)

    @cached_property
    def edges(self) -> int:
        """Number of edges, those of several cells once."""
        from relukit.geometry._neighbors import count_edges

        return count_edges(self.offsets, self.indices, self.masks, self.dimension)

    def locate(self, points: Array) -> IntArray:
        """The cell that each point lies in, -1 outside; points of shape `(count, D)`."""
        points = np.atleast_2d(np.asarray(points, float))
        packed = np.packbits(self.gate_pattern(points), axis=1, bitorder="little")
        inside = np.all((points >= self.lower) & (points <= self.upper), axis=1)
        if self.rows is not None:
            inside &= np.all(points @ self.rows.A.T <= self.rows.b, axis=1)
        width = self.patterns.shape[1]
        numbers = self._by_pattern
        found = [numbers.get(p.tobytes().ljust(width, b"\0"), -1) for p in packed]
        return np.where(inside, np.array(found, np.int64), -1)

    @cached_property
    def _by_pattern(self) -> dict[bytes, int]:
        return {bits.tobytes(): k for k, bits in enumerate(self.patterns)}

    def graph(self) -> Any:
        """Neighborhood as a NetworkX graph; edges hold the gate whose wall lies between."""
        import networkx

        graph = networkx.Graph()
        graph.add_nodes_from(range(len(self)))
        owner = np.repeat(np.arange(len(self)), np.diff(self.facet_offsets))
        for f in np.flatnonzero(self.neighbors > owner):
            graph.add_edge(int(owner[f]), int(self.neighbors[f]), gate=int(self.facets[f]))
        return graph

    def save(self, path: str | Path) -> Path:
        """Write arrays (.npz), .json, .graphml, a picture (.svg, .png, .pdf), or the facets of three inputs as a mesh (.ply, .obj)."""
        from relukit.geometry._write import write_cells

        return write_cells(self, Path(path))

    def plot(self, ax: Any = None, output: int = 0) -> Any:
        """One input: the graph of an output; three: the walls. Returns the axes."""
        from relukit.geometry._draw import draw_cells

        return draw_cells(self, ax, output)

    def to_dict(self) -> dict[str, Any]:
        """Counts and checks; `area` and `area_error` are None where the volumes of so many cells of so many inputs would take minutes."""
        dear = self.volumes_are_dear
        return {
            "regions": len(self), "vertices": len(self.vertices), "edges": self.edges, "facets": self.facet_count, "dimension": self.dimension,
            "area": None if dear else self.area, "area_error": None if dear else self.area_error, "unmatched_facets": self.unmatched, "exact": bool(self.exact),
            "exact_tests": self.exact_tests, "complete": bool(self.complete),
        }  # fmt: skip

    @property
    def facet_count(self) -> int:
        """Number of facets, those between two cells once."""
        return int(np.count_nonzero(self.neighbors < 0)) + int(np.count_nonzero(self.neighbors >= 0)) // 2

    def __repr__(self) -> str:
        how = "exact" if self.exact else "float64"
        stop = "" if self.complete else ", stopped"
        return f"Cells({len(self)} pieces in {self.dimension} inputs, {how}{stop})"
