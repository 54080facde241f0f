"""Flips as they are told and drawn: pictures, many rows with their curve, what is no question."""

import numpy as np
import pytest

import relukit
from relukit import Box, InvalidInput
from relukit.network import from_layers
from relukit.verification._flip_batch import FlipsInterrupted
from relukit.verification.flip import flips
from tests.verification.test_flip import small


def test_pictures_of_a_row_and_of_an_image():
    g = np.random.default_rng(0)
    network = from_layers([g.standard_normal((2, 36))], [np.zeros(2)], [])
    found = relukit.flip(network, g.random(36))
    bars = found.plot()
    assert bars.get_xlabel() == "change of the input, 20 of 36 that move" and len(bars.patches) == 20
    assert bars.get_title().endswith(f"l-inf distance {found.distance:.4g}, proven")
    before, after, change = found.plot(shape=(1, 4, 9))
    assert before.images[0].get_array().shape == after.images[0].get_array().shape == (4, 9)
    assert np.allclose(change.images[0].get_array().ravel(), found.witness - found.x)
    with pytest.raises(InvalidInput, match="36 numbers"):
        found.plot(shape=(5, 5))
    digits = relukit.flip(from_layers([g.standard_normal((2, 784))], [np.zeros(2)], []), g.random(784), 1)
    assert digits.plot()[2].images[0].get_array().shape == (28, 28)
    two = relukit.flip(from_layers([np.eye(2)], [np.zeros(2)], []), np.array([0.1, 0.2]), 2)
    few = two.plot()
    assert few.figure.get_figheight() < 0.5 * bars.figure.get_figheight()
    assert [t.get_text() for t in few.get_yticklabels()] == ["input 0: 0.1 to 0.15", "input 1: 0.2 to 0.15"]


def test_many_rows_and_their_curve():
    network = small(7, inputs=2)[4]
    X = np.random.default_rng(1).uniform(-1, 1, (6, 2))
    labels = network.decide(X).copy()
    labels[0] = 1 - labels[0]  # one wrong row: certified at no radius
    table = flips(network, X, labels=labels, timeout=10)
    radii = np.array([0.0, 0.1, 0.5, 2.0])
    certified, possible = table.curve(radii)
    by_hand = [np.mean([f.lower > r and k > 0 for k, f in enumerate(table.flips)]) for r in radii]
    assert np.allclose(certified, by_hand) and np.all(certified <= possible) and np.all(np.diff(certified) <= 0)
    line = table.plot().lines[0]  # steps that hold at every radius, also between two bounds
    for r in np.linspace(0, 0.99 * line.get_xdata()[-1], 57):
        drawn = line.get_ydata()[np.searchsorted(line.get_xdata(), r, side="right") - 1]
        assert drawn == np.mean([f.lower > r and k > 0 for k, f in enumerate(table.flips)])
    assert table.to_dict()["rows"] == 6 and len(table.to_dict()["flips"]) == 6


def test_many_rows_that_are_interrupted_keep_what_was_done():
    network, X = small(7, inputs=2)[4], np.random.default_rng(1).uniform(-1, 1, (5, 2))

    def stop_at_third(done, rows):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(FlipsInterrupted) as stopped:
        flips(network, X, labels=1 - network.decide(X), timeout=10, on_progress=stop_at_third)
    assert stopped.value.numbers == [0, 1, 2] and not stopped.value.table.right.any()
    whole = flips(network, X, timeout=10).flips
    assert [f.upper for f in stopped.value.table.flips] == [f.upper for f in whole[:3]]


def test_where_no_flip_exists_the_answer_says_how_far():
    network = from_layers([np.eye(2)], [np.array([5.0, 0.0])], [])
    found = relukit.flip(network, np.array([0.5, 0.5]), within=Box([0.0, 0.0], [1.0, 1.0]))
    assert found.status == "proven" and found.witness is None
    assert repr(found).startswith("Flip(0: none up to 0.5, as far as inputs may move, proven")


def test_an_input_beyond_the_precision_of_the_network_is_refused():
    network = from_layers([np.eye(2)], [np.zeros(2)], [], np.float32)
    with pytest.raises(InvalidInput, match=r"input 1 is 1e\+39, which the network's float32 cannot hold"):
        relukit.flip(network, np.array([0.0, 1e39]))
