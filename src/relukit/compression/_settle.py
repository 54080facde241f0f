"""Branch and bound for units that sampling saw on one side of each kink only and linear bounds could not settle."""

import time
from dataclasses import dataclass, replace

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds, compact, linear
from relukit.compression._forms import skip_form
from relukit.compression._gates import error_bound, give_up
from relukit.compression._witness import Seen
from relukit.network import Affine, Network, Origin
from relukit.piecewise import PiecewiseLinear
from relukit.sets import AbstractSet, Box, Polytope

_LEAST = 0.02  # seconds that a unit gets at least
_ONCE = 1.0  # seconds of search from which on loops are compiled beforehand, if this was never done
_SIMPLE = 600  # gates up to which a question is made simpler: that takes products of all gates with each other
_SURE = 1e-12  # of the layer's largest value: nearer to a kink, rounding decides the side
_SHARES, _FEWER = (
    (0.1, 0.01),
    0.7,
)  # of the margin: what gates may cost together; and of the gates: how many may be left for that to help
_FIRST = 0.1  # of a unit's time, for the question as it is; then it is made simpler
_PARTS = (0.4, 3.0)  # of a unit's even share of the time, in a first and a second round


def settle(
    network: Network, input_set: AbstractSet, bounds: Bounds, seen: Seen, timeout: float, seed: int = 0
) -> tuple[Bounds, int]:
    """Tighter bounds, and how many units a search saw crossing their kink that no known point showed.

    A ReLU whose samples are all on one side is asked whether the other side can be reached. Searches go from the first
    layer to the last, and after each layer that gained something the linear bounds behind it are made again. The
    question is asked over the box around the set, which proves it for the set; where a point of the box answers it otherwise, it is asked
    again over a polytope itself.

    Arguments:
        bounds: Linear bounds over the set.
        seen: What points of the set showed.
        timeout: Seconds of wall time for all units together.
    """
    if timeout > _ONCE and any(len(_one_sided(network, i, seen, bounds)) for i in network.activations):
        from relukit.search import compile_loops, is_compiled

        if not is_compiled():
            compile_loops()
    brief = timeout < _LEAST * 2  # no time for more than one question
    stop, crossed, left, box = time.perf_counter() + timeout, set(), 0, input_set.box()
    beyond: set[tuple[int, int]] = set()  # a point of the box shows these crossing, none of the set was found
    for part in _PARTS:  # a little for each at first, so that one hard unit does not take the others' time
        if part == _PARTS[-1] and not (left and stop - time.perf_counter() > timeout / 2):
            break
        left = 0
        waiting = {i: _one_sided(network, i, seen, bounds) for i in network.activations}
        done = crossed | beyond
        waiting = {i: np.array([e for e in w if (i, int(e)) not in done], np.int64) for i, w in waiting.items()}
        for i in network.activations:
            entries = waiting[i][bounds.undecided(i)[waiting[i]]]
            if not len(entries):
                continue
            source, found = network.nodes[i].inputs[0], 0
            prefix = replace(network, nodes=network.nodes[: source + 1], head="", box=None, origin=Origin("built"))
            lower, upper = list(bounds.lower), list(bounds.upper)
            lower[source], upper[source] = lower[source].copy(), upper[source].copy()
            ahead = sum(len(w) for j, w in waiting.items() if j > i)
            asking = [(k, q) for k, e in enumerate(entries.tolist()) for q in _questions(network, i, e, seen, bounds)]
            for k, question in asking:
                unit = i, question.entry
                if unit in crossed | beyond:  # at another of its kinks
                    continue
                remaining = stop - time.perf_counter()
                share = min(max(_LEAST, remaining / (len(entries) - k + ahead) * part), remaining)
                asked, status = (prefix, box, question, input_set), "open"
                if share > 0:
                    status = _decided(*asked, share if brief else _FIRST * share, seed)
                if share > 0 and status == "unknown" and not brief:
                    nearest = seen.low[i] if question.side > 0 else seen.high[i]
                    margin = float(question.beyond(nearest[None])[0])
                    status = _nearly(*asked, margin, (0.5 if part < 1 else 0.2) * share, seed)
                if share > 0 and status in ("unknown", "open") and part < 1 and not brief:
                    status = _decided(*asked, (0.5 - _FIRST) * share, seed)
                if share > 0 and ((part > 1 and status not in ("sat", "unsat", "beyond")) or _cut(status, input_set)):
                    status = _optimized(*asked, 0.7 * share, seed)
                if status == "sat":
                    crossed.add(unit)
                elif status == "beyond":
                    beyond.add(unit)
                elif status != "unsat":
                    left += 1
                else:
                    found += 1
                    question.answered(lower[source], upper[source])
            if found:
                bounds = linear(network, input_set, Bounds(network, tuple(lower), tuple(upper)))
    return bounds, len(crossed)


