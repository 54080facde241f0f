"""Gates that are multiples but for rounding: what joining them changes stays below the slack, in rational arithmetic along whole lines."""

import sys
from fractions import Fraction

import numpy as np
import pytest

import relukit
from relukit.bounds import interval
from relukit.bounds._mirror_near import NearNetwork, nearly_joined
from relukit.network import Affine, Network, from_layers
from relukit.network.affine import Conv, Sparse
from relukit.network.rewrite import RELU, Builder
from relukit.sets import Box
from relukit.verification import _nearly

E = 2.0**-21  # a row misses a multiple of another by so much; below this the layers count as nearly equal


def split(W, b, rng, box, kept):
    """Rows and readers of z = W x + b as tau + relu(s (z - tau)) / s + relu(r (z - tau)) / r with s > 0 > r, rounded to float32."""
    low, high = (W @ x + b for x in (box.lower, box.upper))
    tau = np.where(kept, 0.0, rng.uniform(np.minimum(low, high), np.maximum(low, high)))
    s, r = rng.uniform(0.1, 5, len(b)), -rng.uniform(0.1, 5, len(b))
    rows = np.concatenate([s[:, None] * W, r[:, None] * W]), np.concatenate([s * (b - tau), r * (b - tau)])
    read = np.concatenate([np.diag(1 / s), np.where(kept, 0, np.diag(1 / r))], axis=1)
    return [a.astype(np.float32).astype(float) for a in (*rows, read, tau)]


def planted(seed, kept=0, between=True):
    """Three layers of which the first two are split, and the box; some units of each keep a gate that is read by itself.

    Without gates between them the second split is of what reads the first one's gates.
    """
    rng = np.random.default_rng(seed)
    box = Box(-np.ones(3), np.ones(3))
    W, b, inner = rng.normal(size=(4, 5)), rng.normal(size=4), Box(-np.ones(5), np.ones(5))
    rows, constants, read, tau = split(rng.normal(size=(5, 3)), rng.normal(size=5), rng, box, np.arange(5) < kept)
    weights, biases = [rows], [constants]
    if between:
        weights, biases = [rows, read], [constants, tau]
    else:
        W, b, inner = W @ read, b + W @ tau, Box(np.zeros(10), np.ones(10))
    second = split(W, b, rng, inner, np.arange(4) < kept)
    weights += [second[0], second[2], rng.normal(size=(2, 4))]
    biases += [second[1], second[3], np.zeros(2)]
    return from_layers(weights, biases, [RELU] * (len(weights) - 1)), box


def along(networks, start, end):
    """The outputs of each network at every point where either has a kink on the way from one point to another, in rational arithmetic.

    Affine maps and ReLUs are linear between kinks, so that a difference of outputs is largest at one of these points.
    """
    places = [Fraction(0), Fraction(1)]
    for network in networks:
        places = _kinks(network, start, end, places)
    return [[_values(network, _point(start, end, t))[-1] for t in places] for network in networks]


def _point(start, end, t):
    return [Fraction(float(a)) + t * (Fraction(float(b)) - Fraction(float(a))) for a, b in zip(start, end)]


def _kinks(network, start, end, places):
    for i in network.activations:
        source, found = network.nodes[i].inputs[0], []
        held = [_values(network, _point(start, end, t))[source] for t in places]
        for k in range(len(places) - 1):
            for p, q in zip(held[k], held[k + 1]):
                if (p < 0 < q) or (q < 0 < p):
                    found.append(places[k] + (places[k + 1] - places[k]) * p / (p - q))
        places = sorted({*places, *found})
    return places


def _values(network, x):
    values = [x]
    for node in network.nodes[1:]:
        if not isinstance(node.op, Affine):
            values.append([max(v, Fraction(0)) for v in values[node.inputs[0]]])
            continue
        out = [Fraction(float(v)) for v in node.op.bias]
        for m, j in zip(node.op.maps, node.inputs):
            out = [
                o + sum(Fraction(float(w)) * v for w, v in zip(row, values[j]) if w) for o, row in zip(out, m.matrix())
            ]
        values.append(out)
    return values


