"""Logs of a simulated car: the multi-body model of commonroad-vehicle-models (29 states, BMW 320i) on roads of friction 0.4 to 1.0.

Each run keeps its speed near a target between 5 and 40 m/s and turns the wheel along random ramps, up to 70 % of the side force
that the road gives. The table has the columns of the logs, and `friction`; pedals stand for the acceleration asked for.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from relukit._errors import MissingExtra

Array = np.ndarray
STEP, KEPT, LONG, PAUSE = 0.002, 0.04, 8.0, 5.0  # s: of the integration, between rows, of a run, between runs
LOW, HIGH, SLOWEST, FASTEST, SHARE, SPUN = 0.4, 1.0, 5.0, 40.0, 0.7, 0.15
VEHICLE, GRAVITY = 2, 9.81


def simulate(seed: int, runs: int) -> Any:
    """A table of `runs` runs of eight seconds."""
    import pandas as pd

    parts = [_run(np.random.default_rng([seed, k]), k) for k in range(runs)]
    return pd.concat(parts, ignore_index=True)


def _car(friction: float) -> SimpleNamespace:
    """The vehicle's numbers with the tires' friction coefficients set, as plain attributes."""
    try:
        from vehiclemodels.vehicle_parameters import setup_vehicle_parameters
    except ImportError as error:
        raise MissingExtra("the simulation needs commonroad-vehicle-models: pip install relukit[gallery]") from error
    plain = lambda d: SimpleNamespace(**{k: plain(v) if hasattr(v, "__dict__") else v for k, v in vars(d).items()})
    car = plain(setup_vehicle_parameters(vehicle_id=VEHICLE))
    car.tire.p_dx1, car.tire.p_dy1 = friction * car.tire.p_dx1 / car.tire.p_dy1, friction
    return car


def _runge_kutta(x: Array, asked: list[float], car: SimpleNamespace) -> Array:
    """One step of the classical fourth order under a held steering rate [rad/s] and acceleration [m/s^2]."""
    from vehiclemodels.vehicle_dynamics_mb import vehicle_dynamics_mb

    f = lambda y: np.array(vehicle_dynamics_mb(list(y), asked, car))
    a = f(x)
    b = f(x + STEP / 2 * a)
    c = f(x + STEP / 2 * b)
    return x + STEP / 6 * (a + 2 * b + 2 * c + f(x + STEP * c))


def _run(g: np.random.Generator, number: int) -> Any:
    import pandas as pd
    from vehiclemodels.init_mb import init_mb

    friction, speed = g.uniform(LOW, HIGH), g.uniform(SLOWEST, FASTEST)
    car = _car(friction)
    base = car.a + car.b
    most = min(
        SHARE * friction * GRAVITY * (base / speed**2 + 0.0003), 0.35
    )  # wheel angle for that share of side force
    corners = np.concatenate([[0.0], g.uniform(-most, most, 6)])
    when = np.linspace(0.3, LONG - 1, 7)
    target = speed + g.uniform(-2, 2)
    x = np.array(init_mb([0, 0, 0, speed, 0, 0, 0], car), float)
    rows = []
    every, count = round(KEPT / STEP), round(LONG / STEP)
    for k in range(count):
        t = k * STEP
        rate = (np.interp(t + STEP, when, corners) - x[2]) / STEP
        push = float(np.clip(1.5 * (target - x[3]), -2, 1.5))
        if k % every == 0:
            rows.append((number * (LONG + PAUSE) + t, math.hypot(x[3], x[10]), x[2], push, x[5], friction))
        x = _runge_kutta(x, [rate, push], car)
        if not np.all(np.isfinite(x)) or abs(x[10]) > SPUN * x[3]:
            break  # a car that spins has no turning radius
    t, v, d, push, w, mu = np.array(rows).T
    return pd.DataFrame({
        "time(s)": t, "vx(m/s)": v, "delta(rad)": d, "ax(m/s^2)": np.gradient(v, KEPT), "throttle_ped_cmd(%)": np.maximum(push, 0) * 100 / 1.5,
        "brake_ped_cmd(kPa)": np.maximum(-push, 0) * 1000, "omega(rad/s)": w, "friction": mu,
    })  # fmt: skip
