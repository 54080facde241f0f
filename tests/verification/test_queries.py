"""Questions put as proofs, against grids, enumeration of patterns and simulation."""

import numpy as np
import pytest

import relukit
from relukit import Ball, Box, InvalidInput, ShapeMismatch
from relukit.network import from_layers
from relukit.verification import (
    closed_loop,
    control,
    equivalent,
    lipschitz,
    monotone,
    output_range,
    reach,
    robust,
    safe_step,
)
from tests.oracles import exact_minimum
from tests.strategies import RELU


def random_net(g, *sizes):
    weights = [g.standard_normal((b, a)) / np.sqrt(a) for a, b in zip(sizes, sizes[1:])]
    biases = [g.standard_normal(b) / 3 for b in sizes[1:]]
    return weights, biases, from_layers(weights, biases, [RELU] * (len(sizes) - 2), np.float64)


def grid(lower, upper, count=41):
    axes = [np.linspace(a, b, count) for a, b in zip(lower, upper)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(axes))


def test_conditions_on_variables_mean_what_they_say():
    """Every claim is also decided on a fine grid of its set: a proof has no violation there, a witness violates it."""
    g = np.random.default_rng(0)
    proven = found = 0
    for _ in range(12):
        _, _, net = random_net(g, 2, 5, 3)
        x, y = net.variables()
        box = Box([-1.0, -1.0], [1.0, 0.5])
        points = grid(box.lower, box.upper)
        out = net(points)
        level = float(g.uniform(0, 1.5))
        claims = [
            ((x[0] + x[1] <= 0.3, y[0] - 2 * y[1] <= level), points.sum(1) <= 0.3, out[:, 0] - 2 * out[:, 1] <= level),
            ((y[0] > -level) | (y[2] < level), None, (out[:, 0] > -level) | (out[:, 2] < level)),
            ((abs(y[0] - x[0]) <= 1 + level), None, np.abs(out[:, 0] - points[:, 0]) <= 1 + level),
            (~(y[1] >= level), None, out[:, 1] < level),
            (y.largest(0) | (y[0] < 1), None, (out[:, :1] > out[:, 1:]).all(1) | (out[:, 0] < 1)),
            (np.array([1.0, -1, 0.5]) @ y + level >= -1, None, out @ [1.0, -1, 0.5] + level >= -1),
        ]
        for claim, given, truth in claims:
            asked = claim if isinstance(claim, tuple) else (claim,)
            verdict = relukit.verify(net, x.within(box), *asked, timeout=10)
            domain = truth if given is None else truth | ~given
            if verdict.status == "unsat":
                proven += 1
                assert domain.all()
            elif verdict.status == "sat":
                found += 1
                assert bool(box.contains(verdict.witness))
            assert not (verdict.status == "unknown" and not domain.all())
    assert proven > 15 and found > 8


def test_membership_written_with_in():
    net = from_layers([np.eye(2)], [np.zeros(2)], [], np.float64)
    x, y = net.variables()
    box, wide = Box([0.5, -1.0], [1.0, 0.25]), Box([-5.0, -5.0], [5.0, 5.0])
    assert relukit.verify(net, (x in box), y[0] > y[1]).status == "unsat"
    assert relukit.verify(net, (x in wide), y[0] > y[1]).status == "sat"  # the one before is forgotten
    assert np.array([0.6, 0.0]) in box and np.array([0.0, 0.0]) not in box
    _ = x in wide
    with pytest.raises(InvalidInput, match=r"x\.within"):
        relukit.verify(net, x.within(box), y[0] > y[1])