def hoped(network: Network, bounds: Bounds, seen: Seen) -> Bounds:
    """Bounds as they would be if the search proved every unit that points show on one side only. Nothing but a forecast; the same where there is none."""
    if not any(len(_one_sided(network, i, seen, bounds)) for i in network.activations):
        return bounds
    lower, upper = list(bounds.lower), list(bounds.upper)
    for i in network.activations:
        source, op = network.nodes[i].inputs[0], network.nodes[i].op
        entries = _one_sided(network, i, seen, bounds)
        if not len(entries):
            continue
        lower[source], upper[source] = lower[source].copy(), upper[source].copy()
        if getattr(op, "is_relu", False):  # as below, for many units at once
            on = seen.low[i][entries] > 0
            lower[source][entries[on]], upper[source][entries[~on]] = 0.0, np.nextafter(0.0, -1.0)
        else:
            for entry in entries.tolist():
                for question in _questions(network, i, entry, seen, bounds):
                    question.answered(lower[source], upper[source])
        assert isinstance(op, PiecewiseLinear)
        lower[i], upper[i] = op.bounds(lower[source], upper[source])
    return Bounds(network, tuple(lower), tuple(upper))


@dataclass(frozen=True)
class Question:
    """Whether an entry can be on the other side of a kink: `side * (z - knot) <= 0`.

    Arguments:
        flat: Whether the piece on this side is flat.
    """

    entry: int
    side: float
    knot: float
    flat: bool

    def row(self, size: int) -> tuple[Array, Array]:
        """Coefficients `(1, size)` and bias `(1,)` of `side * (z - knot)`."""
        row = np.zeros((1, size))
        row[0, self.entry] = self.side
        return row, np.array([-self.side * self.knot])

    def beyond(self, values: Array) -> Array:
        """How far values `(count, size)` of all entries are on this side."""
        return self.side * (values[:, self.entry] - self.knot)

    def answered(self, lower: Array, upper: Array) -> None:
        """The end that a no gives, in place; which piece the kink itself belongs to plays no role, so that a flat piece ends short of it."""
        end = float(np.nextafter(self.knot, self.side * np.inf)) if self.flat or self.side < 0 else self.knot
        if self.side > 0:
            lower[self.entry] = max(lower[self.entry], end)
        else:
            upper[self.entry] = min(upper[self.entry], end)


def _one_sided(network: Network, index: int, seen: Seen, bounds: Bounds) -> np.ndarray:
    """Undecided entries of an activation node whose points cross none of their kinks."""
    node = network.nodes[index]
    source, op = network.nodes[node.inputs[0]], node.op
    if not (isinstance(op, PiecewiseLinear) and isinstance(source.op, Affine)):
        return np.zeros(0, np.int64)
    low, high = seen.low[index], seen.high[index]
    apart = np.all([(low > knot) | (high < knot) for knot in op.knots], axis=0)
    return np.flatnonzero(bounds.undecided(index) & apart)


