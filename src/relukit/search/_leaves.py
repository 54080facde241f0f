"""Split gates over linear programs with safe bounds: for subtrees whose multipliers do not converge."""

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.bounds import CompactNetwork
from relukit.search._ball_program import BallProgram
from relukit.search._decision import Decision
from relukit.search._relaxation import OFF, ON, Solution, rows_program
from relukit.sets import Ball


def split_by_programs(
    small: CompactNetwork,
    A: Array,
    b: Array,
    phases: np.ndarray,
    confirm: Callable[[Array], Array | None],
    stop: float,
    budget: float = np.inf,
) -> Decision:
    """Whether rows `A y + b` can all be at most 0, splitting the gate whose relaxation is loosest at the minimizer.

    Arguments:
        small: Compact form over the set.
        phases: Gates that are held already (`ON`, `OFF`, `OPEN`), shape `(K,)`.
        confirm: Polishes points and returns one that the original confirms, or None.
        stop: Wall-clock time to stop at (`time.perf_counter`).
        budget: Linear programs at most.

    References:
        Evaluating Robustness of Neural Networks with Mixed Integer Programming, Tjeng, Xiao, Tedrake, 2019.
    """
    region = small.input_set
    curved = isinstance(region, Ball) and region.norm != np.inf
    program = BallProgram(small, A, b) if curved else rows_program(small, A, b)
    counter = itertools.count()
    heap: list[tuple[float, int, np.ndarray, Solution | None, Any]] = [
        (-np.inf, next(counter), phases.astype(np.int8), None, None)
    ]
    solved, unresolved = 0, 0
    while heap:
        if time.perf_counter() > stop or solved >= budget:
            return Decision(
                "unknown",
                None,
                solved,
                "linear programs",
                f"time is up after {solved} linear programs; "
                + (
                    f"a relaxation reaches {-heap[0][0]:.3g} into the ball"
                    if curved
                    else f"the rows reach at most {heap[0][0]:.3g} below 0"
                ),
            )
        bound, _, fixed, found, basis = heapq.heappop(heap)
        if found is None:
            found = program.solve(fixed, basis, stop)
            solved += 1
            if found.bound > 0:
                continue
            if found.x is not None:
                hit = confirm(found.x[None])
                if hit is not None:
                    return Decision("sat", hit, solved, "linear programs")
            heapq.heappush(heap, (max(bound, found.bound), next(counter), fixed, found, None))
            continue
        free = np.flatnonzero(fixed == 0)
        if not len(free):
            unresolved += 1
            continue
        gate = free[int(np.argmax(found.gap[free]))]
        for phase in (ON, OFF):
            child = fixed.copy()
            child[gate] = phase
            heapq.heappush(heap, (bound, next(counter), child, None, found.basis))
    if unresolved:
        return Decision(
            "unknown", None, solved, "linear programs", f"{unresolved} leaves touch the boundary within rounding"
        )
    return Decision("unsat", None, solved, "linear programs")
