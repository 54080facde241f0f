"""Flips that are near: steps to linearized margins, in closed form for each norm."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from relukit._types import Array, BoolArray
from relukit.network import Network
from relukit.search._few_chain import Rows
from relukit.verification._flip_question import Question


class Try(Protocol):
    def __call__(self, point: Array) -> bool: ...


def size_of(step: Array, norm: float) -> Any:
    """The norm of steps along the last axis."""
    if norm == np.inf:
        return np.abs(step).max(axis=-1)
    return np.abs(step).sum(axis=-1) if norm == 1 else np.sqrt((step * step).sum(axis=-1))


def nearest(g: Array, need: Array, low: Array, high: Array, norm: float) -> Array:
    r"""Smallest steps d in a box with `g . d >= need`, as far as the box allows.

    For l-inf :math:`d = clip(t\, sign\, g)`, for l2 :math:`d = clip(t g)`: the gain is concave and piecewise smooth in t, and Newton's
    steps from 0 never overshoot. For l1 the largest slopes are used up first.

    Arguments:
        g, need: Shapes `(batch, n)`, `(batch,)`.
        low, high: At most and at least 0, shape `(n,)`.
    """
    if norm == 1:
        order = np.argsort(-np.abs(g), axis=1)
        room = np.take_along_axis(np.where(g >= 0, high, -low), order, axis=1)
        slope = np.take_along_axis(np.abs(g), order, axis=1)
        before = np.cumsum(slope * room, axis=1) - slope * room
        part = np.clip((need[:, None] - before) / np.maximum(slope, 1e-300), 0.0, room)
        d = np.zeros_like(g)
        np.put_along_axis(d, order, np.where(slope > 0, part, 0.0), axis=1)
        return d * np.sign(g)
    unit = np.sign(g) if norm == np.inf else g
    t = np.zeros(len(g))
    for _ in range(12):
        d = np.clip(t[:, None] * unit, low, high)
        missing = need - np.einsum("bn,bn->b", g, d)
        moving = (d > low) & (d < high)
        moving |= (t[:, None] == 0) & np.where(g > 0, high > 0, low < 0)
        rate = np.einsum("bn,bn->b", g * moving, unit)
        step = np.where((missing > 0) & (rate > 0), missing / np.maximum(rate, 1e-300), 0.0)
        t = t + step
        if not np.any(step > 1e-9 * t):
            break
    return np.clip(t[:, None] * unit, low, high)


def crossing(turned: Callable[[Array], BoolArray], parts: int) -> float | None:
    """The first share of a step at which the decision turns, as far as cutting it in so many parts tells; None where it does not at its end."""
    ends = 1 + np.array([0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
    beyond = turned(ends)
    if not beyond.any():
        return None
    low, high = 0.0, ends[beyond.argmax()]
    for _ in range(int(np.ceil(45 / np.log2(parts)))):
        at = np.linspace(low, high, parts + 1)
        first = int(np.append(turned(at[1:-1]), True).argmax())
        low, high = at[first], at[first + 1]
    return float(high)


class Descent:
    """Points that turn the decision, from several starts for every goal.

    Arguments:
        low, high: Steps that are allowed, shape `(n,)`.
        attempt: Called with a point; keeps it where it is the nearest flip so far.

    References:
        DeepFool: a Simple and Accurate Method to Fool Deep Neural Networks, Moosavi-Dezfooli, Fawzi, Frossard, 2016.
    """

    def __init__(
        self, network: Network, x: Array, question: Question, norm: float, low: Array, high: Array, attempt: Try
    ) -> None:
        self.network, self.x, self.question, self.norm = network, x, question, norm
        self.low, self.high, self.attempt = low, high, attempt
        self.scale = float(np.abs(x).max()) + 1e-3

    def margins(self, steps: Array, which: Array) -> tuple[Array, Array]:
        """How far each step is beyond its goal's boundary, and the slopes of that by the inputs."""
        points = self.x + steps
        y, margin, grad = self.network(points), np.empty(len(steps)), np.empty_like(steps)
        for t in np.unique(which):
            mine = np.flatnonzero(which == t)
            margin[mine] = -self.question.rows(int(t), y[mine])
            slopes = self.question.slopes(int(t), y[mine])
            unique, inverse = np.unique(slopes, axis=0, return_inverse=True)
            for k, q in enumerate(unique):
                at = mine[inverse.reshape(-1) == k]
                grad[at] = self.network.gradient(points[at], q)
        return margin, grad

    def run(self, rounds: int, starts: int, generator: np.random.Generator, stop: float) -> None:
        """From the input itself and points near it: on to the boundary, then home along it."""
        which = np.repeat(self.question.targets, starts)
        spread = 0.02 * self.scale * generator.standard_normal((len(which), len(self.x)))
        steps = np.clip(spread * (np.arange(len(which)) % starts > 0)[:, None], self.low, self.high)
        best, reached = np.full(len(which), np.inf), steps.copy()
        least = 0.01 * self.scale
        for k in range(rounds):
            if time.perf_counter() > stop:
                break
            margin, grad = self.margins(steps, which)
            far = size_of(steps, self.norm)
            better = (margin >= 0) & (far < best)
            best[better], reached[better] = far[better], steps[better]
            offset = -(margin - np.einsum("bn,bn->b", grad, steps))
            goal = nearest(grad, np.maximum(offset, 0.0) * (1 + 1e-3) + 1e-12, self.low, self.high, self.norm)
            size = np.maximum(np.abs(grad).sum(axis=1), 1e-30)
            push = np.clip(-margin / size, least * 0.5**k, 0.3 * self.scale)[:, None] * np.sign(grad)
            # A linear model reaches only so far: starts that found nothing at first begin again with short steps.
            reach = np.where(np.isfinite(best) | (k <= rounds // 2), np.inf, 0.08 * self.scale)[:, None]
            near = steps + np.clip(goal - steps, -reach, reach)
            onward = np.where(np.einsum("bn,bn->b", grad, goal - steps)[:, None] > 0, near + 0.05 * push, steps + push)
            share = 1.0 if k % 2 else 0.5
            steps = np.clip(
                np.where((margin >= 0)[:, None], (1 - share) * steps + share * goal, onward), self.low, self.high
            )
            if k == rounds // 2:
                steps = 0.5 * reached * np.isfinite(best)[:, None]
        for k in np.argsort(best)[:6]:
            if np.isfinite(best[k]) and best[k] < 1.5 * best.min():
                self.attempt(self.x + reached[k])

    def home(self, witness: Array, target: int, stop: float, rounds: int = 20) -> None:
        """From a flip along the boundary towards the input, halving the step where it fails."""
        step, which, share = (witness - self.x)[None], np.array([target]), 1.0
        for _ in range(rounds):
            if time.perf_counter() > stop:
                return
            margin, grad = self.margins(step, which)
            offset = -(margin - np.einsum("bn,bn->b", grad, step))
            goal = nearest(grad, np.maximum(offset, 0.0) * (1 + 1e-7), self.low, self.high, self.norm)
            moved = step + share * (goal - step)
            if self.attempt(self.x + moved[0]):
                step = moved
            else:
                share *= 0.5
                if share < 0.05:
                    return

    def balance(self, rows: Rows, steps: int) -> None:
        """Steps on the boundary's two sides while the ball they stay in shrinks or grows, towards each decision at once.

        A linearized margin guides well near a boundary; this sees more of the pieces on the way to one that is far.

        Arguments:
            rows: At most 0 where decision `question.targets[k]` is made: row k. Evaluated in single precision.

        References:
            Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints, Pintor, Roli, Brendel, Biggio, 2021.
        """
        row = np.arange(rows.outputs)
        D, n = np.zeros((len(row), len(self.x))), len(self.x)
        best, reached, radius = np.full(len(row), np.inf), D.copy(), np.full(len(row), np.inf)
        pace = np.zeros((len(row), 1))
        dual = np.inf if self.norm == 1 else 1 if self.norm == np.inf else 2
        for k in range(steps):
            value, slope = rows.slope(self.x + D, row=row)
            value, far = value[:, 0].astype(np.float64), size_of(D, self.norm)
            there, share = value <= 0, 0.001 + 0.049 * 0.5 * (1 + np.cos(np.pi * k / steps))
            better = there & (far < best)
            best[better], reached[better] = far[better], D[better]
            first = far + np.maximum(value, 0) / np.maximum(np.linalg.norm(slope, dual, axis=1), 1e-30)
            radius = np.where(
                there, np.minimum(radius, best) * (1 - share), np.where(np.isinf(best), first, radius * (1 + share))
            )
            if k == 0:  # steps reach a tenth of where the boundary would be if the margin were linear, in each input
                reach = (
                    np.clip(0.1 * first, 0.036 * self.scale, self.scale) if self.norm == np.inf else 0.036 * self.scale
                )
                pace = np.sqrt(n) * np.broadcast_to(reach, len(row))[:, None]
            step = pace * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * k / steps)))
            D = D - step * slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-30)
            D = np.clip(D, self.low, self.high)
            if self.norm == np.inf:
                D = np.clip(D, -radius[:, None], radius[:, None])
            else:
                D = D * np.minimum(1.0, radius / np.maximum(size_of(D, self.norm), 1e-30))[:, None]
        for k in np.argsort(best)[:4]:
            if np.isfinite(best[k]):
                self.attempt(self.x + reached[k])

    def climb(self, rows: Rows | None, generator: np.random.Generator, stop: float) -> bool:
        """Ascend each margin over growing balls with sign steps, where the descent met no boundary.

        Arguments:
            rows: As in `balance`, if there are any: they cost less than margins.
        """
        which, row = np.repeat(self.question.targets, 8), np.repeat(np.arange(len(self.question.targets)), 8)
        for radius in self.scale * np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0]):
            if time.perf_counter() > stop:
                return False
            clip = lambda s, r=radius: np.clip(s, np.maximum(self.low, -r), np.minimum(self.high, r))
            steps = clip(radius * generator.uniform(-1, 1, (len(which), len(self.x))))
            for k in range(30):
                if time.perf_counter() > stop:
                    return False
                grad = self.margins(steps, which)[1] if rows is None else -rows.slope(self.x + steps, row=row)[1]
                steps = clip(steps + radius * 0.25 * 0.9**k * np.nan_to_num(np.sign(grad)))
            margin, _ = self.margins(steps, which)
            if np.any([self.attempt(self.x + steps[k]) for k in np.flatnonzero(margin >= 0)]):
                return True
        return False

    def scan(self, others: Array | None, generator: np.random.Generator, stop: float) -> None:
        """Far points in random directions and given ones: on flat stretches gradients lead nowhere."""
        n = len(self.x)
        sign = np.sign(generator.standard_normal((400, n)))
        sparse = generator.random((400, 1)) < generator.random((400, n))
        steps = np.clip(2 * self.scale * sign * sparse, self.low, self.high)
        reach = np.where(np.isfinite(self.low) & np.isfinite(self.high), 1.0, 0.0)
        wide = np.where(reach > 0, self.low + (self.high - self.low) * generator.random((100, n)), 0.0)
        corner = np.where(self.high > -self.low, self.high, self.low)[None]
        steps = np.concatenate([steps, wide, np.clip(corner, -100 * self.scale, 100 * self.scale)])
        if others is not None:
            given = np.clip(others - self.x, self.low, self.high)
            steps = np.concatenate([given[np.argsort(size_of(given, self.norm), kind="stable")], steps])
        tried = 0
        for few in np.array_split(steps, max(len(steps) // 20, 1)):
            if time.perf_counter() > stop:
                return
            for k in np.flatnonzero(np.isin(self.network.decide(self.x + few), self.question.targets))[: 20 - tried]:
                self.attempt(self.x + few[k])
                tried += 1
