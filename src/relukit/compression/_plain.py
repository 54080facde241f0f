"""The plain form: the same layers with fewer units."""

from dataclasses import dataclass

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds import Bounds
from relukit.compression._copies import added, closeness, multiples, only_rounded, rounding
from relukit.compression._dependent import follow_others
from relukit.network import Affine, Network, Origin
from relukit.network.affine import Dense, Gather, Identity
from relukit.network.rewrite import RELU, Builder
from relukit.sets import AbstractSet


@dataclass(frozen=True, eq=False)
class Plain:
    """A chain of dense layers, a bound of its difference, and which units it keeps.

    Arguments:
        gates: Layer and unit of each hidden unit, (-1, -1) for those that carry folded ones, and then of those that nothing reads.
        merged: Units that follow a gate: `(layer, unit, number of the gate, factor)`.
        folded: How many more are gone: constants, and always-on units that others carry.
        rounded: How many of the multiples are such up to the rounding of float32.
    """

    network: Network
    error: float
    gates: IntArray
    merged: list[tuple[int, int, int, float]]
    folded: int
    rounded: int


def plain_form(network: Network, bounds: Bounds, moving: np.ndarray, input_set: AbstractSet) -> Plain | None:
    """Without dead units, unmoving inputs, copies and multiples; None for networks that are no chain of dense ReLU layers.

    Always-on units are affine: those whose weights depend linearly on the others' follow them (Serra et al., 2020). Where a layer still has more of
    them than the next one has units, each unit of the next layer gets one that carries their whole contribution, shifted so that it never falls below 0.
    """
    chain = network.dense_chain()
    if chain is None or not chain.is_relu or len(chain.activations) != len(network.activations):
        return None
    W, b = [w.copy() for w in chain.weights], [v.copy() for v in chain.biases]
    low = np.where(moving, 0.0, input_set.box().lower)
    reach = np.maximum(np.abs(bounds.lower[0]), np.abs(bounds.upper[0]))
    layers, last = len(W), len(W) - 1
    off = [np.zeros(len(v)) for v in b]  # what folding adds to a layer's sums
    if not moving.all():
        off[0] += gamma(W[0].shape[1] + 2) * (np.abs(W[0]) @ reach + np.abs(b[0]))
        b[0] = b[0] + W[0] @ low
        W[0] = W[0][:, moving]
    units = [np.arange(len(v)) for v in b[:-1]]
    merged: list[list[tuple[int, int, float]]] = [[] for _ in units]  # unit, the unit it follows, factor
    numbers, rounded, reach_in = 0, 0, reach[moving]
    for k in range(last):
        node = network.activations[k]
        top = np.maximum(bounds.upper[node], 0)
        alive = ~bounds.off(node)
        constant = alive & ~W[k].any(axis=1)  # their value goes into the next layer's biases
        value = np.where(constant, np.maximum(b[k], 0), 0)
        off[k + 1] += 1.01 * np.abs(W[k + 1]) @ (np.where(constant, off[k], 0) + gamma(len(value) + 2) * value) + gamma(
            2
        ) * np.abs(b[k + 1])
        b[k + 1] = b[k + 1] + W[k + 1] @ value
        numbers += int(constant.sum())
        stay = alive & ~constant
        if not stay.any():
            return None  # a layer that is a constant: the skip form writes it
        W[k], b[k], off[k], units[k], top = W[k][stay], b[k][stay], off[k][stay], units[k][stay], top[stay]
        W[k + 1] = W[k + 1][:, stay]
        for i, j, factor in multiples(np.c_[W[k], b[k]], closeness(network)):
            size = np.abs(W[k][i]) @ reach_in + np.abs(b[k][i])
            rest = np.abs(W[k][i] - factor * W[k][j]) @ reach_in + np.abs(b[k][i] - factor * b[k][j])
            wrong = 1.01 * (rest + rounding(factor) * size + off[k][i] + factor * off[k][j])
            rounded += only_rounded(np.r_[W[k][i], b[k][i]], np.r_[W[k][j], b[k][j]], factor)
            total, lost = added(W[k + 1][:, j], W[k + 1][:, i], factor)
            off[k + 1] += np.abs(W[k + 1][:, i]) * wrong + 1.01 * lost * top[j]
            W[k + 1][:, j] = total
            W[k + 1][:, i] = 0
            merged[k].append((int(units[k][i]), int(units[k][j]), factor))
        reach_in = top
    unread: list[tuple[int, int]] = []
    for k in reversed(range(last)):  # units that nothing reads, from the end
        read = np.any(W[k + 1], axis=0)
        if not read.any():
            return None
        followers = {i for i, *_ in merged[k]}
        unread += [(k, j) for j in units[k][~read].tolist() if j not in followers]
        W[k], b[k], off[k], units[k], W[k + 1] = W[k][read], b[k][read], off[k][read], units[k][read], W[k + 1][:, read]
    folded = _fold(network, bounds, W, b, off, units)
    named = [(k if j >= 0 else -1, j) for k, u in enumerate(units) for j in u.tolist()] + unread
    number = {name: i for i, name in enumerate(named)}
    follow = [(k, i, number[k, j], f) for k, found in enumerate(merged) for i, j, f in found if (k, j) in number]
    gates = np.array(named, np.int64).reshape(-1, 2)
    error = off[0]
    for k in range(1, layers):
        error = np.abs(W[k]) @ error + off[k]
    error = error + _joined(network, layers, reach)
    builder = Builder(network.input_shape)
    at = builder.gather(0, np.flatnonzero(moving), (int(moving.sum()),), "free inputs") if not moving.all() else 0
    for k in range(layers):
        at = builder.affine(at, Dense(W[k]), b[k], network.nodes[-1].shape if k == last else None, f"layer{k}")
        if k < last:
            at = builder.activation(at, RELU, f"relu{k}")
    notes = ("equal only on the set it was compressed for",)
    made = builder.build(at, dtype=network.dtype, head=network.head, box=network.box, origin=Origin("built"), notes=notes)  # fmt: skip
    return Plain(made, float((1 + 1e-9) * error.max(initial=0.0)), gates, follow, folded + numbers, rounded)


