"""Linear pieces of a network on a plane, by cutting convex polygons unit by unit in float64.

A corner within a relative 5e-13 of a line counts as on it: strips thinner than that are merged with a neighbor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._numerics import atomic_path
from relukit._types import Array, IntArray
from relukit.network import Affine, Network
from relukit.sets import Box

# A corner closer to a line than this share of the summands' size counts as on it: about 2000 times what float64 loses.
_ON_LINE = 5e-13


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
class Regions:
    """Convex polygons on which the network is affine.

    Arguments:
        vertices: Corners of all polygons, shape `(V, 2)`, in plane coordinates.
        offsets, indices: Polygon k has the corners `indices[offsets[k]:offsets[k + 1]]`, in order.
        maps: `(A, c)`: outputs are `A[k] p + c[k]` on polygon k, shapes `(R, m, 2)` and `(R, m)`.
        plane: How coordinates become inputs.
        area: Sum of the polygons' areas; `area_error` is its relative difference to the domain's.
    """

    vertices: Array
    offsets: IntArray
    indices: IntArray
    maps: tuple[Array, Array]
    plane: Plane
    area: float
    area_error: float

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def polygon(self, k: int) -> Array:
        return self.vertices[self.indices[self.offsets[k] : self.offsets[k + 1]]]

    @property
    def edges(self) -> int:
        """Number of edges of the subdivision, by Euler's relation V - E + F = 1 for a convex domain."""
        return len(self.vertices) + len(self) - 1

    def save(self, path: str | Path) -> Path:
        """Write vertices, polygons and maps as `.npz`."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            A, c = self.maps
            np.savez(file, vertices=self.vertices, offsets=self.offsets, indices=self.indices, A=A, c=c)
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        return {
            "regions": len(self),
            "vertices": len(self.vertices),
            "edges": self.edges,
            "area": self.area,
            "area_error": self.area_error,
        }

    def __repr__(self) -> str:
        return f"Regions({len(self)} pieces, area error {self.area_error:.1e})"


def regions(
    network: Network, domain: Box | None = None, plane: tuple[Array, Array, Array] | None = None, limit: int = 200_000
) -> Regions:
    """The linear pieces of a network on its 2-D box, or on the plane through three points.

    Arguments:
        network: Piecewise linear; with two inputs unless a plane is given.
        domain: Box of the two inputs, or of the plane's coordinates.
        plane: Three points A, B, C; coordinates (0, 0), (1, 0), (0, 1) are A, B, C. By default a square around the
            triangle with a margin of a quarter.
        limit: Most pieces before giving up.

    Raises:
        UnsupportedOperation: An activation is smooth, or more than `limit` pieces.
        InvalidInput: The three points lie on a line, or a domain is missing.
    """
    network.require_piecewise_linear("exact pieces")
    if plane is None:
        domain = network.box if domain is None else domain
        if network.inputs != 2 or domain is None:
            raise InvalidInput("give a plane (three points) for more than two inputs, and a box for two")
        where = Plane(np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    else:
        a, b, c = (np.asarray(p, float).ravel() for p in plane)
        where = Plane(a, b - a, c - a)
        if np.linalg.matrix_rank(np.stack([where.u, where.v])) < 2:
            raise InvalidInput("the three points lie on a line: they span no plane")
        domain = Box([-0.25, -0.25], [1.25, 1.25]) if domain is None else domain
    (x0, y0), (x1, y1) = domain.lower, domain.upper
    start = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
    form = (np.stack([where.u, where.v], axis=1), where.origin)
    found: list[tuple[Array, Array, Array]] = []
    stack: list[tuple[Array, int, dict[int, tuple[Array, Array]]]] = [(start, 1, {0: form})]
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}
    while stack:
        polygon, at, forms = stack.pop()
        while at < len(network) and isinstance(network.nodes[at].op, Affine):
            forms = _advance(network, at, forms, last)
            at += 1
        if at == len(network):
            found.append((polygon, *forms[at - 1]))
            if len(found) > limit:
                raise UnsupportedOperation(f"more than {limit} pieces; raise limit= or take a smaller domain")
            continue
        node = network.nodes[at]
        A, c = forms[node.inputs[0]]
        for part in _cut(polygon, A, c, node.op.knots):
            center = part.mean(axis=0)
            z = A @ center + c
            slope = np.broadcast_to(node.op.derivative(z), z.shape)
            value = slope[:, None] * A, node.op(z) - slope * (A @ center)
            stack.append((part, at + 1, {**{j: f for j, f in forms.items() if last[j] > at}, at: value}))
    return _collect(found, where, start)


def _advance(
    network: Network, at: int, forms: dict[int, tuple[Array, Array]], last: dict[int, int]
) -> dict[int, tuple[Array, Array]]:
    """The form of an affine node from those it reads."""
    op, inputs = network.nodes[at].op, network.nodes[at].inputs
    A: Any = sum(m.apply(np.ascontiguousarray(forms[j][0].T)).T for m, j in zip(op.maps, inputs))
    c: Any = sum(m.apply(forms[j][1]) for m, j in zip(op.maps, inputs)) + op.bias
    return {**{j: f for j, f in forms.items() if last[j] > at}, at: (A, c)}


def _cut(polygon: Array, A: Array, c: Array, knots: Array) -> list[Array]:
    """The polygon cut by the lines `A p + c = knot` of all units and knots."""
    parts = [polygon]
    for knot in np.broadcast_to(knots.reshape(len(knots), -1), (len(knots), len(c))):
        z = polygon @ A.T + (c - knot)
        size = _ON_LINE * (np.abs(polygon) @ np.abs(A).T + np.abs(c) + np.abs(knot))
        for unit in np.flatnonzero((z > size).any(axis=0) & (z < -size).any(axis=0)):
            parts = [piece for part in parts for piece in _split(part, A[unit], c[unit] - knot[unit])]
    return parts


def _split(ring: Array, g: Array, c: float) -> list[Array]:
    """One or two pieces of a convex polygon on the sides of a line; corners on the line go to both."""
    side = ring @ g + c
    size = _ON_LINE * (np.abs(ring) @ np.abs(g) + abs(c))
    sign = np.where(side > size, 1, np.where(side < -size, -1, 0))
    if not (np.any(sign > 0) and np.any(sign < 0)):
        return [ring]
    high: list[Array] = []
    low: list[Array] = []
    for k in range(len(ring)):
        q = (k + 1) % len(ring)
        if sign[k] >= 0:
            high.append(ring[k])
        if sign[k] <= 0:
            low.append(ring[k])
        if sign[k] * sign[q] < 0:
            point = ring[k] + (ring[q] - ring[k]) * (side[k] / (side[k] - side[q]))
            high.append(point)
            low.append(point)
    return [np.array(high), np.array(low)]


def _merged(corners: Array, reach: float) -> tuple[IntArray, IntArray]:
    """Corners made from different sides differ by rounding; those within `reach` are one vertex."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(corners).query_pairs(reach, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(corners), len(corners)))
    number = connected_components(links, directed=False)[1].astype(np.int64)
    return np.unique(number, return_index=True)[1], number


def _area(ring: Array) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _collect(found: list[tuple[Array, Array, Array]], plane: Plane, domain: Array) -> Regions:
    corners = np.concatenate([ring for ring, _, _ in found])
    first, inverse = _merged(corners, 1e-11 * float(np.abs(domain).max()))
    offsets = np.concatenate([[0], np.cumsum([len(ring) for ring, _, _ in found])])
    whole, area = _area(domain), sum(_area(ring - ring[0]) for ring, _, _ in found)
    maps = np.stack([A for _, A, _ in found]), np.stack([c for _, _, c in found])
    return Regions(corners[first], offsets, inverse, maps, plane, area, abs(area - whole) / whole)