def differences(network, found, box, A, lines, seed):
    """The largest change of each row along random lines from one corner of the box or point inside to another."""
    rng = np.random.default_rng(seed)
    worst = [Fraction(0)] * len(A)
    for _ in range(lines):
        start, end = (
            np.where(rng.random(box.size) < 0.5, rng.choice([-1.0, 1.0], box.size), p) for p in box.sample(2, rng)
        )
        for y, z in zip(
            *along([network, found.network], np.clip(start, box.lower, box.upper), np.clip(end, box.lower, box.upper))
        ):
            for k, row in enumerate(A):
                change = abs(sum(Fraction(float(a)) * (p - q) for a, p, q in zip(row, y, z)))
                worst[k] = max(worst[k], change)
    return worst


@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("seed, kept", [(0, 0), (1, 0), (2, 2), (3, 3)])
def test_outputs_change_by_less_than_the_slack(seed, kept, between):
    network, box = planted(seed, kept, between)
    found = nearly_joined(network, box)
    assert found is not None
    assert found.network.units < network.units
    A = np.array([[1.0, 0.0], [0.5, -2.0]])
    for slack in (found.slack(A), found.slack(A, interval(found.network, box))):
        assert np.all(slack < 1e-3)
        assert all(0 < d <= Fraction(float(s)) for d, s in zip(differences(network, found, box, A, 3, seed), slack))


def test_sparse_rows_and_channels_too():
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(6, 6)) * (rng.random((6, 6)) < 0.5), rng.normal(size=6)
    box = Box(-np.ones(6), np.ones(6))
    rows, constants, read, tau = split(W, b, rng, box, np.zeros(6, bool))
    import scipy.sparse

    sparse = lambda M: Sparse(scipy.sparse.csr_matrix(M))
    builder = Builder((6,))
    at = builder.activation(builder.affine(0, sparse(rows), constants, name="s"), RELU, "r")
    at = builder.activation(builder.affine(at, sparse(read), tau, name="m"), RELU, "h")
    check(builder.build(builder.affine(at, sparse(rng.normal(size=(2, 6))), np.zeros(2), name="y")), box, 6)

    K, c, r = rng.normal(size=(2, 1, 2, 2)), rng.normal(size=2), rng.uniform(0.1, 5, 4) * [1, 1, -1, -1]
    kernel = (r[:, None, None, None] * np.concatenate([K, K])).astype(np.float32)
    first = Conv(kernel, (1, 3, 3), padding=(0, 1, 0, 0))
    merge = np.zeros((2, 4, 1, 1), np.float32)
    merge[[0, 1, 0, 1], [0, 1, 2, 3], 0, 0] = 1 / r
    second = Conv(merge, first.out_shape)
    per = first.out_shape[1] * first.out_shape[2]
    builder = Builder((1, 3, 3))
    constants = np.repeat((r * np.concatenate([c, c])).astype(np.float32), per)
    at = builder.activation(builder.affine(0, first, constants, shape=first.out_shape, name="s"), RELU, "r")
    at = builder.activation(builder.affine(at, second, np.zeros(2 * per), shape=second.out_shape, name="m"), RELU, "h")
    network = builder.build(builder.affine(at, sparse(rng.normal(size=(2, 2 * per))), np.zeros(2), name="y"))
    check(network, Box(-np.ones(9), np.ones(9)), 2 * per)


def check(network: Network, box: Box, units: int):
    found = nearly_joined(network, box)
    assert found is not None
    assert found.network.units == units
    slack = found.slack(np.eye(2))
    assert np.all(slack < 1e-4)
    assert all(0 < d <= Fraction(float(s)) for d, s in zip(differences(network, found, box, np.eye(2), 2, 0), slack))


def missing(limit):
    """relu(a + b) - relu(-(1 + E) a - (1 - E) b) - (a + b) + (1 - c) and the claim that it is above a limit for inputs in [-1, 1].

    Were the second row the first one's opposite, this would be 1 - c: at least 0. It is down to -2 E.
    """
    rows = np.array([[1.0, 1.0, 0.0], [-1 - E, -1 + E, 0.0], [-1.0, -1.0, -1.0]])
    network = from_layers([rows, np.array([[1.0, -1.0, 1.0]])], [np.array([0.0, 0.0, 4.0]), np.array([-3.0])], [RELU])
    (x, y) = network.variables()
    return network, (x.within(Box(-np.ones(3), np.ones(3))), y[0] > limit)


def chain(*layers):
    """Layers of rows whose last entry is their constant."""
    layers = [np.array(rows) for rows in layers]
    return from_layers([rows[:, :-1] for rows in layers], [rows[:, -1] for rows in layers], [RELU] * (len(layers) - 1))


