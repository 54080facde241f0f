"""Search by propagation: formulas against all assignments, and never a point lost."""

import itertools
import time

import numpy as np
import pytest

from relukit import Box
from relukit.bounds import compact
from relukit.network import from_layers
from relukit.search._propagate import split_by_propagation
from tests.strategies import RELU


def formula(g, n, count):
    """Clauses of three literals, variables numbered from 1, negative where they are negated."""
    return [[int(v) * (1 if g.random() < 0.5 else -1) for v in 1 + g.choice(n, 3, replace=False)] for _ in range(count)]


def satisfiable(clauses, n):
    return any(
        all(any(bits[abs(v) - 1] == (v > 0) for v in c) for c in clauses)
        for bits in itertools.product((False, True), repeat=n)
    )


def as_network(clauses, n):
    """Outputs that are at most 0 at whole inputs that satisfy all clauses: sums of what each clause lacks, and of |x|'s distances to whole numbers."""
    W, b = np.zeros((len(clauses) + n, n)), np.ones(len(clauses) + n)
    for k, clause in enumerate(clauses):
        for v in clause:
            W[k, abs(v) - 1] = -1.0 if v > 0 else 1.0
        b[k] -= sum(v < 0 for v in clause)
    W[len(clauses) :], b[len(clauses) :] = 2 * np.eye(n), -1.0
    pass_on = np.vstack([W, np.eye(n)])  # an input is above 0: a gate that passes it on
    out = np.zeros((2, len(pass_on)))
    out[0, : len(clauses)], out[1, len(clauses) :], out[1, len(W) :] = 1.0, -1.0, 1.0
    return from_layers([pass_on, out], [np.append(b, np.zeros(n)), np.zeros(2)], [RELU], np.float64)


def confirm_in(network):
    def confirm(points):
        for x in np.concatenate([points, np.round(points)]):
            if np.all(network(x[None])[0] <= 1e-9) and np.all((x >= 0) & (x <= 1)):
                return x
        return None

    return confirm


def test_formulas_against_all_assignments():
    g, seen = np.random.default_rng(3), []
    for _ in range(40):
        n = 8
        clauses = formula(g, n, int(g.integers(25, 45)))
        network = as_network(clauses, n)
        box = Box(np.zeros(n), np.ones(n))
        found = split_by_propagation(compact(network, box), np.arange(2), confirm_in(network), time.perf_counter() + 60)
        assert found is not None
        assert (found.status == "sat") == satisfiable(clauses, n), clauses
        if found.status == "sat":
            bits = np.round(found.point) > 0.5
            assert all(any(bits[abs(v) - 1] == (v > 0) for v in c) for c in clauses)
        seen.append(found.status)
    assert 5 < seen.count("sat") < 35


@pytest.mark.parametrize("seed", range(4))
def test_the_leaves_of_a_tree_are_refuted_in_about_as_many_nodes(seed):
    """Clauses that are each other's resolvents down to a contradiction: the one tree with few nodes splits what unsatisfied clauses share."""
    g, n, count = np.random.default_rng(seed), 60, 150
    clauses = [[1], [-1]]
    while len(clauses) < count:
        k = int(g.choice(len(clauses), p=(share := np.array([1 / len(c) for c in clauses])) / share.sum()))
        clause = clauses[k]
        v = int(g.choice([v for v in range(1, n + 1) if v not in map(abs, clause)]))
        clauses[k] = [*clause, v]
        clauses.append([*clause, -v])
    network = as_network(clauses, n)
    small = compact(network, Box(np.zeros(n), np.ones(n)))
    found = split_by_propagation(small, np.arange(2), confirm_in(network), time.perf_counter() + 60)
    assert found is not None
    assert found.status == "unsat"
    assert found.boxes < 2 * count


@pytest.mark.parametrize("sizes", [(3, 7, 2), (2, 6, 5, 3)])
def test_what_has_a_point_is_not_refuted(sizes):
    """Random networks whose rows are shifted so that one sample is just inside, or so that none is near."""
    g, refuted = np.random.default_rng(7), 0
    for _ in range(120):
        weights = [g.standard_normal((b, a)) for a, b in itertools.pairwise(sizes)]
        biases = [g.standard_normal(b) for b in sizes[1:]]
        box = Box(-np.ones(sizes[0]), np.ones(sizes[0]))
        x = box.sample(4000, g)
        out = from_layers(weights, biases, [RELU] * (len(sizes) - 2), np.float64)(x)
        best = out[out.max(axis=1).argmin()]  # at most 0 there once it is taken off
        for shift, may in ((best, False), (best - 0.5, True)):
            moved = [*biases[:-1], biases[-1] - shift]
            network = from_layers(weights, moved, [RELU] * (len(sizes) - 2), np.float64)
            small = compact(network, box)
            rows = np.arange(sizes[-1])
            found = split_by_propagation(small, rows, lambda points: None, time.perf_counter() + 20)
            if found is not None:
                assert found.status == "unsat"
                assert may
                refuted += 1
    assert refuted > 20
