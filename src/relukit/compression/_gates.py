"""Gates that others make superfluous: duplicate and collinear ones, constants, gates that nothing reads; and gates given up for a bounded loss."""

from dataclasses import replace

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import CompactNetwork
from relukit.compression._copies import EXACT, only_rounded


def merge(
    small: CompactNetwork, within: float = EXACT
) -> tuple[CompactNetwork, list[tuple[int, int, float]], list[int], int]:
    """An equal compact network without superfluous gates; merged ones (number, that of the gate they follow, factor); those that nothing reads;
    how many are multiples up to the rounding of float32 only.

    Gate i with :math:`(C_i, W_i, b_i) = c\\, (C_j, W_j, b_j)`, c > 0, is c times gate j; what reads it reads j. A gate without
    weights is a number. Differences that floats leave (`within` of the largest entry) are added to the errors.
    """
    W, H, b, c = small.W.copy(), small.H.copy(), small.b.copy(), small.c.copy()
    error, output_error = small.error.copy(), small.output_error.copy()
    reach_x = np.maximum(np.abs(small.input_set.box().lower), np.abs(small.input_set.box().upper))
    reach = np.maximum(small.upper, 0)
    keep, followed, rounded = np.ones(small.gates, bool), [], 0
    mix = np.random.default_rng(0).uniform(
        0.5, 1.5, small.C.shape[1] + small.gates + 1
    )  # one sum per row tells which to compare
    places = np.full(small.gates, np.nan)
    for i in range(small.gates):
        row = np.r_[small.C[i], W[i], b[i]]
        size = np.abs(row).max()
        if not row[:-1].any():
            value = max(b[i], 0.0)
            error, output_error = error + gamma(2) * np.abs(b) * (W[:, i] != 0), output_error + gamma(2) * np.abs(c)
            b, c = b + W[:, i] * value, c + H[:, i] * value
            _carry(error, output_error, W[:, i], H[:, i], error[i] + gamma(2) * abs(value))
            W[:, i] = H[:, i] = 0
            keep[i] = False
            continue
        places[i] = row @ mix / size
        near = np.flatnonzero(np.abs(places[:i] - places[i]) <= (4 * within + 1e-13) * mix.sum())
        j = next((int(j) for j in near if _follows(row, np.r_[small.C[j], W[j], b[j]], within)), None)
        if j is None:
            continue
        places[i] = np.nan
        other = np.r_[small.C[j], W[j], b[j]]
        factor = _follows(row, other, within)
        rest = np.abs(row - factor * other) + gamma(2) * np.abs(row)
        rounded += only_rounded(row, other, factor)
        off = rest @ np.r_[reach_x, reach, 1.0] + error[i] + factor * error[j] + gamma(3) * reach[i]
        _carry(error, output_error, W[:, i], H[:, i], off)
        W[:, j] += factor * W[:, i]
        H[:, j] += factor * H[:, i]
        W[:, i] = H[:, i] = 0
        keep[i] = False
        followed.append((i, j, float(factor)))
    unread = []
    for i in reversed(range(small.gates)):
        if keep[i] and not W[:, i].any() and not H[:, i].any():
            W[i], keep[i] = 0, False
            unread.append(i)
    small = replace(small, W=W, H=H, b=b, c=c, error=error, output_error=output_error)
    return _kept(small, keep), followed, unread, rounded


def _follows(row: Array, other: Array, within: float) -> float:
    """The factor of a row beside another, 0 where it is no positive multiple."""
    p = int(np.argmax(np.abs(other)))
    factor = row[p] / other[p]
    return float(factor) if factor > 0 and np.abs(row - factor * other).max() <= within * np.abs(row).max() else 0.0


def _carry(error: Array, output_error: Array, weights: Array, heights: Array, off: float) -> None:
    """A gate is off by `off`: what reads it is off by that times its weight."""
    error += 1.01 * np.abs(weights) * off
    output_error += 1.01 * np.abs(heights) * off


def _kept(small: CompactNetwork, keep: np.ndarray) -> CompactNetwork:
    k = np.flatnonzero(keep)
    return replace(
        small, C=small.C[k], W=small.W[np.ix_(k, k)], b=small.b[k], H=small.H[:, k], lower=small.lower[k], upper=small.upper[k],
        error=small.error[k], units=small.units[k],
    )  # fmt: skip


