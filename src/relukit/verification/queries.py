"""Questions people ask about networks, put as proofs: robustness, monotonicity, range, equivalence."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._types import Array
from relukit.bounds import linear
from relukit.bounds._linear import BUDGET
from relukit.network import Network, load
from relukit.network._nodes import Origin
from relukit.sets import AbstractSet, Ball, Box
from relukit.verification._joint import joined
from relukit.verification._verdict import Falsified, Interval, Undecided, Verdict, Verified
from relukit.verification.slopes import slopes
from relukit.verification.verify import verify


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
    left = np.flatnonzero(linear(rows, ball, budget=BUDGET).output[0] <= 0)
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
        waiting.extend(part.halves())
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
