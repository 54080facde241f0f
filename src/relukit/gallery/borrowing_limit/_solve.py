r"""Consumption at a borrowing limit, solved in the weights of one hidden ReLU layer per income state.

Saving above the limit is :math:`a' - \underline a = \sum_k w_k\,\mathrm{relu}(m - t_k)` with slopes between 0 and 1, so
:math:`c = m - a'` is positive and the limit holds exactly, for every weight. Below the first hinge the household is
at the limit: the kink of the policy is :math:`\min_k t_k`.

The Euler equation says what consumption has to be where `a'` is chosen:
:math:`c(a') = (\beta R \sum_k P_{jk}\, c_k(R a' + y_k)^{-g})^{-1/g}` at :math:`m = a' + c(a')`. Each step evaluates it with
the present networks and refits them by least squares; nothing else is carried from step to step.

References:
    The method of endogenous gridpoints for solving dynamic stochastic optimization problems, Carroll, 2006.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
POINTS = 4000  # at which the Euler equation is asked in each step
_BENT, _PLACED = 60, 240  # steps up to which hinges follow the bending, then the errors


@dataclass(frozen=True)
class Calibration:
    """Discount factor, gross return, risk aversion, limit, income and its transition matrix."""

    beta: float
    R: float
    g: float
    amin: float
    income: Array
    transition: Array

    @staticmethod
    def of(values: dict[str, Any]) -> "Calibration":
        return Calibration(
            *(float(values[k]) for k in ("beta", "R", "g", "amin")),
            np.array(values["income"], float),
            np.array(values["transition"], float),
        )


@dataclass(frozen=True, eq=False)
class Policy:
    """Hinges (states, units), sorted, and saving above the limit at each; linear between them and beyond the last."""

    hinges: Array
    saving: Array

    def save(self, state: int, m: Array) -> Array:
        t, s = self.hinges[state], self.saving[state]
        slope = (s[-1] - s[-2]) / (t[-1] - t[-2])
        return np.interp(m, t, s) + slope * np.maximum(m - t[-1], 0)

    def chain(self, state: int) -> dict[str, Array]:
        """The network of one income state: m to saving above the limit."""
        t, s = self.hinges[state], self.saving[state]
        slopes = np.diff(s) / np.diff(t)
        weights = np.diff(np.concatenate([[0.0], slopes]))
        return {"W0": np.ones((len(weights), 1)), "b0": -t[:-1], "W1": weights[None], "b1": np.zeros(1)}


def wanted(model: Calibration, state: int, saving: Array, consume: Any) -> Array:
    """Consumption today that the Euler equation asks for; `consume(state, m)` is tomorrow's policy."""
    a = model.amin + saving
    margin = sum(
        p * consume(k, model.R * a + y) ** -model.g
        for k, (p, y) in enumerate(zip(model.transition[state], model.income))
        if p > 1e-14
    )
    return (model.beta * model.R * margin) ** (-1 / model.g)


def solve(model: Calibration, units: int = 64, seed: int = 0, top: float = 7.5, steps: int = 400) -> Policy:
    """Solve from a random policy; `top` is the largest cash on hand that must be precise.

    The hinges first go where the policy bends most; then they are moved until the largest error between two of them is about the
    same everywhere, and of all such places those with the smallest are kept for the rest, in which only heights and the first
    hinge move.
    """
    rng = np.random.default_rng(seed)
    far, states = 3 * top, range(len(model.income))
    start = model.income * rng.uniform(0.6, 1.4, len(model.income))
    hinges = start[:, None] + (far - start[:, None]) * np.linspace(0, 1, units + 1) ** 2
    policy = Policy(hinges, rng.uniform(0.3, 0.8) * (hinges - start[:, None]))
    dense = far * np.linspace(0, 1, POINTS) ** 3
    best: list[tuple[float, Array]] = [(np.inf, h) for h in hinges]
    for step in range(steps):
        spend = lambda k, m, p=policy: m - model.amin - p.save(k, m)
        rows, heights = [], []
        for j in states:
            c = wanted(model, j, dense, spend)
            m = model.amin + dense + c
            # An error of c costs the Euler equation that error over c and over the slope of saving, small just above the kink.
            allowed = c * np.clip(np.gradient(dense, m), 0.02, 1.0) * np.where(m > top, 5.0, 1.0)
            t = best[j][1] if step == _PLACED else policy.hinges[j]
            if step < _BENT or m[0] >= t[1]:
                t = _by_bending(m, c, units, top)
            else:
                t = np.concatenate([m[:1], t[1:]])
                if step < _PLACED and step % 3 == 0:
                    errors = _errors(t, m, dense, allowed)
                    if step > (_BENT + _PLACED) // 2 and errors.max() < best[j][0]:
                        best[j] = float(errors.max()), t
                    t = _evened(t, errors)
            rows.append(t)
            heights.append(_fit(t, m, dense, allowed))
        new = Policy(np.array(rows), np.array(heights))
        change = max(float(np.abs(policy.save(j, rows[j]) - heights[j]).max()) for j in states)
        policy = new
        if step > _PLACED and change < 1e-11:
            break
    return policy


