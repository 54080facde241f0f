r"""Understeer formula behind a lag, and a residual that rises with steering by construction.

.. math:: \omega = H\!\left[\frac{v s}{L + K v^2}\right] + r(v, a, \text{throttle}, \text{brake}, H[s]), \quad s = (z - z_0) (1 + c (z - z_0)^2)

with z the steering angle and H one second-order lag (tires and yaw inertia). The cubic is the steering gear: near its lock the wheels turn
further than the reading says. The formula rises in z as long as :math:`L + K v^2 > 0`, since :math:`c \ge 0`. The residual is one layer of
ReLUs in three groups: weights of s and of the output both positive, both negative, or no weight of s at all: it rises in s whatever the
other numbers are. So their sum rises, a steering angle for a given radius is unique, and it is found exactly, piece by piece.

Inputs are speed, steering, longitudinal acceleration and pedals with their past; never yaw rate, lateral velocity, heading, position
or wheel speeds, which give the answer away.
"""

from typing import Any

import numpy as np

from relukit.gallery._life import seeded, train_module
from relukit.gallery._tables import complete, read_csv, with_numbers

Array = np.ndarray
INPUTS = ["time(s)", "vx(m/s)", "delta(rad)", "ax(m/s^2)", "throttle_ped_cmd(%)", "brake_ped_cmd(kPa)"]
TARGET, GAP, SMOOTH, HIDDEN, SCALE, REACH = "omega(rad/s)", 0.1, 0.3, 12, 0.01, 3.0
BEND = 0.02  # rad/s of error that a cubic coefficient of 1 counts as
NAMES = ("speed [m/s]", "longitudinal acceleration [m/s^2]", "throttle [%]", "brake [kPa]", "lagged steering [rad]")


def read(path: Any) -> Any:
    """A log; rows that lack one of the numbers needed are left out, and counted in its `attrs`."""
    needed = [*INPUTS, TARGET]
    table, left_out = complete(with_numbers(read_csv(path, needed), needed, path), needed, path)
    table.attrs["left_out"] = left_out
    return table


def stretches(times: Array) -> list[Array]:
    """Rows without a gap in time; the lags start anew in each."""
    return np.split(np.arange(len(times)), np.flatnonzero(np.abs(np.diff(times)) > GAP) + 1)


def lagged(times: Array, values: Array, *lags: float) -> Array:
    """First-order lags one after the other [s], at rest at the start of each stretch."""
    from scipy.signal import lfilter

    out = np.empty(len(values))
    for rows in stretches(times):
        x = values[rows]
        step = float(np.median(np.diff(times[rows]))) if len(rows) > 1 else 0.04
        for lag in lags:
            a = 1 - np.exp(-step / max(abs(lag), 1e-4))
            x = lfilter([a], [1, a - 1], x, zi=[(1 - a) * x[0]])[0]
        out[rows] = x
    return out


def settled(times: Array, values: Array, frequency: float, damping: float) -> Array:
    """Values behind w^2 / (p^2 + 2 d w p + w^2), w in rad/s, held between samples; at rest at each start."""
    from scipy.signal import cont2discrete, lfilter, lfilter_zi

    w, d = abs(frequency) + 0.1, abs(damping) + 0.02
    out = np.empty(len(values))
    for rows in stretches(times):
        step = float(np.median(np.diff(times[rows]))) if len(rows) > 1 else 0.04
        top, bottom = cont2discrete(([w * w], [1, 2 * d * w, w * w]), step, "zoh")[:2]
        start = lfilter_zi(top.ravel(), bottom) * values[rows][0]
        out[rows] = lfilter(top.ravel(), bottom, values[rows], zi=start)[0]
    return out


def understeer(parameters: Array, speed: Array, steering: Array) -> Array:
    """v (z - z_0) / (L + K v^2) of the parameters L [m], K [s^2/m], z_0 [rad]: the baseline."""
    length, gradient, offset = parameters
    return speed * (steering - offset) / (length + gradient * speed**2)


