"""Questions people ask about networks, put as proofs: robustness, monotonicity, range, equivalence, Lipschitz constant, safety, reach."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import compact, linear
from relukit.network import Network, load
from relukit.network._network import Affine, Node, Origin
from relukit.network.affine import Dense
from relukit.sets import AbstractSet, Ball, Box, require_set
from relukit.verification._joint import joined
from relukit.verification._verdict import Falsified, Undecided, Verdict, Verified
from relukit.verification.verify import verify


@dataclass(frozen=True, eq=False)
class Interval:
    """A quantity between a proven bound and one that is reached or proven.

    Arguments:
        lower, upper: The quantity lies between them.
        proven: Whether they agree up to the tolerance that was asked for.
        at: A point where the inner end is reached, where there is one.
    """

    lower: float
    upper: float
    proven: bool
    at: Array | None = None
    boxes: int = 0
    cpu_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        at = None if self.at is None else self.at.tolist()
        return {
            "lower": self.lower,
            "upper": self.upper,
            "proven": self.proven,
            "at": at,
            "boxes": self.boxes,
            "cpu_seconds": self.cpu_seconds,
        }


def robust(
    network: Any,
    x: Any,
    radius: float,
    norm: float = np.inf,
    label: int | None = None,
    within: Box | None = None,
    timeout: float = 60.0,
) -> Verdict:
    """Whether every point of a ball around x is decided like x (or as `label`).

    l-inf and l1 balls are exact; an l2 ball is bounded exactly at the root and then replaced by a slightly larger set of
    polygons (16 pieces on each side per input), so that a property that barely holds can stay undecided.

    Arguments:
        x: One input.
        norm: 1, 2 or `inf`.
        within: A box that inputs stay in (pixels in [0, 1]).

    Raises:
        InvalidInput: The label or the norm does not exist.
    """
    original = load(network)
    found = _logits(original)
    point = found.rows(x)[0][0]
    label = int(found.decide(point)) if label is None else int(label)
    classes = max(found.outputs, 2)
    if not 0 <= label < classes:
        raise InvalidInput(f"label {label} does not exist: the network decides between {classes} classes")
    ball = Ball(point, radius, norm, within)
    if found.outputs == 1:
        C = np.array([[1.0 if label == 1 else -1.0]])
    else:
        others = [j for j in range(found.outputs) if j != label]
        C = np.eye(found.outputs)[[label] * len(others)] - np.eye(found.outputs)[others]
    started = time.process_time()
    if int(found.decide(point)) != label:
        return Falsified(point, np.asarray(original.replay(point), float), 0, "center", time.process_time() - started)
    rows = found.append(C)
    left = np.flatnonzero(linear(rows, ball).output[0] <= 0)
    if not len(left):
        return Verified(1, "linear bounds", time.process_time() - started)
    variables, y = found.variables()
    around = variables.within(ball)
    if within is not None:
        around = around & variables.within(within)
    worst: Verdict = Verified(1, "linear bounds", 0.0)
    boxes, stop = 1, time.perf_counter() + timeout
    for r in left:
        verdict = verify(found, around, y @ C[r] > 0, timeout=max(stop - time.perf_counter(), 0.01))
        boxes += verdict.boxes
        if isinstance(verdict, Falsified):
            return Falsified(
                verdict.witness,
                np.asarray(original.replay(verdict.witness), float),
                boxes,
                verdict.engine,
                time.process_time() - started,
            )
        if isinstance(verdict, Undecided) or isinstance(worst, Verified):
            worst = verdict
    spent = time.process_time() - started
    if isinstance(worst, Undecided):
        return Undecided(worst.reason, worst.next_step, boxes, worst.engine, spent)
    return Verified(boxes, worst.engine, spent)


def _logits(network: Network) -> Network:
    """The network without its last softmax or sigmoid, which keep decisions; its replay is moved so that a sigmoid's 1/2 is 0."""
    run = network.origin.run
    if network.head == "sigmoid" and run is not None:
        return network.with_(head="", origin=Origin("built", None, lambda rows: np.asarray(run(rows), float) - 0.5))
    return network.with_(head="")


