r"""The loop J q'' + c q' = k f(e), e = target - q: exact linearization, and simulation in MuJoCo.

At the target :math:`f` has the slope :math:`s = f'(0)`, so :math:`\omega = \sqrt{k s / J}` and
:math:`\zeta = c / (2 \sqrt{k s J})`. The pair relu(e) - relu(-e) has s = 1, the centered sigmoid 1/(1 + exp(-e)) - 1/2
has s = 1/4: the frequency ratio is exactly 2 and the ratio of damping ratios exactly 1/2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, MissingExtra, ShapeMismatch, UnsupportedOperation

Array = np.ndarray
Law = Callable[[float], float]
STEP = 5e-4


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


def network_law(network: Any) -> tuple[Law, float]:
    """A controller network of one error (and one torque) as a law, with its exact slope at 0.

    Raises:
        ShapeMismatch: It takes or gives more than one number.
        UnsupportedOperation: Its slopes left and right of 0 differ: there is no linearization at the target.
        InvalidInput: It pushes at the target, or away from it.
    """
    if network.inputs != 1 or network.outputs != 1:
        raise ShapeMismatch(f"a controller takes one error and gives one torque; this one has {network.inputs} inputs and {network.outputs} outputs")  # fmt: skip
    at = lambda e: float(np.ravel(network(np.array([[e]])))[0])
    rest = at(0.0)
    left, right = _one_sided(network, -1.0), _one_sided(network, 1.0)
    if abs(left - right) > 1e-6 * max(abs(left), abs(right)):
        raise UnsupportedOperation(
            f"the controller has a kink at the target: slope {left:.6g} for negative and {right:.6g} for positive errors, so no linearization exists there. A lone ReLU pushes only one way; use relu(e) - relu(-e)."
        )
    if right <= 0 or abs(rest) > 1e-6 * right:
        raise InvalidInput(f"at the target the controller gives {rest:.3g} with slope {right:.3g}; it must rest there and push back")  # fmt: skip
    return (lambda e: at(e) - rest), right


def _one_sided(network: Any, side: float) -> float:
    """Derivative at 0 from one side: exact on the linear piece there, else the gradient."""
    import relukit

    if not network.is_piecewise_linear:
        return float(np.ravel(network.gradient(np.zeros((1, 1)), np.ones(1)))[0])
    line = relukit.breakpoints(network, np.zeros(1), np.array([side]))
    return float(line.slopes[0, 0]) * side


def linearization(joint: Joint, slope: float) -> Response:
    """The exact second-order behavior for small steps."""
    stiffness = joint.gain * slope
    frequency = float(np.sqrt(stiffness / joint.inertia))
    ratio = float(joint.damping / (2 * np.sqrt(stiffness * joint.inertia)))
    overshoot = float(np.exp(-np.pi * ratio / np.sqrt(1 - ratio**2))) if ratio < 1 else 0.0
    return Response(frequency, ratio, overshoot, _settling(frequency, ratio))


def _settling(frequency: float, ratio: float) -> float:
    """The last time the unit step response is 2 % off, on its exact formula."""
    t = np.linspace(0, 12 / (max(ratio, 0.02) * frequency), 200_000)
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