def straightened(parameters: Array, steering: Array) -> Array:
    """s of the module's formula; parameters end with L, K, z_0, c."""
    turned = steering - parameters[4]
    return turned * (1 + parameters[5] * turned**2)


def bent(parameters: Array, straight: float) -> float:
    """The steering angle whose `straightened` value is given (the one real root of its cubic, by hyperbolic sines)."""
    bend = float(np.sqrt(3 * parameters[5]))
    if bend < 1e-6:
        return straight + float(parameters[4])
    return 2 / bend * float(np.sinh(np.arcsinh(1.5 * straight * bend) / 3)) + float(parameters[4])


def steady(parameters: Array, speed: Array | float, straight: Array) -> Array:
    """Yaw rate once all has settled."""
    return speed * straight / (parameters[2] + parameters[3] * speed**2)


def yaw_rate(table: Any, parameters: Array) -> Array:
    """What the formula says of each row [rad/s], from speed and steering up to it."""
    times, speed, steering = (table[c].to_numpy(float) for c in INPUTS[:3])
    return settled(times, steady(parameters, speed, straightened(parameters, steering)), *parameters[:2])


def fit_formula(table: Any, lags: bool = True, keep: Array | None = None) -> Array:
    """Frequency and damping of the lag, L, K, z_0 and c by least squares; without lags the three numbers of `understeer`.

    Arguments:
        keep: Rows that are fitted; the others (all are used if not given) serve as past alone.
    """
    from scipy.optimize import least_squares

    keep = np.ones(len(table), bool) if keep is None else keep
    speed, steering, truth = (table[c].to_numpy(float) for c in (*INPUTS[1:3], TARGET))
    if not lags:
        plain = lambda p: (understeer(p, speed, steering) - truth)[keep]
        return least_squares(plain, [3.0, 0.001, 0.0], x_scale=[1.0, 0.001, 0.01], max_nfev=25).x

    # small angles do not tell the cubic, so its coefficient is drawn to zero
    error = lambda p: np.append((yaw_rate(table, p) - truth)[keep], BEND * p[5])
    low, high = np.full(6, -np.inf), np.full(6, np.inf)
    low[:2], low[5] = 0.01, 0.0
    start, size = [5.0, 0.9, 3.0, 0.001, 0.0, 1.0], [1.0, 0.3, 1.0, 0.001, 0.01, 2.0]
    return least_squares(error, start, bounds=(low, high), x_scale=size, max_nfev=40).x


def inputs(table: Any, parameters: Array) -> Array:
    """(rows, 5) of the residual: speed, smoothed acceleration, throttle and brake, lagged straightened steering."""
    times, speed, steering, ax, throttle, brake = (table[c].to_numpy(float) for c in INPUTS)
    smooth = [lagged(times, x, SMOOTH) for x in (ax, throttle, brake)]
    return np.column_stack([speed, *smooth, settled(times, straightened(parameters, steering), *parameters[:2])])


def fit_residual(X: Array, gap: Array, seed: int, epochs: int) -> Any:
    """The residual as a `Network` of the raw inputs, standardization folded in."""
    import torch
    from torch.nn.functional import smooth_l1_loss

    import relukit
    from relukit.activations import get
    from relukit.network import from_layers

    center, spread = X.mean(0), X.std(0) + 1e-9
    clipped = np.clip((X - center) / spread, -REACH, REACH)
    A, y = torch.tensor(clipped, dtype=torch.float32), torch.tensor(gap / SCALE, dtype=torch.float32)
    with seeded(seed):
        module = relukit.nn.Rising(X.shape[1], HIDDEN)
        loss = lambda r: smooth_l1_loss(module(A[r])[:, 0], y[r])
        train_module(module, loss, len(A), epochs=epochs, learning_rate=1e-2, weight_decay=0.3, seed=seed)
    with torch.no_grad():
        W, out = (t.double().numpy() for t in module.weights())
        bias, rest = module.bias.double().numpy(), module.rest.double().numpy()
    return from_layers([W / spread, SCALE * out[None]], [bias - W @ (center / spread), SCALE * rest], [get("relu")])
