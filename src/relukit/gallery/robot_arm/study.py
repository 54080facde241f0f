"""The laws side by side, a trained network controller with a proof, and any controller of the user's."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._numerics import write_json
from relukit.gallery._life import seeded, train_module
from relukit.gallery.robot_arm._loop import (
    LAWS,
    SLOPES,
    Joint,
    Law,
    Response,
    describing,
    linearization,
    margins,
    measure,
    network_law,
    simulate,
)

NAME, SMALL = "robot-arm", 0.01
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


def closed_loop(joint: Joint, law: Law, slope: float, joints: int = 1, step: float = SMALL) -> tuple[Response, Response]:  # fmt: skip
    """Measured in MuJoCo, and exact for small steps."""
    exact = linearization(joint, slope)
    slowest = exact.damping - np.sqrt(max(exact.damping**2 - 1, 0.0))  # of the two poles, in units of the frequency
    time = max(2.0, 6 / (slowest * exact.frequency))
    times, angles = simulate(joint, law, step, joints, min(float(time), 20.0))
    return measure(times, angles[:, 0], step), exact


def score(out: Path, files: Sequence[Path], controller: str | None = None) -> dict[str, Any]:
    """Run the closed loops; with `controller`, that network beside the two laws."""
    import relukit

    joint = Joint()
    laws = {name: (LAWS[name], SLOPES[name]) for name in LAWS}
    small, own = dict.fromkeys(laws, SMALL), None
    chosen = controller or (str(files[0]) if files else None)
    if chosen is not None:
        own = network_law(relukit.load(chosen))
        laws["controller"] = (own.law, own.slope)
        small["controller"] = min(SMALL, 0.9 * own.room)
    rows: dict[str, Any] = {}
    frequency_errors, damping_errors, overshoot_errors = [], [], []
    for name, (law, slope) in laws.items():
        for joints in (1, 2, 6):
            seen, exact = closed_loop(joint, law, slope, joints, small[name])
            frequency_errors.append(abs(seen.frequency / exact.frequency - 1))
            damping_errors.append(abs(seen.damping / exact.damping - 1))
            overshoot_errors.append(abs(seen.overshoot - exact.overshoot))
            rows[f"{name}_{joints}_joints"] = {"measured": vars(seen), "exact": vars(exact)}
        rows[name] = {"slope": slope} | margins(joint, slope)
    one = {n: rows[f"{n}_1_joints"]["measured"] for n in LAWS}
    equal = Joint(joint.inertia, joint.damping, joint.gain * 4)  # the sigmoid's small-signal gain made the ReLU pair's
    same, _ = closed_loop(equal, LAWS["sigmoid"], SLOPES["sigmoid"])
    large = {
        str(a): {n: describing(law, a) for n, (law, _) in laws.items()} for a in (0.1, 1.0, 3.0)
    }  # fmt: skip
    metrics = {
        "frequency_ratio": one["relu"]["frequency"] / one["sigmoid"]["frequency"],
        "damping_ratio_ratio": one["relu"]["damping"] / one["sigmoid"]["damping"],
        "mujoco_frequency_error": max(frequency_errors), "mujoco_damping_error": max(damping_errors),
        "mujoco_overshoot_error": max(overshoot_errors),
    }  # fmt: skip
    if own is not None:
        metrics["controller"] = {
            **rows["controller_1_joints"]["measured"], "exact": rows["controller_1_joints"]["exact"],
            "slope": own.slope, "rests_at_error": own.rest, "step": small["controller"],
        }  # fmt: skip
    return {
        "study": NAME, "metrics": metrics, "baselines": {"exact_frequency_ratio": 2.0, "exact_damping_ratio_ratio": 0.5},
        "rows": len(frequency_errors), "loops": rows, "equal_gain_sigmoid": vars(same), "describing_function": large,
    }  # fmt: skip
