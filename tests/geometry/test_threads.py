"""Several threads find what one finds, in the same order; Ctrl-C and a limit keep what they found."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.geometry import _threads, _threads_cells
from relukit.geometry._shares import Gaps

from .degenerate import degenerate
from .test_sweep import random_network, relu_network


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(_threads, "_FEW", 0)  # also for few pieces
    monkeypatch.setattr(_threads_cells, "_FEW", 0)


def same(one, two):
    """Everything but the numbers of the vertices, the last digits of those that two threads found, and where a polygon begins."""
    names = (
        "patterns",
        "offsets",
        *(("masks", "facets", "facet_offsets", "neighbors") if hasattr(one, "masks") else ()),
    )
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert (len(one.vertices), one.edges, one.exact) == (len(two.vertices), two.edges, two.exact)
    first, second = corners(one), corners(two)
    np.testing.assert_allclose(one.vertices[one.indices[first]], two.vertices[two.indices[second]], atol=1e-11)
    if not hasattr(one, "masks"):
        np.testing.assert_array_equal(one.lines[first], two.lines[second])
        np.testing.assert_array_equal(one.neighbors[first], two.neighbors[second])
    numbers = np.unique(np.stack([one.indices[first], two.indices[second]], axis=1), axis=0).T
    assert all(len(np.unique(n)) == len(n) for n in numbers)  # one vertex here is one there


def corners(found):
    """Entries in an order that does not depend on where a polygon begins."""
    if hasattr(found, "masks"):
        return np.arange(len(found.indices))
    x, y = np.round(found.vertices[found.indices], 9).T + 0.0
    return np.lexsort([y, x, found.owner])


@pytest.mark.parametrize("seed", [0, 1, 4, 16, 116, "random"])
@pytest.mark.parametrize("inputs", [2, 3, 4])
def test_threads_find_the_same(seed, inputs):
    sizes = [inputs, *{2: (12, 10, 8), 3: (10, 8), 4: (8, 6)}[inputs], 1]
    weights, biases = random_network(0, sizes) if seed == "random" else degenerate(seed, inputs)
    network, box = relu_network(weights, biases), Box(np.full(inputs, -2.0), np.full(inputs, 2.0))
    one = relukit.regions(network, box)
    for threads in (2, 3, 5):
        two = relukit.regions(network, box, threads=threads)
        same(one, two)
        assert two.area_error < 1e-12 and getattr(two, "unmatched", 0) == 0
    A, c = two.maps
    for k in range(0, len(two), max(1, len(two) // 20)):
        center = two.vertices[two.polygons[k]].mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(center), atol=1e-9)


def test_one_hidden_layer_and_first_layers_that_the_box_decides():
    g = np.random.default_rng(3)
    one = relu_network([g.standard_normal((9, 3)), g.standard_normal((1, 9))], [g.standard_normal(9) / 3, np.zeros(1)])
    W, b = g.standard_normal((7, 3)), np.array([50.0, 0.3, -50.0, 50.0, 0.1, 0.2, -0.1])  # on, off, and cutting
    two = relu_network([W, g.standard_normal((8, 7)), g.standard_normal((2, 8))], [b, -10 * g.random(8), np.zeros(2)])
    still = relu_network([W[:2], g.standard_normal((8, 2)), g.standard_normal((2, 8))], [b[[0, 3]], g.random(8), np.zeros(2)])  # fmt: skip
    for network in (one, two, still):
        box = Box(-np.ones(3), np.ones(3))
        same(relukit.regions(network, box), relukit.regions(network, box, threads=2))


@pytest.mark.parametrize("inputs", [2, 3])
def test_a_limit_and_calls_at_the_same_time(inputs):
    network, box = (
        relu_network(*random_network(3, [inputs, 12, 10, 1])),
        Box(-np.full(inputs, 2.0), np.full(inputs, 2.0)),
    )
    whole = relukit.regions(network, box)
    part = relukit.regions(network, box, limit=20, partial=True, threads=2)
    assert not part.complete and part.stopped_by == "limit" and len(part) == 20
    assert {b.tobytes() for b in part.patterns} <= {b.tobytes() for b in whole.patterns}
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: relukit.regions(network, box, threads=2), range(9)):
            same(whole, found)


@pytest.mark.parametrize("threads", [2, 3, 6])
def test_shares_cover_the_parts_once(threads):
    """Whoever is quick: every part is taken once, and each thread's parts lie one after the other."""
    g = np.random.default_rng(threads)
    for total in (1, 2, 5, 40, 106):
        gaps, taken = Gaps(total, threads), [[] for _ in range(threads)]
        waiting = set(range(threads))
        while waiting:
            k = int(g.choice(sorted(waiting)))
            begin, end = gaps.next(k)
            if begin == end:
                waiting.remove(k)
            taken[k] += range(begin, end)
        assert [part for of in taken for part in sorted(of)] == list(range(total))


@pytest.mark.parametrize("inputs, threads", [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_interrupt_keeps_what_was_found(inputs, threads):
    """Ctrl-C in the middle of a long walk, with threads too."""
    network = relu_network(*random_network(0, [2, 500, 500, 500, 1] if inputs == 2 else [3, 120, 120, 1]))
    whole, small = (Box(-np.full(inputs, r), np.full(inputs, r)) for r in (1.0, 0.1))
    relukit.regions(network, small, threads=threads)  # compiled
    asked = []

    def progress(count):
        if count and not asked:
            asked.append(count)
            os.kill(os.getpid(), signal.SIGINT)

    found = relukit.regions(network, whole, partial=True, threads=threads, on_progress=progress)
    assert asked and not found.complete and len(found) >= max(1000, asked[0]) and found.stopped_by == "Ctrl-C"
    with pytest.raises(KeyboardInterrupt):
        asked.clear()
        relukit.regions(network, whole, threads=threads, on_progress=progress)
    A, c = found.maps
    for k in range(0, len(found), max(1, len(found) // 30)):
        center = found.vertices[found.polygons[k]].mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(center), rtol=1e-9, atol=1e-6)