def monotone(
    network: Any,
    box: Box,
    inputs: int | Sequence[int],
    output: int = 0,
    increasing: bool = True,
    tolerance: float = 1e-9,
    timeout: float = 60.0,
) -> Verdict:
    """Whether an output never falls (or never rises) when some inputs rise and the others stay.

    Slopes of all pieces are bounded over the box, which is halved where they are undecided; a point with a slope of the
    wrong sign gives two inputs that the original network orders wrongly.

    Arguments:
        inputs: One input, or several that rise together or alone.
        tolerance: A slope down to minus this counts as 0: `y(x + s) >= y(x) - tolerance * sum(s)` is what is proven.
    """
    found = load(network)
    found.require_piecewise_linear("monotone")
    chosen = np.atleast_1d(np.asarray(inputs, int))
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= found.inputs or not 0 <= output < found.outputs:
        raise InvalidInput(
            f"inputs {chosen.tolist()} or output {output} do not exist in a network {found.inputs} -> {found.outputs}"
        )
    started, stop = time.process_time(), time.perf_counter() + timeout
    row = (1.0 if increasing else -1.0) * np.eye(found.outputs)[[output]]
    waiting, done = [box], 0
    while waiting:
        part = waiting.pop()
        done += 1
        points = np.concatenate([part.sample(4, done), part.center()[None]])
        slopes_here = found.gradient(points, row[0])[:, chosen]
        if slopes_here.min() < -tolerance:
            p, k = np.unravel_index(int(np.argmin(slopes_here)), slopes_here.shape)
            pair = _falling(found, points[p], int(chosen[k]), row[0], box, output)
            if pair is not None:
                return Falsified(*pair, done, "slopes", time.process_time() - started)
        if slopes(found, part, row)[0][0, chosen].min() >= -tolerance:
            continue
        if time.perf_counter() > stop:
            return Undecided(
                f"time is up with {len(waiting) + 1} boxes open", "give it more time (timeout=)", done, "slopes", time.process_time() - started
            )  # fmt: skip
        waiting.extend(_halves(part))
    return Verified(done, "slopes", time.process_time() - started)


def _falling(network: Network, x: Array, i: int, row: Array, box: Box, output: int) -> tuple[Array, Array] | None:
    """Two inputs that differ in entry i alone and that the original orders wrongly, with their outputs; None if rounding hides them."""
    for share in (1e-4, 1e-3, 1e-2, 0.1):
        step = share * (box.upper[i] - box.lower[i])
        pair = np.stack([x, x])
        pair[0, i], pair[1, i] = max(x[i] - step, box.lower[i]), min(x[i] + step, box.upper[i])
        pair = pair.astype(network.dtype).astype(np.float64)
        if not np.all(box.contains(pair)):
            continue
        out = np.asarray(network.replay(pair), np.float64)
        if row @ out[1] < row @ out[0]:
            return pair.ravel(), out[:, output]
    return None


def output_range(
    network: Any, input_set: AbstractSet, output: int = 0, tolerance: float = 1e-4, timeout: float = 60.0
) -> tuple[Interval, Interval]:
    """The smallest and the largest value of an output on a set: each between a point's value and a proof.

    Proofs are asked for by bisection between the best point found and the linear bound; both ends hold at any time.

    Arguments:
        tolerance: Gap at which an end counts as found, relative to the size of the range.
    """
    found = load(network)
    if not 0 <= output < found.outputs:
        raise InvalidInput(f"output {output} does not exist; the network has {found.outputs}")
    stop = time.perf_counter() + timeout
    low = _extreme(found, input_set, output, -1.0, tolerance, 0.5 * (time.perf_counter() + stop))
    return low, _extreme(found, input_set, output, 1.0, tolerance, stop)