def _questions(network: Network, index: int, entry: int, seen: Seen, bounds: Bounds) -> list[Question]:
    """One question for each kink inside the bounds of an entry; all have to be answered by no."""
    op = network.nodes[index].op
    assert isinstance(op, PiecewiseLinear)
    (lower, upper), found = bounds.before(index), []
    own = lambda value: float(value[entry] if np.ndim(value) else value)
    for k, knots in enumerate(op.knots):
        knot = own(knots)
        if lower[entry] < knot < upper[entry]:
            side = 1.0 if seen.low[index][entry] > knot else -1.0
            found.append(Question(entry, side, knot, own(op.slopes[k + 1 if side > 0 else k]) == 0))
    return found


def _cut(status: str, input_set: AbstractSet) -> bool:
    """Whether the box around a polytope did not settle what the polytope may."""
    return status == "beyond" and isinstance(input_set, Polytope)


def _decided(
    prefix: Network,
    box: Box,
    question: Question,
    input_set: AbstractSet,
    timeout: float,
    seed: int,
    instead: tuple[Network, float] | None = None,
) -> str:
    """`unsat` where `side * (z - knot) > 0` over the whole box is proven, `sat` where a point of the set shows the other side, `beyond` where one
    of the box around it does, another word where time ran out.

    Arguments:
        instead: A network to ask, whose one output is within a number of `side * (z - knot)`.
    """
    from relukit.search import decide  # compiled code: only where something is left to ask

    row, bias = question.row(prefix.outputs)

    def confirm(points: Array) -> Array | None:
        across = points[question.beyond(prefix(points)) <= 0]
        return across[0] if len(across) else None

    if instead is not None:
        found = decide(instead[0], box, np.ones((1, 1)), np.array([-instead[1]]), confirm, timeout, seed)
    else:
        found = decide(prefix, box, row, bias, confirm, timeout, seed)
    return found.status if found.point is None else _witnessed(prefix, question, input_set, found.point)


def _nearly(
    prefix: Network, box: Box, question: Question, input_set: AbstractSet, margin: float, timeout: float, seed: int
) -> str:
    """The same for networks in which gates that matter little beside the margin that points show are lines: training with L1 leaves many such.

    A hundred gates become twenty, and the search that stayed open takes a fraction of a second.
    """
    if prefix.units > _SIMPLE or prefix.units * prefix.inputs > _SIMPLE**2:
        return "open"
    asked = prefix.append(*question.row(prefix.outputs))
    whole = compact(asked, box, linear(asked, box))
    for share in _SHARES:
        small, _ = give_up(whole, share * margin)
        error = error_bound(small)
        if not error < margin or small.gates > _FEWER * whole.gates:
            break
        status = _decided(
            prefix,
            box,
            question,
            input_set,
            timeout / len(_SHARES),
            seed,
            (skip_form(small, np.ones(box.size, bool), asked), error),
        )
        if status in ("sat", "unsat", "beyond"):
            return status
    return "open"


def _optimized(prefix: Network, box: Box, question: Question, input_set: AbstractSet, timeout: float, seed: int) -> str:
    """The same by the least value: where a unit stays just short of its kink, linear programs need far fewer nodes than slopes do."""
    from relukit.optimization import optimize

    (row,), (bias,) = question.row(prefix.outputs)
    over = input_set if isinstance(input_set, Polytope) else box
    best = optimize(prefix, minimize=row, box=over, timeout=timeout, seed=seed)
    if best.bound > -bias:
        return "unsat"
    if not len(best.witness) or question.beyond(prefix(best.witness[None]))[0] > 0:
        return "unknown"
    return _witnessed(prefix, question, input_set, best.witness)


def _witnessed(prefix: Network, question: Question, input_set: AbstractSet, point: Array) -> str:
    """`sat` for a point of the set that is across by more than rounding."""
    values = prefix(point[None])
    across = question.beyond(values)[0] < -_SURE * (abs(question.knot) + float(np.abs(values).max()))
    return "sat" if across and bool(input_set.contains(point)) else "beyond"
