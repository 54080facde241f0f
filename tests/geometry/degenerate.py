"""Networks on which float geometry goes wrong: repeated, negated, dead, parallel, concurrent, nearly equal hinges."""

import numpy as np


def degenerate(seed: int, D: int, widths: tuple[int, ...] = (6, 4)):
    """Weights and biases with small integers or quantized numbers, and one or two tricks."""
    g = np.random.default_rng(seed)
    sizes = [D, *widths, 2]
    weights, biases = [], []
    for a, b in zip(sizes[:-1], sizes[1:]):
        W = g.integers(-2, 3, (b, a)).astype(float)
        c = g.integers(-2, 3, b).astype(float)
        trick = g.integers(0, 9)
        i, j = g.choice(b, 2, replace=False) if b > 1 else (0, 0)
        if trick == 0:
            W[i], c[i] = W[j], c[j]
        elif trick == 1:
            W[i], c[i] = -W[j], -c[j]
        elif trick == 2:
            W[i], c[i] = 0, -1
        elif trick == 3:
            W[i] = W[j]  # parallel
        elif trick == 4:
            c[:] = 0
        elif trick == 5:
            W[i], c[i] = W[j] * (1 + 2.0**-30), c[j] + 2.0**-36
        elif trick == 6:
            W *= g.random(W.shape) < 0.5  # pruned
        elif trick == 7:
            W, c = np.round(g.standard_normal((b, a)) * 8) / 8, np.round(g.standard_normal(b) * 8) / 8
        elif trick == 8:
            W[i], c[i] = 3 * W[j], 3 * c[j] + 2.0**-40
        weights.append(W)
        biases.append(c)
    return weights, biases
