"""Gates that are multiples but for rounding: joined, with the errors as inputs, they give the outputs of the original, in rational arithmetic."""

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest

import relukit
from relukit.bounds import _mirror_near
from relukit.bounds._mirror_near import nearly_joined
from relukit.network import Affine, from_layers
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


def kinks(network, start, end):
    """Where the network turns on the way from one point to another, in rational arithmetic: between these it is linear."""
    places = [Fraction(0), Fraction(1)]
    for i in network.activations:
        source, found = network.nodes[i].inputs[0], []
        held = [[low for low, _ in values(network, _point(start, end, t))[source]] for t in places]
        for k in range(len(places) - 1):
            for p, q in zip(held[k], held[k + 1]):
                if (p < 0 < q) or (q < 0 < p):
                    found.append(places[k] + (places[k + 1] - places[k]) * p / (p - q))
        places = sorted({*places, *found})
    return [_point(start, end, t) for t in places]


def _point(start, end, t):
    return [Fraction(float(a)) + t * (Fraction(float(b)) - Fraction(float(a))) for a, b in zip(start, end)]


def values(network, x):
    """Every node's value at x, as intervals in rational arithmetic over what further inputs in [-1, 1] may be."""
    one = Fraction(1)
    found = [[(v, v) for v in x] + [(-one, one)] * (network.inputs - len(x))]
    for node in network.nodes[1:]:
        if not isinstance(node.op, Affine):
            found.append([(max(low, 0 * one), max(high, 0 * one)) for low, high in found[node.inputs[0]]])
            continue
        out = [(Fraction(float(v)), Fraction(float(v))) for v in node.op.bias]
        for m, j in zip(node.op.maps, node.inputs):
            for k, row in enumerate(m.matrix()):
                for w, (low, high) in zip(row, found[j]):
                    if w:
                        ends = Fraction(float(w)) * low, Fraction(float(w)) * high
                        out[k] = out[k][0] + min(ends), out[k][1] + max(ends)
        found.append(out)
    return found


def check(network, box, units, lines, seed, width):
    """Along random lines, some along edges: the outputs are among those that the joined network can have."""
    joined = nearly_joined(network, box)
    assert joined is not None
    assert joined.units in units
    rng = np.random.default_rng(seed)
    for _ in range(lines):
        start, end = (
            np.where(rng.random(box.size) < 0.5, rng.choice([-1.0, 1.0], box.size), p) for p in box.sample(2, rng)
        )
        for x in kinks(network, start, end):
            for (exact, _), (low, high) in zip(values(network, x)[-1], values(joined, x)[-1]):
                assert low <= exact <= high
                assert high - low < width


@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("seed, kept", [(0, 0), (1, 0), (2, 2), (3, 3)])
def test_the_joined_network_can_have_the_outputs_of_the_original(seed, kept, between):
    network, box = planted(seed, kept, between)
    check(network, box, range(2 * kept + (9 if between else 4), network.units), 3, seed, 1e-3)


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
    check(
        builder.build(builder.affine(at, sparse(rng.normal(size=(2, 6))), np.zeros(2), name="y")), box, [6], 2, 0, 1e-4
    )

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
    check(network, Box(-np.ones(9), np.ones(9)), [2 * per], 1, 0, 1e-4)


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
LAST = {  # what reads relu of those three; c, and by how many E it changes at (-1, 1 - E, c)
    "read": ([[THREE]], 1.0, 2),
    "behind an undecided gate": ([[THREE], [[1.0, 0.0]]], 1.0, 2),
    "by a layer of one z": ([[THREE, [-1.0, 1.0, -1.0, 4.0]], [[1.0, -1.0, 0.0]]], 1.0, 2),
    "by a layer of a gate and its z": ([[THREE, [-1.0, 1.0, -1.0, 4.0]], [[2.0, -1.0, 0.0]]], 1.0, 4),
}


@pytest.mark.parametrize("name", LAST)
def test_errors_are_as_large_as_a_difference_that_is_reached(name):
    layers, c, change = LAST[name]
    network, x = chain(TWO, *layers), np.array([-1.0, 1.0 - E, c])
    joined = nearly_joined(network, Box(-np.ones(3), np.ones(3)))
    assert joined is not None
    ((exact, _),), ((low, high),) = (values(n, [Fraction(float(v)) for v in x])[-1] for n in (network, joined))
    assert low <= exact <= high
    assert 0.9 * change * E <= abs(exact - (low + high) / 2) <= (high - low) / 2 <= 1.1 * change * E


