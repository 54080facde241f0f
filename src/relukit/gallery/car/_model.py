r"""Understeer formula on lagged steering, and a residual that rises with steering by construction.

.. math:: \omega = \frac{v (z - z_0)}{L + K v^2} + r(v, a, \text{throttle}, \text{brake}, z)

with z the steering angle behind one second-order system (steering actuator, tires and yaw inertia together). The formula rises in z as long as
:math:`L + K v^2 > 0`. The residual is one layer of ReLUs in three groups: weights of z and of the output both positive,
both negative, or no weight of z at all: it rises in z whatever the other numbers are. So their sum rises, a steering
angle for a given radius is unique, and it is found exactly, piece by piece.

Inputs are speed, steering, longitudinal acceleration and pedals with their past; never yaw rate, lateral velocity, heading, position
or wheel speeds, which give the answer away.
"""

from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._life import seeded, train_module

Array = np.ndarray
INPUTS = ["time(s)", "vx(m/s)", "delta(rad)", "ax(m/s^2)", "throttle_ped_cmd(%)", "brake_ped_cmd(kPa)"]
TARGET, GAP, SMOOTH, HIDDEN, SCALE, REACH = "omega(rad/s)", 0.1, 0.3, 12, 0.01, 3.0
NAMES = ("speed [m/s]", "longitudinal acceleration [m/s^2]", "throttle [%]", "brake [kPa]", "lagged steering [rad]")


def read(path: Any) -> Any:
    import pandas as pd

    table = pd.read_csv(path)
    missing = [c for c in [*INPUTS, TARGET] if c not in table.columns]
    if missing:
        raise UnreadableFile(f"{path} lacks the columns {', '.join(missing)}")
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


def settled(times: Array, steering: Array, frequency: float, damping: float) -> Array:
    """Steering behind w^2 / (p^2 + 2 d w p + w^2), w in rad/s, held between samples; at rest at each start."""
    from scipy.signal import cont2discrete, lfilter, lfilter_zi

    w, d = abs(frequency) + 0.1, abs(damping) + 0.02
    out = np.empty(len(steering))
    for rows in stretches(times):
        step = float(np.median(np.diff(times[rows]))) if len(rows) > 1 else 0.04
        top, bottom = cont2discrete(([w * w], [1, 2 * d * w, w * w]), step, "zoh")[:2]
        start = lfilter_zi(top.ravel(), bottom) * steering[rows][0]
        out[rows] = lfilter(top.ravel(), bottom, steering[rows], zi=start)[0]
    return out


def understeer(parameters: Array, speed: Array, steering: Array) -> Array:
    """v (z - z_0) / (L + K v^2); parameters end with L [m], K [s^2/m], z_0 [rad]."""
    length, gradient, offset = parameters[-3:]
    return speed * (steering - offset) / (length + gradient * speed**2)


def fit_formula(table: Any, lags: bool = True) -> Array:
    """Frequency and damping of the lag, wheelbase, understeer gradient and steering offset by least squares; without lags the last three only."""
    from scipy.optimize import least_squares

    times, speed, steering = (table[c].to_numpy(float) for c in INPUTS[:3])
    truth = table[TARGET].to_numpy(float)

    def error(p: Array) -> Array:
        z = settled(times, steering, *p[:2]) if lags else steering
        return understeer(p, speed, z) - truth

    start, size = [5.0, 0.9, 3.0, 0.001, 0.0], [1.0, 0.3, 1.0, 0.001, 0.01]
    skip = 0 if lags else 2
    p = least_squares(error, start[skip:], x_scale=size[skip:], max_nfev=25).x
    return np.concatenate([np.abs(p[:2]), p[2:]]) if lags else p


def inputs(table: Any, parameters: Array) -> Array:
    """(rows, 5) of the residual: speed, smoothed acceleration, throttle and brake, lagged steering."""
    times, speed, steering, ax, throttle, brake = (table[c].to_numpy(float) for c in INPUTS)
    smooth = [lagged(times, x, SMOOTH) for x in (ax, throttle, brake)]
    return np.column_stack([speed, *smooth, settled(times, steering, *parameters[:2])])


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
