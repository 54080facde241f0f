"""Training that the page watches: small networks on points of the plane, full batches, the same run from the same settings.

Written in NumPy with its own reverse pass: a step on 2-32-32 takes less time than torch needs to be called, and the
page's server starts without torch.
"""

from copy import copy, deepcopy
from functools import cache
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import AnyArray, Array, BoolArray, IntArray
from relukit.activations import get
from relukit.explorer._state import Settings
from relukit.network import Network, from_layers
from relukit.piecewise import AbstractActivation
from relukit.sets import Box

BOX = Box([-1.25, -1.25], [1.25, 1.25])
_BETA = (0.9, 0.999)  # Adam's, as in Kingma and Ba (2015)


@cache
def data(name: str, seed: int, points: tuple = ()) -> tuple[Array, Array]:
    """Inputs `(n, 2)` in the box, and classes (int) or targets (float) `(n,)`."""
    rng = np.random.default_rng(seed)
    if name == "points":
        table = np.array(points, float).reshape(-1, 3)
        return table[:, :2], table[:, 2].astype(int)
    if name == "max":
        x = rng.uniform(-1.25, 1.25, (400, 2))
        return x, np.maximum(0, x.max(axis=1))
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch: Any = load_digits()
        images, labels = bunch.data, bunch.target
        middle = images - images.mean(axis=0)
        axes = np.linalg.svd(middle, full_matrices=False)[2][:2]
        flat = middle @ axes.T
        return flat / np.abs(flat).max(), labels
    half = 150
    t = np.sqrt(rng.uniform(0, 1, half))
    if name == "spiral":
        arms = [_turn(t, t * 3.0 * np.pi + k * np.pi) for k in (0, 1)]
    elif name == "circles":
        arms = [_turn(np.full(half, r), 2 * np.pi * t**2) for r in (0.4, 0.9)]
    else:  # moons
        angle = np.pi * t**2
        arms = [np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1), np.stack([0.5 - np.cos(angle), 0.25 - np.sin(angle)], 1)]  # fmt: skip
        arms = [arm * 0.7 for arm in arms]
    x = np.concatenate(arms) + rng.normal(0, 0.025, (2 * half, 2))
    return x, np.repeat([0, 1], half)


def _turn(radius: Array, angle: Array) -> Array:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _gelu(z: Array) -> tuple[Array, Array]:
    from scipy.special import ndtr  # 0.2 s to import: only where GELU is trained

    share = ndtr(z)
    return z * share, share + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _elu(z: Array) -> tuple[Array, Array]:
    low = np.expm1(np.minimum(z, 0))
    return np.where(z > 0, z, low), np.where(z > 0, 1.0, low + 1)


def _tanh(z: Array) -> tuple[Array, Array]:
    value = np.tanh(z)
    return value, 1 - value * value


def _sigmoid(z: Array) -> tuple[Array, Array]:
    value = 0.5 * (1 + np.tanh(z / 2))
    return value, value * (1 - value)


def _leaky(z: Array) -> tuple[Array, Array]:
    slope = np.where(z > 0, 1.0, 0.01)
    return slope * z, slope


# Value and derivative for training; the catalogue's own forms are right to 2 ulp and ten times slower. A test compares.
_FAST = {
    "relu": lambda z: (np.maximum(z, 0), (z > 0).astype(float)),
    "leaky_relu": _leaky, "elu": _elu, "gelu": _gelu, "tanh": _tanh, "sigmoid": _sigmoid,
}  # fmt: skip


