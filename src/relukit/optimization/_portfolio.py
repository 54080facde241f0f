"""Searches that share one incumbent, run side by side: the best bound of any holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds, linear
from relukit.optimization._box_tree import BoxTree
from relukit.optimization._gate_tree import GateTree
from relukit.optimization._incumbent import Incumbent
from relukit.optimization._problem import Problem
from relukit.optimization._settled_tree import MOST, SettledTree, settings

_INPUTS = (
    15  # above this many moving inputs gates are split instead (measured: 10 inputs need input splits, 64 need gates)
)
_COMPILED = 300  # with at most so many open gates, gates are split in compiled code
_ALONE = 0.5  # seconds that the first search has for itself
_BEHIND = 0.2  # time of a search whose bound lies behind, as a share of that of the one ahead
_CHANGE = 0.02  # share by which the gap shrinks before the history takes another entry

Search = BoxTree | GateTree | SettledTree


@dataclass
class Found:
    """What the searches found: the goal is minimized, `bound` lies below every value."""

    value: float
    witness: Array | None
    bound: float
    engine: str
    boxes: int
    reason: str
    first: float
    history: list[tuple[float, float, float]] = field(default_factory=list)


def run(
    problem: Problem, tolerance: float, timeout: float, seed: int, on_progress: Callable[[float, float, float], None] | None,
    start: Array | None = None, stop_at_first: bool = False,
) -> Found:  # fmt: skip
    """Minimize until the gap is closed, the time is up, or Ctrl-C; then the best bound reached is returned.

    Arguments:
        on_progress: Called with (seconds, value, bound) whenever one of them changes.
        start: Points `(k, n)` to begin with.
        stop_at_first: Any feasible point ends the search.
    """
    work = _Work(problem, tolerance, time.perf_counter() + timeout, on_progress, stop_at_first)
    with _deferred_interrupt(work):
        if start is not None:
            work.incumbent.keep(start)
            work.incumbent.polish(np.atleast_2d(start)[0].copy())
        if not (stop_at_first and work.incumbent.witness is not None):
            work.incumbent.search(seed, work.stop)
        reason = work.bound_it()
        if reason:
            work.settle()
    value, witness = work.incumbent.value, work.incumbent.witness
    name = " and ".join(dict.fromkeys(s.name for s in work.searches)) or "linear bounds"
    boxes = 1 + sum(s.boxes for s in work.searches)
    work.note()
    return Found(value, witness, min(work.best, value), name, boxes, reason, work.incumbent.first, work.history)


@contextmanager
def _deferred_interrupt(work: "_Work") -> Iterator[None]:
    """Ctrl-C asks the search to stop after its present step: in the middle of one, a box would be lost, and the bound with it.

    A second Ctrl-C interrupts at once. Where something else than Python's own handler listens, it stays.
    """
    import signal
    import threading

    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not own:
        yield
        return

    def ask(number: int, frame: object) -> None:
        work.interrupted = True
        work.stop = min(work.stop, time.perf_counter())
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Work:
    """The searches, the best bound, and the history of both ends."""

    def __init__(
        self, problem: Problem, tolerance: float, stop: float, on_progress: Callable[[float, float, float], None] | None, first: bool
    ) -> None:  # fmt: skip
        self.problem, self.stop, self.on_progress, self.stop_at_first = problem, stop, on_progress, first
        self.began, self.best = time.perf_counter(), -np.inf
        self.history: list[tuple[float, float, float]] = []
        self.incumbent = Incumbent(problem, tolerance, lambda _: self.note())
        self.searches: list[Search] = []
        self.interrupted = False

    def bound_it(self) -> str:
        """Raise the bound until it meets the value; the reason why not, where the time is up or nothing is left to do."""
        bounds = linear(self.problem.rows, self.problem.box)
        ends = bounds.output[0]
        self._raise(np.inf if np.any(ends[1:] > 0) else float(ends[0]))
        waiting = self._plan(bounds)
        used: dict[int, float] = {}
        while not self._settled:
            now = time.perf_counter()
            if self.interrupted or now > self.stop:
                return "interrupted" if self.interrupted else "time limit"
            if waiting and all(s.done or used[k] > _ALONE for k, s in enumerate(self.searches)):
                self.searches.append(waiting.pop(0)())
                used[len(self.searches) - 1] = min(used.values(), default=0.0)
                now = time.perf_counter()
            active = [k for k, s in enumerate(self.searches) if not s.done]
            if not active:
                return "a leaf is open within rounding"
            # The search whose bound is best gets most of the time, the others enough to overtake it.
            ahead = max(active, key=lambda k: self.searches[k].bound)
            k = min(active, key=lambda k: used[k] if k == ahead else used[k] / _BEHIND)
            self.searches[k].step(self.stop)
            used[k] += time.perf_counter() - now
            self._raise(self.searches[k].bound)
        return ""

    @property
    def _settled(self) -> bool:
        if self.stop_at_first and self.incumbent.witness is not None:
            return True
        return self.incumbent.is_closed(self.best) or self.best == np.inf

    def _plan(self, bounds: Bounds) -> list[Callable[[], Search]]:
        """The searches by shape, the one that is best alone first."""
        problem, lower, upper = self.problem, self.problem.box.lower, self.problem.box.upper
        moving = lower < upper
        moving[problem.integers] = False
        for g in problem.groups:
            moving[g.members] = False
        gates = sum(int(np.sum(bounds.undecided(i))) for i in problem.rows.activations)
        few = int(moving.sum()) <= _INPUTS
        boxes = lambda: BoxTree(problem, self.incumbent, bounds)
        phases = lambda: BoxTree(problem, self.incumbent, bounds, None)
        programs = lambda: GateTree(problem, self.incumbent, bounds)
        settled = lambda: SettledTree(problem, self.incumbent, float(bounds.output[0][0]))
        if len(problem.integers) or problem.groups:
            first = settled if 1 < settings(problem) <= MOST else programs
            return [first, boxes] if few else [first]
        if few:
            return [boxes] if problem.is_box_only else [boxes, programs]
        return [phases, programs] if gates <= _COMPILED else [programs]

    def settle(self) -> None:
        """Bounds of what is still open."""
        for search in self.searches:
            search.settle()
            self._raise(search.bound)

    def _raise(self, bound: float) -> None:
        if bound > self.best:
            self.best = bound
            self.note()

    def note(self) -> None:
        """Both ends as they are now; the history keeps those that changed the gap."""
        value, bound = self.incumbent.value, min(self.best, self.incumbent.value)
        entry = (time.perf_counter() - self.began, value, bound)
        if self.on_progress is not None and not self.interrupted:
            try:
                self.on_progress(*entry)
            except KeyboardInterrupt:  # raised in the middle of a step: it is finished first
                self.interrupted = True
        if self.history:
            _, v, b = self.history[-1]
            before, gap = v - b, value - bound
            if np.isfinite(before) and gap > (1 - _CHANGE) * before and gap > 0:
                return
        self.history.append(entry)