def _extreme(network: Network, where: AbstractSet, output: int, sign: float, tolerance: float, stop: float) -> Interval:
    started = time.process_time()
    row = network.append(sign * np.eye(network.outputs)[[output]])
    limit = float(linear(row, where).output[1][0])
    points = where.project(np.concatenate([where.sample(512, 0), np.atleast_2d(where.center())]))
    points = points[where.contains(points)]
    values = row(points)[:, 0] if len(points) else np.array([-np.inf])
    at = points[int(np.argmax(values))] if len(points) else None
    best = float(values.max())
    best = best if np.isfinite(best) else limit - 1.0
    x, y = network.variables()
    boxes, scale = 0, max(abs(best), abs(limit), 1e-12)
    while limit - best > tolerance * max(min(scale, limit - best + abs(best)), 1e-12) and time.perf_counter() < stop:
        # Most ends lie near the best point: try just above it first, then the middle.
        level = best + (0.1 if boxes == 0 else 0.5) * (limit - best)
        verdict = verify(
            network, x.within(where), y[output] * sign < level, timeout=max(stop - time.perf_counter(), 0.01)
        )
        boxes += max(verdict.boxes, 1)
        if isinstance(verdict, Verified):
            limit = level
        elif isinstance(verdict, Falsified):
            value = float(row(verdict.witness)[0])
            if value <= best:
                break
            best, at = value, verdict.witness
        else:
            break
    proven = limit - best <= tolerance * max(scale, 1e-12)
    ends = (best, limit) if sign > 0 else (-limit, -best)
    return Interval(*ends, proven, at, boxes, time.process_time() - started)


def equivalent(first: Any, second: Any, box: Box, tolerance: float = 1e-6, timeout: float = 60.0) -> Verdict:
    """Whether two networks differ by at most `tolerance` in every output, everywhere in a box."""
    a, b = load(first), load(second)
    if (a.inputs, a.outputs) != (b.inputs, b.outputs):
        raise ShapeMismatch(f"networks {a.inputs} -> {a.outputs} and {b.inputs} -> {b.outputs} cannot be equal")
    pair = joined([a, b], np.concatenate([np.arange(a.inputs)] * 2))
    x, y = pair.variables()
    claim = None
    for j in range(a.outputs):
        near = abs(y[j] - y[a.outputs + j]) <= tolerance
        claim = near if claim is None else claim & near
    return verify(pair, x.within(box), claim, timeout=timeout)


def slopes(network: Any, box: Box, A: Array | None = None) -> tuple[Array, Array]:
    """Bounds of every slope of rows `A y` over a box, shape `(rows, inputs)`: no piece in the box has one outside."""
    low, high, _ = _slopes(load(network), box, A)
    return low, high


_PATTERNS = 9  # with at most so many open gates every pattern is taken by itself


def _slopes(network: Network, box: Box, A: Array | None = None) -> tuple[Array, Array, Array | None]:
    """Bounds of slopes; and where few gates are open the slopes of every pattern `(patterns, rows, inputs)`.

    Otherwise each open gate contributes a factor in [0, 1]: interval sums from the outputs back. Rounded outward.
    """
    network.require_piecewise_linear("slopes")
    A = np.eye(network.outputs) if A is None else np.atleast_2d(np.asarray(A, float))
    small = compact(network, box)
    K = small.gates
    # Folding rounds weights themselves: how far is part of the magnitude of what was multiplied.
    slack = gamma(4 * network.units + network.inputs + 8 * len(network) + 8) * _weight_size(network, A)
    base = A @ small.X
    if K <= _PATTERNS:
        on = (np.arange(1 << K)[:, None] >> np.arange(K)) & 1
        h = np.zeros((1 << K, K, network.inputs))
        for k in range(K):
            h[:, k] = on[:, k, None] * (small.C[k] + np.einsum("j,pji->pi", small.W[k, :k], h[:, :k]))
        S = base + np.einsum("rk,pki->pri", A @ small.H, h)
        return S.min(axis=0) - slack, S.max(axis=0) + slack, S
    low, high = A @ small.H, A @ small.H
    base_low, base_high = base.copy(), base.copy()
    for k in range(K - 1, -1, -1):
        l, h = np.minimum(low[:, k], 0.0), np.maximum(high[:, k], 0.0)  # times the gate's slope in [0, 1]
        row, side = small.W[k, :k], small.C[k]
        low[:, :k] += np.where(row >= 0, l[:, None] * row, h[:, None] * row)
        high[:, :k] += np.where(row >= 0, h[:, None] * row, l[:, None] * row)
        base_low += np.where(side >= 0, l[:, None] * side, h[:, None] * side)
        base_high += np.where(side >= 0, h[:, None] * side, l[:, None] * side)
    return base_low - slack, base_high + slack, None