def _joined(network: Network, layers: int, reach: Array) -> Array | float:
    """What rounding did where neighboring maps were multiplied out: at most `gamma` of the sums of absolute values, for each map that is gone."""
    ops = [node.op for node in network.nodes if isinstance(node.op, Affine)]
    plain = lambda op: len(op.maps) == 1 and isinstance(op.maps[0], Gather | Identity) and not op.bias.any()
    gone = sum(not plain(op) for op in ops) - layers
    if gone <= 0:
        return 0.0
    sizes = [reach]
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            parts = [m.absolute().apply(sizes[j]) for m, j in zip(node.op.maps, node.inputs)]
            sizes.append(np.asarray(sum(parts) + np.abs(node.op.bias)))
        else:
            sizes.append(sizes[node.inputs[0]])  # a ReLU gives no more than it got
    return 1.01 * gone * gamma(sum(op.terms for op in ops) + 4 * len(ops)) * sizes[-1]


def _fold(
    network: Network, bounds: Bounds, W: list[Array], b: list[Array], off: list[Array], units: list[IntArray]
) -> int:
    """Always-on units that follow others, or are replaced where the next layer has fewer units than they are; returns how many are gone."""
    size_in = np.maximum(np.abs(bounds.lower[0]), np.abs(bounds.upper[0]))[bounds.lower[0] < bounds.upper[0]]
    top = [np.maximum(bounds.upper[network.activations[k]], 0)[u] for k, u in enumerate(units)]
    gone = 0
    for k in range(len(W) - 1):
        node = network.activations[k]
        on = bounds.always_on(node)[units[k]]
        dependent = follow_others(
            W[k], b[k], on, size_in if k == 0 else top[k - 1], W[k + 1], b[k + 1], off, k, np.abs(top[k]), len(b[k + 1])
        )
        if len(dependent):
            stay = np.setdiff1d(np.arange(len(b[k])), dependent)
            W[k], b[k], off[k], top[k], W[k + 1] = W[k][stay], b[k][stay], off[k][stay], top[k][stay], W[k + 1][:, stay]
            units[k] = np.where(on, -1, units[k])[
                stay
            ]  # those they follow pass their sums on: they stand for no unit any more
            gone += len(dependent)
            continue
        fresh = len(b[k + 1])
        if on.sum() <= fresh or (on.sum() - fresh) * (W[k].shape[1] + 1 + fresh) <= 0:
            continue
        low, high = bounds.lower[node][units[k]][on], bounds.upper[node][units[k]][on]
        out, inside, bias = W[k + 1][:, on], W[k][on], b[k][on]
        least = np.minimum(out * low, out * high).sum(axis=1)
        size = np.abs(out) @ np.maximum(np.abs(low), np.abs(high))
        least -= gamma(len(bias) + 4) * size + 1e-9 * (1 + np.abs(least))  # so that rounding never wakes the kink
        V, v = out @ inside, out @ bias - least
        before = size_in if k == 0 else top[k - 1]
        bulk = np.abs(out) @ (np.abs(inside) @ before + np.abs(bias)) + np.abs(least)
        carried = np.abs(out) @ off[k][on]
        W[k], b[k] = np.r_[W[k][~on], V], np.r_[b[k][~on], v]
        off[k] = np.r_[off[k][~on], carried + gamma(len(bias) + inside.shape[1] + 4) * bulk]
        W[k + 1], b[k + 1] = np.c_[W[k + 1][:, ~on], np.eye(fresh)], b[k + 1] + least
        off[k + 1] = off[k + 1] + gamma(2) * (np.abs(b[k + 1]) + np.abs(least))
        units[k] = np.r_[units[k][~on], np.full(fresh, -1)]
        most = np.maximum(out * low, out * high).sum(axis=1) - least
        top[k] = np.r_[top[k][~on], 1.01 * most + gamma(len(bias) + 4) * size]
        gone += int(on.sum()) - fresh
    return gone
