"""The compiled engine of a search over input boxes: its nets and boxes in arrays made once, worked on in slices."""

import numpy as np

from relukit._clock import loading
from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import CompactNetwork
from relukit.sets import Box

# A box with at most so many open gates is split by their phases: boxes shrink for ever around a face that touches the
# boundary, phases end.
FINISH = 10
_STACK = 1500  # boxes waiting at once: one per level of the tree, and no tree is deeper than 400
_SLOPES = 12_000_000  # entries for the slopes that boxes hand down, at most, beside those of one box
_POOL = 60_000_000  # entries of the pool of nets at most (touched only where they are needed)


def _aligned(size: int) -> Array:
    """Zeros that begin with a line of the cache: vectors then lie within one."""
    found = np.zeros(size + 8)
    start = -found.ctypes.data // 8 % 8
    return found[start : start + size]


class Engine:
    """One search of the compiled kernel: its nets and boxes, in arrays made once.

    Arguments:
        small: Compact form over the box of the network whose outputs are the rows.
        maximize: Row 0 is `threshold - f`, the threshold rises with the points found at which no other row is above 0.
        finish: With at most so many open gates, gates are split by their phases rather than inputs.
    """

    def __init__(self, small: CompactNetwork, box: Box, maximize: bool = False, finish: int = FINISH) -> None:
        with loading():
            from relukit._types import LANES
            from relukit.search._few_kernel import ANCESTORS, DEEPEST, State

        K, n, R = small.gates, small.C.shape[1], len(small.c)
        S0, finish = (n + 1 + 7) // 8 * 8, min(finish, K)
        wide = S0 + (K + 7) // 8 * 8
        rows = R + min(finish, DEEPEST) + ANCESTORS + 2
        self.n, self.K, self.boxes_most = n, K, min(_STACK, 2 * DEEPEST)
        self.gamma = gamma(K + n + rows + 16)
        reach_x, reach_h = np.maximum(np.abs(box.lower), np.abs(box.upper)), np.maximum(small.upper, 0)
        size = np.abs(small.W) @ reach_h + np.abs(small.C) @ reach_x + np.abs(small.b)
        out_size = np.abs(small.H) @ reach_h + np.abs(small.X) @ reach_x + np.abs(small.c)
        # Each compaction drops a tenth of the gates, each phase at least one.
        widths = [int(0.9**k * K) for k in range(80)] + list(range(min(finish, K)))
        need = sum((k + R + finish + 2) * (S0 + k + 8) + 2 * k + R + finish + 32 for k in widths)
        pool = _aligned(min(need, _POOL) + (K + R + 4) * wide + 4 * (K + R + 8))
        M = pool[: K * wide].reshape(K, wide)
        M[:, :n], M[:, n], M[:, S0 : S0 + K] = small.C, small.b, small.W
        Q = pool[K * wide : (K + R) * wide].reshape(R, wide)
        Q[:, :n], Q[:, n], Q[:, S0 : S0 + K] = small.X, small.c, small.H
        at = (K + R) * wide
        pool[at : at + K] = small.error + self.gamma * size
        pool[at + K : at + K + R] = small.output_error + self.gamma * out_size
        firsts = np.zeros(12 * K + (finish + 2) ** 2 + 100, np.int64)
        firsts[:K] = np.searchsorted(small.units[:, 0], small.units[:, 0], side="left") if K else 0
        longest = max(K, rows, n + 1) + 8
        across = (2 * K + rows + 7) // 8 * 8
        kept, below_end = min(40 * across * K, _SLOPES // 8 * 8), np.zeros((2, DEEPEST + 4), np.int64)
        below_end[0, DEEPEST + 1] = kept  # where the block lies of a box that hands none down
        self.state = State(
            head=np.array([1, R, 0, 0], np.int64),
            sizes=np.array([n, S0, rows, finish, self.boxes_most], np.int64),
            pool=pool, firsts=firsts, net=np.zeros((DEEPEST + 4, 4), np.int64), box=np.zeros((self.boxes_most + 2, 3), np.int64),
            x=np.zeros((self.boxes_most + 2, 2, n)), L=np.zeros((self.boxes_most + 2, K + 1)), U=np.zeros((self.boxes_most + 2, K + 1)),
            window=np.stack([box.lower, box.upper]).astype(np.float64), path=np.zeros((DEEPEST + 1, n + 1)), threshold=np.zeros(2), best=np.zeros(2 + n), point=np.zeros(n),
            planes=np.zeros((rows + 1, n + 1)), errors=np.zeros(rows + LANES), weights=np.zeros(rows),
            blocks=_aligned((rows // LANES + 1) * wide * LANES).reshape(-1, wide * LANES),
            gates=np.zeros((11, K + 8)), T=_aligned(wide * LANES), met=_aligned((K + 1) * LANES), slopes=np.zeros((K + 1, n)), inputs=np.zeros((8, n + 1)),
            rows=np.zeros((3, rows)), dictionary=np.zeros((rows, n + 2)), index=np.zeros((4, longest), np.int64), runs=np.zeros((K + 1, 3), np.int64), flags=np.zeros(n + 2, np.bool_),
            below=_aligned(kept + across * K + 2 * LANES), below_end=below_end, height=np.zeros((K + 1, S0)), corner=_aligned(n * LANES),
        )  # fmt: skip
        s = self.state
        s.net[0] = K, R, 0, 0
        s.box[0] = 0, 0, -1
        s.x[0, 0], s.x[0, 1] = box.lower, box.upper
        s.L[0, :K], s.U[0, :K] = small.lower, small.upper
        s.best[0] = -np.inf
        self.maximize = maximize

    def narrow(self, box: Box) -> None:
        """From now on only a smaller box counts."""
        self.state.window[0], self.state.window[1] = box.lower, box.upper

    def run(self, budget: int) -> int:
        from relukit.search._few_kernel import run

        return run(self.state, self.gamma, budget, self.maximize)

    @property
    def boxes(self) -> int:
        return int(self.state.head[2])

    @property
    def point(self) -> Array:
        return self.state.point

    def leaf(self) -> tuple[Box, Array, Array, Array]:
        """The box that the kernel gave back and its rows over x alone: slopes, constants, errors (exact where no gate is open)."""
        s = self.state
        top, R = int(s.head[0]), int(s.head[1])
        box = Box(s.x[top, 0].copy(), s.x[top, 1].copy())
        return box, s.planes[:R, : self.n].copy(), s.planes[:R, self.n].copy(), s.errors[:R].copy()
