"""Breakpoints along a line by the sweep, and room that calls share or do not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.activations import get
from relukit.geometry import polygon
from relukit.geometry._along import cells_along
from relukit.geometry._enumerate_cells import solids
from relukit.geometry._form import form_of
from relukit.geometry._pieces import cells_of
from relukit.network import from_layers
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder

from .rational import pieces


def random_network(seed, sizes):
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return weights, [g.standard_normal(b) for b in sizes[1:]]


def relu_network(weights, biases):
    return from_layers(weights, biases, [get("relu")] * (len(weights) - 1))


@pytest.mark.parametrize(
    ("seed", "sizes"), [(0, [1, 7, 1]), (1, [1, 9, 6, 1]), (2, [1, 6, 6, 5, 2]), (3, [1, 5, 5, 4, 4, 3])]
)
def test_sweep_equals_rational_arithmetic(seed, sizes):
    weights, biases = random_network(seed, sizes)
    network = relu_network(weights, biases)
    found = cells_along(form_of(network), -3.0, 3.0)
    assert found is not None and found.exact and found.unmatched == 0
    expected = pieces(weights, biases, [-3.0], [3.0])
    assert len(found) == len(expected)
    for k in range(len(found)):
        ends = sorted(float(x[0]) for x in expected[tuple(found.pattern(k).tolist())])
        np.testing.assert_allclose(np.sort(found.cell(k)[:, 0]), ends, atol=1e-12)
    A, c = found.maps
    middle = 0.5 * (found.vertices[1:] + found.vertices[:-1])
    np.testing.assert_allclose(np.einsum("kmd,kd->km", A, middle) + c, network(middle), atol=1e-10)
    assert np.array_equal(found.locate(middle), np.arange(len(found)))
    assert found.neighbors.tolist() == [
        n for k in range(len(found)) for n in (k - 1, k + 1 if k + 1 < len(found) else -1)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_long_sweeps_equal_the_walk_with_exact_signs(seed):
    """Some 50 nodes and more before the last stage: its hinges are looked at from afar first (`_finish`)."""
    g = np.random.default_rng(seed)
    sizes = [1, *g.integers(40, 90, 2 + seed % 3), 2]
    weights, biases = random_network(seed, sizes)
    if seed % 2:
        weights = [np.where(g.random(w.shape) < 0.2, 0.0, w) for w in weights]
    form, low, high = form_of(relu_network(weights, biases)), np.array([-2.0]), np.array([2.0])
    found = cells_along(form, -2.0, 2.0)
    assert found is not None and found.exact and len(found) > 80
    walk = cells_of(form, low, high, None, *solids(form, low, high, None, None))
    order = np.argsort([walk.cell(k).min() for k in range(len(walk))])
    assert np.array_equal(found.patterns, walk.patterns[order])
    np.testing.assert_allclose(found.vertices[:, 0], np.sort(walk.vertices[:, 0]), atol=1e-12)


def test_sweep_gives_up_where_two_hinges_meet_and_the_walk_decides():
    W, b = np.array([[1.0], [3.0], [1.0]]), np.array([-0.1, -0.3, 0.5])  # 0.3 / 3 and 0.1 are neighbors in float64
    network = relu_network([W, np.ones((1, 3))], [b, np.zeros(1)])
    assert cells_along(form_of(network), -1.0, 1.0) is None
    expected = pieces([W, np.ones((1, 3))], [b, np.zeros(1)], [-1.0], [1.0])
    found = relukit.regions(network, Box([-1.0], [1.0]))
    assert {tuple(found.pattern(k).tolist()) for k in range(len(found))} == set(expected)


def test_a_limit_stops_along_a_line_too():
    network = relu_network(*random_network(1, [1, 9, 6, 1]))
    part = relukit.regions(network, Box([-3.0], [3.0]), limit=3, partial=True)
    assert len(part) == 3 and not part.complete


def test_calls_at_the_same_time_do_not_share_room():
    """Arrays are kept between calls: each of several callers must have its own."""
    network, box = relu_network(*random_network(3, [2, 24, 20, 1])), Box([-2.0, -2.0], [2.0, 2.0])
    expected = relukit.regions(network, box)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: relukit.regions(network, box), range(24)):
            np.testing.assert_array_equal(found.patterns, expected.patterns)
            np.testing.assert_array_equal(found.vertices, expected.vertices)
            np.testing.assert_array_equal(found.indices, expected.indices)


@pytest.mark.parametrize("corners", [5, 9, 40, 90])
def test_polygons_with_many_corners(corners):
    """More corners than a vector holds, and than a word has bits; the pieces' sides add up to those of the domain."""
    turn = 2 * np.pi * np.arange(corners) / corners
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    network = relu_network(*random_network(1, [2, 8, 6, 1]))
    whole = relukit.regions(network, Box([-1.0, -1.0], [1.0, 1.0]))
    found = relukit.regions(network, polygon(ring))
    assert found.area_error < 1e-12 and found.area == pytest.approx(
        0.5 * corners * np.sin(2 * np.pi / corners), rel=1e-12
    )
    assert {b.tobytes() for b in found.patterns} <= {b.tobytes() for b in whole.patterns}
    outside = found.neighbors < 0
    length = np.linalg.norm(found.vertices[found.indices[found.following]] - found.vertices[found.indices], axis=1)
    assert length[outside].sum() == pytest.approx(2 * corners * np.sin(np.pi / corners), rel=1e-9)
    A, c = found.maps
    for k in range(len(found)):
        center = found.polygon(k).mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(center), atol=1e-9)


def test_pooled_maxima_need_no_exact_arithmetic():
    """max(a, b) = b + max(0, a - b) touches the walls of a and b where these are off: settled by the signs of its terms."""
    g = np.random.default_rng(0)
    b = Builder((1, 8, 8))
    z = b.activation(b.convolve(0, Conv(g.standard_normal((2, 1, 3, 3)), (1, 8, 8)), g.standard_normal(2)), RELU)
    pooled = b.reshape(b.max_pool(z, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False), (18,))
    network = b.build(b.affine(pooled, Dense(g.standard_normal((3, 18)))))
    found = relukit.regions(network, plane=tuple(g.standard_normal((3, 64))))
    assert len(found) > 500 and found.exact_tests < len(found) and found.area_error < 1e-12
    A, c = found.maps
    for k in range(0, len(found), 7):
        center = found.polygon(k).mean(axis=0)
        np.testing.assert_allclose(A[k] @ center + c[k], network(found.plane.points(center)), atol=1e-9)


def test_layers_of_zeros():
    """No row to scale by: neither a warning nor a piece."""
    network = relu_network(
        [np.zeros((3, 2)), np.ones((2, 3)), np.ones((1, 2))], [np.zeros(3), np.array([-1.0, 1.0]), np.zeros(1)]
    )
    assert len(relukit.regions(network, Box(-np.ones(2), np.ones(2)))) == 1


def test_a_walk_begins_anew_after_another_one():
    """Room is kept between calls: other boxes, an unfinished walk and more facets in between change nothing."""
    network = relu_network(*random_network(3, [3, 14, 9, 2]))
    box, other = Box(-np.ones(3), np.ones(3)), Box(np.zeros(3), np.full(3, 2.0))
    first, there = relukit.regions(network, box), relukit.regions(network, other)
    relukit.regions(network, box, limit=5, partial=True)
    again = relukit.regions(network, box)
    assert again.unmatched == 0 and np.array_equal(first.vertices, again.vertices)
    assert np.array_equal(first.patterns, again.patterns) and np.array_equal(first.neighbors, again.neighbors)
    assert len(there) != len(first) and there.area_error < 1e-12
