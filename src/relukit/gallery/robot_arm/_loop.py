r"""The loop J q'' + c q' = k f(e), e = target - q: exact linearization, and simulation in MuJoCo.

At the target :math:`f` has the slope :math:`s = f'(0)`, so :math:`\omega = \sqrt{k s / J}` and
:math:`\zeta = c / (2 \sqrt{k s J})`. The pair relu(e) - relu(-e) has s = 1, the centered sigmoid 1/(1 + exp(-e)) - 1/2
has s = 1/4: the frequency ratio is exactly 2 and the ratio of damping ratios exactly 1/2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relukit._errors import InvalidInput, MissingExtra

Array = np.ndarray
Law = Callable[..., float]  # torque over `gain` by the error [rad] and, where it is used, the error's rate [rad/s]
STEP = 5e-4  # s of the simulation


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


def relu_pair(e: float, rate: float = 0.0) -> float:
    """relu(e) - relu(-e): the two ReLUs a controller needs, since one alone pushes only one way."""
    return max(e, 0.0) - max(-e, 0.0)


def centered_sigmoid(e: float, rate: float = 0.0) -> float:
    return 1 / (1 + np.exp(-e)) - 0.5


LAWS: dict[str, Law] = {"relu": relu_pair, "sigmoid": centered_sigmoid}
SLOPES = {"relu": 1.0, "sigmoid": 0.25}


def linearization(joint: Joint, slope: float, rate_slope: float = 0.0) -> Response:
    """The exact second-order behavior for small steps; a slope by the error's rate damps as the joint does.

    Raises:
        InvalidInput: The loop swings up or runs away.
    """
    stiffness, damping = joint.gain * slope, joint.damping + joint.gain * rate_slope
    if stiffness <= 0 or damping <= 0:
        raise InvalidInput(
            f"the loop is unstable at its rest: stiffness {stiffness:.6g} N m/rad and damping {damping:.6g} N m s/rad must both be positive"
        )
    frequency = float(np.sqrt(stiffness / joint.inertia))
    ratio = float(damping / (2 * np.sqrt(stiffness * joint.inertia)))
    overshoot = float(np.exp(-np.pi * ratio / np.sqrt(1 - ratio**2))) if ratio < 1 else 0.0
    return Response(frequency, ratio, overshoot, _settling(frequency, ratio))


def two_sided(joint: Joint, above: float, below: float) -> Response | None:
    r"""The same where the slopes above and below the rest differ, for a step from above; no settling time is told.

    Both halves of a swing decay by :math:`\sigma = c / (2 J)`, and last :math:`\pi / w` with the damped frequency w of their side: so a
    period is :math:`T = \pi / w_a + \pi / w_b`, the frequency :math:`\sqrt{(2 \pi / T)^2 + \sigma^2}`. An overdamped side above is
    never left. None where the side below alone is overdamped: it swings once, and has no frequency.
    """
    up, down = linearization(joint, above), linearization(joint, below)
    if up.damping >= 1:
        return up
    if down.damping >= 1:
        return None
    sigma = joint.damping / (2 * joint.inertia)
    w = [r.frequency * np.sqrt(1 - r.damping**2) for r in (up, down)]
    frequency = float(np.hypot(2 * np.pi / (np.pi / w[0] + np.pi / w[1]), sigma))
    time = (np.pi - np.arccos(up.damping)) / w[0] + np.arccos(down.damping) / w[1]
    overshoot = float(up.frequency / down.frequency * np.exp(-sigma * time))
    return Response(frequency, float(sigma / frequency), overshoot, float("nan"))


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


def margins(joint: Joint, slope: float, rate_slope: float = 0.0) -> dict[str, float]:
    """Gain crossover [rad/s] and phase margin [degrees] of the open loop k (s + r p) / (J p^2 + c p), by python-control."""
    try:
        import control
    except ImportError as error:
        raise MissingExtra("margins need python-control: pip install relukit[gallery]") from error
    loop = control.tf([joint.gain * rate_slope, joint.gain * slope], [joint.inertia, joint.damping, 0.0])
    _, phase, _, crossover = control.margin(loop)
    return {"phase_margin_degrees": float(phase), "crossover": float(crossover)}


def simulate(
    joint: Joint, law: Law, step: float, joints: int = 1, time: float = 4.0, spacing: float = STEP
) -> tuple[Array, Array]:
    """Angles (steps, joints) of an arm in MuJoCo after a step of the target of the first joint, and their times.

    Several joints: hinges along one axis, each link carrying its own law; gravity is off. Link inertias are small
    beside the rotors' (armature), so each joint has nearly the inertia J.

    Raises:
        InvalidInput: The angles run away.
    """
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtra("the simulation needs MuJoCo: pip install relukit[gallery]") from error
    model = mujoco.MjModel.from_xml_string(_arm(joint, joints, spacing))
    data = mujoco.MjData(model)
    count = round(time / spacing)
    angles = np.zeros((count + 1, joints))
    target = np.zeros(joints)
    target[0] = step
    for k in range(count):
        for j in range(joints):
            data.qfrc_applied[j] = joint.gain * law(target[j] - data.qpos[j], -data.qvel[j])
        mujoco.mj_step(model, data)
        angles[k + 1] = data.qpos
        if abs(data.qpos[0]) > 1e3 * abs(step):
            raise InvalidInput(
                f"the loop with this controller runs away: {data.qpos[0]:.3g} rad after a step of {step:.3g} rad"
            )
    return np.arange(count + 1) * spacing, angles


def _arm(joint: Joint, joints: int, spacing: float) -> str:
    """The arm as MuJoCo's XML: links of 0.1 m, rotor inertia on every hinge."""
    link = 1e-7
    armature = joint.inertia - link
    head = f'<mujoco><option timestep="{spacing!r}" gravity="0 0 0" integrator="implicit"/><compiler inertiafromgeom="false" boundmass="0"/><worldbody>'
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
    if len(late) and late[-1] > len(off) - 10:
        settling = float("nan")  # it had not settled when the simulation ended
    overshoot = float(max(0.0, -(off.min())))
    if len(turns) >= 2:
        turns = turns[: len(turns) - (len(turns) % 2 == 0 and len(turns) > 2)]  # whole swings: both sides count alike
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

    early = np.gradient(np.gradient(-off, times), times)[2:6].mean()  # w^2, before any speed is gained
    starts = [[0.5 * np.log(max(early, 1e-6)), z] for z in (0.0, 1.5, 3.0)]
    p = min((least_squares(error, start, xtol=1e-12, ftol=1e-14) for start in starts), key=lambda r: r.cost).x
    return Response(float(np.exp(p[0])), float(np.exp(p[1])), overshoot, settling)


def describing(law: Law, amplitude: float, frequency: float = 0.0) -> float:
    """Slope that a law shows to a sine of that amplitude and frequency: (1 / (pi A)) times the integral of f(A sin t) sin t."""
    t = (np.arange(4096) + 0.5) * 2 * np.pi / 4096
    said = [law(amplitude * np.sin(x), amplitude * frequency * np.cos(x)) * np.sin(x) for x in t]
    return float(2 * np.mean(said) / amplitude)


def swing_frequency(joint: Joint, law: Law, amplitude: float) -> tuple[float, float]:
    """Frequency [rad/s] at which the undamped joint swings with that amplitude in MuJoCo, and what the describing function says."""
    still = Joint(joint.inertia, 0.0, joint.gain)
    said = float(np.sqrt(joint.gain * describing(law, amplitude) / joint.inertia))
    times, angles = simulate(still, law, amplitude, time=4.2 * 2 * np.pi / said)
    off = amplitude - angles[:, 0]
    k = np.flatnonzero((off[:-1] > 0) & (off[1:] <= 0))
    crossings = times[k] + off[k] / (off[k] - off[k + 1]) * (times[1] - times[0])
    return float(2 * np.pi / np.diff(crossings).mean()), said