def test_what_conditions_refuse():
    net = from_layers([np.eye(2)], [np.zeros(2)], [], np.float64)
    x, y = net.variables()
    with pytest.raises(InvalidInput, match="not linear"):
        _ = x[0] * y[0]
    with pytest.raises(InvalidInput, match=r"\(a <= t\) & \(t <= b\)"):
        _ = 0 <= x[0] <= 1
    with pytest.raises(InvalidInput, match=r"& \| ~"):
        _ = bool(x[0] > 1 and x[1] > 1)
    with pytest.raises(relukit.UnboundedSet, match="X_1 has no lower"):
        relukit.verify(net, x[0] >= 0, x[0] <= 1, x[1] <= 1, y[0] > 0)
    with pytest.raises(InvalidInput, match="needs a property"):
        relukit.verify(net)
    with pytest.raises(InvalidInput, match="got complex"):
        relukit.verify(net, 3.5j)
    with pytest.raises(IndexError):
        _ = y[2]


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_robust_against_points_of_the_ball(norm):
    g = np.random.default_rng(1)
    proven = found = 0
    for _ in range(12):
        _, _, net = random_net(g, 3, 6, 3)
        x, radius = g.uniform(-1, 1, 3), float(g.uniform(0.05, 0.6))
        ball = Ball(x, radius, norm)
        verdict = robust(net, x, radius, norm, timeout=10)
        inside = np.concatenate([ball.sample(2000, 0), ball.middle + (ball.sample(2000, 1) - ball.middle) * (1 - 1e-9)])
        inside = inside[ball.contains(inside)]
        same = (net.decide(inside) == net.decide(x)).all()
        if verdict.status == "unsat":
            proven += 1
            assert same
        elif verdict.status == "sat":
            found += 1
            assert np.linalg.norm(verdict.witness - x, norm) <= radius * (1 + 1e-12)
            assert net.decide(verdict.witness) != net.decide(x)
        else:
            assert norm == 2
    assert proven >= 2 and found >= 2


def test_monotone():
    """|W| makes a network rise in all inputs; one negative path breaks it, and the witness shows it."""
    g = np.random.default_rng(2)
    for k in range(4):
        weights, biases, _ = random_net(g, 3, 6, 1)
        box = Box(-np.ones(3), np.ones(3))
        rising = from_layers([np.abs(W) for W in weights], biases, [RELU], np.float64)
        assert monotone(rising, box, [0, 1, 2]).status == "unsat"
        assert (
            monotone(
                from_layers([-np.abs(weights[0]), np.abs(weights[1])], biases, [RELU], np.float64),
                box,
                1,
                increasing=False,
            ).status
            == "unsat"
        )
        net = from_layers(weights, biases, [RELU], np.float64)
        verdict = monotone(net, box, 0, timeout=20)
        points = grid([-1, -1, -1], [1, 1, 1], 9).reshape(-1, 3)
        slope = net.gradient(points, np.ones(1))[:, 0]
        if verdict.status == "unsat":
            assert slope.min() >= -1e-12
        elif verdict.status == "sat":
            before, after = verdict.outputs
            x, moved = verdict.witness[:3], verdict.witness[3:]
            assert after < before and moved[0] > x[0] and (moved[1:] == x[1:]).all()
            np.testing.assert_allclose([net(x)[0], net(moved)[0]], [before, after])
        assert k or slope.min() < 0  # the first net does fall somewhere
    with pytest.raises(InvalidInput, match="do not exist"):
        monotone(net, box, 7)


def test_range_against_all_patterns():
    for seed in range(4):
        g = np.random.default_rng(seed)
        weights, biases, net = random_net(g, 2, 4, 3, 2)
        box = Box(-np.ones(2), np.ones(2))
        low, high = output_range(net, box, 1, 1e-5, 30)
        row = np.array([0.0, 1.0])
        smallest = exact_minimum(weights, biases, row, box.lower, box.upper)
        largest = -exact_minimum(weights, biases, -row, box.lower, box.upper)
        assert low.lower <= smallest + 1e-9 and low.upper >= smallest - 1e-9
        assert high.upper >= largest - 1e-9 and high.lower <= largest + 1e-9
        assert low.proven and high.proven


def test_equivalent_networks():
    g = np.random.default_rng(3)
    weights, biases, net = random_net(g, 3, 6, 2)
    box = Box(-np.ones(3), np.ones(3))
    order = g.permutation(6)
    same = from_layers([weights[0][order], weights[1][:, order]], [biases[0][order], biases[1]], [RELU], np.float64)
    assert equivalent(net, same, box, 1e-6, 30).status == "unsat"
    other = from_layers(weights, [biases[0], biases[1] + [0, 1e-3]], [RELU], np.float64)
    verdict = equivalent(net, other, box, 1e-4, 30)
    assert verdict.status == "sat"
    assert abs(net(verdict.witness[:3]) - other(verdict.witness[:3]))[1] == pytest.approx(1e-3)
    with pytest.raises(ShapeMismatch):
        equivalent(net, from_layers([np.eye(3)], [np.zeros(3)], []), box)


