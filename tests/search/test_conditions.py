"""Bounds that hold where rows are at most 0, and leaves closed by them: against points and exhaustive enumeration."""

import numpy as np
import pytest

from relukit import Box
from relukit.bounds import compact, linear
from relukit.network import from_layers
from relukit.search import Search, decide_any
from relukit.search import _few as few
from relukit.search import _many as many
from relukit.search._ceilings import ceilings, closed_by_ceilings
from relukit.search._conditions import bounds_where
from relukit.search._dual import Dual
from relukit.search._refine import refine
from tests.oracles import exact_minimum
from tests.strategies import RELU


def claim(seed, hidden=(7, 6), rows=1, inputs=3):
    """Layers whose outputs are the rows, a box, and values of the first layers' z and of the rows at many points."""
    g = np.random.default_rng(seed)
    sizes = [inputs, *hidden, rows]
    weights = [g.standard_normal((b, a)) / np.sqrt(a) for a, b in zip(sizes, sizes[1:])]
    biases = [g.standard_normal(b) / 3 for b in sizes[1:]]
    box = Box(-g.random(inputs), g.random(inputs))
    x = np.concatenate([box.sample(20_000, g), np.where(g.random((2000, inputs)) < 0.5, box.lower, box.upper)])
    return weights, biases, box, x


def values(weights, biases, x):
    z, h = [], x
    for W, b in zip(weights, biases):
        z.append(h @ W.T + b)
        h = np.maximum(z[-1], 0)
    return z[:-1], z[-1]


def made_compact(weights, biases, box):
    network = from_layers(weights, biases, [RELU] * (len(weights) - 1))
    return compact(network, box, linear(network, box))


def gate_values(small, z):
    """z of the gates of a compact network, shape `(points, K)`; its units name activation nodes 2, 4, ..."""
    layer = {node: k for k, node in enumerate(np.unique(small.units[:, 0]))}
    assert len(layer) == len(z)
    return np.stack([z[layer[node]][:, unit] for node, unit, _ in small.units], axis=1)


@pytest.mark.parametrize("rows", [1, 2])
def test_bounds_hold_where_rows_are_at_most_zero(rows):
    tighter = seen = 0
    for seed in range(30):
        weights, biases, box, x = claim(seed, rows=rows)
        z, y = values(weights, biases, x)
        share = (0.001, 0.02, 0.2)[seed % 3]  # of the points at which every row is at most 0
        biases[-1] = biases[-1] - np.quantile(y.max(axis=1), share)
        small = made_compact(weights, biases, box)
        if len(np.unique(small.units[:, 0])) < 2:
            continue
        there = np.all(values(weights, biases, x)[1] <= 0, axis=1)
        at = gate_values(small, z)[there]
        lower, upper, none = bounds_where(small, np.arange(rows), np.inf)
        assert there.any() and not none
        assert np.all(at >= lower - 1e-12) and np.all(at <= upper + 1e-12), seed
        tighter += np.sum(lower > small.lower + 1e-3) + np.sum(upper < small.upper - 1e-3)
        refined = refine(small, 12, np.inf, where=np.arange(rows))
        assert refined is not None
        if refined.gates:
            known = {tuple(u): k for k, u in enumerate(small.units.tolist())}
            kept = [known[tuple(u)] for u in refined.units.tolist()]
            assert np.all(at[:, kept] >= refined.lower - 1e-12) and np.all(at[:, kept] <= refined.upper + 1e-12), seed
        gone = np.setdiff1d(np.arange(small.gates), kept if refined.gates else [])
        assert np.all((at[:, gone] >= -1e-12).all(axis=0) | (at[:, gone] <= 1e-12).all(axis=0)), seed
        seen += 1
    assert seen > 20 and tighter > 50


def test_nothing_is_left_only_where_the_minimum_is_above_zero():
    """Gaps from far to within 1e-6: never empty where a point is, often where there is none."""
    closed = {False: 0, True: 0}
    for seed in range(16):
        weights, biases, box, _ = claim(seed, hidden=(4, 3))
        least = exact_minimum(weights, biases, np.ones(1), box.lower, box.upper)
        for gap in (-1e-3, -1e-6, 1e-6, 1e-3, 0.1):  # the minimum
            shifted = [*biases[:-1], biases[-1] - least + gap]
            small = made_compact(weights, shifted, box)
            if not small.gates:
                continue
            none = bounds_where(small, np.arange(1), np.inf)[2] or refine(small, 12, np.inf, where=np.arange(1)) is None
            assert not none or gap > 0, (seed, gap)
            closed[gap > 0] += none
    assert closed[True] > 20 and not closed[False]


