"""The nearest point by balls, in l1, l2 and l-inf, against brute force over all patterns; and on digits, where flips are known to agree."""

import itertools

import numpy as np
import pytest
from scipy.optimize import nnls

import relukit
from relukit import Box, InvalidInput
from relukit.optimization import _questions, closest, counterfactual
from tests.optimization.oracle import affine_on, choices, minimum
from tests.optimization.test_questions import layers, network


@pytest.fixture(autouse=True)
def by_balls(monkeypatch):
    monkeypatch.setattr(_questions, "_FEW", -1)


def shortest(G, g):
    """The smallest l2 norm of d with G d <= g, by Lawson and Hanson's least distance programming; infinite where there is none."""
    E, f = np.vstack([-G.T, -g]), np.r_[np.zeros(G.shape[1]), 1.0]
    weights, left = nnls(E, f)
    r = E @ weights - f
    return float(np.linalg.norm(r[:-1] / r[-1])) if left > 1e-9 else np.inf


def truth(W, b, low, high, point, rows, norm, scale=None, integers=(), groups=()):
    """The distance of the nearest point; rows `(a, c, r)` mean `a.x + c.y <= r`."""
    scale = np.ones(len(low)) if scale is None else scale
    best, eye = np.inf, np.eye(len(low))
    for lo, hi in choices(low, high, integers, groups):
        for bits in itertools.product([0, 1], repeat=sum(len(v) for v in b[:-1])):
            M, v, P, p = affine_on(W, b, bits)
            G = np.concatenate([P, eye, -eye, [a + c @ M for a, c, _ in rows]]) * scale
            g = np.concatenate([p, hi, -lo, [r - c @ v for _, c, r in rows]]) - G @ (point / scale)
            best = min(best, shortest(G, g) if norm == "l2" else _linear(G, g, norm))
    return best


def _linear(G, g, norm):
    """The same in l1 and l-inf, by a linear program."""
    from scipy.optimize import linprog

    n = G.shape[1]
    k = n if norm == "l1" else 1
    step = np.eye(n) if norm == "l1" else np.ones((n, 1))
    A = np.vstack([np.c_[G, np.zeros((len(G), k))], np.c_[np.eye(n), -step], np.c_[-np.eye(n), -step]])
    found = linprog(
        np.r_[np.zeros(n), np.ones(k)], A, np.r_[g, np.zeros(2 * n)], bounds=[(None, None)] * n + [(0, None)] * k
    )
    return found.fun if found.status == 0 else np.inf


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_points_are_those_of_all_patterns(norm, seed):
    """Two rows, one of them over inputs as well; the point lies outside the box in one case, and inputs have scales."""
    W, b = layers(seed + 20, (3, 3, 3, 2))
    net, low, high = network(W, b), -np.ones(3), np.ones(3)
    y = net(np.random.default_rng(seed).uniform(low, high, (500, 3)))
    point = np.array([0.1, -0.2, 1.3 if seed == 2 else 0.3])
    scale = np.array([1.0, 0.5, 2.0]) if seed else np.ones(3)
    level, top = float(np.quantile(y[:, 0], 0.9)), float(np.quantile(y[:, 1], 0.8))
    exact = truth(
        W,
        b,
        low,
        high,
        point,
        [(np.zeros(3), np.array([-1.0, 0]), -level), (np.array([0.5, 0, 0]), np.array([0, 1.0]), top)],
        norm,
        scale,
    )
    found = closest(net, point, [f"y[0] >= {level!r}", f"0.5*x[0] + y[1] <= {top!r}"], Box(low, high), norm, scale)
    if np.isinf(exact):
        assert found.status == "infeasible"
        return
    assert found.status == "optimal" and found.engine.startswith("balls")
    assert found.value == pytest.approx(exact, rel=2e-4, abs=1e-7) and found.bound <= exact + 1e-9
    step = (found.witness - point) / scale
    assert found.value == pytest.approx(np.linalg.norm(step, ord={"l1": 1, "l2": 2, "linf": np.inf}[norm]), abs=1e-12)
    assert max(found.violations.values()) <= 1e-6 and np.allclose(net(found.witness), found.outputs)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_balls_and_gates_agree_where_both_can(norm, monkeypatch):
    W, b = layers(31, (4, 6, 1))
    net, box, point = network(W, b), Box(-np.ones(4), np.ones(4)), np.full(4, 0.1)
    level = float(np.quantile(net(box.sample(500, 0))[:, 0], 0.95))
    exact = truth(W, b, box.lower, box.upper, point, [(np.zeros(4), np.array([-1.0]), -level)], norm)
    found = counterfactual(net, point, level, box, norm)
    assert found.value == pytest.approx(exact, rel=2e-4)
    if norm != "l2":
        monkeypatch.setattr(_questions, "_FEW", 8)
        other = counterfactual(net, point, level, box, norm)
        assert not other.engine.startswith("balls") and other.value == pytest.approx(found.value, rel=3e-4)