def _by_bending(m: Array, c: Array, units: int, top: float) -> Array:
    """Hinges: the first at the kink, the rest at equal shares of sqrt|c''|."""
    grid = m[0] + (m[-1] - m[0]) * np.linspace(0, 1, 1500) ** 2
    slope = np.gradient(np.interp(grid, m, c), grid)
    bend = np.abs(np.gradient(slope, grid))
    wide = 4
    bend = np.convolve(np.pad(bend, wide, "edge"), np.ones(2 * wide + 1) / (2 * wide + 1), "valid")
    density = np.sqrt(bend / np.interp(grid, m, c)) * np.where(grid > top, 0.2, 1.0) + 1e-3
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    return np.interp(np.linspace(0, mass[-1], units + 1), mass, grid)


def _errors(t: Array, m: Array, saving: Array, allowed: Array) -> Array:
    """The largest error between two hinges, each pair, of the best heights, over what is allowed."""
    off = np.abs(saving - np.interp(m, t, _fit(t, m, saving, allowed))) / allowed
    found = np.zeros(len(t) - 1)
    np.maximum.at(found, np.clip(np.searchsorted(t, m, side="right") - 1, 0, len(t) - 2), off)
    return found


def _evened(t: Array, errors: Array) -> Array:
    """Hinges moved a little to where the errors are: kinks of second order, where tomorrow's household comes to its limit."""
    share = np.maximum(errors, 1e-3 * errors.max()) ** 0.2
    share = np.convolve(np.pad(share, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    mass = np.concatenate([[0], np.cumsum(share)])
    return np.interp(np.linspace(0, mass[-1], len(t)), mass, t)


def _fit(t: Array, m: Array, saving: Array, allowed: Array) -> Array:
    """Heights at the hinges, zero at the first: least squares of the error over what is allowed, in (tridiagonal) hats."""
    from scipy.linalg import solveh_banded

    k = np.clip(np.searchsorted(t, m, side="right") - 1, 0, len(t) - 2)
    right = (m - t[k]) / (t[k + 1] - t[k])
    # each interval counts alike, whatever share of the points fell into it
    count = np.bincount(k, minlength=len(t) - 1)
    w = 1 / (allowed**2 * count[k])
    size = len(t)
    diagonal = np.bincount(k, w * (1 - right) ** 2, size) + np.bincount(k + 1, w * right**2, size)
    beside = np.bincount(k, w * right * (1 - right), size - 1)
    load = np.bincount(k, w * (1 - right) * saving, size) + np.bincount(k + 1, w * right * saving, size)
    band = np.zeros((2, size - 1))
    band[1] = diagonal[1:] * (1 + 1e-12) + 1e-14
    band[0, 1:] = beside[1:]
    inner = solveh_banded(band, load[1:])
    s = np.concatenate([[0.0], inner])
    return np.maximum.accumulate(s)


def euler_errors(model: Calibration, consume: Any, grid: Array) -> Array:
    """log10 of the relative Euler error at each point where the household is not at its limit, all states in a row."""
    found = []
    for j in range(len(model.income)):
        c = consume(j, grid)
        saving = grid - model.amin - c
        free = saving > 1e-10
        ask = wanted(model, j, saving[free], consume)
        found.append(np.log10(np.maximum(np.abs(ask / c[free] - 1), 1e-16)))
    return np.concatenate(found)
