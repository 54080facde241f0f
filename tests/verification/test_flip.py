"""The smallest flip, in every norm and with every option, against oracles that try all activation patterns or all points."""

import itertools
import time

import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.datasets import load_breast_cancer

import relukit
from relukit import Box, InvalidInput, UnsupportedOperation
from relukit.activations import get
from relukit.network import from_layers
from relukit.search._few_chain import Rows
from relukit.verification._flip_descent import Descent
from relukit.verification._flip_question import Question
from relukit.verification._flip_search import FlipSearch
from tests.strategies import RELU

KNOWN = 0.02570906  # mnist_fc 256x2, image 2, by an independent mixed-integer program


def small(seed, inputs=3, hidden=5, outputs=2):
    g = np.random.default_rng(seed)
    W, b = g.standard_normal((hidden, inputs)), g.standard_normal(hidden)
    V, c = g.standard_normal((outputs, hidden)), g.standard_normal(outputs) / 3
    return W, b, V, c, from_layers([W, V], [b, c], [RELU]), g.uniform(-1, 1, inputs)


def nearest_by_patterns(W, b, V, c, x, source, norm, targets=None, lead=0.0, strict=False):
    """Exact distance: in every activation pattern the nearest point that another output leads, by a program of its own."""
    best, n = np.inf, len(x)
    others = [t for t in range(len(c)) if t != source and (targets is None or t in targets)]
    for on in itertools.product([0.0, 1.0], repeat=len(b)):
        on = np.array(on)
        M, d = V @ (on[:, None] * W), V @ (on * b) + c
        for t in others:
            behind = [j for j in range(len(c)) if j != t] if strict else [source]
            G = np.vstack([np.where(on[:, None] > 0, -W, W), M[behind] - M[t]])
            h = np.concatenate([np.where(on > 0, b, -b), d[t] - d[behind] - lead])
            if norm == 2:
                start = linprog(np.zeros(n), G, h, bounds=[(None, None)] * n)
                if start.status == 0:
                    found = minimize(
                        lambda z: ((z - x) ** 2).sum(), start.x, jac=lambda z: 2 * (z - x), method="SLSQP",
                        constraints={"type": "ineq", "fun": lambda z, G=G, h=h: h - G @ z, "jac": lambda z, G=G: -G},
                        options={"ftol": 1e-14, "maxiter": 300},
                    )  # fmt: skip
                    if np.all(G @ found.x <= h + 1e-8):
                        best = min(best, float(np.sqrt(found.fun)))
                continue
            extra = 1 if norm == np.inf else n
            eye, pad = np.eye(n), -np.ones((n, 1)) if norm == np.inf else -np.eye(n)
            A = np.vstack([np.hstack([G, np.zeros((len(G), extra))]), np.hstack([eye, pad]), np.hstack([-eye, pad])])
            found = linprog(
                np.r_[np.zeros(n), np.ones(extra)], A, np.concatenate([h, x, -x]),
                bounds=[(None, None)] * n + [(0, None)] * extra, method="highs",
            )  # fmt: skip
            if found.status == 0:
                best = min(best, found.fun)
    return best


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_against_all_patterns(norm):
    proven = 0
    for seed in range(5):
        W, b, V, c, network, x = small(seed)
        best = nearest_by_patterns(W, b, V, c, x, int(network.decide(x)), norm)
        others = np.random.default_rng(seed).uniform(-5, 5, (100, 3))
        found = relukit.flip(network, x, norm, timeout=30, starts=others)
        assert found.lower <= best + 1e-7
        if found.witness is not None:
            assert found.upper >= best - 1e-7
            assert np.linalg.norm(found.witness - x, norm) == pytest.approx(found.upper)
            assert network.decide(found.witness) == found.to != found.from_
            if found.status == "proven":
                assert found.upper == pytest.approx(best, abs=3e-6 * max(1, best))
                proven += 1
    assert proven >= 3


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_balancing_on_the_boundary_comes_near(norm):
    """The first flip is no proof, but it is a flip, and mostly within a tenth of the distance that every pattern gives."""
    near = tried = 0
    for seed in range(10):
        W, b, V, c, network, x = small(seed, hidden=4, outputs=3)
        question, kept = Question(network, x, None), []
        A, offset = (np.concatenate([getattr(g, k) for g in question.goals.values()]) for k in ("A", "b"))
        descent = Descent(
            network, x, question, norm, np.full(3, -9.0), np.full(3, 9.0), lambda p, kept=kept: bool(kept.append(p))
        )
        descent.balance(Rows(network.append(A, offset)), 80)
        best = nearest_by_patterns(W, b, V, c, x, question.source, norm)
        for point in kept:
            y = network(point)
            assert y[question.source] <= np.delete(y, question.source).max() + 1e-4
            assert np.linalg.norm(point - x, norm) >= best - 1e-3
        tried += best < 4
        near += min((np.linalg.norm(p - x, norm) for p in kept), default=9.0) <= 1.1 * best < 4.4
    assert tried >= 6 and near >= 0.7 * tried, (near, tried)