TWO = [[1.0, 1.0, 0.0, 0.0], [-1 - E, -1 + E, 0.0, 0.0], [0.0, 0.0, 1.0, 4.0]]  # a + b, nearly its opposite, c + 4
THREE = [1.0, -1.0, 1.0, -4.0]  # a + b + c up to 2 E
LAST = {  # what reads relu of those three; c, by how many E it changes at (-1, 1 - E, c), and what the slack may be
    "read": ([[THREE]], 1.0, 2, 2),
    "behind an undecided gate": ([[THREE], [[1.0, 0.0]]], 1.0, 2, 2),
    "beside an undecided gate": (
        [[[1.0, -1.0, 1.0, 6.0]], [[1.0, -10.0], [1.0, -2.0]], [[1.0, -1.0, 8.0]]],
        -1.0,
        2,
        2,
    ),
    "by a layer of one z": ([[THREE, [-1.0, 1.0, -1.0, 4.0]], [[1.0, -1.0, 0.0]]], 1.0, 2, 2),
    "by a layer of a gate and its z": ([[THREE, [-1.0, 1.0, -1.0, 4.0]], [[2.0, -1.0, 0.0]]], 1.0, 4, 4),
}


@pytest.mark.parametrize("name", LAST)
def test_the_slack_is_as_large_as_a_difference_that_is_reached(name):
    layers, c, change, most = LAST[name]
    network, x = chain(TWO, *layers), np.array([-1.0, 1.0 - E, c])
    found = nearly_joined(network, Box(-np.ones(3), np.ones(3)))
    assert found is not None
    reached = abs(network(x)[0] - found.network(x)[0])
    assert 0.9 * change * E <= reached <= found.slack(np.ones((1, 1)))[0] <= 1.1 * most * E


def test_a_gate_that_nearly_cancels_is_a_line():
    """relu(z) - (1 - d) relu(-z) = (1 - d) z + d relu(z) for z in [-2, 2]: the last part is d (z + 1) / 2 up to d / 2."""
    d = 2.0**-20
    network = chain([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]], [[1.0, d - 1, 0.0]])
    found = nearly_joined(network, Box(-np.ones(2), np.ones(2)))
    assert found is not None
    assert found.network.units == 0
    points = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    assert np.allclose((network(points) - found.network(points))[:, 0] / d, [0.5, -0.5, 0.5], atol=1e-6)
    assert 0.5 * d <= found.slack(np.ones((1, 1)))[0] <= 0.52 * d


def counted(monkeypatch, scale=1.0):
    """Whether the nearly equal network was asked, with a slack that is larger than it need be."""
    asked = []
    slack = NearNetwork.slack
    monkeypatch.setattr(NearNetwork, "slack", lambda self, A, b=None: scale * slack(self, A, b))
    near = _nearly.nearly
    module = sys.modules["relukit.verification.verify"]  # the function of that name hides it
    monkeypatch.setattr(module, "nearly", lambda q, box: asked.append(near(q, box)) or asked[-1])
    return asked


def test_a_claim_that_holds_of_the_joined_network_alone_is_not_verified(monkeypatch):
    asked = counted(monkeypatch)
    network, claim = missing(-E)
    answer = relukit.verify(network, *claim)
    assert asked[0] is not None
    assert answer.status == "sat"
    assert network(answer.witness)[0] <= -E


def test_a_claim_beyond_the_slack_is_proven_in_the_joined_network(monkeypatch):
    asked = counted(monkeypatch)
    network, claim = missing(-3 * E)
    assert relukit.verify(network, *claim).status == "unsat"
    assert asked[0].network.units == network.units - 2


def test_what_the_joined_network_leaves_open_is_asked_of_the_original(monkeypatch):
    asked = counted(monkeypatch, scale=40.0)
    network, claim = missing(-3 * E)
    assert relukit.verify(network, *claim).status == "unsat"
    assert asked[0] is not None


def test_networks_without_near_multiples_are_left_alone():
    rng = np.random.default_rng(0)
    network = from_layers(
        [rng.normal(size=(20, 1)), rng.normal(size=(1, 20))], [rng.normal(size=20), np.zeros(1)], [RELU]
    )
    assert nearly_joined(network, Box([-3.0], [3.0])) is None  # rows of one input differ in their constants
