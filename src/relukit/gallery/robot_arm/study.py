"""The laws side by side, a trained network controller with a proof, and any controller of the user's."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import write_json
from relukit.gallery._life import seeded, train_module
from relukit.gallery.robot_arm._controller import Controller, network_law
from relukit.gallery.robot_arm._loop import (
    LAWS,
    SLOPES,
    STEP,
    Joint,
    Response,
    describing,
    linearization,
    margins,
    measure,
    simulate,
    swing_frequency,
    two_sided,
)

NAME, SMALL, LARGE = "robot-arm", 0.01, (0.1, 1.0, 3.0)  # rad
PERIOD = 0.02  # [s] between two torques of the trained controller


def fetch() -> Path:
    """The study makes its own trajectories; it reads no data."""
    return Path(tempfile.gettempdir())


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Imitate an LQR with a ReLU network, `seeds` times, and prove how much one step of the loop can grow the state."""
    import relukit

    growth, error = [], []
    for seed in range(seeds):
        net = imitate(seed, 20 if quick else 150)
        relukit.save(net, out / f"lqr{seed}.npz")
        proof = one_step_growth(net)
        growth.append(proof["proven_growth"])
        error.append(proof["largest_torque_error_seen"])
        if on_progress is not None:
            on_progress(seed + 1, seeds)
    summary = {"proven_one_step_growth": growth, "largest_torque_error_seen": error, "lqr_gain": lqr()[0].tolist(),
               "lyapunov_rate": lqr()[3]}  # fmt: skip
    write_json(out / "training.json", summary)
    return summary


def discrete() -> tuple[np.ndarray, np.ndarray]:
    """The joint (angle, speed) over one period under a held torque, exactly."""
    from scipy.linalg import expm

    joint = Joint()
    A = np.array([[0, 1, 0], [0, -joint.damping / joint.inertia, 1 / joint.inertia], [0, 0, 0]])
    E = expm(A * PERIOD)
    return E[:2, :2], E[:2, 2:]


def lqr() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Gain K, Lyapunov matrix P of the closed loop, its square root's transform T, and the contraction of ||T x||_inf."""
    from scipy.linalg import solve_discrete_are

    A, B = discrete()
    P = solve_discrete_are(A, B, np.diag([400.0, 4.0]), np.array([[1.0]]))
    K = np.linalg.solve(1 + B.T @ P @ B, B.T @ P @ A)
    values, vectors = np.linalg.eig(A - B @ K)
    if np.abs(values.imag).max() < 1e-9:
        T = np.linalg.inv(vectors.real)
    else:
        T = np.linalg.inv(np.column_stack([vectors[:, 0].real, vectors[:, 0].imag]))
    closed = T @ (A - B @ K) @ np.linalg.inv(T)
    return K, P, T, float(np.abs(closed).sum(1).max())


def imitate(seed: int, epochs: int) -> Any:
    """A ReLU network 2-16-16-1 of the state in T coordinates, taught the LQR's torque; it rests at the target."""
    import torch
    from torch import nn

    import relukit

    K, _, T, _ = lqr()
    gain = torch.tensor(K @ np.linalg.inv(T), dtype=torch.float32)
    with seeded(seed):
        module = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
        X = torch.rand(4096, 2) * 2 - 1
        unit = float(gain.abs().sum())
        y = X @ gain.T / unit
        loss = lambda r: ((module(X[r]) - y[r]) ** 2).mean()
        train_module(module, loss, len(X), epochs=epochs, learning_rate=1e-2, weight_decay=0.0, batch=256, seed=seed)
    with torch.no_grad():
        module[4].weight *= unit
        module[4].bias *= unit
        module[4].bias -= module(torch.zeros(1, 2))[0]  # no torque at the target
    return relukit.load(module, input_shape=(1, 2))


def one_step_growth(net: Any, radius: float = 1.0) -> dict[str, Any]:
    r"""A proven bound of ||T x'||_inf over the box ||T x||_inf <= r after one period, by exact optimization.

    With z = T x the next state is T (A - B K) T^-1 z - T B (u(z) - K z). The torque error u(z) - K z is a piecewise-linear
    function of two inputs; its exact extremes and the contraction of the LQR's loop bound the growth.
    """
    import relukit

    K, _, T, rate = lqr()
    _, B = discrete()
    box = relukit.Box(np.full(2, -radius), np.full(2, radius))
    gap = _minus_linear(net, K @ np.linalg.inv(T))
    ends = [relukit.optimize(gap, maximize="y[0]", box=box), relukit.optimize(gap, minimize="y[0]", box=box)]
    worst = max(abs(e.bound) for e in ends)
    samples = np.random.default_rng(0).uniform(-radius, radius, (20_000, 2))
    return {
        "proven_growth": float(rate + np.abs(T @ B).max() * worst / radius),
        "proven_torque_error": float(worst),
        "largest_torque_error_seen": float(np.abs(gap(samples)).max()),
    }


def _minus_linear(net: Any, gain: np.ndarray) -> Any:
    """net(z) - gain z as a network: the linear part goes through every layer as relu(y) - relu(-y)."""
    from relukit.activations import get
    from relukit.network import from_layers

    chain = net.dense_chain()
    weights, biases = [np.asarray(w) for w in chain.weights], [np.asarray(b) for b in chain.biases]
    W, b = [np.vstack([weights[0], gain, -gain])], [np.concatenate([biases[0], [0, 0]])]
    for w, c in zip(weights[1:-1], biases[1:-1]):
        W.append(np.block([[w, np.zeros((len(w), 2))], [np.zeros((2, w.shape[1])), np.eye(2)]]))
        b.append(np.concatenate([c, [0, 0]]))
    W.append(np.hstack([weights[-1], [[-1.0, 1.0]]]))
    b.append(biases[-1])
    return from_layers(W, b, [get("relu")] * (len(W) - 1))


