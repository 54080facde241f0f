"""Decide over sets of many inputs by splitting gates, with tighter bounds of every gate as the main tool.

Linear bounds come first, then an attack on the compact network, slopes optimized for every gate and for the rows, and then
passes that alternate: a small branch and bound on every gate's bound, the rows again, an attack from the relaxation's minimizers,
and a best-first search over gates for the rows that are left. Leaves that multipliers do not close are settled by a linear program.

References:
    Complete Verification via Multi-Neuron Relaxation Guided Branch-and-Bound, Ferrari et al., 2022. A Unified View of Piecewise
    Linear Neural Network Verification, Bunel et al., 2018.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.bounds import CompactNetwork, compact, linear
from relukit.network import Network
from relukit.search._attack import descend_rows
from relukit.search._conditions import network_where
from relukit.search._decision import Decision, touching, up_to
from relukit.search._dual import Dual
from relukit.search._few_moving import joined
from relukit.search._graph import Graph, as_graph, free_memory, graph_of_intervals, make_graph, scratch_of
from relukit.search._leaves import finish
from relukit.search._pace import DOUBLING, Pace
from relukit.search._propagate import propagated
from relukit.search._refine import dual_of, forest_of, optimize_gates, refine
from relukit.sets import AbstractSet

_PASSES = (8, 25, 80, 160, 320, 640, 1280)
_NODES = 400  # of the search over gates after the first pass
_LONGEST = 8.0  # times as long a search goes on whose gap shrinks fast
_SHARE = 0.25  # of the time of a pass that the search after it gets at least
_MOST = 0.5  # of the time left that one pass over all gates may take
_WIDTH = 64  # leaves that are split at once
_CHEAP = 0.8  # of the time left that a search on a device then gets
# After so many passes the cases part where so small a share of the gates is open where a case has a counterexample.
_SHARED, _FEWER = 3, 0.95
_STALLED = 0.9  # share of the gap of the nearest case beyond which a pass has changed little
_ALL = 10**9  # nodes: as many as there is time for
_CONDITIONS = 0.1  # of the time left that bounds for one case take at most
_PROGRAMS = 1.0  # seconds of linear programs after a search that had a budget
_NEAR = 1e-6
_ATTACK, _POINTS = 0.1, 128  # share of the time left, and points, of one attack on a large network


@dataclass(frozen=True, eq=False)
class Case:
    """One kind of counterexample: `A y + b <= 0` in every row.

    Arguments:
        confirm: Called with points `(k, n)`; returns one that counts as a counterexample, or None.
    """

    A: Array
    b: Array
    confirm: Callable[[Array], Array | None]


def decide_cases(
    network: Network,
    region: AbstractSet,
    cases: Sequence[Case],
    stop: float,
    seed: int = 0,
    on_level: Callable[[int, float], None] = lambda case, level: None,
    device: Any = None,
) -> Decision:
    """Whether any case has a point in the region.

    Arguments:
        network: Piecewise linear.
        region: A `Box` or a `Ball`.
        stop: Wall-clock time to stop at (`time.perf_counter`).
        on_level: Told what the largest row of a case cannot go below, whenever that becomes known better.
        device: A `Device` (`_torch_device`) that proposes many leaves at once; by default compiled loops on the CPU do.
    """
    A, b = np.vstack([c.A for c in cases]), np.concatenate([c.b for c in cases])
    rows = joined(network).append(A, b)
    owner = np.repeat(np.arange(len(cases)), [len(c.b) for c in cases])
    member = owner == np.arange(len(cases))[:, None]
    graph, kept = None, as_graph(rows)
    if kept is not None:  # bounds of a large network take long: a short attack comes first
        rows = kept
        start = graph_of_intervals(rows, region)
        quick = _Many(start, cases, member, np.ones(len(cases), bool), stop, seed, device=device)
        found = quick._attack(5, 15, None)
        if found is not None:
            return found
        if scratch_of(rows) > free_memory():
            open_ = ~np.any(member & (start.bounds.output[0] > 0), axis=1)
            why = f"bounding {sum(n.size for n in rows.nodes)} values takes {scratch_of(rows) / 1e9:.0f} GB of memory, more than is free"
            status, why = ("unknown", why) if open_.any() else ("unsat", "")
            return Decision(status, None, 1, "interval bounds", why)
        graph = make_graph(rows, region, stop, start.maps)
    bounds = linear(rows, region) if graph is None else graph.bounds
    open_ = ~np.any(member & (bounds.output[0] > 0), axis=1)
    level = np.where(member, bounds.output[0], -np.inf).max(axis=1)
    for k, row in enumerate(level):
        on_level(k, float(row))
    if not open_.any():
        return Decision("unsat", None, 1, "linear bounds")
    small = compact(rows, region, bounds) if graph is None or _is_better_small(graph, stop) else graph
    search = _Many(small, cases, member, open_, stop, seed, on_level, device)
    search.level = np.maximum(search.level, level)
    return search.run()


def _is_better_small(graph: Graph, stop: float) -> bool:
    return graph.is_small and graph.is_quick_to_compact(stop)


def split_gates(small: CompactNetwork, confirm: Callable[[Array], Array | None], stop: float) -> Decision:
    """Whether all outputs of a compact network can be at most 0 at once.

    Arguments:
        small: Compact form over a set of the network whose outputs are the rows.
        confirm: Polishes points and returns one that the original confirms, or None.
        stop: Wall-clock time to stop at (`time.perf_counter`).
    """
    R = len(small.c)
    case = Case(np.eye(R), np.zeros(R), confirm)
    return _Many(small, [case], np.ones((1, R), bool), np.ones(1, bool), stop, 0).run()


class _Many:
    """State of one question: the compact network, which cases are open, and how far each is from being proven."""

    def __init__(
        self,
        small: CompactNetwork | Graph,
        cases: Sequence[Case],
        member: np.ndarray,
        open_: np.ndarray,
        stop: float,
        seed: int,
        on_level: Callable[[int, float], None] = lambda case, level: None,
        device: Any = None,
    ) -> None:
        self.on_level, self.device = on_level, device
        self.many = 1 if device is None else max(device.batch // _WIDTH, 1)  # times as many nodes are affordable
        self.small, self.cases, self.member, self.open = small, cases, member, open_
        self.stop, self.generator = stop, np.random.default_rng(seed)
        self.nodes, self.unresolved, self.engine = 0, 0, "optimized slopes"
        self.plain = small  # with bounds that hold on the whole set
        self.everywhere = False  # whether only these are used
        self.fewer = 1.0  # share of the gates that are open where the case last searched has a counterexample
        self.level = np.full(len(cases), -np.inf)  # what the largest row of each case cannot go below
        self.learned = self.level.copy()  # the same from optimized slopes, which gave x
        self.x = np.zeros((len(cases), small.input_set.size))

    def run(self) -> Decision:
        found = self._attack(5, 40, None) or self._slopes() or propagated(self) or self._passes()
        return found or self._unknown()

    def _passes(self) -> Decision | None:
        """Bounds of gates and searches in turn; once these bounds hardly help any more, each case by itself."""
        for k, rounds in enumerate(_PASSES):
            if time.perf_counter() > self.stop:
                return None
            self.engine, began, before = "refined bounds", time.perf_counter(), self.level[self.open].max()
            alone = self.open.sum() == 1 and self.device is None and not isinstance(self.small, Graph)
            where = np.flatnonzero(self.member[self.open][0]) if alone else None
            small = refine(self.small, rounds, self._soon(), device=self.device, where=where)
            if small is None:
                self.open[:] = False
                return self._proven()
            self.small = small
            # Other bounds have other minimizers, which differ more than random starts do: an attack after each.
            found = self._bound_rows(30) or self._attack(6, 40, self.x)
            if found is None and time.perf_counter() < self.stop:
                # Later gates have to follow what is known better about earlier ones, also where the pass was cut short.
                self.small = optimize_gates(small, 20, self._soon(), self.device)
                self.plain = self.plain if alone else self.small
                found = self._bound_rows(30) or self._attack(6, 40, self.x)
            if found is None and time.perf_counter() > self.stop:
                return None
            least = self.level[self.open].max(initial=-np.inf)
            stalled = least < _STALLED * before
            if found is None:
                seconds = _SHARE * (time.perf_counter() - began)
                if self.device is not None and stalled:
                    # Bounds of gates hardly help any more, and a device's nodes are cheap.
                    seconds = max(seconds, _CHEAP * (self.stop - time.perf_counter()))
                found = self._search(self.many * _NODES * 2**k, seconds)
            if found is not None:
                return found
            if self.unresolved and alone:
                break
            if stalled and k >= _SHARED and self.open.sum() > 1 and self.device is None and self.fewer < _FEWER:
                return self._one_by_one()
        found = self._search(_ALL, 0.0)
        if found is None and self.unresolved and time.perf_counter() < self.stop:
            # Where all gates are decided at a counterexample, the network without them says no more about where it must lie.
            self.small, self.unresolved, self.everywhere = self.plain, 0, True
            found = self._search(_ALL, 0.0)
        return found

    def _one_by_one(self) -> Decision | None:
        """Each open case by itself, the one that is nearest to being proven first: bounds hold where this case has a counterexample."""
        order = sorted(np.flatnonzero(self.open), key=lambda c: -self.level[c])
        for k, case in enumerate(order):
            now = time.perf_counter()
            one = _Many(
                self.small, [self.cases[case]], self.member[case : case + 1], np.ones(1, bool), now + (self.stop - now) / (len(order) - k), 0,
                lambda _, level, case=case: self.on_level(case, level),
            )  # fmt: skip
            one.level[0] = self.level[case]
            found = one._passes()
            self.nodes, self.unresolved = self.nodes + one.nodes, self.unresolved + one.unresolved
            if found is not None and found.status == "sat":
                return found
            self.open[case], self.level[case], self.engine = one.open[0], one.level[0], one.engine
        return self._proven()

    def _soon(self) -> float:
        """When bounds of gates must be done at the latest: so that time is left to use them."""
        now = time.perf_counter()
        return now + _MOST * (self.stop - now)

    def _unknown(self) -> Decision:
        worst = float(self.level[self.open].min(initial=np.inf))
        reason = (
            f"time is up after {self.nodes} nodes; {up_to(worst)}"
            if time.perf_counter() >= self.stop
            else touching(self.unresolved)
        )
        return Decision("unknown", None, self.nodes, self.engine, reason)

    def _proven(self) -> Decision | None:
        return None if self.open.any() else Decision("unsat", None, self.nodes, self.engine)

    # -- attack ----------------------------------------------------------------------------------------------------

    def _attack(self, starts: int, steps: int, around: Array | None) -> Decision | None:
        """Descents for every open case, from random points or from around given ones."""
        if time.perf_counter() > self.stop:
            return None
        dual = dual_of(self.small, self.stop, self.device)
        if isinstance(self.small, Graph):  # one step of a large network can take seconds
            dual.stop = min(self.stop, time.perf_counter() + _ATTACK * (self.stop - time.perf_counter()))
        starts = max(starts, dual.lanes // max(int(self.open.sum()), 1))
        which = np.repeat(self._nearest(dual, max(_POINTS // starts, 1)), starts)
        spread = self.generator.random((len(which), dual.n))
        D = dual.low + (dual.high - dual.low) * spread
        if around is None:
            D[::starts] = 0.0
        else:
            share = np.where(np.arange(len(which)) % starts == 0, 0.0, 0.3)[:, None]
            D = (1 - share) * dual.steps_to(around[which]) + share * D
        if self.device is None:
            best, value = descend_rows(dual, self.member, dual.project(D), which, steps)
        else:
            best, value = dual.descend(self.member, dual.project(D), which, steps, self.stop)
        for k in np.argsort(value):
            if value[k] > _NEAR:
                break
            hit = self.cases[which[k]].confirm(dual.points(best[k : k + 1]))
            if hit is not None:
                return Decision("sat", hit, self.nodes, "gradient attack" if around is None else "attack from bounds")
        return None

    def _nearest(self, dual: Dual, most: int) -> np.ndarray:
        """The open cases; of a large network's at most so many, whose largest rows are least at a few points."""
        open_ = np.flatnonzero(self.open)
        if len(open_) <= most or not isinstance(self.small, Graph):
            return open_
        D = dual.low + (dual.high - dual.low) * self.generator.random((dual.lanes // 4, dual.n))
        D[0] = 0.0
        out = dual.outputs_at(dual.project(D).astype(np.float32))
        least = [out[:, self.member[case]].max(axis=1).min() for case in open_]
        return open_[np.argsort(least)[:most]]

    # -- rows ------------------------------------------------------------------------------------------------------

    def _slopes(self) -> Decision | None:
        found = self._bound_rows(10)
        if found is not None or time.perf_counter() > self.stop:
            return found
        self.small = self.plain = optimize_gates(self.small, 10, self._soon(), self.device)
        found = self._bound_rows(30)
        if found is not None or time.perf_counter() > self.stop:
            return found
        return self._attack(6, 40, self.x) or self._search(self.many * DOUBLING, 0.0)

    def _bound_rows(self, steps: int) -> Decision | None:
        """Optimized bounds of the rows of open cases: of each row, and where a case has several of the best sum of them."""
        dual = dual_of(self.small, self.stop, self.device)
        outputs = dual.output_rows()
        which = np.flatnonzero(self.member[self.open].any(axis=0))
        P, S = dual.start(len(which))
        found = dual.bound(outputs[which], P, S, steps)
        self.nodes += len(which)
        for case in np.flatnonzero(self.open):
            mine = np.flatnonzero(self.member[case, which])
            best = mine[found.bound[mine].argmax()]
            self._learn(case, found.bound[best], found.x[best])
            if len(mine) > 1 and self.open[case]:
                joint = dual.bound(outputs[which[mine]], P[:1], S[:1], steps, np.full((1, len(mine)), 1 / len(mine)))
                self._learn(case, joint.bound[0], joint.x[0])
        return self._proven()

    def _learn(self, case: int, bound: float, x: Array) -> None:
        if bound > self.learned[case]:
            self.learned[case], self.x[case] = bound, x
        if bound > self.level[case]:
            self.level[case] = bound
            self.on_level(int(case), float(bound))
        self.open[case] &= bound <= 0

    # -- search over gates -----------------------------------------------------------------------------------------

    def _search(self, budget: int, seconds: float) -> Decision | None:
        """Best-first over gates, easiest case first; stops at the first case that the budget does not settle.

        Nodes of small networks are cheap: the budget is at least a quarter of the time that the bounds of the gates took.
        """
        until = min(time.perf_counter() + seconds, self.stop)
        for case in sorted(np.flatnonzero(self.open), key=lambda c: -self.level[c]):
            self.engine = "gate splitting"
            small = self._where(case, 2 * seconds if budget < _ALL else _CONDITIONS * (self.stop - time.perf_counter()))
            if small is None:
                self.open[case] = False
                continue
            dual = dual_of(small, self.stop, self.device)
            forest = forest_of(dual, dual.output_rows()[np.flatnonzero(self.member[case])], dual.K, joint=True)
            forest.plant(20)
            pace = Pace(float(forest.promised[0]), self.many * DOUBLING, self.stop)
            longest = (
                min(time.perf_counter() + _LONGEST * seconds, self.stop) if seconds and budget < _ALL else self.stop
            )
            while forest.leaves and time.perf_counter() < (
                self.stop if forest.nodes < budget else longest if pace.good else until
            ):
                x = forest.grow(1, 5, self.stop, width=_WIDTH, look_ahead=True)
                hit = self._try(case, dual, x) if len(x) else None
                if hit is not None:
                    return hit
                pace.see(forest.nodes, float(forest.promised[0]))
            mine = np.flatnonzero(self.member[case])
            hit, nodes, left = finish(small, mine, forest, self.cases[case].confirm, self._programs_until(budget))
            self.nodes, self.unresolved = self.nodes + nodes, self.unresolved + left
            if hit is not None:
                return Decision("sat", hit, self.nodes, "linear programs")
            self.nodes += forest.nodes
            bound = forest.bound[0]
            self.level[case] = max(self.level[case], min(bound, 0.0))
            self.on_level(int(case), float(max(self.level[case], bound)))
            if bound <= 0:
                return None
            self.open[case] = False
        return self._proven()

    def _programs_until(self, budget: int) -> float:
        """When linear programs end: a device makes so many leaves that refined bounds come first, and programs last."""
        early = budget < _ALL
        return min(self.stop, time.perf_counter() + _PROGRAMS) if early else self.stop

    def _where(self, case: int, seconds: float) -> CompactNetwork | Graph | None:
        """The network with bounds that hold where a case has a counterexample, as far as there is time; None where no such point is left."""
        if seconds <= 0 or self.everywhere:
            return self.small
        until = min(time.perf_counter() + seconds, self.stop)
        found = network_where(self.small, np.flatnonzero(self.member[case]), until, self.stop)
        if found is not None:
            self.fewer = found.gates / max(self.small.gates, 1)
            self.small = found if self.open.sum() == 1 else self.small
        return found

    def _try(self, case: int, dual: Dual, x: Array) -> Decision | None:
        """Points that the relaxation proposes, as they are."""
        D = dual.steps_to(x).astype(np.float32)
        value = dual.outputs_at(D)[:, self.member[case]].max(axis=1)
        k = int(value.argmin())
        if value[k] > _NEAR:
            return None
        hit = self.cases[case].confirm(dual.points(D[k : k + 1]))
        return None if hit is None else Decision("sat", hit, self.nodes, "gate splitting")
