"""Decisions agree with exhaustive enumeration, whichever engine makes them; nothing is ever wrong."""

import numpy as np
import pytest

from relukit import Box
from relukit.network import from_layers
from relukit.search import Search, decide_any
from relukit.search import _few as few
from relukit.search import _many as many
from tests.oracles import exact_minimum
from tests.strategies import RELU


def question(seed, inputs):
    g = np.random.default_rng(seed)
    sizes = [inputs, int(g.integers(2, 5)), int(g.integers(2, 4)), 2]
    weights = [g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    biases = [g.standard_normal(b) / 2 for b in sizes[1:]]
    if seed % 5 == 0:  # degenerate: a unit repeated, one that is always 0
        weights[0][1], biases[0][1] = weights[0][0], biases[0][0]
        weights[1][0] = 0
    box = Box(-g.random(inputs), g.random(inputs))
    row = g.standard_normal(2)
    return weights, biases, box, row


def answer(network, box, row, level, by_inputs, monkeypatch):
    monkeypatch.setattr(few, "_INPUTS", 100 if by_inputs else 0)
    monkeypatch.setattr(few, "_BOTH", 0)
    confirm = lambda points: next((p for p in points if box.contains(p) and row @ network(p) - level <= 0), None)
    return decide_any([Search(network, box, row[None], np.array([-level]), confirm)], 5)


@pytest.mark.parametrize("by_inputs", [True, False])
def test_against_all_patterns(by_inputs, monkeypatch):
    counts = {"sat": 0, "unsat": 0}
    engines = set()
    for seed in range(40):
        weights, biases, box, row = question(seed, 2 + seed % 3)
        network = from_layers(weights, biases, [RELU, RELU])
        minimum = exact_minimum(weights, biases, row, box.lower, box.upper)
        for gap in (-1e-3, -1e-6, 1e-6, 1e-3):
            # counterexample: row . y <= level
            found = answer(network, box, row, minimum + gap, by_inputs, monkeypatch)
            want = "sat" if gap > 0 else "unsat"
            # Within 1e-6 of the minimum "unknown" would be honest; a wrong answer never is.
            assert found.status == want or (abs(gap) < 1e-5 and found.status == "unknown"), (seed, gap, found)
            engines |= set(found.engine.split("+"))
            if found.status == "sat":
                assert box.contains(found.point) and row @ network(found.point) <= minimum + gap
            counts[found.status] = counts.get(found.status, 0) + 1
    assert counts["sat"] > 60 and counts["unsat"] > 60
    assert ("input splitting" if by_inputs else "gate splitting") in engines


def test_opposite_gates_of_many_inputs_are_joined(monkeypatch):
    """Every gate z is written as relu(relu(z) - relu(-z)): above 40 inputs, too, that costs no more than relu(z)."""
    g = np.random.default_rng(3)
    sizes = [48, 14, 14, 1]
    weights = [g.integers(-16, 17, (b, a)) / 32 for a, b in zip(sizes, sizes[1:])]
    biases = [g.integers(-8, 9, b) / 16 for b in sizes[1:]]
    whole = from_layers(weights, biases, [RELU, RELU])
    W, b = [], []
    for V, c in zip(weights[:-1], biases[:-1]):
        eye = np.eye(len(c))
        W += [np.vstack([V, -V]), np.hstack([eye, -eye])]
        b += [np.concatenate([c, -c]), np.zeros(len(c))]
    split = from_layers([*W, weights[-1]], [*b, biases[-1]], [RELU] * 4)
    box = Box(-np.full(48, 0.25), np.full(48, 0.25))
    x = box.sample(50, g)
    assert np.allclose(split(x), whole(x), atol=1e-12)

    def ask(net, level):
        confirm = lambda points: next((p for p in points if whole(p)[0] <= level), None)
        return decide_any([Search(net, box, np.ones((1, 1)), np.array([-level]), confirm)], 20)

    kinds = [(ask(whole, level), ask(split, level)) for level in (-1.4, -2.5)]  # it reaches the first
    for a, c in kinds:
        assert a.status == c.status and c.boxes <= 1.5 * a.boxes + 5
    assert [a.status for a, _ in kinds] == ["sat", "unsat"] and kinds[1][0].boxes > 10
    monkeypatch.setattr(many, "joined", lambda network: network)
    assert ask(split, -2.5).boxes > 5 * kinds[1][1].boxes


def test_several_rows_at_once(monkeypatch):
    """Both outputs below their levels: the conjunction fails although each alone can hold."""
    network = from_layers([np.array([[1.0], [-1.0]]), np.eye(2)], [np.zeros(2), np.zeros(2)], [RELU])
    box = Box([-1.0], [1.0])  # y = (relu(x), relu(-x)): one of them is always 0, their sum is |x|
    ask = lambda A, b: (
        decide_any(
            [Search(network, box, np.array(A, float), np.array(b, float), lambda p: next(iter(p), None))], 10
        ).status
    )
    assert ask([[-1, 0]], [0.5]) == "sat"  # y0 >= 1/2
    assert ask([[-1, 0], [0, -1]], [0.25, 0.25]) == "unsat"  # both at least 1/4: never
    assert ask([[-1, -1]], [0.9]) == "sat"
    assert ask([[-1, -1]], [1.0 + 1e-9]) == "unsat"


def test_weights_of_very_different_size_are_never_wrong(monkeypatch):
    """Cancellation of huge numbers: float64 evaluation errs, so only `unknown` or the truth is allowed."""
    big = 2.0**40
    weights = [np.array([[big], [-big], [1.0]]), np.array([[1.0, 1.0, 2.0**-45]])]
    network = from_layers(weights, [np.array([1.0, 1.0, 0.0]), np.zeros(1)], [RELU])
    box = Box([-(2.0**-41)], [2.0**-41])
    minimum = exact_minimum(weights, [np.array([1.0, 1.0, 0.0]), np.zeros(1)], np.ones(1), box.lower, box.upper)
    for gap in (-1e-9, 1e-9):
        found = decide_any([Search(network, box, np.ones((1, 1)), np.array([-(minimum + gap)]), lambda p: None)], 2)
        assert found.status == ("unsat" if gap < 0 else "unknown") or found.status == "unknown"


def test_boxes_are_halved_until_the_compact_form_fits(monkeypatch):
    monkeypatch.setattr(few, "_GATES", 2)
    for seed in range(12):
        weights, biases, box, row = question(seed, 2)
        network = from_layers(weights, biases, [RELU, RELU])
        minimum = exact_minimum(weights, biases, row, box.lower, box.upper)
        for gap in (-1e-3, 1e-3):
            found = answer(network, box, row, minimum + gap, True, monkeypatch)
            assert found.status == ("sat" if gap > 0 else "unsat"), (seed, gap, found)
