"""Split gates over linear programs with safe bounds: for subtrees whose multipliers do not converge."""

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds import CompactNetwork
from relukit.search._ball_program import BallProgram
from relukit.search._ceilings import closed_by_ceilings
from relukit.search._decision import Decision, touching, up_to
from relukit.search._dual import Dual
from relukit.search._graph import Graph, compacted
from relukit.search._relaxation import OFF, ON, Solution, rows_program
from relukit.sets import Ball

_FIRST = 0.1  # seconds of linear programs for a leaf before a tree over its ceilings: small networks' take a millisecond or less


def finish(
    searched: CompactNetwork | Graph, mine: IntArray, forest: Any, confirm: Callable[[Array], Array | None], stop: float
) -> tuple[Array | None, int, int]:
    """Leaves of a tree that no split helps: a few linear programs, a tree over what a counterexample must obey there, then programs to the end.

    Where all are closed the tree's `stuck` is emptied.

    Arguments:
        searched: What the tree is about.
        mine: Its outputs that are to be at most 0.

    Returns:
        A counterexample, if one is met; how many nodes and programs it took; how many leaves are given up though there was time.
    """
    small, nodes = compacted(searched, stop) if isinstance(searched, Graph) and forest.ends else searched, 0
    if forest.ends and (small is None or isinstance(small, Graph)):
        return None, 0, len(forest.ends)  # a program over all gates would be too large
    if forest.ends:
        assert isinstance(small, CompactNetwork)
        dual, A = Dual(small), np.eye(len(small.c))[mine]
        rows = dual.output_rows()[mine]
        while forest.ends and time.perf_counter() < stop:
            phases = forest.ends.pop()[2]
            held = phases[searched.numbers(small.units)] if isinstance(searched, Graph) else phases
            held = np.where(dual.phase == 0, held, 0).astype(np.int8)
            programs = lambda until, held=held: split_by_programs(small, A, np.zeros(len(A)), held, confirm, until)
            found = programs(min(time.perf_counter() + _FIRST, stop))
            nodes += found.boxes
            if found.status == "unknown" and time.perf_counter() < stop:
                closed, more = closed_by_ceilings(dual, rows, held + dual.phase, stop)
                nodes += more
                if closed:
                    continue
                found = programs(stop)
                nodes += found.boxes
            if found.status == "sat":
                return found.point, nodes, 0
            if found.status != "unsat":
                return None, nodes, int(time.perf_counter() < stop)
    if not forest.ends:
        forest.stuck[:] = np.inf
    return None, nodes, 0


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
                + (f"a relaxation reaches {-heap[0][0]:.3g} into the ball" if curved else up_to(heap[0][0])),
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
        return Decision("unknown", None, solved, "linear programs", touching(unresolved))
    return Decision("unsat", None, solved, "linear programs")
