"""Any controller network as a law around the error at which it rests, with its exact slopes there.

One input is the error [rad]; two are the error and its rate [rad/s], as of a PD controller.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch, UnsupportedOperation
from relukit.gallery.robot_arm._loop import Joint, Law

Array = np.ndarray
REACH, NEAR, FAST = (
    20.0,
    1e-7,
    50.0,
)  # rad within which a rest is looked for; rad that count as at a kink; rad/s looked at
_RESTLESS = "the controller rests nowhere between -20 and 20 rad while pushing back on both sides: its torque must rise through 0"


@dataclass(frozen=True)
class Controller:
    """A controller network around the error at which it rests.

    Arguments:
        law: Torque over `gain` by error and its rate, measured from the error at rest.
        slope: Exact derivative by the error there; above the rest, where the two sides differ.
        rest: That error [rad]; 0 for a controller that reaches its target.
        room: How large a step stays on the pieces that meet there [rad]; infinite where they never end.
        rate_slope: Exact derivative by the error's rate.
        below: The derivative below the rest where it differs; None where the law is straight through the rest.
        straight: Whether one linear piece holds the rest and all around it.
    """

    law: Law
    slope: float
    rest: float
    room: float
    rate_slope: float = 0.0
    below: float | None = None
    straight: bool = True


def network_law(network: Any, joint: Joint | None = None) -> Controller:
    """A controller network of an error (and its rate) and one torque as a law around its rest.

    Raises:
        ShapeMismatch: It takes more than two numbers or gives more than one.
        UnsupportedOperation: It pushes on one side of its rest only: no loop swings around it.
        InvalidInput: It nowhere rests between -20 and 20 rad while pushing back around.
    """
    if network.inputs not in (1, 2) or network.outputs != 1:
        raise ShapeMismatch(
            "a controller takes an error, or an error and its rate, and gives one torque; "
            f"this one has {network.inputs} inputs and {network.outputs} outputs"
        )
    if not network.is_piecewise_linear:
        return _smooth(network)
    return _pieces(network) if network.inputs == 1 else _planes(network, joint or Joint())


def _along(network: Any) -> tuple[Array, Array, Array]:
    """Where the torque bends along the error at rate 0, its values there and the slopes between."""
    import relukit

    end = np.zeros(network.inputs)
    end[0] = REACH
    line = relukit.breakpoints(network, -end, end)
    x, y = line.points()[:, 0], line.values[:, 0]
    slopes = np.diff(y) / np.diff(x)
    bends = np.append(True, ~np.isclose(slopes[1:], slopes[:-1], rtol=1e-6, atol=1e-9))  # where a line really bends
    return np.append(x[:-1][bends], x[-1]), np.append(y[:-1][bends], y[-1]), slopes[bends]


def _rest(x: Array, y: Array, slopes: Array) -> tuple[float, int, int]:
    """The rest nearest to 0, and the pieces below and above it (the same one unless it lies at a bend)."""
    zero = 1e-6 * np.abs(slopes).max()
    rising = np.flatnonzero((y[:-1] <= zero) & (y[1:] >= -zero) & (slopes > 0))
    at = np.clip(x[rising] - y[rising] / slopes[rising], x[rising], x[rising + 1]) if len(rising) else np.zeros(0)
    fits = np.abs(y[rising] + slopes[rising] * (at - x[rising])) <= zero
    if not fits.any():
        raise InvalidInput(_RESTLESS)
    rising, at = rising[fits], at[fits]
    k = int(rising[np.argmin(np.abs(at))])
    rest = float(at[np.argmin(np.abs(at))])
    below = k - 1 if rest - x[k] < NEAR and k > 0 else k
    above = k + 1 if x[k + 1] - rest < NEAR and k + 1 < len(slopes) else k
    if min(slopes[below], slopes[above]) <= 0:
        raise UnsupportedOperation(
            f"the controller has a kink where it rests, at an error of {rest:.6g}: slope {slopes[below]:.6g} below and {slopes[above]:.6g} above it, so it pushes back only one way and no linearization exists there. A lone ReLU pushes only one way; use relu(e) - relu(-e)."
        )
    return rest, below, above


def _pieces(network: Any) -> Controller:
    """From the exact pieces: a table that a simulation asks 10,000 times a second."""
    x, y, slopes = _along(network)
    rest, below, above = _rest(x, y, slopes)
    knots, values, steep, last = x.tolist(), y.tolist(), slopes.tolist(), len(slopes) - 1

    def law(e: float, rate: float = 0.0) -> float:
        j = min(max(bisect_right(knots, e + rest) - 1, 0), last)
        return values[j] + (e + rest - knots[j]) * steep[j]

    ends = [rest - x[below] if below > 0 else np.inf, x[above + 1] - rest if above < last else np.inf]
    straight = below == above
    other = None if straight else float(slopes[below])
    return Controller(law, float(slopes[above]), rest, float(min(ends)), 0.0, other, straight)


def _planes(network: Any, joint: Joint) -> Controller:
    """From the exact pieces of the plane of error and rate."""
    import relukit

    rest, _, _ = _rest(*_along(network))
    pieces = relukit.regions(network, relukit.Box(np.array([rest - 1.0, -FAST]), np.array([rest + 1.0, FAST])))
    maps = pieces.maps[0][:, 0]
    corners = [pieces.polygon(k) - [rest, 0.0] for k in range(len(pieces))]
    touching = np.array([_gap(c, 1.0) < NEAR for c in corners])
    slope, rate_slope = maps[touching][0]
    same = np.isclose(maps, maps[touching][0], rtol=1e-6, atol=1e-9 * np.abs(maps).max()).all(1)
    straight = bool(same[touching].all())
    if straight and slope <= 0:
        raise InvalidInput(_RESTLESS)
    frequency = np.sqrt(joint.gain * max(float(maps[touching, 0].max()), 1e-12) / joint.inertia)
    other = ~same if straight else ~touching
    room = min((_gap(c, frequency) for c, o in zip(corners, other) if o), default=np.inf)
    said = _asked(network)
    law = lambda e, rate=0.0: said([e + rest, rate])
    return Controller(law, float(slope), rest, float(room), float(rate_slope), None, straight)


def _gap(corners: Array, frequency: float) -> float:
    """Least max(|e|, |rate| / frequency) over a convex polygon (n, 2): the step whose swing first meets it."""
    p = corners / [1.0, frequency]
    q = np.roll(p, -1, axis=0)
    turn = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    if np.all(turn >= 0) or np.all(turn <= 0):
        return 0.0  # it holds the rest
    step = q - p
    with np.errstate(divide="ignore", invalid="ignore"):
        at = [-p[:, 0] / step[:, 0], -p[:, 1] / step[:, 1]]
        at += [(s * p[:, 1] - p[:, 0]) / (step[:, 0] - s * step[:, 1]) for s in (1, -1)]
    places = np.clip(np.nan_to_num(np.stack([*at, np.zeros(len(p))])), 0, 1)
    return float(np.abs(p + places[:, :, None] * step).max(2).min())


def _asked(network: Any) -> Callable[[list[float]], float]:
    """The torque for one row, without what a call for many rows looks at: a simulation asks 100,000 times."""
    chain = network.dense_chain()
    if chain is None:
        return lambda x: float(np.ravel(network(np.array([x])))[0])
    weights, biases = [np.asarray(w) for w in chain.weights], [np.asarray(b) for b in chain.biases]

    def said(x: list[float]) -> float:
        h = weights[0] @ np.array(x) + biases[0]
        for w, b, activation in zip(weights[1:], biases[1:], chain.activations):
            h = w @ activation(h) + b
        return float(h[0])

    return said


def _smooth(network: Any) -> Controller:
    from scipy.optimize import brentq

    rest_of = np.zeros(network.inputs - 1)
    said = _asked(network)
    at = lambda e, rate=0.0: said([e, rate][: network.inputs])
    grid = np.linspace(-REACH, REACH, 4001)
    y = np.ravel(network(np.column_stack([grid, *(np.full(len(grid), z) for z in rest_of)])))
    rising = np.flatnonzero((y[:-1] <= 0) & (y[1:] > 0))
    if not len(rising):
        raise InvalidInput(_RESTLESS)
    k = int(rising[np.argmin(np.abs(grid[rising]))])
    rest = float(brentq(at, grid[k], grid[k + 1], xtol=1e-14)) if y[k] < 0 else float(grid[k])
    slopes = np.ravel(network.gradient(np.array([[rest, *rest_of]]), np.ones(1)))
    if slopes[0] <= 0:
        raise InvalidInput(_RESTLESS)
    rate_slope = float(slopes[1]) if len(slopes) > 1 else 0.0
    law = lambda e, rate=0.0: at(rest + e, rate)
    return Controller(
        law, float(slopes[0]), rest, 1e-3, rate_slope
    )  # a smooth law is straight enough over a thousandth
