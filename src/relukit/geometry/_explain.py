"""One input explained: the affine map and the pattern there, the walls of its cell, the nearest decision boundary in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._shown import Shown
from relukit._types import Array
from relukit.network import Affine, Network, load
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

_ENTRIES = 60_000_000  # numbers of one node's rows (480 MB)
_WALLS = 64  # walls whose distance is computed to the facet itself; further ones are only counted


@dataclass(frozen=True)
class Wall:
    """A side of the cell.

    Arguments:
        node, unit: Whose switch it is (name of the activation, number of the unit); `"box"` and an input for a side of the box.
        distance: Euclidean distance from x to this side of the cell.
        to_plane: Distance to the hyperplane that the side lies on.
        nearest: The nearest point of the side.
        knot: Place of the switch in the unit's own value (0 for a ReLU).
        same: Further units that switch on the same hyperplane.
    """

    node: str
    unit: int
    distance: float
    to_plane: float
    nearest: Array
    knot: float = 0.0
    same: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "node": self.node, "unit": self.unit, "distance": self.distance, "to_plane": self.to_plane, "knot": self.knot,
            "same": [list(s) for s in self.same],
        }  # fmt: skip


@dataclass(frozen=True)
class Boundary:
    """The nearest point of the cell where the decision changes.

    Arguments:
        decision, other: The decision at x, and the one beyond.
        distance: Euclidean distance from x.
        point: Where.
    """

    decision: int
    other: int
    distance: float
    point: Array

    def to_dict(self) -> dict[str, Any]:
        return {"decision": self.decision, "other": self.other, "distance": self.distance, "point": self.point}


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """What a network does around one input: outputs are `A x + c` in its whole cell.

    Arguments:
        x, outputs, decision: The input, the outputs and the decision there.
        A, c: The affine map, shapes `(m, n)` and `(m,)`.
        pattern: For each activation node the piece each unit is on (ReLU: 0 off, 1 on).
        walls: Sides of the cell, nearest first.
        more_walls: Hyperplanes farther than the last of `walls` that were not looked at.
        at_kink: Units that switch exactly at x: there x lies on the border of several cells, and this is one of them.
        boundary: The nearest decision boundary in the cell; None where the decision is the same in all of the cell.
    """

    x: Array
    outputs: Array
    decision: int
    A: Array
    c: Array
    pattern: dict[str, Any]
    walls: list[Wall]
    more_walls: int
    at_kink: list[tuple[str, int]]
    boundary: Boundary | None
    input_shape: tuple[int, ...] = ()

    @property
    def on(self) -> int:
        """Units that are not on their leftmost piece."""
        return int(sum(np.count_nonzero(p) for p in self.pattern.values()))

    def to_dict(self) -> dict[str, Any]:
        return {
            "x": self.x, "outputs": self.outputs, "decision": self.decision, "map": {"A": self.A, "c": self.c}, "pattern": self.pattern,
            "units_on": self.on, "units": int(sum(p.size for p in self.pattern.values())), "walls": [w.to_dict() for w in self.walls],
            "more_walls": self.more_walls, "nearest_wall": self.walls[0].to_dict() if self.walls else None, "at_kink": [list(k) for k in self.at_kink],
            "decision_boundary": None if self.boundary is None else self.boundary.to_dict(),
        }  # fmt: skip

    def plot(self, ax: Any = None, image: tuple[int, ...] | None = None) -> Any:
        """Distances to the walls and the map's weights: as pictures for images, as bars for tables. Returns the axes (an array).

        Arguments:
            ax: Three Matplotlib axes; new ones by default.
            image: Rows and columns, or 3 and these, of a flat input that is an image (784 and 3072 numbers are known).
        """
        from relukit.geometry._draw_explain import draw

        return draw(self, ax, image)

    def __repr__(self) -> str:
        wall = (
            f"nearest wall {self.walls[0].distance:.3g} ({self.walls[0].node}[{self.walls[0].unit}])"
            if self.walls
            else "no wall"
        )
        edge = (
            "no decision boundary in the cell"
            if self.boundary is None
            else f"decision {self.boundary.other} at {self.boundary.distance:.3g}"
        )
        return f"Explanation(decision {self.decision}, {wall}, {edge})"


def explain(network: Any, x: Any, domain: Box | None = None, *, walls: int = _WALLS) -> Explanation:
    """The affine map and the cell of one input, with the distances to its walls and to the nearest decision boundary.

    Works in any number of inputs: walls are found nearest first, each by one least-distance program, which also says
    whether the unit's hyperplane touches the cell at all (Solving least squares problems, Lawson and Hanson, 1974, chapter 23). Float64;
    distances are accurate to about 1e-9 relative to the input's size.

    Arguments:
        network: Piecewise linear; anything that `load` takes.
        x: One input, shape `(n,)` or the network's own.
        domain: A box whose sides count as walls too.
        walls: Most walls to return.

    Raises:
        UnsupportedOperation: An activation is smooth, or the network is too large for one matrix of all its units.
        ShapeMismatch, InvalidInput: x does not fit the network, is not finite, or lies outside the domain.

    Example:
        >>> relukit.explain("net.npz", [0.1, 0.2])
    """
    network = load(network)
    network.require_piecewise_linear("the cell of an input")
    rows, _ = network.rows(x)
    if len(rows) != 1:
        raise InvalidInput(f"explain takes one input, got {len(rows)}")
    point = np.array(rows[0], float)
    if not np.all(np.isfinite(point)):
        raise InvalidInput("the input must be finite")
    if walls < 1:
        raise InvalidInput(f"walls must be at least 1, got {walls}")
    if domain is not None and not bool(domain.contains(point)):
        raise InvalidInput("the input lies outside the given box")
    A, c, pattern, sides = _linearize(network, point)
    if domain is not None:
        sides += _box_sides(domain, point)
    value = A @ point + c
    decision = int(network.decide(point))
    G, slack, names = _stack(sides, point.size)
    found, more = _walls(point, G, slack, names, walls)
    return Explanation(
        point, value, decision, A, c, pattern, found, more, [(n, u) for (n, u, _), s in zip(names, slack) if s <= 0],
        _boundary(point, A, value, decision, G, slack), tuple(network.input_shape),
    )  # fmt: skip


def _linearize(network: Network, x: Array) -> tuple[Array, Array, dict[str, Any], list[Any]]:
    """The map at x, each activation's pieces, and for each the half-spaces its units keep: (name, unit, knot, row, slack)."""
    n = network.inputs
    forms: dict[int, Array] = {0: np.eye(n, n + 1)}
    last = {i: max(readers, default=len(network)) for i, readers in enumerate(network.consumers)}
    values = network.values(x[None])
    pattern, sides = {}, []
    for i, node in enumerate(network.nodes[1:], start=1):
        if node.size * (n + 1) > _ENTRIES:
            raise UnsupportedOperation(
                f"node '{node.name}' has {node.size:,} units over {n:,} inputs: more than {_ENTRIES:,} numbers; take a smaller network"
            )
        if isinstance(node.op, Affine):
            form: Any = sum(m.apply(np.ascontiguousarray(forms[j].T)).T for m, j in zip(node.op.maps, node.inputs))
            form[:, n] += node.op.bias
        else:
            assert isinstance(node.op, PiecewiseLinear)
            z, row = values[node.inputs[0]][0], forms[node.inputs[0]]
            piece = node.op.piece(z)
            if len(node.op.knots):
                pattern[node.name] = piece
                sides += _switches(node, piece, z, row)
            slope = node.op.derivative(z)
            form = slope[:, None] * row
            form[:, n] += node.op(z) - slope * z
        forms = {j: f for j, f in forms.items() if last[j] > i} | {i: form}
    out = forms[len(network) - 1]
    return out[:, :n], out[:, n], pattern, sides


