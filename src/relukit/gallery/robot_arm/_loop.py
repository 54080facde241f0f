r"""The loop J q'' + c q' = k f(e), e = target - q: exact linearization, and simulation in MuJoCo.

At the target :math:`f` has the slope :math:`s = f'(0)`, so :math:`\omega = \sqrt{k s / J}` and
:math:`\zeta = c / (2 \sqrt{k s J})`. The pair relu(e) - relu(-e) has s = 1, the centered sigmoid 1/(1 + exp(-e)) - 1/2
has s = 1/4: the frequency ratio is exactly 2 and the ratio of damping ratios exactly 1/2.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra, ShapeMismatch, UnsupportedOperation

Array = np.ndarray
Law = Callable[[float], float]
STEP, REACH = 5e-4, 20.0  # s of the simulation; rad within which a controller is looked at
_RESTLESS = "the controller rests nowhere between -20 and 20 rad while pushing back on both sides: its torque must rise through 0"


@dataclass(frozen=True)
class Joint:
    """Inertia J [kg m^2], viscous damping c [N m s/rad] and stiffness k [N m] of the controller."""

    inertia: float = 0.5
    damping: float = 1.2
    gain: float = 20.0


@dataclass(frozen=True)
class Response:
    """Natural frequency [rad/s], damping ratio, overshoot (share of the step) and 2 % settling time [s]."""

    frequency: float
    damping: float
    overshoot: float
    settling: float


def relu_pair(e: float) -> float:
    """relu(e) - relu(-e): the two ReLUs a controller needs, since one alone pushes only one way."""
    return max(e, 0.0) - max(-e, 0.0)


def centered_sigmoid(e: float) -> float:
    return 1 / (1 + np.exp(-e)) - 0.5


LAWS: dict[str, Law] = {"relu": relu_pair, "sigmoid": centered_sigmoid}
SLOPES = {"relu": 1.0, "sigmoid": 0.25}


@dataclass(frozen=True)
class Controller:
    """A controller network around the error at which it rests.

    Arguments:
        law: Torque over `gain` by error, measured from the error at rest.
        slope: Exact derivative there.
        rest: That error [rad]; 0 for a controller that reaches its target.
        room: How far the linear piece around it reaches [rad]; infinite where it never ends.
    """

    law: Law
    slope: float
    rest: float
    room: float


def network_law(network: Any) -> Controller:
    """A controller network of one error (and one torque) as a law around its rest, with its exact slope there.

    Raises:
        ShapeMismatch: It takes or gives more than one number.
        UnsupportedOperation: Its slopes left and right of its rest differ: there is no linearization.
        InvalidInput: It nowhere rests between -20 and 20 rad while pushing back around.
    """
    if network.inputs != 1 or network.outputs != 1:
        raise ShapeMismatch(f"a controller takes one error and gives one torque; this one has {network.inputs} inputs and {network.outputs} outputs")  # fmt: skip
    return _pieces(network) if network.is_piecewise_linear else _smooth(network)


def _pieces(network: Any) -> Controller:
    """From the exact pieces: a table that a simulation asks 10,000 times a second."""
    import relukit

    line = relukit.breakpoints(network, np.array([-REACH]), np.array([REACH]))
    x, y = line.points()[:, 0], line.values[:, 0]
    slopes = np.diff(y) / np.diff(x)
    bends = np.append(True, ~np.isclose(slopes[1:], slopes[:-1], rtol=1e-6, atol=1e-9))  # where a line really bends
    x, y, slopes = np.append(x[:-1][bends], x[-1]), np.append(y[:-1][bends], y[-1]), slopes[bends]
    zero = 1e-6 * np.abs(slopes).max()
    at_knot = np.flatnonzero(np.abs(y) <= zero)
    if len(at_knot) and np.abs(x[at_knot]).min() < 1e-6:
        k = int(at_knot[np.argmin(np.abs(x[at_knot]))])
        left, right = slopes[max(k - 1, 0)], slopes[min(k, len(slopes) - 1)]
        if not np.isclose(left, right, rtol=1e-6):
            raise UnsupportedOperation(
                f"the controller has a kink at the target: slope {left:.6g} for negative and {right:.6g} for positive errors, so no linearization exists there. A lone ReLU pushes only one way; use relu(e) - relu(-e)."
            )
    pushing = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0) & (slopes > 0) | (np.abs(y[:-1]) <= zero) & (slopes > 0))
    if not len(pushing):
        raise InvalidInput(_RESTLESS)
    rests = np.clip(x[pushing] - y[pushing] / slopes[pushing], x[pushing], x[pushing + 1])
    k, rest = int(pushing[np.argmin(np.abs(rests))]), float(rests[np.argmin(np.abs(rests))])
    knots, values, last = x.tolist(), y.tolist(), len(slopes) - 1
    steep = slopes.tolist()

    def law(e: float) -> float:
        j = min(max(bisect_right(knots, e + rest) - 1, 0), last)
        return values[j] + (e + rest - knots[j]) * steep[j]

    ends = [rest - x[k] if k > 0 else np.inf, x[k + 1] - rest if k < last else np.inf]
    return Controller(law, float(slopes[k]), rest, float(min(ends)))


def _smooth(network: Any) -> Controller:
    from scipy.optimize import brentq

    at = lambda e: float(np.ravel(network(np.array([[e]])))[0])
    grid = np.linspace(-REACH, REACH, 4001)
    y = np.ravel(network(grid[:, None]))
    rising = np.flatnonzero((y[:-1] <= 0) & (y[1:] > 0))
    if not len(rising):
        raise InvalidInput(_RESTLESS)
    k = int(rising[np.argmin(np.abs(grid[rising]))])
    rest = float(brentq(at, grid[k], grid[k + 1], xtol=1e-14)) if y[k] < 0 else float(grid[k])
    slope = float(np.ravel(network.gradient(np.array([[rest]]), np.ones(1)))[0])
    if slope <= 0:
        raise InvalidInput(_RESTLESS)
    return Controller(lambda e: at(rest + e), slope, rest, 1e-3)  # a smooth law is straight enough over a thousandth


def linearization(joint: Joint, slope: float) -> Response:
    """The exact second-order behavior for small steps."""
    stiffness = joint.gain * slope
    frequency = float(np.sqrt(stiffness / joint.inertia))
    ratio = float(joint.damping / (2 * np.sqrt(stiffness * joint.inertia)))
    overshoot = float(np.exp(-np.pi * ratio / np.sqrt(1 - ratio**2))) if ratio < 1 else 0.0
    return Response(frequency, ratio, overshoot, _settling(frequency, ratio))


def _settling(frequency: float, ratio: float) -> float:
    """The last time the unit step response is 2 % off, on its exact formula."""
    slowest = ratio - np.sqrt(max(ratio**2 - 1, 0.0))
    t = np.linspace(0, 12 / (max(slowest, 1e-3) * frequency), 200_000)
    if ratio < 1:
        w = frequency * np.sqrt(1 - ratio**2)
        off = np.exp(-ratio * frequency * t) * (np.cos(w * t) + ratio * frequency / w * np.sin(w * t))
    elif ratio == 1:
        off = np.exp(-frequency * t) * (1 + frequency * t)
    else:
        root = np.sqrt(ratio**2 - 1)
        p, q = frequency * (ratio - root), frequency * (ratio + root)
        off = (q * np.exp(-p * t) - p * np.exp(-q * t)) / (q - p)
    late = np.flatnonzero(np.abs(off) > 0.02)
    return float(t[late[-1]])


def margins(joint: Joint, slope: float) -> dict[str, float]:
    """Gain crossover [rad/s] and phase margin [degrees] of the open loop k s / (J p^2 + c p), by python-control."""
    try:
        import control
    except ImportError as error:
        raise MissingExtra("margins need python-control: pip install relukit[gallery]") from error
    loop = control.tf([joint.gain * slope], [joint.inertia, joint.damping, 0.0])
    _, phase, _, crossover = control.margin(loop)
    return {"phase_margin_degrees": float(phase), "crossover": float(crossover)}


def simulate(joint: Joint, law: Law, step: float, joints: int = 1, time: float = 4.0) -> tuple[Array, Array]:
    """Angles (steps, joints) of an arm in MuJoCo after a step of the target of the first joint, and their times.

    Several joints: hinges along one axis, each link carrying its own law; gravity is off. Link inertias are small
    beside the rotors' (armature), so each joint has nearly the inertia J.
    """
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtra("the simulation needs MuJoCo: pip install relukit[gallery]") from error
    model = mujoco.MjModel.from_xml_string(_arm(joint, joints))
    data = mujoco.MjData(model)
    count = round(time / STEP)
    angles = np.zeros((count + 1, joints))
    target = np.zeros(joints)
    target[0] = step
    for k in range(count):
        for j in range(joints):
            data.qfrc_applied[j] = joint.gain * law(target[j] - data.qpos[j])
        mujoco.mj_step(model, data)
        angles[k + 1] = data.qpos
    return np.arange(count + 1) * STEP, angles


def _arm(joint: Joint, joints: int) -> str:
    """The arm as MuJoCo's XML: links of 0.1 m, rotor inertia on every hinge."""
    link = 1e-7
    armature = joint.inertia - link
    head = f'<mujoco><option timestep="{STEP}" gravity="0 0 0" integrator="implicit"/><compiler inertiafromgeom="false" boundmass="0"/><worldbody>'
    body = tail = ""
    for j in range(joints):
        body += (
            f'<body pos="{0 if j == 0 else 0.1} 0 0"><joint type="hinge" axis="0 0 1" armature="{armature!r}" '
            f'damping="{joint.damping!r}"/><inertial pos="0 0 0" mass="1e-6" diaginertia="{link} {link} {link}"/>'
        )
        tail += "</body>"
    return head + body + tail + "</worldbody></mujoco>"


