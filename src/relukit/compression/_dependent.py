"""Always-on units are affine: those whose weights depend linearly on the weights of others can follow these (Serra et al., 2020)."""

from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.compression._channel_maps import weights_of, with_weights
from relukit.compression._cut import Layer
from relukit.network import Affine
from relukit.network.affine import Dense, Sparse
from relukit.piecewise import PiecewiseLinear


def follow_others(
    W: Array,
    b: Array,
    on: np.ndarray,
    reach: Array,
    out: Array,
    bias: Array,
    off: list[Array],
    k: int,
    top: Array,
    most: int,
) -> IntArray:
    """Always-on units whose weights are combinations of other always-on units' weights: what they add to the next layer goes through those.

    Arguments:
        W, b: A layer's weights and biases; `on` flags its always-on units, `top` bounds the values of all.
        reach: Largest magnitudes of what the layer reads.
        out, bias: Weights and biases of what reads it, changed in place.
        off: What earlier changes add to each layer's sums, of this layer as `off[k]`; `off[k + 1]` gets what these changes add.
        most: How many units may be left.

    Returns:
        The numbers of the units that follow others; none where rounding would show, or more than `most` would be left.
    """
    from scipy.linalg import qr

    rows = np.flatnonzero(on)
    none = np.zeros(0, np.int64)
    if len(rows) < 2:
        return none
    factors: Any = qr(W[rows].T, mode="r", pivoting=True)  # its stub knows no pairs
    R, order = factors
    sizes = np.abs(np.diag(R))
    rank = int(np.sum(sizes > 1e-10 * sizes[0])) if len(sizes) and sizes[0] > 0 else 0
    if rank in (0, len(rows)) or rank > most:
        return none
    kept, gone = rows[order[:rank]], rows[order[rank:]]
    share = np.linalg.lstsq(W[kept].T, W[gone].T, rcond=None)[0].T  # W[gone] = share W[kept]
    rest = np.abs(W[gone] - share @ W[kept])
    size = np.abs(W[gone]) @ reach + np.abs(share) @ (np.abs(W[kept]) @ reach + np.abs(b[kept])) + np.abs(b[gone])
    wrong = 1.01 * (
        rest @ reach + gamma(W.shape[1] + len(kept) + 6) * size + off[k][gone] + np.abs(share) @ off[k][kept]
    )
    if np.any(rest @ reach > 1e-10 * (1 + top[gone])) or np.any(np.abs(share).sum(axis=1) > 1e4):
        return none
    weights = out[:, gone].copy()
    off[k + 1] = off[k + 1] + np.abs(weights) @ wrong + gamma(len(gone) + 4) * (np.abs(weights) @ (np.abs(share) @ top[kept]) + np.abs(weights) @ size + np.abs(bias))  # fmt: skip
    bias += weights @ (b[gone] - share @ b[kept])
    out[:, kept] += weights @ share
    return gone


def combined(layer: Layer, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Units of a layer of matrices that follow others, and those that others follow; the readers are changed.

    Arguments:
        gone: Units that are left out anyway.
    """
    draft, bounds, none = layer.draft, layer.draft.bounds, np.zeros(layer.channels, bool)
    source = draft.nodes[layer.source]
    maps = [draft.map(r) for r in layer.readers]
    matrices = lambda found: all(isinstance(m, Dense | Sparse) for m in found)
    assert bounds is not None and isinstance(source.op, Affine)
    gates = [draft.nodes[j].op for j in layer.group]
    if not (
        gates
        and all(isinstance(op, PiecewiseLinear) and op.is_relu for op in gates)
        and matrices(source.op.maps)
        and matrices(maps)
    ):
        return none, none
    on = np.all([bounds.always_on(j)[draft.kept[j]] for j in layer.group], axis=0) & ~gone
    if on.sum() < 2 or any(layer.value(r) == layer.source for r in layer.readers):
        return none, none
    W = np.hstack([m.matrix() for m in source.op.maps])
    reach = np.concatenate([draft.reach(i) for i in source.inputs])
    out, ends = np.vstack([m.matrix() for m in maps]), np.cumsum([m.out_size for m in maps])[:-1]
    bias = np.zeros(len(out))
    before = draft.drift.get(layer.source, np.zeros(draft.network.nodes[layer.source].size))[draft.kept[layer.source]]
    off = [before, np.zeros(len(out))]
    top = np.max([draft.reach(j) for j in layer.group], axis=0)
    follow = follow_others(W, source.op.bias, on, reach, out, bias, off, 0, top, len(on))
    if not len(follow):
        return none, none
    for r, m, rows, more, wrong in zip(layer.readers, maps, *(np.split(v, ends) for v in (out, bias, off[1]))):
        weights = weights_of(m).copy()
        weights[:, :, 0] = rows
        weights[:, follow] = 0
        draft.put(r, with_weights(m, weights))
        draft.add_bias(r[0], more)
        draft.off_by(r[0], wrong)
    followers = none.copy()
    followers[follow] = True
    return followers, on & ~followers