class Trainer:
    """One run: weights `(out, in)` and biases by layer, and since when each hidden unit has been off for all data."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.x, self.y = data(settings.data, 0 if settings.data != "max" else 1, settings.points)
        self.kind = {"digits": "classes", "max": "regression"}.get(settings.data, "signs")
        self.step = 0
        self.done = 0  # events that have happened
        self.lr = settings.lr
        self.rng = np.random.default_rng(settings.seed)
        outputs = 10 if self.kind == "classes" else 1
        sizes = (2, *settings.widths, outputs)
        self.W = [self._draw(m, n) for n, m in zip(sizes, sizes[1:])]
        self.b = [self.rng.uniform(-1, 1, m) / np.sqrt(n) for n, m in zip(sizes, sizes[1:])]
        self.slope = np.full(len(settings.widths), 0.25)  # PReLU's, one per layer
        self._reset_moments()
        self.off_since: list[IntArray] = [np.full(m, -1) for m in settings.widths]
        self.losses: list[float] = []
        self.gradient_norms = np.zeros(len(self.W))
        self._look()

    def copy(self) -> "Trainer":
        """A run that goes on by itself from here; the points are shared."""
        other = copy(self)
        other.W, other.b, other.slope = [W.copy() for W in self.W], [b.copy() for b in self.b], self.slope.copy()
        other.moments = [[m.copy(), v.copy(), count] for m, v, count in self.moments]
        other.off_since, other.losses = [since.copy() for since in self.off_since], self.losses.copy()
        other.rng = deepcopy(self.rng)
        return other

    def _look(self) -> None:
        """Loss, gradients and silent units at the present weights: what the next step starts from."""
        self.loss, self.gradients, _ = self._forward_backward()
        self._note_silent()

    def _draw(self, m: int, n: int) -> Array:
        scale = {"he": np.sqrt(2 / n), "xavier": np.sqrt(2 / (m + n)), "torch": np.sqrt(1 / (3 * n)), "small": 0.01}
        return self.rng.normal(size=(m, n)) * scale[self.settings.init]

    def _reset_moments(self) -> None:
        self.moments = [[np.zeros_like(p), np.zeros_like(p), 0] for p in [*self.W, *self.b, self.slope]]

    def activation(self, layer: int) -> AbstractActivation:
        name = self.settings.activation
        return get(name, weight=float(self.slope[layer])) if name == "prelu" else get(name)

    def _act(self, layer: int, z: Array) -> tuple[Array, Array]:
        """Value and derivative."""
        if self.settings.activation == "prelu":
            slope = np.where(z > 0, 1.0, self.slope[layer])
            return slope * z, slope
        return _FAST[self.settings.activation](z)

    def _forward_backward(self) -> tuple[float, list[Array], list[BoolArray]]:
        """Loss, gradients (weights, biases, slopes) and which units did something for some row."""
        h, kept = self.x, []
        for k, (W, b) in enumerate(zip(self.W[:-1], self.b[:-1])):
            z = h @ W.T + b
            value, slope = self._act(k, z)
            kept.append((h, z, slope))
            h = value
        out = h @ self.W[-1].T + self.b[-1]
        loss, g = self._loss(out)
        gW, gb, gs = [g.T @ h], [g.sum(axis=0)], np.zeros_like(self.slope)
        for k in range(len(kept) - 1, -1, -1):
            before, z, slope = kept[k]
            g = g @ self.W[k + 1]
            gs[k] = (g * np.minimum(z, 0)).sum()
            g = g * slope
            gW.insert(0, g.T @ before)
            gb.insert(0, g.sum(axis=0))
        self.gradient_norms = np.array([np.linalg.norm(a) for a in gW])
        self.accuracy = self._accuracy(out)
        self.active = [np.abs(slope).max(axis=0, initial=0) > 0 for _, _, slope in kept]
        return loss, [*gW, *gb, gs], self.active

    def _loss(self, out: Array) -> tuple[float, Array]:
        n = max(len(out), 1)
        if self.kind == "regression":
            gap = out[:, 0] - self.y
            return float((gap**2).mean()), 2 * gap[:, None] / n
        if self.kind == "signs":
            sign = 2.0 * self.y - 1
            margin = sign * out[:, 0]
            share = 0.5 * (1 - np.tanh(margin / 2))  # the logistic function of -margin, without overflow
            return float(np.logaddexp(0, -margin).sum() / n), (-sign * share)[:, None] / n
        shifted = out - out.max(axis=1, keepdims=True)
        p = np.exp(shifted)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(out))
        loss = float((np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, self.y]).mean())
        p[rows, self.y] -= 1
        return loss, p / n

    def _accuracy(self, out: Array) -> float | None:
        if self.kind == "regression" or not len(out):
            return None
        right = (out[:, 0] > 0) == (self.y == 1) if self.kind == "signs" else out.argmax(axis=1) == self.y
        return float(right.mean())

    def _note_silent(self) -> None:
        for since, active in zip(self.off_since, self.active):
            since[active] = -1
            since[~active & (since < 0)] = self.step

    def run_to(self, step: int) -> None:
        """Take the steps up to `step`, with the events that belong to them."""
        while True:
            while self.done < len(self.settings.events) and self.settings.events[self.done][0] <= self.step:
                _, kind, value = self.settings.events[self.done]
                self.done += 1
                self._event(kind, value)
            if self.step >= step:
                return
            self._take_step()

    def _take_step(self) -> None:
        if all(np.all(np.isfinite(g)) for g in self.gradients):
            parameters = [*self.W, *self.b, self.slope]
            for p, g, memory in zip(parameters, self.gradients, self.moments):
                memory[2] += 1
                if not self.settings.momentum:
                    p -= self.lr * g
                    continue
                memory[0] = _BETA[0] * memory[0] + (1 - _BETA[0]) * g
                memory[1] = _BETA[1] * memory[1] + (1 - _BETA[1]) * g * g
                first, second = (memory[i] / (1 - _BETA[i] ** memory[2]) for i in (0, 1))
                p -= self.lr * first / (np.sqrt(second) + 1e-8)
        self.step += 1
        self._look()
        self.losses.append(self.loss)

    def _event(self, kind: str, value: float) -> None:
        if kind == "lr":
            self.lr = value
        elif kind == "revive":
            self.revive()
        else:
            self.construct()
        self._look()

    def revive(self) -> None:
        """Give each silent unit fresh incoming weights, its line through a row of the data, and no say in the output yet."""
        rng = np.random.default_rng([self.settings.seed, self.step])
        for k in range(len(self.off_since)):
            h = self.x
            for j in range(k):
                h = self._act(j, h @ self.W[j].T + self.b[j])[0]
            for unit in np.flatnonzero(self.off_since[k] >= 0):
                n = self.W[k].shape[1]
                self.W[k][unit] = rng.normal(size=n) * np.sqrt(2 / n)
                z = h @ self.W[k][unit]
                self.b[k][unit] = -np.median(z) if len(z) and np.ptp(z) > 0 else 0.1
                self.W[k + 1][:, unit] = rng.normal(size=len(self.W[k + 1])) * 1e-2
            self._forward_backward()
            self._note_silent()
        self._reset_moments()

    def construct(self) -> None:
        """The weights that make max(0, x, y): max(x, y) = y + relu(x - y), with y = relu(y) - relu(-y).

        Raises:
            InvalidInput: Fewer than two hidden layers: then no weights make it. A one-hidden-layer function bends
                along whole lines, while the bends of max(0, x, y) are three rays that end in the origin.
        """
        widths = self.settings.widths
        if len(widths) < 2:
            raise InvalidInput(
                "one hidden layer cannot make max(0, x, y): its bends are whole lines, and these are three rays. Add a layer."
            )
        if self.settings.activation != "relu" or widths[0] < 3 or self.W[-1].shape[0] != 1:
            raise InvalidInput("the construction uses ReLU and at least three units in the first layer")
        for array in [*self.W, *self.b]:
            array[:] = 0
        self.W[0][:3] = [[1, -1], [0, 1], [0, -1]]
        self.W[1][0, :3] = [1, 1, -1]
        for W in self.W[2:]:
            W[0, 0] = 1
        self._reset_moments()

    def network(self) -> Network:
        """The network of this step."""
        copies = [W.copy() for W in self.W], [b.copy() for b in self.b]
        return from_layers(*copies, [self.activation(k) for k in range(len(self.W) - 1)])

    def thumbnails(self, size: int = 12) -> AnyArray:
        """Activation of each hidden unit on a grid, scaled to 0..255, shape `(units, size * size)`, rows from low y to high."""
        ticks = np.linspace(-1.25, 1.25, size)
        h = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        maps = []
        for k in range(len(self.W) - 1):
            h = self._act(k, h @ self.W[k].T + self.b[k])[0]
            low, high = h.min(axis=0), h.max(axis=0)
            maps.append(((h - low) / np.where(high > low, high - low, 1) * 255).T)
        return np.concatenate(maps).astype(np.uint8)