def above_mostly(seed, hidden):
    """A claim whose row reads most gates with positive weights, so that they enter by their lines below."""
    weights, biases, box, x = claim(seed, hidden)
    signs = np.where(np.random.default_rng(seed).random(weights[-1].shape) < 0.85, 1, -1)
    weights[-1] = np.abs(weights[-1]) * signs
    return weights, biases, box, x


def test_ceilings_hold_where_the_row_is_at_most_zero():
    added = seen = 0
    for seed in range(40):
        weights, biases, box, x = above_mostly(seed, (5, 5))
        z, y = values(weights, biases, x)
        biases[-1] = biases[-1] - np.quantile(y, 0.03)
        small = made_compact(weights, biases, box)
        if len(np.unique(small.units[:, 0])) < 2:
            continue
        dual, at, y = Dual(small), gate_values(small, z), values(weights, biases, x)[1]
        g, phases = np.random.default_rng(seed), np.zeros(small.gates, np.int8)
        held = g.permutation(small.gates)[: int(g.integers(0, 4))]
        phases[held] = np.where(at[int(y[:, 0].argmin()), held] > 0, 1, -1)
        there = (y[:, 0] <= 0) & np.all((phases == 0) | (phases * at >= 0), axis=1)
        _, rows = ceilings(dual, dual.output_rows(), phases)
        found = (x[there] - dual.center) @ rows.X.T + np.maximum(at[there], 0) @ rows.H.T + rows.c
        assert np.all(found <= rows.error + 1e-9), seed
        assert not closed_by_ceilings(dual, dual.output_rows(), phases, np.inf)[0], seed
        added, seen = added + len(rows) - 1, seen + 1
    assert added > 20 and seen > 20


def test_ceilings_close_a_leaf_only_where_the_minimum_is_above_zero():
    closed = {False: 0, True: 0}
    for seed in range(20):
        weights, biases, box, _ = above_mostly(seed, (4, 3))
        least = exact_minimum(weights, biases, np.ones(1), box.lower, box.upper)
        for gap in (-1e-3, -1e-6, 1e-6, 1e-3, 0.02):
            shifted = [*biases[:-1], biases[-1] - least + gap]
            small = made_compact(weights, shifted, box)
            if not small.gates:
                continue
            dual = Dual(small)
            if ceilings(dual, dual.output_rows(), np.zeros(small.gates, np.int8))[0] > 0 > gap:
                raise AssertionError((seed, gap))
            found = closed_by_ceilings(dual, dual.output_rows(), np.zeros(small.gates, np.int8), np.inf)[0]
            assert not found or gap > 0, (seed, gap)
            closed[gap > 0] += found
    assert closed[True] > 20 and not closed[False]


def asked(network, box, r, level):
    """Whether output r reaches down to the level."""
    confirm = lambda points: next((p for p in points if box.contains(p) and network(p)[r] <= level), None)
    return Search(network, box, np.eye(network.outputs)[r : r + 1], np.array([-level]), confirm)


@pytest.mark.parametrize("rows", [1, 3])
def test_cases_by_themselves_agree_with_enumeration(rows, monkeypatch):
    """No search while cases share their bounds: passes over these, one case at a time, decide."""
    monkeypatch.setattr(few, "_INPUTS", 0)
    monkeypatch.setattr(few, "_BOTH", 0)
    monkeypatch.setattr(many, "_SHARED", -1)
    monkeypatch.setattr(many, "_FEWER", 2.0)
    monkeypatch.setattr(many, "_STALLED", -1e9)
    monkeypatch.setattr(many, "propagated", lambda search: None)
    apart, whole, search = [], many._Many._one_by_one, many._Many._search
    monkeypatch.setattr(many._Many, "_search", lambda self, *a: None if self.open.sum() > 1 else search(self, *a))
    monkeypatch.setattr(many._Many, "_one_by_one", lambda self: apart.append(1) or whole(self))
    counts = {"sat": 0, "unsat": 0, "unknown": 0}
    for seed in range(12):
        weights, biases, box, _ = claim(seed, hidden=(5, 4), rows=rows)
        network = from_layers(weights, biases, [RELU, RELU])
        least = [exact_minimum(weights, biases, np.eye(rows)[r], box.lower, box.upper) for r in range(rows)]
        for gap in (-1e-3, -1e-6, 1e-6, 1e-3):
            found = decide_any([asked(network, box, r, least[r] + gap) for r in range(rows)], 5)  # all are as near
            want = "sat" if gap > 0 else "unsat"
            assert found.status == want or (abs(gap) < 1e-5 and found.status == "unknown"), (seed, gap, found)
            counts[found.status] += 1
    assert counts["sat"] > 15 and counts["unsat"] > 15
    assert rows == 1 or apart