def test_many_decisions_in_one_tree():
    """Five decisions over three inputs: one tree over all of them, exact against every pattern."""
    for seed in range(4):
        W, b, V, c, network, x = small(seed, hidden=4, outputs=5)
        best = nearest_by_patterns(W, b, V, c, x, int(network.decide(x)), np.inf)
        found = relukit.flip(network, x, within=Box(np.full(3, -40.0), np.full(3, 40.0)), timeout=30)
        if best > 30:
            assert found.lower <= best
            continue
        assert found.status == "proven" and found.replayed
        assert found.upper == pytest.approx(best, abs=3e-6 * max(1, best))
        assert network.decide(found.witness) == found.to != found.from_


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_a_chosen_decision_with_a_margin(norm):
    """The new decision has to lead every other output, not the old one alone."""
    checked = 0
    for seed in range(4):
        W, b, V, c, network, x = small(20 + seed, inputs=2, outputs=3)
        source = int(network.decide(x))
        for target in {0, 1, 2} - {source}:
            best = nearest_by_patterns(W, b, V, c, x, source, norm, {target}, 0.1, strict=True)
            others = np.random.default_rng(seed).uniform(-5, 5, (200, 2))
            found = relukit.flip(network, x, norm, target=target, margin=0.1, timeout=20, starts=others)
            assert found.lower <= best + 1e-7
            if found.witness is not None:
                y = network(found.witness)
                assert found.to == target and y[target] - np.delete(y, target).max() >= 0.1 - 1e-12
                if found.status == "proven":
                    assert found.upper == pytest.approx(best, abs=3e-6 * max(1, best))
                    checked += 1
    assert checked >= 3


def test_a_probability_is_reached_and_bounded():
    """Two outputs: probability 0.8 is a margin of log 4. Three: the witness has it, and no point of a grid inside the bound."""
    W, b, V, c, network, x = small(3)
    found = relukit.flip(network, x, probability=0.8, timeout=20)
    best = nearest_by_patterns(W, b, V, c, x, found.from_, np.inf, lead=np.log(4))
    assert found.lower <= best + 1e-7 <= found.upper + 2e-7
    W, b, V, c, network, x = small(31, inputs=2, outputs=3)
    found = relukit.flip(
        network, x, probability=0.6, timeout=10, starts=np.random.default_rng(0).uniform(-5, 5, (200, 2))
    )
    soft = lambda y: (
        np.exp(y - y.max(axis=-1, keepdims=True)) / np.exp(y - y.max(axis=-1, keepdims=True)).sum(-1, keepdims=True)
    )
    assert found.witness is not None and np.delete(soft(network(found.witness)), found.from_).max() >= 0.6 - 1e-12
    side = np.linspace(-1, 1, 201) * found.lower
    grid = x + np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    assert np.delete(soft(network(grid)), found.from_, axis=1).max() < 0.6


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_frozen_and_whole_inputs(norm):
    """Two whole numbers and one real one: every pair of whole numbers is tried, the real one by the kinks along its line."""
    checked = 0
    for seed in range(4):
        network, x = small(40 + seed)[4:]
        x[:2] = np.round(x[:2])
        box = Box(np.array([-2.0, -2.0, -3.0]), np.array([2.0, 2.0, 3.0]))
        found = relukit.flip(network, x, norm, within=box, integer=(0, 1), timeout=20)
        best, source = np.inf, int(network.decide(x))
        for p in itertools.product(range(-2, 3), repeat=2):
            base = np.array([*p, 0.0])
            line = base + np.linspace(-3, 3, 20001)[:, None] * np.array([0, 0, 1.0])
            flipped = line[network.decide(line) != source]
            if len(flipped):
                best = min(best, np.linalg.norm(flipped - x, norm, axis=1).min())
        assert found.lower <= best + 1e-7
        if found.status == "proven" and found.witness is not None:
            assert np.all(found.witness[:2] == np.round(found.witness[:2]))
            assert found.upper <= best + 1e-6 and found.upper >= best - 1e-3
            checked += 1
        held = relukit.flip(network, x, norm, within=box, frozen=(0, 1), timeout=20)
        assert held.witness is None or np.array_equal(held.witness[:2], x[:2])
        assert held.witness is None or held.upper >= found.lower
    assert checked >= 2


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_inputs_in_steps(norm):
    """Steps of 0.5 and 0.3 from where the input stands, one of them frozen in a second question; every pair is tried."""
    checked, steps = 0, {0: 0.5, 1: 0.3}
    box = Box(np.array([-2.0, -2.0, -3.0]), np.array([2.0, 2.0, 3.0]))
    for seed in range(4):
        network, x = small(50 + seed)[4:]
        x = np.clip(x, -1.9, 1.9)
        source = int(network.decide(x))
        reach = [[x[i] + k * d for k in range(-20, 21) if -2 <= x[i] + k * d <= 2] for i, d in steps.items()]
        for frozen in ((), (1,)):
            found = relukit.flip(network, x, norm, within=box, steps=steps, frozen=frozen, timeout=20)
            best = np.inf
            for p in itertools.product(reach[0], [x[1]] if frozen else reach[1]):
                line = np.array([*p, 0.0]) + np.linspace(-3, 3, 20001)[:, None] * np.array([0, 0, 1.0])
                flipped = line[network.decide(line) != source]
                if len(flipped):
                    best = min(best, np.linalg.norm(flipped - x, norm, axis=1).min())
            assert found.lower <= best + 1e-7
            if found.status == "proven" and found.witness is not None:
                k = (found.witness - x)[:2] / (0.5, 0.3)
                assert np.allclose(k, np.round(k), atol=1e-6)
                assert best - 1e-3 <= found.upper <= best + 1e-6
                checked += 1
    assert checked >= 4


