"""Whether a search over gates is worth going on with."""

import time

import numpy as np

# A search over gates goes on past its budget while each doubling of its nodes (from so many on) leaves at most this share of the gap.
# Or while it is to close within a share of the time left, should the gap go on to fall as it did.
DOUBLING, _LEFT, _SURELY = 256, 0.6, 0.25


class Pace:
    """Whether a search's gap shrinks fast enough, looked at whenever its nodes have doubled.

    The gap falls by about as much with each doubling: what is left of it over the last fall says how many doublings are to come.
    """

    def __init__(self, bound: float, first: int = DOUBLING, stop: float = np.inf) -> None:
        self.at, self.bound, self.good, self.stop = first, bound, True, stop
        self.began = time.perf_counter()

    def see(self, nodes: int, bound: float) -> None:
        if nodes >= 2 * self.at:
            now = time.perf_counter()
            doublings = bound / min(self.bound - bound, -1e-300)
            in_time = doublings < 20 and (now - self.began) * 2.0**doublings < _SURELY * (self.stop - now)
            self.good, self.at, self.bound = bound >= _LEFT * self.bound or in_time, nodes, bound