@pytest.mark.parametrize("norm", [np.inf, 2, 1])
def test_lipschitz_against_all_slopes(norm):
    for seed in range(4):
        g = np.random.default_rng(seed)
        _, _, net = random_net(g, 2, 6, 2)
        box = Box(-np.ones(2), np.ones(2))
        found = lipschitz(net, box, norm, 1e-2, 20)
        points = grid([-1, -1], [1, 1], 201)
        S = np.stack([net.gradient(points, row) for row in np.eye(2)], axis=1)
        if norm == 2:
            seen = np.sqrt(np.linalg.eigvalsh(np.swapaxes(S, 1, 2) @ S).max())
        else:
            seen = np.abs(S).sum(axis=2 if norm == np.inf else 1).max()
        assert found.upper >= seen - 1e-9
        assert found.lower <= found.upper
        assert found.proven
        assert found.lower >= seen - 1e-6 or found.upper <= found.lower * 1.011


def test_reach_holds_every_simulated_state(monkeypatch):
    g = np.random.default_rng(4)
    _, _, controller = random_net(g, 2, 8, 1)
    A, B = np.array([[1.0, 0.1], [-0.1, 0.95]]), np.array([[0.005], [0.1]])
    step = closed_loop(controller, A, B)
    x = g.uniform(-1, 1, (5, 2))
    np.testing.assert_allclose(step(x), x @ A.T + controller(x) @ B.T, atol=1e-12)
    start = Box([0.4, -0.1], [0.6, 0.1])
    sets = reach(step, start, 6, boxes=64)
    states = start.sample(3000, 0)
    for k in range(7):
        held = np.zeros(len(states), bool)
        for box in sets.sets[k]:
            held |= box.contains(states)
        assert held.all()
        states = step(states)
    monkeypatch.setattr(control, "_AT_ONCE", 1)  # cell by cell
    single = reach(step, start, 6, boxes=64)
    np.testing.assert_allclose(single.hull(6).lower, sets.hull(6).lower, atol=0.01)
    np.testing.assert_allclose(single.hull(6).upper, sets.hull(6).upper, atol=0.01)
    assert len(repr(sets)) < 150 and repr(sets).startswith("Reach(6 steps, 64 boxes each;")
    for wrong in ({"steps": -1}, {"steps": 2, "boxes": 0}):
        with pytest.raises(InvalidInput, match="at least 0 and boxes"):
            reach(step, start, **wrong)
    rough = reach(step, start, 6, boxes=1)
    assert (sets.hull(6).upper - sets.hull(6).lower <= rough.hull(6).upper - rough.hull(6).lower + 1e-12).all()
    hull = sets.hull(1)
    assert safe_step(step, start, Box(hull.lower - 0.01, hull.upper + 0.01)).status == "unsat"
    assert safe_step(step, start, Box(hull.lower, 0.5 * (hull.lower + hull.upper))).status == "sat"
    assert sets.inside(Box([-3.0, -3.0], [3.0, 3.0])) and not sets.inside(Box([0.4, -0.1], [0.6, 0.1]))


def test_answers_print_on_one_short_line():
    network = from_layers([np.eye(784)[:2]], [np.zeros(2)], [])
    x, y = network.variables()
    box = Box(np.zeros(784), np.ones(784))
    found = relukit.verify(network, x.within(box), y[0] <= 0.5)
    proven = relukit.verify(network, x.within(box), y[0] <= 1.5)
    assert repr(found).startswith("Falsified(witness [") and "(784 in all)" in repr(found) and len(repr(found)) < 250
    assert repr(proven).startswith("Verified(linear bounds, 1 box, ") and len(repr(proven)) < 80
    for shown in output_range(network, box):
        assert repr(shown).startswith("Interval(") and len(repr(shown)) < 80


def test_all_names_of_the_package_are_there():
    import relukit.verification as package

    assert {"robust", "reach", "lipschitz", "verify", "flip", "Verified"} <= set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