def test_no_flip_at_all_is_proven():
    network = from_layers([np.array([[1.0]]), np.array([[1.0], [0.0]])], [np.zeros(1), np.array([1.0, 0.0])], [RELU])
    found = relukit.flip(network, np.array([0.5]), within=Box([0.0], [1.0]), timeout=10)
    assert found.witness is None and found.status == "proven" and found.lower == 0.5
    assert found.to_dict()["distance"] is None and found.to_dict()["upper_bound"] is None


def test_too_little_time_gives_bounds_that_hold():
    g = np.random.default_rng(0)
    weights = [g.standard_normal((40, 20)), g.standard_normal((40, 40)) / 6, g.standard_normal((3, 40))]
    network = from_layers(weights, [g.standard_normal(len(W)) / 2 for W in weights], [RELU, RELU])
    x = g.uniform(-1, 1, 20)
    told = []
    quick = relukit.flip(network, x, timeout=0.05, on_progress=lambda low, high: told.append((low, high)))
    assert quick.reason in ("", "time was up")
    full = relukit.flip(network, x, timeout=60)
    assert full.status == "proven" and quick.lower <= full.upper + 1e-9 and quick.upper >= full.lower
    assert told and all(low <= high for low, high in told)


def test_interrupted_it_tells_a_lower_bound_that_holds():
    network, x = small(3)[4:]
    told = []

    def stop_at_first(low, high):
        told.append((low, high))
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relukit.flip(network, x, on_progress=stop_at_first)
    exact = relukit.flip(network, x).upper
    assert told[0][0] == 0 and 0 < told[-1][0] <= exact <= told[-1][1]


