"""`fit`: scores on held-out rows, folding, seeds, bad input."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split

import relukit
from relukit import InvalidInput, ShapeMismatch


def test_digits_reach_97_percent_on_held_out_rows():
    X, y = load_digits(return_X_y=True)
    x, x_test, a, b = train_test_split(X / 16, y, test_size=0.2, random_state=2, stratify=y)
    fitted = relukit.fit(x, a, seed=2)
    assert np.mean(fitted.predict(x_test) == b) >= 0.97
    assert fitted.network.inputs == 64 and fitted.network.units == 96
    again = relukit.fit(x, a, seed=2)
    np.testing.assert_array_equal(again.network(x_test[:5]), fitted.network(x_test[:5]))


def test_regression_folds_both_scales():
    X, y = load_diabetes(return_X_y=True)
    x, x_test, a, b = train_test_split(X * [1e3] + 7, y, random_state=0)
    fitted = relukit.fit(x, a, hidden=(16,), epochs=40)
    assert fitted.task == "regression"
    assert 1 - np.mean((fitted.predict(x_test) - b) ** 2) / b.var() > 0.2


def test_labels_may_be_words():
    g = np.random.default_rng(0)
    X = g.standard_normal((200, 3))
    fitted = relukit.fit(X, np.where(X[:, 0] > 0, "up", "down"), hidden=(8,))
    assert set(fitted.predict(X[:20])) <= {"up", "down"}
    assert np.mean(fitted.predict(X) == np.where(X[:, 0] > 0, "up", "down")) > 0.9


@pytest.mark.parametrize(
    ("X", "y", "error", "words"),
    [
        (np.ones((20, 2)), np.zeros(20, int), InvalidInput, "one class only"),
        (np.full((20, 2), np.nan), np.arange(20) % 2, InvalidInput, r"X\[0, 0\] is missing"),
        (np.array([["a"]] * 20), np.arange(20) % 2, InvalidInput, "not numbers"),
        (np.ones((20, 2)), np.arange(19), ShapeMismatch, "20 rows and y has 19"),
        (np.ones((3, 2)), np.arange(3), InvalidInput, "too few"),
        (np.ones((20, 2)), np.full(20, np.inf), InvalidInput, "y holds missing"),
    ],
)
def test_bad_input(X, y, error, words):
    with pytest.raises(error, match=words):
        relukit.fit(X, y)


def test_a_rate_that_gets_nowhere_is_raised():
    """Two spirals of two turns: the usual rate has hardly moved the loss when the schedule is at its peak."""
    g = np.random.default_rng(1)
    k, t = np.arange(400) % 2, np.sqrt(g.uniform(0.05, 1, 400))
    angle = 4 * np.pi * t + np.pi * k
    X = np.stack([t * np.cos(angle), t * np.sin(angle)], 1) + g.normal(0, 0.02, (400, 2))
    low, found = relukit.fit(X, k, learning_rate=3e-3, seed=1), relukit.fit(X, k, seed=1)
    assert low.history[:12] == found.history[:12] and low.history[12:] != found.history[12:]
    assert np.mean(found.predict(X) == k) > 0.97  # 0.88 while all first hinges crossed in the middle
    learning = relukit.fit(X[:, :1], X[:, 0], epochs=5)  # moves by itself: nothing is raised
    assert learning.history == relukit.fit(X[:, :1], X[:, 0], epochs=5, learning_rate=3e-3).history