def _switches(node: Any, piece: Array, z: Array, row: Array) -> list[Any]:
    """Half-spaces `g . y <= h` that keep each unit on its piece: one per knot next to it."""
    knots = np.broadcast_to(node.op.knots.reshape(len(node.op.knots), -1), (len(node.op.knots), len(z)))
    n, found = row.shape[1] - 1, []
    for u in np.flatnonzero(np.any(row[:, :n] != 0, axis=1)):
        if piece[u] > 0:  # above the knot on its left
            knot = knots[piece[u] - 1, u]
            found.append((node.name, int(u), float(knot), -row[u, :n], z[u] - knot))
        if piece[u] < len(knots):
            knot = knots[piece[u], u]
            found.append((node.name, int(u), float(knot), row[u, :n], knot - z[u]))
    return found


def _box_sides(domain: Box, x: Array) -> list[Any]:
    eye = np.eye(len(x))
    low = [("box", k, float(domain.lower[k]), -eye[k], x[k] - domain.lower[k]) for k in range(len(x))]
    return low + [("box", k, float(domain.upper[k]), eye[k], domain.upper[k] - x[k]) for k in range(len(x))]


def _stack(sides: list[Any], n: int) -> tuple[Array, Array, list[tuple[str, int, float]]]:
    """Rows of length one, the slack of x in each, and whose they are; nearest first."""
    if not sides:
        return np.zeros((0, n)), np.zeros(0), []
    G, slack = np.array([s[3] for s in sides]), np.array([s[4] for s in sides], float)
    size = np.linalg.norm(G, axis=1)
    G, slack = G / size[:, None], np.maximum(slack / size, 0.0)
    order = np.argsort(slack, kind="stable")
    return G[order], slack[order], [sides[i][:3] for i in order]