def test_what_is_refused():
    network = from_layers([np.eye(2)], [np.zeros(2)], [])
    smooth = from_layers([np.eye(2), np.eye(2)], [np.zeros(2)] * 2, [get("gelu")])
    x = np.array([1.0, 0.0])
    with pytest.raises(UnsupportedOperation, match="gelu"):
        relukit.flip(smooth, x)
    for options, words in (
        ({"norm": 3}, "norm must be"), ({"target": 0}, "already"), ({"target": 7}, "none of the decisions"),
        ({"margin": -1.0}, "margin"), ({"probability": 1.0}, "probability"), ({"frozen": (5,)}, "names input 5"),
        ({"integer": (1,)}, "input 1 is to take whole numbers only and is 0.5"), ({"steps": {1: 0.0}}, "positive number"), ({"steps": {7: 1.0}}, "steps names input 7"), ({"within": Box([2.0, 2.0], [3.0, 3.0])}, "outside"), ({"timeout": 0}, "timeout"),
        ({"frozen": (0, 1)}, "no input may move"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=words):
            relukit.flip(network, x if "integer" not in options else np.array([1.0, 0.5]), **options)


def test_exact_radius_of_a_known_image(data_folder):
    from tests.oracles import vnnlib_box

    folder = data_folder / "vnncomp" / "mnist_fc"
    lower, upper = vnnlib_box(folder / "vnnlib" / "prop_2_0.03.vnnlib")
    x = np.clip(np.where(lower <= 0, upper - 0.03, lower + 0.03), 0, 1)
    network = relukit.load(folder / "onnx" / "mnist-net_256x2.onnx")
    found = relukit.flip(network, x, within=Box(np.zeros(784), np.ones(784)), timeout=120)
    assert found.status == "proven" and found.replayed and found.to == 9
    assert found.lower <= KNOWN + 1e-7 and found.upper >= KNOWN - 1e-7
    assert found.upper - found.lower <= 1e-6


def test_a_table_in_its_own_units():
    """Inputs of 1e-3 to 4e3 for a float32 network, which holds points farther apart than the gap that counts as proven."""
    x, y = load_breast_cancer(return_X_y=True)
    network = relukit.fit(x, y, hidden=(30,), epochs=8).network
    for row, norm in ((100, np.inf), (3, 1), (20, 1)):
        found = relukit.flip(network, x[row], norm, timeout=30)
        assert found.status == "proven" and found.witness is not None
        assert np.array_equal(found.witness, found.witness.astype(np.float32))
        seen = x[row].astype(np.float32).astype(float)
        assert np.linalg.norm(found.witness - seen, norm) == pytest.approx(found.upper, rel=1e-12)
        assert np.argmax(network.replay(found.witness)) == found.to != found.from_


@pytest.mark.parametrize(("norm", "dual"), [(np.inf, 1), (2, 2), (1, np.inf)])
def test_a_network_without_gates_turns_at_its_hyperplane(norm, dual):
    W, b, x = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0.1, 0.2]), np.array([1.0, 2.0])
    found = relukit.flip(relukit.load({"W0": W, "b0": b}), x, norm=norm, timeout=20)
    normal = W[0] - W[1]
    assert found.status == "proven"
    assert found.distance == pytest.approx((normal @ x + b[0] - b[1]) / np.linalg.norm(normal, dual), abs=2e-6)


def test_the_first_crossing_on_the_way_is_kept():
    """The decision turns at 0.3, back at 0.4 and again at 0.7: halving the way would end at the last."""
    W, b = [np.ones((3, 1)), np.array([[1.0, -2.0, 2.0]])], [np.array([0.0, -0.35, -0.55]), np.array([-0.3])]
    network, none = from_layers(W, b, [RELU]), np.zeros(0, np.int64)
    search = FlipSearch(
        network, np.zeros(1), np.inf, Box(np.zeros(1), np.ones(1)), None, 10.0, lambda low, high: None, 0, None, none, none, {}, 0.0, None
    )  # fmt: skip
    assert search.attempt(np.ones(1))
    assert search.upper == pytest.approx(0.3, abs=1e-6)
    assert not search.attempt(np.array([0.29]))


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_a_region_of_ties_is_crossed_and_named(norm):
    """Outputs relu(x) + relu(-x) and relu(x) + relu(x - 2): equal from 0 to 2, where the first decides; the second leads from there on."""
    W1, W2 = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    network = relukit.load({"W0": W1, "b0": np.array([0.0, 0.0, -2.0]), "W1": W2, "b1": np.zeros(2)})
    found = relukit.flip(network, np.array([-1.0, 0.3]), norm=norm, timeout=4)
    assert found.status == "bounded" and found.replayed and found.to == 1
    assert found.upper == pytest.approx(3, abs=1e-6) and 0.7 < found.lower <= 1
    assert "tie at a distance of 1," in found.reason and found.reason in repr(found)


@pytest.mark.slow
def test_a_large_convolution_has_a_lower_bound_and_keeps_its_limit():
    """20,000 gates: backward bounds of one layer alone would take minutes. The bound holds at points of the ball's corners."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, 1, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 1, 1), torch.nn.ReLU()]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 2)]
    network = relukit.load(torch.nn.Sequential(*layers, *head), (3, 24, 24))
    x, generator = np.random.default_rng(1).uniform(size=network.inputs), np.random.default_rng(2)
    began = time.perf_counter()
    found = relukit.flip(network, x, within=Box(np.zeros(len(x)), np.ones(len(x))), timeout=15)
    assert time.perf_counter() - began < 60  # it hung for minutes
    assert 0 < found.lower <= found.upper
    corners = np.clip(x + found.lower * generator.choice([-1.0, 1.0], (40, len(x))), 0, 1)
    assert np.all(network.decide(corners) == network.decide(x[None]))