def test_errors_of_two_values_are_apart():
    """Two pairs that miss each other's opposites in opposite directions, on inputs of their own: their difference is off by both."""
    pairs = [[1.0, 1, 0, 0, 0], [-1 - E, E - 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, E - 1, -1 - E, 0]]
    network = chain(pairs, [[1.0, -1, 0, 0, 9], [0.0, 0, 1, -1, 9]], [[1.0, -1.0, 0.0]])
    joined = nearly_joined(network, Box(-np.ones(4), np.ones(4)))
    assert joined is not None
    assert joined.inputs == 6
    x = np.array([-1.0, 1.0 - E, -1.0, 1.0 - E])
    found = [joined(np.append(x, d))[0] for d in itertools.product([-1, 1], repeat=2)]
    assert min(found) <= network(x)[0] <= max(found)
    assert abs(network(x)[0] - np.mean(found)) >= 2.9 * E


def test_values_that_read_no_joined_gates_have_no_errors():
    joined = nearly_joined(chain(TWO, [THREE, [0.0, 0.0, 1.0, 3.0]], [[1.0, 1.0, 0.0]]), Box(-np.ones(3), np.ones(3)))
    assert joined is not None
    assert joined.inputs == 4


def test_a_gate_that_nearly_cancels_is_a_line():
    """relu(z) - (1 - d) relu(-z) = (1 - d) z + d relu(z) for z in [-2, 2]: the last part is d (z + 1) / 2 up to d / 2."""
    d = 2.0**-20
    network = chain([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]], [[1.0, d - 1, 0.0]])
    joined = nearly_joined(network, Box(-np.ones(2), np.ones(2)))
    assert joined is not None
    assert joined.units == 0
    for x, off in (([-1, -1], 0.5), ([0, 0], -0.5), ([1, 1], 0.5)):
        ((exact, _),), ((low, high),) = (values(n, [Fraction(v) for v in x])[-1] for n in (network, joined))
        assert low <= exact <= high
        assert float((exact - (low + high) / 2) / Fraction(d)) == pytest.approx(off, abs=1e-6)
        assert float((high - low) / 2) <= 0.52 * d


@pytest.fixture
def asked(monkeypatch):
    """The questions that are asked of nearly equal networks; by default few inputs that move are split without one."""
    found = []
    near = _nearly.nearly
    monkeypatch.setattr(_nearly, "_INPUTS", 0)
    module = sys.modules["relukit.verification.verify"]  # the function of that name hides it
    monkeypatch.setattr(module, "nearly", lambda q, box: found.append(near(q, box)) or found[-1])
    return found


def test_a_claim_that_holds_of_the_joined_network_alone_is_not_verified(asked):
    network, claim = missing(-E)
    answer = relukit.verify(network, *claim)
    assert asked[0] is not None
    assert answer.status == "sat"
    assert answer.witness.shape == (3,)
    assert network(answer.witness)[0] <= -E


def test_a_claim_that_errors_leave_standing_is_proven_in_the_joined_network(asked, monkeypatch):
    module = sys.modules["relukit.verification.verify"]
    searched, seen = module._searched, []
    monkeypatch.setattr(module, "_searched", lambda question, *rest: seen.append(question) or searched(question, *rest))
    network, claim = missing(-3 * E)
    assert relukit.verify(network, *claim).status == "unsat"
    assert seen == asked
    assert asked[0].network.units == network.units - 2


def test_what_the_joined_network_leaves_open_is_asked_of_the_original(asked, monkeypatch):
    adding = _mirror_near._with_inputs
    larger = lambda network, inputs, by: adding(network, inputs, {i: (k, 40 * r) for i, (k, r) in by.items()})
    monkeypatch.setattr(_mirror_near, "_with_inputs", larger)
    network, claim = missing(-3 * E)
    assert relukit.verify(network, *claim).status == "unsat"
    assert asked[0] is not None


def test_networks_without_near_multiples_are_left_alone():
    rng = np.random.default_rng(0)
    network = from_layers(
        [rng.normal(size=(20, 1)), rng.normal(size=(1, 20))], [rng.normal(size=20), np.zeros(1)], [RELU]
    )
    assert nearly_joined(network, Box([-3.0], [3.0])) is None  # rows of one input differ in their constants
