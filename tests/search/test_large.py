"""Networks whose matrices would not fit in memory, with few inputs that move."""

import time
from functools import reduce

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit import Box
from relukit.search import Search
from relukit.search._few_wide import Forward


def convolutional(side, channels, seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(2 * channels * (side // 8) ** 2, 4),
    )  # fmt: skip
    return relukit.load(module.eval(), input_shape=(3, side, side))


def around(network, moving, radius):
    x = np.random.default_rng(1).random(network.inputs)
    lower, upper = x.copy(), x.copy()
    lower[moving] -= radius
    upper[moving] += radius
    return x, Box(lower, upper)


@pytest.mark.slow
def test_a_pixel_of_a_wide_convolutional_network_is_decided():
    """The matrix of the second convolution alone would take 32 GiB."""
    network = convolutional(32, 64)
    x, box = around(network, [40, 1500], 1 / 255)
    y = network(x)
    best = int(y.argmax())
    points = box.sample(64, 0)
    low = min((network(points)[:, best] - np.delete(network(points), best, axis=1).max(axis=1)).min(), 1.0)
    a, b = network.variables()
    claim = [b[best] - b[j] >= low - 0.05 for j in range(4) if j != best]
    for one in claim:
        assert relukit.verify(network, a.within(box), one, timeout=60).status == "unsat"
    assert relukit.verify(network, a.within(box), b[best] <= y[best] - 0.05, timeout=60).status == "sat"


@pytest.mark.parametrize("radius", [0.01, 0.2])
def test_planes_carried_through_products_are_those_of_matrices(radius, monkeypatch):
    network = convolutional(8, 4)
    _, box = around(network, [3, 70, 100], radius)
    search = lambda: Search(network, box, np.eye(4), np.zeros(4), lambda p: None)
    ends = [search().domain.lower[None], search().domain.upper[None]]
    written = Forward(search().rows).bounds(*ends)
    monkeypatch.setattr("relukit.search._few_wide._ENTRIES", 0)
    fresh = convolutional(8, 4)
    products = Forward(Search(fresh, box, np.eye(4), np.zeros(4), lambda p: None).rows)
    carried = products.bounds(*ends)
    for (a, b), (c, d) in zip(written, carried):
        assert np.allclose(a, c, atol=1e-9) and np.allclose(b, d, atol=1e-9)
    assert all(np.array_equal(v, w) for v, w in zip(Forward(search().rows).needed(written), products.needed(carried)))
    seen = network.values(box.sample(200, 2))
    for (low, high), values in zip(carried[-3:], [seen[-2], seen[-1], seen[-1]]):
        assert np.all(values >= low.T - 1e-12) and np.all(values <= high.T + 1e-12)


def test_questions_about_one_box_share_what_is_carried():
    network = convolutional(8, 4)
    _, box = around(network, [3, 70], 0.05)
    shared = {}
    for row in range(4):
        search = Search(network, box, np.eye(4)[[row]], np.zeros(1), lambda p: None)
        planes = Forward(search.rows)
        ends = search.domain.lower[None], search.domain.upper[None]
        assert all(
            np.array_equal(a, b) and np.array_equal(c, d)
            for (a, c), (b, d) in zip(planes.bounds(*ends, shared), planes.bounds(*ends))
        )


@pytest.mark.parametrize("large", [False, True])
def test_more_cases_than_lanes_are_attacked(large, monkeypatch):
    """A hundred classes: more starts than points that are evaluated at once, in compiled loops and in torch."""
    if large:
        monkeypatch.setattr("relukit.search._torch_points._WORTH", 0)
        monkeypatch.setattr("relukit.search._graph_points._VALUES", 20_000)  # a few points at once
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 100)
    )  # fmt: skip
    network = relukit.load(module.eval(), input_shape=(1, 8, 8))
    x, box = around(network, np.arange(64), 0.05)
    a, b = network.variables()
    y = network(x)
    best = int(y.argmax())
    claim = lambda gap: [b[best] - b[j] >= gap for j in range(100) if j != best]
    every = lambda gap: reduce(lambda p, q: p & q, claim(gap))
    low = min(float(y[best] - y[j]) for j in range(100) if j != best)
    assert relukit.verify(network, a.within(box), every(low - 0.001), timeout=60).status == "sat"
    assert relukit.verify(network, a.within(box), every(-50.0), timeout=60).status == "unsat"


def test_a_network_too_large_for_memory_is_left_open(monkeypatch):
    network = convolutional(8, 4)
    x, box = around(network, np.arange(192), 0.2)
    a, b = network.variables()
    best = int(network(x).argmax())
    monkeypatch.setattr("relukit.search._many.free_memory", lambda: 1e3)
    found = relukit.verify(network, a.within(box), b[best] >= -0.3, timeout=20)
    assert found.status in ("unknown", "sat")
    assert found.status == "sat" or "memory" in found.reason
    assert relukit.verify(network, a.within(box), b[best] >= -1e4, timeout=20).status == "unsat"


def test_a_compact_form_that_takes_too_long_to_make_is_left_out(monkeypatch):
    """Every input and gate goes through the whole network once: a ResNet of 55 million multiply-adds took minutes past its limit."""
    from relukit.search import _graph, _many

    network = convolutional(8, 4)
    _, box = around(network, np.arange(192), 0.02)
    rows = _graph.as_graph(network.append(np.eye(4)))
    assert rows is not None
    graph = _graph.make_graph(rows, box, np.inf)
    now = time.perf_counter()
    assert graph.gates and graph.is_small and _many._is_better_small(graph, now + 60)
    assert not _many._is_better_small(graph, now + 1e-4)
    monkeypatch.setattr(_graph, "free_memory", lambda: 1e5)
    assert not _many._is_better_small(graph, now + 60)
