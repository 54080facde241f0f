"""Input sets: support, projection, sampling, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relukit import (
    Ball,
    Box,
    EmptyInterval,
    EmptySet,
    InvalidInput,
    Polytope,
    ShapeMismatch,
    UnboundedSet,
    UnsupportedOperation,
)

CENTER = np.array([0.2, -1.0, 3.0])
BOX = Box(CENTER - 1, CENTER + [1, 2, 0.5])
SETS = {
    "box": BOX,
    "linf": Ball(CENTER, 0.7),
    "l2": Ball(CENTER, 0.7, 2),
    "l1": Ball(CENTER, 0.7, 1),
    "cut": Ball(CENTER, 0.7, 2, Box(CENTER - 0.5, CENTER + 0.6)),
    "polytope": Polytope(np.array([[1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]), np.array([-0.5, 4.2]), BOX),
}


@pytest.mark.parametrize("name", SETS)
def test_support_bounds_samples_and_is_reached(name):
    s = SETS[name]
    directions = np.random.default_rng(0).standard_normal((6, 3))
    x = s.sample(2000, 1)
    assert x.shape == (2000, 3)
    reached, bound = (x @ directions.T).max(axis=0), s.support(directions)
    assert np.all(reached <= bound + 1e-9)
    # Ascend by projected steps: the support is attained up to 1e-3 (an l2 ball cut by a box only bounds it).
    point = np.tile(s.center(), (6, 1))
    for _ in range(400):
        point = s.project(point + 0.05 * directions)
    best = np.einsum("ij,ij->i", point, directions)
    assert np.all(best <= bound + 1e-6)
    if name != "cut":
        assert np.all(best >= bound - 1e-3)


@pytest.mark.parametrize("name", SETS)
def test_projection_and_box(name):
    s = SETS[name]
    inside = s.sample(50, 2)
    np.testing.assert_allclose(s.project(inside), inside, atol=1e-9)
    box = s.box()
    assert np.all(inside >= box.lower - 1e-9) and np.all(inside <= box.upper + 1e-9)
    far = s.center() + 10 * np.random.default_rng(0).standard_normal((20, 3))
    near = s.project(far)
    shrunk = s.center() + (near - s.center()) * (1 - 1e-6)
    assert np.all(s.contains(shrunk))


def test_rows_describe_polytopes():
    l1 = SETS["l1"].rows()
    x = np.random.default_rng(0).standard_normal((200, 3)) + CENTER
    np.testing.assert_array_equal(np.all(x @ l1.A.T <= l1.b, axis=1), SETS["l1"].contains(x))
    with pytest.raises(UnsupportedOperation, match="l2 ball"):
        SETS["l2"].rows()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-12, 1.0, 1e12]))
def test_box_support_is_outward(seed, scale):
    from fractions import Fraction

    g = np.random.default_rng(seed)
    low = scale * g.standard_normal(6)
    box = Box(low, low + g.random(6))
    d = g.standard_normal(6)
    exact = sum(
        max(Fraction(a) * Fraction(l), Fraction(a) * Fraction(u))
        for a, l, u in zip(d.tolist(), box.lower.tolist(), box.upper.tolist())
    )
    assert Fraction(float(box.support(d[None])[0])) >= exact


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Box([0.0, 1.0], [1.0, 0.0]), EmptyInterval, "lower > upper at input 1"),
        (lambda: Box([0.0, -np.inf], [1.0, 0.0]), UnboundedSet, r"lower\[1\] is -inf"),
        (lambda: Box([0.0, np.nan], [1.0, 0.0]), InvalidInput, "nan"),
        (lambda: Box([0.0], [1.0, 2.0]), ShapeMismatch, "one length"),
        (lambda: Ball([0.0], -1.0), InvalidInput, "at least 0"),
        (lambda: Ball([0.0], 1.0, 3), InvalidInput, "1, 2 or inf"),
        (lambda: Ball([2.0], 1.0, 2, Box([0.0], [1.0])), EmptySet, "outside its box"),
        (lambda: Polytope(np.eye(2), np.zeros(3), Box([0.0, 0.0], [1.0, 1.0])), ShapeMismatch, "needs A"),
        (
            lambda: Polytope(np.ones((1, 2)), np.array([-1.0]), Box([0.0, 0.0], [1.0, 1.0])).center(),
            EmptySet,
            "no point",
        ),
    ],
)
def test_bad_sets(make, error, words):
    with pytest.raises(error, match=words):
        make()
