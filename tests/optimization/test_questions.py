"""Constraints, integers, categories, several networks, closest inputs and argmax against brute force over all patterns."""

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput, Polytope
from relukit.activations import get
from relukit.network import from_layers
from relukit.optimization import _portfolio, argmax, closest, counterfactual, invert, satisfy, scaled
from relukit.optimization._box_tree import BoxTree
from relukit.optimization._gate_tree import GateTree
from tests.optimization.oracle import minimum


def layers(seed, sizes):
    g = np.random.default_rng(seed)
    weights = [g.normal(size=(b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return weights, [0.7 * g.normal(size=len(W)) for W in weights]


def network(weights, biases):
    return from_layers(weights, biases, [get("relu")] * (len(weights) - 1))


ENGINES = {
    "boxes": lambda w, b: [lambda: BoxTree(w.problem, w.incumbent, b)],
    "phases": lambda w, b: [lambda: BoxTree(w.problem, w.incumbent, b, None)],
    "programs": lambda w, b: [lambda: GateTree(w.problem, w.incumbent, b)],
}


def written(c, q):
    """`c.x + q.y` as a person would write it."""
    terms = [f"{float(v)!r}*x[{j}]" for j, v in enumerate(c) if v] + [
        f"{float(v)!r}*y[{j}]" for j, v in enumerate(q) if v
    ]
    return " + ".join(terms).replace("+ -", "- ")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(4))
def test_constrained_minima_are_those_of_all_patterns(engine, seed, monkeypatch):
    """Goals and constraints over inputs and outputs, an equality among them; half of the levels are hard to reach or out of reach."""
    monkeypatch.setattr(_portfolio._Work, "_plan", ENGINES[engine])
    g = np.random.default_rng(seed)
    W, b = layers(seed, (3, 3, 2, 2))
    net, low, high = network(W, b), -g.random(3) - 0.1, g.random(3) + 0.1
    c, q, a = g.normal(size=3), g.normal(size=2), np.abs(g.normal(size=3))
    level = float(np.quantile(net(g.uniform(low, high, (300, 3)))[:, 1], (0.5, 0.02, 0.9, 0.0)[seed])) - (
        2.0 if seed == 3 else 0.0
    )
    rows = [(np.zeros(3), np.array([0, 1.0]), level, False), (a, np.array([0.5, 0]), 0.6, False), (np.array([1.0, -1, 0]), np.zeros(2), 0.05, True)]  # fmt: skip
    texts = [f"y[1] <= {level!r}", written(a, [0.5, 0]) + " <= 0.6", "x[0] == x[1] + 0.05"]
    truth, _ = minimum(W, b, low, high, c, q, rows)
    found = relukit.optimize(net, minimize=written(c, q), box=Box(low, high), constraints=texts, tolerance=1e-5)
    if np.isinf(truth):
        assert found.status == "infeasible" and not len(found.witness)
        return
    assert found.status == "optimal" and found.value == pytest.approx(truth, abs=3e-5 * max(1, abs(truth)))
    assert found.bound <= truth + 1e-7 and max(found.violations.values()) < 1e-5
    y = net(found.witness)
    assert c @ found.witness + q @ y == pytest.approx(found.value, abs=1e-9) and np.allclose(y, found.outputs)
    assert found.replayed == pytest.approx(found.value, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_integers_and_categories_are_those_of_enumeration(seed):
    """Two whole numbers and a category of three whose ends are not 0 and 1, as after standardization."""
    W, b = layers(seed + 50, (5, 4, 1))
    net = network(W, b)
    low, high = np.array([-1.4, -2.0, -0.5, -0.7, -0.4]), np.array([2.2, 0.9, 1.5, 1.1, 2.0])
    truth, _ = minimum(W, b, low, high, np.zeros(5), np.array([-1.0]), integers=[0, 1], groups=[[2, 3, 4]])
    found = relukit.optimize(net, "y[0]", box=Box(low, high), integers=[0, 1], categories=[[2, 3, 4]])
    assert found.status == "optimal" and found.value == pytest.approx(-truth, abs=1e-4 * max(1, abs(truth)))
    assert found.bound >= -truth - 1e-9 and net(found.witness)[0] == pytest.approx(found.value)
    on = found.witness[2:] == high[2:]
    assert on.sum() == 1 and np.all(found.witness[2:][~on] == low[2:][~on])
    assert np.array_equal(found.witness[:2], np.round(found.witness[:2]))


def test_several_networks_share_inputs_and_feed_each_other():
    """Brute force has one network of both side by side, with an input of its own for each link and an equation."""
    (Wa, ba), (Wb, bb) = layers(1, (2, 3, 1)), layers(2, (2, 3, 1))
    a, b = network(Wa, ba), network(Wb, bb)
    box = Box([-1.0, -1.0], [1.0, 1.0])
    W = [np.block([[p, np.zeros((len(p), q.shape[1]))], [np.zeros((len(q), p.shape[1])), q]]) for p, q in zip(Wa, Wb)]
    joined = [np.r_[p, q] for p, q in zip(ba, bb)]
    same = (np.array([1.0, 0, -1, 0]), np.zeros(2), 0.0, True)
    fed = (np.array([0, 0, 0, 1.0]), np.array([-0.3, 0]), 0.1, True)
    rule = (np.array([0, 1.0, 0, 0]), np.array([0, 0.2]), 0.4, False)
    truth, _ = minimum(W, joined, -np.ones(4), np.ones(4), np.zeros(4), np.array([1.0, -1.0]), [same, fed, rule])
    found = relukit.optimize(
        {"first": a, "second": b}, maximize="second.y[0] - first.y[0]", box={"first": box, "second": box},
        links=["second.x[0] == first.x[0]", "second.x[1] == 0.3*first.y[0] + 0.1"],
        constraints=["first.x[1] + 0.2*second.y[0] <= 0.4"], tolerance=1e-5,
    )  # fmt: skip
    assert found.status == "optimal" and found.value == pytest.approx(-truth, abs=3e-5 * max(1, abs(truth)))
    x, z = found.inputs["first"], found.inputs["second"]
    assert z[0] == x[0] and z[1] == pytest.approx(0.3 * a(x)[0] + 0.1) and np.all(np.abs(z) <= 1 + 1e-9)
    assert b(z)[0] - a(x)[0] == pytest.approx(found.value, abs=1e-6)


def test_two_copies_find_the_steepest_step():
    """The largest rise of one network between two points at most 0.1 apart, each in the box."""
    W, b = layers(4, (1, 4, 1))
    net, box = network(W, b), Box([-2.0], [2.0])
    found = relukit.optimize(
        {"p": net, "q": net},
        "q.y[0] - p.y[0]",
        box={"p": box, "q": box},
        constraints=["-0.1 <= q.x[0] - p.x[0] <= 0.1"],
    )
    kinks = np.concatenate([np.linspace(-2, 2, 4001), -b[0] / W[0][:, 0]])
    pairs = np.concatenate([kinks, kinks + 0.1, kinks - 0.1])
    pairs = pairs[(pairs >= -2) & (pairs <= 2)]
    ends = np.clip(np.stack([pairs + 0.1, pairs - 0.1]), -2, 2)
    truth = float(np.max(net(ends.reshape(-1, 1))[:, 0].reshape(2, -1) - net(pairs[:, None])[:, 0]))
    assert found.status == "optimal" and found.value == pytest.approx(truth, rel=2e-4)


@pytest.mark.parametrize("norm", ["l1", "linf"])
@pytest.mark.parametrize("seed", range(3))
def test_closest_inputs_are_those_of_all_patterns(norm, seed):
    W, b = layers(seed + 20, (3, 3, 2, 1))
    net, low, high = network(W, b), -np.ones(3), np.ones(3)
    values = net(np.random.default_rng(seed).uniform(low, high, (500, 3)))[:, 0]
    point, level = np.array([0.1, -0.2, 0.3]), float(np.quantile(values, 0.97))
    rows = [(np.zeros(3), np.array([-1.0]), -level, False)]
    truth, _ = minimum(W, b, low, high, np.zeros(3), np.zeros(1), rows, near=point, norm=norm)
    found = counterfactual(net, point, level, Box(low, high), norm)
    assert found.status == "optimal" and found.value == pytest.approx(truth, abs=2e-4 * max(truth, 1e-2))
    step = np.abs(found.witness - point)
    assert found.value == pytest.approx(step.sum() if norm == "l1" else step.max(), abs=1e-9)
    assert net(found.witness)[0] >= level - 1e-6 and found.bound <= truth + 1e-9
    inside = invert(net, f"y[0] == {level!r} +- 0.05", box=Box(low, high), near=point, norm=norm)
    rows = [(np.zeros(3), np.array([s]), s * level + 0.05, False) for s in (1.0, -1.0)]
    truth, _ = minimum(W, b, low, high, np.zeros(3), np.zeros(1), rows, near=point, norm=norm)
    assert inside.status == "optimal" and inside.value == pytest.approx(truth, abs=2e-4 * max(truth, 1e-2))
    assert abs(inside.outputs[0] - level) <= 0.05 + 1e-6


def test_distances_are_scaled_and_zero_where_the_point_does_already():
    W, b = layers(7, (2, 4, 1))
    net, box = network(W, b), Box([-1.0, -1.0], [1.0, 1.0])
    point = np.array([0.2, 0.4])
    here = float(net(point)[0])
    assert closest(net, point, [f"y[0] <= {here + 1e-6!r}"], box).value == pytest.approx(0, abs=1e-9)
    goal = f"y[0] >= {here + 0.2!r}"
    scale = np.array([1.0, 1000.0])
    wide, plain = closest(net, point, [goal], box, scale=scale), closest(net, point, [goal], box)
    assert wide.value == pytest.approx(np.abs((wide.witness - point) / scale).sum(), abs=1e-9)
    assert wide.value <= np.abs((plain.witness - point) / scale).sum() + 1e-9


def test_inverse_design_without_a_point_is_feasible_or_proven_impossible():
    W, b = layers(9, (2, 4, 1))
    net, box = network(W, b), Box([-1.0, -1.0], [1.0, 1.0])
    top, _ = minimum(W, b, box.lower, box.upper, np.zeros(2), np.array([-1.0]))
    yes = invert(net, -top - 0.2, 0.01, box)
    assert yes.status == "feasible" and abs(yes.outputs[0] - (-top - 0.2)) <= 0.01 + 1e-6
    no = invert(net, -top + 0.2, 0.01, box)
    assert no.status == "infeasible" and "y[0] lies in" in no.reason
    said = no.reason[no.reason.index("[", no.reason.index("lies in")) + 1 : no.reason.rindex("]")].split(",")
    assert float(said[1]) == pytest.approx(-top, rel=1e-3)


def test_infeasibility_names_the_constraints_that_exclude_each_other():
    net, box = network([np.eye(2), np.array([[1.0, 0.1]])], [np.zeros(2), np.zeros(1)]), Box([-1.0, -1.0], [1.0, 1.0])
    found = satisfy(net, ["y[0] >= 0.5", "x[0] <= 0.2", "x[1] <= 5", "x[0] + x[1] >= -2"], box)
    assert (
        found.status == "infeasible"
    )  # y = max(0, x0) + 0.1 max(0, x1) is at most 0.3 there, and 1.1 without x[0] <= 0.2
    assert found.reason == "these constraints exclude each other: y[0] >= 0.5; x[0] <= 0.2"
    sides = satisfy(net, ["x[0] + 2*x[1] >= 5"], box)
    assert sides.reason.startswith("'x[0] + 2*x[1] >= 5' cannot hold: its expression +1*x[0] +2*x[1] lies in [-3, 3]")
    alone = satisfy(net, ["y[0] >= 1.2", "x[1] <= 5"], box)
    assert alone.status == "infeasible" and alone.reason.startswith("'y[0] >= 1.2' cannot hold: y[0] lies in [")


def test_argmax_says_which_outputs_can_be_the_largest():
    W, b = layers(70, (2, 3, 4))
    b[-1] = b[-1] + np.array([0.0, 0.5, -0.5, -6.0])
    net, box = network(W, b), Box([-1.0, -1.0], [1.0, 1.0])
    found = argmax(net, box)
    tops = []
    for k in range(4):
        q = np.zeros(4)
        q[k] = -1.0
        tops.append(-minimum(W, b, box.lower, box.upper, np.zeros(2), q)[0])
        rows = [(np.zeros(2), np.eye(4)[j] - np.eye(4)[k], 0.0, False) for j in range(4) if j != k]
        can = np.isfinite(minimum(W, b, box.lower, box.upper, np.zeros(2), np.zeros(4), rows)[0])
        assert found.outputs[k]["status"] == ("possible" if can else "never")
        if can:
            y = net(np.array(found.outputs[k]["witness"]))
            assert y[k] >= y.max() - 1e-6
    assert found.largest == int(np.argmax(tops)) and found.value == pytest.approx(max(tops), rel=2e-4)
    assert found.outputs[3]["status"] == "never"


def test_a_polytope_is_its_box_and_its_sides():
    W, b = layers(12, (2, 4, 1))
    net = network(W, b)
    domain = Polytope(np.array([[1.0, 1.0]]), np.array([0.2]), Box([-1.0, -1.0], [1.0, 1.0]))
    truth, _ = minimum(
        W, b, -np.ones(2), np.ones(2), np.zeros(2), np.array([-1.0]), [(np.ones(2), np.zeros(1), 0.2, False)]
    )
    found = relukit.optimize(net, "y[0]", box=domain)
    assert found.status == "optimal" and found.value == pytest.approx(-truth, rel=2e-4)


def test_scaled_networks_take_natural_units():
    W, b = layers(13, (2, 4, 1))
    net = network(W, b).with_(box=Box([-2.0, -2.0], [2.0, 2.0]))
    mean, scale = np.array([300.0, 40.0]), np.array([2.0, 10.0])
    natural = scaled(net, (mean, scale), (7.0, 3.0))
    x = np.array([[301.0, 30.0], [298.0, 55.0]])
    assert np.allclose(natural(x), 7 + 3 * net((x - mean) / scale)) and np.allclose(natural.replay(x), natural(x))
    assert np.allclose(natural.box.lower, [296, 20]) and np.allclose(natural.box.upper, [304, 60])
    best = relukit.optimize(natural, "y[0]", constraints=["x[1] <= 45"])
    truth, _ = minimum(W, b, [-2, -2], [2, 0.5], np.zeros(2), np.array([-1.0]))
    assert best.value == pytest.approx(7 - 3 * truth, rel=2e-4)


def test_what_is_refused():
    W, b = layers(0, (3, 3, 2))
    net, box = network(W, b), Box(-np.ones(3), np.ones(3))
    ask = lambda **more: relukit.optimize(net, "y[0]", box=box, **more)
    for more, said in (
        ({"constraints": ["x[0] < 1"]}, "strict"),
        ({"constraints": ["x[0] <= "]}, "nothing on one side"),
        ({"constraints": ["y[0] <= 3 +- 1"]}, "goes with =="),
        ({"constraints": ["x[0] <= 1e999"]}, "not finite"),
        ({"constraints": ["z[0] <= 1"]}, "cannot read"),
        ({"constraints": ["a.x[0] <= 1"]}, "names a network 'a'"),
        ({"categories": [[1]]}, "two or more"),
        ({"categories": [[0, 1], [1, 2]]}, "two one-hot groups"),
        ({"categories": [[0, 1]], "integers": [0]}, "named as integers"),
        ({"links": ["a.x[0] == b.x[0]"]}, "join several"),
        ({"tolerance": 0.0}, "above 0"),
    ):
        with pytest.raises(InvalidInput, match=said):
            ask(**more)
    two = {"a": net, "b": net}
    boxes = {"a": box, "b": box}
    for links, said in (
        (["a.x[0] == b.x[0]"], "put the one it reads first"),
        (["b.x[9] == a.x[0]"], "there is no"),
        (["b.x[0] == a.x[0]", "b.x[0] == a.x[1]"], "linked twice"),
        (["b.x[0] + 1 == a.x[0]"], "alone on the left"),
    ):
        with pytest.raises(InvalidInput, match=said):
            relukit.optimize(two, "a.y[0]", box=boxes, links=links)
    with pytest.raises(InvalidInput, match="of which network"):
        relukit.optimize(two, "y[0]", box=boxes)
    with pytest.raises(InvalidInput, match="l1, l2 or linf"):
        closest(net, np.zeros(3), ["y[0] >= 0"], box, "l3")
    with pytest.raises(InvalidInput, match="NaN"):
        bad = net.nodes[1].op.maps[0].W.copy()
        bad[0, 0] = np.nan
        relukit.optimize(network_with(net, bad), "y[0]", box=box)


def network_with(net, W):
    """The network with another first matrix, as a caller may build it by hand."""
    from dataclasses import replace

    from relukit.network.affine import Dense

    first = replace(net.nodes[1], op=replace(net.nodes[1].op, maps=(Dense(W),)))
    return net.with_(nodes=(net.nodes[0], first, *net.nodes[2:]))