def error_bound(small: CompactNetwork) -> float:
    """Largest difference between the compact form and the network, in real arithmetic, over the set."""
    gates = np.zeros(small.gates)
    for k in range(small.gates):
        gates[k] = small.error[k] + np.abs(small.W[k, :k]) @ gates[:k]
    return float((1 + 1e-9) * (small.output_error + np.abs(small.H) @ gates).max(initial=0.0))


def give_up(small: CompactNetwork, tolerance: float) -> tuple[CompactNetwork, list[tuple[int, int, int, float, float]]]:
    r"""Fewer gates with outputs within `tolerance`, proven: the gates that matter least become lines.

    Returns the lines, too: the gate's `units` row, slope, offset.

    On :math:`[l, u]` the line :math:`\frac{u}{u - l} z - \frac{u l}{2 (u - l)}` is within :math:`\frac{-u l}{2 (u - l)}` of
    max(0, z). Gates go in order of that times the largest weight on any path to an output, while the bound of all together allows.
    """
    current, removed = small, []
    while current.gates:
        l, u = np.minimum(current.lower, 0), np.maximum(current.upper, 0)
        width = np.where(u - l > 0, u - l, 1)
        loss = -u * l / (2 * width)
        order = np.argsort(loss * _influence(current), kind="stable")
        low, high = 0, len(order)
        while low < high:  # most gates that may go at once
            middle = (low + high + 1) // 2
            if error_bound(_lines(current, order[:middle], l, u, width, loss)) <= tolerance:
                low = middle
            else:
                high = middle - 1
        if not low:
            return current, removed
        removed += [(*current.units[k].tolist(), float(u[k] / width[k]), float(loss[k])) for k in order[:low]]
        current = _lines(current, order[:low], l, u, width, loss)
    return current, removed


def _influence(small: CompactNetwork) -> Array:
    """The most that an output moves when a gate moves by 1."""
    paths = np.abs(small.H).copy()
    for k in reversed(range(small.gates)):
        paths[:, :k] += paths[:, [k]] * np.abs(small.W[[k], :k])
    return paths.max(axis=0)


def _lines(small: CompactNetwork, gone: np.ndarray, l: Array, u: Array, width: Array, loss: Array) -> CompactNetwork:
    """The compact network with some gates replaced by their lines, the loss and all rounding among the errors."""
    C, W, b, X, H, c = (a.copy() for a in (small.C, small.W, small.b, small.X, small.H, small.c))
    error, output_error = small.error.copy(), small.output_error.copy()
    box = small.input_set.box()
    reach_x = np.maximum(np.abs(box.lower), np.abs(box.upper))
    keep = np.ones(small.gates, bool)
    keep[gone] = False
    for node in dict.fromkeys(small.units[~keep, 0].tolist()):  # gates of one layer do not read each other
        k = np.flatnonzero(~keep & (small.units[:, 0] == node))
        slope, offset = u[k] / width[k], loss[k]
        size = np.abs(C[k]) @ reach_x + np.abs(W[k]) @ u + np.abs(b[k])
        off = loss[k] + slope * error[k] + gamma(6) * (slope * size + np.abs(offset) + u[k])
        w, h = W[:, k].copy(), H[:, k].copy()
        W[:, k] = H[:, k] = 0
        lines = slope[:, None] * C[k], slope[:, None] * W[k], slope * b[k] + offset
        grown = gamma(len(k) + 5) * (size * slope + np.abs(offset))
        error += 1.01 * np.abs(w) @ (off + grown) + _rounding(C, W, b, reach_x, u, len(k)) * w.any(axis=1)
        output_error += 1.01 * np.abs(h) @ (off + grown) + _rounding(X, H, c, reach_x, u, len(k)) * h.any(axis=1)
        C, W, b = C + w @ lines[0], W + w @ lines[1], b + w @ lines[2]
        X, H, c = X + h @ lines[0], H + h @ lines[1], c + h @ lines[2]
    return _kept(replace(small, C=C, W=W, b=b, X=X, H=H, c=c, error=error, output_error=output_error), keep)


def _rounding(C: Array, W: Array, b: Array, reach: Array, u: Array, count: int) -> Array:
    """What rounding adds to rows where so many others are added to them."""
    return gamma(count + 5) * (np.abs(C) @ reach + np.abs(W) @ u + np.abs(b))
