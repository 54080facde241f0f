"""What `compress` says, checked in rational arithmetic on every piece of networks with two inputs."""

from fractions import Fraction

import numpy as np
import pytest

import relukit
from relukit import Ball, Box, Polytope
from relukit.bounds import linear
from relukit.compression._check import check
from relukit.compression._signs import signed
from relukit.network import Affine, from_layers
from relukit.piecewise import PiecewiseLinear
from tests.compression.plane import affine, cut, difference, kinked, rectangle
from tests.compression.planted_plane import sketch
from tests.strategies import RELU

pytest.importorskip("onnx")


def nodes_of(network):
    """A network's nodes as exact ones."""
    found = []
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            found.append(affine([(i, m.matrix()) for i, m in zip(node.inputs, node.op.maps)], node.op.bias))
        else:
            op = node.op
            assert isinstance(op, PiecewiseLinear) and op.knots.ndim == op.slopes.ndim == 1
            found.append(kinked(node.inputs[0], node.size, op.knots.tolist(), op.slopes.tolist(), float(op.height)))
    return found


def domain(g):
    """A domain, the polygons it consists of, and the words that `compress` takes."""
    middle, side = (
        g.integers(-8, 9, 2) / 8,
        g.choice([0.125, 0.5, 1.0, 2.0]) * np.array([1.0, g.choice([0, 1, 1, 1, 0.5])]),
    )
    middle = np.clip(middle, -2 + side, 2 - side)
    box = Box(middle - side, middle + side)
    whole = rectangle(box.lower, box.upper)
    kind = g.choice(["box", "box", "box", "polytope", "rows", "diamond"])
    if kind == "polytope":
        rows = g.integers(-8, 9, (2, 2)) / 8
        ends = rows @ middle + g.integers(0, 5, 2) / 8
        cuts = [tuple(Fraction(float(v)) for v in (-a, -b, c)) for (a, b), c in zip(rows, ends)]
        for line in cuts:
            whole = cut(whole, line, 1)
        return [whole], {"input_set": Polytope(rows, ends, box)}
    if kind == "rows":
        data, margin = middle + side * g.integers(-4, 5, (3, 2)) / 4, 0.125
        return [rectangle(x - margin, x + margin) for x in data], {"data": data, "margin": margin}
    if kind == "diamond" and side[1] > 0:
        a, b, r = (Fraction(float(v)) for v in (*middle, side[1]))
        return [[(a + r, b), (a, b + r), (a - r, b), (a, b - r)]], {"input_set": Ball(middle, side[1], 1)}
    return [whole], {"input_set": box}


def shown(seed, tmp_path, kind, activation, exact):
    """One network, everything that is said of it held against the truth; figures for the long run."""
    g = np.random.default_rng(1000 + seed)
    made = sketch(seed, kind, activation, exact)
    path, small, proof = tmp_path / "net.onnx", tmp_path / "small.onnx", tmp_path / "small.proof"
    made.write(path)
    polygons, words = domain(g)
    network = relukit.load(path)
    found = relukit.compress(network, **words, timeout=1.0)
    apart, pieces, ranges = difference(polygons, made.nodes, nodes_of(found.network))
    assert found.proven and apart <= Fraction(found.error_bound), (float(apart), found)
    assert found.max_difference <= found.float32_bound + 1e-300
    dead, on, crossing = (count(made.nodes) for count in (ranges.flat, ranges.sloped, ranges.crossing))
    assert found.dead <= dead and found.always_on <= on and found.undecided_by_samples <= crossing, (dead, on, crossing)
    within = float(g.choice([0.01, 0.1, 1.0]))
    near = relukit.compress(network, **words, timeout=0.1, tolerance=within)
    loss = difference(polygons, made.nodes, nodes_of(near.network))[0]
    assert loss <= Fraction(near.error_bound) and near.error_bound <= max(within, found.error_bound), (
        float(loss),
        near,
    )
    kept = relukit.compress(network, **words, timeout=1.0, proof=True)
    relukit.save(kept.network, small)
    bound = kept.save_proof(proof, path, small)
    assert check(str(proof), str(path), str(small))["error_bound"] <= bound
    assert difference(polygons, made.nodes, nodes_of(relukit.load(small)))[0] <= Fraction(bound)
    return {
        "pieces": pieces, "apart": float(apart), "open": found.open_units, "units": found.units, "stable": found.stable_units,
        "truth": found.units - crossing, "before": found.parameters_before, "after": found.parameters_after, "after_proof": kept.parameters_after,
        "after_loss": near.parameters_after, "form": found.form, "bound": bound,
    }  # fmt: skip


KINDS = [
    ("dense", "relu"),
    ("residual", "relu"),
    ("convolution", "relu"),
    ("dense", "leaky"),
    ("dense", "clip"),
    ("residual", "leaky"),
]


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_what_is_said_holds_on_every_piece(tmp_path, number):
    kind, activation = KINDS[number]
    shown(number, tmp_path, kind, activation, number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind, activation", KINDS)
def test_what_is_said_holds_on_every_piece_of_many_networks(tmp_path, kind, activation, exact):
    for seed in range(
        KINDS.index((kind, activation)), 25, 4
    ):  # each number by some kind; all 25 by each take four times as long
        shown(seed, tmp_path, kind, activation, exact)


def test_signs_settle_what_rounding_leaves_open():
    """Units that touch their kink at most: without weights, with weights and values of one sign, or at a corner where float64 cannot tell."""
    tenths = np.full(3, 0.1)  # three of them are a hair more than float64's 0.3 and a hair less than the next number
    W = np.array([np.zeros(3), [-0.3, -0.7, -0.1], tenths, tenths, [1.0, 1.0, -1.0]])
    b = np.array([0.0, 0.0, -0.30000000000000004, -0.3, 0.1])
    V = np.array([[1.0, -1, 1, 2, -1], [-1.0, -2, -1, -1, -0.5], [0.5, 0, 0, 1, 1]])
    network = from_layers([W, V, np.ones((1, 3))], [b, np.array([0.2, 0.0, -0.1]), np.zeros(1)], [RELU] * 2)
    box = Box(np.zeros(3), np.ones(3))
    bounds = signed(linear(network, box), box)
    first, second = (bounds.off(i).tolist() for i in network.activations)
    assert first == [True, True, True, False, False] and second == [False, True, False]
    top = [sum((Fraction(float(w)) for w in row if w > 0), Fraction(float(c))) for row, c in zip(W, b)]
    assert [t <= 0 for t in top] == first
    assert all(t <= Fraction(float(u)) for t, u in zip(top, bounds.before(network.activations[0])[1]))