def nearest(G: Array, slack: Array, g: Array, h: float) -> Array | None:
    """The shortest step v with `G v <= slack` and `g . v >= h` (h >= 0), or None where there is none.

    The foot of the perpendicular if it keeps all half-spaces; otherwise Lawson and Hanson's least-distance program by non-negative least
    squares, on the half-spaces that steps of that length can meet, more of them where the step breaks others.
    """
    size = float(g @ g)
    if size == 0.0:
        return None
    foot = g * (h / size)
    broken = G @ foot > slack + 1e-12 * (1 + np.abs(slack))
    if not broken.any():
        return foot
    from scipy.optimize import nnls

    used = broken.copy()
    scale = max(float(np.linalg.norm(foot)), 1e-300)
    while True:
        E = np.vstack([np.c_[-G[used], -slack[used] / scale], np.append(g, h / scale)[None]]).T
        f = np.zeros(len(E))
        f[-1] = 1.0
        u, _ = nnls(E, f, maxiter=50 * E.shape[1] + 1000)
        r = E @ u - f
        if -r[-1] < 1e-11:
            return None
        v = -r[:-1] / r[-1] * scale
        broken = (G @ v > slack + 1e-9 * scale * (1 + np.abs(slack) / scale)) & ~used
        if not broken.any():
            return v
        used |= broken


def _walls(x: Array, G: Array, slack: Array, names: Any, limit: int) -> tuple[list[Wall], int]:
    """Sides of the cell in order of distance, and how many hyperplanes were left out."""
    same = _groups(G, slack)
    found: list[Wall] = []
    heads = [group[0] for group in same]
    looked = 0
    for group in same:
        if len(found) >= limit and slack[group[0]] >= max(w.distance for w in found):
            break
        if len(found) >= 2 * limit:
            break
        looked += 1
        others = np.ones(len(G), bool)
        others[group] = False
        v = nearest(G[others], slack[others], G[group[0]], float(slack[group[0]]))
        if v is None or np.any(G[others] @ v > slack[others] + 1e-7 * (1 + slack[others])):
            continue
        node, unit, knot = names[group[0]]
        found.append(Wall(
            node, unit, float(np.linalg.norm(v)), float(slack[group[0]]), x + v, knot, tuple((names[i][0], names[i][1]) for i in group[1:])
        ))  # fmt: skip
    found.sort(key=lambda w: w.distance)
    return found[:limit], len(heads) - looked


def _groups(G: Array, slack: Array) -> list[list[int]]:
    """Half-spaces that are one and the same (to 1e-9), together; in order of slack."""
    groups: list[list[int]] = []
    for i in range(len(G)):
        alike = None
        for group in reversed(groups):
            if slack[i] - slack[group[0]] > 1e-9 * (1 + slack[i]):
                break
            if np.max(np.abs(G[i] - G[group[0]])) < 1e-9:
                alike = group
                break
        if alike is None:
            groups.append([i])
        else:
            alike.append(i)
    return groups


def _boundary(x: Array, A: Array, value: Array, decision: int, G: Array, slack: Array) -> Boundary | None:
    if len(value) == 1:
        sign = -1.0 if decision else 1.0
        pairs = [(1 - decision, sign * A[0], max(-sign * float(value[0]), 0.0))]
    else:
        pairs = [
            (j, A[j] - A[decision], max(float(value[decision] - value[j]), 0.0))
            for j in range(len(value))
            if j != decision
        ]
    size = lambda pair: pair[2] / max(float(np.linalg.norm(pair[1])), 1e-300)
    best: Boundary | None = None
    for other, g, gap in sorted(pairs, key=size):
        if best is not None and size((other, g, gap)) >= best.distance:
            break
        length = float(np.linalg.norm(g))
        if length == 0.0:
            continue
        v = nearest(G, slack, g / length, gap / length)
        if v is not None and (best is None or np.linalg.norm(v) < best.distance):
            best = Boundary(decision, other, float(np.linalg.norm(v)), x + v)
    return best
