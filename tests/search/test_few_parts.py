"""Parts of the engine for few inputs: bounds hold at sampled points, weights agree with a linear program, joined gates change nothing."""

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import linprog

from relukit import Box
from relukit.bounds import compact, linear
from relukit.bounds._mirror import without_mirrored
from relukit.network import from_layers
from relukit.search._few import Search
from relukit.search._few_chain import Rows, bounds_of, layers_of
from relukit.search._few_wide import Forward, Pieces
from tests.strategies import RELU


def random_chain(seed, sizes=(3, 12, 10, 2)):
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return weights, [g.standard_normal(b) / 2 for b in sizes[1:]]


def lattice(seed, n=2, terms=4):
    """Maximum of minima of linear functions with `relu(a+b) - relu(-a-b) - relu(a-b) - relu(b-a)`, as two-level lattice nets have it."""
    g = np.random.default_rng(seed)
    A, b = g.integers(-8, 9, (2 * terms, n)) / 4, g.integers(-8, 9, 2 * terms) / 4
    weights, biases = [], []
    M, m, count, lowest = A, b, 2 * terms, True
    while count > 1:
        pair = np.kron(np.eye(count // 2), np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]))
        weights.append(pair @ M)
        biases.append(pair @ m)
        s = -0.5 if lowest else 0.5
        M, m = np.kron(np.eye(count // 2), np.array([[0.5, -0.5, s, s]])), np.zeros(count // 2)
        count, lowest = count // 2, False
    weights.append(M)
    biases.append(m)
    value = lambda x: np.max(np.min((x @ A.T + b).reshape(len(x), terms, 2), axis=2), axis=1)
    return from_layers(weights, biases, [RELU] * (len(weights) - 1)), value


@pytest.mark.parametrize("seed", range(6))
def test_quick_chain_bounds_hold_and_are_close_to_the_general_ones(seed):
    network = from_layers(*random_chain(seed), [RELU, RELU])
    box = Box(-np.ones(3) * 0.4, np.ones(3) * 0.6)
    quick, general = bounds_of(network, layers_of(network), box), linear(network, box)
    points = np.concatenate([box.sample(3000, np.random.default_rng(0)), box.lower[None], box.upper[None]])
    for value, low, high in zip(network.values(points), quick.lower, quick.upper):
        assert np.all(value >= low - 1e-12) and np.all(value <= high + 1e-12)
    wide = lambda b: float(np.sum(b.output[1] - b.output[0]))
    assert wide(quick) == pytest.approx(wide(general), rel=0.2)


def test_slopes_of_quick_rows_are_those_of_the_network():
    network = from_layers(*random_chain(3), [RELU, RELU])
    points = np.random.default_rng(1).uniform(-1, 1, (40, 3))
    out, slope = Rows(network).slope(points)
    assert np.allclose(out, network(points), atol=1e-4)
    for x, row, got in zip(points, out, slope):
        step = 1e-6 * np.eye(3)
        want = [(network(x + e)[row.argmax()] - network(x - e)[row.argmax()]) / 2e-6 for e in step]
        assert np.allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("seed", range(30))
def test_weights_of_planes_reach_the_value_of_the_linear_program(seed):
    from relukit.search._few_lp import joint, weigh

    g = np.random.default_rng(seed)
    n, R = int(g.integers(1, 9)), int(g.integers(1, 8))
    planes = g.standard_normal((R, n + 1))
    if seed % 3 == 0 and R > 1:  # degenerate: repeated planes, flat coordinates
        planes[1], planes[:, 0] = planes[0], 0
    errors, xl = np.zeros(R), -g.random(n)
    xu = xl + g.random(n) * 2
    weights, point, plane = np.zeros(R), np.zeros(n), np.zeros(n + 1)
    ints = lambda k: np.zeros(k, np.int64)
    weigh(R, n, planes, errors, xl, xu, np.zeros((R, n + 2)), np.zeros(R), ints(R + n + 2), ints(R + n + 2), np.zeros(n + 2, bool), weights, point)  # fmt: skip
    low = joint(R, n, planes, errors, weights, xl, xu, 1e-15, plane)
    exact = linprog(
        np.r_[np.zeros(n), 1], np.c_[planes[:, :n], -np.ones(R)], -planes[:, n], bounds=[*zip(xl, xu), (None, None)]
    )
    assert low <= exact.fun + 1e-9
    assert low == pytest.approx(exact.fun, abs=1e-8)
    assert np.max(planes[:, :n] @ point + planes[:, n]) == pytest.approx(exact.fun, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_joined_gates_change_no_value_and_are_a_quarter(seed):
    network, value = lattice(seed)
    joined = without_mirrored(network)
    x = np.random.default_rng(seed).uniform(-2, 2, (500, 2))
    assert np.allclose(network(x)[:, 0], value(x))
    assert np.allclose(joined(x), network(x), atol=1e-12)
    assert joined.units <= network.units // 4 + 1


def test_gates_that_differ_in_the_last_bit_are_not_joined():
    a = 0.1
    weights = [np.array([[a], [-np.nextafter(a, 1)]]), np.ones((1, 2))]
    network = from_layers(weights, [np.zeros(2), np.zeros(1)], [RELU])
    assert without_mirrored(network) is network
    inexact = from_layers([np.array([[a], [a]]), np.array([[1.0, 2.0**-60]])], [np.zeros(2), np.zeros(1)], [RELU])
    assert without_mirrored(inexact) is inexact  # the joined weight 1 + 2^-60 would be rounded


@pytest.mark.parametrize("seed", range(4))
def test_forward_planes_hold_in_every_box_of_a_batch(seed):
    network, _ = lattice(seed)
    network = without_mirrored(network).append(np.ones((1, 1)), 0.0)
    g = np.random.default_rng(seed)
    lower = g.uniform(-2, 1, (7, 2))
    upper = lower + g.random((7, 2))
    found = Forward(network).bounds(lower, upper)
    for k in range(7):
        points = Box(lower[k], upper[k]).sample(400, g)
        for value, (low, high) in zip(network.values(points), found):
            assert np.all(value >= low[:, k] - 1e-12) and np.all(value <= high[:, k] + 1e-12)


def test_pieces_cover_the_box_and_equal_the_network_there():
    network, value = lattice(1, terms=8)
    box = Box([-2.0, -2.0], [2.0, 2.0])
    points = box.sample(3000, np.random.default_rng(0))
    level = float(np.quantile(value(points), 0.1))
    rows = without_mirrored(network).append(np.ones((1, 1)), -level)  # value <= level somewhere?
    pieces = Pieces(rows, box, gates=3)
    while len(pieces.lower):
        pieces.step()
    homes = [np.all((points >= part.lower) & (points <= part.upper), axis=1) for part, _ in pieces.ready]
    low = points[value(points) <= level]
    assert np.all(np.any([np.all((low >= p.lower) & (low <= p.upper), axis=1) for p, _ in pieces.ready], axis=0))
    for home, (_, small) in zip(homes, pieces.ready):
        assert small.gates <= 3
        if home.any():
            assert np.allclose(small(points[home])[:, 0], value(points[home]) - level, atol=1e-9)


def test_a_gate_that_hardly_opens_is_an_error_not_a_gate():
    """The difference of two equal sums is 0 up to rounding; as a gate it would stay open for ever."""
    weights = [
        np.array([[0.1, 0.2], [0.1, 0.2], [1.0, 0.0]]),
        np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]),
        np.ones((1, 2)),
    ]
    network = from_layers(weights, [np.ones(3), np.zeros(2), np.zeros(1)], [RELU, RELU])
    box = Box([-1.0, -1.0], [1.0, 1.0])
    small = compact(network, box, linear(network, box))
    kept = {(int(node), int(entry)) for node, entry, _ in small.units}
    assert (4, 0) not in kept
    points = box.sample(200, np.random.default_rng(0))
    assert np.all(np.abs(small(points) - network(points)) <= small.output_error + 1e-12)


def test_pinned_inputs_that_float32_cannot_hold_do_not_hide_a_witness():
    network = from_layers([np.array([[1.0, 1.0]]), np.ones((1, 1))], [np.zeros(1), np.zeros(1)], [RELU])
    box = Box([0.1, 0.0], [0.1, 1.0])
    seen = []
    confirm = lambda points: (
        seen.extend(points) or next((p for p in points if box.contains(p) and network(p)[0] >= 0.5), None)
    )
    search = Search(network, box, np.array([[-1.0]]), np.array([0.5]), confirm)
    assert search.begin().status == "sat"
    assert all(p.shape == (2,) for p in seen)
    assert search.rows.inputs == 1  # only what moves is carried


def test_sparse_layers_stay_sparse_when_joined():
    from relukit.network import Affine, Input, Network, Node
    from relukit.network.affine import Sparse

    W = scipy.sparse.csr_matrix(np.array([[1.0, -1.0, 0], [-1.0, 1.0, 0], [0, 0, 1.0]]))
    V = scipy.sparse.csr_matrix(np.array([[1.0, 1.0, 0], [0, 0, 2.0]]))
    nodes = (
        Node(Input(3), (), (3,), "x"), Node(Affine((Sparse(W),), np.zeros(3)), (0,), (3,), "z"), Node(RELU, (1,), (3,), "h"),
        Node(Affine((Sparse(V),), np.zeros(2)), (2,), (2,), "y"),
    )  # fmt: skip
    joined = without_mirrored(Network(nodes))
    assert joined.units == 2
    assert all(isinstance(m, Sparse) for node in joined.nodes if isinstance(node.op, Affine) for m in node.op.maps)
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert np.array_equal(joined(x), Network(nodes)(x))


@pytest.mark.parametrize("kernel", [1, 3])
def test_opposite_channels_of_convolutions_are_joined(kernel):
    """A convolution whose channels were written as tau + relu(z - tau) - relu(tau - z), and one kept as it is, read by another."""
    from relukit.network import Affine, Input, Network, Node
    from relukit.network.affine import Conv, Dense

    g = np.random.default_rng(kernel)
    K, b = g.integers(-4, 5, (3, 2, 3, 3)) / 4, g.integers(-4, 5, 3) / 4
    tau = np.array([0.25, -0.5])
    split = Conv(np.concatenate([K[:2], -K[:2], K[2:]]), (2, 6, 5), stride=(2, 1), padding=(1, 1, 1, 1))
    shape = split.out_shape
    constants = np.concatenate([b[:2] - tau, tau - b[:2], b[2:]])
    merge = np.zeros((3, 5, kernel, kernel))
    middle = kernel // 2
    merge[[0, 1, 2], [0, 1, 4], middle, middle] = 1.0
    merge[[0, 1], [2, 3], middle, middle] = -1.0
    merge = Conv(merge, shape, padding=(middle,) * 4)
    per = shape[1] * shape[2]
    last = Dense(g.standard_normal((2, 3 * per)))
    nodes = (
        Node(Input(60), (), (2, 6, 5), "x"), Node(Affine((split,), np.repeat(constants, per)), (0,), shape, "s"), Node(RELU, (1,), shape, "r"),
        Node(Affine((merge,), np.repeat(np.append(tau, 0.0), per)), (2,), merge.out_shape, "m"), Node(RELU, (3,), merge.out_shape, "h"),
        Node(Affine((last,), np.zeros(2)), (4,), (2,), "y"),
    )  # fmt: skip
    network = Network(nodes)
    joined = without_mirrored(network)
    assert network.units == 8 * per
    assert joined.units == 4 * per  # of five channels only the one without an opposite stays a gate
    assert all(isinstance(m, Conv) for node in joined.nodes[1:-1] if isinstance(node.op, Affine) for m in node.op.maps)
    x = g.standard_normal((30, 60))
    Z = Conv(K, (2, 6, 5), stride=(2, 1), padding=(1, 1, 1, 1)).apply(x) + np.repeat(b, per)
    Z[:, 2 * per :] = np.maximum(Z[:, 2 * per :], 0)
    assert np.allclose(joined(x), np.maximum(Z, 0) @ last.W.T, atol=1e-12)
    assert np.allclose(network(x), joined(x), atol=1e-12)
    apart = replace_bias(network, 1)
    assert without_mirrored(apart) is apart  # one entry of a channel has another constant: channels are no units there


def replace_bias(network, node):
    from dataclasses import replace

    nodes = list(network.nodes)
    bias = nodes[node].op.bias.copy()
    bias[0] += 0.125
    nodes[node] = replace(nodes[node], op=replace(nodes[node].op, bias=bias))
    return type(network)(tuple(nodes))
