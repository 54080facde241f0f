"""Several questions as one tree: the least row is the least, verdicts are those of the rows one by one, and the tree goes on
in the box that a confirmed point leaves."""

import numpy as np
import pytest

from relukit import Box
from relukit.network import from_layers
from relukit.search import Search, decide_any
from relukit.search._few_chain import Rows
from relukit.search._few_least import LeastRow, least
from tests.oracles import exact_minimum
from tests.strategies import RELU


def network(seed, outputs):
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((3, 2)), g.standard_normal((3, 3)), g.standard_normal((outputs, 3))]
    biases = [g.standard_normal(len(W)) / 2 for W in weights]
    return weights, biases, from_layers(weights, biases, [RELU, RELU])


@pytest.mark.parametrize("outputs", [1, 2, 3, 4, 5, 7])
def test_the_least_output_and_its_slope(outputs):
    _, _, net = network(outputs, outputs)
    x = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    np.testing.assert_allclose(least(net)(x)[:, 0], net(x).min(axis=1), atol=1e-12)
    value, slope = LeastRow(Rows(net)).slope(x)
    np.testing.assert_allclose(value[:, 0], net(x).min(axis=1), rtol=1e-5, atol=1e-5)
    step = 1e-6 * np.random.default_rng(1).standard_normal((50, 2))
    change = net(x + step).min(axis=1) - net(x - step).min(axis=1)
    away_from_kinks = np.abs(change - 2 * (slope * step).sum(axis=1)) < 1e-9
    assert away_from_kinks.mean() > 0.9


def test_any_row_against_all_patterns():
    seen = set()
    for seed in range(3):
        weights, biases, net = network(seed, 3)
        box = Box(np.full(2, -1.0), np.full(2, 1.5))
        lows = np.array([exact_minimum(weights, biases, row, box.lower, box.upper) for row in np.eye(3)])
        for gap in (-1e-2, -1e-5, 1e-5, 1e-2):  # one row reaches its level, or none does
            levels = lows - np.array([0.3, 0.2, 0.1])
            levels[seed % 3] = lows[seed % 3] + gap
            confirm = lambda points, b=levels, n=net: next((p for p in points if np.any(n(p) <= b)), None)
            found = decide_any([Search(net, box, np.eye(3), -levels, confirm, any_row=True)], 10)
            assert found.status == ("sat" if gap > 0 else "unsat"), (seed, gap, found)
            seen.add(found.status)
    assert seen == {"sat", "unsat"}


def test_the_tree_goes_on_in_the_box_that_is_left():
    """Smallest l-inf distance to y <= level by one tree: the box shrinks at each point, and the end is proven."""
    for seed in range(2):
        weights, biases, net = network(seed, 2)
        least_in = lambda r, w=weights, b=biases: min(
            exact_minimum(w, b, row, np.full(2, -r), np.full(2, r)) for row in np.eye(2)
        )
        level = 0.5 * (least_in(0.2) + least_in(2.0))
        best = [2.0]

        def confirm(points, n=net, b=level, best=best):
            for p in points:
                if n(p).min() > b:
                    continue
                low, high = 0.0, 1.0  # the first such point on the way from 0
                for _ in range(40):
                    middle = 0.5 * (low + high)
                    low, high = (low, middle) if n(middle * p).min() <= b else (middle, high)
                if np.abs(high * p).max() < best[0]:
                    best[0] = float(np.abs(high * p).max())
                    return high * p
            return None

        closer = lambda best=best: Box(np.full(2, -best[0] + 1e-6), np.full(2, best[0] - 1e-6))
        for _ in range(100):  # attacks before the tree end a search; the tree itself does not
            region = closer()
            rows = Search(net, region, np.eye(2), np.full(2, -level), confirm, any_row=True, closer=closer)
            found = decide_any([rows], 10)
            if found.status == "unsat":
                break
        assert found.status == "unsat"
        assert best[0] < 2 and least_in(best[0] - 2e-6) > level
