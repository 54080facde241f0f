r"""The linear single-track model as a formula: how yaw rate follows a steering that changes, at a speed that changes.

.. math:: \dot v_y = \frac{F_f + F_r}{m} - v \omega, \quad k^2 \dot\omega = \frac{a F_f - b F_r}{m}, \quad
          F_f = -c_f m \left(\frac{v_y + a \omega}{v} - (z - z_0)\right), \quad F_r = -c_r m \frac{v_y - b \omega}{v}

with z the steering behind a first-order lag. Understeer gradient K = (b / c_f - a / c_r) / L takes the place of c_f.
Seven numbers by least squares; trapezoidal steps, compiled. A car simulated by many bodies is told by it and a ReLU residual.
"""

from typing import Any

import numpy as np

from relukit.gallery.car import _model

Array = np.ndarray
NAMES = ("wheelbase", "understeer", "front_share", "gyration2", "rear_stiffness", "lag", "offset")
START = (2.9, 5e-4, 0.5, 2.0, 80.0, 0.05, 0.0)
LOW, HIGH = (1.5, -5e-3, 0.3, 0.3, 10.0, 1e-4, -0.05), (4.5, 1e-2, 0.7, 6.0, 600.0, 0.6, 0.05)

_kernel: Any = None


def _compiled() -> Any:
    """The recursion, compiled when it is first asked for."""
    global _kernel
    if _kernel is None:
        from numba import njit

        _kernel = njit(_roll)
    return _kernel


def _roll(first: Array, step: Array, speed: Array, steering: Array, p: Array) -> Array:
    L, K, share, k2, cr, lag, offset = p
    a = share * L
    b = L - a
    cf = b / (L * K + a / cr)
    out = np.empty(len(speed))
    y = w = z = 0.0
    for k in range(len(speed)):
        v = max(speed[k], 1.0)
        if first[k]:  # at rest behind the lags
            z = steering[k]
            w = v * (z - offset) / (L + K * v * v)
            y = b * w - a * v * v * w / (L * cr)
        z += (1 - np.exp(-step[k] / lag)) * (steering[k] - z)
        h = step[k] / 4
        A, B = -(cf + cr) / v, (b * cr - a * cf) / v - v
        C, D = (b * cr - a * cf) / (v * k2), -(a * a * cf + b * b * cr) / (v * k2)
        push, turn = cf * (z - offset), a * cf * (z - offset) / k2
        for _ in range(4):
            p1 = y + h / 2 * (A * y + B * w) + h * push
            p2 = w + h / 2 * (C * y + D * w) + h * turn
            e, f, g, i = 1 - h / 2 * A, -h / 2 * B, -h / 2 * C, 1 - h / 2 * D
            y, w = (i * p1 - f * p2) / (e * i - f * g), (e * p2 - g * p1) / (e * i - f * g)
        out[k] = w
    return out


def yaw_rate(table: Any, parameters: Array) -> Array:
    """Yaw rate [rad/s] of each row from speed and steering up to it."""
    times, speed, steering = (table[c].to_numpy(float) for c in _model.INPUTS[:3])
    first, step = np.zeros(len(times), bool), np.full(len(times), 0.04)
    for rows in _model.stretches(times):
        first[rows[0]] = True
        if len(rows) > 1:
            step[rows[1:]] = np.diff(times[rows])
    return _compiled()(first, step, speed, steering, np.asarray(parameters, float))


def fit(table: Any) -> Array:
    """The seven numbers by least squares."""
    from scipy.optimize import least_squares

    truth = table[_model.TARGET].to_numpy(float)
    error = lambda p: np.clip(np.nan_to_num(yaw_rate(table, p) - truth, nan=1.0), -1, 1)
    size = [1, 1e-3, 0.1, 1, 30, 0.05, 0.01]
    return least_squares(error, START, bounds=(LOW, HIGH), x_scale=size, max_nfev=60).x


def inputs(table: Any, rate: Array) -> Array:
    """(rows, 3) of the residual: speed, smoothed acceleration, side acceleration that the formula expects. No friction."""
    times, speed = table["time(s)"].to_numpy(float), table["vx(m/s)"].to_numpy(float)
    return np.column_stack(
        [speed, _model.lagged(times, table["ax(m/s^2)"].to_numpy(float), _model.SMOOTH), speed * rate]
    )