def measure(times: Array, angle: Array, step: float) -> Response:
    """Frequency, damping, overshoot and settling from a trajectory alone.

    Underdamped: the logarithmic decrement between successive extremes of the error and the time between them. Else a
    fit of the second-order step response.
    """
    off = (step - angle) / step
    turns = np.flatnonzero((np.diff(angle[:-1]) * np.diff(angle[1:])) < 0) + 1
    sizes = np.abs(off[turns])
    turns = turns[sizes > 0.003]
    late = np.flatnonzero(np.abs(off) > 0.02)
    settling = float(times[late[-1]]) if len(late) else 0.0
    overshoot = float(max(0.0, -(off.min())))
    if len(turns) >= 2:
        at, height = zip(*(_peak(times, off, k) for k in turns))
        half = float(np.diff(at).mean())  # half a damped period between extremes
        decrement = float(np.log(abs(height[0] / height[-1])) / (len(height) - 1))
        ratio = decrement / np.sqrt(np.pi**2 + decrement**2)
        return Response(float(np.pi / half / np.sqrt(1 - ratio**2)), float(ratio), overshoot, settling)
    return _fitted(times, off, overshoot, settling)


def _peak(times: Array, off: Array, k: int) -> tuple[float, float]:
    """An extreme between samples, by the parabola through three of them."""
    a, b, c = off[k - 1 : k + 2]
    shift = 0.5 * (a - c) / (a - 2 * b + c)
    return float(times[k] + shift * (times[1] - times[0])), float(b - 0.25 * (a - c) * shift)


def _fitted(times: Array, off: Array, overshoot: float, settling: float) -> Response:
    from scipy.optimize import least_squares

    def error(p: Array) -> Array:
        w, z = np.exp(p[0]), np.exp(p[1])
        root = np.sqrt(complex(z * z - 1) + 1e-12)
        r1, r2 = -w * (z - root), -w * (z + root)
        return np.real((r1 * np.exp(r2 * times) - r2 * np.exp(r1 * times)) / (r1 - r2)) - off

    p = least_squares(error, [np.log(5.0), 0.0]).x
    return Response(float(np.exp(p[0])), float(np.exp(p[1])), overshoot, settling)


def describing(law: Law, amplitude: float) -> float:
    """Slope that a law shows to a sine of that amplitude: (1 / (pi A)) times the integral of f(A sin t) sin t."""
    t = (np.arange(4096) + 0.5) * 2 * np.pi / 4096
    return float(2 * np.mean([law(amplitude * np.sin(x)) * np.sin(x) for x in t]) / amplitude)