@pytest.mark.parametrize("seed", range(3))
def test_tangents_find_the_nearest_point_of_all_patterns(seed, monkeypatch):
    """What few inputs get in l2: the same questions as above, and once whole numbers and a category."""
    monkeypatch.setattr(_questions, "_FEW", 8)
    W, b = layers(seed + 60, (4, 3, 3, 1))
    net, low, high = network(W, b), np.array([-1.0, -1.0, -0.5, -0.2]), np.array([1.0, 2.0, 1.5, 1.1])
    y = net(np.random.default_rng(seed).uniform(low, high, (500, 4)))[:, 0]
    point, scale, level = np.array([0.1, -0.2, 0.4, 0.2]), np.array([1.0, 0.5, 2.0, 1.0]), float(np.quantile(y, 0.9))
    more = {"integers": [1], "categories": [[2, 3]]} if seed == 2 else {}
    exact = truth(W, b, low, high, point, [(np.zeros(4), np.array([-1.0]), -level)], "l2", scale, more.get("integers", ()), more.get("categories", ()))  # fmt: skip
    found = counterfactual(net, point, level, Box(low, high), "l2", scale, **more)
    assert found.status == "optimal" and found.engine.startswith("tangents")
    assert found.value == pytest.approx(exact, rel=2e-4) and found.bound <= exact + 1e-9


def test_whole_numbers_and_categories_in_l2():
    W, b = layers(50, (5, 4, 1))
    net = network(W, b)
    low, high = np.array([-1.4, -2.0, -0.5, -0.7, -0.4]), np.array([2.2, 0.9, 1.5, 1.1, 2.0])
    point, values = np.array([0.6, -0.2, 0.0, 0.1, 0.3]), net(Box(low, high).sample(500, 0))[:, 0]
    level = float(np.quantile(values, 0.8))
    rows = [(np.zeros(5), np.array([-1.0]), -level)]
    exact = truth(W, b, low, high, point, rows, "l2", None, [0], [[2, 3, 4]])
    found = counterfactual(net, point, level, Box(low, high), "l2", integers=[0], categories=[[2, 3, 4]])
    assert found.status == "optimal" and found.value == pytest.approx(exact, rel=2e-4)
    x = found.witness
    assert x[0] == round(x[0]) and np.sum(x[2:] == high[2:]) == 1 and np.sum(x[2:] == low[2:]) == 2


def test_out_of_reach_is_proven_and_a_band_of_outputs_is_met():
    W, b = layers(9, (3, 4, 1))
    net, box = network(W, b), Box(-np.ones(3), np.ones(3))
    top, _ = minimum(W, b, box.lower, box.upper, np.zeros(3), np.array([-1.0]))
    no = closest(net, np.zeros(3), [f"y[0] >= {0.05 - top!r}"], box, "l2")
    assert no.status == "infeasible" and "y[0] lies in" in no.reason
    want = 0.5 * (-top + float(net(np.zeros(3))[0]))
    exact = truth(
        W,
        b,
        box.lower,
        box.upper,
        np.zeros(3),
        [(np.zeros(3), np.array([s]), s * want + 1e-3) for s in (1.0, -1.0)],
        "l2",
    )
    found = relukit.optimization.invert(net, f"y[0] == {want!r} +- 0.001", box=box, near=np.zeros(3), norm="l2")
    assert found.status == "optimal" and found.value == pytest.approx(exact, rel=2e-4, abs=1e-6)
    here = closest(net, np.zeros(3), [f"y[0] <= {float(net(np.zeros(3))[0]) + 1e-3!r}"], box, "l2")
    assert here.status == "optimal" and here.value == 0.0
    with pytest.raises(InvalidInput, match="l1, l2 or linf"):
        closest(net, np.zeros(3), ["y[0] >= 0"], box, "l3")


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_digits_another_decision(norm, data_folder):
    """64 inputs, 100 gates: `flip`, a search of its own, proves the same distance."""
    from sklearn.datasets import load_digits

    from relukit.verification import flip

    net = relukit.load(data_folder / "bench" / "optimize" / "adv_digits_50x50_e0.1.npz")
    x, box = load_digits().data[7] / 16.0, Box(np.zeros(64), np.ones(64))
    target = int(np.argsort(net(x))[-2])
    rules = [f"y[{target}] - y[{j}] >= 0" for j in range(10) if j != target]
    seen = []
    found = closest(net, x, rules, box, norm, on_progress=lambda *step: seen.append(step))
    known = flip(net, x, {"l1": 1, "l2": 2, "linf": np.inf}[norm], box, target=target)
    assert found.status == "optimal" and known.status == "proven"
    assert found.value == pytest.approx(known.distance, rel=1.1e-4) and found.bound <= known.distance
    assert found.first_seconds < 2 and seen[-1][1:] == (found.value, found.bound)
    assert int(np.argmax(net.replay(found.witness))) == target or found.replayed_violation < 1e-5


def test_time_that_is_up_leaves_both_ends(data_folder):
    from sklearn.datasets import load_digits

    net = relukit.load(data_folder / "bench" / "optimize" / "adv_digits_50x50_l1_e0.1.npz")
    x, box = load_digits().data[3] / 16.0, Box(np.zeros(64), np.ones(64))
    y = net(x)
    rule = f"y[{int(np.argsort(y)[-2])}] >= {float(y.max())!r}"
    found = closest(net, x, [rule], box, "l1", timeout=3)
    assert found.status == "bounded" and found.reason == "time limit" and 0.3 * found.value < found.bound < found.value
