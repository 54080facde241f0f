"""Bounds of networks for which linear bounds of every unit would take minutes: units that may be removed come first, within a time limit."""

import time

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds import Bounds, interval
from relukit.bounds._linear import Sweep, lower_rows
from relukit.compression._witness import Seen
from relukit.network import Affine, Network
from relukit.network.affine import Conv
from relukit.sets import AbstractSet

_MUCH = 4e10  # multiplications that linear bounds of all open units may take: some ten seconds
_ENTRIES = 1 << 22  # of one block of coefficients: the clock is looked at after each


def too_large(network: Network, domain: AbstractSet) -> Bounds | None:
    """Interval bounds, if linear bounds of all units that they leave open would take more than some ten seconds; else None."""
    if _work(network, None) <= _MUCH:
        return None
    found = interval(network, domain)
    return found if _work(network, found) > _MUCH else None


def _work(network: Network, bounds: Bounds | None) -> float:
    """Multiplications of linear bounds, for all units or those that are open."""
    one, total = 0, 0
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            one += sum(m.out_size * m.terms for m in node.op.maps)
        elif i:
            total += 2 * one * (node.size if bounds is None else int(bounds.undecided(i).sum()))
    return float(total)


def bounded_in_time(network: Network, domain: AbstractSet, seen: Seen, seconds: float) -> Bounds:
    """Interval bounds, made better from the first layer to the last for units that points show on one side of their kink only.

    Channels that no point ever switches on are asked first: nothing else makes a convolution smaller.
    """
    state = Sweep(network, domain)
    stop, weights = time.perf_counter() + seconds, _weights(network, seen)
    for i in range(1, len(network)):
        exact = state.step(i)
        if i in weights and not exact:
            ahead = sum(w for j, w in weights.items() if j >= i)
            share = max(stop - time.perf_counter(), 0) * weights[i] / max(ahead, 1)
            _improve(state, i, _wanted(network, i, seen, state.lower[i], state.upper[i]), share)
    return state.bounds()


def _weights(network: Network, seen: Seen) -> dict[int, float]:
    """Work for each node that a ReLU reads."""
    found, one = {}, 0
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            one += sum(m.out_size * m.terms for m in node.op.maps)
            readers = [
                j for j in network.consumers[i] if j in seen.low and getattr(network.nodes[j].op, "is_relu", False)
            ]
            if readers:
                found[i] = float(one * int(((seen.low[readers[0]] > 0) | (seen.high[readers[0]] < 0)).sum()))
    return found


def _wanted(network: Network, i: int, seen: Seen, low: Array, high: Array) -> IntArray:
    """Open entries of a node that points show on one side only; those of channels that are never on come first."""
    reader = next(j for j in network.consumers[i] if j in seen.low)
    off, on = seen.high[reader] < 0, seen.low[reader] > 0
    op, silent = network.nodes[i].op, off
    assert isinstance(op, Affine)
    shared = [m.out_shape[0] for m in op.maps if isinstance(m, Conv)]
    if shared:
        silent = np.repeat(off.reshape(shared[0], -1).all(axis=1), len(off) // shared[0])
    open_ = (low < 0) & (high > 0)
    first, then = np.flatnonzero(open_ & silent), np.flatnonzero(open_ & (on | off) & ~silent)
    return np.r_[first, then]


def _improve(state: Sweep, target: int, rows: IntArray, seconds: float) -> None:
    stop = time.perf_counter() + seconds
    low, high = state.lower[target].copy(), state.upper[target].copy()
    block = max(1, _ENTRIES // (2 * max(n.size for n in state.network.nodes[: target + 1])))
    for k in range(0, len(rows), block):
        if time.perf_counter() > stop:
            break
        part = rows[k : k + block]
        found = lower_rows(state, target, part)
        low[part], high[part] = np.maximum(low[part], found[: len(part)]), np.minimum(high[part], -found[len(part) :])
    crossed = low > high  # by rounding: the looser pair is the safe one
    state.lower[target], state.upper[target] = (
        np.where(crossed, state.lower[target], low),
        np.where(crossed, state.upper[target], high),
    )