def _weight_size(network: Network, A: Array) -> Array:
    """|A| times the product of all |W|: what rounding of folded weights is measured by."""
    sizes: dict[int, Array] = {len(network) - 1: np.abs(A)}
    for i in range(len(network) - 1, 0, -1):
        v, node = sizes.pop(i, None), network.nodes[i]
        if v is None:
            continue
        for k, j in enumerate(node.inputs):
            op = node.op
            part = op.maps[k].absolute().adjoint(v) if isinstance(op, Affine) else v * op.lipschitz()
            sizes[j] = sizes[j] + part if j in sizes else part
    return sizes.get(0, np.zeros((len(A), network.inputs)))


def lipschitz(network: Any, box: Box, norm: float = np.inf, tolerance: float = 1e-3, timeout: float = 60.0) -> Interval:
    r"""The smallest L with :math:`\|f(x) - f(x')\|_p \le L \|x - x'\|_p` on a box, p = 1 or inf: between bounds.

    The largest slope met at samples is a lower bound; above, the box is halved where slopes are least decided, best first.
    On a convex box the constant is the largest operator norm of a piece's slopes.

    References:
        Exactly Computing the Local Lipschitz Constant of ReLU Networks, Jordan and Dimakis, 2020.
    """
    import heapq
    import itertools

    if norm not in (1, np.inf):
        raise InvalidInput(f"norm must be 1 or inf, got {norm}")
    require_set(box, "box")
    found = load(network)
    started, stop, count = time.process_time(), time.perf_counter() + timeout, itertools.count()
    axis = -1 if norm == np.inf else -2
    measure = lambda S: float(np.max(np.abs(S).sum(axis=axis)))

    def bound(part: Box) -> float:
        low, high, patterns = _slopes(found, part)
        top = measure(np.maximum(np.abs(low), np.abs(high)))
        if patterns is not None:
            room = measure(np.maximum(high - patterns.max(axis=0), patterns.min(axis=0) - low))
            top = min(top, measure(patterns) + 2 * room)
        return float(np.nextafter(top * (1 + 1e-15 * (found.inputs + found.outputs)), np.inf))

    best, at = 0.0, box.center()

    def sample(part: Box, many: int) -> None:
        nonlocal best, at
        for x in part.sample(many, next(count)):
            S = np.stack([found.gradient(x, row) for row in np.eye(found.outputs)])
            if measure(S) > best:
                best, at = measure(S), x

    sample(box, 64)
    heap = [(-bound(box), next(count), box)]
    done = 1
    while heap and -heap[0][0] > best * (1 + tolerance) and time.perf_counter() < stop:
        top, _, part = heapq.heappop(heap)
        side = int(np.argmax(part.upper - part.lower))
        middle = 0.5 * (part.lower[side] + part.upper[side])
        if not part.lower[side] < middle < part.upper[side]:
            heapq.heappush(heap, (top, next(count), part))
            break
        for a, b in ((part.lower[side], middle), (middle, part.upper[side])):
            lower, upper = part.lower.copy(), part.upper.copy()
            lower[side], upper[side] = a, b
            half = Box(lower, upper)
            done += 1
            value = min(bound(half), -top)
            if value > best:
                sample(half, 2)
                heapq.heappush(heap, (-value, next(count), half))
    limit = max(-heap[0][0], best) if heap else best
    return Interval(best, limit, limit <= best * (1 + tolerance), at, done, time.process_time() - started)


