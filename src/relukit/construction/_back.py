"""The way back: a network as a table, a max-min form or a triangulation, exactly."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.construction._lattice import terms
from relukit.construction._maxima import MaxMin
from relukit.construction._meshes import Triangulation
from relukit.construction._pieces import Corner, Piece, exact_pieces
from relukit.construction._table import Table
from relukit.network import Affine, Network
from relukit.network.affine import Dense, Gather, Identity
from relukit.network.rewrite import Builder
from relukit.sets import Box

FORMS = ("table", "breakpoints", "max-min", "triangulation")


@dataclass(frozen=True, eq=False)
class Unbuilt:
    """A network's function on a box in another form.

    Arguments:
        form: A `Table`, an array of breakpoints, a `MaxMin` or a `Triangulation`, in float64.
        exact: Whether every number of the form is a float64, so that nothing was rounded.
        fractions: The numbers before rounding: knots and values, or pieces, as `Fraction`s.
        pieces: Number of linear pieces on the box.
    """

    form: Any
    exact: bool
    fractions: Any
    pieces: int

    def __repr__(self) -> str:
        return f"Unbuilt({self.form!r}, {'exact' if self.exact else 'rounded to float64'})"


def unbuild(network: Network, box: Box | None = None, form: str = "", output: int = 0, limit: int = 50_000) -> Unbuilt:
    """A network's function on a box as a table, breakpoints, a max-min form or a triangulation.

    The pieces are found in rational arithmetic, so the form is the same function exactly wherever its numbers are floats
    (`exact`); otherwise each number is the nearest float, and `fractions` holds the truth.

    Arguments:
        network: Piecewise linear, 1 to 3 inputs in practice.
        box: With interior; by default the network's own.
        form: `table` or `breakpoints` (one input), `max-min`, `triangulation`; by default `table` for one input, else `triangulation`.
        output: Which output.
        limit: Pieces after which it gives up.

    Raises:
        InvalidInput: Unknown form, no box, a box without interior, too many pieces, or a table of more than one input.

    Example:
        >>> found = unbuild(build(Table([0, 1, 3], [0, 2, 0])).network, Box([0.0], [3.0]))
        >>> found.form.x, found.exact
        (array([0., 1., 3.]), True)
    """
    box = network.box if box is None else box
    if box is None:
        raise InvalidInput("the network brings no box: give one, Box(lower, upper)")
    form = form or ("table" if network.inputs == 1 else "triangulation")
    if form not in FORMS:
        raise InvalidInput(f"form is one of {', '.join(FORMS)}; got '{form}'")
    if form in ("table", "breakpoints") and network.inputs != 1:
        raise InvalidInput(f"a table has one input, the network takes {network.inputs}: ask for max-min or triangulation")  # fmt: skip
    if not 0 <= output < network.outputs:
        raise InvalidInput(f"output {output} of a network with {network.outputs} outputs")
    pieces = list(exact_pieces(network, box, limit))
    rows = [p.rows[output] for p in pieces]
    if form in ("table", "breakpoints"):
        return _table(pieces, rows, form)
    return _max_min(pieces, rows) if form == "max-min" else _triangulation(pieces, rows)


def _is_float(values: Iterable[Fraction]) -> bool:
    return all(Fraction(float(v)) == v for v in values)


def _value(row: tuple[Fraction, ...], point: tuple[Fraction, ...]) -> Fraction:
    return sum((a * b for a, b in zip(row, point)), row[-1])


def _table(pieces: list[Piece], rows: list[tuple[Fraction, ...]], form: str) -> Unbuilt:
    order = sorted((min(p.points)[0], max(p.points)[0], row) for p, row in zip(pieces, rows))
    x, y, last = [order[0][0]], [_value(order[0][2], (order[0][0],))], order[0][2]
    for low, _, row in order[1:]:
        if row != last:
            x.append(low)
            y.append(_value(row, (low,)))
            last = row
    x.append(order[-1][1])
    y.append(_value(order[-1][2], (order[-1][1],)))
    knots, values = np.array([float(v) for v in x]), np.array([float(v) for v in y])
    if form == "breakpoints":
        return Unbuilt(knots[1:-1], _is_float(x), x[1:-1], len(order))
    if np.any(np.diff(knots) <= 0):
        i = int(np.flatnonzero(np.diff(knots) <= 0)[0])
        raise InvalidInput(f"two breakpoints round to the same float, {knots[i]}: ask for form='breakpoints' and use `fractions`")  # fmt: skip
    return Unbuilt(Table(knots, values), _is_float([*x, *y]), (x, y), len(x) - 1)


def _max_min(pieces: list[Piece], rows: list[tuple[Fraction, ...]]) -> Unbuilt:
    forms = list(dict.fromkeys(rows))
    number = {row: j for j, row in enumerate(forms)}
    groups = terms([list(p.corners) for p in pieces], forms, [number[row] for row in rows])
    used = sorted({j for g in groups for j in g})
    place = {j: k for k, j in enumerate(used)}
    kept = [forms[j] for j in used]
    A = np.array([[float(v) for v in row[:-1]] for row in kept])
    found = MaxMin(A, np.array([float(row[-1]) for row in kept]), tuple(tuple(place[j] for j in g) for g in groups))
    return Unbuilt(found, _is_float(v for row in kept for v in row), kept, len(forms))


def _triangulation(pieces: list[Piece], rows: list[tuple[Fraction, ...]]) -> Unbuilt:
    places = sorted({c.point for p in pieces for c in p.corners})
    number = {p: k for k, p in enumerate(places)}
    values: dict[int, Fraction] = {}
    simplices = []
    for p, row in zip(pieces, rows):
        for c in p.corners:
            values[number[c.point]] = _value(row, c.point)
        simplices += pulled(list(p.corners), number)
    heights = [values[k] for k in range(len(places))]
    points = np.array([[float(v) for v in p] for p in places])
    found = Triangulation(points, np.array(simplices), np.array([float(v) for v in heights]))
    exact = _is_float(v for p in places for v in p) and _is_float(heights)
    return Unbuilt(found, exact, (places, heights), len(pieces))


def pulled(corners: list[Corner], number: dict[tuple[Fraction, ...], int]) -> list[list[int]]:
    """A convex cell cut into simplices, each from its lowest-numbered vertex; cells that share a face cut it alike."""
    dimension = len(corners[0].at) - 1
    names = {c: number[c.point] for c in corners}

    def cut(cell: list[Corner], dimension: int) -> list[list[int]]:
        if dimension == 0 or len(cell) == dimension + 1:
            return [[names[c] for c in cell]]
        apex = min(cell, key=lambda c: names[c])
        sides = {frozenset(c for c in cell if f in c.facets) for f in {f for c in cell for f in c.facets}}
        sides = {s for s in sides if dimension <= len(s) < len(cell)}
        sides = {s for s in sides if apex not in s and not any(s < other for other in sides)}
        return [[names[apex], *rest] for side in sides for rest in cut(list(side), dimension - 1)]

    return cut(corners, dimension)


def difference(first: Network, second: Network) -> Network:
    """The network `first - second`, both reading one input; exact, since it only adds."""
    builder = Builder(first.input_shape)
    ends = []
    for network in (first, second):
        where = {0: 0}
        for i, node in enumerate(network.nodes[1:], start=1):
            inputs = [where[j] for j in node.inputs]
            if isinstance(node.op, Affine):
                where[i] = builder.combine(inputs, node.op.maps, node.op.bias, node.shape, f"{node.name}.{len(ends)}")
            else:
                where[i] = builder.activation(inputs[0], node.op, f"{node.name}.{len(ends)}")
        ends.append(where[len(network.nodes) - 1])
    size = builder.nodes[ends[0]].size
    last = builder.combine(ends, [Identity(size), Dense(-np.eye(size))], np.zeros(size), name="difference")
    return Network(tuple(builder.nodes[: last + 1]))


def largest_difference(first: Network, second: Network, box: Box, limit: int = 200_000) -> Fraction:
    """max |first - second| over a box, exactly: the difference is piecewise linear, so it lies at a corner of a cell."""
    worst = Fraction(0)
    for piece in exact_pieces(difference(first, second), box, limit):
        for point in piece.points:
            worst = max(worst, *(abs(_value(row, point)) for row in piece.rows))
    return worst


def same_function(first: Network, second: Network, box: Box, limit: int = 200_000) -> bool:
    """Whether two networks are the same function on a box: their difference is 0 on every cell, in rational arithmetic."""
    return largest_difference(first, second, box, limit) == 0


def round_trip(
    network: Network, found: Unbuilt, box: Box | None = None, output: int = 0, limit: int = 200_000
) -> Fraction:
    """How far the network built from a form is from the one that the form came from, exactly: 0 where they are the same function.

    A table is built as `build` does by itself, and as hinges, whose slopes need no reciprocals: the nearer one counts.

    Arguments:
        found: What `unbuild(network, box, form, output)` gave.

    Raises:
        InvalidInput: Breakpoints alone are no function; no box.
    """
    from relukit.construction._build import build

    box = network.box if box is None else box
    if box is None:
        raise InvalidInput("the network brings no box: give one, Box(lower, upper)")
    if isinstance(found.form, np.ndarray):
        raise InvalidInput("breakpoints alone are no function: take a table, which holds their values too")
    if network.outputs > 1:
        builder = Builder.after(network)
        network = builder.build(builder.affine(len(network) - 1, Gather(np.array([output]), network.outputs)))
    forms = ("", "hinges") if isinstance(found.form, Table) else ("",)
    return min(largest_difference(network, build(found.form, form=form, dtype=np.float64).network, box, limit) for form in forms)  # fmt: skip
