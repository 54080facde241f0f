r"""Proof by `relukit.verify` that expected loss cannot fall with depth or value.

The network's layers behind the free ones are taken one unit at a time: for a unit u, the network
:math:`u(z + \delta) - u(z)` over all z of a box and all :math:`\delta \ge 0` must not be below zero. Units that all rise make a layer that rises,
and layers that rise a network that rises. Each unit is a property of two ReLUs, which `verify` settles; the free layers do not see
the inputs in question (their columns are zero, which is compared exactly).
"""

from typing import Any

import numpy as np

from relukit.gallery.catastrophe._claims import MONOTONE

_SLACK = 1e-6  # of the unit's largest weight: `verify` decides strict inequalities, and at no step at all the difference is zero


def unit_difference(weights: np.ndarray, bias: float, sign: float) -> dict[str, np.ndarray]:
    """Network (z, step) to s relu(s (w (z + step) + b)) - s relu(s (w z + b)); without a sign the unit is linear."""
    w = np.atleast_2d(weights)
    if sign == 0:
        return {"W0": np.concatenate([np.zeros_like(w), w], 1), "b0": np.zeros(1)}
    first = np.concatenate([np.concatenate([w, w], 1), np.concatenate([w, np.zeros_like(w)], 1)])
    return {"W0": sign * first, "b0": np.full(2, sign * bias), "W1": np.array([[sign, -sign]]), "b1": np.zeros(1)}


def monotone(chain: dict[str, np.ndarray], rows: np.ndarray, timeout: float = 60.0) -> dict[str, Any]:
    """Verdicts over all units: `proven`, `units`, and the first that is not, if any.

    Arguments:
        chain: The saved network, `W0`, `b0`, ... (five layers, the first two free).
        rows: Inputs whose range, doubled, is the box of the first layer; each later box is what the layer before can reach.
    """
    import relukit
    from relukit.sets import Box

    free = [chain["W0"], chain["W1"]]
    own = free[0].shape[0] - MONOTONE
    separate = not free[0][:own, :MONOTONE].any() and not free[1][:own, own:].any()
    low, high = rows.min(0), rows.max(0)
    middle, half = (low + high) / 2, (high - low) + 1.0
    low, high = middle - half, middle + half
    for i in range(2):
        low, high = _reach(chain[f"W{i}"], chain[f"b{i}"], low, high)
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    units = proven = 0
    failed = None
    depth = len(chain) // 2
    for i in range(2, depth):
        W, b = chain[f"W{i}"], chain[f"b{i}"]
        # the sign a hidden unit carries is that of its weights on what rises; the chain holds s w, and hands s on to the next layer
        sign = np.sign(W[:, -1]) if i == 2 else _sign_of(chain, i)
        rising = np.ones(W.shape[1]) if i == 2 else _sign_of(chain, i - 1)
        moves = np.arange(W.shape[1]) >= own if i == 2 else np.ones(W.shape[1], bool)
        for k in range(len(W)):
            s = sign[k] if i < depth - 1 else 0.0
            w = W[k] * rising * (s if s else 1.0)
            network = relukit.load(unit_difference(w, float(b[k]) * (s if s else 1.0), s))
            scale = max(1e-3, float(np.abs(w).max()))
            # z as the layer before hands it on: its unit times its sign, so that larger always means more loss
            z_low, z_high = np.minimum(low * rising, high * rising), np.maximum(low * rising, high * rising)
            box = Box(
                np.concatenate([z_low, 0 * z_low]), np.concatenate([z_high, np.where(moves, z_high - z_low, 0.0)])
            )
            x, y = network.variables()
            verdict = relukit.verify(network, x.within(box), y[0] >= -_SLACK * scale, timeout=timeout)
            units += 1
            if verdict.status == "unsat":
                proven += 1
            elif failed is None:
                failed = {"layer": i, "unit": k, "status": verdict.status}
        low, high = _reach(W, b, low, high)
        if i < depth - 1:
            low, high = np.maximum(low, 0), np.maximum(high, 0)
    return {"proven": proven == units and separate, "units": units, "units_proven": proven, "failed": failed}


def _sign_of(chain: dict[str, np.ndarray], layer: int) -> np.ndarray:
    """Signs of the units of layer 2 or 3, read off the weights: layer 2's on the inputs that rise, layer 3's through them."""
    first = np.sign(chain["W2"][:, -MONOTONE:].sum(1))
    first = np.where(first == 0, 1.0, first)
    if layer == 2:
        return first
    second = np.sign((chain["W3"] * first).sum(1))
    return np.where(second == 0, 1.0, second)


def _reach(W: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    plus, minus = np.maximum(W, 0), np.minimum(W, 0)
    return plus @ low + minus @ high + b, plus @ high + minus @ low + b
