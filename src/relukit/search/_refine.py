"""Tighter bounds of every gate: optimized slopes first, then a small branch and bound for each."""

import time
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds import CompactNetwork
from relukit.bounds._shrink import shrink
from relukit.search._conditions import joint_row, leaning
from relukit.search._dual import Dual
from relukit.search._forest import Forest
from relukit.search._graph import Graph

# A block is left for a later pass when the first rounds (four, or an eighth) decide less than a share _FEW of its gates and it has
# over twice as many as the blocks before it have in the median.
_TRIAL, _FEW = 4, 0.04
_ENTRIES = 6_000_000  # parameters of rows that are worked on together


def dual_of(small: CompactNetwork | Graph, stop: float, device: Any = None) -> Dual:
    """What computes bounds over a network in either form, until `stop` (`time.perf_counter`); with a `Device` it proposes there."""
    if device is not None:
        from relukit.search._torch_dual import DeviceDual, DeviceGraphDual

        dual: Dual = DeviceGraphDual(small, device) if isinstance(small, Graph) else DeviceDual(small, device)
    elif isinstance(small, Graph):
        from relukit.search._graph_dual import GraphDual

        dual = GraphDual(small)
    else:
        dual = Dual(small)
    dual.stop = stop
    return dual


def forest_of(dual: Dual, rows: Any, columns: int, joint: bool = False) -> Any:
    """Trees over the gates of a dual: a `Forest`, or a `DeviceForest` where it has a device."""
    if getattr(dual, "device", None) is None:
        return Forest(dual, rows, columns, joint)
    from relukit.search._torch_tree import DeviceForest

    return DeviceForest(dual, rows, columns, joint)


def _tightened(small: CompactNetwork | Graph, dual: Dual) -> CompactNetwork | Graph:
    if isinstance(small, Graph):
        return small.tighter(dual.lower, dual.upper)
    return shrink(small, dual.lower, dual.upper)[0]


def optimize_gates(
    small: CompactNetwork | Graph, steps: int, stop: float, device: Any = None
) -> CompactNetwork | Graph:
    """Bounds of every gate by optimized slopes, block by block, and the smaller network that they give."""
    dual = dual_of(small, stop, device)
    for first, last in dual.blocks[1:]:
        if time.perf_counter() > stop:
            break
        for gates in _portions(dual, first, last):
            if time.perf_counter() > stop:
                break
            rows = dual.gate_rows(gates)
            P, S = dual.start(len(rows), first)
            _tighten(dual, gates, dual.bound(rows, P, S, steps).bound)
    return _tightened(small, dual)


def _portions(dual: Dual, first: int, last: int, columns: int | None = None) -> list[np.ndarray]:
    """The undecided gates of a block, as many at a time as their parameters (so many columns, `first` by default) fit in memory for."""
    gates = first + np.flatnonzero(dual.phase[first:last] == 0)
    size = max(_ENTRIES // (2 * max(columns or first, 1)), 32)
    return [gates[k : k + size] for k in range(0, len(gates), size)]


def _tighten(dual: Dual, gates: np.ndarray, bound: Array) -> bool:
    """Take over lower bounds of `+z` and then `-z` of gates; infinite ones say that the sign is proven. False where they leave no point."""
    low, high = bound[: len(gates)], -bound[len(gates) :]
    lower, upper = dual.lower.copy(), dual.upper.copy()
    lower[gates] = np.maximum(lower[gates], np.where(np.isposinf(low), 0.0, low))
    upper[gates] = np.minimum(upper[gates], np.where(np.isneginf(high), 0.0, high))
    if np.any(lower > upper):
        return False
    dual.set_bounds(lower, upper)
    return True


def refine(
    small: CompactNetwork | Graph,
    rounds: int,
    stop: float,
    steps: int = 3,
    device: Any = None,
    where: IntArray | None = None,
) -> CompactNetwork | Graph | None:
    """One pass of small branch and bounds, block by block from the second.

    With `where` (numbers of outputs; compact networks only) bounds are those where these outputs are all at most 0, of all blocks; None where
    no such point is left.

    Where a block's bounds are so wide that the first rounds decide almost none of its gates, the work is better spent on the blocks
    before it: from there on slopes alone are optimized, until a later pass.
    """
    dual = dual_of(small, stop, device)
    hopeless, sizes = False, [last - first for first, last in dual.blocks[:1]]
    row, gap = (None, 0.0) if where is None else joint_row(dual, where)
    if gap > 0:
        return None
    for first, last in dual.blocks if row is not None else dual.blocks[1:]:
        if time.perf_counter() > stop:
            break
        for gates in _portions(dual, first, last, None if row is None else dual.K):
            if time.perf_counter() > stop:
                break
            rows = dual.gate_rows(gates) if row is None else leaning(dual, gates, row, -gap)[0]
            forest = forest_of(dual, rows, first if row is None else dual.K)
            forest.plant(10 if hopeless else 2 * steps)
            n, done = len(gates), 0
            for k in range(0 if hopeless else rounds):
                # One sign proven: no bound of the other is needed.
                promised = forest.promised
                settled = (promised[:n] > 0) | (promised[n:] > 0)
                if k == max(_TRIAL, rounds // 8):
                    few = settled.sum() - done < _FEW * n and n > 2 * np.median(sizes)
                    hopeless = few and not isinstance(small, Graph)  # early rows of a graph cost their windows only
                    if hopeless:
                        break
                done = int(settled.sum()) if k == 0 else done
                before = forest.nodes
                forest.grow(1, steps, stop, skip=np.tile(settled, 2))
                if forest.nodes == before:
                    break
            if not _tighten(dual, gates, forest.bound) and row is not None:
                return None
        sizes.append(int((dual.phase[first:last] == 0).sum()))
    return _tightened(small, dual)
