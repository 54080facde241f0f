"""Nearer flips around a known one, where few inputs move: descents in smaller balls, and the nearest point of a linear piece."""

import numpy as np

from relukit._types import Array
from relukit.network import Network
from relukit.network._nodes import Chain
from relukit.search._few_chain import Rows
from relukit.search._small_program import minimize

_SHARES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)  # by how much nearer a flip is looked for
_STARTS, _STEPS = 10, 14


class Near:
    """Searches around flips of one input.

    Arguments:
        network: Piecewise linear.
        x: The input.
        A, b: One row of the outputs for each other decision: at most 0 where it is made.
        low, high: Steps from x that are allowed, shape `(n,)`.
    """

    def __init__(self, network: Network, x: Array, A: Array, b: Array, low: Array, high: Array) -> None:
        self.rows, self.x, self.low, self.high = Rows(network.append(A, b)), x, low, high
        self.chain = network.dense_chain()
        self.A, self.b = A, b

    def inside(self, step: Array, radius: float, generator: np.random.Generator) -> Array:
        """Steps in smaller l-inf balls whose least row is at most 0 in single precision, nearest first, shape `(k, n)`.

        Sign steps follow the slope across the walls between linear pieces, which a program inside one piece cannot.
        """
        share = np.repeat(_SHARES, _STARTS)[:, None]
        low, high = np.maximum(self.low, -(1 - share) * radius), np.minimum(self.high, (1 - share) * radius)
        spread = 2 * share * radius
        jitter = generator.uniform(-1, 1, (len(share), len(step))) * (np.arange(len(share)) % _STARTS > 0)[:, None]
        D = np.clip(step + spread * jitter, low, high)
        best, value = D.copy(), np.full(len(D), np.inf)
        for k in range(_STEPS + 1):
            now, slope = self.rows.slope(self.x + D, least=True)
            better = now[:, 0] < value
            best[better], value[better] = D[better], now[better, 0]
            if k < _STEPS:
                D = np.clip(D - spread * 0.8**k * np.sign(slope), low, high)
        found = best[value <= 0]
        return found[np.argsort(np.abs(found).max(axis=1))]

    def nearest(self, step: Array, row: int, radius: float) -> Array | None:
        """The nearest step, in l-inf, of the linear piece around one with the given row at most 0; None for other networks."""
        if self.chain is None or not self.chain.is_relu:
            return None
        G, g, slope, offset = _piece(self.chain, self.x, step)
        slope, offset = self.A[row] @ slope, float(self.A[row] @ offset + self.b[row])
        n = len(step)
        near = np.flatnonzero(g < radius * np.abs(G).sum(axis=1))  # walls that the ball can reach
        ball = np.concatenate([np.c_[np.eye(n), -np.ones(n)], np.c_[-np.eye(n), -np.ones(n)]])
        found = minimize(
            np.r_[np.zeros(n), 1.0],
            np.concatenate([np.c_[-G[near], np.zeros(len(near))], [np.r_[slope, 0.0]], ball]),
            np.concatenate([g[near], [-offset], np.zeros(2 * n)]),
            np.r_[np.maximum(self.low, -radius), 0.0],
            np.r_[np.minimum(self.high, radius), radius],
        )
        return None if found is None else found.v[:n]


def _piece(chain: Chain, x: Array, step: Array) -> tuple[Array, Array, Array, Array]:
    """Walls `G d + g >= 0` of the piece that holds x + step, and its outputs `slope d + offset`, over steps d."""
    M, c = np.eye(len(x)), x.astype(np.float64)
    walls, offsets = [np.zeros((0, len(x)))], [np.zeros(0)]
    for k, (W, b) in enumerate(zip(chain.weights, chain.biases)):
        M, c = W @ M, W @ c + b
        if k < len(chain.activations):
            on = M @ step + c > 0
            side = np.where(on, 1.0, -1.0)
            walls.append(side[:, None] * M)
            offsets.append(side * c)
            M, c = M * on[:, None], c * on
    return np.concatenate(walls), np.concatenate(offsets), M, c