def closed_loop(controller: Any, A: Array, B: Array, c: Array | float = 0.0) -> Network:
    """One step of `x' = A x + B u + c` with `u = controller(x)`, as a network of its own."""
    found = load(controller)
    A, B = np.atleast_2d(np.asarray(A, float)), np.atleast_2d(np.asarray(B, float))
    n = found.inputs
    if A.shape != (n, n) or B.shape != (n, found.outputs):
        raise ShapeMismatch(
            f"A must be {n} x {n} and B {n} x {found.outputs} for a controller {n} -> {found.outputs}, got {A.shape} and {B.shape}"
        )
    end = len(found) - 1
    last = Node(
        Affine((Dense(B), Dense(A)), np.broadcast_to(np.asarray(c, float), (n,)).copy()), (end, 0), (n,), "next state"
    )
    return Network((*found.nodes, last), found.notes, "", np.dtype(np.float64))


def safe_step(step: Any, box: Box, safe: Box, timeout: float = 60.0) -> Verdict:
    """Whether one step of a closed loop maps every state of a box into the safe box.

    Arguments:
        step: A network from state to next state (`closed_loop(controller, A, B)`).
    """
    found = load(step)
    x, y = found.variables()
    return verify(found, x.within(box), y.within(safe), timeout=timeout)


@dataclass(frozen=True, eq=False)
class Reach:
    """Forward sets of a closed loop: `sets[k]` is a list of boxes whose union holds every state after k steps."""

    sets: tuple[tuple[Box, ...], ...]
    cpu_seconds: float

    def hull(self, step: int) -> Box:
        """The smallest box around the states after so many steps."""
        return Box(
            np.min([b.lower for b in self.sets[step]], axis=0), np.max([b.upper for b in self.sets[step]], axis=0)
        )

    def inside(self, safe: Box) -> bool:
        """Whether all sets lie in a box: then the loop is safe for all these steps."""
        return all(
            np.all(b.lower >= safe.lower) and np.all(b.upper <= safe.upper) for boxes in self.sets for b in boxes
        )

    def to_dict(self) -> dict[str, Any]:
        hulls = [self.hull(k) for k in range(len(self.sets))]
        return {
            "steps": len(self.sets) - 1,
            "boxes": [len(s) for s in self.sets],
            "lower": [h.lower.tolist() for h in hulls],
            "upper": [h.upper.tolist() for h in hulls],
        }


def reach(
    step: Any, start: Box, steps: int, boxes: int = 256, on_progress: Callable[[int, int], None] | None = None
) -> Reach:
    """Sets that hold every state of a closed loop after 1, 2, ... steps; rounded outward.

    The start is cut into boxes, and each cell is carried through all steps at once: bounds of the k-th state are taken on
    the k-fold network over the cell itself, so errors do not add up from step to step; each is intersected with the
    one-step bound of the set before.

    Arguments:
        step: A network from state to next state.
        boxes: Cells that the start is cut into.
        on_progress: Called with `(cells done, cells)`.
    """
    found, started = load(step), time.process_time()
    if found.inputs != found.outputs:
        raise ShapeMismatch(f"a step maps states to states; this network maps {found.inputs} to {found.outputs}")
    found.require_piecewise_linear("reach")
    cells = [start]
    while len(cells) * 2 <= boxes:
        cells = [half for c in cells for half in _halves(c)]
    folded = [found]
    from relukit.verification._joint import chained

    for _ in range(1, steps):
        folded.append(chained(folded[-1], found))
    sets: list[list[Box]] = [[] for _ in range(steps + 1)]
    for number, cell in enumerate(cells):
        sets[0].append(cell)
        before = cell
        for k in range(steps):
            low, high = linear(folded[k], cell).output
            one_low, one_high = linear(found, before).output
            before = Box(np.maximum(low, one_low), np.maximum(np.minimum(high, one_high), np.maximum(low, one_low)))
            sets[k + 1].append(before)
        if on_progress is not None:
            on_progress(number + 1, len(cells))
    return Reach(tuple(tuple(s) for s in sets), time.process_time() - started)


def _halves(box: Box) -> tuple[Box, Box]:
    side = int(np.argmax(box.upper - box.lower))
    middle = 0.5 * (box.lower[side] + box.upper[side])
    upper, lower = box.upper.copy(), box.lower.copy()
    upper[side] = lower[side] = middle
    return Box(box.lower, upper), Box(lower, box.upper)