def _exact(joint: Joint, own: Controller) -> Response | None:
    """What the slopes at the rest say; None where more than two slopes meet there."""
    if own.below is not None:
        return two_sided(joint, own.slope, own.below)
    return linearization(joint, own.slope, own.rate_slope) if own.straight else None


def closed_loop(
    joint: Joint, own: Controller, joints: int = 1, step: float = SMALL
) -> tuple[Response, Response | None]:
    """Measured in MuJoCo, and exact for small steps."""
    exact = _exact(joint, own)
    guess = exact or linearization(joint, max(own.slope, 1e-3))
    slowest = guess.damping - np.sqrt(max(guess.damping**2 - 1, 0.0))  # of the two poles, in units of the frequency
    fastest = guess.damping + np.sqrt(max(guess.damping**2 - 1, 0.0)) if guess.damping > 1 else 1.0
    spacing = min(STEP, 0.005 / (fastest * guess.frequency))
    time = min(max(2.0, 6 / (slowest * guess.frequency)), 20.0, 40_000 * spacing)
    times, angles = simulate(joint, own.law, step, joints, time, spacing)
    return measure(times, angles[:, 0], step), exact


def score(out: Path, files: Sequence[Path], controller: str | None = None) -> dict[str, Any]:
    """Run the closed loops; with `controller`, that network beside the two laws."""
    import relukit

    joint = Joint()
    loops = {name: Controller(LAWS[name], SLOPES[name], 0.0, np.inf) for name in LAWS}
    small = dict.fromkeys(loops, SMALL)
    if len(files) + (controller is not None) > 1:
        raise InvalidInput("one controller a call: --controller F.onnx")
    chosen = controller or (str(files[0]) if files else None)
    if chosen is not None:
        own = loops["controller"] = network_law(relukit.load(chosen), joint)
        small["controller"] = min(SMALL, 0.9 * own.room)
    rows: dict[str, Any] = {}
    errors: list[tuple[float, float, float]] = []
    for name, law in loops.items():
        for joints in (1, 2, 6):
            seen, exact = closed_loop(joint, law, joints, small[name])
            rows[f"{name}_{joints}_joints"] = {"measured": vars(seen), "exact": vars(exact) if exact else None}
            if exact is not None:
                errors.append((abs(seen.frequency / exact.frequency - 1), abs(seen.damping / exact.damping - 1), abs(seen.overshoot - exact.overshoot)))  # fmt: skip
        rows[name] = {"slope": law.slope, "rate_slope": law.rate_slope} | margins(joint, law.slope, law.rate_slope)
    one = {n: rows[f"{n}_1_joints"]["measured"] for n in LAWS}
    equal = Joint(joint.inertia, joint.damping, joint.gain * 4)  # the sigmoid's small-signal gain made the ReLU pair's
    same, _ = closed_loop(equal, loops["sigmoid"])
    swings = {str(a): {n: swing_frequency(joint, LAWS[n], a) for n in LAWS} for a in LARGE}
    worst = np.max(errors, 0)
    metrics = {
        "frequency_ratio": one["relu"]["frequency"] / one["sigmoid"]["frequency"],
        "damping_ratio_ratio": one["relu"]["damping"] / one["sigmoid"]["damping"],
        "mujoco_frequency_error": float(worst[0]), "mujoco_damping_error": float(worst[1]), "mujoco_overshoot_error": float(worst[2]),
        "describing_function_frequency_error": max(abs(m / s - 1) for row in swings.values() for m, s in row.values()),
    }  # fmt: skip
    if chosen is not None:
        metrics["controller"] = _told(loops["controller"], rows, small["controller"])
    frequency = {n: float(np.sqrt(joint.gain * max(law.slope, 0.0) / joint.inertia)) for n, law in loops.items()}
    large = {str(a): {n: describing(law.law, a, frequency[n]) for n, law in loops.items()} for a in LARGE}
    told = {
        a: {n: {"mujoco_frequency": m, "described_frequency": s} for n, (m, s) in row.items()}
        for a, row in swings.items()
    }
    return {
        "study": NAME, "metrics": metrics, "baselines": {"exact_frequency_ratio": 2.0, "exact_damping_ratio_ratio": 0.5},
        "rows": 3 * len(loops), "loops": rows, "equal_gain_sigmoid": vars(same), "describing_function": large, "large_swings": told,
    }  # fmt: skip


def _told(own: Controller, rows: dict[str, Any], step: float) -> dict[str, Any]:
    """What was measured of a controller network, what its slopes say, and why where they say nothing."""
    note = (
        "" if own.straight else "its slopes below and above the rest differ; `exact` is that of the two slopes together"
    )
    if rows["controller_1_joints"]["exact"] is None:
        note = "pieces of several slopes meet where it rests, so it has no linearization there"
    return {
        **rows["controller_1_joints"]["measured"], "exact": rows["controller_1_joints"]["exact"], "slope": own.slope,
        "rate_slope": own.rate_slope, "slope_below": own.slope if own.below is None and own.straight else own.below,
        "rests_at_error": own.rest, "step": step, **({"note": note} if note else {}),
    }  # fmt: skip
