"""Linear pieces of a network on a plane.

Chains of dense layers with ReLU-like gates are cut exactly (`_plane`). Everything else (convolutions, residual connections,
several knots) is cut unit by unit in float64: a corner within a relative 5e-13 of a line counts as on it, and strips thinner
than that are merged with a neighbor.
"""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._types import Array, IntArray
from relukit.geometry._regions import Plane, Regions
from relukit.network import Affine, Network
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

# A corner closer to a line than this share of the summands' size counts as on it: about 2000 times what float64 loses.
_ON_LINE = 5e-13


def regions(
    network: Network, domain: Box | None = None, plane: tuple[Array, Array, Array] | None = None, limit: int = 5_000_000
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
        InvalidInput: The three points lie on a line, or a domain is missing, unbounded or without area.
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
    if not (np.all(np.isfinite(domain.lower)) and np.all(np.isfinite(domain.upper))):
        raise InvalidInput("the box must be bounded on all sides")
    if x1 <= x0 or y1 <= y0:
        raise InvalidInput(f"the box has no area: x from {x0} to {x1}, y from {y0} to {y1}")
    gates = _gates(network)
    if gates is not None:
        return _exact(network, gates, where, domain, plane is not None, limit)
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


def _gates(network: Network) -> tuple[list[Array], list[Array], list[tuple[float, float]]] | None:
    """Weights, biases and slopes of the hidden layers, where all activations bend at 0 only and alike in a layer."""
    chain = network.dense_chain()
    if chain is None or not chain.activations:
        return None
    slopes = []
    for f in chain.activations:
        one = isinstance(f, PiecewiseLinear) and f.knots.shape == (1,) and f.slopes.shape == (2,)
        if not one or float(f.knots[0]) != 0 or float(f.height) != 0:
            return None
        slopes.append((float(f.slopes[0]), float(f.slopes[1])))
    if len(chain.weights) != len(slopes) + 1:
        return None
    return [np.asarray(W, float) for W in chain.weights[:-1]], [np.asarray(b, float) for b in chain.biases[:-1]], slopes


def _exact(network: Network, gates: Any, where: Plane, domain: Box, sliced: bool, limit: int) -> Regions:
    from relukit.geometry._plane import Fold, cut_plane

    weights, biases, slopes = gates
    fold = None
    if sliced:
        fold = Fold(weights[0], biases[0], where.origin, where.u, where.v)
        basis = np.stack([where.u, where.v], axis=1)
        weights, biases = [weights[0] @ basis, *weights[1:]], [weights[0] @ where.origin + biases[0], *biases[1:]]
    found = cut_plane(weights, biases, slopes, domain.lower, domain.upper, limit, fold)
    packed = found.words.view(np.uint8)[:, : -(-found.gates // 8)]
    corners = found.vertices[found.ring]
    after = np.arange(1, len(found.ring) + 1)
    after[found.offsets[1:] - 1] = found.offsets[:-1]
    base = np.repeat(corners[found.offsets[:-1]], np.diff(found.offsets), axis=0)
    local, ahead = corners - base, corners[after] - base  # relative to each polygon's first corner: small numbers cancel less
    area = 0.5 * float(np.sum(local[:, 0] * ahead[:, 1] - ahead[:, 0] * local[:, 1]))
    whole = float(np.prod(domain.upper - domain.lower))
    chain: Any = network.dense_chain()
    last = (np.asarray(chain.weights[-1], float), np.asarray(chain.biases[-1], float))

    def gate_pattern(points: Array) -> Any:
        value, parts = points, []
        for W, b, (left, right) in zip(weights, biases, slopes):
            z = value @ W.T + b
            parts.append(z > 0)
            value = np.where(z > 0, right, left) * z
        return np.concatenate(parts, axis=1)

    return Regions(
        found.vertices, found.offsets, found.ring, where, area, abs(area - whole) / whole, True,
        lambda: _maps(weights, biases, slopes, last, packed, found.gates), packed, found.gates, found.edge, gate_pattern,
    )  # fmt: skip


def _maps(weights: Any, biases: Any, slopes: Any, last: Any, packed: Any, gates: int) -> tuple[Array, Array]:
    """Affine maps of all patterns, a few thousand at a time."""
    A = np.empty((len(packed), len(last[1]), 2))
    c = np.empty((len(packed), len(last[1])))
    step = max(1, 20_000_000 // (3 * max(len(b) for b in biases) + gates))
    for at in range(0, len(packed), step):
        on = np.unpackbits(packed[at : at + step], axis=1, bitorder="little")[:, :gates].astype(bool)
        row: Any = np.concatenate([weights[0], biases[0][:, None]], axis=1)[None]
        first = 0
        for k, (left, right) in enumerate(slopes):
            part = on[:, first : first + len(biases[k])]
            first += len(biases[k])
            active = np.where(part, right, left)[:, :, None] * row
            W, b = (weights[k + 1], biases[k + 1]) if k + 1 < len(weights) else last
            row = np.matmul(W, active)
            row[:, :, 2] += b
        A[at : at + step], c[at : at + step] = row[:, :, :2], row[:, :, 2]
    return A, c


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
    return Regions(corners[first], offsets, inverse, plane, area, abs(area - whole) / whole, False, lambda: maps)
